"""The one training loop: accumulation, clipping, warm-up and decay, mixed precision, checkpoints, logs.

It runs on one device or, under ``torchrun``, data-parallel through accelerate. Batches and random numbers depend on
the step only, so a run that was stopped and resumed follows the trajectory of one that was not.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from syllablelm.artifact import LOG
from syllablelm.encoders.device import pick_device
from syllablelm.errors import FormatError, InputError
from syllablelm.progress import ProgressBar

Batch = Mapping[str, Any]

# Names of the meter's own sums beside those of the module.
_COUNT, _AUDIO, _ELAPSED = ".count", ".audio", ".elapsed"


@dataclass(frozen=True)
class LoopConfig:
    """How long and how to optimise.

    Args:
        steps: optimiser updates.
        lr: peak learning rate; warmup: fraction of the steps spent rising to it; then decay to ``final_lr`` times it.
        batch_seconds: seconds of audio per micro-batch and process, padding included.
        accumulate: micro-batches per update.
        clip: largest gradient norm.
        precision: "auto" is bfloat16 on a GPU and float32 on a CPU.
        checkpoint_every, log_every: in steps.
    """

    steps: int
    lr: float = 5e-4
    warmup: float = 0.08
    schedule: Literal["linear", "cosine"] = "linear"
    final_lr: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    weight_decay: float = 0.01
    clip: float = 1.0
    batch_seconds: float = 80.0
    accumulate: int = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: int = 200
    log_every: int = 10

    def __post_init__(self) -> None:
        if self.steps < 1 or self.accumulate < 1 or self.batch_seconds <= 0:
            raise InputError("a training loop needs steps >= 1, accumulate >= 1 and batch_seconds > 0")


class Task(Protocol):
    """What a stage gives to the loop.

    ``module`` maps a batch to {"loss": scalar, name: sum...}; sums named in ``ratios`` are logged as quotients.
    """

    @property
    def module(self) -> nn.Module: ...

    @property
    def ratios(self) -> Mapping[str, tuple[str, str]]: ...

    def batch(self, number: int) -> Batch:
        """Micro-batch ``number`` of the run: CPU tensors, and "seconds" of audio in it."""
        ...


def lr_factor(step: int, config: LoopConfig) -> float:
    """Learning rate at a step as a fraction of its peak."""
    warmup = max(1, round(config.warmup * config.steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, config.steps - warmup)
    falling = 1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_lr + (1 - config.final_lr) * falling


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices are decayed; biases, norms and other vectors are not."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


class _StopRequest:
    """Ctrl-C or a polite kill, noted and obeyed after the current step, so that no update is half applied.

    A second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> _StopRequest:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, signum: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class Checkpoints:
    """The latest state of a run: one file, replaced atomically.

    Args:
        folder: where it lies.
        fingerprint: of the stage; a state of another recipe is refused.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.path = folder / "state.pt"
        self.fingerprint = fingerprint

    def save(
        self, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, sums: Mapping[str, float] | None = None
    ) -> None:
        """Write the state after ``step`` updates; ``sums`` are the meter's since the last logged line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".tmp-{os.getpid()}")
        state = {"fingerprint": self.fingerprint, "step": step, "model": module.state_dict(), "sums": dict(sums or {})}
        torch.save({**state, "optimizer": optimizer.state_dict()}, temporary)
        os.replace(temporary, self.path)

    def load(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, float]]:
        """Restore the latest state.

        Returns:
            the number of finished steps (0 without a checkpoint) and the meter's sums.

        Raises:
            FormatError: a checkpoint of another run, or a damaged one.
        """
        if not self.path.exists():
            return 0, {}
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            known = state["fingerprint"] == self.fingerprint
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError):
            raise FormatError(f"{self.path}: damaged checkpoint; remove {self.path.parent} to start again") from None
        if not known:
            raise FormatError(
                f"{self.path}: checkpoint of a run with another recipe, seed or inputs; remove {self.path.parent}"
            )
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"]), state["sums"]


class RunLog:
    """``log.jsonl`` beside the checkpoint, and TensorBoard events where that package is installed."""

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LOG
        kept = []
        if self.path.exists():
            # Lines logged after the last checkpoint will be logged again by the resumed run.
            lines = self.path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if json.loads(line)["step"] <= first_step]
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in values.items()}}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> list[dict[str, float]]:
    """The logged lines of a run."""
    path = folder / LOG
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


