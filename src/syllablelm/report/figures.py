"""The report's figures, each in a light and a dark version; matplotlib is optional.

Published points are hollow, ours are filled. A figure is drawn only where there are results for it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.document import Picture
from syllablelm.core.errors import MissingDependencyError
from syllablelm.core.pictures import drawing, import_matplotlib, plot_label
from syllablelm.core.segmentation import Segmentation
from syllablelm.report.paper_tables import Row, Table, short_name
from syllablelm.report.segmentation_figure import BLUE, SKY, VERMILLION, draw_similarity

FOLDER = "figures"
WIDTH, HEIGHT, DOTS = 6.4, 4.4, 150
SIMILARITY_SECONDS = 5.0
GREEN, PURPLE = "#009E73", "#CC79A7"
SERIES = (VERMILLION, BLUE, GREEN, PURPLE, "#E69F00", SKY)
LEVELS = ("phone", "syllable", "word")


@dataclass(frozen=True)
class Theme:
    """Colours of a figure: background, text, and secondary text."""

    paper: str
    ink: str
    quiet: str


LIGHT, DARK = Theme("#ffffff", "#1b1f24", "#6b7280"), Theme("#171b21", "#e6e8eb", "#9aa3af")


@dataclass(frozen=True)
class Curve:
    """Continuations of one model on one set: (temperature, perplexity, VERT), and (perplexity, VERT) of the texts."""

    system: str
    data: str
    points: tuple[tuple[float, float, float], ...]
    oracle: tuple[float, float] | None


@dataclass(frozen=True)
class Sample:
    """A recording for the figure of its self-similarity: its name, its model's, (T, D) features and segments."""

    name: str
    model: str
    features_TD: npt.NDArray[np.float32]
    segmentation: Segmentation


def has_matplotlib() -> bool:
    """Return whether figures can be drawn."""
    try:
        import_matplotlib()
    except MissingDependencyError:
        return False
    return True


def draw_figures(tables: Sequence[Table], curves: Sequence[Curve], sample: Sample | None) -> list[Picture]:
    """Draw all figures for which there is data; a MissingDependencyError without matplotlib."""
    by_id = {table.id: table for table in tables}
    figures = [
        _similarity_figure(sample) if sample else None,
        _rate_figure(by_id["5"]),
        _error_figure(by_id["2"]),
        _curve_figure(by_id["7"], curves),
    ]
    return [figure for figure in figures if figure is not None]


def _similarity_figure(sample: Sample) -> Picture:
    step = sample.segmentation.hop / sample.segmentation.sample_rate
    end = min(len(sample.features_TD), round(SIMILARITY_SECONDS / step)) * step

    def draw(axes: Any, theme: Theme) -> None:
        colours = "Greys" if theme is LIGHT else "Greys_r"
        draw_similarity(axes, sample.features_TD, sample.segmentation, 0.0, end, colours=colours, line_width=1.1)
        axes.set_aspect("equal")

    caption = (
        f"Cosine similarity of the frames of {sample.name} (mean frame removed), the first {end:.1f} s. "
        f"Squares: segments of {short_name(sample.model)}."
    )
    return _figure("similarity", "Self-similarity and segments", caption, draw, height=6.0)


def _rate_figure(table: Table) -> Picture | None:
    # A rate says something of a system only where the system chose it.
    chosen = [row for row in table.ours if not row.given_count and _number(row, "hz")]
    several = [row for row in chosen if sum(level in row.values for level in LEVELS) > 1]
    # Of each system its first protocol: others lie too close to tell apart.
    ours = list({row.name: row for row in reversed(several)}.values())[::-1]
    if not ours:
        return None

    def draw(axes: Any, theme: Theme) -> None:
        marks = {"phone": "o", "syllable": "s", "word": "^"}
        for level, colour in zip(LEVELS, SERIES, strict=False):
            points = sorted((_number(row, "hz"), _number(row, level)) for row in table.published)
            x, y = zip(*points, strict=True)
            axes.plot(x, y, "-", marker=marks[level], color=colour, markerfacecolor=theme.paper, linewidth=1, alpha=0.8)
            found = [(_number(row, "hz"), row.values[level]) for row in ours if level in row.values]
            _bars(axes, [(x, value) for x, value in found if x], marks[level], colour, f"{level}s")
        for row in ours:
            _name_system(axes, row, theme)
        axes.margins(0.09)
        axes.set_xlabel("units per second")
        axes.set_ylabel("F1 at 50 ms (%)")
        _legend(axes, theme)

    protocols = "; ".join(dict.fromkeys(row.protocol for row in ours))
    caption = (
        f"Filled, with their names: ours, where they chose their rate by themselves ({_sets(ours)}; {protocols}). "
        f"Hollow, joined: published ({table.data})."
    )
    return _figure("f1_by_rate", "F1 against unit rate", caption, draw)


