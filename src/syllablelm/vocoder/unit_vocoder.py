"""What unit vocoders share: their interface, the unit of every frame, and their two files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from syllablelm.core.config import build
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.results import read_json
from syllablelm.core.segmentation import Segmentation

WEIGHTS_FILE, SHAPE_FILE = "vocoder.safetensors", "vocoder.json"

Shape = TypeVar("Shape")


class UnitVocoder(Protocol):
    """Acoustic units to a waveform.

    Attributes:
        sample_rate: Hz of the waveforms.
        acoustic: digest of the acoustic units that it speaks; "" if unknown.
    """

    sample_rate: int
    acoustic: str

    @property
    def num_units(self) -> int: ...

    def decode(self, acoustic: Segmentation, *, seed: int = 0) -> npt.NDArray[np.float32]: ...


def unit_frames(acoustic: Segmentation, num_units: int, hop: int, sample_rate: int) -> npt.NDArray[np.int64]:
    """Return the unit of every frame: (num_frames,).

    Raises:
        InputError: no units, units outside the vocabulary, gaps, or another time grid.
    """
    if acoustic.unit is None:
        raise InputError("a vocoder needs units; this segmentation has none")
    if len(acoustic) and int(acoustic.unit.max()) >= num_units:
        raise InputError(f"unit {int(acoustic.unit.max())} is outside the vocoder's vocabulary of {num_units}")
    if (acoustic.hop, acoustic.sample_rate) != (hop, sample_rate):
        raise InputError(
            f"frames of {acoustic.hop} samples at {acoustic.sample_rate} Hz; this vocoder takes {hop} at {sample_rate}"
        )
    lengths = acoustic.end - acoustic.start
    if int(lengths.sum()) != acoustic.num_frames:
        raise InputError("acoustic units must cover the whole time; this segmentation has gaps")
    return np.repeat(acoustic.unit.astype(np.int64), lengths)


def save_vocoder(net: nn.Module, kind: str, shape: Any, folder: Path, *, acoustic: str = "") -> None:
    """Write a network into an existing folder.

    Args:
        net: the network.
        kind: kind of vocoder.
        shape: dataclass of the network's sizes.
        folder: where the weights and the description go.
        acoustic: digest of the acoustic units that it speaks; "" if unknown.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE)
    text = json.dumps({"kind": kind, "acoustic": acoustic, **asdict(shape)}, indent=2)
    (folder / SHAPE_FILE).write_text(text + "\n", encoding="utf-8")


def read_vocoder(folder: Path, kind: str, shape: type[Shape]) -> tuple[Shape, dict[str, Tensor], str]:
    """Read what ``save_vocoder`` wrote: shape, weights, and digest of the acoustic units.

    Raises:
        FormatError: missing or damaged files, or a vocoder of another kind.
    """
    path = folder / SHAPE_FILE
    table = read_json(path)
    if table.pop("kind", None) != kind:
        raise FormatError(f"{path}: a vocoder of another kind than {kind}")
    acoustic = str(table.pop("acoustic", ""))
    sizes = build_shape(shape, table, path)
    try:
        return sizes, load_file(folder / WEIGHTS_FILE), acoustic
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise FormatError(f"{folder / WEIGHTS_FILE}: not the weights of this vocoder ({reason})") from None


def build_shape(shape: type[Shape], table: Mapping[str, Any], path: Path) -> Shape:
    """Build the sizes of a network from a JSON file.

    Raises:
        FormatError: unknown keys or impossible sizes; ``path`` is named.
    """
    try:
        return build(shape, table, str(path))
    except InputError as error:
        raise FormatError(f"{path}: {error}") from None


def load_weights(net: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    """Load weights into a network.

    Raises:
        FormatError: weights are missing, left over or of another shape; ``path`` is named.
    """
    expected = net.state_dict()
    problems = []
    for name, tensor in expected.items():
        found = weights.get(name)
        if not isinstance(found, Tensor):
            problems.append(f"no {name}")
        elif found.shape != tensor.shape:
            problems.append(f"{name} is {tuple(found.shape)}, not {tuple(tensor.shape)}")
    problems += [f"unknown {name}" for name in weights if name not in expected]
    if problems:
        raise FormatError(f"{path}: not the weights of this vocoder: {problems[0]}")
    net.load_state_dict(dict(weights))
