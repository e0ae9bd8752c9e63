"""Features and other per-recording arrays of a whole corpus, batched by seconds, with progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from syllablelm.corpus import batches_by_seconds
from syllablelm.encoders.base import FrameEncoder
from syllablelm.errors import FormatError
from syllablelm.progress import ProgressBar
from syllablelm.train.data import WaveformStore
from syllablelm.train.processes import is_main


def iterate_features(
    store: WaveformStore, encoder: FrameEncoder, *, batch_seconds: float = 120.0, label: str = "features"
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield (index, features (T, D)) of every recording, in batch order."""
    seconds = [recording.seconds for recording in store.manifest]
    with ProgressBar(label, len(store), quiet=not is_main()) as bar:
        for batch in batches_by_seconds(seconds, batch_seconds):
            yield from zip(batch, encoder.encode([store[i] for i in batch]), strict=True)
            bar.advance(len(batch))


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write per-recording arrays by id as one safetensors file."""
    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, path)


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read what ``save_arrays`` wrote.

    Raises:
        FormatError: not a safetensors file.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path}: not a safetensors file ({error})") from None
