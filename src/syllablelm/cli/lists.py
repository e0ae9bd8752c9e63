"""The lists of a boundary comparison: what is scored, and what shifts are searched on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syllablelm.cli.common import no_usable, note, read_recordings, split_units
from syllablelm.errors import InputError, plural

if TYPE_CHECKING:
    from syllablelm.alignment import Alignment
    from syllablelm.corpus import Manifest
    from syllablelm.evaluate.compare import Count
    from syllablelm.evaluate.protocols import Protocol
    from syllablelm.segmenters import Segmenter
    from syllablelm.types import Segmentation


@dataclass(frozen=True)
class AlignedList:
    """Recordings, or files of units, with their references.

    Args:
        names: the arguments that named them.
        manifest: recordings that have a reference; None where only files of units were given.
        units: segmentations by row and recording id, of the files of units.
        references: alignments by recording id.
    """

    names: tuple[str, ...]
    manifest: Manifest | None
    units: Mapping[str, Mapping[str, Segmentation]]
    references: Mapping[str, Alignment]

    @property
    def ids(self) -> set[str]:
        """Recordings of the list."""
        recordings = set() if self.manifest is None else {recording.id for recording in self.manifest}
        return recordings.union(*self.units.values())

    def segment(self, rows: Mapping[str, Segmenter], count: Count | None) -> dict[str, Mapping[str, Segmentation]]:
        """Segmentations by row and recording id: of the recordings by every segmenter, then of the files.

        Args:
            rows: segmenters by the name of their row; none where there are no recordings.
            count: how many groups they are given.

        Raises:
            InputError: a recording is not as long as its alignment.
        """
        from syllablelm.evaluate.checks import check_lengths
        from syllablelm.evaluate.compare import segment_corpus

        found: dict[str, Mapping[str, Segmentation]] = {}
        if self.manifest is not None and rows and count is not None:
            found.update(segment_corpus(self.manifest, rows, count))
            check_lengths(next(iter(found.values())), self.references, ", ".join(self.names))
        return {**found, **self.units}

    def to_dict(self, alignments: Path, found: Mapping[str, Mapping[str, Segmentation]]) -> dict[str, Any]:
        """What a reader of the scores must know of the list."""
        return describe_data(", ".join(self.names), alignments, next(iter(found.values())))


def describe_data(name: str, alignments: Path | None, found: Mapping[str, Segmentation]) -> dict[str, Any]:
    """Name, reference, number of recordings and seconds of what is scored."""
    reference = {} if alignments is None else {"alignments": str(alignments)}
    seconds = sum(segmentation.duration for segmentation in found.values())
    return {"name": name, **reference, "recordings": len(found), "seconds": round(seconds, 3)}


def read_list(arguments: Sequence[str], units: Sequence[Path], alignments: Path, levels: Sequence[str]) -> AlignedList:
    """Read the recordings and files of units that are compared with a reference.

    Args:
        arguments: recordings, a manifest or files of units.
        units: more files of units.
        alignments: their references.
        levels: what must be there in every reference.

    Raises:
        InputError: nothing given, nothing aligned, an empty reference, two files of one name, a file that lacks
            recordings, or units that do not fit their alignments; the message names the first and says how many.
    """
    from syllablelm.evaluate.checks import check_references

    audio, more = split_units(arguments)
    files = [*more, *units]
    if not (audio or files):
        raise InputError("nothing to score: give recordings, or --units FILE")
    references = read_references(alignments)
    manifest = _aligned(audio, references) if audio else None
    ids = set(references) if manifest is None else {recording.id for recording in manifest}
    found: dict[str, Mapping[str, Segmentation]] = {}
    for file in files:
        if file.stem in found:
            raise InputError(f"{file}: a second file of units named {file.stem!r}; rows are named after files")
        found[file.stem] = _read_units(file, ids, references, all_needed=manifest is not None)
    listed = AlignedList(tuple([*audio, *map(str, files)]), manifest, found, references)
    check_references(references, listed.ids, levels, str(alignments))
    return listed


def read_references(alignments: Path) -> dict[str, Alignment]:
    """Alignments by recording id.

    Raises:
        InputError: there are none.
        FormatError: the file cannot be understood.
    """
    from syllablelm.alignment import read_alignments

    references = read_alignments(alignments)
    if not references:
        raise InputError(f"{alignments}: holds no alignment of any recording")
    return references


def _aligned(audio: Sequence[str], references: Mapping[str, Alignment]) -> Manifest:
    """The recordings that have a reference; how many have none is said, not hidden."""
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    kept = manifest.filter(lambda recording: recording.id in references)
    if not kept:
        raise InputError(
            f"no recording has an alignment: ids are {manifest[0].id!r} among the recordings and "
            f"{next(iter(references))!r} among the alignments"
        )
    if skipped or len(kept) < len(manifest):
        note(f"left out: {len(skipped)} unusable, {len(manifest) - len(kept)} without an alignment")
    return kept


def _read_units(
    file: Path, ids: set[str], references: Mapping[str, Alignment], *, all_needed: bool
) -> dict[str, Segmentation]:
    """A file's segmentations of the recordings that are scored."""
    from syllablelm.evaluate.checks import check_grids, check_lengths
    from syllablelm.formats import read_segmentations

    everything = read_segmentations(file)
    check_grids(everything, str(file))
    found = {id: value for id, value in everything.items() if id in ids}
    if not found:
        raise InputError(f"{file}: none of its recordings is among those with an alignment")
    if all_needed and len(found) < len(ids):
        missing = min(ids - set(found))
        raise InputError(f"{file}: lacks {plural(len(ids) - len(found), 'recording')}, such as {missing!r}")
    check_lengths(found, references, str(file))
    return found


