"""ABX: whether a phone is nearer to itself than to another phone in the same context, in features and in units.

The task and its averages are those of fastabx 0.9 (github.com/bootphon/fastabx), the successor of the ABX of ZeroSpeech
2021 (Schatz et al. 2013); `evaluate_abx` also writes the files that fastabx and DiscoPhon read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import AudioError, InputError, unknown_name
from syllablelm.core.files import atomic_path, file_below
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Record
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.corpus import SkippedFile, no_usable
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.lists import (
    Alignments,
    Model,
    PathLike,
    Recordings,
    UnitList,
    UnitsResult,
    open_model,
    open_recordings,
    open_references,
    read_units,
    refuse_recordings,
)
from syllablelm.evaluate.units.abx_scores import (
    Frames,
    Kind,
    PhoneToken,
    Speakers,
    abx_error_rate,
    item_lines,
    phone_tokens,
)
from syllablelm.formats import FormatOptions, open_writer
from syllablelm.tokenizer.tokenizer import Tokenizer

FEATURES, UNITS = "features", "units"
_PROTOCOL = {
    "task": "two phones in the same context; x by the speaker of a and b (within) or by another one (across)",
    "distance": "angle of features; units of frames, equal or not; dynamic time warping, over the length of the path",
    "average": "over contexts, then speakers, then ordered pairs of phones; no subsampling",
    "definition": "fastabx 0.9, zerospeech_abx with max_size_group=None and max_x_across=None",
}


@dataclass(frozen=True, kw_only=True)
class AbxRow(Record):
    """ABX error rate of one representation: "features" or "units", within or across speakers.

    Args:
        error_rate: .5 is chance; None without a cell.
        cells, triplets: number of compared pairs of phones, each in one context, and of their triplets.
    """

    representation: str
    speakers: Speakers
    error_rate: float | None
    cells: int
    triplets: int


@dataclass(frozen=True)
class AbxResult(UnitsResult):
    """ABX error rates.

    Args:
        kind: whether tokens are whole triphones, or the phones in their middle.
        tokens, left_out_tokens: number of phones compared, and of those without a frame of their own.
        protocol: the task, in words.
        rows: error rates.
    """

    evaluation: ClassVar[str] = "abx"

    kind: Kind
    tokens: int
    left_out_tokens: int
    protocol: Mapping[str, str]
    rows: tuple[AbxRow, ...]


def evaluate_abx(
    recordings: Recordings,
    alignments: Alignments,
    model: Model = "small",
    *,
    units: PathLike | None = None,
    kind: Kind = "triphone",
    rate: float | None = None,
    export: PathLike | None = None,
    device: str = "auto",
) -> AbxResult:
    """Measure the ABX error rate of a tokenizer's features and units.

    Args:
        recordings, alignments, model, rate, device: see `syllablelm.evaluate`; the speakers must be known.
        units: file of the recordings' units, scored alone instead of a tokenizer's features and units.
        kind: "triphone" compares stretches of three phones that differ in the middle one, "phoneme" the middle ones.
        export: new folder for KIND.item, units.jsonl (a unit for every frame, read by fastabx and DiscoPhon) and
            features/ID.pt (float32 tensors), as fastabx reads them.

    Raises:
        InputError: recordings without a speaker or an alignment, units of other recordings, or no two phones in the
            same context.
    """
    if kind not in get_args(Kind):
        raise unknown_name("kind of ABX", kind, get_args(Kind))
    name, manifest, skipped = open_recordings(recordings)
    refuse_recordings(f"{name}:", [one.id for one in manifest if not one.speaker], " without a speaker")
    references = open_references(alignments, ("phone",))
    speakers = {recording.id: str(recording.speaker) for recording in manifest}
    features: dict[str, npt.NDArray[np.float32]] = {}
    if units is not None:
        known = read_units(Path(units))
        refuse_recordings(f"{units}:", set(speakers) - set(known), " missing")
        found = UnitList(str(units), None, None, {id: known[id] for id in speakers})
    else:
        found, features = _encode(name, manifest, skipped, *open_model(model, rate=rate, device=device))
    aligned = found.align(references, ("phone",), partial=True)
    frames: dict[str, Mapping[str, Frames]] = {FEATURES: features} if features else {}
    if all(one.unit is not None for one in aligned.units.values()):
        frames[UNITS] = {id: one.frame_units()[:, None] for id, one in aligned.units.items()}
    tokens, left_out = _usable_tokens(aligned.units, aligned.references, speakers, kind)
    rows = [_row(tokens, each, name, across, aligned.units) for name, each in frames.items() for across in _SPEAKERS]
    if not any(row.cells for row in rows):
        raise InputError(f"{aligned.data.name}: no two phones in the same context by one speaker; give more recordings")
    if export is not None:
        _export(Path(export), kind, tokens, aligned.units, features)
    return AbxResult(found.model, aligned.data, kind, len(tokens), left_out, _PROTOCOL, tuple(rows))


_SPEAKERS: tuple[Speakers, ...] = ("within", "across")


def _encode(
    name: str, manifest: Manifest, skipped: Sequence[SkippedFile], model: str, tokenizer: Tokenizer
) -> tuple[UnitList, dict[str, npt.NDArray[np.float32]]]:
    units: dict[str, Segmentation] = {}
    features: dict[str, npt.NDArray[np.float32]] = {}
    unusable = [*skipped]
    with ProgressBar("abx", len(manifest), closing_line=False) as bar:
        for recording in manifest:
            try:
                units[recording.id], features[recording.id] = tokenizer.encode_with_features(recording.load())
            except AudioError as error:
                unusable.append(SkippedFile.because(recording.path, error))
            bar.advance()
    if not units:
        raise no_usable(unusable)
    return UnitList(name, model, tokenizer.num_units, units, len(unusable)), features


def _usable_tokens(
    units: Mapping[str, Segmentation], references: Mapping[str, Any], speakers: Mapping[str, str], kind: Kind
) -> tuple[list[PhoneToken], int]:
    """Return the tokens that have a frame, all of them inside their recording, and the number of others."""
    usable: list[PhoneToken] = []
    left_out = 0
    for id, segmentation in sorted(units.items()):
        for token in phone_tokens(references[id], speakers[id], kind):
            start, end = token.frames(segmentation.sample_rate / segmentation.hop)
            if 0 <= start < end <= segmentation.num_frames:
                usable.append(token)
            else:
                left_out += 1
    return usable, left_out


def _row(
    tokens: Sequence[PhoneToken],
    frames: Mapping[str, Frames],
    representation: str,
    speakers: Speakers,
    units: Mapping[str, Segmentation],
) -> AbxRow:
    rates = {id: segmentation.sample_rate / segmentation.hop for id, segmentation in units.items()}
    spans = [frames[token.file][slice(*token.frames(rates[token.file]))] for token in tokens]
    score = abx_error_rate(tokens, spans, speakers)
    return AbxRow(
        representation=representation,
        speakers=speakers,
        error_rate=score.error_rate if score.cells else None,
        cells=score.cells,
        triplets=score.triplets,
    )


def _export(
    folder: Path,
    kind: Kind,
    tokens: Sequence[PhoneToken],
    units: Mapping[str, Segmentation],
    features: Mapping[str, npt.NDArray[np.float32]],
) -> None:
    """Write the files of fastabx and DiscoPhon; the folder appears complete or not at all."""
    import torch

    if folder.exists():
        raise InputError(f"{folder} exists: choose another name for --export, or remove it")
    with atomic_path(folder) as part:
        (part / FEATURES).mkdir(parents=True)
        (part / f"{kind}.item").write_text("".join(f"{line}\n" for line in item_lines(tokens)), encoding="utf-8")
        if all(one.unit is not None for one in units.values()):
            gap = 1 + max((int(np.max(np.asarray(one.unit), initial=0)) for one in units.values()), default=0)
            with open_writer(part / "units.jsonl", "discophon", FormatOptions(gap_unit=gap)) as writer:
                for id, one in units.items():
                    writer.write(id, "", one.deduplicate())
        for id in units.keys() & features.keys():
            file = file_below(part / FEATURES, id, ".pt")
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(torch.from_numpy(features[id]), file)
