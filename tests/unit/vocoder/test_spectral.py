"""The light unit vocoder: it learns, saves, and speaks as long as its units last."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import scan
from syllablelm.train.loop import LoopConfig, read_log
from syllablelm.train.spectral_stage import SpectralConfig, train_spectral, voice_targets
from syllablelm.vocoder.pitch import track_pitch
from syllablelm.vocoder.saved import SHAPE_FILE
from syllablelm.vocoder.spectral import SpectralNet, SpectralShape, SpectralVocoder, unit_frames
from syllablelm.vocoder.spectrum import SpectrumSpec

SHAPE = SpectralShape(units=5, dim=16, blocks=2, kernel=3, spectrum=SpectrumSpec(fft=640, hop=160))
UNITS = Segmentation.from_boundaries([0, 4, 10, 25], unit=[1, 4, 0])


@pytest.fixture(scope="module")
def vocoder() -> SpectralVocoder:
    torch.manual_seed(0)
    return SpectralVocoder(SpectralNet(SHAPE))


def test_speaks_as_long_as_its_units_last(vocoder):
    wave = vocoder.decode(UNITS)
    assert wave.dtype == np.float32
    assert len(wave) == 25 * 320
    assert np.abs(wave).max() <= 1.0
    assert np.array_equal(wave, vocoder.decode(UNITS))


def test_no_units_give_no_sound(vocoder):
    assert len(vocoder.decode(Segmentation.from_boundaries([], unit=[]))) == 0


def test_saved_and_loaded_sounds_the_same(vocoder, tmp_path):
    vocoder.save(tmp_path)
    loaded = SpectralVocoder.load(tmp_path, device="cpu")
    assert loaded.net.shape == SHAPE
    np.testing.assert_array_equal(loaded.decode(UNITS), vocoder.decode(UNITS))


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "other"}', '{"kind": "spectral", "units": 5, "bad": 1}'])
def test_damaged_description(vocoder, tmp_path, text):
    vocoder.save(tmp_path)
    (tmp_path / SHAPE_FILE).write_text(text)
    with pytest.raises((FormatError, InputError), match=SHAPE_FILE):
        SpectralVocoder.load(tmp_path)


def test_weights_of_another_shape(vocoder, tmp_path):
    vocoder.save(tmp_path)
    text = (tmp_path / SHAPE_FILE).read_text().replace('"dim": 16', '"dim": 32')
    (tmp_path / SHAPE_FILE).write_text(text)
    with pytest.raises(FormatError, match="not the weights"):
        SpectralVocoder.load(tmp_path)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (Segmentation.from_boundaries([0, 3]), "none"),
        (Segmentation.from_boundaries([0, 3], unit=[5]), "vocabulary of 5"),
        (Segmentation.from_boundaries([0, 3], unit=[1], hop=640), "640 samples"),
        (Segmentation(np.array([0, 5]), np.array([3, 9]), np.array([0, 1]), 9), "gaps"),
    ],
)
def test_units_that_do_not_fit(vocoder, segmentation, message):
    with pytest.raises(InputError, match=message):
        vocoder.decode(segmentation)


def test_frames_carry_their_unit():
    assert unit_frames(UNITS, 5, 320, 16_000).tolist() == [1] * 4 + [4] * 6 + [0] * 15


def vowel(centre: float, hertz: float) -> np.ndarray:
    """A second of pulses through a resonance."""
    pulses = (np.diff(np.floor(np.arange(16_000) * hertz / 16_000), prepend=0.0) > 0).astype(float)
    radius = np.exp(-np.pi * 300.0 / 16_000)
    filtered = lfilter([0.05], [1.0, -2 * radius * np.cos(2 * np.pi * centre / 16_000), radius**2], pulses)
    return filtered + 1e-3 * np.random.default_rng(0).standard_normal(16_000)


def test_learns_which_unit_sounds_how(tmp_path):
    """Two units, two vowels of their own pitch: after training each unit has its resonance, pitch and level."""
    first, second = vowel(500.0, 120.0), vowel(2500.0, 220.0)
    units = {}
    for i in range(6):
        swap = i % 2
        wave = np.concatenate([second, first] if swap else [first, second]).astype(np.float32)
        save_audio(tmp_path / "voice" / f"{i}.wav", wave)
        units[f"{i}"] = Segmentation.from_boundaries([0, 50, 99], unit=[swap, 1 - swap])
    manifest, _ = scan(tmp_path / "voice")
    config = SpectralConfig(LoopConfig(steps=100, lr=1e-2, batch_seconds=8.0, log_every=20), 16, 2, 3, 2.0)
    train_spectral(config, manifest, units, 2, tmp_path / "vocoder", device="cpu")
    log = read_log(tmp_path / "vocoder")
    assert log[-1]["level_error"] < 0.8 * log[0]["level_error"]
    vocoder = SpectralVocoder.load(tmp_path / "vocoder", device="cpu")
    for unit, (centre, hertz, truth) in enumerate([(500.0, 120.0, first), (2500.0, 220.0, second)]):
        wave = vocoder.decode(Segmentation.from_boundaries([0, 50], unit=[unit]))
        spec = SpectrumSpec()
        envelope = spec.envelope(spec.cepstrum(spec.transform(torch.from_numpy(wave)[None])))[0, 20:-20].mean(0)
        assert int(envelope.argmax()) * 20 == pytest.approx(centre, abs=120)
        assert np.median(track_pitch(wave, 100)) == pytest.approx(hertz, rel=0.05)
        assert 20 * np.log10(np.std(wave) / np.std(truth)) == pytest.approx(0.0, abs=5.0)


def test_targets_cover_every_frame_and_mark_voice():
    wave = np.concatenate([vowel(500.0, 150.0), np.zeros(16_000)]).astype(np.float32)
    targets = voice_targets(wave, 99, SHAPE)
    assert targets.shape == (198, SHAPE.spectrum.order + 2)
    assert targets[10:90, -1].mean() > 0.9
    assert not targets[110:, -1].any()
    np.testing.assert_allclose(np.exp(targets[:, -2]), 150.0, rtol=0.03)
