"""Texts as utterances: the lines of transcripts, the sentences of prose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from syllablelm.core.errors import InputError
from syllablelm.core.files import read_each, text_lines, walk_files
from syllablelm.data.manifest import read_drafts
from syllablelm.data.manifest_formats import is_manifest
from syllablelm.formats.transcript import is_transcript, read_transcript


def read_texts(path: str | PathLike[str], *, min_words: int = 4, max_words: int = 25) -> Iterator[tuple[str, str]]:
    """Yield the utterances, (id, text), of a text file, or of every `.txt` file of a folder in order of name.

    A LibriSpeech transcript (`.trans.txt`, lines "id TEXT") and a manifest give their texts as they are, lower-cased,
    under the ids of the recordings. Any other file is prose: Project Gutenberg's header and footer are dropped,
    paragraphs are split into sentences, long sentences at commas and semicolons, and pieces shorter than `min_words`
    are left out; ids are "stem-000000" and so on.

    Args:
        path: file or folder.
        min_words, max_words: minimum and maximum words of a sentence of prose.
    """
    path = Path(path)
    files = sorted(file for file in walk_files(path) if file.suffix == ".txt") if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(f"{path} is no text file and no folder with .txt files")

    def read(file: Path) -> Iterator[tuple[str, str]]:
        if is_transcript(file):
            yield from ((name, words.lower()) for name, words in read_transcript(file))
        elif is_manifest(file):
            yield from ((draft.id, draft.text.lower()) for draft in read_drafts(file) if draft.text)
        else:
            # Carriage returns alone are the line ends of old Macs.
            text = "\n".join(line for _, line in text_lines(file)).replace("\r", "\n")
            prefix = "-".join(file.relative_to(path).with_suffix("").parts) if path.is_dir() else file.stem
            prefix = re.sub(r"[^\w.+-]+", "_", prefix)
            for number, sentence in enumerate(split_sentences(text, min_words=min_words, max_words=max_words)):
                yield f"{prefix}-{number:06d}", sentence

    yield from read_each(path, files, read)


# Project Gutenberg's marker lines, of today's files and of those of the 1990s.
_HEADER_END = re.compile(r"^\*{3} ?START OF.*$|^\*END[* ]?THE SMALL PRINT.*$", re.MULTILINE | re.IGNORECASE)
_FOOTER_START = re.compile(
    r"^\*{3} ?END OF.*$|^End of (?:the |this )?Project Gutenberg.*$", re.MULTILINE | re.IGNORECASE
)
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|Capt|Col|Gen|Rev|Hon|No|Vol)|\b[A-Z])\.$")


def strip_gutenberg(text: str) -> str:
    """Return a text without Project Gutenberg's header and footer."""
    return _FOOTER_START.split(_HEADER_END.split(text, maxsplit=1)[-1], maxsplit=1)[0]


def split_sentences(text: str, *, min_words: int = 4, max_words: int = 25) -> Iterator[str]:
    """Split prose into sentences of `min_words` to `max_words` words; see `read_texts`."""
    for paragraph in re.split(r"\n\s*\n", strip_gutenberg(text)):
        paragraph = " ".join(re.sub(r"\[[^\]]*\]|[_*|<>]", " ", paragraph).split())
        sentence = ""
        pieces = re.sub(r"([.!?][\"'”’)]*)\s+", r"\1\n", paragraph).split("\n")  # noqa: RUF001
        for piece in pieces:
            sentence = f"{sentence} {piece}".strip()
            if not _ABBREVIATION.search(sentence):
                yield from _fit(sentence, min_words, max_words)
                sentence = ""
        yield from _fit(sentence, min_words, max_words)


def _fit(sentence: str, min_words: int, max_words: int) -> Iterator[str]:
    """Split a long sentence at its commas, packing clauses while they fit; a longer clause is split by count."""
    chunk: list[str] = []
    for clause in re.split(r"(?<=[,;:])\s+", sentence):
        words = clause.split()
        if len(chunk) + len(words) > max_words:
            if len(chunk) >= min_words:
                yield " ".join(chunk)
            chunk = []
        while len(words) > max_words:
            yield " ".join(words[:max_words])
            words = words[max_words:]
        chunk += words
    if len(chunk) >= min_words:
        yield " ".join(chunk)
