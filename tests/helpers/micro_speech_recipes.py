"""Recipes of a language model and a vocoder that take seconds to train, and how they become one model."""

from __future__ import annotations

from pathlib import Path

from syllablelm.cli.app import main

LM = """
name = "micro_lm"
seed = 3
[units]
tokenizer = "TOKENIZER"
train = ["UNITS"]
[lm]
row_tokens = 32
batch_tokens = 64
[lm.shape]
SHAPE
[lm.loop]
steps = 3
"""
VOCODER = """
name = "micro_vocoder"
seed = 3
tokenizer = "TOKENIZER"
[voice]
sources = ["AUDIO"]
[data]
sources = ["AUDIO"]
[acoustic]
layer = 1
units = 8
[vocoder]
dim = 16
blocks = 2
[vocoder.loop]
steps = 2
batch_seconds = 4.0
[vocoder_lm]
LM_TABLE"""
DIRECT = """
name = "micro_direct"
tokenizer = "TOKENIZER"
[voice]
sources = ["AUDIO"]
[parallel]
sources = ["AUDIO"]
spoken = ["AUDIO"]
[vocoder]
dim = 16
blocks = 2
context = 1
[vocoder.loop]
steps = 2
batch_seconds = 4.0
"""
SHAPE = "layers = 1\ndim = 16\nheads = 2\nfeed_forward = 32\npositions = 256"
# Of the vocoder's language model.
LM_TABLE = f"""row_tokens = 256
batch_tokens = 256
[vocoder_lm.shape]
{SHAPE}
[vocoder_lm.loop]
steps = 3
"""


def train_parts(folder: Path, tokenizer: Path, recordings: Path) -> None:
    """Train lm/ and vocoder/ in a folder."""
    units = folder / "units.jsonl"
    assert main(["tokenize", str(recordings), "--model", str(tokenizer), "--out", str(units)]) == 0
    names = {"TOKENIZER": tokenizer, "UNITS": units, "AUDIO": recordings, "SHAPE": SHAPE, "LM_TABLE": LM_TABLE}
    for verb, text in (("lm", LM), ("vocoder", VOCODER)):
        for name, value in names.items():
            text = text.replace(name, str(value))
        recipe = folder / f"{verb}.toml"
        recipe.write_text(text, encoding="utf-8")
        assert main(["train", verb, str(recipe), "--out", str(folder / verb), "--device", "cpu"]) == 0


def bundle_options(tokenizer: Path, parts: Path, out: Path) -> list[str]:
    """The command that makes one model of a tokenizer and trained parts."""
    given = {"--tokenizer": tokenizer, "--lm": parts / "lm/lm", "--vocoder": parts / "vocoder", "--out": out}
    return ["train", "bundle", *(str(part) for option in given.items() for part in option)]
