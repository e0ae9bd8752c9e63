"""The work of a corpus on a Ray cluster: one process per GPU, or per node, that share the folder by its claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from syllablelm.core.errors import SyllableLMError, import_optional


def run_on_cluster(encode: Callable[..., Any], arguments: Mapping[str, Any], *, use_gpus: bool) -> None:
    """Run a function on every node of the cluster that `RAY_ADDRESS` names, or else on this host.

    With `use_gpus`, one process runs per GPU, where the cluster has any. Paths among the arguments must be absolute and
    the same on every node. Returns when one process ends well, since that means all shards exist. A process that dies
    costs only the time of its shards: the others take them over. If every one fails, the first one's error is raised.
    """
    ray = import_optional("ray", "--engine ray needs Ray", "'syllablelm[ray]'")
    begun_here = not ray.is_initialized()
    if begun_here:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0)) if use_gpus else 0
        count = gpus or sum(1 for node in ray.nodes() if node["Alive"])
        task = ray.remote(num_gpus=1 if gpus else 0, num_cpus=1, scheduling_strategy="SPREAD")(_run)
        waiting = [task.remote(encode, dict(arguments)) for _ in range(count)]
        failures: list[str] = []
        while waiting:
            done, waiting = ray.wait(waiting)
            try:
                failure = ray.get(done[0])
            except ray.exceptions.RayError as error:
                failure = str(error)
            if failure is None:
                return
            failures.append(failure)
    finally:
        if begun_here:
            ray.shutdown()
    raise SyllableLMError(failures[0])


def _run(encode: Callable[..., Any], arguments: dict[str, Any]) -> str | None:
    """Return the text of a user's error, which Ray would wrap in a traceback."""
    try:
        encode(**arguments)
    except SyllableLMError as error:
        return str(error)
    return None
