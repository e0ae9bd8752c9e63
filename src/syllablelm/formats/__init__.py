"""Units on disk: what an encoded recording looks like in our formats and in those of other programs.

`FORMATS` is the registry: one module per format, each with a reader and a writer. JSONL and Parquet are ours and
exact; every other one loses something, which its `Format.loses` names. A writer refuses a recording that its format
would change in any other way (gaps, several frame grids).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from syllablelm.core.errors import FormatError, InputError, and_more
from syllablelm.core.files import find_files
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.form import Entry, Format, Unsaid
from syllablelm.formats.gslm import GSLM
from syllablelm.formats.parquet import PARQUET, read_tokenizer
from syllablelm.formats.record import JSONL, KEYS, from_record, to_record
from syllablelm.formats.sdhubert import SDHUBERT
from syllablelm.formats.slamkit import SLAMKIT, SLAMKIT_TOKENS
from syllablelm.formats.textgrid import TEXTGRID
from syllablelm.formats.textless import TEXTLESS, TEXTLESS_LINES
from syllablelm.formats.writer import RecordWriter

__all__ = [
    "FORMATS",
    "KEYS",
    "Entry",
    "Format",
    "RecordWriter",
    "Unsaid",
    "detect_format",
    "from_record",
    "open_writer",
    "read_entries",
    "read_segmentations",
    "split_units",
    "to_record",
    "units_tokenizer",
]

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        JSONL,
        PARQUET,
        TEXTGRID,
        SLAMKIT,
        SLAMKIT_TOKENS,
        TEXTLESS,
        TEXTLESS_LINES,
        GSLM,
        SDHUBERT,
    )
}
# What `read_segmentations` takes: the formats of `tokenize` that can be read without being told anything.
_OWN = ("jsonl", "parquet", "textgrid")


def get_format(name: str) -> Format:
    """A format by its name.

    Raises:
        InputError: there is none of this name.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}: choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def detect_format(path: str | Path) -> str:
    """Name of the format of a file, or of a folder's files, by suffix and, for jsonl, by the first record's keys.

    Raises:
        FormatError: missing, or nothing that a format of the registry looks like.
    """
    path = Path(path)
    suffixes = {suffix: None for format in FORMATS.values() for suffix in format.suffixes}
    files = find_files(path, tuple(suffixes)) if path.is_dir() else [path]
    if not files[0].is_file():
        raise FormatError(f"{path}: there is no such file or folder")
    if len({file.suffix for file in files}) != 1:
        # One recording is two files there, and .npy may lie beside .npz.
        for format in (TEXTLESS_LINES, SDHUBERT):
            if {file.suffix for file in files} <= set(format.suffixes):
                return format.name
        raise FormatError(f"{path}: holds files of several formats; name one file, or say the format")
    candidates = [format for format in FORMATS.values() if files[0].suffix in format.suffixes]
    if candidates and all(format.keys for format in candidates):
        found = _first_keys(files[0])
        candidates = [format for format in candidates if format.keys <= found]
        if not candidates:
            raise FormatError(f"{files[0]}: its first record has none of the known sets of keys; say the format")
    if not candidates:
        raise FormatError(f"{files[0]}: cannot tell the format by this name; say it: {', '.join(FORMATS)}")
    return candidates[0].name


def _first_keys(file: Path) -> set[str]:
    """Keys of the first record of a jsonl; an empty file is taken for one of ours, in which every key is."""
    with open(file, encoding="utf-8", errors="replace") as stream:
        line = next((line for line in stream if line.strip()), None)
    if line is None:
        return set(KEYS)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise FormatError(f"{file}: its first line is not JSON; say the format") from None
    return set(value) if isinstance(value, dict) else set()


def open_writer(
    target: str | Path | IO[Any], format: str = "jsonl", unsaid: Unsaid | None = None, *, tokenizer: str = ""
) -> RecordWriter:
    """Open a writer of records; use it as a context manager and call `write(id, path, segmentation)`.

    Args:
        target: a file name (a folder for textgrid and sdhubert, a prefix for textless-lines), or a stream: binary for
            parquet, text for the other formats that write one file.
        format: a name of the registry.
        unsaid: the unit that stands for gaps, for formats without gaps.
        tokenizer: digest of what makes the units; Parquet keeps it, see `units_tokenizer`.

    Raises:
        InputError: unknown format, or a target that the format cannot write to.
        MissingDependencyError: the package the format needs is not installed.
    """
    writer = get_format(format).writer(target, unsaid or Unsaid())
    writer.tokenizer = tokenizer
    return writer