def read_tuning_list(
    arguments: Sequence[str], alignments: Path | None, scored: AlignedList, levels: Sequence[str]
) -> AlignedList:
    """Read the development list of a comparison: recordings for the rows of recordings, units for those of units.

    Raises:
        InputError: no alignments, a list that is scored too, or without what the rows need.
    """
    from syllablelm.evaluate.checks import check_disjoint

    if alignments is None:
        raise InputError("--tune needs the reference of its recordings: give --tune-alignments FILE")
    listed = read_list(arguments, [], alignments, levels)
    check_disjoint(scored.ids, listed.ids, "--tune")
    if len(scored.units) == len(listed.units) == 1:
        listed = replace(listed, units=dict(zip(scored.units, listed.units.values(), strict=True)))
    lacking = sorted(set(scored.units) - set(listed.units))
    if lacking:
        raise InputError(f"--tune: no file of units named like the scored {lacking[0]!r}; give one for each")
    return listed


def choose_protocols(names: str, shift: float | None, *, tuned: bool) -> tuple[Protocol, ...]:
    """The protocols of --protocol; those that take a shift with that of --shift, or 0, or none where it is searched.

    Raises:
        InputError: an unknown name, both a shift and a list to search one on, or a shift for no protocol, or for
            protocols that add it to different sides.
    """
    from syllablelm.evaluate.protocols import get_protocols

    protocols = get_protocols(names)
    shifted = [protocol for protocol in protocols if protocol.shift is None]
    if shift is not None and tuned:
        raise InputError("give --shift or --tune, not both: --tune searches the shift")
    if (shift is not None or tuned) and not shifted:
        raise InputError(f"--protocol {names}: has no shift; it is peng, sdhubert and zerosyl that do")
    if shift is not None and len({protocol.shift_side for protocol in shifted}) > 1:
        raise InputError(
            "--shift: sdhubert adds it to the reference, peng and zerosyl to the predictions; score them apart, or "
            "search it with --tune"
        )
    if tuned:
        return protocols
    return tuple(protocol.with_shift(shift or 0.0) if protocol in shifted else protocol for protocol in protocols)
