"""Arrays in NumPy's files: read without unpickling or memory for more than the file holds, written piece by piece."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, first_line

MAGIC = b"\x93NUMPY"
# What numpy and its parser of Python literals raise for a damaged header.
_DAMAGED = (ValueError, TypeError, SyntaxError, TokenError, EOFError, RecursionError, MemoryError, OverflowError)


def read_npy(path: str | Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """Read the array of a .npy file, as a read-only memory map if ``mapped``.

    Raises:
        FormatError: no readable file, a pickle, which can hold code, or an array that is longer than its file.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            _check_header(file, path.stat().st_size)
            if not mapped:
                return np.lib.format.read_array(file, allow_pickle=False)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _DAMAGED as error:
        raise FormatError(f"{path}: not an array of numbers in .npy form ({first_line(error)})") from None


def read_npz(path: str | Path, names: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """Read those of the named arrays that a .npz archive holds; FormatError as `read_npy`."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                if f"{name}.npy" in archive.namelist():
                    content = archive.read(f"{name}.npy")
                    _check_header(io.BytesIO(content), len(content))
                    arrays[name] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, *_DAMAGED) as error:
        raise FormatError(f"{path}: damaged numpy file ({first_line(error)})") from None
    return arrays


class NpyWriter:
    """Writes a one-dimensional .npy file piece by piece; use it as a context manager."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.dtype, self.count = np.dtype(dtype), 0
        self._file = path.open("wb")
        self._write_header()

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(self, *error: object) -> None:
        # NumPy leaves room in the header for the length of any array.
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def append(self, values: npt.ArrayLike) -> None:
        """Append the values, cast to the file's type."""
        array = np.ascontiguousarray(values, self.dtype)
        self._file.write(array.tobytes())
        self.count += len(array)

    def _write_header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.count,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def _check_header(file: IO[bytes], size: int) -> None:
    """Refuse (ValueError) objects, and more numbers than ``size`` bytes hold; the file is at its start again."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format is not read")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it is a pickle of Python objects, which can hold code and is not opened")
    if min(shape, default=0) < 0 or math.prod(shape) * max(dtype.itemsize, 1) > size - file.tell():
        raise ValueError(f"shape {shape} of {dtype} is larger than the file")
    file.seek(0)
