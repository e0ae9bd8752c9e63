"""``evaluate boundaries``: scores of tokenizers, segmentation methods and files of units in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.options import (
    Alignments,
    Device,
    Partial,
    References,
    Resamples,
    ScoredAudio,
    Seed,
    TableFormat,
    print_json,
    read_numbers,
    split_names,
)
from syllablelm.evaluate.boundaries.protocols import PROTOCOLS
from syllablelm.segment.registry import METHODS

if TYPE_CHECKING:
    from syllablelm.evaluate.boundaries.run import BoundaryResult

_SHIFTED = ", ".join(name for name, protocol in PROTOCOLS.items() if protocol.shift is None)

UnitsFiles = Annotated[
    list[Path] | None,
    typer.Option("--units", metavar="FILE", help="Units written by tokenize, a row of their own; repeatable."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", metavar="NAME|PATH", help="Tokenizer; repeatable (default: small, where nothing else is scored)."
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--baselines",
        metavar="A,B",
        help=f"Segmentation methods: {', '.join(METHODS)}. Those on features give a row per --encoder layer.",
    ),
]
Encoder = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="NAME|PATH",
        help="Encoder of the methods (rows similarity, minsum and peaks where --baselines names none that reads one); "
        "repeatable.",
    ),
]
Layers = Annotated[
    str | None, typer.Option("--layers", metavar="L,L", help="Layers of --encoder, 1-based (default: all).")
]
Predictor = Annotated[
    list[str] | None,
    typer.Option(
        "--predictor",
        metavar="NAME|PATH",
        help="Encoder with its masked-prediction head, of losspred and combined (default: --encoder; row losspred "
        "where --baselines names neither); repeatable.",
    ),
]
VoiceActivity = Annotated[
    Literal["energy", "silero", "none"],
    typer.Option("--vad", help="Voice activity detection of losspred, which cuts speech only."),
]
Gap = Annotated[
    int, typer.Option("--gap", metavar="FRAMES", min=0, help="Frames between masked spans of losspred and combined.")
]
CountRule = Annotated[
    str,
    typer.Option(
        "--count",
        metavar="reference|own|RATE",
        help="Number of segments: as many boundaries as the reference has, pauses included; that of the (first) "
        "--model; or a rate per second.",
    ),
]
ProtocolNames = Annotated[
    str, typer.Option("--protocol", metavar="NAME,NAME|all", help=f"Scoring protocols: {', '.join(PROTOCOLS)}.")
]
Shift = Annotated[
    float | None,
    typer.Option("--shift", metavar="SECONDS", help=f"Shift of {_SHIFTED} (default: 0, or searched on --tune)."),
]
Tune = Annotated[
    list[str] | None,
    typer.Option("--tune", metavar="AUDIO|UNITS", help="Development list to search each row's shift on; repeatable."),
]
TuneAlignments = Annotated[
    Path | None, typer.Option("--tune-alignments", metavar="FILE", help="Reference alignments of --tune.")
]
Against = Annotated[
    str | None, typer.Option("--against", metavar="ROW", help="Row that paired differences are taken from.")
]

_COLUMNS = {
    "segmenter": "segmenter",
    "count": "count",
    "level": "reference",
    "protocol": "protocol",
    "shift": "shift",
    "tuned": "tuned",
    "f1@50": "F1@50",
    "f1_low": "low",
    "f1_high": "high",
    "f1@20": "F1@20",
    "precision": "Pr",
    "recall": "Re",
    "r_value": "R",
    "token_f1": "token F1",
    "predicted": "cuts",
    "reference": "true",
    "gain": "gain",
    "gain_low": "gain low",
    "gain_high": "gain high",
}


def boundaries(
    alignments: Alignments,
    audio: ScoredAudio = None,
    units: UnitsFiles = None,
    model: Models = None,
    baselines: Methods = None,
    encoder: Encoder = None,
    layers: Layers = None,
    predictor: Predictor = None,
    vad: VoiceActivity = "energy",
    gap: Gap = 150,
    count: CountRule = "reference",
    partial: Partial = False,
    reference: References = None,
    protocol: ProtocolNames = "paper",
    shift: Shift = None,
    tune: Tune = None,
    tune_alignments: TuneAlignments = None,
    against: Against = None,
    output_format: TableFormat = "json",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score boundaries of tokenizers, segmentation methods and files of units in one table."""
    from syllablelm.evaluate import evaluate_boundaries

    numbers = [int(number) for number in read_numbers(layers, "--layers")] if layers else []
    systems: dict[str, Any] = {"models": model or [], "methods": split_names(baselines), "encoders": encoder or []}
    heads: dict[str, Any] = {"predictors": predictor or [], "vad": vad, "gap": gap}
    levels = split_names(*reference) if reference else ["syllable"]
    scoring: dict[str, Any] = {"levels": levels, "protocols": split_names(protocol), "shift": shift, "against": against}
    search: dict[str, Any] = {"tuning": tune or [], "tuning_alignments": tune_alignments, "partial": partial}
    options = systems | heads | scoring | search | {"resamples": resamples, "seed": seed, "device": device}
    result = evaluate_boundaries(audio or [], alignments, units=units or [], layers=numbers, count=count, **options)
    if output_format == "json":
        print_json(result)
    else:
        _print_tables(result, output_format)


def _print_tables(result: BoundaryResult, style: str) -> None:
    from syllablelm.core.document import format_table

    for protocol in result.protocols:
        shift = "searched for each row" if protocol.shift is None else protocol.shift
        facts = ", ".join(
            f"{key} {value}" for key, value in (protocol.to_dict() | {"shift": shift}).items() if key != "name"
        )
        print(f"protocol {protocol.name} ({facts})")
    if result.tuning is not None:
        print(f"shifts searched on {result.tuning.name} ({result.tuning.recordings} recordings)")
    rows = [row.to_dict() for row in result.rows]
    columns = {key: name for key, name in _COLUMNS.items() if any(key in row for row in rows)}
    print("\n" + format_table(rows, columns, style=style), flush=True)
