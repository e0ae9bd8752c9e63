"""Tokens of a corpus on disk: three flat arrays that training reads through a memory map."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.config import build
from syllablelm.core.errors import FormatError, InputError, check_fields
from syllablelm.core.npy import NpyWriter, read_npy
from syllablelm.core.results import read_json
from syllablelm.core.segmentation import Segmentation

IntArray = npt.NDArray[np.int32]
Interleaving = Literal["time", "ella-v"]

INFO_FILE = "tokens.json"
TOKENS_FILE, FRAMES_FILE, OFFSETS_FILE = "tokens.npy", "frames.npy", "offsets.npy"
_NO_UNITS = "no units at all: nothing to train on or to score"


@dataclass(frozen=True)
class TokenInfo:
    """Description of the tokens of a store or a language model.

    Args:
        num_tokens: vocabulary size without the beginning-of-sequence token.
        loss_from: smallest token with a loss; the syllables of an interleaved stream lie below it.
        hop, sample_rate: samples per frame, the unit of durations, and per second.
        tokenizer: digest of the tokenizer; models refuse units of another one.
        syllable_hop, acoustic_units: in an interleaved stream, samples per frame of the syllables and digest of the
            acoustic units ("" if unknown); else 0 and "".
        keep_repeats: tokens are not deduplicated (codes of a codec, reference labels).
        interleaving: order of the tokens of an interleaved stream (``vocoder.interleave``).
        trained_tokens: longest crop that a model was trained on; 0 if unknown.
        has_bos: whether sequences begin with BOS; some models of others know none.
    """

    num_tokens: int
    loss_from: int = 0
    hop: int = 320
    sample_rate: int = 16_000
    tokenizer: str = ""
    syllable_hop: int = 0
    keep_repeats: bool = False
    trained_tokens: int = 0
    acoustic_units: str = ""
    interleaving: Interleaving = "time"
    has_bos: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "num_tokens hop sample_rate", least=1)
        check_fields(self, "loss_from syllable_hop trained_tokens", least=0)

    def as_modelled(self, segmentation: Segmentation) -> Segmentation:
        """Return the units as models of this vocabulary read them, deduplicated unless ``keep_repeats``."""
        return segmentation if self.keep_repeats else segmentation.deduplicate()

    @property
    def bos(self) -> int:
        """Beginning-of-sequence token; it follows the last unit."""
        return self.num_tokens

    @property
    def start(self) -> list[int]:
        """Tokens before the units of a recording: BOS, where there is one."""
        return [self.bos] if self.has_bos else []

    @property
    def frame_seconds(self) -> float:
        """Seconds of one frame."""
        return self.hop / self.sample_rate


def token_frames(segmentation: Segmentation) -> IntArray:
    """Return the frames from the start of each segment to the next start, or to the end of the recording."""
    ends = np.append(segmentation.start[1:], segmentation.num_frames)
    return (ends - segmentation.start).astype(np.int32)


def check_units(segmentation: Segmentation, info: TokenInfo, name: str) -> IntArray:
    """Return the units of a segmentation; an InputError for no units, or another vocabulary or time grid."""
    unit = segmentation.unit
    if unit is None:
        raise InputError(f"{name}: boundaries without units; encode it with a tokenizer that has a codebook")
    if len(unit) and int(unit.max()) >= info.num_tokens:
        raise InputError(
            f"{name}: unit {int(unit.max())} is outside the vocabulary of {info.num_tokens}; "
            "use the tokenizer that the model was trained with"
        )
    if (segmentation.hop, segmentation.sample_rate) != (info.hop, info.sample_rate):
        raise InputError(
            f"{name}: frames of {segmentation.hop} samples at {segmentation.sample_rate} Hz, but the model was "
            f"trained on {info.hop} at {info.sample_rate}"
        )
    return unit


def unit_rows(items: Iterable[tuple[str, Segmentation]], info: TokenInfo) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield tokens and frames of recordings with units; errors as of ``TokenStore.from_segmentations``."""
    for name, segmentation in items:
        unit = check_units(segmentation, info, name)
        if len(unit):
            yield unit, token_frames(segmentation)


