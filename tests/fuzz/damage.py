"""Seeded damage to the bytes of a file, and to what its format means by them."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TEXTS = (
    "", " ", "x" * 5000, "$", "$\\frac{", "a_b^c\\", "<b>&amp;", "a\x00b", "a\nb", "\t", "\u2028", "\ufeff", "\u202e",
    "é", "e\u0301", "\uff11\uff12", "../up", "/etc/hostname", "//etc/hostname", "C:\\x", "nan", "-inf", "1e-05",
    "1e400", "-0", "0x10", "1_000", "99999999999999999999", "%s{}", "'", '"', "|", "#", ";", ",", "=", "None",
)  # fmt: skip
# Beyond what json.dumps writes: replaced in the text.
_DEEP, _LONG, _FAR = "@deep@", "@long@", "@far@"
_WRITTEN = {_DEEP: "[" * 50_000 + "]" * 50_000, _LONG: "9" * 5000, _FAR: "1e999"}
VALUES = (
    None, True, False, 0, -1, 1, 0.5, -1e-300, 1e300, 2**31 - 1, 2**31, 2**63, 10**30, float("nan"), float("inf"),
    float("-inf"), [], {}, [[]], [None], {"": None}, "\ud800", *_WRITTEN, *TEXTS,
)  # fmt: skip
TOML_VALUES = (
    "nan", "inf", "-inf", "1e999", "-1", "0", "1", "9223372036854775808", "9" * 5000, "true", '""', '"$x_\\\\"', "[]",
    "{}", "[[]]", "[1, 'a']", "1979-05-27", "07:32:00", "{a = 1}", "'''a\nb'''", '"\\u0000"', '"' + "x" * 5000 + '"',
    "[" * 3000 + "]" * 3000, "0.5", "''",
)  # fmt: skip
BYTES = (
    b"\0", b"\0" * 64, b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\n", b"\r",
    b"$", b"\xed\xa0\x80", b"\xc3", b"{", b"[" * 5000, b'"', b"1e999", b"NaN", b"-",
)  # fmt: skip
TEXT_SUFFIXES = {
    ".json", ".jsonl", ".toml", ".csv", ".tsv", ".txt", ".TextGrid", ".ctm", ".dict", ".units", ".durations",
}  # fmt: skip


def damage(file: Path, rng: random.Random) -> str:
    """Damage a file once to thrice; returns what was done."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = file.read_bytes()
        structure = STRUCTURES.get(file.suffix) or (_text if _is_text(file, data) else _pickled)
        try:
            new = structure(data, rng) if rng.random() < 0.6 else None
        except Exception:
            # Damaged before, it may have no structure any more.
            new = None
        if new is None:
            how = rng.choice(_BYTE_DAMAGE)
            new = how(data, rng)
            done.append(how.__name__.strip("_"))
        else:
            done.append(structure.__name__.strip("_"))
        file.write_bytes(new)
    return ", ".join(done)


def _is_text(file: Path, data: bytes) -> bool:
    return file.suffix in TEXT_SUFFIXES or b"\0" not in data[:1000]


# Bytes


def _flip(data: bytes, rng: random.Random) -> bytes:
    new = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 20))):
        new[rng.randrange(len(new))] ^= 1 << rng.randrange(8)
    return bytes(new)


def _early_flip(data: bytes, rng: random.Random) -> bytes:
    return _flip(data[:100], rng) + data[100:]


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((0, rng.randrange(len(data) + 1), rng.randrange(min(len(data), 64) + 1)))]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(BYTES) + data[at:]


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    at, new = rng.randrange(min(len(data), rng.choice((64, 10**9))) + 1), rng.choice(BYTES)
    return data[:at] + new + data[at + len(new) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:last] + data[first:last] * rng.choice((1, 1, 3)) + data[last:]


def _swap(data: bytes, rng: random.Random) -> bytes:
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _zeros(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data) + 1)
    last = min(len(data), first + rng.choice((1, 16, 512, 10**9)))
    return data[:first] + bytes(last - first) + data[last:]


_BYTE_DAMAGE = (_flip, _early_flip, _truncate, _insert, _overwrite, _repeat, _swap, _zeros)


# JSON


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return (container, key) of everything inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.append((value, key))
        _places(item, found)
    return found


