"""Actions of the demo page: one recording in; files, tables and a summary out. Independent of gradio."""

from __future__ import annotations

import filecmp
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from syllablelm.core.config import check_seed
from syllablelm.core.errors import InputError, SyllableLMError
from syllablelm.core.models import BUNDLED, find_model
from syllablelm.core.segmentation import Segmentation
from syllablelm.core.unit_strip import TINTS, Box, unit_boxes
from syllablelm.data.alignment import Interval, read_alignments
from syllablelm.data.audio import SAMPLE_RATE, audio_info, load_audio, resample, save_audio
from syllablelm.demo.timeline import Track, draw_timeline
from syllablelm.formats import open_writer
from syllablelm.formats.record import to_record

# The page's own process imports this module for the names, and does without torch.
if TYPE_CHECKING:
    from syllablelm.tokenizer.tokenizer import Features, Tokenizer, Waveform
    from syllablelm.vocoder.speech_model import SpeechModel

Progress = Callable[[float, str], object]
"""Called with the finished share of the work, from 0 to 1, and the name of the current step."""

SAMPLE = BUNDLED / "sample.flac"
SAMPLE_ALIGNMENT = BUNDLED / "sample.alignments.jsonl"
# Longer recordings are for the command line.
LONGEST_SECONDS = 300.0
PICTURE_SECONDS = 12.0
# How much is encoded between two reports of progress.
BLOCK_SECONDS = 5
# The sub-folders of a whole model, as `train bundle` writes it, beside the tokenizer's own files.
SPEECH_FOLDERS = ("lm", "vocoder")


@dataclass(frozen=True)
class DemoModel:
    """The model of the page: name as given, tokenizer, and all three parts; None where it is a tokenizer only."""

    name: str
    tokenizer: Tokenizer
    speech: SpeechModel | None

    @classmethod
    def load(cls, name: str, *, device: str = "auto") -> DemoModel:
        """Open a model by a name for ``Tokenizer.load``; "small" and models of ``train bundle`` have a vocoder too."""
        from syllablelm.tokenizer.tokenizer import Tokenizer
        from syllablelm.vocoder.speech_model import SpeechModel

        folder = find_model(name)
        if all((folder / part).is_dir() for part in SPEECH_FOLDERS):
            speech = SpeechModel.load(folder, device=device)
            return cls(name, speech.tokenizer, speech)
        return cls(name, Tokenizer.load(folder, device=device), None)


@dataclass(frozen=True)
class UnitsShown:
    """The units of a recording.

    Args:
        summary, picture: a line (number of units, rate, ...), and a .png of spectrogram, units and self-similarity.
        rows, record: see ``unit_rows``, and the record of ``tokenize``, in frames.
        jsonl, textgrid: files to download.
        timeline: HTML, see ``draw_timeline``.
    """

    summary: str
    picture: Path
    rows: list[list[Any]]
    record: dict[str, Any]
    jsonl: Path
    textgrid: Path
    timeline: str


@dataclass(frozen=True)
class Spoken:
    """Synthesized speech: a summary, two wave files to compare, and HTML with their segments (``draw_timeline``)."""

    summary: str
    first: Path
    second: Path
    timeline: str


def _ignore(share: float, step: str) -> None: ...


def show_units(
    model: DemoModel, audio: str | None, scratch: Path, *, start: float | None = 0.0, progress: Progress = _ignore
) -> UnitsShown:
    """Encode a recording and draw a part of it; of the bundled sample the reference syllables, too.

    Args:
        model, audio, scratch: the model of the page, path of the recording (None without), and folder for results.
        start: first second of the picture.
        progress: see ``Progress``.

    Raises:
        AudioError, InputError: an unusable recording, or a picture that starts after its end.
        MissingDependencyError: matplotlib or praatio is not installed.
    """
    from syllablelm.report.segmentation_figure import plot_segmentation

    wave = _load(audio)
    segmentation, features = _encode(model, wave, 0.8, progress)
    if segmentation.num_frames == 0:
        raise InputError(f"the recording of {len(wave)} samples is shorter than one frame; record at least a second")
    progress(0.8, "Drawing")
    folder, source = Path(tempfile.mkdtemp(dir=scratch)), Path(str(audio))
    picture, sound = folder / f"{source.stem}.png", folder / f"{source.stem}_original.wav"
    reference = _reference(source)
    plot_segmentation(
        wave,
        segmentation,
        features,
        path=picture,
        reference=reference,
        title=source.name,
        start=_number(start, "the picture's first second"),
        seconds=PICTURE_SECONDS,
    )
    targets = {"jsonl": folder / f"{source.stem}.jsonl", "textgrid": folder / "textgrid"}
    for form, target in targets.items():
        with open_writer(target, form) as writer:
            writer.write(source.stem, source.name, segmentation)
    save_audio(sound, wave)
    tracks = [Track("Units", sound, unit_boxes(segmentation), wave)]
    if reference is not None:
        boxes = [Box(float(i.start), float(i.end), str(i.label), TINTS[1]) for i in reference]
        tracks.append(Track("Reference syllables", sound, boxes))
    return UnitsShown(
        segmentation.summary,
        picture,
        unit_rows(segmentation),
        to_record(source.stem, source.name, segmentation),
        targets["jsonl"],
        next(targets["textgrid"].iterdir()),
        draw_timeline(tracks, len(wave) / SAMPLE_RATE),
    )


def unit_rows(segmentation: Segmentation) -> list[list[Any]]:
    """Return [unit, start (s), end (s), length (ms)] of every segment; the unit is "" without a codebook."""
    units = [""] * len(segmentation) if segmentation.unit is None else segmentation.unit.tolist()
    return [
        [unit, round(start, 3), round(end, 3), round(1000 * (end - start))]
        for unit, (start, end) in zip(units, segmentation.seconds.tolist(), strict=True)
    ]


