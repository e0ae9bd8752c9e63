"""``evaluate stability``: units of the same recordings, clean and distorted."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from syllablelm.cli.common import (
    DEFAULT_MODEL,
    Audio,
    Device,
    Resamples,
    Seed,
    TableFormat,
    load_tokenizer,
    no_usable,
    print_json,
    read_recordings,
)
from syllablelm.core.errors import plural
from syllablelm.core.progress import note

_COLUMNS = {
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


def stability(
    audio: Audio,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME|PATH", help=f"Tokenizer; repeatable (default: {DEFAULT_MODEL})."),
    ] = None,
    conditions: Annotated[
        str, typer.Option("--conditions", metavar="A,B|all", help="Distortions; an unknown name lists them.")
    ] = "all",
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Maximum number of recordings.")
    ] = None,
    output_format: TableFormat = "json",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Compare the units of distorted recordings with those of the clean ones.

    Unit edit distance, boundary agreement at 20 and 50 ms, share of frames with the same unit.
    """
    from syllablelm.evaluate.units.stability import get_conditions, measure_stability

    chosen = [condition.name for condition in get_conditions(conditions)]
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    models = list(dict.fromkeys(model or [DEFAULT_MODEL]))
    rows: list[dict[str, Any]] = []
    data: dict[str, Any] = {}
    for name in models:
        tokenizer = load_tokenizer(name, device=device)
        found = measure_stability(tokenizer, manifest[:limit], conditions=chosen, seed=seed)
        rows += [{"model": name, **row} for row in found.rows(resamples=resamples, seed=seed)]
        unusable = len(skipped) + len(found.unusable)
        data = {"recordings": len(found.ids), "seconds": round(found.seconds, 3), "unusable": unusable}
    if data["unusable"]:
        note(f"left out: {data['unusable']} unusable")
    result = {
        "evaluation": "stability",
        "model": ", ".join(models),
        "data": {"name": ", ".join(audio), **data},
        "conditions": chosen,
        "seed": seed,
        "rows": rows,
    }
    if output_format == "json":
        print_json(result)
        return
    from syllablelm.core.table import format_table

    print(f"{result['data']['name']}, {plural(data['recordings'], 'recording')}, seed {seed}\n")
    print(format_table(rows, _COLUMNS, style=output_format), flush=True)
