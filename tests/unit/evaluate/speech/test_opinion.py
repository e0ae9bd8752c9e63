"""DNSMOS: the scores of the package whose weights it uses, and their order."""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest

from syllablelm.core.errors import InputError, MissingDependencyError
from syllablelm.core.models import BUNDLED
from syllablelm.data.audio import load_audio
from syllablelm.data.distortions import white_noise
from syllablelm.evaluate.speech.opinion import DNSMOS, OpinionScores

pytest.importorskip("onnxruntime")
if importlib.util.find_spec("speechmos") is None:
    pytest.skip("needs the weights of speechmos", allow_module_level=True)


@pytest.fixture(scope="module")
def dnsmos() -> DNSMOS:
    return DNSMOS()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return load_audio(BUNDLED / "sample.flac")[:80_000]


def test_noise_lowers_the_scores(dnsmos: DNSMOS, speech: np.ndarray):
    rng = np.random.default_rng(0)
    scores = [dnsmos.score(speech), *(dnsmos.score(white_noise(speech, snr, rng)) for snr in (15, 0))]
    for better, worse in pairwise(scores):
        assert better.overall > worse.overall and better.background > worse.background
    assert scores[0].overall > 2.5 and scores[-1].overall < 2
    assert dnsmos.score(speech) == scores[0]


@pytest.mark.parametrize("seconds", [5.0, 9.01, 12.3])
def test_scores_are_those_of_the_released_code(
    dnsmos: DNSMOS, speech: np.ndarray, seconds: float, monkeypatch: pytest.MonkeyPatch
):
    # It imports what it needs for its other network only.
    for name, member in (("librosa", "load"), ("requests", "session")):
        module = ModuleType(name)
        setattr(module, member, None)
        monkeypatch.setitem(sys.modules, name, module)
    from speechmos import dnsmos as released

    monkeypatch.setattr(released.DNSMOS, "audio_melspec", lambda self, audio: np.zeros((900, 120)))
    wave = np.tile(speech, 3)[: round(16_000 * seconds)]
    expected = released.run(np.clip(wave, -1, 1), 16_000)
    found = dnsmos.score(wave)
    wanted = OpinionScores(expected["ovrl_mos"], expected["sig_mos"], expected["bak_mos"])
    for name, value in vars(found).items():
        assert value == pytest.approx(getattr(wanted, name), abs=1e-4)


def test_nothing_to_score(dnsmos: DNSMOS):
    with pytest.raises(InputError, match="empty"):
        dnsmos.score(np.zeros(0, np.float32))
    assert np.isfinite(dnsmos.score(np.zeros(160, np.float32)).overall)


@pytest.mark.parametrize("module", ["speechmos", "onnxruntime"])
def test_a_missing_package_says_what_to_install(module: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'syllablelm\[quality\]'"):
        DNSMOS()
