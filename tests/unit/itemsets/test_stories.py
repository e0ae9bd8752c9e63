"""Passages and swapped endings; sentence pairs from archives."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError, InputError
from syllablelm.itemsets.stories import Passage, make_topic_cloze, read_passages, swap_endings

VOICES = ("a", "b")


def write_transcript(path: Path, chapters: int = 6, utterances: int = 8) -> Path:
    lines = [
        f"{c}-7-{u:04d} {' '.join([f'WORD{c}X{u}'] * (4 + (c + u) % 5))}"
        for c in range(chapters)
        for u in range(utterances)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_passages_of_a_transcript(tmp_path: Path) -> None:
    path = tmp_path / "x.trans.txt"
    path.write_text(
        "1-2-0000 A B C D\n1-2-0001 E F G H\n1-2-0002 TOO SHORT\n1-2-0003 I J K L\n1-2-0004 M N O P\n"
        "1-2-0006 Q R S T\n1-3-0007 U V W X\n",
        encoding="utf-8",
    )
    found = list(read_passages(path, context=1, max_words=5))
    # A short utterance, a gap in the numbers and a new chapter each end a passage.
    assert [(p.story, p.context, p.ending) for p in found] == [
        ("1-2", ("a b c d",), "e f g h"),
        ("1-2", ("i j k l",), "m n o p"),
    ]
    assert len({p.name for p in found}) == 2


def test_passages_of_prose_do_not_cross_stories(tmp_path: Path) -> None:
    path = tmp_path / "two tales.txt"
    tale = " ".join(f"This is sentence number {i} of it." for i in range(3))
    path.write_text(f"The Title\n\n\n{tale}\n\n\n\nAnother\n\n\n{tale}\n", encoding="utf-8")
    found = list(read_passages(path, context=1, max_words=25))
    assert [p.story for p in found] == ["two_tales-001", "two_tales-003"]
    assert [p.context[0] for p in found] == ["This is sentence number 0 of it."] * 2


def test_marks_separate_stories(tmp_path: Path) -> None:
    path = tmp_path / "tiny.txt"
    tale = "\n\n\n".join(f"This is sentence number {i} of it." for i in range(3))
    path.write_text(f"{tale}<|endoftext|>{tale}\n<|endoftext|>", encoding="utf-8")
    found = list(read_passages(path, context=2, max_words=25))
    assert [(p.story, len(p.context)) for p in found] == [("tiny-000", 2), ("tiny-001", 2)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text("xyz ", max_size=8)), max_size=30))
def test_swaps_join_two_stories(items: list[tuple[str, str]]) -> None:
    passages = [Passage(str(i), story, (), ending) for i, (story, ending) in enumerate(items)]
    couples = swap_endings(passages)
    used = [passage.name for couple in couples for passage in couple]
    assert len(used) == len(set(used))
    assert all(one.story != other.story and one.ending != other.ending for one, other in couples)
    left = [passage for passage in passages if passage.name not in used]
    # Nothing that could still be swapped is left over.
    assert not any(
        one.story != other.story and one.ending.split() != other.ending.split() for one in left for other in left
    )


def test_every_ending_is_right_once_and_wrong_once(tmp_path: Path) -> None:
    made = make_topic_cloze([write_transcript(tmp_path / "a.trans.txt")], voices=VOICES, items=8, context=1, seed=1)
    right = Counter(clip.about["ending"] for clip in made.clips if clip.correct)
    wrong = Counter(clip.about["ending"] for clip in made.clips if not clip.correct)
    assert right == wrong and len(right) == 8 and len(made.clips) == 16
    for clip in made.clips:
        own, end = clip.about["story"].split("-")[0], clip.about["ending"].split()[0][4:].split("x")[0]
        assert (own == end) == clip.correct
        assert clip.stem == f"{clip.pair}_{'correct' if clip.correct else 'incorrect'}"
        assert clip.text.endswith(clip.about["ending"] + ".")
    voices = {}
    for clip in made.clips:
        voices.setdefault(clip.pair, set()).add(clip.voice)
    assert all(len(group) == 1 for group in voices.values())
    again = make_topic_cloze([tmp_path / "a.trans.txt"], voices=VOICES, items=8, context=1, seed=1)
    other = make_topic_cloze([tmp_path / "a.trans.txt"], voices=VOICES, items=8, context=1, seed=2)
    assert again == made != other


def test_an_odd_number_of_items_is_refused(tmp_path: Path) -> None:
    path = write_transcript(tmp_path / "a.trans.txt")
    with pytest.raises(InputError, match=r"3 items: .* ask for 2 or 4"):
        make_topic_cloze([path], voices=VOICES, items=3, context=1)


def test_one_story_is_too_few(tmp_path: Path) -> None:
    path = write_transcript(tmp_path / "a.trans.txt", chapters=1)
    with pytest.raises(InputError, match="no two stories"):
        make_topic_cloze([path], voices=VOICES)
    path.write_text("not a transcript\n", encoding="utf-8")
    with pytest.raises(FormatError, match=":1: not a line"):
        make_topic_cloze([path], voices=VOICES)
    with pytest.raises(InputError, match="no such text"):
        make_topic_cloze([tmp_path / "gone"], voices=VOICES)
