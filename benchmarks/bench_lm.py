"""Time greedy generation by our cached decoder and by ``transformers.generate`` on the same random model.

Run: python benchmarks/bench_lm.py [--size tiny|base] [--batch 1 8] [--new 128] [--prompt 32] [--repeats 3]
     [--device auto] [--precision float32 bfloat16 int8] [--clock wall|cpu]
In float32 both must generate the same tokens before anything is timed. transformers runs in float32 and in bfloat16;
the faster of them is what our precisions are compared with. All run in turns, prefill included; the best time of each
is reported, and "ratio" is the median over the turns. "same tokens" and "log-prob" say how far a precision is from
float32 when both read float32's greedy tokens: the share of steps at which it would have chosen the same token, and the
mean absolute difference of its log-probability. "weights" are read once a step:
where their size times the steps a second nears the memory's bandwidth, no decoder can be faster. On a busy machine set
OMP_NUM_THREADS=1 and --clock cpu, which counts this process's own time.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from results import add_json, report
from torch import Tensor, nn

from syllablelm.encoders.device import pick_device
from syllablelm.encoders.quiet import quiet_transformers
from syllablelm.lm.decode import CachedDecoder, Sampler, Sampling
from syllablelm.lm.fused import Stepper, make_stepper
from syllablelm.train.lm_stage import LMShape

Clock = Callable[[], float]
PRECISIONS = ("float32", "bfloat16", "int8")
# (shape, units): one to test with, the shape of the bundled language model on fewer units, and the paper's base model.
SIZES = {
    "miniature": (LMShape(1, 32, 2, 64, 64), 64),
    "tiny": (LMShape(4, 256, 4, 1024, 512), 1024),
    "base": (LMShape(), 4096),
}


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


def ours(weights: Stepper, prompts_BT: Tensor, new: int, static: bool | None = None) -> Tensor:
    """Return (B, new) greedy tokens by the cached decoder."""
    sampler = Sampler(Sampling(0.0), range(len(prompts_BT)))
    decoder = CachedDecoder(weights, len(prompts_BT), prompts_BT.shape[1] + new, static=static)
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


def agreement(
    weights: Stepper,
    exact: Stepper,
    prompts_BT: Tensor,
    tokens_BT: Tensor,
    static: tuple[bool | None, bool | None] = (None, None),
) -> tuple[float, float]:
    """Return the share of equal greedy tokens and the mean difference of log-probabilities, given float32's tokens."""
    same, difference = [], []
    decoders = [
        CachedDecoder(own, len(prompts_BT), prompts_BT.shape[1] + tokens_BT.shape[1], static=fixed)
        for own, fixed in zip((weights, exact), static, strict=True)
    ]
    logits = [decoder.prefill(prompts_BT.tolist()) for decoder in decoders]
    for token_B in tokens_BT.T:
        ours, theirs = (one.float().log_softmax(-1) for one in logits)
        same.append((ours.argmax(-1) == theirs.argmax(-1)).float().mean())
        difference.append((ours - theirs).gather(1, token_B[:, None]).abs().mean())
        logits = [decoder.step(token_B) for decoder in decoders]
    return float(torch.stack(same).mean()), float(torch.stack(difference).mean())


def seconds(run: Callable[..., Tensor], model: Any, prompts_BT: Tensor, new: int, clock: Clock) -> float:
    """Return the seconds until the result is on the host."""
    started = clock()
    run(model, prompts_BT, new).cpu()
    return clock() - started


def weight_bytes(model: nn.Module, precision: str) -> int:
    """Bytes of all weights in a precision (8-bit integers: without the few that stay float32)."""
    size = {"float32": 4, "bfloat16": 2, "int8": 1}[precision]
    return size * sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=tuple(SIZES), nargs="+", default=["tiny", "base"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--new", type=int, default=48)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=list(PRECISIONS))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    add_json(parser)
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    device = pick_device(options.device)
    rows = []
    for size in options.size:
        model = build(size).to(device)
        half = copy.deepcopy(model).bfloat16()
        exact = make_stepper(model)
        made = {"float32": exact, "bfloat16": make_stepper(half)}
        if device.type == "cpu":
            made["int8"] = make_stepper(model, int8=True)
        steppers = {name: made[name] for name in options.precision if name in made}
        for batch in options.batch:
            prompts_BT = torch.randint(0, SIZES[size][1], (batch, options.prompt))
            tokens_BT = ours(exact, prompts_BT, options.new)
            if not torch.equal(tokens_BT, theirs(model, prompts_BT, options.new)):
                raise SystemExit(f"{size}, batch {batch}: the decoders generate different tokens; nothing was timed")
            runs: dict[str, tuple[Callable[..., Tensor], Any]] = {name: (ours, own) for name, own in steppers.items()}
            others = {"transformers float32": (theirs, model), "transformers bfloat16": (theirs, half)}
            times: dict[str, list[float]] = {name: [] for name in (*runs, *others)}
            for turn in range(options.repeats + 1):
                for name, (run, own) in {**runs, **others}.items():
                    taken = seconds(run, own, prompts_BT, options.new, clock)
                    if turn:
                        times[name].append(taken)
            best = min(others, key=lambda name: min(times[name]))
            for name, own in steppers.items():
                same, difference = agreement(own, exact, prompts_BT, tokens_BT)
                speed, other = (batch * options.new / min(times[one]) for one in (name, best))
                rows.append(
                    {
                        "model": size,
                        "batch": batch,
                        "precision": name,
                        "tokens/s": round(speed),
                        "faster of transformers": best.split()[1],
                        "transformers tokens/s": round(other),
                        "ratio": round(median(b / a for a, b in zip(times[name], times[best], strict=True)), 2),
                        "weights GB": round(weight_bytes(model, name) / 1e9, 3),
                        "same tokens": round(same, 4),
                        "log-prob": round(difference, 5),
                        "distinct tokens": float(len(tokens_BT.unique())),
                    }
                )
    report(options, rows, device)


if __name__ == "__main__":
    main()
