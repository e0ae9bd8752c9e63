"""``encode``: a corpus to Parquet shards, resumable, in one process or many."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from syllablelm.cli.common import DEFAULT_MODEL, BatchSeconds, Delta, Device, Model, Precision, Rate, Rule, print_json
from syllablelm.core.errors import InputError, plural
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.engine import Corpus


def encode(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A .jsonl (see prepare) or .csv manifest.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Of the corpus; one begun before is finished.")],
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    rule: Rule = None,
    delta: Delta = None,
    device: Device = "auto",
    precision: Precision = "float32",
    shard_seconds: Annotated[
        float, typer.Option("--shard-seconds", metavar="SECONDS", help="Audio of a shard.")
    ] = 3600.0,
    batch_seconds: BatchSeconds = 120.0,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Threads that decode audio.")
    ] = None,
    stale_seconds: Annotated[
        float,
        typer.Option("--stale-seconds", metavar="SECONDS", help="Take over another host's shard after such silence."),
    ] = 120.0,
    engine: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="This process, or one on every node of a Ray cluster.")
    ] = "local",
) -> None:
    """Encode a corpus into Parquet shards.

    Stop it whenever you like and run it again; run it several times at once, on several hosts, to share the work.
    """
    for name, value in (("--batch-seconds", batch_seconds), ("--stale-seconds", stale_seconds)):
        if not 0 < value < float("inf"):
            raise InputError(f"{name} {value}: must be above 0 and finite")
    started = time.monotonic()
    if engine == "ray":
        from syllablelm.engine.ray import encode_on_cluster as run
    else:
        from syllablelm.engine.local import encode_by_name as run

    corpus = run(
        str(manifest),
        str(out),
        model={
            "name": model,
            "rate": rate,
            "rule": rule,
            "delta": delta,
            "device": device,
            "precision": precision,
            "batch_seconds": batch_seconds,
        },
        shard_seconds=shard_seconds,
        workers=workers,
        stale_seconds=stale_seconds,
    )
    _report(corpus, time.monotonic() - started)


def _report(corpus: Corpus, taken: float) -> None:
    summary = corpus.summary()
    if not summary["recordings"]:
        first = corpus.entry(corpus.shards[0])["failed"][0]
        raise InputError(f"no usable recording: {first['path']}: {first['reason']}; see {corpus.path / 'ledger'}")
    hours = summary.pop("seconds") / 3600
    del summary["shards_planned"]
    note(
        f"{plural(summary['recordings'], 'recording')}, {hours:.2f} h, {plural(summary['segments'], 'unit')} "
        f"in {plural(summary['shards'], 'shard')}, {taken:.0f} s, "
        f"{summary['failed']} failed, {summary['skipped']} skipped"
    )
    print_json({"corpus": str(corpus.path), "hours": hours, **summary})
