"""The timeline's HTML: where segments lie, what they play, and that texts cannot act on the page."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from syllablelm.core.unit_strip import Box
from syllablelm.demo.timeline import PIXELS_PER_SECOND, Track, draw_timeline


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{text}</div>")


def style(element: ElementTree.Element) -> dict[str, str]:
    return dict(part.split(":") for part in element.attrib["style"].split(";"))


def test_segments_are_buttons_where_their_times_are() -> None:
    boxes = [Box(0.0, 0.5, "7", "#F8DFA8"), Box(0.5, 1.25, "", "#BFE2F6")]
    wave = np.sin(np.arange(24_000) / 10).astype(np.float32)
    root = parse(draw_timeline([Track("Units", Path("/tmp/a.wav"), boxes, wave)], 1.5))
    first, second = root.iter("button")
    assert (style(second)["left"], style(second)["width"]) == (
        f"{0.5 * PIXELS_PER_SECOND:.1f}px",
        f"{0.75 * PIXELS_PER_SECOND:.1f}px",
    )
    assert style(second)["--tint"] == "#BFE2F6"
    assert (second.get("data-start"), second.get("data-end")) == ("0.5000", "1.2500")
    assert [first.get("aria-label"), second.get("aria-label")] == [
        "Units: 7, 0.00 to 0.50 s",
        "Units: segment, 0.50 to 1.25 s",
    ]
    # One stop of the tab key for a track; arrow keys do the rest.
    assert [button.get("tabindex") for button in (first, second)] == ["0", "-1"]
    assert [span.text for span in root.iter("span") if "left" in span.get("style", "")] == ["0", "1"]


def test_a_waveform_is_as_wide_as_it_is_long_at_any_rate() -> None:
    widths = []
    for rate in (8000, 22_050):
        wave = np.linspace(-1, 1, rate, dtype=np.float32)
        root = parse(draw_timeline([Track("x", Path("a"), [], wave, rate)], 2.0))
        (svg,) = root.iter("svg")
        widths.append(style(svg)["width"])
        (polygon,) = root.iter("polygon")
        numbers = [int(number) for number in polygon.attrib["points"].split()]
        heights = numbers[1::2]
        # From the lowest at the left, below the middle, to the highest at the right.
        assert (max(heights), min(heights), heights[0]) == (98, 2, max(heights[: len(heights) // 2]))
    assert widths == [f"{PIXELS_PER_SECOND:.1f}px"] * 2


def test_silence_and_no_segments_are_drawn() -> None:
    root = parse(draw_timeline([Track("x", Path("a"), [], np.zeros(100, np.float32))], 0.1))
    assert list(root.iter("button")) == []
    assert len(list(root.iter("polygon"))) == 1


def test_texts_are_escaped() -> None:
    evil = "<img src=x onerror='alert(1)'>\""
    text = draw_timeline([Track(evil, Path(f"/tmp/{evil}.wav"), [Box(0, 9, evil, "#FFFFFF")])], 9.0)
    root = parse(text)
    assert list(root.iter("img")) == []
    (track,) = (element for element in root.iter("div") if "data-sound" in element.attrib)
    assert track.get("aria-label") == evil
    assert track.attrib["data-sound"] == (
        "gradio_api/file=/tmp/%3Cimg%20src%3Dx%20onerror%3D%27alert%281%29%27%3E%22.wav"
    )
    (button,) = root.iter("button")
    assert button.attrib["title"] == f"{evil}: {evil}, 0.00 to 9.00 s"
    assert "onerror" not in button.attrib
