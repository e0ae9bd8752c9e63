"""The demo page in gradio: layout, server, and error messages."""

from __future__ import annotations

import html
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from syllablelm.core.config import MAX_SEED
from syllablelm.core.errors import InputError, MissingDependencyError, SyllableLMError
from syllablelm.core.files import scratch_folder
from syllablelm.demo.actions import (
    SAMPLE,
    DemoModel,
    Spoken,
    UnitsShown,
    continue_recording,
    explain,
    resynthesize,
    show_units,
)

# System fonts: a web font would be fetched from another host.
FONT = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")
LARGEST_UPLOAD = "200mb"
# The picture is 1,400 dots wide; on a phone it is scrolled instead of shrunk.
CSS = """
#picture :has(> img) { display: block; width: 100%; overflow-x: auto; }
/* The margin keeps the heading clear of label and buttons. */
#picture img { width: 100%; min-width: 860px; max-width: none; height: auto; margin-top: 2.2rem; }
"""
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
    announce: Callable[[DemoModel, str], None],
) -> None:
    """Load a model and serve the page until Ctrl-C or SIGTERM; call it in the main thread.

    Args:
        name, device: see ``DemoModel.load`` and ``load_encoder``.
        host, port: address to listen on (0.0.0.0: the whole network); None takes the first free port from 7860.
        open_browser: open the page in a browser.
        announce: called with the model and the address of the page when it is ready.

    Raises:
        MissingDependencyError, FormatError, InputError: no gradio, or a model, port or host that cannot be used.
    """
    # Service managers stop it by SIGTERM, and the recordings must be deleted then too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with scratch_folder() as folder:
        gradio = import_gradio(folder)
        model = DemoModel.load(name, device=device)
        page = build_page(gradio, model, folder)
        try:
            address = _launch(gradio, page, host, port, open_browser)
            announce(model, address)
            threading.Event().wait()
        except KeyboardInterrupt:
            # The usual way to stop it.
            pass
        finally:
            page.close(verbose=False)


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
            theme=gradio.themes.Default(font=FONT, font_mono=MONOSPACE),
            css=CSS,
        )
    except OSError as error:
        where = host if port is None else f"{host} port {port}"
        # The sentences after the first one are advice on gradio's own functions.
        reason = str(error).split(". ")[0]
        raise InputError(f"cannot serve at {where} ({reason}); choose another --port or --host") from None
    return str(address)


def build_page(gradio: Any, model: DemoModel, scratch: Path) -> Any:
    """Lay out the page, without the tabs of resynthesis and continuation for a tokenizer alone."""
    sample = Path(shutil.copy(SAMPLE, scratch))
    speaks = model.speech is not None
    with gradio.Blocks(title="SyllableLM", analytics_enabled=False) as page:
        gradio.Markdown(INTRODUCTION + f"Model: `{model.name}`")
        audio = gradio.Audio(
            value=str(sample), sources=["upload", "microphone"], type="filepath", label="Recording", buttons=[]
        )
        gradio.Button("Back to the sample", size="sm").click(
            lambda: str(sample), outputs=audio, api_visibility="private"
        )
        with gradio.Tabs():
            with gradio.Tab("Units"):
                _units_part(gradio, model, scratch, audio)
            if speaks:
                with gradio.Tab("Resynthesis"):
                    _resynthesis_part(gradio, model, scratch, audio)
                with gradio.Tab("Continue"):
                    _continuation_part(gradio, model, scratch, audio)
    # One recording at a time; others queue.
    page.queue(default_concurrency_limit=1)
    return page


def _units_part(gradio: Any, model: DemoModel, scratch: Path, audio: Any) -> None:
    start = gradio.Number(
        0, label="Picture from second", info="The picture shows 12 s, the table all.", minimum=0, step=1
    )
    button = gradio.Button("Find units", variant="primary")
    summary = gradio.Markdown()
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

    def run(path: str | None, first: float | None) -> tuple[Any, ...]:
        shown: UnitsShown = _or_message(gradio, path, lambda: show_units(model, path, scratch, start=first))
        files = (gradio.DownloadButton(value=str(file), interactive=True) for file in (shown.jsonl, shown.textgrid))
        # gradio's client would take an object with a path for a file, and ask for it in vain.
        printed = {key: value for key, value in shown.record.items() if key != "path"}
        return (shown.summary, str(shown.picture), shown.rows, printed, *files)

    _connect(button, run, [audio, start], [summary, picture, table, record, jsonl, textgrid], "units")


def _resynthesis_part(gradio: Any, model: DemoModel, scratch: Path, audio: Any) -> None:
    seed = _seed_field(gradio)
    button = gradio.Button("Resynthesize", variant="primary")
    summary = gradio.Markdown()
    original = _player(gradio, "Original")
    spoken = _player(gradio, "From its units")

    def run(path: str | None, number: float | None) -> tuple[str, str, str]:
        result: Spoken = _or_message(gradio, path, lambda: resynthesize(model, path, scratch, seed=number))
        return result.summary, str(result.first), str(result.second)

    _connect(button, run, [audio, seed], [summary, original, spoken], "resynthesize")


def _continuation_part(gradio: Any, model: DemoModel, scratch: Path, audio: Any) -> None:
    prompt_seconds = gradio.Slider(0.5, 20, value=3, step=0.5, label="Prompt: first seconds of the recording")
    seconds = gradio.Slider(1, 30, value=10, step=0.5, label="Continuation (s)")
    temperature = gradio.Slider(0, 1.5, value=0.8, step=0.05, label="Temperature", info="0 is greedy.")
    seed = _seed_field(gradio)
    button = gradio.Button("Continue", variant="primary")
    summary = gradio.Markdown()
    whole = _player(gradio, "Prompt, then continuation")
    alone = _player(gradio, "Continuation alone")

    def run(path: str | None, prompt: float, length: float, heat: float, number: float | None) -> tuple[str, str, str]:
        options: Any = {"prompt_seconds": prompt, "seconds": length, "temperature": heat, "seed": number}
        result: Spoken = _or_message(gradio, path, lambda: continue_recording(model, path, scratch, **options))
        return result.summary, str(result.first), str(result.second)

    fields = [audio, prompt_seconds, seconds, temperature, seed]
    _connect(button, run, fields, [summary, whole, alone], "continue")


def _seed_field(gradio: Any) -> Any:
    return gradio.Number(0, label="Seed", info="Another seed, another take.", precision=0, minimum=0, maximum=MAX_SEED)


def _player(gradio: Any, label: str) -> Any:
    return gradio.Audio(label=label, type="filepath", interactive=False, buttons=["download"])


def _connect(button: Any, run: Callable[..., Any], inputs: list[Any], outputs: list[Any], name: str) -> None:
    button.click(run, inputs, outputs, api_name=name, concurrency_id="model")


def _or_message(gradio: Any, audio: str | None, action: Callable[[], Any]) -> Any:
    """Run an action; show an error of the user as a message on the page, until it is closed."""
    try:
        return action()
    except SyllableLMError as error:
        # The page shows messages as HTML.
        message = html.escape(explain(error, audio))
        raise gradio.Error(message, duration=None, title="That did not work", print_exception=False) from None
