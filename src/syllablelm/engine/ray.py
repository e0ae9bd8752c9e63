"""Encode a corpus on a Ray cluster: one process for each GPU, or for each node, that share the folder by its claims."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syllablelm.core.errors import MissingDependencyError, SyllableLMError
from syllablelm.engine.shards import Corpus, open_corpus


def encode_on_cluster(manifest: str, out: str, *, model: Mapping[str, Any], **settings: Any) -> Corpus:
    """Encode a corpus on the cluster that `RAY_ADDRESS` names, or else on this host.

    Every node must see manifest, audio, model and `out` under the same names. A process that dies costs its shards'
    time only: the others take them over.

    Args:
        manifest, out, model, settings: see `encode_by_name`.

    Raises:
        MissingDependencyError: Ray is not installed.
        SyllableLMError: what every process complained of.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise MissingDependencyError(
            f"--engine ray needs Ray ({error}); install it with: pip install 'syllablelm[ray]'"
        ) from error
    # The processes have working directories of their own.
    manifest, out = os.path.abspath(manifest), os.path.abspath(out)
    if Path(model["name"]).exists():
        model = {**model, "name": os.path.abspath(model["name"])}
    begun_here = not ray.is_initialized()
    if begun_here:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        resources = ray.cluster_resources()
        gpus = 0 if model["device"] == "cpu" else int(resources.get("GPU", 0))
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        task = ray.remote(num_gpus=1 if gpus else 0, num_cpus=1, scheduling_strategy="SPREAD")(_encode_shards)
        waiting = [task.remote(manifest, out, {"model": dict(model), **settings}) for _ in range(gpus or nodes)]
        complaints = []
        while waiting:
            done, waiting = ray.wait(waiting)
            try:
                complaint = ray.get(done[0])
            except ray.exceptions.RayError as error:
                complaint = str(error)
            if complaint is not None:
                complaints.append(complaint)
            elif waiting:
                # A process ends well only when every shard is there.
                break
    finally:
        if begun_here:
            ray.shutdown()
    if len(complaints) == (gpus or nodes):
        raise SyllableLMError(complaints[0])
    return open_corpus(out)


def _encode_shards(manifest: str, out: str, settings: dict[str, Any]) -> str | None:
    """Work of one process; a user's error comes back as its text, because Ray would wrap it in a traceback."""
    from syllablelm.engine.local import encode_by_name

    try:
        encode_by_name(manifest, out, **settings)
    except SyllableLMError as error:
        return str(error)
    return None
