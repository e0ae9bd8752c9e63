"""``evaluate``: boundaries, purity and bit rate, of recordings or of a file of units; speed is in `cli.speed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.common import (
    DEFAULT_MODEL,
    Device,
    Model,
    Rate,
    Seed,
    encode_recordings,
    load_tokenizer,
    no_usable,
    note,
    plural,
    print_json,
    read_recordings,
    split_units,
)
from syllablelm.cli.rows import RowChoice, make_rows, split_names
from syllablelm.cli.speech import evaluate_resynthesis
from syllablelm.cli.speed import speed
from syllablelm.cli.zerospeech import cloze, lexical, syntactic
from syllablelm.errors import InputError

if TYPE_CHECKING:
    from syllablelm.alignment import Alignment
    from syllablelm.corpus import Manifest
    from syllablelm.types import Segmentation

app = typer.Typer(help="Score units as the papers do.", rich_markup_mode=None)
app.command()(speed)
app.command("resynthesis")(evaluate_resynthesis)
app.command()(lexical)
app.command()(syntactic)
app.command()(cloze)

Audio = Annotated[
    list[str] | None,
    typer.Argument(metavar="AUDIO", help="Files, folders, patterns, or one manifest; or units as --units."),
]
Alignments = Annotated[
    Path,
    typer.Option("--alignments", metavar="FILE", help="Reference by id: .jsonl, .TextGrid, .ctm or a folder of them."),
]
Units = Annotated[
    Path | None, typer.Option("--units", metavar="FILE", help="Output of tokenize to score instead of recordings.")
]
Resamples = Annotated[int, typer.Option("--resamples", metavar="N", min=1, help="Of the bootstrap intervals (95 %).")]
UnitsFiles = Annotated[
    list[Path] | None, typer.Option("--units", metavar="FILE", help="Output of tokenize: a row of its own; repeatable.")
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME|PATH", help="Tokenizer; repeatable. Where no row is asked for: tiny."),
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
        help="Groups per recording: the reference's, the (first) model's own choice, or so many per second.",
    ),
]
ProtocolName = Annotated[
    Literal["paper", "peng", "sdhubert", "strict"], typer.Option("--protocol", help="Which boundaries count.")
]
Shift = Annotated[
    float | None, typer.Option("--shift", metavar="SECONDS", help="Found on a development list (peng, sdhubert).")
]
Against = Annotated[
    str | None, typer.Option("--against", metavar="ROW", help="Give every row's paired difference from this one.")
]
TableFormat = Annotated[Literal["json", "text", "markdown"], typer.Option("--format", help="What to print.")]


@app.command()
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
    protocol: ProtocolName = "paper",
    shift: Shift = None,
    against: Against = None,
    output_format: TableFormat = "json",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score boundaries.

    Tokenizers, baselines, encoder layers and files of units in one table.
    """
    from syllablelm.alignment import read_alignments
    from syllablelm.evaluate import get_protocol
    from syllablelm.evaluate.compare import compare_segmentations, segment_corpus

    chosen = get_protocol(protocol) if shift is None else get_protocol(protocol).with_shift(shift)
    references = read_alignments(alignments)
    predictions: dict[str, Mapping[str, Segmentation]] = {}
    ids = set(references)
    audio, more = split_units(audio or [])
    units = [*more, *(units or [])]
    if audio:
        manifest = _aligned(audio, references)
        ids = {recording.id for recording in manifest}
        wanted = RowChoice(
            tuple(model or ()), split_names(baselines), tuple(encoder or ()), split_names(layers), predictor
        )
        if units or not wanted.is_empty:
            rows, groups = make_rows(wanted, count, references, device)
        else:
            rows, groups = make_rows(RowChoice((DEFAULT_MODEL,)), count, references, device)
        predictions.update(segment_corpus(manifest, rows, groups))
    elif not units:
        raise InputError("nothing to score: give recordings, or --units FILE")
    for file in units:
        predictions[file.stem] = _read_units(file, ids, all_needed=bool(audio))
    comparison = compare_segmentations(predictions, references, protocol=chosen)
    table = comparison.rows(baseline=against, resamples=resamples, seed=seed)
    _print_table(table, comparison.protocol.to_dict(), count if audio else "own", output_format)


