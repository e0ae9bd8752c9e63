"""Folders of the ZeroSpeech 2021 benchmark: recordings and gold lists in, submission files out.

    FOLDER/lexical/dev/*.wav   FOLDER/lexical/dev/gold.csv
    FOLDER/syntactic/dev/*.wav   FOLDER/syntactic/dev/gold.csv

A submission is one text file per suite and split, ``lexical/dev.txt``: a line "stem score" for every recording, higher
scores for likelier ones.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from syllablelm.core.errors import FormatError
from syllablelm.core.files import atomic_path, text_lines
from syllablelm.itemsets.speak import SETTINGS

GOLD_FILE = "gold.csv"
AUDIO_SUFFIXES = (".wav", ".flac")


def find_split(folder: Path, suite: str, split: str) -> Path:
    """Return the folder of a suite's recordings, given the benchmark's root, the suite's folder, or itself.

    Raises:
        FormatError: there is none, or none with a gold list (which ``test`` may lack).
    """
    candidates = [folder / suite / split, folder / split, *([folder] if folder.resolve().name == split else [])]
    for candidate in candidates:
        if (candidate / GOLD_FILE).is_file():
            return candidate
    if split == "test" and (folder / suite / split).is_dir():
        # The benchmark kept the answers of its test split for itself: scores can be submitted all the same.
        return folder / suite / split
    raise FormatError(
        f"{folder}: no {suite}/{split}/{GOLD_FILE} in it; give the folder that holds {suite}/{split}, with recordings "
        "and gold list as the benchmark has them"
    )


def open_set_name(folder: Path) -> str | None:
    """Return the name of the open set ("open-wordlist") that a folder of recordings belongs to; None for any other.

    ``prepare`` writes it into ``settings.json``, of the folder itself or up to two above it: SET/lexical/dev.
    """
    for parent in (folder.resolve(), *folder.resolve().parents[:2]):
        try:
            settings = json.loads((parent / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            # Files of this name are common; one that is no record of a set is somebody else's.
            continue
        if isinstance(settings, dict) and isinstance(settings.get("name"), str) and "voices" in settings:
            return settings["name"]
    return None


def list_stems(folder: Path, *, allow_none: bool = False) -> dict[str, Path]:
    """Return the recordings directly in a folder, by name without suffix, in order; FormatError for none or doubles."""
    if not folder.is_dir():
        raise FormatError(f"{folder}: no such folder")
    # Names with a dot in front are hidden files, or what Macs put beside a file: ._NAME.wav.
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in AUDIO_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    stems = {file.stem: file for file in files}
    if not files and not allow_none:
        raise FormatError(f"{folder}: no {' or '.join(AUDIO_SUFFIXES)} recordings right in this folder")
    if len(stems) < len(files):
        first = next(file for file in files if stems[file.stem] != file)
        raise FormatError(f"{folder}: two recordings are called {first.stem} ({len(files) - len(stems)} such names)")
    return stems


def read_gold(folder: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the lines of a folder's gold list by column, and its "line" in the file.

    Args:
        folder: folder with gold.csv.
        columns: required columns, ``filename`` and ``correct`` among them; others are ignored. The suffix of a filename
            is removed.

    Raises:
        FormatError: missing, not a table with these columns, or lines that lack a value; names the first and counts.
    """
    path = folder / GOLD_FILE
    rows: list[dict[str, str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise FormatError(f"{path}: no column {missing[0]!r}; needed are {', '.join(columns)}")
            for row in reader:
                values = {column: row[column] or "" for column in columns}
                stem, dot, suffix = values["filename"].rpartition(".")
                if (dot + suffix).lower() in AUDIO_SUFFIXES:
                    values["filename"] = stem
                rows.append(values | {"line": f"{path}:{reader.line_num}"})
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: not a readable table ({error})") from None
    for what, bad in (
        ("without a filename", [row["line"] for row in rows if not row["filename"]]),
        ("correct is neither 0 nor 1", [row["line"] for row in rows if row["correct"] not in ("0", "1")]),
    ):
        if bad:
            raise FormatError(f"{bad[0]}: {what} ({len(bad):,} lines in all)")
    return rows


def is_correct(row: Mapping[str, str]) -> bool:
    """Return whether the recording of a gold list's line is the one that should be likelier."""
    return row["correct"] == "1"


def check_stems(wanted: Iterable[str], recorded: Iterable[str], folder: Path) -> None:
    """Refuse a folder whose gold list and recordings do not name the same stems (FormatError)."""
    gold, files = set(wanted), set(recorded)
    for what, names, of in (
        ("in the gold list without a recording", gold - files, f"{len(gold):,} in the list"),
        ("not in the gold list", files - gold, f"{len(files):,} recordings"),
    ):
        if names:
            raise FormatError(f"{folder}: {what}: {min(names)} ({len(names):,} of {of})")


def write_submission(path: Path, scores: Mapping[str, float]) -> None:
    """Write a submission file: a line "stem score" for every recording, sorted; complete or not at all."""
    with atomic_path(path) as part:
        # The stems are names of files, whose bytes need not be UTF-8.
        text = "".join(f"{stem} {scores[stem]!r}\n" for stem in sorted(scores))
        part.write_text(text, encoding="utf-8", errors="surrogateescape")


def read_submission(path: Path) -> dict[str, float]:
    """Return the scores of a submission file by stem; FormatError for a line without a score, or a stem twice."""
    scores: dict[str, float] = {}
    for place, line in text_lines(path, errors="surrogateescape"):
        stem, _, number = line.rpartition(" ")
        try:
            value = float(number)
        except ValueError:
            raise FormatError(f"{place}: not 'stem score'") from None
        if stem in scores:
            raise FormatError(f"{place}: {stem} is there twice")
        scores[stem] = value
    return scores
