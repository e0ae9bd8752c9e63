"""Reference units: labels get numbers, times get frames, pieces share their word's time."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError, InputError
from syllablelm.data.alignment import Alignment, Interval, Word
from syllablelm.tokenizer.reference_units import (
    UNSEEN,
    VOCABULARY_FILE,
    WORD_MARK,
    Vocabulary,
    fit_vocabulary,
    place_on_frames,
)


def word(label: str, start: float, *phones: tuple[str, float]) -> Word:
    found, time = [], start
    for name, length in phones:
        found.append(Interval(name, time, time + length))
        time += length
    return Word(label, start, time, tuple(found))


ONE = Alignment(
    "one",
    2.0,
    (
        word("baba", 0.10, ("B", 0.05), ("AA", 0.10), ("B", 0.05), ("AA", 0.10)),
        word("bee", 0.40, ("B", 0.03), ("IY", 0.17)),
        word("baba", 1.00, ("B", 0.05), ("AA", 0.10), ("B", 0.05), ("AA", 0.20)),
    ),
)
TWO = Alignment("two", 0.5, (word("zoo", 0.1, ("Z", 0.1), ("UW", 0.2)),))


def test_labels_by_frequency_and_unseen_ones() -> None:
    phones = fit_vocabulary([ONE], "phone", hop=160)
    assert phones.labels == (UNSEEN, "B", "AA", "IY")
    placed = phones.encode(ONE)
    assert placed.segmentation.unit.tolist() == [1, 2, 1, 2, 1, 3, 1, 2, 1, 2]
    assert placed.segmentation.start[:6].tolist() == [10, 15, 25, 30, 40, 43]
    assert placed.segmentation.end[-1] == 140 and placed.segmentation.num_frames == 200
    assert (placed.unseen, placed.moved) == (0, 0)
    assert phones.encode(TWO).segmentation.unit.tolist() == [0, 0] and phones.encode(TWO).unseen == 2
    assert fit_vocabulary([ONE], "phone", 3).labels == (UNSEEN, "B", "AA")
    assert fit_vocabulary([ONE], "syllable").labels == (UNSEEN, "B-AA", "B-IY")
    words = fit_vocabulary([ONE], "word")
    assert words.names == [UNSEEN, "baba", "bee"]
    assert words.encode(ONE).segmentation.unit.tolist() == [1, 2, 1]
    assert words.encode(ONE).segmentation.start.tolist() == [5, 20, 50]


def test_text_pieces_spell_the_words_and_share_their_time() -> None:
    many = [
        Alignment(f"a{n}", 2.0, tuple(Word(text, k * 0.5, k * 0.5 + 0.4) for k, text in enumerate(row)))
        for n, row in enumerate([("reading", "read", "singing"), ("sing", "walking", "read"), ("walk", "walking")] * 8)
    ]
    text = fit_vocabulary(many, "text", 24, hop=160)
    assert text.num_units <= 24 and len(text.names) == text.num_units == len(set(text.names))
    for one in many:
        placed = text.encode(one)
        units = placed.segmentation
        assert units.unit is not None
        names = [text.names[unit] for unit in units.unit]
        assert "".join(names).split(WORD_MARK)[1:] == [each.label for each in one.words]
        firsts = [place for place, name in enumerate(names) if name.startswith(WORD_MARK)]
        for each, first, after in zip(one.words, firsts, [*firsts[1:], len(names)], strict=True):
            assert units.end[after - 1] == round(each.end * 100)
            letters = np.cumsum([len(name.replace(WORD_MARK, "")) for name in names[first:after]])
            expected = each.start * 100 + letters / letters[-1] * 40
            # A mark alone takes the first frame of its word.
            assert np.abs(units.end[first:after] - expected).max() <= 1
    placed = text.encode(Alignment("new", 1.0, (Word("sing", 0.0, 0.5), Word("zq", 0.5, 0.9))))
    assert placed.unseen == 2 and UNSEEN in "".join(text.names[unit] for unit in placed.segmentation.unit)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), max_size=12), st.integers(0, 4))
def test_frames_are_whole_in_order_and_near(steps: list[tuple[float, float]], spare: int) -> None:
    edges = np.cumsum([value for step in steps for value in step])
    start, end = edges[0::2], edges[1::2]
    num_frames = max(len(steps), round(float(edges[-1])) if steps else 0) + spare
    first, last, moved = place_on_frames(start, end, num_frames)
    assert np.all(last > first) and np.all(first[1:] >= last[:-1])
    assert not steps or (first[0] >= 0 and last[-1] <= num_frames)
    nearest = (first == np.rint(start)) & (last == np.rint(end))
    assert moved == int((~nearest).sum())
    if steps and np.all(np.rint(end) > np.rint(start)) and np.rint(end[-1]) <= num_frames:
        assert moved == 0, "nothing moves without need"


def test_more_units_than_frames() -> None:
    assert place_on_frames(np.array([0.0, 0.2, 0.4]), np.array([0.2, 0.4, 0.6]), 3)[0].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="3 units do not fit 2 frames"):
        place_on_frames(np.array([0.0, 0.2, 0.4]), np.array([0.2, 0.4, 0.6]), 2)
    crowded = Alignment("crowded", 0.02, (word("ba", 0.0, ("B", 0.01), ("AA", 0.01)),))
    with pytest.raises(InputError, match=r"alignment of crowded: 2 units.*--hop 160"):
        fit_vocabulary([crowded], "phone").encode(crowded)
    assert len(fit_vocabulary([crowded], "phone", hop=160).encode(crowded).segmentation) == 2


@pytest.mark.parametrize("tier", ["phone", "syllable", "word", "text"])
def test_saved_and_loaded(tmp_path: Path, tier) -> None:
    made = fit_vocabulary([ONE, TWO], tier, 12 if tier == "text" else 0, hop=160)
    made.save(tmp_path / "vocabulary")
    found = Vocabulary.load(tmp_path / "vocabulary")
    assert found.digest and found.names == made.names
    assert found.encode(ONE).segmentation == made.encode(ONE).segmentation
    with pytest.raises(InputError, match="exists"):
        made.save(tmp_path / "vocabulary")
    file = tmp_path / "vocabulary" / VOCABULARY_FILE
    table = json.loads(file.read_text(encoding="utf-8"))
    for change in ({"format": "x"}, {"labels": ["B"]}, {"tier": "letter"}, {"hop": "x"}, {"labels": None}):
        file.write_text(json.dumps(table | change))
        with pytest.raises(FormatError, match=re.escape(str(file))):
            Vocabulary.load(tmp_path / "vocabulary")
    file.write_text("[")
    with pytest.raises(FormatError, match="not JSON"):
        Vocabulary.load(tmp_path / "vocabulary")


def test_refusals() -> None:
    with pytest.raises(InputError, match="--fit 1"):
        fit_vocabulary([ONE], "phone", 1)
    with pytest.raises(InputError, match="no phone at all"):
        fit_vocabulary([Alignment("empty", 1.0)], "phone")
