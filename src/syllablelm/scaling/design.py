"""Plans: which models on how many tokens, for a total budget or as listed, so that a law can be fitted to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from syllablelm.core.errors import InputError
from syllablelm.scaling.flops import Shape, opt_shape
from syllablelm.scaling.laws import FLOPS_PER_PARAM_TOKEN, LossLaw

# Tokens per parameter of the speech scaling study's runs.
SPEECH_RATIOS = (2.0, 4.0, 8.0, 10.0, 20.0, 32.0, 64.0, 100.0)
# With as many, whole numbers of parameters and tokens differ in a name as they do themselves.
_MOST_DIGITS = 15


@dataclass(frozen=True)
class PlannedRun:
    """One model to train.

    Args:
        shape: an OPT decoder; tokens: to train it on, repetitions included.
        epochs: tokens over unique tokens, if their number was given.
        unique_tokens: to train on no more of the corpus than this; None for as much as there is.
        lr: peak learning rate; batch_tokens: of an update; None for what the recipe says.
        digits: of the numbers in its name.
    """

    shape: Shape
    tokens: int
    epochs: float | None = None
    unique_tokens: int | None = None
    lr: float | None = None
    batch_tokens: int | None = None
    digits: int = 3

    @property
    def flops(self) -> int:
        """6 N D."""
        return FLOPS_PER_PARAM_TOKEN * self.shape.params * self.tokens

    @property
    def name(self) -> str:
        """Such as "0.99M-40M", or "0.99M-40M-x4" where the study limits the data to a quarter of that."""
        name = f"{_amount(self.shape.params, self.digits)}-{_amount(self.tokens, self.digits)}"
        return name if self.unique_tokens is None else f"{name}-x{self.tokens / self.unique_tokens:.{self.digits}g}"

    def to_row(self) -> dict[str, Any]:
        """For a jsonl file; layers to feed_forward are the keys of a recipe's ``lm.shape``."""
        shape = self.shape
        row = {"name": self.name, "params": shape.params, "params_total": shape.params_total, "tokens": self.tokens}
        row |= {"tokens_per_param": self.tokens / shape.params, "flops": self.flops}
        row |= {"flops_exact": shape.train_flops(self.tokens)}
        row |= {"layers": shape.layers, "dim": shape.dim, "heads": shape.heads, "feed_forward": shape.hidden}
        optional = {name: getattr(self, name) for name in ("epochs", "unique_tokens", "lr", "batch_tokens")}
        return row | {name: value for name, value in optional.items() if value is not None}


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


def plan_grid(shapes: Sequence[Shape], tokens: Sequence[float], passes: Sequence[float] = (1.0,)) -> list[PlannedRun]:
    """Every shape on every number of tokens, each seen once or in several passes over fewer.

    Args:
        tokens: to train on; passes: over the data: 4 trains on a quarter of the tokens, four times.

    Raises:
        InputError: an empty list, tokens below 1 or passes below 1.
    """
    if not (shapes and tokens and passes):
        raise InputError("a grid needs shapes, token counts and numbers of passes")
    if not (min(tokens) >= 1 and min(passes) >= 1 and np.isfinite([*tokens, *passes]).all()):
        raise InputError("tokens and passes of a grid must be 1 or more")
    runs = []
    for shape in shapes:
        for count in tokens:
            for times in passes:
                unique = None if times == 1 else max(1, round(count / times))
                runs.append(PlannedRun(shape, round(count), float(times), unique))
    return _distinct(runs)


def with_rates(
    runs: Sequence[PlannedRun], *, lr: Sequence[float] = (), batch_tokens: Sequence[float] = ()
) -> list[PlannedRun]:
    """The runs with learning rates and batches by the size of the model.

    Args:
        lr, batch_tokens: one for all, or one for each size from the smallest to the largest; none leaves the recipe's.

    Raises:
        InputError: another number of them, or one that is not above 0.
    """
    sizes = sorted({run.shape.params for run in runs})
    columns: list[dict[int, Any]] = []
    for name, values in (("learning rates", lr), ("batch sizes", batch_tokens)):
        if len(values) not in (0, 1, len(sizes)):
            raise InputError(f"{len(values)} {name} for {len(sizes)} sizes; give one for all or one for each")
        if not all(np.isfinite(value) and value > 0 for value in values):
            raise InputError(f"{name} must be above 0")
        columns.append(dict(zip(sizes, list(values) * len(sizes) if len(values) == 1 else values, strict=False)))
    rates, batches = columns
    return [
        replace(
            run,
            lr=rates.get(run.shape.params),
            batch_tokens=round(batches[run.shape.params]) if batches else None,
        )
        for run in runs
    ]


def _run(shape: Shape, tokens: float, unique: float | None) -> PlannedRun:
    return PlannedRun(shape, max(1, round(tokens)), None if unique is None else tokens / unique)


def _distinct(runs: list[PlannedRun]) -> list[PlannedRun]:
    """Each run once, by a name of its own: two sizes may come to the same decoder when models are tiny."""
    runs = list({(run.shape, run.tokens, run.unique_tokens): run for run in runs}.values())
    for digits in range(4, _MOST_DIGITS + 1):
        count = Counter(run.name for run in runs)
        if len(count) == len(runs):
            break
        runs = [run if count[run.name] == 1 else replace(run, digits=digits) for run in runs]
    return runs


def _amount(value: float, digits: int) -> str:
    """0.0501M, 2.67M, 3.37B."""
    value = float(f"{value:.{digits}g}")
    for unit, name in ((1e12, "T"), (1e9, "B")):
        if value >= unit:
            return f"{value / unit:.{digits}g}{name}"
    return f"{value / 1e6:.{digits}g}M"


def _check(flops: float, **counts: tuple[int, int]) -> None:
    if not (np.isfinite(flops) and flops > 0):
        raise InputError(f"the budget must be above 0 FLOP, not {flops}")
    for name, (count, least) in counts.items():
        if count < least:
            raise InputError(f"{name}: {count} is too few; at least {least}")
