"""Perplexity and diversity of texts over temperature, and both at the real texts' diversity and perplexity (A9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.results import Record, json_key
from syllablelm.evaluate.speech import Average
from syllablelm.evaluate.speech.bleu import auto_bleu, self_bleu
from syllablelm.evaluate.speech.crossing import FOUND, NO_OTHER, Crossing, crossing_spread, find_crossing
from syllablelm.evaluate.speech.text_lm import TextLM, TextScore

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TextSummary(Record):
    """Counts and scores of the texts of all prompts; ``two_sigma`` is two standard deviations over resampled prompts.

    Args:
        texts, empty_texts, tokens, unknown_words: counts; empty texts have no perplexity.
        ppx_mean, ppx_median: average perplexity of the texts; None where all are empty.
        vert: see `TextStats.vert`.
        self_bleu_2, auto_bleu_2: mean BLEU-2, see `evaluate.speech.bleu`.
    """

    texts: int
    empty_texts: int
    tokens: int
    unknown_words: int
    ppx_mean: float | None
    ppx_mean_two_sigma: float | None
    ppx_median: float | None
    ppx_median_two_sigma: float | None
    vert: float
    vert_two_sigma: float | None
    self_bleu_2: float
    auto_bleu_2: float


@dataclass(frozen=True)
class ScoreAtOracle(Record):
    """A score at the temperature where another one is that of the real texts.

    Args:
        value: the score; None where there is no such temperature, see the crossing's status.
        two_sigma: two standard deviations over resampled prompts.
        crossing: the search for the temperature.
        resamples_that_reach: share of the resamples that have such a temperature.
    """

    value: float | None
    two_sigma: float | None
    crossing: Crossing = json_key(flat=True)
    resamples_that_reach: float | None = json_key(omit_none=True)


@dataclass(frozen=True)
class TextStats:
    """Likelihoods and BLEU-2s (`evaluate.speech.bleu`) of the texts of all prompts, in the order of the prompts.

    Empty texts have no perplexity and BLEUs of 0.
    """

    scores: tuple[TextScore, ...]
    self_bleu: FloatArray
    auto_bleu: FloatArray

    @classmethod
    def of(cls, texts: Sequence[str], lm: TextLM) -> TextStats:
        """Score normalised texts."""
        words = [text.split() for text in texts]
        return cls(tuple(lm.score(texts)), self_bleu(words), auto_bleu(words))

    @property
    def perplexities(self) -> FloatArray:
        """exp(mean negative log-likelihood) of each text: (num_prompts,), NaN for an empty one."""
        return np.array([score.perplexity for score in self.scores])

    def ppx(self, average: Average) -> float:
        """Return the mean or median of the texts' perplexities; NaN where all texts are empty."""
        return float(self.ppx_of(np.ones((1, len(self.scores))), average)[0])

    @property
    def vert(self) -> float:
        """VERT: 100 times the geometric mean of mean self-BLEU-2 and mean auto-BLEU-2. Lower is more varied."""
        return float(self.vert_of(np.ones((1, len(self.scores))))[0])

    def ppx_of(self, weights: npt.NDArray[Any], average: Average) -> FloatArray:
        """Return ``ppx`` of resamples: (resamples,), from (resamples, num_prompts) counts of each prompt."""
        values = self.perplexities
        kept = np.isfinite(values)
        values, weights = values[kept], np.asarray(weights, dtype=np.float64)[:, kept]
        total = weights.sum(1)
        if average == "mean" or not len(values):
            return np.where(total > 0, weights @ values / np.maximum(total, 1), np.nan)
        order = np.argsort(values)
        reached = weights[:, order].cumsum(1)
        half = total[:, None] / 2
        low, high = (reached >= half).argmax(1), (reached > half).argmax(1)
        return np.where(total > 0, (values[order][low] + values[order][high]) / 2, np.nan)

    def vert_of(self, weights: npt.NDArray[Any]) -> FloatArray:
        """Return ``vert`` of resamples: (resamples,).

        The BLEUs of a prompt stay those against all others' texts: a prompt drawn twice would be its own reference.
        """
        weights = np.asarray(weights, dtype=np.float64)
        count = weights.sum(1)
        return 100 * np.sqrt((weights @ self.self_bleu / count) * (weights @ self.auto_bleu / count))

    def summarize(self, weights: npt.NDArray[Any]) -> TextSummary:
        """Return counts and scores, with the spread over resamples of the prompts."""
        averages: dict[str, float | None] = {}
        for average in get_args(Average):
            averages[f"ppx_{average}"] = _finite(self.ppx(average))
            averages[f"ppx_{average}_two_sigma"] = _two_sigma(self.ppx_of(weights, average))
        return TextSummary(
            texts=len(self.scores),
            empty_texts=sum(not score.tokens for score in self.scores),
            tokens=sum(score.tokens for score in self.scores),
            unknown_words=sum(score.unknown for score in self.scores),
            vert=self.vert,
            vert_two_sigma=_two_sigma(self.vert_of(weights)),
            self_bleu_2=float(self.self_bleu.mean()),
            auto_bleu_2=float(self.auto_bleu.mean()),
            **averages,
        )


