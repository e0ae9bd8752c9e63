from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.segment_oracles import all_cuts, released_rule, squared_error
from syllablelm.core.errors import InputError
from syllablelm.segment import feasible_count, kernels, minsum, minsum_dynamic, minsum_penalty, segment_costs
from syllablelm.segment.arrays import to_frames

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "segmentation_cases.json").read_text())["segmentation"]


def golden_features(case):
    levels = np.repeat(case["levels"], case["lens"])
    frame, dim = np.arange(len(levels))[:, None], np.arange(2)[None, :]
    return levels[:, None] * np.array([1.0, -0.5]) + 0.01 * np.sin(1.7 * frame + dim)


def random_features(seed, num_frames, num_dims=3):
    return np.random.default_rng(seed).standard_normal((num_frames, num_dims))


def stepwise(seed, lengths, num_dims=8, noise=0.05):
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((len(lengths), num_dims))
    return np.repeat(means, lengths, axis=0) + noise * rng.standard_normal((sum(lengths), num_dims))


class TestSegmentCosts:
    def test_equals_the_definition(self):
        features = random_features(0, 12) + 100.0
        costs = segment_costs(features, 5)
        assert costs.shape == (13, 6) and costs.dtype == np.float64
        for end, length in itertools.product(range(13), range(6)):
            if 1 <= length <= end:
                block = features[end - length : end]
                assert costs[end, length] == pytest.approx(((block - block.mean(0)) ** 2).sum(), abs=1e-10)
            else:
                assert costs[end, length] == np.inf

    @given(
        seed=st.integers(0, 1000),
        num_frames=st.integers(1, 150),
        num_dims=st.integers(1, 40),
        max_length=st.integers(1, 70),
        start=st.integers(0, 149),
        single=st.booleans(),
    )
    @settings(max_examples=40)
    def test_an_entry_depends_on_its_own_frames_only(self, seed, num_frames, num_dims, max_length, start, single):
        features = random_features(seed, num_frames, num_dims).astype(np.float32 if single else np.float64)
        start = min(start, num_frames - 1)
        whole, window = segment_costs(features, max_length), segment_costs(features[start:], max_length)
        for end in range(1, num_frames - start + 1):
            longest = min(end, max_length)
            np.testing.assert_array_equal(window[end, : longest + 1], whole[start + end, : longest + 1])

    def test_single_precision_loses_nothing(self):
        features = random_features(2, 90, 17).astype(np.float32)
        np.testing.assert_array_equal(segment_costs(features, 30), segment_costs(features.astype(np.float64), 30))

    def test_a_common_offset_costs_no_precision(self):
        features = random_features(1, 30)
        np.testing.assert_allclose(segment_costs(features + 2.0**20, 10), segment_costs(features, 10), rtol=1e-6)

    def test_constant_frames_cost_exactly_nothing(self):
        costs = segment_costs(np.full((20, 4), 0.1), 20)
        assert np.all(costs[np.isfinite(costs)] == 0.0)

    def test_max_length_beyond_the_recording(self):
        assert np.isinf(segment_costs(random_features(0, 3), 9)[3, 4:]).all()

    def test_rejects_zero_max_length(self):
        with pytest.raises(InputError, match="max_length"):
            segment_costs(random_features(0, 3), 0)


class TestFeasibleCount:
    @given(st.integers(1, 60), st.integers(-3, 80), st.integers(1, 6), st.integers(0, 20))
    def test_result_is_accepted_and_nearest(self, num_frames, wanted, min_length, extra):
        max_length = 2 * min_length - 1 + extra
        count = feasible_count(num_frames, wanted, min_length, max_length)
        assert minsum(np.zeros((num_frames, 1)), count, min_length=min_length, max_length=max_length).size == count + 1
        if count != wanted:
            closer = count + (1 if wanted > count else -1)
            with pytest.raises(InputError):
                minsum(np.zeros((num_frames, 1)), closer, min_length=min_length, max_length=max_length)

    def test_no_frames(self):
        assert feasible_count(0, 7) == 0

    def test_gap_between_the_limits(self):
        with pytest.raises(InputError, match="widen the limits"):
            feasible_count(7, 2, min_length=4, max_length=5)

    def test_unusable_limits(self):
        with pytest.raises(InputError, match="min_length <= max_length"):
            feasible_count(7, 2, min_length=4, max_length=3)


