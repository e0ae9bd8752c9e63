"""The lists that units are scored on: what has a reference, what has none, and what shifts are searched on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from syllablelm.core.errors import InputError, plural
from syllablelm.core.progress import note
from syllablelm.data.corpus import no_usable, read_recordings
from syllablelm.formats import split_units
from syllablelm.tokenizer.bpe_tokenizer import open_tokenizer as load_tokenizer
from syllablelm.tokenizer.recordings import encode_recordings

if TYPE_CHECKING:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.data.alignment import Alignment
    from syllablelm.data.corpus import Manifest
    from syllablelm.evaluate.boundaries.comparison import Count
    from syllablelm.evaluate.boundaries.protocols import Protocol
    from syllablelm.segment.registry import Segmenter


@dataclass(frozen=True)
class AlignedList:
    """Recordings, or files of units, with their references.

    Args:
        names: the arguments that named them.
        manifest: recordings that have a reference; None where only files of units were given.
        units: segmentations by row and recording id, of the files of units.
        references: alignments by recording id.
        omitted: how many recordings are not scored, by reason.
    """

    names: tuple[str, ...]
    manifest: Manifest | None
    units: Mapping[str, Mapping[str, Segmentation]]
    references: Mapping[str, Alignment]
    omitted: Mapping[str, int]

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
        from syllablelm.evaluate.boundaries.comparison import segment_corpus
        from syllablelm.evaluate.checks import check_lengths

        found: dict[str, Mapping[str, Segmentation]] = {}
        if self.manifest is not None and rows and count is not None:
            found.update(segment_corpus(self.manifest, rows, count))
            for row in found.values():
                check_lengths(row, self.references, ", ".join(self.names))
        return {**found, **self.units}

    def to_dict(self, alignments: Path, found: Mapping[str, Mapping[str, Segmentation]]) -> dict[str, Any]:
        """What a reader of the scores must know of the list."""
        return describe_data(", ".join(self.names), alignments, next(iter(found.values())), self.omitted)


def describe_data(
    name: str, alignments: Path | None, found: Mapping[str, Segmentation], omitted: Mapping[str, int]
) -> dict[str, Any]:
    """Name, reference, number of recordings and seconds of what is scored, and what is not."""
    reference = {} if alignments is None else {"alignments": str(alignments)}
    seconds = sum(segmentation.duration for segmentation in found.values())
    return {"name": name, **reference, "recordings": len(found), "seconds": round(seconds, 3), **omitted}


class Matched(NamedTuple):
    """A file of units beside its reference.

    Args:
        shared: segmentations of recordings that have an alignment.
        unaligned: recordings without one.
        without_units: recordings that have only an alignment.
    """

    shared: dict[str, Segmentation]
    unaligned: set[str]
    without_units: set[str]

    @property
    def omitted(self) -> dict[str, int]:
        """How many recordings are not scored, by reason."""
        return {"left_out": len(self.unaligned), "without_units": len(self.without_units)}


def note_omitted(omitted: Mapping[str, int]) -> None:
    """Say how many recordings are not scored, if any."""
    told = {"unusable": "unusable", "left_out": "without an alignment", "without_units": "without units"}
    if any(omitted.values()):
        note("left out: " + ", ".join(f"{omitted[key]} {what}" for key, what in told.items() if key in omitted))


def match_units(
    found: Mapping[str, Segmentation], references: Mapping[str, Alignment], name: str, *, partial: bool
) -> Matched:
    """Find the recordings of a file of units among its references.

    Raises:
        InputError: none is there; or, unless `partial`, units or references lack recordings of the other. Names the
            first and says how many.
    """
    shared = {id: value for id, value in found.items() if id in references}
    if not shared:
        raise InputError(f"{name}: none of its recordings is among those with an alignment; the ids must be the same")
    matched = Matched(shared, set(found) - set(shared), set(references) - set(shared))
    for what, ids in (("without an alignment", matched.unaligned), ("aligned but not in it", matched.without_units)):
        if ids and not partial:
            raise InputError(
                f"{name}: {plural(len(ids), 'recording')} {what}, such as {min(ids)!r}; add --partial to score the "
                f"{len(shared)} that have both"
            )
    return matched


def read_list(
    arguments: Sequence[str],
    units: Sequence[Path],
    alignments: Path,
    levels: Sequence[str],
    *,
    partial: bool,
) -> AlignedList:
    """Read the recordings and files of units that are compared with a reference.

    Args:
        arguments: recordings, a manifest or files of units.
        units: more files of units.
        alignments: their references.
        levels: what must be there in every reference.
        partial: whether files of units may hold other recordings than the references, see `match_units`.

    Raises:
        InputError: nothing given, nothing aligned, an empty reference, two files of one name, files of different
            recordings, or units that do not fit their alignments; the message names the first and says how many.
    """
    from syllablelm.evaluate.checks import check_references

    audio, more = split_units(arguments)
    files = [*more, *units]
    if not (audio or files):
        raise InputError("nothing to score: give recordings, or --units FILE")
    references = read_references(alignments)
    manifest, omitted = _aligned(audio, references) if audio else (None, {})
    ids = None if manifest is None else {recording.id for recording in manifest}
    unaligned: set[str] = set()
    found: dict[str, Mapping[str, Segmentation]] = {}
    for file in files:
        if file.stem in found:
            raise InputError(f"{file}: a second file of units named {file.stem!r}; rows are named after files")
        matched = match_units(read_units(file), references, str(file), partial=partial or manifest is not None)
        ids = set(matched.shared) if ids is None else ids
        found[file.stem] = _pick(matched.shared, ids, file, references, alone=manifest is None)
        if manifest is None:
            # The last file speaks for all: they hold the same recordings, but for those without an alignment.
            unaligned |= matched.unaligned
            omitted = matched._replace(unaligned=unaligned).omitted
    if manifest is None:
        note_omitted(omitted)
    listed = AlignedList(tuple([*audio, *map(str, files)]), manifest, found, references, omitted)
    check_references(references, listed.ids, levels, str(alignments))
    return listed


def read_references(alignments: Path) -> dict[str, Alignment]:
    """Alignments by recording id.

    Raises:
        InputError: there are none.
        FormatError: the file cannot be understood.
    """
    from syllablelm.data.alignment import read_alignments

    references = read_alignments(alignments)
    if not references:
        raise InputError(f"{alignments}: holds no alignment of any recording")
    return references


def _aligned(audio: Sequence[str], references: Mapping[str, Alignment]) -> tuple[Manifest, dict[str, int]]:
    """The recordings that have a reference, and how many are left out: said, not hidden."""
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    kept = manifest.filter(lambda recording: recording.id in references)
    if not kept:
        raise InputError(
            f"no recording has an alignment: ids are {manifest[0].id!r} among the recordings and "
            f"{next(iter(references))!r} among the alignments"
        )
    omitted = {"left_out": len(manifest) - len(kept), "unusable": len(skipped)}
    note_omitted(omitted)
    return kept, omitted


def read_units(file: Path) -> dict[str, Segmentation]:
    """The segmentations of a file, all on one frame grid.

    Raises:
        InputError: none, or several grids.
    """
    from syllablelm.evaluate.checks import check_grids
    from syllablelm.formats import read_segmentations

    found = read_segmentations(file)
    check_grids(found, str(file))
    if not found:
        raise InputError(f"{file}: holds no recording")
    return found


def _pick(
    found: Mapping[str, Segmentation], ids: set[str], file: Path, references: Mapping[str, Alignment], *, alone: bool
) -> dict[str, Segmentation]:
    """A file's segmentations of the recordings that every row is scored on.

    Args:
        alone: whether there are only files, which then must hold the same recordings: the row of a file is not cut
            down to those of another.
    """
    from syllablelm.evaluate.checks import check_lengths

    lacking, more = ids - set(found), set(found) - ids if alone else set()
    for verb, others, rows in (("lacks", lacking, "have"), ("has", more, "lack")):
        if others:
            raise InputError(
                f"{file}: {verb} {plural(len(others), 'recording')}, such as {min(others)!r}, that other rows {rows}; "
                "rows are compared on the same recordings"
            )
    picked = {id: value for id, value in found.items() if id in ids}
    check_lengths(picked, references, str(file))
    return picked


class UnitList(NamedTuple):
    """Units of a list of recordings.

    Args:
        name: what the user gave.
        model: tokenizer that made them here; None for a file of units.
        num_units: size of its codebook, where it is known.
        segmentations: by recording id.
        unusable: recordings that could not be read.
    """

    name: str
    model: str | None
    num_units: int | None
    segmentations: dict[str, Segmentation]
    unusable: int = 0

    def align(
        self, references: Mapping[str, Alignment], *, partial: bool
    ) -> tuple[dict[str, Segmentation], dict[str, int]]:
        """The units of recordings that have an alignment, and how many have none: said, not hidden.

        Raises:
            InputError: none has; or a file of units does not hold the recordings of the alignments, see `match_units`.
        """
        # Recordings are a choice from those of the alignments; a file of units may have been cut short.
        matched = match_units(self.segmentations, references, self.name, partial=partial or self.model is not None)
        omitted = matched.omitted
        if self.model is not None:
            omitted = {"left_out": omitted["left_out"], "unusable": self.unusable}
        note_omitted(omitted)
        return matched.shared, omitted

    def header(
        self,
        evaluation: str,
        alignments: Path | None,
        scored: Mapping[str, Segmentation],
        omitted: Mapping[str, int],
    ) -> dict[str, Any]:
        """The first keys of a result."""
        return {
            "evaluation": evaluation,
            "model": self.model,
            "data": describe_data(self.name, alignments, scored, omitted),
            "recordings": len(scored),
        }


def read_unit_list(
    audio: Sequence[str] | None, units: Path | None, model: str, rate: float | None, device: str
) -> UnitList:
    """Units from a file, or from recordings by a tokenizer.

    Raises:
        InputError: nothing given, several files or a file beside recordings, or nothing usable.
    """
    audio, files = split_units(audio or [])
    files = [*files, *([units] if units else [])]
    if files:
        if audio or len(files) > 1:
            raise InputError(f"{files[0]}: a file of units is scored alone; give no recordings and no second file")
        return UnitList(str(files[0]), None, None, read_units(files[0]))
    if not audio:
        raise InputError("nothing to score: give recordings, or --units FILE")
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    tokenizer = load_tokenizer(model, device=device, rate=rate)
    found = {recording.id: segments for recording, segments in encode_recordings(tokenizer, manifest, skipped)}
    if not found:
        raise no_usable(skipped)
    return UnitList(", ".join(audio), model, tokenizer.num_units, found, len(skipped))


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
    # A shift may be searched on any part of a list.
    listed = read_list(arguments, [], alignments, levels, partial=True)
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
    from syllablelm.evaluate.boundaries.protocols import get_protocols

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
    for protocol in shifted:
        low, high = min(protocol.shift_grid), max(protocol.shift_grid)
        if shift is not None and not low <= shift <= high:
            note(f"--shift {shift:g}: outside the {low:g} to {high:g} s among which {protocol.name} searches")
    return tuple(protocol.with_shift(shift or 0.0) if protocol in shifted else protocol for protocol in protocols)
