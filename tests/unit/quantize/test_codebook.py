from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from syllablelm.core.errors import FormatError, InputError
from syllablelm.quantize import Codebook, fit_codebook, pool_segments, standardize_vectors, ward_merge
from syllablelm.quantize.codebook import read_codebook


def random_codebook(centres: int = 12, units: int = 5, dims: int = 6, *, standardize: bool = True) -> Codebook:
    rng = np.random.default_rng(centres)
    table = np.concatenate([np.arange(units), rng.integers(0, units, centres - units)])
    points = rng.standard_normal((centres, dims)).astype(np.float32)
    return Codebook(points, table.astype(np.int32), standardize=standardize, seed=1)


def assign_by_loop(codebook: Codebook, vectors: np.ndarray) -> list[int]:
    units = []
    for x in vectors.astype(np.float64):
        if codebook.standardize:
            x = (x - x.sum() / len(x)) / np.sqrt(((x - x.sum() / len(x)) ** 2).sum() / (len(x) - 1))
        distances = [float(((x - c) ** 2).sum()) for c in codebook.centres.astype(np.float64)]
        units.append(int(codebook.table[distances.index(min(distances))]))
    return units


# Pooling


def pool_by_loop(features: np.ndarray, start: list[int], end: list[int], drop_edges: bool) -> list[np.ndarray]:
    result = []
    for s, e in zip(start, end, strict=True):
        if drop_edges and e - s >= 3:
            s, e = s + 1, e - 1
        result.append(sum(features[t].astype(np.float64) for t in range(s, e)) / (e - s))
    return result


@settings(max_examples=60, deadline=None)
@given(num_frames=st.integers(1, 40), drop_edges=st.booleans(), seed=st.integers(0, 10**6))
def test_pooling_equals_loop(num_frames: int, drop_edges: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = (100.0 + rng.standard_normal((num_frames, 4))).astype(np.float32)
    edges = np.unique(np.concatenate([[0, num_frames], rng.integers(0, num_frames + 1, 6)]))
    keep = rng.random(len(edges) - 1) < 0.8  # the others become gaps
    start, end = edges[:-1][keep], edges[1:][keep]
    pooled = pool_segments(features, start, end, drop_edges=drop_edges)
    assert pooled.dtype == np.float32 and pooled.shape == (len(start), 4)
    expected = pool_by_loop(features, start.tolist(), end.tolist(), drop_edges)
    np.testing.assert_allclose(pooled, np.array(expected).reshape(-1, 4), rtol=1e-6)


def test_pooling_drops_edges_from_three_frames_on() -> None:
    features = np.array([[1.0], [2.0], [40.0], [5.0], [7.0], [100.0]])
    start, end = [0, 1, 3, 3], [2, 4, 4, 6]
    assert pool_segments(features, start, end, drop_edges=True).ravel().tolist() == [1.5, 40.0, 5.0, 7.0]
    assert pool_segments(features, start, end).ravel().tolist() == pytest.approx([1.5, 47 / 3, 5.0, 112 / 3])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.integers(1, 50))
def test_pooling_does_not_see_other_frames(seed: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((20, 3)).astype(np.float32)
    around = np.concatenate([1e3 * rng.standard_normal((shift, 3)), features, 1e3 * rng.standard_normal((9, 3))])
    start, end = np.array([0, 4, 10]), np.array([4, 9, 20])
    np.testing.assert_allclose(
        pool_segments(around.astype(np.float32), start + shift, end + shift, drop_edges=True),
        pool_segments(features, start, end, drop_edges=True),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ([0, 2], [2], "same length"),
        ([0], [6], "lie in the 5 frames"),
        ([-1], [2], "lie in the 5 frames"),
        ([2], [2], "non-empty"),
        ([0.0], [2.0], "must be integers"),
    ],
)
def test_pooling_names_bad_segments(start: list, end: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pool_segments(np.zeros((5, 2)), start, end)


def test_pooling_names_bad_features() -> None:
    with pytest.raises(InputError, match="features hold NaN"):
        pool_segments(np.full((5, 2), np.nan), [0], [5])
    assert pool_segments(np.zeros((0, 7)), [], []).shape == (0, 7)


# Standardising


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_standardised_vectors_have_mean_zero_and_unbiased_deviation_one(seed: int, scale: float, shift: float) -> None:
    x = np.random.default_rng(seed).standard_normal((5, 7))
    z = standardize_vectors(x)
    np.testing.assert_allclose(z.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=1, ddof=1), 1, rtol=1e-6)
    np.testing.assert_allclose(standardize_vectors(scale * (x + shift)), z, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3e20, 1e-30])
