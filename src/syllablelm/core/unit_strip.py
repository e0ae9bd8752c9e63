"""Units as bars over time: strips of figures, and the HTML of a segmentation in a notebook."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, SyllableLMError
from syllablelm.core.pictures import drawing, notebook_figure

if TYPE_CHECKING:
    from syllablelm.core.segmentation import Segmentation

LONGEST_SECONDS = 60.0
LINE_SECONDS = 6.0
# Inches; at 100 dots per inch a figure is 1,400 dots wide.
WIDTH, LEFT, RIGHT, UNITS_HEIGHT = 14.0, 0.9, 0.3, 0.4
_TOP, _BOTTOM, _LINE_GAP = 0.1, 0.5, 0.3
GREY = "#555555"
# Okabe and Ito's colours lightened, so that dark text on them is readable; a unit keeps its colour through a picture.
TINTS = ("#F8DFA8", "#BFE2F6", "#A9DFCB", "#FAF3B0", "#A9CDE5", "#F2C2A2", "#EBCBDD", "#D8D8D8")
# Width of a line in a notebook, heights of its bars and of the times below them, all in pixels.
_LINE_PIXELS, _BAR_PIXELS, _TIME_PIXELS = 960, 34, 14


@dataclass(frozen=True)
class Box:
    """A rectangle of a strip; its ends in seconds."""

    start: float
    end: float
    label: str
    colour: str


@dataclass(frozen=True)
class Strip:
    """A row of rectangles; its height in inches."""

    name: str
    height: float
    boxes: list[Box]


def check_view(start: float, seconds: float, duration: float) -> None:
    """Refuse (InputError) to show a stretch that begins outside a recording, or is too long; all in seconds."""
    if not (0 <= start < duration and 0 < seconds <= LONGEST_SECONDS):
        raise InputError(
            f"cannot show {seconds:g} s from {start:g} s of a recording of {duration:.2f} s: "
            f"start must lie inside it, and at most {LONGEST_SECONDS:g} s fit on a picture"
        )


def count_lines(first: float, last: float) -> int:
    """Return the number of lines into which the stretch from second first to last is broken."""
    return max(1, int(np.ceil((last - first) / LINE_SECONDS - 1e-9)))


def unit_boxes(segmentation: Segmentation) -> list[Box]:
    """Return the rectangles of all segments, labelled by their units if they have any."""
    seconds = segmentation.seconds.tolist()
    if segmentation.unit is None:
        return [Box(start, end, "", TINTS[-1]) for start, end in seconds]
    return [
        Box(start, end, str(unit), TINTS[unit % len(TINTS)])
        for (start, end), unit in zip(seconds, segmentation.unit.tolist(), strict=True)
    ]


def place_axes(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    """Return axes at a position in inches."""
    full_width, full_height = figure.get_size_inches()
    return figure.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))


def draw_strip(axes: Any, strip: Strip, first: float, last: float, width: float) -> None:
    """Draw a strip from second first to last on axes of a width in inches."""
    axes.set_xlim(first, last)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_facecolor("#F4F4F4")
    for spine in axes.spines.values():
        spine.set_visible(False)
    inches_per_second = width / (last - first)
    for box in strip.boxes:
        left, right = max(box.start, first), min(box.end, last)
        if right <= left:
            continue
        axes.axvspan(left, right, facecolor=box.colour, edgecolor="white", linewidth=1.2)
        fit = fit_label(box.label, (right - left) * inches_per_second, strip.height)
        # A segment broken by the end of a line is labelled where its larger part is.
        if fit is not None and 2 * (right - left) >= box.end - box.start:
            size, rotation = fit
            axes.text((left + right) / 2, 0.47, box.label, ha="center", va="center", fontsize=size, rotation=rotation)


def fit_label(label: str, width: float, height: float) -> tuple[float, int] | None:
    """Return the largest font size in points and the rotation at which a label fits a box, in inches; None if none.

    Level text is preferred down to 7 points, then upright text.
    """
    for sizes, rotation in (((9.5, 8.5, 7.5, 7.0), 0), ((9.0, 8.0, 7.0, 6.0), 90)):
        for size in sizes:
            # DejaVu Sans: digits and capitals are about 0.65 of the size wide, a line 1.1 of it high; 72 to an inch.
            length, thickness = 0.65 * size * len(label) / 72 + 0.03, 1.1 * size / 72
            along, across = (width, height) if rotation == 0 else (height, width)
            if length <= along and thickness <= across:
                return size, rotation
    return None


def draw_units(segmentation: Segmentation, start: float = 0.0, seconds: float | None = None) -> Any:
    """Return a figure of a segmentation's units alone; see ``Segmentation.plot``."""
    if seconds is None:
        seconds = min(LONGEST_SECONDS, max(segmentation.duration - start, 1e-9))
    check_view(start, seconds, segmentation.duration)
    last = min(start + seconds, segmentation.duration)
    count = count_lines(start, last)
    edges = np.linspace(start, last, count + 1)
    height = _TOP + count * (UNITS_HEIGHT + _LINE_GAP) - _LINE_GAP + _BOTTOM
    strip = Strip("", UNITS_HEIGHT, unit_boxes(segmentation))
    with drawing({"font.size": 9}):
        figure = notebook_figure()(figsize=(WIDTH, height), dpi=100, facecolor="white")
        for line in range(count):
            bottom = height - _TOP - line * (UNITS_HEIGHT + _LINE_GAP) - UNITS_HEIGHT
            axes = place_axes(figure, LEFT, bottom, WIDTH - LEFT - RIGHT, UNITS_HEIGHT)
            draw_strip(axes, strip, edges[line], edges[line + 1], WIDTH - LEFT - RIGHT)
            if line == count - 1:
                axes.set_xlabel("time (s)", labelpad=2)
    return figure


