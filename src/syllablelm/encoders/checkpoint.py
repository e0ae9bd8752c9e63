"""Checkpoints of other programs, read without running anything of theirs.

A torch file is a pickle, and a pickle may name any class or function. torch's weights-only reader refuses those it does
not know, and with them the configuration objects that fairseq saves beside the weights. Here the names of a few
harmless families are answered with placeholder classes made on the spot, which keep what they were given and do
nothing; every other name is refused. No module that a file names is imported, and nothing that it names is called.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
import threading
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from syllablelm.core.errors import FormatError

# Families of names whose objects describe a model or a run: configurations, dictionaries, enumerations, counters.
_HARMLESS = re.compile(
    r"argparse\.Namespace"
    r"|(omegaconf|fairseq|examples|hydra)(\.\w+)+"
    r"|typing\.\w+"
    r"|enum\.\w+"
    r"|pathlib\.\w+"
    r"|collections\.\w+"
    r"|numpy\.(core|_core)\.multiarray\.(scalar|_reconstruct)"
    r"|numpy\.(dtype|ndarray)"
    r"|numpy\.dtypes\.\w+"
    r"|builtins\.(bool|bytes|complex|dict|float|frozenset|int|list|object|range|set|slice|str|tuple)"
)
# These torch's reader knows itself; among its own names it tells the harmless ones from the others.
_LEFT_TO_TORCH = re.compile(
    r"torch(\.\w+)+|collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(bytearray|complex|set)"
)
# What reading a damaged file may raise, in torch's readers and in the pickle machine.
_DAMAGE = (
    pickle.UnpicklingError,
    RuntimeError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
)
_ZIP_MAGIC = b"PK\x03\x04"
# A torch file from before the zip format is five pickles (the fourth is the object), then raw numbers.
_LEGACY_PICKLES = 5

# torch keeps its list of accepted names for the whole process.
_lock = threading.Lock()


class Inert:
    """Stands where a checkpoint holds an object of another program.

    Attributes:
        args, state: what its constructor was called with, and what was to be restored into it; None without.
    """

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read the dictionary that ``torch.save`` wrote, in the zip format or the one before it, without running its code.

    Objects of argparse, omegaconf, fairseq and the like come as ``Inert`` placeholders. Tensors are on the CPU and,
    where the format allows it, mapped from the file: only what is used is read, and they must be copied before the
    file is written over.

    Raises:
        FormatError: no such file, not a torch file, cut short or damaged, something else than a dictionary, or a
            pickle with code in it.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            loaded = _load(path, file)
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise FormatError(f"{path}: a folder where a checkpoint file is needed") from None
    except _DAMAGE as error:
        raise FormatError(f"{path}: {_explain(error)}") from None
    if not isinstance(loaded, dict):
        raise FormatError(f"{path}: holds a {type(loaded).__name__} where a dictionary of weights is needed")
    return loaded


def _load(path: Path, file: BinaryIO) -> Any:
    start = file.read(len(_ZIP_MAGIC))
    if not start:
        raise FormatError(f"{path}: empty file")
    file.seek(0)
    zipped = start == _ZIP_MAGIC
    names = _names_in_zip(path, file) if zipped else _names_in_legacy(file)
    foreign = sorted(name for name in names if not _LEFT_TO_TORCH.fullmatch(name))
    refused = [name for name in foreign if not _HARMLESS.fullmatch(name)]
    if refused:
        raise FormatError(f"{path}: holds code ({_printable(refused[0])}); refused")
    file.seek(0)
    # Given a path that ends in .safetensors, torch takes the file for that format.
    mapped = zipped and path.suffix != ".safetensors"
    # torch also takes (class, name it answers to), which its annotations leave out.
    placeholders: list[Any] = [(_placeholder(name), name) for name in foreign]
    try:
        with _lock, torch.serialization.safe_globals(placeholders), warnings.catch_warnings():
            # Of pickle protocols that its safe reader does not know; it fails on them right after.
            warnings.simplefilter("ignore")
            return torch.load(str(path) if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        refused = [name for name in names if f"GLOBAL {name} " in str(error)]
        if refused:
            raise FormatError(f"{path}: holds code ({_printable(refused[0])}); refused") from None
        raise


def _names_in_zip(path: Path, file: BinaryIO) -> set[str]:
    names: set[str] = set()
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.filename.endswith("/constants.pkl") for entry in entries):
                raise FormatError(f"{path}: holds code (a TorchScript program); refused")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                # Tensors are used where they lie in the file.
                raise FormatError(f"{path}: a compressed zip archive, not a torch file")
            for entry in entries:
                if entry.filename.endswith("/data.pkl"):
                    names.update(_names_in_pickle(archive.open(entry)))
    except zipfile.BadZipFile:
        raise FormatError(f"{path}: not a torch file, or cut short or damaged; get it again") from None
    return names


def _names_in_legacy(file: BinaryIO) -> set[str]:
    names: set[str] = set()
    # What is no pickle at all torch's reader reports.
    with suppress(*_DAMAGE):
        for _ in range(_LEGACY_PICKLES):
            names.update(_names_in_pickle(file))
    return names


def _placeholder(name: str) -> Any:
    # torch's reader fills plain dictionaries and lists only, so these two cannot be classes of ours.
    if name == "collections.defaultdict":
        return _make_dict
    if name == "collections.deque":
        return _make_list
    return type(name.rpartition(".")[2], (Inert,), {"__module__": "inert." + name.rpartition(".")[0]})


def _make_dict(*args: Any) -> dict[Any, Any]:
    return {}


def _make_list(*args: Any) -> list[Any]:
    return []


def _names_in_pickle(file: Any) -> Iterator[str]:
    """Full names of the classes and functions that one pickle asks for, as they are called today.

    Only the instruction that torch's reader knows is looked for; it refuses all others.
    """
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            yield f"{module}.{name}"


def _explain(error: Exception) -> str:
    # torch wraps its reason in lines of advice on how to switch the safety off.
    reason = re.search(r"(Unsupported operand|Can only|Trying to|Only persistent)[^\n]*", str(error))
    if isinstance(error, pickle.UnpicklingError) and reason:
        return f"not a torch file, or one that cannot be read without running code ({_printable(reason[0])}); refused"
    return "not a torch file, or cut short or damaged; get it again"


def _printable(text: str) -> str:
    return text[:120].encode("unicode_escape").decode("ascii")
