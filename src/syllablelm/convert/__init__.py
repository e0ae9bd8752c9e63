"""Foreign formats in and out: files of units, and released tokenizers."""

from __future__ import annotations

from syllablelm.convert.units import convert_units

__all__ = ["convert_units"]
