"""Vectors in files are those in memory, and clusters of them are the same."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError, InputError
from syllablelm.quantize import Vectors, VectorWriter, fit_codebook, fit_kmeans, kmeans, open_vectors
from syllablelm.quantize.codebook import standardize_vectors

NUM, DIMS = 1003, 6


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((NUM, DIMS)).astype(np.float32)


def sources(vectors: np.ndarray, folder: Path) -> dict[str, Any]:
    """The same vectors in every form."""
    np.save(folder / "all.npy", vectors)
    (folder / "shards").mkdir()
    for number, part in enumerate(np.split(vectors, [100, 101, 640])):
        np.save(folder / f"shards/{number}.npy", part)
    writer = VectorWriter(folder / "written", rows=200)
    for part in np.array_split(vectors, 37):
        writer.append(part)
    return {
        "mapped": np.load(folder / "all.npy", mmap_mode="r"),
        "file": folder / "all.npy",
        "name": str(folder / "all.npy"),
        "files": sorted((folder / "shards").iterdir()),
        "folder": folder / "shards",
        "written": writer.finish(),
    }


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 50), max_size=4), index=st.lists(st.integers(0, 49), max_size=60))
def test_rows_of_parts_are_those_of_the_whole(cuts: list[int], index: list[int]) -> None:
    whole = np.random.default_rng(1).standard_normal((50, 3)).astype(np.float16)
    parts = Vectors(np.split(whole, sorted(cuts)))
    expected = whole.astype(np.float32)
    np.testing.assert_array_equal(parts.rows(np.array(index, dtype=np.int64)), expected[index])
    blocks = list(parts.blocks(7))
    assert [len(block) for block in blocks] == [7] * 7 + [1]
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


def test_every_source_holds_the_same(vectors: np.ndarray, tmp_path: Path) -> None:
    for name, source in sources(vectors, tmp_path).items():
        held = open_vectors(source)
        assert (len(held), held.dim, held.in_memory) == (NUM, DIMS, False), name
        np.testing.assert_array_equal(np.concatenate(list(held.blocks(64))), vectors)
        changed = held.map(standardize_vectors)
        np.testing.assert_array_equal(np.concatenate(list(changed.blocks(64))), standardize_vectors(vectors))


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
def test_clusters_of_files_are_those_of_memory(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: kmeans.Method
) -> None:
    for name, value in {"BATCH": 50, "POOL": 240, "RUN": 16}.items():
        monkeypatch.setattr(kmeans, name, value)
    expected = fit_codebook(vectors, 20, method=method, seed=1, max_iter=4)
    for name, source in sources(vectors, tmp_path).items():
        assert fit_codebook(source, 20, method=method, seed=1, max_iter=4) == expected, name
    plain = fit_kmeans(vectors, 30, method=method, seed=2, restarts=2)
    np.testing.assert_array_equal(fit_kmeans(tmp_path / "shards", 30, method=method, seed=2, restarts=2), plain)


def test_faiss_of_files(vectors: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    np.save(tmp_path / "all.npy", vectors)
    expected = fit_kmeans(vectors, 3, method="faiss")
    np.testing.assert_array_equal(fit_kmeans(tmp_path / "all.npy", 3, method="faiss"), expected)


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rows are asked for at once than a pool, a block, the starts or a window of refilling hold."""
    vectors = np.lib.format.open_memmap(tmp_path / "all.npy", mode="w+", dtype=np.float16, shape=(20_000, 4))
    vectors[:] = np.random.default_rng(0).standard_normal((20_000, 4))
    asked: list[int] = []
    rows = Vectors.rows
    monkeypatch.setattr(Vectors, "rows", lambda self, index: (asked.append(len(index)), rows(self, index))[1])
    for name, value in {"BATCH": 500, "POOL": 2000, "RUN": 100}.items():
        monkeypatch.setattr(kmeans, name, value)
    for method in ("minibatch", "lloyd"):
        fit_kmeans(tmp_path / "all.npy", 50, method=method, max_iter=2)
    assert max(asked) <= 8192


class TestWriter:
    def test_goes_on_where_the_last_one_stopped(self, vectors: np.ndarray, tmp_path: Path) -> None:
        parts = np.array_split(vectors, 37)
        first = VectorWriter(tmp_path, rows=200)
        for part in parts[:20]:
            first.append(part)
        again = VectorWriter(tmp_path, rows=200)
        assert 0 < again.items < 20
        for part in parts[again.items :]:
            again.append(part)
        assert again.items == 37
        np.testing.assert_array_equal(np.concatenate(list(again.finish().blocks())), vectors)
        assert VectorWriter(tmp_path).items == 37

    def test_a_damaged_file_is_made_again(self, vectors: np.ndarray, tmp_path: Path) -> None:
        writer = VectorWriter(tmp_path, rows=100)
        for part in np.array_split(vectors, 10):
            writer.append(part)
        writer.finish()
        files = sorted(tmp_path.iterdir())
        files[2].write_bytes(b"")
        assert VectorWriter(tmp_path).items == 2
        assert sorted(tmp_path.iterdir()) == files[:2]

    def test_full_disk(self, vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        writer = VectorWriter(tmp_path, rows=10)
        monkeypatch.setattr(np, "save", full)
        with pytest.raises(OSError, match=r"make room and run the same command again.*000000-000000001\.npy"):
            writer.append(vectors)
        assert list(tmp_path.iterdir()) == []

    def test_nothing_or_empty_items(self, tmp_path: Path) -> None:
        writer = VectorWriter(tmp_path)
        writer.append(np.zeros((0, 4), np.float32))
        held = writer.finish()
        assert len(held) == 0
        with pytest.raises(InputError, match="0 vectors are too few for 2"):
            fit_codebook(held, 1)


def test_unusable_sources_are_named(tmp_path: Path) -> None:
    def save(name: str, array: Any) -> Path:
        np.save(tmp_path / name, array)
        return tmp_path / name

    good, bad = np.zeros((9, 2), np.float32), np.zeros((9, 2), np.float32)
    bad[[4, 7], 1] = np.nan
    with pytest.raises(InputError, match=r"in 2 rows, first in row 13"):
        open_vectors([save("good.npy", good), save("bad.npy", bad)])
    with pytest.raises(InputError, match=r"infinite values in 1 rows, first in row 0"):
        open_vectors(save("large.npy", np.array([[1e300, 0.0]])))
    with pytest.raises(InputError, match=r"wide\.npy: vectors of 3 dims, in .*good\.npy of 2"):
        open_vectors([tmp_path / "good.npy", save("wide.npy", np.zeros((1, 3)))])
    with pytest.raises(InputError, match=r"flat\.npy must be a real matrix"):
        open_vectors(save("flat.npy", np.zeros(3)))
    with pytest.raises(FormatError, match=r"none\.npy: cannot be read"):
        open_vectors(tmp_path / "none.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"objects\.npy: .*pickle"):
        open_vectors(tmp_path / "objects.npy")
