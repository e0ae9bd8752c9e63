"""NumPy's files: read as they were written, or refused without taking memory and without unpickling."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from syllablelm.core.errors import FormatError
from syllablelm.core.npy import read_npy, read_npz

NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)


def _with_header(path: Path, text: str) -> Path:
    header = text.ljust(117).encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + NUMBERS.tobytes())
    return path


@pytest.mark.parametrize("array", [NUMBERS, NUMBERS.T, NUMBERS[:0], np.float64(3.0), np.arange(3, dtype=">i8")])
@pytest.mark.parametrize("mapped", [False, True])
def test_arrays_are_read_back(array: np.ndarray, mapped: bool, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    if mapped and not array.size:
        pytest.skip("numpy maps no empty file")
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", mapped=mapped), array)
    np.savez_compressed(tmp_path / "a.npz", array=array, other=NUMBERS)
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", ["array", "none"])["array"], array)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999, 99999), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': ('a',), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (13,), }",
        "{'descr': '<f4', 'shape': (3,), }",
        "{'descr': '<x9', 'fortran_order': False, 'shape': (3,), }",
        "[[[[[[[[[[[[",
        "__import__('os').getcwd()",
        "{" * 100,
        "",
    ],
)
def test_headers_that_lie_are_refused_without_memory(header: str, tmp_path: Path) -> None:
    path = _with_header(tmp_path / "a.npy", header)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(path, "array.npy")
    tracemalloc.start()
    for mapped in (False, True):
        with pytest.raises(FormatError, match=r"a\.npy: not an array of numbers in \.npy form"):
            read_npy(path, mapped=mapped)
    with pytest.raises(FormatError, match=r"a\.npz: damaged numpy file"):
        read_npz(tmp_path / "a.npz", ["array"])
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.npy", tmp_path):
        with pytest.raises(FormatError, match=f"{path.name}: cannot be read"):
            read_npy(path)
    (tmp_path / "empty.npz").touch()
    with pytest.raises(FormatError, match=r"empty\.npz: damaged"):
        read_npz(tmp_path / "empty.npz", ["a"])
