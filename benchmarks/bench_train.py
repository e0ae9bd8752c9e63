"""Time training of a language model on packed crops against a stock ``transformers.Trainer`` on padded ones.

Run: python benchmarks/bench_train.py [--size tiny|base] [--lengths audiobook|stories] [--precision float32 bfloat16]
         [--steps 12] [--batch-tokens 4096] [--repeats 3] [--way mask|varlen]
         [--cpu-time]
The same model, optimiser, crops and tokens per update. Before anything is timed, both losses of one batch must agree.
"audiobook": crops of 25 s at 4.5 units a second, of recordings as long as LibriSpeech's; "stories": long, uneven crops,
16 to 1,000 units. The trainer pads each batch to its longest crop, as its collator does by default; both run in turns.
"tokens/s" leaves padding out; "filled" is the share of positions that are none; "ratio" is the median over the turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from results import add_json, report
from torch.utils.data import Dataset

from syllablelm.encoders.device import pick_device
from syllablelm.encoders.quiet import quiet_transformers
from syllablelm.lm.packing import IGNORED
from syllablelm.lm.speech_lm import count_parameters
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.train.lm_stage import LanguageModelTask, LMConfig, LMShape
from syllablelm.train.loop import LoopConfig, run_loop
from syllablelm.train.packed_loss import choose_way
from syllablelm.train.peak_flops import find_peak_flops

SIZES = {
    "miniature": (LMShape(1, 32, 2, 64, 1024, 0.0), 64),
    "tiny": (LMShape(4, 256, 4, 1024, 1024, 0.0), 2048),
    "base": (LMShape(12, 768, 12, 3072, 1024, 0.0), 4096),
    "large": (LMShape(24, 1024, 16, 4096, 1024, 0.0), 4096),
}
FRAMES_PER_UNIT = 11


def make_store(lengths: str, units: int, recordings: int) -> TokenStore:
    """Return random units in recordings of typical lengths."""
    rng = np.random.default_rng(0)
    if lengths == "audiobook":
        # LibriSpeech: most recordings have 11 to 16 s, few are shorter than 3.
        counts = np.clip(rng.normal(62, 12, recordings) - rng.exponential(12, recordings), 8, 112).astype(int)
    else:
        counts = np.exp(rng.uniform(np.log(16), np.log(1000), recordings)).astype(int)
    rows = [rng.integers(0, units, count).astype(np.int32) for count in counts]
    return TokenStore.from_arrays(
        rows, [np.full(len(r), FRAMES_PER_UNIT, dtype=np.int32) for r in rows], TokenInfo(units)
    )


class Crops(Dataset[dict[str, list[int]]]):
    """The recordings with BOS, as the trainer reads them."""

    def __init__(self, store: TokenStore) -> None:
        self.rows = [[store.info.bos, *store[index][0].tolist()] for index in range(len(store))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return {"input_ids": self.rows[index]}


def collate(items: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad a batch on the right, as ``DataCollatorWithPadding`` does."""
    longest = max(len(item["input_ids"]) for item in items)
    batch = {name: torch.zeros(len(items), longest, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    labels = torch.full((len(items), longest), -100)
    for row, item in enumerate(items):
        tokens = torch.tensor(item["input_ids"])
        batch["input_ids"][row, : len(tokens)], batch["attention_mask"][row, : len(tokens)] = tokens, 1
        labels[row, : len(tokens)] = tokens
    return batch | {"labels": labels}


def build(size: str) -> Any:
    torch.manual_seed(0)
    shape, units = SIZES[size]
    return shape.build(units).train()


def check(model: Any, task: LanguageModelTask, store: TokenStore) -> None:
    """Stop unless both compute the same loss of the crops of one batch."""
    packed = task.plan.batch(0)
    rows = []
    for row, crops in enumerate(packed.crop):
        for crop in range(1, int(crops.max()) + 1):
            rows.append({"input_ids": [store.info.bos, *packed.targets[row][crops == crop].tolist()]})
    with torch.inference_mode():
        ours = task.module(task.batch(0))["loss"]
        theirs = model(**{name: tensor.to(model.device) for name, tensor in collate(rows).items()}).loss
    assert IGNORED not in rows[0]["input_ids"]
    # A GPU's kernel of variable-length attention computes in bfloat16.
    if abs(float(ours) - float(theirs)) > (1e-2 if model.device.type == "cuda" else 1e-4):
        raise SystemExit(
            f"the losses of one batch differ: {float(ours):.6f} and {float(theirs):.6f}; nothing was timed"
        )


def ours(
    size: str,
    store: TokenStore,
    options: argparse.Namespace,
    precision: Any,
    device: torch.device,
    *,
    halves: bool = False,
    cpu_time: bool = False,
) -> tuple[float, float]:
    """Return (tokens per second, share of positions that are no padding), with ``halves`` of the second half only."""
    model = build(size).to(device)
    loop = LoopConfig(steps=options.steps, precision=precision, log_every=options.steps // (2 if halves else 1))
    config = LMConfig(loop, SIZES[size][0], 25.0 if options.lengths == "audiobook" else 1e4, 1024, options.batch_tokens)
    way = choose_way(model, device, half=precision == "bfloat16", compiled=options.way == "mask")
    task = LanguageModelTask(model, store, config, 0, way=way)
    check(model, task, store)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        values = run_loop(task, loop, Path(folder), seed=0, fingerprint="", device=device)
        taken = time.process_time() - began
    tokens = task.plan.tokens(options.steps * task.plan.rows_per_batch)
    return tokens / taken if cpu_time else values["tokens_per_second"], values["filled"]


def theirs(
    size: str,
    store: TokenStore,
    options: argparse.Namespace,
    precision: Any,
    device: torch.device,
    *,
    cpu_time: bool = False,
) -> tuple[float, float]:
    """Return the same of the trainer."""
    from transformers.trainer import Trainer
    from transformers.trainer_callback import PrinterCallback
    from transformers.training_args import TrainingArguments

    model, crops = build(size), Crops(store)
    mean = sum(map(len, crops.rows)) / len(crops)
    positions = [0, 0]

    def counted(items: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        batch = collate(items)
        positions[0] += int(batch["attention_mask"].sum()) - len(items)
        positions[1] += batch["input_ids"].numel()
        return batch

    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        arguments = TrainingArguments(
            folder,
            max_steps=options.steps,
            per_device_train_batch_size=max(1, round(options.batch_tokens / mean)),
            learning_rate=5e-4,
            bf16=precision == "bfloat16",
            use_cpu=device.type == "cpu",
            report_to=[],
            save_strategy="no",
            logging_steps=options.steps,
            disable_tqdm=True,
            dataloader_num_workers=0,
        )
        trainer = Trainer(model, arguments, train_dataset=crops, data_collator=counted)
        trainer.remove_callback(PrinterCallback)
        began = time.process_time()
        taken = trainer.train().metrics["train_runtime"]
        if cpu_time:
            taken = time.process_time() - began
    return positions[0] / taken, positions[0] / positions[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=tuple(SIZES), nargs="+", default=["tiny"])
    parser.add_argument("--lengths", choices=("audiobook", "stories"), nargs="+", default=["audiobook", "stories"])
    parser.add_argument("--precision", choices=("float32", "bfloat16"), nargs="+", default=["float32"])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=("mask", "varlen"), help="How crops are kept apart (default: the fastest).")
    parser.add_argument(
        "--cpu-time", action="store_true", help="Count processor time, for one thread on a busy machine."
    )
    parser.add_argument("--device", default="auto")
    add_json(parser)
    options = parser.parse_args()
    device = pick_device(options.device)
    rows = []
    sizes, all_lengths = options.size, options.lengths
    for size in sizes:
        for lengths in all_lengths:
            options.lengths = lengths
            store = make_store(lengths, SIZES[size][1], 2 * options.steps * options.batch_tokens // 40)
            for precision in options.precision:
                case = (size, store, options, precision, device)
                found = [
                    tuple(trained(*case, cpu_time=options.cpu_time) for trained in (ours, theirs))
                    for _ in range(options.repeats)
                ]
                best, other = (max(turn[who] for turn in found) for who in (0, 1))
                parameters = count_parameters(build(size))[0]
                peak, _ = find_peak_flops(device, half=precision == "bfloat16", tflops=0.0)
                rows.append(
                    {
                        "model": size,
                        "crops": lengths,
                        "precision": precision,
                        "tokens/s": round(best[0]),
                        "filled": round(best[1], 3),
                        "MFU": round(6 * parameters * best[0] / peak, 2),
                        "trainer tokens/s": round(other[0]),
                        "its filled": round(other[1], 3),
                        "ratio": round(median(a[0] / b[0] for a, b in found), 2),
                    }
                )
    options.lengths = all_lengths
    report(options, rows, device)


if __name__ == "__main__":
    main()
