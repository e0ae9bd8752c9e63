from __future__ import annotations

import numpy as np
import pytest

from helpers.random_models import noise, small_predictor
from syllablelm.core.errors import InputError
from syllablelm.evaluate.boundaries.systems import RowChoice, make_rows
from syllablelm.segment import norm_peaks

ENCODER = small_predictor().encoder
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

    monkeypatch.setattr("syllablelm.encoders.load_encoder", lambda name, **options: Watched())
    return asked


def test_rivals_stand_beside_the_rows_of_an_encoder(calls):
    choice = RowChoice(baselines=("even", "zerosyl", "sylber"), encoders=("model",), layers=("1", "2"))
    rows, _, counts = make_rows(choice, "5", {}, "cpu")
    kinds = ("similarity", "minsum", "peaks", "zerosyl", "sylber")
    assert list(rows) == ["even", *(f"{kind}@{layer}" for kind in kinds for layer in (1, 2))]
    # Rivals choose their number themselves.
    assert counts == {row: "own" if row.startswith(("zerosyl", "sylber")) else "5" for row in rows}
    for segmenter in rows.values():
        segmenter(WAVE, 5)
    # All layers at once, and once for all rows.
    assert calls == [[1, 2]]
    feats = ENCODER.encode([WAVE], [1, 2])[0]
    for layer in (1, 2):
        np.testing.assert_array_equal(rows[f"zerosyl@{layer}"].cut(WAVE, 5), norm_peaks(feats[layer]))
    other = noise(9000, 2)
    np.testing.assert_array_equal(rows["zerosyl@2"].cut(other, 5), norm_peaks(ENCODER.encode([other])[0]))
    assert len(calls) == 2


def test_a_baseline_on_features_needs_an_encoder():
    with pytest.raises(InputError, match="--baselines sylber: cut features; give --encoder"):
        make_rows(RowChoice(baselines=("even", "sylber")), "5", {}, "cpu")
    with pytest.raises(InputError, match="unknown segmenter"):
        make_rows(RowChoice(baselines=("wavelets",)), "5", {}, "cpu")


@pytest.mark.parametrize(("layers", "message"), [(("x",), "give numbers"), (("9",), "has layers 1 to 2")])
def test_layers_that_there_are_not(calls, layers, message):
    with pytest.raises(InputError, match=message):
        make_rows(RowChoice(encoders=("model",), layers=layers), "5", {}, "cpu")
