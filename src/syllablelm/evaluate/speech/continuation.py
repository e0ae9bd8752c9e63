"""PPX at oracle VERT and VERT at oracle PPX of spoken continuations, as for generative spoken language models (A9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.evaluate.speech.bleu import auto_bleu, self_bleu
from syllablelm.evaluate.speech.crossing import FOUND, NO_OTHER, Crossing, crossing_spread, find_crossing, value_at
from syllablelm.evaluate.speech.text_lm import TextLM, TextScore

FloatArray = npt.NDArray[np.float64]
Average = Literal["mean", "median"]


@dataclass(frozen=True)
class TextStats:
    """Scores of the texts of all prompts under one condition, one entry per prompt in the same order.

    Args:
        scores: by the language model.
        self_bleu, auto_bleu: (num_prompts,) BLEU-2, see ``evaluate.bleu``; empty texts stay in, with 0.

    Perplexities leave empty texts out; ``to_dict`` says how many there are.
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
        """exp(mean negative log-likelihood) of each text: (num_prompts,), nan for an empty one."""
        return np.array([score.perplexity for score in self.scores])

    def ppx(self, average: Average) -> float:
        """Mean or median of the texts' perplexities; nan where all texts are empty."""
        return float(self.ppx_of(np.ones((1, len(self.scores))), average)[0])

    @property
    def vert(self) -> float:
        """VERT: 100 times the geometric mean of mean self-BLEU-2 and mean auto-BLEU-2. Lower is more varied."""
        return float(self.vert_of(np.ones((1, len(self.scores))))[0])

    def ppx_of(self, weights: npt.NDArray[Any], average: Average) -> FloatArray:
        """``ppx`` of resamples, (resamples, num_prompts) saying how often each prompt was drawn: (resamples,)."""
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
        """``vert`` of resamples: (resamples,).

        The BLEUs of a prompt stay those against all others' texts: a prompt drawn twice would be its own reference.
        """
        weights = np.asarray(weights, dtype=np.float64)
        count = weights.sum(1)
        return 100 * np.sqrt((weights @ self.self_bleu / count) * (weights @ self.auto_bleu / count))

    def to_dict(self, weights: npt.NDArray[Any]) -> dict[str, Any]:
        """Counts, scores and bars of two standard deviations over resampled prompts."""
        tokens = sum(score.tokens for score in self.scores)
        return {
            "texts": len(self.scores),
            "empty_texts": sum(not score.tokens for score in self.scores),
            "tokens": tokens,
            "unknown_words": sum(score.unknown for score in self.scores),
            "ppx_mean": number(self.ppx("mean")),
            "ppx_mean_two_sigma": _two_sigma(self.ppx_of(weights, "mean")),
            "ppx_median": number(self.ppx("median")),
            "ppx_median_two_sigma": _two_sigma(self.ppx_of(weights, "median")),
            "vert": self.vert,
            "vert_two_sigma": _two_sigma(self.vert_of(weights)),
            "self_bleu_2": float(self.self_bleu.mean()),
            "auto_bleu_2": float(self.auto_bleu.mean()),
        }


def number(value: float) -> float | None:
    """A value for JSON, which knows no nan."""
    return float(value) if np.isfinite(value) else None


def _two_sigma(values: FloatArray) -> float | None:
    finite = values[np.isfinite(values)]
    return 2 * float(finite.std(ddof=1)) if len(finite) > 1 else None


class TemperatureSweep:
    """Texts by temperature, measured once each, and the two searches over them.

    Args:
        measure: from a temperature to the statistics of its continuations.
        oracle: statistics of the real texts of the same prompts.
        grid: temperatures to begin with.
        steps: halvings of an interval.
        average: of the texts' perplexities.
    """

    def __init__(
        self,
        measure: Callable[[float], TextStats],
        oracle: TextStats,
        grid: Sequence[float],
        *,
        steps: int = 4,
        average: Average = "mean",
    ) -> None:
        self.oracle = oracle
        self.average: Average = average
        self._measure, self._grid, self._steps = measure, sorted(grid), steps
        self.points: dict[float, TextStats] = {}

    def stats(self, temperature: float) -> TextStats:
        """Statistics at a temperature."""
        if temperature not in self.points:
            self.points[temperature] = self._measure(temperature)
        return self.points[temperature]

    def ppx_at_oracle_vert(self) -> Crossing:
        """Search for the temperature whose continuations are as varied as the real texts."""
        return find_crossing(lambda at: self.stats(at).vert, self._grid, self.oracle.vert, self._steps)

    def vert_at_oracle_ppx(self) -> Crossing:
        """Search for the temperature whose continuations are as likely as the real texts."""
        target = self.oracle.ppx(self.average)
        return find_crossing(lambda at: self.stats(at).ppx(self.average), self._grid, target, self._steps)

    def headline(self, weights: npt.NDArray[Any]) -> dict[str, Any]:
        """Both scores with their bars; run it after all that is to be measured, since the bars use every point."""
        vert_crossing, ppx_crossing = self.ppx_at_oracle_vert(), self.vert_at_oracle_ppx()
        places = np.array(sorted(self.points))
        points = [self.points[at] for at in places]
        verts = {at: stats.vert for at, stats in self.points.items()}
        ppxs = {at: stats.ppx(self.average) for at, stats in self.points.items()}
        vert_RT = np.stack([stats.vert_of(weights) for stats in points], 1)
        ppx_RT = np.stack([stats.ppx_of(weights, self.average) for stats in points], 1)
        oracle_vert, oracle_ppx = self.oracle.vert_of(weights), self.oracle.ppx_of(weights, self.average)

        def score(
            crossing: Crossing, other: dict[float, float], own_RT: FloatArray, target: FloatArray, other_RT: FloatArray
        ) -> dict[str, Any]:
            if crossing.status != FOUND or crossing.place is None:
                return {"value": None, "two_sigma": None, **crossing.to_dict()}
            value = number(value_at(other, crossing.place))
            if value is None:
                return {"value": None, "two_sigma": None, **replace(crossing, status=NO_OTHER).to_dict()}
            spread, share = crossing_spread(places, own_RT, target, other_RT, crossing.place)
            bar = None if spread is None or not np.isfinite(spread) else 2 * spread
            return {"value": value, "two_sigma": bar, "resamples_that_reach": share, **crossing.to_dict()}

        return {
            "ppx_at_oracle_vert": score(vert_crossing, ppxs, vert_RT, oracle_vert, ppx_RT),
            "vert_at_oracle_ppx": score(ppx_crossing, verts, ppx_RT, oracle_ppx, vert_RT),
        }


def resample_weights(count: int, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """How often each prompt is drawn in each resample: (resamples, count)."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
