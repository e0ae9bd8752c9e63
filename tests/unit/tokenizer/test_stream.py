"""Recordings longer than a window: whole, in blocks of any size, in batches, and in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.loudness import Loudness
from helpers.random_models import SHAPE, noise, small_predictor
from syllablelm import Segmentation, Tokenizer
from syllablelm.core.errors import AudioError, InputError
from syllablelm.encoders.hub import HubEncoder
from syllablelm.quantize import Codebook
from syllablelm.tokenizer.segment_rule import SegmentRule

SAMPLE_RATE = 16_000
LONG = noise(7 * SAMPLE_RATE + 123, seed=3)
# Every second second is almost silent.
WITH_PAUSES = LONG * np.where(np.arange(len(LONG)) // SAMPLE_RATE % 2, 0.001, 1.0).astype(np.float32)
RULES = {
    "rate": SegmentRule(rate=5.0),
    "peaks": SegmentRule("peaks", rate=5.0),
    "released": SegmentRule("released", delta=0.01, min_length=3, max_length=35),
    "merge": SegmentRule(rate=8.0, merge=True),
    "frames": SegmentRule("frames", drop_edges=False, merge=True),
    "even": SegmentRule("even", rate=5.0),
    "similarity": SegmentRule("similarity", rate=5.0),
    "zerosyl": SegmentRule("zerosyl", merge=True),
}
# Their segments leave out what they take for silence.
RULES_WITH_GAPS = {name: SegmentRule(name, merge=True) for name in ("sdhubert-relative", "sylber-relative")}


@pytest.fixture(scope="module")
def encoder() -> HubEncoder:
    return small_predictor().encoder


def codebook(dim: int = 32, units: int = 20) -> Codebook:
    centres = np.random.default_rng(0).standard_normal((2 * units, dim)).astype(np.float32)
    return Codebook(centres, np.arange(2 * units, dtype=np.int32) % units)


def tokenizer(encoder: Any, rule: SegmentRule | None = None, *, units: int = 20, **options: Any) -> Tokenizer:
    return Tokenizer(encoder, codebook(encoder.dim, units), rule or RULES["rate"], **{"window_seconds": 2.0, **options})


def blocks_of(wave: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    """Blocks of these sizes, over and over."""
    first, number = 0, 0
    while first < len(wave):
        yield wave[first : first + sizes[number % len(sizes)]]
        first, number = first + sizes[number % len(sizes)], number + 1


class TestStreamEqualsEncode:
    @pytest.mark.parametrize("rule", RULES)
    def test_any_blocks(self, encoder, rule):
        tok = tokenizer(encoder, RULES[rule], units=3)
        whole = tok.encode(LONG)

        @settings(max_examples=5)
        @given(st.lists(st.integers(1, 50_000), min_size=1, max_size=4))
        def check(sizes: list[int]) -> None:
            assert Segmentation.join(tok.stream(blocks_of(LONG, sizes))) == whole

        check()
        assert whole.num_frames == tok.encoder.num_frames(len(LONG)) == whole.end[-1]
        assert (whole.start[1:] == whole.end[:-1]).all()

    @pytest.mark.parametrize("rule", RULES_WITH_GAPS)
    def test_segments_with_gaps(self, encoder, rule):
        # Random weights give silence no smaller norms than speech, so the encoder measures loudness.
        wave = WITH_PAUSES
        tok = tokenizer(Loudness(), RULES_WITH_GAPS[rule], units=3)
        whole = tok.encode(wave)
        for sizes in ([16_000], [1234, 40_000], [len(wave)]):
            assert Segmentation.join(tok.stream(blocks_of(wave, sizes))) == whole
        assert tok.encode([wave[:20_000], wave, wave[5000:30_000]])[1] == whole
        assert whole.num_frames == tok.encoder.num_frames(len(wave))
        gaps = np.flatnonzero(whole.start[1:] > whole.end[:-1])
        pauses = [(whole.end[i] * 0.02, whole.start[i + 1] * 0.02) for i in gaps]
        # Pauses from 1 to 2 s, 3 to 4 s and 5 to 6 s; the second lies in the overlap of two windows.
        for number in (1, 3, 5):
            assert any(abs(begin - number) < 0.3 and abs(end - number - 1) < 0.3 for begin, end in pauses), pauses
        long = tokenizer(Loudness(), RULES_WITH_GAPS[rule], units=3, window_seconds=60.0).encode(wave)
        assert long.num_frames == whole.num_frames and abs(len(long) - len(whole)) <= 4

    def test_units_of_segments_with_gaps(self):
        tok = tokenizer(Loudness(), SegmentRule("sylber-relative"), window_seconds=60.0)
        (feats,) = tok.features([WITH_PAUSES])
        spans, seg = tok.spans(feats), tok.encode(WITH_PAUSES)
        assert spans.tolist() == np.stack([seg.start, seg.end], axis=1).tolist() and len(seg) < spans[-1, 1]
        assert seg.unit is not None and seg.unit.tolist() == codebook(2).assign(tok.pool(feats, spans)).tolist()

    @pytest.mark.parametrize("rule", ["rate", "frames"])
    def test_single_samples(self, encoder, rule):
        tok = tokenizer(encoder, RULES[rule])
        wave = LONG[: 3 * SAMPLE_RATE]
        assert Segmentation.join(tok.stream(blocks_of(wave, [1]))) == tok.encode(wave)

    @pytest.mark.parametrize("samples", [1, 399, 400, 31_999, 32_079, 32_080, 32_399, 32_400, 32_720, 64_000])
    def test_ends_anywhere(self, encoder, samples):
        tok = tokenizer(encoder)
        wave = LONG[:samples]
        pieces = list(tok.stream(blocks_of(wave, [777])))
        assert Segmentation.join(pieces) == tok.encode(wave)
        assert pieces[-1].num_frames == tok.encoder.num_frames(samples)

    def test_without_a_codebook(self, encoder):
        tok = Tokenizer(encoder, None, RULES["merge"], window_seconds=2.0)
        joined = Segmentation.join(tok.stream(blocks_of(LONG, [5000])))
        assert joined == tok.encode(LONG) and joined.unit is None

    def test_standardised_waveforms(self):
        torch.manual_seed(0)
        tok = tokenizer(HubEncoder(SHAPE.build(), normalize=True))
        assert Segmentation.join(tok.stream(blocks_of(LONG, [12_345]))) == tok.encode(LONG)


class TestPieces:
    def test_each_says_up_to_where_it_is_finished(self, encoder):
        for rule in RULES.values():
            tok = tokenizer(encoder, rule, units=2)
            pieces = list(tok.stream(blocks_of(LONG, [4000])))
            assert len(pieces) > 3
            place = 0
            for piece in pieces:
                assert len(piece) and piece.start[0] == place and piece.end[-1] == piece.num_frames
                place = piece.num_frames

    def test_equal_units_are_joined_across_seams(self, encoder):
        one = Codebook(np.ones((2, 32), dtype=np.float32), np.zeros(2, dtype=np.int32))
        tok = Tokenizer(encoder, one, RULES["merge"], window_seconds=2.0)
        seg = tok.encode(LONG)
        assert (seg.start.tolist(), seg.end.tolist()) == ([0], [seg.num_frames])
        assert [len(piece) for piece in tok.stream(blocks_of(LONG, [4000]))] == [1]
        for rule in ("merge", "frames"):
            seg = tokenizer(encoder, RULES[rule], units=2).encode(LONG)
            assert seg.unit is not None and len(seg) > 3 and (seg.unit[1:] != seg.unit[:-1]).all()

    @pytest.mark.parametrize("rule", ["rate", "peaks", "released"])
    @pytest.mark.parametrize("window", [1.0, 2.0, 3.3])
    def test_latency_is_kept_and_used(self, encoder, rule, window):
        tok = tokenizer(encoder, RULES[rule], window_seconds=window)
        seen, worst = 0, 0.0

        def live() -> Iterator[np.ndarray]:
            nonlocal seen
            for block in blocks_of(LONG, [160]):
                seen += len(block)
                yield block

        for piece in tok.stream(live()):
            worst = max(worst, (seen - int(piece.end[0]) * 320) / SAMPLE_RATE)
        assert tok.latency - 0.5 < worst <= tok.latency + 0.01
        assert tok.latency < tok.window_seconds

    def test_stated_latencies(self, encoder):
        assert tokenizer(encoder, window_seconds=60.0).latency == pytest.approx(57.5, abs=0.05)
        assert tokenizer(encoder, window_seconds=10.0).latency == pytest.approx(9.4, abs=0.05)


class TestWindows:
    def test_up_to_a_window_nothing_changes(self, encoder):
        for samples in (20_000, 32_080, 32_399):
            wave = LONG[:samples]
            assert tokenizer(encoder).encode(wave) == tokenizer(encoder, window_seconds=60.0).encode(wave)
        assert tokenizer(encoder).encode(LONG) != tokenizer(encoder, window_seconds=60.0).encode(LONG)

    def test_long_and_short_in_one_list_and_any_batch(self, encoder):
        waves = [LONG, noise(9000, 1), LONG[:50_000], noise(100, 2), noise(30_000, 3)]
        expected = [tokenizer(encoder).encode(wave) for wave in waves]
        for seconds in (0.01, 5.0, 1000.0):
            tok = tokenizer(encoder, batch_seconds=seconds)
            assert tok.encode(waves) == expected
            assert tok.encode(waves[::-1]) == expected[::-1]
        assert [len(feats) for feats in tokenizer(encoder).features(waves)] == [seg.num_frames for seg in expected]

    @pytest.mark.parametrize("rule", ["rate", "peaks"])
    def test_features_are_those_the_units_come_from(self, encoder, rule):
        tok = tokenizer(encoder, RULES[rule])
        (feats,), seg = tok.features([LONG]), tok.encode(LONG)
        assert feats.shape == (seg.num_frames, 32) and feats.dtype == np.float32
        units = codebook().assign(tok.pool(feats, np.stack([seg.start, seg.end], axis=1)))
        assert seg.unit is not None and seg.unit.tolist() == units.tolist()

    @pytest.mark.parametrize("samples", [100, 3 * SAMPLE_RATE, len(LONG)])
    @pytest.mark.parametrize("rule", list(RULES))
    def test_both_are_had_by_one_pass_of_the_encoder(self, encoder, rule, samples, monkeypatch):
        tok, wave = tokenizer(encoder, RULES[rule]), LONG[:samples]
        expected, (features,) = tok.encode(wave), tok.features([wave])
        passes, inner = [], tok.encoder.encode
        facts = {name: getattr(encoder, name) for name in ("num_frames", "hop", "sample_rate", "dim")}
        watched = SimpleNamespace(**facts, encode=lambda waves: passes.append(len(waves)) or inner(waves))
        monkeypatch.setattr(tok, "encoder", watched)
        segmentation, found = tok.encode_with_features(wave)
        assert segmentation == expected
        np.testing.assert_array_equal(found, features)
        once = sum(passes)
        in_blocks, same = tok.encode_with_features(iter(np.array_split(wave, 7)))
        assert in_blocks == expected
        np.testing.assert_array_equal(same, features)
        passes.clear()
        tok.encode(wave)
        assert once == sum(passes)

    def test_features_are_of_windows_with_context(self, encoder):
        tok = tokenizer(encoder)
        found = tok.features([LONG])[0]
        grid = tok.grid
        windows, first = [], 0
        while encoder.num_frames(len(LONG) - first * 320) > grid.num_frames:
            windows.append((first, encoder.encode([LONG[first * 320 :][: grid.num_samples]])[0]))
            first += grid.stride
        windows.append((first, encoder.encode([LONG[first * 320 :]])[0]))
        for frame, vector in enumerate(found):
            near = [
                np.abs(feats[frame - first] - vector).max()
                for first, feats in windows
                if first + (grid.margin if first else 0) <= frame < first + len(feats)
                and (first == windows[-1][0] or frame < first + len(feats) - grid.margin)
            ]
            assert min(near) < 1e-4

    def test_the_rate_is_kept(self, encoder):
        seg = tokenizer(encoder, SegmentRule(rate=5.0)).encode(LONG)
        assert abs(len(seg) - 35) <= 3

    def test_windows_of_one_block_share_batches(self):
        fake = Loudness()
        tok = tokenizer(fake, batch_seconds=4.0)
        wave = noise(10 * SAMPLE_RATE)
        list(tok.stream([wave]))
        assert [len(batch) for batch in fake.batches] == [2, 2, 2, 1]
        assert {size for batch in fake.batches[:-1] for size in batch} == {tok.grid.num_samples}
        fake.batches.clear()
        assert tok.encode(wave) == Segmentation.join(tok.stream(blocks_of(wave, [1000])))
        assert [len(batch) for batch in fake.batches] == [2, 2, 2, 1] + [1] * 7


class TestMemory:
    def test_half_an_hour_needs_what_two_minutes_need(self):
        block = noise(SAMPLE_RATE)

        def peak(seconds: int) -> int:
            tok = tokenizer(Loudness(), SegmentRule("peaks", rate=4.0), window_seconds=20.0)
            tracemalloc.start()
            count = sum(len(piece) for piece in tok.stream(block for _ in range(seconds)))
            size = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert count > seconds
            return size

        peak(30)
        short, long = peak(120), peak(1800)
        # The window's samples in the buffer, as a window, and what the encoder makes of it; the recording is 115 MB.
        assert long < 1.1 * short < 12 * 20 * SAMPLE_RATE * 4


class TestErrors:
    @pytest.mark.parametrize("blocks", [[], [np.zeros(0, dtype=np.float32)] * 3])
    def test_nothing(self, encoder, blocks):
        with pytest.raises(AudioError, match="the stream ended without a sample"):
            list(tokenizer(encoder).stream(blocks))

    def test_empty_blocks_between_others(self, encoder):
        tok, nothing = tokenizer(encoder), np.zeros(0, dtype=np.float32)
        pieces = tok.stream([nothing, LONG[:9000], nothing, nothing, LONG[9000:], nothing])
        assert Segmentation.join(pieces) == tok.encode(LONG)

    @pytest.mark.parametrize(
        ("bad", "error", "match"),
        [
            (np.array([0.0, np.nan], dtype=np.float32), AudioError, "block 2: has a NaN or infinite sample at 1"),
            (np.zeros((3, 100), dtype=np.float32), InputError, r"block 2: has shape \(3, 100\)"),
            (np.zeros(100, dtype=np.int64), InputError, "block 2: has int64 samples"),
            (0.5, InputError, r"block 2: has shape \(\)"),
            ("block", InputError, "block: is bytes or a file, not samples"),
            (b"\x00\x01", InputError, "block 2: is bytes or a file, not samples"),
        ],
    )
    def test_unusable_blocks_are_named(self, encoder, bad, error, match):
        with pytest.raises(error, match=match) as caught:
            list(tokenizer(encoder).stream([LONG[:100], LONG[100:200], bad]))
        assert "\n" not in str(caught.value)

    def test_pieces_before_a_bad_block_are_given(self, encoder):
        stream = tokenizer(encoder).stream([LONG, np.full(10, np.inf)])
        assert len(next(stream)) > 0
        with pytest.raises(AudioError, match="block 1"):
            list(stream)

    def test_one_array(self, encoder):
        with pytest.raises(InputError, match="encode takes a single array"):
            tokenizer(encoder).stream(LONG)

    def test_a_source_that_breaks(self, encoder):
        def broken() -> Iterator[np.ndarray]:
            yield LONG[:100]
            raise ConnectionError("gone")

        with pytest.raises(ConnectionError, match="gone"):
            list(tokenizer(encoder).stream(broken()))

    def test_windows_too_short(self, encoder):
        with pytest.raises(InputError, match=r"window_seconds 0\.5: must be at least 1 and finite"):
            tokenizer(encoder, window_seconds=0.5)
