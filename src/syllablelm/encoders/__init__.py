"""Encoders: waveforms -> frame features, from checkpoints of every origin (names resolved lazily)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syllablelm.core.lazy import lazy_names

if TYPE_CHECKING:
    from syllablelm.encoders.base import FrameEncoder
    from syllablelm.encoders.hub import HubEncoder
    from syllablelm.encoders.load import load_encoder
    from syllablelm.encoders.masked_prediction import MaskedPredictor

__all__ = ["FrameEncoder", "HubEncoder", "MaskedPredictor", "load_encoder"]
_HOMES = {"base": ["FrameEncoder"], "hub": ["HubEncoder"], "load": ["load_encoder"]}
__getattr__, __dir__ = lazy_names(__name__, _HOMES | {"masked_prediction": ["MaskedPredictor"]})
