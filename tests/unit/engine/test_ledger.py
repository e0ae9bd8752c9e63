from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import syllablelm.engine.ledger as ledger
from helpers.random_models import small_corpus
from syllablelm.core.segmentation import Segmentation
from syllablelm.engine.ledger import Claims, enter_shard
from syllablelm.engine.shards import begin_corpus


def claim_of(folder: Path, name: str, **owner: object) -> Path:
    """A claim as another process would leave it; of another host unless told otherwise."""
    (folder / "claims").mkdir(exist_ok=True)
    path = folder / "claims" / f"{name}.claim"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x", **owner}))
    return path


def gone_process() -> int:
    """The number of a process that is no more."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds by which the silence of owners is measured."""
    seconds = [0.0]
    monkeypatch.setattr(ledger, "_now", lambda: seconds[0])
    return seconds


class TestClaims:
    def test_one_owner(self, tmp_path):
        with Claims(tmp_path) as one, Claims(tmp_path) as other:
            assert one.take("000000") and not other.take("000000") and not one.take("000000")
            assert other.take("000001") and not one.take("000001")
            one.release("000000")
            assert other.take("000000")
        assert list((tmp_path / "claims").iterdir()) == []

    def test_released_on_error(self, tmp_path):
        with pytest.raises(KeyboardInterrupt), Claims(tmp_path) as claims:
            claims.take("000000")
            raise KeyboardInterrupt
        assert list((tmp_path / "claims").iterdir()) == []

    def test_process_of_this_host_that_is_gone(self, tmp_path):
        mine = os.uname().nodename
        claim_of(tmp_path, "000000", host=mine, pid=gone_process())
        claim_of(tmp_path, "000001", host=mine, pid=os.getppid())
        claim_of(tmp_path, "000002", host="elsewhere", pid=gone_process())
        with Claims(tmp_path) as claims:
            assert claims.take("000000")
            assert not claims.take("000001") and not claims.take("000002")

    @pytest.mark.parametrize("content", [None, "", "[]", '{"host": 3}'])
    def test_silent_owner(self, tmp_path, content, clock):
        path = claim_of(tmp_path, "000000")
        if content is not None:
            path.write_text(content)
        # Long ago, or by a clock that is ahead: only whether it changes matters.
        os.utime(path, (2e9, 2e9))
        with Claims(tmp_path, stale_seconds=60) as claims:
            assert not claims.take("000000")
            clock[0] += 61
            os.utime(path, (1e9, 1e9))
            assert not claims.take("000000")
            clock[0] += 59
            assert not claims.take("000000")
            clock[0] += 2
            assert claims.take("000000") and json.loads(path.read_text())["pid"] == os.getpid()

    def test_owner_that_lives_keeps_it(self, tmp_path, clock):
        # The owner beats by the real clock; by the other one's, each silence lasts longer than its patience.
        with Claims(tmp_path, stale_seconds=0.4) as owner, Claims(tmp_path, stale_seconds=60) as other:
            assert owner.take("000000")
            path = tmp_path / "claims" / "000000.claim"
            for _ in range(3):
                os.utime(path, (1e9, 1e9))
                assert not other.take("000000")
                clock[0] += 61
                deadline = time.monotonic() + 60
                while path.stat().st_mtime < 1.1e9:
                    assert time.monotonic() < deadline, "no beat came"
                    time.sleep(0.02)
                assert not other.take("000000")

    def test_a_claim_taken_over_is_left_alone(self, tmp_path):
        with Claims(tmp_path) as claims:
            assert claims.take("000000")
            path = claim_of(tmp_path, "000000", token="another")
            claims.release("000000")
            assert path.exists()

    def test_folder_that_is_gone(self, tmp_path):
        with Claims(tmp_path) as claims:
            (tmp_path / "claims").rmdir()
            assert not claims.take("000000")


@pytest.fixture
def corpus(tmp_path):
    manifest = small_corpus(tmp_path / "audio", [16_000] * 3)
    manifest.save(tmp_path / "m.jsonl")
    return begin_corpus(tmp_path / "m.jsonl", tmp_path / "out", config={"shard_seconds": 60.0}, parents={})


FOUND = {0: Segmentation.from_boundaries([0, 3, 5], unit=[4, 5]), 2: Segmentation.from_boundaries([0, 9], unit=[1])}
FAILED = {1: "is silent"}


class TestEnter:
    def test_ledger(self, corpus):
        enter_shard(corpus, corpus.shards[0], FOUND, FAILED)
        entry = corpus.entry(corpus.shards[0])
        assert (entry["recordings"], entry["done"], entry["segments"], entry["seconds"]) == (3, 2, 3, 2.0)
        assert entry["failed"] == [{"id": "r1", "path": str(corpus.manifest[1].path), "reason": "is silent"}]

    def test_bytes_do_not_depend_on_the_order(self, corpus):
        enter_shard(corpus, corpus.shards[0], FOUND, FAILED)
        file = corpus.shard_file(corpus.shards[0])
        first, digest = file.read_bytes(), corpus.entry(corpus.shards[0])["digest"]
        file.unlink()
        enter_shard(corpus, corpus.shards[0], dict(reversed(FOUND.items())), FAILED)
        assert file.read_bytes() == first and corpus.entry(corpus.shards[0])["digest"] == digest

    def test_full_disk(self, corpus, monkeypatch):
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            enter_shard(corpus, corpus.shards[0], FOUND, FAILED)
        assert caught.value.filename == str(corpus.shard_file(corpus.shards[0]))
        assert [f for f in corpus.path.rglob("*") if f.is_file() and "plan" not in f.parts] == []

    def test_another_was_faster_and_cleared_up(self, corpus, monkeypatch):
        enter_shard(corpus, corpus.shards[0], FOUND, FAILED)

        def cleared(source: object, target: object) -> None:
            raise FileNotFoundError(errno.ENOENT, "gone", str(source))

        monkeypatch.setattr(os, "replace", cleared)
        enter_shard(corpus, corpus.shards[0], FOUND, FAILED)
        corpus.shard_file(corpus.shards[0]).unlink()
        with pytest.raises(FileNotFoundError):
            enter_shard(corpus, corpus.shards[0], FOUND, FAILED)
