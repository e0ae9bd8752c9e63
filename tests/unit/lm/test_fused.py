"""Decoding of every family: equal to transformers token by token, and batched as alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from helpers.devices import DEVICES
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.backbone import LMShape, load_decoder
from syllablelm.lm.decode import CachedDecoder, StaticStep, check_decoder
from syllablelm.lm.fused import FusedDecoder, Int8Linear, TransformersDecoder, make_stepper, max_positions
from syllablelm.lm.speech_lm import SpeechLM, count_parameters
from syllablelm.lm.store import TokenInfo

V = 18
SIZES = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "bos_token_id": V - 1,
         "eos_token_id": None, "pad_token_id": None, "max_position_embeddings": 40}  # fmt: skip
GATED = {**SIZES, "intermediate_size": 24}
SHARED = {**GATED, "num_key_value_heads": 2}
# Name: family, configuration, whether its weights are fused.
FAMILIES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "llama": ("llama", GATED, True),
    "llama with biases and shared keys": ("llama", {**SHARED, "attention_bias": True, "mlp_bias": True}, True),
    "mistral": ("mistral", {**SHARED, "sliding_window": 64}, True),
    "qwen2": ("qwen2", SHARED, True),
    "qwen3 with wide heads": ("qwen3", {**SHARED, "head_dim": 8}, True),
    "llama of a dynamic rotary": (
        "llama",
        {**GATED, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        False,
    ),
    "smollm3": ("smollm3", {**SHARED, "no_rope_layers": [1, 0, 1]}, False),
    "gpt_neox": ("gpt_neox", GATED, False),
    "gpt2": ("gpt2", SIZES, False),
    "gemma": ("gemma", {**SHARED, "head_dim": 4}, False),
}


def build(name: str) -> Any:
    family, settings, _ = FAMILIES[name]
    config = CONFIG_MAPPING[family](**settings)
    torch.manual_seed(3)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms and biases too, so that one left out shows.
            parameter.normal_(float(parameter.ndim == 1 and parameter.mean() == 1), 0.3)
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_steps_are_those_of_the_whole_sequence_and_of_each_alone(name):
    model = build(name)
    stepper = make_stepper(model)
    assert isinstance(stepper, FusedDecoder if FAMILIES[name][2] else TransformersDecoder)
    check_decoder(model, name)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, V, n).tolist() for n in (2, 9, 4)]
    fresh = rng.integers(0, V, 3).tolist()
    steps = torch.from_numpy(rng.integers(0, V, (6, 3)))
    decoder = CachedDecoder(stepper, 3, 24)
    found = [decoder.prefill(prompts), *(decoder.step(row) for row in steps[:2])]
    # The second sequence begins again, the first one ends.
    decoder.reread([1], [fresh])
    decoder.keep([1, 2])
    found += [decoder.step(row[1:]) for row in steps[2:]]
    wholes = {1: [*fresh, *steps[2:, 1].tolist()], 2: [*prompts[2], *steps[:, 2].tolist()]}
    for i, tokens in wholes.items():
        with torch.inference_mode():
            whole = model(torch.tensor([tokens])).logits[0]
        own = (
            [row[i - 1] for row in found[3:]]
            if i == 1
            else [*(row[2] for row in found[:3]), *(r[1] for r in found[3:])]
        )
        torch.testing.assert_close(torch.stack(own), whole[-len(own) :], atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [name for name, (_, _, fused) in FAMILIES.items() if fused])
def test_steps_of_fixed_shapes_and_compiled_ones_are_those_of_growing_ones(name, device, monkeypatch):
    # The second step with the same tensors is a CUDA graph on a GPU.
    monkeypatch.setattr(StaticStep, "WARM_UP", 1)
    weights = make_stepper(build(name).to(device))
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, V, n).tolist() for n in (2, 9, 4, 6)]
    steps = torch.from_numpy(rng.integers(0, V, (11, 4))).to(device)
    decoders = [CachedDecoder(weights, 4, 16, static=static) for static in (False, True, None)]
    tolerance = 1e-5 if device == "cpu" else 1e-4
    for grown, *others in zip(*(walk(decoder, prompts, steps) for decoder in decoders), strict=True):
        for other in others:
            torch.testing.assert_close(other, grown, atol=tolerance, rtol=tolerance)


def walk(decoder: CachedDecoder, prompts: list[list[int]], steps: torch.Tensor) -> list[torch.Tensor]:
    """Logits of steps between which sequences begin again, end, and give up positions that all of them waste."""
    logits = [decoder.prefill(prompts), *(decoder.step(row) for row in steps[:2])]
    logits.append(decoder.reread([1, 3], [[5, 3, 1], [2]]))
    logits += [decoder.step(row) for row in steps[2:5]]
    decoder.keep([2, 1, 3])
    logits += [decoder.step(row[:3]) for row in steps[5:7]]
    # A longer one than any so far, where slots are few.
    logits.append(decoder.reread([0], [list(range(decoder.length + 1))]))
    assert decoder.length < decoder.capacity
    logits += [decoder.step(row[:3]) for row in steps[7:8]]
    with torch.inference_mode():
        assert all(bool(torch.isfinite(line).all()) for line in logits)
    # The same cache, filled anew.
    return [*logits, decoder.prefill([[1], [4, 2], [3]]), decoder.step(steps[8, :3])]


def test_a_full_cache_takes_no_further_token():
    decoder = CachedDecoder(make_stepper(build("llama")), 1, 3, static=True)
    decoder.prefill([[1, 2]])
    decoder.step(torch.tensor([3]))
    with pytest.raises(IndexError, match="all 3 positions"):
        decoder.step(torch.tensor([4]))


class TestInt8:
    def test_equals_the_rounded_product_in_exact_arithmetic(self):
        torch.manual_seed(0)
        weight, bias, x = torch.randn(7, 16), torch.randn(7), torch.randn(2, 3, 16)
        weight[2], x[1, 1] = 0.0, 0.0
        rounded = torch.zeros(7, 16, dtype=torch.float64)
        for n, row in enumerate(weight.double()):
            step = max(float(row.abs().max()), 1e-12) / 127
            rounded[n] = step * (row / step).round()
        expected = torch.empty(2, 3, 7, dtype=torch.float64)
        for place in np.ndindex(2, 3):
            row = x[place].double()
            step = max(float(row.abs().max()), 1e-12) / 127
            expected[place] = rounded @ (step * (row / step).round()) + bias.double()
        torch.testing.assert_close(Int8Linear(weight, bias)(x).double(), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(Int8Linear(weight, None)(x).double(), expected - bias, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family[2]])
    def test_logits_are_near_in_every_fused_family(self, name):
        model = build(name)
        prompt = [[3, 1, 4, 1, 5]]
        exact, found = (
            CachedDecoder(make_stepper(model, int8=int8), 1, 6).prefill(prompt)[0] for int8 in (False, True)
        )
        assert 0 < float((exact - found).norm() / exact.norm()) < 0.1

    def test_where_it_cannot_be(self):
        with pytest.raises(InputError, match="precision 'int8': not for models of type 'gpt_neox'"):
            make_stepper(build("gpt_neox"), int8=True)
        with pytest.raises(InputError, match="for the CPU"):
            make_stepper(build("llama").to(torch.bfloat16), int8=True)


def speech_lm(model: Any) -> SpeechLM:
    return SpeechLM(model, TokenInfo(V - 1), np.full(V - 1, 3, dtype=np.int32))


def segmentation(units: list[int]) -> Segmentation:
    return Segmentation.from_boundaries(np.arange(len(units) + 1) * 3, unit=units)


@pytest.mark.parametrize("name", ["llama", "qwen3 with wide heads", "gpt_neox"])
def test_a_speech_lm_scores_and_continues_as_transformers_does(name, tmp_path: Path):
    build(name).save_pretrained(tmp_path / "lm")
    model: Any = load_decoder(tmp_path / "lm")
    lm = speech_lm(model)
    segs = [segmentation(units) for units in ([1, 5, 2, 9, 3], [4, 0], [7, 8, 7, 1, 2, 3, 11])]
    for seg, score in zip(segs, lm.score(segs, "sum"), strict=True):
        tokens = torch.tensor([[V - 1, *np.asarray(seg.unit).tolist()]])
        with torch.inference_mode():
            log_probs = model(tokens).logits[0, :-1].log_softmax(-1)
        assert score == pytest.approx(float(log_probs.gather(1, tokens[0, 1:, None]).sum()), abs=1e-4)
    drawn = lm.generate(segs, seconds=0.6, temperature=0.0)
    for seg, more in zip(segs, drawn, strict=True):
        tokens = torch.tensor([[V - 1, *np.asarray(seg.unit).tolist()]])
        whole = model.generate(
            tokens, do_sample=False, max_new_tokens=len(more), min_new_tokens=len(more), suppress_tokens=[V - 1]
        )
        assert np.asarray(more.unit).tolist() == whole[0, tokens.shape[1] :].tolist()
    alone = [lm.generate([seg], seconds=0.6, temperature=1.0, seeds=[4])[0] for seg in segs]
    together = lm.generate(segs, seconds=0.6, temperature=1.0, seeds=[4] * 3)
    assert [np.asarray(a.unit).tolist() for a in alone] == [np.asarray(b.unit).tolist() for b in together]


def test_precision_of_rotary_angles_stays(tmp_path: Path):
    from dataclasses import asdict

    from syllablelm.core.artifact import new_artifact

    with new_artifact(tmp_path / "lm", "lm", config=asdict(TokenInfo(V - 1)), seed=0, parents={}, metrics={}) as folder:
        speech_lm(build("llama")).write_payload(folder)
    half: Any = SpeechLM.load(tmp_path / "lm", device="cpu", precision="bfloat16").model
    assert half.model.rotary_emb.inv_freq.dtype == torch.float32
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_a_recurrent_family_is_refused():
    config = CONFIG_MAPPING["mamba"](vocab_size=V, hidden_size=16, state_size=4, num_hidden_layers=2)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    with pytest.raises(FormatError, match="x: models of type 'mamba' cannot be used here"):
        check_decoder(model, "x")


def test_the_context_ends_with_a_sliding_window():
    config = CONFIG_MAPPING["mistral"](**{**GATED, "sliding_window": 12})
    assert max_positions(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)) == 12
    config = CONFIG_MAPPING["qwen2"](**{**SHARED, "sliding_window": 12, "use_sliding_window": False})
    assert max_positions(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)) == 40


# The five models of the scaling paper: layers, width, heads, feed-forward width, parameters without embeddings.
PAPER = [
    (6, 512, 8, 1536, 20_453_888),
    (12, 768, 12, 2048, 84_953_856),
    (12, 1024, 16, 2816, 154_166_272),
    (24, 1024, 16, 2816, 308_331_520),
    (16, 2048, 32, 5632, 822_151_168),
]


@pytest.mark.parametrize(("layers", "dim", "heads", "inner", "params"), PAPER)
def test_sizes_of_the_scaling_paper(layers, dim, heads, inner, params):
    shape = LMShape(layers, dim, heads, inner, positions=2050, dropout=0.0, family="llama")
    with torch.device("meta"):
        model: Any = shape.build(501)
    assert count_parameters(model) == (params, params + 502 * dim)
    config = model.config
    assert (config.rope_parameters["rope_theta"], config.tie_word_embeddings) == (10_000.0, True)
    assert (config.hidden_act, config.rms_norm_eps, config.max_position_embeddings) == ("silu", 1e-5, 2050)


def test_llamas_that_cannot_be():
    with pytest.raises(InputError, match=r"dropout 0\.1: a Llama has none"):
        LMShape(family="llama")
    with pytest.raises(InputError, match="RoPE turns pairs"):
        LMShape(1, 12, 4, 8, 16, 0.0, family="llama")
