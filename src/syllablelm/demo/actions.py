"""Actions of the demo page: one recording in; files, tables and a summary out. Independent of gradio."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.config import check_seed
from syllablelm.core.errors import InputError, SyllableLMError
from syllablelm.core.models import BUNDLED, find_model
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE, audio_info, load_audio, resample, save_audio
from syllablelm.formats import open_writer
from syllablelm.formats.record import to_record
from syllablelm.report.segmentation_figure import plot_segmentation
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.vocoder.speech_model import SpeechModel

SAMPLE = BUNDLED / "sample.flac"
# Longer recordings are for the command line.
LONGEST_SECONDS = 300.0
PICTURE_SECONDS = 12.0
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
    """

    summary: str
    picture: Path
    rows: list[list[Any]]
    record: dict[str, Any]
    jsonl: Path
    textgrid: Path


@dataclass(frozen=True)
class Spoken:
    """Synthesized speech: a summary, and two wave files to compare."""

    summary: str
    first: Path
    second: Path


def show_units(model: DemoModel, audio: str | None, scratch: Path, *, start: float | None = 0.0) -> UnitsShown:
    """Encode a recording and draw a part of it.

    Args:
        model, audio, scratch: the model of the page, path of the recording (None without), and folder for results.
        start: first second of the picture.

    Raises:
        AudioError, InputError: an unusable recording, or a picture that starts after its end.
        MissingDependencyError: matplotlib or praatio is not installed.
    """
    wave = _load(audio)
    segmentation, features = model.tokenizer.encode_with_features(wave)
    if segmentation.num_frames == 0:
        raise InputError(f"the recording of {len(wave)} samples is shorter than one frame; record at least a second")
    folder, source = Path(tempfile.mkdtemp(dir=scratch)), Path(str(audio))
    picture = folder / f"{source.stem}.png"
    plot_segmentation(
        wave,
        segmentation,
        features,
        path=picture,
        title=source.name,
        start=_number(start, "the picture's first second"),
        seconds=PICTURE_SECONDS,
    )
    targets = {"jsonl": folder / f"{source.stem}.jsonl", "textgrid": folder / "textgrid"}
    for form, target in targets.items():
        with open_writer(target, form) as writer:
            writer.write(source.stem, source.name, segmentation)
    return UnitsShown(
        _count_units(segmentation),
        picture,
        unit_rows(segmentation),
        to_record(source.stem, source.name, segmentation),
        targets["jsonl"],
        next(targets["textgrid"].iterdir()),
    )


def unit_rows(segmentation: Segmentation) -> list[list[Any]]:
    """Return [unit, start (s), end (s), length (ms)] of every segment; the unit is "" without a codebook."""
    units = [""] * len(segmentation) if segmentation.unit is None else segmentation.unit.tolist()
    return [
        [unit, round(start, 3), round(end, 3), round(1000 * (end - start))]
        for unit, (start, end) in zip(units, segmentation.seconds.tolist(), strict=True)
    ]


def resynthesize(model: DemoModel, audio: str | None, scratch: Path, *, seed: float | None = 0) -> Spoken:
    """Resynthesize a recording from its units: the original at 16 kHz and the resynthesis; see ``show_units``."""
    speech = _speech(model)
    number = _seed(seed)
    wave = _load(audio)
    units = speech.tokenizer.encode(wave)
    spoken = speech.resynthesizer.decode(units, seed=number)
    folder, stem = Path(tempfile.mkdtemp(dir=scratch)), Path(str(audio)).stem
    original, resynthesis = folder / f"{stem}_original.wav", folder / f"{stem}_resynthesis.wav"
    save_audio(original, wave)
    save_audio(resynthesis, spoken, speech.resynthesizer.sample_rate)
    return Spoken(f"Spoken from {_count_units(units)}", original, resynthesis)


def continue_recording(
    model: DemoModel,
    audio: str | None,
    scratch: Path,
    *,
    prompt_seconds: float | None = 3.0,
    seconds: float | None = 10.0,
    temperature: float | None = 0.8,
    seed: float | None = 0,
) -> Spoken:
    """Continue the beginning of a recording; return prompt and continuation in one file, and the continuation alone.

    Args:
        model, audio, scratch: see ``show_units``.
        prompt_seconds, seconds: length of the prompt, at most the recording's, and of the continuation.
        temperature, seed: sampling temperature of the language model (0 is greedy), and random seed.
    """
    speech = _speech(model)
    number = _seed(seed)
    given = _number(prompt_seconds, "the prompt's length")
    if given <= 0:
        raise InputError(f"the prompt's length must be above 0, not {given:g} s")
    wave = _load(audio)[: round(given * SAMPLE_RATE)]
    result = speech.continue_speech(
        wave,
        _number(seconds, "the continuation's length"),
        seed=number,
        temperature=_number(temperature, "the temperature"),
    )
    folder, stem = Path(tempfile.mkdtemp(dir=scratch)), Path(str(audio)).stem
    whole, alone = folder / f"{stem}_continued.wav", folder / f"{stem}_continuation.wav"
    heard = resample(wave, SAMPLE_RATE, result.sample_rate)
    save_audio(whole, np.concatenate([heard, result.waveform]), result.sample_rate)
    save_audio(alone, result.waveform, result.sample_rate)
    summary = f"Heard {_count_units(result.prompt)}; went on with {_count_units(result.units)}"
    return Spoken(summary, whole, alone)


def explain(error: SyllableLMError, audio: str | None) -> str:
    """Return the message of an error in one line, without folders of the server."""
    message = " ".join(str(error).split())
    return message if audio is None else message.replace(str(Path(audio)), Path(audio).name)


def _load(audio: str | None) -> npt.NDArray[np.float32]:
    if audio is None:
        raise InputError("there is no recording; record or upload one, or take the sample")
    seconds = audio_info(audio).seconds
    if seconds > LONGEST_SECONDS:
        raise InputError(
            f"the recording lasts {seconds:.0f} s, this page takes at most {LONGEST_SECONDS:.0f} s; "
            "cut it, or use the command line"
        )
    return load_audio(audio)


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


def _count_units(segmentation: Segmentation) -> str:
    """ "27 units in 7.00 s (3.9 per second, 22 different)"."""
    count, seconds = len(segmentation), segmentation.duration
    noun = ("segment" if segmentation.unit is None else "unit") + ("" if count == 1 else "s")
    different = "" if segmentation.unit is None else f", {len(np.unique(segmentation.unit))} different"
    rate = count / seconds if seconds else 0.0
    return f"{count} {noun} in {seconds:.2f} s ({rate:.1f} per second{different})"
