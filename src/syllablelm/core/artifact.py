"""Artifacts: the folders that stages exchange, written under a temporary name and then renamed.

A folder holds ``artifact.json`` (kind, format version, code commit, seed, digests of its parents and of its files,
metrics), ``config.toml`` (resolved) and its payload. A finished stage is recognised by its fingerprint (kind, config,
seed, parents) and skipped.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from syllablelm.core.config import to_table, to_toml
from syllablelm.core.errors import FormatError, InputError, and_more
from syllablelm.core.files import atomic_path
from syllablelm.core.progress import note
from syllablelm.core.results import read_json

Built = TypeVar("Built")

FORMAT_VERSION = 1
RECORD = "artifact.json"
# Training log and record of a run: their times differ from run to run. The model card: people edit it. None of them is
# part of the payload's digest.
LOG, RUN, CARD = "log.jsonl", "run.json", "README.md"
# The entry of a copy's record that holds the record of its original.
COPIED = "copied_from"
# The parent of a tokenizer that took another one's codebook, and so has its units.
UNITS_OF = "units_of"


@dataclass(frozen=True)
class Artifact:
    """A finished stage's folder.

    Args:
        kind: kind of its contents ("encoder", "labels", "boundaries", "codebook", "tokenizer", ...).
        fingerprint: digest of kind, config, seed and parents, the inputs of the stage.
        digest: digest of the payload's bytes; of a copy that ``Tokenizer.save`` wrote, the original's, by which models
            know the tokenizer of their units.
        metrics, record: measurements of the stage, and all of ``artifact.json``.
    """

    path: Path
    kind: str
    fingerprint: str
    digest: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """Return the path of a payload file; FormatError if the artifact has none of this name."""
        path = self.path / name
        if not path.exists():
            raise FormatError(f"{self.path}: this {self.kind} artifact has no {name}")
        return path


def digest_bytes(data: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def digest_json(value: Any) -> str:
    """Return the digest of a JSON value, independent of key order."""
    return digest_bytes(json.dumps(value, sort_keys=True, default=str).encode())


def digest_files(folder: Path) -> dict[str, str]:
    """Return the digest of every payload file below a folder, by relative name; records, logs, cards are no payload."""
    names = {path: path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: _digest_file(path)
        for path, name in names.items()
        # Hidden files are no part of it: ._NAME and .DS_Store of Macs, .git.
        if name not in (RECORD, LOG, RUN, CARD) and "/." not in f"/{name}"
    }


def digest_path(path: str | Path) -> str:
    """Return the digest of a file's or a folder's contents; FormatError if there is no such path."""
    path = Path(path)
    if path.is_dir():
        return digest_json(digest_files(path))
    if not path.is_file():
        raise FormatError(f"{path}: no such file or folder")
    return _digest_file(path)


def _digest_file(path: Path) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        if path.suffix == ".safetensors":
            # The order of the header's entries differs from run to run.
            length = file.read(8)
            header = file.read(min(int.from_bytes(length, "little"), path.stat().st_size))
            try:
                hasher.update(json.dumps(json.loads(header), sort_keys=True).encode())
            except (ValueError, RecursionError):  # a damaged file is hashed as it is
                hasher.update(length + header)
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()[:16]


def code_commit() -> str:
    """Return the commit of the running source tree, with "+" if it has changes; "unknown" outside a repository."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        # The package may be installed inside a checkout of another project.
        git("ls-files", "--error-unmatch", "--", str(Path(__file__).resolve()))
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", str(root)) else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def fingerprint(kind: str, config: Any, seed: int, parents: Mapping[str, str]) -> str:
    """Return the digest of everything that a stage's result depends on."""
    return digest_json([FORMAT_VERSION, kind, to_table(config), seed, dict(parents)])


