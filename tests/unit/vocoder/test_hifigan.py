"""The unit HiFi-GAN: published checkpoints open, and sound as a forward pass written from their key names says."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.published_hifigan import LJ_25HZ, PUBLISHED, TINY, published_shapes, random_weights, write
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.vocoder.hifigan import DurationShape, HiFiGanNet, HiFiGanShape, HiFiGanVocoder
from syllablelm.vocoder.resynthesizer import load_vocoder
from syllablelm.vocoder.source_filter import SourceFilterNet, SourceFilterShape, SourceFilterVocoder
from syllablelm.vocoder.unit_vocoder import SHAPE_FILE, WEIGHTS_FILE

UNITS = [3, 0, 6, 1, 1, 5]


def convolve(w: dict[str, Tensor], name: str, x: Tensor, dilation: int = 1) -> Tensor:
    """Weight norm by hand, then a convolution that keeps the length."""
    g, v = w[f"{name}.weight_g"], w[f"{name}.weight_v"]
    kernel = torch.stack([size * row / row.pow(2).sum().sqrt() for size, row in zip(g.flatten(), v, strict=True)])
    return F.conv1d(x, kernel, w[f"{name}.bias"], padding=dilation * (kernel.shape[-1] - 1) // 2, dilation=dilation)


def upsample(w: dict[str, Tensor], name: str, x: Tensor, rate: int) -> Tensor:
    """A transposed convolution by its definition: every input frame adds its kernel, the overhang is cut off."""
    g, v = w[f"{name}.weight_g"], w[f"{name}.weight_v"]
    kernel = torch.stack([size * row / row.pow(2).sum().sqrt() for size, row in zip(g.flatten(), v, strict=True)])
    width = kernel.shape[-1]
    y = torch.zeros(kernel.shape[1], rate * (x.shape[-1] - 1) + width, dtype=x.dtype)
    for t in range(x.shape[-1]):
        y[:, rate * t : rate * t + width] += torch.einsum("i,iok->ok", x[0, :, t], kernel)
    edge = (width - rate) // 2
    return (y[:, edge : y.shape[1] - edge] + w[f"{name}.bias"][:, None])[None]


def oracle(w: dict[str, Tensor], config: dict[str, Any], frames: list[int]) -> np.ndarray:
    x = convolve(w, "conv_pre", w["dict.weight"][frames].T[None])
    number = 0
    for stage, rate in enumerate(config["upsample_rates"]):
        x = upsample(w, f"ups.{stage}", F.leaky_relu(x, 0.1), rate)
        outputs = []
        for dilations in config["resblock_dilation_sizes"]:
            y = x
            for i, dilation in enumerate(dilations):
                if config["resblock"] == "1":
                    z = convolve(w, f"resblocks.{number}.convs1.{i}", F.leaky_relu(y, 0.1), dilation)
                    y = y + convolve(w, f"resblocks.{number}.convs2.{i}", F.leaky_relu(z, 0.1))
                else:
                    y = y + convolve(w, f"resblocks.{number}.convs.{i}", F.leaky_relu(y, 0.1), dilation)
            outputs.append(y)
            number += 1
        x = sum(outputs[1:], outputs[0]) / len(outputs)
    return torch.tanh(convolve(w, "conv_post", F.leaky_relu(x, 0.01)))[0, 0].numpy()


def oracle_durations(w: dict[str, Tensor], order: list[int]) -> list[int]:
    x = w["dict.weight"][order]
    for i in (1, 2):
        p = f"dur_predictor.conv{i}.0"
        x = F.conv1d(x.T[None], w[f"{p}.weight"], w[f"{p}.bias"], padding=1)[0].T.relu()
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        x = x * w[f"dur_predictor.ln{i}.weight"] + w[f"dur_predictor.ln{i}.bias"]
    x = (x @ w["dur_predictor.proj.weight"].T + w["dur_predictor.proj.bias"])[:, 0]
    return [max(1, round(float(np.exp(value) - 1))) for value in x.tolist()]


def each_a_frame(units: list[int], hop: int = 640) -> Segmentation:
    return Segmentation.from_boundaries(range(len(units) + 1), unit=units, hop=hop)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    # The scale of the last layers keeps tanh away from its ends.
    weights = random_weights(TINY)
    weights["conv_post.weight_g"] *= 0.05
    weights["dur_predictor.proj.bias"] += 1.3
    return weights


@pytest.fixture(scope="module")
def vocoder(weights, tmp_path_factory) -> HiFiGanVocoder:
    return HiFiGanVocoder.load(write(tmp_path_factory.mktemp("twist"), TINY, weights), device="cpu")


class TestPublishedCheckpoints:
    def test_sounds_as_the_key_names_say(self, vocoder, weights):
        wave = vocoder.decode(each_a_frame(UNITS), durations="given")
        expected = oracle(weights, TINY, UNITS)
        assert 0.05 < np.abs(expected).max() < 0.9
        assert wave.dtype == np.float32 and wave.shape == (len(UNITS) * 640,)
        np.testing.assert_allclose(wave, expected, atol=2e-5)
        assert vocoder.sample_rate == 16_000 and vocoder.num_units == 7

    def test_single_blocks(self, tmp_path):
        config = {**TINY, "resblock": "2"}
        weights = random_weights(config, 1)
        weights["conv_post.weight_g"] *= 0.05
        wave = HiFiGanVocoder.load(write(tmp_path, config, weights), device="cpu").decode(each_a_frame([2, 4]))
        np.testing.assert_allclose(wave, oracle(weights, config, [2, 4]), atol=2e-5)

    def test_durations_as_the_key_names_say(self, vocoder, weights):
        order = [3, 0, 6, 1, 5]
        durations = oracle_durations(weights, order)
        assert len(set(durations)) > 1
        wave = vocoder.decode(each_a_frame(UNITS), durations="predicted")
        edges = np.cumsum([0, *durations])
        spoken = vocoder.decode(Segmentation.from_boundaries(edges, unit=order, hop=640))
        assert len(spoken) == edges[-1] * 640
        np.testing.assert_array_equal(wave, spoken)

    def test_names_and_shapes_at_full_size(self):
        shape = HiFiGanShape(100, dur_predictor_params=DurationShape())
        expected = {}
        for name, size in published_shapes(PUBLISHED).items():
            if not name.endswith("weight_g"):
                expected[name.replace("weight_v", "weight")] = size
        assert {name: tuple(tensor.shape) for name, tensor in HiFiGanNet(shape).state_dict().items()} == expected
        assert shape.hop == PUBLISHED["code_hop_size"]

    @pytest.mark.slow
    def test_the_25_hz_vocoder_at_full_size(self, tmp_path):
        # The two files that TWIST's users have, with random weights; nothing in them is smaller than the published.
        weights = random_weights(LJ_25HZ)
        weights["conv_post.weight_g"] *= 1e-3
        weights["dur_predictor.proj.weight"] *= 0.2
        weights["dur_predictor.proj.bias"] = torch.tensor([1.2])
        name = "hifigan_lj_mhubert_base_25hz"
        torch.save({"generator": weights}, tmp_path / f"{name}.pt")
        (tmp_path / f"{name}_config.json").write_text(json.dumps(LJ_25HZ))
        vocoder = HiFiGanVocoder.load(tmp_path, device="cpu")
        assert (vocoder.num_units, vocoder.net.shape.hop, vocoder.sample_rate) == (500, 640, 16_000)
        order = [417, 3, 499]
        expected = oracle(weights, LJ_25HZ, order)
        assert 1e-3 < np.abs(expected).max() < 0.99
        scale = float(np.abs(expected).max())
        found = vocoder.decode(each_a_frame(order), durations="given")
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-3)
        # Units of 20 ms have no durations of this vocoder's: it predicts them from the order.
        durations = oracle_durations(weights, order)
        assert len(vocoder.decode(each_a_frame([417, 417, 3, 499], hop=320))) == 640 * sum(durations)

    def test_weights_that_are_folded_already(self, vocoder, tmp_path):
        folder = write(tmp_path, TINY, vocoder.net.state_dict(), "generator.pt")
        loaded = HiFiGanVocoder.load(folder, device="cpu")
        np.testing.assert_array_equal(loaded.decode(each_a_frame(UNITS)), vocoder.decode(each_a_frame(UNITS)))

    def test_the_names_that_files_have(self, weights, vocoder, tmp_path):
        wave = vocoder.decode(each_a_frame([2, 4]))
        folder = write(tmp_path / "steps", TINY, random_weights(TINY, 5), "g_00001000")
        write(folder, TINY, weights, "g_00002000")
        (folder / "do_00003000").write_bytes(b"the discriminators'")
        np.testing.assert_array_equal(load_vocoder(folder, device="cpu").decode(each_a_frame([2, 4])), wave)
        # As TWIST's two files are called.
        folder = write(tmp_path / "twist", TINY, weights, "hifigan_lj_mhubert_base_25hz.pt")
        (folder / "config.json").rename(folder / "hifigan_lj_mhubert_base_25hz_config.json")
        for path in (folder, folder / "hifigan_lj_mhubert_base_25hz.pt"):
            np.testing.assert_array_equal(HiFiGanVocoder.load(path, device="cpu").decode(each_a_frame([2, 4])), wave)

    def test_a_checkpoint_in_half_precision(self, weights, vocoder, tmp_path):
        halved = {name: tensor.half() for name, tensor in vocoder.net.state_dict().items()}
        loaded = HiFiGanVocoder.load(write(tmp_path, TINY, halved), device="cpu")
        assert {parameter.dtype for parameter in loaded.net.parameters()} == {torch.float32}


class TestDecode:
    def test_length_and_range(self, vocoder):
        units = Segmentation.from_boundaries([0, 4, 10, 25], unit=[1, 4, 0], hop=640)
        wave = vocoder.decode(units)
        assert len(wave) == 25 * 640 and np.abs(wave).max() <= 1.0
        np.testing.assert_array_equal(wave, vocoder.decode(units, seed=3))
        assert len(vocoder.decode(Segmentation.from_boundaries([], unit=[], hop=640))) == 0
        assert len(vocoder.decode(Segmentation.from_boundaries([], unit=[]), durations="predicted")) == 0

    def test_a_unit_reaches_as_far_as_the_kernels(self, vocoder):
        net = vocoder.net
        reach, hop = 3 * 640 + 3, 640
        for rate, kernel in zip(TINY["upsample_rates"], TINY["upsample_kernel_sizes"], strict=True):
            hop //= rate
            reach += hop * ((kernel - rate) // 2 + max(1 * (1 + 3) + 2 * 1, 2 * (1 + 2) + 2 * 2))
        frames = 2 * (reach // 640 + 2)
        before = torch.zeros(1, frames, dtype=torch.long)
        after = before.clone()
        after[0, frames // 2] = 5
        try:
            with torch.inference_mode():
                changed = (net.double()(before) != net(after))[0].nonzero().flatten().tolist()
        finally:
            net.float()
        assert (changed[0], changed[-1]) == (frames // 2 * 640 - reach, (frames // 2 + 1) * 640 - 1 + reach)

    def test_durations_are_predicted_for_another_grid(self, vocoder):
        order = each_a_frame([3, 0, 6], hop=320)
        wave = vocoder.decode(order)
        np.testing.assert_array_equal(wave, vocoder.decode(each_a_frame([3, 0, 6]), durations="predicted"))
        assert len(vocoder.decode(each_a_frame([3, 0, 6]))) == 3 * 640 != len(wave)
        with pytest.raises(InputError, match="320 samples"):
            vocoder.decode(order, durations="given")

    def test_predicted_durations_need_the_order_only(self, vocoder):
        wave = vocoder.decode(each_a_frame([3, 0, 6]), durations="predicted")
        start, end, unit = np.array([[1, 5, 7, 12], [2, 7, 11, 13], [3, 0, 0, 6]], dtype=np.int32)
        loose = Segmentation(start, end, unit, 20, hop=640)
        np.testing.assert_array_equal(vocoder.decode(loose, durations="predicted"), wave)
        with pytest.raises(InputError, match="gaps"):
            vocoder.decode(loose)

    def test_durations_in_a_batch_are_those_alone(self, vocoder):
        rows = [[3, 0, 6, 1, 5], [2, 4]]
        units = torch.tensor([[3, 0, 6, 1, 5], [2, 4, 6, 6, 6]])
        known = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
        with torch.inference_mode():
            batched = vocoder.net.log_durations(units, known)
            for found, row in zip(batched, rows, strict=True):
                alone = vocoder.net.log_durations(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.bool))
                torch.testing.assert_close(found[: len(row)], alone[0])

    @pytest.mark.parametrize("durations", ["given", "predicted", None])
    def test_units_that_do_not_fit(self, vocoder, durations):
        with pytest.raises(InputError, match="unit 7 is outside the vocoder's vocabulary of 7"):
            vocoder.decode(each_a_frame([1, 7]), durations=durations)
        with pytest.raises(InputError, match="has none"):
            vocoder.decode(Segmentation.from_boundaries([0, 3], hop=640), durations=durations)

    def test_without_a_predictor(self, vocoder):
        net = HiFiGanNet(replace(vocoder.net.shape, dur_predictor_params=None))
        with pytest.raises(InputError, match="no duration predictor"):
            HiFiGanVocoder(net).decode(each_a_frame([1, 2]), durations="predicted")
        with pytest.raises(InputError, match="320 samples"):
            HiFiGanVocoder(net).decode(each_a_frame([1, 2], hop=320))


class TestFolders:
    def test_saved_and_loaded_sounds_the_same(self, vocoder, tmp_path):
        vocoder.save(tmp_path)
        loaded = HiFiGanVocoder.load(tmp_path, device="cpu")
        assert loaded.net.shape == vocoder.net.shape
        np.testing.assert_array_equal(loaded.decode(each_a_frame(UNITS)), vocoder.decode(each_a_frame(UNITS)))

    def test_either_kind_is_opened(self, vocoder, tmp_path):
        vocoder.save(tmp_path)
        assert isinstance(load_vocoder(tmp_path, device="cpu"), HiFiGanVocoder)
        SourceFilterVocoder(SourceFilterNet(SourceFilterShape(units=5, dim=8, blocks=2, kernel=3))).save(tmp_path)
        assert isinstance(load_vocoder(tmp_path, device="cpu"), SourceFilterVocoder)
        with pytest.raises(FormatError, match="another kind"):
            HiFiGanVocoder.load(tmp_path)

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"kind": "other"}', '{"kind": "hifigan"}', '{"kind": ["hifigan"]}']
    )
    def test_damaged_description(self, vocoder, tmp_path, text):
        vocoder.save(tmp_path)
        (tmp_path / SHAPE_FILE).write_text(text)
        for load in (HiFiGanVocoder.load, load_vocoder):
            with pytest.raises(FormatError, match=SHAPE_FILE):
                load(tmp_path, device="cpu")

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"?" * 50)])
    def test_damaged_weights(self, vocoder, tmp_path, damage):
        vocoder.save(tmp_path)
        damage(tmp_path / WEIGHTS_FILE)
        with pytest.raises(FormatError, match=f"{WEIGHTS_FILE}: (no such file|its weights cannot be read)"):
            load_vocoder(tmp_path, device="cpu")

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FormatError, match=r"no vocoder; give a folder with vocoder\.json"):
            load_vocoder(tmp_path, device="cpu")


class TestWrongCheckpoints:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda w: w.pop("ups.1.bias"), "no ups.1.bias"),
            (lambda w: w.pop("conv_pre.weight_v"), "no conv_pre.weight"),
            (lambda w: w.update({"conv_post.bias": torch.zeros(2)}), r"conv_post.bias is \(2,\), not \(1,\)"),
            (lambda w: w.update({"dict.weight": torch.zeros(9, 6)}), r"dict.weight is \(9, 6\), not \(7, 6\)"),
            (lambda w: w.update({"spkr.weight": torch.zeros(2, 6)}), "unknown spkr.weight"),
            (lambda w: w.update({"dict.weight": "text"}), "dict.weight is a str, not a tensor"),
        ],
    )
    def test_first_wrong_key_is_named(self, weights, tmp_path, change, message):
        wrong = dict(weights)
        change(wrong)
        with pytest.raises(FormatError, match=message) as caught:
            HiFiGanVocoder.load(write(tmp_path, TINY, wrong), device="cpu")
        assert "g_00500000" in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"multispkr": "parent_name"}, "more than units .multispkr is 'parent_name'"),
            ({"f0": True}, "more than units .f0 is True"),
            ({"model_in_dim": 12}, "more than units .model_in_dim is 12"),
            ({"upsample_kernel_sizes": [20, 16, 7]}, "plus even numbers"),
            ({"upsample_kernel_sizes": [20, 16]}, "as many upsample_kernel_sizes"),
            ({"upsample_initial_channel": 20}, "halved"),
            ({"resblock_kernel_sizes": [3, 4]}, "odd resblock_kernel_sizes"),
            ({"resblock_dilation_sizes": [[1, 3], []]}, "numbers from 1"),
            ({"resblock": "3"}, "'3' is not one of"),
            ({"num_embeddings": "many"}, "expected int"),
            ({"dur_predictor_params": {"encoder_embed_dim": 9}}, "must be the embedding_dim"),
            ({"dur_predictor_params": {"encoder_embed_dim": 6, "var_pred_kernel_size": 4}}, "odd var_pred_kernel_size"),
        ],
    )
    def test_configurations(self, weights, tmp_path, change, message):
        with pytest.raises(FormatError, match=message) as caught:
            HiFiGanVocoder.load(write(tmp_path, {**TINY, **change}, weights), device="cpu")
        assert "config.json" in str(caught.value) and "\n" not in str(caught.value)

    def test_no_configuration(self, weights, tmp_path):
        (write(tmp_path, TINY, weights) / "config.json").unlink()
        with pytest.raises(FormatError, match=r"config\.json: no such file"):
            HiFiGanVocoder.load(tmp_path)

    def test_not_a_generator(self, tmp_path):
        torch.save({"mpd": {}, "msd": {}}, write(tmp_path, TINY, {}) / "g_00600000")
        with pytest.raises(FormatError, match="g_00600000: not a HiFi-GAN checkpoint"):
            HiFiGanVocoder.load(tmp_path)

    def test_code_in_a_checkpoint(self, tmp_path):
        write(tmp_path, TINY, {"dict.weight": os.system})
        with pytest.raises(FormatError, match="refused"):
            HiFiGanVocoder.load(tmp_path)
