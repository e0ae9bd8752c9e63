"""What every training stage does around its work: skip if finished, keep a work folder, write the artifact."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from syllablelm.artifact import (
    LOG,
    Artifact,
    digest_files,
    digest_json,
    find_finished,
    new_artifact,
    open_artifact,
)
from syllablelm.corpus import Manifest


def manifest_digest(manifest: Manifest) -> str:
    """Identity of a corpus: ids, lengths and excerpts (not the paths, which differ between machines)."""
    return digest_json([[r.id, r.num_samples, r.sample_rate, r.start] for r in manifest])


def run_stage(
    kind: str,
    out: Path,
    *,
    config: Any,
    seed: int,
    parents: Mapping[str, str],
    work: Callable[[Path, Path, dict[str, Any]], None],
    extra: Mapping[str, Any] | None = None,
) -> Artifact:
    """Run one stage unless its artifact is there already.

    Args:
        kind, config, seed, parents: what the result is a function of.
        out: the artifact's folder.
        work: called with (payload folder, work folder for checkpoints, metrics to fill).

    Returns:
        the artifact, new or found.
    """
    out = Path(out)
    finished = find_finished(out, kind, config, seed, parents)
    if finished is not None:
        print(f"{kind}: {out} is finished, skipped", file=sys.stderr)
        return finished
    scratch = out.with_name(f".{out.name}.work")
    metrics: dict[str, Any] = {}
    with new_artifact(out, kind, config=config, seed=seed, parents=parents, metrics=metrics, extra=extra) as folder:
        work(folder, scratch, metrics)
        if (scratch / LOG).exists():
            shutil.copy(scratch / LOG, folder / LOG)
    shutil.rmtree(scratch, ignore_errors=True)
    return open_artifact(out, kind)


def external_encoder(name: str) -> Artifact:
    """Stand for an encoder that no stage of ours made: a hub id, or a folder that ``transformers`` opens.

    A folder is identified by its files, a hub id by its name.
    """
    folder = Path(name)
    identity = digest_json(digest_files(folder) if folder.is_dir() else name)
    return Artifact(folder, "encoder", identity, identity)
