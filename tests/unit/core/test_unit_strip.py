"""Units as bars: figures without a display, and the HTML of a segmentation in a notebook."""

from __future__ import annotations

import base64
import io
import pickle
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import AudioError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.core.unit_strip import TINTS, count_lines, fit_label

RATE = 16_000


def segments(num_frames: int = 400, step: int = 10) -> Segmentation:
    edges = np.arange(0, num_frames + 1, step)
    return Segmentation.from_boundaries(edges, unit=np.arange(len(edges) - 1) * 37 % 2048)


def shapes(html: str) -> list[tuple[str, float, float, str | None]]:
    """Title, left edge and width in seconds, and label of every bar of the HTML, which must be well-formed."""
    found = []
    for line, svg in enumerate(re.findall(r"<svg.*?</svg>", html)):
        for group in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
            title, bar, *label = group
            x, width = (float(bar.attrib[name]) * 6 / 960 for name in ("x", "width"))
            found.append((str(title.text), 6.0 * line + x, width, label[0].text if label else None))
    return found


def test_bars_are_the_segments() -> None:
    seg = segments(700, 7)
    bars = shapes(seg._repr_html_())
    joined: dict[str, tuple[float, float]] = {}
    for title, start, length, _ in bars:
        first, last = joined.get(title, (start, start))
        joined[title] = (first, max(last, start + length))
    assert len(joined) == len(seg) == 100 and len(bars) >= 100
    for segment, (title, (start, end)) in zip(seg, joined.items(), strict=True):
        assert title == f"unit {segment.unit}, {segment.seconds[0]:.2f} to {segment.seconds[1]:.2f} s"
        np.testing.assert_allclose((start, end), segment.seconds, atol=0.002)
    labels = [label for *_, label in bars if label is not None]
    assert set(labels) == {str(unit) for unit in seg.unit.tolist()}  # type: ignore[union-attr]


def test_only_the_first_minute_is_shown() -> None:
    html = segments(4000)._repr_html_()
    assert html.count("<svg") == 10 and "The first 60 s are shown." in html
    assert "400 units in 80.00 s (5.0 per second" in html
    assert segments(3000)._repr_html_().count("<svg") == 10 and "shown" not in segments(3000)._repr_html_()


@pytest.mark.parametrize("num_frames", [0, 1, 3])
def test_short_and_empty_recordings(num_frames: int) -> None:
    seg = segments(num_frames, 1)
    assert len(shapes(seg._repr_html_())) == num_frames
    assert f"{num_frames} unit" in seg._repr_html_()


def test_segments_without_units() -> None:
    seg = Segmentation(np.array([2, 9]), np.array([5, 12]), None, 20)
    assert [title for title, *_ in shapes(seg._repr_html_())] == ["0.04 to 0.10 s", "0.18 to 0.24 s"]
    assert "2 segments in 0.40 s (5.0 per second)" in seg._repr_html_()


def test_the_player_holds_the_recording() -> None:
    seg = segments()
    assert "<audio" not in seg._repr_html_() and seg.audio is None
    wave = np.sin(np.arange(8 * RATE) / 9).astype(np.float32) / 2
    html = seg.with_audio(wave)._repr_html_()
    data = re.search(r'src="data:audio/flac;base64,([\w+/=]+)"', html)
    assert data is not None
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(data[1])), dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(heard, wave[: len(heard)], atol=2**-15)
    assert len(heard) == 8 * RATE
    assert "<audio" not in seg._repr_html_(), "the first one is as it was"


def test_a_recording_that_is_gone() -> None:
    def gone() -> np.ndarray:
        raise AudioError("a.wav: no such file")

    for audio in (None, lambda: None, gone, np.zeros(0)):
        html = segments().with_audio(audio)._repr_html_()
        assert "<audio" not in html and "<svg" in html


def test_the_recording_goes_with_parts_but_not_with_copies() -> None:
    wave = np.ones(8 * RATE)
    seg = segments().with_audio(wave)
    assert seg[3:9].audio is wave and seg.deduplicate().audio is wave
    assert pickle.loads(pickle.dumps(seg)) == seg == segments()
    assert pickle.loads(pickle.dumps(seg)).audio is None


def test_plot_shows_every_unit() -> None:
    pytest.importorskip("matplotlib")
    seg = segments(400, 20)
    figure = seg.plot()
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == [str(unit) for unit in seg.unit.tolist()]  # type: ignore[union-attr]
    assert [axes.get_xlim() for axes in figure.axes] == [(0.0, 4.0), (4.0, 8.0)]
    part = seg.plot(start=2.0, seconds=2.0)
    assert len(part.axes) == 1 and [text.get_text() for text in part.axes[0].texts] == [
        str(segment.unit) for segment in seg if segment.seconds[0] >= 2.0 and segment.seconds[1] <= 4.0
    ]
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert len(segments(4000).plot().axes) == 10
    for start, seconds in ((8.0, None), (-1.0, 2.0), (0.0, 61.0), (0.0, 0.0)):
        with pytest.raises(InputError, match="cannot show"):
            seg.plot(start=start, seconds=seconds)


def test_a_unit_has_one_colour() -> None:
    html = segments(400)._repr_html_()
    for unit, colour in re.findall(r'<title>unit (\d+),.*?fill="(#\w+)"', html):
        assert colour == TINTS[int(unit) % len(TINTS)]


def test_lines() -> None:
    assert [count_lines(0.0, last) for last in (0.02, 6.0, 6.0 + 1e-12, 6.1, 60.0)] == [1, 1, 1, 2, 10]


@settings(deadline=None)
@given(length=st.integers(0, 8), width=st.floats(0, 3), height=st.floats(0.1, 1), more=st.floats(0, 1))
def test_labels_fit_and_never_shrink_in_a_wider_box(length: int, width: float, height: float, more: float) -> None:
    label = "8" * length
    fit, wider = fit_label(label, width, height), fit_label(label, width + more, height)
    if fit is not None:
        size, rotation = fit
        along, across = (width, height) if rotation == 0 else (height, width)
        assert size / 72 <= across and 0.6 * size * length / 72 <= along
        assert wider is not None and (wider[1] < rotation or (wider[1] == rotation and wider[0] >= size))


def test_labels_turn_and_go() -> None:
    assert fit_label("12", 1.0, 0.4) == (9.5, 0)
    assert fit_label("1234", 0.15, 0.4) == (9.0, 90)
    assert fit_label("1234", 0.02, 0.4) is None
