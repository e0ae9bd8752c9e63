"""Numbers that cannot work are refused when a recipe is read, by a message that names table and key."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.micro_recipe import RECIPE
from helpers.micro_speech_recipes import LM, LM_TABLE, SHAPE, VOCODER
from syllablelm.core.config import build, to_table, tomllib
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.recipes import read_recipe, recipe_kind, recipe_names
from syllablelm.train.batches import AugmentConfig
from syllablelm.train.lm_stage import LMConfig, LMRecipe, LMShape
from syllablelm.train.loop import LoopConfig
from syllablelm.train.pretrain import HeadConfig
from syllablelm.train.tokenizer_recipe import TokenizerRecipe
from syllablelm.train.vocoder_recipe import VocoderRecipe

CLASSES: Any = {"tokenizer": TokenizerRecipe, "lm": LMRecipe, "vocoder": VocoderRecipe}
# Keys for which 0 means "none" or "all".
ZERO = {
    "min_seconds", "centres", "quantile", "lr", "warmup", "final_lr", "beta1", "beta2", "weight_decay", "dropout",
    "gap", "mask_prob", "masked_weight", "prob", "gain_db", "tilt_db", "snr_db", "reverb_seconds", "telephone_prob",
    "context", "pad", "seed", "frozen_blocks", "unique_tokens", "peak_tflops",
}  # fmt: skip
# Keys whose largest value is far below a billion.
SMALL = {
    "rate", "quantile", "num_labels", "warmup", "beta1", "beta2", "dropout", "mask_prob", "masked_weight", "prob",
    "dim", "gain_db", "tilt_db", "snr_db", "reverb_seconds", "telephone_prob", "frozen_blocks", "layers", "heads",
    "span", "gap", "feed_forward", "position_kernel", "position_groups", "final_dim", "positions", "conv_dim",
    "conv_kernel", "units", "conv_stride", "row_tokens", "min_seconds", "min_length",
}  # fmt: skip
# The sizes of HiFi-GAN are checked where its networks are built.
ELSEWHERE = ("hifigan.shape", "hifigan.discriminators")


def numbers(table: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every number, and of the first of a list of numbers; members of arrays count from 1."""
    for key, value in table.items() if isinstance(table, dict) else enumerate(table, 1):
        path = (*above, key)
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            yield from numbers(value, path)
        elif isinstance(value, list) and value and isinstance(value[0], int):
            yield (*path, 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path


def cases() -> list[tuple[str, Any, tuple[Any, ...], float]]:
    micro = [RECIPE, LM.replace("SHAPE", SHAPE), VOCODER.replace("LM_TABLE", LM_TABLE)]
    tables = {f"micro {number}": tomllib.loads(text) for number, text in enumerate(micro)}
    tables |= {name: read_recipe(name) for name in recipe_names()}
    found = []
    for name, table in tables.items():
        cls = CLASSES[recipe_kind(table)]
        whole = to_table(build(cls, table))
        for path in numbers(whole):
            key = next(part for part in reversed(path) if isinstance(part, str))
            if ".".join(map(str, path)).startswith(ELSEWHERE):
                continue
            wrong = [float("nan"), float("inf"), -(10**9), 1e300 if key in SMALL else -1e300]
            wrong += [0] * (key not in ZERO) + [-1] * (key != "snr_db") + [10**9] * (key in SMALL)
            found += [(name, (cls, whole), path, value) for value in wrong]
    return found


def check(cls: Any, whole: Any, path: tuple[Any, ...], value: float) -> None:
    table = copy.deepcopy(whole)
    node = table
    for part in path[:-1]:
        node = node[part - 1] if isinstance(part, int) else node[part]
    node[path[-1] - 1 if isinstance(path[-1], int) else path[-1]] = value
    key = next(part for part in reversed(path) if isinstance(part, str))
    above = ".".join(map(str, path[: path.index(key)]))
    with pytest.raises((InputError, FormatError)) as caught:
        build(cls, table)
    message = str(caught.value)
    assert key in message and above in message and len(message) <= 300, message


def test_wrong_numbers_are_refused_by_table_and_key() -> None:
    found = cases()
    drawn = [case for case in found if case[0].startswith("micro")]
    drawn += random.Random(0).sample(found, 300)
    assert len(drawn) > 700
    for _, (cls, whole), path, value in drawn:
        check(cls, whole, path, value)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: LoopConfig(0), "steps 0: must be at least 1"),
        (lambda: LoopConfig(1, beta2=1.0), "beta2 1.0: must be below 1"),
        (lambda: LoopConfig(1, clip=0), "clip 0: must be above 0"),
        (lambda: LMShape(dim=30, heads=4), "dim 30: must be a multiple of heads 4"),
        (lambda: LMShape(layers=10**9), "layers 1000000000: must be at most 65,536"),
        (lambda: LMConfig(LoopConfig(1), row_tokens=9, batch_tokens=8), "batch_tokens 8: less than one row"),
        (lambda: HeadConfig(LoopConfig(1), mask_length=0), "mask_length 0: must be at least 1"),
        (lambda: AugmentConfig(snr_db=-1e3), "snr_db -1000.0: must be at least -100"),
    ],
)
def test_messages(make: Any, key: str) -> None:
    with pytest.raises(InputError, match=f"^{key}"):
        make()


def test_a_layer_that_the_recipes_own_encoder_lacks_is_refused_before_it_is_trained() -> None:
    table = tomllib.loads(RECIPE)
    table["round"][0]["sylboost"]["layer"] = 3
    with pytest.raises(InputError, match=r"sylboost\.layer 3: the last iteration's encoder has 2 layers"):
        build(TokenizerRecipe, table)
