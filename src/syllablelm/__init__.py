"""SyllableLM: syllable-like speech units learned without labels, and everything on top of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> module that defines it; resolved on first use, so that the import stays light.
_PUBLIC = {
    "Segmentation": "syllablelm.types",
    "load_audio": "syllablelm.audio",
    "Tokenizer": "syllablelm.tokenizer",
    "load_encoder": "syllablelm.encoders",
    "SpeechLM": "syllablelm.lm",
    "Resynthesizer": "syllablelm.vocoder",
    "continue_speech": "syllablelm.speech",
}
__all__ = [
    "Resynthesizer",
    "Segmentation",
    "SpeechLM",
    "Tokenizer",
    "__version__",
    "continue_speech",
    "load_audio",
    "load_encoder",
]

if TYPE_CHECKING:
    from syllablelm.audio import load_audio
    from syllablelm.encoders import load_encoder
    from syllablelm.lm import SpeechLM
    from syllablelm.speech import continue_speech
    from syllablelm.tokenizer import Tokenizer
    from syllablelm.types import Segmentation
    from syllablelm.vocoder import Resynthesizer


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'syllablelm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
