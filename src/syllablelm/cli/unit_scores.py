"""Verbs of ``evaluate`` that score units: purity, bit rate, phones, word identity, ABX, stability, speed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.options import (
    DEFAULT_MODEL,
    Alignments,
    Audio,
    BatchSeconds,
    Delta,
    Device,
    Limit,
    Model,
    Partial,
    Precision,
    Rate,
    References,
    Resamples,
    Rule,
    ScoredAudio,
    Seed,
    TableFormat,
    Units,
    print_json,
    split_names,
)
from syllablelm.core.document import format_table
from syllablelm.core.errors import InputError, plural
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.evaluate.speed import SpeedResult

Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME|PATH", help=f"Tokenizer; repeatable (default: {DEFAULT_MODEL})."),
]
_PURITY_COLUMNS = {
    "model": "model",
    "level": "reference",
    "matched": "matched",
    "syllables": "true",
    "segments": "segments",
    "syllable_to_unit": "reference to unit",
    "unit_to_syllable": "unit to reference",
    "normalized_mutual_information": "NMI",
    "syllable_normalized_mutual_information": "SNMI",
    "token_f1": "token F1",
}
_RATE_COLUMNS = {
    "units": "units",
    "merged_unit_rate": "units/s",
    "bits_per_second": "bits/s by codebook size",
    "entropy_rate": "bits/s by entropy",
    "length_entropy_rate": "bits/s of lengths",
    "timed_entropy_rate": "both entropies",
}
_STABILITY_COLUMNS = {
    "model": "model",
    "condition": "condition",
    "unit_edit_distance": "UED",
    "unit_edit_distance_low": "low",
    "unit_edit_distance_high": "high",
    "same_units": "same units",
    "f1@20": "F1@20",
    "precision@20": "Pr@20",
    "recall@20": "Re@20",
    "f1@50": "F1@50",
    "precision@50": "Pr@50",
    "recall@50": "Re@50",
}
_SYSTEM_COLUMNS = {
    "system": "system",
    "weights": "weights",
    "task": "task",
    "audio_per_second": "audio s/s",
    "standard_error": "+-",
    "units_per_second": "units a second of audio",
}
_SPEED_COLUMNS = {"stage": "stage", "seconds": "seconds", "share": "share", "audio_per_second": "audio s/s"}


def _print(
    result: Any, title: str, rows: list[dict[str, Any]], columns: dict[str, str] | None, style: str, digits: int = 3
) -> None:
    """Print a result as JSON, or a title and a table."""
    if style == "json":
        print_json(result)
        return
    shown = None if columns is None else {key: text for key, text in columns.items() if key in rows[0]}
    print(f"{title}\n\n{format_table(rows, shown, style=style, digits=digits)}", flush=True)


def purity(
    alignments: Alignments,
    audio: ScoredAudio = None,
    units: Units = None,
    partial: Partial = False,
    model: Models = None,
    rate: Rate = None,
    reference: References = None,
    matching: Annotated[
        Literal["overlap", "full", "majority", "frames"],
        typer.Option(
            "--matching",
            metavar="overlap|full|majority|frames",
            help="Matching of segments: one to one by overlap; full: pairs without overlap too (SD-HuBERT); majority: "
            "each segment with what it overlaps most, silence included (ZeroSyl); frames: every 10 ms, silence "
            "included (with --reference phone, SNMI is PNMI).",
        ),
    ] = "overlap",
    output_format: TableFormat = "json",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score how consistently units stand for syllables, phones or words.

    Purity in both directions, mutual information, token F1.
    """
    from syllablelm.evaluate import evaluate_purity

    models, levels = model or [DEFAULT_MODEL], split_names(*reference or ["syllable"])
    choice: dict[str, Any] = {"levels": levels, "matching": matching, "partial": partial, "rate": rate}
    result = evaluate_purity(
        audio, alignments, models, units=units, **choice, resamples=resamples, seed=seed, device=device
    )
    title = f"{result.data.name}, {plural(result.recordings, 'recording')}, matching {matching}"
    _print(result, title, [row.to_dict() for row in result.rows], _PURITY_COLUMNS, output_format)


