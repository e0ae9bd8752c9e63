"""Units on disk, in the formats of this package and of other programs.

`FORMATS` is the registry: each format has a reader and a writer in one module, which is imported on first use, so that
the names cost nothing. JSONL and Parquet are exact; every other format loses something, named in `Format.loses`. A
writer refuses a recording that its format would change in any other way (gaps, several frame grids).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from syllablelm.core.artifact import digest_path
from syllablelm.core.errors import FormatError, and_more, unknown_name
from syllablelm.core.files import find_files, first_keys, walk_files
from syllablelm.formats.format import Entry, Format, FormatOptions, RecordWriter

if TYPE_CHECKING:
    from syllablelm.core.segmentation import Segmentation

__all__ = [
    "FORMATS",
    "TOKENIZE_FORMATS",
    "Entry",
    "Format",
    "FormatOptions",
    "RecordWriter",
    "detect_format",
    "open_writer",
    "read_entries",
    "read_segmentations",
    "split_units",
    "unit_files",
    "units_tokenizer",
]

_UNIT_KEYS = frozenset({"unit", "start", "end"})
_AUDIO_NAME, _GRID, _GAPS = "id (the audio file's name)", "hop and sample rate", "gaps (need a gap unit)"
_EQUAL_NEIGHBOURS = "boundaries between segments of one unit (deduplicate first)"
FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Format("jsonl", (".jsonl",), ("record", "read", "to_record"), keys=_UNIT_KEYS, keeps_grid=True),
        Format("parquet", (".parquet",), ("parquet", "read", "Writer"), keeps_grid=True),
        Format("textgrid", (".TextGrid",), ("textgrid", "read", "Writer"), ("path", _GRID)),
        Format(
            "slamkit",
            (".jsonl",),
            ("slamkit", "read_features", "features_of"),
            (_AUDIO_NAME, _GRID, _GAPS),
            frozenset({"units", "duration"}),
            needs_units=True,
        ),
        Format(
            "slamkit-tokens",
            (".jsonl",),
            ("slamkit", "read_tokens", "tokens_of"),
            (_AUDIO_NAME, "all times", "gaps"),
            frozenset({"audio_repr"}),
            needs_units=True,
            keeps_grid=True,  # no frames, so none to confuse
        ),
        Format(
            "textless",
            (".jsonl",),
            ("textless", "read_records", "record_of"),
            ("path", _GRID, _GAPS),
            frozenset({"units", "durations"}),
            needs_units=True,
        ),
        Format(
            "textless-lines",
            (".units", ".durations"),
            ("textless", "read_lines", "LinesWriter"),
            ("path", _GRID, _GAPS),
            needs_units=True,
        ),
        Format(
            "gslm",
            (".txt",),
            ("gslm", "read", "line_of"),
            ("path", _GRID, _GAPS, _EQUAL_NEIGHBOURS),
            needs_units=True,
        ),
        Format(
            "discophon",
            (".jsonl",),
            ("discophon", "read", "record_of"),
            ("path", _GRID, _GAPS, _EQUAL_NEIGHBOURS),
            frozenset({"file", "units"}),
            needs_units=True,
        ),
        Format(
            "sdhubert",
            (".npz", ".npy"),
            ("sdhubert", "read", "Writer"),
            ("path", "hop and sample rate (but 50 frames per second)"),
        ),
    )
}
TOKENIZE_FORMATS = ("jsonl", "parquet", "textgrid", "slamkit")
"""Formats that ``tokenize`` writes."""
# Formats that `read_segmentations` takes.
_EXACT = ("jsonl", "parquet", "textgrid")


def get_format(name: str) -> Format:
    """Return a format by name; InputError for an unknown one."""
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]


def detect_format(path: str | Path, among: Iterable[str] = FORMATS) -> str:
    """Return the format of a file, or of a folder's files, by suffix and, for jsonl, by the first record's keys.

    `among` names the formats considered; FormatError for no such file, or none of these formats.
    """
    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder")
    candidates = [FORMATS[name] for name in among]
    files = find_files(path, tuple(dict.fromkeys(suffix for format in candidates for suffix in format.suffixes)))
    suffixes = {file.suffix for file in files}
    # One recording may be several files, such as .units and .durations.
    candidates = [format for format in candidates if suffixes <= set(format.suffixes)]
    if not candidates and len(suffixes) > 1:
        raise FormatError(f"{path}: holds files of several formats; name one file, or give the format")
    if not candidates:
        raise FormatError(f"{files[0]}: unknown suffix; give the format ({', '.join(among)})")
    if len(candidates) > 1:
        keys = first_keys(files[0])
        # An empty file is one of our own.
        candidates = [format for format in candidates if keys is None or format.keys <= keys]
        if not candidates:
            raise FormatError(f"{files[0]}: the first record has the keys of no known format; give the format")
    return candidates[0].name


def open_writer(
    target: str | Path | IO[Any],
    format: str = "jsonl",
    options: FormatOptions | None = None,
    *,
    tokenizer: str = "",
    inputs: Collection[str | Path] = (),
) -> RecordWriter:
    """Open a writer of records; use it as a context manager and call `write(id, path, segmentation)`.

    Args:
        target: a file name (a folder for textgrid and sdhubert, a prefix for textless-lines), or a stream: binary for
            parquet, text for the other formats of one file.
        format: a name of the registry.
        options: the unit written for gaps, for formats without gaps.
        tokenizer: digest of the tokenizer that made the units; Parquet holds it, see `units_tokenizer`.
        inputs: files that the run reads; an output that is one of them is an InputError, and nothing is written.
    """
    writer = get_format(format).writer(target, options or FormatOptions())
    writer.tokenizer, writer.inputs = tokenizer, inputs
    return writer


def read_entries(path: str | Path, format: str, options: FormatOptions | None = None) -> Iterator[Entry]:
    """Read a file, or a folder of files, one recording at a time.

    Args:
        path, format: file or folder, and a name of the registry.
        options: properties that the format does not hold; a missing one is an InputError.

    Raises:
        FormatError: no such file, a damaged one, one of another format, or repeated ids; the message names file and
            line. Of repeated ids it names the first and the count, when all else was read.
    """
    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder")
    seen: set[str] = set()
    twice: list[str] = []
    for entry in get_format(format).read(path, options or FormatOptions()):
        if entry.id in seen:
            twice.append(f"{entry.place}: record {entry.id!r} appears twice")
            continue
        seen.add(entry.id)
        yield entry
    if twice:
        raise FormatError(twice[0] + and_more(len(twice)))


def unit_files(path: str | Path, format: str) -> list[Path]:
    """Return the files that `read_entries` reads; of a format of several files per recording, all of them."""
    path, suffixes = Path(path), get_format(format).suffixes
    return find_files(path, suffixes) if path.is_dir() else [path, *map(path.with_suffix, suffixes)]


def split_units(paths: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Divide arguments into recordings or manifests, and files of units (Parquet, or a jsonl of segments)."""
    units = [
        path
        for path in map(Path, paths)
        if path.suffix == ".parquet" or (path.suffix == ".jsonl" and (first_keys(path) or set()) >= _UNIT_KEYS)
    ]
    return [path for path in paths if Path(path) not in units], units


