"""What a format is: its name, its reader and writer, and what it loses; and what a reader gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation

if TYPE_CHECKING:
    from syllablelm.formats.writer import RecordWriter


class Entry(NamedTuple):
    """One recording as a reader gives it.

    Args:
        id: name of the recording, unique in its file or folder.
        path: where its audio is; empty where the format does not say.
        segmentation: its segments.
        place: where it was read, for messages: "units.jsonl:3".
    """

    id: str
    path: str
    segmentation: Segmentation
    place: str


@dataclass(frozen=True)
class Unsaid:
    """What foreign formats leave out and must be told.

    Args:
        hop: samples per frame; None where the user did not say.
        sample_rate: samples per second.
        gap_unit: in formats without gaps, the unit that stands for one: written for each gap, read back as a gap.
        unit_frames: frames of every unit, for formats that hold units without durations.

    Raises:
        InputError: a number that is out of range.
    """

    hop: int | None = None
    sample_rate: int = 16_000
    gap_unit: int | None = None
    unit_frames: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("hop", 1), ("sample_rate", 1), ("gap_unit", 0), ("unit_frames", 1)):
            value = getattr(self, name)
            if value is not None and not least <= value < 2**31:
                raise InputError(f"--{name.replace('_', '-')} {value}: must be from {least} to 2147483647")

    def need_hop(self, format: str) -> int:
        """The hop, for a format without a frame grid."""
        if self.hop is None:
            raise InputError(
                f"{format} files do not say how long a frame is: give --hop SAMPLES "
                "(at 16 kHz 320 for 50 frames per second, 640 for 25)"
            )
        return self.hop

    def need_unit_frames(self, format: str) -> int:
        """The length of every unit, for a format without durations."""
        if self.unit_frames is None:
            raise InputError(
                f"{format} files hold no durations: give --unit-frames N, the frames that each unit is to last "
                "(the times are then made up), or convert the file that has them"
            )
        return self.unit_frames


@dataclass(frozen=True)
class Format:
    """An entry of the registry.

    Args:
        name: as on the command line.
        suffixes: of its files; the first is the usual one.
        read: entries of a file or a folder.
        writer: makes a writer for a target (path or stream).
        loses: what is not in such a file, in words.
        keys: of a jsonl record, by which the format is told from others.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, Unsaid], Iterator[Entry]]
    writer: Callable[[Any, Unsaid], RecordWriter]
    loses: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()
