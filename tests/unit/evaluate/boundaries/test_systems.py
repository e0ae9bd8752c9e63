from __future__ import annotations

import numpy as np
import pytest

from helpers.random_models import noise, small_predictor
from syllablelm.core.errors import InputError
from syllablelm.evaluate.boundaries.systems import make_systems
from syllablelm.segment import make_segmenter, norm_peaks

PREDICTOR = small_predictor()
ENCODER = PREDICTOR.encoder
WAVE = noise(16_000, 1)


@pytest.fixture
def calls(monkeypatch):
    """The layers of every call of the encoder that `load_encoder` gives."""
    asked = []

    class Watched:
        layer, dim, num_frames = ENCODER.layer, ENCODER.dim, ENCODER.num_frames
        hop, receptive_field, sample_rate = ENCODER.hop, ENCODER.receptive_field, ENCODER.sample_rate

        def encode(self, waveforms, layers=None):
            asked.append(layers)
            return ENCODER.encode(waveforms, layers)

    monkeypatch.setattr("syllablelm.evaluate.boundaries.systems.load_encoder", lambda name, **options: Watched())
    return asked


def systems(methods=(), encoders=(), layers=(), count="5", models=(), **more):
    return make_systems(models, methods, encoders, layers, count=count, references={}, device="cpu", **more).systems


def test_methods_on_features_give_a_system_for_every_layer(calls):
    made = systems(("even", "zerosyl", "sylber", "minsum"), ("model",), (1, 2))
    kinds = ("zerosyl", "sylber", "minsum")
    assert list(made) == ["even", *(f"{kind}@{layer}" for kind in kinds for layer in (1, 2))]
    # Published systems choose their number themselves.
    assert {name: one.count for name, one in made.items()} == {
        name: "own" if name.startswith(("zerosyl", "sylber")) else "5" for name in made
    }
    assert [(one.method, one.model, one.layer) for one in made.values()][:2] == [
        ("even", None, None),
        ("zerosyl", "model", 1),
    ]
    for one in made.values():
        one.segmenter(WAVE, 5)
    # All layers at once, and once for all systems.
    assert calls == [[1, 2]]
    feats = ENCODER.encode([WAVE], [1, 2])[0]
    for layer in (1, 2):
        np.testing.assert_array_equal(made[f"zerosyl@{layer}"].segmenter.cut(WAVE, 5), norm_peaks(feats[layer]))
    other = noise(9000, 2)
    np.testing.assert_array_equal(made["zerosyl@2"].segmenter.cut(other, 5), norm_peaks(ENCODER.encode([other])[0]))
    assert len(calls) == 2


def test_an_encoder_alone_has_the_usual_methods(calls):
    usual = [f"{kind}@{layer}" for kind in ("similarity", "minsum", "peaks") for layer in (1, 2)]
    assert list(systems(("even",), ("model",))) == ["even", *usual]
    assert list(systems((), ("one/encoder", "b"), (2,)))[::3] == ["one similarity@2", "b similarity@2"]


def test_methods_on_a_prediction_head(tmp_path):
    PREDICTOR.save(tmp_path / "head")
    made = systems(("losspred", "minsum"), (str(tmp_path / "head"),), (1,))
    assert [(name, one.method, one.layer) for name, one in made.items()] == [
        ("losspred", "losspred", None),
        ("minsum@1", "minsum", 1),
    ]
    assert made["losspred"].count == "5" and len(made["losspred"].segmenter(WAVE[:8000], 3)) == 3


def test_predictors_of_their_own(tmp_path, calls):
    for name in ("a", "b"):
        PREDICTOR.save(tmp_path / name)
    one, both = [str(tmp_path / "a")], [str(tmp_path / "a"), str(tmp_path / "b")]
    assert list(systems((), predictors=one)) == ["losspred"]
    assert list(systems(("combined", "even"), predictors=both)) == ["even", "a combined", "b combined"]
    # Encoders have their usual methods beside it.
    made = systems(("losspred",), ("model",), (2,), predictors=one)
    assert list(made) == ["losspred", "similarity@2", "minsum@2", "peaks@2"] and made["losspred"].model == one[0]


@pytest.mark.parametrize("vad", ["energy", "none"])
def test_voice_activity_detection(tmp_path, vad):
    PREDICTOR.save(tmp_path / "head")
    wave = np.concatenate([np.zeros(16_000, dtype=np.float32), WAVE[:8000]])
    found = systems((), predictors=[str(tmp_path / "head")], vad=vad)["losspred"].segmenter(wave, 5)
    expected = make_segmenter("losspred", predictor=PREDICTOR, vad=vad)(wave, 5)
    assert found == expected and len(found) == 5
    # The pause is one segment.
    assert (found.end[0] > 45) == (vad == "energy")


def test_the_gap_of_losspred(tmp_path):
    PREDICTOR.save(tmp_path / "head")
    found, usual = (
        systems((), predictors=[str(tmp_path / "head")], vad="none", **gap)["losspred"].segmenter(WAVE, 6)
        for gap in ({"gap": 7}, {})
    )
    assert found == make_segmenter("losspred", predictor=PREDICTOR, vad="none", gap=7)(WAVE, 6) != usual


def test_what_is_missing_is_named():
    for methods, words in (
        (("even", "sylber"), "'sylber' needs an encoder; give --encoder"),
        (("losspred",), "'losspred' needs an encoder with its masked-prediction head; give --predictor"),
        (("wavelets",), "unknown segmentation method 'wavelets'"),
    ):
        with pytest.raises(InputError, match=words):
            systems(methods)
    for count, words in (("own", "give --model NAME too"), ("many", "choose reference, own"), (0, "choose reference")):
        with pytest.raises(InputError, match=words):
            systems(("even",), count=count)


def test_unknown_layers(calls):
    with pytest.raises(InputError, match="has layers 1 to 2"):
        systems((), ("model",), (9,))
