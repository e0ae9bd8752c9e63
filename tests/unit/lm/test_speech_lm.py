"""Scoring and generation: exact whatever stands beside, equal to transformers where greedy."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.artifact import new_artifact
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.decode import Sampler, Sampling
from syllablelm.lm.fused import make_stepper
from syllablelm.lm.speech_lm import SpeechLM, score_windows, typical_durations
from syllablelm.lm.store import TokenInfo, TokenStore


@pytest.fixture(scope="module")
def folder(speech_lm, tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "lm"
    with new_artifact(path, "lm", config={}, seed=0, parents={}, metrics={}) as folder:
        speech_lm.write_payload(folder)
    return path


@pytest.fixture(scope="module")
def trained(speech_lm, tmp_path_factory):
    """A model that knows its longest crop."""
    path = tmp_path_factory.mktemp("trained") / "lm"
    own = SpeechLM(speech_lm.model, replace(speech_lm.info, trained_tokens=20), speech_lm.durations)
    with new_artifact(path, "lm", config={}, seed=0, parents={}, metrics={}) as folder:
        own.write_payload(folder)
    return path


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


def slow_windows(speech_lm, tokens, context):
    """Unit by unit: each behind the units of its window, which begins half a context before the first new one."""
    found = list(slow_log_probs(speech_lm, tokens[:context]))
    while len(found) < len(tokens):
        first = len(found) - context // 2
        found += list(slow_log_probs(speech_lm, tokens[first : first + context])[context // 2 :])
    return np.array(found)


@given(st.integers(0, 200), st.integers(2, 40))
def test_every_unit_is_scored_once_behind_half_a_context(length, context):
    windows = score_windows(length, context)
    assert [unit for _, last, new in windows for unit in range(new, last)] == list(range(length))
    for first, last, new in windows:
        assert last - first <= context and (first == 0 or new - first == context // 2) and last > new


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

    def test_equal_neighbours_count_once(self, speech_lm):
        """As in training: what a tokenizer leaves unmerged must not look like another language."""
        twice = Segmentation.from_boundaries([0, 2, 4, 9], unit=[3, 3, 5])
        once = Segmentation.from_boundaries([0, 4, 9], unit=[3, 5])
        assert speech_lm.score(twice) == speech_lm.score(once)

    def test_given_tokens_do_not_count(self, speech_lm, recordings):
        info = TokenInfo(30, loss_from=10)
        store = TokenStore.from_segmentations(recordings[:5], info)
        total = speech_lm.evaluate(store)
        assert total.tokens == int((store.tokens >= 10).sum())

    def test_bad_input(self, speech_lm, recordings):
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
            alone = speech_lm._continue([row], 200, Sampler(Sampling(seed=9), [i]), speech_lm.durations)[0]
            assert units(together[i]).tolist() == alone

    def test_with_seeds_of_their_own_prompts_do_not_depend_on_their_places(self, speech_lm, recordings):
        prompts = [cut(seg, n) for (_, seg), n in zip(recordings, (5, 1, 3), strict=False)]
        small = SpeechLM(speech_lm.model, speech_lm.info, speech_lm.durations, batch_tokens=150)
        for lm in (speech_lm, small):
            together = lm.generate(prompts, 4.0, seeds=[9, 9, 4])
            assert together == [lm.generate(p, 4.0, seed=s) for p, s in zip(prompts, (9, 9, 4), strict=True)]
        with pytest.raises(InputError, match="3 prompts need as many seeds, not 2"):
            speech_lm.generate(prompts, 4.0, seeds=[1, 2])

    def test_batches_of_any_size_draw_the_same(self, speech_lm, recordings):
        prompts = [cut(seg, n) for (_, seg), n in zip(recordings, (5, 1, 3, 4, 2), strict=False)]
        small = SpeechLM(speech_lm.model, speech_lm.info, speech_lm.durations, batch_tokens=150)
        assert small.generate(prompts, 4.0, seed=9) == speech_lm.generate(prompts, 4.0, seed=9)

    def test_a_long_prompt_takes_no_places_from_a_short_one(self, speech_lm):
        # Unit 0 is long, unit 1 is short: the long prompt is done at once, the short one needs more steps than there
        # are places left beside the long one.
        durations = np.where(np.arange(30) == 0, 100, 1).astype(np.int32)
        own = SpeechLM(speech_lm.model, speech_lm.info, durations)
        long, short = ([own.info.bos, *[3] * count] for count in (120, 2))

        def scripted(logits, rows, seen):
            assert len(logits) == len(rows) == len(seen)
            return torch.tensor([0 if row == 0 else 1 for row in rows])

        drawn = own._continue([long, short], 40, scripted, own.durations)  # type: ignore[arg-type]
        assert drawn == [[0], [1] * 40]

    def test_a_number_of_units(self, speech_lm, recordings):
        prompts = [cut(seg, n) for (_, seg), n in zip(recordings, (5, 1, 3), strict=False)]
        options = {"units": 25, "top_k": 5, "repetition_penalty": 1.5}
        together = speech_lm.generate(prompts, seeds=[9, 9, 4], **options)
        for drawn in together:
            assert len(drawn) == 25
            np.testing.assert_array_equal(drawn.end - drawn.start, speech_lm.durations[drawn.unit])
        alone = [speech_lm.generate(p, seed=s, **options) for p, s in zip(prompts, (9, 9, 4), strict=True)]
        assert alone == together
        # The same random numbers, fewer of the units that were there.
        free = speech_lm.generate(prompts, seeds=[9, 9, 4], units=25, top_k=5)
        assert sum(len(set(units(one).tolist())) for one in together) > sum(
            len(set(units(one).tolist())) for one in free
        )
        with pytest.raises(InputError, match="units 0: must be above 0"):
            speech_lm.generate(prompts, units=0)

    def test_an_empty_prompt_starts_from_nothing(self, speech_lm):
        empty = Segmentation.from_boundaries([], unit=[])
        assert speech_lm.generate(empty, 2.0).duration == pytest.approx(2.0)

    @pytest.mark.parametrize("context", [2, 16])
    def test_beyond_the_context_the_younger_half_is_read_anew(self, speech_lm, recordings, context):
        own = SpeechLM(speech_lm.model, speech_lm.info, speech_lm.durations, context=context)
        prompt = cut(recordings[0][1], 1)
        drawn = units(own.generate(prompt, 15.0, temperature=0)).tolist()
        assert len(drawn) > 50
        window = [own.info.bos, *units(prompt).tolist()]
        for unit in drawn:
            with torch.inference_mode():
                logits = speech_lm.model(torch.tensor([window])).logits[0, -1, : own.info.num_tokens]
            assert int(logits.argmax()) == unit
            window.append(unit)
            if len(window) > context:
                window = [own.info.bos, *window[-(context // 2) :]]

    @pytest.mark.parametrize(("context", "batch_tokens"), [(2, 8192), (16, 60), (16, 8192)])
    def test_beyond_the_context_neighbours_change_nothing(self, speech_lm, recordings, context, batch_tokens):
        # Unit 29 is as long as the whole, so that sequences end at other times.
        durations = np.where(np.arange(30) == 29, 750, speech_lm.durations).astype(np.int32)
        own = SpeechLM(speech_lm.model, speech_lm.info, durations, context=context, batch_tokens=batch_tokens)
        lengths = [min(n, context - 1) for n in (5, 1, 13, 4, 15, 2, 9)]
        prompts = [cut(seg, n) for (_, seg), n in zip([r for r in recordings if len(r[1]) > 20], lengths, strict=False)]
        seeds = [3, 1, 4, 1, 5, 9, 2]
        together = own.generate(prompts, 15.0, temperature=0.9, seeds=seeds)
        for found, prompt, seed in zip(together, prompts, seeds, strict=True):
            assert found == own.generate(prompt, 15.0, temperature=0.9, seed=seed)
        assert len({len(found) for found in together}) > 3

    def test_a_prompt_that_does_not_fit_the_context_is_refused_before_anything_is_drawn(self, speech_lm, recordings):
        full = Segmentation.from_boundaries(np.arange(129), unit=np.arange(128) % 2)
        own = SpeechLM(speech_lm.model, speech_lm.info, speech_lm.durations, batch_tokens=1)
        own.decoder = lambda batch, capacity: pytest.fail("drawn")  # type: ignore[method-assign]
        with pytest.raises(
            InputError, match=r"segmentation 1: 128 units, .* context holds 127; shorten it \(--prompt-seconds\)$"
        ):
            own.generate([cut(recordings[0][1], 3), full], 1.0)
        assert speech_lm.generate(cut(full, 127), 1.0).duration == pytest.approx(1.0)
        with pytest.raises(InputError, match="seconds"):
            speech_lm.generate(cut(recordings[0][1], 3), 0.0)


class TestContext:
    """What was never trained is not used unasked."""

    def test_is_the_longest_crop_of_training_where_that_is_known(self, trained, folder):
        assert SpeechLM.load(trained, device="cpu").context == 20
        assert SpeechLM.load(trained, device="cpu", context=90).context == 90
        assert SpeechLM.load(folder, device="cpu").context == 128
        assert json.loads((folder / "tokens.json").read_text())["trained_tokens"] == 0

    @pytest.mark.parametrize("context", [-1, 0, 1, 129])
    def test_out_of_range(self, trained, context):
        with pytest.raises(InputError, match=f"^context {context}: choose 2 to 128"):
            SpeechLM.load(trained, device="cpu", context=context)

    def test_longer_ones_are_scored_in_windows_that_overlap_by_half(self, trained, speech_lm, recordings, store):
        short, seg = SpeechLM.load(trained, device="cpu"), next(seg for _, seg in recordings if len(seg) > 40)
        assert short.score(cut(seg, 20)) == speech_lm.score(cut(seg, 20))
        slow = slow_windows(speech_lm, units(seg), 20)
        assert short.score(seg, "sum") == pytest.approx(slow.sum(), abs=1e-4)
        np.testing.assert_allclose(short.log_probs([cut(seg, 21), seg])[1], slow, atol=1e-4)
        found = short.evaluate(store)
        rows = [store[i][0] for i in range(len(store))]
        assert found.nats == pytest.approx(-sum(slow_windows(speech_lm, row, 20).sum() for row in rows), rel=1e-5)
        assert abs(found.nats - speech_lm.evaluate(store).nats) > 1

    def test_long_prompts_are_refused(self, trained, recordings):
        short, seg = SpeechLM.load(trained, device="cpu"), next(seg for _, seg in recordings if len(seg) > 40)
        assert len(short.generate(cut(seg, 19), 1.0)) > 0
        with pytest.raises(InputError, match=r"20 units, .* holds 19; shorten it .*, or give a context of up to 128$"):
            short.generate(cut(seg, 20), 1.0)


def test_held_out_recordings_are_scored_together(speech_lm, store, monkeypatch):
    """Batches of many recordings' pieces, and no more of them in memory than the batches hold."""
    calls = []
    score = SpeechLM._score_tokens
    monkeypatch.setattr(SpeechLM, "_score_tokens", lambda self, rows: (calls.append(rows), score(self, rows))[1])
    whole = speech_lm.evaluate(store)
    assert [len(rows) for rows in calls] == [len(store)]
    calls.clear()
    small = SpeechLM(speech_lm.model, speech_lm.info, speech_lm.durations, batch_tokens=20).evaluate(store)
    assert len(calls) > 3 and sum(map(len, calls)) == len(store)
    assert max(sum(map(len, rows)) for rows in calls) < 32 * 20 + 90
    assert small.nats == pytest.approx(whole.nats, rel=1e-6) and small.tokens == whole.tokens
    assert small.seconds == pytest.approx(store.seconds)


