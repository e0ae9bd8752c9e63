"""The demo page in gradio: layout, server, and error messages."""

from __future__ import annotations

import html
import os
import shutil
import signal
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syllablelm.core.config import MAX_SEED
from syllablelm.core.errors import InputError, MissingDependencyError, SyllableLMError
from syllablelm.core.files import scratch_folder
from syllablelm.demo.actions import (
    LONGEST_SECONDS,
    SAMPLE,
    Spoken,
    UnitsShown,
    check_recording,
    continue_recording,
    explain,
    resynthesize,
    show_units,
)
from syllablelm.demo.worker import Worker

# System fonts: a web font would be fetched from another host.
FONT = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")
LARGEST_UPLOAD = "200mb"
HERE = Path(__file__).parent
CSS = HERE / "page.css"
SCRIPT = (HERE / "page.js").read_text(encoding="utf-8")
INTRODUCTION = """# SyllableLM
Speech as syllable-like units. Record or upload a clip, or keep the sample, and press a button.
Everything is computed where this page's server runs; recordings are deleted when it stops.
"""


def serve(
    name: str,
    *,
    device: str = "auto",
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = False,
    announce: Callable[[str, bool], None],
) -> None:
    """Load a model and serve the page until Ctrl-C or SIGTERM; call it in the main thread.

    Args:
        name, device: see ``DemoModel.load`` and ``load_encoder``.
        host, port: address to listen on (0.0.0.0: the whole network); None takes the first free port from 7860.
        open_browser: open the page in a browser.
        announce: called with the address of the page when it is ready, and whether the model speaks.

    Raises:
        MissingDependencyError, FormatError, InputError: no gradio, or a model, port or host that cannot be used.
    """
    # Service managers stop it by SIGTERM, and the recordings must be deleted then too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with scratch_folder() as folder:
        gradio = import_gradio(folder)
        worker = Worker(name, device=device)
        try:
            page = build_page(gradio, worker, folder)
            try:
                address = _launch(gradio, page, host, port, open_browser)
                announce(address, worker.speaks)
                threading.Event().wait()
            finally:
                page.close(verbose=False)
        except KeyboardInterrupt:
            # The usual way to stop it.
            pass
        finally:
            worker.close()


def import_gradio(scratch: Path) -> Any:
    """Import gradio without telemetry, its copies of recordings in a given folder; or a MissingDependencyError."""
    # gradio reads both at import, and contacts other hosts otherwise.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(scratch)
    try:
        import gradio
    except ImportError as error:
        raise MissingDependencyError("the web page needs gradio: pip install 'syllablelm[demo]'") from error
    return gradio


def _launch(gradio: Any, page: Any, host: str, port: int | None, open_browser: bool) -> str:
    """Start the server in a thread; return its address."""
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            ssr_mode=False,
            mcp_server=False,
            run_history=False,
            footer_links=["api", "settings"],
            max_file_size=LARGEST_UPLOAD,
            theme=_theme(gradio),
            css_paths=CSS,
        )
    except OSError as error:
        where = host if port is None else f"{host} port {port}"
        # The sentences after the first one are advice on gradio's own functions.
        reason = str(error).split(". ")[0]
        raise InputError(f"cannot serve at {where} ({reason}); choose another --port or --host") from None
    return str(address)


def _theme(gradio: Any) -> Any:
    """Return gradio's theme with system fonts, and with small texts and buttons of enough contrast to be read."""
    theme = gradio.themes.Default(primary_hue="blue", font=FONT, font_mono=MONOSPACE)
    return theme.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_cancel_background_fill="#b91c1c",
    )


def build_page(gradio: Any, worker: Worker, scratch: Path) -> Any:
    """Lay out the page, without the tabs of resynthesis and continuation for a tokenizer alone."""
    sample = Path(shutil.copy(SAMPLE, scratch))
    with gradio.Blocks(title="SyllableLM", analytics_enabled=False) as page:
        gradio.Markdown(INTRODUCTION + f"Model: `{worker.name}`")
        audio = gradio.Audio(
            value=str(sample),
            sources=["upload", "microphone"],
            type="filepath",
            label=f"Recording (at most {LONGEST_SECONDS / 60:.0f} minutes)",
            elem_id="recording",
            buttons=[],
        )
        back = gradio.Button("Back to the sample", size="sm")
        back.click(lambda: str(sample), outputs=audio, api_visibility="private")
        with gradio.Tabs():
            with gradio.Tab("Units"):
                parts = [_units_part(gradio, worker, scratch, audio)]
            if worker.speaks:
                with gradio.Tab("Resynthesis"):
                    parts.append(_resynthesis_part(gradio, worker, scratch, audio))
                with gradio.Tab("Continue"):
                    parts.append(_continuation_part(gradio, worker, scratch, audio))
        _clear_on_change(gradio, audio, back, parts)
    # One recording at a time; others queue.
    page.queue(default_concurrency_limit=1)
    return page


