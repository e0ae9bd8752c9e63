"""Subwords: exact inverses, and segmentations that are those of textbook byte pairs and of an exhaustive search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError, InputError
from syllablelm.quantize.bpe import Method, SubwordModel, code_texts, fit_subwords

SYMBOLS = 9


def sentences(count: int = 60, seed: int = 0, symbols: int = 7) -> list[list[int]]:
    """Recordings made of a few words of symbols; the symbols from ``symbols`` on never occur."""
    rng = np.random.default_rng(seed)
    words = [rng.integers(0, symbols, size=rng.integers(1, 5)).tolist() for _ in range(12)]
    return [[s for w in rng.integers(0, 12, size=20) for s in words[w]] for _ in range(count)]


MODELS = {method: fit_subwords(sentences(), SYMBOLS, method, 40) for method in ("bpe", "unigram")}


def textbook_merges(symbols: Sequence[int], model: SubwordModel) -> list[tuple[int, ...]]:
    """Greedy merges by rank: the most urgent pair anywhere, all of its places from the left, again and again."""
    names = [model._spell(code) for code in range(model.num_codes)]
    ranks = {(names[left], names[right]): rank for rank, (left, right) in reversed(list(enumerate(model.merges)))}
    parts = [(symbol,) for symbol in symbols]
    while True:
        found = [ranks[pair] for pair in pairwise(parts) if pair in ranks]
        if not found:
            return parts
        wanted = min(found)
        merged: list[tuple[int, ...]] = []
        while parts:
            if len(parts) > 1 and ranks.get((parts[0], parts[1])) == wanted:
                merged.append(parts[0] + parts[1])
                parts = parts[2:]
            else:
                merged.append(parts[0])
                parts = parts[1:]
        parts = merged


def best_score(symbols: Sequence[int], model: SubwordModel) -> float:
    """Highest sum of scores over all cuts."""
    scores = {model._spell(code): model.scores[code] for code in range(model.num_codes)}
    best = [0.0]
    for end in range(1, len(symbols) + 1):
        pieces = ((start, tuple(symbols[start:end])) for start in range(end))
        best.append(max(best[start] + scores[piece] for start, piece in pieces if piece in scores))
    return best[-1]


@pytest.mark.parametrize("method", ["bpe", "unigram"])
@given(st.lists(st.integers(0, SYMBOLS - 1), max_size=40))
def test_expanding_codes_gives_the_symbols_back(method: Method, symbols: list[int]) -> None:
    model = MODELS[method]
    codes = model.encode(symbols)
    assert model.expand(codes).tolist() == symbols
    assert int(model.lengths[codes].sum()) == len(symbols)


@given(st.lists(st.integers(0, SYMBOLS - 1), max_size=40))
def test_byte_pairs_are_merged_as_in_the_textbook(symbols: list[int]) -> None:
    model = MODELS["bpe"]
    assert [model._spell(code) for code in model.encode(symbols)] == textbook_merges(symbols, model)


def test_byte_pairs_of_real_recordings_too() -> None:
    model = MODELS["bpe"]
    for row in sentences(20):
        assert [model._spell(code) for code in model.encode(row)] == textbook_merges(row, model)
        assert len(model.encode(row)) < 0.7 * len(row)


@given(st.lists(st.integers(0, SYMBOLS - 1), max_size=30))
def test_unigram_finds_the_likeliest_cut(symbols: list[int]) -> None:
    model = MODELS["unigram"]
    found = sum(model.scores[code] for code in model.encode(symbols))
    assert found == pytest.approx(best_score(symbols, model), abs=1e-6)


def test_first_merges_are_the_most_frequent_pairs() -> None:
    rows = [[int(x) for x in row] for row in sentences()]
    rows = [[symbol for symbol, after in pairwise([*row, -1]) if symbol != after] for row in rows]
    model = fit_subwords(rows, SYMBOLS, "bpe", SYMBOLS + 1)
    pairs = Counter(pair for row in rows for pair in pairwise(row))
    assert model.subwords == (max(pairs, key=lambda pair: (pairs[pair], -pair[0], -pair[1])),)


@pytest.mark.parametrize("method", ["bpe", "unigram"])
def test_sizes_and_tables(method: Method) -> None:
    model = MODELS[method]
    assert SYMBOLS < model.num_codes <= 40
    assert method != "bpe" or model.num_codes == 40
    assert SubwordModel.from_table(model.to_table(), "here") == model
    assert fit_subwords(sentences(), SYMBOLS, method, 40) == model, "the same input gives the same subwords"
    assert fit_subwords(sentences(), SYMBOLS, method, SYMBOLS).subwords == ()
    assert code_texts(model, "abcdefghi")[:9] == list("abcdefghi")
    longer = fit_subwords([[0, 1, 2, 3] * 100], 4, method, 10_000)
    assert longer.num_codes < 10_000, "no more subwords than the data holds"


def test_many_symbols_and_long_recordings() -> None:
    row = np.random.default_rng(0).integers(0, 28_000, size=20_000)
    model = fit_subwords([row, row], 28_000, "bpe", 28_050)
    assert np.array_equal(model.expand(model.encode(row)), row)
    assert len(model.encode(row)) == len(row) - 50


def test_refusals() -> None:
    with pytest.raises(InputError, match="vocabulary of 3 does not hold the 4 single units"):
        fit_subwords([[1, 2]], 4, "bpe", 3)
    with pytest.raises(InputError, match="nothing to learn"):
        fit_subwords([[]], 4, "unigram", 30)
    with pytest.raises(InputError, match="unit 4 is outside"):
        fit_subwords([[1, 4]], 4, "bpe", 30)
    with pytest.raises(InputError, match="different ones"):
        fit_subwords([[1]], 10**7, "bpe", 10**8)
    with pytest.raises(InputError, match="symbol 9 is outside"):
        MODELS["bpe"].encode([1, 9])
    with pytest.raises(InputError, match="code 40 is outside"):
        MODELS["bpe"].expand([40])


@pytest.mark.parametrize(
    "change",
    [
        {"method": "wordpiece"},
        {"pieces": [[1]]},
        {"pieces": [[1, 99]]},
        {"merges": [[0, 999]]},
        {"merges": [[8, 8]]},
        {"num_symbols": "many"},
        {"method": "unigram"},
    ],
)
def test_damaged_tables(change: dict[str, object]) -> None:
    with pytest.raises(FormatError, match=r"here: damaged subword model"):
        SubwordModel.from_table(MODELS["bpe"].to_table() | change, "here")
    with pytest.raises(FormatError, match=r"here: damaged subword model"):
        SubwordModel.from_table([], "here")
