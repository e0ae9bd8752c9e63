"""Resynthesis and continuation of audio files: one wave file and one record per recording."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import AudioError, InputError, SyllableLMError, and_more, check_positive
from syllablelm.core.files import file_below, file_key, refuse_inputs
from syllablelm.core.results import Record
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE, check_waveform, save_audio
from syllablelm.data.corpus import SkippedFile, no_usable, read_recordings
from syllablelm.data.level import Level
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.lm.decode import Sampling
from syllablelm.tokenizer.recordings import group_recordings
from syllablelm.vocoder.speech_model import SpeechModel

Waves = list[npt.NDArray[np.float32]]
# Returns the sound and the further fields of the record of each recording, given waveforms and units.
Speak = Callable[[SpeechModel, Waves, list[Segmentation]], list[tuple[npt.NDArray[np.float32], dict[str, Any]]]]
# Recordings per batch; what a stopped run loses.
BATCH_RECORDINGS = 16


@dataclass(frozen=True, kw_only=True)
class SpokenFile(Record):
    """A wave file that was written.

    Args:
        seconds, took_seconds: its length; time that it took, shared equally among the recordings of a batch.
        dbfs, clipped_share: level and share of clipped samples, see ``Level``.
    """

    id: str
    path: str
    seconds: float
    took_seconds: float
    dbfs: float | None
    clipped_share: float


@dataclass(frozen=True, kw_only=True)
class ResynthesizedFile(SpokenFile):
    """A resynthesized recording, with its number of units."""

    units: int


@dataclass(frozen=True, kw_only=True)
class ContinuedFile(SpokenFile):
    """A continuation of a recording: number of units and level of the prompt, and the units of the continuation."""

    prompt_units: int
    prompt_dbfs: float | None
    unit: tuple[int, ...]


def resynthesize_files(
    audio: str | Path | Sequence[str | Path],
    out: str | Path,
    model: str | Path = "small",
    *,
    temperature: float = 0.8,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    skipped: list[SkippedFile] | None = None,
) -> Iterator[ResynthesizedFile]:
    """Resynthesize recordings from their units, batch by batch, and yield a record per written file.

    Args:
        audio: files, folders and patterns, or one manifest.
        out: folder of the wave files, one per recording, or a ``.wav`` file for a single recording.
        model, device: bundled name, folder or hub id of a model with language model and vocoder; see ``load_encoder``.
        temperature, seed: sampling temperature of the vocoder LM (0 is greedy), and random seed of every recording.
        overwrite: replace wave files that exist.
        skipped: list to which unusable recordings are added.

    Raises:
        InputError: no usable recording, or wave files that exist; nothing is written then.
        FormatError: no such model, or one without a vocoder.
    """
    # Checked before any model is opened.
    Sampling(temperature, seed=seed)

    def speak(speech: SpeechModel, waves: Waves, units: list[Segmentation]) -> Any:
        sounds = speech.resynthesizer.decode_many(units, seeds=[seed] * len(units), temperature=temperature)
        return [(sound, {"units": len(part)}) for sound, part in zip(sounds, units, strict=True)]

    for facts in _speak_files(audio, out, overwrite, model, device, speak, skipped):
        yield ResynthesizedFile(**facts)


def continue_files(
    audio: str | Path | Sequence[str | Path],
    out: str | Path,
    model: str | Path = "small",
    *,
    seconds: float = 10.0,
    prompt_seconds: float | None = None,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    vocoder_temperature: float = 0.8,
    context: int | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    skipped: list[SkippedFile] | None = None,
) -> Iterator[ContinuedFile]:
    """Continue recordings, batch by batch; the wave files hold the continuations alone.

    Args:
        seconds: length of the continuations.
        prompt_seconds: length of the prompts, the beginnings of the recordings; None takes whole recordings.
        temperature, top_k, top_p: sampling of units, see ``Sampling``.
        vocoder_temperature: sampling temperature of the vocoder LM; 0 is greedy.
        context: context length of the language model in tokens, see ``SpeechLM``.
        audio, out, model, seed, device, overwrite, skipped: see ``resynthesize_files``, the yields and errors too.
    """
    if prompt_seconds is not None:
        check_positive("--prompt-seconds", prompt_seconds)
    check_positive("--seconds", seconds)
    sampling = Sampling(temperature, top_k, top_p, seed)
    Sampling(vocoder_temperature)

    def speak(speech: SpeechModel, waves: Waves, prompts: list[Segmentation]) -> Any:
        # One seed for all, so that a continuation does not depend on its batch.
        drawn = speech.lm.generate(prompts, seconds, seeds=[seed] * len(prompts), **asdict(sampling))
        found = speech.speak_continuations(waves, prompts, drawn, seed=seed, temperature=vocoder_temperature)
        units = [() if one.units.unit is None else tuple(one.units.unit.tolist()) for one in found]
        return [
            (one.waveform, {"prompt_units": len(one.prompt), "prompt_dbfs": Level.of(wave).dbfs, "unit": unit})
            for wave, one, unit in zip(waves, found, units, strict=True)
        ]

    for facts in _speak_files(audio, out, overwrite, model, device, speak, skipped, prompt_seconds, context):
        yield ContinuedFile(**facts)


def _speak_files(
    audio: str | Path | Sequence[str | Path],
    out: str | Path,
    overwrite: bool,
    model: str | Path,
    device: str,
    speak: Speak,
    skipped: list[SkippedFile] | None,
    max_seconds: float | None = None,
    context: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Open the model, speak (the first ``max_seconds`` of) every recording into its own file, yield its fields."""
    skipped = [] if skipped is None else skipped
    paths = [str(path) for path in ([audio] if isinstance(audio, str | Path) else audio)]
    manifest, unusable = read_recordings(paths)
    if not manifest:
        raise no_usable(unusable)
    targets = _wave_files(manifest, paths, Path(out), overwrite)
    speech = SpeechModel.load(model, device=device, context=context)
    rate, done, before = speech.resynthesizer.sample_rate, 0, len(skipped)
    written: set[tuple[int, int] | None] = set()
    skipped += unusable
    for group in group_recordings(manifest, speech.tokenizer.window_seconds):
        for first in range(0, len(group), BATCH_RECORDINGS):
            started = time.monotonic()
            batch = _encode_batch(speech, group[first : first + BATCH_RECORDINGS], max_seconds, skipped)
            spoken = _speak_batch(speech, batch, speak, skipped)
            took = round((time.monotonic() - started) / max(len(spoken), 1), 3)
            for id, (wave, facts) in spoken:
                # Where the file system takes two names for one: the same but for case or accents, or behind a link.
                if file_key(targets[id]) in written:
                    raise InputError(f"{targets[id]}: would hold two recordings; give them other ids")
                save_audio(targets[id], wave, rate)
                written.add(file_key(targets[id]))
                done += 1
                times, level = {"seconds": len(wave) / rate, "took_seconds": took}, Level.of(wave)
                sound = {"dbfs": level.dbfs, "clipped_share": level.clipped_share}
                yield {"id": id, "path": str(targets[id]), **times, **sound, **facts}
    if not done:
        failures = skipped[before:]
        more = f" (and {len(failures) - 1} other recordings failed too)" if len(failures) > 1 else ""
        raise InputError(f"{failures[0].path}: {failures[0].reason}{more}")


