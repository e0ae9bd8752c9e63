"""Codecs of units: deduplication, acoustic BPE (Shen et al. 2023), SentencePiece unigram; decodable to the same units.

A codec, like a language model, sees the sequence of units alone: a code may span gaps between segments.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from syllablelm.core.artifact import digest_json, open_artifact, read_payload
from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.quantize.bpe import SubwordModel, fit_subwords

Kind = Literal["runs", "bpe", "unigram"]
KIND = "codec"
CODEC_FILE = "codec.json"
FORMAT = "syllablelm-codec-1"


@dataclass(frozen=True)
class Codec:
    """Encodes the units of one tokenizer as fewer, coarser units, and decodes them.

    Args:
        num_units: size of the tokenizer's vocabulary; each of its units is a code too, under its own number.
        subwords: subword vocabulary; None deduplicates and does nothing else.
        deduplicate: deduplicate units first, as for language models and as in the paper's acoustic BPE; the number of
            repetitions is lost.
        hop, sample_rate: samples per frame and per second.
        tokenizer: digest of the tokenizer of the units; "" if unknown.

    ``decode(encode(s)).unit`` equals ``s.unit`` (of ``s.deduplicate()`` where units are deduplicated) exactly, also for
    sequences that were not seen in training. The start of a code is that of its first unit and its end that of its last
    one. Boundaries and gaps between the units of one code are lost: ``decode`` spaces them evenly.
    """

    num_units: int
    subwords: SubwordModel | None = None
    deduplicate: bool = True
    hop: int = 320
    sample_rate: int = 16_000
    tokenizer: str = ""

    def __post_init__(self) -> None:
        if self.num_units < 1 or self.hop < 1 or self.sample_rate < 1:
            raise InputError("a codec needs num_units, hop and sample_rate of at least 1")
        if self.subwords is None and not self.deduplicate:
            raise InputError("a codec that neither has subwords nor deduplicates changes nothing")
        if self.subwords is not None and self.subwords.num_symbols != self.num_units:
            raise InputError(f"subwords of {self.subwords.num_symbols} symbols do not encode {self.num_units} units")

    @property
    def kind(self) -> Kind:
        """Kind of codec."""
        return "runs" if self.subwords is None else self.subwords.method

    @property
    def num_codes(self) -> int:
        """Vocabulary size."""
        return self.num_units if self.subwords is None else self.subwords.num_codes

    def prepare(self, segmentation: Segmentation) -> Segmentation:
        """Return the units that are encoded: deduplicated, where the codec does so."""
        self._check(segmentation, self.num_units, "units")
        return segmentation.deduplicate() if self.deduplicate else segmentation

    def encode(self, segmentation: Segmentation) -> Segmentation:
        """Encode units as codes; see the class for what is lost."""
        fine = self.prepare(segmentation)
        if self.subwords is None or fine.unit is None or len(fine) == 0:
            return fine
        codes = self.subwords.encode(fine.unit)
        last = np.cumsum(self.subwords.lengths[codes]) - 1
        first = np.append(0, last[:-1] + 1)
        return Segmentation(fine.start[first], fine.end[last], codes, fine.num_frames, fine.hop, fine.sample_rate)

    def decode(self, coarse: Segmentation) -> Segmentation:
        """Decode codes to units; the units of a code divide its time evenly.

        Raises:
            InputError: no codes, codes outside the vocabulary, another frame grid, or a code of fewer frames than
                units, which ``encode`` never makes.
        """
        self._check(coarse, self.num_codes, "codes")
        if self.subwords is None or coarse.unit is None or len(coarse) == 0:
            return coarse
        count = self.subwords.lengths[coarse.unit].astype(np.int64)
        frames = (coarse.end - coarse.start).astype(np.int64)
        if np.any(frames < count):
            place = int(np.argmax(frames < count))
            raise InputError(
                f"code {int(coarse.unit[place])} stands for {count[place]} units but lasts {frames[place]} frames"
            )
        number = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        start, length, parts = (np.repeat(values, count) for values in (coarse.start.astype(np.int64), frames, count))
        first, last = ((start + (number + side) * length // parts).astype(np.int32) for side in (0, 1))
        grid = coarse.num_frames, coarse.hop, coarse.sample_rate
        return Segmentation(first, last, self.subwords.expand(coarse.unit), *grid)

    def _check(self, segmentation: Segmentation, known: int, what: str) -> None:
        if segmentation.unit is None:
            raise InputError("boundaries without units cannot be recoded; encode with a tokenizer that has a codebook")
        if (segmentation.hop, segmentation.sample_rate) != (self.hop, self.sample_rate):
            raise InputError(
                f"frames of {segmentation.hop} samples at {segmentation.sample_rate} Hz, but the codec was made for "
                f"{self.hop} at {self.sample_rate}"
            )
        if len(segmentation) and int(segmentation.unit.max()) >= known:
            raise InputError(f"{what[:-1]} {int(segmentation.unit.max())} is outside the {known} {what} of this codec")

    @cached_property
    def digest(self) -> str:
        """Hash of the codec and of its tokenizer's digest, wherever it is stored."""
        return digest_json(self._table())

    def write_payload(self, folder: Path) -> None:
        """Write the codec's file into the folder of an artifact."""
        (folder / CODEC_FILE).write_text(json.dumps(self._table()) + "\n", encoding="utf-8")

    def _table(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": self.kind,
            "num_units": self.num_units,
            "num_codes": self.num_codes,
            "merge_repeats": self.deduplicate,
            "hop": self.hop,
            "sample_rate": self.sample_rate,
            "tokenizer": self.tokenizer,
            "pieces": None if self.subwords is None else self.subwords.to_table(),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Codec:
        """Open a codec artifact."""

        def build(table: dict[str, Any], where: str) -> Codec:
            subwords = None if table["pieces"] is None else SubwordModel.from_table(table["pieces"], where)
            grid = int(table["hop"]), int(table["sample_rate"])
            return cls(int(table["num_units"]), subwords, bool(table["merge_repeats"]), *grid, str(table["tokenizer"]))

        return read_payload(open_artifact(folder, KIND), CODEC_FILE, FORMAT, build)


def fit_codec(
    segmentations: Iterable[Segmentation],
    kind: Kind,
    num_units: int,
    num_codes: int | None = None,
    *,
    deduplicate: bool = True,
    tokenizer: str = "",
) -> Codec:
    """Learn a codec.

    Args:
        segmentations: recordings with units, all of one frame grid.
        kind: "runs" (deduplication only), "bpe" or "unigram".
        num_units: size of the tokenizer's vocabulary.
        num_codes: vocabulary size, single units included (default: 4,096 for "bpe", where the paper found the lowest
            bit rate, 5,000 for "unigram").
        deduplicate, tokenizer: see ``Codec``.

    Raises:
        InputError: no units, units outside ``num_units``, several frame grids, or a size below ``num_units``.
    """
    rows = list(segmentations)
    grids = {(row.hop, row.sample_rate) for row in rows}
    if len(grids) != 1:
        raise InputError(f"a codec is made of recordings of one frame grid, not of {sorted(grids) or 'none'}")
    hop, sample_rate = grids.pop()
    deduplicate = deduplicate or kind == "runs"
    plain = Codec(num_units, None, True, hop, sample_rate, tokenizer)
    for row in rows:
        plain._check(row, num_units, "units")
    units: list[Any] = [(row.deduplicate() if deduplicate else row).unit for row in rows]
    if kind == "runs":
        return plain
    size = num_codes or {"bpe": 4096, "unigram": 5000}[kind]
    return Codec(num_units, fit_subwords(units, num_units, kind, size), deduplicate, hop, sample_rate, tokenizer)
