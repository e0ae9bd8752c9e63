"""SD-HuBERT (github.com/cheoljun95/sdhubert): segments of each recording in a numpy file.

Its `extract_segments.py` saves a pickled dictionary {"segments", "features", "length", "segment_features"} under .npy.
Unpickling runs whatever code a file holds, so such files are refused here; they are saved again by

    d = numpy.load("a.npy", allow_pickle=True)[()]
    numpy.savez("a.npz", segments=d["segments"], length=d["length"])

Read are that .npz (optionally with "units"), and a .npy of the segments alone, (num_segments, 2). Integers are frames,
as its newer versions save them, fractions are seconds, as those of the paper's time did; it has 50 frames per second.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from syllablelm.core.errors import FormatError, InputError, located
from syllablelm.core.files import find_files, id_below, read_each
from syllablelm.core.npy import MAGIC, read_npy, read_npz
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.format import Entry, FolderWriter, FormatOptions
from syllablelm.formats.times import whole_frames

FRAMES_PER_SECOND = 50
_HOP = 320


class Writer(FolderWriter):
    """Writer of ``sdhubert``."""

    def _write_file(self, file: Path, id: str, segmentation: Segmentation) -> None:
        if segmentation.hop * FRAMES_PER_SECOND != segmentation.sample_rate:
            rate = segmentation.sample_rate / segmentation.hop
            raise InputError(f"{id}: SD-HuBERT's files have 50 frames per second, not {rate:g}")
        arrays: dict[str, Any] = {
            "segments": np.stack([segmentation.start, segmentation.end], axis=1),
            "length": np.int64(segmentation.num_frames),
        }
        if segmentation.unit is not None:
            arrays["units"] = segmentation.unit
        np.savez(file, **arrays)


def read(path: Path, options: FormatOptions) -> Iterator[Entry]:
    """Read ``sdhubert``."""
    hop = options.hop or _HOP

    def entries(file: Path) -> Iterator[Entry]:
        arrays = _load(file)
        with located(file):
            segmentation = _segmentation(arrays, hop, options.sample_rate)
        yield Entry(id_below(path, file), "", segmentation, str(file))

    yield from read_each(path, find_files(path, (".npz", ".npy")), entries)


def _segmentation(arrays: dict[str, Any], hop: int, sample_rate: int) -> Segmentation:
    segments = arrays["segments"]
    if segments.ndim != 2 or segments.shape[1] != 2 or segments.dtype.kind not in "iuf":
        raise FormatError(
            f"segments must be (num_segments, 2) frames or seconds, not {segments.dtype}{list(segments.shape)}"
        )
    if segments.dtype.kind == "f":
        segments = whole_frames(segments, hop, sample_rate)
    units, length = arrays.get("units"), arrays.get("length", segments.max(initial=0))
    if length.ndim != 0 or length.dtype.kind not in "iu":
        raise FormatError("length must be one integer, the frames of the recording")
    if units is not None and (units.ndim != 1 or units.dtype.kind not in "iu"):
        raise FormatError(f"units must be one row of integers, not {units.dtype}{list(units.shape)}")
    for array in (segments, length, *([] if units is None else [units])):
        if np.abs(array.astype(np.float64)).max(initial=0) >= 2**31:
            raise FormatError("a number does not fit 31 bits")
    return Segmentation(segments[:, 0], segments[:, 1], units, int(length), hop, sample_rate)


def _load(file: Path) -> dict[str, Any]:
    """Return the plain arrays of a file."""
    try:
        with open(file, "rb") as stream:
            magic = stream.read(len(MAGIC))
        if magic == MAGIC:
            return {"segments": read_npy(file)}
        if not magic.startswith(b"PK"):
            raise FormatError(f"{file}: not a file of numpy arrays")
        arrays = read_npz(file, ("segments", "length", "units"))
    except FormatError as error:
        if "pickle" not in str(error):
            raise
        raise FormatError(
            f"{file}: a pickled dictionary, which can hold code and is not opened; save it anew by numpy.savez("
            "'x.npz', segments=d['segments'], length=d['length']), see docs/convert.md"
        ) from None
    except OSError as error:
        raise FormatError(f"{file}: cannot be read ({error.strerror})") from None
    if "segments" not in arrays:
        raise FormatError(f"{file}: holds no array called 'segments'")
    return arrays