@dataclass(frozen=True)
class _Part:
    """A tab: the event of its work, which can be cancelled, the button that cancels it, and the results."""

    work: Any
    stop: Any
    outputs: list[Any]


def _units_part(gradio: Any, worker: Worker, scratch: Path, audio: Any) -> _Part:
    start = gradio.Number(
        0, label="Picture from second", info="The picture shows 12 s, the table all.", minimum=0, step=1
    )
    buttons = _buttons(gradio, "Find units")
    summary = gradio.Markdown(elem_classes="summary")
    timeline = _timeline(gradio)
    gradio.Markdown("Swipe the picture sideways to see all of it.", elem_id="picture-hint", elem_classes="swipe")
    picture = gradio.Image(
        label="Spectrogram, units and self-similarity",
        type="filepath",
        format="png",
        elem_id="picture",
        interactive=False,
        buttons=["fullscreen", "download"],
    )
    with gradio.Row():
        jsonl = gradio.DownloadButton("Units as JSONL", interactive=False)
        textgrid = gradio.DownloadButton("Units as TextGrid", interactive=False)
    table = gradio.Dataframe(
        headers=["unit", "start (s)", "end (s)", "ms"],
        datatype=["number"] * 4,
        type="array",
        label="Units",
        interactive=False,
        max_height=420,
        buttons=["copy"],
    )
    with gradio.Accordion("As tokenize prints it (frames)", open=False):
        record = gradio.JSON(show_label=False)
    tracker = gradio.Progress()

    async def run(path: str | None, first: float | None, progress: Any = tracker) -> tuple[Any, ...]:
        work = worker.run(show_units, path, scratch, start=first, progress=progress)
        shown: UnitsShown = await _or_message(gradio, path, work)
        files = (gradio.DownloadButton(value=str(file), interactive=True) for file in (shown.jsonl, shown.textgrid))
        # gradio's client would take an object with a path for a file, and ask for it in vain.
        printed = {key: value for key, value in shown.record.items() if key != "path"}
        return (shown.summary, str(shown.picture), shown.rows, printed, *files, shown.timeline)

    outputs = [summary, picture, table, record, jsonl, textgrid, timeline]
    return _connect(gradio, buttons, run, [audio, start], outputs, "units")


def _resynthesis_part(gradio: Any, worker: Worker, scratch: Path, audio: Any) -> _Part:
    seed = _seed_field(gradio)
    buttons = _buttons(gradio, "Resynthesize")
    summary = gradio.Markdown(elem_classes="summary")
    with gradio.Row():
        original = _player(gradio, "Original")
        spoken = _player(gradio, "Resynthesis, from the units alone")
    timeline = _timeline(gradio)
    tracker = gradio.Progress()

    async def run(path: str | None, number: float | None, progress: Any = tracker) -> tuple[str, ...]:
        work = worker.run(resynthesize, path, scratch, seed=number, progress=progress)
        return _spoken(await _or_message(gradio, path, work))

    return _connect(gradio, buttons, run, [audio, seed], [summary, original, spoken, timeline], "resynthesize")