def test_constant_vectors_become_zeros(value: float) -> None:
    assert standardize_vectors(np.full((2, 384), value)).tolist() == [[0.0] * 384] * 2


def test_standardising_small_numbers_keeps_them_apart() -> None:
    np.testing.assert_allclose(standardize_vectors(1e-20 * np.array([[1.0, 2.0, 3.0]])), [[-1.0, 0.0, 1.0]], rtol=1e-6)


def test_standardising_needs_two_dims() -> None:
    with pytest.raises(InputError, match="one dimension"):
        standardize_vectors(np.ones((3, 1)))
    with pytest.raises(InputError, match="eps"):
        standardize_vectors(np.ones((3, 2)), eps=-1)


# Codebook


@settings(max_examples=40, deadline=None)
@given(num=st.integers(0, 20), standardize=st.booleans(), seed=st.integers(0, 10**6))
def test_assign_equals_loop(num: int, standardize: bool, seed: int) -> None:
    codebook = random_codebook(standardize=standardize)
    vectors = (3 * np.random.default_rng(seed).standard_normal((num, 6)) + 1).astype(np.float32)
    units = codebook.assign(vectors)
    assert units.dtype == np.int32
    assert units.tolist() == assign_by_loop(codebook, vectors)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
def test_units_do_not_depend_on_loudness_of_features_nor_on_the_batch(seed: int, scale: float) -> None:
    codebook = random_codebook()
    vectors = np.random.default_rng(seed).standard_normal((8, 6)).astype(np.float32)
    units = codebook.assign(vectors)
    np.testing.assert_array_equal(codebook.assign(scale * vectors), units)
    np.testing.assert_array_equal(np.concatenate([codebook.assign(v[None]) for v in vectors]), units)


def test_centres_are_their_own_units() -> None:
    codebook = random_codebook(standardize=False)
    np.testing.assert_array_equal(codebook.assign(codebook.centres), codebook.table)
    assert codebook.num_units == 5 and codebook.dim == 6


def test_codebook_keeps_private_read_only_copies() -> None:
    centres, table = np.eye(3, dtype=np.float32), np.arange(3, dtype=np.int32)
    codebook = Codebook(centres, table)
    centres[0, 0] = 9.0
    table[0] = 2
    assert codebook.centres[0, 0] == 1.0 and codebook.table[0] == 0
    with pytest.raises(ValueError):
        codebook.table[0] = 1


