from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from syllablelm.core.errors import InputError, MissingDependencyError
from syllablelm.core.segmentation import Segmentation
from syllablelm.report import segmentation_figure as plot
from syllablelm.report.segmentation_figure import plot_segmentation

pytest.importorskip("matplotlib")

RATE, HOP = 16_000, 320


class Syllable(NamedTuple):
    label: str
    start: float
    end: float


def recording(seconds: float = 2.0, seed: int = 0) -> tuple[np.ndarray, Segmentation, np.ndarray]:
    rng = np.random.default_rng(seed)
    waveform = 0.1 * rng.standard_normal(round(seconds * RATE)).astype(np.float32)
    num_frames = (len(waveform) - 400) // HOP + 1
    edges = np.append(np.arange(0, num_frames, 8), num_frames).astype(np.int32)
    keep = np.arange(len(edges) - 1) % 4 != 2
    unit = rng.integers(0, 2048, int(keep.sum())).astype(np.int32)
    segmentation = Segmentation(edges[:-1][keep], edges[1:][keep], unit, num_frames, HOP, RATE)
    return waveform, segmentation, rng.standard_normal((num_frames, 5)).astype(np.float32)


def texts_of_svg(path: Path) -> str:
    """Text of an SVG: matplotlib writes each one as a comment beside its outlines."""
    return "\n".join(line.strip()[5:-4] for line in path.read_text().splitlines() if line.strip().startswith("<!-- "))


def fact(texts: list[str], meaning: str) -> str:
    """The number written before its meaning ("segments" is also a name in the histogram's key)."""
    return next(number for number, text in pairwise(texts) if text == meaning and number.isdigit())