def read_segmentations(path: str | Path, *, hop: int = 320, sample_rate: int = 16_000) -> dict[str, Segmentation]:
    """Read a .jsonl, .parquet or .TextGrid file that `open_writer` wrote, or a folder of such files.

    Args:
        path: a file, a folder of files of one of these formats, or the output of `encode`.
        hop, sample_rate: samples per frame and per second, for TextGrid, which does not hold them.

    Returns:
        Segmentations by id, in the order of the files; errors as `read_entries`.
    """
    return dict(iterate_segmentations(path, hop=hop, sample_rate=sample_rate))


def iterate_segmentations(
    path: str | Path, *, hop: int = 320, sample_rate: int = 16_000
) -> Iterator[tuple[str, Segmentation]]:
    """Yield what `read_segmentations` returns, one recording at a time; memory does not grow with an encoded corpus."""
    below, options = _units_below(Path(path)), FormatOptions(hop, sample_rate)
    name = detect_format(below, _EXACT)
    # The plan of an encoded corpus has made sure that its ids are unique.
    entries = FORMATS[name].read(below, options) if _corpus_of(Path(path)) else read_entries(below, name, options)
    return ((entry.id, entry.segmentation) for entry in entries)


def units_tokenizer(path: str | Path) -> str:
    """Return the digest of the tokenizer that made the units of a file or folder; "" if unknown: only Parquet holds it.

    FormatError for units of several tokenizers.
    """
    from syllablelm.formats.parquet import read_tokenizer

    path = _units_below(Path(path))
    files = sorted(walk_files(path)) if path.is_dir() else [path]
    digests = {read_tokenizer(file): file for file in files if file.suffix == ".parquet" and file.is_file()}
    digests.pop("", None)
    if len(digests) > 1:
        (one, first), (other, second) = sorted(digests.items())[-2:]
        raise FormatError(f"{path}: units of several tokenizers: {first} of {one!r}, {second} of {other!r}")
    return next(iter(digests), "")


def units_digest(path: str | Path) -> str:
    """Return the digest of a file or folder of units; of the output of `encode`, that of its shards alone."""
    return digest_path(_units_below(Path(path)))


def _units_below(path: Path) -> Path:
    """Return the shards of a finished corpus of `encode`; any other path as it is."""
    folder = _corpus_of(path)
    if folder is None:
        return path
    if not (folder / "artifact.json").is_file():
        raise FormatError(f"{path}: shards are missing; run the same encode command again to finish it")
    return path / "shards" if folder == path else path


def _corpus_of(path: Path) -> Path | None:
    """Return the corpus of `encode` that a path, or the folder of its acoustic units, is; None for other units."""
    folder = path.parent if path.name == "acoustic" else path
    return folder if (folder / "plan" / "corpus.json").is_file() else None
