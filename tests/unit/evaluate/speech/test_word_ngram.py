"""The n-gram model of words: probabilities that sum to one, and the formula written out."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.evaluate.speech.word_ngram import START, WordNgram, _Spelling

TEXT = [line.split() for line in ("a b a c", "b a b", "c c a b a", "a b", "rare a b")]


def slow_probability(model: WordNgram, sentences: list[list[int]], history: tuple[int, ...], word: int) -> float:
    """Interpolated Kneser-Ney as in the books, over dictionaries."""
    order = model.order
    grams = Counter()
    for row in sentences:
        padded = [START] * (order - 1) + row
        grams.update(tuple(padded[at - order + 1 : at + 1]) for at in range(order - 1, len(padded)))
    tables = {order: grams}
    for lower in range(order - 1, 0, -1):
        tables[lower] = Counter(gram[1:] for gram in tables[lower + 1])
    probability = 1 / (len(model.words) + 1)
    for level in range(1, order + 1):
        context = history[len(history) - level + 1 :]
        table = tables[level]
        followers = {gram[-1]: count for gram, count in table.items() if gram[:-1] == context}
        once, twice = (sum(count == value for count in table.values()) for value in (1, 2))
        discount = once / (once + 2 * twice) if once and twice else 0.75
        if followers:
            total = sum(followers.values())
            own = max(followers.get(word, 0) - discount, 0)
            probability = (own + discount * len(followers) * probability) / total
    return probability


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_the_formula_and_sum_to_one(order):
    model = WordNgram(TEXT, order)
    assert model.words == ["a", "b", "c"]
    numbers = {"a": 2, "b": 3, "c": 4, "rare": 0}
    sentences = [[numbers[word] for word in text] for text in TEXT]
    base = len(model.words) + 2
    outcomes = [0, 2, 3, 4]
    for history in itertools.product(range(base), repeat=order - 1):
        keys = [sum(digit * base**at for at, digit in enumerate((*history, word)[::-1])) for word in outcomes]
        probs = model.probabilities(np.array(keys, dtype=np.int64))
        assert probs.sum() == pytest.approx(1.0)
        assert probs == pytest.approx([slow_probability(model, sentences, history, word) for word in outcomes])


def test_spellings_sum_to_one():
    spelling = _Spelling(["ab", "ba"])
    assert np.exp(spelling.table).sum(1) == pytest.approx(1.0)
    assert np.exp(spelling.table[spelling._end, spelling._end]) == 0.0
    # The longer the words that are counted, the more of the whole there is; "ab" by hand: 3 letters may begin a word.
    assert np.exp(spelling.log_prob("ab")) == pytest.approx(2 / 5 * 2 / 6 * 2 / 6)
    shares = [
        sum(np.exp(spelling.log_prob("".join(word))) for word in itertools.product("ab", repeat=length))
        for length in (1, 2, 3)
    ]
    assert sum(shares) < 1 and all(share > 0 for share in shares)


@given(st.text(min_size=1))
def test_any_word_has_a_probability(word):
    model = WordNgram(TEXT)
    (log_prob,) = model.log_probs([word])
    assert np.isfinite(log_prob) and log_prob < 0


def test_nonsense_costs_more_than_words():
    model = WordNgram(TEXT)
    assert model.is_unknown("rare") and not model.is_unknown("a")
    assert model.log_probs(["a"])[0] > model.log_probs(["rare"])[0] > model.log_probs(["zqxzqxzqx"])[0]
    assert model.log_probs([]).tolist() == []


def test_learned_order_is_likelier_than_another():
    sentences = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 3
    model = WordNgram(sentences)
    assert model.log_probs(["the", "cat", "sat"]).sum() > model.log_probs(["sat", "cat", "the"]).sum()


def test_nothing_to_learn_from():
    with pytest.raises(InputError, match="at least one sentence"):
        WordNgram([[], []])
    with pytest.raises(InputError, match="order 0"):
        WordNgram(TEXT, 0)
    with pytest.raises(InputError, match="order 40"):
        WordNgram(TEXT, 40)
