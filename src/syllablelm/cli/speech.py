"""``resynthesize``, ``continue`` and ``evaluate resynthesis``: units to sound."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syllablelm.cli.common import (
    DEFAULT_MODEL,
    Audio,
    Device,
    Recognizer,
    RecognizerWorkers,
    Resamples,
    Seed,
    SpeakingModel,
    group_recordings,
    no_usable,
    print_json,
    read_recordings,
)
from syllablelm.core.errors import AudioError, InputError, SyllableLMError, and_more
from syllablelm.core.progress import note

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from syllablelm.core.segmentation import Segmentation
    from syllablelm.data.manifest import Manifest, Recording
    from syllablelm.evaluate.speech.resynthesis import Speak
    from syllablelm.evaluate.units.bitrate import RateCounts
    from syllablelm.vocoder.speech_model import SpeechModel

    Waves = list[npt.NDArray[np.float32]]
    # A recording's id, sound and units; what is spoken, and what to say of it.
    Heard = tuple[str, npt.NDArray[np.float32], Segmentation]
    Spoken = tuple[npt.NDArray[np.float32], dict[str, Any]]
    SpeakUnits = Callable[["SpeechModel", Waves, list[Segmentation]], list[Spoken]]

OutFolder = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Of the wave files, one per recording; subfolders are kept.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace wave files that are there.")]
VocoderTemperature = Annotated[
    float, typer.Option("--vocoder-temperature", help="Of the vocoder's language model, which draws the sounds.")
]
# Recordings spoken as one batch; what a stopped run loses.
TOGETHER = 16


def resynthesize(
    audio: Audio,
    out: OutFolder,
    overwrite: Overwrite = False,
    vocoder_temperature: VocoderTemperature = 0.8,
    model: SpeakingModel = DEFAULT_MODEL,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Speak recordings anew from their units.

    A wave file that is there is replaced with --overwrite only; without it nothing is done.
    """
    from syllablelm.lm.decode import Sampling

    # What cannot be drawn by is refused before any model is opened.
    Sampling(vocoder_temperature)

    def speak(speech: SpeechModel, waves: Waves, units: list[Segmentation]) -> list[Spoken]:
        seeds = [seed] * len(units)
        sounds = speech.resynthesizer.decode_many(units, seeds=seeds, temperature=vocoder_temperature)
        return [(sound, {"units": len(part)}) for sound, part in zip(sounds, units, strict=True)]

    _write_all(audio, out, overwrite, model, device, speak)


