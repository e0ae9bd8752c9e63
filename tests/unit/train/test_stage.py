from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest

from helpers.random_models import SHAPE, noise, small_corpus
from syllablelm.core.artifact import Artifact, fingerprint, new_artifact, open_artifact
from syllablelm.core.errors import InputError
from syllablelm.core.files import atomic_path, lock_file
from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import Manifest
from syllablelm.data.manifest import Recording
from syllablelm.encoders.hub import HubEncoder
from syllablelm.train.batches import WaveformStore, manifest_digest, save_arrays
from syllablelm.train.loop import LoopConfig
from syllablelm.train.pretrain import EncoderConfig, train_encoder
from syllablelm.train.stage import StageContext, StageRun, external_encoder, run_stage


@dataclass(frozen=True)
class Config:
    size: int = 3


class Work:
    """Counts its runs, fails where asked, and logs as the training loop does."""

    def __init__(self, error: type[BaseException] | None = None) -> None:
        self.runs, self.error = 0, error

    def __call__(self, run: StageRun) -> None:
        self.runs += 1
        run.scratch.mkdir(exist_ok=True)
        (run.scratch / "state.pt").write_text("half")
        (run.scratch / "log.jsonl").write_text('{"step": 1}\n')
        (run.folder / "payload.txt").write_text("done")
        run.metrics["loss"] = 0.5
        if self.error is not None:
            raise self.error("stopped")


def run(out, work, config=None, seed=0, parents=None, **options):
    return run_stage(
        "labels", out, config=config or Config(), seed=seed, parents=parents or {"corpus": "c"}, work=work, **options
    )


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("alone", [False, True])
def test_makes_a_whole_artifact(tmp_path, alone):
    artifact = run(tmp_path / "deep" / "out", Work(), alone=alone)
    assert names(tmp_path / "deep") == {"out"}
    assert names(artifact.path) == {"artifact.json", "config.toml", "log.jsonl", "payload.txt"}
    assert artifact == open_artifact(tmp_path / "deep" / "out", "labels")
    assert artifact.metrics == {"loss": 0.5} and artifact.record["parents"] == {"corpus": "c"}
    assert artifact.fingerprint == fingerprint("labels", Config(), 0, {"corpus": "c"})


def test_a_finished_stage_is_skipped(tmp_path, capsys):
    first, work = run(tmp_path / "out", Work()), Work()
    capsys.readouterr()
    assert run(tmp_path / "out", work) == first and work.runs == 0
    assert capsys.readouterr() == ("", f"labels: {tmp_path / 'out'} is finished, skipped\n")


@pytest.mark.parametrize("other", [{"config": Config(4)}, {"seed": 1}, {"parents": {"corpus": "d"}}])
def test_a_stage_of_another_recipe_is_not_overwritten(tmp_path, other):
    run(tmp_path / "out", Work())
    work = Work()
    with pytest.raises(InputError, match="another recipe, seed or inputs; choose another --out or remove it"):
        run(tmp_path / "out", work, **other)
    assert work.runs == 0 and open_artifact(tmp_path / "out").metrics == {"loss": 0.5}


