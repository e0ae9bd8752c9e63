"""SyllableLM: syllable-like speech units learned without labels, and everything on top of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syllablelm.core.lazy import lazy_names

__version__ = "0.1.0"

__all__ = [
    "Resynthesizer",
    "Segmentation",
    "SpeechLM",
    "Tokenizer",
    "__version__",
    "continue_speech",
    "load_audio",
    "load_encoder",
    "plot",
]

if TYPE_CHECKING:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.data.audio import load_audio
    from syllablelm.encoders import load_encoder
    from syllablelm.lm import SpeechLM
    from syllablelm.report.recording_picture import plot
    from syllablelm.tokenizer.tokenizer import Tokenizer
    from syllablelm.vocoder import Resynthesizer
    from syllablelm.vocoder.speech_model import continue_speech

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "core.segmentation": ["Segmentation"],
        "data.audio": ["load_audio"],
        "encoders.load": ["load_encoder"],
        "lm.speech_lm": ["SpeechLM"],
        "report.recording_picture": ["plot"],
        "tokenizer.tokenizer": ["Tokenizer"],
        "vocoder.resynthesizer": ["Resynthesizer"],
        "vocoder.speech_model": ["continue_speech"],
    },
)
