"""Folders of the ZeroSpeech 2021 benchmark: recordings and gold lists in, submission files out.

    FOLDER/lexical/dev/*.wav   FOLDER/lexical/dev/gold.csv
    FOLDER/syntactic/dev/*.wav   FOLDER/syntactic/dev/gold.csv

A submission is one text file per suite and split, ``lexical/dev.txt``: a line "stem score" for every recording, higher
scores for likelier ones. While it is made, finished parts lie in a folder beside it that is named by what they depend
on, so a killed run resumes; the file itself appears whole.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from syllablelm.core.artifact import digest_json
from syllablelm.core.errors import AudioError, FormatError, InputError
from syllablelm.core.files import atomic_path, json_lines, text_lines
from syllablelm.core.segmentation import Segmentation
from syllablelm.itemsets.speak import SETTINGS
from syllablelm.lm.store import check_units

if TYPE_CHECKING:
    from syllablelm.lm.speech_lm import SpeechLM

GOLD_FILE = "gold.csv"
AUDIO_SUFFIXES = (".wav", ".flac")
Encode = Callable[[Sequence[str]], Mapping[str, "Segmentation | AudioError"]]


@dataclass(frozen=True)
class GoldRow:
    """A line of a gold list."""

    place: str
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values[column]

    @property
    def correct(self) -> bool:
        """Whether the recording is the one that should be likelier."""
        return self.values["correct"] == "1"


def find_split(folder: Path, suite: str, split: str) -> Path:
    """The folder of a suite's recordings, given the benchmark's root, the suite's folder, or itself.

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


def open_set_name(place: Path) -> str | None:
    """The name of the open set ("open-wordlist") that a folder of recordings belongs to; None for any other.

    ``prepare`` writes it into ``settings.json``, of the folder itself or up to two above it: SET/lexical/dev.
    """
    for folder in (place.resolve(), *place.resolve().parents[:2]):
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # Files of this name are common; one that is no record of a set is somebody else's.
            continue
        if isinstance(settings, dict) and isinstance(settings.get("name"), str) and "voices" in settings:
            return settings["name"]
    return None


def list_stems(folder: Path) -> dict[str, Path]:
    """The recordings right in a folder, by name without suffix, in order.

    Raises:
        FormatError: no folder, no recordings, or two of one name.
    """
    if not folder.is_dir():
        raise FormatError(f"{folder}: no such folder")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file())
    stems = {file.stem: file for file in files}
    if not files:
        raise FormatError(f"{folder}: no {' or '.join(AUDIO_SUFFIXES)} recordings right in this folder")
    if len(stems) < len(files):
        first = next(file for file in files if stems[file.stem] != file)
        raise FormatError(f"{folder}: two recordings are called {first.stem} ({len(files) - len(stems)} such names)")
    return stems


