"""Model names: bundled names, folders, checkpoint files and hub ids, resolved in one place."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, InputError, first_line
from syllablelm.core.results import read_json

BUNDLED = Path(__file__).resolve().parents[1] / "bundled"
# The kinds of files that a model consists of; nothing else, and no code, is fetched from a hub.
_FILES = ["*.json", "*.model", "*.npy", "*.safetensors", "*.toml", "*.txt"]
# Weights of older models; they are read without unpickling.
_TORCH_FILES = ["pytorch_model*.bin"]
# Files that stand for the folder they lie in.
_PARTS = re.compile(r"config\.json|(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?")
# Parts of the keys of a config.json by which transformers would run code, load kernels, or open further files.
_UNSAFE_KEYS = re.compile(
    r"auto_map|(attn|experts)_implementation|quantization|kernel_config|fusion_config|transformers_weights"
    r"|distributed_config|base_model_|custom_|adapter_(name|kwargs)|per_layer_config|dtype|commit_hash|name_or_path"
)
CONFIG_FILE = "config.json"
_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[^@]+))?")


@dataclass(frozen=True)
class HubModel:
    """A model on the Hugging Face hub: its id, and the branch, tag or commit (None: the default branch)."""

    id: str
    revision: str | None = None


def bundled_names() -> list[str]:
    """Return the names of the bundled models."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/artifact.json"))


def find_model(name: str | Path, revision: str | None = None) -> Path:
    """Return the folder or checkpoint file of a model; a model on the hub is downloaded first.

    Args:
        name: bundled name ("small"), folder or its ``model.safetensors`` or ``pytorch_model.bin``, checkpoint file, or
            hub id ("ORG/NAME", "ORG/NAME@REVISION"); any other is a FormatError.
        revision: branch, tag or commit of a hub id; with something else it is an InputError.
    """
    found = resolve_model(name, revision)
    return found if isinstance(found, Path) else _download(found)


def resolve_model(name: str | Path, revision: str | None = None) -> Path | HubModel:
    """Return the path of a local or bundled model, or else what to ask the hub for; errors as ``find_model``."""
    path, bundled = Path(name), BUNDLED / str(name)
    if path.exists() or (len(path.parts) == 1 and bundled.is_dir()):
        if revision is not None:
            raise InputError(f"{name}: revision {revision!r} is for hub ids; this is a local model")
        if path.is_file() and _PARTS.fullmatch(path.name) and (path.parent / CONFIG_FILE).is_file():
            return path.parent
        return path if path.exists() else bundled
    match = _HUB_ID.fullmatch(str(name))
    if match is None or path.suffix in (".pt", ".pth"):
        known = ", ".join(bundled_names()) or "none installed"
        raise FormatError(
            f"{name}: no such model; give a folder, a checkpoint file, a hub id (ORG/NAME) or a bundled name ({known})"
        )
    if revision and match["revision"]:
        raise InputError(f"{name}: names a revision already; leave revision {revision!r} out")
    return HubModel(match["id"], revision or match["revision"])


def read_model_config(folder: Path) -> dict[str, Any]:
    """Read the ``config.json`` of a Hugging Face model; FormatError for none, or one of quantised weights."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise FormatError(f"{folder}: not a folder of a Hugging Face model (no {CONFIG_FILE}); check the name")
    table = read_json(path)
    if table.get("quantization_config"):
        raise FormatError(f"{path}: quantized weights are not supported; get the checkpoint in float16 or float32")
    if not isinstance(table.get("model_type"), str):
        raise FormatError(f"{path}: no model_type, which names the family of a Hugging Face model")
    return table


def safe_config(table: Mapping[str, Any], declared: Collection[str] = ()) -> dict[str, Any]:
    """Return a configuration without the keys by which transformers would run code or open further files.

    Args:
        table: what ``config.json`` holds; nested tables are cleaned too.
        declared: keys that are kept although they begin with "_".
    """
    return {
        key: safe_config(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if key in declared or not (key.startswith("_") or _UNSAFE_KEYS.search(key))
    }


def _download(model: HubModel) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = Path(snapshot_download(model.id, revision=model.revision, allow_patterns=_FILES))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(model.id, revision=model.revision, allow_patterns=_TORCH_FILES)
        return folder
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise _hub_error(model.id, error) from None


def _hub_error(name: str, reason: object) -> FormatError:
    return FormatError(f"{name}: neither a local path nor a model that the hub provides ({first_line(reason)})")
