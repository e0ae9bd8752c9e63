"""Weights of a file or folder in float32, and networks that take memory only once the weights fit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from syllablelm.core.errors import FormatError, first_line
from syllablelm.core.results import read_json
from syllablelm.encoders.checkpoint import read_checkpoint

Net = TypeVar("Net", bound=nn.Module)

# Files of weights in a Hugging Face folder, the preferred first; an index names the files of a model in parts.
_SAFE, _TORCH = "model.safetensors", "pytorch_model.bin"
_INDEX = ".index.json"
WEIGHT_FILES = (_SAFE, _SAFE + _INDEX, _TORCH, _TORCH + _INDEX)
# Prefixes of DistributedDataParallel, and of modules that hold the model.
_WRAPPERS = ("module.", "model.")
_COMPILED = "_orig_mod."
# GPT-NeoX's files (Pythia) name the output layer otherwise than the model of transformers.
_OUTPUT = ("embed_out.", "lm_head.")
# Both spellings of weight norm.
_WEIGHT_NORM = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
# Ends of the names of size and direction, in both spellings.
_NORMED = ((".weight_g", ".weight_v"), tuple(_WEIGHT_NORM))
# No network learns such weights; they come from flipped bits, and overflow.
_LARGEST = 1e9
# A tensor may occur twice in a file, or as a view of another; more than this is no model.
_REPEATS, _SMALL_FILE = 4, 1 << 20
# Parameters that a network may always have: what is missing is then named.
_LEAST = 2000
# What building a network from unusable sizes may raise.
BUILD_FAULTS = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    ImportError,
    OSError,
)


def read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """Read the weights in a Hugging Face folder, as ``read_tensors``: (file, tensors by name)."""
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise FormatError(f"{folder}: no weights ({_SAFE} or {_TORCH}); get the whole checkpoint")
    if path.suffix != ".json":
        return path, read_tensors(path)
    table = read_json(path).get("weight_map")
    names = table.values() if isinstance(table, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise FormatError(f"{path}: weight_map must name the files of this folder for each weight")
    weights: dict[str, Tensor] = {}
    for name in sorted(set(names)):
        weights |= read_tensors(folder / name)
    return path, weights


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of weights, safetensors or of ``torch.save``, as they lie in the file: take ``copy_weights``.

    Raises:
        FormatError: no such file, a damaged one, or anything else than weights, see ``check_tensors``.
    """
    if path.suffix != ".safetensors":
        found: Any = read_checkpoint(path)
        for key in ("state_dict", "model"):
            found = found[key] if isinstance(found.get(key), dict) else found
        return check_tensors(found, path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FormatError(f"{path}: no such file; get the whole checkpoint")
    try:
        return check_tensors(load_file(path), path)
    except (SafetensorError, OSError, ValueError, LookupError, RuntimeError) as error:
        raise FormatError(f"{path}: its weights cannot be read ({first_line(error)}); get the file again") from None


def check_tensors(weights: Any, path: Path) -> dict[str, Tensor]:
    """Return a table of dense tensors as it is.

    Raises:
        FormatError: no weights; sparse, quantized or complex tensors; or more numbers than the file, whose path is
            given, can hold: views that repeat a few.
    """
    if not isinstance(weights, Mapping) or not weights:
        raise FormatError(f"{path}: holds no weights")
    size = 0
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise FormatError(f"{path}: {str(name)[:80]} is a {type(tensor).__name__}, not a tensor of weights")
        kind = "quantized" if tensor.is_quantized else str(tensor.dtype).removeprefix("torch.")
        if tensor.layout != torch.strided:
            kind = "sparse"
        if kind in ("quantized", "sparse") or tensor.is_complex() or tensor.device.type != "cpu":
            raise FormatError(f"{path}: {name[:80]} is a {kind} tensor; save the weights dense, as float32")
        size += tensor.numel() * tensor.element_size()
    if size > _REPEATS * path.stat().st_size + _SMALL_FILE:
        raise FormatError(f"{path}: claims {size:,} bytes of weights, many more than the file holds; get it again")
    return dict(weights)


def copy_weights(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return checked tensors with memory of their own, in float32; whole numbers stay as they are.

    Raises:
        FormatError: weights that give NaN: NaN, infinite or of absurd size, or a weight norm of zeros.
    """
    # What the readers give may lie in the file.
    copies = {
        name: tensor.detach().to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in weights.items()
    }
    for name, tensor in copies.items():
        if tensor.is_floating_point() and tensor.numel():
            low, high = torch.aminmax(tensor)
            if not -_LARGEST <= float(low) <= float(high) <= _LARGEST:
                raise FormatError(f"{path}: {name[:80]} holds NaN, infinity or numbers beyond 1e9; get the file again")
        size = next((copies.get(name.removesuffix(v) + g) for g, v in _NORMED if name.endswith(v)), None)
        if size is not None and size.ndim == tensor.ndim:
            axes = [axis for axis, length in enumerate(size.shape) if length == 1]
            if axes and not bool(tensor.abs().amax(axes).all()):
                raise FormatError(f"{path}: {name[:80]} holds zeros, which have no direction; get the file again")
    return copies


def unwrap_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under their plain names: without prefixes of DDP, torch.compile and the like.

    Weight norm gets the spelling ``weight_g``, ``weight_v``.
    """
    plain: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        name = name.replace(_COMPILED, "")
        for theirs, ours in _WEIGHT_NORM.items():
            name = name.removesuffix(theirs) + ours if name.endswith(theirs) else name
        plain[name] = tensor
    while wrapper := next((one for one in _WRAPPERS if plain and all(name.startswith(one) for name in plain)), None):
        plain = {name.removeprefix(wrapper): tensor for name, tensor in plain.items()}
    return plain


def fit_names(weights: Mapping[str, Tensor], expected: Collection[str], base: str) -> dict[str, Tensor]:
    """Return weights under the names that a model of transformers expects; the others keep theirs.

    Args:
        weights, expected: weights by the names of a file, and the model's names.
        base: what stands before the names of a model with a head ("hubert").
    """
    norm = {ours: theirs for theirs, ours in _WEIGHT_NORM.items()}
    fitted: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        plain = name.replace(_COMPILED, "")
        new = next((plain.removesuffix(old) + new for old, new in norm.items() if plain.endswith(old)), None)
        plain = new if new is not None and name not in expected else plain
        candidates = [plain, f"{base}.{plain}", plain.replace(*_OUTPUT)]
        while wrapper := next((one for one in (*_WRAPPERS, f"{base}.") if plain.startswith(one)), None):
            plain = plain.removeprefix(wrapper)
            candidates.append(plain)
        chosen = next((one for one in candidates if one in expected), name)
        if chosen == name or chosen not in fitted:
            fitted[chosen] = tensor
    return fitted


def build_without_memory(build: Callable[[], Net], path: Path, num_weights: int) -> Net:
    """Build a network on the meta device, where parameters have shapes and no memory.

    Args:
        build, path: the constructor, and the file with its sizes, for errors.
        num_weights: number of tensors in the file of weights; a network of several times as many is refused early.

    Raises:
        FormatError: sizes of which no network can be built.
    """
    try:
        with _at_most(max(4 * num_weights, _LEAST)), torch.device("meta"), _NoValues():
            return build()
    except _TooMany:
        raise FormatError(
            f"{path}: describes a larger network than the {num_weights} weights beside it; they do not belong together"
        ) from None
    except BUILD_FAULTS as error:
        raise FormatError(f"{path}: its shapes do not fit ({first_line(error)})") from None


class _TooMany(Exception):
    pass


class _NoValues(TorchFunctionMode):
    """Leave parameters without initial values: there is no memory to fill, and random numbers load torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def _at_most(limit: int) -> Iterator[None]:
    """Raise _TooMany once this thread makes more parameters: a number in a file may ask for billions of layers."""
    thread, count = threading.get_ident(), 0

    def count_one(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > limit:
            raise _TooMany

    handle = register_module_parameter_registration_hook(count_one)
    try:
        yield
    finally:
        handle.remove()


def fill_network(net: Net, weights: Mapping[str, Tensor], path: Path, what: str) -> Net:
    """Give a network of ``build_without_memory`` copies of its weights, in float32.

    Raises:
        FormatError: weights missing, left over or of another shape; ``what`` names the network ("vocoder").
    """
    expected = net.state_dict()
    problems = [f"no {name}" for name in expected if name not in weights]
    problems += [f"unknown {name}" for name in weights if name not in expected]
    for name, tensor in weights.items():
        if name in expected and tensor.shape != expected[name].shape:
            problems.append(f"{name} is {tuple(tensor.shape)}, not {tuple(expected[name].shape)}")
        elif not tensor.is_floating_point():
            problems.append(f"{name} is {tensor.dtype}, not floating-point")
    if problems:
        raise FormatError(f"{path}: not the weights of this {what}: {problems[0][:160]}")
    net.load_state_dict(copy_weights(weights, path), assign=True)
    return net
