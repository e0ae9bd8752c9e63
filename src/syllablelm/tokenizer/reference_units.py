"""Reference units: phones, syllables, words or subwords of the transcript as units, for toplines and text models.

A vocabulary maps labels to units; unit 0 stands for all other labels. Silence is a gap.
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

from syllablelm.core.artifact import digest_json, new_artifact, open_artifact, read_payload
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.results import Record, json_key
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, read_alignments
from syllablelm.data.syllables import Interval
from syllablelm.formats import FORMATS, FormatOptions, open_writer
from syllablelm.quantize.bpe import SubwordModel, code_texts, fit_subwords

Tier = Literal["phone", "syllable", "word", "text"]
KIND = "vocabulary"
VOCABULARY_FILE = "vocabulary.json"
FORMAT = "syllablelm-vocabulary-1"
UNSEEN, WORD_MARK = "<unseen>", "\u2581"
# SentencePiece's usual size for text of this amount, and the scaling paper's for units.
TEXT_SIZE = 5000


@dataclass(frozen=True)
class ReferenceUnits:
    """Reference units of one recording, and the numbers of units with an unseen label and off their nearest frames."""

    segmentation: Segmentation
    unseen: int
    moved: int


@dataclass(frozen=True)
class Vocabulary:
    """Labels of a reference tier and their units.

    Args:
        tier: "phone", "syllable", "word", or "text" (SentencePiece unigram subwords of each word).
        labels: label of each unit; the first is ``UNSEEN``. For "text" the characters and the mark of a word's start.
        hop, sample_rate: frame grid of the units, in samples.
        subwords: for "text", the subword model of these characters; its units follow the characters.
        digest: digest of the artifact it was loaded from.
    """

    tier: Tier
    labels: tuple[str, ...]
    hop: int = 320
    sample_rate: int = 16_000
    subwords: SubwordModel | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        if self.tier not in get_args(Tier) or self.hop < 1 or self.sample_rate < 1:
            raise InputError(f"a vocabulary needs a tier of {', '.join(get_args(Tier))} and a frame grid")
        if self.labels[:1] != (UNSEEN,) or len(set(self.labels)) != len(self.labels):
            raise InputError(f"the labels of a vocabulary are distinct and begin with {UNSEEN}")
        if (self.tier == "text") != (self.subwords is not None):
            raise InputError("a vocabulary of text, and no other, has subwords")
        if self.subwords is not None and self.subwords.num_symbols != len(self.labels):
            raise InputError(f"subwords of {self.subwords.num_symbols} symbols for {len(self.labels)} characters")

    @property
    def num_units(self) -> int:
        """Vocabulary size, the unit of unseen labels included."""
        return len(self.labels) if self.subwords is None else self.subwords.num_codes

    @cached_property
    def names(self) -> list[str]:
        """The label of each unit."""
        return list(self.labels) if self.subwords is None else code_texts(self.subwords, self.labels)

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {label: number for number, label in enumerate(self.labels)}

    def encode(self, alignment: Alignment) -> ReferenceUnits:
        """Return the units of one recording on the nearest frames; a FormatError for phones that are not ARPAbet."""
        labelled = list(self._timed_units(alignment))
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
        expand = list if self.subwords is None else self.subwords.expand
        return ReferenceUnits(segmentation, sum(0 in expand([unit]) for unit in units.tolist()), moved)

    def _timed_units(self, alignment: Alignment) -> Iterator[tuple[int, float, float]]:
        """Units with start and end in seconds; subwords of a word share its time by their letters."""
        if self.subwords is None:
            for one in _intervals(alignment, self.tier):
                yield self._numbers.get(one.label, 0), one.start, one.end
            return
        for word in _intervals(alignment, "text"):
            codes = self.subwords.encode([self._numbers.get(c, 0) for c in WORD_MARK + word.label])
            # The mark of the word's start takes no time.
            edges = np.append(0, np.maximum(np.cumsum(self.subwords.lengths[codes]) - 1, 0)) / max(len(word.label), 1)
            times = word.start + edges * (word.end - word.start)
            yield from zip(codes.tolist(), times[:-1].tolist(), times[1:].tolist(), strict=True)

    def save(self, folder: str | Path, parents: Mapping[str, str] | None = None) -> None:
        """Write a vocabulary artifact that ``load`` opens; an InputError where the folder exists."""
        if Path(folder).exists():
            raise InputError(f"{folder} exists; choose another name, or leave out --fit to use what it holds")
        config = {"tier": self.tier, "units": self.num_units, "hop": self.hop, "sample_rate": self.sample_rate}
        table = {
            "format": FORMAT,
            **config,
            "labels": list(self.labels),
            "pieces": None if self.subwords is None else self.subwords.to_table(),
        }
        with new_artifact(folder, KIND, config=config, seed=0, parents=parents or {}, metrics={}) as payload:
            text = json.dumps(table, ensure_ascii=False) + "\n"
            (payload / VOCABULARY_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Vocabulary:
        """Open a vocabulary artifact; a FormatError where it is none, or damaged."""
        artifact = open_artifact(folder, KIND)

        def build(table: dict[str, Any], where: str) -> Vocabulary:
            subwords = None if table["pieces"] is None else SubwordModel.from_table(table["pieces"], where)
            labels = tuple(map(str, table["labels"]))
            return cls(table["tier"], labels, int(table["hop"]), int(table["sample_rate"]), subwords, artifact.digest)

        return read_payload(artifact, VOCABULARY_FILE, FORMAT, build)


def fit_vocabulary(
    alignments: Iterable[Alignment], tier: Tier, size: int = 0, *, hop: int = 320, sample_rate: int = 16_000
) -> Vocabulary:
    """Collect the labels of a tier, or learn subwords of the words.

    Args:
        alignments, tier: alignments of the training recordings, and what becomes units, see ``Vocabulary``.
        size: number of units with that of unseen labels, the most frequent labels; 0 keeps all (text: 5,000 subwords).
        hop, sample_rate: frame grid; 160 samples at 16 kHz hold the 10 ms of forced aligners exactly.

    Raises:
        InputError: no labels, or an impossible size.
    """
    if size < 0 or size == 1:
        raise InputError(f"--fit {size}: a vocabulary has two units or more (0: all labels)")
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
    subwords = fit_subwords(words, len(characters), "unigram", size or TEXT_SIZE)
    return Vocabulary(tier, characters, hop, sample_rate, subwords)


def place_on_frames(
    start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], num_frames: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], int]:
    """Round intervals to whole frames, each at least one, in order and without overlap.

    Args:
        start, end: (n,) sorted, in fractions of frames.
        num_frames: frames of the recording; fewer than intervals are an InputError.

    Returns:
        starts, ends, and the number of intervals that are not on the nearest frames.
    """
    count = len(start)
    if count > num_frames:
        raise InputError(f"{count} units do not fit {num_frames} frames; use shorter frames (--hop 160)")
    nearest_start, nearest_end = np.rint(start).astype(np.int64), np.rint(end).astype(np.int64)
    if count == 0:
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32), 0
    number = np.arange(count)
    # Forwards, the n-th starts no earlier than the one before ends; backwards, later ones leave room.
    placed_end = np.maximum.accumulate(np.maximum(nearest_end, nearest_start + 1) - number) + number
    placed_end = np.minimum(placed_end, num_frames - (count - 1 - number))
    before = np.append(0, placed_end[:-1])
    placed_start = np.clip(nearest_start, before, placed_end - 1)
    moved = int(np.sum((placed_start != nearest_start) | (placed_end != nearest_end)))
    return placed_start.astype(np.int32), placed_end.astype(np.int32), moved


def alignments_digest(alignments: Mapping[str, Alignment]) -> str:
    """Return the digest of the words of alignments, independent of their file format."""
    return digest_json([[name, [[w.label, w.start, w.end] for w in one.words]] for name, one in alignments.items()])


def _intervals(alignment: Alignment, tier: Tier) -> tuple[Interval, ...]:
    return alignment.intervals("word" if tier == "text" else tier)


@dataclass(frozen=True, kw_only=True)
class AlignmentsConversion(Record):
    """Result of ``convert_alignments``: formats, tier, and what was written.

    Args:
        vocabulary: vocabulary size.
        unseen, moved: see ``ReferenceUnits``.
        grids: frame grids (hop, sample rate) of the output.
        loses: properties that the output does not hold.
    """

    source_format: str = json_key("from")
    to: str
    tier: str
    recordings: int
    segments: int
    vocabulary: int
    unseen: int
    moved: int
    grids: tuple[tuple[int, int], ...]
    loses: tuple[str, ...]


def convert_alignments(
    source: str | Path,
    out: str | Path,
    *,
    to: str,
    tier: Tier,
    vocabulary: str | Path,
    fit: int | None = None,
    options: FormatOptions | None = None,
) -> AlignmentsConversion:
    """Write the phones, syllables, words or subwords of alignments as units.

    Args:
        source, out: alignments, as ``read_alignments`` takes them; file, folder or prefix of the units.
        to: format of the output, a name of the registry.
        tier: "phone", "syllable", "word" or "text".
        vocabulary: folder of the vocabulary: created if ``fit`` is given, else opened.
        fit: number of units of a new vocabulary, see ``fit_vocabulary``.
        options: hop and sample rate of a new vocabulary (320 at 16 kHz), and the unit that stands for gaps.

    Raises:
        FormatError, InputError: unreadable input, a vocabulary of another tier, an output that cannot be written.
    """
    alignments = read_alignments(Path(source))
    options = options or FormatOptions()
    if fit is None:
        used = Vocabulary.load(vocabulary)
        if used.tier != tier:
            raise InputError(f"{vocabulary}: a vocabulary of tier {used.tier}, not {tier}")
        if options.hop not in (None, used.hop):
            raise InputError(f"{vocabulary}: a vocabulary of frames of {used.hop} samples; --hop cannot change them")
    else:
        if Path(vocabulary).exists():
            raise InputError(f"{vocabulary} exists; choose another --vocabulary, or leave out --fit to use it")
        grid: Any = {"hop": options.hop or 320, "sample_rate": options.sample_rate}
        used = fit_vocabulary(alignments.values(), tier, fit, **grid)
    segments, unseen, moved = 0, 0, 0
    inputs = [source, *Path(source).rglob("*")]
    with open_writer(out, to, options, tokenizer=used.digest, inputs=inputs) as writer:
        for name, alignment in alignments.items():
            units = used.encode(alignment)
            try:
                writer.write(name, "", units.segmentation)
            except InputError as error:
                raise FormatError(f"{source}: {error}") from None
            segments += len(units.segmentation)
            unseen, moved = unseen + units.unseen, moved + units.moved
    if fit is not None:
        used.save(vocabulary, {"alignments": alignments_digest(alignments)})
    return AlignmentsConversion(
        source_format="alignments",
        to=to,
        tier=tier,
        recordings=len(alignments),
        segments=segments,
        vocabulary=used.num_units,
        unseen=unseen,
        moved=moved,
        grids=((used.hop, used.sample_rate),),
        loses=("silences (they are gaps)", *FORMATS[to].loses),
    )
