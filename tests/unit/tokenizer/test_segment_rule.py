from __future__ import annotations

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.segment import minsum, minsum_dynamic
from syllablelm.segment.registry import METHODS, TOKENIZER_METHODS
from syllablelm.segment.segmenter import Clip, segment_clip, to_spans
from syllablelm.tokenizer.segment_rule import SegmentRule, change_rule


def features(num_frames: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    steps = np.repeat(rng.standard_normal((num_frames // 7 + 1, dim)), 7, axis=0)[:num_frames]
    return (steps + 0.1 * rng.standard_normal((num_frames, dim))).astype(np.float32)


def edges(spans: np.ndarray) -> list[int]:
    """Boundaries of segments without gaps."""
    assert spans.dtype == np.int32 and (spans[1:, 0] == spans[:-1, 1]).all()
    return [0, *spans[:, 1].tolist()]


class TestSpans:
    @pytest.mark.parametrize("num_frames", [1, 2, 60])
    def test_frames(self, num_frames):
        assert edges(SegmentRule("frames").spans(features(num_frames), 50.0)) == list(range(num_frames + 1))

    @pytest.mark.parametrize("method", TOKENIZER_METHODS)
    def test_every_method(self, method):
        feats = features(200)
        rule = SegmentRule(method, rate=5.0, max_length=20)
        spans = rule.spans(feats, 50.0)
        expected = segment_clip(
            method, Clip(200, 50.0, feats), 20, **{"max_length": 20, "min_length": 1, "delta": 0.0028}
        )
        np.testing.assert_array_equal(spans, to_spans(expected))
        assert METHODS[method].gaps or (spans[0, 0], spans[-1, 1]) == (0, 200)
        assert rule.spans(feats[:0], 50.0).shape == (0, 2)

    def test_rates_are_in_seconds_whatever_the_frame_rate(self):
        feats = features(200)
        rule = SegmentRule("minsum", rate=5.0)
        assert edges(rule.spans(feats, 50.0)) == minsum(feats, 20).tolist()
        assert edges(rule.spans(feats, 25.0)) == minsum(feats, 40).tolist()
        assert len(SegmentRule("peaks", rate=2.0).spans(feats, 25.0)) == 16

    def test_the_released_ceiling_is_in_seconds_too(self):
        noise = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
        rule = SegmentRule("released", delta=1e-9, min_length=1)
        found = rule.spans(noise, 50.0)
        assert edges(found) == minsum_dynamic(noise, 1e-9, min_length=1, max_length=50).tolist()
        # Noise takes all it may: 10 segments a second, one less than would pass.
        assert len(found) == 40
        assert len(rule.spans(noise, 25.0)) == 80
        assert len(rule.spans(noise, 5.0)) <= 200

    def test_the_earlier_name_of_minsum(self):
        assert SegmentRule("rate") == SegmentRule("minsum") == SegmentRule()
        assert SegmentRule("rate").method == "minsum"
        with pytest.raises(InputError, match="unknown rule 'mel': choose one of even, frames, similarity, minsum"):
            SegmentRule("mel")


class TestChange:
    own = SegmentRule("released", delta=0.003, merge=True)

    def test_nothing(self):
        assert change_rule(self.own, None, None, None) == self.own

    def test_a_rate_alone_means_minsum(self):
        for method in ("released", "frames"):
            changed = change_rule(SegmentRule(method, merge=True), 4, None, None)
            assert changed == SegmentRule("minsum", rate=4.0, merge=True)
        assert change_rule(SegmentRule("peaks"), 4, None, None) == SegmentRule("peaks", rate=4.0)

    def test_delta(self):
        assert change_rule(self.own, None, None, 0.1).delta == 0.1
        assert change_rule(SegmentRule("rate"), None, "released", 0.1) == SegmentRule("released", delta=0.1)

    @pytest.mark.parametrize(
        ("method", "rate", "delta", "match"),
        [
            ("fast", None, None, "unknown rule 'fast': .*choose one of even, frames"),
            (None, 0, None, "rate 0: must be above 0, and finite"),
            (None, None, float("inf"), "delta inf: must be above 0, and finite"),
            ("frames", 5.0, None, "the rule 'frames' has no rate; leave it out"),
            ("released", 5.0, None, "the rule 'released' has no rate; leave it out, or choose one of even, similarity"),
            ("peaks", None, 0.1, "the rule 'peaks' has no delta"),
            (None, 5.0, 0.1, "the rule 'minsum' has no delta"),
        ],
    )
    def test_unusable(self, method, rate, delta, match):
        with pytest.raises(InputError, match=match):
            change_rule(self.own, rate, method, delta)
