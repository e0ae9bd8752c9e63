"""Plans of scaling studies: which models to train on how many tokens, for a total budget or as listed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from syllablelm.core.config import apply_overrides, build, read_toml
from syllablelm.core.errors import InputError, check_fields
from syllablelm.core.files import write_json_lines
from syllablelm.core.recipes import FOLDER
from syllablelm.core.results import Record, json_key
from syllablelm.scaling.flops import (
    FLOPS_PER_PARAM_TOKEN,
    MFU,
    Design,
    Family,
    Shape,
    compute_budget,
    nearest_shape,
    shape_of,
    short_number,
)
from syllablelm.scaling.study import load_study

# Tokens per parameter of the speech scaling study's runs.
SPEECH_RATIOS = (2.0, 4.0, 8.0, 10.0, 20.0, 32.0, 64.0, 100.0)
# Largest number of budgets, sizes and ratios.
_MOST = 1000
# Plans that come with the package, by name.
PLANS = FOLDER / "plans"
# Significant digits of the numbers in a run's name: few where that tells the runs apart, else up to all.
_DIGITS, _MOST_DIGITS = 3, 15


@dataclass(frozen=True)
class StudyPlan:
    """Plan of a scaling study, as a TOML file of these keys.

    Args:
        design: "isoflop", sizes around the optimum of several budgets; "ratio", sizes times tokens per parameter (the
            speech scaling study's design), for a budget or as listed; or "grid", sizes times tokens times passes.
        flops: total budget in FLOP (isoflop, ratio).
        gpu_hours: total budget in hours of a device instead.
        gpu, tflops: name of the GPU (`PEAK_TFLOPS`), or peak TFLOP/s of another device.
        mfu: assumed model-FLOPs utilisation.
        law: published law or study file that gives the expected optimum (isoflop).
        budgets: number of budgets, each ``step`` times the one below (isoflop).
        sizes: number of models, of each budget for isoflop; for ratio each ``step`` times the one below.
        step: ratio of neighbouring budgets or sizes.
        span: the sizes of a budget range from the optimum / span to the optimum * span (isoflop).
        ratios: tokens per parameter (ratio).
        params: numbers of parameters, for which the nearest shapes are taken (grid; ratio without a budget).
        shapes: layers x width of each model instead, such as "4x128" (grid; ratio without a budget).
        tokens: numbers of training tokens, repetitions included (grid).
        passes: passes over the data; 4 trains on a quarter of the tokens, four times (grid).
        lr, batch_tokens: peak learning rate and tokens per update: none, one, or one per size in ascending order; none
            leaves the recipe's.
        vocab, context: vocabulary size with special tokens, and context length in tokens.
        unique_tokens: number of tokens of the corpus, to tell epochs (isoflop, ratio).
        family: "opt" or "llama", the decoders of the speech scaling study.
    """

    design: Design = "isoflop"
    flops: float | None = None
    gpu_hours: float | None = None
    gpu: str | None = None
    tflops: float | None = None
    mfu: float = MFU
    law: str = "speech"
    budgets: int = 4
    sizes: int = 5
    step: float = 3.0
    span: float = 3.0
    ratios: tuple[float, ...] = SPEECH_RATIOS
    params: tuple[float, ...] = ()
    shapes: tuple[str, ...] = ()
    tokens: tuple[float, ...] = ()
    passes: tuple[float, ...] = (1.0,)
    lr: tuple[float, ...] = ()
    batch_tokens: tuple[float, ...] = ()
    vocab: int = 502
    context: int = 1024
    unique_tokens: float | None = None
    family: Family = "opt"


@dataclass(frozen=True)
class PlannedRun(Record):
    """One model to train, as a line of a plan; layers to feed_forward are keys of a recipe's ``lm.shape``.

    Args:
        name: such as "0.99M-40M", or "0.99M-40M-x4" where the data is limited to a quarter of the tokens.
        params, params_total: parameters without and with embeddings.
        tokens: training tokens, repetitions included.
        flops, flops_exact: training FLOPs as 6 N D, and with attention and logits.
        layers, dim, heads, feed_forward: shape of the decoder.
        epochs: passes over the unique tokens; None if their number is not known.
        unique_tokens: maximum number of distinct training tokens; None for no limit.
        lr, batch_tokens: peak learning rate and tokens per update; None for the recipe's.
        gpu_hours: expected hours of the plan's device; None without one.
        family: family of the decoder; None for an OPT.
    """

    derived: ClassVar[tuple[str, ...]] = ("tokens_per_param",)

    name: str
    params: int
    params_total: int
    tokens: int
    flops: int
    flops_exact: float
    layers: int
    dim: int
    heads: int
    feed_forward: int
    epochs: float | None = json_key(omit_none=True)
    unique_tokens: int | None = json_key(omit_none=True)
    lr: float | None = json_key(omit_none=True)
    batch_tokens: int | None = json_key(omit_none=True)
    gpu_hours: float | None = json_key(omit_none=True)
    family: Family | None = json_key(omit_none=True)

    @property
    def tokens_per_param(self) -> float:
        """D / N."""
        return self.tokens / self.params


@dataclass(frozen=True)
class PlannedStudy(Record):
    """The runs of a study with their cost.

    Args:
        design: design of the plan.
        models: number of runs.
        budget: total budget in FLOP; None for a grid.
        flops, flops_exact: training FLOPs of all runs, as 6 N D, and with attention and logits.
        gpu_hours: expected hours of all runs; None without a device.
        runs: the runs.
    """

    design: Design
    models: int
    budget: float | None
    flops: int
    flops_exact: float
    gpu_hours: float | None
    runs: tuple[PlannedRun, ...]

    def write(self, path: str | Path) -> None:
        """Write the runs as a jsonl file for ``scale run``."""
        write_json_lines(Path(path), [run.to_dict() for run in self.runs])


def read_study_plan(path: str | Path | None = None, changes: Sequence[str] = (), **options: Any) -> StudyPlan:
    """Read a plan (TOML; None: the defaults) with changes such as ``sizes=4``; options that are not None replace both.

    The name "speech" stands for the speech scaling study's own plan.

    Raises:
        FormatError: no such file, not TOML, an unknown key or a value of the wrong type.
    """
    if path is not None and (shipped := PLANS / f"{path}.toml").is_file() and not Path(path).exists():
        path = shipped
    table = apply_overrides({} if path is None else read_toml(path), changes)
    table |= {name: value for name, value in options.items() if value is not None}
    return build(StudyPlan, table, str(path or "plan"))


def plan_study(plan: StudyPlan, where: str = "plan") -> PlannedStudy:
    """Plan the runs of a study, with what each will cost.

    Raises:
        InputError: no budget, numbers out of range, or a budget so small that its models do not exist; the message
            begins with ``where``, the file of the plan.
    """
    try:
        return _plan(plan)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _plan(plan: StudyPlan) -> PlannedStudy:
    check_fields(plan, "vocab context params", above=0, most=math.inf)
    budget = compute_budget(plan.flops, plan.gpu_hours, gpu=plan.gpu, tflops=plan.tflops, mfu=plan.mfu)
    if plan.design == "grid":
        if budget is not None or plan.unique_tokens is not None:
            raise InputError("a grid is as large as its lists, and its data as its passes say; leave budgets out")
        runs = _grid(plan)
    elif budget is None and not (plan.design == "ratio" and (plan.params or plan.shapes)):
        raise InputError("a plan needs a budget: flops, or gpu_hours with gpu or tflops")
    else:
        runs = _ratios(plan, budget) if budget is None or plan.design == "ratio" else _isoflops(plan, budget)
    # Two sizes may come to the same decoder when models are tiny.
    runs = list({replace(run, epochs=None): run for run in runs}.values())
    sizes = sorted({run.params for run in runs})
    lr = _by_size("learning rates", plan.lr, sizes)
    batch = _by_size("batch sizes", plan.batch_tokens, sizes)
    device = plan.gpu is not None or plan.tflops is not None
    hourly = compute_budget(gpu_hours=1.0, gpu=plan.gpu, tflops=plan.tflops, mfu=plan.mfu) if device else None
    runs = [
        replace(run, name=name, lr=lr.get(run.params), batch_tokens=round(batch[run.params]) if batch else None)
        for name, run in zip(_names(runs), runs, strict=True)
    ]
    flops, exact, hours = sum(run.flops for run in runs), sum(run.flops_exact for run in runs), None
    if hourly is not None:
        runs, hours = [replace(run, gpu_hours=run.flops / hourly) for run in runs], flops / hourly
    return PlannedStudy(plan.design, len(runs), budget, flops, exact, hours, tuple(runs))


def _isoflops(plan: StudyPlan, flops: float) -> list[PlannedRun]:
    """Return several budgets, each spent on models around the expected optimum."""
    _check(plan, budgets=(plan.budgets, 1), sizes=(plan.sizes, 3))
    if not plan.span > 1:
        raise InputError("span must be above 1")
    law = load_study(plan.law).law
    if law is None or not law.has_optimum:
        raise InputError(f"{plan.law}: its law has no optimum; name another law")
    highest = flops / (plan.sizes * sum(plan.step**-k for k in range(plan.budgets)))
    runs = []
    for level in reversed(range(plan.budgets)):
        budget = highest * plan.step**-level
        for factor in np.geomspace(1 / plan.span, plan.span, plan.sizes):
            shape = nearest_shape(law.optimal(budget).params * factor, **_options(plan))
            runs.append(_budgeted(plan, shape, budget / FLOPS_PER_PARAM_TOKEN / shape.params))
    return runs


def _ratios(plan: StudyPlan, flops: float | None) -> list[PlannedRun]:
    """Return several models, those listed or those of a budget, each trained at every ratio of tokens to parameters."""
    _check(plan, ratios=(len(plan.ratios), 1), sizes=(plan.sizes, 1))
    if not min(plan.ratios) > 0:
        raise InputError("every ratio must be above 0")
    if flops is None:
        return [_budgeted(plan, shape, shape.params * ratio) for shape in _listed(plan) for ratio in plan.ratios]
    if plan.params or plan.shapes:
        raise InputError("a plan of ratios has either a budget, or sizes as params or shapes")
    # The cost of a model is 6 N^2 times the sum of the ratios.
    squares = sum(plan.step ** (-2 * k) for k in range(plan.sizes))
    largest = math.sqrt(flops / (FLOPS_PER_PARAM_TOKEN * sum(plan.ratios) * squares))
    runs = []
    for level in reversed(range(plan.sizes)):
        shape = nearest_shape(largest * plan.step**-level, **_options(plan))
        runs += [_budgeted(plan, shape, shape.params * ratio) for ratio in plan.ratios]
    return runs


def _grid(plan: StudyPlan) -> list[PlannedRun]:
    """Return every shape on every number of tokens, each seen once or in several passes over fewer."""
    shapes = _listed(plan)
    if not (plan.tokens and plan.passes):
        raise InputError("a grid needs tokens, such as [1e6, 4e6], and passes")
    if not (min(plan.tokens) >= 1 and min(plan.passes) >= 1 and np.isfinite([*plan.tokens, *plan.passes]).all()):
        raise InputError("tokens and passes of a grid must be 1 or more")
    return [
        _run(shape, round(tokens), passes, None if passes == 1 else max(1, round(tokens / passes)))
        for shape in shapes
        for tokens in plan.tokens
        for passes in plan.passes
    ]


def _listed(plan: StudyPlan) -> list[Shape]:
    """Return the decoders that a plan names by size or shape."""
    if bool(plan.params) == bool(plan.shapes):
        raise InputError(f'a {plan.design} needs params, such as [1e5, 1e6], or shapes, such as ["2x64", "4x128"]')
    shapes = [nearest_shape(size, **_options(plan)) for size in plan.params]
    for text in plan.shapes:
        layers, _, dim = text.partition("x")
        if not (layers.strip().isdecimal() and dim.strip().isdecimal()):
            raise InputError(f"shape {text!r}: write layers x width, such as 2x64")
        shapes.append(shape_of(int(layers), int(dim), **_options(plan)))
    return shapes


def _options(plan: StudyPlan) -> dict[str, Any]:
    return {"vocab": plan.vocab, "context": plan.context, "family": plan.family}


def _budgeted(plan: StudyPlan, shape: Shape, tokens: float) -> PlannedRun:
    return _run(shape, max(1, round(tokens)), None if plan.unique_tokens is None else tokens / plan.unique_tokens)


def _run(shape: Shape, tokens: int, epochs: float | None, unique: int | None = None) -> PlannedRun:
    """Return a run that still lacks a name."""
    flops, exact = FLOPS_PER_PARAM_TOKEN * shape.params * tokens, shape.train_flops(tokens)
    sizes = shape.layers, shape.dim, shape.heads, shape.feed_forward
    family = None if shape.family == "opt" else shape.family
    return PlannedRun("", shape.params, shape.params_total, tokens, flops, exact, *sizes, epochs, unique, family=family)


def _check(plan: StudyPlan, **counts: tuple[int, int]) -> None:
    for name, (count, least) in counts.items():
        if not least <= count <= _MOST:
            raise InputError(f"{name}: {count} must be from {least} to {_MOST}")
    if not plan.step > 1:
        raise InputError("step must be above 1")
    if plan.unique_tokens is not None and not 0 < plan.unique_tokens < math.inf:
        raise InputError(f"unique_tokens {plan.unique_tokens:g}: must be above 0 and finite")


def _by_size(what: str, values: Sequence[float], sizes: Sequence[int]) -> dict[int, float]:
    """Return the value of each size, from none, one for all or one for each."""
    if len(values) not in (0, 1, len(sizes)):
        raise InputError(f"{len(values)} {what} for {len(sizes)} sizes; give one for all or one for each")
    if not all(0 < value < math.inf for value in values):
        raise InputError(f"{what} must be above 0")
    return dict(zip(sizes, list(values) * len(sizes) if len(values) == 1 else values, strict=False))


def _names(runs: Sequence[PlannedRun]) -> list[str]:
    """Return a name for each run, with as many digits as it takes to tell it from the others."""
    digits = [_DIGITS] * len(runs)
    names = [_name(run, _DIGITS) for run in runs]
    for more in range(_DIGITS + 1, _MOST_DIGITS + 1):
        count = Counter(names)
        digits = [each if count[name] == 1 else more for each, name in zip(digits, names, strict=True)]
        names = list(map(_name, runs, digits))
    return names


def _name(run: PlannedRun, digits: int) -> str:
    name = "-".join(short_number(value, digits, smallest=1e6) for value in (run.params, run.tokens))
    return name if run.unique_tokens is None else f"{name}-x{run.tokens / run.unique_tokens:.{digits}g}"
