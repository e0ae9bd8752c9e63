"""Quality: scores of renderings whose truth is known, their table, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.core.models import BUNDLED
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.data.distortions import pitch as shift_pitch
from syllablelm.data.manifest import Recording
from syllablelm.evaluate.evaluations import parse_result
from syllablelm.evaluate.speech import quality, recognizers
from syllablelm.evaluate.speech.opinion import OpinionScores
from syllablelm.evaluate.speech.quality import QualityResult, evaluate_quality
from syllablelm.evaluate.units.bitrate import RateCounts

IDS = ("a", "b", "c")


class Loudness:
    """Scores and embeds a waveform by its level and its loudest band."""

    settings = "loudness"

    def score(self, waveform: np.ndarray) -> OpinionScores:
        level = float(np.abs(waveform).mean())
        return OpinionScores(level, 2 * level, 3 * level)

    def embed(self, waveform: np.ndarray) -> np.ndarray:
        bands = np.array([part.sum() for part in np.array_split(np.abs(np.fft.rfft(waveform))[:2000], 8)])
        return (bands / np.linalg.norm(bands)).astype(np.float32)


class Words:
    name, settings = "words", "none"

    def transcribe(self, waveform: np.ndarray) -> str:
        return "cat sat" if len(waveform) % 2 == 0 else "cat"


class Renderings:
    """Renderings of recordings: themselves, and three semitones higher."""

    unit_file, num_units, durations = None, 4, None

    def __init__(self, model, units, chosen, *, seed, predict, device):
        self.rates = [RateCounts()]

    def versions(self, durations):
        def higher(ids, waves):
            return [shift_pitch(wave, 3.0) for wave in waves]

        return {"original": lambda ids, waves: waves, "vocoder": lambda ids, waves: waves, "resynthesis": higher}

    def original_seconds(self, id, version, seconds):
        return seconds


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    speech = load_audio(BUNDLED / "sample.flac")
    found = []
    for number, id in enumerate(IDS):
        wave = np.roll(speech, 9_000 * number)[: 32_000 + number] * np.float32(1 - 0.2 * number)
        save_audio(tmp_path / f"{id}.wav", wave)
        texted = {"speaker": "xxy"[number], "text": "cat sat"}
        found.append(Recording(id, str(tmp_path / f"{id}.wav"), len(wave), 16_000, **texted))
    return found


@pytest.fixture(autouse=True)
def scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "Rendering", Renderings)
    monkeypatch.setattr(quality, "DNSMOS", Loudness)
    monkeypatch.setattr(quality, "load_speaker_encoder", lambda name, device: Loudness())
    monkeypatch.setattr(recognizers, "load_recognizer", lambda name, device: Words())


def evaluate(recordings: list[Recording], **options) -> QualityResult:
    return evaluate_quality(recordings, min_seconds=1, resamples=50, device="cpu", **options)


def test_known_renderings(recordings: list[Recording], tmp_path: Path):
    result = evaluate(recordings, recognizer="words", out=tmp_path / "scores.jsonl")
    original, same, higher = result.rows
    assert [row.speech for row in result.rows] == ["original", "vocoder", "resynthesis"]
    assert original.similarity is original.pitch_error is original.voiced_frames is None
    for measure in ("similarity", "pitch_correlation"):
        assert getattr(same, measure).value == pytest.approx(1)
    for measure in ("pitch_error", "pitch_offset", "gross_pitch_error", "voicing_error"):
        assert getattr(same, measure).value == 0
    assert same.mos == original.mos and same.errors == original.errors
    assert higher.pitch_offset.value == pytest.approx(3, abs=1) and higher.similarity.value < 1
    # Every recording counts once, and an interval lies around its value.
    levels = [float(np.abs(load_audio(one.path)).mean()) for one in recordings]
    assert original.mos.value == pytest.approx(np.mean(levels))
    assert min(levels) <= original.mos.low <= original.mos.value <= original.mos.high <= max(levels)
    assert original.mos_background.value == pytest.approx(3 * original.mos.value)
    # One word of the second recording is missed, by its length.
    assert original.errors["words"].word_edits == 1 and original.errors["words"].words == 6

    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["id"], line["speech"]) for line in lines] == [(id, row.speech) for id in IDS for row in result.rows]
    assert [line["mos"] for line in lines[::3]] == pytest.approx(levels)
    assert lines[3]["errors"] == {"words": {"wer": 0.5, "cer": pytest.approx(4 / 7)}}
    # Alone as among others.
    for line, recording in zip(lines[2::3], recordings, strict=True):
        (*_, row) = evaluate([recording]).rows
        assert row.pitch_error.value == line["pitch_error"] and row.similarity.value == line["similarity"]

    assert parse_result(json.loads(json.dumps(result.to_dict()))) == result
    table = {row["measure"]: row for row in result.table()}
    assert table["pitch RMSE, semitones"]["vocoder"] == "0.00 [0.00, 0.00]"
    assert table["pitch RMSE, semitones"]["original"] == "-"
    assert table["WER by words, %"]["original"].startswith("16.7 [")


def test_similarity_to_other_speakers(recordings: list[Recording]):
    vectors = [Loudness().embed(load_audio(one.path)) for one in recordings]
    pairs = {("a", "c"): 0.0, ("b", "c"): 0.0}
    pairs = {pair: float(vectors[IDS.index(pair[0])] @ vectors[IDS.index(pair[1])]) for pair in pairs}
    # a and b are of one speaker.
    each = [pairs["a", "c"], pairs["b", "c"], (pairs["a", "c"] + pairs["b", "c"]) / 2]
    assert evaluate(recordings).rows[0].similarity_others.value == pytest.approx(np.mean(each))
    assert evaluate(recordings[:2]).rows[0].similarity_others is None


def test_scorers_can_be_left_out(recordings: list[Recording]):
    result = evaluate(recordings, mos="none", speaker="none")
    assert set(result.methods) == {"pitch"} and result.recognizers == () and result.normalization is None
    assert result.rows[2].mos is result.rows[2].similarity is result.rows[2].errors is None
    assert next(row["measure"] for row in result.table()) == "pitch RMSE, semitones"


def test_what_cannot_be_scored(recordings: list[Recording], tmp_path: Path):
    with pytest.raises(InputError, match=r"min_seconds 0\.5: must be at least 1"):
        evaluate_quality(recordings, min_seconds=0.5)
    with pytest.raises(InputError, match=r"3 recordings, none of them of 4 to 10 s"):
        evaluate_quality(recordings)
    with pytest.raises(InputError, match="mos 'best': choose dnsmos or none"):
        evaluate(recordings, mos="best")
    untexted = [Recording(one.id, one.path, one.num_samples, 16_000) for one in recordings]
    assert evaluate(untexted).data.recordings == 3
    with pytest.raises(InputError, match="0 with a text"):
        evaluate(untexted, recognizer="words")
    with pytest.raises(InputError):
        evaluate(recordings, out=recordings[0].path)