class TokenStore:
    """Tokens of many recordings, concatenated.

    Args:
        tokens, frames: (num_tokens,) ids, and durations in frames; 0 for tokens that share the time of another one.
        offsets: (num_recordings + 1,) index of the first token of each recording.
        info: description of the tokens.
    """

    def __init__(self, tokens: npt.NDArray, frames: npt.NDArray, offsets: npt.NDArray, info: TokenInfo) -> None:
        if len(tokens) != len(frames) or len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(tokens):
            raise InputError("a token store needs as many frames as tokens, and offsets from 0 to their number")
        if np.any(offsets[1:] < offsets[:-1]):
            raise InputError("the offsets of a token store must not fall")
        self.tokens, self.frames, self.offsets, self.info = tokens, frames, offsets, info

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> tuple[IntArray, IntArray]:
        """Return tokens and frames of one recording."""
        piece = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return self.tokens[piece].astype(np.int32), self.frames[piece].astype(np.int32)

    @property
    def seconds(self) -> float:
        """Total length in seconds, as counted in frames."""
        return float(np.sum(self.frames, dtype=np.int64)) * self.info.frame_seconds

    def limited(self, tokens: int, seed: int) -> TokenStore:
        """Return recordings drawn at random until the next one does not fit into ``tokens``, in their order.

        With the same seed a smaller draw is part of a larger one, except for its last recording. An InputError where
        not even the first one drawn fits.
        """
        if tokens >= len(self.tokens):
            return self
        order = np.random.default_rng(seed).permutation(len(self))
        lengths = np.diff(self.offsets)[order]
        count = int(np.searchsorted(np.cumsum(lengths), tokens, side="right"))
        if count == 0:
            raise InputError(f"{tokens} tokens are less than one recording of {lengths[0]}; take more")
        rows = [self[int(index)] for index in np.sort(order[:count])]
        return self.from_arrays([row[0] for row in rows], [row[1] for row in rows], self.info)

    @classmethod
    def from_segmentations(cls, items: Iterable[tuple[str, Segmentation]], info: TokenInfo) -> TokenStore:
        """Collect the units of recordings, leaving out those without.

        Raises:
            InputError: units outside the vocabulary or on another time grid, named by recording; or none at all.
        """
        rows = list(unit_rows(items, info))
        return cls.from_arrays([row[0] for row in rows], [row[1] for row in rows], info)

    @classmethod
    def from_arrays(cls, tokens: list[IntArray], frames: list[IntArray], info: TokenInfo) -> TokenStore:
        """Concatenate the arrays of recordings."""
        if not tokens:
            raise InputError(_NO_UNITS)
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in tokens])])
        kind = _token_type(info)
        return cls(np.concatenate(tokens).astype(kind), np.concatenate(frames).astype(np.int32), offsets, info)

    @classmethod
    def write(cls, folder: Path, rows: Iterable[tuple[IntArray, IntArray]], info: TokenInfo) -> TokenStore:
        """Write the files of ``save`` into an existing folder recording by recording, and open them.

        Args:
            rows: tokens and frames of each recording; recordings without tokens are left out.

        Raises:
            InputError: no tokens at all.
        """
        with (
            NpyWriter(folder / TOKENS_FILE, _token_type(info)) as tokens,
            NpyWriter(folder / FRAMES_FILE, np.int32) as frames,
            NpyWriter(folder / OFFSETS_FILE, np.int64) as offsets,
        ):
            offsets.append([0])
            for row, row_frames in rows:
                if len(row):
                    tokens.append(row)
                    frames.append(row_frames)
                    offsets.append([tokens.count])
        if offsets.count == 1:
            raise InputError(_NO_UNITS)
        write_info(folder, info)
        return cls.open(folder)

    def save(self, folder: Path) -> None:
        """Write the arrays into an existing folder."""
        np.save(folder / TOKENS_FILE, self.tokens)
        np.save(folder / FRAMES_FILE, self.frames)
        np.save(folder / OFFSETS_FILE, self.offsets)
        write_info(folder, self.info)

    @classmethod
    def open(cls, folder: str | Path) -> TokenStore:
        """Open what ``save`` wrote as memory maps; a FormatError for missing or damaged files."""
        folder = Path(folder)
        info = read_info(folder / INFO_FILE)
        names = (TOKENS_FILE, FRAMES_FILE, OFFSETS_FILE)
        tokens, frames, offsets = (read_npy(folder / name, mapped=True) for name in names)
        for name, array in zip(names, (tokens, frames, offsets), strict=True):
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise FormatError(f"{folder / name}: one row of integers is needed, not {array.dtype}{array.shape}")
        if len(frames) and not 0 <= frames.min() <= frames.max() < 2**31:
            raise FormatError(f"{folder / FRAMES_FILE}: holds durations that are none; pack the units again")
        try:
            return cls(tokens, frames, offsets, info)
        except InputError as error:
            raise FormatError(f"{folder}: not a token store ({error})") from None


def _token_type(info: TokenInfo) -> type[np.integer]:
    return np.uint16 if info.num_tokens <= 1 << 16 else np.int32


def write_info(folder: Path, info: TokenInfo) -> None:
    """Write the description of a vocabulary into a folder, as ``read_info`` reads it."""
    (folder / INFO_FILE).write_text(json.dumps(asdict(info), indent=2) + "\n", encoding="utf-8")


def read_info(path: Path) -> TokenInfo:
    """Read the description of a vocabulary; a FormatError where it is missing or damaged."""
    try:
        return build(TokenInfo, read_json(path), str(path))
    except InputError as error:
        raise FormatError(str(error)) from None
