"""Plans: which models on how many tokens, for a total budget, so that a law can be fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from syllablelm.errors import InputError
from syllablelm.scaling.flops import Shape, opt_shape
from syllablelm.scaling.laws import FLOPS_PER_PARAM_TOKEN, LossLaw

# Tokens per parameter of the speech scaling study's runs.
SPEECH_RATIOS = (2.0, 4.0, 8.0, 10.0, 20.0, 32.0, 64.0, 100.0)


@dataclass(frozen=True)
class PlannedRun:
    """One model to train.

    Args:
        shape: an OPT decoder; tokens: to train it on.
        epochs: tokens over unique tokens, if their number was given.
    """

    shape: Shape
    tokens: int
    epochs: float | None = None

    @property
    def flops(self) -> int:
        """6 N D."""
        return FLOPS_PER_PARAM_TOKEN * self.shape.params * self.tokens

    @property
    def name(self) -> str:
        """Such as "0.99M-40.0M"."""
        return f"{self.shape.params / 1e6:.3g}M-{self.tokens / 1e6:.3g}M"

    def to_row(self) -> dict[str, Any]:
        """For a jsonl file; layers to feed_forward are the keys of a recipe's ``lm.shape``."""
        shape = self.shape
        row = {"name": self.name, "params": shape.params, "params_total": shape.params_total, "tokens": self.tokens}
        row |= {"tokens_per_param": self.tokens / shape.params, "flops": self.flops}
        row |= {"flops_exact": shape.train_flops(self.tokens)}
        row |= {"layers": shape.layers, "dim": shape.dim, "heads": shape.heads, "feed_forward": shape.hidden}
        return row if self.epochs is None else row | {"epochs": self.epochs}


def plan_isoflops(
    flops: float,
    law: LossLaw,
    *,
    budgets: int = 4,
    sizes: int = 5,
    step: float = 3.0,
    span: float = 3.0,
    vocab: int = 502,
    context: int = 1024,
    unique_tokens: float | None = None,
) -> list[PlannedRun]:
    """Several budgets, each spent on models around the expected optimum.

    Args:
        flops: of all runs together.
        law: where the optimum is expected.
        budgets: levels, each ``step`` times the one below; sizes: models of a level.
        span: the smallest model is the optimum over ``span``, the largest the optimum times ``span``.
        vocab, context: of the models.
        unique_tokens: of the corpus, to tell epochs.

    Raises:
        InputError: numbers out of range, or a budget so small that its models do not exist.
    """
    _check(flops, budgets=(budgets, 1), sizes=(sizes, 3))
    if not (step > 1 and span > 1):
        raise InputError("step and span must be above 1")
    highest = flops / (sizes * sum(step**-k for k in range(budgets)))
    runs = []
    for level in reversed(range(budgets)):
        budget = highest * step**-level
        for factor in np.geomspace(1 / span, span, sizes):
            shape = opt_shape(law.optimal(budget).params * factor, vocab=vocab, context=context)
            runs.append(_run(shape, budget / FLOPS_PER_PARAM_TOKEN / shape.params, unique_tokens))
    return _distinct(runs)


def plan_ratios(
    flops: float,
    *,
    ratios: Sequence[float] = SPEECH_RATIOS,
    sizes: int = 4,
    step: float = 3.0,
    vocab: int = 502,
    context: int = 1024,
    unique_tokens: float | None = None,
) -> list[PlannedRun]:
    """Several models, each trained at every ratio of tokens to parameters (the speech scaling study's grid).

    Args:
        flops: of all runs together.
        ratios: tokens per parameter; sizes: models, each ``step`` times the one below.
        vocab, context, unique_tokens: as in `plan_isoflops`.

    Raises:
        InputError: numbers out of range, or a budget so small that its models do not exist.
    """
    _check(flops, ratios=(len(ratios), 1), sizes=(sizes, 1))
    if not (step > 1 and min(ratios) > 0):
        raise InputError("step must be above 1 and every ratio above 0")
    # The cost of a model is 6 N^2 times the sum of the ratios.
    largest = np.sqrt(flops / (FLOPS_PER_PARAM_TOKEN * sum(ratios) * sum(step ** (-2 * k) for k in range(sizes))))
    runs = []
    for level in reversed(range(sizes)):
        shape = opt_shape(largest * step**-level, vocab=vocab, context=context)
        runs += [_run(shape, shape.params * ratio, unique_tokens) for ratio in ratios]
    return _distinct(runs)


def _run(shape: Shape, tokens: float, unique: float | None) -> PlannedRun:
    return PlannedRun(shape, max(1, round(tokens)), None if unique is None else tokens / unique)


def _distinct(runs: list[PlannedRun]) -> list[PlannedRun]:
    """Two sizes may come to the same decoder when models are tiny."""
    return list({(run.shape, run.tokens): run for run in runs}.values())


def _check(flops: float, **counts: tuple[int, int]) -> None:
    if not (np.isfinite(flops) and flops > 0):
        raise InputError(f"the budget must be above 0 FLOP, not {flops}")
    for name, (count, least) in counts.items():
        if count < least:
            raise InputError(f"{name}: {count} is too few; at least {least}")
