"""The two files of a vocoder that this package wrote: what it is, and its weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from syllablelm.core.errors import FormatError

WEIGHTS_FILE, SHAPE_FILE = "vocoder.safetensors", "vocoder.json"


def save_net(net: nn.Module, kind: str, shape: Any, folder: Path, *, acoustic: str = "") -> None:
    """Write a network into an existing folder: its weights, its kind, its shape (a dataclass).

    Args:
        acoustic: digest of the acoustic units that it speaks; "" if unknown.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE)
    text = json.dumps({"kind": kind, "acoustic": acoustic, **asdict(shape)}, indent=2)
    (folder / SHAPE_FILE).write_text(text + "\n", encoding="utf-8")


def read_kind(folder: Path) -> str:
    """What kind of vocoder lies in a folder.

    Raises:
        FormatError: a missing or damaged description.
    """
    return str(_read(folder)["kind"])


def read_acoustic(folder: Path) -> str:
    """Digest of the acoustic units that the vocoder in a folder speaks; "" if it does not say.

    Raises:
        FormatError: a missing or damaged description.
    """
    return str(_read(folder).get("acoustic", ""))


def read_shape(folder: Path, kind: str) -> dict[str, Any]:
    """The shape of the vocoder in a folder, as a table.

    Raises:
        FormatError: a missing or damaged description, or a vocoder of another kind.
    """
    table = _read(folder)
    if table.pop("kind") != kind:
        raise FormatError(f"{folder / SHAPE_FILE}: a vocoder of another kind")
    table.pop("acoustic", None)
    return table


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of the vocoder in a folder.

    Raises:
        FormatError: missing or damaged.
    """
    try:
        return load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise FormatError(f"{folder / WEIGHTS_FILE}: not the weights of this vocoder ({reason})") from None


def _read(folder: Path) -> dict[str, Any]:
    path = folder / SHAPE_FILE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: no readable vocoder description ({error})") from None
    if not isinstance(table, dict) or "kind" not in table:
        raise FormatError(f'{path}: no readable vocoder description (no "kind")')
    return table
