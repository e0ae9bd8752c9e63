"""Corpora: paths, whatever a user has, become files, then drafts, then a manifest and a list of unusable files."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import AudioError, FormatError, InputError, SyllableLMError
from syllablelm.core.files import refuse_inputs, text_lines, walk_files, write_json_lines
from syllablelm.core.results import Record, json_key
from syllablelm.data.layouts import find_lists, raw_language
from syllablelm.data.manifest import Draft, Manifest, Part, Recording, read_drafts
from syllablelm.data.manifest_formats import is_manifest
from syllablelm.data.pieces import cut_recordings
from syllablelm.data.pyav import DECODED_BY_AV
from syllablelm.data.vad import Method
from syllablelm.formats.transcript import is_transcript, transcript_lines

_READ = ".wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .mp3 .mp2 .aiff .aif .aifc .au .snd .caf .sph .nist .voc"
# Listed as unusable, so that nobody believes them read.
_NOT_READ = ".ac3 .ape .avi .aax .dsf .dts .m4v .mkv .mov .mpc .ra .spx .tta .wv"
AUDIO_SUFFIXES = frozenset([*_READ.split(), *_NOT_READ.split()]) | DECODED_BY_AV
"""Suffixes of recordings in folders and patterns; a file named itself may have any."""

Kind = Literal["auto", "librispeech", "librilight", "folder", "manifest", "lhotse"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Kinds with the layout speaker/chapter/*.flac.
LIBRISPEECH = ("librispeech", "librilight")

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class SkippedFile(Record):
    """A file of a corpus that cannot be used, and the reason."""

    path: Path
    reason: str

    @classmethod
    def because(cls, path: Path, error: Exception) -> SkippedFile:
        """Return the entry of a file that an error made unusable."""
        message = error.args[0] if isinstance(error, SyllableLMError) else str(error)
        return cls(path, message.removeprefix(f"{path}: "))


@dataclass(frozen=True)
class PreparedCorpus(Record):
    """Result of `prepare_corpus` and `prepare_subset`.

    Args:
        manifest: its path.
        recordings, hours, speakers: recordings in it, their total length, and their different speakers.
        skipped, errors: number of unusable files, and the file that lists them.
        cut, no_speech_hours: recordings that were cut into pieces, and what no piece of them holds; None if not asked.
    """

    manifest: Path
    recordings: int
    hours: float
    speakers: int
    skipped: int
    errors: Path
    cut: int | None = json_key(omit_none=True)
    no_speech_hours: float | None = json_key(omit_none=True)


def prepare_corpus(
    source: Paths,
    out: str | Path,
    *,
    kind: Kind = "auto",
    check: bool = False,
    segment: Literal["none", "vad"] = "none",
    max_seconds: float | None = None,
    vad: Method = "energy",
    workers: int = 1,
) -> PreparedCorpus:
    """Write the manifest of a corpus, and beside it OUT.errors.jsonl, the list of unusable files.

    Args:
        source, kind, check: as of `scan`.
        out: file that ends in .jsonl.
        segment, max_seconds, vad, workers: "vad" cuts recordings longer than `max_seconds` (default: 30) into pieces
            (`cut_recordings`), whose rows keep path and times (`start`, `num_samples`).

    Raises:
        InputError: no usable recording, or a wrong option; otherwise as `scan`.
    """
    out = _manifest_name(out)
    if max_seconds is not None and segment == "none":
        raise InputError("--max-seconds: recordings are cut by --segment vad only; add it")
    manifest, skipped = scan(source, kind=kind, check=check)
    counts: dict[str, Any] = {}
    if segment == "vad":
        found = cut_recordings(manifest, 30.0 if max_seconds is None else max_seconds, vad, workers)
        skipped += [SkippedFile.because(recording.path, error) for recording, error in found.unusable]
        manifest, counts = found.pieces, {"cut": found.cut, "no_speech_hours": found.no_speech_seconds / 3600}
    return _write_corpus(manifest, skipped, source, out, **counts)


def prepare_subset(
    source: Paths, out: str | Path, hours: float, *, by: Part = "recording", seed: int = 0
) -> PreparedCorpus:
    """Write the manifest of a random part of a corpus (`Manifest.sample`); otherwise as `prepare_corpus`."""
    out = _manifest_name(out)
    manifest, skipped = scan(source)
    return _write_corpus(manifest.sample(hours, by=by, seed=seed), skipped, source, out)


def _manifest_name(out: str | Path) -> Path:
    if Path(out).suffix != ".jsonl":
        raise InputError(f"--out {out}: the name of a manifest ends in .jsonl")
    return Path(out)


def _write_corpus(
    manifest: Manifest, skipped: list[SkippedFile], source: Paths, out: Path, **counts: Any
) -> PreparedCorpus:
    errors = errors_file(out)
    sources = [source] if isinstance(source, str | os.PathLike) else source
    refuse_inputs([out, errors], [*map(Path, sources), *(recording.path for recording in manifest)])
    write_errors(skipped, errors)
    if not manifest:
        raise no_usable(skipped)
    manifest.save(out)
    speakers, hours = {recording.speaker for recording in manifest} - {None}, manifest.total_seconds / 3600
    return PreparedCorpus(out, len(manifest), hours, len(speakers), len(skipped), errors, **counts)


def scan(source: Paths, *, kind: Kind = "auto", check: bool = False) -> tuple[Manifest, list[SkippedFile]]:
    """Return the manifest of a corpus and its unusable files, which are listed, not raised.

    Args:
        source: a folder, an audio file, a manifest (see `Manifest.load`), or several files, folders and glob patterns.
        kind: "librispeech" and "librilight" are the layout `speaker/chapter/*.flac` with transcripts and a
            SPEAKERS.TXT where present; "folder" is any other tree of recordings; "manifest" and "lhotse" are a file
            that lists them; "auto" detects it, and the layouts of MLS, VoxPopuli and Common Voice (`data.layouts`).
        check: decode every file completely instead of reading its header only.

    Returns:
        The manifest (files in the order of their paths, rows in their own order) and the unusable files.

    Raises:
        AudioError: no such file or folder, or a folder or pattern without any recording.
        FormatError: a manifest that cannot be read, is empty, or repeats ids.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind '{kind}' of corpus; use one of {', '.join(KINDS)}")
    skipped: list[SkippedFile] = []
    if isinstance(source, str | os.PathLike):
        drafts = _drafts(Path(source), kind, skipped)
    elif kind in ("auto", "folder") or (kind in LIBRISPEECH and all(Path(path).is_dir() for path in source)):
        drafts = _list_drafts([Path(path) for path in source], kind, skipped)
    else:
        raise InputError(f"a corpus of kind '{kind}' is one path, or a list of folders of LibriSpeech")
    manifest, skipped = _collect(drafts, lambda draft: draft.measure(check=check), skipped)
    if isinstance(source, str | os.PathLike) and not manifest and not skipped:
        raise FormatError(f"{source}: lists no recordings")
    return manifest, skipped