def test_a_foreign_folder_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match="exists and is not an artifact"):
        run(tmp_path / "out", Work())
    assert names(tmp_path / "out") == {"thesis.txt"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_only_the_work_folder_stays(tmp_path, error):
    with pytest.raises(error):
        run(tmp_path / "out", Work(error))
    assert names(tmp_path) == {".out.work"} and "state.pt" in names(tmp_path / ".out.work")
    run(tmp_path / "out", Work())
    assert names(tmp_path) == {"out"}


def test_of_two_at_once_the_second_is_refused(tmp_path):
    context = multiprocessing.get_context("fork")

    def start(go):
        begun = context.Event()

        def work(stage) -> None:
            Work()(stage)
            begun.set()
            go.wait()

        process = context.Process(target=run, args=(tmp_path / "out", work))
        process.start()
        assert begun.wait(60)
        return process

    def refuse() -> None:
        work, before = Work(), (tmp_path / ".out.work" / "state.pt").stat()
        with pytest.raises(InputError, match="/out: another process is making it; wait for that one, or") as error:
            run(tmp_path / "out", work)
        assert "\n" not in str(error.value) and "tmp" not in error.value.args[0].removeprefix(str(tmp_path))
        assert work.runs == 0 and (tmp_path / ".out.work" / "state.pt").stat() == before

    first = start(context.Event())
    refuse()
    first.kill()
    first.join()
    # What the killed one left is taken up or removed.
    assert len(names(tmp_path)) == 3 and not (tmp_path / "out").exists()
    go = context.Event()
    second = start(go)
    assert len(names(tmp_path)) == 3
    refuse()
    go.set()
    second.join()
    assert second.exitcode == 0 and names(tmp_path) == {"out"}
    work = Work()
    assert run(tmp_path / "out", work).metrics == {"loss": 0.5} and work.runs == 0


def test_finished_by_another_just_before_the_lock(tmp_path, monkeypatch, capsys):
    """It ends between this one's first look and its taking of the lock."""

    def take(path):
        monkeypatch.undo()
        run(tmp_path / "out", Work())
        return nullcontext(True)

    monkeypatch.setattr("syllablelm.train.stage.lock_file", take)
    work = Work()
    assert run(tmp_path / "out", work) == open_artifact(tmp_path / "out") and work.runs == 0
    assert capsys.readouterr().err == f"labels: {tmp_path / 'out'} is finished, skipped\n"


@pytest.mark.parametrize("config", [Config(), Config(4)])
def test_without_locks_the_first_to_finish_wins(tmp_path, monkeypatch, config):
    monkeypatch.setattr("syllablelm.train.stage.lock_file", lambda path: nullcontext(False))

    def slow(stage):
        (stage.folder / "payload.txt").write_text("late")
        run(tmp_path / "out", Work(), config)

    if config == Config():
        assert run(tmp_path / "out", slow).file("payload.txt").read_text() == "done"
    else:
        with pytest.raises(InputError, match="another recipe, seed or inputs; choose another --out or remove it"):
            run(tmp_path / "out", slow)
    assert names(tmp_path) == {"out"} and open_artifact(tmp_path / "out").metrics == {"loss": 0.5}


def test_a_failing_stage_leaves_no_lock(tmp_path):
    with pytest.raises(InputError, match="stopped"):
        run(tmp_path / "out", Work(InputError))
    assert names(tmp_path) == {".out.work"}


def test_leftovers_of_another_stage_stay(tmp_path):
    with atomic_path(tmp_path / "output") as theirs:
        theirs.mkdir()
        run(tmp_path / "out", Work())
        assert theirs.exists()


def test_a_corpus_is_its_recordings_not_where_they_lie(tmp_path):
    manifest = small_corpus(tmp_path / "audio", [1000, 2000])
    shutil.copytree(tmp_path / "audio", tmp_path / "else", copy_function=shutil.copy)
    moved = Manifest(Recording(r.id, tmp_path / "else" / r.path.name, r.num_samples, 16_000) for r in manifest)
    assert manifest_digest(moved) == manifest_digest(manifest)
    a, b = manifest
    changed = [
        Manifest([b, a]),
        Manifest([a]),
        Manifest([a, Recording("other", b.path, b.num_samples, 16_000)]),
        Manifest([a, Recording(b.id, b.path, b.num_samples - 1, 16_000)]),
        Manifest([a, Recording(b.id, b.path, b.num_samples, 16_000, start=1)]),
        Manifest([a, Recording(b.id, b.path, b.num_samples, 8_000)]),
    ]
    before = {manifest_digest(m) for m in [manifest, *changed]}
    assert len(before) == 7
    # Audio of the same length in the place of another.
    replaced = bytearray(a.path.read_bytes())
    replaced[-1] ^= 1
    a.path.write_bytes(replaced)
    assert manifest_digest(manifest) not in before


@pytest.mark.parametrize("killed", [True, False])
def test_a_finished_stage_is_cleared_up(tmp_path, killed):
    """A process was killed when its artifact was in place and its checkpoints were not yet removed."""
    first = run(tmp_path / "out", Work())
    (tmp_path / ".out.work").mkdir()
    (tmp_path / ".out.work" / "state.pt").write_text("large")
    (tmp_path / ".out.lock").touch()
    with nullcontext() if killed else lock_file(tmp_path / ".out.lock"):
        assert run(tmp_path / "out", Work()) == first
        assert names(tmp_path) == ({"out"} if killed else {"out", ".out.work", ".out.lock"})


def test_an_encoder_from_elsewhere(tmp_path):
    hub = external_encoder("facebook/hubert-base-ls960")
    assert str(hub.path) == "facebook/hubert-base-ls960" and hub.kind == "encoder"
    assert hub.digest == external_encoder("facebook/hubert-base-ls960").digest != external_encoder("other").digest
    HubEncoder(SHAPE.build()).save(tmp_path)
    before = external_encoder(str(tmp_path))
    assert before.digest == external_encoder(str(tmp_path)).digest
    HubEncoder(SHAPE.build()).save(tmp_path)
    assert external_encoder(str(tmp_path)).digest != before.digest


def test_work_is_told_what_the_stage_is(tmp_path):
    told = []
    run(tmp_path / "out", lambda stage: (told.append(stage), Work()(stage)), seed=3, device="cpu")
    assert (told[0].seed, told[0].device) == (3, "cpu")
    assert told[0].fingerprint == open_artifact(tmp_path / "out").fingerprint


def test_stages_are_of_the_bytes_of_their_inputs(tmp_path):
    """Audio and labels that were replaced by others of the same length are other inputs."""

    def inputs(change: str) -> tuple[WaveformStore, Artifact]:
        store = WaveformStore(small_corpus(tmp_path / "recordings", [9_000, 12_000]), known=tmp_path / ".audio.json")
        labels = {r.id: np.zeros(r.num_samples // 320, np.int16) for r in store.manifest}
        folder = tmp_path / "labels"
        if not folder.exists():
            config = {"layer": 1, "num_labels": 2}
            with new_artifact(folder, "labels", config=config, seed=0, parents={}, metrics={}) as payload:
                save_arrays(payload / "labels.safetensors", {**labels, "r1": labels["r1"] + 1})
        if change == "audio":
            save_audio(store.manifest[1].path, noise(12_000, seed=99))
        if change == "labels":
            save_arrays(folder / "labels.safetensors", {**labels, "r0": labels["r0"] + 1})
        return store, open_artifact(folder)

    config = EncoderConfig(LoopConfig(1, batch_seconds=4.0), shape=SHAPE, crop_seconds=1.0)
    store, labels = inputs("")
    first = train_encoder(config, StageContext(store, device="cpu"), labels, tmp_path / "out")
    for change in ("audio", "labels"):
        store, labels = inputs(change)
        with pytest.raises(InputError, match="another recipe, seed or inputs"):
            train_encoder(config, StageContext(store, device="cpu"), labels, tmp_path / "out")
        other = train_encoder(config, StageContext(store, device="cpu"), labels, tmp_path / f"other_{change}")
        assert other.fingerprint != first.fingerprint


FULL = """
import resource, sys, torch
from pathlib import Path
from syllablelm.core.errors import InputError
from syllablelm.train.runlog import Checkpoints
from syllablelm.train.batches import save_arrays
from syllablelm.core.artifact import new_artifact
import numpy as np
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
module = torch.nn.Linear(100, 100)
optimizer = torch.optim.AdamW(module.parameters())
def arrays(write):
    with new_artifact(folder / "out", "x", config={}, seed=0, parents={}, metrics={}) as payload:
        write(payload)
for number, attempt in enumerate((
    lambda: Checkpoints(folder, "f").save(1, module, optimizer),
    lambda: arrays(lambda payload: save_arrays(payload / "a.safetensors", {"a": np.zeros(40_000)})),
    lambda: arrays(lambda payload: np.save(payload / "a.npy", np.zeros(40_000))),
    lambda: arrays(lambda payload: (payload / "a.txt").write_text("x" * 300_000)),
)):
    try:
        attempt()
    except OSError as error:
        print(number, Path(error.filename).name, error.strerror)
print(sorted(path.name for path in folder.rglob("*")))
"""


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    """A limit of file sizes stands for it: every writer fails in the middle of a file."""
    (tmp_path / "state.pt").write_text("before")
    command = [sys.executable, "-c", FULL, str(tmp_path), "20000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [["0", "state.pt"], *([str(k), "out"] for k in (1, 2, 3))]
    assert all(line.endswith("; make room and run the same command again") for line in lines[:4])
    assert lines[4:] == ["['state.pt']"] and (tmp_path / "state.pt").read_text() == "before"
