"""Results: frozen dataclasses, saved as JSON and read back by the same class."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from syllablelm.core.config import check_depth, convert, zip_hints
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import write_json_lines

R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95 % bootstrap interval, which may be unknown.

    As a field ``x`` of a record it is written flat: ``x``, ``x_low``, ``x_high``.
    """

    value: float
    low: float | None = None
    high: float | None = None


def json_key(
    name: str = "",
    *,
    omit_none: bool = False,
    flat: bool = False,
    read: Callable[[Any], Any] | None = None,
    **options: Any,
) -> Any:
    """Declare a field of a record whose JSON key is no Python name, or that is written in another way.

    Args:
        name: key in JSON; by default the field's name.
        omit_none: leave the key out where the value is None instead of writing null; the default is then None.
        flat: write the keys of a nested record among those of this one; nothing is written where it is None.
        read: function from the JSON value to the field's value, for types that JSON does not have, such as arrays.
        options: of ``dataclasses.field``.
    """
    if omit_none:
        options.setdefault("default", None)
    metadata = {"key": name, "omit_none": omit_none, "flat": flat, "read": read}
    return dataclasses.field(metadata=metadata, **options)


@dataclass(frozen=True)
class Record:
    """Base of results and of their rows: JSON by the fields, in their order.

    ``derived`` names properties that are written too, after the fields, and passed over when read.
    """

    derived: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: nested records as objects, tuples as lists, NaN and infinity as null."""
        table: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is None and item.metadata.get("omit_none"):
                continue
            key = item.metadata.get("key") or item.name
            if item.metadata.get("flat"):
                table |= {} if value is None else value.to_dict()
            elif isinstance(value, Estimate):
                ends = {f"{key}_low": value.low, f"{key}_high": value.high}
                table |= {key: plain_json(value.value)} | {k: plain_json(v) for k, v in ends.items() if v is not None}
            else:
                table[key] = plain_json(value)
        return table | {name: plain_json(getattr(self, name)) for name in self.derived}

    @classmethod
    def from_dict(cls: type[R], table: Mapping[str, Any], where: str = "result") -> R:
        """Build a record from what ``to_dict`` gave; a FormatError names an unfit key or value, after ``where``."""
        hints = typing.get_type_hints(cls)
        left = {key: value for key, value in table.items() if key not in cls.derived}
        values: dict[str, Any] = {}
        # Flat records last: they take their keys from what the other fields leave.
        for item in sorted(dataclasses.fields(cls), key=lambda item: bool(item.metadata.get("flat"))):
            key = item.metadata.get("key") or item.name
            if item.metadata.get("flat"):
                part = _options(hints[item.name])[0]
                own = {name: left.pop(name) for name in _keys(part) if name in left}
                values[item.name] = part.from_dict(own, where) if own or not _optional(hints[item.name]) else None
                continue
            if key not in left:
                if item.default is item.default_factory is dataclasses.MISSING:
                    raise FormatError(f"{where}: lacks {key!r}")
                continue
            value, hint = left.pop(key), hints[item.name]
            if (read := item.metadata.get("read")) is not None:
                try:
                    values[item.name] = read(value)
                except (TypeError, ValueError, OverflowError) as error:
                    raise FormatError(f"{where}.{key}: {error}") from None
            elif Estimate in _options(hint):
                ends = {end: left.pop(f"{key}_{end}", None) for end in ("low", "high")}
                low, high = (_restore(float | None, ends[end], f"{where}.{key}_{end}") for end in ends)
                number = _restore(float, value, f"{where}.{key}")
                values[item.name] = None if value is None and _optional(hint) else Estimate(number, low, high)
            else:
                values[item.name] = _restore(hint, value, f"{where}.{key}")
        if left:
            raise FormatError(f"{where}: unknown key {next(iter(left))!r}; another version wrote it?")
        try:
            return cls(**values)
        except InputError as error:
            raise FormatError(f"{where}: {error}") from None


@dataclass(frozen=True)
class Result(Record):
    """Base of every evaluation's result.

    Args:
        evaluation: what was measured; the first key of the JSON object, by which the class is found again.
    """

    evaluation: ClassVar[str] = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the evaluation's name first."""
        return {"evaluation": self.evaluation, **super().to_dict()}

    @classmethod
    def from_dict(cls: type[R], table: Mapping[str, Any], where: str = "result") -> R:
        """Build a result from what ``to_dict`` gave; FormatError as in `Record`, or for another evaluation."""
        expected = getattr(cls, "evaluation", "")
        if table.get("evaluation") != expected:
            raise FormatError(f"{where}: a result of {table.get('evaluation')!r}, not of {expected!r}")
        return super().from_dict({k: v for k, v in table.items() if k != "evaluation"}, where)  # type: ignore[misc]

    def save(self, path: str | Path) -> None:
        """Write the result as one JSON object; the file appears complete or not at all."""
        write_json_lines(path, [self.to_dict()])

    @classmethod
    def load(cls: type[R], path: str | Path) -> R:
        """Read a result that ``save`` or the command line wrote."""
        return cls.from_dict(read_json(path), str(path))


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a file that holds one JSON object; FormatError if it does not."""
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        check_depth(table)
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON ({error})") from None
    if not isinstance(table, dict):
        raise FormatError(f"{path}: holds a {type(table).__name__}, not a JSON object")
    return table


def _keys(cls: type[Record]) -> set[str]:
    """Return every JSON key that a record may have."""
    names = [item.metadata.get("key") or item.name for item in dataclasses.fields(cls)]
    return {*cls.derived, *names, *(f"{name}_{end}" for name in names for end in ("low", "high"))}


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _optional(hint: Any) -> bool:
    return type(None) in _options(hint)


def _restore(hint: Any, value: Any, where: str) -> Any:
    """Return the value of a field: records by their own ``from_dict``, everything else as in a recipe."""
    options = [option for option in _options(hint) if option is not type(None)]
    origin, arguments = typing.get_origin(options[0]), typing.get_args(options[0])
    if value is None:
        if not _optional(hint) and options != [float]:
            raise FormatError(f"{where}: null, where a value is needed")
        return None if _optional(hint) else math.nan
    if options[0] is Path and isinstance(value, str):
        return Path(value)
    if isinstance(options[0], type) and issubclass(options[0], Record):
        if not isinstance(value, Mapping):
            raise FormatError(f"{where}: expected an object, got {value!r}")
        return options[0].from_dict(value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_restore(one, item, f"{where}[]") for one, item in zip_hints(arguments, value, where))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise FormatError(f"{where}: expected an object, got {value!r}")
        return {key: _restore(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    return convert(hint, value, where)


def plain_json(value: Any) -> Any:
    """Return a value as JSON holds it: records as objects, arrays as lists, NaN and infinity as None."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if hasattr(value, "tolist"):  # an array or a scalar of numpy
        return plain_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
