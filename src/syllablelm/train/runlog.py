"""Measurements of a training run: sums over steps and processes, and their log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from syllablelm.core.artifact import LOG
from syllablelm.core.errors import FormatError
from syllablelm.core.files import text_lines, write_json_lines
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
    """Read the logged lines of a run, without an incomplete last one.

    Raises:
        FormatError: another line is damaged.
    """
    path = folder / LOG
    lines = list(text_lines(path)) if path.exists() else []
    values: list[dict[str, float]] = []
    for number, (place, line) in enumerate(lines, start=1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise FormatError(f"{place}: not a line of a training log ({error}); remove the file") from None
    return values
