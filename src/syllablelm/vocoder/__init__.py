"""Units to waveforms: the interleaved vocoder LM and the unit vocoders (names resolved lazily)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syllablelm.core.lazy import lazy_names

if TYPE_CHECKING:
    from syllablelm.vocoder.resynthesizer import Resynthesizer
    from syllablelm.vocoder.vocoder_lm import VocoderLM

__all__ = ["Resynthesizer", "VocoderLM"]
__getattr__, __dir__ = lazy_names(__name__, {"resynthesizer": ["Resynthesizer"], "vocoder_lm": ["VocoderLM"]})
