"""The registry's entry, what readers give, and the writers: no format's own code, and no numpy."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from syllablelm.core.errors import InputError
from syllablelm.core.files import JSON_ESCAPES, atomic_path, file_below, refuse_inputs

if TYPE_CHECKING:
    from syllablelm.core.segmentation import Segmentation


class Entry(NamedTuple):
    """One recording as a reader gives it: its id, unique in file or folder, and its segments.

    `path`, that of its audio, is empty where the format does not hold it; `place` is for messages: "units.jsonl:3".
    """

    id: str
    path: str
    segmentation: Segmentation
    place: str


@dataclass(frozen=True)
class FormatOptions:
    """Properties of the units that foreign formats do not hold; a number out of range is an InputError.

    Args:
        hop: samples per frame; None if unknown.
        sample_rate: samples per second.
        gap_unit: in formats without gaps, the unit written for each gap and read back as a gap.
        unit_frames: frames per unit, for formats of units without durations.
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
        """Return the hop, for a format without a frame grid."""
        if self.hop is not None:
            return self.hop
        advice = "give --hop SAMPLES (at 16 kHz 320 for 50 frames per second, 640 for 25)"
        raise InputError(f"{format} files do not hold the length of a frame: {advice}")

    def need_unit_frames(self, format: str) -> int:
        """Return the frames per unit, for a format without durations."""
        if self.unit_frames is not None:
            return self.unit_frames
        advice = "give --unit-frames N, the frames per unit (the times are then invented)"
        raise InputError(f"{format} files hold no durations: {advice}, or convert the file that holds them")


@dataclass(frozen=True)
class Format:
    """An entry of the registry; its reader and writer are imported on first use.

    Args:
        name: name on the command line.
        suffixes: file suffixes, the usual one first.
        module: module of this package, its reader and its writer, a class or the function of a `LineWriter`:
            "slamkit", "read_tokens", "tokens_of".
        loses: properties that such a file does not hold.
        keys: keys of a jsonl record by which the format is recognised.
        needs_units: whether it holds no segmentation without units.
        keeps_grid: whether it holds the frame grid of every recording.
    """

    name: str
    suffixes: tuple[str, ...]
    module: tuple[str, str, str]
    loses: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()
    needs_units: bool = False
    keeps_grid: bool = False

    def read(self, path: Path, options: FormatOptions) -> Iterator[Entry]:
        """Yield the entries of a file or a folder."""
        return resolve_name(f"{__package__}.{self.module[0]}:{self.module[1]}")(path, options)

    def writer(self, target: str | Path | IO[Any], options: FormatOptions) -> RecordWriter:
        """Return a writer for a path or a stream."""
        write = resolve_name(f"{__package__}.{self.module[0]}:{self.module[2]}")
        arguments = (self, target, options)
        return write(*arguments) if isinstance(write, type) else LineWriter(*arguments, line=write)


class RecordWriter(ABC):
    """Writes recordings one by one, inside a `with` block.

    Leaving the block completes the output; after an exception a file or folder does not appear at all. A stream keeps
    what was written to it and stays open.
    """

    binary = False
    # Digest of the tokenizer that made the units, for formats that can hold it; "" if unknown.
    tokenizer = ""
    # Files that the output must not replace.
    inputs: Collection[str | Path] = ()
    _stream: IO[Any]

    def __init__(self, format: Format, target: str | Path | IO[Any], options: FormatOptions) -> None:
        self._format, self._target, self._options = format, target, options
        self._ids: set[str] = set()
        self._grid: tuple[int, int] | None = None
        self._stack: ExitStack | None = None

    def write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        """Add one recording; InputError if the id was written before, or the format cannot hold this segmentation."""
        if self._stack is None:
            raise InputError("a writer writes inside its 'with' block only")
        if id in self._ids:
            raise InputError(f"two recordings are called {id!r}: ids must be unique in one output")
        grid, format = (segmentation.hop, segmentation.sample_rate), self._format
        try:
            # JSON has escapes for the rest.
            f"{id}{path}".encode(errors=JSON_ESCAPES if format.suffixes[0] == ".jsonl" else "strict")
        except UnicodeEncodeError:
            raise InputError(f"{id!r}: a name that is not valid UTF-8 cannot be written as {format.name}") from None
        # A format without a frame grid holds one grid per output: readers could not tell several apart.
        if not format.keeps_grid and grid != (self._grid or grid):
            raise InputError(
                f"{id}: frames of {grid[0]} samples at {grid[1]} Hz after some of {self._grid}: {format.name} files do "
                "not say which, so write each grid to an output of its own"
            )
        if format.needs_units and segmentation.unit is None:
            raise InputError(f"{id}: the {format.name} format needs units; this segmentation has none")
        self._write(id, path, segmentation)
        self._ids.add(id)
        self._grid = grid

    def __enter__(self) -> RecordWriter:
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._stack is not None:
            stack, self._stack = self._stack, None
            stack.__exit__(*error)

    def _open(self, stack: ExitStack) -> None:
        """Open `self._stream` and register its closing with the stack."""
        if not isinstance(self._target, (str, Path)):
            self._stream = self._target
            stack.callback(self._stream.flush)
            return
        if Path(self._target).is_dir():
            raise InputError(f"{self._target} is a folder: give the name of a file to write")
        self._stream = self._open_new(stack, Path(self._target))

    def _open_new(self, stack: ExitStack, path: Path) -> IO[Any]:
        """Open a file for writing; it appears when the stack closes without an error."""
        refuse_inputs([path], self.inputs)
        temporary = stack.enter_context(atomic_path(path))
        text: Any = {} if self.binary else {"encoding": "utf-8", "errors": JSON_ESCAPES, "newline": "\n"}
        return stack.enter_context(temporary.open("wb" if self.binary else "w", **text))

    @abstractmethod
    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None: ...


class LineWriter(RecordWriter):
    """One line per recording: a function of id, path, segmentation and options gives a line or a JSON object."""

    def __init__(self, *arguments: Any, line: Callable[..., str | dict[str, Any]]) -> None:
        super().__init__(*arguments)
        self._line = line

    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        line = self._line(id, path, segmentation, self._options)
        self._stream.write((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n")


class FolderWriter(RecordWriter):
    """A folder with one file per recording, named after its id; "/" in an id makes subfolders."""

    def _open(self, stack: ExitStack) -> None:
        if not isinstance(self._target, (str, Path)):
            raise InputError(f"the {self._format.name} format writes a folder of files: give --out FOLDER")
        folder = Path(self._target)
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise InputError(f"{folder} exists and is not an empty folder: choose another name or remove it")
        self._folder = stack.enter_context(atomic_path(folder))
        self._folder.mkdir()

    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        file = file_below(self._folder, id, self._format.suffixes[0])
        # On some file systems, names that differ in case or in the form of an accent are one.
        if file.exists():
            raise InputError(f"{id}: the name of its file is that of another recording's here; give it another id")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._write_file(file, id, segmentation)

    @abstractmethod
    def _write_file(self, file: Path, id: str, segmentation: Segmentation) -> None: ...
