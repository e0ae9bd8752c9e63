"""Files: written whole or not at all, found in folders, read line by line with their places."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from syllablelm.errors import FormatError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what is written there takes the name `path` if the block succeeds.

    If the block raises, the temporary file or folder is removed and `path` is as it was. Missing parent folders are
    made. A file replaces a file; a folder only takes a name that is free or an empty folder's.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as matplotlib choose the format by it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def find_files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """A file as it is, or the files of some suffixes below a folder, in order.

    Raises:
        FormatError: the folder has none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix in suffixes and file.is_file())
    if not files:
        raise FormatError(f"{path}: no {' or '.join(suffixes)} file below this folder")
    return files


def id_below(path: Path, file: Path) -> str:
    """Id of a recording that has a file of its own: its name below the folder `path`, without the suffix."""
    return file.relative_to(path if path.is_dir() else path.parent).with_suffix("").as_posix()


def text_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Lines of a text file with their places ("units.txt:3"), without line ends; empty ones too.

    Raises:
        FormatError: not UTF-8.
    """
    # Bytes first: a text file is decoded in blocks, so that an error would not tell its line.
    with open(file, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                # Some editors begin a file with a mark of its encoding, which is none of its text.
                yield f"{file}:{number}", line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise FormatError(f"{file}:{number}: not a text in UTF-8 ({error.reason})") from None


def json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    """JSON values of a jsonl with their places; empty lines are skipped.

    Raises:
        FormatError: a line that is not JSON.
    """
    for place, line in text_lines(file):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{place}: not JSON lines ({error})") from None
        yield place, value


def json_objects(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """JSON objects of a jsonl with their places; empty lines are skipped.

    Raises:
        FormatError: no such file, or a line that is no JSON object.
    """
    try:
        for place, value in json_lines(file):
            if not isinstance(value, dict):
                raise FormatError(f"{place}: not a JSON object, of which every line must hold one")
            yield place, value
    except OSError as error:
        raise FormatError(f"{file}: cannot be read ({error.strerror})") from None


def write_json_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a jsonl, whole or not at all."""
    with atomic_path(file) as part:
        part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
