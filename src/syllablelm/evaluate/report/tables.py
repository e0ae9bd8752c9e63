"""The paper's tables: published rows from ``published.toml``, our rows built from cells of results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from syllablelm.config import read_toml
from syllablelm.errors import InputError

PUBLISHED = Path(__file__).with_name("published.toml")
# What fills columns of a table but does not ask for a row of its own there.
SUPPORT = {"3": ("rate", "run"), "6": ("rate",)}
# Tables whose row may hold scores of several sets, as the paper's does; each set is named in the row.
MIXED = ("2", "3", "6")


@dataclass(frozen=True)
class Value:
    """A cell.

    Args:
        number: in the unit of its column (accuracies in %); None where ``text`` is printed as it is.
        low, high: ends of its interval.
        text: as printed in the paper, where that is no number ("1.2B").
        bar: whether the interval is a two-sigma bar around the number instead of a 95 % interval.
    """

    number: float | None
    low: float | None = None
    high: float | None = None
    text: str | None = None
    bar: bool = False


@dataclass(frozen=True)
class Column:
    """A column: its key in rows, heading, and digits after the point; ``text`` shortens large numbers (1.2B)."""

    key: str
    heading: str
    digits: int = 1
    text: bool = False

    def show(self, value: Value | None) -> tuple[str, str]:
        """A cell as text, and its interval; "" for what there is not."""
        if value is None:
            return "", ""
        if value.text is not None or value.number is None:
            return value.text or "", ""
        shown = short_count(value.number) if self.text else f"{value.number:,.{self.digits}f}"
        if value.low is None or value.high is None:
            return shown, ""
        if value.bar:
            return shown, f"±{(value.high - value.low) / 2:,.{self.digits}f}"
        return shown, f"[{value.low:,.{self.digits}f}, {value.high:,.{self.digits}f}]"


@dataclass(frozen=True)
class Row:
    """A row: who, on what, how, and its cells by column; ``ours`` tells it from the published ones."""

    name: str
    data: str
    protocol: str
    values: Mapping[str, Value]
    ours: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the paper with its published rows, and ours below them."""

    id: str
    title: str
    data: str
    protocol: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def published(self) -> tuple[Row, ...]:
        """The paper's rows."""
        return tuple(row for row in self.rows if not row.ours)

    @property
    def ours(self) -> tuple[Row, ...]:
        """Rows of results."""
        return tuple(row for row in self.rows if row.ours)

    @property
    def intervals(self) -> bool:
        """Whether some row of ours has a 95 % interval."""
        return any(value.low is not None and not value.bar for row in self.ours for value in row.values.values())

    @property
    def bars(self) -> bool:
        """Whether some row of ours has a two-sigma bar."""
        return any(value.bar for row in self.ours for value in row.values.values())


@dataclass(frozen=True)
class Block:
    """Cells that one result gives to one row of one table.

    Args:
        table: its number.
        system: what was measured, as the user gave it: key and name of the row.
        family: kind of the measurement; a row has at most one of each.
        data: the set as the user gave it; size: how much of it.
        protocol: how it was measured, for the reader.
        values: by column.
        source: the result's file.
        tokenizer: whose units the system uses, where that is another name.
        part: which of several things about the system ("vocoder only").
    """

    table: str
    system: str
    family: Literal["boundaries", "purity", "rate", "resynthesis", "lexical", "syntactic", "cloze"] | str
    data: str
    size: str
    protocol: str
    values: Mapping[str, Value]
    source: Path
    tokenizer: str = ""
    part: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """What two blocks share that speak of the same cells."""
        return (self.table, self.system, self.part, self.tokenizer, self.family, self.data, self.protocol)


@dataclass
class _Draft:
    """A row of ours while it is filled."""

    blocks: list[Block] = field(default_factory=list)

    def takes(self, block: Block, *, mixed: bool) -> bool:
        if any(block.family == own.family for own in self.blocks):
            return False
        return mixed or any(own.data == block.data for own in self.blocks)


@cache
def read_published() -> tuple[Table, ...]:
    """The paper's tables in order, published rows only."""
    return tuple(_table(entry) for entry in read_toml(PUBLISHED)["table"])


def _table(entry: Mapping[str, Any]) -> Table:
    columns = tuple(Column(**column) for column in entry["columns"])
    keys = {column.key for column in columns}
    rows = []
    for row in entry["rows"]:
        unknown = set(row) - {"name"} - keys - {f"{key}_pm" for key in keys}
        if unknown:
            raise InputError(f"{PUBLISHED.name}: table {entry['id']} has no column {min(unknown)!r}")
        values = {key: _published_value(row[key], row.get(f"{key}_pm")) for key in keys if key in row}
        rows.append(Row(row["name"], entry["set"], entry["protocol"], values))
    notes = tuple(entry.get("notes", ()))
    return Table(entry["id"], entry["title"], entry["set"], entry["protocol"], columns, tuple(rows), notes)


def _published_value(value: float | str, half: float | None) -> Value:
    if isinstance(value, str):
        return Value(None, text=value)
    return Value(value) if half is None else Value(value, value - half, value + half, bar=True)


