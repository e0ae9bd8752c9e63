"""One picture of a recording: spectrogram, units, reference syllables and the self-similarity of its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.files import atomic_path
from syllablelm.core.pictures import drawing, notebook_figure, plot_label
from syllablelm.core.segmentation import Segmentation
from syllablelm.core.unit_strip import (
    GREY,
    LEFT,
    LINE_SECONDS,
    RIGHT,
    UNITS_HEIGHT,
    WIDTH,
    Box,
    Strip,
    check_view,
    count_lines,
    draw_strip,
    place_axes,
    unit_boxes,
)
from syllablelm.data.alignment import Interval
from syllablelm.segment.mel import SAMPLE_RATE, log_mel, mel_centres

SUFFIXES = (".png", ".svg", ".pdf")

# Inches; at 100 dots per inch the picture is 1,400 dots wide.
TOP, BOTTOM = 0.6, 0.6
MEL_HEIGHT, REFERENCE_HEIGHT, STRIP_GAP, LINE_GAP = 1.8, 0.58, 0.04, 0.64
MATRIX_SIZE = 6.2

# The salt keeps the names inside an SVG, and so the file, the same from run to run.
_SETTINGS = {"svg.hashsalt": "syllablelm", "pdf.fonttype": 42, "font.size": 9}

# Samples and Hz. 40 ms windows resolve enough for bands that narrow; shorter ones leave the lowest bands empty.
MEL_HOP, MEL_WINDOW, MEL_BANDS, MEL_LOW, MEL_HIGH = 80, 640, 80, 40.0, 8000.0

# Okabe and Ito's colours, safe for colour-blind readers.
BLUE, SKY, VERMILLION = "#0072B2", "#56B4E9", "#D55E00"


def plot_segmentation(
    waveform: npt.ArrayLike,
    segmentation: Segmentation,
    features: npt.ArrayLike | None,
    *,
    path: str | Path,
    **view: Any,
) -> None:
    """Draw ``segmentation_figure`` into one file.

    Args:
        waveform, segmentation, features, view: see ``segmentation_figure``.
        path: picture to write (.png, .svg or .pdf), which appears only once complete.

    Raises:
        InputError, MissingDependencyError: see ``segmentation_figure``; or an unknown suffix.
    """
    path = Path(path)
    check_picture(path)
    figure = segmentation_figure(waveform, segmentation, features, **view)
    # A date inside would make every file differ.
    metadata = {".png": None, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[path.suffix.lower()]
    with drawing(_SETTINGS), atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower()[1:], metadata=metadata)


def segmentation_figure(
    waveform: npt.ArrayLike,
    segmentation: Segmentation,
    features: npt.ArrayLike | None = None,
    *,
    reference: Sequence[Interval] | None = None,
    title: str | None = None,
    start: float = 0.0,
    seconds: float = 6.0,
    offset: int = 0,
    duration: float | None = None,
) -> Any:
    """Return a figure of a recording's log-mel spectrogram, units, reference syllables and feature self-similarity.

    Long stretches are broken into lines of at most six seconds.

    Args:
        waveform: (num_samples,) at 16 kHz.
        segmentation, features: segments, with units or without, and (num_frames, D) features; None leaves
            self-similarity and counts out.
        title: heading of the picture.
        reference: syllables or other intervals of a reference alignment (label, start, end in seconds).
        start, seconds: first second shown, and length of the stretch shown, at most 60.
        offset, duration: frames of the recording before waveform and features, where they are an excerpt, and length of
            the recording in seconds; segmentation, reference and start count from the recording's start.

    Raises:
        InputError: inputs that do not belong together, or nothing to show.
        MissingDependencyError: matplotlib is not installed.
    """
    samples, features_TD, skipped = _check(waveform, segmentation, features, offset)
    whole = skipped + len(samples) / SAMPLE_RATE if duration is None else duration
    check_view(start, seconds, whole)
    first = start
    last = min(start + seconds, skipped + len(samples) / SAMPLE_RATE)
    num_lines = count_lines(first, last)
    strips = [Strip("units", UNITS_HEIGHT, unit_boxes(segmentation))]
    if reference is not None:
        boxes = [Box(float(i.start), float(i.end), plot_label(str(i.label)), "#DCEEF9") for i in reference]
        strips.append(Strip("reference", REFERENCE_HEIGHT, boxes))
    line_height = MEL_HEIGHT + sum(strip.height + STRIP_GAP for strip in strips) + LINE_GAP
    height = TOP + num_lines * line_height + (0 if features_TD is None else MATRIX_SIZE + BOTTOM)
    with drawing(_SETTINGS):
        figure = notebook_figure()(figsize=(WIDTH, height), dpi=100, facecolor="white")
        _heading(figure, title, segmentation, first, last, whole)
        mel = _MelPicture.of(samples, first, last, skipped)
        edges = np.linspace(first, last, num_lines + 1)
        for line in range(num_lines):
            top = height - TOP - line * line_height
            _draw_line(figure, top, mel, segmentation, strips, edges[line], edges[line + 1])
        if features_TD is not None:
            _draw_matrix(figure, features_TD, segmentation, first, last, offset)
            _draw_facts(figure, segmentation, reference, first, last)
    return figure


def check_picture(path: Path) -> None:
    """Refuse (InputError) the name of a picture with an unknown suffix."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a picture's name must end in one of {', '.join(SUFFIXES)}")


