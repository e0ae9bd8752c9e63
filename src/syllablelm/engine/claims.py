"""Claims of shards by the processes that encode them: files that several processes and hosts share.

Claims only save work. A corpus is right because a shard is a function of the plan and appears complete: two processes
that encode one shard, after a suspended host wakes up for example, write the same bytes.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from syllablelm.core.files import write_text
from syllablelm.engine.shards import CLAIMS

CLAIM_TIMEOUT = 600.0


class Claims:
    """The shards of this process: one file each, created exclusively, its time stamp renewed with every batch.

    A claim whose process was of this host and is gone is free at once, any other when it was not renewed for `timeout`
    seconds. Both times are those of the file system, so that clocks of hosts may differ.

    Args:
        folder: folder of the corpus.
        timeout: age in seconds at which a claim is taken over.
    """

    def __init__(self, folder: Path, *, timeout: float = CLAIM_TIMEOUT) -> None:
        self._folder = folder / CLAIMS
        self._timeout = timeout
        self._owner = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex})
        self._held: set[str] = set()

    def __enter__(self) -> Claims:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._held):
            self.release(name)

    def take(self, name: str) -> bool:
        """Claim a shard; False where another process holds it, or this one already."""
        path = self._file(name)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(self._owner)
        except FileExistsError:
            if name in self._held or not self._is_abandoned(path):
                return False
            write_text(path, self._owner)
            if _read(path) != self._owner:
                return False  # another process took it over at the same moment
        except FileNotFoundError:
            return False  # another process has just finished the corpus and removed the folder
        self._held.add(name)
        return True

    def renew(self) -> None:
        """Renew the time stamps of all claims; called with every finished batch, from any thread."""
        for name in list(self._held):
            with suppress(OSError):  # a missed renewal costs double work at worst
                os.utime(self._file(name))

    def release(self, name: str) -> None:
        """Give a claim back, unless another process has taken it over."""
        self._held.discard(name)
        if _read(self._file(name)) == self._owner:
            self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.claim"

    def _is_abandoned(self, path: Path) -> bool:
        with suppress(ValueError, KeyError, TypeError):  # empty if the process was killed while it wrote
            owner = json.loads(_read(path))
            if owner["host"] == socket.gethostname() and not _is_alive(int(owner["pid"])):
                return True
        try:
            with tempfile.TemporaryFile(dir=self._folder) as probe:
                return os.fstat(probe.fileno()).st_mtime - path.stat().st_mtime >= self._timeout
        except FileNotFoundError:
            return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