class TestPenalty:
    @given(
        seed=st.integers(0, 10_000),
        num_frames=st.integers(1, 12),
        penalty=st.floats(0.0, 5.0),
        limits=st.sampled_from([(1, 50), (1, 4), (2, 3), (3, 7)]),
    )
    @settings(max_examples=60)
    def test_no_cut_is_better(self, seed, num_frames, penalty, limits):
        features = random_features(seed, num_frames)

        def total(cut):
            return squared_error(features, cut) + (len(cut) - 1) * penalty * features.shape[1]

        least, most = limits
        found = minsum_penalty(features, penalty, min_length=least, max_length=most)
        lengths = np.diff(found)
        assert found.dtype == np.int32 and found[0] == 0 and found[-1] == num_frames
        assert (lengths <= most).all() and ((lengths >= least).all() or num_frames <= least)
        shortest = min(least, num_frames)
        cuts = [cut for count in range(1, num_frames + 1) for cut in all_cuts(num_frames, count, shortest, most)]
        assert total(found) == pytest.approx(min(map(total, cuts)), abs=1e-9)

    def test_it_is_minsum_of_the_count_that_it_chooses(self):
        features = stepwise(0, [7, 12, 5, 20, 9], noise=0.3)
        for penalty in (0.01, 0.5, 2.0, 50.0):
            found = minsum_penalty(features, penalty)
            np.testing.assert_array_equal(found, minsum(features, len(found) - 1))

    def test_what_comes_later_changes_nothing_far_before(self):
        features = stepwise(1, [9] * 20, noise=0.3)
        changed = features.copy()
        changed[120:] = random_features(5, 60, 8)
        whole, other = minsum_penalty(features, 1.0), minsum_penalty(changed, 1.0)
        np.testing.assert_array_equal(whole[whole < 90], other[other < 90])
        assert len(other) > len(whole) + 10

    def test_few_frames(self):
        assert minsum_penalty(np.zeros((0, 3)), 1.0).tolist() == [0]
        assert minsum_penalty(np.zeros((2, 3)), 1.0, min_length=3).tolist() == [0, 2]

    @pytest.mark.parametrize("penalty", [-1.0, float("nan"), float("inf")])
    def test_rejects(self, penalty):
        with pytest.raises(InputError, match="penalty"):
            minsum_penalty(random_features(0, 5), penalty)


