"""Forced decoding: every syllable stands where it is due, and the time is full."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.decode import CachedDecoder, Sampling
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.lm.store import TokenInfo
from syllablelm.train.lm_stage import LMShape
from syllablelm.vocoder.interleave import StreamInfo, interleave
from syllablelm.vocoder.vocoder_lm import VocoderLM

STREAM = StreamInfo(syllables=8, acoustic=6)
SYLLABLES = Segmentation.from_boundaries([0, 12, 30, 41, 60], unit=[3, 1, 1, 7])


ENDED = StreamInfo(syllables=8, acoustic=6, interleaving="ella-v")
# Tokens of ENDED: P after the prefix, acoustic units from A on, E after a syllable, then the end and BOS.
P, A, E, BOS = 8, 9, 15, 17


def make(positions: int = 128, stream: StreamInfo = STREAM) -> VocoderLM:
    torch.manual_seed(0)
    model = LMShape(2, 32, 4, 64, positions, 0.0).build(stream.tokens.num_tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.3)
    durations = np.ones(stream.tokens.num_tokens, dtype=np.int32)
    durations[stream.first_acoustic : stream.first_acoustic + 6] = [2, 3, 4, 1, 2, 5]
    return VocoderLM(SpeechLM(model, stream.tokens, durations))


def reread(vocoder: VocoderLM, acoustic: Segmentation) -> list[int]:
    """The stream that the drawn units make with the given syllables (repeats unmerged)."""
    merged = SYLLABLES.deduplicate()
    events = [(max(int(b) * 320 - 1280, 0), 0, int(u)) for b, u in zip(merged.start, merged.unit, strict=True)]
    events += [(int(b) * 320, 1, int(u) + 8) for b, u in zip(acoustic.start, acoustic.unit, strict=True)]
    return [event[2] for event in sorted(events, key=lambda e: e[:2])]


def test_the_model_reads_the_stream_it_was_trained_on(monkeypatch):
    vocoder, read = make(), []
    step = CachedDecoder.step

    def noted(self, tokens):
        read.extend(tokens.tolist())
        return step(self, tokens)

    monkeypatch.setattr(CachedDecoder, "step", noted)
    acoustic = vocoder.decode(SYLLABLES, sampling=Sampling(seed=1))
    # All but the last token, which nothing follows.
    assert read == reread(vocoder, acoustic)[:-1]
    assert acoustic.num_frames == 60
    lengths = (acoustic.end - acoustic.start)[:-1]
    np.testing.assert_array_equal(lengths, vocoder.lm.durations[8:][acoustic.unit[:-1]])


def test_greedy_equals_reading_everything_anew_at_each_step():
    vocoder = make()
    acoustic = vocoder.decode(SYLLABLES, sampling=Sampling(0.0))
    stream = reread(vocoder, acoustic)
    for at, token in enumerate(stream):
        if token >= 8:
            with torch.inference_mode():
                logits = vocoder.lm.model(torch.tensor([[14, *stream[:at]]])).logits[0, -1]
            assert int(logits[8:14].argmax()) == token - 8


def random_syllables(rng: np.random.Generator, count: int) -> Segmentation:
    edges = np.concatenate([[0], np.cumsum(rng.integers(2, 25, count))])
    return Segmentation.from_boundaries(edges, unit=rng.integers(0, 8, count))


def random_batch(seed: int) -> tuple[list[Segmentation], list[Segmentation | None]]:
    """Sequences of other lengths, every other one with the beginning of its sound."""
    rng = np.random.default_rng(seed)
    segs = [random_syllables(rng, int(count)) for count in (9, 1, 17, 4, 30, 2)]
    prompts: list[Segmentation | None] = []
    for place, seg in enumerate(segs):
        end = int(rng.integers(1, seg.num_frames))
        edges = np.unique(np.concatenate([[0, end], rng.integers(0, end + 1, 4)]))
        prompt = Segmentation.from_boundaries(edges, unit=rng.integers(0, 6, len(edges) - 1))
        prompts.append(prompt if place % 2 == 0 else None)
    return segs, prompts


@pytest.mark.parametrize("stream", [STREAM, ENDED])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize(("positions", "batch_tokens"), [(256, 8192), (256, 300), (16, 8192)])
def test_many_at_once_are_each_alone(stream, temperature, positions, batch_tokens):
    vocoder = make(positions, stream)
    vocoder.lm.batch_tokens = batch_tokens
    segs, prompts = random_batch(3)
    sampling, seeds = Sampling(temperature, top_k=4), [5, 1, 5, 7, 2, 0]
    together = vocoder.decode_many(segs, prompts, sampling=sampling, seeds=seeds)
    for found, seg, prompt, seed in zip(together, segs, prompts, seeds, strict=True):
        assert found == vocoder.decode(seg, prompt=prompt, sampling=replace(sampling, seed=seed))
    same = vocoder.decode_many(segs, prompts, sampling=replace(sampling, seed=4))
    assert same[2] == vocoder.decode(segs[2], prompt=prompts[2], sampling=replace(sampling, seed=4))


def test_every_row_greedily_equals_reading_everything_anew():
    vocoder = make(256)
    segs, prompts = random_batch(4)
    for acoustic, seg, prompt in zip(
        vocoder.decode_many(segs, prompts, sampling=Sampling(0.0)), segs, prompts, strict=True
    ):
        merged = seg.deduplicate()
        due = [max(int(b) * 320 - 1280, 0) for b in merged.start]
        known = [] if prompt is None else vocoder._prompt_tokens(merged, prompt)[0].tolist()
        stream, at = [14, *known], 0 if prompt is None else prompt.num_frames
        waiting = [(t, u) for t, u in zip(due, merged.unit.tolist(), strict=True)][sum(t < 8 for t in known) :]
        drawn = []
        while at < seg.num_frames:
            while waiting and waiting[0][0] <= at * 320:
                stream.append(waiting.pop(0)[1])
            with torch.inference_mode():
                unit = int(vocoder.lm.model(torch.tensor([stream])).logits[0, -1, 8:14].argmax())
            stream.append(8 + unit)
            drawn.append(unit)
            at += int(vocoder.lm.durations[8 + unit])
        heard = 0 if prompt is None else len(prompt.deduplicate())
        assert acoustic.unit[heard:].tolist() == drawn


def edges_of(seg: Segmentation) -> list[int]:
    """First frame of each syllable in the order "ella-v", and the end."""
    return [0, *(max(-(-(int(b) * 320 - 1280) // 320), 0) for b in seg.start[1:]), seg.num_frames]


def draw_anew(vocoder: VocoderLM, seg: Segmentation, prompt: Segmentation | None) -> list[list[int]]:
    """Greedy acoustic units of each syllable, the whole stream read anew at each step."""
    merged, edges = seg.deduplicate(), edges_of(seg.deduplicate())
    known = [] if prompt is None else list(zip(prompt.deduplicate().start, prompt.deduplicate().unit, strict=True))
    heard = 0 if prompt is None else prompt.num_frames
    stream, groups = [BOS, *merged.unit.tolist(), P], []
    for syllable, begin, end in zip(merged.unit.tolist(), edges[:-1], edges[1:], strict=True):
        group = [int(unit) for start, unit in known if begin <= start < end]
        stream += [syllable, *(A + unit for unit in group)]
        for _ in range(max(0, end - max(begin, heard))):
            with torch.inference_mode():
                likely = vocoder.lm.model(torch.tensor([stream])).logits[0, -1, A : E + 1]
            choice = int(likely[: 7 if any(groups) or group else 6].argmax())
            if choice == 6:
                break
            group.append(choice)
            stream.append(A + choice)
        groups.append(group)
        stream.append(E)
    return groups


def test_ends_are_drawn_and_units_fill_the_syllables():
    vocoder = make(512, ENDED)
    # Ends are likelier than chance, so that syllables end by them and by their time.
    with torch.no_grad():
        vocoder.lm.model.lm_head.weight[E] *= 2
    segs, prompts = random_batch(4)
    full = ended = 0
    for acoustic, seg, prompt in zip(
        vocoder.decode_many(segs, prompts, sampling=Sampling(0.0)), segs, prompts, strict=True
    ):
        groups, edges = draw_anew(vocoder, seg, prompt), edges_of(seg.deduplicate())
        assert acoustic.unit.tolist() == [unit for group in groups for unit in group]
        assert (acoustic.start[0], acoustic.num_frames) == (0, seg.num_frames)
        owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        assert np.all(acoustic.start >= np.array(edges)[owners]) and np.all(
            acoustic.start < np.array(edges)[owners + 1]
        )
        lasts = [edges[i + 1] - edges[i] for i in range(len(groups))]
        full += sum(len(group) == last for group, last in zip(groups, lasts, strict=True))
        ended += sum(len(group) < last for group, last in zip(groups, lasts, strict=True))
    assert full > 5 and ended > 5


def test_units_are_stretched_by_their_typical_durations():
    vocoder = make(stream=ENDED)
    row = vocoder._row(Segmentation.from_boundaries([0, 24, 30], unit=[3, 1]), None, "input")
    for choice in (0, 1, 5, 6, 2, 6):  # of 2, 3 and 5 frames in the 20 of the first syllable, one in the other 10
        while row.take_due() is not None:
            pass
        row.take_drawn(choice)
    # One frame each, and of the other 17 those of 2, 3 and 5 tenths.
    assert row.acoustic_units().start.tolist() == [0, 1 + 3, 2 + 8, 20]


@pytest.mark.parametrize("positions", [8, 16, 40])
def test_sequences_longer_than_the_context_are_drawn_in_parts(positions, monkeypatch):
    vocoder, windows = make(positions, ENDED), []
    prefill = CachedDecoder.prefill

    def noted(self, prompts):
        windows.extend(list(prompt) for prompt in prompts)
        return prefill(self, prompts)

    monkeypatch.setattr(CachedDecoder, "prefill", noted)
    rng = np.random.default_rng(0)
    long = Segmentation.from_boundaries(np.arange(0, 1010, 10), unit=np.arange(100) % 8)
    prompt = Segmentation.from_boundaries(np.arange(0, 122, 2), unit=rng.permutation(61)[:60] % 6)
    acoustic = vocoder.decode(long, prompt=prompt, sampling=Sampling(seed=0))
    assert acoustic.num_frames == 1000
    heard = prompt.deduplicate()
    assert acoustic.unit[: len(heard)].tolist() == heard.unit.tolist()
    assert acoustic.start[: len(heard)].tolist() == heard.start.tolist()
    assert len(windows) > 5
    for window in windows:
        end = window.index(P)
        read = [token for token in window[end:] if token < P]
        # The prefix begins with the syllables that are read again, and goes on with new ones.
        assert window[0] == BOS and len(window) <= positions and window[1 : 1 + len(read)] == read
        assert 0 < end <= positions // 2
    # Parts follow each other: each ends with later syllables than the one before.
    assert windows[-1][windows[-1].index(P) - 1] == 99 % 8


def test_a_context_without_room_is_refused():
    lm = make(16, ENDED).lm
    lm.context = 7
    with pytest.raises(FormatError, match="context of 7 tokens is too short"):
        VocoderLM(lm)


@pytest.mark.parametrize("stream", [STREAM, ENDED])
def test_a_prompt_of_the_whole_time_is_returned(stream):
    prompt = Segmentation.from_boundaries([0, 5, 60], unit=[2, 0])
    assert make(stream=stream).decode(SYLLABLES, prompt=prompt) == prompt


def test_a_prompt_is_kept_and_continued():
    vocoder = make()
    prompt = Segmentation.from_boundaries([0, 5, 9, 22], unit=[2, 0, 5])
    acoustic = vocoder.decode(SYLLABLES, prompt=prompt, sampling=Sampling(seed=3))
    assert acoustic.unit[:3].tolist() == [2, 0, 5]
    assert acoustic.start[:4].tolist() == [0, 5, 9, 22]
    assert acoustic.num_frames == 60
    heard, _ = interleave(Segmentation(SYLLABLES.start[:2], SYLLABLES.end[:2], SYLLABLES.unit[:2], 60), prompt, STREAM)
    assert vocoder._prompt_tokens(SYLLABLES.deduplicate(), prompt)[0].tolist() == heard.tolist()


def test_repeats_by_seed():
    vocoder = make()
    assert vocoder.decode(SYLLABLES, sampling=Sampling(seed=1)) == vocoder.decode(SYLLABLES, sampling=Sampling(seed=1))
    assert vocoder.decode(SYLLABLES, sampling=Sampling(seed=1)) != vocoder.decode(SYLLABLES, sampling=Sampling(seed=2))


def test_streams_longer_than_the_context_are_spoken_to_the_end():
    vocoder = make(positions=16)
    rng = np.random.default_rng(0)
    long = Segmentation.from_boundaries(np.arange(0, 1010, 10), unit=rng.integers(0, 8, 100))
    acoustic = vocoder.decode(long, sampling=Sampling(seed=0))
    assert acoustic.num_frames == 1000
    assert len(acoustic) > 100


def test_acoustic_frames_of_another_length():
    stream = StreamInfo(8, 6, hop=640, syllable_hop=320)
    lm = make().lm
    acoustic = VocoderLM(SpeechLM(lm.model, stream.tokens, lm.durations)).decode(SYLLABLES)
    assert (acoustic.num_frames, acoustic.hop) == (30, 640)


def test_bad_input():
    vocoder = make()
    with pytest.raises(InputError, match="no syllable"):
        vocoder.decode(Segmentation.from_boundaries([], unit=[]))
    with pytest.raises(InputError, match="outside the vocabulary of 8"):
        vocoder.decode(Segmentation.from_boundaries([0, 3], unit=[9]))
    with pytest.raises(InputError, match="input 1: no syllable"):
        vocoder.decode_many([SYLLABLES, Segmentation.from_boundaries([], unit=[])])
    with pytest.raises(InputError, match="1 sequences need as many prompts and seeds, not 2 and 1"):
        vocoder.decode_many([SYLLABLES], [None, None])
    assert vocoder.decode_many([]) == []
    with pytest.raises(FormatError, match="plain units"):
        VocoderLM(SpeechLM(vocoder.lm.model, TokenInfo(14), vocoder.lm.durations))
