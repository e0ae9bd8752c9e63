"""open-topic-cloze: a story with its own next sentence against one from another story.

Two contexts swap their endings: A and B give the items "A, end of A" against "A, end of B" and "B, end of B" against
"B, end of A", in one voice. Every ending is correct once and incorrect once, so that neither endings nor their lengths
alone give the answer away.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import find_files, read_each, text_lines
from syllablelm.data.texts import END_OF_STORY, split_sentences, strip_gutenberg
from syllablelm.formats.transcript import is_transcript, transcript_lines
from syllablelm.itemsets.speak import Clip, ItemSet, Source, SpokenSet, prepare_set

NAME = "open-topic-cloze"
_MIN_WORDS = 4
# Two or more empty lines separate stories and chapters of plain texts without TinyStories' mark.
_BREAK = re.compile(r"\n[^\S\n]*\n[^\S\n]*\n\s*")


@dataclass(frozen=True)
class Passage:
    """Some sentences of a story and the next one."""

    name: str
    story: str
    context: tuple[str, ...]
    ending: str


def prepare_topic_cloze(texts: Sequence[str | Path], out: str | Path, **options: Any) -> SpokenSet:
    """Speak stories with their own ending and with another's into a folder for ``evaluate cloze``, or resume one.

    `options` are those of `make_topic_cloze` and `prepare_set`: items, context, seed, engine, voices, ...
    """
    return prepare_set(partial(make_topic_cloze, [Path(text) for text in texts]), out, **options)


def make_topic_cloze(
    paths: Sequence[Path],
    *,
    voices: Sequence[str],
    items: int = 1000,
    context: int = 3,
    max_words: int = 25,
    seed: int = 0,
    licence: str = "not given",
) -> ItemSet:
    """Draw passages from stories and swap the endings of pairs of them, each in one voice; InputError without a swap.

    Args:
        paths: text files, LibriSpeech transcripts (``.trans.txt``, each chapter is a story), or folders of them.
        voices, seed, licence: voices to draw from, random seed, licence of the texts.
        items: number of items, even; fewer if the texts have no more.
        context: number of sentences before the ending.
        max_words: maximum words of a sentence; a longer utterance of a transcript ends a passage, longer prose is split
            at commas.
    """
    if items % 2:
        raise InputError(f"{items} items: every swap of endings gives two; ask for {items - 1} or {items + 1}")
    rng = np.random.default_rng(seed)
    passages = [p for path in paths for p in read_passages(path, context=context, max_words=max_words)]
    names = [passage.name for passage in passages]
    if len(set(names)) < len(names):
        raise InputError(f"two texts have passages called {max(names, key=names.count)!r}; rename a file")
    couples = swap_endings([passages[i] for i in rng.permutation(len(passages)).tolist()])
    couples = [couples[i] for i in rng.permutation(len(couples))[: items // 2].tolist()]
    if not couples:
        raise InputError(
            f"no two stories with passages of {context + 1} sentences of {_MIN_WORDS} to {max_words} words each: give "
            "more text, a lower --context or a higher --max-words"
        )
    clips: list[Clip] = []
    for one, other in couples:
        voice = voices[int(rng.integers(len(voices)))]
        clips += [*_clips(one, other, voice), *_clips(other, one, voice)]
    options = {"items": items, "context": context, "max_words": max_words, "seed": seed}
    measures = {"stories": len({passage.story for couple in couples for passage in couple})}
    sources = tuple(Source.of(path, licence) for path in paths)
    return ItemSet(NAME, "cloze", (), tuple(clips), sources, options, measures)


def swap_endings(passages: Sequence[Passage]) -> list[tuple[Passage, Passage]]:
    """Pair passages of different stories with endings of nearly equal length (ties in the order given)."""
    waiting = sorted(passages, key=lambda passage: len(passage.ending))
    couples = []
    while waiting:
        one = waiting.pop()
        for i in reversed(range(len(waiting))):
            # Equal words from two stories (a refrain) would make both items correct.
            if waiting[i].story != one.story and _words(waiting[i].ending) != _words(one.ending):
                couples.append((one, waiting.pop(i)))
                break
    return couples


def read_passages(path: Path, *, context: int, max_words: int) -> Iterator[Passage]:
    """Yield passages of ``context`` sentences and an ending, without overlap; see `make_topic_cloze`."""
    if not path.exists():
        raise InputError(f"{path}: no such text")
    for story, sentences in read_each(path, find_files(path, (".txt",)), lambda file: _runs(file, max_words)):
        step = context + 1
        for number, first in enumerate(range(0, len(sentences) - context, step)):
            *before, ending = sentences[first : first + step]
            yield Passage(f"{story}-{number:03d}", story.partition(".")[0], tuple(before), ending)


def _runs(file: Path, max_words: int) -> Iterator[tuple[str, list[str]]]:
    """Yield runs of consecutive sentences, under unique names "STORY" or "STORY.PART"."""
    if is_transcript(file):
        yield from _transcript_runs(file, max_words)
        return
    text = strip_gutenberg("\n".join(line for _, line in text_lines(file)))
    stem = re.sub(r"[^\w+-]+", "_", file.stem)
    blocks = text.split(END_OF_STORY) if END_OF_STORY in text else _BREAK.split(text)
    for number, block in enumerate(blocks):
        yield f"{stem}-{number:03d}", list(split_sentences(block, min_words=_MIN_WORDS, max_words=max_words))


def _transcript_runs(file: Path, max_words: int) -> Iterator[tuple[str, list[str]]]:
    story, expected, part = "", -1, 0
    run: list[str] = []
    for place, name, words in transcript_lines(file):
        chapter, _, number = name.rpartition("-")
        if not (chapter and number.isdigit() and words):
            raise FormatError(f"{place}: not a line 'SPEAKER-CHAPTER-NUMBER TEXT'")
        fits = _MIN_WORDS <= len(words.split()) <= max_words
        if chapter != story or int(number) != expected or not fits:
            if run:
                yield f"{story}.{part:03d}", run
            part = part + 1 if chapter == story else 0
            run = []
        story, expected = chapter, int(number) + 1
        if fits:
            run.append(words.lower())
    if run:
        yield f"{story}.{part:03d}", run


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", text).lower())


def _clips(passage: Passage, other: Passage, voice: str) -> tuple[Clip, Clip]:
    def clip(kind: str, source: Passage) -> Clip:
        about = {"story": passage.story, "ending": source.ending, "ending_of": source.name}
        text = " ".join(_closed(sentence) for sentence in (*passage.context, source.ending))
        return Clip(f"{passage.name}_{kind}", passage.name, source is passage, voice, text, about)

    return clip("correct", passage), clip("incorrect", other)


def _closed(sentence: str) -> str:
    """Return a sentence with a full stop, which transcripts and prose split at a comma lack."""
    bare = sentence.rstrip(" ,;:-")
    return bare if re.search(r"[.!?]\W*$", bare) else f"{bare}."
