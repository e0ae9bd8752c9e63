"""Language models on pairs of recordings: sWUGGY, sBLIMP, tStoryCloze and open sets."""

from typing import Literal

TieRule = Literal["half", "wrong"]
"""Score of a comparison in which both recordings are equally likely: .5, or 0."""
