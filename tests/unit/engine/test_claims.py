from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from syllablelm.engine.claims import Claims


def claim_of(folder: Path, name: str, **owner: object) -> Path:
    """A claim as another process would leave it; of another host unless told otherwise."""
    (folder / "claims").mkdir(exist_ok=True)
    path = folder / "claims" / f"{name}.claim"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x", **owner}))
    return path


def age(path: Path, seconds: float) -> None:
    """Make a file look as if it was written some time ago."""
    os.utime(path, (time.time() - seconds,) * 2)


def gone_process() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_one_owner(tmp_path):
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert one.take("000000") and not other.take("000000") and not one.take("000000")
        assert other.take("000001") and not one.take("000001")
        one.release("000000")
        assert other.take("000000")
    assert list((tmp_path / "claims").iterdir()) == []


def test_released_on_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), Claims(tmp_path) as claims:
        claims.take("000000")
        raise KeyboardInterrupt
    assert list((tmp_path / "claims").iterdir()) == []


def test_process_of_this_host_that_is_gone(tmp_path):
    mine = os.uname().nodename
    claim_of(tmp_path, "000000", host=mine, pid=gone_process())
    claim_of(tmp_path, "000001", host=mine, pid=os.getppid())
    claim_of(tmp_path, "000002", host="elsewhere", pid=gone_process())
    with Claims(tmp_path) as claims:
        assert claims.take("000000")
        assert not claims.take("000001") and not claims.take("000002")


def test_process_that_has_ended_but_is_not_waited_for(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    claim_of(tmp_path, "000000", host=os.uname().nodename, pid=ended.pid)
    with Claims(tmp_path) as claims:
        assert not claims.take("000000")
        ended.kill()
        # Returns when the process has ended, and leaves its exit status to the parent.
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert claims.take("000000")
    ended.communicate()


def test_number_of_a_process_given_out_again(tmp_path):
    # A container that starts again often has the same host name and the same process number.
    with Claims(tmp_path) as mine, Claims(tmp_path) as claims:
        assert mine.take("000000") and not claims.take("000000")
        path = tmp_path / "claims" / "000000.claim"
        owner = json.loads(path.read_text())
        assert owner["pid"] == os.getpid()
        path.write_text(json.dumps({**owner, "started": "1"}))
        assert claims.take("000000")


@pytest.mark.parametrize("content", [None, "", "[]", '{"host": 3}'])
def test_a_claim_that_is_not_renewed_is_taken_over(tmp_path, content):
    path = claim_of(tmp_path, "000000")
    if content is not None:
        path.write_text(content)
    with Claims(tmp_path, timeout=60) as claims:
        for seconds in (-1000, 0, 50):
            age(path, seconds)
            assert not claims.take("000000")
        age(path, 70)
        assert claims.take("000000") and json.loads(path.read_text())["pid"] == os.getpid()
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_renewed_claim_is_kept(tmp_path):
    with Claims(tmp_path, timeout=60) as owner, Claims(tmp_path, timeout=60) as other:
        path = tmp_path / "claims" / "000000.claim"
        assert owner.take("000000")
        age(path, 70)
        owner.renew()
        assert not other.take("000000")
        age(path, 70)
        assert other.take("000000")
        owner.release("000000")
        assert path.exists()


def test_folder_that_is_gone(tmp_path):
    with Claims(tmp_path) as claims:
        (tmp_path / "claims").rmdir()
        assert not claims.take("000000")
        claims.renew()
        # A shard that is still missing is not waited for without end.
        assert claims.take("000000")
