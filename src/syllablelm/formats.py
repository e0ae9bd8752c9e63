"""The records of `tokenize`: what one encoded recording looks like on disk, written and read back.

Four formats. JSONL and Parquet hold frames and are exact. TextGrid holds seconds, for Praat. SlamKit is the jsonl of
github.com/slp-rl/slamkit (`example_data/features.jsonl`, `example_data/tokens.jsonl`).
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any

import numpy as np

from syllablelm.errors import FormatError, InputError, MissingDependencyError
from syllablelm.types import Segmentation

FORMATS = ("jsonl", "parquet", "textgrid", "slamkit")
KEYS = ("id", "path", "sample_rate", "hop", "num_frames", "unit", "start", "end")
TIER = "units"
# Label of a segment without a unit: an empty label would be a gap.
NO_UNIT = "-"
ROWS_PER_GROUP = 1024


def to_record(id: str, path: str | Path, segmentation: Segmentation) -> dict[str, Any]:
    """Turn a segmentation into the record of the JSONL format (plain Python values; frames, not seconds).

    Args:
        id: name of the recording, unique in its file.
        path: where its audio is.
        segmentation: its segments; without units, "unit" is None.
    """
    return {
        "id": str(id),
        "path": str(path),
        "sample_rate": segmentation.sample_rate,
        "hop": segmentation.hop,
        "num_frames": segmentation.num_frames,
        "unit": None if segmentation.unit is None else segmentation.unit.tolist(),
        "start": segmentation.start.tolist(),
        "end": segmentation.end.tolist(),
    }


def from_record(record: Mapping[str, Any]) -> Segmentation:
    """Rebuild the segmentation of a record; other keys than the format's are ignored.

    Raises:
        FormatError: a key is missing, a value is of the wrong kind, or the segments are unsorted, overlap or leave
            the recording.
    """
    if not isinstance(record, Mapping):
        raise FormatError(f"a record must be an object with keys {', '.join(KEYS)}, not {type(record).__name__}")
    name = f"record {record['id']!r}" if "id" in record else "record without id"
    missing = [key for key in KEYS if key not in record]
    if missing:
        raise FormatError(f"{name}: missing {', '.join(missing)}")
    for key in ("id", "path"):
        if not isinstance(record[key], str):
            raise FormatError(f"{name}: {key} must be a string, not {record[key]!r}")
    for key in ("sample_rate", "hop", "num_frames"):
        if not _is_int(record[key]):
            raise FormatError(f"{name}: {key} must be an integer, not {record[key]!r}")
    for key in ("unit", "start", "end"):
        values = record[key]
        if key == "unit" and values is None:
            continue
        if not isinstance(values, list) or not all(_is_int(value) for value in values):
            raise FormatError(f"{name}: {key} must be a list of integers{' or null' if key == 'unit' else ''}")
        if values and not -(2**31) <= min(values) <= max(values) < 2**31:
            raise FormatError(f"{name}: {key} holds a number that does not fit 32 bits")
    try:
        return Segmentation(
            start=np.array(record["start"], dtype=np.int32),
            end=np.array(record["end"], dtype=np.int32),
            unit=None if record["unit"] is None else np.array(record["unit"], dtype=np.int32),
            num_frames=record["num_frames"],
            hop=record["hop"],
            sample_rate=record["sample_rate"],
        )
    except InputError as error:
        raise FormatError(f"{name}: {error}") from error


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what is written there takes the name `path` if the block succeeds.

    If the block raises, the temporary file or folder is removed and `path` is as it was. Missing parent folders are
    made. A file replaces a file; a folder only takes a name that is free or an empty folder's.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as matplotlib choose the format by it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


class RecordWriter(ABC):
    """Writes recordings one by one, inside a `with` block.

    On leaving the block the output is completed; after an exception a file or folder does not appear at all. A stream
    keeps what was written to it and stays open.
    """

    binary = False
    _stream: IO[Any]

    def __init__(self, target: str | Path | IO[Any]) -> None:
        self._target = target
        self._ids: set[str] = set()
        self._stack: ExitStack | None = None

    def write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        """Add one recording.

        Raises:
            InputError: the id was written before, or the format cannot hold this segmentation.
        """
        if self._stack is None:
            raise InputError("a writer writes inside its 'with' block only")
        if id in self._ids:
            raise InputError(f"two recordings are called {id!r}: ids must be unique in one output")
        self._write(id, path, segmentation)
        self._ids.add(id)

    def __enter__(self) -> RecordWriter:
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stack is not None:
            stack, self._stack = self._stack, None
            stack.__exit__(kind, error, trace)

    def _open(self, stack: ExitStack) -> None:
        """Open `self._stream` and leave to the stack how it is closed."""
        if not isinstance(self._target, (str, Path)):
            self._stream = self._target
            stack.callback(self._stream.flush)
            return
        if Path(self._target).is_dir():
            raise InputError(f"{self._target} is a folder: give the name of a file to write")
        temporary = stack.enter_context(atomic_path(self._target))
        file = temporary.open("wb") if self.binary else temporary.open("w", encoding="utf-8", newline="\n")
        self._stream = stack.enter_context(file)

    @abstractmethod
    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None: ...


class _JsonlWriter(RecordWriter):
    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        self._stream.write(json.dumps(self._record(id, path, segmentation), ensure_ascii=False) + "\n")

    def _record(self, id: str, path: str | Path, segmentation: Segmentation) -> dict[str, Any]:
        return to_record(id, path, segmentation)


class _SlamkitWriter(_JsonlWriter):
    """One line per recording with the keys of both of SlamKit's files.

    Its `prepare_tokens` reads file_name, units and duration (frames of each unit), its training audio_repr; each
    ignores the other's keys. Gaps and the recording's length have no place in that format.
    """

    def _record(self, id: str, path: str | Path, segmentation: Segmentation) -> dict[str, Any]:
        if segmentation.unit is None:
            raise InputError(f"{id}: the slamkit format needs units; this segmentation has none")
        units = segmentation.unit.tolist()
        return {
            "file_name": str(path),
            "units": units,
            "duration": (segmentation.end - segmentation.start).tolist(),
            "audio_repr": "".join(f"<Un{unit}>" for unit in units),
        }


class _ParquetWriter(RecordWriter):
    binary = True

    def _open(self, stack: ExitStack) -> None:
        pyarrow, parquet = _import_pyarrow()
        super()._open(stack)
        integers = pyarrow.list_(pyarrow.int32())
        kinds = {"id": pyarrow.string(), "path": pyarrow.string(), "unit": integers, "start": integers, "end": integers}
        self._schema = pyarrow.schema([(key, kinds.get(key, pyarrow.int32())) for key in KEYS])
        self._to_table = pyarrow.Table.from_pylist
        self._rows: list[dict[str, Any]] = []
        self._writer = stack.enter_context(parquet.ParquetWriter(self._stream, self._schema))
        # Runs before the writer above is closed.
        stack.push(lambda kind, error, trace: self._flush() if kind is None else None)

    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        self._rows.append(to_record(id, path, segmentation))
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._to_table(self._rows, schema=self._schema))
            self._rows = []


class _TextGridWriter(RecordWriter):
    """A folder with one TextGrid per recording, named after its id; "/" in an id makes subfolders."""

    def _open(self, stack: ExitStack) -> None:
        if not isinstance(self._target, (str, Path)):
            raise InputError("the textgrid format writes a folder of files: give --out FOLDER")
        folder = Path(self._target)
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise InputError(f"{folder} exists and is not an empty folder: choose another name or remove it")
        self._textgrid = _import_textgrid()
        self._folder = stack.enter_context(atomic_path(folder))
        self._folder.mkdir()

    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        parts = PurePosixPath(id).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise InputError(f"{id!r} cannot name a TextGrid file: use an id without leading '/' and without '..'")
        if segmentation.num_frames == 0:
            raise InputError(f"{id}: a TextGrid cannot hold a recording of no frames")
        labels = [NO_UNIT] * len(segmentation) if segmentation.unit is None else map(str, segmentation.unit.tolist())
        entries = [
            (start, end, label) for (start, end), label in zip(segmentation.seconds.tolist(), labels, strict=True)
        ]
        grid = self._textgrid.Textgrid()
        grid.addTier(self._textgrid.IntervalTier(TIER, entries, minT=0.0, maxT=segmentation.duration))
        file = self._folder.joinpath(*parts[:-1], parts[-1] + ".TextGrid")
        file.parent.mkdir(parents=True, exist_ok=True)
        grid.save(str(file), format="long_textgrid", includeBlankSpaces=True)


def open_writer(target: str | Path | IO[Any], format: str = "jsonl") -> RecordWriter:
    """Open a writer of records; use it as a context manager and call `write(id, path, segmentation)`.

    Args:
        target: a file name (a folder for textgrid), or a stream: text for jsonl and slamkit, binary for parquet.
        format: "jsonl", "parquet", "textgrid" or "slamkit".

    Raises:
        InputError: unknown format, or a target that the format cannot write to.
        MissingDependencyError: the package the format needs is not installed.
    """
    writers: dict[str, type[RecordWriter]] = {
        "jsonl": _JsonlWriter,
        "parquet": _ParquetWriter,
        "textgrid": _TextGridWriter,
        "slamkit": _SlamkitWriter,
    }
    if format not in writers:
        raise InputError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")
    return writers[format](target)


def read_segmentations(path: str | Path, *, hop: int = 320, sample_rate: int = 16_000) -> dict[str, Segmentation]:
    """Read a file that `open_writer` wrote, or a folder of such files, by their suffix.

    Args:
        path: a .jsonl, .parquet or .TextGrid file, or a folder of files of one of these kinds.
        hop: samples per frame, for TextGrid, which does not say.
        sample_rate: samples per second, for TextGrid.

    Returns:
        Segmentations by id, in the order of the files.

    Raises:
        FormatError: missing, damaged, of another kind, or with an id twice; the message names file and record.
        MissingDependencyError: the package the format needs is not installed.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in (".jsonl", ".parquet", ".TextGrid"))
        if len({file.suffix for file in files}) != 1:
            raise FormatError(f"{path}: a folder with .jsonl, .parquet or .TextGrid files of one kind is needed")
    elif path.is_file():
        files = [path]
    else:
        raise FormatError(f"{path}: there is no such file or folder")
    result: dict[str, Segmentation] = {}
    for file in files:
        if file.suffix == ".TextGrid":
            id = file.relative_to(path if path.is_dir() else path.parent).with_suffix("").as_posix()
            pairs = iter([(id, _read_textgrid(file, hop, sample_rate))])
        else:
            pairs = _read_records(file)
        for id, segmentation in pairs:
            if id in result:
                raise FormatError(f"{file}: record {id!r} appears twice")
            result[id] = segmentation
    return result


