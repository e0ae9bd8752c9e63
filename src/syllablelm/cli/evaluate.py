"""``evaluate``: boundaries, purity and bit rate, of recordings or of a file of units."""

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
    quiet_libraries,
    read_recordings,
)
from syllablelm.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from syllablelm.alignment import Alignment
    from syllablelm.corpus import Manifest
    from syllablelm.evaluate.compare import Count
    from syllablelm.segmenters import Segmenter
    from syllablelm.tokenizer import Tokenizer
    from syllablelm.types import Segmentation

app = typer.Typer(help="Score units as the papers do: JSON with counts and ratios.", rich_markup_mode=None)

Audio = Annotated[list[str] | None, typer.Argument(help="Recordings: files, folders, patterns, or one manifest.")]
Alignments = Annotated[
    Path, typer.Option("--alignments", help="Reference by recording id: .jsonl, .TextGrid, .ctm or a folder of them.")
]
Units = Annotated[Path | None, typer.Option("--units", help="Output of tokenize to score instead of recordings.")]
Resamples = Annotated[int, typer.Option("--resamples", min=1, help="Of the bootstrap for 95 % intervals.")]


class _OwnRule:
    """A tokenizer that cuts as many groups as it sees fit.

    It keeps the last recording's segmentation, so that asking for the count and then for the boundaries encodes once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._last: tuple[object, Segmentation] | None = None

    def _segment(self, waveform: npt.NDArray[np.float32]) -> Segmentation:
        if self._last is None or self._last[0] is not waveform:
            self._last = (waveform, self.tokenizer.encode(waveform))
        return self._last[1]

    def count(self, name: str, waveform: npt.NDArray[np.float32]) -> int:
        return max(1, len(self._segment(waveform)))

    def boundaries(self, waveform: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int32]:
        return self._segment(waveform).boundaries


@app.command()
def boundaries(
    alignments: Alignments,
    audio: Audio = None,
    units: Annotated[
        list[Path] | None, typer.Option("--units", help="Output of tokenize: a row of its own; repeatable.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME|PATH", help="Tokenizer; repeatable. Without any row asked for: tiny."),
    ] = None,
    baselines: Annotated[
        str | None, typer.Option("--baselines", help="Joined by commas: even, envelope, strength, mel.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Encoder: rows similarity@L and minsum@L for every layer asked for.")
    ] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="Of --encoder, joined by commas; default all.")] = None,
    predictor: Annotated[
        str | None, typer.Option("--predictor", help="Encoder artifact with its prediction head: row losspred.")
    ] = None,
    count: Annotated[
        str,
        typer.Option(
            "--count",
            metavar="reference|own|RATE",
            help="Groups per recording: the reference's, the (first) model's own choice, or a rate per second.",
        ),
    ] = "reference",
    protocol: Annotated[
        Literal["paper", "peng", "sdhubert", "strict"], typer.Option("--protocol", help="Which boundaries count.")
    ] = "paper",
    shift: Annotated[
        float | None, typer.Option("--shift", help="Seconds, found on a development list (peng, sdhubert).")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Row to give every row's paired difference from.")
    ] = None,
    output_format: Annotated[
        Literal["json", "text", "markdown"], typer.Option("--format", help="What to print.")
    ] = "json",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score boundaries of tokenizers, baselines, encoder layers and files of units in one table."""
    from syllablelm.alignment import read_alignments
    from syllablelm.evaluate import get_protocol
    from syllablelm.evaluate.compare import compare_segmentations, segment_corpus

    chosen = get_protocol(protocol) if shift is None else get_protocol(protocol).with_shift(shift)
    references = read_alignments(alignments)
    predictions: dict[str, Mapping[str, Segmentation]] = {}
    ids = set(references)
    if audio:
        manifest = _aligned(audio, references)
        ids = {recording.id for recording in manifest}
        quiet_libraries()
        rows, counts = _rows(model or [], _names(baselines), encoder, layers, predictor, count, device, bool(units))
        predictions.update(segment_corpus(manifest, rows, counts or _reference_count(references)))
    elif not units:
        raise InputError("nothing to score: give recordings, or --units FILE")
    for file in units or []:
        predictions[file.stem] = _read_units(file, ids, all_needed=bool(audio))
    comparison = compare_segmentations(predictions, references, protocol=chosen)
    table = comparison.rows(baseline=against, resamples=resamples, seed=seed)
    _print_table(table, comparison.protocol.to_dict(), count if audio else "own", output_format)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


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


