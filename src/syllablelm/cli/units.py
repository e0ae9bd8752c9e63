"""``evaluate boundaries``, ``purity`` and ``bitrate``: scores of recordings' units, or of a file of units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.common import DEFAULT_MODEL, Device, Model, Rate, Resamples, Seed, TableFormat, Units, print_json
from syllablelm.core.errors import plural
from syllablelm.evaluate.boundaries.systems import RowChoice, make_rows, parse_levels, split_names
from syllablelm.evaluate.lists import (
    choose_protocols,
    note_omitted,
    read_list,
    read_references,
    read_tuning_list,
    read_unit_list,
)

if TYPE_CHECKING:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.data.alignment import Alignment
    from syllablelm.evaluate.units.bitrate import RateCounts

Audio = Annotated[
    list[str] | None,
    typer.Argument(metavar="AUDIO", help="Files, folders, patterns, or one manifest; or units as --units."),
]
Alignments = Annotated[
    Path,
    typer.Option("--alignments", metavar="FILE", help="Reference by id: .jsonl, .TextGrid, .ctm or a folder of them."),
]
References = Annotated[
    list[str] | None,
    typer.Option("--reference", metavar="syllable,phone,word", help="What of it counts; default syllable; repeatable."),
]
UnitsFiles = Annotated[
    list[Path] | None, typer.Option("--units", metavar="FILE", help="Output of tokenize: a row of its own; repeatable.")
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME|PATH", help="Tokenizer; repeatable. Default without other rows: small."),
]
Baselines = Annotated[
    str | None,
    typer.Option(
        "--baselines",
        metavar="A,B",
        help="Rows of even, envelope, strength, mel; of each --encoder layer: similarity-merge, sdhubert, "
        "sdhubert-relative, sylber, sylber-relative, zerosyl (which choose their own number of groups).",
    ),
]
Encoder = Annotated[
    list[str] | None,
    typer.Option("--encoder", metavar="NAME|PATH", help="Rows similarity, minsum and peaks of each layer; repeatable."),
]
Layers = Annotated[str | None, typer.Option("--layers", metavar="L,L", help="Of --encoder; default all.")]
Predictor = Annotated[
    str | None, typer.Option("--predictor", metavar="PATH", help="Encoder with its prediction head: row losspred.")
]
CountRule = Annotated[
    str,
    typer.Option(
        "--count",
        metavar="reference|own|RATE",
        help="Groups per recording: as many boundaries as its reference has, pauses included; the (first) model's own "
        "choice; or so many per second.",
    ),
]
ProtocolNames = Annotated[
    str,
    typer.Option(
        "--protocol", metavar="NAME,NAME|all", help="Which boundaries count: paper, peng, sdhubert, zerosyl, strict."
    ),
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Score the recordings that a file of units and the reference share.")
]
Shift = Annotated[
    float | None,
    typer.Option("--shift", metavar="SECONDS", help="Of peng, sdhubert, zerosyl, as found earlier; else 0 or --tune."),
]
Tune = Annotated[
    list[str] | None,
    typer.Option("--tune", metavar="AUDIO|UNITS", help="Development list to search each row's shift on; repeatable."),
]
TuneAlignments = Annotated[Path | None, typer.Option("--tune-alignments", metavar="FILE", help="Reference of --tune.")]
Against = Annotated[
    str | None, typer.Option("--against", metavar="ROW", help="Give every row's paired difference from this one.")
]

_BOUNDARY_COLUMNS = {
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
_PURITY_COLUMNS = {
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
# What mutual information is divided by.
_NORMALIZATION = {
    "normalized_mutual_information": "mean of the entropies of reference and units",
    "syllable_normalized_mutual_information": "entropy of the reference",
}
_RATE_COLUMNS = {
    "units": "units",
    "rate": "units/s",
    "bits": "bits/s by codebook size",
    "entropy_rate": "bits/s by entropy",
    "length_entropy_rate": "bits/s of lengths",
    "timed_entropy_rate": "both entropies",
}
_RATE_INTERVALS: dict[str, Callable[[RateCounts], float]] = {
    "merged_unit_rate": lambda counts: counts.merged_unit_rate,
    "entropy_rate": lambda counts: counts.entropy_rate(),
    "length_entropy_rate": lambda counts: counts.length_entropy_rate(),
    "timed_entropy_rate": lambda counts: counts.timed_entropy_rate(),
}
_PURITY_INTERVALS = (
    "cluster_purity",
    "syllable_purity",
    "normalized_mutual_information",
    "syllable_normalized_mutual_information",
)


def boundaries(
    alignments: Alignments,
    audio: Audio = None,
    units: UnitsFiles = None,
    model: Models = None,
    baselines: Baselines = None,
    encoder: Encoder = None,
    layers: Layers = None,
    predictor: Predictor = None,
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
    """Score boundaries.

    Tokenizers, baselines, encoder layers and files of units in one table.
    """
    from syllablelm.evaluate.boundaries.comparison import Tuning, compare_segmentations

    protocols = choose_protocols(protocol, shift, tuned=bool(tune))
    levels = parse_levels(reference)
    wanted = RowChoice(tuple(model or ()), split_names(baselines), tuple(encoder or ()), split_names(layers), predictor)
    scored = read_list(audio or [], units or [], alignments, levels, partial=partial)
    if wanted.is_empty and not scored.units:
        wanted = RowChoice((DEFAULT_MODEL,))
    tuned = read_tuning_list(tune, tune_alignments, scored, levels) if tune else None
    known = scored.references if tuned is None else {**tuned.references, **scored.references}
    made = None if scored.manifest is None else make_rows(wanted, count, known, device)
    rows, groups, counts = made or ({}, None, {})
    found = scored.segment(rows, groups)
    tuning = None if tuned is None else Tuning(tuned.segment(rows, groups), tuned.references)
    table: dict[str, list[dict[str, Any]]] = {name: [] for name in found}
    for level in levels:
        for one in protocols:
            compared = compare_segmentations(found, scored.references, protocol=one, level=level, tuning=tuning)
            for row in compared.rows(baseline=against, resamples=resamples, seed=seed):
                # Units of a file are as many as their tokenizer made.
                table[row["segmenter"]].append(row | {"count": counts.get(row["segmenter"], "own")})
    result: dict[str, Any] = {
        "evaluation": "boundaries",
        "model": (", ".join(wanted.models) or None) if rows else None,
        "data": scored.to_dict(alignments, found),
        "count": count if rows else "own",
        "levels": list(levels),
        "protocols": [one.to_dict() for one in protocols],
    }
    if len(protocols) == 1:
        result["protocol"] = result["protocols"][0]
    if tuned is not None and tuning is not None and tune_alignments is not None:
        result["tuning"] = tuned.to_dict(tune_alignments, tuning.predictions)
    result["rows"] = [row for lines in table.values() for row in lines]
    _print_boundaries(result, output_format)


def _print_boundaries(result: dict[str, Any], output_format: str) -> None:
    from syllablelm.core.table import format_table

    if output_format == "json":
        print_json(result)
        return
    for protocol in result["protocols"]:
        protocol = protocol | ({"shift": "searched for each row"} if protocol["shift"] is None else {})
        facts = ", ".join(f"{key} {value}" for key, value in protocol.items() if key != "name")
        print(f"protocol {protocol['name']} ({facts})")
    if "tuning" in result:
        print(f"shifts searched on {result['tuning']['name']} ({result['tuning']['recordings']} recordings)")
    rows = result["rows"]
    columns = {key: name for key, name in _BOUNDARY_COLUMNS.items() if any(key in row for row in rows)}
    print("\n" + format_table(rows, columns, style=output_format), flush=True)


def purity(
    alignments: Alignments,
    audio: Audio = None,
    units: Units = None,
    partial: Partial = False,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    reference: References = None,
    matching: Annotated[
        Literal["overlap", "full", "majority"],
        typer.Option(
            "--matching",
            help="full: pairs also what does not overlap (SD-HuBERT); majority: every segment stands for what it "
            "overlaps most, silence too (ZeroSyl).",
        ),
    ] = "overlap",
    output_format: TableFormat = "json",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score how consistently units stand for syllables, phones or words.

    Purities by both readings, mutual information, token F1.
    """
    from syllablelm.evaluate.checks import check_lengths, check_references

    levels = parse_levels(reference)
    references = read_references(alignments)
    found = read_unit_list(audio, units, model, rate, device)
    shared, omitted = found.align(references, partial=partial)
    check_references(references, shared, levels, str(alignments))
    check_lengths(shared, references, found.name)
    wanted = {id: references[id] for id in shared}
    rows = [_purity_row(shared, wanted, level, matching, resamples, seed) for level in levels]
    result = {
        **found.header("purity", alignments, shared, omitted),
        "matching": matching,
        "normalization": _NORMALIZATION,
        **rows[0],
        "rows": rows,
    }
    if output_format == "json":
        print_json(result)
        return
    from syllablelm.core.table import format_table

    print(f"{result['data']['name']}, {plural(len(shared), 'recording')}, matching {matching}\n")
    print(format_table(rows, _PURITY_COLUMNS, style=output_format), flush=True)


