"""Codecs: units to coarser units and back: run lengths, acoustic BPE (Shen et al. 2023), SentencePiece unigram.

The language model sees a sequence of units, and so does a codec: pieces may run over gaps between segments.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from syllablelm.core.artifact import digest_json, open_artifact
from syllablelm.core.errors import InputError
from syllablelm.core.payload import read_payload
from syllablelm.core.segmentation import Segmentation
from syllablelm.quantize.bpe import PieceModel, fit_pieces

Kind = Literal["runs", "bpe", "unigram"]
KIND = "codec"
CODEC_FILE = "codec.json"
FORMAT = "syllablelm-codec-1"


@dataclass(frozen=True)
class Codec:
    """Turns the units of one tokenizer into coarser ones and back.

    Args:
        num_units: units of the tokenizer; each of them is a code too, under its own number.
        pieces: the pieces and how they are found; None joins runs and does nothing else.
        merge_repeats: units that touch and are equal are joined first, as language models see them (and as the acoustic
            BPE of the paper does). What goes on from there is exact; how many there were in a run is not kept.
        hop, sample_rate: of the frames.
        tokenizer: digest of the tokenizer whose units they are; "" if unknown.

    What is exact: ``decode(encode(s)).unit`` is ``s.unit`` (of ``s.merge_repeats()`` where repeats are merged), for
    units that were never seen in training as well. The start of a code is that of its first unit and its end that of
    its last one. Boundaries and gaps between the units of one code are not kept: ``decode`` spreads them evenly.

    Raises:
        InputError: a runs codec that would not merge, or pieces of other symbols than the units.
    """

    num_units: int
    pieces: PieceModel | None = None
    merge_repeats: bool = True
    hop: int = 320
    sample_rate: int = 16_000
    tokenizer: str = ""

    def __post_init__(self) -> None:
        if self.num_units < 1 or self.hop < 1 or self.sample_rate < 1:
            raise InputError("a codec needs num_units, hop and sample_rate of at least 1")
        if self.pieces is None and not self.merge_repeats:
            raise InputError("a codec without pieces that keeps repeats changes nothing")
        if self.pieces is not None and self.pieces.num_symbols != self.num_units:
            raise InputError(f"pieces of {self.pieces.num_symbols} symbols do not code {self.num_units} units")

    @property
    def kind(self) -> Kind:
        return "runs" if self.pieces is None else self.pieces.method

    @property
    def num_codes(self) -> int:
        """Size of the vocabulary."""
        return self.num_units if self.pieces is None else self.pieces.num_codes

    def prepare(self, segmentation: Segmentation) -> Segmentation:
        """The units that are coded: with repeats merged, if they are.

        Raises:
            InputError: no units, units that the tokenizer does not have, or another frame grid.
        """
        self._check(segmentation, self.num_units, "units")
        return segmentation.merge_repeats() if self.merge_repeats else segmentation

    def encode(self, segmentation: Segmentation) -> Segmentation:
        """Units to codes; see the class for what is kept.

        Raises:
            InputError: as ``prepare``.
        """
        fine = self.prepare(segmentation)
        if self.pieces is None or fine.unit is None or len(fine) == 0:
            return fine
        codes = self.pieces.encode(fine.unit)
        last = np.cumsum(self.pieces.lengths[codes]) - 1
        first = np.append(0, last[:-1] + 1)
        return Segmentation(fine.start[first], fine.end[last], codes, fine.num_frames, fine.hop, fine.sample_rate)

    def decode(self, coarse: Segmentation) -> Segmentation:
        """Codes to units; a code's units share its time evenly.

        Raises:
            InputError: no codes, codes outside the vocabulary, another frame grid, or a code of fewer frames than
                units, which ``encode`` never makes.
        """
        self._check(coarse, self.num_codes, "codes")
        if self.pieces is None or coarse.unit is None or len(coarse) == 0:
            return coarse
        count = self.pieces.lengths[coarse.unit].astype(np.int64)
        frames = (coarse.end - coarse.start).astype(np.int64)
        if np.any(frames < count):
            place = int(np.argmax(frames < count))
            raise InputError(
                f"code {int(coarse.unit[place])} stands for {count[place]} units but lasts {frames[place]} frames"
            )
        number = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        start, length, parts = (np.repeat(values, count) for values in (coarse.start.astype(np.int64), frames, count))
        return Segmentation(
            (start + number * length // parts).astype(np.int32),
            (start + (number + 1) * length // parts).astype(np.int32),
            self.pieces.expand(coarse.unit),
            coarse.num_frames,
            coarse.hop,
            coarse.sample_rate,
        )

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
        """Identity: of what it does and of the tokenizer whose units it takes, wherever it is kept."""
        return digest_json(self._table())

    def write_payload(self, folder: Path) -> None:
        """Write the file of a codec artifact into its folder."""
        (folder / CODEC_FILE).write_text(json.dumps(self._table()) + "\n", encoding="utf-8")

    def _table(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": self.kind,
            "num_units": self.num_units,
            "num_codes": self.num_codes,
            "merge_repeats": self.merge_repeats,
            "hop": self.hop,
            "sample_rate": self.sample_rate,
            "tokenizer": self.tokenizer,
            "pieces": None if self.pieces is None else self.pieces.to_table(),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Codec:
        """Open a codec artifact.

        Raises:
            FormatError: not one, or a damaged one.
        """

        def build(table: dict[str, Any], where: str) -> Codec:
            pieces = None if table["pieces"] is None else PieceModel.from_table(table["pieces"], where)
            return cls(
                int(table["num_units"]),
                pieces,
                bool(table["merge_repeats"]),
                int(table["hop"]),
                int(table["sample_rate"]),
                str(table["tokenizer"]),
            )

        return read_payload(open_artifact(folder, KIND), CODEC_FILE, FORMAT, build)


def fit_codec(
    segmentations: Iterable[Segmentation],
    kind: Kind,
    num_units: int,
    num_codes: int | None = None,
    *,
    merge_repeats: bool = True,
    tokenizer: str = "",
) -> Codec:
    """Learn a codec.

    Args:
        segmentations: recordings with units, all of one frame grid.
        kind: "runs", "bpe" (default size 4,096, where the paper found the lowest bit rate) or "unigram" (5,000).
        num_units: units of the tokenizer.
        num_codes: size of the vocabulary, single units included.
        merge_repeats, tokenizer: see ``Codec``.

    Raises:
        InputError: no units, units outside ``num_units``, several frame grids, or a size below ``num_units``.
    """
    rows = list(segmentations)
    grids = {(row.hop, row.sample_rate) for row in rows}
    if len(grids) != 1:
        raise InputError(f"a codec is made of recordings of one frame grid, not of {sorted(grids) or 'none'}")
    hop, sample_rate = grids.pop()
    merge = merge_repeats or kind == "runs"
    plain = Codec(num_units, None, True, hop, sample_rate, tokenizer)
    units: list[Any] = []
    for row in rows:
        plain._check(row, num_units, "units")
        units.append((row.merge_repeats() if merge else row).unit)
    if kind == "runs":
        return plain
    size = num_codes or {"bpe": 4096, "unigram": 5000}[kind]
    return Codec(num_units, fit_pieces(units, num_units, kind, size), merge, hop, sample_rate, tokenizer)
