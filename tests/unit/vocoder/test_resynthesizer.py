"""The resynthesizer as one thing: parts that belong together, saved, opened, spoken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from syllablelm.core.artifact import new_artifact
from syllablelm.core.errors import FormatError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.train.lm_stage import LMShape
from syllablelm.vocoder.acoustic import ACOUSTIC_FILE, load_acoustic
from syllablelm.vocoder.interleave import StreamInfo
from syllablelm.vocoder.resynthesizer import LM_FOLDER, VOCODER_FOLDER, Resynthesizer
from syllablelm.vocoder.source_filter import SourceFilterNet, SourceFilterShape, SourceFilterVocoder
from syllablelm.vocoder.vocoder_lm import VocoderLM

STREAM = StreamInfo(syllables=8, acoustic=6)
UNITS = Segmentation.from_boundaries([0, 12, 30], unit=[3, 1])


def vocoder_lm() -> VocoderLM:
    torch.manual_seed(0)
    durations = np.full(14, 3, dtype=np.int32)
    return VocoderLM(SpeechLM(LMShape(1, 16, 2, 32, 64, 0.0).build(14), STREAM.tokens, durations))


def vocoder(units: int = 6) -> SourceFilterVocoder:
    torch.manual_seed(0)
    return SourceFilterVocoder(SourceFilterNet(SourceFilterShape(units, dim=16, blocks=2, kernel=3)))


def test_speaks_as_long_as_the_syllables_last_and_repeats_by_seed():
    both = Resynthesizer(vocoder(), vocoder_lm())
    first, again, other = (both.decode(UNITS, seed=seed) for seed in (0, 0, 1))
    assert len(first) == 30 * 320
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_many_sound_as_each_does_alone():
    both = Resynthesizer(vocoder(), vocoder_lm())
    rng = np.random.default_rng(0)
    many = []
    for count in (5, 1, 12):
        edges = np.concatenate([[0], np.cumsum(rng.integers(2, 20, count))])
        many.append(Segmentation.from_boundaries(edges, unit=rng.integers(0, 8, count)))
    prompts = [None, None, Segmentation.from_boundaries([0, 3, 6], unit=[5, 2])]
    seeds = [3, 0, 3]
    alone = [
        both.decode(segments, prompt=prompt, temperature=1.0, seed=seed)
        for segments, prompt, seed in zip(many, prompts, seeds, strict=True)
    ]
    for one, other in zip(both.decode_many(many, prompts, temperature=1.0, seeds=seeds), alone, strict=True):
        np.testing.assert_array_equal(one, other)
    default = both.decode_many(many)
    np.testing.assert_array_equal(default[2], both.decode(many[2]))
    assert both.decode_many([]) == []


def test_parts_with_other_vocabularies_are_refused():
    with pytest.raises(FormatError, match="disagree"):
        Resynthesizer(vocoder(units=7), vocoder_lm())


def test_saved_parts_open_as_one(tmp_path):
    lm = vocoder_lm()
    with new_artifact(tmp_path / LM_FOLDER, "lm", config={}, seed=0, parents={}, metrics={}) as folder:
        lm.lm.write_payload(folder)
    (tmp_path / VOCODER_FOLDER).mkdir()
    vocoder().save(tmp_path / VOCODER_FOLDER)
    opened = Resynthesizer.load(tmp_path, device="cpu")
    assert (opened.acoustic, opened.sample_rate) == (None, 16_000)
    assert opened.vocoder_lm.stream == StreamInfo(8, 6)
    assert len(opened.decode(UNITS)) == 30 * 320


def test_a_folder_without_parts_is_named(tmp_path):
    with pytest.raises(FormatError, match="holds no vocoder"):
        Resynthesizer.load(tmp_path)


def test_centres_without_their_layer_are_refused(tmp_path):
    save_file({"centres": np.zeros((6, 4), dtype=np.float32)}, tmp_path / ACOUSTIC_FILE)
    with pytest.raises(FormatError, match="not the centres"):
        load_acoustic(tmp_path)


def test_a_vocoder_of_syllables_needs_no_language_model(tmp_path):
    (tmp_path / VOCODER_FOLDER).mkdir()
    SourceFilterVocoder(vocoder(8).net, "tokenizer").save(tmp_path / VOCODER_FOLDER)
    opened = Resynthesizer.load(tmp_path, device="cpu")
    assert (opened.vocoder_lm, opened.acoustic, opened.tokenizer) == (None, None, "tokenizer")
    np.testing.assert_array_equal(opened.decode(UNITS, temperature=0.3), opened.vocoder.decode(UNITS))
    assert len(opened.decode(UNITS)) == 30 * 320
