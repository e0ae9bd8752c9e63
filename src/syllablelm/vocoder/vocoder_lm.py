"""The interleaved vocoder LM: samples acoustic units given syllables (section 4.2)."""

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
    """Samples acoustic units given syllables, by a language model of interleaved tokens (else a FormatError)."""

    def __init__(self, lm: SpeechLM) -> None:
        self.lm, self.stream = lm, StreamInfo.of_tokens(lm.info)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "auto") -> VocoderLM:
        """Open the folder that ``train vocoder`` wrote; a FormatError for none, or a model of plain units."""
        return cls(SpeechLM.load(folder, device=device))

    def decode(
        self,
        syllables: Segmentation,
        *,
        prompt: Segmentation | None = None,
        sampling: Sampling | None = None,
    ) -> Segmentation:
        """Return acoustic units for syllables.

        The syllables are inserted at their due times; acoustic units with their typical durations are drawn between
        them until the whole time is filled.

        Args:
            syllables, prompt: the whole sequence, and acoustic units of the prompt, from frame 0 on.
            sampling: sampling of acoustic units.

        Returns:
            acoustic units of the whole time, the prompt included; units that do not fit are an InputError.
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
        """Return acoustic units for many sequences of syllables; each equals that of ``decode`` alone.

        Args:
            syllables, prompts, sampling: as for ``decode``, by sequence; errors name its index.
            seeds: random seed of each sequence instead of ``sampling.seed``.
        """
        many = len(syllables)
        prompts = [None] * many if prompts is None else prompts
        sampling = sampling or Sampling()
        seeds = [sampling.seed] * many if seeds is None else seeds
        if len(prompts) != many or len(seeds) != many:
            raise InputError(f"{many} sequences need as many prompts and seeds, not {len(prompts)} and {len(seeds)}")
        names = ["input" if many == 1 else f"input {place}" for place in range(many)]
        rows = [self._row(*item) for item in zip(syllables, prompts, names, strict=True)]
        # Similar lengths together: they end at about the same time.
        order = sorted(range(many), key=lambda place: -rows[place].most)
        while order:
            width = min(self.lm.context, rows[order[0]].most)
            count = max(1, self.lm.batch_tokens // width)
            batch, order = order[:count], order[count:]
            # One random stream per sequence, the same as alone.
            sampler = Sampler(sampling, [0] * len(batch), [seeds[place] for place in batch])
            self._draw([rows[place] for place in batch], width, sampler)
        return [row.acoustic_units(self.stream) for row in rows]

    def _row(self, syllables: Segmentation, prompt: Segmentation | None, name: str) -> _Row:
        self.stream.check(syllables, prompt, name)
        if len(syllables) == 0 or syllables.unit is None:
            raise InputError(f"{name}: no syllable to synthesize")
        deduplicated = syllables.deduplicate()
        known = known_frames = np.zeros(0, dtype=np.int32)
        if prompt is not None and len(prompt):
            known, known_frames = self._prompt_tokens(deduplicated, prompt)
        return _Row(self.lm, self.stream, deduplicated, known, known_frames)

    def _prompt_tokens(
        self, deduplicated: Segmentation, prompt: Segmentation
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Tokens and frames up to the end of the prompt: the syllables due by then, and all its acoustic units."""
        end = prompt.num_frames * self.stream.hop
        count = int(np.searchsorted(due_times(deduplicated, self.stream), end, side="left"))
        due = Segmentation(
            deduplicated.start[:count],
            deduplicated.end[:count],
            None if deduplicated.unit is None else deduplicated.unit[:count],
            deduplicated.num_frames,
            deduplicated.hop,
            deduplicated.sample_rate,
        )
        return interleave(due, prompt, self.stream)

    @torch.inference_mode()
    def _draw(self, rows: list[_Row], width: int, sampler: Sampler) -> None:
        """Draw acoustic units until every row is done; every row takes one token per step, given or drawn."""
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
            # A full window restarts with its later half; its latest token is read in the step with the others.
            if outgrown := [place for place, number in enumerate(present) if rows[number].forget()]:
                decoder.reread(outgrown, [rows[present[place]].window[:-1] for place in outgrown])
            if decoder.length >= decoder.capacity:
                decoder.keep(range(len(present)))
            logits = decoder.step(torch.tensor(tokens, device=lm.device))


class _Row:
    """State of one sequence: deduplicated syllables, tokens of the prompt, and their frames."""

    def __init__(
        self,
        lm: SpeechLM,
        stream: StreamInfo,
        syllables: Segmentation,
        known: npt.NDArray[np.int32],
        known_frames: npt.NDArray[np.int32],
    ) -> None:
        acoustic = known >= stream.syllables
        self._lm, self._hop, self._first = lm, stream.hop, stream.syllables
        self._units, self._frames = (known[acoustic] - stream.syllables).tolist(), known_frames[acoustic].tolist()
        self._done, self._total = sum(self._frames), -(-syllables.num_frames * stream.syllable_hop // stream.hop)
        self._given = [] if syllables.unit is None else syllables.unit.tolist()
        self._times = due_times(syllables, stream).tolist()
        self._next = len(known) - int(acoustic.sum())
        self.window = [lm.info.bos, *known.tolist()]
        """Tokens that the model has read, and the latest one, which it has not read."""
        self.forget()

    @property
    def is_done(self) -> bool:
        """Whether acoustic units fill the whole time."""
        return self._done >= self._total

    @property
    def most(self) -> int:
        """Maximum number of tokens of the sequence with an unlimited context."""
        return len(self.window) + len(self._given) - self._next + max(0, self._total - self._done)

    def take_due(self) -> int | None:
        """Return the next syllable if it is due; None when a unit is to be drawn."""
        if self._next == len(self._given) or self._times[self._next] > self._done * self._hop:
            return None
        self._next += 1
        self.window.append(self._given[self._next - 1])
        return self.window[-1]

    def take_drawn(self, unit: int) -> int:
        """Append a drawn acoustic unit; return its token."""
        token = self._first + unit
        self._units.append(unit)
        self._frames.append(int(self._lm.durations[token]))
        self._done += self._frames[-1]
        self.window.append(token)
        return token

    def forget(self) -> bool:
        """Drop the earlier half of a window that exceeds the context; return whether it did."""
        if len(self.window) <= self._lm.context:
            return False
        self.window = self._lm.forget(self.window)
        return True

    def acoustic_units(self, stream: StreamInfo) -> Segmentation:
        """Return the acoustic units, the last one cut at the end of the time."""
        ends = np.minimum(np.cumsum(self._frames), self._total).astype(np.int32)
        ends[-1] = self._total
        return Segmentation.from_boundaries(
            np.concatenate([[0], ends]), unit=self._units, hop=stream.hop, sample_rate=stream.sample_rate
        )
