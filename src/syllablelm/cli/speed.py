"""``evaluate speed``: seconds of audio per second, stage by stage."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syllablelm.cli.common import (
    DEFAULT_MODEL,
    BatchSeconds,
    Delta,
    Device,
    Model,
    Precision,
    Rate,
    Rule,
    no_usable,
    print_json,
    read_recordings,
)
from syllablelm.core.errors import InputError
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.evaluate.speed import Speed


def speed(
    audio: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="AUDIO", help="Files, folders, patterns, or one manifest; default the bundled recording, repeated."
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    rule: Rule = None,
    delta: Delta = None,
    device: Device = "auto",
    precision: Precision = "float32",
    batch_seconds: BatchSeconds = 120.0,
    clips: Annotated[
        int, typer.Option("--clips", metavar="N", min=1, help="Without AUDIO: how many clips of 25 s.")
    ] = 8,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", min=1, help="Runs, of which the fastest counts.")
    ] = 1,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the JSON here too.")] = None,
) -> None:
    """Time a tokenizer, stage by stage.

    In another precision than float32, also how far the units agree with those of float32.
    """
    if not 0 < batch_seconds < float("inf"):
        raise InputError(f"--batch-seconds {batch_seconds}: must be above 0 and finite")
    from syllablelm.evaluate.speed import Agreement, compare_units, describe_machine, make_clips, measure_speed
    from syllablelm.tokenizer.tokenizer import Tokenizer

    with tempfile.TemporaryDirectory() as folder:
        manifest, skipped = read_recordings(audio) if audio else (make_clips(Path(folder), clips), [])
        if not manifest:
            raise no_usable(skipped)
        if skipped:
            note(f"left out: {len(skipped)} unusable")
        runs, found, machine = [], [], {}
        for chosen in dict.fromkeys(("float32", precision)):
            tokenizer = Tokenizer.load(
                model, device=device, rate=rate, rule=rule, delta=delta, precision=chosen, batch_seconds=batch_seconds
            )
            machine = describe_machine(tokenizer.encoder.device)
            run, units = measure_speed(tokenizer, manifest, repeats=repeats)
            runs.append(run)
            found.append(units)
    agreement = None
    if len(found) == 2:
        total = sum((compare_units(*pair) for pair in zip(found[1], found[0], strict=True)), Agreement())
        agreement = {"precision": precision, "against": "float32", **total.to_dict()}
    _show(model, machine, runs, agreement)
    result = {
        "evaluation": "speed",
        "model": model,
        "data": {
            "name": " ".join(audio) if audio else "bundled recording, repeated",
            "recordings": len(manifest),
            "seconds": manifest.total_seconds,
        },
        "machine": machine,
        "batch_seconds": batch_seconds,
        "runs": [run.to_dict() for run in runs],
        "agreement": agreement,
    }
    if out is not None:
        import json

        from syllablelm.core.files import atomic_path

        with atomic_path(out) as part:
            part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print_json(result)


def _show(model: str, machine: dict[str, Any], runs: Sequence[Speed], agreement: dict[str, Any] | None) -> None:
    from syllablelm.core.table import format_table

    place = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads of {machine['cores']} cores"
    headings = {"stage": "stage", "seconds": "seconds", "share": "share", "audio_per_second": "audio s/s"}
    for run in runs:
        note(f"{model} in {run.precision} on {place}: {run.recordings} recordings, {run.audio_seconds:.0f} s of audio")
        note(format_table(run.rows(), headings))
        device = "" if run.peak_device_mib is None else f", {run.peak_device_mib:.0f} MiB on the GPU"
        note(f"peak memory {run.peak_memory_mib:.0f} MiB{device}; {run.cpu_seconds:.1f} s of computing\n")
    if agreement is not None:
        note(
            f"{agreement['precision']} against float32: boundary F1 at 20 ms {agreement['boundary_f1_20ms']:.4f}, "
            f"units of frames {agreement['unit_agreement']:.4f}, "
            f"{agreement['same_recordings']} of {agreement['recordings']} recordings the same"
        )
