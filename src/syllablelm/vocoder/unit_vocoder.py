"""What unit vocoders share: their interface, the unit of every frame, and their two files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors.torch import save_file
from torch import Tensor

from syllablelm.core.config import build
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.results import read_json
from syllablelm.core.segmentation import Segmentation
from syllablelm.encoders.weights import Net, build_without_memory, fill_network, read_tensors

WEIGHTS_FILE, SHAPE_FILE = "vocoder.safetensors", "vocoder.json"

Shape = TypeVar("Shape")


class UnitVocoder(ABC):
    """Acoustic units to a waveform.

    Args:
        net: the trained network, with its ``shape``.
        acoustic: digest of the acoustic units that it speaks; "" if unknown, as for published vocoders.

    Attributes:
        kind: its name in vocoder.json.
        sample_rate, num_units: Hz of the waveforms, and number of acoustic units.
        place: folder it was loaded from; "" if unknown.
    """

    kind: ClassVar[str]
    sample_rate: int
    num_units: int
    place: str = ""

    def __init__(self, net: Any, acoustic: str = "") -> None:
        self.net, self.acoustic = net.eval(), acoustic

    def decode_finite(self, acoustic: Segmentation, *, seed: int = 0) -> npt.NDArray[np.float32]:
        """Call ``decode``; a FormatError where damaged weights give NaN or infinity."""
        wave = self.decode(acoustic, seed=seed)
        if not np.isfinite(wave).all():
            raise FormatError(f"{self.place or 'vocoder'}: its weights give NaN or infinity; get the vocoder again")
        return wave

    @abstractmethod
    def decode(self, acoustic: Segmentation, *, seed: int = 0) -> npt.NDArray[np.float32]:
        """Synthesize acoustic units: (num_samples,) float32 at ``sample_rate``."""

    def save(self, folder: Path) -> None:
        """Write weights and shape into an existing folder."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.net.state_dict().items()}
        save_file(tensors, folder / WEIGHTS_FILE)
        text = json.dumps({"kind": self.kind, "acoustic": self.acoustic, **asdict(self.net.shape)}, indent=2)
        (folder / SHAPE_FILE).write_text(text + "\n", encoding="utf-8")


def covered_units(
    acoustic: Segmentation, num_units: int, hop: int, sample_rate: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return units (S,) and their lengths in frames (S,); an InputError for other units or frames, or gaps."""
    if acoustic.unit is None:
        raise InputError("a vocoder needs units; this segmentation has none")
    if len(acoustic) and int(acoustic.unit.max()) >= num_units:
        raise InputError(f"unit {int(acoustic.unit.max())} is outside the vocoder's vocabulary of {num_units}")
    if (acoustic.hop, acoustic.sample_rate) != (hop, sample_rate):
        raise InputError(
            f"frames of {acoustic.hop} samples at {acoustic.sample_rate} Hz; this vocoder takes {hop} at {sample_rate}"
        )
    lengths = (acoustic.end - acoustic.start).astype(np.int64)
    if int(lengths.sum()) != acoustic.num_frames:
        raise InputError("acoustic units must cover the whole time; this segmentation has gaps")
    return acoustic.unit.astype(np.int64), lengths


def unit_frames(acoustic: Segmentation, num_units: int, hop: int, sample_rate: int) -> npt.NDArray[np.int64]:
    """Return the unit of every frame, (num_frames,); errors as ``covered_units``."""
    return np.repeat(*covered_units(acoustic, num_units, hop, sample_rate))


def read_vocoder(folder: Path, kind: str, shape: type[Shape]) -> tuple[Shape, dict[str, Tensor], str]:
    """Read shape, weights and digest that ``UnitVocoder.save`` wrote; else a FormatError."""
    path = folder / SHAPE_FILE
    table = read_json(path)
    if table.pop("kind", None) != kind:
        raise FormatError(f"{path}: a vocoder of another kind than {kind}")
    acoustic = str(table.pop("acoustic", ""))
    return build_shape(shape, table, path), read_tensors(folder / WEIGHTS_FILE), acoustic


def build_shape(shape: type[Shape], table: Mapping[str, Any], path: Path) -> Shape:
    """Build the sizes of a network from a JSON file; unknown keys or impossible sizes are a FormatError."""
    try:
        return build(shape, table, str(path))
    except InputError as error:
        raise FormatError(str(error)) from None


def make_network(network: Callable[[], Net], weights: Mapping[str, Tensor], shape_path: Path, path: Path) -> Net:
    """Build a network with the weights of a file, whose shapes are compared before memory is taken.

    Args:
        network, weights: the constructor, and checked tensors by name.
        shape_path, path: files of sizes and of weights, for errors.

    Raises:
        FormatError: sizes that make no network; weights missing, left over or of another shape.
    """
    return fill_network(build_without_memory(network, shape_path, len(weights)), weights, path, "vocoder")
