"""Files: written atomically, found in folders, read line by line with their places."""

from __future__ import annotations

import codecs
import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import unicodedata
import uuid
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from syllablelm.core.config import MAX_DEPTH, check_depth
from syllablelm.core.errors import FormatError, InputError, and_more, one_line, plural
from syllablelm.core.progress import note

Item = TypeVar("Item")
# Skipped files that are named one by one.
_NAMED = 20
# What an id cannot hold as the name of a file: control characters, half characters, line and paragraph ends, and the
# marks that turn the direction of writing, by which a name can seem to end in another suffix.
_UNPRINTED = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Bytes; below the system's 4,096 remains room for a temporary name.
_LONGEST_NAME, _LONGEST_PATH = 255, 3900


def _machine() -> str:
    """Return where a process number means this process: a digest of the host and of its namespace of processes."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")  # containers may share the name of their host
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


_MACHINE = _machine()
_TEMPORARY = re.compile(rf"\..*\.{_MACHINE}-(?P<process>\d+)-[0-9a-f]{{8}}\.tmp(\.[^.]*)?", re.DOTALL)
# Folders in which this process has removed what killed ones left.
_swept: set[str] = set()


@contextmanager
def atomic_path(path: str | Path) -> Generator[Path, None, None]:
    """Yield a temporary name beside `path`; what is written there is renamed to `path` if the block succeeds.

    If the block raises, the temporary file or folder is removed and `path` stays as it was. What killed processes of
    this machine left in the folder is removed first. Missing parent folders are created. A file replaces a file; a
    folder takes only a name that is free or that of an empty folder. An OSError of the writing or renaming names
    `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = _temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        if (full := _full_disk(error, temporary)) is not None:
            raise OSError(full, f"{os.strerror(full)}; make room and run the same command again", str(path)) from None
        # The temporary name means nothing to the user, and a broken disk says no name at all.
        if isinstance(error, OSError) and (
            (error.filename is None and error.errno == errno.EIO) or error.filename in (temporary, str(temporary))
        ):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        _remove(temporary)


def _full_disk(error: BaseException, temporary: Path) -> int | None:
    """Return the error number of an exhausted disk, quota or file-size limit, whatever a writer made of it, or None."""
    seen: BaseException | None = error
    while seen is not None:
        number = getattr(seen, "errno", None)
        if number is None and (found := re.search(r"\(os error (\d+)\)", str(seen))):
            number = int(found[1])  # safetensors
        elif number is None and re.search(r"requested and \d+ written|iostream error", str(seen)):
            number = errno.ENOSPC  # NumPy and torch do not say which
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            name = getattr(seen, "filename", None)
            # An inner writer has named its own file.
            return number if name is None or str(name).startswith(str(temporary)) else None
        seen = seen.__cause__ or seen.__context__
    return None


@contextmanager
def scratch_folder() -> Generator[Path, None, None]:
    """Yield a new folder of the system's temporary ones, removed at the end; what killed processes left there too."""
    root = Path(tempfile.gettempdir())
    _sweep(root)
    folder = _temporary(root / "syllablelm")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        _remove(folder)


def remove_leftovers(path: str | Path) -> None:
    """Remove what killed processes left of `atomic_path(path)`; only where no other process writes it."""
    path = Path(path)
    start, end = map(re.escape, _temporary_ends(path))
    for item in path.parent.iterdir() if path.parent.is_dir() else ():
        if re.fullmatch(rf"{start}[0-9a-f]{{8}}-\d+-[0-9a-f]{{8}}{end}", item.name):
            _remove(item)


def clear_folder(folder: Path) -> None:
    """Remove all temporary files of a folder, those of other machines too, but not those of living processes here."""
    for item in folder.glob(".*.tmp*"):
        found = _TEMPORARY.fullmatch(item.name)
        if found is None or not _is_alive(int(found["process"])):
            _remove(item)


def _temporary(path: Path) -> Path:
    start, end = _temporary_ends(path)
    return path.with_name(f"{start}{_MACHINE}-{os.getpid()}-{uuid.uuid4().hex[:8]}{end}")


def _temporary_ends(path: Path) -> tuple[str, str]:
    # The suffix stays last: writers such as matplotlib choose the format by it. A file's name has 255 bytes at most.
    stem = os.fsdecode(os.fsencode(path.stem)[:150])
    return f".{stem}.", f".tmp{path.suffix if len(path.suffix) <= 12 else ''}"


def _sweep(folder: Path) -> None:
    """Remove the temporary files and folders of processes of this machine that are no longer alive, once a folder."""
    if (name := os.path.abspath(folder)) in _swept:
        return
    _swept.add(name)
    # Not to be listed, or removed by another process at the same time: leftovers are harmless.
    with suppress(OSError):
        for item in folder.iterdir():
            found = _TEMPORARY.fullmatch(item.name)
            if found is not None and not _is_alive(int(found["process"])):
                with suppress(OSError):
                    _remove(item)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


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


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in order; names that begin with a dot (AppleDouble ._x too) are passed over.

    Links are followed, each real folder once, so that a loop of them ends.
    """
    seen = {os.path.realpath(folder)}
    for root, folders, names in os.walk(folder, followlinks=True):
        kept = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(root, name))
            if real not in seen and not name.startswith("."):
                seen.add(real)
                kept.append(name)
        folders[:] = kept
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def find_files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return a file as it is, or the sorted files with one of these suffixes below a folder; FormatError if none."""
    if not path.is_dir():
        return [path]
    # A link whose content is not here is an error to its reader: passed over, it would be missing in silence.
    files = sorted(
        file for file in walk_files(path) if file.suffix in suffixes and (file.is_file() or file.is_symlink())
    )
    if not files:
        raise FormatError(f"{path}: no {' or '.join(suffixes)} file below this folder")
    return files


def read_each(path: Path, files: Sequence[Path], read: Callable[[Path], Iterable[Item]]) -> Iterator[Item]:
    """Yield what `read` yields of each file of a folder; unreadable files are skipped, named on standard error.

    A FormatError of a file that is `path` itself, or of the first file where none can be read, is raised.
    """
    faults: list[FormatError] = []
    for file in files:
        try:
            with _readable(file):
                items = list(read(file))
        except FormatError as error:
            if len(faults) + 1 == len(files):
                raise faults[0] if faults else error from None
            faults.append(error)
            continue
        yield from items
    note_skipped(path, "file", [str(fault) for fault in faults], len(files))


@contextmanager
def _readable(file: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise FormatError(f"{file}: cannot be read ({error.strerror or error}); check name, links and rights") from None


def note_skipped(path: Path, what: str, faults: Sequence[str], total: int) -> None:
    """Print on standard error the parts of a corpus that were skipped: their number, and the reasons of the first."""
    for fault in faults[:_NAMED]:
        note(f"skipped: {fault}")
    if faults:
        more = f" ({len(faults) - _NAMED} are not named)" if len(faults) > _NAMED else ""
        note(f"{path}: skipped {len(faults)} of {plural(total, what)}{more}")


def id_below(path: Path, file: Path) -> str:
    """Return the id of a recording with a file of its own: the file's name below the folder `path`, without suffix."""
    return file.relative_to(path if path.is_dir() else path.parent).with_suffix("").as_posix()


def file_below(folder: Path, id: str, suffix: str) -> Path:
    """Return the file of a recording in a folder of one file each, named after the id; "/" makes subfolders.

    It lies below the folder, whatever the id, and links in the folder are followed to make sure. An InputError are an
    id with an empty part, "." or "..", a drive, a backslash, a character that is not printed or that turns the
    direction of writing, and a name that is too long for a file.
    """
    parts = id.split("/")
    unprinted = next((char for char in id if unicodedata.category(char) in _UNPRINTED or char in _TURNING), None)
    reason = ""
    if not id or set(parts) & {"", ".", ".."}:
        reason = "leave out a '/' at its start or end, '//', '.' and '..'"
    elif "\\" in id or re.match("[A-Za-z]:/", id):
        reason = "leave out backslashes and drives"
    elif unprinted is not None:
        reason = f"leave out the character U+{ord(unprinted):04X}"
    elif max(len(os.fsencode(part)) for part in (*parts, parts[-1] + suffix)) > _LONGEST_NAME:
        reason = f"a name has at most {_LONGEST_NAME} bytes with its suffix"
    file = folder.joinpath(*parts[:-1], parts[-1] + suffix)
    if not reason and len(os.fsencode(os.path.abspath(file))) > _LONGEST_PATH:
        reason = f"a path has at most {_LONGEST_PATH} bytes"
    if not reason and not file.parent.resolve().is_relative_to(folder.resolve()):
        reason = f"a link in {folder} leads out of it"
    if reason:
        raise InputError(f"id {one_line(repr(id), 100)} cannot name a {suffix.lstrip('.')} file: {reason}")
    return file


def refuse_inputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Refuse (InputError) outputs that exist and are inputs of the run, by whatever name or link."""
    if existing := [(path, key) for path in outputs if (key := file_key(path)) is not None]:
        read = {file_key(path) for path in inputs}
        if own := [path for path, key in existing if key in read]:
            raise InputError(f"{own[0]}: is an input of this run{and_more(len(own))}; choose another output")


def file_key(path: str | Path) -> tuple[int, int] | None:
    """Return what is the same for all names of a file or folder; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def text_lines(file: Path, *, errors: str = "strict") -> Iterator[tuple[str, str]]:
    """Yield the lines of a text file or .gz with their places ("units.txt:3"), without line ends; empty ones too.

    A line that is not UTF-8 is a FormatError, unless `errors` names another way of decoding it.
    """
    # Bytes first: a text file is decoded in blocks, and an error would not tell its line.
    with gzip.open(file) if file.suffix.lower() == ".gz" else open(file, "rb") as stream:
        lines, number = iter(stream), 0
        while True:
            number += 1
            try:
                line = next(lines, None)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise FormatError(f"{file}:{number}: damaged .gz ({error}); copy or make it again") from None
            if line is None:
                return
            try:
                # Some editors begin a file with a byte-order mark.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors)
            except UnicodeDecodeError as error:
                raise FormatError(f"{file}:{number}: not a text in UTF-8 ({error.reason}); save it as UTF-8") from None
            yield f"{file}:{number}", text.rstrip("\r\n")


def json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the JSON values of a jsonl with their places, or FormatError; empty lines are skipped."""
    for place, line in text_lines(file):
        if line.strip():
            try:
                value = json.loads(line)
                # Most lines are long, with few brackets.
                if line.count("[") + line.count("{") > MAX_DEPTH:
                    check_depth(value)
            except (ValueError, RecursionError) as error:
                raise FormatError(f"{place}: not valid JSON ({error})") from None
            yield place, value


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
    """Write pieces of text to a file in UTF-8; it appears complete or not at all.

    What UTF-8 does not know, half characters of file names that are not UTF-8, is written as JSON escapes.
    """
    with atomic_path(path) as part, part.open("w", encoding="utf-8", errors=JSON_ESCAPES, newline="\n") as file:
        file.writelines(lines)


JSON_ESCAPES = "syllablelm.json"
"""Name of the error handler of encodings that writes other characters as JSON does, as in "\\u017d"."""


def _json_escapes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(JSON_ESCAPES, _json_escapes)
