"""The statistics of texts and the search, on texts whose temperature is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from syllablelm.evaluate.speech.bleu import auto_bleu, self_bleu
from syllablelm.evaluate.speech.sweep import TextStats, resample_weights, sweep_temperatures
from syllablelm.evaluate.speech.text_lm import TextScore

PROMPTS = 40


class Words:
    """A word's perplexity is its number plus one."""

    def score(self, texts):
        rows = [[math.log(int(word) + 1) for word in text.split()] for text in texts]
        return [TextScore(sum(row), len(row)) for row in rows]


def texts_at(temperature: float, seed: int = 0) -> list[str]:
    """The hotter, the more different words: likelier to be new, and less likely."""
    rng = np.random.default_rng(seed)
    return [" ".join(str(int(10 * temperature * value) + 1) for value in rng.random(60)) for _ in range(PROMPTS)]


def stats(temperature: float, seed: int = 0) -> TextStats:
    return TextStats.of(texts_at(temperature, seed), Words())


def test_statistics_are_means_and_medians():
    texts = ["1 2 1 2", "3", "", "1 2 3"]
    found = TextStats.of(texts, Words())
    ppx = [6**0.5, 4, 24 ** (1 / 3)]
    assert found.ppx("mean") == pytest.approx(np.mean(ppx))
    assert found.ppx("median") == pytest.approx(np.median(ppx))
    words = [text.split() for text in texts]
    assert found.vert == pytest.approx(100 * (self_bleu(words).mean() * auto_bleu(words).mean()) ** 0.5)
    row = found.summarize(resample_weights(4, 50, 0))
    assert (row.texts, row.empty_texts, row.tokens) == (4, 1, 8)


def test_resampled_medians_are_those_of_repeated_values():
    found = stats(1.0)
    weights = resample_weights(PROMPTS, 20, 0)
    expected = [np.median(np.repeat(found.perplexities, row)) for row in weights]
    assert found.ppx_of(weights, "median") == pytest.approx(expected)
    expected = [np.mean(np.repeat(found.perplexities, row)) for row in weights]
    assert found.ppx_of(weights, "mean") == pytest.approx(expected)


def test_no_words_at_all_is_no_number():
    row = TextStats.of(["", ""], Words()).summarize(resample_weights(2, 10, 0))
    assert (row.ppx_mean, row.ppx_median, row.vert, row.empty_texts) == (None, None, 0.0, 2)


def sweep(measure, oracle, grid, *, resamples=20, **options):
    return sweep_temperatures(measure, oracle, grid, resample_weights(len(oracle.scores), resamples, 0), **options)


def test_the_oracles_temperature_is_found():
    asked = []
    grid = [0.4, 1.0, 1.6, 2.2]
    scores, points = sweep(lambda at: asked.append(at) or stats(at), stats(1.23, seed=1), grid, resamples=200)
    by_vert, by_ppx = scores["ppx_at_oracle_vert"], scores["vert_at_oracle_ppx"]
    assert by_vert.crossing.status == by_ppx.crossing.status == "found"
    assert by_vert.crossing.temperature == pytest.approx(1.23, abs=0.15)
    assert by_ppx.crossing.temperature == pytest.approx(1.23, abs=0.1)
    truth = stats(1.23, seed=1)
    assert abs(by_vert.value - truth.ppx("mean")) < 2 * by_vert.two_sigma
    assert abs(by_ppx.value - truth.vert) < 2 * by_ppx.two_sigma
    assert len(asked) == len(set(asked)) == len(points)
    # The other score is read between the measured temperatures.
    low, high = (points[at].ppx("mean") for at in by_vert.crossing.between)
    share = (by_vert.crossing.temperature - by_vert.crossing.between[0]) / (
        by_vert.crossing.between[1] - by_vert.crossing.between[0]
    )
    inner = [at for at in points if by_vert.crossing.between[0] < at < by_vert.crossing.between[1]]
    assert inner or by_vert.value == pytest.approx(low + share * (high - low))


def test_silence_against_silence_has_no_temperature():
    silent, plain = TextStats.of(["", ""], Words()), TextStats.of(["1 2", "3 4"], Words())
    assert (silent.vert, plain.vert) == (0.0, 0.0)
    for stats_at, oracle in ((silent, silent), (plain, silent), (plain, plain)):
        score = sweep(lambda at, stats_at=stats_at: stats_at, oracle, [0.5, 1.0])[0]["ppx_at_oracle_vert"]
        assert score.crossing.status == "oracle met over a whole interval of temperatures"
        assert (score.value, score.crossing.between) == (None, (0.5, 1.0))


def test_a_crossing_without_the_other_score_says_so(monkeypatch):
    # As varied as the oracle, but with no perplexity there.
    monkeypatch.setattr(TextStats, "ppx_of", lambda self, weights, average: np.full(len(weights), np.nan))
    score = sweep(stats, stats(1.2, seed=1), [1.0, 1.6])[0]["ppx_at_oracle_vert"]
    assert score.crossing.status == "no value of the other score at the oracle"
    assert score.value is score.two_sigma is None
    assert 1.0 < score.crossing.temperature < 1.6


def test_swapped_ends_are_out_of_reach():
    cold, hot = stats(0.3), stats(5.0)
    for oracle, vert_side, ppx_side in ((cold, "above", "below"), (hot, "below", "above")):
        scores, _ = sweep(stats, oracle, [1.0, 2.0], steps=1)
        for name, side in (("ppx_at_oracle_vert", vert_side), ("vert_at_oracle_ppx", ppx_side)):
            assert side in scores[name].crossing.status
            assert scores[name].value is scores[name].two_sigma is scores[name].crossing.temperature is None
            assert type(scores[name]).from_dict(scores[name].to_dict()) == scores[name]