class TestPrecision:
    """Half precision moves scores a little, and nothing else."""

    def test_scores_within_hundredths_of_a_nat(self, speech_lm, recordings, folder):
        segs = [seg for _, seg in recordings[:40]]
        half = SpeechLM.load(folder, device="cpu", precision="bfloat16")
        assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
        whole, found = np.array(speech_lm.score(segs)), np.array(half.score(segs))
        assert 0 < np.abs(found - whole).max() < 0.05
        assert np.abs(found - whole).mean() < 0.01

    def test_cached_decoding_is_that_of_the_whole_sequence(self, recordings, folder):
        half = SpeechLM.load(folder, device="cpu", precision="bfloat16")
        row = [half.info.bos, *units(cut(recordings[0][1], 5)).tolist()]
        decoder = half.decoder(1, len(row))
        logits = [decoder.prefill([row[:2]]), *(decoder.step(torch.tensor([token])) for token in row[2:])]
        with torch.inference_mode():
            whole = half.model(torch.tensor([row])).logits[0, 1:]
        torch.testing.assert_close(torch.cat(logits), whole, atol=0.1, rtol=0.05)
        first, again = (half.generate(cut(recordings[0][1], 3), 5.0, seed=2) for _ in range(2))
        assert first == again and first.duration == pytest.approx(5.0)

    def test_names(self, folder):
        assert SpeechLM.load(folder, device="cpu", precision="auto").model.dtype == torch.float32
        with pytest.raises(InputError, match="choose auto, float32, bfloat16, int8"):
            SpeechLM.load(folder, device="cpu", precision="int4")  # type: ignore[arg-type]

    def test_eight_bits_generate_much_the_same_and_score_the_same(self, speech_lm, recordings, folder):
        eight = SpeechLM.load(folder, device="cpu", precision="int8")
        segs = [seg for _, seg in recordings[:4]]
        assert eight.score(segs) == speech_lm.score(segs)
        row = [eight.info.bos, *units(cut(recordings[0][1], 5)).tolist()]
        exact, found = (lm.decoder(1, len(row)).prefill([row]).log_softmax(-1) for lm in (speech_lm, eight))
        assert 0 < float((exact - found).abs().max()) < 0.3
        prompts = [cut(seg, n) for (_, seg), n in zip(recordings, (5, 1, 3), strict=False)]
        together = eight.generate(prompts, 4.0, seeds=[9, 9, 4])
        assert together == [eight.generate(p, 4.0, seed=s) for p, s in zip(prompts, (9, 9, 4), strict=True)]


def test_the_fused_weights_are_made_once(speech_lm, recordings, monkeypatch):
    made = []
    monkeypatch.setattr(
        "syllablelm.lm.speech_lm.make_stepper", lambda model, **_: (made.append(model), make_stepper(model))[1]
    )
    own = SpeechLM(speech_lm.model, speech_lm.info, speech_lm.durations)
    own.score(recordings[0][1])
    assert made == []
    for seconds in (1.0, 2.0):
        own.generate(cut(recordings[0][1], 3), seconds)
    assert made == [speech_lm.model]


def test_typical_durations_are_means():
    store = TokenStore.from_arrays([np.array([0, 1, 0])], [np.array([4, 9, 7])], TokenInfo(3))
    assert typical_durations(store).tolist() == [6, 9, 7]


def test_a_model_of_another_vocabulary_is_refused(speech_lm):
    with pytest.raises(FormatError, match="does not fit 12 units"):
        SpeechLM(speech_lm.model, TokenInfo(12), np.ones(12, dtype=np.int32))


def test_no_such_model():
    with pytest.raises(FormatError, match="nowhere: no such model; give a folder"):
        SpeechLM.load("nowhere")
