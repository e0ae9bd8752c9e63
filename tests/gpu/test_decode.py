"""The cached decoder on a CUDA device: the tokens of transformers, and of the CPU.

Steps of fixed shapes against growing ones are in tests/unit/lm, on both devices.
"""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(scope="module")
def model():
    from syllablelm.train.lm_stage import LMShape

    torch.manual_seed(0)
    model = LMShape(4, 256, 4, 1024, 512, 0.0).build(1024).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(3.0)
    return model


def step_all(model, rows, drop=()):
    """Logits of every step, on the CPU; rows in ``drop`` leave after the first."""
    from syllablelm.lm.decode import CachedDecoder
    from syllablelm.lm.fused import make_stepper

    device = next(model.parameters()).device
    decoder = CachedDecoder(make_stepper(model), len(rows), 64)
    logits = [decoder.prefill([row[:-8] for row in rows])]
    kept = list(range(len(rows)))
    for at in range(-8, 0):
        logits.append(decoder.step(torch.tensor([rows[i][at] for i in kept], device=device)))
        if at == -8 and drop:
            kept = [i for i in kept if i not in drop]
            decoder.keep(kept)
    return [line.float().cpu() for line in logits]


def test_logits_are_those_of_the_cpu(model):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 1024, (n,), generator=generator).tolist() for n in (20, 33, 12)]
    on_cpu = step_all(model.cpu(), rows, drop=(1,))
    on_gpu = step_all(model.cuda(), rows, drop=(1,))
    for found, expected in zip(on_gpu, on_cpu, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-2, rtol=1e-2)


def test_greedy_tokens_are_those_of_transformers(model):
    from syllablelm.lm.decode import CachedDecoder
    from syllablelm.lm.fused import make_stepper

    model.cuda()
    prompt = torch.randint(0, 1024, (2, 16), generator=torch.Generator().manual_seed(1)).cuda()
    with torch.inference_mode():
        whole = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, min_new_tokens=40, max_new_tokens=40
        )
    decoder = CachedDecoder(make_stepper(model), 2, 56)
    tokens = [decoder.prefill(prompt.tolist()).argmax(-1)]
    while len(tokens) < 40:
        tokens.append(decoder.step(tokens[-1]).argmax(-1))
    assert torch.equal(torch.stack(tokens, 1), whole[:, 16:])


def test_8_bit_integers_are_refused(model):
    from syllablelm.core.errors import InputError
    from syllablelm.lm.fused import make_stepper

    with pytest.raises(InputError, match="'int8' is for the CPU"):
        make_stepper(model.cuda(), int8=True)


def test_a_graph_gives_in_bfloat16_what_steps_without_give(model):
    from syllablelm.lm.decode import CachedDecoder
    from syllablelm.lm.fused import make_stepper

    weights = make_stepper(copy.deepcopy(model).cuda().bfloat16())
    rows = torch.randint(0, 1024, (4, 40), generator=torch.Generator().manual_seed(2)).cuda()
    logits = []
    for static in (False, True):
        decoder = CachedDecoder(weights, 4, 64, static=static)
        decoder.prefill(rows[:, :16].tolist())
        logits.append(torch.stack([decoder.step(rows[:, at]) for at in range(16, 40)]).float())
    distance = (logits[0] - logits[1]).norm() / logits[0].norm()
    assert float(distance) < 0.02
