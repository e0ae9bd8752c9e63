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
from typing import Any

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
        process = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
        self._owner = json.dumps({**process, "token": uuid.uuid4().hex})
        self._held: set[str] = set()

    def __enter__(self) -> Claims:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
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
            # Another process has finished the corpus and removed the folder. Should a shard be missing all the same,
            # removed by hand for example, it can be claimed the next time.
            self._folder.mkdir(exist_ok=True)
            return False
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
            owner: dict[str, Any] = json.loads(_read(path))
            if owner["host"] == socket.gethostname():
                started = _started(int(owner["pid"]))
                if started is None or started != owner.get("started", started):
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


def _started(pid: int) -> str | None:
    """Return the start time of a process of this host, by which a number given out again is told from its last owner.

    None if the process is gone, or has ended and only its exit status is kept; "" if the system does not say.
    """
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
    try:
        # The name, in parentheses, may hold anything; state and start time are the 3rd and the 22nd field.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in "ZX" else fields[19]
