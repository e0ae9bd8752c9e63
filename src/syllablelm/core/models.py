"""Where models are: bundled ones by name, folders, and the hub."""

from __future__ import annotations

from pathlib import Path

from syllablelm.core.errors import FormatError

BUNDLED = Path(__file__).resolve().parents[1] / "bundled"
# What a model's folder holds; nothing else is fetched from a hub.
_FILES = ["*.json", "*.npy", "*.safetensors", "*.toml"]


def bundled_names() -> list[str]:
    """Names of the bundled models."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/artifact.json"))


def model_folder(name: str | Path) -> Path:
    """The folder of a model: the one that is given, else the bundled one of that name, which may not be there."""
    return Path(name) if Path(name).is_dir() else BUNDLED / str(name)


def find_model(name: str | Path) -> Path:
    """The folder or checkpoint file that a tokenizer's name stands for; one from the hub is fetched.

    Raises:
        FormatError: there is none.
    """
    path = Path(name)
    if path.exists():
        return path
    bundled = BUNDLED / str(name)
    if len(path.parts) == 1 and bundled.is_dir():
        return bundled
    if path.suffix == "" and len(path.parts) == 2 and not path.is_absolute():
        return _download(str(name))
    known = ", ".join(bundled_names()) or "none here"
    raise FormatError(f"{name}: no such tokenizer; give a folder, a checkpoint or a bundled name ({known})")


def _download(name: str) -> Path:
    """The local copy of a model's folder on the Hugging Face hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FormatError(f"{name}: neither a folder here nor a tokenizer that the hub gives ({reason})") from None
