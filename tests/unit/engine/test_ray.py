"""Processes of a cluster, with a stand-in for Ray that runs them in turn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from syllablelm.core.errors import InputError, MissingDependencyError, SyllableLMError
from syllablelm.engine.ray import run_on_cluster


class Cluster:
    """Two nodes, one of them gone, with a number of GPUs."""

    class exceptions:
        RayError = RuntimeError

    def __init__(self, gpus: int = 0, nodes: int = 2) -> None:
        self.gpus, self.alive, self.up, self.options = gpus, nodes, False, {}

    def is_initialized(self) -> bool:
        return self.up

    def init(self, **_: Any) -> None:
        self.up = True

    def shutdown(self) -> None:
        self.up = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0, "GPU": float(self.gpus)}

    def nodes(self) -> list[dict[str, bool]]:
        return [{"Alive": number < self.alive} for number in range(self.alive + 1)]

    def remote(self, **options: Any) -> Callable[..., Any]:
        self.options = options

        def wrap(function: Callable[..., Any]) -> Any:
            return type("Task", (), {"remote": staticmethod(lambda *given: lambda: function(*given))})

        return wrap

    def wait(self, tasks: list[Any]) -> tuple[list[Any], list[Any]]:
        return tasks[:1], tasks[1:]

    def get(self, task: Callable[[], Any]) -> Any:
        return task()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setitem(sys.modules, "ray", made)
    return made


@pytest.mark.parametrize(("gpus", "use_gpus", "count"), [(0, True, 2), (3, True, 3), (3, False, 2)])
def test_a_process_per_gpu_or_node(cluster: Cluster, gpus: int, use_gpus: bool, count: int) -> None:
    cluster.gpus = gpus
    calls: list[str] = []

    def fail(corpus: str) -> None:
        calls.append(corpus)
        raise RuntimeError(f"died {len(calls)}")

    with pytest.raises(SyllableLMError, match=r"^died 1$"):
        run_on_cluster(fail, {"corpus": "/c"}, use_gpus=use_gpus)
    assert calls == ["/c"] * count
    assert cluster.options["num_gpus"] == (1 if gpus and use_gpus else 0) and not cluster.up


def test_one_that_ends_well_is_enough(cluster: Cluster) -> None:
    calls: list[int] = []

    def encode(corpus: str) -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            raise InputError("this host lacks the corpus")

    cluster.up = True
    run_on_cluster(encode, {"corpus": "/c"}, use_gpus=False)
    assert calls == [0, 1] and cluster.up, "a cluster that others began stays up"


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'syllablelm\[ray\]'"):
        run_on_cluster(print, {}, use_gpus=False)