def continue_(
    audio: Audio,
    out: OutFolder,
    overwrite: Overwrite = False,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of the continuation.")] = 10.0,
    prompt_seconds: Annotated[
        float | None, typer.Option("--prompt-seconds", help="Use the beginning of each recording only.")
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Of the language model; 0 is greedy.")] = 0.8,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="Of so many likeliest units only; 0 is all.")] = 0,
    top_p: Annotated[float, typer.Option("--top-p", help="Of the likeliest units that reach this probability.")] = 1.0,
    vocoder_temperature: VocoderTemperature = 0.8,
    context: Annotated[
        int | None,
        typer.Option("--context", help="Most units that the language model reads; default its longest in training."),
    ] = None,
    model: SpeakingModel = DEFAULT_MODEL,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Continue recordings; the wave files hold the continuation alone.

    A wave file that is there is replaced with --overwrite only; without it nothing is done.
    """
    if prompt_seconds is not None and not 0 < prompt_seconds < float("inf"):
        raise InputError(f"--prompt-seconds {prompt_seconds}: must be above 0 and finite")
    if not 0 < seconds < float("inf"):
        raise InputError(f"--seconds {seconds}: must be above 0 and finite")
    from syllablelm.lm.decode import Sampling

    # What cannot be drawn by is refused before any model is opened.
    sampling = Sampling(temperature, top_k, top_p, seed)
    Sampling(vocoder_temperature)

    def speak(speech: SpeechModel, waves: Waves, prompts: list[Segmentation]) -> list[Spoken]:
        # The same seed for all, so that none depends on what stands beside it.
        drawn = speech.lm.generate(prompts, seconds, seeds=[seed] * len(prompts), **asdict(sampling))
        found = speech.speak_continuations(waves, prompts, drawn, seed=seed, temperature=vocoder_temperature)
        return [(one.waveform, {"prompt_units": len(one.prompt), "unit": _unit_list(one.units)}) for one in found]

    _write_all(audio, out, overwrite, model, device, speak, most_seconds=prompt_seconds, context=context)


def _unit_list(segmentation: Segmentation) -> list[int]:
    return [] if segmentation.unit is None else segmentation.unit.tolist()


def _write_all(
    audio: list[str],
    out: Path,
    overwrite: bool,
    model: str,
    device: str,
    speak: SpeakUnits,
    most_seconds: float | None = None,
    context: int | None = None,
) -> None:
    """Open the models, speak every recording into its own file, print one JSON line for each.

    Args:
        most_seconds: use the beginning of each recording only.
        context: of the language model.
    """
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    targets = _wave_files(manifest, out, overwrite)
    from syllablelm.data.audio import save_audio
    from syllablelm.vocoder.speech_model import SpeechModel

    speech = SpeechModel.load(model, device=device, context=context)
    rate = speech.resynthesizer.sample_rate
    failures = [f"{item.path}: {item.reason}" for item in skipped]
    for group in group_recordings(manifest, speech.tokenizer.window_seconds):
        for first in range(0, len(group), TOGETHER):
            started = time.monotonic()
            heard = _hear(speech, group[first : first + TOGETHER], most_seconds, failures)
            spoken = _speak_together(heard, partial(speak, speech), failures)
            # Of what a batch took, each has the same share.
            taken = round((time.monotonic() - started) / max(len(spoken), 1), 3)
            for id, (wave, facts) in spoken:
                save_audio(targets[id], wave, rate)
                times = {"seconds": len(wave) / rate, "took_seconds": taken}
                print_json({"id": id, "path": str(targets[id]), **times, **facts})
    total = len(manifest) + len(skipped)
    if len(failures) == total:
        more = f" (and {total - 1} other recordings failed too)" if total > 1 else ""
        raise InputError(failures[0] + more)
    for failure in failures:
        note(f"skipped {failure}")


def _wave_files(manifest: Manifest, out: Path, overwrite: bool) -> dict[str, Path]:
    """Where each recording's wave file goes, by id.

    Raises:
        InputError: ids that cannot name files of their own, or files that must not be replaced.
    """
    from syllablelm.core.files import file_below

    files = {recording.id: file_below(out, recording.id, ".wav") for recording in manifest}
    twice = [file for file, count in Counter(files.values()).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]}: would hold two recordings{and_more(len(twice))}; give them other ids")
    existing = [file for file in files.values() if file.exists()]
    sources = {os.path.realpath(recording.path) for recording in manifest}
    own = [file for file in existing if os.path.realpath(file) in sources]
    if own:
        raise InputError(f"{own[0]}: is one of the recordings{and_more(len(own))}; choose another --out")
    if existing and not overwrite:
        raise InputError(
            f"{existing[0]}: exists{and_more(len(existing))}; choose another --out, or give --overwrite to replace it"
        )
    return files


def _hear(
    speech: SpeechModel, batch: Sequence[Recording], most_seconds: float | None, failures: list[str]
) -> list[Heard]:
    """Waveform and units of recordings; those that have none are added to ``failures``."""
    from syllablelm.data.audio import SAMPLE_RATE, check_waveform

    most = None if most_seconds is None else round(most_seconds * SAMPLE_RATE)
    waves: dict[str, npt.NDArray[np.float32]] = {}
    for recording in batch:
        try:
            waves[recording.id] = check_waveform(recording.load()[:most], name="the beginning that is used")
        except AudioError as error:
            failures.append(f"{recording.id}: {error}")
    heard: list[Heard] = []
    for (id, wave), units in zip(waves.items(), speech.tokenizer.encode(list(waves.values())), strict=True):
        if len(units):
            heard.append((id, wave, units))
        else:
            seconds = len(wave) / SAMPLE_RATE
            failures.append(f"{id}: {seconds:.2f} s are shorter than one unit; give at least a second")
    return heard


def _speak_together(
    heard: list[Heard], speak: Callable[[Waves, list[Segmentation]], list[Spoken]], failures: list[str]
) -> list[tuple[str, Spoken]]:
    """Speak units as one batch; recordings that cannot be spoken are added to ``failures``."""
    if not heard:
        return []
    ids, waves, units = (list(column) for column in zip(*heard, strict=True))
    try:
        return list(zip(ids, speak(waves, units), strict=True))
    except SyllableLMError as error:
        if len(heard) == 1:
            failures.append(f"{ids[0]}: {error}")
            return []
    # One that fails leaves a batch without results; alone, the others sound as they would have.
    return [found for one in heard for found in _speak_together([one], speak, failures)]


def evaluate_resynthesis(
    audio: Audio,
    model: SpeakingModel = DEFAULT_MODEL,
    recognizer: Recognizer = "pocketsphinx",
    min_seconds: Annotated[float, typer.Option("--min-seconds", help="Shorter recordings are left out.")] = 4.0,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Longer recordings are left out.")] = 10.0,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="What was heard, as jsonl.")] = None,
    workers: RecognizerWorkers = 1,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Have a recogniser hear originals, vocoded and resynthesised speech: word and character error rates.

    Recordings need a text; "vocoder" speaks the acoustic units of the recording itself, the bound of what
    resynthesis can reach (Table 2).
    """
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    from syllablelm.core.progress import ProgressBar
    from syllablelm.evaluate.speech.resynthesis import NORMALIZATION, compare_speech, rate_row
    from syllablelm.evaluate.speech.transcripts import Listener
    from syllablelm.evaluate.units.bitrate import RateCounts
    from syllablelm.vocoder.speech_model import SpeechModel

    picked = _with_words(manifest, min_seconds, max_seconds)[:limit]
    rows: list[dict[str, Any]] = []
    rates: list[RateCounts] = []
    with (
        Listener(recognizer, device=device, workers=workers) as listener,
        ProgressBar("resynthesis", len(picked)) as bar,
    ):
        speech = SpeechModel.load(model, device=device)
        voices = _voices(speech, seed, rates)
        for row in compare_speech(_texted(picked), voices, listener.hear):
            rows.append(row)
            bar.advance()
    if out is not None:
        _write_heard(out, rows)
    head = {
        "evaluation": "resynthesis",
        "model": model,
        "data": {
            "name": " ".join(audio),
            "recordings": len(picked),
            "seconds": picked.total_seconds,
            "left_out": len(manifest) - len(picked),
            "unusable": len(skipped),
        },
        "recognizer": recognizer,
        "normalization": NORMALIZATION,
        "min_seconds": min_seconds,
        "max_seconds": max_seconds,
        "interval": "95 % bootstrap over recordings",
        "units": sum(rates, RateCounts()).to_dict(speech.tokenizer.num_units),
    }
    scores = {name: rate_row([row[name]["counts"] for row in rows], resamples=resamples, seed=seed) for name in voices}
    print_json({**head, **scores})


def _write_heard(path: Path, rows: list[dict[str, Any]]) -> None:
    from syllablelm.core.files import write_json_lines

    write_json_lines(path, ({k: v["heard"] if isinstance(v, dict) else v for k, v in row.items()} for row in rows))


def _with_words(manifest: Manifest, min_seconds: float, max_seconds: float) -> Manifest:
    """The recordings of the wanted lengths that have a text; one without any word in it is an error."""
    from syllablelm.evaluate.speech.resynthesis import normalize_text

    texted = manifest.filter(lambda r: bool(r.text))
    chosen = texted.filter(lambda r: min_seconds <= r.seconds <= max_seconds)
    if not chosen:
        raise InputError(
            f"{len(manifest)} recordings, {len(texted)} with a text, none of them of {min_seconds:g} to "
            f"{max_seconds:g} s; change --min-seconds and --max-seconds"
        )
    wordless = chosen.filter(lambda r: not normalize_text(r.text or ""))
    if wordless:
        raise InputError(
            f"{wordless[0].id}: its text has no word ({len(wordless)} of {len(chosen)} recordings; no result)"
        )
    return chosen


def _texted(manifest: Manifest) -> Iterator[tuple[str, Any, str]]:
    for recording in manifest:
        yield recording.id, recording.load(), recording.text or ""


def _voices(speech: SpeechModel, seed: int, rates: list[RateCounts]) -> dict[str, Speak]:
    """What a recogniser is given in place of recordings, at its own rate of 16 kHz; counts the units on the way."""
    from syllablelm.data.audio import SAMPLE_RATE, resample
    from syllablelm.evaluate.units.bitrate import rate_counts

    voice = speech.resynthesizer

    def at_16k(waves: Waves) -> Waves:
        return [resample(wave, voice.sample_rate, SAMPLE_RATE) for wave in waves]

    def resynthesis(waves: Waves) -> Waves:
        units = speech.tokenizer.encode(waves)
        rates.extend(map(rate_counts, units))
        return at_16k(voice.decode_many(units, seeds=[seed] * len(units)))

    voices: dict[str, Speak] = {"original": lambda waves: waves}
    acoustic = voice.acoustic
    if acoustic is not None:
        voices["vocoder"] = lambda waves: at_16k([voice.vocoder.decode(a, seed=seed) for a in acoustic.encode(waves)])
    return voices | {"resynthesis": resynthesis}