def _continuation_part(gradio: Any, worker: Worker, scratch: Path, audio: Any) -> _Part:
    with gradio.Row():
        prompt_seconds = gradio.Slider(0.5, 20, value=3, step=0.5, label="Prompt: first seconds of the recording")
        seconds = gradio.Slider(1, 30, value=10, step=0.5, label="Continuation (s)")
    with gradio.Row():
        temperature = gradio.Slider(0, 1.5, value=0.8, step=0.05, label="Temperature", info="0 is greedy.")
        seed = _seed_field(gradio)
    buttons = _buttons(gradio, "Continue")
    summary = gradio.Markdown(elem_classes="summary")
    with gradio.Row():
        whole = _player(gradio, "Prompt, then continuation")
        alone = _player(gradio, "Continuation alone")
    timeline = _timeline(gradio)
    tracker = gradio.Progress()

    async def run(
        path: str | None,
        prompt: float,
        length: float,
        heat: float,
        number: float | None,
        progress: Any = tracker,
    ) -> tuple[str, ...]:
        options: Any = {"prompt_seconds": prompt, "seconds": length, "temperature": heat, "seed": number}
        work = worker.run(continue_recording, path, scratch, **options, progress=progress)
        return _spoken(await _or_message(gradio, path, work))

    fields = [audio, prompt_seconds, seconds, temperature, seed]
    return _connect(gradio, buttons, run, fields, [summary, whole, alone, timeline], "continue")


def _spoken(result: Spoken) -> tuple[str, ...]:
    return result.summary, str(result.first), str(result.second), result.timeline


def _seed_field(gradio: Any) -> Any:
    return gradio.Number(0, label="Seed", info="Another seed, another take.", precision=0, minimum=0, maximum=MAX_SEED)


def _player(gradio: Any, label: str) -> Any:
    return gradio.Audio(label=label, type="filepath", interactive=False, buttons=["download"])


def _timeline(gradio: Any) -> Any:
    return gradio.HTML(elem_classes="timeline", js_on_load=SCRIPT, apply_default_css=False)


def _buttons(gradio: Any, label: str) -> tuple[Any, Any]:
    """Return the button that starts the work of a tab, and the one that stops it."""
    with gradio.Row():
        start = gradio.Button(label, variant="primary", scale=3, min_width=160)
        return start, gradio.Button("Stop", variant="stop", min_width=80, interactive=False)


def _connect(
    gradio: Any, buttons: tuple[Any, Any], run: Callable[..., Any], inputs: list[Any], outputs: list[Any], name: str
) -> _Part:
    start, stop = buttons

    def stoppable(possible: bool) -> Callable[[], Any]:
        return lambda: gradio.Button(interactive=possible)

    quiet: Any = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
    start.click(stoppable(True), outputs=stop, **quiet)
    work = start.click(
        run, inputs, outputs, api_name=name, concurrency_id="model", show_progress_on=outputs[0], trigger_mode="once"
    )
    # `then` is not called after a message of an error.
    work.then(stoppable(False), outputs=stop, **quiet)
    work.failure(stoppable(False), outputs=stop, **quiet)

    def told() -> Any:
        gradio.Info(_message("Stopped", "The model is loaded again for the next start."), duration=5)
        return gradio.Button(interactive=False)

    # Messages reach the page by its queue only.
    stop.click(told, outputs=stop, cancels=work, **quiet | {"queue": True})
    return _Part(work, stop, outputs)


def _clear_on_change(gradio: Any, audio: Any, back: Any, parts: list[_Part]) -> None:
    """Clear the results of the recording before, stop work on it, and refuse at once what the page does not take."""
    cleared = [component for part in parts for component in (part.stop, *part.outputs)]

    def empty(component: Any) -> Any:
        if isinstance(component, gradio.DownloadButton):
            return gradio.DownloadButton(value=None, interactive=False)
        return gradio.Button(interactive=False) if isinstance(component, gradio.Button) else None

    def clear(path: str | None) -> list[Any]:
        try:
            if path is not None:
                check_recording(path)
        except SyllableLMError as error:
            gradio.Warning(_message("This recording cannot be used", explain(error, path)), duration=20)
        return [empty(component) for component in cleared]

    # Not `change`, which is called when the page opens, too.
    gradio.on(
        [audio.input, back.click],
        clear,
        audio,
        cleared,
        cancels=[part.work for part in parts],
        api_visibility="private",
        show_progress="hidden",
    )


async def _or_message(gradio: Any, audio: str | None, work: Awaitable[Any]) -> Any:
    """Await the work; show an error of the user as a message on the page, until it is closed."""
    try:
        return await work
    except SyllableLMError as error:
        message = _message("That did not work", explain(error, audio))
        raise gradio.Error(message, duration=None, print_exception=False) from None


def _message(title: str, text: str) -> str:
    """Return the HTML of a message with its title; gradio 6.31 does not show the title that it takes."""
    return f"<strong>{title}</strong><br>{html.escape(text)}"
