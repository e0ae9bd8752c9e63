"""Reference units: phones, syllables, words or pieces of the transcript as units, for toplines and text models.

A vocabulary gives labels their numbers; 0 is whatever it does not hold. Silence is a gap.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import digest_json, new_artifact, open_artifact
from syllablelm.core.errors import InputError
from syllablelm.core.payload import read_payload
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment
from syllablelm.data.syllables import Interval
from syllablelm.quantize.bpe import PieceModel, fit_pieces, spelled

Tier = Literal["phone", "syllable", "word", "text"]
KIND = "vocabulary"
VOCABULARY_FILE = "vocabulary.json"
FORMAT = "syllablelm-vocabulary-1"
UNSEEN, WORD_MARK = "<unseen>", "\u2581"
# SentencePiece's usual size for text of this amount, and the scaling paper's for units.
TEXT_SIZE = 5000


@dataclass(frozen=True)
class Placed:
    """Reference units of one recording.

    Args:
        segmentation: the units.
        unseen: how many of them the vocabulary does not hold.
        moved: how many could not be put on the nearest frames, because a unit needs a frame of its own.
    """

    segmentation: Segmentation
    unseen: int
    moved: int


@dataclass(frozen=True)
class Vocabulary:
    """Labels of a reference tier and their units.

    Args:
        tier: "phone", "syllable", "word", or "text" (SentencePiece unigram pieces of each word).
        labels: by unit; the first is ``UNSEEN``. Of "text": the characters, a mark of the word's beginning among them.
        hop, sample_rate: of the frames that the units are put on.
        pieces: of "text": pieces of these characters; its units follow the characters.
        digest: of the artifact that it was loaded from.

    Raises:
        InputError: the parts contradict each other.
    """

    tier: Tier
    labels: tuple[str, ...]
    hop: int = 320
    sample_rate: int = 16_000
    pieces: PieceModel | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        if self.tier not in get_args(Tier) or self.hop < 1 or self.sample_rate < 1:
            raise InputError(f"a vocabulary needs a tier of {', '.join(get_args(Tier))} and a frame grid")
        if self.labels[:1] != (UNSEEN,) or len(set(self.labels)) != len(self.labels):
            raise InputError(f"the labels of a vocabulary are distinct and begin with {UNSEEN}")
        if (self.tier == "text") != (self.pieces is not None):
            raise InputError("a vocabulary of text, and no other, has pieces")
        if self.pieces is not None and self.pieces.num_symbols != len(self.labels):
            raise InputError(f"pieces of {self.pieces.num_symbols} symbols for {len(self.labels)} characters")

    @property
    def num_units(self) -> int:
        """Size of the vocabulary, the unit of unseen labels included."""
        return len(self.labels) if self.pieces is None else self.pieces.num_codes

    @cached_property
    def names(self) -> list[str]:
        """The label of each unit."""
        return list(self.labels) if self.pieces is None else spelled(self.pieces, self.labels)

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {label: number for number, label in enumerate(self.labels)}

    def encode(self, alignment: Alignment) -> Placed:
        """The units of one recording, on the nearest frames.

        Raises:
            InputError: more units than frames.
            FormatError: syllables of phones that are not ARPAbet.
        """
        labelled = list(self._text_units(alignment) if self.pieces is not None else self._label_units(alignment))
        units = np.array([unit for unit, _, _ in labelled], dtype=np.int32)
        frames = self.sample_rate / self.hop
        num_frames = round(alignment.duration * frames)
        try:
            start, end, moved = place_on_frames(
                np.array([start for _, start, _ in labelled]) * frames,
                np.array([end for _, _, end in labelled]) * frames,
                num_frames,
            )
        except InputError as error:
            raise InputError(f"alignment of {alignment.id}: {error}") from None
        segmentation = Segmentation(start, end, units, num_frames, self.hop, self.sample_rate)
        unseen = sum(0 in self._characters(unit) for unit in units.tolist())
        return Placed(segmentation, unseen, moved)

    def _characters(self, unit: int) -> tuple[int, ...]:
        return (unit,) if self.pieces is None else tuple(self.pieces.expand([unit]).tolist())

    def _label_units(self, alignment: Alignment) -> Iterator[tuple[int, float, float]]:
        for interval in _intervals(alignment, self.tier):
            yield self._numbers.get(interval.label, 0), interval.start, interval.end

    def _text_units(self, alignment: Alignment) -> Iterator[tuple[int, float, float]]:
        """Pieces of each word, which share its time by their letters."""
        if self.pieces is None:
            return
        for word in _intervals(alignment, "text"):
            codes = self.pieces.encode([self._numbers.get(c, 0) for c in WORD_MARK + word.label])
            # The mark of the beginning takes no time.
            edges = np.append(0, np.maximum(np.cumsum(self.pieces.lengths[codes]) - 1, 0)) / max(len(word.label), 1)
            times = word.start + edges * (word.end - word.start)
            yield from zip(codes.tolist(), times[:-1].tolist(), times[1:].tolist(), strict=True)

    def save(self, folder: str | Path, parents: Mapping[str, str] | None = None) -> None:
        """Write a vocabulary artifact that ``load`` opens.

        Raises:
            InputError: the folder exists.
        """
        if Path(folder).exists():
            raise InputError(f"{folder} exists; choose another name, or leave out --fit to use what it holds")
        config = {"tier": self.tier, "units": self.num_units, "hop": self.hop, "sample_rate": self.sample_rate}
        table = {
            "format": FORMAT,
            **config,
            "labels": list(self.labels),
            "pieces": None if self.pieces is None else self.pieces.to_table(),
        }
        with new_artifact(folder, KIND, config=config, seed=0, parents=parents or {}, metrics={}) as payload:
            text = json.dumps(table, ensure_ascii=False) + "\n"
            (payload / VOCABULARY_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Vocabulary:
        """Open a vocabulary artifact.

        Raises:
            FormatError: not one, or a damaged one.
        """
        artifact = open_artifact(folder, KIND)

        def build(table: dict[str, Any], where: str) -> Vocabulary:
            pieces = None if table["pieces"] is None else PieceModel.from_table(table["pieces"], where)
            labels = tuple(map(str, table["labels"]))
            return cls(table["tier"], labels, int(table["hop"]), int(table["sample_rate"]), pieces, artifact.digest)

        return read_payload(artifact, VOCABULARY_FILE, FORMAT, build)


def fit_vocabulary(
    alignments: Iterable[Alignment], tier: Tier, size: int = 0, *, hop: int = 320, sample_rate: int = 16_000
) -> Vocabulary:
    """Collect the labels of a tier, or learn pieces of the words.

    Args:
        alignments: of the training recordings.
        tier: see ``Vocabulary``.
        size: units, that of unseen labels included; the most frequent labels are kept. 0 keeps all labels (5,000 pieces
            of text).
        hop, sample_rate: of the frames; 160 samples at 16 kHz hold the 10 ms of forced aligners exactly.

    Raises:
        InputError: no labels, or a size that cannot be.
    """
    if size < 0 or size == 1:
        raise InputError(f"--fit {size}: a vocabulary has two units or more (0: as many as there are labels)")
    found = Counter(interval.label for one in alignments for interval in _intervals(one, tier))
    if not found:
        raise InputError(f"these alignments have no {'word' if tier == 'text' else tier} at all")
    if tier != "text":
        ranked = sorted(found, key=lambda label: (-found[label], label))
        labels = ranked if size == 0 else ranked[: size - 1]
        return Vocabulary(tier, (UNSEEN, *labels), hop, sample_rate)
    characters = (UNSEEN, WORD_MARK, *sorted(set("".join(found)) - {WORD_MARK}))
    numbers = {character: number for number, character in enumerate(characters)}
    words = ([numbers[c] for c in WORD_MARK + word] for word in sorted(found) for _ in range(found[word]))
    pieces = fit_pieces(words, len(characters), "unigram", size or TEXT_SIZE)
    return Vocabulary(tier, characters, hop, sample_rate, pieces)


def place_on_frames(
    start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], num_frames: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], int]:
    """Intervals in fractions of frames to whole frames, each at least one, in order and without overlap.

    Args:
        start, end: (n,) sorted.
        num_frames: of the recording.

    Returns:
        starts, ends, and how many intervals are not on the frames nearest to them.

    Raises:
        InputError: more intervals than frames.
    """
    count = len(start)
    if count > num_frames:
        raise InputError(f"{count} units do not fit {num_frames} frames; use shorter frames (--hop 160)")
    nearest_start, nearest_end = np.rint(start).astype(np.int64), np.rint(end).astype(np.int64)
    if count == 0:
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32), 0
    number = np.arange(count)
    # Forwards, the n-th begins no earlier than the one before ends; backwards, those that follow leave room.
    placed_end = np.maximum.accumulate(np.maximum(nearest_end, nearest_start + 1) - number) + number
    placed_end = np.minimum(placed_end, num_frames - (count - 1 - number))
    before = np.append(0, placed_end[:-1])
    placed_start = np.clip(nearest_start, before, placed_end - 1)
    moved = int(np.sum((placed_start != nearest_start) | (placed_end != nearest_end)))
    return placed_start.astype(np.int32), placed_end.astype(np.int32), moved


def alignments_digest(alignments: Mapping[str, Alignment]) -> str:
    """Identity of what the alignments say of words, whatever file they came from."""
    return digest_json([[name, [[w.label, w.start, w.end] for w in one.words]] for name, one in alignments.items()])


def _intervals(alignment: Alignment, tier: Tier) -> tuple[Interval, ...]:
    return alignment.intervals("word" if tier == "text" else tier)