def open_artifact(path: str | Path, kind: str | None = None) -> Artifact:
    """Open an artifact folder; FormatError if it is none, of another kind, or of a newer format."""
    path = Path(path)
    if not (path / RECORD).is_file():
        raise FormatError(f"{path}: not an artifact folder (no {RECORD})")
    record = read_json(path / RECORD)
    try:
        identity = (record["kind"], record["fingerprint"], record["digest"])
        artifact = Artifact(path, *identity, record.get("metrics", {}), record)
        version = int(record["format"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path / RECORD}: damaged ({error})") from None
    if version > FORMAT_VERSION:
        raise FormatError(f"{path}: artifact format {version} is newer than this package's {FORMAT_VERSION}; upgrade")
    if kind is not None and artifact.kind != kind:
        raise FormatError(f"{path}: a {artifact.kind} artifact where a {kind} artifact is needed")
    return artifact


def current_digest(artifact: Artifact) -> str:
    """Return the digest of an artifact's payload as it is now; a file that was changed is named on standard error.

    The files are read; only a model from elsewhere, which is no artifact of this package, has the digest it was opened
    with. FormatError if a file is missing.
    """
    written = artifact.record.get("files")
    if not isinstance(written, Mapping):
        return artifact.digest
    files = {name: _digest_file(artifact.file(name)) for name in written}
    changed = [name for name, digest in files.items() if digest != written[name]]
    if not changed:
        return artifact.digest
    note(f"{artifact.path / changed[0]}: changed since the {artifact.kind} was made{and_more(len(changed))}")
    return digest_json(files)


def read_payload(artifact: Artifact, name: str, form: str, build: Callable[[dict[str, Any], str], Built]) -> Built:
    """Read a JSON file of an artifact and build the object that it describes; a FormatError names the path.

    Args:
        artifact, name: the opened artifact, and the file's name.
        form: expected value of the file's key "format".
        build: function of the parsed file and its path.
    """
    path = artifact.file(name)
    try:
        table = read_json(path)
        if table.get("format") == form:
            return build(table, str(path))
    except (FormatError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: a damaged {artifact.kind} ({str(error).removeprefix(f'{path}: ')})") from None
    raise FormatError(f"{path}: not a {artifact.kind} of this version of syllablelm ({form})")


def find_finished(path: str | Path, kind: str, config: Any, seed: int, parents: Mapping[str, str]) -> Artifact | None:
    """Return the artifact at ``path`` if it has this kind, config, seed and parents; None if the path is free.

    A folder with other contents is an InputError.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        artifact = open_artifact(path)
    except FormatError:
        raise InputError(f"{path} exists and is not an artifact; choose another --out or remove it") from None
    if artifact.fingerprint != fingerprint(kind, config, seed, parents):
        raise InputError(
            f"{path} holds a {artifact.kind} made with another recipe, seed or inputs; "
            "choose another --out or remove it"
        )
    return artifact


def artifact_record(
    kind: str, config: Any, seed: int, parents: Mapping[str, str], files: Mapping[str, str], metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the contents of ``artifact.json``; ``files`` are digests by name, the others as in ``new_artifact``."""
    return {
        "kind": kind,
        "format": FORMAT_VERSION,
        "fingerprint": fingerprint(kind, config, seed, parents),
        "digest": digest_json(files),
        "commit": code_commit(),
        "seed": seed,
        "parents": dict(parents),
        "files": dict(files),
        "metrics": dict(metrics),
    }


@contextmanager
def new_artifact(
    path: str | Path,
    kind: str,
    *,
    config: Any,
    seed: int,
    parents: Mapping[str, str],
    metrics: dict[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> Generator[Path, None, None]:
    """Write an artifact: yield a temporary folder for the payload, then complete and rename it.

    ``metrics`` may be filled inside the block. After an exception nothing is left behind; a ``path`` that exists at the
    end stays unchanged and is an InputError.
    """
    path = Path(path)
    try:
        with atomic_path(path) as temporary:
            temporary.mkdir()
            yield temporary
            (temporary / "config.toml").write_text(to_toml(to_table(config)), encoding="utf-8")
            files = digest_files(temporary)
            record = artifact_record(kind, config, seed, parents, files, metrics) | dict(extra or {})
            (temporary / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        if error.filename == str(path) and path.exists():
            raise InputError(f"{path} exists; choose another --out or remove it") from None
        raise


def units_digest(tokenizer: Artifact) -> str:
    """Return the digest that models of its units know a tokenizer by: its own, or that of whose codebook it took."""
    parents = tokenizer.record.get("parents")
    return str(parents.get(UNITS_OF, tokenizer.digest)) if isinstance(parents, Mapping) else tokenizer.digest


def check_tokenizer(what: str, made_for: str, given: str) -> None:
    """Refuse (FormatError) a model, named ``what``, of another tokenizer's units; an unknown digest is ""."""
    if made_for and given and made_for != given:
        raise FormatError(
            f"the {what} was trained on units of tokenizer {made_for}, not {given}; "
            "use the tokenizer it was trained with, or train a new one"
        )
