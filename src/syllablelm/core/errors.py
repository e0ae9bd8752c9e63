"""The errors that users can cause, each with one line that says what, where and what to do."""

from __future__ import annotations


class SyllableLMError(Exception):
    """Base of every error this package raises on purpose; the command line prints it and exits with 2."""


class InputError(SyllableLMError, ValueError):
    """An argument or option that cannot be used: wrong shape, unknown name, number out of range."""


class AudioError(SyllableLMError):
    """A recording that cannot be used; the message names the file and the reason."""


class FormatError(SyllableLMError):
    """A file (manifest, alignment, checkpoint, artifact, recipe) that does not hold what it should."""


class MissingDependencyError(SyllableLMError, ImportError):
    """An optional package or program is not installed; the message says how to install it."""


def plural(count: int, noun: str) -> str:
    """A number of things in a message: "1 file", "2,000 files"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def and_more(count: int) -> str:
    """The end of a message that names the first of some faults: ", and 3 more such"; nothing where there is but one."""
    return f", and {count - 1} more such" if count > 1 else ""
