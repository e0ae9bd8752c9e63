"""Processes of a cluster, with a stand-in for Ray that runs them in turn; and a real cluster of three nodes."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import syllablelm.engine.ray as engine_ray
from helpers.random_models import small_corpus
from syllablelm.core.errors import InputError, MissingDependencyError, SyllableLMError
from syllablelm.engine import encode_corpus
from syllablelm.engine.ray import run_on_cluster
from syllablelm.tokenizer.tokenizer import Tokenizer


class Cluster:
    """Nodes of which each is (processors, GPUs), one more that is gone, and what was asked of them."""

    class exceptions:
        RayError = RuntimeError

    def __init__(self) -> None:
        self.held: list[tuple[int, int]] = [(4, 0), (4, 0)]
        self.up, self.asked, self.looks = False, [], 0
        self.joining: list[tuple[int, int]] = []

    def is_initialized(self) -> bool:
        return self.up

    def init(self, **_: Any) -> None:
        self.up = True

    def shutdown(self) -> None:
        self.up = False

    def nodes(self) -> list[dict[str, Any]]:
        self.looks += 1
        if self.looks > 1 and self.joining:
            self.held.append(self.joining.pop(0))
        held = [
            {"NodeID": str(number), "Alive": True, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}}
            for number, (cpus, gpus) in enumerate(self.held)
        ]
        return [{"NodeID": "gone", "Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}, *held]

    def remote(self, **options: Any) -> Callable[..., Any]:
        def wrap(function: Callable[..., Any]) -> Any:
            def start(*given: Any) -> Callable[[], Any]:
                place = options.get("scheduling_strategy", (None,))[0]
                self.asked.append((place, options["num_cpus"], options["num_gpus"]))
                return lambda: function(*given)

            return SimpleNamespace(remote=start)

        return wrap

    def wait(self, tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return tasks[:1], tasks[1:]

    def get(self, task: Callable[[], Any]) -> Any:
        return task()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    made = Cluster()
    strategies: Any = ModuleType("strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: (node, soft)
    monkeypatch.setitem(sys.modules, "ray", made)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    monkeypatch.setattr(engine_ray, "_LOOK_SECONDS", 0.001)
    threads = torch.get_num_threads()
    yield made
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("held", "device", "asked"),
    [
        ([(4, 0), (8, 0)], "auto", [("0", 4, 0), ("1", 8, 0)]),
        # A GPU each, with its part of the processors; nodes without one would only slow them down.
        ([(8, 0), (9, 2), (4, 1)], "auto", [("1", 4, 1), ("1", 4, 1), ("2", 4, 1)]),
        ([(8, 0), (9, 2)], "cpu", [("0", 8, 0), ("1", 9, 0)]),
        ([(8, 0), (9, 2)], "cuda", [("1", 4, 1), ("1", 4, 1)]),
        # The head of a cluster may offer no processors.
        ([(0, 0), (2, 0)], "auto", [("1", 2, 0)]),
    ],
)
def test_a_process_per_gpu_or_node_with_its_processors(
    cluster: Cluster, held: list[tuple[int, int]], device: str, asked: list[tuple[str, int, int]]
) -> None:
    cluster.held = held
    calls: list[tuple[str, int, int]] = []

    def fail(corpus: str, workers: int) -> None:
        calls.append((corpus, workers, torch.get_num_threads()))
        raise RuntimeError(f"died {len(calls)}")

    with pytest.raises(SyllableLMError, match=r"^died 1$"):
        run_on_cluster(fail, {"corpus": "/c", "workers": None}, device=device)
    assert cluster.asked == asked and not cluster.up
    assert calls == [("/c", max(1, min(8, cpus - 1)), cpus) for _, cpus, _ in asked]


def test_one_that_ends_well_is_enough(cluster: Cluster) -> None:
    calls: list[int] = []

    def encode(corpus: str, workers: int) -> None:
        calls.append(workers)
        if len(calls) == 1:
            raise InputError("this host lacks the corpus")

    cluster.up = True
    run_on_cluster(encode, {"corpus": "/c", "workers": 3})
    assert calls == [3, 3] and cluster.up, "a cluster that others began stays up"


@pytest.mark.parametrize(("device", "gpus"), [("auto", 0), ("cuda", 1)])
def test_a_cluster_that_starts_empty(cluster: Cluster, device: str, gpus: int, capsys: Any) -> None:
    cluster.held = [(0, 0)]
    cluster.joining = [(4, 0), (6, 1)] if gpus else [(4, 0)]
    run_on_cluster(lambda workers: None, {}, device=device)
    # First a task for which no node is there, which makes the cluster start one.
    assert cluster.asked == [(None, 1, gpus), ("2", 6, 1) if gpus else ("1", 4, 0)]
    assert capsys.readouterr().err == f"Ray: waiting for a node with a {'GPU' if gpus else 'processor'}\n"


def test_nodes_that_join_take_part(cluster: Cluster) -> None:
    cluster.joining = [(2, 0)]

    def fail(workers: int) -> None:
        raise InputError("not here")

    with pytest.raises(SyllableLMError, match="not here"):
        run_on_cluster(fail, {})
    assert cluster.asked == [("0", 4, 0), ("1", 4, 0), ("2", 2, 0)]


def test_no_node_of_use_ever_joins(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_ray, "_JOIN_SECONDS", 0.01)
    with pytest.raises(SyllableLMError, match="no node joined the cluster within 0 s with a GPU; start one"):
        run_on_cluster(print, {}, device="cuda")
    assert not cluster.up


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'syllablelm\[ray\]'"):
        run_on_cluster(print, {})


# A real cluster


def slow_encode(log: str, **arguments: Any) -> None:
    """Encode slowly; every process says who it is and how many threads it has."""
    features = Tokenizer.features
    Tokenizer.features = lambda self, audio: (time.sleep(0.3), features(self, audio))[1]  # type: ignore[assignment]
    name = f"{os.getpid()}-{time.monotonic_ns()}.json"
    Path(log, name).write_text(json.dumps([os.environ["RAY_NODE_NAME"], os.getpid(), torch.get_num_threads()]))
    try:
        encode_corpus(**arguments)
    finally:
        Tokenizer.features = features


@pytest.mark.slow
def test_three_nodes_of_which_one_dies_and_one_loses_its_process(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Loopback

    small_corpus(tmp_path / "audio", [8_000 + 700 * k for k in range(24)]).save(tmp_path / "m.jsonl")
    options = {"device": "cpu", "batch_seconds": 1.0, "shard_seconds": 1.6}
    whole = encode_corpus(tmp_path / "m.jsonl", tmp_path / "whole", tokenizer_folder, **options)
    (tmp_path / "log").mkdir()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    # As a shell may have it, in which a node is started.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cluster = Loopback(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [
            cluster.add_node(num_cpus=count, env_vars={"RAY_NODE_NAME": f"n{count}"}, node_name=f"n{count}")
            for count in (1, 2, 3)
        ]
        cluster.connect()
        corpus = {"manifest": tmp_path / "m.jsonl", "out": tmp_path / "out", "model": tokenizer_folder}
        arguments = {**corpus, **options, "claim_timeout": 2.0, "workers": None, "log": str(tmp_path / "log")}
        errors: list[BaseException] = []

        def work() -> None:
            try:
                run_on_cluster(slow_encode, arguments, device="cpu")
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        found = _processes(tmp_path / "log", lambda held: len({name for name, *_ in held}) == 3)
        assert {name: threads for name, _, threads in found} == {"n1": 1, "n2": 2, "n3": 3}
        by_node = {name: pid for name, pid, _ in found}
        os.kill(by_node["n1"], signal.SIGKILL)
        cluster.remove_node(nodes[1], allow_graceful=False)
        thread.join(300)
        assert not thread.is_alive() and not errors
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert _shards(tmp_path / "out") == _shards(whole.path)
    assert (tmp_path / "out/artifact.json").read_bytes() == (whole.path / "artifact.json").read_bytes()


def _processes(log: Path, enough: Callable[[list[Any]], bool]) -> list[Any]:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        held = [json.loads(text) for file in sorted(log.iterdir()) if (text := file.read_text())]
        if enough(held):
            return held
        time.sleep(0.05)
    pytest.fail(f"not all nodes work: {held}")


def _shards(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((path / "shards").iterdir())}
