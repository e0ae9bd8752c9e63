"""Speech of a set of pairs, written to a folder; resumable.

    OUT/lexical/dev/*.flac, gold.csv       recordings and gold list, as the benchmark's readers want them
    OUT/manifest.jsonl                     a line per recording: text, voice, pair, licence, ...
    OUT/alignments.jsonl                   words and phones in seconds, if the engine prints them (flite)
    OUT/errors.jsonl                       pairs that were left out, with the reason
    OUT/settings.json                      settings, sources, licences and measures of the set

The folder appears complete or not at all. Until then, speech lies in a folder beside it whose name is a digest of all
settings, so that a killed run resumes.
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
from syllablelm.core.errors import InputError
from syllablelm.core.files import atomic_path, json_lines, write_json_lines, write_text
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Record, json_key, read_json
from syllablelm.tts.engines import Engine, open_engine
from syllablelm.tts.synthesize import synthesize

SETTINGS = "settings.json"
_VERSION = 1


@dataclass(frozen=True)
class Clip:
    """One recording of a set: the file's stem, its pair, whether it should be the more likely one, voice and text.

    `about` holds values of the gold list's columns, and further ones for the manifest.
    """

    stem: str
    pair: str
    correct: bool
    voice: str
    text: str
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source(Record):
    """A text that a set is made from: its name without path, the digest of its contents, its licence in one line."""

    name: str
    digest: str
    licence: str

    @classmethod
    def of(cls, path: Path, licence: str) -> Source:
        """Return the source of a file or a folder."""
        return cls(path.name, digest_path(path), licence)


@dataclass(frozen=True)
class ItemSet:
    """A set of pairs before it is spoken; each pair has a correct and an incorrect clip in each of its voices.

    `place` is the folder of the recordings in the set's folder; `columns` those of the gold list, from the clips'
    ``about`` (() for a suite without one); `measures` the values of fields of `SpokenSet` that are known already.
    """

    name: str
    place: str
    columns: tuple[str, ...]
    clips: tuple[Clip, ...]
    sources: tuple[Source, ...]
    options: Mapping[str, Any]
    measures: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class SpokenSet(Record):
    """The record of a spoken set, as ``settings.json`` holds it.

    Args:
        version: version of the layout.
        options: settings that the items depend on.
        left_out: number of pairs (times voices) that could not be spoken.
        phenomena, paradigms: minimal pairs: number of each.
        stories: topic cloze: number of stories.
        score_difference, score_distance: word list: mean (absolute) difference of the bigram scores in nats.
        score_bias: word list: share of pairs in which the non-word has the lower score; .5 is no bias.
        bands: word list: number of pairs per band of word frequency, where words were counted.
        length_bias, length_difference: see `measure_lengths`.
        key: digest of settings and items.
    """

    version: int
    name: str
    engine: str
    voices: tuple[str, ...]
    audio_format: str
    options: Mapping[str, Any]
    sources: tuple[Source, ...]
    licences: tuple[str, ...]
    pairs: int
    recordings: int
    seconds: float
    left_out: int
    phenomena: int | None = json_key(omit_none=True)
    paradigms: int | None = json_key(omit_none=True)
    stories: int | None = json_key(omit_none=True)
    score_difference: float | None = json_key(omit_none=True)
    score_distance: float | None = json_key(omit_none=True)
    score_bias: float | None = json_key(omit_none=True)
    bands: Mapping[str, int] | None = json_key(omit_none=True)
    length_bias: float
    length_difference: float
    key: str


def prepare_set(
    make: Callable[..., ItemSet],
    out: str | Path,
    *,
    engine: str | Engine = "flite",
    voices: str | Sequence[str] | None = None,
    workers: int = 1,
    audio_format: str = "flac",
    **options: Any,
) -> SpokenSet:
    """Make a set and speak it into a folder, or resume one; see `open_engine` and `speak_set`.

    `make` is a function of the voices and the options that makes the set.
    """
    speaker, chosen = open_engine(engine, voices)
    return speak_set(make(voices=chosen, **options), out, speaker, workers=workers, audio_format=audio_format)


def speak_set(
    items: ItemSet, out: str | Path, engine: Engine, *, workers: int = 1, audio_format: str = "flac"
) -> SpokenSet:
    """Speak a set into a folder; a finished folder is only read, one with other contents is an InputError.

    Both recordings of a pair have the same voice and the engine's default speed and pitch. `workers` is the number of
    engine processes; the readers of the suites take "flac" and "wav".
    """
    if audio_format not in ("flac", "wav"):
        raise InputError(f"audio format {audio_format!r}: sets of pairs are flac or wav")
    out = Path(out)
    settings: dict[str, Any] = {
        "version": _VERSION,
        "name": items.name,
        "engine": engine.name,
        "voices": sorted({clip.voice for clip in items.clips}),
        "audio_format": audio_format,
        "options": dict(items.options),
        "sources": [source.to_dict() for source in items.sources],
    }
    # The clips too: another version of this program may draw others from the same sources.
    key = digest_json([settings, [asdict(clip) for clip in items.clips]])
    parts = out.parent / f".{out.name}-{key}.parts"
    if (finished := _read_finished(out, key)) is not None:
        shutil.rmtree(parts, ignore_errors=True)  # a process that was killed at its end may have left them
        return finished
    with ProgressBar(items.name, len(items.clips), closing_line=False) as bar:
        spoken = _speak_voices(items, parts, engine, workers=workers, audio_format=audio_format, progress=bar.advance)
    kept, errors = _sort_out(items.clips, spoken)
    if not kept:
        raise InputError(f"{items.name}: not one of its pairs could be spoken; the first: {errors[0]['error']}")
    seconds = {clip.stem: spoken[clip.stem].seconds for clip in kept}
    measures: dict[str, Any] = {**items.measures, **measure_lengths(kept, seconds)}
    record = SpokenSet(
        **settings | {"voices": tuple(settings["voices"]), "sources": items.sources},
        licences=tuple(sorted({engine.licence, *(source.licence for source in items.sources)})),
        pairs=len({clip.pair for clip in kept}),
        recordings=len(kept),
        seconds=sum(seconds.values()),
        left_out=len(errors),
        **measures,
        key=key,
    )
    with atomic_path(out) as part:
        _write(part, items, kept, spoken, errors, record)
    shutil.rmtree(parts)
    return record


def measure_lengths(clips: Sequence[Clip], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return how well length alone tells the two recordings of a pair apart.

    ``length_bias`` is the share of comparisons (pair and voice) in which the correct recording is the shorter one,
    equal lengths counting .5, so that .5 is no bias; ``length_difference`` the mean seconds of correct minus incorrect.
    `seconds` are the lengths of the recordings by stem.
    """
    differences = [seconds[right.stem] - seconds[wrong.stem] for right, wrong in _couples(clips).values()]
    shorter = sum(0.5 if difference == 0 else float(difference < 0) for difference in differences)
    return {"length_bias": shorter / len(differences), "length_difference": sum(differences) / len(differences)}


