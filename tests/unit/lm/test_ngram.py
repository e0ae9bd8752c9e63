"""N-gram baselines: true distributions, and better where there is something to know."""

from __future__ import annotations

import math

import numpy as np
import pytest

from syllablelm.lm.ngram import Likelihood, NgramModel
from syllablelm.lm.store import TokenInfo, TokenStore


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_of_all_successors_add_up(store, order):
    model = NgramModel(store, order)
    bos, vocabulary = store.info.bos, store.info.num_tokens
    for previous in range(vocabulary):
        total = sum(math.exp(model.log_probs(np.array([previous, token]), bos)[1]) for token in range(vocabulary))
        assert total == pytest.approx(1.0)
    assert sum(math.exp(model.log_probs(np.array([t]), bos)[0]) for t in range(vocabulary)) == pytest.approx(1.0)


def test_bigram_by_hand():
    # Pairs: BOS 0, 0 1, 1 0, 0 2 | BOS 1, 1 0; continuation counts of 0, 1, 2: {BOS, 1}, {0, BOS}, {0}.
    info = TokenInfo(3)
    ones = [np.ones(4, dtype=np.int32), np.ones(2, dtype=np.int32)]
    store = TokenStore.from_arrays([np.array([0, 1, 0, 2]), np.array([1, 0])], ones, info)
    model = NgramModel(store, 2)
    # Four pairs occur once and one twice; one unit has a single continuation and two have two.
    high, low = 4 / (4 + 2 * 1), 1 / (1 + 2 * 2)
    lower = (2 - low) / 5 + low * 3 / 5 / info.num_tokens
    expected = (1 - high) / 2 + high * 2 / 2 * lower
    assert model.log_probs(np.array([0, 1]), info.bos)[1] == pytest.approx(math.log(expected))
    # After 2, which no token ever followed, the lower order decides alone.
    assert model.log_probs(np.array([2, 1]), info.bos)[1] == pytest.approx(math.log(lower))
    assert len(model.log_probs(np.zeros(0, dtype=np.int64), info.bos)) == 0


def test_bigrams_beat_unigrams_on_a_markov_chain(recordings, store):
    train = TokenStore.from_segmentations(recordings[:90], store.info)
    held = TokenStore.from_segmentations(recordings[90:], store.info)
    unigram, bigram = (NgramModel(train, order).evaluate(held) for order in (1, 2))
    assert unigram.tokens == bigram.tokens == len(held.tokens)
    assert bigram.nats_per_token < unigram.nats_per_token - 0.5
    assert unigram.nats_per_second == pytest.approx(unigram.nats / held.seconds)


def test_likelihoods_add():
    both = Likelihood(10.0, 4, 2.0) + Likelihood(2.0, 2, 1.0)
    assert (both.nats_per_token, both.nats_per_second) == (2.0, 4.0)
    assert both.bits_per_second == pytest.approx(4 / math.log(2))
    assert math.isnan(Likelihood(0.0, 0, 0.0).nats_per_token)
