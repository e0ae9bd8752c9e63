// Run for each timeline, `element`. Sounds: a clicked segment is played from the sound of its track; arrow keys move
// between segments.
const sounds = new Map();
let context, playing;

function load(url) {
  if (!sounds.has(url)) {
    const sound = fetch(url).then((answer) => answer.arrayBuffer()).then((bytes) => context.decodeAudioData(bytes));
    sound.catch(() => sounds.delete(url));
    sounds.set(url, sound);
  }
  return sounds.get(url);
}

element.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-start]");
  if (!button) return;
  context ??= new AudioContext();
  if (playing?.buffer) playing.stop();
  const source = (playing = context.createBufferSource());
  const sound = await load(button.parentElement.dataset.sound);
  // Another segment was clicked while the sound was loading.
  if (source !== playing) return;
  source.buffer = sound;
  source.connect(context.destination);
  button.classList.add("playing");
  source.onended = () => button.classList.remove("playing");
  const { start, end } = button.dataset;
  source.start(0, Number(start), end - start);
});

element.addEventListener("keydown", (event) => {
  const side = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" }[event.key];
  const next = side && event.target.closest("button[data-start]")?.[side];
  if (!next?.matches("button")) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

// Where the server was started again, perhaps with another model, results and the page itself are old.
window.watchServer ??= setInterval(async () => {
  const answer = await fetch("gradio_api/app_id").catch(() => null);
  if (answer?.ok && (await answer.json()).app_id !== window.gradio_config.app_id) location.reload();
}, 5000);
