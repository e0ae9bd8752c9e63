"""Crops of recordings packed into rows with little padding.

The rows of a batch depend on (seed, epoch) only, so a resumed run continues with the batches of the stopped one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.lm.store import TokenStore

IntArray = npt.NDArray[np.int64]
IGNORED = -1
# Rows filled at the same time: more give fuller rows, fewer keep the order.
OPEN_ROWS = 256
# Tokens of recordings that are cropped at a time.
BLOCK_TOKENS = 1 << 22


@dataclass(frozen=True)
class PackedBatch:
    """Rows of crops, all (rows, row_tokens): input tokens (BOS and all but the last), next tokens (-1 without a loss),
    positions from 0 in each crop, number of the crop (0 for padding), and durations of the targets (0 without a loss).
    """

    tokens: IntArray
    targets: IntArray
    positions: IntArray
    crop: IntArray
    frames: IntArray


def draw_crops(store: TokenStore, crop_frames: int, longest: int, rng: np.random.Generator) -> IntArray:
    """Draw the crops of one epoch: as many per recording as fit into it, at least one, at random positions.

    Args:
        crop_frames, longest: maximum length of a crop in frames, at least 1, and in tokens.

    Returns:
        (crops, 2) first token of each crop in the store and the token after its last, in the order of the recordings.
    """
    blocks = [_crop_block(*block, crop_frames, longest, rng) for block in _blocks(store)]
    return np.concatenate([np.zeros((0, 2), dtype=np.int64), *blocks])


def _blocks(store: TokenStore) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield blocks of recordings with tokens.

    Yields:
        (recordings + 1,) offsets into the store; (tokens,) frames from the start of the block to the end of each token.
    """
    offsets = np.unique(np.asarray(store.offsets, dtype=np.int64))
    at = 0
    while at < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[at] + BLOCK_TOKENS, side="right")) - 1
        own = offsets[at : max(stop, at + 1) + 1]
        yield own, np.cumsum(store.frames[own[0] : own[-1]], dtype=np.int64)
        at += len(own) - 1


