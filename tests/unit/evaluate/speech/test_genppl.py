"""GenPPL and auto-BLEU-2 against their definitions in slamkit, written out slowly."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from syllablelm.evaluate.speech.genppl import GenPPL, repeated_pairs, score_genppl, split_words
from syllablelm.evaluate.speech.sweep import resample_weights
from syllablelm.evaluate.speech.text_lm import TextScore

# What NLTKWordTokenizer of nltk 3.10.4 returns, its opening and closing quotes written as they were.
NLTK = {
    "Mr. Dodd said it. He can't, won't and cannot go.": [
        "Mr.", "Dodd", "said", "it.", "He", "ca", "n't", ",", "wo", "n't", "and", "can", "not", "go", ".",
    ],
    "It's 10:30, or 1,000 -- who knows...?": [
        "It", "'s", "10:30", ",", "or", "1,000", "--", "who", "knows", "...", "?",
    ],
    'the dogs\' "big" well-known (old) day!': [
        "the", "dogs", "'", '"', "big", '"', "well-known", "(", "old", ")", "day", "!",
    ],
    "": [],
}  # fmt: skip


@pytest.mark.parametrize("text", NLTK)
def test_words_are_those_of_nltk(text):
    assert split_words(text) == NLTK[text]


def slow_repeated_pairs(words: list[str]) -> float:
    """A pair counts where it stands in what is left or right of it."""
    pairs = list(itertools.pairwise(words))
    hits = [pair in pairs[:place] or pair in pairs[place + 1 :] for place, pair in enumerate(pairs)]
    return sum(hits) / len(pairs) if pairs else 0.0


def test_repeated_pairs_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 3, 10, 40):
        words = [str(word) for word in rng.choice(["a", "b", "cat"], size)]
        assert repeated_pairs(" ".join(words)) == pytest.approx(slow_repeated_pairs(words))
    # An overlap counts.
    assert repeated_pairs("no no no") == 1.0


def test_scores_of_a_corpus():
    texts = ["a b a b", "a b", ""]
    scores = [TextScore(6.0, 3), TextScore(4.0, 4), TextScore(0.0, 0)]
    weights = resample_weights(3, 50, 0)
    found = score_genppl(texts, scores, weights)
    assert found.genppl == pytest.approx(math.exp((6 / 3 + 4 / 4) / 2))
    assert found.auto_bleu_2 == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert (found.texts, found.empty_texts, found.tokens) == (3, 1, 7)
    slow = []
    for row in weights:
        drawn = np.repeat(np.arange(3), row)
        nats = [scores[i].nats / scores[i].tokens for i in drawn if scores[i].tokens]
        slow.append(math.exp(np.mean(nats)) if nats else math.nan)
    assert found.genppl_two_sigma == pytest.approx(2 * np.nanstd(slow, ddof=1))
    assert GenPPL.from_dict(found.to_dict()) == found


def test_texts_without_any_token():
    found = score_genppl(["", ""], [TextScore(0.0, 0)] * 2, resample_weights(2, 5, 0))
    assert (found.genppl, found.genppl_two_sigma, found.auto_bleu_2) == (None, None, 0.0)
