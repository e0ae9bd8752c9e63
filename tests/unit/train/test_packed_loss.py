"""The loss of packed rows: two ways, one number, and crops that do not see each other."""

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
    Attention,
    attend_by_kernel,
    attend_by_length,
    choose_way,
    packed_arrays,
    part_ends,
    sorted_crops,
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


def task_by(attention: Attention | None, shape: LMShape = OPT, **loop: Any) -> tuple[LanguageModelTask, Any]:
    """A task of the way "varlen" with this attention, or of the way "mask", and its model."""
    network = model(shape)
    assert attention is None or use_varlen(network, attention)
    way = "mask" if attention is None else "varlen"
    return LanguageModelTask(network, store(), config(shape, **loop), 0, way=way), network


def losses(shape: LMShape, attention: Attention | None, number: int = 2) -> dict[str, Any]:
    task, network = task_by(attention, shape)
    found = task.module.train()(task.batch(number))
    found["loss"].backward()
    grads = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {name: value.detach() for name, value in found.items()} | {"grads": grads}


class TestLoss:
    @pytest.mark.parametrize("part", [1, 100, 10_000], ids=["a crop", "some crops", "all crops"])
    @pytest.mark.parametrize("shape", [OPT, LLAMA], ids=["opt", "llama"])
    def test_both_ways_give_one_loss_and_one_gradient(self, shape, part, monkeypatch):
        monkeypatch.setattr(packed_loss, "PART_TOKENS", part)
        # Logits of a few positions at a time.
        monkeypatch.setitem(packed_loss.LOGITS, "cpu", 7 * (UNITS + 1))
        varlen, mask = losses(shape, attend_by_length), losses(shape, None)
        assert float(varlen["loss"]) == pytest.approx(float(mask["loss"]), abs=1e-5)
        for name in ("hits", "targets", "tokens", "audio"):
            assert float(varlen[name]) == pytest.approx(float(mask[name])), name
        assert varlen["positions"] == varlen["tokens"] < mask["positions"]
        for name, grad in mask["grads"].items():
            torch.testing.assert_close(varlen["grads"][name], grad, atol=1e-5, rtol=1e-4, msg=name)

    @pytest.mark.parametrize("shape", [OPT, LLAMA], ids=["opt", "llama"])
    def test_the_kernel_gives_it_to_its_precision(self, shape, varlen):
        found, mask = losses(shape, attend_by_kernel), losses(shape, None)
        # Attention alone is in bfloat16.
        assert float(found["loss"]) == pytest.approx(float(mask["loss"]), abs=2e-3)
        assert int(found["tokens"]) == int(mask["tokens"]) and int(found["targets"]) == int(mask["targets"])

    def test_positions_without_a_loss_have_no_gradient(self, monkeypatch):
        monkeypatch.setattr(packed_loss, "PART_TOKENS", 100)
        found = {}
        for attention in (attend_by_length, None):
            task, network = task_by(attention)
            units = task.plan.store
            info = replace(units.info, loss_from=UNITS // 2)
            interleaved = TokenStore(units.tokens, units.frames, units.offsets, info)
            task.plan = PackPlan(interleaved, crop_seconds=5.0, row_tokens=64, batch_tokens=512, seed=0)
            sums = task.module(task.batch(1))
            sums["loss"].backward()
            assert 0 < int(sums["targets"]) < int(sums["tokens"])
            found[attention] = sums, [parameter.grad for parameter in network.parameters()]
        (ours, grads), (dense, expected) = found.values()
        assert float(ours["loss"].detach()) == pytest.approx(float(dense["loss"].detach()), abs=1e-5)
        assert int(ours["hits"]) == int(dense["hits"])
        for grad, other in zip(grads, expected, strict=True):
            torch.testing.assert_close(grad, other, atol=1e-5, rtol=1e-4)

    def test_parts_in_half_precision(self, monkeypatch):
        found = {}
        for part in (50, 10_000):
            monkeypatch.setattr(packed_loss, "PART_TOKENS", part)
            task, network = task_by(attend_by_length)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = task.module(task.batch(2))["loss"]
            loss.backward()
            found[part] = float(loss.detach()), torch.cat([p.grad.flatten() for p in network.parameters()])
        assert found[50][0] == pytest.approx(found[10_000][0], abs=1e-3)
        assert found[50][0] == pytest.approx(float(losses(OPT, None)["loss"]), abs=2e-2)
        assert F.cosine_similarity(found[50][1], found[10_000][1], dim=0) > 0.999

    @pytest.mark.parametrize("shape", [OPT, LLAMA], ids=["opt", "llama"])
    def test_is_that_of_each_crop_alone(self, shape):
        (task, network), tokens = task_by(attend_by_length, shape), store()
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

    def test_twenty_updates_take_the_same_course(self, tmp_path, monkeypatch):
        monkeypatch.setattr(packed_loss, "PART_TOKENS", 200)
        courses = []
        for attention in (attend_by_length, None):
            task, _ = task_by(attention, log_every=1)
            read: list[float] = []
            task.module.register_forward_hook(lambda *call, read=read: read.append(float(call[2]["loss"].detach())))
            run_loop(task, config().loop, tmp_path / task.module.way, seed=0, fingerprint="", device="cpu")
            courses.append(read)
        np.testing.assert_allclose(courses[0], courses[1], atol=1e-4)
        np.testing.assert_allclose(courses[1], GOLDEN, atol=1e-4)


# Losses of twenty updates, recorded with a dense mask and an optimiser that was not fused.
GOLDEN = [
    *(3.060914, 3.048045, 3.031973, 3.035984, 3.021916, 3.010157, 3.00924, 3.007839, 3.002796, 2.994772),
    *(2.998568, 2.992792, 2.991074, 2.987932, 2.989673, 2.982759, 2.985732, 2.991966, 2.975886, 2.979754),
]


class TestArrays:
    def test_every_crop_once_and_the_longest_first(self):
        packed = PackPlan(store(300), crop_seconds=5.0, row_tokens=64, batch_tokens=4096, seed=0).batch(0)
        lengths, places = sorted_crops(packed.crop)
        assert sorted(places.tolist()) == np.flatnonzero(packed.crop.reshape(-1) > 0).tolist()
        assert lengths.tolist() == sorted(lengths.tolist(), reverse=True)
        for crop in np.split(places, np.cumsum(lengths)[:-1]):
            # One crop, from its beginning on.
            assert packed.positions.reshape(-1)[crop].tolist() == list(range(len(crop)))
            assert len({(place // 64, packed.crop.reshape(-1)[place]) for place in crop.tolist()}) == 1

    def test_crops_end_at_crops_padding_and_rows(self):
        lengths, places = sorted_crops(np.array([[1, 1, 2, 0], [1, 2, 2, 2]]))
        assert (lengths.tolist(), places.tolist()) == ([3, 2, 1, 1], [5, 6, 7, 0, 1, 2, 4])

    def test_parts(self):
        assert part_ends([5, 3, 3, 2, 1], 6) == [1, 3, 5]
        assert part_ends([5], 3) == [1]
        assert part_ends([2, 2, 2], 6) == [3]

    def test_arrays_hold_what_their_way_reads(self):
        packed = PackPlan(store(), crop_seconds=5.0, row_tokens=64, batch_tokens=512, seed=0).batch(1)
        whole, varlen = (packed_arrays(packed, way, 0.02) for way in ("mask", "varlen"))
        assert set(whole) ^ set(varlen) == {"crop", "lengths", "edges"}
        assert varlen["edges"].diff().tolist() == list(varlen["lengths"])
        learned = varlen["targets"][varlen["targets"] != IGNORED]
        assert sorted(learned.tolist()) == sorted(whole["targets"][whole["targets"] != IGNORED].tolist())
        assert whole["num_learned"] == varlen["num_learned"] == len(learned)


class TestChoice:
    def test_by_device_precision_and_compiler(self, monkeypatch):
        tried: list[Attention] = []
        monkeypatch.setattr(packed_loss, "use_varlen", lambda _, attention: bool(tried.append(attention)))
        cpu, gpu = torch.device("cpu"), torch.device("cuda")
        network = model(OPT)
        assert choose_way(network, gpu, half=True, compiled=True) == "mask" and not tried
        assert choose_way(network, gpu, half=True, compiled=False) == "mask"
        assert tried == [attend_by_kernel, attend_by_length]
        monkeypatch.undo()
        assert choose_way(network, cpu, half=True, compiled=False) == "varlen"
        assert network.config._attn_implementation == "attend_by_length"

    def test_a_kernel_that_mixes_crops_is_not_used(self, monkeypatch, capfd):
        from torch.nn.attention import varlen

        def mixes(query, key, value, *, scale, window_size, enable_gqa, **lengths):
            whole = torch.tensor([0, len(query)])
            options = {"scale": scale, "window_size": window_size, "enable_gqa": enable_gqa}
            return loop_over_crops(query, key, value, whole, whole, len(query), len(query), **options)

        monkeypatch.setattr(varlen, "varlen_attn", mixes)
        network = model(OPT)
        before = network.config._attn_implementation
        assert not use_varlen(network, attend_by_kernel)
        assert network.config._attn_implementation == before
        assert "attend_by_kernel is not used with 'opt': crops are not as each alone" in capfd.readouterr().err

    def test_a_failing_kernel_is_not_used(self, monkeypatch):
        from torch.nn.attention import varlen

        def fails(*_, **__):
            raise RuntimeError("no kernel for this device")

        monkeypatch.setattr(varlen, "varlen_attn", fails)
        assert not use_varlen(model(LLAMA), attend_by_kernel)

    def test_an_output_layer_with_a_bias(self, capfd):
        network = model(LLAMA)
        network.lm_head.bias = torch.nn.Parameter(torch.zeros(UNITS + 1))
        assert choose_way(network, torch.device("cpu"), half=False, compiled=False) == "mask"
        assert "its output layer has a bias" in capfd.readouterr().err

    @pytest.mark.parametrize("attention", [attend_by_kernel, attend_by_length])
    def test_a_prepared_model_scores_as_before(self, varlen, attention):
        network, tokens = model(OPT), torch.arange(6).repeat(2, 1)
        # The first row has padding at its beginning.
        mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
        with torch.inference_mode():
            before = network.eval()(tokens).logits, network(tokens, attention_mask=mask).logits
            assert use_varlen(network, attention)
            torch.testing.assert_close(network(tokens).logits, before[0])
            torch.testing.assert_close(network(tokens, attention_mask=mask).logits, before[1])
