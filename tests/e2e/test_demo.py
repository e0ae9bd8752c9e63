"""The page of `demo`, served: its answers, its endpoint, its work in a browser, and that it asks no other host."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import psutil
import pytest

from helpers.command_line import Run
from syllablelm.data.audio import SAMPLE_RATE, load_audio, save_audio
from syllablelm.tokenizer.tokenizer import Tokenizer

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome on PATH")
WIDTHS = pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desktop"])
PATIENCE = 60_000  # milliseconds
# Notes what is played: file, and start and length in seconds.
WATCH_SOUND = """
window.played = [];
const fetched = new WeakMap(), decoded = new WeakMap();
const { fetch, AudioContext } = window;
const { decodeAudioData } = AudioContext.prototype;
window.fetch = async (...request) => {
  const answer = await fetch(...request), inner = answer.arrayBuffer.bind(answer);
  answer.arrayBuffer = async () => {
    const bytes = await inner();
    fetched.set(bytes, String(request[0]));
    return bytes;
  };
  return answer;
};
AudioContext.prototype.decodeAudioData = async function (bytes, ...rest) {
  const url = fetched.get(bytes), sound = await decodeAudioData.call(this, bytes, ...rest);
  decoded.set(sound, url);
  return sound;
};
const { start } = AudioBufferSourceNode.prototype;
AudioBufferSourceNode.prototype.start = function (when, from, length) {
  // Only a whole file that was loaded has an address; gradio's own players decode theirs another way.
  window.played.push([decoded.get(this.buffer), from, length]);
  return start.call(this, when, from, length);
};
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Server:
    """A served page: its address, and the id of its process."""

    address: str
    process: int

    def worker(self) -> psutil.Process:
        """Return the process that holds the model."""
        children = psutil.Process(self.process).children()
        (worker,) = (child for child in children if "spawn_main" in " ".join(child.cmdline()))
        return worker


@contextmanager
def serve(model: str | Path, scratch: Path, port: int | None = None) -> Iterator[Server]:
    """Serve a page by a process of its own, which must end cleanly when told to and leave no recording."""
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "syllablelm", "demo", "--device", "cpu", "--port", str(port or free_port())]
    options: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([*command, "--model", str(model)], env=environment, **options) as server:
        try:
            assert server.stdout is not None
            told = json.loads(server.stdout.readline())
            assert told["speaks"] is (model == "small")
            assert len(list(scratch.glob(".syllablelm.*"))) == 1
            page = Server(told["url"], server.pid)
            yield page
            worker = page.worker()
        finally:
            # Not SIGINT, which a process that was started in the background ignores.
            server.send_signal(signal.SIGTERM)
            try:
                assert server.wait(60) == 0
            finally:
                server.kill()
    assert not worker.is_running()
    assert list(scratch.glob(".syllablelm.*")) == []


@pytest.fixture(scope="module")
def server(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tokenizer_folder, tmp_path_factory.mktemp("scratch")) as page:
        yield page


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    return server.address


