"""Pauses as segments: how many segments of a recording its pauses take, and where, before its speech is cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.segment.baselines import even_boundaries

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class PausePlan:
    """Division of a recording's segments between speech and pauses.

    Args:
        speech: (num_speech, 2) starts and ends of the stretches of speech, in frames.
        starts: starts of all segments of pauses, in frames.
        count: number of segments of the speech.
        num_frames: frames of the recording, T.
    """

    speech: IntArray
    starts: IntArray
    count: int
    num_frames: int

    @property
    def joins(self) -> IntArray:
        """Frames of the joined speech at which a stretch ends and the next one begins."""
        return np.cumsum(self.speech[:, 1] - self.speech[:, 0])[:-1].astype(np.int32)

    def place(self, boundaries: IntArray) -> IntArray:
        """Return boundaries [0, ..., T] of the recording, of boundaries of the joined speech that hold its joins."""
        frames = np.concatenate([np.arange(start, end) for start, end in self.speech])
        return np.sort(np.concatenate([frames[boundaries[:-1]], self.starts, [self.num_frames]])).astype(np.int32)


def plan_pauses(is_speech: npt.NDArray[np.bool_], count: int, *, max_length: int, most_speech: float) -> PausePlan:
    """Divide `count` segments between the speech and the pauses of a recording.

    A pause takes the fewest segments that `max_length` allows, and the speech takes all others, up to `most_speech`
    segments per frame (or the whole recording's, if that is more); what remains divides the longest pauses further.

    Args:
        is_speech: (T,) True for frames of speech; without any, the whole recording counts as speech.
        count: number of segments, feasible for T frames (`feasible_count`). Where it is less than all stretches need,
            the shortest pauses count as speech.
        max_length: longest segment in frames.
    """
    speech = np.array(is_speech, dtype=bool)
    if not speech.any():
        speech[:] = True
    while True:
        edges = np.flatnonzero(np.diff(speech)) + 1
        runs = np.stack([np.r_[0, edges], np.r_[edges, len(speech)]], axis=1)
        spoken = speech[runs[:, 0]]
        lengths = runs[:, 1] - runs[:, 0]
        fewest = -(-lengths // max_length)
        if fewest.sum() <= count or spoken.all():
            break
        start, end = runs[np.where(spoken, len(speech), lengths).argmin()]
        speech[start:end] = True
    num_speech = int(lengths[spoken].sum())
    pauses, pieces = runs[~spoken], fewest[~spoken]
    highest = max(most_speech, count / len(speech)) * num_speech
    in_speech = min(count - pieces.sum(), max(fewest[spoken].sum(), round(highest)))
    # No pause holds more segments than frames.
    in_speech = int(max(in_speech, count - lengths[~spoken].sum()))
    for _ in range(count - in_speech - int(pieces.sum())):
        pieces[np.argmax(lengths[~spoken] / pieces)] += 1
    starts = [
        start + even_boundaries(end - start, number)[:-1] for (start, end), number in zip(pauses, pieces, strict=True)
    ]
    return PausePlan(
        runs[spoken].astype(np.int32), np.concatenate([[], *starts]).astype(np.int32), in_speech, len(speech)
    )