class TestMinsum:
    @given(
        seed=st.integers(0, 1000),
        num_frames=st.integers(1, 10),
        count=st.integers(1, 10),
        min_length=st.integers(1, 3),
        max_length=st.integers(3, 10),
    )
    @settings(max_examples=150, deadline=None)
    def test_exact_optimum(self, seed, num_frames, count, min_length, max_length):
        features = random_features(seed, num_frames)
        cuts = list(all_cuts(num_frames, count, min(min_length, num_frames), max_length))
        if not cuts:
            with pytest.raises(InputError):
                minsum(features, count, min_length=min_length, max_length=max_length)
            return
        found = minsum(features, count, min_length=min_length, max_length=max_length)
        best = min(cuts, key=lambda edges: squared_error(features, edges))
        assert squared_error(features, found.tolist()) == pytest.approx(squared_error(features, best), abs=1e-9)
        assert found.tolist() in cuts

    @given(st.integers(0, 1000), st.integers(20, 90), st.data())
    @settings(max_examples=40, deadline=None)
    def test_shape_and_no_worse_than_random(self, seed, num_frames, data):
        features = random_features(seed, num_frames)
        count = data.draw(st.integers(-(-num_frames // 12), num_frames // 2))
        found = minsum(features, count, min_length=2, max_length=12)
        assert found.dtype == np.int32 and len(found) == count + 1
        assert found[0] == 0 and found[-1] == num_frames
        assert np.diff(found).min() >= 2 and np.diff(found).max() <= 12
        free = minsum(features, count, max_length=num_frames)
        rng = np.random.default_rng(seed)
        inner = np.sort(rng.choice(np.arange(1, num_frames), count - 1, replace=False))
        rival = squared_error(features, [0, *inner.tolist(), num_frames])
        assert squared_error(features, free.tolist()) <= rival + 1e-9

    @given(st.integers(0, 1000))
    @settings(max_examples=20, deadline=None)
    def test_cost_falls_with_every_segment(self, seed):
        features = random_features(seed, 25)
        values = [squared_error(features, minsum(features, k).tolist()) for k in range(1, 26)]
        assert all(b <= a + 1e-9 for a, b in itertools.pairwise(values))
        assert values[-1] == 0.0

    @given(st.integers(0, 1000))
    @settings(max_examples=20, deadline=None)
    def test_unmoved_by_translation_rotation_and_order_of_dimensions(self, seed):
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((40, 6))
        expected = minsum(features, 7)
        rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        np.testing.assert_array_equal(minsum(features + 10 * rng.standard_normal(6), 7), expected)
        np.testing.assert_array_equal(minsum(features @ rotation, 7), expected)
        np.testing.assert_array_equal(minsum(features[:, rng.permutation(6)], 7), expected)
        np.testing.assert_array_equal(minsum(3.0 * features, 7), expected)
        mirrored = 40 - minsum(features[::-1], 7)[::-1]
        np.testing.assert_array_equal(mirrored, expected)

    def test_finds_planted_segments(self):
        lengths = [5, 9, 3, 14, 7, 2, 10]
        np.testing.assert_array_equal(minsum(stepwise(0, lengths), 7), np.cumsum([0, *lengths]))

    def test_ties_go_to_the_shortest_last_segment(self):
        assert minsum(np.zeros((10, 2)), 3, max_length=6).tolist() == [0, 6, 9, 10]
        assert minsum(np.zeros((10, 2)), 3).tolist() == [0, 8, 9, 10]

    def test_shortest_recordings(self):
        assert minsum(np.zeros((0, 4)), 0).tolist() == [0]
        assert minsum(np.ones((1, 4)), 1).tolist() == [0, 1]
        assert minsum(np.ones((2, 4)), 2).tolist() == [0, 1, 2]
        assert minsum(np.array([[0.0], [0.0], [1.0]]), 2).tolist() == [0, 2, 3]
        assert minsum(np.ones((2, 4)), 1, min_length=3).tolist() == [0, 2]

    @pytest.mark.parametrize(("num_frames", "count"), [(0, 1), (1, 0), (3, 4), (101, 2)])
    def test_infeasible_counts_name_the_range(self, num_frames, count):
        with pytest.raises(InputError, match=r"ask for \d+ to \d+ segments"):
            minsum(np.zeros((num_frames, 2)), count)

    def test_padding_batching_and_lists_change_nothing(self):
        items = [stepwise(i, lengths) for i, lengths in enumerate([[8, 4, 9], [3, 3, 3, 20, 6], [5], [30, 2, 4]])]
        counts = [3, 6, 2, 4]
        alone = [minsum(item, count) for item, count in zip(items, counts, strict=True)]
        padded = np.full((4, 50, 8), np.nan)
        for row, item in zip(padded, items, strict=True):
            row[: len(item)] = item
        batch = minsum(padded, counts, lengths=[len(item) for item in items])
        assert isinstance(batch, list)
        for a, b, c in zip(alone, batch, minsum(items, counts), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)
        assert minsum(padded[0], 3, lengths=len(items[0])).tolist() == alone[0].tolist()
        assert [len(b) for b in minsum(items, 2)] == [3, 3, 3, 3]

    def test_costs_of_a_window_equal_those_in_the_whole(self):
        features = random_features(5, 60)
        whole, window = segment_costs(features, 10), segment_costs(features[20:40], 10)
        for end in range(10, 21):
            np.testing.assert_array_equal(window[end], whole[20 + end])

    def test_tensors_and_single_precision(self):
        torch = pytest.importorskip("torch")
        features = stepwise(3, [6, 7, 8, 9]).astype(np.float32)
        expected = minsum(features, 4)
        tensor = torch.from_numpy(features).requires_grad_()
        np.testing.assert_array_equal(minsum(tensor, 4), expected)
        np.testing.assert_array_equal(minsum(tensor.detach().to(torch.bfloat16), 4), expected)
        batch = minsum(tensor.detach()[None], torch.tensor([4]), lengths=torch.tensor([30]))
        np.testing.assert_array_equal(batch[0], expected)

    def test_features_are_not_copied(self):
        torch = pytest.importorskip("torch")
        for dtype in (np.float32, np.float64):
            features = random_features(0, 20).astype(dtype)
            assert np.shares_memory(to_frames(features, "features"), features)
            assert np.shares_memory(to_frames(torch.from_numpy(features), "features"), features)
        read_only = random_features(0, 20).astype(np.float32)
        read_only.setflags(write=False)
        assert minsum(read_only, 4).tolist() == minsum(read_only.copy(), 4).tolist()
        assert minsum(np.asfortranarray(read_only), 4).tolist() == minsum(read_only.copy(), 4).tolist()

    def test_other_number_types(self):
        counts = np.repeat([0, 9, 1, 5], 6)[:, None] * np.array([[1, 2]])
        for dtype in (np.int64, np.uint8, np.float16, ">f4"):
            assert minsum(counts.astype(dtype), 4).tolist() == [0, 6, 12, 18, 24]

    def test_long_segments(self):
        features = stepwise(1, [300, 5, 280, 40])
        assert minsum(features, 4, max_length=400).tolist() == [0, 300, 305, 585, 625]

    def test_large_values(self):
        features = stepwise(4, [6, 9, 5]).astype(np.float32)
        expected = minsum(features, 3).tolist()
        for scale in (1e-30, 1e30):
            assert minsum(features * np.float32(scale), 3).tolist() == expected

    def test_called_from_several_threads(self):
        batches = [[stepwise(10 * i + j, [7, 9, 4, 12]) for j in range(3)] for i in range(4)]
        expected = [np.concatenate(minsum(batch, 4)).tolist() for batch in batches]
        found = [None] * len(batches)

        def work(index):
            found[index] = np.concatenate(minsum(batches[index], 4)).tolist()

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(batches))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == expected

    def test_input_is_not_changed(self):
        features = random_features(0, 20)
        before = features.copy()
        minsum(features, 4)
        minsum_dynamic(features, 0.1)
        np.testing.assert_array_equal(features, before)

    def test_bad_inputs(self):
        with pytest.raises(InputError, match="2 axes"):
            minsum(np.zeros(5), 1)
        with pytest.raises(InputError, match="NaN or infinity"):
            minsum(np.array([[1.0], [np.nan]]), 1)
        with pytest.raises(InputError, match="lengths"):
            minsum(np.zeros((2, 5, 3)), 1, lengths=[5, 6])
        with pytest.raises(InputError, match="lengths"):
            minsum(np.zeros((2, 5, 3)), 1, lengths=[5])
        with pytest.raises(InputError, match="num_segments"):
            minsum(np.zeros((2, 5, 3)), [1, 2, 3])
        with pytest.raises(InputError, match="integers"):
            minsum(np.zeros((5, 3)), 2.5)  # type: ignore[arg-type]
        assert minsum([], []) == []
        with pytest.raises(InputError, match="at least one dimension"):
            minsum(np.zeros((5, 0)), 1)


class TestSearchCount:
    @given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(0.05, 1.2))
    @settings(max_examples=60)
    def test_quantile_is_that_of_numpy(self, seed, quantile, share):
        features = stepwise(seed, [6, 9, 4, 12, 7, 3, 10], noise=0.5)
        costs = segment_costs(features, 35).T
        table = kernels.best_lengths(costs, 10, 3, True)
        low, high, best = 3, 10, 3
        delta = share * float(features.var(axis=0).sum())
        expected = []
        while low <= high:
            middle = (low + high) // 2
            ends = kernels.trace_back(table, middle)
            sizes = np.diff(ends)
            expected.append(float(np.quantile(costs[sizes, ends[1:]] / sizes, quantile)))
            if expected[-1] > delta:
                low, best = middle + 1, middle
            else:
                high = middle - 1
        assert kernels.search_count(costs, table, 3, 10, delta, quantile) == best
        # At the very value of a probe nothing is above it; just below, it is.
        assert kernels.search_count(costs, table, 6, 6, expected[0], quantile) == 6
        first = kernels.search_count(costs, table, 3, 10, expected[0], quantile)
        assert first < 6 and kernels.search_count(costs, table, 3, 10, np.nextafter(expected[0], 0.0), quantile) >= 6


class TestReleasedRule:
    @pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{len(case['lens'])}-segments-delta-{case['delta']}")
    def test_golden(self, case):
        features = golden_features(case)
        assert minsum_dynamic(features, case["delta"]).tolist() == case["boundaries"]
        expected, probes = released_rule(features, case["delta"])
        assert expected == case["boundaries"]
        assert [count for count, _ in probes] == [count for count, _ in case["trace"]]
        assert [value for _, value in probes] == pytest.approx([value for _, value in case["trace"]], abs=1e-8)

    @given(
        seed=st.integers(0, 10_000),
        lengths=st.lists(st.integers(2, 12), min_size=4, max_size=14).filter(lambda values: sum(values) >= 15),
        delta=st.sampled_from([0.002, 0.01, 0.05]),
    )
    @example(seed=9932, lengths=[3, 12, 3, 3, 12, 2, 2, 2, 2, 4], delta=0.002)
    @settings(max_examples=25)
    def test_equals_the_released_arithmetic(self, seed, lengths, delta):
        """The same boundaries as the program in float32 on stacked arrays, which the benchmark times."""
        torch = pytest.importorskip("torch")
        from helpers.released_minsum import released_minsum

        batch = np.stack([stepwise(seed + 7 * item, lengths, num_dims=24, noise=0.1) for item in range(2)])
        expected = released_minsum(torch.from_numpy(batch.astype(np.float32)), delta)
        for clip, ours, theirs in zip(batch, minsum_dynamic(batch.astype(np.float32), delta), expected, strict=True):
            # In float32 the program cannot tell costs apart that differ in the eighth digit.
            costs = [
                sum(float(np.square(clip[a:b] - clip[a:b].mean(axis=0)).sum()) for a, b in itertools.pairwise(edges))
                for edges in (ours.tolist(), theirs)
            ]
            assert ours.tolist() == theirs or (
                len(ours) == len(theirs) and costs[0] <= costs[1] and costs[0] == pytest.approx(costs[1], rel=1e-6)
            )

    @pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{len(case['lens'])}-segments-delta-{case['delta']}")
    def test_released_arithmetic_on_golden_cases(self, case):
        torch = pytest.importorskip("torch")
        from helpers.released_minsum import released_minsum

        features = torch.from_numpy(golden_features(case))[None]
        assert released_minsum(features, case["delta"]) == [case["boundaries"]]

    @pytest.mark.parametrize("case", GOLDEN[::3], ids=lambda case: f"{len(case['lens'])}-segments")
    def test_golden_costs_at_most(self, case):
        # A delta below every probe makes the search return its largest count; max_rate then chooses that count.
        features = golden_features(case)
        pairs = zip(case["total_cost_at_most_j"], case["boundaries_at_most_j"], strict=True)
        for count, (total, edges) in enumerate(pairs, start=1):
            if total >= 16384:  # no such cut: the released code's stand-in for infinity
                continue
            found = minsum_dynamic(features, -1.0, max_rate=(count + 0.5) / len(features))
            assert found.tolist() == edges
            assert squared_error(features, edges) / features.shape[1] == pytest.approx(total, abs=1e-8)

    @given(
        seed=st.integers(0, 10_000),
        lengths=st.lists(st.integers(1, 12), min_size=3, max_size=9).filter(lambda values: sum(values) >= 15),
        delta=st.sampled_from([0.0005, 0.002, 0.01, 0.05, 0.3, 1.0]),
        quantile=st.sampled_from([0.5, 0.75, 0.9]),
        max_length=st.sampled_from([35, 50]),
    )
    @settings(max_examples=40, deadline=None)
    def test_equals_plain_loops(self, seed, lengths, delta, quantile, max_length):
        features = stepwise(seed, lengths, num_dims=3, noise=0.1)
        expected, _ = released_rule(features, delta, quantile, max_length=max_length)
        found = minsum_dynamic(features, delta, quantile=quantile, max_length=max_length)
        assert found.tolist() == expected

    def test_at_most_that_many(self):
        # 9 segments of at least 3 frames do not fit into 10 frames: 3, 3, 4.
        found = minsum_dynamic(random_features(2, 10), -1.0, max_rate=0.9)
        assert len(found) - 1 <= 3

    def test_constant_input_gives_a_third_of_the_ceiling(self):
        found = minsum_dynamic(np.zeros((149, 4)), 0.0033)
        assert len(found) - 1 == 29 // 3
        assert found.tolist() == released_rule(np.zeros((149, 4)), 0.0033)[0]
        np.testing.assert_array_equal(minsum_dynamic(np.full((149, 4), 0.3), 0.0033), found)

    def test_noise_gives_the_ceiling(self):
        assert len(minsum_dynamic(random_features(0, 100, 16), 0.0033)) - 1 == 20

    @pytest.mark.parametrize("num_frames", range(15))
    def test_short_recordings(self, num_frames):
        for features in (np.zeros((num_frames, 3)), random_features(0, num_frames)):
            found = minsum_dynamic(features, 0.0033)
            assert found[0] == 0 and found[-1] == num_frames and found.dtype == np.int32
            assert len(found) - 1 <= max(min(num_frames, 1), num_frames // 5)
            if num_frames >= 3:
                assert np.diff(found).min() >= 3

    def test_a_ceiling_too_low_for_the_longest_segment(self):
        found = minsum_dynamic(random_features(0, 100), 0.1, max_rate=0.01)
        assert np.diff(found).max() <= 35 and len(found) - 1 == 3

    def test_padding_and_batching_change_nothing(self):
        items = [
            stepwise(i, lengths, noise=0.1) for i, lengths in enumerate([[9, 12, 5, 8], [20, 6, 7, 11, 9], [4, 5]])
        ]
        padded = np.zeros((3, 80, 8))
        for row, item in zip(padded, items, strict=True):
            row[: len(item)] = item
        batch = minsum_dynamic(padded, 0.02, lengths=np.array([len(item) for item in items]))
        for item, found in zip(items, batch, strict=True):
            np.testing.assert_array_equal(found, minsum_dynamic(item, 0.02))

    @pytest.mark.parametrize("settings", [{"quantile": 1.5}, {"max_rate": 0.0}, {"min_length": 9, "max_length": 8}])
    def test_bad_settings(self, settings):
        with pytest.raises(InputError):
            minsum_dynamic(np.zeros((30, 2)), 0.1, **settings)
        with pytest.raises(InputError, match="delta"):
            minsum_dynamic(np.zeros((30, 2)), float("nan"))
