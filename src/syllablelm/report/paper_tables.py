"""The paper's tables and a table of ours: published rows from ``published.toml``, our rows from cells of results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from syllablelm.core.config import read_toml
from syllablelm.core.errors import InputError
from syllablelm.evaluate.speech.quality import MEASURES
from syllablelm.evaluate.units.stability import CONDITIONS, MEAN

PUBLISHED = Path(__file__).with_name("published.toml")
STABILITY = "S"
"""The id of the table of `evaluate stability`, which the paper does not have."""
QUALITY = "Q"
"""The id of the table of `evaluate quality`, likewise."""
# Tables whose rows show a tokenizer's rates but in which a rate alone makes no row.
RATE_BESIDE = ("3", "6")
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
        on: name of the set, where it is another one than the column's.
    """

    number: float | None
    low: float | None = None
    high: float | None = None
    text: str | None = None
    bar: bool = False
    on: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its key in rows, heading, and digits after the point; ``text`` shortens large numbers (1.2B)."""

    key: str
    heading: str
    digits: int = 1
    text: bool = False

    def show(self, value: Value | None) -> tuple[str, str]:
        """Return a cell as text, and its interval; "" where there is none."""
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
    """A row: name, data set, protocol and cells by column.

    Args:
        ours: whether it is ours and not published.
        detail, given_count: what it does not share with the rows of its set and protocol, see ``Block``.
    """

    name: str
    data: str
    protocol: str
    values: Mapping[str, Value]
    ours: bool = False
    detail: str = ""
    given_count: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the paper with its published rows, and ours below them; or a table without published rows."""

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
    def shared(self) -> str:
        """The set of all rows of ours; "" where there are several, or none."""
        sets = {row.data for row in self.ours}
        return sets.pop() if len(sets) == 1 else ""

    @property
    def groups(self) -> tuple[tuple[str, tuple[Row, ...]], ...]:
        """Rows of ours that can be compared, and what they have in common: protocol, and set if not that of all."""
        found: dict[str, list[Row]] = {}
        for row in self.ours:
            shared = [text for text in ("" if self.shared else row.data, row.protocol) if text]
            found.setdefault("; ".join(shared) or "other measures", []).append(row)
        return tuple((shared, tuple(rows)) for shared, rows in found.items())


@dataclass(frozen=True)
class Block:
    """Cells that one result gives to one row of one table.

    Args:
        table, system: number of the table; what was measured, as the user gave it: key and name of the row.
        family: kind of the measurement; a row has at most one of each.
        data, size, protocol: data set as the user gave it, its size and how it was measured, as text.
        values, source: cells by column, and file of the result.
        tokenizer, units: tokenizer of the system's units, where that is another name; file of the units, without one.
        part: which of several things about the system ("vocoder only").
        detail: part of the protocol that other systems under it do not share.
        given_count: whether the number of segments was given to the system (the reference's, say): then these are not
            the units that it finds by itself, and nothing measured on those belongs beside them.
        open_set: name of an open set of pairs; "" for any other set.
    """

    table: str
    system: str
    family: str
    data: str
    size: str
    protocol: str
    values: Mapping[str, Value]
    source: Path
    tokenizer: str = ""
    units: str = ""
    part: str = ""
    detail: str = ""
    given_count: bool = False
    open_set: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """Return what two blocks of the same cells share."""
        who = (self.table, self.system, self.part, self.tokenizer, self.units)
        return (*who, self.family, self.data, self.protocol, self.detail)


@dataclass
class _Draft:
    """A row of ours while it is filled."""

    blocks: list[Block] = field(default_factory=list)

    def takes(self, block: Block, *, mixed: bool) -> bool:
        for own in self.blocks:
            if block.family == own.family or block.given_count != own.given_count:
                return False
            # Scores on open sets and on the official ones never share a row.
            if bool(block.open_set) != bool(own.open_set):
                return False
        return mixed or any(own.data == block.data for own in self.blocks)


