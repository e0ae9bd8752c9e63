"""The frame of every training stage: skip it if finished, keep a work folder, write the artifact.

Under ``torchrun`` every process calls the stages; the main one decides and writes, and all open the artifact.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import (
    LOG,
    Artifact,
    digest_json,
    digest_path,
    find_finished,
    fingerprint,
    new_artifact,
    open_artifact,
)
from syllablelm.core.errors import InputError
from syllablelm.core.files import lock_file, remove_leftovers, scratch_folder
from syllablelm.data.corpus import Manifest
from syllablelm.train.batches import WaveformStore
from syllablelm.train.loop import LoopConfig, Task, run_loop
from syllablelm.train.processes import is_main, join, on_main


@dataclass(frozen=True)
class StageRun:
    """Inputs of a stage's work.

    Args:
        folder: folder of the payload.
        scratch: folder of checkpoints, which outlives a stopped run.
        metrics: the artifact's metrics, filled by the work.
        seed: random seed.
        device: "auto", "cpu" or "cuda".
        fingerprint: hash of configuration and inputs; a checkpoint with another one is refused.
    """

    folder: Path
    scratch: Path
    metrics: dict[str, Any]
    seed: int
    device: str
    fingerprint: str

    def train(
        self, task: Task, loop: LoopConfig, label: str, *, prefix: str = "", **options: Any
    ) -> Mapping[str, float]:
        """Call ``run_loop`` with ``options``, and add its last numbers to the metrics, their names after ``prefix``."""
        options |= {"seed": self.seed, "fingerprint": self.fingerprint, "device": self.device, "label": label}
        last = run_loop(task, loop, self.scratch, **options)
        self.metrics.update({f"{prefix}{name}": value for name, value in last.items()})
        return last


@dataclass(frozen=True)
class StageContext:
    """What the stages of a recipe share.

    Args:
        store: recordings of the corpus.
        seed: random seed.
        device: "auto", "cpu" or "cuda".
    """

    store: WaveformStore
    seed: int = 0
    device: str = "auto"

    @property
    def manifest(self) -> Manifest:
        """The corpus."""
        return self.store.manifest

    def run(
        self,
        kind: str,
        out: Path,
        config: Any,
        parents: Mapping[str, str],
        work: Callable[[StageRun], None],
        **more: Any,
    ) -> Artifact:
        """Call ``run_stage`` with the corpus among the parents."""
        shared = {
            "seed": self.seed,
            "device": self.device,
            "parents": {"corpus": self.store.digest, **parents},
        }
        return run_stage(kind, out, config=config, work=work, **shared, **more)


def run_stage(
    kind: str,
    out: Path,
    *,
    config: Any,
    seed: int,
    parents: Mapping[str, str],
    work: Callable[[StageRun], None],
    extra: Mapping[str, Any] | None = None,
    device: str = "auto",
    alone: bool = False,
) -> Artifact:
    """Run one stage unless its artifact exists.

    Args:
        kind: kind of artifact.
        out: folder of the artifact.
        config, seed, parents: configuration and inputs, whose hash identifies the result.
        work: function that writes the payload.
        extra: further entries of the record.
        device: selects the backend of several processes.
        alone: only the main process works, as in data preparation; otherwise all do, as in training, and the payload of
            the others is dropped.

    Returns:
        the artifact.

    Raises:
        InputError: ``out`` holds something else, or another job is writing it.
        SyllableLMError: in the other processes, if the main one failed.
    """
    out = Path(out)
    join(device)
    scratch, identity = out.with_name(f".{out.name}.work"), fingerprint(kind, config, seed, parents)
    held = ExitStack()

    def is_made() -> bool:
        return find_finished(out, kind, config, seed, parents) is not None

    def is_finished() -> bool:
        finished, lock = is_made(), out.with_name(f".{out.name}.lock")
        # A finished stage whose process was killed before it had cleared up is cleared up here.
        if not finished or scratch.exists() or lock.exists():
            try:
                locked = held.enter_context(lock_file(lock))
            except BlockingIOError:
                if not finished:
                    hint = "wait for that one, or choose another --out"
                    raise InputError(f"{out}: another process is making it; {hint}") from None
                locked = False
            if locked:
                remove_leftovers(out)
            # Another job may have finished it just before.
            finished = is_made()
            if finished and locked:
                shutil.rmtree(scratch, ignore_errors=True)
        if finished:
            print(f"{kind}: {out} is finished, skipped", file=sys.stderr)
        return finished

    def make() -> None:
        metrics: dict[str, Any] = {}
        try:
            with new_artifact(
                out, kind, config=config, seed=seed, parents=parents, metrics=metrics, extra=extra
            ) as folder:
                work(StageRun(folder, scratch, metrics, seed, device, identity))
                if (scratch / LOG).exists():
                    shutil.copy(scratch / LOG, folder / LOG)
        except InputError:
            # On a file system without locks another job may have written it in the meantime.
            if not is_made():
                raise
        shutil.rmtree(scratch, ignore_errors=True)

    with held:
        if not on_main(is_finished):
            if alone:
                on_main(make)
            elif is_main():
                make()
            else:
                with scratch_folder() as dropped:
                    work(StageRun(dropped, scratch, {}, seed, device, identity))
            # No process opens the artifact before it exists.
            on_main(lambda: None)
    return open_artifact(out, kind)


def external_encoder(name: str) -> Artifact:
    """Return an artifact for an encoder that no stage made: a hub id, a folder of ``transformers``, or a checkpoint.

    Files are identified by their contents, a hub id by its name.
    """
    folder = Path(name)
    identity = digest_path(folder) if folder.exists() else digest_json(name)
    return Artifact(folder, "encoder", identity, identity)