# Notebooks


def units_html(segmentation: Segmentation) -> str:
    """Return the HTML of a segmentation: counts, a player where the recording is known, and bars of its first 60 s."""
    shown = min(segmentation.duration, LONGEST_SECONDS)
    parts = [f"<div>{escape(segmentation.summary)}</div>", _player(segmentation, shown)]
    boxes = unit_boxes(segmentation)
    for line in range(count_lines(0.0, shown) if shown else 0):
        first = line * LINE_SECONDS
        parts.append(_svg_line(boxes, first, min(first + LINE_SECONDS, shown)))
    if shown < segmentation.duration:
        parts.append(f"<div>The first {LONGEST_SECONDS:g} s are shown.</div>")
    return f'<div style="overflow-x: auto">{"".join(parts)}</div>'


def _svg_line(boxes: list[Box], first: float, last: float) -> str:
    scale = _LINE_PIXELS / LINE_SECONDS
    width, height = round((last - first) * scale + 1, 1), _BAR_PIXELS + _TIME_PIXELS
    bars: list[str] = []
    for box in boxes:
        left, right = max(box.start, first), min(box.end, last)
        if right <= left:
            continue
        x, wide = round((left - first) * scale, 1), round((right - left) * scale, 1)
        times = f"{box.start:.2f} to {box.end:.2f} s"
        title = escape(f"unit {box.label}, {times}" if box.label else times)
        bar = f'<rect x="{x}" y="0" width="{wide}" height="{_BAR_PIXELS}" fill="{box.colour}" stroke="white"/>'
        fit = fit_label(box.label, wide / 72, _BAR_PIXELS / 72)
        if fit is not None and 2 * (right - left) >= box.end - box.start:
            size, rotation = fit
            middle, centre = round(x + wide / 2, 1), _BAR_PIXELS / 2
            turn = f' transform="rotate(-90 {middle} {centre})"' if rotation else ""
            bar += (
                f'<text x="{middle}" y="{centre}" font-size="{size}" fill="#222" text-anchor="middle" '
                f'dominant-baseline="central"{turn}>{escape(box.label)}</text>'
            )
        bars.append(f"<g><title>{title}</title>{bar}</g>")
    for second in range(int(np.ceil(first)), int(last) + 1):
        x = round((second - first) * scale, 1)
        anchor = "start" if x < 10 else "end" if x > width - 10 else "middle"
        place = f'x="{x}" y="{height - 3}" font-size="9" fill="currentColor" text-anchor="{anchor}"'
        bars.append(f"<text {place}>{second} s</text>")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" style="display: block; font-family: sans-serif">{"".join(bars)}</svg>'
    )


def _player(segmentation: Segmentation, seconds: float) -> str:
    try:
        waveform = segmentation.audio
    except SyllableLMError:
        return ""  # the file is gone or has changed
    if waveform is None or len(waveform) == 0:
        return ""
    data = b64encode(_flac(waveform[: round(seconds * segmentation.sample_rate) + 1], segmentation.sample_rate))
    return f'<audio controls src="data:audio/flac;base64,{data.decode()}"></audio>'


def _flac(waveform: npt.NDArray[np.floating[Any]], sample_rate: int) -> bytes:
    import soundfile

    buffer = BytesIO()
    soundfile.write(buffer, np.clip(waveform, -1.0, 1.0), sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