def fill_tables(blocks: Iterable[Block]) -> tuple[Table, ...]:
    """The paper's tables with rows of ours below the published ones.

    Raises:
        InputError: two results give the same cell another value; the message names both files.
    """
    merged = _merge(blocks)
    return tuple(
        replace(table, rows=(*table.rows, *_our_rows(table.id, [block for block in merged if block.table == table.id])))
        for table in read_published()
    )


def _merge(blocks: Iterable[Block]) -> list[Block]:
    """Blocks of the same cells as one; what two files say of a cell must be the same."""
    found: dict[tuple[str, ...], Block] = {}
    told: dict[tuple[str, ...], dict[str, Path]] = {}
    for block in blocks:
        first = found.setdefault(block.identity, block)
        sources = told.setdefault(block.identity, {})
        for key, value in block.values.items():
            if key in sources and first.values[key].number != value.number:
                raise InputError(
                    f"{sources[key]} and {block.source} disagree on {key!r} of {block.system} on {block.data} in "
                    f"Table {block.table} ({first.values[key].number:g} and {value.number:g}): leave one out"
                    if first.values[key].number is not None and value.number is not None
                    else f"{sources[key]} and {block.source} disagree on {key!r} of {block.system}: leave one out"
                )
            sources.setdefault(key, block.source)
        found[block.identity] = replace(first, values={**block.values, **first.values})
    return list(found.values())


def _our_rows(table: str, blocks: Sequence[Block]) -> list[Row]:
    support = [block for block in blocks if block.family in SUPPORT.get(table, ())]
    drafts: dict[tuple[str, str], list[_Draft]] = {}
    for block in blocks:
        if block in support:
            continue
        rows = drafts.setdefault((block.system, block.part), [])
        # A row on the same set first; only then, where the table allows it, one on another set.
        ways = (False, True) if table in MIXED else (False,)
        place = next((row for mixed in ways for row in rows if row.takes(block, mixed=mixed)), None)
        if place is None:
            place = _Draft()
            rows.append(place)
        place.blocks.append(block)
    return [_finish(row.blocks, support) for rows in drafts.values() for row in rows]


def _finish(blocks: Sequence[Block], support: Sequence[Block]) -> Row:
    first = blocks[0]
    used = [*blocks, *_helpers(blocks, support)]
    values: dict[str, Value] = {}
    for block in used:
        values = {**block.values, **values}
    name = short_name(first.system)
    if first.tokenizer and first.tokenizer != first.system:
        name += f" on {short_name(first.tokenizer)}"
    return Row(f"{name}, {first.part}" if first.part else name, _sets(used), _protocols(blocks), values, ours=True)


def _helpers(blocks: Sequence[Block], support: Sequence[Block]) -> list[Block]:
    """Sizes and rates of what a row is about; a rate measured on one of the row's own sets first."""
    names = {name for block in blocks for name in (block.system, block.tokenizer) if name}
    sets = {block.data for block in blocks}
    found: dict[str, Block] = {}
    for block in sorted(support, key=lambda block: block.data not in sets):
        if not any(same_model(block.system, name) for name in names):
            continue
        first = found.setdefault(block.family, block)
        if block.family == "run" and first.values != block.values:
            raise InputError(
                f"{first.source} and {block.source} both look like the record of {blocks[0].system}: leave one out"
            )
    return list(found.values())


def same_model(one: str, other: str) -> bool:
    """Whether two names mean one model: alike, or one path ends as the other, with or without a last "lm".

    ``train lm`` puts a model into a folder "lm" of the run's own, and either may be given to a verb.
    """
    if one == other:
        return True
    places = [path.parts[:-1] if path.name == "lm" else path.parts for path in (Path(one), Path(other))]
    short, long = sorted(places, key=len)
    # One word alone is a bundled model's name, or too little to go by.
    return len(short) > 1 and long[-len(short) :] == short


def _sets(blocks: Sequence[Block]) -> str:
    """The sets of a row; what each was used for where there are several."""
    told = [block for block in blocks if block.data]
    names = {block.data: f"{short_name(block.data)}{f' ({block.size})' if block.size else ''}" for block in told}
    if len(names) == 1:
        return next(iter(names.values()))
    uses = {data: ", ".join(dict.fromkeys(block.family for block in told if block.data == data)) for data in names}
    return "; ".join(f"{uses[data]}: {name}" for data, name in names.items())


def _protocols(blocks: Sequence[Block]) -> str:
    told = list(dict.fromkeys(block.protocol for block in blocks if block.protocol))
    return "; ".join(told)


def short_name(text: str) -> str:
    """A name as given; of an absolute path its last parts, which are what tells a reader something."""
    if not text.startswith("/"):
        return text
    path = Path(text)
    # Below these folders every set has the same names: SET/lexical/dev.
    parts = 3 if path.parent.name in ("lexical", "syntactic") else 2
    return "/".join(path.parts[-parts:])


def short_count(number: float) -> str:
    """A count as the paper prints it: 500, 16k, 90M, 1.2B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999,999 is 1M, not 1,000k.
        if number >= 0.9995 * size:
            return f"{number / size:.2g}{letter}" if number < 10 * size else f"{number / size:,.0f}{letter}"
    return f"{number:,.0f}"
