"""Streams with a lookahead: final, gapless, on time, in bounded memory, whatever the blocks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.loudness import Loudness
from helpers.random_encoders import make_encoder
from helpers.random_models import noise, small_predictor
from syllablelm import Segmentation, Tokenizer
from syllablelm.core.errors import AudioError, InputError
from syllablelm.encoders.hub import HubEncoder
from syllablelm.quantize import Codebook
from syllablelm.tokenizer.lookahead import LiveSegmenter, Lookahead
from syllablelm.tokenizer.segment_rule import SegmentRule

SAMPLE_RATE, HOP = 16_000, 320
SPEECH = noise(7 * SAMPLE_RATE + 123, seed=3) * np.where(np.arange(7 * SAMPLE_RATE + 123) // 3000 % 2, 0.1, 1.0)
SPEECH = SPEECH.astype(np.float32)
WITH_PAUSES = SPEECH * np.where(np.arange(len(SPEECH)) // SAMPLE_RATE % 2, 0.001, 1.0).astype(np.float32)
GAPLESS = {
    "minsum": SegmentRule(rate=5.0),
    "peaks": SegmentRule("peaks", rate=5.0),
    "released": SegmentRule("released", delta=0.01, min_length=3, max_length=35),
    "frames": SegmentRule("frames", drop_edges=False),
    "merged": SegmentRule(rate=8.0, merge=True),
}
GAPS = {"sylber": SegmentRule("sylber-relative"), "sdhubert": SegmentRule("sdhubert-relative", merge=True)}
SETTINGS: Any = {"lookahead": 0.5, "context_seconds": 2.0, "hop_seconds": 0.1}


@pytest.fixture(scope="module")
def encoder() -> HubEncoder:
    return small_predictor().encoder


def tokenizer(encoder: Any, rule: SegmentRule, units: int = 20) -> Tokenizer:
    centres = np.random.default_rng(0).standard_normal((units, encoder.dim)).astype(np.float32)
    return Tokenizer(encoder, Codebook(centres, np.arange(units, dtype=np.int32)), rule, window_seconds=3.0)


def blocks_of(wave: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    first, number = 0, 0
    while first < len(wave):
        yield wave[first : first + sizes[number % len(sizes)]]
        first, number = first + sizes[number % len(sizes)], number + 1


def stream(tok: Tokenizer, wave: np.ndarray, sizes: list[int] | None = None, **options: Any) -> Segmentation:
    return Segmentation.join(tok.stream(blocks_of(wave, sizes or [1600]), **{**SETTINGS, **options}))


@pytest.mark.parametrize("rule", [*GAPLESS, *GAPS])
def test_blocks_of_any_size(rule):
    tok, wave = tokenizer(Loudness(), (GAPLESS | GAPS)[rule]), WITH_PAUSES if rule in GAPS else SPEECH
    once = stream(tok, wave)
    assert once.num_frames == tok.encoder.num_frames(len(wave)) and len(once) > 5

    @settings(max_examples=5)
    @given(st.lists(st.integers(37, 50_000), min_size=1, max_size=4))
    def check(sizes: list[int]) -> None:
        assert stream(tok, wave, sizes) == once

    check()


@pytest.mark.parametrize("rule", GAPLESS)
def test_segments_cover_the_recording(encoder, rule):
    found = stream(tokenizer(encoder, GAPLESS[rule]), SPEECH)
    assert found.start[0] == 0 and found.end[-1] == found.num_frames == encoder.num_frames(len(SPEECH))
    assert (found.start[1:] == found.end[:-1]).all()


@pytest.mark.parametrize("rule", ["minsum", "peaks", "sylber"])
def test_segments_are_never_revised(rule):
    # What has appeared does not depend on what follows: a recording that goes on differently keeps its segments.
    tok, cut = tokenizer(Loudness(), (GAPLESS | GAPS)[rule]), 4 * SAMPLE_RATE
    before: list[tuple[int, int, int]] = []
    for ending in (SPEECH[cut:], WITH_PAUSES[: len(SPEECH) - cut], np.zeros(SAMPLE_RATE, dtype=np.float32)):
        pieces = tok.stream(blocks_of(np.concatenate([SPEECH[:cut], ending]), [1600]), **SETTINGS)
        known = [row for piece in pieces for row in zip(piece.start, piece.end, np.asarray(piece.unit), strict=True)]
        known = [row for row in known if row[1] * HOP <= cut - SETTINGS["lookahead"] * SAMPLE_RATE]
        assert len(known) > 5 and known == (before or known)
        before = known


@pytest.mark.parametrize(("lookahead", "hop"), [(0.5, 0.1), (1.0, 0.2), (0.3, 0.3), (0.06, 0.02)])
@pytest.mark.parametrize("rule", ["minsum", "released", "sylber"])
def test_latency_is_kept_and_used(rule, lookahead, hop):
    tok, heard, worst = tokenizer(Loudness(), (GAPLESS | GAPS)[rule]), 0, 0.0

    def live() -> Iterator[np.ndarray]:
        nonlocal heard
        for block in blocks_of(WITH_PAUSES, [40]):
            heard += len(block)
            yield block

    for piece in tok.stream(live(), lookahead=lookahead, context_seconds=2.0, hop_seconds=hop):
        worst = max(worst, (heard - int(piece.end[0]) * HOP) / SAMPLE_RATE) if len(piece) else worst
    assert lookahead - min(hop, lookahead / 2) - 0.03 < worst <= lookahead + 40 / SAMPLE_RATE


def test_frames_with_enough_context_are_those_of_the_whole():
    # A frame of this encoder depends on 12 others on either side, so 0.3 s after it are context enough.
    tok = tokenizer(Loudness(), GAPLESS["frames"])
    assert stream(tok, SPEECH, lookahead=0.5, hop_seconds=0.1) == tok.encode(SPEECH)
    assert stream(tok, SPEECH, lookahead=0.1) != tok.encode(SPEECH)


@pytest.mark.parametrize("num_samples", [1, 399, 400, 3000, 6480])
def test_short_recordings_are_encoded_whole(encoder, num_samples):
    for rule in (GAPLESS["minsum"], GAPLESS["merged"]):
        tok = tokenizer(encoder, rule)
        assert stream(tok, SPEECH[:num_samples], [77]) == tok.encode(SPEECH[:num_samples])


@pytest.mark.parametrize("rule", [SegmentRule("frames", drop_edges=False), SegmentRule("penalty", delta=0.05)])
def test_an_encoder_of_limited_context_gives_the_segments_of_the_whole(rule):
    encoder: Any = make_encoder("whisper")
    encoder.limit_attention(8, 2)
    assert encoder.reach == 2 + 2 * 3
    tok = tokenizer(encoder, rule)
    wave = noise(6 * SAMPLE_RATE + 77, seed=5)
    whole = tok.encode([wave[: 3 * SAMPLE_RATE]])[0]
    found = stream(tok, wave[: 3 * SAMPLE_RATE], lookahead=0.5, context_seconds=1.0, hop_seconds=0.1)
    shared = (found.start[:, None] == whole.start).any(1) & (found.end[:, None] == whole.end).any(1)
    if rule.method == "frames":
        assert found == whole
    else:
        assert len(whole) > 10 and shared.mean() > 0.9


def test_silence(encoder):
    found = stream(tokenizer(encoder, GAPLESS["minsum"]), np.zeros(5 * SAMPLE_RATE, dtype=np.float32))
    assert found.end[-1] == found.num_frames == encoder.num_frames(5 * SAMPLE_RATE)
    quiet = stream(tokenizer(Loudness(), GAPS["sylber"]), np.zeros(5 * SAMPLE_RATE, dtype=np.float32))
    assert quiet.num_frames == found.num_frames


def test_memory_is_bounded():
    tok, block = tokenizer(Loudness(), GAPLESS["minsum"]), SPEECH[:SAMPLE_RATE]

    def peak(seconds: int) -> int:
        tracemalloc.start()
        for _ in tok.stream((block for _ in range(seconds)), **SETTINGS):
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)
    assert peak(40) < 1.2 * peak(10)


def test_a_segment_without_an_end_is_cut():
    plan = Lookahead(context=20, hop=5, right=5, memory=40)
    live = LiveSegmenter(plan, lambda features: np.array([[0, len(features)]], dtype=np.int32))
    ends = []
    for now in range(5, 205, 5):
        first = max(0, now - 20)
        stretch = live.push(np.ones((now - first, 2), dtype=np.float32), first, last=now == 200)
        ends += [] if stretch is None else (stretch.spans[:, 1] + stretch.first).tolist()
    assert ends[-1] == 200 and len(ends) > 5 and max(np.diff([0, *ends])) <= 25


def test_a_moved_boundary_is_final_once():
    found = iter([[0, 4, 10], [0, 6, 15], [0, 6, 13, 20]])
    plan = Lookahead(context=20, hop=5, right=5, memory=40)
    live = LiveSegmenter(plan, lambda _: np.lib.stride_tricks.sliding_window_view(np.array(next(found), np.int32), 2))
    parts = [live.push(np.ones((now, 2), dtype=np.float32), 0, last=now == 20) for now in (10, 15, 20)]
    spans = [part.spans + part.first for part in parts if part is not None]
    # 4 is final when 6 takes its place.
    assert np.concatenate(spans).tolist() == [[0, 4], [4, 13], [13, 20]]


@pytest.mark.parametrize(
    "options",
    [
        {"lookahead": 0.0},
        {"lookahead": 0.03},
        {"lookahead": 1.5},
        {"lookahead": float("nan")},
        {"context_seconds": 0.9},
        {"context_seconds": float("inf")},
        {"hop_seconds": 0.0},
        {"hop_seconds": float("nan")},
    ],
)
def test_unusable_seconds(options):
    with pytest.raises(InputError, match=r"^(lookahead|context_seconds|hop_seconds)"):
        stream(tokenizer(Loudness(), GAPLESS["minsum"]), SPEECH, **options)


def test_no_samples():
    with pytest.raises(AudioError, match="without a sample"):
        list(tokenizer(Loudness(), GAPLESS["minsum"]).stream([], **SETTINGS))
