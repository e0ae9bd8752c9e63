"""Resynthesis and continuations as a recogniser transcribes them, quality of speech, and repetition of units."""

from typing import Literal

Average = Literal["mean", "median"]
"""Average of the perplexities of several texts."""
Normalization = Literal["english", "plain"]
"""Rule by which texts are made comparable, see `evaluate.speech.error_rates`."""
ContinuationProtocol = Literal["gslm", "slamkit"]
"""Scores of continuations: GSLM's PPX and VERT, or slamkit's GenPPL."""
Durations = Literal["own", "predicted"]
"""Lengths of the units that are spoken: those of the recording, or those that a language model gives its units."""
OpinionModel = Literal["dnsmos", "none"]
"""Network that predicts how listeners rate speech, see `evaluate.speech.opinion`."""
