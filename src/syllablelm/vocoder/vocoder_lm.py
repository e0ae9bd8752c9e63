"""The interleaved vocoder LM: samples acoustic units given syllables (section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.decode import Sampler, Sampling
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.vocoder.interleave import StreamInfo, due_times, interleave

# BOS, a prefix of one syllable, its end, the syllable, and as many acoustic units ("ella-v").
_LEAST_CONTEXT = 8


class VocoderLM:
    """Samples acoustic units given syllables, by a language model of interleaved tokens (else a FormatError)."""

    def __init__(self, lm: SpeechLM) -> None:
        self.lm, self.stream = lm, StreamInfo.of_tokens(lm.info)
        if self.stream.has_ends and lm.context < _LEAST_CONTEXT:
            raise FormatError(f"a context of {lm.context} tokens is too short for a stream with a prefix of syllables")

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

        In the order "time" the syllables are inserted at their due times, and acoustic units with their typical
        durations are drawn between them until the whole time is filled. In "ella-v" the model says where the acoustic
        units of a syllable end, and they are stretched to the syllable's time.

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
        part, waiting = 0, [place for place in range(many) if not rows[place].is_done]
        while waiting:
            # Similar lengths together: they end at about the same time.
            order = sorted(waiting, key=lambda place: -rows[place].most)
            while order:
                width = min(self.lm.context, rows[order[0]].most)
                count = max(1, self.lm.batch_tokens // width)
                batch, order = order[:count], order[count:]
                # One random stream per sequence, the same as alone.
                sampler = Sampler(sampling, [part] * len(batch), [seeds[place] for place in batch])
                self._draw([rows[place] for place in batch], width, sampler)
            part, waiting = part + 1, [place for place in waiting if rows[place].begin_part()]
        return [row.acoustic_units() for row in rows]

    def _row(self, syllables: Segmentation, prompt: Segmentation | None, name: str) -> _TimedRow | _EndedRow:
        self.stream.check(syllables, prompt, name)
        if len(syllables) == 0 or syllables.unit is None:
            raise InputError(f"{name}: no syllable to synthesize")
        deduplicated = syllables.deduplicate()
        if self.stream.has_ends:
            return _EndedRow(self.lm, self.stream, deduplicated, prompt)
        known = known_frames = np.zeros(0, dtype=np.int32)
        if prompt is not None and len(prompt):
            known, known_frames = self._prompt_tokens(deduplicated, prompt)
        return _TimedRow(self.lm, self.stream, deduplicated, known, known_frames)

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
    def _draw(self, rows: Sequence[_TimedRow | _EndedRow], width: int, sampler: Sampler) -> None:
        """Draw acoustic units until every row is done; every row takes one token per step, given or drawn."""
        lm, stream = self.lm, self.stream
        choices = slice(stream.first_acoustic, stream.syllable_end + stream.has_ends)
        present = [number for number, row in enumerate(rows) if not row.is_done]
        if not present:
            return
        decoder = lm.decoder(len(present), width)
        logits = decoder.prefill([rows[number].window for number in present])
        while True:
            tokens = [rows[number].take_due() for number in present]
            free = [place for place, token in enumerate(tokens) if token is None]
            if free:
                likely = logits[free, choices]
                for row_logits, place in zip(likely, free, strict=True):
                    if not rows[present[place]].may_end:
                        row_logits[stream.acoustic :] = -torch.inf
                drawn = sampler(likely, [present[place] for place in free])
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


class _TimedRow:
    """State of one sequence in the order "time": deduplicated syllables, tokens of the prompt, and their frames."""

    may_end = False

    def __init__(
        self,
        lm: SpeechLM,
        stream: StreamInfo,
        syllables: Segmentation,
        known: npt.NDArray[np.int32],
        known_frames: npt.NDArray[np.int32],
    ) -> None:
        acoustic = known >= stream.first_acoustic
        self._lm, self._stream = lm, stream
        self._units, self._frames = (known[acoustic] - stream.first_acoustic).tolist(), known_frames[acoustic].tolist()
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
        if self._next == len(self._given) or self._times[self._next] > self._done * self._stream.hop:
            return None
        self._next += 1
        self.window.append(self._given[self._next - 1])
        return self.window[-1]

    def take_drawn(self, unit: int) -> int:
        """Append a drawn acoustic unit; return its token."""
        token = self._stream.first_acoustic + unit
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

    def begin_part(self) -> bool:
        """Return whether there is more to draw: never, the window has moved on."""
        return False

    def acoustic_units(self) -> Segmentation:
        """Return the acoustic units, the last one cut at the end of the time."""
        starts = np.minimum(np.cumsum([0, *self._frames[:-1]]), self._total).tolist()
        return _acoustic_units(starts, self._units, self._total, self._stream)


class _EndedRow:
    """State of one sequence in the order "ella-v": deduplicated syllables and acoustic units of the prompt.

    A long sequence is drawn in parts that fit the context, each with the latest syllables of the one before.
    """

    def __init__(self, lm: SpeechLM, stream: StreamInfo, syllables: Segmentation, prompt: Segmentation | None) -> None:
        self._lm, self._stream = lm, stream
        self._given = [] if syllables.unit is None else syllables.unit.tolist()
        total = -(-syllables.num_frames * stream.syllable_hop // stream.hop)
        due = np.minimum(-(-due_times(syllables, stream) // stream.hop), total)
        # The time of syllable i is from edges[i] to edges[i + 1], in acoustic frames.
        self._edges = [0, *due[1:].tolist(), total]
        # Acoustic units of each syllable, and the first frames of those that are the prompt's.
        self._units: list[list[int]] = [[] for _ in self._given]
        self._known: list[list[int]] = [[] for _ in self._given]
        self._heard = 0 if prompt is None else prompt.num_frames
        if prompt is not None and prompt.unit is not None:
            heard = prompt.deduplicate()
            owners = np.searchsorted(self._edges[1:-1], heard.start, side="right").tolist()
            for owner, start, unit in zip(owners, heard.start.tolist(), np.asarray(heard.unit).tolist(), strict=True):
                self._known[owner].append(start)
                self._units[owner].append(unit)
        self.may_end = any(self._units)
        """Whether a syllable may end here: some unit must fill the beginning."""
        self._at = int(np.searchsorted(self._edges[1:], self._heard, side="right"))
        """Number of syllables whose acoustic units are complete."""
        self._last, self._is_open = self._at, False
        self.window: list[int] = []
        self.begin_part()

    def begin_part(self) -> bool:
        """Set the window of the next part; return whether there is one."""
        context, stream = self._lm.context, self._stream
        if self._is_open:  # the context was full
            self._at += 1
        if self._at == len(self._given):
            return False
        frames = self._lm.durations[stream.first_acoustic : stream.syllable_end].mean()
        first, size = self._at, 3
        while first > 0 and size + 3 + len(self._units[first - 1]) <= context // 3:
            first -= 1
            size += 3 + len(self._units[first])
        # Every syllable also stands in the prefix, and has an end.
        self._last = self._at
        while self._last < len(self._given):
            size += 3 + len(self._known[self._last]) + round(self._room(self._last) / frames)
            if size > context and self._last > self._at:
                break
            self._last += 1
        self.window = [*self._lm.info.start, *self._given[first : self._last], stream.prefix_end]
        for at in range(first, self._at):
            self.window += [self._given[at], *self._tokens(at), stream.syllable_end]
        self._is_open = bool(self._units[self._at])
        if self._is_open:
            self.window += [self._given[self._at], *self._tokens(self._at)[-(context // 2) :]]
        return True

    def _tokens(self, at: int) -> list[int]:
        return [self._stream.first_acoustic + unit for unit in self._units[at]]

    def _room(self, at: int) -> int:
        """Frames of a syllable that the prompt does not fill: the maximum number of units to draw."""
        return max(0, self._edges[at + 1] - max(self._edges[at], self._heard))

    @property
    def is_done(self) -> bool:
        """Whether the part is done."""
        return self._at == self._last or len(self.window) > self._lm.context

    @property
    def most(self) -> int:
        """Maximum number of tokens of the part with an unlimited context."""
        return len(self.window) + sum(2 + self._room(at) for at in range(self._at, self._last))

    def take_due(self) -> int | None:
        """Return the next syllable, or the end of one whose time is full; None when a token is to be drawn."""
        if self._is_open and len(self._units[self._at]) - len(self._known[self._at]) < self._room(self._at):
            return None
        if self._is_open:
            return self.take_drawn(self._stream.acoustic)
        self._is_open = True
        self.window.append(self._given[self._at])
        return self.window[-1]

    def take_drawn(self, choice: int) -> int:
        """Append a drawn acoustic unit, or the end of the syllable; return its token."""
        self.window.append(self._stream.first_acoustic + choice)
        if choice < self._stream.acoustic:
            self._units[self._at].append(choice)
            self.may_end = True
        else:
            self._at, self._is_open = self._at + 1, False
        return self.window[-1]

    def forget(self) -> bool:
        """Return whether the window has moved: only between parts."""
        return False

    def acoustic_units(self) -> Segmentation:
        """Return the acoustic units; those of a syllable are stretched to its time, by their typical durations."""
        starts: list[int] = []
        for at, (known, units) in enumerate(zip(self._known, self._units, strict=True)):
            new = np.array(units[len(known) :], dtype=np.int64)
            lasts = self._lm.durations[self._stream.first_acoustic + new].astype(np.int64)
            spare = self._room(at) - len(new)
            before = (np.cumsum(lasts) - lasts) * spare // max(1, int(lasts.sum()))
            begin = max(self._edges[at], self._heard)
            starts += [*known, *(begin + np.arange(len(new)) + before).tolist()]
        return _acoustic_units(starts, [unit for units in self._units for unit in units], self._edges[-1], self._stream)


def _acoustic_units(starts: Sequence[int], units: Sequence[int], total: int, stream: StreamInfo) -> Segmentation:
    """Acoustic units from frame 0 to ``total``, each up to the next one."""
    return Segmentation.from_boundaries(
        np.array([0, *starts[1:], total]), unit=units, hop=stream.hop, sample_rate=stream.sample_rate
    )
