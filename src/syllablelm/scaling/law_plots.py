"""Figures 1, 2, 4 and 5 of Cuervo & Marxer (2024) for own runs: loss and scores against compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.files import atomic_path
from syllablelm.core.pictures import drawing, import_matplotlib, plot_label
from syllablelm.core.results import Record
from syllablelm.scaling.flops import Figure, Per, short_number
from syllablelm.scaling.power import PowerLaw, fit_envelope, fit_score_law, fit_score_line
from syllablelm.scaling.runs import Run, by_tokenizer, column, curve, curve_points, losses, named_files, score_names

SUFFIXES = (".png", ".svg", ".pdf")
# Size of a panel in inches, and dots per inch of a PNG.
PANEL_WIDTH, PANEL_HEIGHT, DPI = 4.6, 3.6, 200
# Okabe and Ito's colours, safe for colour-blind readers, with a mark each for print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKS = ("o", "s", "^", "D", "v", "P")
GREY, LIGHT = "#555555", "#BBBBBB"
# Factor by which a fitted line is drawn beyond the data, dashed.
BEYOND = 3.0
_REPEATED, _SATURATED = "repeated data", "saturated, left out"


@dataclass(frozen=True)
class StudyFigure(Record):
    """A drawn figure.

    Args:
        picture: file of the figure.
        figure: its kind.
        shown: exponents and correlations in the figure, by panel and group; None where nothing could be fitted.
    """

    picture: str
    figure: Figure
    shown: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class _Style:
    label: str
    colour: str
    mark: str
    alone: bool


_Draw = Callable[[Any, Sequence[Run], _Style], "float | None"]


def plot_study(
    groups: Mapping[str, Sequence[Run]],
    out: str | Path,
    *,
    figure: Figure = "loss",
    per: Per = "token",
    saturation: float | None = None,
    bootstrap: int = 200,
    seed: int = 0,
    columns: int = 3,
) -> StudyFigure:
    """Draw runs with their fitted laws and 95 % bands into one file.

    Args:
        groups: runs by their label in the legend: speech and text, or two tokenisations.
        out: .png, .svg or .pdf file.
        figure: "loss", loss and its envelope against FLOPs (Figure 1), where runs on repeated data are open marks and
            no part of the envelope; "scores", every score against FLOPs with the law of its frontier (Figure 2);
            "lines", scores against loss (Figure 4); "tokens", nats per second and every score against FLOPs, to
            compare tokenisations (Figure 5), where a single group is divided by tokenisation.
        per: unit of the losses; "tokens" always takes seconds.
        saturation, bootstrap, seed: options of the fits (`fit_study`); runs left out are drawn grey.
        columns: maximum number of panels side by side.

    Raises:
        InputError: an unknown suffix, no runs, no scores where they are asked for, losses that cannot be compared,
            numbers that are not above 0 or not finite.
        MissingDependencyError: matplotlib is not installed.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise InputError(f"{out}: the suffix must be one of {', '.join(SUFFIXES)}")
    if not groups or not all(groups.values()):
        raise InputError("no runs to draw")
    names = score_names([run for runs in groups.values() for run in runs])
    if figure in ("scores", "lines") and not names:
        raise InputError('the runs have no scores to draw; give them a column such as "scores": {"sblimp": 55.1}')
    unit: Per = "second" if figure == "tokens" else per
    if figure != "scores":
        groups = {label: known for label, runs in groups.items() if (known := [run for run in runs if run.has_loss])}
        if not groups:
            raise InputError("the runs have no loss to draw; --figure scores needs none")
    for runs in groups.values() if figure != "scores" else ():
        with named_files(runs):
            losses(runs, unit)
    if figure == "tokens" and len(groups) == 1:
        groups = by_tokenizer(*groups.values())
    resampling: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed}
    panels: dict[str, _Draw] = {}
    if figure in ("loss", "tokens"):
        panels["loss"] = partial(_draw_loss, per=unit, **resampling)
    for name in names if figure != "loss" else ():
        if figure == "lines":
            panels[name] = partial(_draw_line, name=name, per=unit, **resampling)
        else:
            panels[name] = partial(_draw_score, name=name, saturation=saturation, **resampling)
    return StudyFigure(str(out), figure, _draw_figure(panels, groups, out, columns))