def _check(
    waveform: npt.ArrayLike, segmentation: Segmentation, features: npt.ArrayLike | None, offset: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None, float]:
    """Return waveform and features, checked, and the seconds before them."""
    samples = np.asarray(waveform, dtype=np.float64)
    features_TD = None if features is None else np.asarray(features, dtype=np.float64)
    if samples.ndim != 1 or len(samples) == 0 or not np.isfinite(samples).all():
        raise InputError(f"waveform must be a non-empty row of finite samples, not of shape {samples.shape}")
    num_frames = segmentation.num_frames - offset
    if features_TD is not None and (
        features_TD.ndim != 2 or len(features_TD) != num_frames or not np.isfinite(features_TD).all()
    ):
        raise InputError(
            f"features must be finite and of shape ({num_frames}, dims) as the segmentation has "
            f"{num_frames} frames, not {features_TD.shape}"
        )
    if segmentation.sample_rate != SAMPLE_RATE:
        raise InputError(f"pictures are drawn of 16 kHz recordings, not of {segmentation.sample_rate} Hz")
    skipped = offset * segmentation.hop / SAMPLE_RATE
    duration = skipped + len(samples) / SAMPLE_RATE
    if abs(duration - segmentation.duration) > 0.5:
        raise InputError(
            f"the waveform lasts {duration:.2f} s and the segmentation {segmentation.duration:.2f} s: "
            "they are of different recordings"
        )
    return samples, features_TD, skipped


def _heading(
    figure: Any, title: str | None, segmentation: Segmentation, first: float, last: float, duration: float
) -> None:
    height = figure.get_size_inches()[1]
    shown = "" if last - first >= duration - 1e-6 else f"{first:g} to {last:g} s of "
    note = f"{shown}{duration:.2f} s · {1000 * segmentation.hop / segmentation.sample_rate:g} ms per frame"
    y = 1 - 0.28 / height
    figure.text(
        LEFT / WIDTH, y, plot_label(title or "Segmentation"), fontsize=13, fontweight="bold", va="center", ha="left"
    )
    figure.text(1 - RIGHT / WIDTH, y, note, fontsize=10, color=GREY, va="center", ha="right")


@dataclass(frozen=True)
class _MelPicture:
    """Spectrogram at a finer step than the features, so that boundaries can be checked by eye."""

    level_MT: npt.NDArray[np.float64]  # dB below the loudest
    start: float  # seconds at its left and right edges
    end: float

    @classmethod
    def of(cls, samples: npt.NDArray[np.float64], first: float, last: float, skipped: float = 0.0) -> _MelPicture:
        """Return the picture from second first to last of samples that begin at second ``skipped``."""
        half = MEL_WINDOW // 2
        begin, stop = round((first - skipped) * SAMPLE_RATE), round((last - skipped) * SAMPLE_RATE)
        # With half a window before and behind, frame t is centred on sample begin + t * MEL_HOP.
        piece = np.pad(samples, half)[begin : stop + 2 * half]
        level_TM = log_mel(piece, num_mels=MEL_BANDS, hop=MEL_HOP, window=MEL_WINDOW, low=MEL_LOW, high=MEL_HIGH)
        level_MT = level_TM.T.astype(np.float64) * 10 / np.log(10)
        start = skipped + (begin - MEL_HOP / 2) / SAMPLE_RATE
        return cls(level_MT - level_MT.max(), start, start + len(level_TM) * MEL_HOP / SAMPLE_RATE)


