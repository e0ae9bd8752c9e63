"""Samples in the shapes in which other libraries hand them over: arrays, tensors, pairs, dictionaries, decoders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import AudioError, InputError, first_line
from syllablelm.data.source import HIGHEST_RATE, LOWEST_RATE, FloatArray

if TYPE_CHECKING:
    import torch

    Array: TypeAlias = npt.NDArray[Any] | torch.Tensor
else:
    Array = Any


class AudioDecoder(Protocol):
    """What decodes a recording on demand, as torchcodec's decoder does, which data sets of Hugging Face return."""

    def get_all_samples(self) -> Any:
        """Return an object with ``data`` (channels, num_samples) and ``sample_rate``."""
        ...


if TYPE_CHECKING:
    AudioInput: TypeAlias = (
        str
        | os.PathLike[str]
        | bytes
        | BinaryIO
        | Array
        | tuple[Array, int]
        | tuple[int, Array]
        | Mapping[str, Any]
        | AudioDecoder
    )
else:
    AudioInput = Any
"""One recording: what ``load_audio`` takes."""

_ARRAY_KEYS, _RATE_KEYS = ("array", "raw", "waveform"), ("sampling_rate", "sample_rate")
# More rows than a stereo recording has are more likely a batch than channels.
MOST_CHANNELS = 2
# Zero and full scale of the integers that audio files hold; others have no scale of their own.
_SCALES = {"uint8": (128, 2**7), "int8": (0, 2**7), "int16": (0, 2**15), "int32": (0, 2**31)}


def is_recording(audio: Any) -> TypeGuard[AudioInput]:
    """Tell whether a value is one recording, as ``load_audio`` takes it, and not several of them."""
    whole = isinstance(audio, str | bytes | bytearray | memoryview | os.PathLike | Mapping)
    if whole or any(hasattr(audio, name) for name in ("__array__", "read", "get_all_samples", "sample_rate")):
        return True
    return not isinstance(audio, Iterable) or is_pair(audio) or _is_number_list(audio)