def _draw_figure(
    panels: Mapping[str, _Draw], groups: Mapping[str, Sequence[Run]], out: Path, columns: int
) -> dict[str, dict[str, float | None]]:
    _, canvas_class = import_matplotlib()
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    shown: dict[str, dict[str, float | None]] = {}
    settings: dict[Any, Any] = {"svg.hashsalt": "syllablelm", "pdf.fonttype": 42, "font.size": 9,
                                "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip
    with drawing(settings):
        size = PANEL_WIDTH * columns, PANEL_HEIGHT * rows
        canvas = canvas_class(figsize=size, facecolor="white", layout="constrained")
        all_axes = np.atleast_1d(np.asarray(canvas.subplots(rows, columns))).ravel()
        for (name, draw), axes in zip(panels.items(), all_axes, strict=False):
            shown[name] = {}
            for number, (label, runs) in enumerate(groups.items()):
                look = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
                style = _Style(plot_label(label), *look, len(groups) == 1)
                shown[name][label] = draw(axes, runs, style)
            _fit_to_marks(axes)
            axes.legend(frameon=False, fontsize=7.5)
        for axes in all_axes[len(panels) :]:
            axes.set_axis_off()
        with atomic_path(out) as part:
            # Without a date the same runs give the same file.
            metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix)
            canvas.savefig(part, dpi=DPI, metadata=metadata)
    return shown


def _draw_loss(axes: Any, runs: Sequence[Run], style: _Style, per: Per, bootstrap: int, seed: int) -> float | None:
    flops, loss, params = column(runs, "flops"), losses(runs, per), column(runs, "params")
    again = np.array([run.repeats for run in runs])
    ways = [curve(run, per) for run in runs]
    # The runs of a size are joined by a line where no run has a curve.
    line = "none" if any(ways) else "-"
    for size, shade in _sizes(params, style):
        for k in np.flatnonzero(params == size) if any(ways) else ():
            way = [*((x, y) for _, x, y in ways[k]), (flops[k], loss[k])]
            axes.plot(*zip(*way, strict=True), lw=0.6, alpha=0.5, color=shade)
        rows = np.flatnonzero((params == size) & ~again)
        rows = rows[np.argsort(flops[rows])]
        label = f"{short_number(size)} parameters" if style.alone else None
        axes.plot(flops[rows], loss[rows], style.mark, ls=line, lw=0.6, ms=4, alpha=0.8, color=shade, label=label)
        rows = (params == size) & again
        axes.plot(flops[rows], loss[rows], style.mark, ms=4, mfc="none", alpha=0.8, color=shade)
    _explain(axes, again, _REPEATED, marker=style.mark, mfc="none", color=GREY)
    axes.set(xscale="log", yscale="log", xlabel="training FLOPs", ylabel=f"held-out loss, nats per {per}")
    _plain_ticks(axes, loss)
    power = _attempt(lambda: fit_envelope(*curve_points(runs, per), bootstrap=bootstrap, seed=seed))
    return _draw_power(axes, power, style, "envelope, L")


def _draw_score(
    axes: Any, runs: Sequence[Run], style: _Style, name: str, saturation: float | None, bootstrap: int, seed: int
) -> float | None:
    rows = [run for run in runs if name in run.scores]
    if not rows:
        return None
    flops, score = column(rows, "flops"), np.array([run.scores[name] for run in rows])
    left_out = np.zeros(len(rows), dtype=bool) if saturation is None else score >= saturation
    _scatter(axes, flops[~left_out], score[~left_out], [rows[k] for k in np.flatnonzero(~left_out)], style)
    axes.plot(flops[left_out], score[left_out], style.mark, ms=4, alpha=0.8, color=LIGHT)
    _explain(axes, left_out, _SATURATED, marker=style.mark, color=LIGHT)
    axes.set(xscale="log", yscale="log", xlabel="training FLOPs", ylabel=plot_label(name))
    _plain_ticks(axes, score)
    law = _attempt(lambda: fit_score_law(flops, score, saturation=saturation, bootstrap=bootstrap, seed=seed))
    return _draw_power(axes, None if law is None else law.power, style, "frontier, Q")