def _purity_row(
    predictions: Mapping[str, Segmentation],
    references: Mapping[str, Alignment],
    level: str,
    matching: Any,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Scores against one kind of reference, with intervals."""
    from syllablelm.evaluate import PurityCounts, bootstrap_interval, score_purity
    from syllablelm.evaluate.boundaries.segment_scores import TokenCounts, score_tokens

    items = list(score_purity(predictions, references, matching=matching, level=level).values())
    total = PurityCounts.merge(items)
    row: dict[str, Any] = {"level": level, **total.to_dict()}
    for name in _PURITY_INTERVALS:
        low, high = bootstrap_interval(
            items, lambda counts, name=name: getattr(counts, name), resamples=resamples, seed=seed, centered=True
        )
        row |= {f"{name}_low": low, f"{name}_high": high}
    row["readings"] = {
        "released": {"cluster_purity": total.cluster_purity, "syllable_purity": total.syllable_purity},
        "worded": {"cluster_purity": total.worded_cluster_purity, "syllable_purity": total.worded_syllable_purity},
    }
    tokens = list(score_tokens(predictions, references, level).values())
    row |= {f"token_{key}": value for key, value in sum(tokens, TokenCounts()).to_dict().items()}
    low, high = bootstrap_interval(tokens, lambda counts: counts.f1, resamples=resamples, seed=seed)
    return row | {"token_f1_low": low, "token_f1_high": high}


def bitrate(
    audio: Audio = None,
    units: Units = None,
    num_units: Annotated[
        int | None, typer.Option("--num-units", metavar="N", min=1, help="Size of the codebook that made --units.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    output_format: TableFormat = "json",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Count units and bits per second.

    Before and after joining repeats; by the codebook's size and by how often each unit occurs; likewise of lengths.
    """
    from syllablelm.evaluate import RateCounts, bootstrap_interval, rate_counts

    found = read_unit_list(audio, units, model, rate, device)
    items = [rate_counts(segments) for segments in found.segmentations.values()]
    total = RateCounts.merge(items)
    size = num_units or found.num_units
    omitted = {"left_out": 0, "unusable": found.unusable}
    note_omitted(omitted)
    header = found.header("bitrate", None, found.segmentations, omitted)
    result = header | {"num_units": size, **total.to_dict(size)}
    for name, statistic in _RATE_INTERVALS.items():
        if name in result:
            low, high = bootstrap_interval(items, statistic, resamples=resamples, seed=seed, centered=True)
            result |= {f"{name}_low": low, f"{name}_high": high}
    if output_format == "json":
        print_json(result)
        return
    from syllablelm.core.table import format_table

    print(f"{result['data']['name']}, {plural(len(items), 'recording')}\n")
    rows = total.rows(size)
    columns = {key: name for key, name in _RATE_COLUMNS.items() if key in rows[0]}
    print(format_table(rows, columns, style=output_format, digits=2), flush=True)
