"""States on disk: killed saves leave the state before, and nothing of theirs after the next save."""

from __future__ import annotations

import multiprocessing
import os
import signal

import torch
from torch import nn

from syllablelm.train.runlog import Checkpoints


def save_until_killed(folder, module, optimizer) -> None:
    def die(state, path) -> None:
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = die
    Checkpoints(folder, "toy").save(2, module, optimizer)


def test_a_killed_save_leaves_the_state_before(tmp_path) -> None:
    folder = tmp_path / "work"
    module = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(module.parameters())
    checkpoints = Checkpoints(folder, "toy")
    checkpoints.save(1, module, optimizer, {"loss": 0.5})
    for _ in range(2):
        process = multiprocessing.get_context("fork").Process(
            target=save_until_killed, args=(folder, module, optimizer)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    # The second killed save had cleared up after the first.
    assert sorted(path.stat().st_size == 4 for path in folder.iterdir()) == [False, True]
    assert Checkpoints(folder, "toy").load(module, optimizer) == (1, {"loss": 0.5})
    checkpoints.save(3, module, optimizer)
    assert [path.name for path in folder.iterdir()] == ["state.pt"]
    assert checkpoints.load(module, optimizer) == (3, {})
