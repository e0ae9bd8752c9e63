"""Files: written whole or not at all, found in folders, read line by line with their places."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from syllablelm.core.errors import FormatError, InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what is written there takes the name `path` if the block succeeds.

    If the block raises, the temporary file or folder is removed and `path` is as it was. Missing parent folders are
    made. A file replaces a file; a folder only takes a name that is free or an empty folder's.

    Raises:
        OSError: the name cannot be taken; it is `path` that the error names.
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
            # The temporary name means nothing to anybody.
            raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        _remove(temporary)


def remove_leftovers(path: str | Path) -> None:
    """Remove what killed processes left behind of `atomic_path(path)`; call it only where nobody else writes `path`."""
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
def lock_file(path: str | Path) -> Iterator[bool]:
    """Hold a file as a lock against every other process and thread; it is removed at the end.

    The system itself frees the lock of a process that was killed.

    Yields:
        Whether others are kept out; False on a file system that knows no locks.

    Raises:
        BlockingIOError: another has it.
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
            # Its last holder may have removed it since it was opened: then it keeps nobody out.
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


def file_below(folder: Path, id: str, suffix: str) -> Path:
    """The file of a recording in a folder with one for each, named after its id; "/" in an id makes subfolders.

    Raises:
        InputError: an id that leads out of the folder, or to none.
    """
    parts = PurePosixPath(id).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise InputError(
            f"{id!r} cannot name a {suffix.lstrip('.')} file: use an id without leading '/' and without '..'"
        )
    return folder.joinpath(*parts[:-1], parts[-1] + suffix)


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