def change_value(value: Any, rng: random.Random, odd: Callable[[], Any]) -> Any:
    """Change one thing inside a nest of dictionaries and lists."""
    places = _places(value, [])
    if not places or rng.random() < 0.03:
        return odd()
    container, key = rng.choice(places)
    how = rng.choice(("replace", "replace", "replace", "delete", "rename", "wrap", "swap", "number", "many"))
    old = container[key]
    if how == "delete" or (how == "rename" and isinstance(container, list)):
        del container[key]
    elif how == "rename":
        container[rng.choice((f"{key}x", "", str(key)[1:], rng.choice(TEXTS)))] = container.pop(key)
    elif how == "wrap":
        container[key] = rng.choice(([old], {"value": old}))
    elif how == "swap":
        other, name = rng.choice(places)
        container[key] = json.loads(json.dumps(other[name])) if not isinstance(other[name], bytes) else old
    elif how == "number" and isinstance(old, int | float) and not isinstance(old, bool):
        container[key] = rng.choice((-old, old + 1, old - 1, old * 10**6, old / 3, str(old), float(old), 1 - old))
    elif how == "many" and isinstance(container, list):
        container[key:key] = [old] * rng.choice((1, 2, 1000))
    else:
        container[key] = odd()
    return value


def _to_json(value: Any) -> str:
    text = json.dumps(value)
    for mark, written in _WRITTEN.items():
        text = text.replace(f'"{mark}"', written)
    return text


def _json(data: bytes, rng: random.Random) -> bytes:
    return _to_json(change_value(json.loads(data), rng, lambda: rng.choice(VALUES))).encode()


def _json_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    how = rng.random()
    if how < 0.1:
        lines.insert(place, rng.choice((b"null", b"[]", b"{}", b"1", b" ", b"\xff", lines[rng.randrange(len(lines))])))
    else:
        lines[place] = _json(lines[place], rng)
    return b"\n".join(lines)


# Text


def _toml(data: bytes, rng: random.Random) -> bytes:
    lines = data.decode(errors="replace").split("\n")
    values = [place for place, line in enumerate(lines) if "=" in line or line.startswith("[")] or [0]
    place = rng.choice(values)
    key, equals, _ = lines[place].partition("=")
    how = rng.random()
    if how < 0.6 and equals:
        lines[place] = f"{key}= {rng.choice(TOML_VALUES)}"
    elif how < 0.75:
        del lines[place]
    elif how < 0.85:
        lines[place] = lines[place].replace("[[", "[").replace("]]", "]") if not equals else f"x{lines[place]}"
    else:
        lines.insert(rng.choice(values), lines[place])
    return "\n".join(lines).encode()


def _table(data: bytes, rng: random.Random) -> bytes:
    """Change a cell of a csv."""
    text = data.decode(errors="replace")
    rows = [row for row in csv.reader(io.StringIO(text.replace("\0", ""))) if row]
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = rng.choice((*TEXTS, "\0", "1e999", "9" * 5000))
    if rng.random() < 0.1:
        row.append("more")
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode(errors="surrogatepass")


def _text(data: bytes, rng: random.Random) -> bytes:
    """Change a word or a line of any text."""
    words = re.split(r"(\s+)", data.decode(errors="replace"))
    if rng.random() < 0.8:
        words[rng.randrange(0, len(words), 2)] = rng.choice((*TEXTS, "9" * 5000))
        return "".join(words).encode(errors="surrogatepass")
    lines = data.split(b"\n")
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    del lines[rng.randrange(len(lines))]
    return b"\n".join(lines)


# Arrays and weights


def _odd_array(array: Any, rng: random.Random) -> Any:
    kind = rng.choice(("type", "type", "shape", "value", "value", "empty", "object", "cut"))
    if kind == "type":
        name = rng.choice(("f2", "f8", "i1", "u8", "i8", "c8", "U4", "S4", "b1", "M8[s]", ">f4", "f4"))
        with np.errstate(all="ignore"):
            return array.astype(name)
    if kind == "shape":
        return array.reshape(rng.choice(((-1,), (1, *array.shape), (*array.shape, 1), (-1, 1))))
    if kind == "value" and array.size and array.dtype.kind in "iuf":
        odd = (np.nan, np.inf, -1, 1e300) if array.dtype.kind == "f" else (-1, 2**31 - 1, 2**63 - 1)
        array = array.astype("f8" if array.dtype.kind == "f" else "i8")
        array.ravel()[rng.randrange(array.size)] = rng.choice(odd)
        return array
    if kind == "object":
        return np.array([{"a": 1}], dtype=object)
    return array[:0] if kind == "empty" or not array.ndim else array[:-1]


