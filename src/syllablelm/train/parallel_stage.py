"""Pairs for a vocoder: the sound of a text in the vocoder's voice, warped to the timing of a real recording of it.

Units of real and of synthetic speech of one text differ, and a vocoder must speak both. Dynamic time warping over the
tokenizer's features finds, for every frame of the real recording, the frame of the voice that says the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import Artifact
from syllablelm.core.errors import InputError, check_fields, plural
from syllablelm.core.progress import ProgressBar
from syllablelm.data.vad import speech_frames
from syllablelm.formats import open_writer
from syllablelm.segment.kernels import compiled
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.train.batches import WaveformStore, save_arrays
from syllablelm.train.stage import StageRun, run_stage
from syllablelm.train.tokenizer_recipe import DataConfig

FloatArray = npt.NDArray[np.floating]
WARP_FILE, SYLLABLES_FILE = "warp.safetensors", "syllables.jsonl"
SILENT = -1
# Short pauses count as pauses too.
PAUSES: dict[str, Any] = {"min_speech_ms": 50, "min_silence_ms": 60, "pad_ms": 0}
# Most frames of the voice that one frame of the recording may pass, and the cost of staying and of each frame passed.
MOST_PASSED, STAY_COST, PASS_COST = 3, 0.05, 0.05
# Beyond these ratios of lengths, speech is not of the same text.
STRETCH = 2.8


@dataclass(frozen=True)
class ParallelConfig:
    """Real recordings, and the same texts in the vocoder's voice.

    Args:
        sources, spoken: recordings, and recordings of the voice with the same ids; those in one list only are left out.
        repeat: number of times that a pair is used per epoch.
        min_seconds, max_seconds: shortest and longest recording that is used.
    """

    sources: tuple[str, ...]
    spoken: tuple[str, ...]
    repeat: int = 3
    min_seconds: float = 1.0
    max_seconds: float = 25.0

    def __post_init__(self) -> None:
        check_fields(self, "repeat", least=1, most=1000)
        check_fields(self, "max_seconds", above=0)
        self.data(self.sources)

    def data(self, sources: tuple[str, ...]) -> DataConfig:
        """Return a corpus of these sources, with the limits of length of this one."""
        return DataConfig(sources, self.min_seconds, self.max_seconds)


def warp_pairs(real: WaveformStore, spoken: WaveformStore, tokenizer: Tokenizer, out: Path) -> Artifact:
    """Encode the recordings that the voice speaks too, and find the frame of the voice for every frame of them.

    Args:
        real, spoken: recordings, and those of the voice; pairs have one id.
        tokenizer: tokenizer that gives the units, and the features that are compared.
        out: folder of the artifact.

    Returns:
        an artifact with the units of the recordings, ``syllables.jsonl``, and in ``warp.safetensors``, by recording id,
        (num_frames,) int32 frames of the voice, -1 where the recording is silent.
    """
    voices = {recording.id: recording for recording in spoken.manifest}
    pairs = [(recording, voices[recording.id]) for recording in real.manifest if recording.id in voices]
    if not pairs:
        raise InputError("parallel: no recording of parallel.sources has the id of one of parallel.spoken")
    parents = {"real": real.digest, "spoken": spoken.digest, "tokenizer": tokenizer.digest}

    def work(run: StageRun) -> None:
        warps: dict[str, npt.NDArray[np.int32]] = {}
        costs: list[float] = []
        hop = tokenizer.encoder.hop
        with open_writer(run.folder / SYLLABLES_FILE) as writer, ProgressBar("pairs", len(pairs)) as bar:
            for recording, voice in pairs:
                wave, sound = recording.load(), voice.load()
                units, ours = tokenizer.encode_with_features(wave)
                theirs = tokenizer.features(sound)
                masks = speech_frames(wave, len(ours), hop, **PAUSES), speech_frames(sound, len(theirs), hop, **PAUSES)
                warp, cost = warp_frames(ours, theirs, *masks)
                if warp is not None:
                    writer.write(recording.id, recording.id, units)
                    warps[recording.id] = warp
                    costs.append(cost)
                bar.advance()
        if not warps:
            raise InputError(f"parallel: {plural(len(pairs), 'pair')}, none of which is of one text")
        save_arrays(run.folder / WARP_FILE, warps)
        run.metrics.update(pairs=len(warps), left_out=len(pairs) - len(warps), cost=float(np.mean(costs)))

    return run_stage("warp", out, config={}, seed=0, parents=parents, work=work, alone=True)


def warp_frames(
    ours: FloatArray, theirs: FloatArray, is_speech: npt.NDArray[np.bool_], is_voice: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int32] | None, float]:
    """Return the frame of ``theirs`` for every frame of ``ours`` on the cheapest path, and its mean cost per frame.

    Args:
        ours, theirs: (T, D) and (S, D) features.
        is_speech, is_voice: (T,) and (S,) True where the frames are speech; only those are compared.

    Returns:
        (T,) int32 frames, -1 where ``ours`` is silent; None where one is too long to be of the same text.
    """
    here, there = np.flatnonzero(is_speech), np.flatnonzero(is_voice)
    if not len(here) or not len(there) or not 1 / STRETCH < len(there) / len(here) < STRETCH:
        return None, 0.0
    unit = [
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9) for rows in (ours[here], theirs[there])
    ]
    path, cost = _cheapest_path(np.ascontiguousarray(1.0 - unit[0] @ unit[1].T, dtype=np.float32))
    warp = np.full(len(ours), SILENT, dtype=np.int32)
    warp[here] = there[path]
    return warp, cost


@compiled()
def _cheapest_path(costs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], float]:
    """Monotone path through (T, S) costs: a column for every row, from the first column to the last."""
    num_rows, num_columns = costs.shape
    total = np.full(num_columns, np.inf)
    total[: MOST_PASSED + 1] = costs[0, : MOST_PASSED + 1] + PASS_COST * np.arange(min(MOST_PASSED + 1, num_columns))
    steps = np.zeros((num_rows, num_columns), dtype=np.int8)
    for row in range(1, num_rows):
        before = total.copy()
        for column in range(num_columns):
            best = np.inf
            for step in range(min(MOST_PASSED, column) + 1):
                cost = before[column - step] + (STAY_COST if step == 0 else PASS_COST * (step - 1))
                if cost < best:
                    best = cost
                    steps[row, column] = step
            total[column] = best + costs[row, column]
    path = np.zeros(num_rows, dtype=np.int64)
    column = num_columns - 1
    for row in range(num_rows - 1, -1, -1):
        path[row] = column
        column -= steps[row, column]
    return path, total[-1] / num_rows
