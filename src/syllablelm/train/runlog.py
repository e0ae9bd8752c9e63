"""A training run on disk and its measurements: sums over steps and processes, their log, the latest checkpoint."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from syllablelm.core.artifact import LOG
from syllablelm.core.errors import FormatError
from syllablelm.core.files import atomic_path, remove_leftovers, text_lines, write_json_lines
from syllablelm.train.processes import is_main, total

# Names of the meter's own sums beside those of the module; a ratio over ELAPSED is a number per second.
_COUNT, _AUDIO, ELAPSED = ".count", ".audio", ".elapsed"


class Meter:
    """Sums over all processes of the module's outputs since the last reading.

    Args:
        ratios: names of the pairs of sums that are read as quotients.
        sums: ``totals`` at the checkpoint from which the run resumes.
    """

    def __init__(self, ratios: Mapping[str, tuple[str, str]], sums: Mapping[str, float]) -> None:
        self.ratios = ratios
        self._reset()
        # They are totals of all processes, so only one process adds them.
        if is_main():
            self.sums.update({name: value for name, value in sums.items() if name != ELAPSED})
            self.started -= sums.get(ELAPSED, 0.0)

    def _reset(self) -> None:
        self.sums: dict[str, float | Tensor] = {}
        self.started = time.monotonic()

    def add(self, output: Mapping[str, Tensor], seconds: float) -> None:
        """Add the module's output for a micro-batch of ``seconds`` of audio."""
        # The sums stay on the device until they are read: reading a number waits for the GPU.
        for key, value in output.items():
            self.sums[key] = self.sums.get(key, 0.0) + value.detach().double()
        self.sums[_COUNT] = self.sums.get(_COUNT, 0.0) + 1
        self.sums[_AUDIO] = self.sums.get(_AUDIO, 0.0) + seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time inside the block from speeds."""
        began = time.monotonic()
        yield
        self.started += time.monotonic() - began

    def totals(self) -> dict[str, float]:
        """Return the sums of all processes, which must all call."""
        names = sorted(self.sums)
        sums: dict[str, float] = dict(zip(names, total([float(self.sums[name]) for name in names]), strict=True))
        return sums | {ELAPSED: time.monotonic() - self.started}

    def read(self) -> dict[str, float]:
        """Return mean loss, ratios and seconds of audio per second since the last reading; all processes must call."""
        sums = self.totals()
        values = {"loss": sums["loss"] / sums[_COUNT]}
        for name, (top, bottom) in self.ratios.items():
            values[name] = sums[top] / max(sums[bottom], 1e-9)
        values["seconds_per_second"] = sums[_AUDIO] / max(sums[ELAPSED], 1e-9)
        self._reset()
        return values


class RunLog:
    """``log.jsonl`` beside the checkpoint, and TensorBoard events where that package is installed."""

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LOG
        # A resumed run logs the lines after its checkpoint again.
        kept = [line for line in read_log(folder) if line["step"] <= first_step]
        write_json_lines(self.path, kept)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in values.items()}}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish the TensorBoard file."""
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> list[dict[str, float]]:
    """Read the logged lines of a run, without an incomplete last one."""
    path = folder / LOG
    lines = list(text_lines(path)) if path.exists() else []
    values: list[dict[str, float]] = []
    for number, (place, line) in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            if not isinstance(value, dict) or not isinstance(value.get("step"), int):
                raise ValueError("no step")
            values.append(value)
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise FormatError(f"{place}: not a line of a training log ({error}); remove the file") from None
    return values


class Checkpoints:
    """The latest state of a run: one file, replaced atomically.

    Args:
        folder: folder of the file.
        fingerprint: hash of the stage's configuration and inputs; the state of another stage is refused.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.path = folder / "state.pt"
        self.fingerprint = fingerprint

    def save(
        self, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, sums: Mapping[str, float] | None = None
    ) -> None:
        """Write the state after ``step`` updates; ``sums`` are the meter's since the last logged line."""
        # A state takes gigabytes: remains of a save that was killed are removed first.
        remove_leftovers(self.path)
        state = {"fingerprint": self.fingerprint, "step": step, "model": module.state_dict(), "sums": dict(sums or {})}
        with atomic_path(self.path) as temporary:
            torch.save({**state, "optimizer": optimizer.state_dict()}, temporary)

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


@torch.no_grad()
def is_finite(module: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Return whether all numbers of a state are finite."""
    moments = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return all(bool(torch.isfinite(tensor).all()) for tensor in [*module.state_dict().values(), *moments])
