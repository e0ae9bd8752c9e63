"""Held-out loss at some steps of a training run, for the envelope of a scaling study (Figure 1)."""

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
# Maximum number of points, and the smallest share of the steps at which one is measured.
_POINTS, _EARLIEST = 6, 1 / 8
# Maximum cost of all points as a share of training, whose tokens cost three times as much as held-out ones.
_COST, _TRAINING = 0.05, 3


def curve_steps(loop: LoopConfig, tokens: int, held_out: int) -> list[int]:
    """Return the steps after which the loss is measured: evenly spaced in the logarithm, after the warm-up.

    Args:
        loop: optimisation.
        tokens: tokens of the whole training.
        held_out: held-out tokens.
    """
    count = min(_POINTS, int(_COST * _TRAINING * tokens / max(1, held_out)))
    steps = {round(loop.steps * _EARLIEST ** (number / (count + 1))) for number in range(1, count + 1)}
    return sorted(step for step in steps if max(1, loop.warmup * loop.steps) <= step < loop.steps)


class HeldOutCurve:
    """Measures the held-out loss of a model in training after some of its steps.

    Args:
        model: language model of the decoder in training.
        valid: held-out tokens, all of which are used.
        steps: steps after which the loss is measured.
        work: folder that keeps the losses until the end of the run, which may be stopped and resumed.
    """

    def __init__(self, model: SpeechLM, valid: TokenStore, steps: Sequence[int], work: Path) -> None:
        self._model, self._valid, self._steps = model, valid, frozenset(steps)
        self._path = work / CURVE_FILE

    def __call__(self, step: int) -> None:
        """Measure after this step if it is one of them; all processes must call."""
        if step in self._steps:
            on_main(lambda: self._measure(step))

    def read(self) -> dict[int, tuple[float, float]]:
        """Return nats per token and per second by step, in order."""
        rows = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else []
        return {step: (by_token, by_second) for step, by_token, by_second in rows if step in self._steps}

    def _measure(self, step: int) -> None:
        decoder = self._model.model
        decoder.eval()
        found = self._model.evaluate(self._valid).as_dict()
        decoder.train()
        # Losses of later steps are from a run that was resumed before them.
        rows = [[known, *losses] for known, losses in self.read().items() if known < step]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._path) as part:
            part.write_text(
                json.dumps([*rows, [step, found["nats_per_token"], found["nats_per_second"]]]) + "\n", "utf-8"
            )