Curve = Callable[[TextStats, npt.NDArray[Any]], FloatArray]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _two_sigma(values: FloatArray) -> float | None:
    finite = values[np.isfinite(values)]
    return 2 * float(finite.std(ddof=1)) if len(finite) > 1 else None


def sweep_temperatures(
    measure: Callable[[float], TextStats],
    oracle: TextStats,
    grid: Sequence[float],
    weights: npt.NDArray[Any],
    *,
    steps: int = 4,
    average: Average = "mean",
) -> tuple[dict[str, ScoreAtOracle], dict[float, TextStats]]:
    """Search for the temperatures whose continuations are as varied, and as likely, as the real texts.

    Args:
        measure: function from a temperature to the statistics of its continuations; called once for each.
        oracle: statistics of the real texts of the same prompts.
        grid: temperatures to measure first, ascending.
        weights: (resamples, num_prompts) draws of the bootstrap.
        steps, average: see `evaluate_continuation`.

    Returns:
        "ppx_at_oracle_vert" and "vert_at_oracle_ppx", and the statistics by measured temperature.
    """
    points: dict[float, TextStats] = {}
    once = np.ones((1, len(oracle.scores)))

    def vert(stats: TextStats, weights: npt.NDArray[Any]) -> FloatArray:
        return stats.vert_of(weights)

    def ppx(stats: TextStats, weights: npt.NDArray[Any]) -> FloatArray:
        return stats.ppx_of(weights, average)

    def value(curve: Curve, at: float) -> float:
        if at not in points:
            points[at] = measure(at)
        return float(curve(points[at], once)[0])

    curves: dict[str, tuple[Curve, Curve]] = {"ppx_at_oracle_vert": (vert, ppx), "vert_at_oracle_ppx": (ppx, vert)}
    crossings = {
        name: find_crossing(partial(value, own), list(grid), float(own(oracle, once)[0]), steps)
        for name, (own, _) in curves.items()
    }
    # The bars use every measured temperature, so both searches come first.
    measured = np.array(sorted(points))

    def score(crossing: Crossing, own: Curve, other: Curve) -> ScoreAtOracle:
        if crossing.status != FOUND or crossing.temperature is None:
            return ScoreAtOracle(None, None, crossing)
        result = _finite(float(np.interp(crossing.temperature, measured, [value(other, at) for at in measured])))
        if result is None:
            return ScoreAtOracle(None, None, replace(crossing, status=NO_OTHER))
        own_RT, other_RT = (np.stack([curve(points[at], weights) for at in measured], 1) for curve in (own, other))
        spread, share = crossing_spread(measured, own_RT, own(oracle, weights), other_RT, crossing.temperature)
        bar = None if spread is None or not np.isfinite(spread) else 2 * spread
        return ScoreAtOracle(result, bar, crossing, share)

    return {name: score(crossings[name], *both) for name, both in curves.items()}, points


def resample_weights(count: int, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the number of times that each prompt is drawn in each resample: (resamples, count)."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
