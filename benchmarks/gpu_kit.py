"""Test and time everything that runs on a GPU, in about eight minutes, each step with its share of the peak.

Run: python benchmarks/gpu_kit.py --json gpu.json            (make bench-gpu)
     python benchmarks/gpu_kit.py --toy --device cpu         (small models, seconds: so that the kit itself is tested)
The GPU tests; units from audio (encoder, MinSum and codebook; random weights of HuBERT's and Whisper's base size, 32
clips of 25 s); LossPred on 25 s; training of language models of 90M ("base") and 300M ("large") parameters by every way
to keep crops apart; generation at base size in fixed shapes (CUDA graphs), in growing ones, and by transformers. What
is computed in two ways is compared before it is timed. "of peak" is the share of the device's peak FLOP/s in that
precision, by its data sheet where that is known. A step that fails is a row with its reason, one that would begin after
``--minutes`` a row that says so; the exit code is 1 where any has failed.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import bench_lm
import bench_losspred
import bench_tokenizer
import bench_train
import numpy as np
import torch
from results import add_json, report
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from syllablelm.core.errors import first_line
from syllablelm.core.progress import note
from syllablelm.encoders import MaskedPredictor
from syllablelm.encoders.device import pick_device
from syllablelm.encoders.masked_prediction import EncoderShape
from syllablelm.evaluate.speed import SEGMENTATION, UNITS, make_clips, measure_speed
from syllablelm.lm.fused import make_stepper
from syllablelm.lm.speech_lm import count_parameters
from syllablelm.segment import losspred_matrix
from syllablelm.train.peak_flops import find_peak_flops

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, Any]


class Kit:
    """The steps, and the rows of those that have run.

    Args:
        device: device of all steps.
        minutes: time after which no further step begins.
        toy: small models and few repetitions.
    """

    def __init__(self, device: torch.device, minutes: float, *, toy: bool) -> None:
        self.device, self.minutes, self.toy = device, minutes, toy
        self.rows: list[Row] = []
        self.failed = False
        self._end = time.monotonic() + 60 * minutes
        self._peaks: dict[bool, float] = {}

    @property
    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    def run(self, step: str, work: Callable[..., Row], **labels: Any) -> None:
        """Add the row of a step: what ``work`` returns, why it failed, or that there was no time for it."""
        row: Row = {"step": step, **labels}
        note(", ".join(map(str, row.values())))
        if self.seconds_left <= 0:
            self.rows.append(row | {"skipped": f"after {self.minutes:g} minutes"})
            return
        try:
            row |= work(**labels)
        # The kit goes on whatever a step raises; its row says what.
        except (Exception, SystemExit) as error:
            row["error"] = f"{type(error).__name__}: {first_line(error)}"
            self.failed = True
        self.rows.append(row)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def share(self, flops_per_second: float, precision: str) -> float:
        """Return the share of the device's peak in a precision."""
        half = precision != "float32"
        if half not in self._peaks:
            self._peaks[half], _ = find_peak_flops(self.device, half=half)
        return flops_per_second / self._peaks[half]

    def fastest(self, work: Callable[[], Any], repeats: int = 2) -> float:
        """Return the seconds of the fastest of some runs."""
        taken = []
        for _ in range(1 if self.toy else repeats):
            self._wait()
            start = time.perf_counter()
            work()
            self._wait()
            taken.append(time.perf_counter() - start)
        return min(taken)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def tests(self, paths: str) -> Row:
        """Run the tests marked "gpu" and return their counts."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "tests.xml"
            command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", f"--junitxml={out}", paths]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=self.seconds_left / 2)
            if not out.exists():
                raise RuntimeError(f"pytest wrote no result (exit code {done.returncode})")
            found = ElementTree.parse(out).getroot()[0].attrib
        total, failed, errors, skipped = (int(found[name]) for name in ("tests", "failures", "errors", "skipped"))
        counts: Row = {"passed": total - failed - errors - skipped, "failed": failed + errors, "not run": skipped}
        if done.returncode:
            self.failed = True
            lines = done.stdout.splitlines()
            counts["error"] = first_line(next((line for line in lines if line.startswith(("FAILED", "ERROR"))), "?"))
        return counts

    @cached_property
    def clips(self) -> Any:
        """The recordings, files that live as long as the kit."""
        self._folder = tempfile.TemporaryDirectory()
        count, seconds = (2, 2.0) if self.toy else (32, 25.0)
        return make_clips(Path(self._folder.name), count, seconds)

    def units(self, size: str, precision: Any) -> Row:
        """From waveforms in memory to units; shares of the time are those of a run whose stages are synchronised."""
        tokenizer: Any = bench_tokenizer.open_tokenizer(size, self.device, precision, toy=self.toy)
        tokenizer.batch_seconds = self.clips.total_seconds
        speed, _ = measure_speed(tokenizer, self.clips)
        waves = [recording.load() for recording in self.clips]
        taken = self.fastest(lambda: tokenizer.encode(waves))
        flops = len(waves) * count_flops(tokenizer.encoder, lambda: tokenizer.encode(waves[:1]))
        shares = {stage.stage: stage.share for stage in speed.stages}
        return {
            "audio s/s": speed.audio_seconds / taken,
            "of peak": self.share(flops / taken, precision),
            f"share of {SEGMENTATION}": shares[SEGMENTATION],
            f"share of {UNITS}": shares[UNITS],
            "device MiB": speed.peak_device_mib,
        }

    def losspred(self, precision: str) -> Row:
        """LossPred at HuBERT-base's size; equal to the plain loops first."""
        torch.manual_seed(0)
        bench_losspred.check(MaskedPredictor.create(bench_losspred.TINY, 500).eval().to(self.device))
        shape = bench_losspred.TINY if self.toy else EncoderShape()
        model = MaskedPredictor.create(shape, 500).eval().to(self.device)
        seconds = 1 if self.toy else 25
        clip = 0.1 * np.random.default_rng(0).standard_normal(16_000 * seconds).astype(np.float32)
        # A warm-up, too.
        losspred_matrix(model, clip[:16_000])
        taken = self.fastest(lambda: losspred_matrix(model, clip))
        flops = count_flops(model, lambda: losspred_matrix(model, clip))
        return {"audio s/s": seconds / taken, "of peak": self.share(flops / taken, precision)}

    def training(self, size: str, way: str, precision: str) -> Row:
        """Training on crops of 25 s: the second half of a few updates."""
        options = argparse.Namespace(
            steps=2 if self.toy else 30, batch_tokens=1024 if self.toy else 16_384, lengths="audiobook", way=way
        )
        units = bench_train.SIZES[size][1]
        store = bench_train.make_store("audiobook", units, 2 * options.steps * options.batch_tokens // 40)
        speed, filled = bench_train.ours(size, store, options, precision, self.device, halves=True)
        with torch.device("meta"):
            parameters = count_parameters(bench_train.build(size))[0]
        return {"tokens/s": speed, "of peak": self.share(6 * parameters * speed, precision), "filled": filled}

    def generation(self, size: str, batch: int, way: str, precision: str) -> Row:
        """Greedy generation; "log-prob" is the distance from float32 without fixed shapes, on the same tokens."""
        prompt, new = (4, 8) if self.toy else (32, 128)
        model = bench_lm.build(size).to(self.device)
        exact, parameters = make_stepper(model), count_parameters(model)[0]
        network: Any = model if precision == "float32" else copy.deepcopy(model).bfloat16()
        torch.manual_seed(1)
        prompts_BT = torch.randint(0, bench_lm.SIZES[size][1], (batch, prompt))
        compared: Row = {}
        if way == "transformers":

            def generate() -> None:
                bench_lm.theirs(network, prompts_BT, new).cpu()
        else:
            own, static = make_stepper(network), way == "fixed shapes"
            tokens_BT = bench_lm.ours(exact, prompts_BT, new, static=False)
            same, difference = bench_lm.agreement(own, exact, prompts_BT, tokens_BT, static=(static, False))
            compared = {"same tokens": same, "log-prob": difference}
            if difference > (1e-3 if precision == "float32" else 1.0):
                raise SystemExit(f"log-probabilities differ by {difference:.1e}; nothing was timed")

            def generate() -> None:
                bench_lm.ours(own, prompts_BT, new, static=static)

        generate()
        steps = new / self.fastest(generate)
        return {
            "tokens/s": batch * steps,
            "of peak": self.share(2 * parameters * batch * steps, precision),
            "weights GB/s": bench_lm.weight_bytes(model, precision) * steps / 1e9,
        } | compared


def count_flops(module: nn.Module, work: Callable[[], Any]) -> int:
    """Return the floating-point operations of a run; weight norms are folded, which the counter cannot look into."""
    for part in module.modules():
        if parametrize.is_parametrized(part):
            parametrize.remove_parametrizations(part, "weight")
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def run_all(kit: Kit) -> None:
    """Run every step, the tests first and the usual precision of each device before the others."""
    on_gpu = kit.device.type == "cuda"
    kit.run("tests", kit.tests, paths="tests/gpu/test_segment.py" if kit.toy else "tests")
    for precision in ("bfloat16", "float16", "float32") if on_gpu else ("bfloat16", "float32"):
        for size in ("base", "whisper-base"):
            kit.run("units", kit.units, size=size, precision=precision)
    kit.run("LossPred", kit.losspred, precision="float32")
    ways = [("varlen", "bfloat16"), ("mask", "bfloat16"), ("varlen", "float32")]
    for size in ("miniature",) if kit.toy else ("base", "large"):
        for way, precision in ways:
            kit.run("training", kit.training, size=size, way=way, precision=precision)
    for batch in (1, 32):
        for precision in ("bfloat16", "float32"):
            for way in ("fixed shapes", "growing shapes", "transformers"):
                size = "miniature" if kit.toy else "base"
                kit.run("generation", kit.generation, size=size, batch=batch, way=way, precision=precision)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="Time after which no further step begins.")
    parser.add_argument("--toy", action="store_true", help="Small models, for a test of the kit itself.")
    parser.add_argument("--device", default="auto")
    add_json(parser)
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    if device.type != "cuda" and not options.toy:
        raise SystemExit("no CUDA device is available here; try the kit itself with --toy")
    kit = Kit(device, options.minutes, toy=options.toy)
    run_all(kit)
    report(options, kit.rows, device, by="step")
    return int(kit.failed)


if __name__ == "__main__":
    sys.exit(main())