@pytest.mark.parametrize(
    ("centres", "table", "message"),
    [
        (np.eye(3), [0, 1], "one integer for each of the 3"),
        (np.eye(3), [0.0, 1.0, 2.0], "one integer"),
        (np.zeros((0, 3)), [], "one integer"),
        (np.eye(3), [0, -1, 1], "from 0 up"),
        (np.full((1, 2), np.nan), [0], "centres hold NaN"),
        (np.ones((2, 1)), [0, 1], "cannot standardise"),
    ],
)
def test_unusable_codebooks_are_named(centres: np.ndarray, table: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Codebook(centres, np.asarray(table))


def test_assign_names_foreign_vectors() -> None:
    with pytest.raises(InputError, match="7 dims, the codebook has 6"):
        random_codebook().assign(np.zeros((2, 7)))


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("standardize", [True, False])
def test_saved_codebook_loads_equal(tmp_path, seed: int | None, standardize: bool) -> None:
    codebook = Codebook(
        np.eye(3, dtype=np.float32), np.array([0, 0, 1], dtype=np.int32), standardize=standardize, seed=seed
    )
    codebook.save(tmp_path / "new" / "codebook.safetensors")
    assert Codebook.load(tmp_path / "new" / "codebook.safetensors") == codebook
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["codebook.safetensors"]


def test_codebooks_compare_by_value() -> None:
    assert random_codebook() == random_codebook()
    assert random_codebook() != random_codebook(standardize=False)
    assert random_codebook(12) != random_codebook(13)


GOOD = {"format": "syllablelm.codebook", "format_version": "1", "standardize": "1"}


@pytest.mark.parametrize(
    ("metadata", "tensors", "message"),
    [
        (None, {}, "not a codebook"),
        ({**GOOD, "format": "other"}, {}, "not a codebook"),
        ({**GOOD, "format_version": "2"}, {}, "format version 2, this program reads 1"),
        (GOOD, {"table": None}, "not a codebook in safetensors form"),
        (GOOD, {"table": np.array([0, -1], dtype=np.int32)}, "damaged codebook"),
        ({**GOOD, "standardize": "maybe"}, {}, "damaged codebook"),
        ({**GOOD, "seed": "x"}, {}, "damaged codebook"),
    ],
)
def test_bad_files_are_named(tmp_path, metadata: dict | None, tensors: dict, message: str) -> None:
    path = tmp_path / "codebook.safetensors"
    contents = {"centres": np.eye(2, dtype=np.float32), "table": np.array([0, 1], dtype=np.int32), **tensors}
    save_file({key: value for key, value in contents.items() if value is not None}, path, metadata=metadata)
    with pytest.raises(FormatError, match=f"codebook.safetensors: .*{message}"):
        Codebook.load(path)


def test_missing_and_foreign_files_are_named(tmp_path) -> None:
    with pytest.raises(FormatError, match="no such codebook"):
        Codebook.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not tensors")
    with pytest.raises(FormatError, match=r"text\.safetensors: not a codebook in safetensors form"):
        Codebook.load(tmp_path / "text.safetensors")


def test_fit_codebook_recovers_groups_whatever_their_scale() -> None:
    rng = np.random.default_rng(0)
    directions = standardize_vectors(rng.standard_normal((6, 16)))
    group = np.tile(np.arange(6), 50)
    noisy = directions[group] + 0.05 * rng.standard_normal((300, 16))
    vectors = noisy * rng.uniform(0.1, 10, (300, 1)) + rng.uniform(-5, 5, (300, 1))
    codebook = fit_codebook(vectors, 6, seed=2)
    assert codebook.centres.shape == (12, 16) and codebook.num_units == 6
    assert codebook.standardize and codebook.seed == 2
    np.testing.assert_array_equal(codebook.table, ward_merge(codebook.centres, 6))
    units = codebook.assign(vectors)
    assert len({(int(u), int(g)) for u, g in zip(units, group, strict=True)}) == 6
    assert fit_codebook(vectors, 6, seed=2) == codebook


def test_fit_codebook_takes_other_settings() -> None:
    vectors = np.random.default_rng(0).standard_normal((100, 4))
    calls: list[tuple[int, int]] = []
    merged: list[int] = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total))

    codebook = fit_codebook(
        vectors, 4, num_centres=4, standardize=False, restarts=2, progress=progress, before_ward=merged.append
    )
    assert codebook.table.tolist() == [0, 1, 2, 3] and not codebook.standardize
    assert calls[-1][0] == calls[-1][1] and merged == []
    fit_codebook(vectors, 4, before_ward=merged.append)
    assert merged == [8]
    with pytest.raises(InputError, match="3 centres cannot be merged into 4 units"):
        fit_codebook(vectors, 4, num_centres=3)
    with pytest.raises(InputError, match="100 vectors are too few for 160"):
        fit_codebook(vectors, 80)


# Agglomeration


def ward_by_loop(centres: np.ndarray, num_units: int) -> list[int]:
    """Ward by its definition: join the two groups whose union raises the summed squared error least."""

    def error(members: list[int]) -> float:
        group = centres[members].astype(np.float64)
        return float(((group - group.mean(axis=0)) ** 2).sum())

    groups = [[k] for k in range(len(centres))]
    while len(groups) > num_units:
        pairs = [(a, b) for a in range(len(groups)) for b in range(a + 1, len(groups))]
        a, b = min(pairs, key=lambda p: error(groups[p[0]] + groups[p[1]]) - error(groups[p[0]]) - error(groups[p[1]]))
        groups[a] = sorted(groups[a] + groups.pop(b))
    table = [0] * len(centres)
    for unit, members in enumerate(sorted(groups)):
        for k in members:
            table[k] = unit
    return table


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 12), data=st.data(), seed=st.integers(0, 10**6))
def test_ward_equals_loop(count: int, data: st.DataObject, seed: int) -> None:
    num_units = data.draw(st.integers(1, count))
    centres = np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)
    table = ward_merge(centres, num_units)
    assert table.dtype == np.int32
    assert table.tolist() == ward_by_loop(centres, num_units)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 30), data=st.data(), seed=st.integers(0, 10**6))
