"""Long recordings cut by voice activity into pieces: excerpts of the same file, whose times they keep."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import AudioError, InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.data.audio import SAMPLE_RATE, FloatArray, read_blocks
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.data.vad import Method, speech_regions

Piece = tuple[int, int]
# Shorter pieces would be little more than single words.
SHORTEST_PIECE = 1.0
# Speech on both sides of a longer pause is two pieces.
PAUSE_SECONDS = 1.0
# Voice activity is searched in stretches of this length, so that memory does not grow with the recording.
BLOCK_SECONDS = 600.0
_PAD_MS = 100
# Speech longer than a piece is cut at its quietest 50 ms, by energies of 10 ms.
_HOP, _SMOOTH = 160, 5


@dataclass(frozen=True)
class CutRecordings:
    """Result of `cut_recordings`.

    Args:
        pieces: pieces, and recordings that were short enough.
        cut: number of recordings that were cut.
        no_speech_seconds: what no piece of these holds.
        unusable: recordings without speech, or that cannot be read.
    """

    pieces: Manifest
    cut: int
    no_speech_seconds: float
    unusable: tuple[tuple[Recording, AudioError], ...]


def cut_recordings(
    manifest: Manifest, max_seconds: float, method: Method = "energy", workers: int = 1
) -> CutRecordings:
    """Cut every recording as `cut_recording` does.

    Args:
        max_seconds: maximum length of a piece, at least `SHORTEST_PIECE`.
        method: method of voice activity detection.
        workers: number of threads; "silero" takes one.
    """
    if not max_seconds >= SHORTEST_PIECE:
        raise InputError(f"--max-seconds {max_seconds:g}: give at least {SHORTEST_PIECE:g}")
    pieces: list[Recording] = []
    unusable: list[tuple[Recording, AudioError]] = []
    cut, left_out = 0, 0.0
    with ThreadPoolExecutor(1 if method == "silero" else workers) as pool, ProgressBar("cut", len(manifest)) as bar:
        jobs = ((recording, pool.submit(cut_recording, recording, max_seconds, method)) for recording in manifest)
        # A bounded number at a time: finished ones would otherwise pile up behind a long recording.
        waiting = deque(islice(jobs, 4 * workers))
        while waiting:
            recording, job = waiting.popleft()
            try:
                found = job.result()
                cut += found != [recording]
                left_out += recording.seconds - math.fsum(piece.seconds for piece in found)
                pieces += found
            except AudioError as error:
                unusable.append((recording, error))
            bar.advance()
            waiting.extend(islice(jobs, 1))
    return CutRecordings(Manifest(pieces), cut, left_out, tuple(unusable))


def cut_recording(recording: Recording, max_seconds: float, method: Method = "energy") -> list[Recording]:
    """Return the pieces of a recording of at most ``max_seconds``; a shorter recording is its only piece.

    A piece is a stretch of speech with the pauses inside it that are not longer than ``PAUSE_SECONDS``; longer pauses
    belong to none. Pieces are named ID_0000, ID_0001, ... and have no text.

    Raises:
        AudioError: no speech, or samples that cannot be read (``load_audio``).
    """
    if recording.seconds <= max_seconds:
        return [recording]
    start, stop = recording.start, recording.start + recording.num_samples
    blocks = read_blocks(recording.path, max(BLOCK_SECONDS, 2 * max_seconds), start=start, stop=stop)
    ratio = recording.sample_rate / SAMPLE_RATE
    pieces = []
    for number, (first, last) in enumerate(find_pieces(blocks, int(max_seconds * SAMPLE_RATE), method)):
        # Rounded inwards, so that no piece is too long or ends behind the file.
        begin, end = int(np.ceil(first * ratio)), min(int(last * ratio), recording.num_samples)
        place = {"start": start + begin, "num_samples": end - begin}
        pieces.append(replace(recording, id=f"{recording.id}_{number:04d}", text=None, **place))
    if not pieces:
        raise AudioError(f"{recording.path}: no speech in {recording.seconds:.1f} s (voice activity: {method})")
    return pieces


def find_pieces(blocks: Iterable[FloatArray], most: int, method: Method = "energy") -> Iterator[Piece]:
    """Yield the pieces of a recording, half-open in samples, in order.

    Args:
        blocks: the recording's samples, mono at 16 kHz, in blocks that are longer than a piece.
        most: maximum length of a piece in samples.
    """
    pause = int(PAUSE_SECONDS * SAMPLE_RATE)
    held, at = np.zeros(0, dtype=np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        pieces = _pieces(held, most, pause, method)
        # Speech that may go on in the next block is searched again with it.
        is_open = bool(pieces) and pieces[-1][1] + pause > len(held)
        for first, last in pieces[: len(pieces) - is_open]:
            yield at + first, at + last
        rest = pieces[-1][0] if is_open else max(0, len(held) - pause)
        held, at = held[rest:], at + rest
    if len(held):
        yield from ((at + first, at + last) for first, last in _pieces(held, most, pause, method))


def _pieces(samples: FloatArray, most: int, pause: int, method: Method) -> list[Piece]:
    pieces: list[Piece] = []
    for start, end in speech_regions(samples, method=method, pad_ms=_PAD_MS).tolist():
        if pieces and start - pieces[-1][1] <= pause and end - pieces[-1][0] <= most:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
        while end - pieces[-1][0] > most:
            start = pieces[-1][0]
            cut = start + most // 2 + _quietest(samples[start + most // 2 : start + most])
            pieces[-1:] = [(start, cut), (cut, end)]
    return pieces


def _quietest(samples: npt.NDArray[np.float32]) -> int:
    """Return the middle of the quietest 50 ms."""
    count = len(samples) // _HOP
    if count < _SMOOTH:
        return len(samples) // 2
    energy = np.square(samples[: count * _HOP].reshape(count, _HOP), dtype=np.float64).sum(1)
    return (int(np.convolve(energy, np.ones(_SMOOTH), "valid").argmin()) * 2 + _SMOOTH) * _HOP // 2