def _wave_files(manifest: Manifest, paths: Sequence[str], out: Path, overwrite: bool) -> dict[str, Path]:
    """Return the wave file of each recording, by id; files that must not be replaced are an InputError."""
    if out.suffix.lower() == ".wav" and not out.is_dir():
        if len(manifest) > 1:
            raise InputError(f"{out}: one file for {len(manifest)} recordings; give a folder as --out")
        files = {manifest[0].id: out}
    else:
        files = {recording.id: file_below(out, recording.id, ".wav") for recording in manifest}
    shared = [file for file, count in Counter(files.values()).items() if count > 1]
    if shared:
        raise InputError(f"{shared[0]}: would hold two recordings{and_more(len(shared))}; give them other ids")
    existing = [file for file in files.values() if file.exists()]
    refuse_inputs(existing, [*paths, *(recording.path for recording in manifest)])
    if existing and not overwrite:
        raise InputError(
            f"{existing[0]}: exists{and_more(len(existing))}; choose another --out, or give --overwrite to replace it"
        )
    return files


def _encode_batch(
    speech: SpeechModel, batch: Sequence[Recording], max_seconds: float | None, skipped: list[SkippedFile]
) -> list[tuple[str, npt.NDArray[np.float32], Segmentation]]:
    """Return id, waveform and units of recordings; those without units are added to ``skipped``."""
    stop = None if max_seconds is None else round(max_seconds * SAMPLE_RATE)
    waves: dict[str, npt.NDArray[np.float32]] = {}
    for recording in batch:
        try:
            waves[recording.id] = check_waveform(recording.load()[:stop], name="the beginning that is used")
        except AudioError as error:
            skipped.append(SkippedFile(Path(recording.id), str(error)))
    encoded = []
    for (id, wave), units in zip(waves.items(), speech.tokenizer.encode(list(waves.values())), strict=True):
        if len(units):
            encoded.append((id, wave, units))
        else:
            seconds = len(wave) / SAMPLE_RATE
            reason = f"{seconds:.2f} s are shorter than one unit; give at least a second"
            skipped.append(SkippedFile(Path(id), reason))
    return encoded


def _speak_batch(
    speech: SpeechModel,
    batch: list[tuple[str, npt.NDArray[np.float32], Segmentation]],
    speak: Speak,
    skipped: list[SkippedFile],
) -> list[tuple[str, tuple[npt.NDArray[np.float32], dict[str, Any]]]]:
    """Speak units as one batch; recordings that fail are added to ``skipped``."""
    if not batch:
        return []
    ids, waves, units = (list(column) for column in zip(*batch, strict=True))
    try:
        return list(zip(ids, speak(speech, waves, units), strict=True))
    except SyllableLMError as error:
        if len(batch) == 1:
            skipped.append(SkippedFile(Path(ids[0]), str(error)))
            return []
    # An error leaves a batch without results; alone, the other recordings sound as they would have.
    return [spoken for one in batch for spoken in _speak_batch(speech, [one], speak, skipped)]
