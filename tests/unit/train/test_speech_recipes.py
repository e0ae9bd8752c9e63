"""The recipes of speech language models against Table 8 of the paper; one folder of all parts of a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from syllablelm.core.artifact import new_artifact, open_artifact
from syllablelm.core.config import build, read_toml
from syllablelm.core.errors import InputError
from syllablelm.train.bundle import LMRecipe, assemble_model
from syllablelm.vocoder.speech_model import SpeechModel

RECIPES = Path(__file__).parents[3] / "src" / "syllablelm" / "recipes"
# layers, dimensions, feed-forward, updates of warm-up, GPUs.
TABLE_8 = {"base": (12, 768, 3072, 8000, 2), "large": (24, 1024, 4096, 16_000, 4)}


@pytest.mark.parametrize("rate", ["833", "625", "500"])
@pytest.mark.parametrize("size", list(TABLE_8))
def test_table_8(size, rate):
    recipe = build(LMRecipe, read_toml(RECIPES / f"speechlm_{size}_{rate}.toml"), "recipe")
    layers, dim, feed_forward, warmup, gpus = TABLE_8[size]
    shape, loop = recipe.lm.shape, recipe.lm.loop
    assert (shape.layers, shape.dim, shape.feed_forward, shape.dropout) == (layers, dim, feed_forward, 0.1)
    assert (loop.steps, loop.lr, loop.beta1, loop.beta2, loop.weight_decay) == (200_000, 2e-4, 0.9, 0.98, 0.01)
    assert (loop.schedule, loop.final_lr, round(loop.warmup * loop.steps)) == ("linear", 0.0, warmup)
    rows = recipe.lm.batch_tokens // recipe.lm.row_tokens
    assert rows * recipe.lm.row_tokens * loop.accumulate * gpus == 80_000
    assert recipe.lm.crop_seconds == 25.0
    assert (recipe.name, recipe.units.tokenizer) == (f"speechlm_{size}_{rate}", f"runs/hubert_{rate}/tokenizer")


@pytest.mark.parametrize("meanwhile", ["nothing", "error", "taken"])
def test_a_model_is_assembled_whole_or_not_at_all(tmp_path, monkeypatch, meanwhile):
    for name in ("tokenizer", "lm", "run/acoustic", "run/vocoder", "run/vocoder_lm"):
        kind = name.removeprefix("run/")
        with new_artifact(tmp_path / name, kind, config={}, seed=0, parents={}, metrics={}) as folder:
            (folder / "w.txt").write_text(name)
            save_file({"centres": torch.ones(2)}, folder / "acoustic.safetensors")
    before, out = {path.name for path in tmp_path.iterdir()}, tmp_path / "model"

    def load(folder, device):
        if meanwhile == "error":
            raise InputError("parts do not fit")
        if meanwhile == "taken":
            out.mkdir()
            (out / "thesis.txt").touch()

    monkeypatch.setattr(SpeechModel, "load", load)
    arguments = (tmp_path / "tokenizer", tmp_path / "lm", tmp_path / "run", out)
    if meanwhile == "nothing":
        assemble_model(*arguments)
        assert open_artifact(out).digest == open_artifact(tmp_path / "tokenizer").digest
        assert (out / "lm" / "w.txt").read_text() == "lm" and (out / "acoustic.safetensors").exists()
    else:
        with pytest.raises(InputError if meanwhile == "error" else OSError) as error:
            assemble_model(*arguments)
        assert ".tmp" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == before | ({"model"} if meanwhile != "error" else set())
    if meanwhile == "taken":
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]