def resynthesize(
    model: DemoModel, audio: str | None, scratch: Path, *, seed: float | None = 0, progress: Progress = _ignore
) -> Spoken:
    """Resynthesize a recording from its units: the original at 16 kHz and the resynthesis; see ``show_units``."""
    speech = _speech(model)
    number = _seed(seed)
    wave = _load(audio)
    units, _ = _encode(model, wave, 0.7, progress)
    progress(0.7, "Synthesizing")
    spoken = speech.resynthesizer.decode(units, seed=number)
    folder, stem = Path(tempfile.mkdtemp(dir=scratch)), Path(str(audio)).stem
    original, resynthesis = folder / f"{stem}_original.wav", folder / f"{stem}_resynthesis.wav"
    save_audio(original, wave)
    rate = speech.resynthesizer.sample_rate
    save_audio(resynthesis, spoken, rate)
    segments = unit_boxes(units)
    tracks = [Track("Original", original, segments, wave), Track("Resynthesis", resynthesis, segments, spoken, rate)]
    timeline = draw_timeline(tracks, len(wave) / SAMPLE_RATE)
    return Spoken(f"Spoken from {units.summary}", original, resynthesis, timeline)


def continue_recording(
    model: DemoModel,
    audio: str | None,
    scratch: Path,
    *,
    prompt_seconds: float | None = 3.0,
    seconds: float | None = 10.0,
    temperature: float | None = 0.8,
    seed: float | None = 0,
    progress: Progress = _ignore,
) -> Spoken:
    """Continue the beginning of a recording; return prompt and continuation in one file, and the continuation alone.

    Args:
        model, audio, scratch, progress: see ``show_units``.
        prompt_seconds, seconds: length of the prompt, at most the recording's, and of the continuation.
        temperature, seed: sampling temperature of the language model (0 is greedy), and random seed.
    """
    speech = _speech(model)
    number = _seed(seed)
    given = _number(prompt_seconds, "the prompt's length")
    if given <= 0:
        raise InputError(f"the prompt's length must be above 0, not {given:g} s")
    wave = _load(audio)[: round(given * SAMPLE_RATE)]
    progress(0.1, "Continuing")
    result = speech.continue_speech(
        wave,
        _number(seconds, "the continuation's length"),
        seed=number,
        temperature=_number(temperature, "the temperature"),
    )
    folder, stem = Path(tempfile.mkdtemp(dir=scratch)), Path(str(audio)).stem
    whole, alone = folder / f"{stem}_continued.wav", folder / f"{stem}_continuation.wav"
    heard = resample(wave, SAMPLE_RATE, result.sample_rate)
    both = np.concatenate([heard, result.waveform])
    save_audio(whole, both, result.sample_rate)
    save_audio(alone, result.waveform, result.sample_rate)
    summary = f"Heard {result.prompt.summary}; went on with {result.units.summary}"
    # The continuation begins where the prompt's samples end, a fraction of a frame after its last frame.
    shift = len(heard) / result.sample_rate
    later = [replace(box, start=box.start + shift, end=box.end + shift) for box in unit_boxes(result.units)]
    tracks = [Track("Prompt, then continuation", whole, [*unit_boxes(result.prompt), *later], both, result.sample_rate)]
    return Spoken(summary, whole, alone, draw_timeline(tracks, len(both) / result.sample_rate))


def check_recording(audio: str | None) -> None:
    """Refuse (InputError, AudioError) a recording that the page does not take: none, unreadable, or too long."""
    if audio is None:
        raise InputError("there is no recording; record or upload one, or take the sample")
    seconds = audio_info(audio).seconds
    if seconds > LONGEST_SECONDS:
        raise InputError(
            f"the recording lasts {seconds:.0f} s, this page takes at most {LONGEST_SECONDS:.0f} s; "
            "cut it, or use the command line"
        )


def explain(error: SyllableLMError, audio: str | None) -> str:
    """Return the message of an error in one line, without folders of the server."""
    message = " ".join(str(error).split())
    return message if audio is None else message.replace(str(Path(audio)), Path(audio).name)


def _load(audio: str | None) -> Waveform:
    check_recording(audio)
    return load_audio(str(audio))


def _encode(model: DemoModel, wave: Waveform, share: float, progress: Progress) -> tuple[Segmentation, Features]:
    """Return units and features; encoding is a share of the whole work."""

    def blocks() -> Iterator[Waveform]:
        for first in range(0, len(wave), BLOCK_SECONDS * SAMPLE_RATE):
            progress(share * first / len(wave), "Encoding")
            yield wave[first : first + BLOCK_SECONDS * SAMPLE_RATE]

    return model.tokenizer.encode_with_features(blocks())


def _reference(audio: Path) -> tuple[Interval, ...] | None:
    """Return the syllables of the bundled sample; None for any other recording."""
    if not filecmp.cmp(audio, SAMPLE, shallow=False):
        return None
    return read_alignments(SAMPLE_ALIGNMENT)[SAMPLE.stem].syllables


def _speech(model: DemoModel) -> SpeechModel:
    if model.speech is None:
        raise InputError(f"{model.name} is a tokenizer only; speaking needs a language model and a vocoder too")
    return model.speech


def _number(value: float | None, what: str) -> float:
    """Return the number of a field of the page; an empty field is None."""
    if value is None:
        raise InputError(f"{what} is missing; give a number")
    return float(value)


def _seed(value: float | None) -> int:
    seed = _number(value, "the seed")
    if not seed.is_integer():
        raise InputError(f"seed {seed:g}: must be a whole number")
    check_seed(int(seed))
    return int(seed)
