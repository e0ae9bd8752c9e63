"""Corpora: what a user has (LibriSpeech, folders, tables, lhotse cuts) becomes a manifest and a list of bad files."""

from __future__ import annotations

import importlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import AudioError, FormatError, InputError, MissingDependencyError
from syllablelm.core.files import atomic_path, text_lines
from syllablelm.data.audio import find_audio
from syllablelm.data.manifest import Draft, Manifest, Recording, read_drafts
from syllablelm.formats.transcript import SUFFIX as TRANSCRIPT
from syllablelm.formats.transcript import transcript_lines

__all__ = [
    "Manifest",
    "Recording",
    "SkippedFile",
    "batches_by_seconds",
    "no_usable",
    "read_recordings",
    "scan",
    "write_errors",
]
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".jsonl.gz")

Kind = Literal["auto", "librispeech", "librilight", "folder", "manifest", "lhotse"]
KINDS: tuple[Kind, ...] = ("auto", "librispeech", "librilight", "folder", "manifest", "lhotse")

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class SkippedFile:
    """A file of a corpus that cannot be used, and why."""

    path: Path
    reason: str


def scan(source: Source, *, kind: Kind = "auto", check: bool = False) -> tuple[Manifest, list[SkippedFile]]:
    """Make a manifest of a corpus; bad files are listed, not raised.

    Args:
        source: a folder, an audio file, a csv or jsonl manifest, lhotse cuts (.jsonl or .jsonl.gz), or several
            files, folders and glob patterns.
        kind: "librispeech" and "librilight" are the layout `speaker/chapter/*.flac` with transcripts and a
            SPEAKERS.TXT where present; "folder" is any other tree of recordings; "auto" finds out.
        check: decode every file completely instead of reading its header only.

    Returns:
        The manifest (files in the order of their paths, rows in their own order) and the files left out.

    Raises:
        InputError: no such kind, or no such file of cuts.
        AudioError: no such file or folder, or a folder or pattern without any recording.
        FormatError: a manifest or transcript that cannot be understood.
        MissingDependencyError: lhotse cuts without lhotse.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind '{kind}' of corpus; use one of {', '.join(KINDS)}")
    skipped: list[SkippedFile] = []
    if not isinstance(source, (str, os.PathLike)):
        if kind not in ("auto", "folder"):
            raise InputError(f"a corpus of kind '{kind}' is one path, not a list")
        drafts = _file_drafts(find_audio(source), None)
    else:
        path = Path(source)
        if kind == "auto":
            kind = _guess_kind(path)
        if kind == "manifest":
            drafts = read_drafts(path)
        elif kind == "lhotse":
            drafts = _lhotse_drafts(path, skipped)
        elif kind == "folder":
            drafts = _file_drafts(find_audio(source), path if path.is_dir() else None)
        else:
            drafts = _librispeech_drafts(path)
    recordings = list(_measured(drafts, skipped, check))
    return Manifest(recordings), skipped


def read_recordings(paths: Sequence[str]) -> tuple[Manifest, list[SkippedFile]]:
    """The recordings that the arguments of a verb name, in their order, and those that cannot be used.

    Args:
        paths: one manifest, or files, folders and patterns.

    Raises:
        InputError: a manifest among other arguments.
        AudioError, FormatError: the only argument is missing, or a manifest that cannot be understood.
    """
    if len(paths) == 1:
        return scan(paths[0])
    manifests = [path for path in paths if path.lower().endswith(MANIFEST_SUFFIXES)]
    if manifests:
        raise InputError(f"{manifests[0]}: a manifest must be the only argument; run once for each")
    files: list[Path] = []
    skipped: list[SkippedFile] = []
    for path in paths:
        try:
            files.extend(find_audio(path))
        except AudioError as error:
            skipped.append(SkippedFile(Path(path), str(error).removeprefix(f"{path}: ")))
    if not files:
        return Manifest(), skipped
    # `scan` orders by path; a file that is named twice keeps its first place.
    place = {file: number for number, file in reversed(list(enumerate(files)))}
    manifest, unusable = scan(files)
    return Manifest(sorted(manifest, key=lambda recording: place[recording.path])), skipped + unusable


def no_usable(skipped: Sequence[SkippedFile]) -> InputError:
    """The error of a run in which no recording could be used: the first reasons in one line."""
    shown = "; ".join(f"{item.path}: {item.reason}" for item in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return InputError(f"no usable recording: {shown or 'the manifest is empty'}{more}")


def write_errors(skipped: Iterable[SkippedFile], path: str | os.PathLike[str]) -> None:
    """Write the files left out of a run as jsonl: {"path", "reason"}."""
    with atomic_path(Path(path)) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        for item in skipped:
            file.write(json.dumps({"path": str(item.path), "reason": item.reason}, ensure_ascii=False) + "\n")


def batches_by_seconds(
    seconds: npt.ArrayLike, max_seconds: float, *, shuffle_seed: int | None = None, bucket: bool = True
) -> list[list[int]]:
    """Group recordings into batches whose padded length, count x longest, stays within `max_seconds`.

    Args:
        seconds: length of each recording; all positive.
        max_seconds: what a batch may hold, padding included; a longer recording makes a batch of its own.
        shuffle_seed: None gives batches in a fixed order; a seed shuffles neighbours of similar length and the
            order of the batches.
        bucket: put similar lengths together; otherwise the (shuffled) order is kept.

    Returns:
        Lists of indices; every index occurs once.

    Raises:
        InputError: a length or `max_seconds` that is not a positive number.
    """
    lengths = np.asarray(seconds, dtype=np.float64)
    if lengths.ndim != 1 or not np.all(np.isfinite(lengths) & (lengths > 0)):
        raise InputError("seconds must be a list of positive numbers")
    if not max_seconds > 0:
        raise InputError(f"max_seconds must be positive, not {max_seconds}")
    order = np.arange(len(lengths))
    rng = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
    if bucket:
        # Lengths blurred by 10 % mix the neighbours from epoch to epoch and cost little padding.
        blurred = lengths if rng is None else lengths * rng.uniform(0.9, 1.1, len(lengths))
        order = np.argsort(blurred, kind="stable")
    elif rng is not None:
        order = rng.permutation(order)
    batches: list[list[int]] = []
    longest = 0.0
    for index in order.tolist():
        longest = max(longest, lengths[index])
        if batches and (len(batches[-1]) + 1) * longest <= max_seconds:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    if rng is not None:
        batches = [batches[index] for index in rng.permutation(len(batches))]
    return batches


def _measured(drafts: Iterable[Draft], skipped: list[SkippedFile], check: bool) -> Iterator[Recording]:
    for draft in drafts:
        try:
            yield draft.measure(check=check)
        except AudioError as error:
            skipped.append(SkippedFile(draft.path, str(error).removeprefix(f"{draft.path}: ")))


def _guess_kind(path: Path) -> Kind:
    if path.is_dir():
        is_libri = any(path.rglob(f"*{TRANSCRIPT}")) or all(_lies_by_speaker(file, path) for file in find_audio(path))
        return "librispeech" if is_libri else "folder"
    name = path.name.lower()
    if name.endswith(".jsonl.gz"):
        return "lhotse"
    if name.endswith(".jsonl"):
        return "lhotse" if _holds_cuts(path) else "manifest"
    return "manifest" if name.endswith(".csv") else "folder"


def _lies_by_speaker(file: Path, root: Path) -> bool:
    parts = file.relative_to(root).parts
    return file.suffix == ".flac" and len(parts) >= 3 and parts[-3].isdecimal()


def _holds_cuts(path: Path) -> bool:
    """Whether the first line of a jsonl file is a lhotse cut; a file that cannot be parsed is reported later."""
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(next(iter(file), "{}"))
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and str(first.get("type", "")).endswith("Cut")


def _file_drafts(files: Sequence[Path], root: Path | None) -> Iterator[Draft]:
    """Plain files: the id is the path below `root` (or below the files' common folder) without its suffix."""
    for id, file in zip(_ids(files, root), files, strict=True):
        yield Draft(id, file)


def _ids(files: Sequence[Path], root: Path | None) -> list[str]:
    if not files:
        return []
    absolute = [os.path.abspath(file) for file in files]
    folder = os.path.abspath(root) if root else os.path.commonpath([os.path.dirname(file) for file in absolute])
    names = [Path(os.path.relpath(file, folder)) for file in absolute]
    ids = [name.with_suffix("").as_posix() for name in names]
    count = Counter(ids)
    # a.wav beside a.flac: only then does the suffix tell them apart. The full names are unique, but one could equal
    # the shortened form of a third file (a.wav beside a.wav.flac and a.flac), hence the second look.
    ids = [id if count[id] == 1 else name.as_posix() for id, name in zip(ids, names, strict=True)]
    return ids if len(set(ids)) == len(ids) else [name.as_posix() for name in names]


def _librispeech_drafts(root: Path) -> Iterator[Draft]:
    """LibriSpeech and LibriLight: `speaker/chapter/utterance.flac`, anywhere below `root`."""
    files = find_audio(root)
    stems = [file.stem for file in files]
    ids = stems if len(set(stems)) == len(stems) else _ids(files, root)
    sexes = _speaker_sexes(root)
    texts: dict[Path, dict[str, str]] = {}
    for id, file in zip(ids, files, strict=True):
        if file.parent not in texts:
            texts[file.parent] = _transcripts(file.parent)
        speaker = file.absolute().parent.parent.name
        yield Draft(id, file, speaker=speaker, text=texts[file.parent].get(file.stem), sex=sexes.get(speaker))


def _transcripts(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob(f"*{TRANSCRIPT}"))
    return {name: text for file in files for _, name, text in transcript_lines(file) if text}


def _speaker_sexes(root: Path) -> dict[str, str]:
    """Sex of each speaker from LibriSpeech's SPEAKERS.TXT, which lies in or above the folder of a part."""
    for folder in (root, root.absolute().parent):
        path = folder / "SPEAKERS.TXT"
        if path.is_file():
            lines = (line for _, line in text_lines(path) if line.strip() and not line.startswith(";"))
            rows = [[field.strip() for field in line.split("|")] for line in lines]
            return {row[0]: row[1] for row in rows if len(row) > 2}
    return {}


def _lhotse_drafts(path: Path, skipped: list[SkippedFile]) -> Iterator[Draft]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the name")
    try:
        lhotse = importlib.import_module("lhotse")
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: lhotse cuts need lhotse ({error}); install it with: pip install 'syllablelm[lhotse]'"
        ) from error
    try:
        cuts = lhotse.CutSet.from_file(path)
        for cut in cuts:
            reason = _unusable_cut(cut)
            if reason:
                skipped.append(SkippedFile(path, f"cut '{cut.id}' {reason}"))
            else:
                yield _cut_draft(cut, path.parent)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: not a lhotse cut set ({error})") from error


