"""The process that holds the page's model: answers, errors, and that stopping an action ends it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import demo_actions
from syllablelm.core.errors import FormatError, InputError, SyllableLMError
from syllablelm.demo.worker import Worker


@pytest.fixture(scope="module")
def worker(tokenizer_folder: Path) -> Iterator[Worker]:
    worker = Worker(str(tokenizer_folder), device="cpu")
    yield worker
    worker.close()


def run(worker: Worker, action: Any, *arguments: Any) -> tuple[Any, list[tuple[float, str]]]:
    """Return the action's result and its reports of progress."""
    steps: list[tuple[float, str]] = []

    def progress(share: float, step: str) -> None:
        steps.append((share, step))

    return asyncio.run(worker.run(action, *arguments, progress=progress)), steps


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_actions_run_in_one_other_process(worker: Worker) -> None:
    assert worker.speaks is False
    (first, units), steps = run(worker, demo_actions.name_process)
    assert (units, steps) == (12, [(0.25, "first"), (0.5, "second")])
    assert first != os.getpid()
    assert run(worker, demo_actions.name_process)[0][0] == first


def test_errors_reach_the_caller_and_the_process_goes_on(worker: Worker) -> None:
    (before, _), _ = run(worker, demo_actions.name_process)
    with pytest.raises(InputError, match=r"^cut it$"):
        run(worker, demo_actions.refuse, "cut it")
    with pytest.raises(ZeroDivisionError):
        run(worker, demo_actions.fail)
    assert run(worker, demo_actions.name_process)[0][0] == before


def test_stopped_work_ends_and_the_next_action_is_answered(worker: Worker) -> None:
    async def stop() -> int:
        begun, process = asyncio.Event(), 0

        def progress(share: float, step: str) -> None:
            nonlocal process
            # Only the process's id is a number: a model that is being loaded reports, too.
            if step.isdecimal():
                process = int(step)
                begun.set()

        work = asyncio.create_task(worker.run(demo_actions.never_end, progress=progress))
        await begun.wait()
        assert alive(process)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert not alive(process)
        return process

    stopped = asyncio.run(stop())
    (process, units), steps = run(worker, demo_actions.name_process)
    assert (units, steps[0]) == (12, (0.0, "Loading the model"))
    assert process != stopped
    # Once loaded, it stays.
    assert run(worker, demo_actions.name_process)[0][0] == process


def test_a_process_that_dies_is_replaced(worker: Worker) -> None:
    with pytest.raises(SyllableLMError, match="try a shorter recording"):
        run(worker, demo_actions.die)
    assert run(worker, demo_actions.name_process)[0][1] == 12


def test_a_model_that_cannot_be_opened_is_an_error() -> None:
    with pytest.raises(FormatError, match="nowhere"):
        Worker("./nowhere", device="cpu")


def test_closing_ends_running_work(tokenizer_folder: Path) -> None:
    worker = Worker(str(tokenizer_folder), device="cpu")
    processes: list[int] = []

    def progress(share: float, step: str) -> None:
        processes.append(int(step))
        threading.Thread(target=worker.close).start()

    with pytest.raises(SyllableLMError, match="process of the model ended"):
        asyncio.run(worker.run(demo_actions.never_end, progress=progress))
    assert not alive(processes[0])
    worker.close()
