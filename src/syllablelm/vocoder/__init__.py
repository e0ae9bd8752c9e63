"""From units back to sound: the interleaved vocoder LM and the unit vocoders (names resolved lazily)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syllablelm.vocoder.resynthesizer import Resynthesizer
    from syllablelm.vocoder.vocoder_lm import VocoderLM

_PUBLIC = {
    "Resynthesizer": "syllablelm.vocoder.resynthesizer",
    "VocoderLM": "syllablelm.vocoder.vocoder_lm",
}
__all__ = ["Resynthesizer", "VocoderLM"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'syllablelm.vocoder' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
