from __future__ import annotations

import json

import pytest
import torch

from helpers.micro_recipe import RECIPE as MICRO
from helpers.random_models import small_corpus
from helpers.two_processes import run_two
from syllablelm.cli.app import main
from syllablelm.core.artifact import open_artifact
from syllablelm.core.errors import InputError
from syllablelm.encoders import MaskedPredictor
from syllablelm.train.batches import KNOWN_FILE
from syllablelm.train.processes import is_main, join, on_main, total

STAGES = ("iteration1/labels", "iteration1/encoder", "round1/boundaries", "round1/encoder", "tokenizer")
# No dropout, so that two processes see in a step what one sees in two micro-batches; and boundaries that cost little.
RECIPE = MICRO.replace("final_dim = 16", "final_dim = 16\ndropout = 0.0").replace(
    'source = "losspred"\nrate = 5.0\nspan = 10\ngap = 30', 'source = "similarity"\nlayer = 2\nrate = 5.0'
)
assert "similarity" in RECIPE and "dropout" in RECIPE

ON_MAIN = """
import sys
from syllablelm.core.errors import InputError, SyllableLMError
from syllablelm.train.processes import is_main, join, on_main, total

join("cpu")
calls = []

def count():
    calls.append(1)
    return "done", len(calls)

assert on_main(count) == ("done", 1)
assert calls == ([1] if is_main() else [])
assert total([2.0, 0.5 if is_main() else 0.25]) == [4.0, 0.75]

def fail():
    raise InputError("no such recording")

try:
    on_main(fail)
except InputError as error:
    assert is_main() and str(error) == "no such recording"
except SyllableLMError as error:
    assert not is_main() and str(error) == "stopped with the main process: no such recording"
else:
    raise AssertionError("the error was lost")
assert on_main(lambda: 5) == 5
"""


class TestAlone:
    def test_one_process_is_the_main_one(self):
        assert is_main() and on_main(lambda: 3) == 3 and total([0.1, 2.0]) == [0.1, 2.0]
        with pytest.raises(InputError, match="its own"):
            on_main(lambda: (_ for _ in ()).throw(InputError("its own")))

    def test_the_device_is_the_one_that_was_asked_for(self, monkeypatch):
        assert join("cpu") == torch.device("cpu")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert join("cuda:1") == torch.device("cuda", 1)
        monkeypatch.setenv("WORLD_SIZE", "1")
        assert join("cuda:1") == torch.device("cuda", 1)

    def test_several_processes_do_not_share_one_gpu(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(InputError, match="several processes take a GPU each; use --device cuda"):
            join("cuda:1")


@pytest.mark.slow
def test_the_others_wait_for_the_main_process(tmp_path):
    script = tmp_path / "on_main.py"
    script.write_text(ON_MAIN, encoding="utf-8")
    done = run_two(script)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_make_one_of_everything(tmp_path, capfd):
    small_corpus(tmp_path / "audio", [32_000, 24_000, 48_000, 40_000])
    recipe = tmp_path / "micro.toml"
    recipe.write_text(RECIPE.replace("SOURCE", (tmp_path / "audio").as_posix()), encoding="utf-8")
    command = ["train", "all", recipe, "--device", "cpu", "--out"]
    done = run_two("-m", "syllablelm", *command, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    # Printed by one process, prepared by one, and nothing left of the other.
    result = json.loads(done.stdout)
    assert (result["kind"], result["path"]) == ("tokenizer", str(tmp_path / "two" / "tokenizer"))
    for line in ("corpus: 4 recordings", "mfcc 4/4", "encoder 3/3", "boundaries (similarity) 4/4", "codebook 4/4"):
        assert done.stderr.count(line) == 1, line
    folders = {path.name for parent in ("", "iteration1", "round1") for path in (tmp_path / "two" / parent).iterdir()}
    folders.discard(KNOWN_FILE)
    assert folders == {"iteration1", "round1", "tokenizer", "labels", "encoder", "boundaries"}

    # Two processes see in a step what one sees in two micro-batches.
    halves = ["--set", "iteration.1.encoder.loop.accumulate=2", "--set", "round.1.sylboost.loop.accumulate=2"]
    assert main([*map(str, command), str(tmp_path / "one"), *halves]) == 0
    two, one = ([open_artifact(tmp_path / name / stage) for stage in STAGES] for name in ("two", "one"))
    assert two[0].digest == one[0].digest
    assert two[1].metrics["loss"] == pytest.approx(one[1].metrics["loss"], abs=1e-4)
    models = [MaskedPredictor.load(found[1].path, device="cpu").state_dict() for found in (two, one)]
    for name, tensor in models[0].items():
        assert torch.allclose(tensor, models[1][name], atol=1e-4), name

    before = {stage: (tmp_path / "two" / stage).stat().st_ino for stage in STAGES}
    again = run_two("-m", "syllablelm", *command, tmp_path / "two")
    assert again.returncode == 0 and again.stdout == done.stdout
    assert again.stderr.count("is finished, skipped") == len(STAGES)
    assert {stage: (tmp_path / "two" / stage).stat().st_ino for stage in STAGES} == before


@pytest.mark.slow
def test_two_processes_stop_at_the_same_error(tmp_path):
    small_corpus(tmp_path / "audio", [32_000])
    recipe = tmp_path / "micro.toml"
    recipe.write_text(RECIPE.replace("SOURCE", (tmp_path / "audio").as_posix()), encoding="utf-8")
    out = tmp_path / "run" / "iteration1" / "labels"
    out.mkdir(parents=True)
    done = run_two("-m", "syllablelm", "train", "all", recipe, "--device", "cpu", "--out", tmp_path / "run")
    assert done.returncode != 0 and done.stdout == ""
    assert f"error: {out} exists and is not an artifact" in done.stderr
    assert [path.name for path in out.parent.iterdir()] == ["labels"]
