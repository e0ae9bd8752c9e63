"""Every reader of the package, see `registry`."""

from __future__ import annotations

from fuzz import checkpoint_readers, corpus_readers, study_readers, text_readers, unit_readers  # noqa: F401
from fuzz.registry import READERS, Reader

__all__ = ["READERS", "Reader"]