def _crop_block(
    offsets: IntArray, ends: IntArray, crop_frames: int, longest: int, rng: np.random.Generator
) -> IntArray:
    # Places are counted from the first token of the block; edges[i] is the start of token i.
    places, edges = offsets - offsets[0], np.concatenate([[0], ends])
    begin, after = edges[places[:-1]], edges[places[1:]]
    # No crop starts so late that it would be shorter than necessary.
    latest = np.maximum(np.searchsorted(ends, after - crop_frames, side="right") - places[:-1], 0)
    is_long = after - begin > crop_frames
    owner = np.repeat(np.arange(len(begin)), np.maximum((after - begin) // crop_frames, 1))
    is_drawn = is_long[owner]
    start = places[owner]
    start[is_drawn] += rng.integers(0, latest[owner[is_drawn]] + 1)
    stop = np.minimum(np.searchsorted(ends, edges[start] + crop_frames, side="right"), places[owner + 1])
    stop = np.minimum(np.maximum(stop, start + 1), start + longest)
    return np.stack([start, stop], axis=1) + offsets[0]


def longest_crop(store: TokenStore, crop_frames: int, limit: int) -> int:
    """Return the maximum number of tokens of a crop of any recording, at most ``limit``."""
    longest = 1
    for offsets, ends in _blocks(store):
        edges = np.concatenate([[0], ends])
        # Tokens from each one to the end of its recording.
        room = np.repeat(offsets[1:], np.diff(offsets)) - np.arange(offsets[0], offsets[-1])

        def is_found(tokens: int, edges: IntArray = edges, room: IntArray = room) -> bool:
            lasts = edges[tokens:] - edges[:-tokens]
            return bool(np.any((lasts <= crop_frames) & (room[: len(lasts)] >= tokens)))

        # A crop of n tokens contains one of n - 1: bisect.
        if longest < limit and is_found(longest + 1):
            lengths = range(longest + 1, limit + 1)
            longest += bisect_left(lengths, True, key=lambda tokens: not is_found(tokens))
    return longest


def pack_rows(lengths: npt.NDArray[np.integer], row_tokens: int) -> list[list[int]]:
    """Pack crops into rows of ``row_tokens``, each into the fullest open row that has room for it.

    Args:
        lengths: (crops,) tokens of each crop, in packing order; one longer than a row is an InputError.

    Returns:
        indices of the crops of each row.
    """
    if len(lengths) and lengths.max() > row_tokens:
        raise InputError(f"a crop of {lengths.max()} tokens does not fit into a row of {row_tokens}")
    # (free positions, index of the first crop) of the open rows in order, and the rows themselves.
    order: list[tuple[int, int]] = []
    rows: dict[int, list[int]] = {}
    done: list[list[int]] = []
    for number, length in enumerate(lengths.tolist()):
        place = bisect_left(order, (length, -1))
        if place < len(order):
            free, row = order.pop(place)
            rows[row].append(number)
        else:
            if len(order) >= OPEN_ROWS:
                done.append(rows.pop(order.pop(0)[1]))
            free, row = row_tokens, number
            rows[row] = [number]
        insort(order, (free - length, row))
    return done + [rows[row] for _, row in order]


def fill_rows(store: TokenStore, rows: Sequence[IntArray], row_tokens: int) -> PackedBatch:
    """Return the arrays of a batch of rows, each (crops, 2) as from ``draw_crops``."""
    shape = (len(rows), row_tokens)
    tokens, positions, crop, frames = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    targets = np.full(shape, IGNORED, dtype=np.int64)
    for r, row in enumerate(rows):
        at = 0
        for c, (first, last) in enumerate(row.tolist(), 1):
            stop = at + last - first
            own = store.tokens[first:last].astype(np.int64)
            learned = own >= store.info.loss_from
            tokens[r, at], tokens[r, at + 1 : stop] = store.info.bos, own[:-1]
            targets[r, at:stop] = np.where(learned, own, IGNORED)
            frames[r, at:stop] = np.where(learned, store.frames[first:last], 0)
            positions[r, at:stop] = np.arange(last - first)
            crop[r, at:stop] = c
            at = stop
    return PackedBatch(tokens, targets, positions, crop, frames)


@dataclass(frozen=True)
class _Epoch:
    """Rows of an epoch in their order: (crops, 2) all crops, and (rows + 1,) index of the first crop of each row."""

    crops: IntArray
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> IntArray:
        return self.crops[self.offsets[row] : self.offsets[row + 1]]

    def tokens(self, rows: int) -> int:
        """Return the number of tokens in the first rows."""
        own = self.crops[: self.offsets[rows]]
        return int((own[:, 1] - own[:, 0]).sum())


class PackPlan:
    """Endless deterministic sequence of packed batches.

    Args:
        store, seed: the tokens, and random seed of crops and order.
        crop_seconds: maximum length of a crop in seconds (25 s in the paper, section 5.2).
        row_tokens: tokens per row, the maximum length of a crop.
        batch_tokens: tokens per batch, padding included; less than a row is an InputError.
        without_padding: ``batch_tokens`` counts tokens alone, on average over the first epoch: as many rows more are
            taken as padding costs.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        crop_seconds: float,
        row_tokens: int,
        batch_tokens: int,
        seed: int,
        without_padding: bool = False,
    ) -> None:
        if batch_tokens < row_tokens:
            raise InputError(f"batch_tokens {batch_tokens} must be at least one row of {row_tokens} tokens")
        self.store, self.row_tokens, self.seed = store, row_tokens, seed
        self.rows_per_batch = batch_tokens // row_tokens
        self.crop_frames = max(1, round(crop_seconds / store.info.frame_seconds))
        self._ends: list[int] = []
        self._tokens: list[int] = []
        self._latest: tuple[int, _Epoch] | None = None
        if without_padding:
            first = self._epoch(0)
            self.rows_per_batch = round(batch_tokens * len(first) / first.tokens(len(first)))

    @property
    def longest(self) -> int:
        """Maximum number of tokens of a crop."""
        return longest_crop(self.store, self.crop_frames, self.row_tokens)

    def _epoch(self, number: int) -> _Epoch:
        if self._latest is None or self._latest[0] != number:
            rng = np.random.default_rng((self.seed, number))
            crops = draw_crops(self.store, self.crop_frames, self.row_tokens, rng)
            crops = crops[rng.permutation(len(crops))]
            rows = pack_rows(crops[:, 1] - crops[:, 0], self.row_tokens)
            rows = [rows[i] for i in rng.permutation(len(rows))]
            offsets = np.cumsum([0, *map(len, rows)])
            self._latest = number, _Epoch(crops[np.fromiter(chain.from_iterable(rows), np.int64)], offsets)
        return self._latest[1]

    def place(self, row: int) -> tuple[int, int]:
        """Return the epoch of a row, counted from the start of training, and its index in it."""
        while not self._ends or self._ends[-1] <= row:
            epoch = self._epoch(len(self._ends))
            self._ends.append((self._ends[-1] if self._ends else 0) + len(epoch))
            self._tokens.append(epoch.tokens(len(epoch)))
        epoch = int(np.searchsorted(self._ends, row, side="right"))
        return epoch, row - (self._ends[epoch - 1] if epoch else 0)

    def tokens(self, rows: int) -> int:
        """Return the number of tokens in the first rows of training; their other positions are padding."""
        epoch, at = self.place(max(rows - 1, 0))
        return sum(self._tokens[:epoch]) + self._epoch(epoch).tokens(at + (rows > 0))

    def batch(self, number: int) -> PackedBatch:
        """Return a batch by its number; batches continue across epochs."""
        rows = []
        for row in range(number * self.rows_per_batch, (number + 1) * self.rows_per_batch):
            epoch, at = self.place(row)
            rows.append(self._epoch(epoch)[at])
        return fill_rows(self.store, rows, self.row_tokens)