def _npy(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        # A header that promises more than there is.
        shape = rng.choice((b"(999999999999,)", b"(99999, 99999)", b"(-1,)", b"(0, 5)", b"()", b"('a',)", b"(1e9,)"))
        return re.sub(rb"\([0-9, ]*\)", shape, data, count=1)
    written = io.BytesIO()
    np.save(written, _odd_array(np.load(io.BytesIO(data), allow_pickle=False), rng), allow_pickle=True)
    return written.getvalue()


def _npz(data: bytes, rng: random.Random) -> bytes:
    with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
        arrays = dict(loaded)
    name = rng.choice(sorted(arrays))
    if rng.random() < 0.2:
        arrays[f"{name}x"] = arrays.pop(name)
    else:
        arrays[name] = _odd_array(arrays[name], rng)
    written = io.BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = bytearray(data[8 + length :])
    if rng.random() < 0.3 and body:
        name = rng.choice(sorted(header))
        first, last = header[name].get("data_offsets", (0, 4)) if isinstance(header[name], dict) else (0, 4)
        # 0xff makes every float a NaN.
        body[first:last] = rng.choice((b"\xff", b"\0", b"\x7f")) * (last - first)
    else:
        header = change_value(header, rng, lambda: rng.choice((*VALUES, "F16", "I64", "BOOL", "F64", [2**40, 2**20])))
    text = _to_json(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(body)


def _parquet(data: bytes, rng: random.Random) -> bytes:
    import pyarrow
    import pyarrow.parquet as parquet

    table = parquet.read_table(io.BytesIO(data))
    place = rng.randrange(table.num_columns)
    name, old = table.column_names[place], table.column(place).to_pylist()
    odd = rng.choice(("nulls", "retyped", "dropped", "renamed", "bad UTF-8", "huge", "inner nulls", "twice"))
    if odd == "dropped":
        table = table.remove_column(place)
    elif odd == "renamed":
        table = table.rename_columns([f"{n}x" if n == name else n for n in table.column_names])
    elif odd == "twice":
        table = table.append_column(name, table.column(place))
    else:
        columns = {
            "nulls": [None, *old[1:]],
            "retyped": [rng.choice((str(old), 0.5, [True], {"a": 1}))] * len(old),
            "huge": rng.choice(([2**62] * len(old), [[2**62]] * len(old), [-1] * len(old))),
            "inner nulls": [[None, 1]] * len(old),
            "bad UTF-8": ["é" * 3] * len(old),
        }  # fmt: skip
        column = pyarrow.array(columns[odd])
        if odd == "bad UTF-8":
            flags, offsets, text = column.buffers()
            broken = pyarrow.py_buffer(bytes(text).replace(b"\xc3", b"\xff"))
            column = pyarrow.Array.from_buffers(pyarrow.string(), len(old), [flags, offsets, broken])
        table = table.set_column(place, name, column)
    written = io.BytesIO()
    parquet.write_table(table, written)
    return written.getvalue()


def _odd_tensor(rng: random.Random) -> Any:
    import torch

    return rng.choice(
        (
            torch.zeros(()), torch.zeros(0), torch.full((3, 4), float("nan")), torch.eye(3).to_sparse(), "text", None,
            torch.zeros(2, 2, dtype=torch.complex64), torch.zeros(2, 2, dtype=torch.int64), [torch.zeros(1)], {}, 1e999,
            torch.zeros(1).expand(1000, 1000), torch.zeros(4, 4).half(), torch.zeros(2, 2, dtype=torch.bool),
            torch.empty(4, 4, device="meta"), torch.nn.Parameter(torch.zeros(5)),
        )
    )  # fmt: skip


def _pickled(data: bytes, rng: random.Random) -> bytes:
    """Change a value of a PyTorch checkpoint."""
    import torch

    value = torch.load(io.BytesIO(data), weights_only=True)
    places = [(c, k) for c, k in _places(value, []) if isinstance(c, dict | list)]
    container, key = rng.choice(places)
    if rng.random() < 0.2:
        del container[key]
    elif rng.random() < 0.2 and isinstance(container, dict):
        container[f"module.{key}"] = container.pop(key)
    else:
        container[key] = _odd_tensor(rng)
    written = io.BytesIO()
    torch.save(value, written)
    return written.getvalue()


def _archive(data: bytes, rng: random.Random) -> bytes:
    """Change a member of a .tar.gz."""
    written = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=written, mode="w:gz") as new:
        for member in old.getmembers():
            stream = old.extractfile(member)
            content = stream.read() if stream else b""
            content = _json_lines(content, rng) or content
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return written.getvalue()


STRUCTURES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".toml": _toml,
    ".csv": _table,
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".gz": _archive,
}