def _unusable_cut(cut: Any) -> str | None:
    if type(cut).__name__ != "MonoCut":
        return f"is a {type(cut).__name__}, not an excerpt of one file; write it out first (CutSet.save_audios)"
    if not cut.has_recording:
        return "has no recording; only cuts with audio can be used"
    if cut.recording.transforms:
        return "changes the sound of its recording on the fly; write it out first (CutSet.save_audios)"
    sources = cut.recording.sources
    if len(sources) != 1 or sources[0].type != "file":
        return "is not stored in one local file; download or write it out first (CutSet.save_audios)"
    if cut.recording.num_channels != 1:
        return f"is one of {cut.recording.num_channels} channels of a file; write it out first (CutSet.save_audios)"
    return None


def _cut_draft(cut: Any, folder: Path) -> Draft:
    path = Path(cut.recording.sources[0].source)
    if not path.is_absolute() and not path.exists():
        path = folder / path
    said = cut.supervisions
    texts = [part.text for part in said if part.text]
    speakers, sexes = {part.speaker for part in said}, {part.gender for part in said}
    return Draft(
        id=cut.id,
        path=path,
        offset_seconds=float(cut.start),
        seconds=float(cut.duration),
        text=" ".join(texts) if texts else None,
        speaker=speakers.pop() if len(speakers) == 1 else None,
        sex=sexes.pop() if len(sexes) == 1 else None,
    )
