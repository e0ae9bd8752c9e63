"""Encoders: waveforms -> frame features, from checkpoints of every origin (names resolved lazily)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syllablelm.encoders.base import FrameEncoder
    from syllablelm.encoders.hub import HubEncoder
    from syllablelm.encoders.load import load_encoder
    from syllablelm.encoders.masked_prediction import MaskedPredictor

_PUBLIC = {
    "FrameEncoder": "syllablelm.encoders.base",
    "HubEncoder": "syllablelm.encoders.hub",
    "load_encoder": "syllablelm.encoders.load",
    "MaskedPredictor": "syllablelm.encoders.masked_prediction",
}
__all__ = ["FrameEncoder", "HubEncoder", "MaskedPredictor", "load_encoder"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'syllablelm.encoders' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
