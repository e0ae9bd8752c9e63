"""Texts and stories, spoken into a corpus folder by a text-to-speech engine."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from typing import Any

from syllablelm.core.errors import InputError, check_positive
from syllablelm.core.progress import ProgressBar
from syllablelm.data.texts import read_stories, read_texts
from syllablelm.tts.engines import Engine, open_engine
from syllablelm.tts.synthesize import SynthesisResult, synthesize


@dataclass(frozen=True)
class SpokenStories(SynthesisResult):
    """Result of `speak_stories`.

    Args:
        stories: number of stories of the texts.
        empty, too_long, repeated: number of those that were left out: without a word, with too many, or the same as an
            earlier one.
    """

    stories: int
    empty: int
    too_long: int
    repeated: int


def speak_texts(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    hours: float | None = None,
    limit: int | None = None,
    **options: Any,
) -> SynthesisResult:
    """Speak a text file, a transcript, or a folder of them (see `read_texts`) into a corpus folder, or resume one.

    `hours` and `limit` bound its length and its utterances; `options` are arguments of `synthesize`.
    """
    texts = list(islice(read_texts(path), limit))
    if not texts:
        raise InputError(f"{path}: holds no sentence long enough to speak")
    return _speak_many(texts, len(texts), out, hours, options)


def speak_stories(
    paths: Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    *,
    engine: str | Engine = "flite",
    voices: str | Sequence[str] | None = None,
    hours: float | None = None,
    limit: int | None = None,
    max_words: int = 1000,
    **options: Any,
) -> SpokenStories:
    """Speak stories into a corpus folder, or resume one: each whole, in one voice, at the voice's own speed and pitch.

    Args:
        paths: files or folders of stories, see `read_stories`.
        out: folder of the corpus.
        engine, voices: as in `open_engine`; by default one voice reads all, of several one is drawn for each story.
        hours, limit: maximum length of the corpus and number of its stories.
        max_words: maximum words of a story; longer ones are left out.
        options: further arguments of `synthesize`.

    Raises:
        InputError: no story to speak, and as `synthesize`.
    """
    speaker, chosen = open_engine(engine, voices, single=True)
    counts: Counter[str] = Counter()

    def kept() -> Iterator[tuple[str, str]]:
        counts.clear()
        seen: set[bytes] = set()
        for path in paths:
            for name, text in read_stories(path):
                # Nearly three million in TinyStories: their digests take less memory.
                key = hashlib.sha256(text.encode()).digest()[:12]
                words = len(re.findall(r"\w+", text))
                reason = "empty" if words == 0 else "too_long" if words > max_words else ""
                reason = reason or ("repeated" if key in seen else "kept")
                counts[reason] += 1
                if reason == "kept":
                    seen.add(key)
                    yield name, text

    total = sum(1 for _ in kept())
    numbers: dict[str, Any] = {name: counts[name] for name in ("empty", "too_long", "repeated")}
    stories = counts.total()
    if total == 0:
        raise InputError(f"{', '.join(map(str, paths))}: none of {stories} stories has 1 to {max_words} words")
    options |= {"engine": speaker, "voices": chosen, "speed_range": (1.0, 1.0), "pitch_range": (1.0, 1.0)}
    spoken = _speak_many(islice(kept(), limit), min(total, limit or total), out, hours, options)
    return SpokenStories(**vars(spoken), stories=stories, **numbers)


def _speak_many(
    texts: Iterable[tuple[str, str]],
    count: int,
    out: str | PathLike[str],
    hours: float | None,
    options: Mapping[str, Any],
) -> SynthesisResult:
    if hours is not None:
        check_positive("--hours", hours)
    with ProgressBar("synthesize", count, closing_line=False) as bar:
        seconds = None if hours is None else hours * 3600
        return synthesize(texts, out, limit_seconds=seconds, progress=bar.advance, **options)
