"""Resynthesis and continuations as a recogniser transcribes them, and repetition of units."""

from typing import Literal

Average = Literal["mean", "median"]
"""Average of the perplexities of several texts."""
