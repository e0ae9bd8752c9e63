"""What the segmenters share about their inputs: arrays or tensors, padded batches, feasible segment counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.errors import InputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]


def to_float64(values: Any, name: str, num_dims: int) -> FloatArray:
    """Turn an array or a torch tensor into a C-ordered float64 array with `num_dims` axes; the input is never changed.

    Raises:
        InputError: the number of axes is another one.
    """
    # Tensors are recognised by their methods, so that torch is not imported here; .double() also takes bfloat16.
    array = values.detach().cpu().double().numpy() if hasattr(values, "detach") else np.asarray(values)
    if array.ndim != num_dims:
        raise InputError(f"{name} must have {num_dims} axes, not shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float64)


def check_finite(array: FloatArray, name: str) -> None:
    """Raise InputError when the array holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise InputError(f"{name} hold NaN or infinity; check the recording and the encoder that made them")


def is_batch(features: Any) -> bool:
    """Whether features are a batch: (B, T, D), or a list of (T, D)."""
    if isinstance(features, (list, tuple)):
        return len(features) == 0 or np.ndim(features[0]) == 2
    return np.ndim(features) == 3


def split_batch(features: Any, lengths: Any) -> list[FloatArray]:
    """Cut features into one finite (T_b, D) float64 array per item, without the padding.

    Args:
        features: (T, D), or (B, T, D) padded at the end, or a list of (T_b, D).
        lengths: true frame counts: None, one integer for (T, D), or B integers.

    Raises:
        InputError: wrong shapes, lengths that do not fit, or values that are not finite.
    """
    if is_batch(features):
        items = [to_float64(item, "features of one recording", 2) for item in features]
        counts = [len(item) for item in items] if lengths is None else [int(length) for length in lengths]
    else:
        items = [to_float64(features, "features", 2)]
        counts = [len(items[0])] if lengths is None else [int(np.asarray(lengths).reshape(()))]
    if len(counts) != len(items):
        raise InputError(f"lengths must hold one frame count per recording: {len(items)}, not {len(counts)}")
    cut = []
    for index, (item, count) in enumerate(zip(items, counts, strict=True)):
        if not 0 <= count <= len(item):
            raise InputError(f"lengths[{index}] is {count}, but recording {index} has {len(item)} frames")
        if item.shape[1] == 0:
            raise InputError("features must have at least one dimension")
        check_finite(item[:count], "features")
        cut.append(item[:count])
    return cut


def check_length_limits(min_length: int, max_length: int) -> None:
    """Raise InputError unless 1 <= min_length <= max_length."""
    if not 1 <= min_length <= max_length:
        raise InputError(f"segments need 1 <= min_length <= max_length, not {min_length} and {max_length} frames")


def feasible_range(num_frames: int, min_length: int, max_length: int) -> tuple[int, int]:
    """Smallest and largest number of segments that can cover a recording.

    A recording shorter than `min_length` is one segment; one without frames is none.

    Raises:
        InputError: the limits are not usable, or no number of segments fits (only if max_length < 2 * min_length - 1).
    """
    check_length_limits(min_length, max_length)
    if num_frames == 0:
        return 0, 0
    fewest, most = -(-num_frames // max_length), max(1, num_frames // min_length)
    if fewest > most:
        raise InputError(
            f"{num_frames} frames cannot be cut into segments of {min_length} to {max_length} frames; "
            f"widen the limits to at least {min_length} and {2 * min_length - 1}"
        )
    return fewest, most


def check_count(num_segments: int, num_frames: int, min_length: int, max_length: int) -> None:
    """Raise InputError, naming the feasible range, when so many segments cannot cover the recording."""
    fewest, most = feasible_range(num_frames, min_length, max_length)
    if not fewest <= num_segments <= most:
        raise InputError(
            f"{num_frames} frames cannot be cut into {num_segments} segments of {min_length} to {max_length} frames: "
            f"ask for {fewest} to {most} segments (feasible_count clips to that range)"
        )


def backtrace(lengths: IntArray, num_segments: int, num_frames: int) -> IntArray:
    """Follow the last-segment lengths of `kernels.best_lengths` back from the end: boundaries [0, ..., T]."""
    boundaries = [num_frames]
    for count in range(num_segments, 0, -1):
        if boundaries[-1] == 0:
            break
        boundaries.append(boundaries[-1] - int(lengths[count, boundaries[-1]]))
    return np.array(boundaries[::-1], dtype=np.int32)


def check_boundaries(boundaries: npt.ArrayLike, num_frames: int) -> Sequence[int]:
    """Boundaries as a list, after checking that they rise strictly from 0 to num_frames."""
    edges = [int(edge) for edge in np.asarray(boundaries)]
    if not edges or edges[0] != 0 or edges[-1] != num_frames or np.any(np.diff(edges) <= 0):
        raise InputError(f"boundaries must rise strictly from 0 to the number of frames, {num_frames}")
    return edges
