"""Time the loss-prediction matrix against one span per forward pass.

Run: python benchmarks/bench_losspred.py [--seconds 3] [--span 50] [--gap 150]
The model has random weights and about the size of that in the recipe `tiny`. Both must agree on a short recording; then
forward passes and seconds of both are printed, and their ratio, which grows with length: one needs a constant number of
passes, the other two per frame.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import add_json, report

from syllablelm.encoders import MaskedPredictor
from syllablelm.encoders.masked_prediction import EncoderShape
from syllablelm.segment import losspred_matrix
from syllablelm.segment.losspred import span_starts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.model_oracles import losspred_matrix_slow

TINY = EncoderShape(
    layers=6,
    dim=256,
    heads=4,
    feed_forward=1024,
    conv_dim=(64, 128, 256, 256),
    conv_kernel=(40, 9, 4, 2),
    conv_stride=(10, 4, 4, 2),
    position_kernel=31,
    activation="relu",
    dropout=0.0,
    final_dim=128,
)


class CountPasses:
    """A masked predictor that counts the recordings' passes through its transformer."""

    def __init__(self, model: MaskedPredictor) -> None:
        self.model, self.passes = model, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def hidden(self, input_BTD: torch.Tensor, frames_B: torch.Tensor, mask_BT: Any = None) -> torch.Tensor:
        self.passes += len(input_BTD)
        return self.model.hidden(input_BTD, frames_B, mask_BT)


def measure(function: Callable[[Any], np.ndarray], model: MaskedPredictor) -> tuple[int, float, float]:
    """Return forward passes, wall-clock seconds and CPU seconds of one run."""
    counted = CountPasses(model)
    start, processor = time.perf_counter(), time.process_time()
    function(counted)
    return counted.passes, time.perf_counter() - start, time.process_time() - processor


def check(model: MaskedPredictor) -> None:
    """Stop unless the matrix of a short recording is that of plain loops."""
    short = 0.1 * np.random.default_rng(0).standard_normal(9_600).astype(np.float32)
    for gap in (None, 8):
        fast = losspred_matrix(model, short, span=10, gap=len(short) if gap is None else gap)
        slow = losspred_matrix_slow(model, short, span=10, gap=gap)
        # Relative, since under random weights all probabilities lie near one over the number of labels.
        difference = float((np.abs(fast - slow) / np.maximum(slow, 1e-12)).max())
        if difference > 1e-4:
            raise SystemExit(f"the matrix differs from the plain loops by {difference:.1e} of a value")
        print(
            f"agreement with plain loops, gap {gap}: {len(fast)} frames, largest relative difference {difference:.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--span", type=int, default=50)
    parser.add_argument("--gap", type=int, default=150)
    add_json(parser)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = MaskedPredictor.create(TINY, 500).eval()
    clip = 0.1 * np.random.default_rng(1).standard_normal(int(16_000 * options.seconds)).astype(np.float32)
    check(model)
    span, gap = options.span, options.gap
    # The slow version passes through the transformer twice per row, whatever the gap.
    rows = {
        "all spans of a pass at once": measure(lambda m: losspred_matrix(m, clip, span=span, gap=gap), model),
        "one span per pass": measure(lambda m: losspred_matrix_slow(m, clip, span=span), model),
    }
    print(f"\n{options.seconds:g} s of audio, span {span}, gap {gap}, {torch.get_num_threads()} threads")
    report(
        options,
        [
            {"way": name, "passes": passes, "seconds": taken, "processor seconds": processor}
            for name, (passes, taken, processor) in rows.items()
        ],
    )
    ratios = [slow / fast for fast, slow in zip(*rows.values(), strict=True)]
    print(f"ratios: {ratios[0]:.1f} in passes, {ratios[1]:.1f} by the clock, {ratios[2]:.1f} by processor time")
    for length in (15, 60):
        frames = model.encoder.num_frames(16_000 * length)
        passes = sum(len(span_starts(frames, span, shift, gap)) > 0 for shift in range(span + gap))
        # One pass for the labels; the first and the last row have one side only.
        print(f"{length} s would take {passes + 1} passes against {2 * frames - 1}")


if __name__ == "__main__":
    main()
