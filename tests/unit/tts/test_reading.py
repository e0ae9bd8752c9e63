"""Stories to a corpus, with a stub engine; what is left out is counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.core.results import Record
from syllablelm.tts.engines import Spoken
from syllablelm.tts.reading import SpokenStories, speak_stories, speak_texts

STORIES = """Tim was sad. He had no ball.

He cried.
<|endoftext|>
<|endoftext|>
Mia ran!
<|endoftext|>
... !
<|endoftext|>Mia
ran!<|endoftext|>
one two three four five six seven eight nine ten
<|endoftext|>
The end. "Good," she said.
"""


class Stub:
    """Speaks a word in a tenth of a second; notes what it said."""

    name = "stub"
    voices = ("a", "b", "c")
    reader = ("b",)
    licence = "none"

    def __init__(self) -> None:
        self.said: list[tuple[str, str, float, float]] = []

    def check(self, voices: Sequence[str]) -> None: ...

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        self.said.append((text, voice, speed, pitch))
        return Spoken(np.full(1600 * len(text.split()), 0.1, dtype=np.float32), 16_000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tales.txt"
    path.write_text(STORIES, encoding="utf-8")
    return path


def test_stories_are_whole_in_one_voice_and_the_others_are_counted(file: Path, tmp_path: Path) -> None:
    engine = Stub()
    result = speak_stories([file], tmp_path / "c", engine=engine, max_words=9)
    assert [said[0] for said in engine.said] == [
        "Tim was sad. He had no ball. He cried.",
        "Mia ran!",
        'The end. "Good," she said.',
    ]
    assert {said[1:] for said in engine.said} == {("b", 1.0, 1.0)}
    assert (result.utterances, result.stories) == (3, 7)
    assert (result.empty, result.too_long, result.repeated, result.skipped) == (2, 1, 1, 0)
    rows = [json.loads(line) for line in result.manifest.read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == ["tales-0000000", "tales-0000002", "tales-0000006"]
    assert result.hours * 3600 == pytest.approx(1.6)
    assert SpokenStories.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert isinstance(result, Record)
    # Nothing is spoken again.
    again = Stub()
    assert speak_stories([file], tmp_path / "c", engine=again, max_words=9) == result and again.said == []


def test_several_voices_a_limit_and_hours(file: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("\n".join(f"This is story number {i}." for i in range(30)), encoding="utf-8")
    engine = Stub()
    sources = [file, tmp_path / "more.txt"]
    result = speak_stories(sources, tmp_path / "c", engine=engine, voices="a,c", limit=20, seed=1)
    assert (result.utterances, result.stories) == (20, 37)
    assert {voice for _, voice, _, _ in engine.said} == {"a", "c"}
    short = speak_stories(sources, tmp_path / "d", engine=Stub(), hours=1.0 / 3600)
    assert (short.utterances, short.stories) == (2, 37)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_words": 1}, "none of 7 stories has 1 to 1 words"), ({"hours": 0.0}, "--hours")],
)
def test_bad_input(file: Path, tmp_path: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        speak_stories([file], tmp_path / "c", engine=Stub(), **options)
    assert not (tmp_path / "c").exists()
    with pytest.raises(InputError, match=r"gone\.txt"):
        speak_stories([tmp_path / "gone.txt"], tmp_path / "c", engine=Stub())


def test_texts_without_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Too short.", encoding="utf-8")
    with pytest.raises(InputError, match="no sentence long enough"):
        speak_texts(tmp_path / "a.txt", tmp_path / "c", engine=Stub())


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_flite_reads_a_story_with_times_that_rise(file: Path, tmp_path: Path) -> None:
    from syllablelm.data.alignment import read_alignments

    result = speak_stories([file], tmp_path / "c", limit=1)
    (found,) = read_alignments(result.alignments).values()
    assert [word.label for word in found.words][:4] == ["tim", "was", "sad", "he"]
    starts = [phone.start for word in found.words for phone in word.phones]
    assert starts == sorted(starts) and found.duration > starts[-1] > 2.0
    row = json.loads(result.manifest.read_text("utf-8"))
    assert (row["voice"], row["speed"], row["pitch"]) == ("slt", 1.0, 1.0)
