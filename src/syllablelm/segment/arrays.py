"""Inputs of the segmentation algorithms: arrays or tensors, padded batches, feasible numbers of segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
Frames = npt.NDArray[np.floating]  # float32 or float64, as the caller has them

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def to_float64(values: Any, name: str, num_dims: int) -> FloatArray:
    """Return an array or tensor, unchanged, as a C-ordered float64 array; an InputError for other numbers of axes."""
    # Tensors are recognised by their methods, so that torch is not imported here; .double() also takes bfloat16.
    array = values.detach().cpu().double().numpy() if hasattr(values, "detach") else np.asarray(values)
    if array.ndim != num_dims:
        raise InputError(f"{name} must have {num_dims} axes, not shape {array.shape}")
    # Writable, since kernels are compiled anew for read-only arrays.
    return np.require(array, np.float64, ("C_CONTIGUOUS", "WRITEABLE"))


def to_finite(values: Any, name: str, num_dims: int) -> FloatArray:
    """Return what `to_float64` returns; an InputError where it holds NaN or infinity, too."""
    array = to_float64(values, name, num_dims)
    check_finite(array, name)
    return array


def to_frames(values: Any, name: str) -> Frames:
    """Return features (T, D) as a C-ordered float32 or float64 array, without a copy where they are one already."""
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        # NumPy has no bfloat16; float32 holds every value of both half formats.
        array = (tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor).numpy()
    else:
        array = np.asarray(values)
    if array.ndim != 2:
        raise InputError(f"{name} must have 2 axes, not shape {array.shape}")
    return np.ascontiguousarray(array, dtype=array.dtype if array.dtype in (np.float32, np.float64) else np.float64)


def check_finite(array: Frames, name: str) -> None:
    """Raise InputError when the array holds NaN or infinity."""
    # A sum is finite only where every term is, and needs no array of flags; it may overflow, hence the second look.
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    if not np.isfinite(total) and not np.isfinite(array).all():
        raise InputError(f"{name} hold NaN or infinity; check the recording and the encoder that made them")


def is_batch(features: Any) -> bool:
    """Whether features are a batch: (B, T, D), or a list of (T, D)."""
    if isinstance(features, (list, tuple)):
        return len(features) == 0 or _num_axes(features[0]) == 2
    return _num_axes(features) == 3


def _num_axes(values: Any) -> int:
    # np.ndim would copy a tensor to the CPU to look at it.
    return values.ndim if hasattr(values, "ndim") else np.ndim(values)


def is_on_gpu(features: Any) -> bool:
    """Whether features, or the first of a list, are a CUDA tensor."""
    first = features[0] if isinstance(features, (list, tuple)) and len(features) else features
    return bool(getattr(first, "is_cuda", False))


def split_batch(features: Any, lengths: Any) -> list[Any]:
    """Split features into one (T_b, D) item per recording, without padding, and without a copy where possible.

    Returns:
        finite float32 or float64 arrays; for features on a GPU the tensors, whose values are yet to be checked.

    Raises:
        InputError: wrong shapes, lengths that do not fit, or values that are not finite.
    """
    on_gpu = is_on_gpu(features)

    def convert(item: Any, name: str) -> Any:
        if not on_gpu:
            return to_frames(item, name)
        if item.ndim != 2:
            raise InputError(f"{name} must have 2 axes, not shape {tuple(item.shape)}")
        return item.detach()

    if is_batch(features):
        items = [convert(item, "features of one recording") for item in features]
        counts = [len(item) for item in items] if lengths is None else [int(length) for length in lengths]
    else:
        items = [convert(features, "features")]
        counts = [len(items[0])] if lengths is None else [int(np.asarray(lengths).reshape(()))]
    if len(counts) != len(items):
        raise InputError(f"lengths must hold one frame count per recording: {len(items)}, not {len(counts)}")
    cut = []
    for index, (item, count) in enumerate(zip(items, counts, strict=True)):
        if not 0 <= count <= len(item):
            raise InputError(f"lengths[{index}] is {count}, but recording {index} has {len(item)} frames")
        if item.shape[1] == 0:
            raise InputError("features must have at least one dimension")
        if not on_gpu:
            check_finite(item[:count], "features")
        cut.append(item[:count])
    return cut


def map_clips(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Apply a function that spends its time in compiled kernels to every item, on as many threads as numba may use.

    A thread pool instead of numba's `prange`, whose pools are not safe to fork and may not be called from two threads
    at a time, as a data loader or a server does. The kernels release the GIL, so nothing is lost.
    """
    if len(items) < 2:
        return [function(item) for item in items]
    import numba

    with ThreadPoolExecutor(min(len(items), numba.config.NUMBA_NUM_THREADS)) as pool:  # type: ignore[attr-defined]
        return list(pool.map(function, items))


def check_length_limits(min_length: int, max_length: int) -> None:
    """Raise InputError unless 1 <= min_length <= max_length."""
    if not 1 <= min_length <= max_length:
        raise InputError(f"segments need 1 <= min_length <= max_length, not {min_length} and {max_length} frames")


def feasible_range(num_frames: int, min_length: int, max_length: int) -> tuple[int, int]:
    """Return the smallest and largest number of segments that can cover a recording.

    A recording shorter than `min_length` is one segment; one without frames is none. An InputError where the limits are
    not usable, or no number of segments fits (only if max_length < 2 * min_length - 1).
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
    """Raise InputError, naming the feasible range, when the number of segments cannot cover the recording."""
    fewest, most = feasible_range(num_frames, min_length, max_length)
    if not fewest <= num_segments <= most:
        raise InputError(
            f"{num_frames} frames cannot be cut into {num_segments} segments of {min_length} to {max_length} frames: "
            f"ask for {fewest} to {most} segments (feasible_count clips to that range)"
        )


def check_boundaries(boundaries: npt.ArrayLike, num_frames: int) -> Sequence[int]:
    """Return boundaries as a list, after checking that they rise strictly from 0 to num_frames."""
    edges = [int(edge) for edge in np.asarray(boundaries)]
    if not edges or edges[0] != 0 or edges[-1] != num_frames or np.any(np.diff(edges) <= 0):
        raise InputError(f"boundaries must rise strictly from 0 to the number of frames, {num_frames}")
    return edges
