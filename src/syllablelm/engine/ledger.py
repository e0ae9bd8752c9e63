"""Who works on which shard, and how a finished one is entered: files that several processes and hosts share.

Claims only save work. What makes a corpus right is that a shard is a function of the plan and takes its name whole:
two processes that work on one shard by mistake (a host that was asleep, two takeovers at once) write the same bytes.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from syllablelm.core.artifact import digest_bytes
from syllablelm.core.files import atomic_path
from syllablelm.core.segmentation import Segmentation
from syllablelm.engine.shards import CLAIMS, Corpus, Shard
from syllablelm.formats import open_writer

STALE_SECONDS = 120.0
_BEATS = 8


class Claims:
    """The shards that this process works on: one file each, made exclusively, its time renewed while the owner lives.

    A claim of a process of this host that is gone is free at once; any other when its time stood still for
    `stale_seconds`. That is measured by watching the file, so that the clocks of hosts and file server do not matter.

    Args:
        folder: of the corpus.
        stale_seconds: how long an owner may be silent.
    """

    def __init__(self, folder: Path, *, stale_seconds: float = STALE_SECONDS) -> None:
        self._folder = folder / CLAIMS
        self._stale_seconds = stale_seconds
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex}
        self._held: set[str] = set()
        # Of every claim that was in the way: its time, and when it was first seen to have it.
        self._seen: dict[str, tuple[int, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for name in list(self._held):
            self.release(name)

    def take(self, name: str) -> bool:
        """Claim a shard; False where it is another's (or already ours)."""
        path = self._file(name)
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(self._owner, file)
        except FileExistsError:
            if name in self._held or not self._is_abandoned(name):
                return False
            with atomic_path(path) as part:
                part.write_text(json.dumps(self._owner), encoding="utf-8")
        except FileNotFoundError:
            # The folder is gone: another process has just finished the corpus.
            return False
        self._held.add(name)
        return True

    def release(self, name: str) -> None:
        """Give a claim back, unless another process has taken it over."""
        self._held.discard(name)
        if self._read(name) == self._owner:
            self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.claim"

    def _read(self, name: str) -> Mapping[str, Any]:
        try:
            owner = json.loads(self._file(name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            # Gone, or its owner was killed (or is just) between making and filling it.
            return {}
        return owner if isinstance(owner, dict) else {}

    def _is_abandoned(self, name: str) -> bool:
        owner = self._read(name)
        if owner.get("host") == self._owner["host"] and not _is_alive(owner.get("pid")):
            return True
        try:
            changed = self._file(name).stat().st_mtime_ns
        except FileNotFoundError:
            return False
        now = _now()
        if name not in self._seen or self._seen[name][0] != changed:
            self._seen[name] = (changed, now)
        return now - self._seen[name][1] >= self._stale_seconds

    def _beat(self) -> None:
        while not self._stop.wait(self._stale_seconds / _BEATS):
            for name in list(self._held):
                # A missed beat costs double work at worst; a claim that was taken over is not ours to renew.
                with suppress(OSError):
                    if self._read(name) == self._owner:
                        os.utime(self._file(name))


# Tests have a clock of their own.
_now = time.monotonic


def _is_alive(pid: Any) -> bool:
    if not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def enter_shard(corpus: Corpus, shard: Shard, found: Mapping[int, Segmentation], failed: Mapping[int, str]) -> None:
    """Write a finished shard, its ledger first; nothing of it depends on when, where or in what order it was encoded.

    Args:
        corpus: where it belongs.
        shard: which it is.
        found: units of its recordings, by their place in the shard.
        failed: the reason for every other place.

    Raises:
        OSError: the disk is full, or the folder may not be written; names the shard's file.
    """
    recordings, file = corpus.recordings(shard), corpus.shard_file(shard)
    try:
        with atomic_path(file) as part:
            with open_writer(part, "parquet", tokenizer=corpus.parents.get("model", "")) as writer:
                for place, segmentation in sorted(found.items()):
                    writer.write(recordings[place].id, recordings[place].path, segmentation)
            # On some file systems a crash of the machine leaves a renamed file empty that was not flushed before.
            with part.open("rb+") as written:
                os.fsync(written.fileno())
            entry = {
                "recordings": len(shard),
                "done": len(found),
                "seconds": math.fsum(recordings[place].seconds for place in found),
                "segments": sum(len(segmentation) for segmentation in found.values()),
                "digest": digest_bytes(part.read_bytes()),
                "failed": [
                    {"id": recordings[place].id, "path": str(recordings[place].path), "reason": reason}
                    for place, reason in sorted(failed.items())
                ],
            }
            with atomic_path(corpus.ledger_file(shard)) as ledger:
                ledger.write_text(json.dumps(entry, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except FileNotFoundError:
        # Another process that worked on the same shard was faster, finished the corpus and cleared up.
        if not corpus.is_done(shard):
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(file)) from error
