"""``demo``: the local web page."""

from __future__ import annotations

from typing import Annotated

import typer

from syllablelm.cli.options import DEFAULT_MODEL, Device, Model, print_json
from syllablelm.core.progress import note


def demo(
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; 0.0.0.0 accepts the whole network.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=1, max=65535, help="Port (default: the first free one from 7860)."),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-browser", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a local web page: record or upload a clip, see its units, hear it resynthesized and continued.

    Nothing is sent to other machines.
    """
    from syllablelm.demo.page import serve

    def announce(address: str, speaks: bool) -> None:
        print_json({"url": address, "model": model, "speaks": speaks})
        note(f"open {address} in a browser; Ctrl-C ends it")

    serve(model, device=device, host=host, port=port, open_browser=open_browser, announce=announce)
