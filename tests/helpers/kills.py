"""Commands that are stopped at random moments, and what they leave on disk."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import digest_path

# The server has imported what the commands need: a kill falls into their work, not into the start of Python.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "helpers.kills",
        "syllablelm.cli.app",
        "syllablelm.engine",
        "syllablelm.train.pipeline",
        "syllablelm.evaluate.lm.suites",
        "syllablelm.segment.kernels",
        "transformers.models.hubert.modeling_hubert",
        "transformers.models.opt.modeling_opt",
        "accelerate",
        "numba",
        "pyarrow.parquet",
        "torch.utils.tensorboard",
    ]
)
# Seconds after which a process that does not stop is a failure.
PATIENCE = 120
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# Exit status after each signal; 0 where the work ended before it was seen.
STOPPED = {signal.SIGKILL: {-9, 0}, signal.SIGTERM: {-15, 130, 0}, signal.SIGINT: {-2, 130, 0}}
# Numbers that are measured with a clock, in artifact.json, run.json, logs and results.
TIMES = ("wall_seconds", "seconds_per_second", "tokens_per_second", "mfu", "peak_flops", "took_seconds")


def _work(arguments: list[str], folder: str, output: Any, largest: int | None = None) -> None:
    os.setsid()
    tempfile.tempdir = folder
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    # The server's streams were opened on another kind of file.
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    if largest is not None:
        # Stands for a full disk: every file fails beyond this size.
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    try:
        from syllablelm.cli.app import main

        sys.exit(main(arguments))
    except KeyboardInterrupt:  # before the command has begun
        sys.exit(130)


@dataclass
class Victim:
    """A command that is run to its end, or killed on the way.

    Args:
        commands: arguments of the processes that run at once, for an output path.
        folder: folder of this class's files.
        seed: random seed of moments and signals.
    """

    commands: Callable[[Path], list[list[str]]]
    folder: Path
    seed: int = 0
    kills: int = 0
    ends: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    _copies: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, largest: int | None = None) -> list[Any]:
        """Start the processes with the output NAME/out; ``largest`` limits the size of their files in bytes."""
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        scratch = self.folder / f"{name}.tmp"
        scratch.mkdir(exist_ok=True)
        commands = self.commands(self.folder / name / "out")
        processes = []
        for command in commands:
            # A pipe: the limit holds for files.
            receiver, sender = _CONTEXT.Pipe(duplex=False)
            processes.append(_CONTEXT.Process(target=_work, args=(command, str(scratch), sender, largest)))
            processes[-1].start()
            sender.close()
            self._copies.append(threading.Thread(target=_copy, args=(receiver, scratch / "output.txt"), daemon=True))
            self._copies[-1].start()
        return processes

    def whole(self) -> dict[str, Any]:
        """Run without a kill; return the output and remember the time."""
        first = _CONTEXT.Process(target=int)  # starts the server, which is not to be timed
        first.start()
        first.join()
        begun = time.monotonic()
        processes = self.start("whole")
        for process in processes:
            process.join(PATIENCE)
            assert process.exitcode == 0, self.said("whole")
        self.seconds = time.monotonic() - begun
        return self.outcome("whole")

    def kill(self, count: int) -> None:
        """Run, kill and run again until there were so many kills, and every output is whole; keep what went wrong."""
        rng, expected = random.Random(self.seed), self.whole()
        run = 0
        while self.kills < count or run == 0:
            name = f"run{run}"
            while not self._attempt(name, rng, self.kills < count):
                pass
            self.ends += 1
            if (found := self.outcome(name)) != expected:
                differing = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
                self.faults.append(f"{name}: differs from the unbroken run in {', '.join(differing)}")
            if left := self.leftovers(name):
                self.faults.append(f"{name}: left {', '.join(left)}")
            run += 1

    def fill(self, count: int) -> None:
        """Run with so many limits of the size of files, and then without; keep what went wrong."""
        rng, expected = random.Random(self.seed), self.whole()
        files = [path for path in (self.folder / "whole").rglob("*") if path.is_file()]
        largest = max(path.stat().st_size for path in files)
        for run in range(count):
            name, limit = f"full{run}", int(math.exp(rng.uniform(math.log(50), math.log(largest))))
            processes = self.start(name, limit)
            for process in processes:
                process.join(PATIENCE)
                said = self.said(name)
                error = said.splitlines()[-1] if said else ""
                good = error.startswith("error: ") and len(error) <= 300 and "Traceback" not in said
                if process.exitcode == 2 and good:
                    self.kills += 1
                elif process.exitcode != 0:
                    self.faults.append(f"{name}, {limit} bytes: exit status {process.exitcode}: {said}")
            if self.leftovers(name, started=True):
                self.faults.append(f"{name}, {limit} bytes: left {', '.join(self.leftovers(name, started=True))}")
            self._attempt(name, rng, killing=False)
            if self.outcome(name) != expected or self.leftovers(name):
                self.faults.append(f"{name}, {limit} bytes: not what an unbroken run gives: {self.leftovers(name)}")

    def _attempt(self, name: str, rng: random.Random, killing: bool) -> bool:
        """Run once; return whether the work was finished."""
        processes = self.start(name)
        which = rng.choice(SIGNALS)
        if killing:
            time.sleep(rng.uniform(0.0, self.seconds))
            chosen = rng.sample(processes, rng.randint(1, len(processes)))
            for process in chosen:
                if process.exitcode is None:
                    os.killpg(process.pid, which) if _leads(process.pid) else os.kill(process.pid, which)
                    self.kills += 1
        for process in processes:
            process.join(PATIENCE)
            if process.exitcode is None:
                process.kill()
                self.faults.append(f"{name}: did not stop within {PATIENCE} s after {which.name}")
            elif process.exitcode not in (STOPPED[which] if killing else {0}):
                self.faults.append(f"{name}: exit status {process.exitcode} after {which.name}: {self.said(name)}")
                if not killing:
                    return True
        # Python itself drops a Ctrl-C that comes within a destructor, and says so.
        if "Traceback" in (said := self.said(name)) and "Exception ignored in" not in said:
            self.faults.append(f"{name}: a traceback after {which.name}: {said}")
            (self.folder / f"{name}.tmp" / "output.txt").write_text("")
        return any(process.exitcode == 0 for process in processes)

    def said(self, name: str) -> str:
        """Return the last lines that the processes printed."""
        while self._copies:
            self._copies.pop().join(10)
        file = self.folder / f"{name}.tmp" / "output.txt"
        return file.read_text(encoding="utf-8")[-3000:] if file.exists() else ""

    def outcome(self, name: str) -> dict[str, Any]:
        """Return what a run has made, file by file: JSON without times, the digests of other files."""
        root = self.folder / name
        files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        return {path.relative_to(root).as_posix(): _content(path) for path in files}

    def leftovers(self, name: str, *, started: bool = False) -> list[str]:
        """Return the temporary files that a run has left, in its folders and in the system's.

        Where it was only ``started``, checkpoints and other parts of its work may be there, but nothing half written.
        """
        pattern = ".*.tmp*" if started else ".*"
        named = [path for path in (self.folder / name).rglob(pattern) if path.name != ".audio.json"]
        if not started:
            named += [path for path in (self.folder / name).rglob("*") if path.name in ("claims", "state.pt")]
        named += [path for path in (self.folder / f"{name}.tmp").iterdir() if path.name != "output.txt"]
        return [path.relative_to(self.folder).as_posix() for path in named]


def _copy(receiver: Any, path: Path) -> None:
    """Append what comes through a pipe to a file."""
    with receiver, path.open("ab") as file:
        while data := os.read(receiver.fileno(), 1 << 16):
            file.write(data)
            file.flush()


def _leads(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _untimed(json.loads(path.read_text(encoding="utf-8")))
    if path.name == "log.jsonl":
        return [_untimed(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return digest_path(path)


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if not key.endswith(TIMES)}
    return [_untimed(item) for item in value] if isinstance(value, list) else value