def test_units_are_dense_numbered_by_first_appearance_and_nested(count: int, data: st.DataObject, seed: int) -> None:
    num_units = data.draw(st.integers(2, count))
    centres = np.random.default_rng(seed).standard_normal((count, 4))
    fine, coarse = ward_merge(centres, num_units), ward_merge(centres, num_units - 1)
    _, first = np.unique(fine, return_index=True)
    assert len(first) == num_units == fine.max() + 1
    assert np.all(np.diff(first) > 0)
    # Agglomeration only joins: each fine unit lies in one coarse unit.
    assert len({(int(f), int(c)) for f, c in zip(fine, coarse, strict=True)}) == num_units


def test_ward_extremes() -> None:
    centres = np.random.default_rng(0).standard_normal((5, 2))
    assert ward_merge(centres, 5).tolist() == [0, 1, 2, 3, 4]
    assert ward_merge(centres, 1).tolist() == [0] * 5


@pytest.mark.parametrize("num_units", [0, -1, 4])
def test_impossible_counts_of_units_are_named(num_units: int) -> None:
    with pytest.raises(InputError, match="3 centres cannot be merged"):
        ward_merge(np.eye(3), num_units)


def test_bad_centres_of_ward_are_named() -> None:
    with pytest.raises(InputError, match="centres hold NaN"):
        ward_merge(np.array([[np.nan, 0.0], [1.0, 0.0]]), 1)


# Codebooks and centres of others


CENTRES = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def nearest(vectors: np.ndarray) -> list[int]:
    return [int(np.argmin([((vector - centre) ** 2).sum() for centre in CENTRES])) for vector in vectors]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_matrix_of_centres_is_taken_as_it_is(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "km.npy", CENTRES.astype(dtype))
    save_file({"any name": CENTRES.astype(dtype)}, tmp_path / "km.safetensors", metadata={"format": "pt"})
    vectors = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
    for name in ("km.npy", "km.safetensors"):
        found = read_codebook(tmp_path / name)
        assert (found.num_units, found.dim, found.standardize) == (5, 3, False)
        if dtype is not np.float16:
            assert found.assign(vectors).tolist() == nearest(vectors)


def test_our_own_codebooks(tmp_path: Path) -> None:
    own = Codebook(CENTRES, np.array([0, 1, 1, 0, 2]), seed=3)
    own.save(tmp_path / "own.safetensors")
    assert read_codebook(tmp_path / "own.safetensors") == own


def test_unusable_files(tmp_path: Path) -> None:
    def fails(name: str, match: str) -> None:
        with pytest.raises(FormatError, match=match) as caught:
            read_codebook(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)

    fails("none.npy", "no such codebook file")
    (tmp_path / "km.bin").write_bytes(b"")
    fails("km.bin", "are read from .npy or .safetensors")
    (tmp_path / "text.npy").write_text("1 2 3")
    fails("text.npy", "not an array of numbers")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(CENTRES))
    fails("pickle.npy", "not an array of numbers")
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    fails("objects.npy", "not an array of numbers")
    np.save(tmp_path / "whole.npy", CENTRES)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-10])
    fails("cut.npy", "not an array of numbers")
    np.save(tmp_path / "vector.npy", CENTRES[0])
    fails("vector.npy", r"float32\(3,\), not a matrix of centres")
    np.save(tmp_path / "integers.npy", np.zeros((5, 3), dtype=int))
    fails("integers.npy", r"int64\(5, 3\), not a matrix")
    np.save(tmp_path / "nan.npy", np.full((5, 3), np.nan))
    fails("nan.npy", "not usable as centres")
    np.save(tmp_path / "empty.npy", np.zeros((0, 3)))
    fails("empty.npy", "not usable as centres")
    (tmp_path / "text.safetensors").write_bytes(b"nonsense")
    fails("text.safetensors", "not a safetensors file")
    save_file({"a": CENTRES, "b": CENTRES}, tmp_path / "two.safetensors")
    fails("two.safetensors", "holds 2 tensors")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_centres_of_every_precision_are_read_as_float32(tmp_path: Path, dtype: str) -> None:
    import torch
    from safetensors.torch import save_file as save_tensors

    centres = torch.arange(12.0).reshape(4, 3)
    save_tensors({"centres": centres.to(getattr(torch, dtype))}, tmp_path / "centres.safetensors")
    found = read_codebook(tmp_path / "centres.safetensors").centres
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, centres.numpy())