@pytest.mark.parametrize(("name", "magic"), [("a.SVG", b"<?xml"), ("new/a.pdf", b"%PDF"), ("b.c.png", b"\x89PNG")])
def test_suffix_chooses_the_format_and_nothing_else_is_left(tmp_path: Path, name: str, magic: bytes) -> None:
    plot_segmentation(*recording(), path=tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)
    assert [file.name for file in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_picture_is_1400_dots_wide(tmp_path: Path) -> None:
    plot_segmentation(*recording(), path=tmp_path / "a.png")
    header = (tmp_path / "a.png").read_bytes()[16:24]
    assert int.from_bytes(header[:4], "big") == 1400


def test_labels_units_and_reference_are_written(tmp_path: Path) -> None:
    waveform, segmentation, features = recording()
    reference = [Syllable("HH-AH", 0.1, 0.5), Syllable("L-OW", 0.5, 1.1)]
    plot_segmentation(waveform, segmentation, features, path=tmp_path / "a.svg", reference=reference, title="hello")
    texts = texts_of_svg(tmp_path / "a.svg").splitlines()
    assert segmentation.unit is not None
    assert {"hello", "HH-AH", "L-OW", "kHz", "time (s)", "units", "reference", "reference intervals"} <= set(texts)
    assert {str(unit) for unit in segmentation.unit} <= set(texts)
    assert fact(texts, "segments") == str(len(segmentation))


def test_only_the_chosen_stretch_is_shown(tmp_path: Path) -> None:
    waveform, segmentation, features = recording(4.0)
    plot_segmentation(waveform, segmentation, features, path=tmp_path / "a.svg", start=1.0, seconds=2.0)
    texts = texts_of_svg(tmp_path / "a.svg").splitlines()
    assert texts.count("kHz") == 1
    middle = segmentation.seconds.mean(axis=1)
    shown = (middle >= 1.0) & (middle < 3.0)
    assert segmentation.unit is not None
    assert {str(unit) for unit in segmentation.unit[shown]} <= set(texts)
    outside = (segmentation.seconds[:, 1] < 1.0) | (segmentation.seconds[:, 0] > 3.0)
    assert outside.any() and not {str(unit) for unit in segmentation.unit[outside]} & set(texts)
    assert "1 to 3 s of 4.00 s · 20 ms per frame" in texts
    assert fact(texts, "segments") == str(shown.sum())


def test_long_stretches_are_broken_into_lines(tmp_path: Path) -> None:
    plot_segmentation(*recording(14.0), path=tmp_path / "a.svg", seconds=13.0)
    assert texts_of_svg(tmp_path / "a.svg").split().count("kHz") == 3


def test_the_same_inputs_give_the_same_file(tmp_path: Path) -> None:
    for suffix in (".svg", ".pdf"):
        for name in ("a", "b"):
            plot_segmentation(*recording(0.5), path=tmp_path / (name + suffix))
        assert (tmp_path / ("a" + suffix)).read_bytes() == (tmp_path / ("b" + suffix)).read_bytes()


@pytest.mark.parametrize("seconds", [0.03, 0.06])
def test_shortest_silent_and_unitless_recordings_have_pictures(tmp_path: Path, seconds: float) -> None:
    waveform, segmentation, features = recording(seconds)
    bare = Segmentation(segmentation.start, segmentation.end, None, segmentation.num_frames)
    nothing = Segmentation(bare.start[:0], bare.end[:0], None, bare.num_frames)
    for chosen in (bare, nothing):
        plot_segmentation(0 * waveform, chosen, 0 * features, path=tmp_path / "a.svg", reference=[])
        texts = texts_of_svg(tmp_path / "a.svg").splitlines()
        assert fact(texts, "segments") == str(len(chosen))
        assert "different units" not in texts


def test_no_global_state_of_matplotlib_is_touched(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot_segmentation(*recording(0.5), path=tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before


def test_mel_picture_puts_a_tone_at_its_time_and_height() -> None:
    time = np.arange(2 * RATE) / RATE
    tone = np.where((time >= 1.2) & (time < 1.5), np.sin(2 * np.pi * 1000 * time), 0.0)
    picture = plot._MelPicture.of(tone, 1.0, 2.0)
    num_bands, num_columns = picture.level_MT.shape
    assert picture.level_MT.max() == 0
    assert picture.start <= 1.0 and picture.end >= 2.0 and picture.end - picture.start < 1.01
    # Middles of the columns that are loud: the tone's time, but for a quarter of the window of 40 ms.
    loud = np.flatnonzero(picture.level_MT.max(axis=0) > -6) + 0.5
    loud = picture.start + loud / num_columns * (picture.end - picture.start)
    assert loud.min() == pytest.approx(1.2, abs=0.01) and loud.max() == pytest.approx(1.5, abs=0.01)
    assert picture.level_MT.mean(axis=1).argmax() + 0.5 == pytest.approx(plot._mel_row(1000.0), abs=1.0)
    assert 0 < plot._mel_row(250) < plot._mel_row(4000) < num_bands


def similarity_by_loop(features: np.ndarray) -> np.ndarray:
    mean = sum(features) / len(features)
    result = np.zeros((len(features), len(features)))
    for i, a in enumerate(features - mean):
        for j, b in enumerate(features - mean):
            result[i, j] = np.dot(a, b) / (np.sqrt(np.dot(a, a)) * np.sqrt(np.dot(b, b)))
    return result


def test_similarity_equals_loop() -> None:
    features = 5 + np.random.default_rng(0).standard_normal((7, 3))
    np.testing.assert_allclose(plot.self_similarity(features), similarity_by_loop(features), atol=1e-12)
    assert plot.self_similarity(np.ones((3, 2))).tolist() == [[0.0] * 3] * 3


def bad(**change: object) -> dict:
    waveform, segmentation, features = recording()
    return {"waveform": waveform, "segmentation": segmentation, "features": features, **change}


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (bad(), {"path": "a.gif"}, "a.gif: a picture's name must end in one of .png, .svg, .pdf"),
        (bad(waveform=np.zeros((2, 99))), {}, "row of finite samples"),
        (bad(waveform=np.zeros(0)), {}, "non-empty row"),
        (bad(waveform=np.full(32_000, np.nan)), {}, "finite samples"),
        (bad(waveform=np.zeros(64_000)), {}, "lasts 4.00 s and the segmentation 1.98 s"),
        (bad(features=np.zeros((98, 5))), {}, "99 frames, not"),
        (bad(segmentation=Segmentation.from_boundaries([0, 99], hop=160, sample_rate=8_000)), {}, "not of 8000 Hz"),
        (bad(features=np.full((99, 5), np.inf)), {}, "must be finite"),
        (bad(), {"start": 2.0}, "cannot show 6 s from 2 s of a recording of 2.00 s"),
        (bad(), {"start": -1.0}, "cannot show"),
        (bad(), {"seconds": 0.0}, "cannot show"),
        (bad(), {"seconds": 61.0}, "at most 60 s"),
    ],
)
def test_unusable_inputs_are_named(tmp_path: Path, inputs: dict, options: dict, message: str) -> None:
    path = tmp_path / options.get("path", "a.png")
    with pytest.raises(InputError, match=message):
        plot_segmentation(**inputs, **{**options, "path": path})
    assert list(tmp_path.iterdir()) == []


def test_missing_matplotlib_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"syllablelm\[plot\]"):
        plot_segmentation(*recording(), path=tmp_path / "a.png")
