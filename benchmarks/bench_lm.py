"""Time greedy generation by our cached decoder and by ``transformers.generate`` on the same random model.

Run: python benchmarks/bench_lm.py [--size tiny|base] [--batch 1 8] [--new 128] [--prompt 32] [--repeats 3]
     [--device auto] [--precision float32|bfloat16] [--clock wall|cpu]
Both must generate the same tokens (in float32) before anything is timed. Times include prefill. Both run in turns; the
best of each is reported, and "ratio" is the median over the turns of their time to ours. "memory" is the rate at which
the weights alone have to be read: near the machine's memory bandwidth, no decoder can be faster at that batch size and
precision. On a busy machine set OMP_NUM_THREADS=1 and --clock cpu, which counts this process's own time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from syllablelm.core.document import format_table
from syllablelm.encoders.device import pick_device
from syllablelm.encoders.quiet import quiet_transformers
from syllablelm.evaluate.speed import describe_machine
from syllablelm.lm.decode import CachedDecoder, Sampler, Sampling
from syllablelm.lm.fused import Stepper, make_stepper
from syllablelm.train.lm_stage import LMShape

Clock = Callable[[], float]
# (shape, units): the shape of the bundled language model on fewer units, and the paper's base model.
SIZES = {"tiny": (LMShape(4, 256, 4, 1024, 512), 1024), "base": (LMShape(), 4096)}


def build(size: str) -> nn.Module:
    """Return a random model, with weights large enough that greedy decoding varies."""
    shape, units = SIZES[size]
    torch.manual_seed(0)
    model = shape.build(units).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(3.0)
    return model


def ours(weights: Stepper, prompts_BT: Tensor, new: int) -> Tensor:
    """Return (B, new) greedy tokens by the cached decoder."""
    sampler = Sampler(Sampling(0.0), range(len(prompts_BT)))
    decoder = CachedDecoder(weights, len(prompts_BT), prompts_BT.shape[1] + new)
    logits, drawn = decoder.prefill(prompts_BT.tolist()), []
    while True:
        drawn.append(sampler(logits))
        # As in real use, the host reads every token.
        drawn[-1].tolist()
        if len(drawn) == new:
            return torch.stack(drawn, dim=1)
        logits = decoder.step(drawn[-1])


def theirs(model: Any, prompts_BT: Tensor, new: int) -> Tensor:
    """Return (B, new) greedy tokens by transformers."""
    with torch.inference_mode(), quiet_transformers():
        whole = model.generate(
            prompts_BT.to(model.device),
            attention_mask=torch.ones_like(prompts_BT).to(model.device),
            do_sample=False,
            min_new_tokens=new,
            max_new_tokens=new,
        )
    return whole[:, prompts_BT.shape[1] :]


def seconds(run: Callable[..., Tensor], model: Any, prompts_BT: Tensor, new: int, clock: Clock) -> float:
    """Return the seconds until the result is on the host."""
    started = clock()
    run(model, prompts_BT, new).cpu()
    return clock() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), nargs="+", default=list(SIZES))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--new", type=int, default=48)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    device = pick_device(options.device)
    print(", ".join(f"{key} {value}" for key, value in describe_machine(device).to_dict().items()))
    rows = []
    for size in options.size:
        model = build(size).to(device, getattr(torch, options.precision))
        size_in_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
        # The weights of each decoder; ours are prepared once, as ``SpeechLM`` does.
        runners: dict[Any, Any] = {ours: make_stepper(model), theirs: model}
        for batch in options.batch:
            prompts_BT = torch.randint(0, SIZES[size][1], (batch, options.prompt))
            found = [run(own, prompts_BT, options.new) for run, own in runners.items()]
            equal = torch.equal(*found)
            if not equal and options.precision == "float32":
                raise SystemExit(f"{size}, batch {batch}: the decoders generate different tokens; nothing was timed")
            times: dict[Any, list[float]] = {ours: [], theirs: []}
            for _ in range(options.repeats):
                for run, taken in times.items():
                    taken.append(seconds(run, runners[run], prompts_BT, options.new, clock))
            turns = [b / a for a, b in zip(times[ours], times[theirs], strict=True)]
            own, other = (batch * options.new / min(taken) for taken in times.values())
            rows.append(
                {
                    "model": size,
                    "batch": batch,
                    "tokens/s": round(own),
                    "transformers": round(other),
                    "ratio": round(median(turns), 2),
                    "memory GB/s": round(size_in_bytes * own / batch / 1e9, 1),
                    "distinct": len(found[0].unique()),
                    "equal": equal,
                }
            )
    print(format_table(rows))


if __name__ == "__main__":
    main()
