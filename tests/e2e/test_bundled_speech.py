"""The bundled language model and vocoder through the public names."""

from __future__ import annotations

import re

import numpy as np
import pytest

import syllablelm as sl
from syllablelm.core.errors import InputError
from syllablelm.core.models import BUNDLED

SAMPLE = BUNDLED / "sample.flac"


def test_the_language_model_prefers_real_order() -> None:
    lm = sl.SpeechLM.load("small", device="cpu")
    seg = sl.Tokenizer.load("small", device="cpu").encode(sl.load_audio(SAMPLE))
    assert seg.unit is not None
    rng = np.random.default_rng(0)
    mixed = [
        sl.Segmentation.from_boundaries(seg.boundaries, unit=rng.permutation(seg.unit), hop=seg.hop) for _ in range(20)
    ]
    assert lm.score(seg) > np.mean(lm.score(mixed))
    drawn = lm.generate(seg, seconds=2, temperature=0.8, seed=0)
    assert drawn.duration == pytest.approx(2.0)


def test_continuation_lasts_as_long_as_asked_and_repeats() -> None:
    wave = sl.load_audio(SAMPLE)[: 2 * 16_000]
    first, again = (sl.continue_speech(wave, seconds=1.5, model="small", seed=3) for _ in range(2))
    assert first.dtype == np.float32
    assert len(first) == pytest.approx(1.5 * 16_000, abs=640)
    assert 0 < np.abs(first).max() <= 1
    np.testing.assert_array_equal(first, again)
    pair = (np.stack([wave, wave], axis=1), 16_000)
    np.testing.assert_array_equal(sl.continue_speech(pair, seconds=1.5, model="small", seed=3), first)
    with pytest.raises(InputError, match="has 16000 Hz, but sampling_rate=48000 was passed"):
        sl.continue_speech(pair, seconds=1.5, model="small", sampling_rate=48_000)


def test_resynthesis_is_as_long_as_the_recording() -> None:
    voice = sl.Resynthesizer.load("small", device="cpu")
    seg = sl.Tokenizer.load("small", device="cpu").encode(sl.load_audio(SAMPLE)[: 3 * 16_000])
    assert len(voice.decode(seg)) == seg.num_frames * 320


def test_reprs_name_model_units_rate_and_device() -> None:
    lm, voice = sl.SpeechLM.load("small", device="cpu"), sl.Resynthesizer.load("small", device="cpu")
    assert re.fullmatch(
        r"<SpeechLM small/lm: opt of [\d,]+ parameters, 2048 units of 0\.\d+ s, context of \d+ tokens, cpu>", repr(lm)
    )
    assert repr(voice) == "<Resynthesizer small/vocoder: spectral, 2048 units, 16000 Hz, cpu>"
