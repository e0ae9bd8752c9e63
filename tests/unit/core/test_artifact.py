"""Artifacts: whole or not there, recognised by what they are a function of, refused when they are another's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from syllablelm.core.artifact import (
    FORMAT_VERSION,
    Artifact,
    code_commit,
    current_digest,
    digest_files,
    digest_json,
    digest_path,
    find_finished,
    fingerprint,
    new_artifact,
    open_artifact,
)
from syllablelm.core.config import read_toml
from syllablelm.core.errors import FormatError, InputError


@dataclass(frozen=True)
class Config:
    rate: float = 6.25
    layers: tuple[int, ...] = (1, 2)


def make(path: Path, *, content: str = "payload", config: Config | None = None, seed: int = 0) -> Artifact:
    metrics: dict[str, float] = {}
    with new_artifact(
        path, "codebook", config=config or Config(), seed=seed, parents={"encoder": "abc"}, metrics=metrics
    ) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "data.txt").write_text(content, encoding="utf-8")
        metrics["f1"] = 0.5
    return open_artifact(path)


def test_record_says_where_it_came_from(tmp_path: Path) -> None:
    artifact = make(tmp_path / "made" / "codebook")
    assert artifact.kind == "codebook"
    assert artifact.metrics == {"f1": 0.5}
    assert artifact.record["parents"] == {"encoder": "abc"}
    assert artifact.record["seed"] == 0
    assert artifact.record["commit"]
    assert read_toml(artifact.file("config.toml")) == {"rate": 6.25, "layers": [1, 2]}
    assert artifact.file("sub/data.txt").read_text(encoding="utf-8") == "payload"
    with pytest.raises(FormatError, match=r"has no weights\.bin"):
        artifact.file("weights.bin")


def test_digest_is_of_the_payload_fingerprint_of_the_inputs(tmp_path: Path) -> None:
    first, same = make(tmp_path / "a"), make(tmp_path / "b")
    assert (first.digest, first.fingerprint) == (same.digest, same.fingerprint)
    other = make(tmp_path / "c", content="other")
    assert other.digest != first.digest
    assert other.fingerprint == first.fingerprint
    assert make(tmp_path / "d", seed=1).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        ("encoder", Config(), 0, {"encoder": "abc"}),
        ("codebook", Config(rate=5.0), 0, {"encoder": "abc"}),
        ("codebook", Config(), 1, {"encoder": "abc"}),
        ("codebook", Config(), 0, {"encoder": "abd"}),
        ("codebook", Config(), 0, {}),
    ],
)
def test_fingerprint_depends_on_every_input(changed: tuple) -> None:
    assert fingerprint(*changed) != fingerprint("codebook", Config(), 0, {"encoder": "abc"})


def test_digest_json_ignores_key_order() -> None:
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1}) != digest_json({"a": 1, "b": [3]})


def test_files_are_digested_by_name_and_content(tmp_path: Path) -> None:
    artifact = make(tmp_path / "a")
    before = digest_files(artifact.path)
    assert set(before) == {"config.toml", "sub/data.txt"}
    assert before == artifact.record["files"]
    artifact.file("sub/data.txt").write_text("tampered", encoding="utf-8")
    assert digest_files(artifact.path) != before


def test_digest_looks_past_the_log_and_the_order_of_a_safetensors_header(tmp_path: Path) -> None:
    def save(folder: Path, header: dict, data: bytes, log: str) -> dict[str, str]:
        folder.mkdir()
        encoded = json.dumps(header).encode()
        (folder / "w.safetensors").write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
        (folder / "log.jsonl").write_text(log, encoding="utf-8")
        return digest_files(folder)

    tensor = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}
    first = save(tmp_path / "a", {"__metadata__": {"a": "1", "b": "2"}, "x": tensor}, b"12", "fast")
    assert set(first) == {"w.safetensors"}
    assert first == save(tmp_path / "b", {"x": tensor, "__metadata__": {"b": "2", "a": "1"}}, b"12", "slow")
    assert first != save(tmp_path / "c", {"__metadata__": {"a": "1", "b": "2"}, "x": tensor}, b"13", "fast")
    assert first != save(tmp_path / "d", {"__metadata__": {"a": "1", "b": "3"}, "x": tensor}, b"12", "fast")


def test_nothing_is_left_after_a_failure(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="half way"),
        new_artifact(tmp_path / "a", "codebook", config={}, seed=0, parents={}, metrics={}) as folder,
    ):
        (folder / "data").write_text("half", encoding="utf-8")
        raise RuntimeError("half way")
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    first = make(tmp_path / "a")
    with pytest.raises(InputError, match="/a exists; choose another --out or remove it"):
        make(tmp_path / "a", content="other")
    assert open_artifact(tmp_path / "a").digest == first.digest
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_error_of_the_payload_is_not_that_of_the_name(tmp_path: Path) -> None:
    make(tmp_path / "a")
    with (
        pytest.raises(FileNotFoundError, match="missing"),
        new_artifact(tmp_path / "a", "codebook", config={}, seed=0, parents={}, metrics={}) as folder,
    ):
        (folder / "missing" / "file").write_text("x")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_that_of_the_packages_own_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        options = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *options, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    package = tmp_path / ".venv" / "package"
    package.mkdir(parents=True)
    (package / "artifact.py").write_text("x = 1\n")
    monkeypatch.setattr("syllablelm.core.artifact.__file__", str(package / "artifact.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_commit() == "unknown"
    git("init", "--quiet")
    (tmp_path / "theirs.py").write_text("y = 1\n")
    git("add", "theirs.py")
    git("commit", "--quiet", "--message", "theirs")
    assert code_commit() == "unknown"
    git("add", ".venv")
    git("commit", "--quiet", "--message", "ours")
    head = git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "theirs.py").write_text("y = 2\n")
    assert code_commit() == head
    (package / "artifact.py").write_text("x = 2\n")
    assert code_commit() == head + "+"


def test_finished_stage_is_found(tmp_path: Path) -> None:
    inputs = ("codebook", Config(), 0, {"encoder": "abc"})
    assert find_finished(tmp_path / "a", *inputs) is None
    made = make(tmp_path / "a")
    found = find_finished(tmp_path / "a", *inputs)
    assert found is not None and found.digest == made.digest
    with pytest.raises(InputError, match="another recipe, seed or inputs; choose another --out"):
        find_finished(tmp_path / "a", "codebook", Config(), 1, {"encoder": "abc"})
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="is not an artifact"):
        find_finished(tmp_path / "other", *inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": FORMAT_VERSION + 1}, "newer than this package's"),
        ({"format": None}, "damaged"),
        ({"kind": "encoder"}, "a encoder artifact where a codebook artifact is needed"),
    ],
)
def test_open_refuses(tmp_path: Path, change: dict, message: str) -> None:
    artifact = make(tmp_path / "a")
    record = artifact.path / "artifact.json"
    record.write_text(json.dumps({**artifact.record, **change}), encoding="utf-8")
    with pytest.raises(FormatError, match=message):
        open_artifact(artifact.path, "codebook")


def test_open_names_what_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not an artifact folder"):
        open_artifact(tmp_path)
    (tmp_path / "artifact.json").write_text("{", encoding="utf-8")
    with pytest.raises(FormatError, match="not JSON"):
        open_artifact(tmp_path)
    (tmp_path / "artifact.json").write_text('{"kind": "codebook"}', encoding="utf-8")
    with pytest.raises(FormatError, match="damaged"):
        open_artifact(tmp_path)


def test_the_current_digest_is_that_of_the_files(tmp_path: Path, capsys) -> None:
    artifact = make(tmp_path / "a")
    (artifact.path / "notes.txt").write_text("a user's own file is no payload", encoding="utf-8")
    assert current_digest(artifact) == artifact.digest and capsys.readouterr().err == ""
    data = artifact.file("sub/data.txt").read_text(encoding="utf-8")
    artifact.file("sub/data.txt").write_text(data[::-1], encoding="utf-8")
    assert current_digest(artifact) not in ("", artifact.digest)
    assert capsys.readouterr().err.startswith(f"{artifact.path}/sub/data.txt: changed since the ")
    artifact.file("sub/data.txt").write_text(data, encoding="utf-8")
    assert current_digest(artifact) == artifact.digest
    artifact.file("sub/data.txt").unlink()
    with pytest.raises(FormatError, match=r"has no sub/data\.txt"):
        current_digest(artifact)


@pytest.mark.parametrize("data", [b"", b"1234", b"\xff" * 64, b"\x40" + bytes(7) + b"[" * 64])
def test_damaged_safetensors_are_digested_as_they_are(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(data)
    first = digest_path(tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(data + b"x")
    assert digest_path(tmp_path / "w.safetensors") != first
