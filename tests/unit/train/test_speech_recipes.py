"""The recipes of speech language models against Table 8 of the paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from syllablelm.config import build, read_toml
from syllablelm.train.speech import LMRecipe

RECIPES = Path(__file__).parents[3] / "recipes"
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
