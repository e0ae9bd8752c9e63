"""LibriSpeech's transcripts: files ``*.trans.txt`` of lines "ID TEXT"."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from syllablelm.errors import FormatError
from syllablelm.formats.files import text_lines

SUFFIX = ".trans.txt"


def is_transcript(file: Path) -> bool:
    """Whether a file is a transcript, by its name."""
    return file.name.endswith(SUFFIX)


def read_transcript(file: Path) -> Iterator[tuple[str, str]]:
    """Ids and texts of a transcript, in its order; empty lines are skipped.

    Raises:
        FormatError: not UTF-8, or a line of an id without a text.
    """
    for place, line in text_lines(file):
        name, _, text = line.strip().partition(" ")
        if not name:
            continue
        if not text.strip():
            raise FormatError(f"{place}: not a transcript line 'ID TEXT'")
        yield name, text.strip()
