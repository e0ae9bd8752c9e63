"""The interleaved vocoder LM: given syllables, it draws the acoustic units between them (section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.decode import Sampler, Sampling
from syllablelm.lm.speech_lm import SpeechLM
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
        return self.decode_many([syllables], [prompt], sampling=sampling)[0]

    def decode_many(
        self,
        syllables: Sequence[Segmentation],
        prompts: Sequence[Segmentation | None] | None = None,
        *,
        sampling: Sampling | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[Segmentation]:
        """Acoustic units for many sequences of syllables, several at a time; each as ``decode`` alone would draw it.

        Args:
            syllables: whole sequences, those of the prompts included.
            prompts: for each, acoustic units that are already there, or None.
            sampling: how acoustic units are drawn.
            seeds: one for each sequence in place of ``sampling.seed``.

        Raises:
            InputError: units that do not fit, or no syllable at all, named by place in the list.
        """
        many = len(syllables)
        prompts = [None] * many if prompts is None else prompts
        sampling = sampling or Sampling()
        seeds = [sampling.seed] * many if seeds is None else seeds
        if len(prompts) != many or len(seeds) != many:
            raise InputError(f"{many} sequences need as many prompts and seeds, not {len(prompts)} and {len(seeds)}")
        names = ["input" if many == 1 else f"input {place}" for place in range(many)]
        rows = [self._row(*item) for item in zip(syllables, prompts, names, strict=True)]
        # Alike lengths together: they end at about the same time.
        order = sorted(range(many), key=lambda place: -rows[place].most)
        while order:
            width = min(self.lm.context, rows[order[0]].most)
            count = max(1, self.lm.batch_tokens // width)
            batch, order = order[:count], order[count:]
            # One stream of random numbers for each sequence, which are those it would have alone.
            sampler = Sampler(sampling, [0] * len(batch), [seeds[place] for place in batch])
            self._draw([rows[place] for place in batch], width, sampler)
        return [row.spoken(self.stream) for row in rows]

    def _row(self, syllables: Segmentation, prompt: Segmentation | None, name: str) -> _Row:
        self.stream.check(syllables, prompt, name)
        if len(syllables) == 0 or syllables.unit is None:
            raise InputError(f"{name}: there is no syllable to speak")
        merged = syllables.deduplicate()
        known = known_frames = np.zeros(0, dtype=np.int32)
        if prompt is not None and len(prompt):
            known, known_frames = self._prompt_tokens(merged, prompt)
        return _Row(self.lm, self.stream, merged, known, known_frames)

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

    @torch.inference_mode()
    def _draw(self, rows: list[_Row], width: int, sampler: Sampler) -> None:
        """Draw acoustic units until the time of every row is full.

        Every row takes one token a step, given or drawn, so that rows are at different places of their recordings.
        """
        lm, first = self.lm, self.stream.syllables
        present = [number for number, row in enumerate(rows) if not row.is_done]
        if not present:
            return
        decoder = lm.decoder(len(present), width)
        logits = decoder.prefill([rows[number].window for number in present])
        while True:
            tokens = [rows[number].take_due() for number in present]
            free = [place for place, token in enumerate(tokens) if token is None]
            if free:
                drawn = sampler(logits[free, first : lm.info.num_tokens], [present[place] for place in free])
                for place, unit in zip(free, drawn.tolist(), strict=True):
                    tokens[place] = rows[present[place]].take_drawn(unit)
            going = [place for place, number in enumerate(present) if not rows[number].is_done]
            if not going:
                return
            if len(going) < len(present):
                decoder.keep(going)
                present, tokens = [present[place] for place in going], [tokens[place] for place in going]
            # A full window begins anew with its younger half, and positions count from there; the latest token is read
            # with those of the others.
            if outgrown := [place for place, number in enumerate(present) if rows[number].forget()]:
                decoder.reread(outgrown, [rows[present[place]].window[:-1] for place in outgrown])
            if decoder.length >= decoder.capacity:
                decoder.keep(range(len(present)))
            logits = decoder.step(torch.tensor(tokens, device=lm.device))


class _Row:
    """One recording that is being drawn.

    Args:
        syllables: without repeats.
        known, known_frames: the stream of the prompt.
    """

    def __init__(
        self,
        lm: SpeechLM,
        stream: StreamInfo,
        syllables: Segmentation,
        known: npt.NDArray[np.int32],
        known_frames: npt.NDArray[np.int32],
    ) -> None:
        heard = known >= stream.syllables
        self._lm, self._hop, self._first = lm, stream.hop, stream.syllables
        self._units, self._frames = (known[heard] - stream.syllables).tolist(), known_frames[heard].tolist()
        self._done, self._total = sum(self._frames), -(-syllables.num_frames * stream.syllable_hop // stream.hop)
        self._given = [] if syllables.unit is None else syllables.unit.tolist()
        self._times = due_times(syllables, stream).tolist()
        self._next = len(known) - int(heard.sum())
        self.window = [lm.info.bos, *known.tolist()]
        """What the model has read, the latest token included, which it is yet to read."""
        self.forget()

    @property
    def is_done(self) -> bool:
        """Whether the time is full."""
        return self._done >= self._total

    @property
    def most(self) -> int:
        """Most tokens that the model may have to read, were its context endless."""
        return len(self.window) + len(self._given) - self._next + max(0, self._total - self._done)

    def take_due(self) -> int | None:
        """The given syllable whose time has come; None when a unit is to be drawn."""
        if self._next == len(self._given) or self._times[self._next] > self._done * self._hop:
            return None
        self._next += 1
        self.window.append(self._given[self._next - 1])
        return self.window[-1]

    def take_drawn(self, unit: int) -> int:
        """Note a drawn acoustic unit; returns its token."""
        token = self._first + unit
        self._units.append(unit)
        self._frames.append(int(self._lm.durations[token]))
        self._done += self._frames[-1]
        self.window.append(token)
        return token

    def forget(self) -> bool:
        """Drop the older half of what does not fit the context; returns whether there was need."""
        if len(self.window) <= self._lm.context:
            return False
        self.window = self._lm.forget(self.window)
        return True

    def spoken(self, stream: StreamInfo) -> Segmentation:
        """The acoustic units, the last of them cut to the time."""
        ends = np.minimum(np.cumsum(self._frames), self._total).astype(np.int32)
        ends[-1] = self._total
        return Segmentation.from_boundaries(
            np.concatenate([[0], ends]), unit=self._units, hop=stream.hop, sample_rate=stream.sample_rate
        )
