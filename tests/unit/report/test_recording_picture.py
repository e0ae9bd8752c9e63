"""The picture of a recording in one call; the verb's refusals are tested with the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.random_models import noise
from syllablelm.core.errors import InputError
from syllablelm.core.models import BUNDLED
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.report import recording_picture
from syllablelm.report.recording_picture import RecordingPicture, plot, plot_recording
from syllablelm.tokenizer.tokenizer import Tokenizer

SAMPLE = BUNDLED / "sample.flac"


def test_plot_recording(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    alignment = BUNDLED / "sample.alignments.jsonl"
    drawn = plot_recording(SAMPLE, "tiny", out=tmp_path / "p.svg", alignment=alignment, seconds=2.0, device="cpu")
    assert RecordingPicture.from_dict(drawn.to_dict()) == drawn
    assert drawn.picture == str(tmp_path / "p.svg") and drawn.segments > 10
    assert "reference" in (tmp_path / "p.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("rate", [16_000, 8_000])
@pytest.mark.parametrize("start", [0.0, 1.7, 2.0, 6.9, 11.3, 16.0, 18.5, 19.9])
@pytest.mark.parametrize("rule", ["minsum", "frames"])
def test_a_stretch_of_a_long_recording_has_the_units_of_the_whole(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: float, rule: str, rate: int
) -> None:
    drawn: dict[str, Any] = {}

    def keep(waveform: Any, segmentation: Any, features: Any, **options: Any) -> None:
        drawn.update(options, waveform=waveform, segmentation=segmentation, features=features)

    monkeypatch.setattr(recording_picture, "plot_segmentation", keep)
    tokenizer = Tokenizer.load(tokenizer_folder, rule=rule, window_seconds=2.0, device="cpu")
    audio = tmp_path / "a.wav"
    save_audio(audio, noise(20 * rate), rate)
    whole = tokenizer.encode(load_audio(audio))
    seconds = 1.1
    plot_recording(audio, tokenizer, out=tmp_path / "a.png", start=start, seconds=seconds)
    part, step = drawn["segmentation"], whole.hop / whole.sample_rate
    low, high = start / step, min((start + seconds) / step, whole.num_frames)

    def shown(segmentation: Segmentation) -> list[tuple[int, ...]]:
        columns = (segmentation.start, segmentation.end, segmentation.unit)
        return [
            row for row in zip(*(column.tolist() for column in columns), strict=True) if row[1] > low and row[0] < high
        ]

    assert len(shown(whole)) >= 1
    if rate == 16_000:
        assert shown(part) == shown(whole)
    else:  # resampling an excerpt changes its first samples a little
        assert [row[:2] for row in shown(part)] == [row[:2] for row in shown(whole)]
    assert drawn["duration"] == 20.0 and len(drawn["waveform"]) < 10 * 16_000
    assert len(drawn["features"]) == part.num_frames - drawn["offset"]


def test_a_stretch_is_drawn_as_of_the_whole(tokenizer_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tokenizer = Tokenizer.load(tokenizer_folder, window_seconds=2.0, device="cpu")
    save_audio(tmp_path / "a.wav", noise(20 * 16_000))
    plot_recording(tmp_path / "a.wav", tokenizer, out=tmp_path / "part.svg", start=12.5, seconds=1.0)
    long = Tokenizer.load(tokenizer_folder, window_seconds=30.0, device="cpu")
    plot_recording(tmp_path / "a.wav", long, out=tmp_path / "whole.svg", start=12.5, seconds=1.0)
    for name in ("part", "whole"):
        assert "12.5 to 13.5 s of 20.00 s" in (tmp_path / f"{name}.svg").read_text(encoding="utf-8")


def test_nothing_is_encoded_for_a_picture_that_cannot_be(tokenizer_folder: Path, tmp_path: Path) -> None:
    save_audio(tmp_path / "a.wav", noise(16_000))
    for options, words in (
        ({"out": tmp_path / "a.wav"}, "is an input of this run"),
        ({"out": tmp_path / "a.gif"}, "a picture's name must end in"),
        ({"start": 1.5}, "cannot show 6 s from 1.5 s of a recording of 1.00 s"),
    ):
        with pytest.raises(InputError, match=words):
            plot_recording(tmp_path / "a.wav", "no such model", **{"out": tmp_path / "a.png", **options})


def test_plot_returns_a_figure(tokenizer_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tokenizer = Tokenizer.load(tokenizer_folder, device="cpu")
    wave = noise(4 * 16_000)
    save_audio(tmp_path / "a.wav", wave)
    wave = load_audio(tmp_path / "a.wav")
    encoded = tokenizer.encode(wave)

    def labels(figure: Any) -> list[str]:
        return [text.get_text() for axes in figure.axes for text in axes.texts]

    without = plot(wave, encoded, seconds=4.0)
    units = labels(without)  # of segments that have room for one
    assert len(without.axes) == 2 and 10 < len(units) <= len(encoded)
    for audio in (tmp_path / "a.wav", wave, (wave, 16_000), (tmp_path / "a.wav").read_bytes()):
        figure = plot(audio, model=tokenizer, seconds=4.0)
        assert labels(figure) == units and len(figure.axes) == 5  # self-similarity, its scale, lengths
    assert len(plot(encoded).axes) == 1 and len(labels(plot(encoded))) > 10
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert plot(wave, encoded).axes[0].get_xlim() == (0.0, 4.0)
    with pytest.raises(InputError, match="cannot show"):
        plot(wave, encoded, start=5.0)
