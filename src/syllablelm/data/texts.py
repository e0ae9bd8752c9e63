"""Texts as utterances: the lines of transcripts, the sentences of prose, whole stories."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice
from os import PathLike
from pathlib import Path

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import read_each, text_lines, walk_files
from syllablelm.data.manifest import read_drafts
from syllablelm.data.manifest_formats import is_manifest
from syllablelm.formats.transcript import is_transcript, read_transcript


def read_texts(path: str | PathLike[str], *, min_words: int = 4, max_words: int = 25) -> Iterator[tuple[str, str]]:
    """Yield the utterances, (id, text), of a text file, or of every `.txt` file of a folder in order of name.

    A LibriSpeech transcript (`.trans.txt`, lines "id TEXT") and a manifest give their texts as they are, lower-cased,
    under the ids of the recordings. Any other file is prose: Project Gutenberg's header and footer are dropped,
    paragraphs are split into sentences, long sentences at commas and semicolons, and pieces shorter than `min_words`
    are left out; ids are "stem-000000" and so on. Letters are composed (NFC). In scripts without spaces between words
    (Chinese, Japanese, Thai, ...) a character counts as a word.

    Args:
        path: file or folder.
        min_words, max_words: minimum and maximum words of a sentence of prose.
    """
    path = Path(path)

    def read(file: Path) -> Iterator[tuple[str, str]]:
        if is_transcript(file):
            yield from ((name, _lowered(words)) for name, words in read_transcript(file))
        elif is_manifest(file):
            yield from ((draft.id, _lowered(draft.text)) for draft in read_drafts(file) if draft.text)
        else:
            # Carriage returns alone are the line ends of old Macs.
            text = unicodedata.normalize("NFC", "\n".join(line for _, line in text_lines(file))).replace("\r", "\n")
            for number, sentence in enumerate(split_sentences(text, min_words=min_words, max_words=max_words)):
                yield f"{_prefix(file, path)}-{number:06d}", sentence

    yield from read_each(path, _text_files(path), read)


def _lowered(text: str) -> str:
    return unicodedata.normalize("NFC", text.lower())


END_OF_STORY = "<|endoftext|>"
# Quotation marks, dashes and dots whose UTF-8 was once read as Windows-1252, as in the first TinyStories.
_MOJIBAKE = {"â€œ": "“", "â€™": "'", "â€˜": "'", "â€“": "–", "â€”": "—", "â€¦": "…", "â€\x9d": "”", "â€": "”"}  # noqa: RUF001


def read_stories(path: str | PathLike[str]) -> Iterator[tuple[str, str]]:
    """Yield the stories, (id, text), of a text file, or of every `.txt` file of a folder in order of name.

    Stories are separated by `<|endoftext|>` (TinyStories) or, in a file whose first 10,000 lines have none, stand one
    a line. They are whole, on one line, empty ones too; ids are "stem-0000000" and so on.
    """
    path = Path(path)

    def read(file: Path) -> Iterator[tuple[str, str]]:
        if is_transcript(file) or is_manifest(file):
            raise FormatError(f"{file}: texts with ids, not stories; `prepare synthetic` speaks them")
        is_marked = any(END_OF_STORY in line for _, line in islice(text_lines(file), 10_000))

        def pieces() -> Iterator[str]:
            lines: list[str] = []
            for _, line in text_lines(file):
                *ended, rest = line.split(END_OF_STORY) if is_marked else (line, "")
                for piece in ended:
                    yield _joined([*lines, piece])
                    lines = []
                lines.append(rest)
            # The last story needs no mark.
            if last := _joined(lines):
                yield last

        for number, story in enumerate(pieces()):
            yield f"{_prefix(file, path)}-{number:07d}", story

    yield from read_each(path, _text_files(path), read)


def _joined(lines: Sequence[str]) -> str:
    text = " ".join(" ".join(lines).split())
    if "â€" in text:
        for wrong, right in _MOJIBAKE.items():
            text = text.replace(wrong, right)
    return text


def _text_files(path: Path) -> list[Path]:
    files = sorted(file for file in walk_files(path) if file.suffix == ".txt") if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(f"{path} is no text file and no folder with .txt files")
    return files


def _prefix(file: Path, folder: Path) -> str:
    """Return the first part of the ids of a file."""
    name = "-".join(file.relative_to(folder).with_suffix("").parts) if folder.is_dir() else file.stem
    return re.sub(r"[^\w.+-]+", "_", name)


# Project Gutenberg's marker lines, of today's files and of those of the 1990s.
_HEADER_END = re.compile(r"^\*{3} ?START OF.*$|^\*END[* ]?THE SMALL PRINT.*$", re.MULTILINE | re.IGNORECASE)
_FOOTER_START = re.compile(
    r"^\*{3} ?END OF.*$|^End of (?:the |this )?Project Gutenberg.*$", re.MULTILINE | re.IGNORECASE
)
# Marks of the ends of sentences and clauses; those of Chinese and Japanese need no space after them.
_SENTENCE_END = re.compile(r"([.!?…؟۔।॥]+[\"'”’)»]*)\s+|([。！？]+[”’」』）]*)\s*")  # noqa: RUF001
_CLAUSE_END = re.compile(r"(?<=[,;:،؛])\s+|(?<=[、，；：])\s*")  # noqa: RUF001
# Han, kana, Thai, Lao, Tibetan, Burmese, Khmer.
_UNSPACED = "\u0e01-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}][^\w\s{_UNSPACED}]*\s*|[^\s{_UNSPACED}]+\s*")
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|Capt|Col|Gen|Rev|Hon|No|Vol)|\b[A-Z])\.$")


def strip_gutenberg(text: str) -> str:
    """Return a text without Project Gutenberg's header and footer."""
    return _FOOTER_START.split(_HEADER_END.split(text, maxsplit=1)[-1], maxsplit=1)[0]


def split_sentences(text: str, *, min_words: int = 4, max_words: int = 25) -> Iterator[str]:
    """Split prose into sentences of `min_words` to `max_words` words; see `read_texts`."""
    for paragraph in re.split(r"\n\s*\n", strip_gutenberg(text)):
        paragraph = " ".join(re.sub(r"\[[^\]]*\]|[_*|<>]", " ", paragraph).split())
        sentence = ""
        for piece in _SENTENCE_END.sub(lambda end: f"{end[1] or end[2]}\n", paragraph).split("\n"):
            sentence = f"{sentence} {piece}".strip()
            if not _ABBREVIATION.search(sentence):
                yield from _fit(sentence, min_words, max_words)
                sentence = ""
        yield from _fit(sentence, min_words, max_words)


def _fit(sentence: str, min_words: int, max_words: int) -> Iterator[str]:
    """Split a long sentence at its commas, packing clauses while they fit; a longer clause is split by count."""
    chunk: list[str] = []
    for clause in _CLAUSE_END.split(sentence):
        # The space at which a clause was split is gone.
        words = _words(f"{clause} " if clause[-1:] in ",;:،؛" else clause)
        if len(chunk) + len(words) > max_words:
            if len(chunk) >= min_words:
                yield "".join(chunk).strip()
            chunk = []
        while len(words) > max_words:
            yield "".join(words[:max_words]).strip()
            words = words[max_words:]
        chunk += words
    if len(chunk) >= min_words:
        yield "".join(chunk).strip()


def _words(text: str) -> list[str]:
    """Return the words of a text with the spaces after them; marks stay with the characters that carry them."""
    words: list[str] = []
    for word in _WORD.findall(text):
        if words and unicodedata.category(word[0])[0] == "M":
            words[-1] += word
        else:
            words.append(word)
    return words
