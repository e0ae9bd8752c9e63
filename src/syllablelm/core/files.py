"""Files: written atomically, found in folders, read line by line with their places."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from syllablelm.core.errors import FormatError, InputError


@contextmanager
def atomic_path(path: str | Path) -> Generator[Path, None, None]:
    """Yield a temporary name beside `path`; what is written there is renamed to `path` if the block succeeds.

    If the block raises, the temporary file or folder is removed and `path` stays as it was. Missing parent folders are
    created. A file replaces a file; a folder takes only a name that is free or that of an empty folder. An OSError of
    the renaming names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as matplotlib choose the format by it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError as error:
            # The temporary name means nothing to the user.
            raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        _remove(temporary)


def remove_leftovers(path: str | Path) -> None:
    """Remove what killed processes left of `atomic_path(path)`; only where no other process writes it."""
    path = Path(path)
    name = re.compile(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{32}}\.tmp{re.escape(path.suffix)}")
    for item in path.parent.iterdir() if path.parent.is_dir() else ():
        if name.fullmatch(item.name):
            _remove(item)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def lock_file(path: str | Path) -> Generator[bool, None, None]:
    """Hold an exclusive lock on a file, which is removed at the end; the system frees the lock of a killed process.

    Yields False on a file system without locks; BlockingIOError if another process or thread holds the lock.
    """
    import fcntl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(path, "a") as file:
            held = True
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                    raise
                held = False
            # The last holder may have removed the file since it was opened: that lock excludes nobody.
            try:
                named = path.stat()
            except FileNotFoundError:
                continue
            if not os.path.samestat(named, os.fstat(file.fileno())):
                continue
            try:
                yield held
            finally:
                path.unlink(missing_ok=True)
            return


def find_files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return a file as it is, or the sorted files with one of these suffixes below a folder; FormatError if none."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix in suffixes and file.is_file())
    if not files:
        raise FormatError(f"{path}: no {' or '.join(suffixes)} file below this folder")
    return files


def id_below(path: Path, file: Path) -> str:
    """Return the id of a recording with a file of its own: the file's name below the folder `path`, without suffix."""
    return file.relative_to(path if path.is_dir() else path.parent).with_suffix("").as_posix()


def file_below(folder: Path, id: str, suffix: str) -> Path:
    """Return the file of a recording in a folder of one file each, named after the id; "/" makes subfolders.

    An id that leads out of the folder, or an empty one, is an InputError.
    """
    parts = PurePosixPath(id).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise InputError(
            f"{id!r} cannot name a {suffix.lstrip('.')} file: use an id without leading '/' and without '..'"
        )
    return folder.joinpath(*parts[:-1], parts[-1] + suffix)


def text_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text file with their places ("units.txt:3"), without line ends; empty ones too.

    A line that is not UTF-8 is a FormatError.
    """
    # Bytes first: a text file is decoded in blocks, and an error would not tell its line.
    with open(file, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                # Some editors begin a file with a byte-order mark.
                yield f"{file}:{number}", line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise FormatError(f"{file}:{number}: not a text in UTF-8 ({error.reason})") from None


def json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the JSON values of a jsonl with their places, or FormatError; empty lines are skipped."""
    for place, line in text_lines(file):
        if line.strip():
            try:
                yield place, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FormatError(f"{place}: not valid JSON ({error})") from None


def json_objects(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the JSON objects of a jsonl with their places, or FormatError; empty lines are skipped."""
    try:
        for place, value in json_lines(file):
            if not isinstance(value, dict):
                raise FormatError(f"{place}: expected a JSON object, got {type(value).__name__}")
            yield place, value
    except OSError as error:
        raise FormatError(f"{file}: cannot be read ({error.strerror}); check the name") from None


def first_keys(file: Path) -> frozenset[str] | None:
    """Return the keys of the first JSON object of a jsonl, by which its kind is told; None for a file without lines.

    Whatever is not a readable JSON object has no keys.
    """
    try:
        first = next(json_objects(file), None)
    except FormatError:
        return frozenset()
    return None if first is None else frozenset(first[1])


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8; it appears complete or not at all."""
    write_lines(path, [text])


def write_json_lines(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a jsonl; it appears complete or not at all."""
    write_lines(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Write pieces of text to a file in UTF-8; it appears complete or not at all."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)
