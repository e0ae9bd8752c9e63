"""What unit vocoders share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from syllablelm.core.errors import FormatError
from syllablelm.core.segmentation import Segmentation
from syllablelm.vocoder.source_filter import SourceFilterNet, SourceFilterShape, SourceFilterVocoder


def test_weights_that_give_nan_are_named() -> None:
    torch.manual_seed(0)
    vocoder = SourceFilterVocoder(SourceFilterNet(SourceFilterShape(6, dim=16, blocks=2, kernel=3)))
    units = Segmentation.from_boundaries([0, 12, 30], unit=[3, 1])
    assert np.isfinite(vocoder.decode_finite(units)).all()
    # Finite themselves, as after a flipped bit of an exponent, but exp() of their outputs is not.
    with torch.no_grad():
        vocoder.net.output.weight.mul_(1e6)
    vocoder.place = "models/voice"
    with pytest.raises(FormatError, match=r"^models/voice: its weights give NaN or infinity"):
        vocoder.decode_finite(units)
