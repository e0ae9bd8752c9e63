"""Time the tokenizer: seconds of audio per second, the share of each stage, and peak memory.

Run: python benchmarks/bench_tokenizer.py [--seconds 120] [--clip 15] [--model NAME|PATH]
Without --model the bundled "tiny" is used where it is there, else a model of its size with random weights; the audio
is the bundled sample, repeated, else seeded noise. Neither changes the amount of work.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_losspred import TINY

from syllablelm import Tokenizer, load_audio
from syllablelm.encoders.hub import HubEncoder
from syllablelm.quantize import Codebook
from syllablelm.rule import SegmentRule
from syllablelm.tokenizer import BUNDLED

STAGES = ("convolutions", "transformer", "segmentation", "pooling and units", "the rest")


def open_tokenizer(name: str | None) -> tuple[Tokenizer, str]:
    """The asked tokenizer, the bundled one, or a random one of its size; and what it is."""
    if name is not None or (BUNDLED / "tiny").is_dir():
        return Tokenizer.load(name or "tiny"), name or "tiny"
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2048, TINY.dim)).astype(np.float32)
    codebook = Codebook(centres, np.arange(2048, dtype=np.int32) % 1024)
    return Tokenizer(HubEncoder(TINY.build(), 4), codebook, SegmentRule(rate=5.0)), "random weights, 4 layers of 256"


def make_audio(seconds: float, clip: float) -> list[np.ndarray]:
    """Clips that make up the wanted length."""
    sample = BUNDLED / "sample.flac"
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 10).astype(np.float32)
    source = load_audio(sample) if sample.is_file() else noise
    length = int(16_000 * clip)
    whole = np.resize(source, max(1, round(seconds / clip)) * length)
    return list(whole.reshape(-1, length))


class Stopwatch:
    """Seconds spent inside some methods, by the stage they belong to."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Time every call of ``owner.name``."""
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments, **options)
            finally:
                self.seconds[stage] += time.perf_counter() - start

        # A frozen dataclass (the rule) is watched too.
        object.__setattr__(owner, name, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--clip", type=float, default=15.0, help="seconds of each recording")
    parser.add_argument("--model", default=None)
    options = parser.parse_args()
    tokenizer, name = open_tokenizer(options.model)
    clips = make_audio(options.seconds, options.clip)
    # The first call compiles the kernels.
    tokenizer.encode(clips[0][:16_000])

    watch = Stopwatch()
    watch.watch(tokenizer.encoder, "convolve", "convolutions")
    watch.watch(tokenizer.encoder, "project", "transformer")
    watch.watch(tokenizer.encoder, "transform", "transformer")
    watch.watch(tokenizer.rule, "boundaries", "segmentation")
    watch.watch(tokenizer, "pool", "pooling and units")
    if tokenizer.codebook is not None:
        watch.watch(tokenizer.codebook, "assign", "pooling and units")
    start = time.perf_counter()
    segmentations = tokenizer.encode(clips)
    taken = time.perf_counter() - start
    watch.seconds["the rest"] = taken - sum(watch.seconds.values())

    audio = sum(len(clip) for clip in clips) / 16_000
    units = sum(len(segmentation) for segmentation in segmentations)
    print(f"{name}: {audio:.0f} s of audio in {len(clips)} clips, {units} units, {torch.get_num_threads()} threads")
    print(f"{taken:.2f} s: {audio / taken:.0f} seconds of audio per second")
    for stage in STAGES:
        print(f"  {stage:20}{watch.seconds[stage]:8.2f} s{watch.seconds[stage] / taken:8.1%}")
    # Linux counts in kibibytes.
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
