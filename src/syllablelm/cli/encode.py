"""``encode``: a corpus to Parquet shards, resumable, in one process or many."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from syllablelm.cli.options import DEFAULT_MODEL, BatchSeconds, Delta, Device, Model, Precision, Rate, Rule, print_json
from syllablelm.core.errors import plural
from syllablelm.core.progress import note
from syllablelm.data.manifest_formats import FOREIGN_MANIFESTS


def encode(
    manifest: Annotated[
        Path,
        typer.Argument(metavar="MANIFEST", help=f"Manifest: .jsonl (see prepare), .csv, {FOREIGN_MANIFESTS}."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder of the corpus; an unfinished one is resumed.")
    ],
    model: Model = DEFAULT_MODEL,
    acoustic: Annotated[
        str | None,
        typer.Option(
            "--acoustic", metavar="NAME|PATH", help="Second tokenizer, of acoustic units: written to FOLDER/acoustic."
        ),
    ] = None,
    rate: Rate = None,
    rule: Rule = None,
    delta: Delta = None,
    device: Device = "auto",
    precision: Precision = "float32",
    shard_seconds: Annotated[
        float, typer.Option("--shard-seconds", metavar="SECONDS", help="Audio per shard.")
    ] = 3600.0,
    batch_seconds: BatchSeconds = 120.0,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Number of threads that decode audio.")
    ] = None,
    claim_timeout: Annotated[
        float,
        typer.Option(
            "--claim-timeout", metavar="SECONDS", help="Time without progress until another host takes a shard over."
        ),
    ] = 600.0,
    engine: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="This process, or one per GPU or node of a Ray cluster.")
    ] = "local",
) -> None:
    """Encode a corpus into Parquet shards.

    Stop it at any time and run it again; run it several times at once, on several hosts, to share the work.
    """
    from syllablelm.engine import encode_corpus

    started = time.monotonic()
    work = {"engine": engine, "shard_seconds": shard_seconds, "workers": workers, "claim_timeout": claim_timeout}
    tokenizer = {"rate": rate, "rule": rule, "delta": delta, "device": device, "precision": precision}
    work |= {"acoustic": acoustic, "batch_seconds": batch_seconds}
    corpus = encode_corpus(manifest, out, model, **work, **tokenizer)  # type: ignore[arg-type]
    summary = corpus.summary()
    note(
        f"{plural(summary.recordings, 'recording')}, {summary.seconds / 3600:.2f} h, "
        f"{plural(summary.segments, 'unit')} in {plural(summary.shards, 'shard')}, {time.monotonic() - started:.0f} s, "
        f"{summary.failed} failed, {summary.skipped} skipped"
    )
    print_json({"corpus": str(corpus.path), "hours": summary.seconds / 3600, **summary.to_dict()})
