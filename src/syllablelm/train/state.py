"""The state of a training run on disk."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from syllablelm.core.errors import FormatError
from syllablelm.core.files import atomic_path, remove_leftovers


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