def read_recordings(paths: Sequence[str]) -> tuple[Manifest, list[SkippedFile]]:
    """Return the recordings named on a command line, in their order, and the unusable files.

    The paths are one manifest, or files, folders and patterns; a manifest among others is an InputError.
    """
    if len(paths) == 1:
        return scan(paths[0])
    manifests = [path for path in paths if is_manifest(path) and not Path(path).is_dir()]
    if manifests:
        raise InputError(f"{manifests[0]}: a manifest must be the only argument; run once for each")
    files: list[Path] = []
    skipped: list[SkippedFile] = []
    for path in paths:
        try:
            files += find_audio(path)
        except AudioError as error:
            skipped.append(SkippedFile.because(Path(path), error))
    return _collect(_file_drafts(_distinct(files)), Draft.measure, skipped)


def read_manifest(path: str | os.PathLike[str]) -> tuple[Manifest, list[SkippedFile]]:
    """Return a manifest and its unusable rows; headers are read only of files whose length it does not give."""
    return _collect(read_drafts(path), Draft.recording, [])


def _collect(
    drafts: Iterable[Draft], measure: Callable[[Draft], Recording], skipped: list[SkippedFile]
) -> tuple[Manifest, list[SkippedFile]]:
    recordings: list[Recording] = []
    for draft in drafts:
        try:
            recordings.append(measure(draft))
        except (AudioError, FormatError) as error:
            skipped.append(SkippedFile.because(draft.path, error))
    return Manifest(recordings), skipped


def in_utf8(manifest: Manifest, skipped: list[SkippedFile]) -> Manifest:
    """Return the recordings whose ids and paths can be written in UTF-8; the others are added to `skipped`."""
    kept = []
    for recording in manifest:
        try:
            f"{recording.id}{recording.path}".encode()
            kept.append(recording)
        except UnicodeEncodeError:
            skipped.append(SkippedFile(recording.path, "its name is not valid UTF-8; rename it"))
    return Manifest(kept)


