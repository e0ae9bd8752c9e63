from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers.released_checkpoints import SLOPES, Oracle, block_name, random_weights, tones
from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders import data2vec2_model
from syllablelm.encoders.base import FrameEncoder, TrainableEncoder
from syllablelm.encoders.data2vec2 import AUDIO, PREFIX, Data2Vec2Encoder, from_state, load_data2vec2, save_data2vec2
from syllablelm.encoders.data2vec2_model import alibi_slopes
from syllablelm.encoders.padding import pad_waveforms

WEIGHTS = random_weights()
SHORT, LONG, OTHER = tones(9_000, 1), tones(41_111, 2), tones(12_345, 3)


def make(weights: dict[str, Tensor] | None = None, layer: int | None = None, **options: Any) -> Data2Vec2Encoder:
    return Data2Vec2Encoder(from_state(weights or WEIGHTS, "here"), layer, **options)


ENCODER = make()


class TestFeatures:
    @pytest.mark.parametrize("num_samples", [400, 719, 720, 16_000])
    def test_every_layer_equals_the_oracle(self, num_samples):
        wave = tones(num_samples, num_samples)
        found = make().encode([wave], range(13))[0]
        for layer, expected in enumerate(Oracle(WEIGHTS).layers(wave)):
            assert found[layer].dtype == np.float32 and found[layer].shape == ((num_samples - 400) // 320 + 1, 48)
            np.testing.assert_allclose(found[layer], expected, atol=5e-5, err_msg=f"layer {layer}")

    @pytest.mark.slow
    def test_true_size_equals_the_oracle(self):
        weights, wave = random_weights(channels=512, dim=768, feed_forward=3072), tones(8_000)
        expected = Oracle(weights).layers(wave, last=11)[11]
        encoder = make(weights)
        assert (encoder.dim, encoder.layer, encoder.hop, encoder.receptive_field) == (768, 11, 320, 400)
        np.testing.assert_allclose(encoder.encode([wave])[0], expected, atol=5e-5)

    def test_the_feature_is_the_output_of_the_eleventh_block(self):
        encoder = make()
        assert encoder.layer == 11 and isinstance(encoder, FrameEncoder) and isinstance(encoder, TrainableEncoder)
        assert np.array_equal(encoder.encode([SHORT])[0], encoder.encode([SHORT], [11])[0][11])
        # fairseq's out_layer -2 stops after main block 6, counted from 0, which is this one.
        assert block_name(10) == "model.blocks.6"
        for layer, reached in ((11, False), (12, True)):
            encoder = make(layer=layer)
            encoder.get_submodule(f"{block_name(11)}.norm2").weight.data.fill_(float("nan"))
            assert np.isnan(encoder.encode([SHORT])[0]).all() == reached

    def test_weights_that_are_no_numbers(self):
        name = f"{PREFIX}{block_name(11).removeprefix('model.')}.norm2.weight"
        with pytest.raises(FormatError, match=r"^here: .*norm2.weight holds NaN, infinity"):
            make({**WEIGHTS, name: torch.full((48,), float("nan"))})

    def test_negative_scales_of_alibi_count_as_zero(self):
        name = f"{PREFIX}{AUDIO}alibi_scale"
        assert bool((WEIGHTS[name] < 0).any()) and bool((WEIGHTS[name] > 0.1).any())
        clamped = make({**WEIGHTS, name: WEIGHTS[name].clamp_min(0)}).encode([SHORT])[0]
        assert np.array_equal(clamped, make().encode([SHORT])[0])
        without = make({**WEIGHTS, name: torch.zeros(1, 1, 12, 1, 1)}).encode([SHORT])[0]
        assert np.abs(clamped - without).max() > 1e-3

    def test_long_clips_in_blocks_of_queries_give_the_same(self, monkeypatch):
        encoder = make()
        whole = encoder.encode([LONG, SHORT])
        # Seven queries at once: 12 heads, 128 frames.
        monkeypatch.setattr(data2vec2_model, "BIAS_NUMBERS", 7 * 12 * 128)
        for one, other in zip(encoder.encode([LONG, SHORT]), whole, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)

    def test_normalize_standardises_each_waveform_by_itself(self):
        encoder, plain = make(normalize=True), make()
        assert not plain.normalize
        scaled = [np.float32(3) * wave + np.float32(0.2) for wave in (SHORT, LONG)]
        for feats, wave in zip(encoder.encode(scaled), scaled, strict=True):
            standard = ((wave - wave.mean()) / np.sqrt(wave.var() + 1e-5)).astype(np.float32)
            np.testing.assert_allclose(feats, plain.encode([standard])[0], atol=1e-4)

    def test_bfloat16_is_near_and_float16_needs_a_gpu(self):
        exact, near = make().encode([SHORT])[0], make(precision="bfloat16").encode([SHORT])[0]
        assert near.dtype == np.float32
        assert 1e-5 < np.abs(near - exact).mean() < 0.05 * exact.std()
        with pytest.raises(InputError, match="float16"):
            make(precision="float16").encode([SHORT])

    @pytest.mark.parametrize(("heads", "expected"), [(1, [2.0**-8]), (2, [2.0**-4, 2.0**-8]), (12, SLOPES)])
    def test_slopes(self, heads, expected):
        assert alibi_slopes(heads) == pytest.approx(expected)

    @given(st.integers(1, 64))
    def test_slopes_of_any_number_of_heads(self, heads):
        slopes = alibi_slopes(heads)
        assert len(set(slopes)) == heads and all(0 < slope < 1 for slope in slopes)


class TestPadding:
    @pytest.mark.parametrize("normalize", [False, True])
    def test_alone_equals_batched_at_any_place(self, normalize):
        encoder = make(normalize=normalize)
        waves, layers = [SHORT, LONG, OTHER], [0, 1, 4, 11, 12]
        alone = [encoder.encode([wave], layers)[0] for wave in waves]
        for order in ([0, 1, 2], [2, 0, 1], [1, 0], [0, 0]):
            for place, clip in zip(order, encoder.encode([waves[i] for i in order], layers), strict=True):
                for layer in layers:
                    np.testing.assert_allclose(clip[layer], alone[place][layer], atol=1e-4)

    def test_what_lies_behind_the_end_is_never_heard(self):
        encoder = make()
        wave_BN, lengths_B = pad_waveforms([SHORT, LONG], torch.device("cpu"))
        with torch.inference_mode():
            silent, frames_B = encoder(wave_BN, lengths_B)
            wave_BN[0, 9_000:] = torch.randn(41_111 - 9_000)
            # Frames behind the end do hear it.
            heard = encoder.transform(encoder.project(encoder.convolve(wave_BN, torch.tensor([41_111] * 2))), frames_B)
        count = int(frames_B[0])
        assert count == 27
        np.testing.assert_allclose(heard[11][0, :count], silent[0, :count], atol=1e-5)

    def test_zeroing_only_the_first_of_the_stacked_convolutions_would_show(self):
        encoder = make()
        positions = encoder.model.modality_encoders["AUDIO"].relative_positional_encoder
        padded = encoder.encode([SHORT, LONG])[0]
        # The second convolution now reads through a hook that forgets the mask.
        kept: list[Tensor] = []
        first = positions["1"].register_forward_hook(lambda module, inputs, output: kept.append(output))
        second = positions["2"].register_forward_pre_hook(lambda module, inputs: (kept[-1],))
        leaky = encoder.encode([SHORT, LONG])[0]
        first.remove()
        second.remove()
        assert np.abs(leaky - padded).max() > 1e-3

    @given(st.integers(0, 5_000))
    def test_counts_of_frames_agree(self, num_samples):
        expected = max(0, (num_samples - 400) // 320 + 1)
        assert ENCODER.num_frames(num_samples) == expected
        assert ENCODER.frames(torch.tensor([num_samples])).tolist() == [expected]

    def test_clips_without_a_frame_and_layers_that_are_not_there(self):
        encoder = make()
        assert encoder.encode([]) == []
        with pytest.raises(InputError, match="399 samples is shorter than one frame"):
            encoder.encode([SHORT, SHORT[:399]])
        for layer in (-1, 13):
            with pytest.raises(InputError, match="layers 0 to 12"):
                make(layer=layer)
            with pytest.raises(InputError, match="layers 0 to 12"):
                encoder.encode([SHORT], [layer])


def train(encoder: Data2Vec2Encoder, waves: list[Any]) -> tuple[list[Tensor], Tensor]:
    """Features of every clip in training mode, and the waveforms after a backward pass over the clips' own frames."""
    encoder.train()
    wave_BN, lengths_B = pad_waveforms(waves, torch.device("cpu"))
    feats_BTD, frames_B = encoder(wave_BN.requires_grad_(), lengths_B)
    feats = [feats_BTD[b, :n] for b, n in enumerate(frames_B.tolist())]
    torch.stack([clip.square().sum() for clip in feats]).sum().backward()
    return feats, wave_BN


def gradients(encoder: Data2Vec2Encoder) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in encoder.model.named_parameters() if weight.grad is not None}


class TestTraining:
    def test_every_part_up_to_the_layer_learns(self):
        encoder = make()
        train(encoder, [SHORT, OTHER])
        found = gradients(encoder)
        for name, _ in encoder.model.named_parameters():
            assert (name in found) != name.startswith("blocks.7."), name
        assert all(bool(torch.isfinite(gradient).all()) and bool(gradient.any()) for gradient in found.values())

    @pytest.mark.parametrize("normalize", [False, True])
    def test_batched_equals_alone(self, normalize):
        encoder = make(normalize=normalize)
        together, wave_BN = train(encoder, [SHORT, LONG])
        whole, alone = gradients(encoder), make(normalize=normalize)
        for clip, wave in zip(together, [SHORT, LONG], strict=True):
            feats, _ = train(alone, [wave])
            np.testing.assert_allclose(clip.detach(), feats[0].detach(), atol=1e-4)
            # Nothing is drawn at random.
            np.testing.assert_allclose(clip.detach(), encoder.encode([wave])[0], atol=1e-4)
        summed = gradients(alone)
        assert summed.keys() == whole.keys()
        for name, gradient in whole.items():
            assert torch.allclose(gradient, summed[name], rtol=1e-3, atol=1e-3 * float(gradient.abs().max())), name
        if not normalize:
            # The mean over a waveform counts on zeros behind its end.
            assert wave_BN.grad is not None
            assert bool(wave_BN.grad[0, :9_000].any()) and not bool(wave_BN.grad[0, 9_000:].any())

    @pytest.mark.parametrize(
        ("options", "layer", "learns"),
        [
            ({}, 11, "front 1-11"),
            ({"extractor": False}, 11, "extractor front 1-11"),
            ({"blocks": 3}, 11, "4-11"),
            ({"extractor": False, "blocks": 6}, 9, "7-9"),
            ({"extractor": False}, 0, "extractor front"),
            ({"blocks": 11}, 11, ""),
        ],
    )
    def test_frozen_parts_get_no_gradients(self, options, layer, learns):
        encoder = make(layer=layer)
        encoder.freeze(**options)
        asked = {name for name, weight in encoder.model.named_parameters() if weight.requires_grad}
        expected = set()
        first, last = (int(number) for number in learns.split()[-1].split("-")) if "-" in learns else (1, 0)
        for name in encoder.model.state_dict():
            numbered = next((n for n in range(12) if f"model.{name}".startswith(f"{block_name(n)}.")), None)
            if numbered is not None:
                learnt = first <= numbered + 1 <= last
            elif ".alibi_scale" in name:
                learnt = "front" in learns and layer > 0
            else:
                learnt = ("extractor" if ".local_encoder." in name else "front") in learns.split()
            expected |= {name} if learnt else set()
        assert asked == expected
        if asked:
            train(encoder, [SHORT, OTHER])
            assert gradients(encoder).keys() == asked

    @pytest.mark.parametrize("layer", [0, 4, 11])
    def test_rescaled_features(self, layer):
        encoder = make(layer=layer)
        before = encoder.encode([SHORT])[0]
        mean, scale = before.mean(0), before.std(0) + 0.1
        assert encoder.rescale(torch.from_numpy(mean), torch.from_numpy(scale))
        np.testing.assert_allclose(encoder.encode([SHORT])[0], (before - mean) / scale, atol=1e-4)


class TestFiles:
    def test_a_released_file_loads_by_name(self, tmp_path):
        path = tmp_path / "SylBoost_833Hz.pth"
        torch.save({"model_seg": WEIGHTS, "step": 7}, path)
        encoder = load_data2vec2(path, device="cpu")
        assert np.array_equal(encoder.encode([SHORT])[0], make().encode([SHORT])[0])
        assert load_data2vec2(path, 4, device="cpu").layer == 4
        # Not mapped from the file, which may be written over.
        path.write_bytes(b"")
        assert np.isfinite(encoder.encode([SHORT])[0]).all()

    def test_half_precision_files_come_as_float32(self, tmp_path):
        path = tmp_path / "half.pth"
        torch.save({"model_seg": {name: weight.half() for name, weight in WEIGHTS.items()}}, path)
        rounded = {name: weight.half().float() for name, weight in WEIGHTS.items()}
        found = load_data2vec2(path, device="cpu")
        assert {weight.dtype for weight in found.parameters()} == {torch.float32}
        assert np.array_equal(found.encode([SHORT])[0], make(rounded).encode([SHORT])[0])

    def test_decoder_and_averages_of_pretraining_are_left_out(self):
        without = {name: weight for name, weight in WEIGHTS.items() if ".decoder." not in name}
        assert len(without) == len(WEIGHTS) - 10
        assert np.array_equal(make(without).encode([SHORT])[0], make().encode([SHORT])[0])
        make({**WEIGHTS, "model._ema": torch.zeros(3), "model._ema.blocks.0": torch.zeros(3)})

    def test_saved_files_have_all_that_the_released_program_asks_for(self, tmp_path):
        path = tmp_path / "new" / "saved.pth"
        save_data2vec2(make(), path)
        state = torch.load(path, weights_only=True)["model_seg"]
        assert {name: weight.shape for name, weight in state.items()} == {n: w.shape for n, w in WEIGHTS.items()}
        for name, weight in WEIGHTS.items():
            assert ".decoder." in name or torch.equal(state[name], weight), name
        assert [file.name for file in path.parent.iterdir()] == ["saved.pth"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(
                {"model.blocks.3.": None}, "12 weights are missing, the first model.blocks.3.attn", id="block"
            ),
            pytest.param({"model.": None}, "weights are missing", id="empty"),
            pytest.param({"model.blocks.8.norm1.bias": torch.zeros(48)}, "1 unknown weights.*blocks.8", id="unknown"),
            pytest.param({"head.weight": torch.zeros(2)}, "1 unknown weights, the first head.weight", id="no prefix"),
            pytest.param(
                {"model.blocks.2.mlp.fc1.bias": torch.zeros(63)}, r"fc1.bias has shape \(63,\), expected", id="shape"
            ),
            pytest.param({f"{PREFIX}{AUDIO}alibi_scale": torch.ones(1, 1, 7, 1, 1)}, "among 7 heads", id="heads"),
            pytest.param({f"{PREFIX}{AUDIO}alibi_scale": torch.ones(12)}, "alibi_scale has shape", id="axes"),
            pytest.param({"model.blocks.0.norm1.weight": torch.ones(0)}, "0 features do not divide", id="no features"),
            pytest.param({"model.blocks.0.norm1.weight": torch.ones(40)}, "40 features do not divide", id="groups"),
        ],
    )
    def test_weights_of_another_model(self, change, message):
        removed = tuple(name for name, weight in change.items() if weight is None)
        kept = {name: weight for name, weight in WEIGHTS.items() if not removed or not name.startswith(removed)}
        added = {name: weight for name, weight in change.items() if weight is not None}
        with pytest.raises(FormatError, match=f"^here: .*{message}") as caught:
            from_state({**kept, **added}, "here")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", [{"model": WEIGHTS}, {"model_seg": [1]}, {"model_seg": {"a": 1}}])
    def test_other_checkpoints(self, tmp_path, content):
        path = tmp_path / "other.pth"
        torch.save(content, path)
        with pytest.raises(FormatError, match=r"other.pth: (not a released SyllableLM encoder|a is a int)"):
            load_data2vec2(path, device="cpu")

    def test_damaged_and_dangerous_files(self, tmp_path):
        path = tmp_path / "bad.pth"
        torch.save({"model_seg": WEIGHTS}, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(FormatError, match=r"bad.pth: "):
            load_data2vec2(path, device="cpu")
        torch.save({"model_seg": Trap(tmp_path / "sprung")}, path)
        with pytest.raises(FormatError, match=r"bad.pth: holds code"):
            load_data2vec2(path, device="cpu")
        assert not (tmp_path / "sprung").exists()
        with pytest.raises(InputError, match="float16"):
            load_data2vec2(path, device="cpu", precision="float16")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)
