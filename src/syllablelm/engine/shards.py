"""The folder of an encoded corpus: its plan, its shards with their ledger, and the units read back."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import FORMAT_VERSION, RECORD, artifact_record, digest_bytes, digest_json, digest_path
from syllablelm.core.errors import FormatError, InputError, check_positive
from syllablelm.core.files import atomic_path, clear_folder, json_objects, write_text
from syllablelm.core.results import Record, json_key, read_json
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.corpus import SkippedFile, in_utf8, no_usable, read_manifest, write_errors
from syllablelm.data.manifest import Draft, FileState, Manifest, Recording, file_state, read_drafts
from syllablelm.formats import open_writer, read_segmentations

KIND = "units"
PLAN, SHARDS, LEDGER, CLAIMS = "plan", "shards", "ledger", "claims"
# Of a corpus with acoustic units: the folder of their shards, and the key of their tokenizer among the parents.
ACOUSTIC = "acoustic"
DESCRIPTION, MANIFEST, SKIPPED = "corpus.json", "manifest.jsonl", "skipped.jsonl"


@dataclass(frozen=True)
class Shard:
    """Neighbouring recordings of a manifest: those from `first` up to but not including `last`."""

    index: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """Name of its files without suffix: "000003"."""
        return f"{self.index:06d}"

    def __len__(self) -> int:
        return self.last - self.first


def plan_shards(seconds: Sequence[float], shard_seconds: float) -> list[Shard]:
    """Divide a corpus into shards: neighbours of at most `shard_seconds` together; a longer recording alone.

    `seconds` are the lengths of the recordings in the manifest's order.
    """
    check_positive("shard_seconds", shard_seconds)
    starts: list[int] = []
    held = 0.0
    for index, length in enumerate(seconds):
        if not starts or held + length > shard_seconds:
            starts.append(index)
            held = 0.0
        held += length
    return [Shard(k, a, b) for k, (a, b) in enumerate(zip(starts, [*starts[1:], len(seconds)], strict=False))]


@dataclass(frozen=True)
class FailedRecording(Record):
    """A recording that could not be encoded, and the reason."""

    id: str
    path: Path
    reason: str


@dataclass(frozen=True)
class ShardEntry(Record):
    """The ledger of a finished shard: counts and total length of what was encoded, of `recordings` of the plan.

    `digest` is that of the shard's file (`acoustic`: of that of its acoustic units), `failed` are the other recordings.
    `audio` says of which audio the units are: by id the first sample, the number of samples, and the file's size, time
    of modification and digest.
    """

    recordings: int
    done: int
    seconds: float
    segments: int
    digest: str
    failed: tuple[FailedRecording, ...]
    audio: Mapping[str, tuple[int, int, int, int, str]] = field(default_factory=dict)
    acoustic: str | None = json_key(omit_none=True)

    def files(self) -> dict[str, str]:
        """Return the digests of the shard's files by their folder."""
        return {SHARDS: self.digest} | ({} if self.acoustic is None else {ACOUSTIC: self.acoustic})


@dataclass(frozen=True)
class CorpusSummary(Record):
    """Counts over the shards of a corpus that exist.

    `recordings`, `seconds` and `segments` are of what was encoded; `failed` recordings could not be, and `skipped` rows
    of the manifest could not be opened when the plan was made.
    """

    shards: int
    shards_planned: int
    recordings: int
    seconds: float
    segments: int
    failed: int
    skipped: int