@cache
def read_published() -> tuple[Table, ...]:
    """Return the paper's tables in order, published rows only."""
    return tuple(_table(entry) for entry in read_toml(PUBLISHED)["table"])


def own_tables() -> tuple[Table, ...]:
    """Return the tables that the paper does not have, without rows."""
    columns = [Column(condition.name, condition.heading) for condition in CONDITIONS.values()]
    protocol = "units of distorted recordings against those of the clean ones; a column for each distortion"
    notes = (
        "Unit edit distance: edits per unit of the clean recording, both deduplicated; lower is better. Boundary F1: "
        "distorted against clean boundaries; higher is better. The mean counts all conditions of its row together.",
    )
    title = "Stability: the same recordings, distorted"
    stability = Table(STABILITY, title, "", protocol, (*columns, Column(MEAN, "Mean")), (), notes)
    measures = [Column(key, measure.heading, measure.digits) for key, measure in MEASURES.items()]
    rates = (Column("wer", "WER, %"), Column("cer", "CER, %"))
    notes = (
        "MOS: predicted opinion scores from 1 to 5. Similarity: of speaker embeddings, with the recording and with "
        "those of other speakers. Pitch: against the recording; an offset is that of the vocoder's voice.",
    )
    title = "Quality: recordings and resynthesised speech"
    protocol = "scores of a rendering without a reference (MOS, error rates) and against the recording"
    return stability, Table(QUALITY, title, "", protocol, (*measures, *rates), (), notes)


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
    """Return the paper's tables with rows of ours below the published ones, then tables of ours that have rows.

    Raises:
        InputError: two results give the same cell another value; the message names both files.
    """
    merged = _merge(blocks)
    filled = [
        replace(table, rows=(*table.rows, *_our_rows(table.id, [block for block in merged if block.table == table.id])))
        for table in (*read_published(), *own_tables())
    ]
    return tuple(table for table in filled if table.rows)


def _merge(blocks: Iterable[Block]) -> list[Block]:
    """Return blocks of the same cells as one; two files must agree on every cell."""
    found: dict[tuple[str, ...], Block] = {}
    origins: dict[tuple[str, ...], dict[str, Path]] = {}
    for block in blocks:
        first = found.setdefault(block.identity, block)
        sources = origins.setdefault(block.identity, {})
        for key, value in block.values.items():
            if key in sources and first.values[key].number != value.number:
                raise InputError(
                    f"{sources[key]} and {block.source} disagree on {key!r} of {block.system} on {block.data} in "
                    f"Table {block.table} ({first.values[key].number:g} and {value.number:g}): leave one out"
                )
            sources.setdefault(key, block.source)
        found[block.identity] = replace(first, values={**block.values, **first.values})
    return list(found.values())


def _our_rows(table: str, blocks: Sequence[Block]) -> list[Row]:
    rates = [block for block in blocks if block.family == "rate" and table in RATE_BESIDE]
    drafts: dict[tuple[str, str], list[_Draft]] = {}
    # What the systems find by themselves first.
    for block in sorted(blocks, key=lambda block: block.given_count):
        if block in rates:
            continue
        rows = drafts.setdefault((block.system, block.part), [])
        # A row on the same set first; only then, where the table allows it, one on another set.
        ways = (False, True) if table in MIXED else (False,)
        place = next((row for mixed in ways for row in rows if row.takes(block, mixed=mixed)), None)
        if place is None:
            place = _Draft()
            rows.append(place)
        place.blocks.append(block)
    for rows in drafts.values():
        # Several recognisers hear speech from the same units.
        rate = [block for row in rows for block in row.blocks if block.family == "rate"][:1]
        for row in rows:
            if all(block.family == "resynthesis" for block in row.blocks):
                row.blocks += rate
    made = [_finish(row.blocks, rates) for rows in drafts.values() for row in rows]
    # Rows that can be compared stand together.
    order = {key: place for place, key in reversed([*enumerate((row.data, row.protocol) for row in made)])}
    return sorted(made, key=lambda row: order[row.data, row.protocol])


