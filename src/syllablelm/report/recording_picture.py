"""The picture of one recording, from its file and the name of a tokenizer."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from syllablelm.core.errors import InputError, plural
from syllablelm.core.files import refuse_inputs
from syllablelm.core.pictures import import_matplotlib
from syllablelm.core.results import Record
from syllablelm.core.segmentation import Segmentation
from syllablelm.core.unit_strip import LINE_SECONDS, check_view
from syllablelm.data.alignment import Interval, read_alignments
from syllablelm.data.audio import SAMPLE_RATE, audio_info, load_audio
from syllablelm.data.samples import AudioInput
from syllablelm.data.source import FloatArray
from syllablelm.report.segmentation_figure import check_picture, plot_segmentation, segmentation_figure
from syllablelm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class RecordingPicture(Record):
    """A picture that ``plot_recording`` drew: its file, and segments and seconds of the part that was encoded.

    That is all of a recording no longer than a window of the tokenizer (60 s), else the windows around what is shown.
    """

    picture: str
    segments: int
    seconds: float


def plot_recording(
    audio: str | Path,
    model: str | Path | Tokenizer = "small",
    *,
    out: str | Path | None = None,
    alignment: str | Path | None = None,
    start: float = 0.0,
    seconds: float = 6.0,
    **options: Any,
) -> RecordingPicture:
    """Encode a recording and draw its spectrogram, units, self-similarity and, if given, its reference syllables.

    Of a long recording only the windows around what is shown are read and encoded; the units are those of the whole
    (of a codec, which reads whole recordings, those of these windows).

    Args:
        audio: the recording's file.
        model, options: a tokenizer; or name and options for ``Tokenizer.load``: device, rate, rule, delta, ...
        out: picture to write (.png, .svg or .pdf); by default the recording's name with .png, in the current folder.
        alignment: alignments that hold the recording by the name of its file, or one alignment alone.
        start, seconds: first second shown, and length of the stretch shown, at most 60.

    Raises:
        AudioError, FormatError, InputError, MissingDependencyError: unusable inputs, or no matplotlib.
    """
    audio = Path(audio)
    picture = Path(out) if out is not None else Path(audio.stem + ".png")
    refuse_inputs([picture], [audio, *([] if alignment is None else [alignment])])
    check_picture(picture)
    parts, view = _encoded(audio, model, alignment, start, seconds, options)
    plot_segmentation(*parts, path=picture, **view)
    encoded = parts[1]
    return RecordingPicture(str(picture), len(encoded), encoded.duration - view["offset"] * encoded.hop / SAMPLE_RATE)


def plot(
    audio: AudioInput | Segmentation,
    segmentation: Segmentation | None = None,
    *,
    model: str | Path | Tokenizer = "small",
    alignment: str | Path | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    sampling_rate: int | None = None,
    **options: Any,
) -> Any:
    """Return a matplotlib figure of a recording and its units, which a notebook shows.

    Args:
        audio, sampling_rate: a recording, see ``load_audio``; or a segmentation, whose units alone are drawn.
        segmentation: units of the recording; by default ``model`` encodes it, and self-similarity is drawn too.
        model, options, alignment: see ``plot_recording``.
        start, seconds: first second shown, and length of the stretch shown, at most 60; by default 6 s of a recording
            and all of a segmentation.

    Raises:
        AudioError, FormatError, InputError, MissingDependencyError: unusable inputs, or no matplotlib.
    """
    if isinstance(audio, Segmentation):
        return audio.plot(start=start, seconds=seconds)
    import_matplotlib()
    seconds = LINE_SECONDS if seconds is None else seconds
    if segmentation is None and isinstance(audio, str | os.PathLike) and sampling_rate is None:
        parts, view = _encoded(Path(audio), model, alignment, start, seconds, options)
        return segmentation_figure(*parts, **view)
    waveform, features = load_audio(audio, sampling_rate=sampling_rate), None
    check_view(start, seconds, len(waveform) / SAMPLE_RATE)
    reference = None if alignment is None else _reference(Path(alignment), "")
    if segmentation is None:
        segmentation, features = _open(model, options).encode_with_features(waveform)
    return segmentation_figure(waveform, segmentation, features, reference=reference, start=start, seconds=seconds)


def _open(model: str | Path | Tokenizer, options: dict[str, Any]) -> Tokenizer:
    return model if isinstance(model, Tokenizer) else Tokenizer.load(model, **options)


def _encoded(
    audio: Path,
    model: str | Path | Tokenizer,
    alignment: str | Path | None,
    start: float,
    seconds: float,
    options: dict[str, Any],
) -> tuple[tuple[FloatArray, Segmentation, FloatArray], dict[str, Any]]:
    """Encode what is shown of a file; return the arguments of ``segmentation_figure``, in order and by name."""
    info = audio_info(audio)
    check_view(start, seconds, info.seconds)
    reference = None if alignment is None else _reference(Path(alignment), audio.stem)
    tokenizer = _open(model, options)
    offset, stop = tokenizer.grid.around(start, start + seconds, tokenizer.encoder.sample_rate)
    begin, end = (
        edge * info.sample_rate // tokenizer.encoder.sample_rate for edge in (offset * tokenizer.grid.hop, stop)
    )
    whole = info.seconds <= tokenizer.window_seconds
    if whole:
        offset = 0
    waveform = load_audio(audio) if whole else load_audio(audio, start=begin, stop=min(end, info.num_samples))
    encoded, features = tokenizer.encode_with_features(waveform)
    shifted = {"start": encoded.start + offset, "end": encoded.end + offset, "num_frames": encoded.num_frames + offset}
    view = {"reference": reference, "title": audio.name, "start": start, "seconds": seconds, "offset": offset}
    return (waveform, replace(encoded, **shifted), features), {**view, "duration": info.seconds}


def _reference(path: Path, name: str) -> tuple[Interval, ...]:
    """Return the syllables of the recording of this name, or of the only recording that the file holds."""
    found = read_alignments(path)
    if name in found.unusable:
        raise found.unusable[name]
    if name not in found and len(found) != 1:
        raise InputError(f"{path}: none of its {plural(len(found), 'alignment')} has the id {name!r}")
    return found.get(name, next(iter(found.values()))).syllables