def no_usable(skipped: Sequence[SkippedFile]) -> InputError:
    """Return the error of a run without any usable recording: the first reasons in one line."""
    shown = "; ".join(f"{item.path}: {item.reason}" for item in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return InputError(f"no usable recording: {shown or 'the manifest is empty'}{more}")


def errors_file(out: str | os.PathLike[str]) -> Path:
    """Return the file beside an output that lists the unusable files."""
    path = Path(out)
    return path.with_name(path.name + ".errors.jsonl")


def write_errors(skipped: Iterable[SkippedFile], path: str | os.PathLike[str]) -> None:
    """Write unusable files as jsonl: {"path", "reason"}."""
    write_json_lines(Path(path), (item.to_dict() for item in skipped))


# Paths to files


def find_audio(paths: Paths) -> list[Path]:
    """Expand files, folders (searched recursively) and glob patterns into a sorted list of distinct files.

    Folders and patterns give files with a known audio suffix whose name does not begin with a dot; a file that
    is named itself is taken whatever its suffix. A name without any recording is an AudioError.
    """
    names = [paths] if isinstance(paths, str | os.PathLike) else paths
    return sorted(_distinct(match for name in names for match in _matches(name)))


def _matches(name: str | os.PathLike[str]) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        matches = [file for file in walk_files(path) if _is_audio(file)]
    elif path.exists() or path.is_symlink():
        matches = [path]
    elif glob.has_magic(os.fspath(name)):
        hits = [Path(hit) for hit in glob.glob(os.fspath(name), recursive=True)]
        matches = [file for hit in hits for file in (walk_files(hit) if hit.is_dir() else [hit]) if _is_audio(file)]
    else:
        raise AudioError(f"{name}: no such file or folder; check the name")
    if not matches:
        raise AudioError(f"{name}: no recordings found; expected files such as *.wav, *.flac, *.ogg or *.mp3")
    return matches


def _distinct(files: Iterable[Path]) -> list[Path]:
    """Return each name once, in the order of appearance, under the shortest path to it.

    Links to one file (git-annex, DVC) are recordings of their own; links to one folder are not.
    """
    names: dict[str, Path] = {}
    for file in files:
        real = os.path.join(os.path.realpath(file.parent), file.name)
        names[real] = min(names.get(real, file), file, key=lambda name: (len(name.parts), name))
    return list(names.values())


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


# Files to drafts


def _drafts(path: Path, kind: Kind, skipped: list[SkippedFile]) -> Iterator[Draft]:
    if kind in ("manifest", "lhotse") or (kind == "auto" and is_manifest(path) and not path.is_dir()):
        return read_drafts(path)
    if kind == "auto" and path.is_dir() and (lists := find_lists(path)):
        return _listed_drafts(path, lists)
    files = find_audio(path)
    transcripts = _find_transcripts(path, files, kind)
    if transcripts is not None:
        return _librispeech_drafts(files, path, transcripts, skipped)
    return _file_drafts(files, path if path.is_dir() else None)


def _list_drafts(paths: Sequence[Path], kind: Kind, skipped: list[SkippedFile]) -> Iterator[Draft]:
    """Return the files of several folders, files and patterns; of known layouts with their texts and speakers."""
    parts: list[Iterator[Draft]] = []
    for path in paths:
        if kind == "auto" and path.is_dir() and (lists := find_lists(path)):
            parts.append(_listed_drafts(path, lists))
            continue
        files = find_audio(path) if path.is_dir() else []
        transcripts = _find_transcripts(path, files, kind) if files else None
        if transcripts is None:
            return _file_drafts(find_audio([str(path) for path in paths]))
        parts.append(_librispeech_drafts(files, path, transcripts, skipped))
    return chain.from_iterable(parts)


def _listed_drafts(folder: Path, lists: Sequence[Path]) -> Iterator[Draft]:
    """Yield what the lists of a folder name, then the recordings in none of their folders, such as unlabelled ones."""
    for path in lists:
        yield from read_drafts(path)
    listed = {path.parent for path in lists}
    others = [file for file in walk_files(folder) if _is_audio(file) and listed.isdisjoint(file.parents)]
    yield from _file_drafts(sorted(others), folder)


def _find_transcripts(path: Path, files: Sequence[Path], kind: Kind) -> list[Path] | None:
    """Return the transcripts of a folder in the layout of LibriSpeech; None for another layout."""
    transcripts = [file for file in walk_files(path) if is_transcript(file)]
    return (
        transcripts if kind in LIBRISPEECH or (kind == "auto" and (transcripts or _has_speakers(path, files))) else None
    )


def _has_speakers(root: Path, files: Sequence[Path]) -> bool:
    """Return whether all files are `speaker/chapter/*.flac` with the speakers' numbers."""
    return all(
        file.suffix == ".flac" and len(parts := file.relative_to(root).parts) >= 3 and parts[-3].isdecimal()
        for file in files
    )


def _file_drafts(files: Sequence[Path], root: Path | None = None) -> Iterator[Draft]:
    """Yield plain files; the id is the path below `root` (or below the files' common folder) without its suffix."""
    for id, file in zip(_ids(files, root), files, strict=True):
        yield Draft(id, file, language=raw_language(file))


def _ids(files: Sequence[Path], root: Path | None) -> list[str]:
    if not files:
        return []
    absolute = [os.path.abspath(file) for file in files]
    folder = os.path.abspath(root) if root else os.path.commonpath([os.path.dirname(file) for file in absolute])
    names = [Path(os.path.relpath(file, folder)) for file in absolute]
    ids = [name.with_suffix("").as_posix() for name in names]
    count = Counter(ids)
    # The suffix is kept for a.wav beside a.flac. That name could be the shortened one of a third file (a.wav.flac).
    ids = [id if count[id] == 1 else name.as_posix() for id, name in zip(ids, names, strict=True)]
    return ids if len(set(ids)) == len(ids) else [name.as_posix() for name in names]


def _librispeech_drafts(
    files: Sequence[Path], root: Path, transcripts: Sequence[Path], skipped: list[SkippedFile]
) -> Iterator[Draft]:
    """Yield the files of LibriSpeech and LibriLight: `speaker/chapter/utterance.flac`, anywhere below `root`."""
    stems = [file.stem for file in files]
    ids = stems if len(set(stems)) == len(stems) else _ids(files, root)
    texts: dict[tuple[Path, str], str] = {}
    sexes: dict[str, str] = {}
    for transcript in transcripts:
        with _listed(transcript, skipped):
            texts |= {(transcript.parent, name): text for _, name, text in transcript_lines(transcript) if text}
    for speakers in (root.absolute().parent / "SPEAKERS.TXT", root / "SPEAKERS.TXT"):
        if speakers.is_file():
            with _listed(speakers, skipped):
                rows = [line.split("|") for _, line in text_lines(speakers) if line[:1] != ";"]
                sexes = {row[0].strip(): row[1].strip() for row in rows if len(row) > 2}
    for id, file in zip(ids, files, strict=True):
        speaker = file.absolute().parent.parent.name
        yield Draft(id, file, speaker=speaker, text=texts.get((file.parent, file.stem)), sex=sexes.get(speaker))


@contextmanager
def _listed(path: Path, skipped: list[SkippedFile]) -> Generator[None, None, None]:
    """List a file that cannot be read among the skipped ones."""
    try:
        yield
    except (FormatError, OSError) as error:
        skipped.append(SkippedFile.because(path, error))


# Batches


def batches_by_seconds(
    seconds: npt.ArrayLike, max_seconds: float, *, shuffle_seed: int | None = None
) -> list[list[int]]:
    """Group recordings of similar length into batches whose padded length, count times longest, has a maximum.

    Args:
        seconds: length of each recording in seconds, positive.
        max_seconds: maximum length of a batch, padding included; a longer recording is a batch of its own.
        shuffle_seed: random seed; None keeps a fixed order, a seed shuffles neighbours of similar length and the
            order of the batches.

    Returns:
        Lists of indices; every index occurs once.
    """
    lengths = np.asarray(seconds, dtype=np.float64)
    if lengths.ndim != 1 or not np.all(np.isfinite(lengths) & (lengths > 0)):
        raise InputError("seconds must be a list of positive numbers")
    if not max_seconds > 0:
        raise InputError(f"max_seconds must be positive, not {max_seconds}")
    rng = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
    # Lengths blurred by 10 % mix the neighbours from epoch to epoch and cost little padding.
    blurred = lengths if rng is None else lengths * rng.uniform(0.9, 1.1, len(lengths))
    order = np.argsort(blurred, kind="stable")
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
