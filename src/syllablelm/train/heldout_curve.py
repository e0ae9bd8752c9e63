"""Held-out loss at some steps of a language model's training, for the envelope of a scaling study (Figure 1)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from syllablelm.core.files import atomic_path
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.lm.store import TokenStore
from syllablelm.train.loop import LoopConfig
from syllablelm.train.processes import on_main

CURVE_FILE = "curve.json"
# At most so many points, the first at no less than this share of the steps.
_POINTS, _EARLIEST = 6, 1 / 8
# All of them together may cost so much of the training, whose tokens cost three times as much as held-out ones.
_COST, _TRAINING = 0.05, 3


def curve_steps(loop: LoopConfig, tokens: int, held_out: int) -> list[int]:
    """The steps after which to measure: few, evenly spaced in the logarithm, between the warm-up and the end.

    Args:
        tokens: of the whole training; held_out: of one measurement.
    """
    count = min(_POINTS, int(_COST * _TRAINING * tokens / max(1, held_out)))
    steps = {round(loop.steps * _EARLIEST ** (number / (count + 1))) for number in range(1, count + 1)}
    return sorted(step for step in steps if max(1, loop.warmup * loop.steps) <= step < loop.steps)


class HeldOutCurve:
    """Measures a model in training on held-out units, after some of its steps.

    Args:
        model: over the decoder that is being trained.
        valid: the held-out units, all of which are used, as at the end.
        steps: after which to measure.
        work: folder where the losses wait for the end of the run, which may be stopped and resumed.
    """

    def __init__(self, model: SpeechLM, valid: TokenStore, steps: Sequence[int], work: Path) -> None:
        self._model, self._valid, self._steps = model, valid, frozenset(steps)
        self._path = work / CURVE_FILE

    def __call__(self, step: int) -> None:
        """Measure, if this step is one of them; all processes must ask."""
        if step in self._steps:
            on_main(lambda: self._measure(step))

    def read(self) -> dict[int, tuple[float, float]]:
        """Nats per token and per second by step, in order."""
        rows = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else []
        return {step: (by_token, by_second) for step, by_token, by_second in rows if step in self._steps}

    def _measure(self, step: int) -> None:
        decoder = self._model.model
        decoder.eval()
        found = self._model.evaluate(self._valid).as_dict()
        decoder.train()
        # What an earlier try left behind of later steps is measured anew.
        rows = [[known, *losses] for known, losses in self.read().items() if known < step]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._path) as part:
            part.write_text(
                json.dumps([*rows, [step, found["nats_per_token"], found["nats_per_second"]]]) + "\n", "utf-8"
            )
