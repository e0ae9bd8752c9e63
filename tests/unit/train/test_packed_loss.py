"""The loss of packed rows: three ways, one number, and crops that do not see each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from syllablelm.lm.backbone import LMShape
from syllablelm.lm.packing import IGNORED, PackPlan
from syllablelm.lm.speech_lm import SpeechLM, typical_durations
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.train import packed_loss
from syllablelm.train.lm_stage import LanguageModelTask, LMConfig
from syllablelm.train.loop import LoopConfig, run_loop
from syllablelm.train.packed_loss import (
    choose_way,
    crop_edges,
    crop_groups,
    packed_arrays,
    use_varlen,
)

UNITS = 20
OPT = LMShape(layers=2, dim=32, heads=4, feed_forward=48, positions=64, dropout=0.0)
LLAMA = replace(OPT, family="llama")


def store(recordings: int = 40) -> TokenStore:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, UNITS, rng.integers(1, 45)).astype(np.int32) for _ in range(recordings)]
    return TokenStore.from_arrays(rows, [np.full(len(row), 8, dtype=np.int32) for row in rows], TokenInfo(UNITS))


def config(shape: LMShape = OPT, **loop: Any) -> LMConfig:
    return LMConfig(LoopConfig(**{"steps": 20, "lr": 1e-3, **loop}), shape, 5.0, 64, 512)


def model(shape: LMShape) -> Any:
    torch.manual_seed(0)
    return shape.build(UNITS)


def loop_over_crops(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):
    """What torch's kernel computes, crop by crop, in the precision of its inputs."""
    assert window_size == (-1, 0) and torch.equal(cu_seq_q, cu_seq_k)
    assert max_q == max_k >= int(cu_seq_q.diff().max())
    parts = []
    for first, last in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        own = [part[first:last].transpose(0, 1)[None].float() for part in (query, key, value)]
        found = F.scaled_dot_product_attention(*own, is_causal=True, scale=scale, enable_gqa=enable_gqa)
        parts.append(found[0].transpose(0, 1).to(query.dtype))
    return torch.cat(parts)


@pytest.fixture
def varlen(monkeypatch):
    """torch's variable-length attention, which runs on GPUs only, replaced by a loop."""
    from torch.nn.attention import varlen

    monkeypatch.setattr(varlen, "varlen_attn", loop_over_crops)


def losses(shape: LMShape, way: packed_loss.Way, number: int = 2) -> dict[str, Any]:
    network = model(shape)
    if way == "varlen":
        assert use_varlen(network)
    task = LanguageModelTask(network, store(), config(shape), 0, way=way)
    found = task.module.train()(task.batch(number))
    found["loss"].backward()
    # The last way needs no gradients of its own: each parameter's is compared.
    grads = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {name: value.detach() for name, value in found.items()} | {"grads": grads}


class TestLoss:
    @pytest.mark.parametrize("shape", [OPT, LLAMA], ids=["opt", "llama"])
    def test_crops_and_mask_give_one_loss_and_one_gradient(self, shape):
        crops, mask = losses(shape, "crops"), losses(shape, "mask")
        assert float(crops["loss"]) == pytest.approx(float(mask["loss"]), abs=1e-5)
        for name in ("hits", "targets", "tokens", "audio"):
            assert float(crops[name]) == pytest.approx(float(mask[name])), name
        for name, grad in mask["grads"].items():
            torch.testing.assert_close(crops["grads"][name], grad, atol=1e-5, rtol=1e-4, msg=name)

    @pytest.mark.parametrize("shape", [OPT, LLAMA], ids=["opt", "llama"])
    def test_variable_length_attention_gives_it_to_the_precision_of_its_kernel(self, shape, varlen):
        found, mask = losses(shape, "varlen"), losses(shape, "mask")
        # Attention alone is in bfloat16.
        assert float(found["loss"]) == pytest.approx(float(mask["loss"]), abs=2e-3)
        assert int(found["tokens"]) == int(mask["tokens"]) and int(found["targets"]) == int(mask["targets"])

    @pytest.mark.parametrize("shape", [OPT, LLAMA], ids=["opt", "llama"])
    def test_is_that_of_each_crop_alone(self, shape):
        network, tokens = model(shape), store()
        task = LanguageModelTask(network, tokens, config(shape), 0)
        packed = task.plan.batch(2)
        with torch.inference_mode():
            found = task.module.eval()(task.batch(2))
        rows = [
            packed.targets[r][packed.crop[r] == c]
            for r in range(len(packed.crop))
            for c in range(1, packed.crop[r].max() + 1)
        ]
        alone = SpeechLM(network, tokens.info, typical_durations(tokens))._score_tokens(rows)
        assert float(found["nats"]) == pytest.approx(-sum(row.sum() for row in alone), rel=1e-4)
        assert int(found["targets"]) == sum(len(row) for row in rows)

    def test_twenty_updates_take_the_same_course(self, tmp_path):
        courses = {}
        for way in ("crops", "mask"):
            network = model(OPT)
            task = LanguageModelTask(network, store(), config(log_every=1), 0, way=way)
            read = courses[way] = []
            task.module.register_forward_hook(lambda *call, read=read: read.append(float(call[2]["loss"].detach())))
            run_loop(task, config().loop, tmp_path / way, seed=0, fingerprint="", device="cpu")
        np.testing.assert_allclose(courses["crops"], courses["mask"], atol=1e-4)
        np.testing.assert_allclose(courses["mask"], GOLDEN, atol=1e-4)