class _Prefetch:
    """Prepares the next micro-batch in a thread while the current one is being computed."""

    def __init__(self, make: Callable[[int], Batch], numbers: Iterator[int]) -> None:
        self._make, self._numbers = make, numbers
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._next: Future[Batch] | None = None

    def _submit(self) -> None:
        number = next(self._numbers, None)
        self._next = None if number is None else self._pool.submit(self._make, number)

    def get(self) -> Batch:
        if self._next is None:
            self._submit()
        if self._next is None:
            raise StopIteration
        batch = self._next.result()
        self._submit()
        return batch

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def run_loop(
    task: Task,
    config: LoopConfig,
    work: Path,
    *,
    seed: int,
    fingerprint: str,
    device: str | torch.device = "auto",
    label: str = "train",
) -> dict[str, float]:
    """Train ``task.module`` in place.

    Args:
        task: model and batches.
        config: the optimisation.
        work: folder for the checkpoint and the logs; kept until the caller removes it.
        seed: of dropout and the like; batches carry their own.
        fingerprint: identity of the stage, so that a foreign checkpoint is refused.

    Returns:
        the last logged values.

    Raises:
        KeyboardInterrupt: stopped (Ctrl-C or SIGTERM); a checkpoint was written first.
        FormatError: the checkpoint is another run's or damaged, or the loss is not finite.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    chosen = pick_device(device)
    # A student has weights that its loss never reaches, such as the mask embedding. Precision is set in _update:
    # accelerate fixes one for the life of the process.
    options = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(cpu=chosen.type == "cpu", mixed_precision="no", kwargs_handlers=[options])
    optimizer = torch.optim.AdamW(
        parameter_groups(task.module, config.weight_decay),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
    )
    checkpoints = Checkpoints(work, fingerprint)
    first, sums = checkpoints.load(task.module, optimizer)
    module, optimizer = accelerator.prepare(task.module, optimizer)
    log = RunLog(work, first) if accelerator.is_main_process else None
    world, rank, accumulate = accelerator.num_processes, accelerator.process_index, config.accumulate
    numbers = (n * world + rank for n in range(first * accumulate, config.steps * accumulate))
    prefetch = _Prefetch(task.batch, numbers)
    meter = _Meter(task.ratios, accelerator, sums)
    values = {k: v for line in read_log(work)[-1:] for k, v in line.items() if k != "step"} if first else {}
    module.train()
    try:
        with _StopRequest() as stop, ProgressBar(label, config.steps, done=first) as bar:
            for step in range(first, config.steps):
                torch.manual_seed((seed * 1_000_003 + step) * 1_009 + rank)
                for group in optimizer.param_groups:
                    group["lr"] = config.lr * lr_factor(step, config)
                norm = _update(accelerator, module, optimizer, prefetch, meter, config)
                done = step + 1
                if done % config.log_every == 0 or done == config.steps:
                    values = meter.read() | {"lr": config.lr * lr_factor(step, config), "grad_norm": norm}
                    if not math.isfinite(values["loss"]):
                        raise FormatError(f"{label}: the loss is not finite at step {done}; lower the learning rate")
                    if log is not None:
                        log.write(done, values)
                bar.advance(note=_note(values))
                stopping = _total(accelerator, [float(stop.requested)])[0] > 0
                if done % config.checkpoint_every == 0 or done == config.steps or stopping:
                    sums = meter.totals()
                    if accelerator.is_main_process:
                        checkpoints.save(done, accelerator.unwrap_model(module), optimizer.optimizer, sums)
                if stopping and done < config.steps:
                    raise KeyboardInterrupt
    finally:
        prefetch.close()
        if log is not None:
            log.close()
    task.module.eval()
    return values


def _update(
    accelerator: Any, module: nn.Module, optimizer: Any, prefetch: _Prefetch, meter: _Meter, config: LoopConfig
) -> float:
    """One optimiser update from ``config.accumulate`` micro-batches; returns the gradient's norm before clipping."""
    device = accelerator.device
    half = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    for micro in range(config.accumulate):
        batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in prefetch.get().items()}
        with _maybe_sync(accelerator, module, micro == config.accumulate - 1):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                output = module(batch)
            accelerator.backward(output["loss"] / config.accumulate)
        meter.add(output, float(batch["seconds"]))
    norm = accelerator.clip_grad_norm_(module.parameters(), config.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


def _total(accelerator: Any, values: Sequence[float]) -> list[float]:
    """Sums over all processes, which must all ask."""
    if accelerator.num_processes == 1:
        return list(values)
    # The GPU and the CPU backend both take float64.
    return accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=accelerator.device), "sum").tolist()


@contextmanager
def _maybe_sync(accelerator: Any, module: nn.Module, sync: bool) -> Iterator[None]:
    if sync:
        yield
    else:
        with accelerator.no_sync(module):
            yield


def _note(values: Mapping[str, float]) -> str:
    shown = [f"{key} {value:.4g}" for key, value in values.items() if key not in ("lr", "grad_norm")]
    return ", ".join(shown)


class _Meter:
    """Sums over all processes of what the module returned since the last reading.

    Args:
        ratios: which sums are read as quotients.
        accelerator: knows the other processes.
        sums: ``totals`` at the checkpoint that the run goes on from.
    """

    def __init__(self, ratios: Mapping[str, tuple[str, str]], accelerator: Any, sums: Mapping[str, float]) -> None:
        self.ratios, self.accelerator = ratios, accelerator
        self._reset()
        # They hold all processes' shares, so only one process takes them up.
        if accelerator.is_main_process:
            self.sums.update(sums)
            self.started -= self.sums.pop(_ELAPSED, 0.0)

    def _reset(self) -> None:
        self.sums: dict[str, float] = {}
        self.started = time.monotonic()

    def add(self, output: Mapping[str, Tensor], seconds: float) -> None:
        for key, value in output.items():
            self.sums[key] = self.sums.get(key, 0.0) + float(value.detach())
        self.sums[_COUNT] = self.sums.get(_COUNT, 0.0) + 1
        self.sums[_AUDIO] = self.sums.get(_AUDIO, 0.0) + seconds

    def totals(self) -> dict[str, float]:
        """The sums of all processes, which must all ask."""
        names = sorted(self.sums)
        sums = dict(zip(names, _total(self.accelerator, [self.sums[name] for name in names]), strict=True))
        return sums | {_ELAPSED: time.monotonic() - self.started}

    def read(self) -> dict[str, float]:
        sums = self.totals()
        values = {"loss": sums["loss"] / sums[_COUNT]}
        for name, (top, bottom) in self.ratios.items():
            values[name] = sums[top] / max(sums[bottom], 1e-9)
        values["seconds_per_second"] = sums[_AUDIO] / max(sums[_ELAPSED], 1e-9)
        self._reset()
        return values