def read_gold(folder: Path, columns: Sequence[str]) -> list[GoldRow]:
    """The lines of a folder's gold list.

    Args:
        columns: that must be there, ``filename`` and ``correct`` among them; others are left alone. A filename may
            have the suffix of a recording, which is taken off.

    Raises:
        FormatError: missing, not a table with these columns, or lines that lack a value; names the first and counts.
    """
    path = folder / GOLD_FILE
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise FormatError(f"{path}: no column {missing[0]!r}; needed are {', '.join(columns)}")
            rows = [_gold_row(f"{path}:{reader.line_num}", {c: row[c] or "" for c in columns}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: not a readable table ({error})") from None
    for what, bad in (
        ("without a filename", [row.place for row in rows if not row["filename"]]),
        ("correct is neither 0 nor 1", [row.place for row in rows if row["correct"] not in ("0", "1")]),
    ):
        if bad:
            raise FormatError(f"{bad[0]}: {what} ({len(bad):,} lines in all)")
    return rows


def _gold_row(place: str, values: dict[str, str]) -> GoldRow:
    stem, dot, suffix = values["filename"].rpartition(".")
    named = stem if (dot + suffix).lower() in AUDIO_SUFFIXES else values["filename"]
    return GoldRow(place, {**values, "filename": named})


def check_stems(wanted: Iterable[str], recorded: Iterable[str], folder: Path) -> None:
    """Refuse a folder whose gold list and recordings do not name the same stems.

    Raises:
        FormatError: names the first offender and counts them.
    """
    gold, files = set(wanted), set(recorded)
    for what, names, of in (
        ("in the gold list without a recording", gold - files, f"{len(gold):,} in the list"),
        ("not in the gold list", files - gold, f"{len(files):,} recordings"),
    ):
        if names:
            raise FormatError(f"{folder}: {what}: {min(names)} ({len(names):,} of {of})")


def write_submission(path: Path, scores: Mapping[str, float]) -> None:
    """Write a submission file: a line "stem score" for every recording, sorted; whole or not at all."""
    with atomic_path(path) as part:
        part.write_text("".join(f"{stem} {scores[stem]!r}\n" for stem in sorted(scores)), encoding="utf-8")


def read_submission(path: Path) -> dict[str, float]:
    """Scores by stem.

    Raises:
        FormatError: a line that is not "stem score", or a stem twice.
    """
    scores: dict[str, float] = {}
    for place, line in text_lines(path):
        stem, _, number = line.rpartition(" ")
        try:
            value = float(number)
        except ValueError:
            raise FormatError(f"{place}: not 'stem score'") from None
        if stem in scores:
            raise FormatError(f"{place}: {stem} is there twice")
        scores[stem] = value
    return scores


@dataclass(frozen=True)
class ScoreStore:
    """Where the scores of a suite's recordings grow.

    Args:
        path: the submission file.
        key: digest of all that scores depend on: models, recordings.
    """

    path: Path
    key: str

    @property
    def _record(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def _parts(self) -> Path:
        return self.path.with_name(f".{self.path.stem}-{self.key}.parts")

    def finished(self) -> dict[str, float] | None:
        """All scores, if an earlier run finished; None if this one has to.

        Raises:
            InputError: the file holds other scores, which must not be overwritten silently.
        """
        if not self.path.exists():
            return None
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            record = {}
        except ValueError as error:
            raise FormatError(f"{self._record}: damaged ({error}); remove it and {self.path.name}") from None
        if not isinstance(record, dict) or record.get("key") != self.key:
            raise InputError(f"{self.path} holds scores of another model or other recordings; choose another --out")
        return read_submission(self.path)

    def parts(self) -> dict[str, float]:
        """Scores that a run wrote before it was stopped."""
        files = sorted(self._parts.glob("*.jsonl")) if self._parts.is_dir() else []
        return {row["stem"]: float(row["score"]) for file in files for _, row in json_lines(file)}

    def add(self, scores: Mapping[str, float]) -> None:
        """Keep the scores of some more recordings."""
        lines = [json.dumps({"stem": stem, "score": score}) + "\n" for stem, score in scores.items()]
        with atomic_path(self._parts / f"{digest_json(sorted(scores))}.jsonl") as part:
            part.write_text("".join(lines), encoding="utf-8")

    def finish(self, scores: Mapping[str, float]) -> None:
        """Write the submission file; the parts are no longer needed."""
        with atomic_path(self._record) as part:
            part.write_text(json.dumps({"key": self.key, "stems": len(scores)}) + "\n", encoding="utf-8")
        write_submission(self.path, scores)
        shutil.rmtree(self._parts, ignore_errors=True)


def score_stems(
    stems: Sequence[str],
    encode: Encode,
    lm: SpeechLM,
    store: ScoreStore,
    *,
    chunk: int = 200,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, float]:
    """Mean log-probability per unit, in nats, of every recording, resuming where ``store`` stands.

    Args:
        stems: the recordings.
        encode: units of some recordings, or why one has none.
        lm: the model.
        store: finished scores; complete when this returns.
        chunk: recordings that are encoded and scored together; bounds what a killed run loses, changes no score.
        advance: told how many more recordings are done.

    Returns:
        scores by stem.

    Raises:
        InputError: recordings that cannot be encoded or without units; names the first and counts them, after scoring
            and keeping all others. Units of another vocabulary.
    """
    known = store.parts()
    scores = {stem: known[stem] for stem in stems if stem in known}
    advance(len(scores))
    left = [stem for stem in stems if stem not in scores]
    faults: dict[str, str] = {}
    for first in range(0, len(left), chunk):
        names = left[first : first + chunk]
        usable: dict[str, Segmentation] = {}
        for stem, found in encode(names).items():
            fault = str(found) if isinstance(found, AudioError) else _fault(found, stem, lm)
            if isinstance(found, AudioError) or fault:
                faults[stem] = fault
            else:
                usable[stem] = found
        new = dict(zip(usable, lm.score(list(usable.values())), strict=True)) if usable else {}
        faults |= {stem: f"its score is {value}" for stem, value in new.items() if not math.isfinite(value)}
        new = {stem: value for stem, value in new.items() if stem not in faults}
        if new:
            store.add(new)
        scores |= new
        advance(len(names))
    if faults:
        worst = min(faults)
        raise InputError(
            f"{worst}: {faults[worst]} ({len(faults):,} of {len(stems):,} recordings cannot be scored; no result)"
        )
    store.finish(scores)
    return scores


def _fault(segmentation: Segmentation, stem: str, lm: SpeechLM) -> str:
    """Why a recording cannot be scored; "" if it can."""
    return "" if len(check_units(segmentation, lm.info, stem)) else "has no units"
