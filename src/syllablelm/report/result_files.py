"""Files that a report is made of: results of evaluations, and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from syllablelm.core.artifact import RECORD
from syllablelm.core.errors import FormatError
from syllablelm.core.results import Result, read_json
from syllablelm.evaluate.evaluations import parse_result

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class ResultFile:
    """A result and its file."""

    path: Path
    result: Result


@dataclass(frozen=True)
class Inputs:
    """Files by kind, each once: results in order of their arguments, pictures, and other JSON files in folders."""

    results: tuple[ResultFile, ...]
    pictures: tuple[Path, ...]
    passed_over: tuple[Path, ...]


def read_inputs(sources: Sequence[str | Path | Result]) -> Inputs:
    """Read results, their JSON files, pictures (.png), or all .json files below folders, except those of artifacts.

    Below a folder, JSON files without "evaluation" are passed over: scores and transcripts that evaluations keep. A
    file that is named must be a result.

    Raises:
        FormatError: not JSON, no or a damaged result, an unknown evaluation, or no result in a folder.
    """
    given = [Path(source) for source in sources if not isinstance(source, Result)]
    named = {path.resolve() for path in given if not path.is_dir()}
    # Results without a file are named by their evaluation and their place among the sources.
    loose = {Path(f"{one.evaluation}[{n}]"): one for n, one in enumerate(sources) if isinstance(one, Result)}
    results = {path: ResultFile(path, result) for path, result in loose.items()}
    pictures: dict[Path, Path] = {}
    passed_over: dict[Path, Path] = {}
    for path in given:
        if path.suffix.lower() == ".png" and not path.is_dir():
            _check_picture(path)
            pictures.setdefault(path.resolve(), path)
            continue
        files = [*_json_files(path)] if path.is_dir() else [path]
        for file in files:
            if file.resolve() in results:
                continue
            table = read_json(file)
            if "evaluation" in table or file.resolve() in named:
                results[file.resolve()] = ResultFile(file, parse_result(table, str(file)))
            else:
                passed_over[file.resolve()] = file
        if not any(file.resolve() in results for file in files):
            raise FormatError(f"{path}: no result (.json) below this folder")
    return Inputs(tuple(results.values()), tuple(pictures.values()), tuple(passed_over.values()))


def _json_files(folder: Path) -> Iterable[Path]:
    if (folder / RECORD).exists():
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
