"""A set of pairs to a folder of speech, resumably.

    OUT/lexical/dev/*.flac, gold.csv       recordings and gold list, as the benchmark's readers want them
    OUT/manifest.jsonl                     a line per recording: text, voice, pair, licence, ...
    OUT/alignments.jsonl                   words and phones in seconds, if the engine tells them (flite)
    OUT/errors.jsonl                       pairs that were left out, with the reason
    OUT/settings.json                      what the set is made of, its licences and what was measured on it

The folder appears whole. While it is made, speech lies in a folder beside it that is named by all it depends on, so a
killed run resumes.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import digest_json, digest_path
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import atomic_path, json_lines
from syllablelm.tts.engines import Engine
from syllablelm.tts.synthesize import synthesize

SETTINGS = "settings.json"
_VERSION = 1


@dataclass(frozen=True)
class Clip:
    """One recording of a set.

    Args:
        stem: name of its file, without the suffix.
        pair: the pair it belongs to.
        correct: whether it is the one that should be likelier.
        voice: who speaks; the two of a pair share it.
        text: what the engine is told to say.
        about: columns of the gold list, and what else the manifest tells of it.
    """

    stem: str
    pair: str
    correct: bool
    voice: str
    text: str
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A text that a set is made from.

    Args:
        name: of the file or folder, without the path to it.
        digest: of its contents.
        licence: what may be done with it, in a line.
    """

    name: str
    digest: str
    licence: str

    @classmethod
    def of(cls, path: Path, licence: str) -> Source:
        """Of a file or a folder."""
        return cls(path.name, digest_path(path), licence)


@dataclass(frozen=True)
class ItemSet:
    """What to speak.

    Args:
        name: of the set.
        place: folder of the recordings in the set's folder.
        columns: of the gold list, from the clips' ``about``; () for a suite that needs no gold list.
        clips: the recordings; each pair has a right and a wrong one in each of its voices.
        sources: the texts.
        options: settings that decide the items.
        measures: what is known of the items before they are spoken.
    """

    name: str
    place: str
    columns: tuple[str, ...]
    clips: tuple[Clip, ...]
    sources: tuple[Source, ...]
    options: Mapping[str, Any]
    measures: Mapping[str, Any]


