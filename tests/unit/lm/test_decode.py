"""The cached decoder and the sampler, against transformers and against definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.opt.configuration_opt import OPTConfig
from transformers.models.opt.modeling_opt import OPTForCausalLM

from helpers.devices import DEVICES
from syllablelm.core.errors import InputError
from syllablelm.lm.decode import CachedDecoder, Sampler, Sampling, StaticStep
from syllablelm.lm.fused import make_stepper

V = 17


def build(norm_first: bool, embed: int) -> OPTForCausalLM:
    torch.manual_seed(3)
    config = OPTConfig(
        vocab_size=V,
        hidden_size=16,
        word_embed_proj_dim=embed,
        num_hidden_layers=3,
        num_attention_heads=4,
        ffn_dim=32,
        max_position_embeddings=40,
        do_layer_norm_before=norm_first,
    )
    model = OPTForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.3)
    return model


@pytest.mark.parametrize(("norm_first", "embed"), [(True, 16), (True, 8), (False, 16)])
def test_logits_are_those_of_the_whole_sequence(norm_first, embed):
    model = build(norm_first, embed)
    tokens = torch.randint(0, V, (1, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = model(tokens).logits[0]
    decoder = CachedDecoder(make_stepper(model), 1, 20)
    logits = [decoder.prefill([tokens[0, :6].tolist()])[0]]
    logits += [decoder.step(tokens[:, at])[0] for at in range(6, 20)]
    torch.testing.assert_close(torch.stack(logits), whole[5:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("norm_first", "embed"), [(True, 16), (True, 8), (False, 16)])
def test_steps_of_fixed_shapes_and_compiled_ones_are_those_of_growing_ones(norm_first, embed, device, monkeypatch):
    monkeypatch.setattr(StaticStep, "WARM_UP", 1)
    weights = make_stepper(build(norm_first, embed).to(device))
    rng = np.random.default_rng(4)
    prompts = [rng.integers(0, V, n).tolist() for n in (1, 9, 4)]
    steps = torch.from_numpy(rng.integers(0, V, (6, 3))).to(device)
    logits = []
    for static in (False, True, None):
        decoder = CachedDecoder(weights, 3, 20, static=static)
        lines = [decoder.prefill(prompts), *(decoder.step(row) for row in steps[:2])]
        lines += [decoder.reread([1], [[3, 5]]), decoder.step(steps[2])]
        decoder.keep([1, 2])
        logits.append(torch.cat(lines + [decoder.step(row[1:]) for row in steps[3:]]))
    tolerance = 1e-5 if device == "cpu" else 1e-4
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], atol=tolerance, rtol=tolerance)


def test_prompts_of_other_lengths_change_nothing():
    weights = make_stepper(build(True, 16))
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, V, n).tolist() for n in (1, 9, 4)]
    steps = torch.from_numpy(rng.integers(0, V, (5, 3)))
    decoder = CachedDecoder(weights, 3, 20)
    together = [decoder.prefill(prompts), *(decoder.step(row) for row in steps)]
    for i, prompt in enumerate(prompts):
        alone = CachedDecoder(weights, 1, 20)
        logits = [alone.prefill([prompt]), *(alone.step(row[i : i + 1]) for row in steps)]
        torch.testing.assert_close(torch.cat(logits), torch.stack([row[i] for row in together]), atol=1e-5, rtol=1e-5)


def test_rows_that_are_kept_go_on_as_before_and_need_no_places_for_the_others():
    weights = make_stepper(build(True, 16))
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, V, n).tolist() for n in (2, 9, 5, 4)]
    steps = torch.from_numpy(rng.integers(0, V, (11, 4)))
    decoder = CachedDecoder(weights, 4, 16)
    decoder.prefill(prompts)
    # After three steps 12 places are taken, 4 of them by the second row alone; without it 8 more fit.
    found = [decoder.step(row) for row in steps[:3]]
    decoder.keep([3, 2])
    assert decoder.length == 8
    found += [decoder.step(row[[3, 2]]) for row in steps[3:]]
    assert decoder.length == 16
    for place, row in ((0, 3), (1, 2)):
        alone = CachedDecoder(weights, 1, 16)
        alone.prefill([prompts[row]])
        logits = torch.cat([alone.step(step[row : row + 1]) for step in steps])
        mine = torch.stack([line[row] for line in found[:3]] + [line[place] for line in found[3:]])
        torch.testing.assert_close(mine, logits, atol=1e-5, rtol=1e-5)


def test_streams_belong_to_rows():
    logits = torch.zeros(3, V)
    whole = Sampler(Sampling(1.0, seed=2), range(3))
    parts = Sampler(Sampling(1.0, seed=2), range(3))
    first, second = whole(logits), whole(logits)
    assert parts(logits[:2], [2, 0]).tolist() == first[[2, 0]].tolist()
    assert parts(logits[:1], [0]).tolist() == second[[0]].tolist()
    own = Sampler(Sampling(1.0), [0, 0], seeds=[7, 8])
    assert own(logits[:2]).tolist() == [int(Sampler(Sampling(1.0, seed=s), [0])(logits[:1])) for s in (7, 8)]


def test_capacity_beyond_the_context_is_refused():
    with pytest.raises(InputError, match="context of 40"):
        CachedDecoder(make_stepper(build(True, 16)), 1, 41)


def test_greedy_takes_the_likeliest():
    logits = torch.randn(5, V, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Sampler(Sampling(0.0), range(5))(logits), logits.argmax(-1))


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.0, 1.0]])
    sampler = Sampler(Sampling(temperature=0.7, seed=5), [0])
    drawn = torch.cat([sampler(logits) for _ in range(6000)])
    expected = (logits.double() / 0.7).softmax(-1)[0]
    observed = torch.bincount(drawn, minlength=5) / 6000
    assert torch.all((observed - expected).abs() < 4 * (expected * (1 - expected) / 6000).sqrt())


def test_top_k_keeps_k_even_where_logits_tie():
    probs = Sampler(Sampling(1.0, top_k=2), [0]).probabilities(torch.zeros(1, 6))
    assert int((probs > 0).sum()) == 2
    probs = Sampler(Sampling(1.0, top_k=2), [0]).probabilities(torch.tensor([[1.0, 3.0, 2.0]]))
    assert probs[0, 0] == 0
    assert probs.sum() == pytest.approx(1.0)


def test_top_p_keeps_the_token_that_crosses():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    probs = Sampler(Sampling(1.0, top_p=0.6), [0]).probabilities(logits)[0]
    torch.testing.assert_close(probs, torch.tensor([0.5, 0.3, 0, 0], dtype=torch.float64) / 0.8, atol=1e-6, rtol=0)
    probs = Sampler(Sampling(1.0, top_p=0.01), [0]).probabilities(logits)[0]
    assert probs.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_a_draw_never_gives_an_impossible_token():
    sampler = Sampler(Sampling(1.0, top_k=1), [0])
    logits = torch.tensor([[0.0, 5.0, 0.0]])
    assert {int(sampler(logits)) for _ in range(200)} == {1}


@pytest.mark.parametrize("temperature", [1e-320, 1e-300, 1e-7])
def test_next_to_no_temperature_is_none(temperature):
    logits = torch.randn(5, V, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Sampler(Sampling(temperature, top_k=3, top_p=0.9), range(5))(logits), logits.argmax(-1))


@pytest.mark.parametrize("capacity", [16, 40])
def test_rows_that_begin_anew_go_on_as_alone_and_the_others_as_before(capacity):
    weights = make_stepper(build(True, 16))
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, V, n).tolist() for n in (3, 9, 14, 6)]
    fresh = {3: rng.integers(0, V, 5).tolist(), 2: rng.integers(0, V, 2).tolist()}
    steps = torch.from_numpy(rng.integers(0, V, (5, 4)))
    decoder = CachedDecoder(weights, 4, capacity)
    decoder.prefill(prompts)
    decoder.reread(list(fresh), list(fresh.values()))
    found = []
    for row in steps:
        if decoder.length == decoder.capacity:
            decoder.keep(range(4))
            assert decoder.length < decoder.capacity
        found.append(decoder.step(row))
    for place, prompt in enumerate(prompts):
        alone = CachedDecoder(weights, 1, 40)
        alone.prefill([fresh.get(place, prompt)])
        logits = torch.cat([alone.step(row[place : place + 1]) for row in steps])
        torch.testing.assert_close(torch.stack([line[place] for line in found]), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": -1}, "top_k -1"),
        ({"top_k": 2.5}, "top_k 2.5: must be a whole"),
        ({"top_p": 0.0}, "top_p"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**32}, "seed 4294967296"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(InputError, match=message):
        Sampling(**options)


def test_seeds_of_their_own_are_checked_too():
    with pytest.raises(InputError, match="seed -3"):
        Sampler(Sampling(), [0, 0], seeds=[1, -3])


def test_the_penalty_on_repetition_is_that_of_transformers():
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(2, V, generator=torch.Generator().manual_seed(0))
    seen = torch.tensor([[1, 1, 5, 7], [0, 3, 3, 16]])
    expected = RepetitionPenaltyLogitsProcessor(1.3)(seen, logits.clone())
    greedy = Sampler(Sampling(0.0, repetition_penalty=1.3), [0, 1])
    # A token without a logit, such as BOS, does not count.
    rows = [[V, *row] for row in seen.tolist()]
    for scores in (logits, -logits):
        expected = RepetitionPenaltyLogitsProcessor(1.3)(seen, scores.clone())
        assert greedy(scores, None, rows).tolist() == expected.argmax(-1).tolist()
    peak = torch.full((1, V), 1.0)
    peak[0, 4] = 1.2
    assert Sampler(Sampling(0.0), [0])(peak, None, [[4]]).item() == 4
    assert Sampler(Sampling(0.0, repetition_penalty=1.3), [0])(peak, None, [[4]]).item() == 0
    with pytest.raises(InputError, match="repetition_penalty 0: must be above 0"):
        Sampling(repetition_penalty=0)
