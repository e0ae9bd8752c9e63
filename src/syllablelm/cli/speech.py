"""``resynthesize`` and ``continue``: units to sound."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syllablelm.cli.options import DEFAULT_MODEL, Audio, Device, Model, Seed, print_json
from syllablelm.core.errors import one_line
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.data.corpus import SkippedFile
    from syllablelm.vocoder.speech_files import SpokenFile

Out = Annotated[
    Path,
    typer.Option(
        "--out", metavar="PATH", help="Output folder, one .wav per recording; or a .wav file for one recording."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing wave files.")]
VocoderTemperature = Annotated[
    float, typer.Option("--vocoder-temperature", metavar="T", help="Sampling temperature of the vocoder LM.")
]


def resynthesize(
    audio: Audio,
    out: Out,
    overwrite: Overwrite = False,
    vocoder_temperature: VocoderTemperature = 0.8,
    model: Model = DEFAULT_MODEL,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Resynthesize recordings from their units.

    Existing wave files are refused without --overwrite, before anything is written.
    """
    from syllablelm.vocoder.speech_files import resynthesize_files

    options: dict[str, Any] = {"seed": seed, "device": device, "overwrite": overwrite}
    skipped: list[SkippedFile] = []
    _print(resynthesize_files(audio, out, model, temperature=vocoder_temperature, skipped=skipped, **options), skipped)


def continue_(
    audio: Audio,
    out: Out,
    overwrite: Overwrite = False,
    seconds: Annotated[float, typer.Option("--seconds", metavar="SECONDS", help="Length of the continuation.")] = 10.0,
    prompt_seconds: Annotated[
        float | None,
        typer.Option(
            "--prompt-seconds", metavar="SECONDS", help="Length of the prompt (default: the whole recording)."
        ),
    ] = None,
    temperature: Annotated[
        float,
        typer.Option("--temperature", metavar="T", help="Sampling temperature of the language model (0: greedy)."),
    ] = 0.8,
    top_k: Annotated[int, typer.Option("--top-k", metavar="K", min=0, help="Top-k sampling (0: off).")] = 0,
    top_p: Annotated[float, typer.Option("--top-p", metavar="P", help="Nucleus (top-p) threshold.")] = 1.0,
    vocoder_temperature: VocoderTemperature = 0.8,
    context: Annotated[
        int | None,
        typer.Option("--context", metavar="N", help="Context length in tokens (default: the longest in training)."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Continue recordings; the wave files hold the continuations alone.

    Existing wave files are refused without --overwrite, before anything is written.
    """
    from syllablelm.vocoder.speech_files import continue_files

    options: dict[str, Any] = {"seed": seed, "device": device, "overwrite": overwrite, "context": context}
    options |= {"temperature": temperature, "top_k": top_k, "top_p": top_p, "vocoder_temperature": vocoder_temperature}
    options |= {"seconds": seconds, "prompt_seconds": prompt_seconds}
    skipped: list[SkippedFile] = []
    _print(continue_files(audio, out, model, skipped=skipped, **options), skipped)


def _print(records: Iterable[SpokenFile], skipped: list[SkippedFile]) -> None:
    for record in records:
        print_json(record)
    for item in skipped:
        note(one_line(f"skipped {item.path}: {item.reason}"))
