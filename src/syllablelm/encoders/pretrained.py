"""Models of transformers opened from a folder: a checked configuration, weights read without running code."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import types
import typing
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from syllablelm.core.errors import FormatError, first_line
from syllablelm.core.files import scratch_folder
from syllablelm.core.models import CONFIG_FILE, find_model, read_model_config, safe_config
from syllablelm.core.results import read_json
from syllablelm.encoders.quiet import quiet_transformers
from syllablelm.encoders.weights import (
    BUILD_FAULTS,
    build_without_memory,
    copy_weights,
    fit_names,
    read_weights,
)

_MOST = 2**31 - 1
_MOST_HOP = 16_000
# Files of a tokenizer or feature extractor: settings, whose keys can name code, and plain tables. No pickles, no code.
_SETTINGS = (CONFIG_FILE, "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_TABLES = (".json", ".txt", ".model", ".tiktoken")


def make_config(table: Mapping[str, Any], config_class: type, path: Path) -> Any:
    """Make a configuration of the fields that its class declares; other keys of the file count for nothing.

    Sizes are at least 1 where the class's default is; shares such as dropout lie in [0, 1]; epsilons are above 0.

    Args:
        table, path: what ``config.json`` holds, and its path, for errors.
        config_class: class of transformers, or a dataclass of ours.

    Raises:
        FormatError: a field of a wrong type or out of range, which it names.
    """
    shared, refused, quiet = set(), BUILD_FAULTS, nullcontext
    if not config_class.__module__.startswith("syllablelm."):
        from huggingface_hub.errors import StrictDataclassError
        from transformers.configuration_utils import PreTrainedConfig

        shared = {field.name for field in dataclasses.fields(PreTrainedConfig)}
        refused, quiet = (StrictDataclassError, *BUILD_FAULTS), quiet_transformers
    fields = {field.name: field for field in dataclasses.fields(config_class) if field.name not in shared}
    values = {name: value for name, value in table.items() if name in fields}
    for name, value in values.items():
        if problem := _problem(name, value, fields[name]):
            raise FormatError(f"{path}: {name} is {_short(value)}: {problem}")
    strides = values.get("conv_stride", [])
    if math.prod(strides) > _MOST_HOP:
        raise FormatError(f"{path}: conv_stride is {_short(strides)}: frames must be at most a second apart")
    try:
        with quiet():
            config = config_class(**values)
    except refused as error:
        raise FormatError(f"{path}: not a usable configuration ({' '.join(str(error).split())[:160]})") from None
    heads, size = getattr(config, "num_attention_heads", 1), getattr(config, "hidden_size", 1)
    if size % heads:
        raise FormatError(f"{path}: {heads} attention heads do not divide {size} dimensions")
    return config


def _problem(name: str, value: Any, field: dataclasses.Field[Any]) -> str:
    hint: Any = field.type
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if value is None:
        return "" if type(None) in kinds else "a value is needed"
    default = field.default if type(field.default) is int else 1
    least = min(1, default) if not name.endswith("_token_id") else -1
    if type(value) is int and int in kinds and float not in kinds:
        return "" if least <= value <= _MOST else f"a whole number from {least} is needed"
    if isinstance(value, list) and list in (typing.get_origin(kind) or kind for kind in kinds):
        whole = all(type(item) is int and 0 <= item <= _MOST for item in value)
        sized = name.endswith(("_dim", "_kernel", "_stride"))
        return "" if whole and not (sized and (not value or min(value) < 1)) else "a list of whole numbers is needed"
    if isinstance(value, int | float) and type(value) is not bool and float in kinds:
        share = any(part in name for part in ("drop", "prob"))
        most = 1.0 if share or name.endswith("eps") else math.inf
        fits = math.isfinite(value) and 0 <= value <= most and not (value == 0 and name.endswith("eps"))
        return "" if fits else f"a finite number from 0{' to 1' if most == 1 else ''} is needed"
    for kind, noun in ((bool, "true or false"), (str, "a string")):
        if kinds == (kind,):
            return "" if type(value) is kind else f"{noun} is needed"
    literals = [one for kind in kinds for one in typing.get_args(kind) if typing.get_origin(kind) is typing.Literal]
    if literals:
        return "" if value in literals else f"one of {', '.join(map(str, literals))} is needed"
    nouns = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    return f"{' or '.join(dict.fromkeys(nouns.get(kind, 'a list') for kind in kinds))} is needed"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def load_pretrained(folder: Path, model_class: Any, config: Any, *, optional: Collection[str] = ()) -> nn.Module:
    """Build a model in float32 with the weights of a folder; shapes are compared before memory is taken.

    Args:
        folder: of ``config.json`` and ``model.safetensors``, ``pytorch_model.bin`` or a model in parts.
        model_class, config: class of transformers or of ours, and its configuration (``make_config``, ``safe_config``).
        optional: weights that the folder may lack; they are then drawn at random.

    Raises:
        FormatError: unusable sizes; weights missing, damaged or of other shapes.
    """
    path = folder / CONFIG_FILE
    weights_path, weights = read_weights(folder)
    # Some models take memory for vectors of this size even on the meta device.
    size = getattr(config, "hidden_size", None)
    if size is not None and not any(size in tensor.shape for tensor in weights.values()):
        raise FormatError(
            f"{path}: hidden_size is {_short(size)}: no weight of {weights_path.name} has such a dimension"
        )
    empty: Any = build_without_memory(lambda: model_class(config), path, len(weights))
    expected = empty.state_dict()
    weights = fit_names(weights, expected, getattr(model_class, "base_model_prefix", "") or "model")
    weights = {name: tensor for name, tensor in weights.items() if name in expected}
    # A network of ours has no values of its own for them.
    own = not hasattr(model_class, "from_pretrained")
    optional = () if own else optional
    tied = set(getattr(empty, "all_tied_weights_keys", None) or ())
    missing = sorted(name for name in expected if name not in weights and name not in {*optional, *tied})
    if missing:
        raise FormatError(
            f"{folder}: {len(missing)} weights are missing ({missing[0][:80]}, ...); get the whole checkpoint"
        )
    for name, tensor in weights.items():
        shape = expected[name].shape
        if tensor.shape != shape or tensor.is_floating_point() != expected[name].is_floating_point():
            raise FormatError(
                f"{weights_path}: its weights cannot be read: {name[:80]} is {tensor.dtype}{tuple(tensor.shape)} where "
                f"{CONFIG_FILE} says {tuple(shape)}"
            )
    if own:
        empty.load_state_dict(copy_weights(weights, weights_path), assign=True)
        return empty.eval()
    attention = "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"
    try:
        with quiet_transformers():
            return model_class.from_pretrained(
                None,
                config=config,
                state_dict=copy_weights(weights, weights_path),
                dtype=torch.float32,
                # A name in the folder's own configuration could ask for a kernel from the hub.
                attn_implementation=attention,
            )
    except BUILD_FAULTS as error:
        raise FormatError(f"{folder}: its weights cannot be read ({first_line(error)})") from None


def open_transformers(name: str, classes: Mapping[Any, Any], revision: str | None = None) -> tuple[Path, Any]:
    """Open a model of any family that transformers has: (folder, model in float32); its code is never run.

    Args:
        name, revision: folder or hub id, as ``find_model`` takes them.
        classes: transformers' table of configuration class to model class, such as ``MODEL_FOR_CTC_MAPPING``.

    Raises:
        FormatError: no such model, a damaged one, or one of a family without such a class.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    folder = find_model(name, revision)
    if not folder.is_dir():
        raise FormatError(f"{name}: a folder with {CONFIG_FILE}, or a hub id, is needed")
    table = read_model_config(folder)
    family = table["model_type"]
    try:
        with quiet_transformers():
            config_class: Any = CONFIG_MAPPING[family]
            model_class: Any = classes[config_class]
            declared = {field.name for field in dataclasses.fields(config_class)}
            config = config_class.from_dict(safe_config(table, declared))
    except KeyError:
        raise FormatError(f"{folder / CONFIG_FILE}: model type {family[:40]!r} is no such model") from None
    except (StrictDataclassError, *BUILD_FAULTS) as error:
        reason = " ".join(str(error).split())[:160]
        raise FormatError(f"{folder / CONFIG_FILE}: not a usable configuration ({reason})") from None
    if isinstance(model_class, tuple | list):
        model_class = model_class[0]
    return folder, load_pretrained(folder, model_class, config)


def open_part(folder: Path, auto_class: Any) -> Any:
    """Open the tokenizer or the feature extractor in the folder of a model of transformers; its code is never run.

    It is made from a copy of the folder's files without the keys that name code or other repositories.

    Raises:
        FormatError: none there, or a damaged one.
    """
    with scratch_folder() as clean:
        for file in (item for item in folder.iterdir() if item.suffix in _TABLES and item.is_file()):
            if file.name in _SETTINGS:
                table = {key: value for key, value in safe_config(read_json(file)).items() if key != "processor_class"}
                (clean / file.name).write_text(json.dumps(table), encoding="utf-8")
            elif not file.name.endswith(".index.json"):
                shutil.copyfile(file, clean / file.name)
        try:
            with quiet_transformers():
                return auto_class.from_pretrained(str(clean), trust_remote_code=False, local_files_only=True)
        except Exception as error:  # the library of tokenizers raises nothing more special
            reason = first_line(error).replace(str(clean), str(folder))
            raise FormatError(f"{folder}: no {auto_class.__name__.removeprefix('Auto')} to open ({reason})") from None