def speak_set(
    items: ItemSet,
    out: Path,
    engine: Engine,
    *,
    workers: int = 1,
    audio_format: str = "flac",
    progress: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Speak a set into a folder; a folder that is finished is only read.

    Both recordings of a pair have the same voice, the engine's usual speed and its usual pitch.

    Args:
        items: what to speak.
        out: the folder; it must not hold anything else.
        engine: who speaks.
        workers: engines at a time.
        audio_format: "flac" or "wav", which the readers of the suites take.
        progress: told how many more recordings are done.

    Returns:
        the record that ``settings.json`` holds.

    Raises:
        MissingDependencyError: the engine is not installed.
        InputError: an unusable voice or option, or a folder that holds something else.
    """
    if audio_format not in ("flac", "wav"):
        raise InputError(f"audio format {audio_format!r}: sets of pairs are flac or wav")
    settings = {
        "version": _VERSION,
        "name": items.name,
        "engine": engine.name,
        "voices": sorted({clip.voice for clip in items.clips}),
        "audio_format": audio_format,
        "options": dict(items.options),
        "sources": [asdict(source) for source in items.sources],
    }
    # The clips too: another version of this program may draw others from the same sources.
    key = digest_json([settings, [asdict(clip) for clip in items.clips]])
    finished = _read_finished(out, key)
    if finished is not None:
        progress(len(items.clips))
        return finished
    parts = out.parent / f".{out.name}-{key}.parts"
    spoken = _speak_voices(items, parts, engine, workers=workers, audio_format=audio_format, progress=progress)
    kept, errors = _sort_out(items.clips, spoken)
    if not kept:
        raise InputError(f"{items.name}: not one of its pairs could be spoken; the first: {errors[0]['error']}")
    seconds = {clip.stem: spoken[clip.stem].seconds for clip in kept}
    record = {
        **settings,
        "licences": sorted({engine.licence, *(source.licence for source in items.sources)}),
        "pairs": len({clip.pair for clip in kept}),
        "recordings": len(kept),
        "seconds": sum(seconds.values()),
        "left_out": len(errors),
        **items.measures,
        **measure_lengths(kept, seconds),
        "key": key,
    }
    with atomic_path(out) as part:
        _write(part, items, kept, spoken, errors, record)
    shutil.rmtree(parts)
    return record


def measure_lengths(clips: Sequence[Clip], seconds: Mapping[str, float]) -> dict[str, float]:
    """How far length alone tells the two of a pair apart.

    Args:
        clips: recordings, each pair whole.
        seconds: their lengths by stem.

    Returns:
        ``length_bias``: the share of comparisons (pair and voice) in which the right recording is the shorter one,
        equal lengths counting .5, so .5 is no bias; ``length_difference``: mean seconds of right minus wrong.
    """
    couples = _couples(clips)
    differences = [seconds[right.stem] - seconds[wrong.stem] for right, wrong in couples.values()]
    shorter = sum(0.5 if difference == 0 else float(difference < 0) for difference in differences)
    return {
        "length_bias": shorter / len(differences),
        "length_difference": sum(differences) / len(differences),
    }


@dataclass(frozen=True)
class _Spoken:
    """What became of a clip: a file with its manifest and alignment rows, or an error."""

    path: Path | None = None
    row: Mapping[str, Any] = field(default_factory=dict)
    alignment: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def seconds(self) -> float:
        return self.row["num_samples"] / self.row["sample_rate"]


def _read_finished(out: Path, key: str) -> dict[str, Any] | None:
    path = out / SETTINGS
    if path.is_file():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FormatError(f"{path}: damaged ({error}); choose another folder") from None
        if isinstance(record, dict) and record.get("key") == key:
            return record
        raise InputError(f"{out} holds a set with other items or settings; choose another folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is no set of pairs; choose another folder")
    return None


def _speak_voices(items: ItemSet, parts: Path, engine: Engine, **options: Any) -> dict[str, _Spoken]:
    by_voice: dict[str, list[tuple[str, str]]] = {}
    for clip in items.clips:
        by_voice.setdefault(clip.voice, []).append((clip.stem, clip.text))
    engine.check(sorted(by_voice))
    spoken: dict[str, _Spoken] = {}
    for voice, texts in sorted(by_voice.items()):
        folder = parts / voice.replace("/", "-")
        # One folder per voice and a range of one point: nothing is left to draw, so both of a pair sound alike.
        result = synthesize(
            texts, folder, engine=engine, voices=(voice,), speed_range=(1, 1), pitch_range=(1, 1), **options
        )
        alignments = {} if result.alignments is None else {r["id"]: r for _, r in json_lines(result.alignments)}
        for _, row in json_lines(result.manifest):
            spoken[row["id"]] = _Spoken(folder / row["path"], row, alignments.get(row["id"]))
        for _, row in json_lines(result.errors):
            spoken[row["id"]] = _Spoken(error=row["error"])
    return spoken


def _couples(clips: Sequence[Clip]) -> dict[tuple[str, str], tuple[Clip, Clip]]:
    """(right, wrong) by pair and voice."""
    right = {(clip.pair, clip.voice): clip for clip in clips if clip.correct}
    wrong = {(clip.pair, clip.voice): clip for clip in clips if not clip.correct}
    if right.keys() != wrong.keys() or len(clips) != 2 * len(right):
        raise ValueError("each pair needs one right and one wrong recording per voice")
    return {key: (clip, wrong[key]) for key, clip in right.items()}


def _sort_out(clips: Sequence[Clip], spoken: Mapping[str, _Spoken]) -> tuple[list[Clip], list[dict[str, str]]]:
    """The clips of whole pairs whose two recordings differ, and what was left out."""
    kept: list[Clip] = []
    errors: list[dict[str, str]] = []
    for (pair, voice), couple in _couples(clips).items():
        faults = [spoken[clip.stem].error for clip in couple if spoken[clip.stem].error]
        files = [path.read_bytes() for path in (spoken[clip.stem].path for clip in couple) if path is not None]
        if not faults and files[0] == files[1]:
            faults = ["both of the pair sound the same"]
        if faults:
            errors.append({"pair": pair, "voice": voice, "error": faults[0]})
        else:
            kept += couple
    return kept, errors


def _write(
    out: Path,
    items: ItemSet,
    clips: Sequence[Clip],
    spoken: Mapping[str, _Spoken],
    errors: Sequence[Mapping[str, str]],
    record: Mapping[str, Any],
) -> None:
    place = out / items.place
    place.mkdir(parents=True)
    manifest = []
    for clip in clips:
        found = spoken[clip.stem]
        assert found.path is not None
        name = f"{items.place}/{found.path.name}"
        _link(found.path, out / name)
        own = {"pair": clip.pair, "correct": clip.correct, **clip.about}
        manifest.append({**found.row, "path": name, **own})
    if items.columns:
        with (place / "gold.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("id", "filename", "voice", "correct", *items.columns))
            for clip in clips:
                values = [clip.about[column] for column in items.columns]
                writer.writerow((clip.pair, clip.stem, clip.voice, int(clip.correct), *values))
    lists: dict[str, Sequence[Any]] = {"manifest": manifest, "errors": errors}
    alignments = [found for clip in clips if (found := spoken[clip.stem].alignment) is not None]
    if alignments:
        lists["alignments"] = alignments
    for file, rows in lists.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (out / f"{file}.jsonl").write_text("".join(lines), encoding="utf-8")
    (out / SETTINGS).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    # A second name costs no space; some file systems know only one name per file.
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
