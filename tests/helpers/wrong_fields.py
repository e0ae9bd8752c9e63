"""Copies of a JSON table with one field of a wrong type or out of range, for loaders that must not fail on them."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from syllablelm.core.errors import SyllableLMError

MISSING = object()
WRONG: tuple[Any, ...] = (
    MISSING,
    None,
    True,
    "text",
    "",
    "1",
    -1,
    0,
    1,
    3,
    10**9,
    10**30,
    0.5,
    -2.5,
    1e300,
    math.nan,
    math.inf,
    [],
    [1],
    ["a"],
    [[1]],
    [0] * 7,
    {},
    {"a": 1},
)
DEEP = "[" * 100_000


def wrong_tables(table: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (what was changed, changed copy) for every field, list item and nested field, and every wrong value."""
    for place in list(_places(table)):
        for value in WRONG:
            changed = copy.deepcopy(table)
            node: Any = changed
            for key in place[:-1]:
                node = node[key]
            if value is MISSING:
                del node[place[-1]]
            else:
                node[place[-1]] = value
            shown = "missing" if value is MISSING else repr(value)
            yield f"{'.'.join(map(str, place))} = {shown[:40]}", changed


def _places(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node[:1]) if isinstance(node, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from _places(value, (*above, key))


def check_wrong_fields(
    path: Path, use: Callable[[], bool], folder: Path, *, count: int | None = None, seed: int = 0
) -> tuple[int, list[str]]:
    """Try wrong fields of a JSON file, which is restored: (number of tries, what went wrong).

    Args:
        path, folder: the file, and what a message must name, the file or a path above it.
        use: open the model and use it; returns whether its result is usable.
        count, seed: number of tables, drawn with this seed; None tries all.
    """
    good = path.read_text()
    tables = list(wrong_tables(json.loads(good)))
    if count is not None:
        tables = random.Random(seed).sample(tables, min(count, len(tables)))
    faults: list[str] = []
    try:
        for label, table in tables:
            path.write_text(json.dumps(table))
            try:
                if not use():
                    faults.append(f"{label}: unusable result")
            except SyllableLMError as error:
                text = str(error)
                if "\n" in text or len(text) > 300 or str(folder) not in text:
                    faults.append(f"{label}: message {text!r}")
            except Exception as error:  # every other kind is what this looks for
                faults.append(f"{label}: {type(error).__name__} {str(error)[:200]}")
    finally:
        path.write_text(good)
    return len(tables), faults
