"""The one training loop: accumulation, clipping, warm-up and decay, mixed precision, checkpoints, logs.

It runs on one device or, under ``torchrun``, data-parallel through accelerate. Batches and random numbers depend on
the step only, so a run that was stopped and resumed follows the trajectory of one that was not.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from syllablelm.core.errors import InputError, check_fields
from syllablelm.core.progress import ProgressBar
from syllablelm.train.processes import is_main, is_several, join, total
from syllablelm.train.runlog import Checkpoints, Meter, RunLog, is_finite

Batch = Mapping[str, Any]
# Among a checkpoint's sums: the seconds of the loop until then, and what was logged last, by name.
_WALL, _LAST = ".wall", ".last "


@dataclass(frozen=True)
class LoopConfig:
    """Optimisation by AdamW.

    Args:
        steps: number of updates.
        lr: peak learning rate.
        warmup: share of the steps in which the learning rate rises linearly to ``lr``.
        schedule: decay after the warm-up; "exponential" multiplies by the same factor at every step.
        final_lr: learning rate at the end, as a share of ``lr``.
        beta1, beta2, eps, weight_decay: parameters of AdamW; biases and norms are not decayed.
        clip: maximum gradient norm.
        batch_seconds: seconds of audio per micro-batch and process, padding included.
        accumulate: number of micro-batches per update.
        precision: "auto" is bfloat16 on a GPU and float32 on a CPU.
        checkpoint_every: steps between checkpoints.
        log_every: steps between log lines.
    """

    steps: int
    lr: float = 5e-4
    warmup: float = 0.08
    schedule: Literal["linear", "cosine", "exponential"] = "linear"
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
        check_fields(self, "steps accumulate checkpoint_every log_every", least=1)
        check_fields(self, "batch_seconds clip eps", above=0)
        check_fields(self, "lr weight_decay final_lr", least=0, most=math.inf)
        check_fields(self, "beta1 beta2", least=0, below=1)
        check_fields(self, "warmup", least=0, most=1)
        if self.schedule == "exponential" and not self.final_lr > 0:
            raise InputError("an exponential schedule never reaches 0; give a final_lr above it")


class Task(Protocol):
    """A model and its batches.

    ``module`` maps a batch to {"loss": scalar, name: sum...}; sums named in ``ratios`` are logged as quotients. A task
    whose loss depends on every weight may have ``reaches_all = True``, which saves several processes a search.
    """

    @property
    def module(self) -> nn.Module: ...

    @property
    def ratios(self) -> Mapping[str, tuple[str, str]]: ...

    def batch(self, number: int) -> Batch:
        """Return micro-batch ``number`` of the run: CPU tensors, and "seconds" of audio in it."""
        ...


def lr_factor(step: int, config: LoopConfig) -> float:
    """Return the learning rate at a step as a share of its peak."""
    warmup = max(1, round(config.warmup * config.steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, config.steps - warmup)
    if config.schedule == "exponential":
        return config.final_lr**progress
    falling = 1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_lr + (1 - config.final_lr) * falling


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups: matrices with weight decay, vectors without."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


class _StopRequest:
    """SIGINT (Ctrl-C) or SIGTERM, handled after the current step, so that no update is half applied.

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


def _prefetched(make: Callable[[int], Batch], numbers: Iterable[int], pool: ThreadPoolExecutor) -> Iterator[Batch]:
    """Yield micro-batches; the next one is prepared in a thread while the current one is being computed."""
    current: Future[Batch] | None = None
    for number in numbers:
        following = pool.submit(make, number)
        if current is not None:
            yield current.result()
        current = following
    if current is not None:
        yield current.result()