def _mel_row(hertz: float) -> float:
    """Return the height of a frequency in the spectrogram, in rows: band m spans rows m to m + 1."""
    return float(np.interp(hertz, mel_centres(MEL_BANDS, MEL_LOW, MEL_HIGH), np.arange(MEL_BANDS) + 0.5))


def _draw_line(
    figure: Any,
    top: float,
    mel: _MelPicture,
    segmentation: Segmentation,
    strips: list[Strip],
    first: float,
    last: float,
) -> None:
    """Draw one line of the picture: spectrogram with boundaries, and the strips below it."""
    width = WIDTH - LEFT - RIGHT
    axes = place_axes(figure, LEFT, top - MEL_HEIGHT, width, MEL_HEIGHT)
    look: dict[str, Any] = {"cmap": "magma", "vmin": -65, "vmax": -3, "aspect": "auto", "interpolation": "bilinear"}
    axes.imshow(mel.level_MT, origin="lower", extent=(mel.start, mel.end, 0, MEL_BANDS), **look)
    boundaries = segmentation.boundaries * (segmentation.hop / segmentation.sample_rate)
    inside = boundaries[(boundaries > first) & (boundaries < last)]
    axes.vlines(inside, 0, MEL_BANDS, colors="white", linewidth=0.9, alpha=0.9)
    kilohertz = (0.25, 0.5, 1, 2, 4)
    axes.set_yticks([_mel_row(1000 * k) for k in kilohertz], [f"{k:g}" for k in kilohertz])
    axes.set_ylabel("kHz")
    axes.set_xlim(first, last)
    axes.set_ylim(0, MEL_BANDS)
    axes.tick_params(labelbottom=False, bottom=False)
    bottom = top - MEL_HEIGHT
    for strip in strips:
        bottom -= strip.height + STRIP_GAP
        axes = place_axes(figure, LEFT, bottom, width, strip.height)
        draw_strip(axes, strip, first, last, width)
        axes.set_ylabel(strip.name, rotation=0, ha="right", va="center", labelpad=6)
        axes.tick_params(labelbottom=False, bottom=False)
    axes.tick_params(labelbottom=True, bottom=True)
    axes.set_xlabel("time (s)", labelpad=2)


# Self-similarity