def _aligned(audio: Sequence[str], references: Mapping[str, Alignment]) -> Manifest:
    """The recordings that have a reference; how many have none is said, not hidden."""
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    kept = manifest.filter(lambda recording: recording.id in references)
    if not kept:
        raise InputError(
            f"no recording has an alignment: ids are {manifest[0].id!r} among the recordings and "
            f"{next(iter(references), 'none')!r} among the alignments"
        )
    if skipped or len(kept) < len(manifest):
        note(f"left out: {len(skipped)} unusable, {len(manifest) - len(kept)} without an alignment")
    return kept


def _read_units(file: Path, ids: set[str], *, all_needed: bool) -> dict[str, Segmentation]:
    """A file's segmentations of the recordings that are scored."""
    from syllablelm.formats import read_segmentations

    found = {id: value for id, value in read_segmentations(file).items() if id in ids}
    if not found:
        raise InputError(f"{file}: none of its recordings is among those with an alignment")
    if all_needed and len(found) < len(ids):
        missing = min(ids - set(found))
        raise InputError(f"{file}: lacks {plural(len(ids) - len(found), 'recording')}, such as {missing!r}")
    return found


def _print_table(rows: list[dict[str, Any]], protocol: dict[str, object], count: str, output_format: str) -> None:
    from syllablelm.evaluate import format_table

    if output_format == "json":
        print_json({"protocol": protocol, "count": count, "rows": rows})
        return
    facts = ", ".join(f"{key} {value}" for key, value in protocol.items() if key != "name")
    print(f"protocol {protocol['name']} ({facts}); count {count}\n")
    print(format_table(rows, style=output_format), flush=True)


def _segmentations(
    audio: Sequence[str] | None, units: Path | None, model: str, rate: float | None, device: str
) -> tuple[dict[str, Segmentation], int | None]:
    """Units by recording id from a file, or from recordings by a tokenizer with its vocabulary's size."""
    audio, files = split_units(audio or [])
    files = [*files, *([units] if units else [])]
    if files:
        if audio or len(files) > 1:
            raise InputError(f"{files[0]}: a file of units is scored alone; give no recordings and no second file")
        from syllablelm.formats import read_segmentations

        return read_segmentations(files[0]), None
    if not audio:
        raise InputError("nothing to score: give recordings, or --units FILE")
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    tokenizer = load_tokenizer(model, device=device, rate=rate)
    found = {recording.id: segments for recording, segments in encode_recordings(tokenizer, manifest, skipped)}
    if not found:
        raise no_usable(skipped)
    if skipped:
        note(f"left out: {len(skipped)} unusable")
    return found, tokenizer.num_units


@app.command()
def purity(
    alignments: Alignments,
    audio: Audio = None,
    units: Units = None,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    matching: Annotated[
        Literal["overlap", "full"], typer.Option("--matching", help="full: pairs also what does not overlap.")
    ] = "overlap",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score how consistently units stand for syllables.

    Cluster and syllable purity, mutual information.
    """
    from syllablelm.alignment import read_alignments
    from syllablelm.evaluate import PurityCounts, bootstrap_interval, score_purity

    references = read_alignments(alignments)
    found, _ = _segmentations(audio, units, model, rate, device)
    shared = {id: segments for id, segments in found.items() if id in references}
    if not shared:
        raise InputError(f"no recording has an alignment in {alignments}; the ids must be the same")
    if len(shared) < len(found):
        note(f"left out: {len(found) - len(shared)} without an alignment")
    items = list(score_purity(shared, {id: references[id] for id in shared}, matching=matching).values())
    intervals = {
        name: bootstrap_interval(
            items, lambda counts, name=name: getattr(counts, name), resamples=resamples, seed=seed, centered=True
        )
        for name in ("cluster_purity", "syllable_purity")
    }
    result: dict[str, Any] = {"matching": matching, "recordings": len(items), **PurityCounts.merge(items).to_dict()}
    for name, (low, high) in intervals.items():
        result |= {f"{name}_low": low, f"{name}_high": high}
    print_json(result)


@app.command()
def bitrate(
    audio: Audio = None,
    units: Units = None,
    num_units: Annotated[
        int | None, typer.Option("--num-units", metavar="N", min=1, help="Size of the codebook that made --units.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    device: Device = "auto",
) -> None:
    """Count units and bits per second.

    Before and after joining repeats.
    """
    from syllablelm.evaluate import RateCounts, rate_counts

    found, size = _segmentations(audio, units, model, rate, device)
    total = sum((rate_counts(segments) for segments in found.values()), RateCounts())
    print_json({"recordings": len(found), **total.to_dict(num_units or size)})
