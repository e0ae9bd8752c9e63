"""The speech language model of units (names resolved lazily)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syllablelm.core.lazy import lazy_names

if TYPE_CHECKING:
    from syllablelm.lm.speech_lm import SpeechLM
    from syllablelm.lm.store import TokenStore

__all__ = ["SpeechLM", "TokenStore"]
__getattr__, __dir__ = lazy_names(__name__, {"speech_lm": ["SpeechLM"], "store": ["TokenStore"]})
