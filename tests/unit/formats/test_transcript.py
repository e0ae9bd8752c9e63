from __future__ import annotations

from pathlib import Path

import pytest

from syllablelm.core.errors import FormatError
from syllablelm.formats.transcript import is_transcript, read_transcript, transcript_lines


def test_reads_ids_and_texts(tmp_path: Path) -> None:
    file = tmp_path / "84-121123.trans.txt"
    # As some editors save it: a mark at the start, lines that end as on Windows, empty ones.
    file.write_bytes("\ufeff84-121123-0000 GO  DO YOU HEAR\r\n\r\n84-121123-0001\tAÑO \n".encode())
    assert is_transcript(file) and not is_transcript(tmp_path / "84.txt")
    assert list(read_transcript(file)) == [("84-121123-0000", "GO  DO YOU HEAR"), ("84-121123-0001", "AÑO")]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"a-1 HE\na-2\n", ":2: not a transcript line 'ID TEXT'"), (b"a-1 HE\n\xff\n", ":2: not a text in UTF-8")],
)
def test_refuses(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "a.trans.txt"
    file.write_bytes(content)
    with pytest.raises(FormatError, match=words):
        list(read_transcript(file))


def test_a_text_may_be_missing_where_nobody_needs_it(tmp_path: Path) -> None:
    file = tmp_path / "a.trans.txt"
    file.write_text("a-1 HE\n \na-2\n")
    assert list(transcript_lines(file)) == [(f"{file}:1", "a-1", "HE"), (f"{file}:3", "a-2", "")]
