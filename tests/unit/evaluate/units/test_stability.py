"""Stability of units: counts against plain loops, conditions that depend on nothing else, and a whole run."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import syllablelm.evaluate.units.stability as module
from syllablelm.core.errors import InputError
from syllablelm.core.results import Estimate
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.corpus import scan
from syllablelm.data.manifest import Recording
from syllablelm.evaluate.boundaries.matching import boundary_counts
from syllablelm.evaluate.speed import compare_units
from syllablelm.evaluate.units.stability import (
    CONDITIONS,
    MEAN,
    Condition,
    StabilityCounts,
    StabilityResult,
    distort,
    evaluate_stability,
    get_conditions,
    stability_counts,
)
from syllablelm.tokenizer.tokenizer import Tokenizer


def edits_by_loop(a: list[int], b: list[int]) -> int:
    """The recursion of the edit distance as it is defined."""

    @cache
    def rest(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        return min(rest(i + 1, j) + 1, rest(i, j + 1) + 1, rest(i + 1, j + 1) + (a[i] != b[j]))

    return rest(0, 0)


def contiguous(units: list[int], widths: list[int]) -> Segmentation:
    return Segmentation.from_boundaries(np.cumsum([0, *widths]), unit=units)


@st.composite
def segmentations(draw: st.DrawFn, num_frames: int = 24) -> Segmentation:
    """Segments with gaps, of three units, all recordings equally long."""
    edges = sorted(draw(st.sets(st.integers(0, num_frames), min_size=2, max_size=12)))
    kept = draw(st.lists(st.booleans(), min_size=len(edges) - 1, max_size=len(edges) - 1))
    spans = [span for span, keep in zip(pairwise(edges), kept, strict=True) if keep]
    units = draw(st.lists(st.integers(0, 2), min_size=len(spans), max_size=len(spans)))
    start, end = np.array([a for a, _ in spans], dtype=np.int32), np.array([b for _, b in spans], dtype=np.int32)
    return Segmentation(start, end, np.array(units, dtype=np.int32), num_frames)


@given(segmentations(), segmentations())
def test_counts_are_those_of_plain_loops(clean: Segmentation, distorted: Segmentation) -> None:
    counts = stability_counts(clean, distorted)
    ours, theirs = ([] if (unit := s.deduplicate().unit) is None else unit.tolist() for s in (distorted, clean))
    assert (counts.edits, counts.units) == (edits_by_loop(theirs, ours), len(theirs))
    assert counts.samples == 24 * 320
    assert counts.same_units == pytest.approx(compare_units(distorted, clean).unit_agreement)
    inner = [[b * 0.02 for b in s.boundaries if 0 < b < 24] for s in (distorted, clean)]
    assert counts.boundaries_20 == boundary_counts(inner[0], inner[1], 0.02)
    assert counts.boundaries_50 == boundary_counts(inner[0], inner[1], 0.05)


@given(segmentations())
def test_a_recording_is_as_stable_as_can_be_against_itself(clean: Segmentation) -> None:
    counts = stability_counts(clean, clean)
    assert (counts.edits, counts.same_units) == (0, 1.0)
    if counts.clean_boundaries:
        assert counts.boundaries_20.f1 == counts.boundaries_50.f1 == 1.0


@given(st.lists(st.tuples(segmentations(), segmentations()), max_size=4))
def test_counts_add(pairs: list[tuple[Segmentation, Segmentation]]) -> None:
    items = [stability_counts(a, b) for a, b in pairs]
    total = sum(items, StabilityCounts())
    assert total == sum(reversed(items), StabilityCounts())
    for name in StabilityCounts.__dataclass_fields__:
        assert getattr(total, name) == sum(getattr(item, name) for item in items)


def test_ratios_by_hand() -> None:
    clean = contiguous([1, 1, 2, 3], [5, 5, 10, 10])
    distorted = contiguous([1, 4, 3], [8, 13, 9])
    counts = stability_counts(clean, distorted)
    # 1 2 3 against 1 4 3.
    assert counts.unit_edit_distance == pytest.approx(1 / 3)
    # Frames 0 to 8 and 21 to 30.
    assert counts.same_units == pytest.approx((8 + 9) / 30)
    # 0.16 and 0.42 s against 0.1, 0.2 and 0.4 s.
    assert (counts.boundaries_20.hits, counts.boundaries_50.hits) == (1, 2)
    assert (counts.boundaries_50.precision, counts.boundaries_50.recall) == (1.0, pytest.approx(2 / 3))
    assert counts.boundaries_50.f1 == pytest.approx(0.8)


def test_a_delay_of_whole_frames_is_taken_back_and_leaves_nothing() -> None:
    clean = contiguous([1, 2, 3], [5, 6, 7])
    for frames in (1, 4):
        # A segment of its own before the start, or a first one that is longer.
        for distorted in (contiguous([9, 1, 2, 3], [frames, 5, 6, 7]), contiguous([1, 2, 3], [frames + 5, 6, 7])):
            counts = stability_counts(clean, distorted, delay=frames * 0.02)
            assert counts == stability_counts(clean, clean)


def test_a_segment_across_the_start_is_an_edit_if_its_unit_is() -> None:
    clean = contiguous([1, 2], [5, 5])
    # From 10 ms before the start to 10 ms after it.
    counts = stability_counts(clean, contiguous([9, 1, 2], [1, 5, 5]), delay=0.01)
    assert counts.edits == 1
    assert counts.boundaries_20.hits == 1 and counts.distorted_boundaries == 2


def test_half_a_frame_of_delay_is_counted_in_halves() -> None:
    clean = contiguous([1, 2], [5, 5])
    counts = stability_counts(clean, contiguous([1, 2], [5, 5]), delay=0.01)
    # The boundary is 10 ms early, and the last 10 ms are not covered.
    assert (counts.edits, counts.samples) == (0, 3200 - 160)
    assert counts.same_samples == 3200 - 160 - 160
    assert counts.boundaries_20.f1 == 1.0


def test_segmentations_that_cannot_be_compared() -> None:
    clean = contiguous([1, 2], [5, 5])
    with pytest.raises(InputError, match="codebook"):
        stability_counts(clean, Segmentation.from_boundaries([0, 5, 10]))
    with pytest.raises(InputError, match="one frame grid"):
        stability_counts(clean, Segmentation.from_boundaries([0, 5, 10], unit=[1, 2], hop=640))


def test_nothing_at_all_has_finite_ratios() -> None:
    empty = Segmentation(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32), 0)
    counts = stability_counts(empty, empty)
    assert counts == StabilityCounts()
    assert (counts.unit_edit_distance, counts.same_units, counts.boundaries_20.f1) == (0.0, 1.0, 0.0)


def test_conditions_by_name() -> None:
    assert [one.name for one in get_conditions()] == list(CONDITIONS)
    assert [one.name for one in get_conditions("noise10, mp3,mp3")] == ["noise10", "mp3"]
    with pytest.raises(InputError, match=r"'nois10': did you mean 'noise10'\? choose one of gain-6, "):
        get_conditions("mp3,nois10")
    with pytest.raises(InputError, match="no condition given"):
        get_conditions(" , ")


def test_a_distortion_is_a_function_of_seed_condition_and_id() -> None:
    wave = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    noise, less = CONDITIONS["noise10"], CONDITIONS["noise20"]
    first = distort(wave, noise, "a", 0)
    np.testing.assert_array_equal(first, distort(wave, noise, "a", 0))
    for other in (distort(wave, noise, "b", 0), distort(wave, noise, "a", 1)):
        assert not np.array_equal(first, other)
    # Not the same noise at another level.
    assert abs(np.corrcoef(first - wave, distort(wave, less, "a", 0) - wave)[0, 1]) < 0.1
    for condition in CONDITIONS.values():
        late = round(condition.delay * 16_000)
        assert len(distort(wave, condition, "a")) == len(wave) + late


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder, device="cpu")


def counted(result: StabilityResult) -> dict[tuple[str, str], StabilityCounts]:
    """The counts of each row."""
    names = StabilityCounts.__dataclass_fields__
    return {(row.model, row.condition): StabilityCounts(*(getattr(row, name) for name in names)) for row in result.rows}


def test_a_run_does_not_depend_on_order_conditions_or_models(tokenizer: Tokenizer, recordings: Path) -> None:
    manifest = scan(recordings)[0]
    other = Tokenizer(tokenizer.encoder, tokenizer.codebook, replace(tokenizer.rule, rate=9.0), digest="other")
    options = {"seed": 3, "resamples": 1}
    whole = counted(evaluate_stability(manifest, [other, tokenizer], conditions="noise10,delay10,reverb", **options))
    mine = tokenizer.digest
    assert whole[mine, "reverb"] != whole["other", "reverb"]
    turned = counted(evaluate_stability(list(reversed(manifest)), tokenizer, conditions=["reverb"], **options))
    assert turned[mine, "reverb"] == whole[mine, "reverb"]
    parts = [counted(evaluate_stability([one], tokenizer, conditions="noise10", **options)) for one in manifest]
    assert StabilityCounts.merge(part[mine, "noise10"] for part in parts) == whole[mine, "noise10"]
    again = counted(evaluate_stability(manifest, tokenizer, conditions="noise10", seed=4, resamples=1))
    assert again[mine, "noise10"] != whole[mine, "noise10"]
    assert again[mine, "noise10"].units == whole[mine, "noise10"].units


def test_an_unchanged_recording_has_no_edits(
    tokenizer: Tokenizer, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONDITIONS", {"same": Condition("same", "Same", lambda wave, rng: wave)})
    for row in evaluate_stability(recordings, tokenizer, resamples=10).rows:
        perfect = Estimate(1.0, 1.0, 1.0)
        assert (row.unit_edit_distance.value, row.same_units, row.f1_20, row.f1_50) == (0.0, *[perfect] * 3)


def test_a_result_its_mean_and_its_file(
    tokenizer: Tokenizer, tokenizer_folder: Path, recordings: Path, tmp_path: Path
) -> None:
    models = [tokenizer, tokenizer_folder]
    result = evaluate_stability(recordings, models, conditions="gain+6,noise10", limit=2, resamples=20)
    assert (result.data.recordings, result.data.unusable, result.conditions) == (2, 0, ("gain+6", "noise10"))
    assert result.model == f"{tokenizer.digest}, {tokenizer_folder}"
    *each, mean = result.rows[:3]
    assert [row.condition for row in (*each, mean)] == ["gain+6", "noise10", MEAN]
    assert [replace(row, model="") for row in result.rows[3:]] == [replace(row, model="") for row in result.rows[:3]]
    distances = [row.unit_edit_distance for row in each]
    assert mean.unit_edit_distance.value == pytest.approx(np.mean([one.value for one in distances]))
    assert mean.same_units.value == pytest.approx(np.mean([row.same_units.value for row in each]))
    for one in (*distances, mean.unit_edit_distance):
        assert one.low is not None and one.high is not None and one.low <= one.value <= one.high
    result.save(tmp_path / "stability.json")
    assert StabilityResult.load(tmp_path / "stability.json") == result
    assert {"f1@20", "f1@20_low", "precision@50", "hits@20"} <= set(result.to_dict()["rows"][0])


def test_recordings_that_cannot_be_read_are_counted(tokenizer: Tokenizer, recordings: Path, tmp_path: Path) -> None:
    broken = Recording("gone", tmp_path / "gone.wav", 16_000, 16_000)
    result = evaluate_stability([broken, *scan(recordings)[0][:1]], tokenizer, conditions="gain-6", resamples=1)
    assert (result.data.recordings, result.data.seconds, result.data.unusable) == (1, 2.0, 1)
    with pytest.raises(InputError, match=r"no usable recording: .*gone\.wav"):
        evaluate_stability([broken], tokenizer, conditions="gain-6")


def test_a_tokenizer_without_a_codebook_is_refused(tokenizer: Tokenizer, recordings: Path) -> None:
    bare = Tokenizer(tokenizer.encoder, None, tokenizer.rule)
    with pytest.raises(InputError, match="no codebook"):
        evaluate_stability(recordings, bare)
    with pytest.raises(InputError, match="no model"):
        evaluate_stability(recordings, [])