def _name_system(axes: Any, row: Row, theme: Theme) -> None:
    """Draw the system's name above its highest interval."""
    tops = [value.number if value.high is None else value.high for value in map(row.values.get, LEVELS) if value]
    highest = max((top for top in tops if top is not None), default=None)
    if highest is not None:
        place = (_number(row, "hz"), highest)
        axes.annotate(
            plot_label(short_name(row.name)), place, xytext=(0, 5), textcoords="offset points", ha="center", fontsize=9,
            color=theme.ink,
        )  # fmt: skip


def _error_figure(table: Table) -> Picture | None:
    ours = [row for row in table.ours if _number(row, "bps") and "wer" in row.values]
    if not ours:
        return None

    def draw(axes: Any, theme: Theme) -> None:
        published = [(_number(row, "bps"), _number(row, "wer")) for row in table.published]
        x, y = zip(*published, strict=True)
        axes.plot(x, y, "o", color=theme.quiet, markerfacecolor=theme.paper, label="published")
        several = len({row.protocol for row in ours}) > 1
        for number, row in enumerate(ours):
            # The recogniser without its settings.
            heard = row.protocol.partition(",")[0].partition(" (")[0]
            label = f"{row.name}, {heard}" if several else row.name
            _bars(axes, [(_number(row, "bps") or 0.0, row.values["wer"])], "s", _colour(number), label)
        axes.set_xlabel("bits per second")
        axes.set_ylabel("word error rate (%)")
        axes.set_ylim(bottom=0)
        _legend(axes, theme)

    caption = f"Filled: ours ({_sets(ours)}). Hollow: published ({table.data}). Lower and further left is better."
    return _figure("errors_by_bitrate", "Error rate against bit rate", caption, draw)


def _curve_figure(table: Table, curves: Sequence[Curve]) -> Picture | None:
    if not any(curve.points for curve in curves):
        return None

    def draw(axes: Any, theme: Theme) -> None:
        for number, curve in enumerate(curves):
            points = sorted(curve.points)
            axes.plot(
                [vert for _, _, vert in points], [ppx for _, ppx, _ in points],
                "o-", color=_colour(number), linewidth=1.4, label=plot_label(short_name(curve.system)),
            )  # fmt: skip
            for temperature, ppx, vert in points:
                offset: dict[str, Any] = {"xytext": (4, 4), "textcoords": "offset points"}
                axes.annotate(f"{temperature:g}", (vert, ppx), **offset, fontsize=8, color=theme.quiet)
            if curve.oracle is not None:
                ppx, vert = curve.oracle
                axes.axhline(ppx, color=_colour(number), linestyle=":", linewidth=1)
                axes.axvline(vert, color=_colour(number), linestyle=":", linewidth=1)
        axes.set_yscale("log")
        axes.set_xlabel("VERT: self- and auto-BLEU-2 (%), lower is more diverse")
        axes.set_ylabel("perplexity")
        _legend(axes, theme)

    sets = ", ".join(dict.fromkeys(short_name(curve.data) for curve in curves))
    caption = f"Ours on {sets}; temperatures beside the points, dotted: the reference texts. {table.notes[0]}"
    return _figure("perplexity_by_diversity", "Perplexity against diversity over temperature", caption, draw)


def _figure(
    name: str, title: str, caption: str, draw: Callable[[Any, Theme], None], *, height: float = HEIGHT
) -> Picture:
    light, dark = (_draw(draw, theme, height) for theme in (LIGHT, DARK))
    return Picture(f"{FOLDER}/{name}.png", caption, light, "image/png", title, dark)


def _draw(draw: Callable[[Any, Theme], None], theme: Theme, height: float) -> bytes:
    _, canvas_class = import_matplotlib()
    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    settings: dict[Any, Any] = {"font.size": 10, **dict.fromkeys(inked, theme.ink)}
    with drawing(settings):
        canvas = canvas_class(figsize=(WIDTH, height), dpi=DOTS, facecolor=theme.paper, layout="constrained")
        axes = canvas.add_subplot(facecolor=theme.paper)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, theme)
        stream = io.BytesIO()
        canvas.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _bars(axes: Any, points: Sequence[tuple[float, Any]], mark: str, colour: str, label: str) -> None:
    """Draw filled points of ours with their intervals."""
    known = [(x, value) for x, value in points if value.number is not None]
    if not known:
        return
    reach = [
        [value.number - (value.number if value.low is None else value.low) for _, value in known],
        [(value.number if value.high is None else value.high) - value.number for _, value in known],
    ]
    axes.errorbar(
        [x for x, _ in known], [value.number for _, value in known], yerr=np.maximum(reach, 0.0),
        fmt=mark, color=colour, capsize=2, linestyle="", label=plot_label(label),
    )  # fmt: skip


def _legend(axes: Any, theme: Theme) -> None:
    axes.grid(color=theme.quiet, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9)


def _colour(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _number(row: Row, key: str) -> float | None:
    value = row.values.get(key)
    return None if value is None else value.number


def _sets(rows: Sequence[Row]) -> str:
    return "; ".join(dict.fromkeys(row.data for row in rows))
