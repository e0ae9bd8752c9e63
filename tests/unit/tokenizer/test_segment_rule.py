from __future__ import annotations

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.segment import minsum, minsum_dynamic
from syllablelm.tokenizer.segment_rule import SegmentRule, change_rule


def features(num_frames: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    steps = np.repeat(rng.standard_normal((num_frames // 7 + 1, dim)), 7, axis=0)[:num_frames]
    return (steps + 0.1 * rng.standard_normal((num_frames, dim))).astype(np.float32)


class TestBoundaries:
    @pytest.mark.parametrize("num_frames", [1, 2, 60])
    def test_frames(self, num_frames):
        cuts = SegmentRule("frames").boundaries(features(num_frames), 50.0)
        assert cuts.dtype == np.int32 and cuts.tolist() == list(range(num_frames + 1))

    def test_rates_are_in_seconds_whatever_the_frame_rate(self):
        feats = features(200)
        rule = SegmentRule("rate", rate=5.0)
        assert rule.boundaries(feats, 50.0).tolist() == minsum(feats, 20).tolist()
        assert rule.boundaries(feats, 25.0).tolist() == minsum(feats, 40).tolist()
        assert len(SegmentRule("peaks", rate=2.0).boundaries(feats, 25.0)) - 1 == 16

    def test_the_released_ceiling_is_in_seconds_too(self):
        noise = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
        rule = SegmentRule("released", delta=1e-9, min_length=1)
        found = rule.boundaries(noise, 50.0)
        assert found.tolist() == minsum_dynamic(noise, 1e-9, min_length=1, max_length=50).tolist()
        # Noise takes all it may: 10 segments a second, one less than would pass.
        assert len(found) - 1 == 40
        assert len(rule.boundaries(noise, 25.0)) - 1 == 80
        assert len(rule.boundaries(noise, 5.0)) - 1 <= 200


class TestChange:
    own = SegmentRule("released", delta=0.003, merge=True)

    def test_nothing(self):
        assert change_rule(self.own, None, None, None) == self.own

    def test_a_rate_alone_means_minsum(self):
        for method in ("released", "frames"):
            changed = change_rule(SegmentRule(method, merge=True), 4, None, None)
            assert changed == SegmentRule("rate", rate=4.0, merge=True)
        assert change_rule(SegmentRule("peaks"), 4, None, None) == SegmentRule("peaks", rate=4.0)

    def test_delta(self):
        assert change_rule(self.own, None, None, 0.1).delta == 0.1
        assert change_rule(SegmentRule("rate"), None, "released", 0.1) == SegmentRule("released", delta=0.1)

    @pytest.mark.parametrize(
        ("method", "rate", "delta", "match"),
        [
            ("fast", None, None, "rule 'fast': choose one of rate, peaks, released, frames"),
            (None, 0, None, "rate 0: groups per second must be above 0"),
            (None, None, float("inf"), "delta inf: the threshold must be above 0 and finite"),
            ("frames", 5.0, None, "the rule 'frames' has no rate; leave it out"),
            ("released", 5.0, None, "the rule 'released' has no rate"),
            ("peaks", None, 0.1, "the rule 'peaks' has no delta"),
            (None, 5.0, 0.1, "the rule 'rate' has no delta"),
        ],
    )
    def test_unusable(self, method, rate, delta, match):
        with pytest.raises(InputError, match=match):
            change_rule(self.own, rate, method, delta)
