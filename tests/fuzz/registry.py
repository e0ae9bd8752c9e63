"""The readers that are fuzzed: for each a function that makes a small sound sample, and one that reads it completely.

`make` writes into an empty folder and returns what `read` is given. `read` returns nothing, checks what it read with
assert, and raises a SyllableLMError for what it refuses. The modules `*_readers` fill the table. Imports are inside
their functions: a run loads what its readers need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Make = Callable[[Path], Path]
Read = Callable[[Path], None]


@dataclass(frozen=True)
class Reader:
    """How to make a sample in an empty folder, and how to read it; `only` is a pattern of the files to damage."""

    make: Make
    read: Read
    only: str = "*"


READERS: dict[str, Reader] = {}


def sample(name: str, read: Read, *, only: str = "*") -> Callable[[Make], Make]:
    """Register a reader under a name, with the decorated function that makes its sample."""

    def register(make: Make) -> Make:
        READERS[name] = Reader(make, read, only)
        return make

    return register