def _finish(blocks: Sequence[Block], rates: Sequence[Block]) -> Row:
    first = blocks[0]
    used = [*blocks, *_rate_of(blocks, rates)]
    values: dict[str, Value] = {}
    for block in used:
        values = {**block.values, **values}
    name = short_name(first.system)
    other = next((block.tokenizer for block in blocks if block.tokenizer not in ("", first.system)), "")
    name += f" on {short_name(other)}" if other else ""
    return Row(
        f"{name}, {first.part}" if first.part else name,
        _sets(_scored(blocks)),
        "; ".join(dict.fromkeys(block.protocol for block in blocks if block.protocol)),
        values,
        ours=True,
        detail=_details(blocks, used),
        given_count=any(block.given_count for block in blocks),
    )


def _scored(blocks: Sequence[Block]) -> Sequence[Block]:
    """Return the blocks whose sets head a row: a rate stands beside it, unless there is nothing else."""
    return [block for block in blocks if block.family != "rate"] or blocks


def _details(blocks: Sequence[Block], used: Sequence[Block]) -> str:
    """Return what a row alone has: a shift, files of units, a rate measured on another set."""
    units = ", ".join(dict.fromkeys(block.units for block in blocks if block.units))
    sets = {(block.data, block.size) for block in _scored(blocks)}
    rates = [block for block in used if block.family == "rate" and (block.data, block.size) not in sets]
    details = [block.detail for block in blocks]
    details += [f"units: {units}"] if units else []
    details += [f"rate on {_set_text(block)}" for block in rates]
    return "; ".join(dict.fromkeys(text for text in details if text))


def _rate_of(blocks: Sequence[Block], rates: Sequence[Block]) -> list[Block]:
    """Return the rate of a row's units, if there is one; a rate measured on one of the row's own sets first."""
    files = [f"units {block.units}" for block in blocks if block.units]
    names = {name for block in blocks for name in (block.system, block.tokenizer, *files) if name}
    sets = {block.data for block in blocks}
    own = [block for block in rates if any(same_model(block.system, name) for name in names)]
    return sorted(own, key=lambda block: block.data not in sets)[:1]


def same_model(one: str, other: str) -> bool:
    """Return whether two names mean one model: they are equal, or one path ends with the other."""
    short, long = sorted((Path(one).parts, Path(other).parts), key=len)
    # One word alone is a bundled model's name, or too little to go by.
    return one == other or (len(short) > 1 and long[-len(short) :] == short)


def _sets(blocks: Sequence[Block]) -> str:
    """Return the sets of a row, and what each was used for where there are several."""
    uses: dict[str, list[str]] = {}
    for block in blocks:
        if block.data:
            uses.setdefault(_set_text(block), []).append(block.family)
    if len(uses) == 1:
        return next(iter(uses))
    return "; ".join(f"{', '.join(dict.fromkeys(families))}: {text}" for text, families in uses.items())


def _set_text(block: Block) -> str:
    name = short_name(block.data)
    size = f" ({block.size})" if block.size else ""
    return f"{block.open_set}, {name}{size}" if block.open_set else f"{name}{size}"


def short_name(text: str) -> str:
    """Return a name as given; of an absolute path its last parts."""
    if not text.startswith("/"):
        return text
    path = Path(text)
    # Below these folders every set has the same names: SET/lexical/dev.
    parts = 3 if path.parent.name in ("lexical", "syntactic") else 2
    return "/".join(path.parts[-parts:])


def short_count(number: float) -> str:
    """Return a count as the paper prints it: 500, 16k, 90M, 1.2B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999,999 is 1M, not 1,000k.
        if number >= 0.9995 * size:
            return f"{number / size:.2g}{letter}" if number < 10 * size else f"{number / size:,.0f}{letter}"
    return f"{number:,.0f}"
