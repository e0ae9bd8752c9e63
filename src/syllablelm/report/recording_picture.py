"""The picture of one recording, from its file and the name of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from syllablelm.core.errors import InputError, plural
from syllablelm.core.files import refuse_inputs
from syllablelm.core.results import Record
from syllablelm.data.alignment import Interval, read_alignments
from syllablelm.data.audio import audio_info, load_audio
from syllablelm.report.segmentation_figure import check_picture, check_view, plot_segmentation
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
    info = audio_info(audio)
    check_view(start, seconds, info.seconds)
    reference = None if alignment is None else _reference(Path(alignment), audio.stem)
    tokenizer = model if isinstance(model, Tokenizer) else Tokenizer.load(model, **options)
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
    view: Any = {"path": picture, "reference": reference, "title": audio.name, "start": start, "seconds": seconds}
    plot_segmentation(waveform, replace(encoded, **shifted), features, **view, offset=offset, duration=info.seconds)
    return RecordingPicture(str(picture), len(encoded), encoded.duration)


def _reference(path: Path, name: str) -> tuple[Interval, ...]:
    """Return the syllables of the recording of this name, or of the only recording that the file holds."""
    found = read_alignments(path)
    if name in found.unusable:
        raise found.unusable[name]
    if name not in found and len(found) != 1:
        raise InputError(f"{path}: none of its {plural(len(found), 'alignment')} has the id {name!r}")
    return found.get(name, next(iter(found.values()))).syllables