def _rows(
    models: Sequence[str],
    baselines: Sequence[str],
    encoder: str | None,
    layers: str | None,
    predictor: str | None,
    count: str,
    device: str,
    has_units: bool,
) -> tuple[dict[str, Segmenter], Count | None]:
    """The segmenters asked for, by the name of their row, and the count; None is the reference's count."""
    from syllablelm.evaluate.compare import rate_count
    from syllablelm.segmenters import make_segmenter

    if not (models or baselines or encoder or predictor or has_units):
        models = [DEFAULT_MODEL]
    if count == "own" and not models:
        raise InputError("--count own is the count of a tokenizer; give --model NAME too")
    rate = None if count in ("reference", "own") else _parse_rate(count)
    counter = None if rate is None else rate_count(rate)
    rows: dict[str, Segmenter] = {}
    for name in models:
        tokenizer = load_tokenizer(name, device=device)
        if count == "own":
            own = _OwnRule(tokenizer)
            counter = counter or own.count
            rows[name] = own.boundaries
        else:
            rows[name] = make_segmenter("minsum", encoder=tokenizer.encoder, max_length=tokenizer.rule.max_length)
    masked = None if predictor is None else _load_predictor(predictor, device)
    for name in [*baselines, *(["losspred"] if predictor else [])]:
        rows[name] = make_segmenter(name, predictor=masked)  # type: ignore[arg-type]
    if encoder is not None:
        rows.update(_layer_rows(encoder, layers, device))
    return rows, counter


def _parse_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise InputError(f"--count {text!r}: choose reference, own, or a number of groups per second")
    return rate


def _load_predictor(folder: str, device: str) -> Any:
    from syllablelm.encoders import MaskedPredictor

    return MaskedPredictor.load(folder, device=device)


def _layer_rows(encoder: str, layers: str | None, device: str) -> dict[str, Segmenter]:
    from syllablelm.encoders import load_encoder
    from syllablelm.segmenters import make_segmenter

    try:
        wanted = [int(layer) for layer in _names(layers)]
    except ValueError:
        raise InputError(f"--layers {layers!r}: give numbers joined by commas, such as 3,4") from None
    if not wanted:
        wanted = list(range(1, load_encoder(encoder, device=device).layer + 1))
    models = {layer: load_encoder(encoder, layer, device=device) for layer in wanted}
    return {
        f"{name}@{layer}": make_segmenter(name, encoder=model)
        for name in ("similarity", "minsum")
        for layer, model in models.items()
    }


def _reference_count(references: Mapping[str, Alignment]) -> Count:
    from syllablelm.evaluate.compare import reference_count

    return reference_count(references)


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
    if units is not None:
        if audio:
            raise InputError("give recordings or --units FILE, not both")
        from syllablelm.formats import read_segmentations

        return read_segmentations(units), None
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
    """Score how consistently units stand for syllables: cluster and syllable purity, mutual information."""
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
        int | None, typer.Option("--num-units", min=1, help="Size of the codebook, for bits per second of --units.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    device: Device = "auto",
) -> None:
    """Count units and bits per second, before and after joining repeats."""
    from syllablelm.evaluate import RateCounts, rate_counts

    found, size = _segmentations(audio, units, model, rate, device)
    total = sum((rate_counts(segments) for segments in found.values()), RateCounts())
    print_json({"recordings": len(found), **total.to_dict(num_units or size)})