@dataclass(frozen=True)
class _Spoken:
    """A spoken clip: a file with its manifest and alignment rows, or an error."""

    path: Path | None = None
    row: Mapping[str, Any] = field(default_factory=dict)
    alignment: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def seconds(self) -> float:
        return self.row["num_samples"] / self.row["sample_rate"]


def _read_finished(out: Path, key: str) -> SpokenSet | None:
    path = out / SETTINGS
    if path.is_file():
        table = read_json(path)
        if table.get("key") == key:
            return SpokenSet.from_dict(table, str(path))
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
        # One folder per voice and ranges of one point: nothing is drawn, so that both of a pair sound alike.
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
    """Return (correct, incorrect) by pair and voice."""
    right = {(clip.pair, clip.voice): clip for clip in clips if clip.correct}
    wrong = {(clip.pair, clip.voice): clip for clip in clips if not clip.correct}
    if right.keys() != wrong.keys() or len(clips) != 2 * len(right):
        raise ValueError("each pair needs one correct and one incorrect recording per voice")
    return {key: (clip, wrong[key]) for key, clip in right.items()}


def _sort_out(clips: Sequence[Clip], spoken: Mapping[str, _Spoken]) -> tuple[list[Clip], list[dict[str, str]]]:
    """Return the clips of complete pairs whose two recordings differ, and the errors of the others."""
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
    record: SpokenSet,
) -> None:
    place = out / items.place
    place.mkdir(parents=True)
    manifest = []
    for clip in clips:
        found = spoken[clip.stem]
        assert found.path is not None
        name = f"{items.place}/{found.path.name}"
        # A hard link costs no space; some file systems have none.
        try:
            os.link(found.path, out / name)
        except OSError:
            shutil.copyfile(found.path, out / name)
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
        write_json_lines(out / f"{file}.jsonl", rows)
    write_text(out / SETTINGS, json.dumps(record.to_dict(), indent=1, ensure_ascii=False) + "\n")