# Losses of twenty updates, recorded with a dense mask and an optimiser that was not fused.
GOLDEN = [
    *(3.060914, 3.048045, 3.031973, 3.035984, 3.021916, 3.010157, 3.00924, 3.007839, 3.002796, 2.994772),
    *(2.998568, 2.992792, 2.991074, 2.987932, 2.989673, 2.982759, 2.985732, 2.991966, 2.975886, 2.979754),
]


class TestGroups:
    def test_every_crop_once_in_groups_of_similar_lengths(self):
        plan = PackPlan(store(300), crop_seconds=5.0, row_tokens=64, batch_tokens=4096, seed=0)
        packed = plan.batch(0)
        groups = crop_groups(packed.crop)
        places = np.concatenate([group[group >= 0] for group in groups])
        assert sorted(places.tolist()) == np.flatnonzero(packed.crop.reshape(-1) > 0).tolist()
        widths = [group.shape[1] for group in groups]
        assert widths == sorted(widths, reverse=True)
        for group in groups:
            lengths = (group >= 0).sum(1)
            assert lengths.max() == group.shape[1] and lengths.min() >= packed_loss.SIMILAR * group.shape[1]
            assert group.size <= max(packed_loss.GROUP_TOKENS, group.shape[1])
            for row, length in zip(group, lengths, strict=True):
                # One crop, from its beginning on.
                assert packed.positions.reshape(-1)[row[:length]].tolist() == list(range(length))
                assert len({(place // 64, packed.crop.reshape(-1)[place]) for place in row[:length].tolist()}) == 1

    def test_edges_end_crops_and_padding(self):
        crop = np.array([[1, 1, 2, 0], [1, 2, 2, 2]])
        assert crop_edges(crop).tolist() == [0, 2, 3, 4, 5, 8]
        assert [group.tolist() for group in crop_groups(crop)] == [[[5, 6, 7]], [[0, 1]], [[2], [4]]]

    def test_a_batch_of_padding_only(self):
        assert crop_groups(np.zeros((2, 3), dtype=np.int64)) == []

    def test_arrays_hold_what_their_way_reads(self):
        packed = PackPlan(store(), crop_seconds=5.0, row_tokens=64, batch_tokens=512, seed=0).batch(1)
        whole, grouped = (packed_arrays(packed, way, 0.02) for way in ("mask", "crops"))
        assert set(whole) - set(grouped) == {"tokens", "targets", "positions", "crop"}
        learned = torch.cat([targets[targets != IGNORED] for _, targets in grouped["groups"]])
        assert sorted(learned.tolist()) == sorted(whole["targets"][whole["targets"] != IGNORED].tolist())
        assert whole["num_learned"] == grouped["num_learned"] == len(learned)


class TestChoice:
    def test_by_device_precision_and_compiler(self, monkeypatch):
        monkeypatch.setattr(packed_loss, "use_varlen", lambda _: True)
        cpu, gpu = torch.device("cpu"), torch.device("cuda")
        network = model(OPT)
        assert choose_way(network, cpu, half=True, compiled=False) == "crops"
        assert choose_way(network, gpu, half=True, compiled=False) == "varlen"
        assert choose_way(network, gpu, half=False, compiled=False) == "crops"
        assert choose_way(network, gpu, half=True, compiled=True) == "mask"

    def test_a_kernel_that_mixes_crops_is_not_used(self, monkeypatch, capfd):
        from torch.nn.attention import varlen

        def mixes(query, key, value, *, scale, window_size, enable_gqa, **lengths):
            whole = torch.tensor([0, len(query)])
            options = {"scale": scale, "window_size": window_size, "enable_gqa": enable_gqa}
            return loop_over_crops(query, key, value, whole, whole, len(query), len(query), **options)

        monkeypatch.setattr(varlen, "varlen_attn", mixes)
        network = model(OPT)
        before = network.config._attn_implementation
        assert not use_varlen(network)
        assert network.config._attn_implementation == before
        assert "variable-length attention is not used with 'opt': crops are not as each alone" in capfd.readouterr().err

    def test_a_failing_kernel_is_not_used(self, monkeypatch):
        from torch.nn.attention import varlen

        def fails(*_, **__):
            raise RuntimeError("no kernel for this device")

        monkeypatch.setattr(varlen, "varlen_attn", fails)
        assert not use_varlen(model(LLAMA))

    def test_a_prepared_model_scores_as_before(self, varlen):
        network, tokens = model(OPT), torch.arange(6)[None]
        with torch.inference_mode():
            before = network.eval()(tokens).logits
            assert use_varlen(network)
            torch.testing.assert_close(network(tokens).logits, before)
