"""The source-filter vocoder: synthesis by source and filter, the saved network, durations, and training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import scan
from syllablelm.train.batches import VoiceData, WaveformStore
from syllablelm.train.loop import LoopConfig
from syllablelm.train.runlog import read_log
from syllablelm.train.source_filter_stage import SourceFilterConfig, voice_targets
from syllablelm.train.vocoder_recipe import train_vocoder
from syllablelm.vocoder.pitch import track_pitch
from syllablelm.vocoder.source_filter import (
    SourceFilterNet,
    SourceFilterShape,
    SourceFilterVocoder,
    excite,
    synthesize_voice,
    unit_places,
)
from syllablelm.vocoder.spectrum import SpectrumSpec
from syllablelm.vocoder.unit_vocoder import SHAPE_FILE, unit_frames

SHAPE = SourceFilterShape(units=5, dim=16, blocks=2, kernel=3, spectrum=SpectrumSpec(fft=640, hop=160))
UNITS = Segmentation.from_boundaries([0, 4, 10, 25], unit=[1, 4, 0])


@pytest.fixture(scope="module")
def vocoder() -> SourceFilterVocoder:
    torch.manual_seed(0)
    return SourceFilterVocoder(SourceFilterNet(SHAPE))


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
    loaded = SourceFilterVocoder.load(tmp_path, device="cpu")
    assert loaded.net.shape == SHAPE
    np.testing.assert_array_equal(loaded.decode(UNITS), vocoder.decode(UNITS))


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "other"}', '{"kind": "spectral", "units": 5, "bad": 1}'])
def test_damaged_description(vocoder, tmp_path, text):
    vocoder.save(tmp_path)
    (tmp_path / SHAPE_FILE).write_text(text)
    with pytest.raises((FormatError, InputError), match=SHAPE_FILE):
        SourceFilterVocoder.load(tmp_path)


def test_weights_of_another_shape(vocoder, tmp_path):
    vocoder.save(tmp_path)
    text = (tmp_path / SHAPE_FILE).read_text().replace('"dim": 16', '"dim": 32')
    (tmp_path / SHAPE_FILE).write_text(text)
    with pytest.raises(FormatError, match="not the weights"):
        SourceFilterVocoder.load(tmp_path)


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
    config = SourceFilterConfig(LoopConfig(steps=100, lr=1e-2, batch_seconds=8.0, log_every=20), 16, 2, 3, 2.0)
    train_vocoder(config, VoiceData(WaveformStore(manifest), units, 2), tmp_path / "vocoder", device="cpu")
    log = read_log(tmp_path / "vocoder")
    assert log[-1]["level_error"] < 0.8 * log[0]["level_error"]
    vocoder = SourceFilterVocoder.load(tmp_path / "vocoder", device="cpu")
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


# Synthesis by source and filter.

SPEC = SpectrumSpec()
FRAMES = 120


def constant(value: float) -> np.ndarray:
    return np.full(FRAMES, value, dtype=np.float32)


@pytest.mark.parametrize("voicing", [0.0, 0.5, 1.0])
def test_the_source_has_unit_power(voicing):
    source = excite(constant(160.0), constant(voicing), SPEC)
    assert source.shape == (FRAMES * SPEC.hop,)
    assert float((source**2).mean()) == pytest.approx(1.0, rel=0.1)


def test_as_many_pulses_as_the_pitch_says():
    source = excite(constant(200.0), constant(1.0), SPEC)
    seconds = len(source) / SPEC.sample_rate
    assert (source > 4.0).sum() == pytest.approx(200 * seconds, abs=2)


def test_the_pitch_comes_back():
    cepstra = np.zeros((FRAMES, SPEC.order), dtype=np.float32)
    cepstra[:, 1] = 0.5
    found = track_pitch(synthesize_voice(cepstra, constant(140.0), constant(1.0), SPEC), FRAMES)[6:-6]
    assert np.median(found) == pytest.approx(140.0, rel=0.02)


@pytest.mark.parametrize("voicing", [0.0, 1.0])
def test_the_envelope_comes_back_with_its_level(voicing):
    rng = np.random.default_rng(0)
    row = rng.standard_normal(SPEC.order) / (1 + np.arange(SPEC.order)) ** 1.5
    cepstra = np.tile(row, (FRAMES, 1)).astype(np.float32)
    cepstra[:, 0] -= 3.0
    wave = synthesize_voice(cepstra, constant(180.0), constant(voicing), SPEC)
    again = SPEC.cepstrum(SPEC.transform(torch.from_numpy(wave)[None]))[0, 6:-6].numpy()
    # The first coefficient is the level in nepers: within 1 dB; the others show the shape.
    np.testing.assert_allclose(again.mean(0)[0], cepstra[0, 0], atol=0.115)
    assert np.abs(again.mean(0)[1:] - cepstra[0, 1:]).max() < 0.06


def test_repeats_by_seed():
    cepstra = np.zeros((FRAMES, SPEC.order), dtype=np.float32)
    first, again, other = (
        synthesize_voice(cepstra, constant(140.0), constant(0.2), SPEC, seed=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_frames_no_sound():
    empty = np.zeros(0, dtype=np.float32)
    assert len(synthesize_voice(np.zeros((0, SPEC.order), dtype=np.float32), empty, empty, SPEC)) == 0


def test_places_are_those_of_the_frames_in_their_units():
    frames, places = unit_places(torch.tensor([2, 1, 60]))
    assert frames.tolist() == [0, 0, 1] + [2] * 60
    np.testing.assert_allclose(places[:, 0][:4], [0.25, 0.75, 0.5, 1 / 120], rtol=1e-6)
    np.testing.assert_allclose(places[:, 1][[0, 1, 2, 3, 40]], [0.0, 0.1, 0.0, 0.0, 2.5], rtol=1e-6)
    np.testing.assert_allclose(places[:, 2][[0, 1, 2, 3, 62]], [0.2, 0.1, 0.1, 2.5, 0.1], rtol=1e-6)
    np.testing.assert_allclose(places[:, 3].exp(), [2, 2, 1] + [60] * 60, rtol=1e-5)


def test_context_reaches_other_units_and_saved_weights_open(tmp_path):
    torch.manual_seed(0)
    shape = SourceFilterShape(units=5, dim=16, blocks=2, kernel=3, context=2)
    vocoder = SourceFilterVocoder(SourceFilterNet(shape), "units")
    vocoder.save(tmp_path)
    opened = SourceFilterVocoder.load(tmp_path, device="cpu")
    np.testing.assert_array_equal(opened.decode(UNITS), vocoder.decode(UNITS))
    assert opened.net.shape.context == 2 and opened.acoustic == "units"
    # Far from the change by more than the blocks over frames reach.
    lengths = torch.tensor([40, 40, 40])
    first, second = (opened.net.voice(torch.tensor(units), lengths)[0][:20] for units in ([1, 2, 3], [1, 4, 3]))
    assert not torch.allclose(first, second)
