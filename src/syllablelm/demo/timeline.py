"""Waveforms and segments over time, as HTML: each segment is a button that plays it by ``page.js``."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from syllablelm.core.unit_strip import Box, fit_label
from syllablelm.data.audio import SAMPLE_RATE

PIXELS_PER_SECOND = 170
# Pixels: step of the waveform's outline, height of a label (see page.css); and pixels of an inch.
STEP, LABEL_HEIGHT, INCH = 2, 36, 96
# Where the page's server serves files of its scratch folder; relative, for servers behind another path.
FILES = "gradio_api/file="


@dataclass(frozen=True)
class Track:
    """A row of the timeline.

    Args:
        name: what the row shows.
        sound: file that the segments are played from.
        segments: the segments, with their labels and colours.
        waveform, sample_rate: (num_samples,) and Hz, drawn above the labels; None draws the segments alone.
    """

    name: str
    sound: Path
    segments: Sequence[Box]
    waveform: npt.NDArray[np.float32] | None = None
    sample_rate: int = SAMPLE_RATE


def draw_timeline(tracks: Sequence[Track], seconds: float) -> str:
    """Return the HTML of tracks on one time axis of a length in seconds, its texts escaped."""
    places = [(second, second * PIXELS_PER_SECOND) for second in range(int(seconds - 0.2) + 1)]
    ticks = "".join(f'<span style="left:{left}px">{second}</span>' for second, left in places)
    rows = "".join(_draw_track(track) for track in tracks)
    width = round(seconds * PIXELS_PER_SECOND)
    return (
        '<p class="hint">Click a segment to hear it, or move by the arrow keys and press Enter.'
        '<span class="swipe"> Swipe sideways for more.</span></p>'
        f'<div class="scroll"><div style="width:{width}px">{rows}<div class="ticks" aria-hidden="true">{ticks}</div>'
        "</div></div>"
    )


def _draw_track(track: Track) -> str:
    buttons = [_draw_segment(track, number) for number in range(len(track.segments))]
    wave = "" if track.waveform is None else _draw_waveform(track.waveform, track.sample_rate)
    kind = "track" if track.waveform is None else "track wave"
    name, sound = html.escape(track.name), html.escape(FILES + quote(str(track.sound)))
    return (
        f'<div class="name">{name}</div>'
        f'<div class="{kind}" role="group" aria-label="{name}" data-sound="{sound}">{wave}{"".join(buttons)}</div>'
    )


def _draw_segment(track: Track, number: int) -> str:
    segment = track.segments[number]
    left, width = segment.start * PIXELS_PER_SECOND, (segment.end - segment.start) * PIXELS_PER_SECOND
    label = html.escape(segment.label)
    size, rotation = fit_label(segment.label, width / INCH, LABEL_HEIGHT / INCH) or (0, 0)
    upright = ' class="upright"' if rotation else ""
    told = f"{html.escape(track.name)}: {label or 'segment'}, {segment.start:.2f} to {segment.end:.2f} s"
    return (
        f'<button type="button"{upright} tabindex="{0 if number == 0 else -1}" aria-label="{told}" title="{told}" '
        f'style="left:{left:.1f}px;width:{width:.1f}px;--tint:{segment.colour};font-size:{size:g}pt" '
        f'data-start="{segment.start:.4f}" data-end="{segment.end:.4f}"><span>{label}</span></button>'
    )


def _draw_waveform(waveform: npt.NDArray[np.float32], sample_rate: int) -> str:
    """Return a picture of the highest and lowest samples of each step, the loudest one at full height."""
    edges = np.arange(0, len(waveform), max(1, STEP * sample_rate // PIXELS_PER_SECOND))
    high, low = np.maximum.reduceat(waveform, edges), np.minimum.reduceat(waveform, edges)
    scale = 48 / max(float(np.abs(waveform).max()), 1e-6)
    upper, lower = ((50 - scale * values).round().astype(int).tolist() for values in (high, low))
    outline = [*enumerate(upper), *reversed(list(enumerate(lower)))]
    points = " ".join(f"{x} {y}" for x, y in outline)
    width = len(waveform) / sample_rate * PIXELS_PER_SECOND
    return (
        f'<svg viewBox="0 0 {len(edges)} 100" style="width:{width:.1f}px" preserveAspectRatio="none" '
        f'aria-hidden="true"><polygon points="{points}"/></svg>'
    )
