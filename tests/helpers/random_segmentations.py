"""Segmentations for tests of files: a few by hand, and random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import FormatOptions, open_writer

SOME = {
    "one": Segmentation.from_boundaries([0, 3, 10, 12], unit=[7, 0, 7]),
    "folder/gaps": Segmentation(np.array([2, 9]), np.array([5, 11]), np.array([4, 2**31 - 1]), 20, 160, 8_000),
    "no units": Segmentation.from_boundaries([0, 4, 9]),
    "nöthing found": Segmentation(np.array([]), np.array([]), np.array([]), 50),
    "empty": Segmentation(np.array([]), np.array([]), None, 0),
}


@st.composite
def segmentations(
    draw: st.DrawFn,
    min_frames: int = 0,
    with_units: bool | None = None,
    gaps: bool = True,
    hop: int = 320,
    sample_rate: int = 16_000,
) -> Segmentation:
    """Any valid segmentation of at most 60 frames; units are few, so that neighbours may be equal, or large."""
    num_frames = draw(st.integers(min_frames, 60))
    edges = draw(st.sets(st.integers(0, num_frames), max_size=8))
    edges = sorted(edges if gaps else edges | {0, num_frames})
    keep = [not gaps or draw(st.booleans()) for _ in edges[1:]]
    start = [edge for edge, kept in zip(edges, keep, strict=False) if kept]
    end = [edge for edge, kept in zip(edges[1:], keep, strict=True) if kept]
    unit = st.integers(0, 3) | st.integers(0, 2**31 - 1)
    units = draw(st.lists(unit, min_size=len(start), max_size=len(start)))
    has_units = draw(st.booleans()) if with_units is None else with_units
    return Segmentation(
        np.array(start, dtype=np.int32),
        np.array(end, dtype=np.int32),
        np.array(units, dtype=np.int32) if has_units else None,
        num_frames,
        hop,
        sample_rate,
    )


def write_all(target: object, format: str, some: dict[str, Segmentation], options: FormatOptions | None = None) -> None:
    """Write segmentations by a writer of the registry; the path of each is made of its id."""
    with open_writer(target, format, options) as writer:  # type: ignore[arg-type]
        for name, segmentation in some.items():
            writer.write(name, f"audio/{name}.flac", segmentation)


def files_below(folder: Path) -> list[str]:
    """Names of everything below a folder."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))
