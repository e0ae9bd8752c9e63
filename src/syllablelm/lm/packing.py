"""Crops of recordings laid side by side in rows, so that almost no position is padding.

The rows of a batch are a function of (seed, epoch) only, so a resumed run sees what the stopped one would have seen.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.errors import InputError
from syllablelm.lm.store import TokenStore

IntArray = npt.NDArray[np.int64]
IGNORED = -1
# Rows filled at the same time: more give fuller rows, fewer less disorder.
OPEN_ROWS = 256


@dataclass(frozen=True)
class Piece:
    """A stretch of one recording: tokens [start, stop) of the store."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class PackedBatch:
    """Rows of crops, all (rows, row_tokens).

    Args:
        tokens: what the model reads: each crop begins with BOS and lacks its last token.
        targets: what it predicts; -1 where there is no loss.
        positions: counted from 0 in each crop.
        crop: number of the crop that a position belongs to; 0 is padding.
        frames: duration of the targets, 0 without loss.
    """

    tokens: IntArray
    targets: IntArray
    positions: IntArray
    crop: IntArray
    frames: IntArray


def crop_pieces(store: TokenStore, crop_frames: int, longest: int, rng: np.random.Generator) -> Iterator[Piece]:
    """One epoch of crops: each recording gives as many as fit into it (at least one), at random places.

    Args:
        crop_frames: longest crop in frames; longest: in tokens.
    """
    for index in range(len(store)):
        first, stop = int(store.offsets[index]), int(store.offsets[index + 1])
        if stop == first:
            continue
        ends = np.cumsum(store.frames[first:stop], dtype=np.int64)
        count = max(1, int(ends[-1] // max(crop_frames, 1)))
        for _ in range(count):
            begin = 0
            if ends[-1] > crop_frames:
                # A crop never starts so late that it would be shorter than need be.
                latest = int(np.searchsorted(ends, ends[-1] - crop_frames, side="right"))
                begin = int(rng.integers(0, latest + 1))
            passed = int(ends[begin - 1]) if begin else 0
            end = int(np.searchsorted(ends, passed + crop_frames, side="right"))
            end = min(max(end, begin + 1), begin + longest)
            yield Piece(first + begin, first + end)


def pack_rows(pieces: Iterable[Piece], row_tokens: int) -> Iterator[list[Piece]]:
    """Lay pieces into rows of at most ``row_tokens``, each into the fullest open row that still holds it.

    Raises:
        InputError: a piece is longer than a row.
    """
    # (free positions, row number) in order, and the rows themselves.
    order: list[tuple[int, int]] = []
    rows: dict[int, list[Piece]] = {}
    for number, piece in enumerate(pieces):
        if len(piece) > row_tokens:
            raise InputError(f"a crop of {len(piece)} tokens does not fit into a row of {row_tokens}")
        place = bisect_left(order, (len(piece), -1))
        if place < len(order):
            free, row = order.pop(place)
        else:
            if len(order) >= OPEN_ROWS:
                _, full = order.pop(0)
                yield rows.pop(full)
            free, row = row_tokens, number
            rows[row] = []
        rows[row].append(piece)
        insort(order, (free - len(piece), row))
    for _, row in order:
        yield rows[row]


def fill_rows(store: TokenStore, rows: list[list[Piece]], row_tokens: int) -> PackedBatch:
    """The arrays of a batch of rows."""
    shape = (len(rows), row_tokens)
    tokens, positions, crop, frames = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    targets = np.full(shape, IGNORED, dtype=np.int64)
    for r, row in enumerate(rows):
        at = 0
        for c, piece in enumerate(row, 1):
            stop = at + len(piece)
            own = store.tokens[piece.start : piece.stop].astype(np.int64)
            learned = own >= store.info.loss_from
            tokens[r, at], tokens[r, at + 1 : stop] = store.info.bos, own[:-1]
            targets[r, at:stop] = np.where(learned, own, IGNORED)
            frames[r, at:stop] = np.where(learned, store.frames[piece.start : piece.stop], 0)
            positions[r, at:stop] = np.arange(len(piece))
            crop[r, at:stop] = c
            at = stop
    return PackedBatch(tokens, targets, positions, crop, frames)


class PackPlan:
    """Endless deterministic sequence of packed batches.

    Args:
        store: the tokens.
        crop_seconds: longest crop (25 s in the paper, section 5.2).
        row_tokens: length of a row; a crop has at most so many tokens.
        batch_tokens: positions in a batch.
        seed: of crops and order.

    Raises:
        InputError: a batch smaller than a row.
    """

    def __init__(
        self, store: TokenStore, *, crop_seconds: float, row_tokens: int, batch_tokens: int, seed: int
    ) -> None:
        if batch_tokens < row_tokens:
            raise InputError(f"batch_tokens {batch_tokens} must be at least one row of {row_tokens} tokens")
        self.store, self.row_tokens, self.seed = store, row_tokens, seed
        self.rows_per_batch = batch_tokens // row_tokens
        self.crop_frames = max(1, round(crop_seconds / store.info.frame_seconds))
        self._ends: list[int] = []
        self._epoch: tuple[int, list[list[Piece]]] | None = None

    def _rows(self, epoch: int) -> list[list[Piece]]:
        if self._epoch is None or self._epoch[0] != epoch:
            rng = np.random.default_rng((self.seed, epoch))
            pieces = list(crop_pieces(self.store, self.crop_frames, self.row_tokens, rng))
            rows = list(pack_rows((pieces[i] for i in rng.permutation(len(pieces))), self.row_tokens))
            self._epoch = (epoch, [rows[i] for i in rng.permutation(len(rows))])
        return self._epoch[1]

    def place(self, number: int) -> tuple[int, int]:
        """Epoch of the row ``number`` (counted from the start of training) and its place in it."""
        while not self._ends or self._ends[-1] <= number:
            self._ends.append((self._ends[-1] if self._ends else 0) + len(self._rows(len(self._ends))))
        epoch = int(np.searchsorted(self._ends, number, side="right"))
        return epoch, number - (self._ends[epoch - 1] if epoch else 0)

    def batch(self, number: int) -> PackedBatch:
        """Batch ``number``; batches run over the ends of epochs."""
        rows = []
        for row in range(number * self.rows_per_batch, (number + 1) * self.rows_per_batch):
            epoch, at = self.place(row)
            rows.append(self._rows(epoch)[at])
        return fill_rows(self.store, rows, self.row_tokens)