def _draw_line(
    axes: Any, runs: Sequence[Run], style: _Style, name: str, per: Per, bootstrap: int, seed: int
) -> float | None:
    rows = [run for run in runs if name in run.scores]
    if not rows:
        return None
    loss, score = losses(rows, per), np.array([run.scores[name] for run in rows])
    _scatter(axes, loss, score, rows, style)
    axes.set(xlabel=f"held-out loss, nats per {per}", ylabel=plot_label(name))
    line = _attempt(lambda: fit_score_line(loss, score, bootstrap=bootstrap, seed=seed))
    if line is None:
        return None
    x = np.linspace(loss.min(), loss.max(), 100)
    colour = GREY if style.alone else style.colour
    axes.plot(x, line.at(x), color=colour, lw=1.4, label=_legend(style, f"r = {line.correlation:.3f}"))
    axes.fill_between(x, *line.band(x), color=colour, alpha=0.15, lw=0)
    return line.correlation


def _scatter(axes: Any, x: npt.NDArray[Any], y: npt.NDArray[Any], runs: Sequence[Run], style: _Style) -> None:
    params = column(runs, "params")
    for size, shade in _sizes(params, style):
        label = f"{short_number(size)} parameters" if style.alone else None
        axes.plot(x[params == size], y[params == size], style.mark, ms=4, alpha=0.8, color=shade, label=label)


def _sizes(params: npt.NDArray[Any], style: _Style) -> list[tuple[float, str]]:
    """Return the sizes with their colours: where there is one group, a shade each from light to dark."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    sizes = np.unique(params)
    shades = [to_hex(colormaps["viridis"](0.9 - 0.85 * place)) for place in np.linspace(0, 1, len(sizes))]
    return list(zip(sizes, shades if style.alone else [style.colour] * len(sizes), strict=True))


def _explain(axes: Any, which: npt.NDArray[np.bool_], text: str, **look: Any) -> None:
    """Name a kind of mark in the legend, once, if it is used."""
    if which.any() and text not in axes.get_legend_handles_labels()[1]:
        axes.plot([], [], ls="none", ms=4, label=text, **look)


def _draw_power(axes: Any, power: PowerLaw | None, style: _Style, what: str) -> float | None:
    colour = GREY if style.alone else style.colour
    if power is None or power.status.startswith("degenerate"):
        # A line through noise, or through too few points, would mislead.
        reason = "too few points" if power is None else power.status.removeprefix("degenerate: ").partition(" (")[0]
        mark = None if style.alone else style.mark
        axes.plot([], [], marker=mark, ls="none", color=colour, ms=4, label=_legend(style, f"no law: {reason}"))
        return None
    low, high = power.x_range
    text = rf"${what[-1]} \propto C^{{{power.exponent:.3g}}}$"
    text = what[:-1] + text if style.alone else text
    x = np.geomspace(low, high, 100)
    axes.plot(x, power.at(x), color=colour, lw=1.4)
    mark = "" if style.alone else style.mark
    axes.plot([], [], marker=mark or None, ls="-", color=colour, lw=1.4, ms=4, label=_legend(style, text))
    x = np.geomspace(low / BEYOND, high * BEYOND, 200)
    axes.plot(x, power.at(x), color=colour, lw=1.0, ls=(0, (4, 3)))
    axes.fill_between(x, *power.band(x), color=colour, alpha=0.15, lw=0)
    return power.exponent


def _fit_to_marks(axes: Any) -> None:
    """Set the limits by runs and laws: a wide band would squeeze everything else."""
    drawn = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    values = np.concatenate([np.empty(0), *drawn])
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        low, high = np.log(values.min()), np.log(values.max())
        room = 0.05 * max(high - low, 0.1)
        axes.set_ylim(np.exp(low - room), np.exp(high + room))


def _attempt(fit: Callable[[], Any]) -> Any:
    """Return a fit, or None where the runs are too few."""
    try:
        return fit()
    except InputError:
        return None


def _legend(style: _Style, text: str) -> str:
    return text if style.alone else f"{style.label}: {text}"


def _plain_ticks(axes: Any, values: npt.NDArray[Any]) -> None:
    """Label a narrow logarithmic axis with plain numbers: 3.2 and not 3.2 x 10^0."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    if values.max() < 30 * values.min():
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
