"""The page of `demo`, served: what it answers, what its endpoint gives, and that it asks no other host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from helpers.command_line import Run

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a page served by a process of its own, which must end cleanly when told to and leave no recording."""
    scratch = tmp_path_factory.mktemp("scratch")
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "syllablelm", "demo", "--device", "cpu", "--port", str(free_port())]
    options: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([*command, "--model", str(tokenizer_folder)], env=environment, **options) as server:
        try:
            assert server.stdout is not None
            told = json.loads(server.stdout.readline())
            assert told["speaks"] is False
            assert len(list(scratch.glob(".syllablelm.*"))) == 1
            yield told["url"]
        finally:
            # Not SIGINT, which a process that was started in the background ignores.
            server.send_signal(signal.SIGTERM)
            try:
                assert server.wait(60) == 0
            finally:
                server.kill()
    assert list(scratch.glob(".syllablelm.*")) == []


def test_endpoint_gives_the_units_of_tokenize(run: Run, address: str, tokenizer_folder: Path, recordings: Path) -> None:
    from gradio_client import Client, handle_file

    with urlopen(address) as page:
        assert page.status == 200
        assert "SyllableLM" in page.read().decode()
    client = Client(address, verbose=False)
    given = client.predict(handle_file(recordings / "r0.wav"), 0, api_name="/units")
    record = next(value for value in given if isinstance(value, dict) and "hop" in value)
    expected = run("tokenize", recordings / "r0.wav", "--model", tokenizer_folder, "--device", "cpu").result
    assert record == {key: value for key, value in expected.items() if key != "path"}
    # A tokenizer has nothing to speak with, and says so by leaving the rest out.
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/units"}
    with pytest.raises(Exception, match="no recording"):
        client.predict(None, 0, api_name="/units")


def test_a_taken_port_is_one_line(run: Run, address: str, tokenizer_folder: Path) -> None:
    port = urlsplit(address).port
    ended = run("demo", "--model", tokenizer_folder, "--device", "cpu", "--port", port)
    assert (ended.status, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: cannot serve at 127.0.0.1 port {port} (")
    assert line.endswith("); choose another --port or --host")
    assert "launch()" not in line


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_page_asks_no_other_host_and_fits_a_phone(address: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    asked: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address, timeout=120_000)
        page.get_by_role("button", name="Find units").click()
        page.locator("#picture img").wait_for(timeout=120_000)
        width = page.evaluate("document.documentElement.scrollWidth")
        # Too wide for a phone, the picture is scrolled inside its frame, and its left edge can be reached.
        frame = page.locator("#picture img").locator("..")
        assert frame.evaluate("frame => frame.scrollWidth > frame.clientWidth")
        left = "frame => frame.firstElementChild.getBoundingClientRect().left - frame.getBoundingClientRect().left"
        assert frame.evaluate(left) >= 0
        browser.close()
    outside = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert outside == []
    assert width <= 390