def bitrate(
    audio: ScoredAudio = None,
    units: Units = None,
    num_units: Annotated[
        int | None, typer.Option("--num-units", metavar="N", min=1, help="Codebook size of a file of units.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    output_format: TableFormat = "json",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Count units and bits per second.

    Deduplicated and as segmented; by codebook size and by unit frequency; the same for segment lengths.
    """
    from syllablelm.evaluate import evaluate_bitrate

    result = evaluate_bitrate(
        audio, model, units=units, num_units=num_units, rate=rate, resamples=resamples, seed=seed, device=device
    )
    title = f"{result.data.name}, {plural(result.recordings, 'recording')}"
    _print(result, title, result.table(), _RATE_COLUMNS, output_format, digits=2)


def phones(
    test: Annotated[
        list[str], typer.Argument(metavar="AUDIO|UNITS", help="Test list: recordings, or units written by tokenize.")
    ],
    alignments: Alignments,
    train: Annotated[
        list[str],
        typer.Option("--train", metavar="AUDIO|UNITS", help="Training list of the same kind; repeatable."),
    ],
    train_alignments: Annotated[
        Path, typer.Option("--train-alignments", metavar="FILE", help="Reference alignments of the training list.")
    ],
    partial: Partial = False,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="Number of training updates.")
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Measure the phone error rate of a probe trained to read phones from units.

    The probe sees the units and the lengths of segments. Test recordings must not be in the training list.
    """
    from syllablelm.evaluate import evaluate_phones

    options: dict[str, Any] = {"partial": partial, "rate": rate, "steps": steps, "resamples": resamples}
    print_json(evaluate_phones(test, alignments, train, train_alignments, model, **options, seed=seed, device=device))


def identity(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Words and non-words in two or more voices (prepare wordlist).")
    ],
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Folder below FOLDER/lexical.")] = "dev",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    output_format: TableFormat = "json",
) -> None:
    """Measure the share of words nearer to themselves in another voice than to a non-word.

    By dynamic time warping over segment vectors and by edit distance of units.
    """
    from syllablelm.evaluate import evaluate_identity

    result = evaluate_identity(folder, model, rate=rate, split=split, resamples=resamples, seed=seed, device=device)
    title = f"{folder}: {result.words} words in {', '.join(result.voices)}"
    _print(result, title, [row.to_dict() for row in result.rows], None, output_format)


def abx(
    audio: Audio,
    alignments: Alignments,
    units: Units = None,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    kind: Annotated[
        Literal["triphone", "phoneme"],
        typer.Option("--kind", help="Stretches compared: whole triphones, or the phones in their middle."),
    ] = "triphone",
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="New folder for item file, units and features of fastabx."),
    ] = None,
    output_format: TableFormat = "json",
    device: Device = "auto",
) -> None:
    """Measure the ABX error rate of features and units, within and across speakers.

    AUDIO names the speakers: a manifest, or LibriSpeech's folders. By the definition of fastabx, without subsampling.
    """
    from syllablelm.evaluate import evaluate_abx

    choice: dict[str, Any] = {"units": units, "kind": kind, "rate": rate, "export": export}
    result = evaluate_abx(audio, alignments, model, **choice, device=device)
    title = f"{result.data.name}, {plural(result.recordings, 'recording')}, {plural(result.tokens, result.kind)}"
    _print(result, title, [row.to_dict() for row in result.rows], None, output_format)


def stability(
    audio: Audio,
    model: Models = None,
    conditions: Annotated[
        str, typer.Option("--conditions", metavar="A,B|all", help="Distortions; an unknown name lists them.")
    ] = "all",
    limit: Limit = None,
    output_format: TableFormat = "json",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Compare the units of distorted recordings with those of the clean ones.

    Unit edit distance, boundary agreement at 20 and 50 ms, share of frames with the same unit.
    """
    from syllablelm.evaluate import evaluate_stability

    models = model or [DEFAULT_MODEL]
    result = evaluate_stability(
        audio, models, conditions=conditions, limit=limit, resamples=resamples, seed=seed, device=device
    )
    title = f"{result.data.name}, {plural(result.data.recordings, 'recording')}, seed {seed}"
    _print(result, title, [row.to_dict() for row in result.rows], _STABILITY_COLUMNS, output_format)


def speed(
    audio: Annotated[
        list[str] | None,
        typer.Argument(metavar="AUDIO", help="Files, folders, patterns, or one manifest (default: bundled recording)."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    rule: Rule = None,
    delta: Delta = None,
    device: Device = "auto",
    precision: Precision = "float32",
    batch_seconds: BatchSeconds = 120.0,
    clips: Annotated[
        int | None,
        typer.Option("--clips", metavar="N", min=1, help="Number of clips of 25 s without AUDIO (default: 8; 32)."),
    ] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", min=1, help="Number of timed runs, of which the fastest counts.")
    ] = 1,
    systems: Annotated[
        Literal["full", "miniature"] | None,
        typer.Option(
            "--systems",
            help="Systems of the paper's Table 9 instead of a tokenizer, at its sizes or at sizes that take seconds; "
            "means of --repeats runs.",
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            metavar="NAME=PATH",
            help="Model of --systems: sd-hubert, hubert, data2vec2, twist or syllablelm (default: random weights); "
            "repeatable.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Copy of the JSON result.")] = None,
) -> None:
    """Time a tokenizer, stage by stage, or the systems of the paper's Table 9.

    In another precision than float32, also the agreement of a tokenizer's units with those of float32.
    """
    from syllablelm.evaluate import evaluate_speed, evaluate_system_speed

    options: dict[str, Any] = {"precision": precision, "device": device, "repeats": repeats, "out": out}
    if systems is not None:
        if audio:
            raise InputError("--systems times clips of the bundled recording; leave AUDIO out")
        table = evaluate_system_speed(size=systems, checkpoints=checkpoint or [], clips=clips, **options)
        note(format_table([row.to_dict() for row in table.rows], _SYSTEM_COLUMNS))
        note(format_table([ratio.to_dict() for ratio in table.ratios]))
        print_json(table)
        return
    options |= {"rate": rate, "rule": rule, "delta": delta, "batch_seconds": batch_seconds, "clips": clips or 8}
    result = evaluate_speed(audio, model, **options)
    _note_speed(result)
    print_json(result)


def _note_speed(result: SpeedResult) -> None:
    """Print the tables of stages on standard error."""
    machine = result.machine
    processor = f"{machine.processor}, {machine.threads} threads of {machine.cores} cores"
    for run in result.runs:
        note(
            f"{result.model} in {run.precision} on {machine.gpu or processor}: {plural(run.recordings, 'recording')}, "
            f"{run.audio_seconds:.0f} s of audio"
        )
        note(format_table([stage.to_dict() for stage in run.stages], _SPEED_COLUMNS))
        device = "" if run.peak_device_mib is None else f", {run.peak_device_mib:.0f} MiB on the GPU"
        note(f"peak memory {run.peak_memory_mib:.0f} MiB{device}; {run.cpu_seconds:.1f} s of processor time\n")
    if result.agreement is not None:
        agreed = result.agreement
        note(
            f"{agreed.precision} against {agreed.against}: boundary F1 at 20 ms {agreed.boundary_f1_20ms:.4f}, "
            f"units of frames {agreed.unit_agreement:.4f}, "
            f"{agreed.same_recordings} of {agreed.recordings} recordings the same"
        )
