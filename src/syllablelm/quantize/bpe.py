"""Subword vocabularies: codes for frequent sequences of symbols, by byte-pair encoding or a unigram model.

Symbols are integers (units, or characters of a text); the libraries see them as characters of a private alphabet, so
nothing is normalised, split at blanks or left out. A code below the number of symbols is that symbol itself, so every
sequence can be encoded and every code decoded exactly.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError, MissingDependencyError

IntArray = npt.NDArray[np.int32]
Method = Literal["bpe", "unigram"]

# Above the surrogates, so that symbols are consecutive code points.
_FIRST = 0x20000
MAX_SYMBOLS = 0x110000 - _FIRST
# Penalty of an unseen symbol; as SentencePiece's for unknown characters.
_UNSEEN_PENALTY = 10.0


@dataclass(frozen=True)
class SubwordModel:
    """A subword vocabulary and its segmentation of symbol sequences.

    Args:
        method: "bpe" (merges in learned order) or "unigram" (the most probable segmentation).
        num_symbols: size of the alphabet; symbols, and their codes, are 0 to num_symbols - 1.
        subwords: symbols of each code from num_symbols on, two or more.
        merges: pairs of codes, in order of priority ("bpe").
        scores: log-probability of each code ("unigram").
    """

    method: Method
    num_symbols: int
    subwords: tuple[tuple[int, ...], ...] = ()
    merges: tuple[tuple[int, int], ...] = ()
    scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_count(self.num_symbols)
        spelled = [symbol for subword in self.subwords for symbol in subword]
        if any(len(subword) < 2 for subword in self.subwords) or len(set(self.subwords)) != len(self.subwords):
            raise FormatError("subwords must be distinct, of two symbols or more each")
        if spelled and not 0 <= min(spelled) <= max(spelled) < self.num_symbols:
            raise FormatError(f"a subword is spelled with symbols outside 0 to {self.num_symbols - 1}")
        if self.method == "unigram" and len(self.scores) != self.num_codes:
            raise FormatError(f"{len(self.scores)} scores of {self.num_codes} subwords")
        codes = {self._spell(code): code for code in range(self.num_codes)} if self.merges else {}
        for left, right in self.merges:
            inside = 0 <= left < self.num_codes and 0 <= right < self.num_codes
            if not inside or self._spell(left) + self._spell(right) not in codes:
                raise FormatError(f"the merge of {left} and {right} gives no subword")

    @property
    def num_codes(self) -> int:
        """Vocabulary size: symbols and subwords."""
        return self.num_symbols + len(self.subwords)

    @cached_property
    def lengths(self) -> IntArray:
        """(num_codes,) number of symbols of each code."""
        return np.array([1] * self.num_symbols + [len(subword) for subword in self.subwords], dtype=np.int32)

    def encode(self, symbols: npt.ArrayLike) -> IntArray:
        """Encode symbols (n,) as codes (m,), m <= n."""
        array = np.asarray(symbols, dtype=np.int64)
        if len(array) == 0:
            return np.zeros(0, dtype=np.int32)
        _check_inside(array, self.num_symbols, "symbol", "alphabet")
        return np.array(self._coder.encode(_to_text(array)).ids, dtype=np.int32)

    def expand(self, codes: npt.ArrayLike) -> IntArray:
        """Decode codes (m,) to the symbols (n,) that they stand for, exactly."""
        array = np.asarray(codes, dtype=np.int64)
        _check_inside(array, self.num_codes, "code", "vocabulary")
        flat, offsets = self._spellings
        count = self.lengths[array].astype(np.int64)
        first = np.cumsum(count) - count
        within = np.arange(int(count.sum())) - np.repeat(first, count)
        return flat[np.repeat(offsets[array], count) + within]

    def _spell(self, code: int) -> tuple[int, ...]:
        return (code,) if code < self.num_symbols else self.subwords[code - self.num_symbols]

    @cached_property
    def _spellings(self) -> tuple[IntArray, npt.NDArray[np.int64]]:
        flat = [symbol for subword in self.subwords for symbol in subword]
        symbols = np.concatenate([np.arange(self.num_symbols), np.array(flat, dtype=np.int64)]).astype(np.int32)
        lengths = self.lengths.astype(np.int64)
        return symbols, np.cumsum(lengths) - lengths

    @cached_property
    def _coder(self) -> Any:
        from tokenizers import Tokenizer, models

        texts = [_to_text(self._spell(code)) for code in range(self.num_codes)]
        if self.method == "bpe":
            merges = [(texts[left], texts[right]) for left, right in self.merges]
            return Tokenizer(models.BPE({text: code for code, text in enumerate(texts)}, merges))
        # The library wants an unknown token; no sequence of ours holds it.
        unknown = len(texts)
        entries = [*zip(texts, self.scores, strict=True), (chr(0), min(self.scores) - _UNSEEN_PENALTY)]
        return Tokenizer(models.Unigram(entries, unknown, False))

    def to_table(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        table: dict[str, Any] = {"method": self.method, "num_symbols": self.num_symbols}
        table["pieces"] = [list(subword) for subword in self.subwords]
        if self.method == "bpe":
            return table | {"merges": [list(pair) for pair in self.merges]}
        return table | {"scores": list(self.scores)}

    @classmethod
    def from_table(cls, table: Any, where: str) -> SubwordModel:
        """Build a model from what ``to_table`` returned."""
        try:
            if table["method"] not in get_args(Method):
                raise FormatError(f"unknown method {table['method']!r}")
            subwords = tuple(tuple(int(symbol) for symbol in subword) for subword in table["pieces"])
            merges = tuple((int(left), int(right)) for left, right in table.get("merges", ()))
            scores = tuple(float(score) for score in table.get("scores", ()))
            return cls(table["method"], int(table["num_symbols"]), subwords, merges, scores)
        except (FormatError, InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{where}: damaged subword model ({error})") from None


def fit_subwords(
    sequences: Iterable[npt.ArrayLike], num_symbols: int, method: Method, num_codes: int, *, longest: int = 16
) -> SubwordModel:
    """Learn a subword vocabulary.

    Args:
        sequences: symbols (n,) of each recording or word; no subword crosses their ends.
        num_symbols: size of the alphabet, unseen symbols included.
        method: "bpe" or "unigram" (SentencePiece).
        num_codes: vocabulary size, symbols included; smaller where the sequences do not hold as many subwords.
        longest: maximum number of symbols of a unigram subword (SentencePiece's default).

    Raises:
        InputError: no symbols, a vocabulary of fewer codes than symbols, or a symbol outside the alphabet.
    """
    _check_count(num_symbols)
    if num_codes < num_symbols:
        raise InputError(f"a vocabulary of {num_codes} does not hold the {num_symbols} single units; ask for more")
    texts = []
    for sequence in sequences:
        row = np.asarray(sequence, dtype=np.int64)
        _check_inside(row, num_symbols, "unit", "vocabulary")
        if len(row):
            texts.append(_to_text(row))
    if not texts:
        raise InputError("no units at all: nothing to learn a vocabulary from")
    if method == "bpe":
        return _fit_bpe(texts, num_symbols, num_codes)
    return _fit_unigram(texts, num_symbols, num_codes, longest)


def _fit_bpe(texts: Sequence[str], num_symbols: int, num_codes: int) -> SubwordModel:
    from tokenizers import Tokenizer, models, trainers

    coder = Tokenizer(models.BPE())
    trainer: Any = trainers.BpeTrainer
    alphabet = [chr(_FIRST + symbol) for symbol in range(num_symbols)]
    coder.train_from_iterator(
        texts, trainer(vocab_size=num_codes, initial_alphabet=alphabet, special_tokens=[], show_progress=False)
    )
    learned = json.loads(coder.to_str())["model"]["merges"]
    codes = {text: code for code, text in enumerate(alphabet)}
    merges = []
    for left, right in learned:
        # Two merges may spell the same subword.
        codes.setdefault(left + right, len(codes))
        merges.append((codes[left], codes[right]))
    subwords = tuple(_to_symbols(text) for text in list(codes)[num_symbols:])
    return SubwordModel("bpe", num_symbols, subwords, merges=tuple(merges))


def _fit_unigram(texts: Sequence[str], num_symbols: int, num_codes: int, longest: int) -> SubwordModel:
    try:
        import sentencepiece
    except ImportError:
        raise MissingDependencyError("a unigram vocabulary needs sentencepiece: pip install sentencepiece") from None
    # Its vocabulary has one unknown token and leaves out symbols that do not occur.
    seen = set().union(*map(set, texts))
    written, processor = io.BytesIO(), sentencepiece.SentencePieceProcessor
    try:
        sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
            sentence_iterator=iter(texts),
            model_writer=written,
            model_type="unigram",
            vocab_size=num_codes - num_symbols + len(seen) + 1,
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_unicode_script=False,
            split_by_number=False,
            split_by_whitespace=False,
            max_sentence_length=1 << 30,
            max_sentencepiece_length=longest,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            # Sums in several threads are rounded in another order.
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise InputError(f"SentencePiece cannot learn from these units: {str(error).splitlines()[0]}") from None
    model: Any = processor(model_proto=written.getvalue())
    found = {model.id_to_piece(entry): float(model.get_score(entry)) for entry in range(1, model.get_piece_size())}
    subwords = [text for text in found if len(text) > 1]
    least = min(found.values()) - _UNSEEN_PENALTY
    scores = [found.get(chr(_FIRST + symbol), least) for symbol in range(num_symbols)]
    scores += [found[text] for text in subwords]
    return SubwordModel("unigram", num_symbols, tuple(map(_to_symbols, subwords)), scores=tuple(scores))


def _check_inside(values: npt.NDArray[np.int64], size: int, noun: str, whole: str) -> None:
    wrong = values[(values < 0) | (values >= size)]
    if len(wrong):
        raise InputError(f"{noun} {int(wrong[0])} is outside the {whole} of {size}")


def _check_count(num_symbols: int) -> None:
    if not 1 <= num_symbols <= MAX_SYMBOLS:
        raise InputError(f"{num_symbols} units: a subword vocabulary takes 1 to {MAX_SYMBOLS} different ones")


def _to_text(symbols: npt.ArrayLike) -> str:
    return (np.asarray(symbols) + _FIRST).astype("<u4").tobytes().decode("utf-32-le")


def _to_symbols(text: str) -> tuple[int, ...]:
    return tuple(ord(character) - _FIRST for character in text)


def code_texts(model: SubwordModel, names: Mapping[int, str] | Sequence[str]) -> list[str]:
    """Return the text of every code, given the names of the symbols."""
    return ["".join(names[symbol] for symbol in model._spell(code)) for code in range(model.num_codes)]
