"""Codebooks of other programs: a matrix of k-means centres in a .npy or .safetensors file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError
from syllablelm.quantize.codebook import FORMAT, Codebook


def read_codebook(path: str | Path) -> Codebook:
    """Read a codebook of this package, or k-means centres (num_units, dim) as .npy or .safetensors.

    Of foreign centres every one is a unit, and vectors are not standardised.

    Raises:
        FormatError: missing, a pickle, or not one matrix of finite numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FormatError(f"{path}: there is no such codebook file")
    if path.suffix == ".npy":
        centres = read_npy(path)
    elif path.suffix == ".safetensors":
        metadata, tensors = _read_safetensors(path)
        if metadata.get("format") == FORMAT:
            return Codebook.load(path)
        if len(tensors) != 1:
            raise FormatError(f"{path}: holds {len(tensors)} tensors; one matrix of centres is needed")
        centres = next(iter(tensors.values()))
    else:
        # Joblib files of scikit-learn models, the usual other form, are pickles, which may run code.
        raise FormatError(f"{path}: k-means centres are read from .npy or .safetensors; save their matrix as one")
    if centres.ndim != 2 or centres.dtype.kind != "f":
        raise FormatError(f"{path}: has {centres.dtype}{centres.shape}, not a matrix of centres (num_units, dim)")
    try:
        return Codebook(centres, np.arange(len(centres), dtype=np.int32), standardize=False)
    except InputError as error:
        raise FormatError(f"{path}: not usable as centres: {error}") from None


def read_npy(path: Path) -> npt.NDArray:
    """Read the array of a .npy file; nothing is unpickled.

    Raises:
        FormatError: not such a file, cut short, or with Python objects in it.
    """
    try:
        # Unlike numpy.load this takes no archives for arrays.
        with open(path, "rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, MemoryError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FormatError(f"{path}: not an array of numbers in .npy form ({reason})") from None


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, npt.NDArray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError) as error:
        raise FormatError(f"{path}: not a safetensors file of numbers ({error})") from None
