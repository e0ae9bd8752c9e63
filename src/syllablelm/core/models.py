"""Model names: bundled names, folders, checkpoint files and hub ids, resolved in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from syllablelm.core.errors import FormatError, InputError

BUNDLED = Path(__file__).resolve().parents[1] / "bundled"
# The kinds of files that a model consists of; nothing else, and no code, is fetched from a hub.
_FILES = ["*.json", "*.npy", "*.safetensors", "*.toml"]
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
        name: bundled name ("small"), folder, checkpoint file, or hub id ("ORG/NAME", "ORG/NAME@REVISION"); any other
            is a FormatError.
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


def hub_error(name: str, reason: object) -> FormatError:
    """Return the error of a name that is neither a local path nor a model on the hub."""
    first_line = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    return FormatError(f"{name}: neither a local path nor a model that the hub provides ({first_line})")


def _download(model: HubModel) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(model.id, revision=model.revision, allow_patterns=_FILES))
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise hub_error(model.id, error) from None
