"""The speech language model: units to likelier units (names resolved lazily)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syllablelm.lm.speech_lm import SpeechLM
    from syllablelm.lm.store import TokenStore

_PUBLIC = {"SpeechLM": "syllablelm.lm.speech_lm", "TokenStore": "syllablelm.lm.store"}
__all__ = ["SpeechLM", "TokenStore"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'syllablelm.lm' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
