"""Mergeable counts: those of recordings add up to those of a corpus, of which every score is a ratio."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

C = TypeVar("C", bound="Counts")


@dataclass(frozen=True)
class Counts:
    """Base of counts: fields are numbers, tables of numbers, or other counts, and have defaults.

    Counts of one class add field by field, with ``+``, ``sum`` or, of many, ``merge``.
    """

    def __add__(self: C, other: C) -> C:
        if type(other) is not type(self):
            return NotImplemented
        return self.merge((self, other))

    def __radd__(self: C, other: object) -> C:
        # sum() starts from the integer 0.
        if type(other) is not int or other != 0:
            return NotImplemented
        return self

    @classmethod
    def merge(cls: type[C], items: Iterable[C]) -> C:
        """Return the sum of many counts, in any order: fractions are added without rounding in between."""
        found = list(items)
        names = [field.name for field in fields(cls)] if found else []
        return cls(*(_total([getattr(item, name) for item in found]) for name in names))


def _total(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Counts):
        return type(values[0]).merge(values)
    if isinstance(values[0], Mapping):
        table: Counter[Any] = Counter()
        for value in values:
            table.update(value)
        return dict(table)
    return math.fsum(values) if any(isinstance(value, float) for value in values) else sum(values)
