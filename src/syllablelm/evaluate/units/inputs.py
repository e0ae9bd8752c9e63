"""What scores of units are measured on: units that a tokenizer makes of recordings, or those of a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from syllablelm.core.errors import InputError
from syllablelm.core.results import Result
from syllablelm.data.corpus import SkippedFile, no_usable, read_recordings
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.evaluate.checks import check_grids, check_lengths, check_references
from syllablelm.evaluate.lists import ScoredData, match_units, note_omitted, read_references, read_units
from syllablelm.formats import split_units
from syllablelm.tokenizer.recordings import encode_recordings
from syllablelm.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.data.alignment import Alignment

PathLike = str | os.PathLike[str]
Recordings = PathLike | Sequence[PathLike] | Sequence[Recording]
"""Audio files, folders, patterns or one manifest; or the recordings themselves."""
Units = Mapping[str, "Segmentation"]
"""Segmentations by recording id."""
Alignments = PathLike | Mapping[str, "Alignment"]
"""A file or folder of alignments, or the alignments by recording id."""
Model = PathLike | Tokenizer
"""A tokenizer, or what it is loaded by: bundled name, folder, hub id or checkpoint file."""


def as_list(value: Any) -> list[Any]:
    """Return a list of what may also be given alone: a path, a recording or a tokenizer."""
    return [value] if isinstance(value, str | os.PathLike | Recording | Tokenizer) else list(value)


def open_recordings(source: Recordings) -> tuple[str, Manifest, list[SkippedFile]]:
    """Return name, usable recordings and unusable files of a list of recordings.

    Raises:
        InputError: no usable recording.
    """
    items = as_list(source)
    recordings = [item for item in items if isinstance(item, Recording)]
    if recordings:
        return f"{len(recordings)} recordings", Manifest(recordings), []
    paths = [os.fspath(item) for item in items if not isinstance(item, Recording)]
    manifest, skipped = read_recordings(paths)
    if not manifest:
        raise no_usable(skipped)
    return ", ".join(paths), manifest, skipped


def open_model(model: Model, *, rate: float | None = None, device: str = "auto") -> tuple[str, Tokenizer]:
    """Return the name of a tokenizer, or its digest if it is loaded already, and the tokenizer.

    Raises:
        InputError: a rate for a tokenizer that is loaded already.
    """
    if not isinstance(model, Tokenizer):
        return str(model), Tokenizer.load(str(model), device=device, rate=rate)
    if rate is not None:
        raise InputError("a rate is for a tokenizer given by name; load the tokenizer with this rate instead")
    return model.digest or type(model).__name__, model


def open_references(source: Alignments) -> tuple[str | None, Mapping[str, Alignment]]:
    """Return the file of alignments, if it is one, and the alignments by recording id."""
    if isinstance(source, Mapping):
        return None, source
    return os.fspath(source), read_references(Path(source))


class AlignedUnits(NamedTuple):
    """Units and alignments of the same recordings, by id, and their description."""

    units: dict[str, Segmentation]
    references: dict[str, Alignment]
    data: ScoredData


@dataclass(frozen=True)
class UnitList:
    """Units of a list of recordings.

    Args:
        name: what the user gave.
        model: tokenizer that made them here; None for units made before.
        num_units: size of its codebook, where known.
        units: segmentations by recording id.
        unusable: number of recordings that could not be read.
    """

    name: str
    model: str | None
    num_units: int | None
    units: Units
    unusable: int = 0

    def describe(self) -> ScoredData:
        """Describe all units, and note the number of unusable recordings."""
        omitted = {"left_out": 0, "unusable": self.unusable}
        note_omitted(omitted)
        return ScoredData.of(self.name, None, self.units, omitted)

    def align(
        self, references: tuple[str | None, Mapping[str, Alignment]], levels: Sequence[str] = (), *, partial: bool
    ) -> AlignedUnits:
        """Return the units of recordings that have an alignment, and note how many have none.

        Args:
            references: what `open_references` gave.
            levels: what every alignment must hold: "syllable", "phone" or "word".
            partial: whether units made before may be of other recordings than the alignments.

        Raises:
            InputError: units that do not fit their alignments; the message names the first and gives their number.
        """
        path, alignments = references
        # Recordings may be any part of the aligned ones; a file of units may have been cut short by accident.
        made_here = self.model is not None
        matched = match_units(self.units, alignments, self.name, partial=partial or made_here)
        omitted = matched.omitted
        if made_here:
            omitted = {"left_out": omitted["left_out"], "unusable": self.unusable}
        note_omitted(omitted)
        check_references(alignments, matched.shared, levels, path or "alignments")
        check_lengths(matched.shared, alignments, self.name)
        data = ScoredData.of(self.name, path, matched.shared, omitted)
        return AlignedUnits(matched.shared, {id: alignments[id] for id in matched.shared}, data)


def read_unit_list(
    source: Recordings | Units | None,
    model: Model = "small",
    *,
    units: PathLike | None = None,
    rate: float | None = None,
    device: str = "auto",
) -> UnitList:
    """Return units, made of recordings or read from a file.

    Args:
        source: recordings, one file of units (.jsonl, .parquet), or segmentations by recording id.
        model: tokenizer of recordings.
        units: file or folder of units in any format, instead of `source`.
        rate: units per second instead of the tokenizer's own.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: nothing given, several files or a file beside recordings, several frame grids, or nothing usable.
    """
    if isinstance(source, Mapping):
        check_grids(source, "units")
        return UnitList("units", None, None, source)
    items = as_list(source or [])
    audio, files = split_units([os.fspath(item) for item in items if not isinstance(item, Recording)])
    files = [*files, *([Path(units)] if units else [])]
    if files:
        if len(items) + bool(units) > 1:
            raise InputError(f"{files[0]}: a file of units is scored alone; give no recordings and no second file")
        return UnitList(str(files[0]), None, None, read_units(files[0]))
    if not items:
        raise InputError("nothing to score: give recordings, or --units FILE")
    name, manifest, skipped = open_recordings(audio or items)
    model_name, tokenizer = open_model(model, rate=rate, device=device)
    found = {recording.id: segments for recording, segments in encode_recordings(tokenizer, manifest, skipped)}
    if not found:
        raise no_usable(skipped)
    return UnitList(name, model_name, tokenizer.num_units, found, len(skipped))


@dataclass(frozen=True)
class UnitsResult(Result):
    """Base of the results of units.

    Args:
        model: tokenizer, or several joined by commas; None for units made before.
        data: what was scored.
    """

    derived: ClassVar[tuple[str, ...]] = ("recordings",)

    model: str | None
    data: ScoredData

    @property
    def recordings(self) -> int:
        """Number of recordings."""
        return self.data.recordings
