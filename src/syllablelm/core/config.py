"""Recipes: TOML files read into frozen dataclasses; unknown keys are errors that name the nearest key."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from syllablelm.core.errors import FormatError, InputError, name_list

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

T = TypeVar("T")
MAX_DEPTH = 64
"""Levels of lists and tables in a file."""
MAX_SEED = 2**32 - 1
"""Largest seed that numpy, torch and scikit-learn all accept."""


def check_seed(seed: int) -> None:
    """Refuse (InputError) a seed below 0 or above `MAX_SEED`, which some random number generator does not accept."""
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed {seed}: must be a whole number from 0 to {MAX_SEED}")


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file; FormatError, with file and line, if it is none."""
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
        check_depth(table)
    except FileNotFoundError:
        raise FormatError(f"{path}: no such recipe; give the path of a TOML file") from None
    except IsADirectoryError as error:
        raise FormatError(f"{path}: not a TOML file ({error})") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not a TOML file ({error})") from None
    return table


def check_depth(value: Any) -> None:
    """Refuse (ValueError) lists and tables nested deeper than `MAX_DEPTH`, which could not be copied or shown."""
    level = [value]
    for _ in range(MAX_DEPTH):
        nests = [item for item in level if isinstance(item, Mapping | list)]
        level = [item for nest in nests for item in (nest.values() if isinstance(nest, Mapping) else nest)]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split ``a.b=value`` into the key path and a TOML value; a bare word counts as a string."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise InputError(f"--set {text!r}: write key=value, for example --set codebook.units=500")
    try:
        table = tomllib.loads(f"v = {value}")
        check_depth(table)
    except tomllib.TOMLDecodeError:
        table = {"v": value}
    except (ValueError, RecursionError) as error:
        raise InputError(f"--set {key}: not a value of TOML ({error})") from None
    # A line end would begin further keys.
    return key.strip().split("."), table["v"] if len(table) == 1 else value


def apply_overrides(table: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of a nested table with every ``a.b=value`` applied.

    A member of an array of tables is named by its number from 1: ``round.2.boundaries.rate=5``.
    """
    result = copy.deepcopy(dict(table))
    for text in overrides:
        keys, value = parse_override(text)
        node: Any = result
        for depth, key in enumerate(keys):
            place: Any = key
            if isinstance(node, list):
                if not (key.isdecimal() and 1 <= int(key) <= len(node)):
                    raise InputError(f"--set {text!r}: {keys[depth - 1]!r} has members 1 to {len(node)}, not {key!r}")
                place = int(key) - 1
            elif not isinstance(node, dict):
                raise InputError(f"--set {text!r}: {keys[depth - 1]!r} is a value, not a table")
            if depth == len(keys) - 1:
                node[place] = value
            else:
                node = node[place] if isinstance(node, list) else node.setdefault(key, {})
    return result


def build(cls: type[T], table: Mapping[str, Any], where: str = "recipe") -> T:
    """Build a frozen dataclass from a table, checking names and types; nested dataclasses are built too.

    A FormatError names an unknown key and the nearest known one, a missing key, or a value of the wrong type; an
    InputError one that the dataclass refuses. Both begin with ``where``.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            nearest = difflib.get_close_matches(key, fields, n=1, cutoff=0.0)
            known = f"did you mean {nearest[0]!r}? Known: {name_list(fields, key)}"
            raise FormatError(f"{where}: unknown key {key!r}; {known}")
    values = {key: convert(hints[key], value, f"{where}.{key}") for key, value in table.items()}
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise FormatError(f"{where}: missing key {name!r}")
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def convert(hint: Any, value: Any, where: str) -> Any:
    """Check a value against a type hint and return it, nested dataclasses built; ``where`` begins a FormatError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        if value is None and len(options) < len(arguments):
            return None
        return convert(options[0], value, where) if len(options) == 1 else value
    if origin is typing.Literal:
        if not any(type(value) is type(known) and value == known for known in arguments):
            raise FormatError(f"{where}: {value!r} is not one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise FormatError(f"{where}: expected a list, got {value!r}")
        pairs = enumerate(zip_hints(arguments, value, where), 1)
        return tuple(convert(one, item, f"{where}.{number}") for number, (one, item) in pairs)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise FormatError(f"{where}: expected a table, got {value!r}")
        return build(typing.cast(type, hint), value, where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, where)
    if hint in (int, float, str, bool) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise FormatError(f"{where}: expected {hint.__name__}, got {value!r}")
    if hint is int and isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise FormatError(f"{where}: {value} does not fit 64 bits")
    return value


def zip_hints(hints: Sequence[Any], values: Sequence[Any], where: str) -> list[tuple[Any, Any]]:
    """Pair the members of a tuple with their type hints; FormatError, after ``where``, for another number of them."""
    if hints[-1:] == (Ellipsis,):
        hints = [hints[0]] * len(values)
    if len(hints) != len(values):
        raise FormatError(f"{where}: expected {len(hints)} values, got {len(values)}")
    return list(zip(hints, values, strict=True))


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FormatError(f"{where}: must be a finite number, not {number}")
    return number


def to_table(config: Any) -> dict[str, Any]:
    """Turn a config dataclass into a plain table: tuples become lists, None is left out (TOML has no null)."""

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: clean(item) for key, item in value.items() if item is not None}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return clean(dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config)  # type: ignore[arg-type]


def to_toml(table: Mapping[str, Any]) -> str:
    """Write a nested table of plain values (lists of tables too) as TOML text."""
    lines: list[str] = []

    def emit(node: Mapping[str, Any], prefix: str) -> None:
        nested: list[tuple[str, Mapping[str, Any]]] = []
        for key, value in node.items():
            if isinstance(value, Mapping):
                nested.append((f"[{prefix}{key}]", value))
            elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
                nested.extend((f"[[{prefix}{key}]]", item) for item in value)
            else:
                # JSON strings, numbers, booleans and flat lists are valid TOML values, but for one control character.
                lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f"))
        for heading, table in nested:
            lines.extend(["", heading])
            emit(table, f"{heading.strip('[]')}.")

    emit(table, "")
    return "\n".join(lines).strip() + "\n"
