"""Encoders: waveforms -> frame features, from checkpoints of every origin (names resolved lazily)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syllablelm.encoders.hub import HubEncoder, load_encoder
    from syllablelm.encoders.masked_prediction import MaskedPredictor

_PUBLIC = {
    "HubEncoder": "syllablelm.encoders.hub",
    "load_encoder": "syllablelm.encoders.hub",
    "MaskedPredictor": "syllablelm.encoders.masked_prediction",
}
__all__ = ["HubEncoder", "MaskedPredictor", "load_encoder"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'syllablelm.encoders' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
