"""The compiled step: where it runs, and its products in 8-bit integers; other tests of steps hold its logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from syllablelm.lm import compiled_step
from syllablelm.lm.backbone import LMShape
from syllablelm.lm.compiled_step import CompiledStep
from syllablelm.lm.decode import CachedDecoder
from syllablelm.lm.fused import Int8Linear, Projection, make_stepper

V = 19


def build(family: Any, *, norm_first: bool = True) -> Any:
    torch.manual_seed(5)
    model = LMShape(2, 32, 2, 48, 40, 0.0, family).build(V, norm_first=norm_first).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Slots of the compiled steps that are made in a test."""
    made: list[int] = []
    run = CompiledStep.__call__
    monkeypatch.setattr(CompiledStep, "__call__", lambda self, *args: (made.append(args[1]), run(self, *args))[1])
    return made


@pytest.mark.parametrize(("family", "norm_first"), [("opt", True), ("llama", True), ("opt", False)])
@pytest.mark.parametrize("int8", [False, True])
def test_runs_pre_norm_models_on_a_cpu(family, norm_first, int8, slots):
    weights = make_stepper(build(family, norm_first=norm_first), int8=int8)
    decoder = CachedDecoder(weights, 1, 8)
    decoder.prefill([[1, 2, 3]])
    decoder.step(torch.tensor([4]))
    assert slots == ([3] if norm_first else [])


@pytest.mark.parametrize(("dtype", "static"), [(torch.bfloat16, None), (torch.float32, False)])
def test_not_in_half_precision_nor_where_growing_shapes_are_asked_for(dtype, static, slots):
    decoder = CachedDecoder(make_stepper(build("opt").to(dtype)), 1, 8, static=static)
    decoder.prefill([[1, 2, 3]])
    decoder.step(torch.tensor([4]))
    assert slots == []


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_eight_bit_integers_give_a_sequence_the_same_alone_and_in_a_batch(family):
    weights = make_stepper(build(family), int8=True)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, V, n).tolist() for n in (6, 1, 4)]
    steps = torch.from_numpy(rng.integers(0, V, (7, 3)))
    decoder, exact = (CachedDecoder(weights, 3, 20, static=static) for static in (None, False))
    together, grown = ([d.prefill(prompts), *map(d.step, steps)] for d in (decoder, exact))
    # A sum next to the edge between two integers may be rounded to either.
    apart = (torch.stack(together) - torch.stack(grown)).abs().amax(-1)
    assert int((apart < 1e-4).sum()) >= 20
    for i, prompt in enumerate(prompts):
        alone = CachedDecoder(weights, 1, 20)
        logits = [alone.prefill([prompt]), *(alone.step(row[i : i + 1]) for row in steps)]
        torch.testing.assert_close(torch.cat(logits), torch.stack([row[i] for row in together]), atol=1e-5, rtol=1e-5)


def test_attention_over_much_is_left_to_torch_where_it_has_more_threads(monkeypatch, slots):
    weights = make_stepper(build("opt"))
    decoder, exact = (CachedDecoder(weights, 2, 20, static=static) for static in (None, False))
    monkeypatch.setattr(compiled_step, "_WORTH_THREADS", 2 * 32 * 6)
    for one in (decoder, exact):
        one.prefill([[1, 2, 3, 4], [5, 6]])
    # With two threads half of the work would be saved: more than is worth it from slot 12 on.
    for threads, expected in ((2, [4, 5, 6, 7, 8, 9, 10, 11]), (1, [14])):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        slots.clear()
        for token in range(10 if threads == 2 else 1):
            torch.testing.assert_close(*(one.step(torch.tensor([token, 3])) for one in (decoder, exact)))
        assert slots == expected


def test_projections_in_eight_bit_integers_are_those_of_torch():
    torch.manual_seed(0)
    projection: Projection = Int8Linear(torch.randn(33, 24), torch.randn(33))
    x = torch.randn(4, 24)
    # Nothing; numbers halfway between two integers; and one without a value, which spreads.
    x[1], x[2, :3], x[3, 5] = 0.0, torch.tensor([127.0, 0.5, -1.5]), torch.nan
    found = compiled_step._bound(projection, 4)(x)
    torch.testing.assert_close(found[:3], projection(x)[:3], atol=1e-6, rtol=1e-6)
    assert bool(found[3].isnan().all())
