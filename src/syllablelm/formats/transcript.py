"""Transcripts of LibriSpeech: files ``*.trans.txt`` of lines "ID TEXT"."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from syllablelm.core.errors import FormatError
from syllablelm.core.files import text_lines

SUFFIX = ".trans.txt"


def is_transcript(file: Path) -> bool:
    """Return whether a file is a transcript, by its name."""
    return file.name.endswith(SUFFIX)


def read_transcript(file: Path) -> Iterator[tuple[str, str]]:
    """Yield ids and texts of a transcript; empty lines are skipped, an id without a text is a FormatError."""
    for place, name, text in transcript_lines(file):
        if not text:
            raise FormatError(f"{place}: not a transcript line 'ID TEXT'")
        yield name, text


def transcript_lines(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield places ("84-121123.trans.txt:3"), ids and texts, which may be empty, of a transcript."""
    for place, line in text_lines(file):
        name, *text = line.split(maxsplit=1)[:2] or [""]
        if name:
            yield place, name, text[0].strip() if text else ""
