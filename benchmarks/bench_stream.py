"""Compare a stream with a lookahead with the encoding of whole recordings: agreement, cost and latency.

Run: python benchmarks/bench_stream.py MANIFEST [--model NAME ...] [--reference NAME] [--limit N] [--join N]
         [--figure FILE.png] [--json FILE] [--sizes LOOKAHEAD,CONTEXT,HOP ...]
NAME@X is a model whose segments are cut at the penalty X (rule "penalty"). --reference: a model whose units of whole
recordings all are compared with, too.
Audio arrives in blocks of 20 ms. "cost" is computing time over the length of the audio. A chunk is one hop; its time by
the clock, and in computing time, is that from the block that completes it until its segments are there. One thread.
--join N makes one recording of every N neighbours.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import add_json, report

from syllablelm import Segmentation, Tokenizer
from syllablelm.data.corpus import read_recordings
from syllablelm.evaluate.speed import compare_units

BLOCK = 320
SIZES = ("1,6,0.2", "0.5,6,0.2", "0.5,3,0.2", "2,6,0.5")


def load(name: str) -> Tokenizer:
    """Load a model by NAME or NAME@PENALTY."""
    model, _, penalty = name.partition("@")
    options = {"rule": "penalty", "delta": float(penalty)} if penalty else {}
    return Tokenizer.load(model, device="cpu", **options)


def in_blocks(wave: np.ndarray, arrivals: list[tuple[float, float]]) -> Iterator[np.ndarray]:
    """Yield blocks of 20 ms and note when each was asked for, by the clock and in computing time."""
    for first in range(0, len(wave), BLOCK):
        arrivals.append((time.perf_counter(), time.process_time()))
        yield wave[first : first + BLOCK]
    arrivals.append((time.perf_counter(), time.process_time()))


def measure(
    tokenizer: Tokenizer, waves: list[np.ndarray], references: list[list[Segmentation]], sizes: str
) -> dict[str, Any]:
    """Return agreement with each reference (the own one first), cost and latency of one setting."""
    lookahead, context, hop = (float(value) for value in sizes.split(","))
    agreement: list[Any] = [None] * len(references)
    computing, chunks = 0.0, []
    for number, wave in enumerate(waves):
        arrivals: list[tuple[float, float]] = []
        started = time.process_time()
        parts = tokenizer.stream(
            in_blocks(wave, arrivals), lookahead=lookahead, context_seconds=context, hop_seconds=hop
        )
        found = Segmentation.join(parts)
        computing += time.process_time() - started
        # Blocks that complete no chunk take microseconds; there is one chunk in each hop.
        waits = np.diff(arrivals, axis=0)
        hops = max(1, int(len(wave) / 16_000 / min(hop, lookahead / 2)))
        chunks.append(1000 * np.sort(waits, axis=0)[-hops:])
        for place, reference in enumerate(references):
            counts = compare_units(found, reference[number])
            agreement[place] = counts if agreement[place] is None else agreement[place] + counts
    (p50, p50_computing), (p99, p99_computing) = np.quantile(np.concatenate(chunks), [0.5, 0.99], axis=0).tolist()
    seconds = sum(len(wave) for wave in waves) / 16_000
    return {
        "lookahead": lookahead,
        "context": context,
        "hop": hop,
        "f1": agreement[0].boundaries.f1,
        "same_units": agreement[0].unit_agreement,
        "same_units_as_reference": agreement[-1].unit_agreement,
        "cost": computing / seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "p50_computing_ms": p50_computing,
        "p99_computing_ms": p99_computing,
    }


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw agreement against latency."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.5), layout="constrained")
    axes = figure.subplots()
    for key, label in (("f1", "boundary F1 at 20 ms"), ("same_units", "frames with the same unit")):
        for color, model in enumerate(dict.fromkeys(row["model"] for row in rows)):
            chosen = sorted((row for row in rows if row["model"] == model), key=lambda row: row["lookahead"])
            axes.plot(
                [row["lookahead"] for row in chosen],
                [row[key] for row in chosen],
                color=f"C{color}",
                marker="o" if key == "f1" else "s",
                linestyle="-" if key == "f1" else "--",
                label=f"{Path(model).name}: {label}",
            )
    axes.set(xlabel="lookahead (s)", ylabel="agreement with whole recordings", ylim=(0.5, 1.0))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--model", nargs="+", default=["small"])
    parser.add_argument("--reference")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--join", type=int, default=1)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--figure", type=Path)
    add_json(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recordings = list(read_recordings([options.manifest])[0])[: options.limit]
    loaded = [recording.load() for recording in recordings]
    waves = [np.concatenate(loaded[i : i + options.join]) for i in range(0, len(loaded), options.join)]
    common = [load(options.reference).encode(waves)] if options.reference else []
    rows = []
    for model in options.model:
        tokenizer = load(model)
        references = [tokenizer.encode(waves), *common]
        for sizes in options.sizes:
            rows.append({"model": model, **measure(tokenizer, waves, references, sizes)})
            print(json.dumps(rows[-1]), flush=True)
    report(options, rows)
    if options.figure is not None:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
