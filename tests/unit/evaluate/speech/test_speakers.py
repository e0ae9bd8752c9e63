"""Speaker encoders: voices in their order, batches of windows, and models of others."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.random_recognizers import write_xvector
from syllablelm.core.errors import FormatError, InputError, MissingDependencyError
from syllablelm.core.models import BUNDLED
from syllablelm.data.audio import load_audio
from syllablelm.data.distortions import pitch as shift_pitch
from syllablelm.data.distortions import white_noise
from syllablelm.evaluate.speech.speakers import ResemblyzerEncoder, SpeakerEncoder, load_speaker_encoder

resemblyzer = pytest.mark.skipif(importlib.util.find_spec("resemblyzer") is None, reason="needs resemblyzer's weights")


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return load_audio(BUNDLED / "sample.flac")


@pytest.fixture(scope="module")
def xvector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xvector(tmp_path_factory.mktemp("xvector"))


def similarity(encoder: SpeakerEncoder, a: np.ndarray, b: np.ndarray) -> float:
    return float(encoder.embed(a) @ encoder.embed(b))


@resemblyzer
def test_another_voice_is_less_similar(speech: np.ndarray):
    encoder = load_speaker_encoder("resemblyzer", device="cpu")
    assert similarity(encoder, speech, speech) == pytest.approx(1, abs=1e-6)
    noisy = [similarity(encoder, speech, white_noise(speech, snr, np.random.default_rng(0))) for snr in (20, 0)]
    assert 1 > noisy[0] > noisy[1]
    half = len(speech) // 2
    own = similarity(encoder, speech[:half], speech[half:])
    assert own > 0.7
    assert own > similarity(encoder, speech[:half], shift_pitch(speech[half:], 4.0))


@resemblyzer
def test_level_is_raised_and_never_lowered(speech: np.ndarray):
    encoder = load_speaker_encoder("resemblyzer", device="cpu")
    quiet = speech * np.float32(10 ** (-35 / 20) / np.sqrt(np.mean(speech**2)))
    assert similarity(encoder, quiet, quiet * np.float32(0.1)) == pytest.approx(1, abs=1e-5)
    assert similarity(encoder, quiet, speech) < 1 - 1e-4


@resemblyzer
def test_windows_together_are_windows_alone(speech: np.ndarray):
    encoder = load_speaker_encoder("resemblyzer", device="cpu")
    assert isinstance(encoder, ResemblyzerEncoder)
    # Two windows: their mean, at a level that is left as it is.
    loud = speech * np.float32(0.1 / np.sqrt(np.mean(speech**2)))
    both = loud[: (77 + 160) * 160]
    # Spectra at the ends of a piece see zeros beyond it, those of the whole the neighbours.
    parts = [encoder.embed(both[start : start + 160 * 160]) for start in (0, 77 * 160)]
    mean = np.mean(parts, axis=0)
    assert float(encoder.embed(both) @ mean / np.linalg.norm(mean)) > 0.999


@resemblyzer
@pytest.mark.parametrize("samples", [1, 200, 16_000, 25_600])
def test_short_speech(samples: int, speech: np.ndarray):
    vector = load_speaker_encoder("resemblyzer", device="cpu").embed(speech[8_000 : 8_000 + samples])
    assert vector.shape == (256,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_an_xvector_model_in_a_folder(xvector: Path, speech: np.ndarray):
    encoder = load_speaker_encoder(str(xvector), device="cpu")
    assert encoder.embed(speech).shape == (12,)
    assert similarity(encoder, speech, speech) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(encoder.embed(speech[:100]), encoder.embed(np.pad(speech[:100], (0, 15_900))))
    assert similarity(encoder, speech, speech[::-1].copy()) < 1 - 1e-6


def test_what_is_no_speaker_encoder(xvector: Path, tmp_path: Path):
    with pytest.raises(InputError, match="choose resemblyzer, or"):
        load_speaker_encoder("")
    with pytest.raises(FormatError, match=r"not a speaker encoder that can be opened.*choose resemblyzer"):
        load_speaker_encoder(str(tmp_path))
    for file in xvector.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    table = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(table | {"model_type": "whisper"}), encoding="utf-8")
    with pytest.raises(FormatError, match="no such model"):
        load_speaker_encoder(str(tmp_path))


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(MissingDependencyError, match="pip install --no-deps resemblyzer"):
        load_speaker_encoder("resemblyzer")
