"""The work of a corpus on a Ray cluster: one process per GPU, or per node, that share the folder by its claims."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from syllablelm.core.errors import SyllableLMError, import_optional
from syllablelm.core.progress import note

# Seconds between two looks at the nodes of a cluster, and until one must have joined that is of use.
_LOOK_SECONDS, _JOIN_SECONDS = 2.0, 600.0


def run_on_cluster(encode: Callable[..., Any], arguments: Mapping[str, Any], *, device: str = "auto") -> None:
    """Run a function on every node of the cluster that `RAY_ADDRESS` names, or else on this host.

    One process runs per GPU, with its part of the node's processors as threads; on a cluster without GPUs, or with
    `device` "cpu", one per node with all of its processors. The device is chosen where the process runs, so that the
    driver needs none. Nodes that join meanwhile take part, and a cluster that has none of use is given ten minutes to
    start one: "cuda" waits for a node with a GPU, "auto" takes what comes first.

    Paths among the arguments must be absolute and the same on every node. Returns when one process ends well, since
    that means all shards exist. A process that dies costs only the time of its shards: it is started again, or the
    others take them over. If every one fails, the first one's error is raised.
    """
    ray = import_optional("ray", "--engine ray needs Ray", "'syllablelm[ray]'")
    strategies = import_optional("ray.util.scheduling_strategies", "--engine ray needs Ray", "'syllablelm[ray]'")
    begun_here = not ray.is_initialized()
    if begun_here:
        ray.init(log_to_driver=False, include_dashboard=False)
    used: set[str] = set()
    waiting: list[Any] = []
    failures: list[str] = []
    try:
        wanted: Any = None
        latest = time.monotonic() + _JOIN_SECONDS
        while True:
            nodes = {node["NodeID"]: dict(node["Resources"]) for node in ray.nodes() if node["Alive"]}
            on_gpus = device != "cpu" and (device != "auto" or any(held.get("GPU") for held in nodes.values()))
            for name, held in nodes.items():
                gpus, cpus = int(held.get("GPU", 0)) if on_gpus else 0, int(held.get("CPU", 0))
                if name in used or not (gpus if on_gpus else cpus):
                    continue
                used.add(name)
                share = cpus // max(1, gpus)
                place = strategies.NodeAffinitySchedulingStrategy(name, soft=False)
                options = {"num_cpus": share, "num_gpus": min(gpus, 1), "scheduling_strategy": place}
                task = ray.remote(**options)(_run)
                waiting += [task.remote(encode, dict(arguments), share) for _ in range(max(1, gpus))]
            if waiting:
                done, waiting = ray.wait(waiting, timeout=_LOOK_SECONDS)
                for task in done:
                    try:
                        failure = ray.get(task)
                    except ray.exceptions.RayError as error:
                        failure = str(error)
                    if failure is None:
                        return
                    failures.append(failure)
            elif failures:
                raise SyllableLMError(failures[0])
            elif time.monotonic() > latest:
                need = "a GPU; start one, or use --device cpu" if on_gpus else "a processor; start one"
                raise SyllableLMError(f"Ray: no node joined the cluster within {_JOIN_SECONDS:.0f} s with {need}")
            else:
                if wanted is None:
                    note(f"Ray: waiting for a node with a {'GPU' if on_gpus else 'processor'}")
                    # A task that cannot run is what makes a cluster that scales start a node.
                    wanted = ray.remote(num_cpus=1, num_gpus=int(on_gpus))(_nothing).remote()
                time.sleep(_LOOK_SECONDS)
    finally:
        if begun_here:
            ray.shutdown()


def num_readers(cores: int) -> int:
    """Return the number of threads that decode audio beside an encoder."""
    return max(1, min(8, cores - 1))


def _run(encode: Callable[..., Any], arguments: dict[str, Any], cores: int) -> str | None:
    """Return the text of a user's error, which Ray would wrap in a traceback."""
    import torch

    # Ray gives a process the threads of its first task, or those of the environment the node was started in.
    torch.set_num_threads(max(1, cores))
    if arguments.get("workers") is None:
        arguments["workers"] = num_readers(cores)
    try:
        encode(**arguments)
    except SyllableLMError as error:
        return str(error)
    return None


def _nothing() -> None:
    pass
