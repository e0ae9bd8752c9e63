"""A recipe of the whole chain that takes seconds."""

from __future__ import annotations

from pathlib import Path

RECIPE = """
name = "micro"
[data]
sources = ["SOURCE"]
[[iteration]]
[iteration.labels]
num_labels = 5
[iteration.encoder]
crop_seconds = 2.0
[iteration.encoder.shape]
layers = 2
dim = 32
heads = 2
feed_forward = 64
conv_dim = [16, 16, 16, 16]
conv_kernel = [40, 9, 4, 2]
conv_stride = [10, 4, 4, 2]
position_kernel = 15
position_groups = 4
final_dim = 16
[iteration.encoder.loop]
steps = 3
batch_seconds = 4.0
[[round]]
[round.boundaries]
source = "losspred"
rate = 5.0
span = 10
gap = 30
[round.sylboost]
layer = 2
crop_seconds = 2.0
[round.sylboost.loop]
steps = 2
batch_seconds = 4.0
[codebook]
units = 6
centres = 12
[codebook.rule]
rate = 5.0
"""


def write_recipe(path: Path, recordings: Path) -> Path:
    """Write the recipe for a folder of recordings."""
    path.write_text(RECIPE.replace("SOURCE", recordings.as_posix()), encoding="utf-8")
    return path
