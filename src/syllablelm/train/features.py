"""Features and other per-recording arrays of a whole corpus, batched by seconds, with progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.data.corpus import Manifest, batches_by_seconds
from syllablelm.encoders.base import FrameEncoder
from syllablelm.train.batches import WaveformStore
from syllablelm.train.processes import is_main


def iterate_features(
    store: WaveformStore, encoder: FrameEncoder, *, batch_seconds: float = 120.0, label: str = "features"
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield (index, features (T, D)) of every recording, in batch order.

    Raises:
        InputError: a recording longer than the encoder takes, before anything is encoded.
    """
    check_max_frames(encoder, store.manifest)
    seconds = [recording.seconds for recording in store.manifest]
    with ProgressBar(label, len(store), quiet=not is_main()) as bar:
        for batch in batches_by_seconds(seconds, batch_seconds):
            yield from zip(batch, encoder.encode([store[i] for i in batch]), strict=True)
            bar.advance(len(batch))


def check_max_frames(encoder: FrameEncoder, manifest: Manifest, crop_seconds: float = 0.0) -> None:
    """Check that an encoder with a maximum length takes every recording and every crop whole.

    Raises:
        InputError: one is too long.
    """
    most = getattr(encoder, "max_frames", None)
    if most is None:
        return
    limit = most * encoder.hop / encoder.sample_rate
    if crop_seconds > limit:
        raise InputError(f"crop_seconds {crop_seconds:g}: this encoder takes at most {limit:g} s at once")
    longest = max(manifest, key=lambda recording: recording.seconds)
    if encoder.num_frames(round(longest.seconds * encoder.sample_rate)) > most:
        raise InputError(
            f"{longest.id!r} is {longest.seconds:.1f} s long, this encoder takes at most {limit:g} s at once: set "
            f"data.max_seconds = {limit:g}"
        )


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
