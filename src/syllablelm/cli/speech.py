"""``resynthesize``, ``continue`` and ``evaluate resynthesis``: units to sound."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syllablelm.cli.common import (
    DEFAULT_MODEL,
    Audio,
    Device,
    Model,
    Recognizer,
    RecognizerWorkers,
    Resamples,
    Seed,
    no_usable,
    note,
    print_json,
    read_recordings,
)
from syllablelm.errors import InputError, SyllableLMError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from syllablelm.evaluate.bitrate import RateCounts
    from syllablelm.evaluate.resynthesis import Speak
    from syllablelm.manifest import Manifest
    from syllablelm.speech import SpeechModel

    Waves = list[npt.NDArray[np.float32]]

OutFolder = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Of the wave files, one per recording.")]


def resynthesize(
    audio: Audio, out: OutFolder, model: Model = DEFAULT_MODEL, seed: Seed = 0, device: Device = "auto"
) -> None:
    """Speak recordings anew from their units."""

    def speak(speech: SpeechModel, wave: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        units = speech.tokenizer.encode(wave)
        return speech.resynthesizer.decode(units, seed=seed), {"units": len(units)}

    _write_all(audio, out, model, device, speak)


def continue_(
    audio: Audio,
    out: OutFolder,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of the continuation.")] = 10.0,
    prompt_seconds: Annotated[
        float | None, typer.Option("--prompt-seconds", help="Use the beginning of each recording only.")
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Of the language model; 0 is greedy.")] = 0.8,
    model: Model = DEFAULT_MODEL,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Continue recordings; the wave files hold the continuation alone."""
    if prompt_seconds is not None and not 0 < prompt_seconds < float("inf"):
        raise InputError(f"--prompt-seconds {prompt_seconds}: must be above 0 and finite")
    from syllablelm.audio import SAMPLE_RATE

    def speak(speech: SpeechModel, wave: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        if prompt_seconds is not None:
            wave = wave[: round(prompt_seconds * SAMPLE_RATE)]
        result = speech.continue_speech(wave, seconds, seed=seed, temperature=temperature)
        units = [] if result.units.unit is None else result.units.unit.tolist()
        return result.waveform, {"prompt_units": len(result.prompt), "unit": units}

    _write_all(audio, out, model, device, speak)


def _write_all(audio: list[str], out: Path, model: str, device: str, speak: Callable[..., Any]) -> None:
    """Open the models, speak every recording into its own file, print one JSON line for each."""
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    from syllablelm.audio import save_audio
    from syllablelm.speech import SpeechModel

    speech = SpeechModel.load(model, device=device)
    failures = [f"{item.path}: {item.reason}" for item in skipped]
    for recording in manifest:
        started = time.monotonic()
        try:
            wave, facts = speak(speech, recording.load())
        except SyllableLMError as error:
            failures.append(f"{recording.id}: {error}")
            continue
        path = out / f"{recording.id.replace('/', '_')}.wav"
        save_audio(path, wave, speech.resynthesizer.sample_rate)
        taken = round(time.monotonic() - started, 3)
        seconds = len(wave) / speech.resynthesizer.sample_rate
        print_json({"id": recording.id, "path": str(path), "seconds": seconds, "took_seconds": taken, **facts})
    total = len(manifest) + len(skipped)
    if len(failures) == total:
        more = f" (and {total - 1} other recordings failed too)" if total > 1 else ""
        raise InputError(failures[0] + more)
    for failure in failures:
        note(f"skipped {failure}")


def evaluate_resynthesis(
    audio: Audio,
    model: Model = DEFAULT_MODEL,
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
    from syllablelm.evaluate.bitrate import RateCounts
    from syllablelm.evaluate.resynthesis import NORMALIZATION, compare_speech, rate_row
    from syllablelm.evaluate.transcripts import Listener
    from syllablelm.progress import ProgressBar
    from syllablelm.speech import SpeechModel

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
    from syllablelm.formats.files import write_json_lines

    write_json_lines(path, ({k: v["heard"] if isinstance(v, dict) else v for k, v in row.items()} for row in rows))


def _with_words(manifest: Manifest, min_seconds: float, max_seconds: float) -> Manifest:
    """The recordings of the wanted lengths that have a text; one without any word in it is an error."""
    from syllablelm.evaluate.resynthesis import normalize_text

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
    from syllablelm.audio import SAMPLE_RATE, resample
    from syllablelm.evaluate.bitrate import rate_counts

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
