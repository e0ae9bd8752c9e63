"""Time `encode` on a corpus, beside its stages one after the other, and on a finished corpus.

Run: python benchmarks/bench_engine.py [--model small] [--recordings 40] [--seconds 12] [--workers 1 2] [--repeats 1]
The shards must equal the output of `Tokenizer.encode`. The corpus is the bundled recording from different starts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import add_json, report

from syllablelm import Tokenizer
from syllablelm.engine import encode_corpus, read_units
from syllablelm.evaluate.speed import make_clips


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return seconds, CPU seconds, and the result."""
    cpu, start = time.process_time(), time.perf_counter()
    result = work()
    return time.perf_counter() - start, time.process_time() - cpu, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="small")
    parser.add_argument("--recordings", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1, help="Number of turns, of which the best counts.")
    add_json(parser)
    options = parser.parse_args()
    tokenizer = Tokenizer.load(options.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "audio").mkdir()
        clips = make_clips(folder / "audio", options.recordings, options.seconds)
        clips.save(folder / "m.jsonl")
        audio = options.recordings * options.seconds

        def plain() -> list[Any]:
            return tokenizer.encode([clip.load() for clip in clips])

        expected = plain()
        best: dict[str, tuple[float, float]] = {}
        for turn in range(options.repeats):
            ways: dict[str, Callable[[], Any]] = {"decode all, then encode all": plain}
            for workers in options.workers:
                out = folder / f"out{turn}_{workers}"
                ways[f"encode, {workers} threads decode"] = lambda out=out, workers=workers: encode_corpus(
                    folder / "m.jsonl", out, tokenizer, workers=workers, shard_seconds=120.0
                )
                ways[f"the same again ({workers})"] = lambda out=out: encode_corpus(
                    folder / "m.jsonl", out, tokenizer, shard_seconds=120.0
                )
            for way, work in ways.items():
                taken, cpu, _ = timed(work)
                best[way] = min(best.get(way, (taken, cpu)), (taken, cpu))
            for workers in options.workers:
                found = [segmentation for _, segmentation in read_units(folder / f"out{turn}_{workers}")]
                if found != expected:
                    raise SystemExit("the shards differ from the output of Tokenizer.encode")
    load = os.getloadavg()[0]
    print(
        f"{options.model}: {audio:.0f} s of audio, {options.recordings} recordings, load {load:.1f}; shards as expected"
    )
    rows = [
        {"way": way, "seconds": taken, "audio s/s": audio / taken, "audio s per CPU s": audio / cpu}
        for way, (taken, cpu) in best.items()
    ]
    report(options, rows, tokenizer.encoder.device, digits=2)


if __name__ == "__main__":
    main()
