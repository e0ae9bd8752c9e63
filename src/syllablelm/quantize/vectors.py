"""Vectors behind one interface, whether in memory or in files that are larger than it, and the writer of such files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import atomic_path, clear_folder, find_files
from syllablelm.core.npy import read_npy

FloatArray = npt.NDArray[np.float32]
# Rows that a pass over all vectors reads at once: 25 MB of 768 dims.
BLOCK_ROWS = 8192
# Rows of a file: 200 MB of 768 dims.
SHARD_ROWS = 65_536
_SHARD = re.compile(r"\d{6}-\d{9}\.npy")


def as_vectors(vectors: npt.ArrayLike, name: str = "vectors") -> FloatArray:
    """Check a matrix of vectors and return it as float32.

    Args:
        vectors: (N, D) real numbers; called ``name`` in error messages.
    """
    array = _check_matrix(np.asarray(vectors), name)
    # Values beyond the float32 range become infinite here and are reported with the others.
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    _check_finite([array], name)
    return array


@dataclass(frozen=True, eq=False)
class Vectors:
    """(N, D) vectors in parts of which each is an array or a memory map; read as float32, some rows at a time.

    Args:
        parts: matrices of the same D, whose rows follow each other.
        change: function of (n, D) rows that is applied to all that is read, each row on its own.
    """

    parts: Sequence[npt.NDArray[Any]]
    change: Callable[[FloatArray], FloatArray] | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def dim(self) -> int:
        """Dimensions of a vector; 0 where there is no part."""
        return self.parts[0].shape[1] if self.parts else 0

    @property
    def in_memory(self) -> bool:
        """Whether no part lies in a file."""
        return not any(isinstance(part, np.memmap) for part in self.parts)

    def rows(self, index: npt.NDArray[np.integer]) -> FloatArray:
        """Return the rows of an (n,) index, in its order, as (n, D) float32."""
        found = np.empty((len(index), self.dim), dtype=np.float32)
        # Files are read from their start to their end.
        order = np.argsort(index, kind="stable")
        ascending, first = index[order], 0
        for part in self.parts:
            begin, end = np.searchsorted(ascending, [first, first + len(part)])
            if begin < end:
                # Values beyond the range of float32 become infinite, which the check of all vectors reports.
                with np.errstate(over="ignore"):
                    found[order[begin:end]] = part[ascending[begin:end] - first]
            first += len(part)
        return self.change(found) if self.change else found

    def blocks(self, size: int = BLOCK_ROWS) -> Iterator[FloatArray]:
        """Yield all vectors as blocks of `size` rows, the last one excepted; where the parts end does not matter."""
        total = len(self)
        for first in range(0, total, size):
            if len(self.parts) == 1 and self.change is None and self.in_memory:
                yield self.parts[0][first : first + size]
            else:
                yield self.rows(np.arange(first, min(first + size, total)))

    def map(self, change: Callable[[FloatArray], FloatArray]) -> Vectors:
        """Return these vectors changed by a function of (n, D) rows: at once in memory, of files when they are read."""
        if self.in_memory:
            return Vectors([change(self.rows(np.arange(len(self))))]) if self.parts else self
        return replace(self, change=change)


VectorSource: TypeAlias = "npt.ArrayLike | Vectors | str | Path | Sequence[str | Path]"


def open_vectors(source: VectorSource) -> Vectors:
    """Open vectors, and check that all are finite, for which files are read once.

    Args:
        source: (N, D) array, memory-mapped or not; the name of a .npy file, of a folder of them, or a list of names,
            whose rows follow each other; or `Vectors`, which are taken as checked.

    Raises:
        InputError: not a real matrix, parts of different dims, NaN or infinite values.
        FormatError: a file that is missing, damaged, or a pickle.
    """
    if isinstance(source, Vectors):
        return source
    if isinstance(source, np.memmap):
        parts: list[npt.NDArray[Any]] = [_check_matrix(source, "vectors")]
    elif files := _files(source):
        parts = [_check_matrix(read_npy(file, mapped=True), str(file)) for file in files]
        for file, part in zip(files, parts, strict=True):
            if part.shape[1] != parts[0].shape[1]:
                raise InputError(f"{file}: vectors of {part.shape[1]} dims, in {files[0]} of {parts[0].shape[1]}")
    else:
        return Vectors([as_vectors(source)])  # pyright: ignore[reportArgumentType]
    found = Vectors(parts)
    _check_finite(found.blocks(), "vectors")
    return found


def _files(source: Any) -> list[Path]:
    names = [source] if isinstance(source, str | Path) else source if isinstance(source, list | tuple) else []
    if not all(isinstance(name, str | Path) for name in names):
        return []
    return [file for name in names for file in find_files(Path(name), (".npy",))]


class VectorWriter:
    """Writes the vectors of one item after the other to files of a folder; a writer of the same folder goes on.

    A file appears complete or not at all, and its name tells how many items it and those before it hold.

    Args:
        folder: folder of the files, which is made.
        rows: vectors of a file, at least; what is lost when the process is killed.
    """

    def __init__(self, folder: Path, rows: int = SHARD_ROWS) -> None:
        self._folder, self._rows = folder, rows
        folder.mkdir(parents=True, exist_ok=True)
        clear_folder(folder)
        self._files = sorted(file for file in folder.iterdir() if _SHARD.fullmatch(file.name))
        for number, file in enumerate(self._files):
            try:
                read_npy(file, mapped=True)
            except FormatError:  # a crash of the machine can leave a file empty: from there on they are made again
                for damaged in self._files[number:]:
                    damaged.unlink()
                del self._files[number:]
                break
        self.items = int(self._files[-1].stem.rpartition("-")[2]) if self._files else 0
        self._waiting: list[FloatArray] = []

    def append(self, vectors: npt.ArrayLike) -> None:
        """Add the (n, D) vectors of the next item; InputError where they are not finite."""
        self._waiting.append(as_vectors(vectors))
        self.items += 1
        if sum(map(len, self._waiting)) >= self._rows:
            self._write()

    def finish(self) -> Vectors:
        """Write what waits, and return all vectors of the folder."""
        if any(map(len, self._waiting)):
            self._write()
        return Vectors([read_npy(file, mapped=True) for file in self._files])

    def _write(self) -> None:
        file = self._folder / f"{len(self._files):06d}-{self.items:09d}.npy"
        with atomic_path(file) as part, part.open("wb") as opened:
            np.save(opened, np.concatenate(self._waiting))
        self._files.append(file)
        self._waiting = []


def _check_matrix(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be a real matrix (number, dims), not {array.dtype}{array.shape}")
    return array


def _check_finite(blocks: Iterator[FloatArray] | Sequence[FloatArray], name: str) -> None:
    bad, first, row = 0, 0, 0
    for block in blocks:
        bad_rows = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(bad_rows) and not bad:
            first = row + int(bad_rows[0])
        bad += len(bad_rows)
        row += len(block)
    if bad:
        raise InputError(f"{name} hold NaN or infinite values in {bad} rows, first in row {first}")
