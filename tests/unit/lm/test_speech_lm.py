"""Scoring and generation: exact whatever stands beside, equal to transformers where greedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from syllablelm.errors import FormatError, InputError
from syllablelm.lm.decode import Sampler, Sampling
from syllablelm.lm.speech_lm import SpeechLM, typical_durations
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.types import Segmentation


def units(segmentation: Segmentation) -> np.ndarray:
    assert segmentation.unit is not None
    return segmentation.unit


def cut(segmentation: Segmentation, count: int) -> Segmentation:
    return Segmentation.from_boundaries(segmentation.boundaries[: count + 1], unit=units(segmentation)[:count])


def slow_log_probs(speech_lm: SpeechLM, row_units: np.ndarray) -> np.ndarray:
    """One forward pass per unit, from the definition."""
    row = [speech_lm.info.bos]
    result = []
    for unit in row_units.tolist():
        with torch.inference_mode():
            logits = speech_lm.model(torch.tensor([row])).logits[0, -1]
        result.append(float(logits.log_softmax(-1)[unit]))
        row.append(unit)
    return np.array(result)


class TestScore:
    def test_equals_one_unit_at_a_time(self, speech_lm, recordings):
        seg = cut(recordings[3][1], 5)
        slow = slow_log_probs(speech_lm, units(seg))
        assert speech_lm.score(seg, "sum") == pytest.approx(slow.sum(), abs=1e-4)
        assert speech_lm.score(seg) == pytest.approx(slow.mean(), abs=1e-4)

    def test_neighbours_change_nothing(self, speech_lm, recordings):
        segs = [seg for _, seg in recordings[:20]]
        together = speech_lm.score(segs)
        small = SpeechLM(speech_lm.model, speech_lm.info, speech_lm.durations, batch_tokens=1)
        np.testing.assert_allclose(small.score(segs), together, atol=1e-5)
        np.testing.assert_allclose(speech_lm.score(segs[::-1]), together[::-1], atol=1e-5)

    def test_evaluate_adds_up(self, speech_lm, recordings, store):
        total = speech_lm.evaluate(store)
        sums = speech_lm.score([seg for _, seg in recordings], "sum")
        assert total.tokens == len(store.tokens)
        assert total.nats == pytest.approx(-sum(sums), rel=1e-5)
        assert total.seconds == pytest.approx(store.seconds)

    def test_given_tokens_do_not_count(self, speech_lm, recordings):
        info = TokenInfo(30, loss_from=10)
        store = TokenStore.from_segmentations(recordings[:5], info)
        total = speech_lm.evaluate(store)
        assert total.tokens == int((store.tokens >= 10).sum())

    def test_bad_input(self, speech_lm, recordings):
        long = Segmentation.from_boundaries(np.arange(200), unit=np.zeros(199, dtype=int))
        with pytest.raises(InputError, match="context holds 128"):
            speech_lm.score([recordings[0][1], long])
        with pytest.raises(InputError, match="segmentation 1: unit 77 is outside"):
            speech_lm.score([recordings[0][1], Segmentation.from_boundaries([0, 1], unit=[77])])
        with pytest.raises(InputError, match="segmentation 1: no unit to score"):
            speech_lm.score([recordings[0][1], Segmentation.from_boundaries([], unit=[])])
        with pytest.raises(InputError, match="reduce"):
            speech_lm.score(recordings[0][1], "median")  # type: ignore[call-overload]


class TestGenerate:
    def test_greedy_equals_transformers(self, speech_lm, recordings):
        prompt = cut(recordings[2][1], 4)
        ours = speech_lm.generate(prompt, 6.0, temperature=0)
        row = torch.tensor([[speech_lm.info.bos, *units(prompt).tolist()]])
        theirs = speech_lm.model.generate(
            row,
            max_new_tokens=len(ours),
            do_sample=False,
            attention_mask=torch.ones_like(row),
            suppress_tokens=[speech_lm.info.bos],
            pad_token_id=0,
        )
        assert theirs[0, 5:].tolist() == units(ours).tolist()

    def test_lasts_as_long_as_asked_and_repeats_by_seed(self, speech_lm, recordings):
        prompt = cut(recordings[0][1], 3)
        first, again, other = (speech_lm.generate(prompt, 7.5, seed=seed) for seed in (1, 1, 2))
        assert first == again
        assert first != other
        assert first.duration == pytest.approx(7.5)
        assert (first.start[0], first.end[-1]) == (0, first.num_frames)
        lengths = (first.end - first.start)[:-1]
        np.testing.assert_array_equal(lengths, speech_lm.durations[first.unit[:-1]])

    def test_a_batch_draws_what_each_prompt_alone_would(self, speech_lm, recordings):
        prompts = [cut(seg, n) for (_, seg), n in zip(recordings, (5, 1, 3), strict=False)]
        together = speech_lm.generate(prompts, 4.0, seed=9)
        for i, prompt in enumerate(prompts):
            row = [speech_lm.info.bos, *units(prompt).tolist()]
            alone = speech_lm._continue([row], 200, Sampler(Sampling(seed=9), [i]))[0]
            assert units(together[i]).tolist() == alone

    def test_an_empty_prompt_starts_from_nothing(self, speech_lm):
        empty = Segmentation.from_boundaries([], unit=[])
        assert speech_lm.generate(empty, 2.0).duration == pytest.approx(2.0)

    def test_what_does_not_fit_the_context_is_refused(self, speech_lm, recordings):
        with pytest.raises(InputError, match="does not fit the model's context of 128"):
            speech_lm.generate(cut(recordings[0][1], 3), 500.0)
        full = Segmentation.from_boundaries(np.arange(129), unit=np.zeros(128, dtype=int))
        with pytest.raises(InputError, match="128 units fills the model's context"):
            speech_lm.generate(full, 1.0)
        with pytest.raises(InputError, match="seconds"):
            speech_lm.generate(cut(recordings[0][1], 3), 0.0)


def test_typical_durations_are_means():
    store = TokenStore.from_arrays([np.array([0, 1, 0])], [np.array([4, 9, 7])], TokenInfo(3))
    assert typical_durations(store).tolist() == [6, 9, 7]


def test_a_model_of_another_vocabulary_is_refused(speech_lm):
    with pytest.raises(FormatError, match="does not fit 12 units"):
        SpeechLM(speech_lm.model, TokenInfo(12), np.ones(12, dtype=np.int32))


def test_no_such_model():
    with pytest.raises(FormatError, match="no such language model"):
        SpeechLM.load("nowhere")
