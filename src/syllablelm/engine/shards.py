"""The folder of an encoded corpus: what is to be done, what is there, and the units read back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import (
    FORMAT_VERSION,
    RECORD,
    code_commit,
    digest_bytes,
    digest_json,
    fingerprint,
)
from syllablelm.core.errors import AudioError, FormatError, InputError
from syllablelm.core.files import atomic_path
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.corpus import SkippedFile, write_errors
from syllablelm.data.manifest import Manifest, Recording, read_drafts
from syllablelm.formats import read_segmentations

KIND = "units"
PLAN, SHARDS, LEDGER, CLAIMS = "plan", "shards", "ledger", "claims"
DESCRIPTION, MANIFEST, SKIPPED = "corpus.json", "manifest.jsonl", "skipped.jsonl"


@dataclass(frozen=True)
class Shard:
    """Neighbouring recordings of a manifest: those from `first` up to but not including `last`."""

    index: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """ "000003": of its files, without their suffixes."""
        return f"{self.index:06d}"

    def __len__(self) -> int:
        return self.last - self.first


def plan_shards(seconds: Sequence[float], shard_seconds: float) -> list[Shard]:
    """Cut a corpus into shards: neighbours of at most `shard_seconds` together; a longer recording is alone.

    Args:
        seconds: length of each recording, in the manifest's order.
        shard_seconds: most audio of a shard.

    Raises:
        InputError: `shard_seconds` is not above 0 and finite.
    """
    if not 0 < shard_seconds < float("inf"):
        raise InputError(f"shard_seconds {shard_seconds}: must be above 0 and finite")
    starts: list[int] = []
    held = 0.0
    for index, length in enumerate(seconds):
        if not starts or held + length > shard_seconds:
            starts.append(index)
            held = 0.0
        held += length
    return [Shard(k, a, b) for k, (a, b) in enumerate(zip(starts, [*starts[1:], len(seconds)], strict=False))]


@dataclass(frozen=True)
class Corpus:
    """An encoded corpus on disk, finished or not.

    Args:
        path: its folder.
        manifest: every recording that is to be encoded, in order.
        config: what the units depend on besides model and manifest: rule, precision, shard_seconds.
        parents: digests of the model and of the manifest's file.
    """

    path: Path
    manifest: Manifest
    config: Mapping[str, Any]
    parents: Mapping[str, str]

    @cached_property
    def shards(self) -> list[Shard]:
        """The plan: a function of the manifest's lengths and `shard_seconds` alone."""
        return plan_shards([recording.seconds for recording in self.manifest], self.config["shard_seconds"])

    def recordings(self, shard: Shard) -> Manifest:
        """The recordings of a shard."""
        return self.manifest[shard.first : shard.last]

    def shard_file(self, shard: Shard) -> Path:
        """Where a shard's units are, once they are all there."""
        return self.path / SHARDS / f"{shard.name}.parquet"

    def ledger_file(self, shard: Shard) -> Path:
        """Where a shard's ledger is."""
        return self.path / LEDGER / f"{shard.name}.json"

    def is_done(self, shard: Shard) -> bool:
        """Whether the shard is there; it is never there in part."""
        return self.shard_file(shard).exists()

    def missing(self) -> list[Shard]:
        """The shards that are not there yet."""
        folder = self.path / SHARDS
        there = {name for name in os.listdir(folder) if not name.startswith(".")} if folder.is_dir() else set()
        return [shard for shard in self.shards if f"{shard.name}.parquet" not in there]

    @property
    def is_finished(self) -> bool:
        """Whether every shard is there and entered in `artifact.json`."""
        return (self.path / RECORD).exists() and not self.missing()

    def skipped(self) -> list[SkippedFile]:
        """Rows of the manifest whose file could not be opened when the plan was made."""
        lines = (self.path / PLAN / SKIPPED).read_text(encoding="utf-8").splitlines()
        return [SkippedFile(Path(item["path"]), item["reason"]) for item in map(json.loads, lines)]

    def entry(self, shard: Shard) -> dict[str, Any]:
        """The ledger of a finished shard: recordings, done, segments, seconds, digest, failed (id, path, reason).

        Raises:
            FormatError: it is missing or damaged.
        """
        path = self.ledger_file(shard)
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            if {"recordings", "done", "segments", "seconds", "digest", "failed"} <= set(entry):
                return entry
        except (FileNotFoundError, ValueError, TypeError):
            pass
        raise FormatError(
            f"{path}: missing or damaged; remove {self.shard_file(shard)} and run the same encode command again"
        )

    def summary(self) -> dict[str, Any]:
        """Counts of what is there: shards, recordings, seconds, segments, failed, skipped."""
        missing = set(self.missing())
        entries = [self.entry(shard) for shard in self.shards if shard not in missing]
        return {
            "shards": len(entries),
            "shards_planned": len(self.shards),
            "recordings": sum(entry["done"] for entry in entries),
            "seconds": sum(entry["seconds"] for entry in entries),
            "segments": sum(entry["segments"] for entry in entries),
            "failed": sum(len(entry["failed"]) for entry in entries),
            "skipped": len(self.skipped()),
        }

    def finish(self) -> None:
        """Write `artifact.json`, the sign that every shard is there, and clear up after killed processes."""
        # A shard may have been removed by hand to be encoded anew, hence a new record even where there is one.
        files = {f"{SHARDS}/{self.shard_file(shard).name}": self.entry(shard)["digest"] for shard in self.shards}
        record = {
            "kind": KIND,
            "format": FORMAT_VERSION,
            "fingerprint": fingerprint(KIND, self.config, 0, self.parents),
            "digest": digest_json(files),
            "commit": code_commit(),
            "seed": 0,
            "config": dict(self.config),
            "parents": dict(self.parents),
            "files": files,
            "metrics": self.summary(),
        }
        with atomic_path(self.path / RECORD) as part:
            part.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for folder in (SHARDS, LEDGER):
            for leftover in (self.path / folder).glob(".*.tmp.*"):
                leftover.unlink(missing_ok=True)
        for leftover in self.path.glob(f".{PLAN}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        shutil.rmtree(self.path / CLAIMS, ignore_errors=True)


def begin_corpus(
    manifest: str | Path, path: str | Path, *, config: Mapping[str, Any], parents: Mapping[str, str]
) -> Corpus:
    """Start a corpus, or take up one that was begun with the same manifest, model and settings.

    The plan is made by whoever comes first and never changes: it appears by the renaming of a folder, which fails
    where one is already there.

    Args:
        manifest: a .jsonl or .csv manifest; headers are read only of files whose length it does not give.
        path: folder of the corpus; new, empty, or begun before.
        config: what the units depend on; see `Corpus`.
        parents: digests of what they are made by; that of the manifest is added.

    Raises:
        FormatError: the manifest cannot be read.
        InputError: it names no usable recording, or the folder holds something else or was begun otherwise.
    """
    path, manifest = Path(path), Path(manifest)
    try:
        parents = {**parents, "manifest": digest_bytes(manifest.read_bytes())}
    except OSError as error:
        raise FormatError(f"{manifest}: cannot be read ({error.strerror}); check the name") from None
    if not (path / PLAN).exists():
        _check_free(path)
        recordings, skipped = _read_manifest(manifest)
        plan_shards([], config["shard_seconds"])
        try:
            with atomic_path(path / PLAN) as folder:
                folder.mkdir()
                Manifest(recordings).save(folder / MANIFEST)
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
            # Another process that started at the same moment was faster; its plan holds.
            if not (path / PLAN / DESCRIPTION).exists():
                raise
    corpus = open_corpus(path)
    _check_same({**corpus.config, **corpus.parents}, {**json.loads(json.dumps(dict(config))), **parents}, path)
    return corpus


def _check_free(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; give the name of a folder")
    # What another process is just writing, or one that was killed left behind, is no foreign file. Nor is anything
    # once there is a plan: another process may have made it, and begun its work, since the caller looked.
    foreign = path.is_dir() and any(not item.name.startswith(f".{PLAN}.") for item in path.iterdir())
    if foreign and not (path / PLAN).exists():
        raise InputError(f"{path}: is not empty and holds no corpus begun by encode; choose another folder")


def _read_manifest(path: Path) -> tuple[list[Recording], list[SkippedFile]]:
    recordings: list[Recording] = []
    skipped: list[SkippedFile] = []
    for draft in read_drafts(path):
        try:
            recordings.append(draft.recording())
        except AudioError as error:
            skipped.append(SkippedFile(draft.path, str(error).removeprefix(f"{draft.path}: ")))
    if not recordings:
        reason = f"{skipped[0].path}: {skipped[0].reason}" if skipped else "the manifest is empty"
        raise InputError(f"{path}: no usable recording: {reason}")
    return recordings, skipped


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
    """Open the folder of a corpus, finished or not.

    Raises:
        FormatError: no such corpus, or a damaged one.
    """
    path = Path(path)
    file = path / PLAN / DESCRIPTION
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        kind, version, config, parents = table["kind"], table["format"], dict(table["config"]), dict(table["parents"])
        float(config["shard_seconds"])
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError(f"{path}: not an encoded corpus (no {PLAN}/{DESCRIPTION}); make one with encode") from None
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{file}: damaged ({error})") from None
    if kind != KIND or version > FORMAT_VERSION:
        raise FormatError(f"{file}: a corpus of kind {kind!r}, format {version}, which this version cannot read")
    return Corpus(path, Manifest.load(path / PLAN / MANIFEST), config, parents)


def read_units(path: str | Path, *, unfinished: bool = False) -> Iterator[tuple[Recording, Segmentation]]:
    """Read an encoded corpus: every recording with its units, in the manifest's order; failed ones are left out.

    Args:
        path: folder of the corpus.
        unfinished: read the shards that are there; otherwise all of them must be.

    Raises:
        FormatError: not a corpus, shards that are not there yet, or a damaged shard.
    """
    corpus = open_corpus(path)
    missing = set(corpus.missing())
    if missing and not unfinished:
        raise FormatError(
            f"{path}: {len(missing)} of {len(corpus.shards)} shards are not there yet; "
            "run the same encode command again to finish it"
        )
    return _units(corpus, missing)


def _units(corpus: Corpus, missing: set[Shard]) -> Iterator[tuple[Recording, Segmentation]]:
    for shard in corpus.shards:
        if shard in missing:
            continue
        found = read_segmentations(corpus.shard_file(shard))
        for recording in corpus.recordings(shard):
            if recording.id in found:
                yield recording, found[recording.id]