def is_file(audio: Any) -> bool:
    """Tell whether a value names or holds a file: a path, its bytes, or a file object."""
    return isinstance(audio, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(audio, "read")


def is_pair(audio: Any) -> bool:
    """Tell whether a value is a waveform and its sample rate, in either order."""
    pair = isinstance(audio, tuple | list) and len(audio) == 2
    return pair and _is_number(audio[0]) != _is_number(audio[1])


def unwrap(audio: Any, sampling_rate: float | None, name: str) -> tuple[Any, int | None, str]:
    """Return what holds the samples of a recording (an array or a file), their rate in Hz if it is known, and a name.

    Raises:
        InputError: a dictionary without samples or without their rate, or rates that are invalid or contradict.
    """
    rate = None
    if hasattr(audio, "get_all_samples"):
        audio = audio.get_all_samples()
    if isinstance(audio, Mapping):
        array = _first(audio, _ARRAY_KEYS)
        rate = _first(audio, _RATE_KEYS)
        if array is not None:
            if rate is None and sampling_rate is None:
                raise InputError(f"{name}: its array has no sampling rate; add 'sampling_rate', or pass sampling_rate=")
            audio = array
        else:
            path, audio = audio.get("path"), _first(audio, ("bytes", "path"))
            name = name if path is None else str(path)
            if not is_file(audio):
                raise InputError(
                    f"{name}: a dictionary needs 'array' and 'sampling_rate', 'bytes' or 'path'; of a data set's row "
                    "pass its audio column, as in row['audio']"
                )
    elif hasattr(audio, "sample_rate") and hasattr(audio, "data"):
        audio, rate = audio.data, audio.sample_rate
    elif is_pair(audio):
        audio, rate = audio if _is_number(audio[1]) else (audio[1], audio[0])
    if isinstance(audio, str | os.PathLike):
        name = str(os.fspath(audio))
    elif hasattr(audio, "read"):
        name = str(getattr(audio, "name", name))
    return audio, _same_rate(check_rate(rate, name), check_rate(sampling_rate, name), name), name


def check_rate(rate: Any, name: str) -> int | None:
    """Return a sample rate in Hz as an integer, None for None; an InputError unless it is one of recordings."""
    if rate is None:
        return None
    if not _is_number(rate) or rate != rate or not LOWEST_RATE <= rate <= HIGHEST_RATE or rate != int(rate):
        raise InputError(f"{name}: sampling rate {rate!r} must be a whole number, {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    return int(rate)


def check_same_rate(stated: int | None, own: int, name: str) -> None:
    """Refuse (InputError) a sampling rate that contradicts a recording's own."""
    _same_rate(own, stated, name)


def _same_rate(own: int | None, stated: int | None, name: str) -> int | None:
    if own is not None and stated is not None and own != stated:
        raise InputError(f"{name}: has {own} Hz, but sampling_rate={stated} was passed; leave sampling_rate out")
    return stated if own is None else own


def mono_samples(audio: Any, name: str, *, allow_cancelled: bool = False) -> npt.NDArray[np.floating[Any]]:
    """Return samples as one floating-point row, full scale at 1.0: the mean of two channels, integers scaled.

    Args:
        audio: array, tensor or list: (num_samples,), (channels, num_samples) or (num_samples, channels) with one or two
            channels; floating point, or 8, 16 or 32-bit integers.
        name: its name in messages.
        allow_cancelled: accept channels whose mean is silence.

    Raises:
        InputError: another type or shape, or one that may be read in two ways.
        AudioError: channels that cancel each other.
    """
    samples = _to_array(audio, name)
    if not np.issubdtype(samples.dtype, np.floating) and not np.issubdtype(samples.dtype, np.integer):
        raise InputError(
            f"{name}: a {type(audio).__name__} of dtype {samples.dtype} is no recording; pass float32 samples, full "
            "scale at 1.0, or a file; and several recordings as a list"
        )
    if samples.ndim == 2:
        samples = _channels_last(samples, name)
    elif samples.ndim != 1:
        raise InputError(
            f"{name}: has shape {samples.shape}; pass (num_samples,), or stereo as (2, num_samples) or "
            "(num_samples, 2), and several recordings as a list"
        )
    if samples.dtype.name in _SCALES:
        zero, full = _SCALES[samples.dtype.name]
        # float64 holds 32-bit integers exactly.
        samples = (samples.astype(np.float64 if full == 2**31 else np.float32) - zero) / full
    elif np.issubdtype(samples.dtype, np.integer):
        raise InputError(
            f"{name}: has {samples.dtype} samples, whose full scale is unknown; pass int16 or int32, or floating point "
            "with full scale at 1.0"
        )
    if samples.ndim == 1:
        return samples
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are reported by who checks the samples
        mono = samples.mean(axis=1, dtype=np.result_type(samples.dtype, np.float32))
    if not allow_cancelled and not mono.any() and samples.any():
        raise AudioError(f"{name}: its channels cancel each other when averaged; keep one channel of it")
    return mono


def check_waveform(array: Any, *, name: str = "waveform", allow_silence: bool = False) -> FloatArray:
    """Check samples that a caller passes and return them as a contiguous float32 array (unchanged if they are one).

    Args:
        array: (num_samples,) floating point, mono, 16 kHz, full scale at 1.0; another type or shape is an InputError.
        name: its name in messages.
        allow_silence: accept samples that are all zero; without, they are an AudioError as are none, NaN or infinity.
    """
    samples = _to_array(array, name)
    if samples.ndim != 1:
        raise InputError(
            f"{name}: has shape {samples.shape}, expected (num_samples,); average the channels, "
            "or pass several recordings as a list of 1-D arrays"
        )
    if samples.size == 0:
        raise AudioError(f"{name}: holds no samples; leave it out")
    if np.issubdtype(samples.dtype, np.integer):
        raise InputError(
            f"{name}: has integer samples ({samples.dtype}); convert 16-bit ones with samples.astype('float32') / 32768"
        )
    if not np.issubdtype(samples.dtype, np.floating):
        raise InputError(f"{name}: has dtype {samples.dtype}; pass float32 samples with full scale at 1.0")
    with np.errstate(over="ignore"):  # an overflow becomes inf, which is reported below
        samples = np.ascontiguousarray(samples, dtype=np.float32)
    check_finite(samples, name, 0)
    if not allow_silence and not samples.any():
        raise AudioError(f"{name}: is silent (every sample is zero); leave it out")
    return samples


def check_finite(samples: FloatArray, name: str, offset: int) -> None:
    """Refuse (AudioError) NaN and infinity; `offset` is the number of samples before these."""
    finite = np.isfinite(samples)
    if not finite.all():
        where = offset + int(np.argwhere(~finite)[0][0])
        raise AudioError(f"{name}: has a NaN or infinite sample at {where}; write it again without, or leave it out")


def _to_array(audio: Any, name: str) -> npt.NDArray[Any]:
    try:
        if hasattr(audio, "detach"):  # a tensor of torch, whatever its device, type and gradient
            if audio.is_floating_point():
                audio = audio.float()  # NumPy lacks bfloat16
            return audio.numpy(force=True)
        return np.asarray(audio)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise InputError(f"{name}: cannot be read as an array of samples ({reason}); pass a 1-D float array") from None


def _channels_last(samples: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return (num_samples, channels), or (num_samples,) for one channel."""
    if 1 in samples.shape:
        return samples.reshape(-1)
    rows, columns = samples.shape
    if min(rows, columns) > MOST_CHANNELS or max(rows, columns) <= MOST_CHANNELS:
        either = " could be either way round;" if max(rows, columns) <= MOST_CHANNELS else ""
        raise InputError(
            f"{name}: has shape {samples.shape};{either} two dimensions are one or two channels and their samples: "
            "average more channels, and pass a batch of recordings as a list"
        )
    return samples.T if rows <= MOST_CHANNELS else samples


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_number_list(audio: Any) -> bool:
    return isinstance(audio, Sequence) and len(audio) > 0 and all(map(_is_number, audio[:2]))


def _first(table: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((table[key] for key in keys if table.get(key) is not None), None)
