"""A task for the training loop that takes milliseconds; run as a program, one process of several."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from syllablelm.train.loop import LoopConfig, run_loop


class ToyModule(nn.Module):
    """Regression by two layers and dropout; ``at_forward`` is called with the number of each forward pass."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.unused = nn.Parameter(torch.ones(3))
        self.at_forward: Any = lambda number: None
        self.passes = 0

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        self.passes += 1
        self.at_forward(self.passes)
        error = (self.layers(batch["x"]) - batch["y"]).square()
        return {"loss": error.mean(), "close": (error < 0.5).sum(), "items": torch.tensor(len(error))}


class ToyTask:
    """Batches of eight points, or each batch as two halves, one after the other."""

    ratios: Mapping[str, tuple[str, str]] = {"close": ("close", "items")}

    def __init__(self, *, halves: bool = False, dropout: float = 0.0, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.module = ToyModule(dropout)
        self.halves = halves
        self.asked: list[int] = []

    def batch(self, number: int) -> dict[str, Any]:
        self.asked.append(number)
        rng = np.random.default_rng(number // 2 if self.halves else number)
        x = rng.standard_normal((8, 4))
        y = x[:, :1] - 0.5 * x[:, 1:2] + 0.1 * rng.standard_normal((8, 1))
        rows = slice(4 * (number % 2), 4 * (number % 2) + 4) if self.halves else slice(None)
        x_BD, y_B1 = torch.tensor(x[rows], dtype=torch.float32), torch.tensor(y[rows], dtype=torch.float32)
        return {"x": x_BD, "y": y_B1, "seconds": float(len(x_BD))}


def interrupt_at(number: int, which: int = signal.SIGINT) -> Any:
    """A callback that sends this process a signal in the given forward pass."""
    return lambda now: os.kill(os.getpid(), which) if now == number else None


def main() -> None:
    """Train in one of several processes: toy_task.py FOLDER STEPS [PASS], which interrupts rank 0 in that pass."""
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    task = ToyTask(halves=True)
    if len(sys.argv) > 3 and os.environ["RANK"] == "0":
        task.module.at_forward = interrupt_at(int(sys.argv[3]))
    config = LoopConfig(steps, lr=0.05, log_every=4, checkpoint_every=100)
    try:
        run_loop(task, config, folder / "work", seed=0, fingerprint="toy", device="cpu")
        torch.save(task.module.state_dict(), folder / f"weights{os.environ['RANK']}.pt")
    except KeyboardInterrupt:
        (folder / f"stopped{os.environ['RANK']}").touch()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
