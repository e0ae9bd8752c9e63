"""The meter's sums and the log on disk."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal

import pytest
import torch
from torch import nn

from syllablelm.core.errors import FormatError
from syllablelm.train.runlog import ELAPSED, Checkpoints, Meter, RunLog, read_log

RATIOS = {"accuracy": ("right", "all")}


def outputs(number: int) -> list[dict[str, torch.Tensor]]:
    rng = torch.Generator().manual_seed(0)
    return [
        {
            "loss": (torch.rand((), generator=rng) / 3).requires_grad_(),
            "right": torch.randint(0, 90, (), generator=rng),
            "all": torch.tensor(100.0, dtype=torch.bfloat16),
        }
        for _ in range(number)
    ]


def test_sums_are_those_of_python_numbers() -> None:
    """To the last bit: what the loop logs and keeps in its checkpoints does not depend on where it is summed."""
    given = outputs(300)
    for resumed in ({}, {"loss": 0.1, "right": 3.0, "all": 5.0, ".count": 1.0, ".audio": 2.5, ELAPSED: 1.0}):
        meter, slow = Meter(RATIOS, resumed), {k: v for k, v in resumed.items() if k != ELAPSED}
        for output in given:
            meter.add(output, 0.1)
            numbers = {key: float(value.detach()) for key, value in output.items()}
            for key, value in {**numbers, ".count": 1.0, ".audio": 0.1}.items():
                slow[key] = slow.get(key, 0.0) + value
        sums = meter.totals()
        assert sums.pop(ELAPSED) >= resumed.get(ELAPSED, 0.0)
        assert sums == slow and all(type(value) is float for value in sums.values())
        values = meter.read()
        assert values["loss"] == slow["loss"] / slow[".count"] and values["accuracy"] == slow["right"] / slow["all"]
        assert meter.totals().keys() == {ELAPSED}


def test_what_is_counted_is_not_changed_afterwards() -> None:
    meter, value = Meter({}, {}), torch.ones((), dtype=torch.float64)
    meter.add({"loss": value}, 1.0)
    value += 5
    meter.add({"loss": value}, 1.0)
    assert meter.totals()["loss"] == 7.0 and float(value) == 6.0


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', "\0\0\0", '{"step": 3, "loss": 0.25}'])
def test_a_torn_last_line_does_not_block(tmp_path, torn) -> None:
    lines = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)
    whole = [*lines, {"step": 3, "loss": 0.25}] if torn.endswith("}") else lines
    assert read_log(tmp_path) == whole
    log = RunLog(tmp_path, 3)
    log.write(4, {"loss": 0.125})
    log.close()
    assert read_log(tmp_path) == [*whole, {"step": 4, "loss": 0.125}]
    assert len(path.read_text().splitlines()) == len(whole) + 1


def test_a_damaged_line_elsewhere_is_named(tmp_path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(FormatError, match=r"log\.jsonl:2: not a line of a training log"):
        read_log(tmp_path)


def test_lines_after_the_checkpoint_go(tmp_path) -> None:
    assert read_log(tmp_path) == []
    log = RunLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step, {"loss": 0.5})
    log.close()
    RunLog(tmp_path, 2).close()
    assert read_log(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.5}]
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"log.jsonl"}


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
