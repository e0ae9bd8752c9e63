"""Token stores from files of units: what is laid end to end, what is left out, and when it is made anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import open_writer
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.train.token_stage import make_tokens, match_units

INFO = TokenInfo(10)
UNITS = {"a": [1, 2, 2, 3], "b": [4, 4], "c": [5, 6, 7]}


def write_units(path: Path, units: dict[str, list[int]]) -> str:
    with open_writer(path) as writer:
        for name, row in units.items():
            writer.write(name, "", Segmentation.from_boundaries(4 * np.arange(len(row) + 1), unit=row))
    return str(path)


def tokens_of(sources: list[str], out: Path, info: TokenInfo = INFO, *, without: list[str] | None = None) -> list:
    store = TokenStore.open(make_tokens(sources, info, out, without=without or []).path)
    return [store[index][0].tolist() for index in range(len(store))]


def test_sources_follow_each_other_with_repeats_merged(tmp_path: Path) -> None:
    one, two = write_units(tmp_path / "1.jsonl", UNITS), write_units(tmp_path / "2.jsonl", {"a": [8, 8, 9]})
    # An id may be in two sources: two corpora may name their recordings alike.
    assert tokens_of([one, two], tmp_path / "merged") == [[1, 2, 3], [4], [5, 6, 7], [8, 9]]
    kept = TokenInfo(10, keep_repeats=True)
    assert tokens_of([one, two], tmp_path / "kept", kept) == [*UNITS.values(), [8, 8, 9]]


def test_what_is_held_out_is_left_out_of_every_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write_units(tmp_path / "1.jsonl", UNITS), write_units(tmp_path / "2.jsonl", {"b": [8], "d": [9]})
    held_out = write_units(tmp_path / "valid.jsonl", {"b": [0], "x": [1]})
    more = write_units(tmp_path / "more.jsonl", {"c": [0]})
    assert tokens_of([one, two], tmp_path / "out", without=[held_out, more]) == [[1, 2, 3], [9]]
    assert "3 held-out recordings left out, such as 'b'" in capsys.readouterr().err


@settings(max_examples=15, deadline=None)
@given(st.sets(st.sampled_from("abcdef"), min_size=1), st.sets(st.sampled_from("abcdef")))
def test_train_and_valid_share_no_recording(tmp_path_factory, train: set[str], valid: set[str]) -> None:
    folder = tmp_path_factory.mktemp("sets")
    names = "abcdef"
    one = write_units(folder / "1.jsonl", {name: [names.index(name)] for name in sorted(train)})
    held_out = [write_units(folder / "2.jsonl", {name: [9] for name in sorted(valid)})] if valid else []
    expected = [[names.index(name)] for name in sorted(train - valid)]
    if expected:
        assert tokens_of([one], folder / "out", without=held_out) == expected
    else:
        with pytest.raises(InputError, match="every recording is held out"):
            tokens_of([one], folder / "out", without=held_out)
        assert not (folder / "out").exists()


def test_a_store_is_of_what_was_held_out(tmp_path: Path) -> None:
    """Other held-out recordings are another store; none at all leaves no trace in its record."""
    one, held_out = write_units(tmp_path / "1.jsonl", UNITS), write_units(tmp_path / "v.jsonl", {"b": [0]})
    first = make_tokens([one], INFO, tmp_path / "out", without=[held_out])
    assert make_tokens([one], INFO, tmp_path / "out", without=[held_out]).digest == first.digest
    write_units(tmp_path / "v.jsonl", {"c": [0]})
    with pytest.raises(InputError, match="choose another --out"):
        make_tokens([one], INFO, tmp_path / "out", without=[held_out])
    assert "without" not in make_tokens([one], INFO, tmp_path / "all").record["parents"]


def test_unusable_units(tmp_path: Path) -> None:
    with open_writer(tmp_path / "bare.jsonl") as writer:
        writer.write("a", "", Segmentation.from_boundaries([0, 4]))
    with pytest.raises(InputError, match=r"bare\.jsonl: a: boundaries without units"):
        tokens_of([str(tmp_path / "bare.jsonl")], tmp_path / "out")
    beyond = write_units(tmp_path / "beyond.jsonl", {"a": [10]})
    with pytest.raises(InputError, match=r"beyond\.jsonl: a"):
        tokens_of([beyond], tmp_path / "out")
    with pytest.raises(FormatError, match="no such file"):
        tokens_of([beyond], tmp_path / "out", without=[str(tmp_path / "none.jsonl")])
    assert not (tmp_path / "out").exists()


def test_a_source_named_twice_is_read_twice_and_differs_once(tmp_path: Path) -> None:
    one, two = write_units(tmp_path / "1.jsonl", UNITS), write_units(tmp_path / "2.jsonl", {"a": [8, 9]})
    artifact = make_tokens([one, two, one], INFO, tmp_path / "out")
    assert artifact.metrics["tokens"] == 2 * 7 + 2 and artifact.metrics["unique_tokens"] == 7 + 2


def test_units_of_another_tokenizer(tmp_path: Path) -> None:
    source = tmp_path / "units.parquet"
    with open_writer(source, "parquet", tokenizer="0123") as writer:
        writer.write("a", "", Segmentation.from_boundaries([0, 2, 4], unit=[1, 2]))
    assert tokens_of([str(source)], tmp_path / "own", TokenInfo(10, tokenizer="0123")) == [[1, 2]]
    for place in (
        {"sources": [str(source)]},
        {"sources": [write_units(tmp_path / "1.jsonl", UNITS)], "without": [str(source)]},
    ):
        with pytest.raises(FormatError, match=r"units.parquet: units of tokenizer 0123, but units.tokenizer is 4567"):
            make_tokens(
                place["sources"], TokenInfo(10, tokenizer="4567"), tmp_path / "no", without=place.get("without", [])
            )
    assert not (tmp_path / "no").exists()


@given(st.permutations(range(12)), st.permutations(range(12)), st.integers(0, 12), st.integers(0, 12))
def test_units_of_both_kinds_are_matched_by_id(first, second, many, others):
    grid = [Segmentation.from_boundaries([0, n + 1], unit=[n]) for n in range(12)]
    left, right = ([(f"r{n}", grid[n]) for n in order] for order in (first[:many], second[:others]))
    unmatched: list[str] = []
    found = list(match_units(iter(left), iter(right), unmatched))
    both = {name for name, _ in left} & {name for name, _ in right}
    assert sorted(name for name, *_ in found) == sorted(both)
    assert all(one == other == dict(left)[name] for name, one, other in found)
    assert sorted(unmatched) == sorted({name for name, _ in left + right} - both)
    if first == second and many == others:
        assert [name for name, *_ in found] == [name for name, _ in left]


def test_matching_in_one_order_holds_one_recording():
    held, most = 0, 0

    def rows(side):
        nonlocal held, most
        for n in range(200):
            held += side
            most = max(most, held)
            yield f"r{n}", Segmentation.from_boundaries([0, 1], unit=[0])

    for _ in match_units(rows(1), rows(0), []):
        held -= 1
    assert most == 1
    with pytest.raises(FormatError, match="two recordings have the id 'a'"):
        row = Segmentation.from_boundaries([0, 1], unit=[0])
        list(match_units(iter([("a", row), ("a", row)]), iter([("b", row)]), []))