@pytest.fixture(scope="module")
def browser(recordings: Path) -> Iterator[Any]:
    """A browser whose microphone hears a recording of three seconds, again and again."""
    sync_api = pytest.importorskip("playwright.sync_api")
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    heard = f"--use-file-for-fake-audio-capture={recordings / 'r2.wav'}"
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", *microphone, heard]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Any, address: str, width: int) -> Iterator[Any]:
    """Open the page; it must ask no other host, raise no error, and never be wider than the screen."""
    asked: list[str] = []
    faults: list[str] = []
    with browser.new_context(viewport={"width": width, "height": 844}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.add_init_script(WATCH_SOUND)
        page.goto(address)
        page.get_by_role("button", name="Find units").wait_for()
        yield page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert len(asked) > 10
    assert faults == []


def changed(page: Any) -> Any:
    """Wait, at the end of the block, until the page has told the server of another recording."""
    return page.expect_response(lambda response: "/queue/join" in response.url)


def upload(page: Any, path: Path) -> None:
    with changed(page):
        page.get_by_label("Clear").first.click()
    with changed(page):
        page.locator("#recording input[type=file]").set_input_files(path)


def stop_button(page: Any, state: str) -> Any:
    """Wait until the button of the tab is enabled or disabled."""
    button = page.locator(f"button.stop:{state}:visible")
    button.wait_for()
    return button


def find_units(page: Any) -> Any:
    """Press the button; return the segments of the timeline."""
    page.get_by_role("button", name="Find units").click()
    page.locator("#picture img").wait_for()
    return page.locator(".timeline button")


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


@needs_chromium
@WIDTHS
def test_an_upload_is_shown_heard_and_cleared(
    browser: Any, address: str, recordings: Path, tokenizer_folder: Path, width: int
) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder, device="cpu")
    with visit(browser, address, width) as page:
        upload(page, recordings / "r0.wav")
        segments = find_units(page)
        expected = tokenizer.encode(load_audio(recordings / "r0.wav"))
        assert segments.count() == len(expected)
        assert page.locator(".timeline .name").all_inner_texts() == ["Units"]
        # Too wide for a phone, the picture is scrolled inside its frame, and its left edge can be reached.
        frame = page.locator("#picture img").locator("..")
        assert frame.evaluate("frame => frame.scrollWidth > frame.clientWidth") is (width < 860)
        left = "frame => frame.firstElementChild.getBoundingClientRect().left - frame.getBoundingClientRect().left"
        assert frame.evaluate(left) >= 0
        assert page.get_by_text("Swipe the picture").is_visible() is (width < 860)

        # A click, then the keyboard: just that segment is played, from the recording at 16 kHz.
        segments.nth(2).click()
        page.wait_for_function("window.played.length === 1")
        page.locator(".timeline button.playing").wait_for(state="hidden")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        page.wait_for_function("window.played.length === 2")
        played = page.evaluate("window.played")
        for (file, start, length), (first, last) in zip(played, expected.seconds[2:4].tolist(), strict=True):
            assert file.endswith("/r0_original.wav")
            assert (start, length) == pytest.approx((first, last - first), abs=1e-3)

        # Another recording: nothing of the former one is left.
        with page.expect_download() as download:
            page.get_by_text("Units as JSONL").click()
        assert json.loads(Path(download.value.path()).read_text())["unit"] == expected.unit.tolist()
        upload(page, recordings / "r1.wav")
        segments.first.wait_for(state="detached")
        page.locator("#picture img").wait_for(state="detached")
        page.locator("button:disabled", has_text="Units as JSONL").wait_for()
        assert "units in" not in page.locator(".summary").first.inner_text()
        assert find_units(page).count() == len(tokenizer.encode(load_audio(recordings / "r1.wav")))


@needs_chromium
@WIDTHS
def test_the_microphone_is_recorded(browser: Any, address: str, width: int) -> None:
    with visit(browser, address, width) as page:
        find_units(page)
        assert page.locator(".timeline .name").all_inner_texts() == ["Units", "Reference syllables"]
        with changed(page):
            page.get_by_label("Clear").first.click()
        page.get_by_label("Record audio").click()
        page.get_by_role("button", name="Record", exact=True).click()
        page.locator(".timeline button").first.wait_for(state="detached")
        page.wait_for_timeout(2500)
        with changed(page):
            page.get_by_role("button", name="Stop", exact=True).first.click()
        assert find_units(page).count() > 2
        found = re.search(r"units in ([\d.]+) s", page.locator(".summary").first.inner_text())
        assert found is not None
        assert 1.0 < float(found[1]) < 10.0
        # It is no silence: the waveform is as high as its frame.
        points = page.locator(".timeline polygon").first.get_attribute("points").split()
        assert min(map(int, points[1::2])) < 40


