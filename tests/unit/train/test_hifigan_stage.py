"""Training of the unit HiFi-GAN: each gradient goes where it should, it learns, and it resumes."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from syllablelm.core.config import build
from syllablelm.core.errors import InputError
from syllablelm.core.recipes import build_recipe, read_recipe
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import scan
from syllablelm.train.batches import VoiceData, WaveformStore
from syllablelm.train.hifigan_stage import HiFiGanConfig, HiFiGanTask, MelSpectrum, add_weight_norm, remove_weight_norm
from syllablelm.train.loop import LoopConfig, lr_factor, run_loop
from syllablelm.train.runlog import read_log
from syllablelm.train.vocoder_recipe import VocoderRecipe, train_vocoder
from syllablelm.vocoder.discriminators import DiscriminatorShape, adversarial_loss, discriminator_loss, feature_loss
from syllablelm.vocoder.hifigan import DurationShape, HiFiGanNet, HiFiGanShape
from syllablelm.vocoder.resynthesizer import load_vocoder

SHAPE = HiFiGanShape(
    num_embeddings=2,
    embedding_dim=8,
    upsample_rates=(16, 20),
    upsample_kernel_sizes=(32, 40),
    upsample_initial_channel=32,
    resblock_kernel_sizes=(3,),
    resblock_dilation_sizes=((1, 3),),
    dur_predictor_params=DurationShape(8, 8, 3, 0.5),
)
LOOP = LoopConfig(6, lr=2e-3, warmup=0.0, schedule="exponential", final_lr=0.5, batch_seconds=1.0, log_every=2)
CONFIG = HiFiGanConfig(LOOP, SHAPE, DiscriminatorShape((3,), 1, 8), crop_seconds=0.2)


@pytest.fixture(scope="module")
def voice(tmp_path_factory) -> VoiceData:
    """Two units, a low and a high tone, of 0.7 and 0.3 seconds."""
    folder = tmp_path_factory.mktemp("voice")
    time = np.arange(16_000) / 16_000
    low, high = (0.3 * np.sin(2 * np.pi * hertz * time) for hertz in (300.0, 3000.0))
    units = {}
    for i in range(6):
        first, second = ((low, 0.7), (high, 0.3))[:: -1 if i % 2 else 1]
        wave = np.concatenate([tone[: round(16_000 * seconds)] for tone, seconds in (first, second)])
        save_audio(folder / f"{i}.wav", wave.astype(np.float32))
        edges, unit = ([0, 15, 49], [1, 0]) if i % 2 else ([0, 35, 49], [0, 1])
        units[f"{i}"] = Segmentation.from_boundaries(edges, unit=unit)
    return VoiceData(WaveformStore(scan(folder)[0]), units, 2)


def make_task(voice, config: HiFiGanConfig = CONFIG, seed: int = 0) -> HiFiGanTask:
    torch.manual_seed(seed)
    net = HiFiGanNet(config.shape)
    add_weight_norm(net)
    return HiFiGanTask(net, voice, config, 0)


class TestMel:
    def test_one_frame_by_its_definition(self):
        wave = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 2048)).astype(np.float32)) * 0.1
        found = MelSpectrum()(wave)[0]
        assert found.shape == (2048 // 256, 80)
        # Slaney's scale: linear up to 1 kHz, logarithmic above; triangles of equal area.
        edges = np.linspace(0, 15 + 27 * math.log(8) / math.log(6.4), 82)
        hertz = np.where(edges < 15, edges * 200 / 3, 1000 * np.exp((edges - 15) * math.log(6.4) / 27))
        frame = wave[0, 4 * 256 - 384 : 4 * 256 + 640].double().numpy() * np.hanning(1025)[:1024]
        magnitude = np.sqrt(np.abs(np.fft.rfft(frame)) ** 2 + 1e-9)
        bins = np.arange(513) * 16_000 / 1024
        for band in (0, 20, 50, 79):
            low, peak, high = hertz[band : band + 3]
            triangle = np.clip(np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)), 0, None)
            expected = np.log(max(1e-5, float(magnitude @ triangle) * 2 / (high - low)))
            assert float(found[4, band]) == pytest.approx(expected, abs=1e-3), band

    def test_silence_has_a_gradient(self):
        silence = torch.zeros(1, 1024, requires_grad=True)
        MelSpectrum()(silence).sum().backward()
        assert silence.grad is not None and bool(silence.grad.isfinite().all())


class TestLoss:
    def test_gradients_go_where_they_should(self, voice):
        """Those of the one loss are those of two, each asked for its own weights."""
        task = make_task(voice, replace(CONFIG, shape=replace(SHAPE, dur_predictor_params=DurationShape(8, 8, 3, 0.0))))
        module, batch = task.module, task.batch(0)
        module.eval()  # spectral norm moves at every pass in training
        output = module(batch)
        output["loss"].backward()
        found = {name: parameter.grad for name, parameter in module.named_parameters()}
        net, discriminators = module.net, module.discriminators
        real, fake = batch["wave"], net(batch["units"])
        own_loss = discriminator_loss(discriminators(real), discriminators(fake.detach()))
        for name, grad in zip(
            dict(discriminators.named_parameters()),
            torch.autograd.grad(own_loss, list(discriminators.parameters())),
            strict=True,
        ):
            torch.testing.assert_close(found[f"discriminators.{name}"], grad)
        mel = (module.mel(fake) - module.mel(real)).abs().mean()
        errors = []
        for runs, durations in zip(batch["runs"], batch["durations"], strict=True):
            known = torch.ones(1, len(runs), dtype=torch.bool)
            errors.append(net.log_durations(runs[None], known)[0] - torch.log(durations + 1.0))
        duration = torch.cat(errors).square().mean()
        of_fake = discriminators(fake)
        made = adversarial_loss(of_fake) + 2 * feature_loss(discriminators(real), of_fake) + 45 * mel + duration
        for name, grad in zip(
            dict(net.named_parameters()), torch.autograd.grad(made, list(net.parameters())), strict=True
        ):
            torch.testing.assert_close(found[f"net.{name}"], grad, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(output["loss"], made + own_loss)
        torch.testing.assert_close(output["durations"], duration)

    def test_padded_runs_do_not_count(self, voice):
        task = make_task(voice)
        module = task.module.eval()
        batch = dict(task.batch(0))
        before = module(batch)["durations"]
        batch["runs"] = torch.cat([batch["runs"], torch.ones(len(batch["runs"]), 3, dtype=torch.long)], dim=1)
        batch["durations"] = torch.cat(
            [batch["durations"], torch.zeros(len(batch["runs"]), 3, dtype=torch.long)], dim=1
        )
        torch.testing.assert_close(module(batch)["durations"], before)

    def test_half_precision_and_no_predictor(self, voice):
        config = replace(CONFIG, shape=replace(SHAPE, dur_predictor_params=None))
        task = make_task(voice, config)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = task.module(task.batch(0))
        output["loss"].backward()
        assert "durations" not in output and output["mel"].dtype == torch.float32 and bool(output["loss"].isfinite())

    def test_weight_norm_comes_and_goes(self):
        torch.manual_seed(0)
        net, units = HiFiGanNet(SHAPE).eval(), torch.tensor([[0, 1, 1]])
        with torch.inference_mode(False), torch.no_grad():
            before, names = net(units), list(net.state_dict())
            add_weight_norm(net)
            directions = [name for name in net.state_dict() if name.endswith("original1")]
            assert len(directions) == 2 + 2 + 2 * 4 and not any("dur_predictor" in name for name in directions)
            torch.testing.assert_close(net(units), before)
            remove_weight_norm(net)
            torch.testing.assert_close(net(units), before)
        assert sorted(net.state_dict()) == sorted(names)


class TestTask:
    def test_units_lie_under_their_sound(self, voice):
        task = make_task(voice)
        batch = task.batch(0)
        wave, units = batch["wave"], batch["units"]
        assert units.shape == (5, 10) and wave.shape == (5, 3200) and batch["seconds"] == 1.0
        spectrum = torch.fft.rfft(wave.reshape(5, 10, 320)).abs().argmax(-1) * 50
        inner = (units == units.roll(1, 1)) & (units == units.roll(-1, 1))
        assert torch.equal((spectrum > 1500)[inner], (units == 1)[inner]) and bool(inner.any())
        assert sorted(map(tuple, batch["durations"].tolist())) in (
            [(15, 34)] * a + [(35, 14)] * (5 - a) for a in (2, 3)
        )

    def test_recordings_that_do_not_fit(self, voice, tmp_path):
        short = {**voice.units, "2": Segmentation.from_boundaries([0, 40], unit=[1])}
        with pytest.raises(InputError, match=r"2: 40 frames of units for 1\.00 s"):
            HiFiGanTask(HiFiGanNet(SHAPE), replace(voice, units=short), CONFIG, 0)
        with pytest.raises(InputError, match="crops of"):
            HiFiGanTask(HiFiGanNet(SHAPE), voice, replace(CONFIG, crop_seconds=0.1), 0)
        save_audio(tmp_path / "x.wav", np.zeros(1000, np.float32))
        tiny = VoiceData(WaveformStore(scan(tmp_path)[0]), {"x": voice.units["0"]}, 2)
        with pytest.raises(InputError, match="x: shorter than"):
            HiFiGanTask(HiFiGanNet(SHAPE), tiny, CONFIG, 0)
        with pytest.raises(InputError, match="num_embeddings is 2; the acoustic units are 3"):
            train_vocoder(CONFIG, replace(voice, num_units=3), tmp_path / "out", device="cpu")
        assert not (tmp_path / "out").exists()


class TestTraining:
    def test_learns_saves_and_speaks(self, voice, tmp_path):
        config = replace(CONFIG, loop=replace(LOOP, steps=30, log_every=5))
        artifact = train_vocoder(config, voice, tmp_path / "vocoder", device="cpu")
        log = read_log(tmp_path / "vocoder")
        assert log[-1]["mel"] < 0.8 * log[0]["mel"] and log[-1]["durations"] < log[0]["durations"]
        assert {"features", "adversarial", "discriminator", "lr"} <= log[0].keys()
        assert artifact.metrics["mel"] == pytest.approx(log[-1]["mel"], abs=1e-5)
        vocoder = load_vocoder(tmp_path / "vocoder", device="cpu")
        wave = vocoder.decode(voice.units["0"])
        assert wave.shape == (49 * 320,) and vocoder.num_units == 2
        assert not any("original" in name or "discriminators" in name for name in vocoder.net.state_dict())  # type: ignore[attr-defined]

    def test_resumes_to_the_same_end(self, voice, tmp_path):
        straight = make_task(voice)
        run_loop(straight, LOOP, tmp_path / "straight", seed=0, fingerprint="", device="cpu")
        stopped = make_task(voice)
        passes: list[int] = []

        def interrupt(*_) -> None:
            passes.append(1)
            if len(passes) == 3:
                os.kill(os.getpid(), signal.SIGINT)

        stopped.module.register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_loop(stopped, LOOP, tmp_path / "stopped", seed=0, fingerprint="", device="cpu")
        resumed = make_task(voice, seed=9)
        run_loop(resumed, LOOP, tmp_path / "stopped", seed=0, fingerprint="", device="cpu")
        expected = straight.module.state_dict()
        assert any("discriminators" in name for name in expected)
        for name, tensor in resumed.module.state_dict().items():
            assert torch.equal(tensor, expected[name]), name
        logs = [[line["mel"] for line in read_log(tmp_path / name)] for name in ("straight", "stopped")]
        assert logs[0] == logs[1] and len(logs[0]) == 3


class TestSettings:
    def test_exponential_decay(self):
        options = LoopConfig(101, warmup=0.0, schedule="exponential", final_lr=0.25)
        factors = [lr_factor(step, options) for step in range(101)]
        assert factors[:2] == [1.0, 1.0] and factors[51] == pytest.approx(0.5)
        ratios = [b / a for a, b in pairwise(factors[1:])]
        assert ratios == pytest.approx([ratios[0]] * 99)
        with pytest.raises(InputError, match="final_lr above"):
            LoopConfig(5, schedule="exponential")

    def test_published_recipe(self):
        recipe = build_recipe(VocoderRecipe, "hifigan_unit")
        config = recipe.hifigan
        assert recipe.vocoder is None and config is not None
        assert config.shape == HiFiGanShape(recipe.acoustic.units, dur_predictor_params=DurationShape())
        assert config.discriminators == DiscriminatorShape() and config.crop_seconds * 16_000 == 8960
        loop = config.loop
        assert (loop.lr, loop.beta1, loop.beta2, loop.eps) == (2e-4, 0.8, 0.99, 1e-8)
        assert int(loop.batch_seconds / config.crop_seconds) == 16

    def test_one_kind_of_vocoder(self):
        table = read_recipe("hifigan_unit")
        with pytest.raises(InputError, match=r"one of the tables \[vocoder\], \[hifigan\] and \[published\]"):
            build(VocoderRecipe, {**table, "vocoder": {"loop": {"steps": 1}}})
        del table["hifigan"]
        with pytest.raises(InputError, match="one of the tables"):
            build(VocoderRecipe, table)