@dataclass(frozen=True)
class Corpus:
    """An encoded corpus on disk, finished or not.

    `manifest` holds every recording of the plan; `config` the settings that the units depend on besides model and
    manifest (rule, precision, shard_seconds); `parents` the digests of the model and of the manifest's rows.
    """

    path: Path
    manifest: Manifest
    config: Mapping[str, Any]
    parents: Mapping[str, str]

    @cached_property
    def shards(self) -> list[Shard]:
        """The shards of the plan: a function of the manifest's lengths and `shard_seconds` alone."""
        return plan_shards([recording.seconds for recording in self.manifest], self.config["shard_seconds"])

    def recordings(self, shard: Shard) -> Manifest:
        """Return the recordings of a shard."""
        return self.manifest[shard.first : shard.last]

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders of shards: "shards", and "acoustic" where acoustic units were asked for too."""
        return (SHARDS, ACOUSTIC) if ACOUSTIC in self.parents else (SHARDS,)

    def shard_file(self, shard: Shard, folder: str = SHARDS) -> Path:
        """Return the file of a shard's units, which appears complete or not at all."""
        return self.path / folder / f"{shard.name}.parquet"

    def ledger_file(self, shard: Shard) -> Path:
        """Return the file of a shard's ledger."""
        return self.path / LEDGER / f"{shard.name}.json"

    def is_done(self, shard: Shard) -> bool:
        """Return whether the shard exists."""
        return all(self.shard_file(shard, folder).exists() for folder in self.folders)

    def missing(self) -> list[Shard]:
        """Return the shards that do not exist yet."""
        folders = [self.path / folder for folder in self.folders]
        there = set.intersection(*(set(os.listdir(folder)) if folder.is_dir() else set() for folder in folders))
        return [shard for shard in self.shards if f"{shard.name}.parquet" not in there]

    @property
    def is_finished(self) -> bool:
        """Whether every shard exists and is entered in `artifact.json`."""
        return (self.path / RECORD).exists() and not self.missing()

    def skipped(self) -> list[SkippedFile]:
        """Return the rows of the manifest whose file could not be opened when the plan was made."""
        return [SkippedFile.from_dict(row, place) for place, row in json_objects(self.path / PLAN / SKIPPED)]

    def entry(self, shard: Shard) -> ShardEntry:
        """Return the ledger of a finished shard; FormatError if it is missing or damaged."""
        path = self.ledger_file(shard)
        try:
            return ShardEntry.from_dict(read_json(path), str(path))
        except FormatError:
            raise FormatError(f"{path}: missing or damaged; run the same encode command again") from None

    def faults(self) -> dict[Shard, str]:
        """Return the shards that must be encoded again, and why (see `fault`)."""
        missing = set(self.missing())
        done = [shard for shard in self.shards if shard not in missing]
        with ThreadPoolExecutor() as pool:
            return {shard: fault for shard, fault in zip(done, pool.map(self.fault, done), strict=True) if fault}

    def fault(self, shard: Shard) -> str:
        """Return why a finished shard is not what encoding it again would give; "" if nothing speaks against it.

        The shard is read, which is small; of the audio only files whose size or time of modification is not that of the
        ledger are, so that touched or copied files cost time once. A file that is gone was not replaced.
        """
        try:
            entry = self.entry(shard)
            made = {folder: digest_path(self.shard_file(shard, folder)) for folder in self.folders}
            if made != entry.files():
                return "damaged: its bytes are not those that were written"
        except FormatError as error:
            return str(error)
        if not entry.audio:
            return ""  # an earlier version's
        audio = dict(entry.audio)
        for recording in self.recordings(shard):
            start, count, size, modified, digest = audio.get(recording.id, (-1, 0, 0, 0, ""))
            if (start, count) != (recording.start, recording.num_samples):
                return f"recording {recording.id!r} has another length"
            with suppress(FormatError):
                state = file_state(recording.path, FileState(size, modified, digest))
                if state.digest != digest:
                    return f"{recording.path} was replaced"
                audio[recording.id] = (start, count, state.size, state.modified, state.digest)
        if audio != entry.audio:
            self.write_entry(shard, replace(entry, audio=audio))
        return ""

    def write_entry(self, shard: Shard, entry: ShardEntry) -> None:
        """Write the ledger of a shard."""
        write_text(self.ledger_file(shard), json.dumps(entry.to_dict(), ensure_ascii=False, indent=1) + "\n")

    def summary(self) -> CorpusSummary:
        """Return counts over the shards that exist."""
        missing = set(self.missing())
        # Without the audio, of which there may be millions.
        entries = [replace(self.entry(shard), audio={}) for shard in self.shards if shard not in missing]
        return CorpusSummary(
            shards=len(entries),
            shards_planned=len(self.shards),
            recordings=sum(entry.done for entry in entries),
            seconds=sum(entry.seconds for entry in entries),
            segments=sum(entry.segments for entry in entries),
            failed=sum(len(entry.failed) for entry in entries),
            skipped=len(self.skipped()),
        )

    def finish(self) -> None:
        """Remove what killed processes left, and write `artifact.json`, the mark of a complete corpus."""
        for folder in ("", *self.folders, LEDGER):
            clear_folder(self.path / folder)
        shutil.rmtree(self.path / CLAIMS, ignore_errors=True)
        # Anew where there is one: a shard may have been removed by hand to be encoded again.
        digests = ((shard, self.entry(shard).files().items()) for shard in self.shards)
        files = {f"{folder}/{shard.name}.parquet": digest for shard, made in digests for folder, digest in made}
        metrics = self.summary().to_dict()
        record = artifact_record(KIND, self.config, 0, self.parents, files, metrics) | {"config": dict(self.config)}
        write_text(self.path / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")


def begin_corpus(
    manifest: str | Path, path: str | Path, *, config: Mapping[str, Any], parents: Mapping[str, str]
) -> Corpus:
    """Begin a corpus, or open one that was begun with the same manifest, model and settings (otherwise InputError).

    The first process makes the plan: it appears by renaming a folder, which fails where one exists. Later ones change
    only the lengths in it, where files were replaced by longer or shorter ones, and the paths of a corpus that moved.

    Args:
        manifest: a .jsonl or .csv manifest; headers are read only of files whose length it does not give.
        path: folder of the corpus; new, empty, or begun before.
        config, parents: see `Corpus`; the digest of the manifest's rows is added.
    """
    path, manifest = Path(path), Path(manifest)
    parents = {**parents, "manifest": rows_digest(manifest)}
    begun = (path / PLAN).exists()
    if not begun:
        _check_free(path)
        recordings, skipped = read_manifest(manifest)
        recordings = in_utf8(recordings, skipped)
        if not recordings:
            raise no_usable(skipped)
        try:
            with atomic_path(path / PLAN) as folder:
                folder.mkdir()
                recordings.save(folder / MANIFEST)
                write_errors(skipped, folder / SKIPPED)
                description = {
                    "kind": KIND,
                    "format": FORMAT_VERSION,
                    "config": dict(config),
                    "parents": parents,
                    "source": os.path.abspath(manifest),
                }
                text = json.dumps(description, indent=2, sort_keys=True) + "\n"
                (folder / DESCRIPTION).write_text(text, encoding="utf-8")
        except OSError:
            # Another process that started at the same moment was faster: its plan counts.
            if not (path / PLAN / DESCRIPTION).exists():
                raise
    corpus = open_corpus(path)
    _check_same({**corpus.config, **corpus.parents}, {**json.loads(json.dumps(dict(config))), **parents}, path)
    return _measured_again(corpus, manifest) if begun else corpus


def rows_digest(manifest: Path) -> str:
    """Return the digest of what a manifest, with the files that belong to it, says about audio: not of its texts."""

    def row(draft: Draft) -> list[Any]:
        path = os.path.relpath(draft.path, manifest.parent)
        return [draft.id, path, draft.start, draft.num_samples, draft.sample_rate, draft.offset_seconds, draft.seconds]

    return digest_json([row(draft) for draft in read_drafts(manifest)])


def _measured_again(corpus: Corpus, manifest: Path) -> Corpus:
    """Return a corpus whose plan has the lengths and paths that the manifest gives now.

    Recordings that cannot be opened stay as they were planned: they fail when they are encoded.
    """
    now = {recording.id: recording for recording in read_manifest(manifest)[0]}
    planned = [now.get(recording.id, recording) for recording in corpus.manifest]
    recordings = Manifest(replace(recording, path=os.path.abspath(recording.path)) for recording in planned)
    if recordings == corpus.manifest:
        return corpus
    (corpus.path / RECORD).unlink(missing_ok=True)
    recordings.save(corpus.path / PLAN / MANIFEST)
    return replace(corpus, manifest=recordings)


def _check_free(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; give the name of a folder")
    # The plan that another process is writing, or that a killed one left, is not foreign. Nor is anything once there
    # is a plan: another process may have made it, and begun its work, since the caller looked.
    foreign = path.is_dir() and any(not item.name.startswith(f".{PLAN}.") for item in path.iterdir())
    if foreign and not (path / PLAN).exists():
        raise InputError(f"{path}: is not empty and holds no corpus begun by encode; choose another folder")


def _check_same(there: Mapping[str, Any], asked: Mapping[str, Any], path: Path) -> None:
    there, asked = _flat(there), _flat(asked)
    for key in dict.fromkeys([*asked, *there]):
        if there.get(key) != asked.get(key):
            raise InputError(
                f"{path}: was begun with {key} {there.get(key)}, not {asked.get(key)}; "
                "encode with what it was begun with, or choose another folder"
            )


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return flat


def open_corpus(path: str | Path) -> Corpus:
    """Open the folder of a corpus, finished or not; FormatError if it is none."""
    path = Path(path)
    file = path / PLAN / DESCRIPTION
    if not file.is_file():
        raise FormatError(f"{path}: not an encoded corpus (no {PLAN}/{DESCRIPTION}); make one with encode")
    table = read_json(file)
    try:
        kind, version, config, parents = table["kind"], table["format"], dict(table["config"]), dict(table["parents"])
        float(config["shard_seconds"])
        newer = version > FORMAT_VERSION
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{file}: damaged ({error})") from None
    if kind != KIND or newer:
        raise FormatError(f"{file}: a corpus of kind {kind!r}, format {version}, which this version cannot read")
    return Corpus(path, Manifest.load(path / PLAN / MANIFEST), config, parents)


def enter_shard(
    corpus: Corpus,
    shard: Shard,
    segmentations: Mapping[int, Segmentation],
    failed: Mapping[int, str],
    audio: Mapping[int, FileState] | None = None,
    acoustic: Mapping[int, Segmentation] | None = None,
) -> None:
    """Write a finished shard, its ledger first; the bytes do not depend on when, where or in what order it was encoded.

    Args:
        corpus, shard: the corpus, and one of its shards.
        segmentations: units of its recordings, by their place in the shard.
        failed: the reason for every other place.
        audio: the files that were encoded, by place.
        acoustic: acoustic units of the same recordings, of a corpus that has them.
    """
    recordings, file = corpus.recordings(shard), corpus.shard_file(shard)
    try:
        with ExitStack() as parts:
            digests = [
                _write_units(
                    parts.enter_context(atomic_path(corpus.shard_file(shard, folder))), recordings, units, model
                )
                for folder, units, model in (
                    (ACOUSTIC, acoustic, corpus.parents.get(ACOUSTIC, "")),
                    (SHARDS, segmentations, corpus.parents.get("model", "")),
                )
                if units is not None
            ]
            entry = ShardEntry(
                recordings=len(shard),
                done=len(segmentations),
                seconds=math.fsum(recordings[place].seconds for place in segmentations),
                segments=sum(len(segmentation) for segmentation in segmentations.values()),
                digest=digests[-1],
                acoustic=None if acoustic is None else digests[0],
                failed=tuple(
                    FailedRecording(recordings[place].id, recordings[place].path, reason)
                    for place, reason in sorted(failed.items())
                ),
                audio={
                    (one := recordings[place]).id: (one.start, one.num_samples, size, modified, digest)
                    for place, (size, modified, digest) in sorted((audio or {}).items())
                },
            )
            corpus.write_entry(shard, entry)
    except FileNotFoundError:
        # Another process that worked on the same shard was faster, finished the corpus and cleaned up.
        if not corpus.is_done(shard):
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(file)) from error


def _write_units(part: Path, recordings: Manifest, units: Mapping[int, Segmentation], tokenizer: str) -> str:
    """Write the units of a shard, and return the digest of the file."""
    with open_writer(part, "parquet", tokenizer=tokenizer) as writer:
        for place, segmentation in sorted(units.items()):
            writer.write(recordings[place].id, recordings[place].path, segmentation)
    # On some file systems a crash of the machine leaves a renamed file empty that was not flushed before.
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    return digest_bytes(part.read_bytes())


def read_units(path: str | Path, *, unfinished: bool = False) -> Iterator[tuple[Recording, Segmentation]]:
    """Yield the recordings of an encoded corpus with their units, in the manifest's order, without the failed ones.

    Missing shards are a FormatError, or passed over if `unfinished`.
    """
    corpus = open_corpus(path)
    missing = set(corpus.missing())
    if missing and not unfinished:
        raise FormatError(
            f"{path}: {len(missing)} of {len(corpus.shards)} shards are missing; "
            "run the same encode command again to finish it"
        )
    found = ((shard, read_segmentations(corpus.shard_file(shard))) for shard in corpus.shards if shard not in missing)
    return ((one, units[one.id]) for shard, units in found for one in corpus.recordings(shard) if one.id in units)
