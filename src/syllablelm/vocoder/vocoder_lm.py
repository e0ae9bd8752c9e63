"""The interleaved vocoder LM: given syllables, it draws the acoustic units between them (section 4.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from syllablelm.errors import InputError
from syllablelm.lm.decode import CachedDecoder, Sampler, Sampling
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.types import Segmentation
from syllablelm.vocoder.interleave import StreamInfo, due_times, interleave


class VocoderLM:
    """Draws acoustic units for syllables.

    Args:
        lm: a language model of interleaved tokens; its durations are the acoustic units' typical ones.

    Raises:
        FormatError: a language model of plain units.
    """

    def __init__(self, lm: SpeechLM) -> None:
        self.lm, self.stream = lm, StreamInfo.of_tokens(lm.info)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "auto") -> VocoderLM:
        """Open the folder that ``train vocoder`` wrote.

        Raises:
            FormatError: no such model, a damaged one, or one of plain units.
        """
        return cls(SpeechLM.load(folder, device=device))

    def decode(
        self,
        syllables: Segmentation,
        *,
        prompt: Segmentation | None = None,
        sampling: Sampling | None = None,
    ) -> Segmentation:
        """Acoustic units for syllables.

        The given syllables are forced in where they are due; between them acoustic units are drawn, each as long as
        it typically is, until the syllables' time is full.

        Args:
            syllables: the whole sequence, that of the prompt included.
            prompt: acoustic units that are already there, from frame 0 on; they are read, not drawn.
            sampling: how acoustic units are drawn.

        Returns:
            acoustic units over the whole time, the prompt's first; frames of ``stream.hop``.

        Raises:
            InputError: units that do not fit, or no syllable at all.
        """
        self.stream.check(syllables, prompt, "input")
        if len(syllables) == 0 or syllables.unit is None:
            raise InputError("there is no syllable to speak")
        merged = syllables.merge_repeats()
        total = -(-syllables.num_frames * self.stream.syllable_hop // self.stream.hop)
        known: npt.NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        units: list[int] = []
        frames: list[int] = []
        if prompt is not None and len(prompt):
            known, known_frames = self._prompt_tokens(merged, prompt)
            heard = known >= self.stream.syllables
            units, frames = (known[heard] - self.stream.syllables).tolist(), known_frames[heard].tolist()
        sampler = Sampler(sampling or Sampling(), [0])
        self._draw(_Forced(merged, self.stream, known), known, units, frames, total, sampler)
        ends = np.minimum(np.cumsum(frames), total).astype(np.int32)
        ends[-1] = total
        return Segmentation.from_boundaries(
            np.concatenate([[0], ends]), unit=units, hop=self.stream.hop, sample_rate=self.stream.sample_rate
        )

    def _prompt_tokens(
        self, merged: Segmentation, prompt: Segmentation
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The stream up to the end of the prompt: the syllables that are due by then, and all its acoustic units."""
        end = prompt.num_frames * self.stream.hop
        count = int(np.searchsorted(due_times(merged, self.stream), end, side="left"))
        heard = Segmentation(
            merged.start[:count],
            merged.end[:count],
            None if merged.unit is None else merged.unit[:count],
            merged.num_frames,
            merged.hop,
            merged.sample_rate,
        )
        return interleave(heard, prompt, self.stream)

    def _draw(
        self,
        forced: _Forced,
        known: npt.NDArray[np.int32],
        units: list[int],
        frames: list[int],
        total: int,
        sampler: Sampler,
    ) -> None:
        """Append drawn acoustic units and their frames until ``total`` frames are reached."""
        reader = _Reader(self.lm, [self.lm.info.bos, *known.tolist()])
        done = sum(frames)
        while done < total:
            for token in forced.due(done * self.stream.hop):
                reader.append(token)
            logits = reader.logits()[:, self.stream.syllables : self.lm.info.num_tokens]
            unit = int(sampler(logits)[0])
            units.append(unit)
            frames.append(int(self.lm.durations[self.stream.syllables + unit]))
            done += frames[-1]
            reader.append(self.stream.syllables + unit)


class _Forced:
    """The given syllables, handed out when their time has come."""

    def __init__(self, syllables: Segmentation, stream: StreamInfo, known: npt.NDArray[np.int32]) -> None:
        self._units = [] if syllables.unit is None else syllables.unit.tolist()
        self._times = due_times(syllables, stream).tolist()
        self._next = int((known < stream.syllables).sum())

    def due(self, sample: int) -> list[int]:
        first = self._next
        while self._next < len(self._units) and self._times[self._next] <= sample:
            self._next += 1
        return self._units[first : self._next]


class _Reader:
    """A token stream of any length before a model of limited context: when that is full, the older half is dropped."""

    def __init__(self, lm: SpeechLM, tokens: list[int]) -> None:
        self.lm, self.tokens = lm, tokens
        self._decoder = CachedDecoder(lm.model, 1, lm.context)
        self._read = 0

    def append(self, token: int) -> None:
        self.tokens.append(token)

    def logits(self) -> Tensor:
        """Logits of the token after all appended ones: (1, V)."""
        fresh = self.tokens[self._read :]
        if self._read == 0 or self._decoder.length + len(fresh) > self.lm.context:
            # Positions count from BOS, so what is kept is read anew.
            recent = self.tokens[1:]
            if len(self.tokens) > self.lm.context:
                recent = recent[-(self.lm.context // 2) :]
            result = self._decoder.prefill([[self.lm.info.bos, *recent]])
        else:
            result: Any = None
            for token in fresh:
                result = self._decoder.step(torch.tensor([token], device=self.lm.device))
        self._read = len(self.tokens)
        return result
