"""What a recogniser hears, in other processes where asked for, and results of long work kept block by block."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import digest_json
from syllablelm.core.errors import FormatError, InputError, SyllableLMError
from syllablelm.core.files import atomic_path
from syllablelm.evaluate.speech import recognizers as recognize
from syllablelm.evaluate.speech.recognizers import Recognizer

Waveform = npt.NDArray[np.float32]
Row = dict[str, Any]


class Listener:
    """A recogniser in this process, or several of them in processes of their own.

    Args:
        name: as for ``load_recognizer``; every process opens its own copy.
        device: "auto", "cpu" or "cuda".
        workers: processes; 1 is this one.
    """

    def __init__(self, name: str, *, device: str = "auto", workers: int = 1) -> None:
        if workers < 1:
            raise InputError(f"workers {workers}: must be at least 1")
        self.name, self._workers = name, workers
        # Opened here too, so that a missing recogniser is reported before any work.
        self._own: Recognizer = recognize.load_recognizer(name, device=device)
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            # Not forked: this process may have threads of torch.
            self._pool = ProcessPoolExecutor(workers, get_context("spawn"), _open, (name, device))

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def hear(self, waves: Iterable[Waveform]) -> Iterator[str]:
        """Words of each waveform at 16 kHz, in their order; few waveforms are held at once."""
        if self._pool is None:
            yield from map(self._own.transcribe, waves)
            return
        waiting: deque[Future[str]] = deque()
        try:
            for wave in waves:
                waiting.append(self._pool.submit(_transcribe, wave))
                if len(waiting) > 2 * self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise SyllableLMError(f"a process of the recogniser {self.name!r} died; use fewer --workers") from None


_recognizer: Recognizer | None = None


def _open(name: str, device: str) -> None:
    global _recognizer
    _recognizer = recognize.load_recognizer(name, device=device)


def _transcribe(wave: Waveform) -> str:
    if _recognizer is None:
        raise RuntimeError("this process has no recogniser")
    return _recognizer.transcribe(wave)


class BlockStore:
    """Rows of long work in blocks of their own files, so that a stopped run loses one block at most.

    Args:
        folder: of all stores.
        kind: of the rows, part of the folder's name.
        facts: everything that the rows are a function of; other facts have another folder.
        size: rows per block.

    A block is written whole or not at all.
    """

    def __init__(self, folder: Path, kind: str, facts: Mapping[str, Any], size: int) -> None:
        # As they are read back: a tuple becomes a list.
        self._facts = json.loads(json.dumps({**facts, "block": size}))
        self.size, self.digest = size, digest_json([kind, self._facts])
        self._folder = folder / f"{kind}-{self.digest}"

    def rows(self, ids: list[str], make: Callable[[int, int], Iterable[Row]]) -> Iterator[Row]:
        """The rows of all ids in their order, those of earlier runs from their files.

        Args:
            make: from first and last (exclusive) index to the rows in between, which have an "id".

        Raises:
            FormatError: a block that is not what was written.
        """
        for first in range(0, len(ids), self.size):
            wanted = ids[first : first + self.size]
            path = self._folder / f"{first // self.size:05d}.json"
            if path.exists():
                yield from self._read(path, wanted)
                continue
            rows: list[Row] = []
            for row in make(first, first + len(wanted)):
                rows.append(row)
                yield row
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps({"facts": self._facts, "rows": rows}) + "\n", encoding="utf-8")

    def _read(self, path: Path, wanted: list[str]) -> list[Row]:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            facts, rows = value["facts"], value["rows"]
            found = [row["id"] for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path}: damaged ({error}); remove it to have it made again") from None
        if facts != self._facts or found != wanted:
            raise FormatError(f"{path}: holds other recordings than its name says; remove it to have it made again")
        return rows
