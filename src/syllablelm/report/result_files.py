"""Result files: what the ``evaluate`` verbs printed and what ``train lm`` recorded, with the place of each value."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, InputError

RUN = "run"
RUN_FILE, ARTIFACT_FILE = "run.json", "artifact.json"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Fields:
    """A JSON object that knows where it stands, so that a missing key names its file."""

    where: str
    values: Mapping[str, Any]

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def _need(self, key: str) -> Any:
        if key not in self:
            raise FormatError(f"{self.where}: no key {key!r}; made by another version? run the verb again")
        return self.values[key]

    def number(self, key: str) -> float | None:
        """A number; None where it is null or not a number at all (NaN), as of a ratio without counts.

        Raises:
            FormatError: no such key, or another type.
        """
        if key not in self.values:
            self._need(key)
        value = self.values[key]
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FormatError(f"{self.where}: {key!r} must be a number, not {json.dumps(value)[:60]}")
        return float(value) if math.isfinite(value) else None

    def setting(self, key: str) -> str:
        """A number that must be there, such as a setting, as text.

        Raises:
            FormatError: no such key, null, or another type.
        """
        self._need(key)
        return f"{self.number(key):g}"

    def optional(self, key: str) -> float | None:
        """A number, or None where the key is not there."""
        return self.number(key) if key in self.values else None

    def text(self, key: str) -> str:
        """A text.

        Raises:
            FormatError: no such key, or another type.
        """
        value = self._need(key)
        if not isinstance(value, str):
            raise FormatError(f"{self.where}: {key!r} must be a text, not {json.dumps(value)[:60]}")
        return value

    def optional_text(self, key: str) -> str | None:
        """A text, or None where the key is not there or null."""
        return self.text(key) if key in self else None

    def part(self, key: str) -> Fields:
        """An object inside this one.

        Raises:
            FormatError: no such key, or another type.
        """
        return _as_fields(self._need(key), f"{self.where}: {key}")

    def parts(self, key: str) -> list[Fields]:
        """The objects of a list.

        Raises:
            FormatError: no such key, or another type.
        """
        value = self._need(key)
        if not isinstance(value, list):
            raise FormatError(f"{self.where}: {key!r} must be a list, not {json.dumps(value)[:60]}")
        return [_as_fields(item, f"{self.where}: {key}[{number}]") for number, item in enumerate(value)]


def _as_fields(value: Any, where: str) -> Fields:
    if not isinstance(value, dict):
        raise FormatError(f"{where}: must be an object, not {json.dumps(value)[:60]}")
    return Fields(where, value)


@dataclass(frozen=True)
class Result:
    """One result.

    Args:
        path: of its file.
        evaluation: the verb that printed it; "run" for a record of ``train lm``.
        model: as the user gave it; None where none was needed. The folder of a run.
        data: the data set's name as the user gave it, "" for a run.
        size: how much data, for the reader ("35 recordings, 7.0 min").
        body: all keys.
    """

    path: Path
    evaluation: str
    model: str | None
    data: str
    size: str
    body: Fields


@dataclass(frozen=True)
class Found:
    """What was read: results in order of their arguments, pictures, and files in folders that are no results."""

    results: tuple[Result, ...]
    pictures: tuple[Path, ...]
    passed_over: tuple[Path, ...]


def read_results(paths: Sequence[Path], known: Iterable[str]) -> Found:
    """Read files, or all .json files below folders; of an artifact's folder only its run.json.

    Below a folder also lies what evaluations keep beside their results (scores, transcripts): JSON objects without
    "evaluation" are passed over there. A file that is named must be a result.

    Args:
        paths: JSON files, folders, and pictures (.png), which are passed on.
        known: names of the evaluations that the caller can use.

    Returns:
        each file once.

    Raises:
        FormatError: not JSON, a missing key, or no result in a folder.
        InputError: an evaluation that is not known.
    """
    known = [*known]
    named = {path.resolve() for path in paths if not path.is_dir()}
    results: dict[Path, Result] = {}
    passed_over: dict[Path, Path] = {}
    pictures: dict[Path, Path] = {}
    for path in paths:
        if path.suffix.lower() == ".png" and not path.is_dir():
            _check_picture(path)
            pictures.setdefault(path.resolve(), path)
            continue
        found = 0
        for file in _json_files(path) if path.is_dir() else [path]:
            place = file.resolve()
            body = _read_object(file)
            if place in named or _is_result(file, body):
                found += 1
                if place not in results:
                    results[place] = _read(file, body, known)
            else:
                passed_over[place] = file
        if not found:
            raise FormatError(f"{path}: no result (.json) below this folder")
    return Found(tuple(results.values()), tuple(pictures.values()), tuple(passed_over.values()))


def _json_files(folder: Path) -> Iterable[Path]:
    if (folder / ARTIFACT_FILE).exists():
        if (folder / RUN_FILE).exists():
            yield folder / RUN_FILE
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _json_files(path)
        elif path.suffix == ".json":
            yield path


def _check_picture(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_PNG))
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from None
    if start != _PNG:
        raise FormatError(f"{path}: not a PNG picture")


def _read_object(path: Path) -> Fields:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path}: not JSON ({error}); give what an evaluate verb printed, one result a file"
        ) from None
    return _as_fields(value, str(path))


def _is_result(path: Path, body: Fields) -> bool:
    return path.name == RUN_FILE or "evaluation" in body


def _read(path: Path, body: Fields, known: Sequence[str]) -> Result:
    if path.name == RUN_FILE and "evaluation" not in body:
        body.number("params")
        return Result(path, RUN, str(path.parent), "", "", body)
    evaluation = body.text("evaluation")
    if evaluation not in known:
        raise InputError(f"{path}: evaluation {evaluation!r} has no place in the report; known: {', '.join(known)}")
    data = body.part("data")
    return Result(path, evaluation, body.optional_text("model"), data.text("name"), _size(data), body)


def _size(data: Fields) -> str:
    counts = ((name, data.optional(name)) for name in ("recordings", "items", "prompts", "pairs"))
    told = [f"{count:,.0f} {name[:-1] if count == 1 else name}" for name, count in counts if count is not None]
    seconds = data.optional("seconds")
    if seconds is not None:
        told.append(show_seconds(seconds))
    return ", ".join(told)


def show_seconds(seconds: float) -> str:
    """A length for the reader: "48 s", "7.0 min", "2.8 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
