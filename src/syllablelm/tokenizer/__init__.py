"""The tokenizer: waveforms to units, in windows, from checkpoints of this package and of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syllablelm.core.lazy import lazy_names

if TYPE_CHECKING:
    from syllablelm.tokenizer.tokenizer import Tokenizer

__all__ = ["Tokenizer"]
__getattr__, __dir__ = lazy_names(__name__, {"tokenizer": ["Tokenizer"]})
