"""The picture of one recording, from its file and the name of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syllablelm.core.errors import InputError, plural
from syllablelm.core.results import Record
from syllablelm.data.alignment import Interval, read_alignments
from syllablelm.data.audio import load_audio
from syllablelm.report.segmentation_figure import plot_segmentation
from syllablelm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class RecordingPicture(Record):
    """A picture that ``plot_recording`` drew: its file, and segments and seconds of the whole recording."""

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
    waveform = load_audio(audio)
    reference = None if alignment is None else _reference(Path(alignment), audio.stem)
    tokenizer = model if isinstance(model, Tokenizer) else Tokenizer.load(model, **options)
    segmentation, features = tokenizer.encode_with_features(waveform)
    picture = Path(out) if out is not None else Path(audio.stem + ".png")
    view: Any = {"path": picture, "reference": reference, "title": audio.name, "start": start, "seconds": seconds}
    plot_segmentation(waveform, segmentation, features, **view)
    return RecordingPicture(str(picture), len(segmentation), segmentation.duration)


def _reference(path: Path, name: str) -> tuple[Interval, ...]:
    """Return the syllables of the recording of this name, or of the only recording that the file holds."""
    found = read_alignments(path)
    if name not in found and len(found) != 1:
        raise InputError(f"{path}: none of its {plural(len(found), 'alignment')} has the id {name!r}")
    return found.get(name, next(iter(found.values()))).syllables
