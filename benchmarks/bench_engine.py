"""Time `encode` on a corpus, beside its stages one after the other, and on a finished corpus.

Run: python benchmarks/bench_engine.py [MANIFEST] [--model small] [--precision bfloat16] [--recordings 40]
     python benchmarks/bench_engine.py MANIFEST --lengths 600 3600 36000

Without a manifest the corpus is the bundled recording from different starts. The shards must equal the output of
`Tokenizer.encode`; "miss rate" is the share of frames with another unit: of batches against recordings alone, and of
another precision against float32. With --lengths the recordings are repeated under other ids, up to so many seconds
of audio, and each corpus is encoded by a process of its own, whose memory is measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from results import add_json, report

from syllablelm import Segmentation, Tokenizer
from syllablelm.data.manifest import Manifest
from syllablelm.engine import encode_corpus, read_units
from syllablelm.evaluate.speed import AgreementCounts, compare_units, make_clips


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return seconds, CPU seconds, and the result."""
    cpu, start = time.process_time(), time.perf_counter()
    result = work()
    return time.perf_counter() - start, time.process_time() - cpu, result


def miss_rate(found: list[Segmentation], reference: list[Segmentation]) -> str:
    """Return the share of frames whose units differ."""
    counts = AgreementCounts.merge(map(compare_units, found, reference))
    return f"{counts.frames - counts.same_frames} of {counts.frames} frames ({1.0 - counts.unit_agreement:.2g})"


def compare(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Check the shards against encoding in memory, and time both."""
    tokenizer = Tokenizer.load(options.model, precision=options.precision)
    if options.manifest is None:
        (folder / "audio").mkdir()
        clips = make_clips(folder / "audio", options.recordings, options.seconds)
    else:
        clips = Manifest(list(Manifest.load(options.manifest))[: options.recordings])
    clips.save(folder / "m.jsonl")

    def plain() -> list[Segmentation]:
        return tokenizer.encode([clip.load() for clip in clips])

    expected = plain()
    alone = [tokenizer.encode(clip.load()) for clip in clips]
    print(f"miss rate, batches against recordings alone: {miss_rate(expected, alone)}")
    if options.precision != "float32":
        exact = Tokenizer.load(options.model).encode([clip.load() for clip in clips])
        print(f"miss rate, {options.precision} against float32: {miss_rate(expected, exact)}")
    best: dict[str, tuple[float, float]] = {}
    for turn in range(options.repeats):
        ways: dict[str, Callable[[], Any]] = {"decode all, then encode all": plain}
        for workers in options.workers:
            out = folder / f"out{turn}_{workers}"
            ways[f"encode, {workers} threads decode"] = lambda out=out, workers=workers: encode_corpus(
                folder / "m.jsonl", out, tokenizer, workers=workers
            )
            ways[f"the same again ({workers})"] = lambda out=out: encode_corpus(folder / "m.jsonl", out, tokenizer)
        for way, work in ways.items():
            taken, cpu, _ = timed(work)
            best[way] = min(best.get(way, (taken, cpu)), (taken, cpu))
        for workers in options.workers:
            if [segmentation for _, segmentation in read_units(folder / f"out{turn}_{workers}")] != expected:
                raise SystemExit("the shards differ from the output of Tokenizer.encode")
    audio = clips.total_seconds
    print(f"{options.model}, {options.precision}: {audio:.0f} s of audio, {len(clips)} recordings; shards as expected")
    return [
        {"way": way, "seconds": taken, "audio s/s": audio / taken, "audio s per CPU s": audio / cpu}
        for way, (taken, cpu) in best.items()
    ]


def encode_length(options: argparse.Namespace, folder: Path, length: float) -> dict[str, Any]:
    """Encode so many seconds of audio in a process that is used for nothing else."""
    recordings, chosen, audio = list(Manifest.load(options.manifest)), [], 0.0
    while audio < length:
        recording = recordings[len(chosen) % len(recordings)]
        chosen.append(replace(recording, id=f"{recording.id}-{len(chosen)}"))
        audio += recording.seconds
    Manifest(chosen).save(folder / f"{length:g}.jsonl")
    tokenizer = Tokenizer.load(options.model, precision=options.precision)
    taken, cpu, corpus = timed(lambda: encode_corpus(folder / f"{length:g}.jsonl", folder / f"{length:g}", tokenizer))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "audio, s": round(audio),
        "recordings": corpus.summary().recordings,
        "seconds": taken,
        "audio s/s": audio / taken,
        "audio s per CPU s": audio / cpu,
        "peak memory, MiB": round(peak),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", nargs="?", type=Path)
    parser.add_argument("--model", default="small")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--recordings", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1, help="Number of turns, of which the best counts.")
    parser.add_argument("--lengths", type=float, nargs="+", help="Seconds of audio of corpora of growing size.")
    add_json(parser)
    options = parser.parse_args()
    if options.lengths and options.manifest is None:
        parser.error("--lengths repeats the recordings of a manifest: give one")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.lengths:
            rows = []
            for length in options.lengths:
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    rows.append(process.apply(encode_length, (options, folder, length)))
        else:
            rows = compare(options, folder)
    report(options, rows, digits=2)


if __name__ == "__main__":
    main()