@needs_chromium
def test_messages_have_titles_and_say_what_to_do(browser: Any, address: str, tmp_path: Path) -> None:
    text = tmp_path / "<b>words.wav"
    text.write_text("no audio", encoding="utf-8")
    long = tmp_path / "long.wav"
    save_audio(long, np.random.default_rng(0).standard_normal(301 * SAMPLE_RATE).astype(np.float32) / 10)
    with visit(browser, address, 390) as page:
        for path, said in ((long, "lasts 301 s, this page takes at most 300 s; cut it"), (text, "words.wav: ")):
            upload(page, path)
            page.get_by_text("This recording cannot be used").wait_for()
            toast = page.get_by_test_id("toast-body")
            assert said in toast.inner_text()
            page.get_by_test_id("toast-close").click()
            toast.wait_for(state="detached")
        page.get_by_role("button", name="Find units").click()
        page.get_by_text("That did not work").wait_for()
        assert "words.wav: " in page.get_by_test_id("toast-body").inner_text()
        # The page can still be used, and there is nothing to stop.
        page.get_by_test_id("toast-close").click()
        stop_button(page, "disabled")
        with changed(page):
            page.get_by_role("button", name="Back to the sample").click()
        page.locator("#recording").get_by_text("0:07").wait_for()
        assert find_units(page).count() > 10


@needs_chromium
@pytest.mark.parametrize("how", ["stop", "another recording"])
def test_work_is_stopped_and_the_page_goes_on(browser: Any, server: Server, recordings: Path, how: str) -> None:
    with visit(browser, server.address, 1280) as page:
        worker = server.worker()
        # Work that would never end.
        worker.suspend()
        page.get_by_role("button", name="Find units").click()
        button = stop_button(page, "enabled")
        page.get_by_test_id("status-tracker").locator("visible=true").first.wait_for()
        if how == "stop":
            button.click()
            page.get_by_text("Stopped", exact=True).wait_for()
        else:
            upload(page, recordings / "r1.wav")
        stop_button(page, "disabled")
        worker.wait(30)
        assert find_units(page).count() > 2
        assert server.worker().pid != worker.pid


@needs_chromium
def test_a_page_is_opened_again_where_the_model_has_changed(
    browser: Any, tokenizer_folder: Path, tmp_path: Path
) -> None:
    with ExitStack() as first:
        server = first.enter_context(serve(tokenizer_folder, tmp_path))
        with visit(browser, server.address, 1280) as page:
            segments = find_units(page)
            first.close()
            with serve("tiny", tmp_path, urlsplit(server.address).port):
                page.get_by_text("Model: tiny").wait_for()
                assert segments.count() == 0


@needs_chromium
def test_resynthesis_is_heard_beside_the_original(browser: Any, tmp_path: Path) -> None:
    with serve("small", tmp_path) as server, visit(browser, server.address, 1280) as page:
        page.get_by_role("tab", name="Resynthesis").click()
        page.get_by_role("button", name="Resynthesize").click()
        timeline = page.locator(".timeline:visible")
        timeline.locator("button").first.wait_for()
        assert timeline.locator(".name").all_inner_texts() == ["Original", "Resynthesis"]
        for number, name in enumerate(["Original", "Resynthesis"]):
            timeline.get_by_role("group", name=name).locator("button").nth(3).click()
            page.wait_for_function(f"window.played.length === {number + 1}")
        (first, *one), (second, *other) = page.evaluate("window.played")
        assert one == other
        assert first.endswith("/sample_original.wav")
        assert second.endswith("/sample_resynthesis.wav")
        # Continue reads the same recording.
        page.get_by_role("tab", name="Continue").click()
        page.get_by_role("button", name="Continue", exact=True).click()
        page.get_by_text("went on with").wait_for()
        assert page.locator(".timeline:visible .name").all_inner_texts() == ["Prompt, then continuation"]