def _read_records(file: Path) -> Iterator[tuple[str, Segmentation]]:
    if file.suffix not in (".jsonl", ".parquet"):
        raise FormatError(f"{file}: cannot tell the format by this name: use .jsonl, .parquet or .TextGrid")
    for place, record in _jsonl_records(file) if file.suffix == ".jsonl" else _parquet_records(file):
        try:
            yield record["id"] if isinstance(record, Mapping) and "id" in record else "", from_record(record)
        except FormatError as error:
            raise FormatError(f"{place}: {error}") from error


def _jsonl_records(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        with open(file, encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"{file}:{number}", json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{file}: not JSON lines ({error})") from error


def _parquet_records(file: Path) -> Iterator[tuple[str, Any]]:
    pyarrow, parquet = _import_pyarrow()
    try:
        with parquet.ParquetFile(file) as table:
            missing = [key for key in KEYS if key not in table.schema_arrow.names]
            if missing:
                raise FormatError(f"{file}: missing columns {', '.join(missing)}")
            for batch in table.iter_batches(columns=list(KEYS)):
                for record in batch.to_pylist():
                    yield str(file), record
    except (pyarrow.ArrowException, OSError) as error:
        raise FormatError(f"{file}: not a readable Parquet file ({error})") from error


def _read_textgrid(file: Path, hop: int, sample_rate: int) -> Segmentation:
    textgrid = _import_textgrid()
    from praatio.utilities.errors import PraatioException

    try:
        grid = textgrid.openTextgrid(str(file), includeEmptyIntervals=False)
    # praatio lets the errors of its own parsing through.
    except (PraatioException, ValueError, IndexError, UnicodeError) as error:
        raise FormatError(f"{file}: not a readable TextGrid ({error})") from error
    if TIER not in grid.tierNames:
        raise FormatError(f"{file}: no tier called {TIER!r}, only {', '.join(grid.tierNames) or 'none'}")
    entries = grid.getTier(TIER).entries
    labels = [entry.label for entry in entries]
    frames_per_second = sample_rate / hop
    try:
        return Segmentation(
            start=np.array([round(entry.start * frames_per_second) for entry in entries], dtype=np.int32),
            end=np.array([round(entry.end * frames_per_second) for entry in entries], dtype=np.int32),
            unit=None if labels and set(labels) == {NO_UNIT} else np.array([int(x) for x in labels], dtype=np.int32),
            num_frames=round(grid.maxTimestamp * frames_per_second),
            hop=hop,
            sample_rate=sample_rate,
        )
    except (InputError, ValueError, OverflowError) as error:
        raise FormatError(f"{file}: tier {TIER!r} does not hold units at {frames_per_second:g} Hz: {error}") from error


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependencyError("the parquet format needs pyarrow: pip install pyarrow") from error
    return pyarrow, parquet


def _import_textgrid() -> Any:
    try:
        from praatio import textgrid
    except ImportError as error:
        raise MissingDependencyError("the textgrid format needs praatio: pip install praatio") from error
    return textgrid
