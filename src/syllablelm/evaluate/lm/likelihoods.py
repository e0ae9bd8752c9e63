"""Other likelihoods of recordings in pairs than the mean over all units.

A pair is a shared prompt of units s, the longest run with which both recordings begin, and two continuations c. The
mean and the sum over whole recordings also weigh the prompt; the other two scores do not ("On the Fallacy of Global
Token Perplexity in Spoken Language Model Evaluation", Findings of ACL 2026, arXiv 2601.06329, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.lm.pairs import Pair
from syllablelm.lm.speech_lm import SpeechLM

WINDOW_SECONDS = 0.5
"""Length of the window of localised scores, from the first unit in which a pair differs."""
SCORINGS = {
    "summed": "summed log-probability",
    "localised": f"mean log-probability per unit of those that begin within {WINDOW_SECONDS} s after the shared first "
    "units, given these",
    "normalised": "summed log-probability of the units after the shared first units, given these, minus that without "
    "them",
}
"""Scores beside the mean, by the name of their accuracy in `AccuracyRow`."""


@dataclass(frozen=True, eq=False)
class ScoredUnits:
    """Units as a language model reads them, and their log-probabilities in nats, (num_units,).

    A model without BOS has none of the first unit.
    """

    units: Segmentation
    log_probs: npt.NDArray[np.float64]


def shared_units(one: Segmentation, other: Segmentation) -> int:
    """Return the number of equal units with which two segmentations begin; their lengths may differ."""
    length = min(len(one), len(other))
    assert one.unit is not None and other.unit is not None
    different = np.flatnonzero(one.unit[:length] != other.unit[:length])
    return int(different[0]) if len(different) else length


def score_continuations(
    pairs: Iterable[Pair], recordings: Mapping[str, ScoredUnits], lm: SpeechLM
) -> tuple[dict[str, dict[str, float]], int]:
    """Return the scores of `SCORINGS` of every recording, and the number of comparisons with a shared first unit.

    Args:
        pairs: pairs of recordings; each recording is in one.
        recordings: their units and log-probabilities, by stem.
        lm: the model that gave them, for the continuations alone.

    Returns:
        Scores by name and stem; higher is likelier. Units without a log-probability are left out of them. Where one
        recording ends with the shared units, both recordings have the localised and normalised score 0, a tie; so have
        those without a shared unit the normalised one, as nothing was given.
    """
    scores: dict[str, dict[str, float]] = {name: {} for name in SCORINGS}
    alone: dict[str, int] = {}
    shared = 0
    for right, wrong in (couple for pair in pairs for couple in pair.stems):
        first = shared_units(recordings[right].units, recordings[wrong].units)
        ends = any(len(recordings[stem].units) == first for stem in (right, wrong))
        shared += first > 0
        for stem in (right, wrong):
            row, units = recordings[stem].log_probs, recordings[stem].units
            scores["summed"][stem] = float(row.sum())
            scores["localised"][stem] = scores["normalised"][stem] = 0.0
            if ends:
                continue
            unscored = len(units) - len(row)
            rest = max(first, unscored)
            window = units.start[rest:] < units.start[first] + WINDOW_SECONDS * units.sample_rate / units.hop
            if window.any():
                scores["localised"][stem] = float(row[rest - unscored :][window].mean())
            if first:
                alone[stem] = first
    continuations = [recordings[stem].units.select(slice(first, None)) for stem, first in alone.items()]
    rows = lm.log_probs(continuations) if continuations else []
    for (stem, _), row in zip(alone.items(), rows, strict=True):
        # Of the units that both score: without BOS the first one after the shared ones is not among them.
        given = recordings[stem].log_probs
        scores["normalised"][stem] = float(given[len(given) - len(row) :].sum() - row.sum())
    return scores, shared