def read_entries(path: str | Path, format: str, unsaid: Unsaid | None = None) -> Iterator[Entry]:
    """Read a file, or a folder of files, one recording at a time.

    Args:
        path: file or folder.
        format: a name of the registry.
        unsaid: what the format leaves out and must be told.

    Raises:
        InputError: unknown format, or one that needs to be told something.
        FormatError: missing, damaged, of another kind, or with ids twice; the message names file and line. Of ids it
            names the first and the count, when all else was read.
        MissingDependencyError: the package the format needs is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path}: there is no such file or folder")
    seen: set[str] = set()
    twice: list[str] = []
    for entry in get_format(format).read(path, unsaid or Unsaid()):
        if entry.id in seen:
            twice.append(f"{entry.place}: record {entry.id!r} appears twice")
            continue
        seen.add(entry.id)
        yield entry
    if twice:
        raise FormatError(twice[0] + and_more(len(twice)))


def split_units(paths: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Tell arguments that are recordings or manifests from those that are files of units."""
    units = [Path(path) for path in paths if _holds_units(Path(path))]
    return [path for path in paths if Path(path) not in units], units


def _holds_units(path: Path) -> bool:
    """Whether a file is Parquet, or a jsonl whose first line has segments; what cannot be read is reported later."""
    if path.suffix != ".jsonl":
        return path.suffix == ".parquet"
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(next(iter(file), "{}"))
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and {"unit", "start", "end"} <= set(first)


def read_segmentations(path: str | Path, *, hop: int = 320, sample_rate: int = 16_000) -> dict[str, Segmentation]:
    """Read a .jsonl, .parquet or .TextGrid file that `open_writer` wrote, or a folder of such files.

    Args:
        path: a file, a folder of files of one of these kinds, or what `encode` made.
        hop: samples per frame, for TextGrid, which does not say.
        sample_rate: samples per second, for TextGrid.

    Returns:
        Segmentations by id, in the order of the files.

    Raises:
        FormatError: missing, damaged, of another kind, or with ids twice; the message names file and record.
        MissingDependencyError: the package the format needs is not installed.
    """
    path = _units_below(Path(path))
    suffixes = {FORMATS[name].suffixes[0]: name for name in _OWN}
    if not path.exists():
        raise FormatError(f"{path}: there is no such file or folder")
    kinds = {file.suffix for file in (path.rglob("*") if path.is_dir() else [path])}
    if path.is_dir():
        kinds &= set(suffixes)
    if len(kinds) != 1:
        raise FormatError(f"{path}: a folder with .jsonl, .parquet or .TextGrid files of one kind is needed")
    suffix = kinds.pop()
    if suffix not in suffixes:
        raise FormatError(f"{path}: cannot tell the format by this name: use .jsonl, .parquet or .TextGrid")
    entries = read_entries(path, suffixes[suffix], Unsaid(hop=hop, sample_rate=sample_rate))
    return {entry.id: entry.segmentation for entry in entries}


def units_tokenizer(path: str | Path) -> str:
    """Digest of the tokenizer that made the units of a file or folder; "" where they do not say: only Parquet does.

    Raises:
        FormatError: units of several tokenizers, or a damaged file.
    """
    path = _units_below(Path(path))
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    said = {read_tokenizer(file): file for file in files if file.suffix == ".parquet" and file.is_file()}
    said.pop("", None)
    if len(said) > 1:
        one, other = sorted(said)[-2:]
        raise FormatError(f"{path}: units of several tokenizers: {said[one]} of {one!r}, {said[other]} of {other!r}")
    return next(iter(said), "")


def _units_below(path: Path) -> Path:
    """The shards of a finished corpus of `encode`; any other path as it is."""
    if not (path / "plan" / "corpus.json").is_file():
        return path
    if not (path / "artifact.json").is_file():
        raise FormatError(f"{path}: not every shard is there yet; run the same encode command again to finish it")
    return path / "shards"