def run_loop(
    task: Task,
    config: LoopConfig,
    work: Path,
    *,
    seed: int,
    fingerprint: str,
    device: str | torch.device = "auto",
    label: str = "train",
    after_step: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Train ``task.module`` in place; under ``torchrun`` every process must call.

    Args:
        task: model and batches.
        config: optimisation.
        work: folder of the checkpoint and the logs; the caller removes it.
        seed: random seed of dropout and the like; batches have their own.
        fingerprint: hash of the stage's configuration and inputs; the checkpoint of another stage is refused.
        device: device of the training.
        label: label of the progress bar.
        after_step: called with the number of finished updates, in every process; a resumed run calls it again for those
            after its checkpoint.

    Returns:
        the last logged values, and "wall_seconds" of the loop, those of stopped runs up to their last checkpoints
        included.

    Raises:
        KeyboardInterrupt: stopped (Ctrl-C or SIGTERM); a checkpoint was written first.
        FormatError: the checkpoint is another run's or damaged.
        InputError: training diverges; the last checkpoint is from before that.
    """
    where = join(device)
    accelerator = _accelerator(where, task)
    task.module.to(where)
    settings: dict[str, Any] = {"lr": config.lr, "betas": (config.beta1, config.beta2), "eps": config.eps}
    optimizer = torch.optim.AdamW(parameter_groups(task.module, config.weight_decay), fused=True, **settings)
    checkpoints = Checkpoints(work, fingerprint)
    first, sums = checkpoints.load(task.module, optimizer)
    wall = sums.pop(_WALL, 0.0)
    # A run that was killed after its last step returns the same numbers as one that was not.
    values = {name.removeprefix(_LAST): sums.pop(name) for name in list(sums) if name.startswith(_LAST)}
    began = time.monotonic() - wall
    module = accelerator.prepare(task.module)
    log = RunLog(work, first) if is_main() else None
    world, rank, accumulate = accelerator.num_processes, accelerator.process_index, config.accumulate
    numbers = (n * world + rank for n in range(first * accumulate, config.steps * accumulate))
    pool = ThreadPoolExecutor(max_workers=1)
    batches = _prefetched(task.batch, numbers, pool)
    meter = Meter(task.ratios, sums)
    module.train()
    try:
        with _StopRequest() as stop, ProgressBar(label, config.steps, done=first, quiet=not is_main()) as bar:
            for step in range(first, config.steps):
                torch.manual_seed((seed * 1_000_003 + step) * 1_009 + rank)
                for group in optimizer.param_groups:
                    group["lr"] = config.lr * lr_factor(step, config)
                loss, gradient = _update(accelerator, module, optimizer, batches, meter, where, config)
                done = step + 1
                due = [done % every == 0 for every in (config.log_every, config.checkpoint_every)]
                stops, norm = 0.0, 0.0
                # A GPU computes ahead of its host, which must not wait for every step's numbers.
                if where.type == "cpu" or any(due) or done == config.steps or (stop.requested and world == 1):
                    # Summed over the processes, so that all of them stop.
                    (stops, losses), norm = total([float(stop.requested), float(loss)]), float(gradient)
                    if not (math.isfinite(losses) and math.isfinite(norm)):
                        raise _diverged(label, "gradient" if math.isfinite(losses) else "loss", done, work)
                if due[0] or done == config.steps:
                    values = meter.read() | {"lr": config.lr * lr_factor(step, config), "grad_norm": norm}
                    if log is not None:
                        log.write(done, values)
                if after_step is not None:
                    with meter.paused():
                        after_step(done)
                bar.advance(note=_note(values))
                if due[1] or done == config.steps or stops:
                    sums = meter.totals()
                    if not is_finite(task.module, optimizer):
                        raise _diverged(label, "model's state", done, work)
                    wall = time.monotonic() - began
                    if is_main():
                        last = {f"{_LAST}{name}": value for name, value in values.items()}
                        checkpoints.save(done, task.module, optimizer, {**sums, **last, _WALL: wall})
                if stops and done < config.steps:
                    raise KeyboardInterrupt
    finally:
        pool.shutdown(cancel_futures=True)
        if log is not None:
            log.close()
    task.module.eval()
    return values | {"wall_seconds": wall}


def is_half(config: LoopConfig, device: torch.device) -> bool:
    """Return whether a loop computes in bfloat16 on a device."""
    return config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")


def check_compiler(device: torch.device, key: str) -> None:
    """Raise an error if torch cannot compile on a device; ``key`` is the recipe's key that requires it."""
    try:
        torch.compile(torch.sin)(torch.ones(8, device=device))
    except RuntimeError as error:
        reason = next((line for line in str(error).splitlines() if line), type(error).__name__)
        needs = "a C++ compiler (g++)" if device.type == "cpu" else "triton and a C compiler (gcc)"
        raise InputError(f"{key}: torch cannot compile here ({reason}); install {needs}, or set it to false") from None


def _accelerator(device: torch.device, task: Task) -> Any:
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    # A student has weights that its loss never reaches, such as the mask embedding.
    options = DistributedDataParallelKwargs(find_unused_parameters=not getattr(task, "reaches_all", False))
    # accelerate fixes a device and a precision for the life of the process, and knows no "cuda:1": alone it is told
    # "cpu", which it never uses, as everything is placed here and the precision is set in _update.
    cpu = device.type == "cpu" or not is_several()
    return Accelerator(cpu=cpu, device_placement=False, mixed_precision="no", kwargs_handlers=[options])


def _diverged(label: str, what: str, step: int, work: Path) -> InputError:
    return InputError(
        f"{label}: the {what} is not finite at step {step}; lower the learning rate (loop.lr) or warm up for longer "
        f"(loop.warmup), remove {work} and start again"
    )


def _update(
    accelerator: Any,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    meter: Meter,
    device: torch.device,
    config: LoopConfig,
) -> tuple[Tensor, Tensor]:
    """One optimiser update from ``config.accumulate`` micro-batches.

    Returns:
        the loss summed over the micro-batches of this process, and the gradient's norm before clipping, both still on
        the device.
    """
    half = is_half(config, device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    for micro in range(config.accumulate):
        batch = {name: _on(value, device) for name, value in next(batches).items()}
        with nullcontext() if micro == config.accumulate - 1 else accelerator.no_sync(module):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                output = module(batch)
            accelerator.backward(output["loss"] / config.accumulate)
        meter.add(output, float(batch["seconds"]))
        loss += output["loss"].detach().double()
    norm = accelerator.clip_grad_norm_(module.parameters(), config.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, norm


def _on(value: Any, device: torch.device) -> Any:
    """A value of a batch on a device, with its lists and tuples; copies to a GPU run beside the computation."""
    if isinstance(value, Tensor):
        return (value.pin_memory() if device.type == "cuda" else value).to(device, non_blocking=True)
    return type(value)(_on(item, device) for item in value) if isinstance(value, list | tuple) else value


def _note(values: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in values.items() if key not in ("lr", "grad_norm"))