def self_similarity(features_TD: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the (T, T) cosine similarity of frames without their mean frame, which would drown the contrast."""
    centred_TD = features_TD - features_TD.mean(axis=0)
    length_T1 = np.linalg.norm(centred_TD, axis=1, keepdims=True)
    unit_TD = np.divide(centred_TD, length_T1, out=np.zeros_like(centred_TD), where=length_T1 > 0)
    return unit_TD @ unit_TD.T


def draw_similarity(
    axes: Any,
    features_TD: npt.NDArray[np.floating[Any]],
    segmentation: Segmentation,
    first: float,
    last: float,
    *,
    colours: str = "Greys",
    line_width: float = 1.3,
    offset: int = 0,
) -> Any:
    """Draw the self-similarity of a stretch of features, its segments as squares.

    Args:
        axes, colours, line_width: axes of a figure, name of a colour map, width of the squares' lines in points.
        features_TD, segmentation: (num_frames, D) features, and segments of the recording.
        first, last: ends of the stretch in seconds.
        offset: frames of the recording before the features.

    Returns:
        The image, for a colour bar; None where the stretch has no frame.
    """
    step = segmentation.hop / segmentation.sample_rate
    start = round(first / step)
    stop = max(start + 1, round(last / step))
    shown_TD = np.asarray(features_TD[start - offset : stop - offset], dtype=np.float64)
    image = None
    if len(shown_TD):
        low, high = start * step, (start + len(shown_TD)) * step
        extent = (low, high, high, low)
        image = axes.imshow(self_similarity(shown_TD), cmap=colours, vmin=-0.2, vmax=1.0, extent=extent, aspect="auto")
    for left, right in segmentation.seconds.tolist():
        if right > first and left < last:
            x, y = [left, right, right, left, left], [left, left, right, right, left]
            axes.plot(x, y, color=VERMILLION, linewidth=line_width, solid_joinstyle="miter")
    axes.set_xlim(first, last)
    axes.set_ylim(last, first)
    axes.set_xlabel("time (s)", labelpad=2)
    axes.set_ylabel("time (s)")
    return image


def _draw_matrix(
    figure: Any,
    features_TD: npt.NDArray[np.float64],
    segmentation: Segmentation,
    first: float,
    last: float,
    offset: int,
) -> None:
    axes = place_axes(figure, LEFT, BOTTOM, MATRIX_SIZE, MATRIX_SIZE)
    axes.set_title("Self-similarity of the features, segments as squares", fontsize=10, loc="left", pad=6)
    line_width = 1.3 if last - first <= LINE_SECONDS else 0.8
    image = draw_similarity(axes, features_TD, segmentation, first, last, line_width=line_width, offset=offset)
    if image is not None:
        bar = figure.colorbar(image, cax=place_axes(figure, LEFT + MATRIX_SIZE + 0.12, BOTTOM, 0.16, MATRIX_SIZE))
        bar.set_label("cosine similarity, mean frame removed")
        bar.outline.set_visible(False)


# Facts


def _draw_facts(
    figure: Any, segmentation: Segmentation, reference: Sequence[Interval] | None, first: float, last: float
) -> None:
    """Draw numbers and the distribution of lengths, of the segments whose middle is shown."""
    seconds = segmentation.seconds
    middle = seconds.mean(axis=1)
    shown = (middle >= first) & (middle < last)
    lengths = 1000 * (seconds[shown, 1] - seconds[shown, 0])
    rows = [(f"{shown.sum()}", "segments"), (f"{shown.sum() / (last - first):.1f}", "segments per second")]
    if segmentation.unit is not None:
        rows.append((f"{len(np.unique(segmentation.unit[shown]))}", "different units"))
    if len(lengths):
        rows.append((f"{np.median(lengths):.0f}", "ms median length"))
    reference_lengths = np.array([])
    if reference is not None:
        inside = [interval for interval in reference if first <= (interval.start + interval.end) / 2 < last]
        reference_lengths = 1000 * np.array([interval.end - interval.start for interval in inside])
        rows.append((f"{len(inside)}", "reference intervals"))
    left, width = LEFT + MATRIX_SIZE + 1.75, WIDTH - RIGHT - (LEFT + MATRIX_SIZE + 1.75)
    height = figure.get_size_inches()[1]
    for number, (value, meaning) in enumerate(rows):
        y = (BOTTOM + MATRIX_SIZE - 0.2 - 0.36 * number) / height
        figure.text((left + 0.75) / WIDTH, y, value, fontsize=15, fontweight="bold", ha="right", va="baseline")
        figure.text((left + 0.87) / WIDTH, y, meaning, fontsize=11, color=GREY, ha="left", va="baseline")
    axes = place_axes(figure, left, BOTTOM, width, 3.5)
    longest = max([200.0, *lengths.tolist(), *reference_lengths.tolist()])
    frame = 1000 * segmentation.hop / segmentation.sample_rate
    # Edges between whole numbers of frames, where no length can fall.
    bins = np.arange(0.5 * frame, longest + 2 * frame, 2 * frame)
    axes.hist(lengths, bins=bins, color=VERMILLION, alpha=0.85, label="segments", edgecolor="white", linewidth=0.6)
    if len(reference_lengths):
        axes.hist(reference_lengths, bins=bins, histtype="step", color=BLUE, linewidth=1.8, label="reference")
        axes.legend(frameon=False, fontsize=9)
    axes.set_xlim(0, bins[-1])
    axes.set_title("Lengths", fontsize=10, loc="left", pad=6)
    axes.set_xlabel("length (ms)", labelpad=2)
    axes.set_ylabel("count")
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.get_major_locator().set_params(integer=True)
