"""Writers: recordings one by one into a file, a folder or a stream that is complete or not there."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from syllablelm.core.errors import InputError
from syllablelm.core.files import atomic_path, file_below
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.form import Unsaid


class RecordWriter(ABC):
    """Writes recordings one by one, inside a `with` block.

    On leaving the block the output is completed; after an exception a file or folder does not appear at all. A stream
    keeps what was written to it and stays open.
    """

    name: str
    binary = False
    # Where a format says nothing of frames, one output has one hop and one sample rate: they could not be told apart.
    keeps_grid = True
    needs_units = False
    # Digest of what made the units, for the formats that can keep it; "" if unknown.
    tokenizer = ""
    _stream: IO[Any]

    def __init__(self, target: str | Path | IO[Any], unsaid: Unsaid) -> None:
        self._target = target
        self._unsaid = unsaid
        self._ids: set[str] = set()
        self._grid: tuple[int, int] | None = None
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
        try:
            f"{id}{path}".encode()
        except UnicodeEncodeError:
            raise InputError(f"{id!r}: a name that is not valid Unicode cannot be written") from None
        grid = (segmentation.hop, segmentation.sample_rate)
        if not self.keeps_grid and grid != (self._grid or grid):
            raise InputError(
                f"{id}: frames of {grid[0]} samples at {grid[1]} Hz after some of {self._grid}: {self.name} files do "
                "not say which, so write each grid to an output of its own"
            )
        if self.needs_units and segmentation.unit is None:
            raise InputError(f"{id}: the {self.name} format needs units; this segmentation has none")
        self._write(id, path, segmentation)
        self._ids.add(id)
        self._grid = grid

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
        self._stream = open_new(stack, Path(self._target), binary=self.binary)

    @abstractmethod
    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None: ...


def open_new(stack: ExitStack, path: Path, *, binary: bool = False) -> IO[Any]:
    """Open a file for writing; it takes its name when the stack closes without an error."""
    temporary = stack.enter_context(atomic_path(path))
    return stack.enter_context(temporary.open("wb") if binary else temporary.open("w", encoding="utf-8", newline="\n"))


class JsonlWriter(RecordWriter):
    """One JSON object a line."""

    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        self._stream.write(json.dumps(self._record(id, path, segmentation), ensure_ascii=False) + "\n")

    @abstractmethod
    def _record(self, id: str, path: str | Path, segmentation: Segmentation) -> dict[str, Any]: ...


class FolderWriter(RecordWriter):
    """A folder with one file per recording, named after its id; "/" in an id makes subfolders."""

    suffix: str

    def _open(self, stack: ExitStack) -> None:
        if not isinstance(self._target, (str, Path)):
            raise InputError(f"the {self.name} format writes a folder of files: give --out FOLDER")
        folder = Path(self._target)
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise InputError(f"{folder} exists and is not an empty folder: choose another name or remove it")
        self._folder = stack.enter_context(atomic_path(folder))
        self._folder.mkdir()

    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        file = file_below(self._folder, id, self.suffix)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._write_file(file, id, segmentation)

    @abstractmethod
    def _write_file(self, file: Path, id: str, segmentation: Segmentation) -> None: ...
