"""Damage samples at random and read them; every case follows from one integer, its seed.

    python tests/fuzz/run.py --cases 300 --seed 0 [--only NAME]

A reader must return something sound, or raise a SyllableLMError whose message is one line of at most 300 characters
with the name of the file or of its folder. It must need little time and memory, and change nothing on disk.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

# Before torch is imported. Pools of threads do not survive a fork.
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.damage import damage
from fuzz.readers import READERS, Reader

CPU_SECONDS, WALL_SECONDS = 10, 60
# Beyond what the process holds before it reads.
MEMORY = 1 << 30
LONGEST = 300


class Samples:
    """Sound samples, made when they are first asked for, and read once, which loads what the reader needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, Path] = {}

    def copy(self, name: str, case: Path) -> Path:
        """Copy a sample into a new folder; returns what its reader is given there."""
        if name not in self._made:
            folder = self.folder / name
            folder.mkdir()
            self._made[name] = READERS[name].make(folder)
            READERS[name].read(self._made[name])
        shutil.copytree(self.folder / name, case)
        return case / self._made[name].relative_to(self.folder / name)


def run_case(seed: int, names: Sequence[str], samples: Samples, case: Path) -> tuple[str, str, str | None]:
    """Run one case in a folder that does not exist; returns the reader, what was damaged, and the fault or None."""
    rng = random.Random(seed)
    name = rng.choice(names)
    reader = READERS[name]
    path = samples.copy(name, case)
    files = sorted(file for file in case.glob("**/*") if file.is_file())
    files = [file for file in files if fnmatch.fnmatch(file.relative_to(case).as_posix(), reader.only)]
    file = rng.choice(files)
    if rng.random() < 0.03:
        file.unlink()
        done = "removed"
    else:
        done = damage(file, rng)
    what = f"{file.relative_to(case).as_posix()}: {done}"
    before = _contents(case)
    fault = _read_apart(reader, path, file)
    if fault is None and (after := _contents(case)) != before:
        fault = f"changed on disk: {sorted({*before.items()} ^ {*after.items()})[0][0]}"
    return name, what, fault


def _contents(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _read_apart(reader: Reader, path: Path, file: Path) -> str | None:
    """Read in a child process with little time and memory; returns the fault."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        fault = "the reader ended the process"
        try:
            fault = _read(reader, path, file)
        finally:
            with os.fdopen(sender, "w") as pipe:
                json.dump(fault, pipe)
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        by = signal.Signals(os.WTERMSIG(status))
        slow = by in (signal.SIGALRM, signal.SIGXCPU)
        return f"more than {CPU_SECONDS} s" if slow else f"killed by {by.name}"
    return json.loads(told)


def _read(reader: Reader, path: Path, file: Path) -> str | None:
    from syllablelm.core.errors import SyllableLMError

    # Bytes of a new process are not those that were written here: the limit is of addresses.
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    signal.alarm(WALL_SECONDS)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    # Numbers that make no sense should have been refused before they were computed with.
    warnings.simplefilter("error", RuntimeWarning)
    try:
        reader.read(path)
    except SyllableLMError as error:
        return _judge(str(error), file, path)
    except BaseException:
        return traceback.format_exc()
    return None


def _judge(message: str, file: Path, path: Path) -> str | None:
    if not message.strip() or any(ord(character) < 32 or ord(character) == 127 for character in message):
        return f"not one line of text: {message!r}"
    if len(message) > LONGEST:
        return f"{len(message)} characters: {message}"
    if file.name not in message and str(path) not in message:
        return f"names no file: {message}"
    if any(word in message for word in ("allocate", "MemoryError", "out of memory")):
        return f"took too much memory: {message}"
    return None


def main() -> int:
    """Run the cases that the command line asks for; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300, help="number of cases (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first case; the others follow (default: 0)")
    parser.add_argument("--only", default="*", help="pattern of readers, such as 'audio-*'")
    options = parser.parse_args()
    names = sorted(READERS)
    chosen = fnmatch.filter(names, options.only)
    counts, failed, start = Counter[str](), Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        samples = Samples(Path(folder) / "samples")
        samples.folder.mkdir()
        for seed in range(options.seed, options.seed + options.cases):
            if random.Random(seed).choice(names) not in chosen:
                continue
            case = Path(folder) / "case"
            try:
                name, what, fault = run_case(seed, names, samples, case)
            except Exception:
                name, what, fault = random.Random(seed).choice(names), "the sample itself", traceback.format_exc()
            shutil.rmtree(case, ignore_errors=True)
            counts[name] += 1
            if fault is not None:
                failed[name] += 1
                print(f"\nseed {seed}, {name}, {what}\n{fault}\nrepeat: make fuzz SEED={seed} N=1", flush=True)
    for name in sorted(counts):
        print(f"{name:26} {counts[name]:5} cases {failed[name]:5} failed")
    print(f"{counts.total()} cases, {failed.total()} failed, {time.monotonic() - start:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
