"""Training of a language model on a CUDA device: variable-length attention against a mask of all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from syllablelm.lm.backbone import LMShape
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.train.lm_stage import LanguageModelTask, LMConfig
from syllablelm.train.loop import LoopConfig, run_loop
from syllablelm.train.packed_loss import Way, attend_by_kernel, choose_way, use_varlen

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
UNITS, STEPS = 200, 20
OPT = LMShape(layers=2, dim=128, heads=4, feed_forward=256, positions=128, dropout=0.0)
LLAMA = LMShape(layers=2, dim=128, heads=4, feed_forward=256, positions=128, dropout=0.0, family="llama")
SHAPES = pytest.mark.parametrize("shape", [OPT, LLAMA], ids=["opt", "llama"])


def make_task(shape: LMShape, way: Way) -> tuple[LanguageModelTask, LoopConfig]:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, UNITS, rng.integers(1, 100)).astype(np.int32) for _ in range(60)]
    store = TokenStore.from_arrays(rows, [np.full(len(row), 8, dtype=np.int32) for row in rows], TokenInfo(UNITS))
    torch.manual_seed(0)
    model = shape.build(UNITS).cuda()
    if way == "varlen":
        assert use_varlen(model, attend_by_kernel)
    loop = LoopConfig(steps=STEPS, lr=1e-3, precision="bfloat16", log_every=STEPS)
    return LanguageModelTask(model, store, LMConfig(loop, shape, 20.0, 128, 1024), 0, way=way), loop


@SHAPES
def test_variable_length_attention_trains_as_a_mask_does(shape, tmp_path):
    losses = []
    for way in ("varlen", "mask"):
        task, loop = make_task(shape, way)
        values = run_loop(task, loop, tmp_path / way, seed=0, fingerprint="", device="cuda")
        losses.append(values["nats_per_token"])
    assert losses[0] == pytest.approx(losses[1], abs=2e-2)
    # It has learned something: the first loss is about log 200.
    assert losses[0] < np.log(UNITS)


@SHAPES
def test_the_way_of_this_device(shape):
    device = torch.device("cuda")
    model = shape.build(UNITS).cuda()
    assert choose_way(model, device, half=False, compiled=False) == "varlen"
    assert choose_way(model, device, half=True, compiled=True) == "mask"
    assert choose_way(model, device, half=True, compiled=False) == "varlen"
