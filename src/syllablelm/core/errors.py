"""Errors that users can cause, each with one line: what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import math
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from operator import ge, gt, le, lt
from pathlib import Path
from typing import Any

LONGEST_MESSAGE = 300
"""Characters of a line on standard error."""
LONGEST_LIST = 200
"""Characters of names that a message lists in full."""
LARGEST_SIZE = 2**16
"""Largest number of layers, channels or the like of a network that a recipe may ask for."""


class SyllableLMError(Exception):
    """Base of every error this package raises on purpose; the command line prints it and exits with 2."""

    def __str__(self) -> str:
        """Return the message as one line of at most `LONGEST_MESSAGE` characters; ``args`` holds all of it."""
        return one_line(super().__str__())


class InputError(SyllableLMError, ValueError):
    """An argument or option that cannot be used: wrong shape, unknown name, number out of range."""


class AudioError(SyllableLMError):
    """A recording that cannot be used; the message names the file and the reason."""


class AudioWarning(UserWarning):
    """A recording that is read, though not all about it is as it should be; the message names the file."""


class FormatError(SyllableLMError):
    """A file (manifest, alignment, checkpoint, artifact, recipe) that does not hold what it should."""


class MissingDependencyError(SyllableLMError, ImportError):
    """An optional package or program is not installed; the message says how to install it."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error of a name that is not among the known ones of `what`: it suggests the nearest and lists them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InputError(f"unknown {what} {name[:60]!r}: {hint}choose one of {name_list(names, name)}")


def name_list(names: Collection[str], wanted: str) -> str:
    """Return names for a message: all, or where these are long the three nearest to `wanted` and the number of others.

    ("a, b, c and 30 more")
    """
    listed = ", ".join(names)
    if len(listed) <= LONGEST_LIST or len(names) <= 4:
        return listed
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.0)
    return f"{', '.join(near)} and {len(names) - len(near)} more"


def import_optional(module: str, need: str, install: str) -> Any:
    """Import a module of an optional package; `need` ("--engine ray needs Ray") begins the error."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"{need} ({error}); install it with: pip install {install}") from error


def find_optional(package: str, need: str, install: str) -> Path:
    """Return the folder of an optional package of which only files are needed; errors as of `import_optional`."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(f"{need} (no package {package!r}); install it with: pip install {install}")
    return Path(spec.submodule_search_locations[0])


def check_positive(name: str, value: float, *, zero: bool = False) -> None:
    """Refuse (InputError) a number that is not above 0 (or 0, with `zero`) and finite; `name` is its name."""
    if not (0 < value < math.inf or (zero and value == 0)):
        raise InputError(f"{name} {value}: must be {'0 or above' if zero else 'above 0'}, and finite")


def check_fields(
    config: object,
    names: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = 2**31 - 1,
) -> None:
    """Refuse (InputError) numbers of a dataclass, or of its tuples, outside a range; None is no number.

    Args:
        config: the dataclass.
        names: names of fields, separated by spaces.
        least, most: smallest and largest number of the range.
        above, below: limits that are no longer in it.
    """
    limits: Any = (("at least", least, ge), ("above", above, gt), ("below", below, lt), ("at most", most, le))
    for name in names.split():
        value: Any = getattr(config, name)
        for number in value if isinstance(value, tuple) else [] if value is None else [value]:
            if not math.isfinite(number):
                raise InputError(f"{name} {number}: must be a finite number")
            for words, limit, holds in limits:
                if not holds(number, limit):
                    raise InputError(f"{name} {number}: must be {words} {limit:,}")


@contextmanager
def located(place: object) -> Generator[None, None, None]:
    """Put the place of a fault, such as "units.jsonl:3", before the message of the block; gives a FormatError."""
    try:
        yield
    except (FormatError, InputError) as error:
        raise FormatError(f"{place}: {error}") from error


def one_line(message: str, limit: int = LONGEST_MESSAGE) -> str:
    """Return a message as one printable line of at most `limit` characters; a longer one loses its middle.

    Control characters, line ends in file names and the like are written as escapes: a name cannot act on the terminal.
    """
    line = " ".join(message.split())
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
    if len(line) <= limit:
        return line
    # What went wrong stands first, the reason and the advice last; between them is often a long path.
    head = limit * 2 // 5
    return f"{line[:head]} ... {line[len(line) - (limit - head - 5) :]}"


def first_line(error: object, limit: int = 120) -> str:
    """Return what another library's error says, or its class, short enough for a one-line message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:limit]


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: "1 file", "2,000 files"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def and_more(count: int) -> str:
    """Return the end of a message that names the first of several faults: ", and 3 more such"; "" for one."""
    return f", and {count - 1} more such" if count > 1 else ""
