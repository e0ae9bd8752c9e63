"""BLEUs of texts against their definition written out, by hand, and in turned orders."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.evaluate.speech.bleu import auto_bleu, ngrams, self_bleu

TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=7), min_size=1, max_size=5)


def slow_self(texts: list, index: int) -> float:
    """BLEU-2 with clipped counts, every reference asked for every n-gram."""
    precisions = []
    for order in (1, 2):
        grams = ngrams(texts[index], order)
        others = [Counter(ngrams(text, order)) for at, text in enumerate(texts) if at != index]
        clipped = sum(
            min(times, max((other[gram] for other in others), default=0)) for gram, times in Counter(grams).items()
        )
        precisions.append(clipped / len(grams) if grams else 0.0)
    return (precisions[0] * precisions[1]) ** 0.5


def slow_auto(text: list) -> float:
    """Every n-gram looked for in what is left and right of it."""
    precisions = []
    for order in (1, 2):
        grams = ngrams(text, order)
        found = 0
        for place, gram in enumerate(grams):
            found += gram in ngrams(text[:place], order) or gram in ngrams(text[place + order :], order)
        precisions.append(found / len(grams) if grams else 0.0)
    return (precisions[0] * precisions[1]) ** 0.5


@given(TEXTS)
def test_both_are_their_definitions(texts):
    assert np.allclose(self_bleu(texts), [slow_self(texts, i) for i in range(len(texts))])
    assert np.allclose(auto_bleu(texts), [slow_auto(text) for text in texts])


@given(TEXTS, st.randoms(use_true_random=False))
def test_order_of_the_texts_does_not_matter(texts, random):
    order = list(range(len(texts)))
    random.shuffle(order)
    assert np.allclose(self_bleu([texts[i] for i in order]), self_bleu(texts)[order])


def test_by_hand():
    texts = [text.split() for text in ("the cat sat", "the cat ran", "a dog")]
    # "the cat sat": 2 of 3 words and 1 of 2 pairs are in the second text.
    assert self_bleu(texts) == pytest.approx([(2 / 3 * 1 / 2) ** 0.5, (2 / 3 * 1 / 2) ** 0.5, 0.0])
    # "a b a b": all words twice; of the pairs ab, ba, ab the two ab.
    assert auto_bleu([["a", "b", "a", "b"]]) == pytest.approx([(2 / 3) ** 0.5])
    # Overlapping pairs are no repetition: "a a a" has aa twice, each in the other's words.
    assert auto_bleu([["a", "a", "a"]]) == pytest.approx([0.0])


def test_the_ends():
    assert self_bleu([list("abc")] * 2).tolist() == [1.0, 1.0]
    assert self_bleu([list("abc"), list("xyz")]).tolist() == [0.0, 0.0]
    assert self_bleu([[], list("ab"), list("a")]).tolist() == [0.0, 0.0, 0.0]
    assert self_bleu([list("abc")]).tolist() == [0.0]
    assert auto_bleu([[], ["a"], list("abc")]).tolist() == [0.0, 0.0, 0.0]


def test_clipped_counts_agree_with_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    rng = np.random.default_rng(0)
    texts = [list(rng.choice(list("abcdef"), rng.integers(3, 12))) for _ in range(6)]
    bleu = sacrebleu.metrics.BLEU(tokenize="none", max_ngram_order=2, smooth_method="none", effective_order=False)
    for index, ours in enumerate(self_bleu(texts)):
        others = [" ".join(text) for at, text in enumerate(texts) if at != index]
        theirs = bleu.sentence_score(" ".join(texts[index]), others)
        assert ours == pytest.approx((theirs.precisions[0] * theirs.precisions[1]) ** 0.5 / 100)
