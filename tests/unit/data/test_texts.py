"""Utterances of transcripts and of prose."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from syllablelm.core.errors import FormatError, InputError
from syllablelm.data.texts import read_stories, read_texts, split_sentences


def test_transcripts(tmp_path: Path) -> None:
    path = tmp_path / "19-198.trans.txt"
    path.write_text("19-198-0000 NORTHANGER ABBEY\n\n19-198-0001 THIS LITTLE WORK\n")
    assert list(read_texts(path)) == [("19-198-0000", "northanger abbey"), ("19-198-0001", "this little work")]
    path.write_text("19-198-0000 A\n19-198-0001\n")
    with pytest.raises(FormatError, match=r"trans\.txt:2"):
        list(read_texts(path))


def test_texts_of_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id,path,text\nb,b.wav,SHE SPOKE\na,a.wav,\nc,c.wav,Once more\n")
    assert list(read_texts(path)) == [("b", "she spoke"), ("c", "once more")]


def test_folder_of_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b c").mkdir()
    (tmp_path / "a.txt").write_text("One two three four. Five six seven eight.")
    (tmp_path / "b c" / "a.txt").write_text("Nine ten eleven twelve.")
    assert list(read_texts(tmp_path)) == [
        ("a-000000", "One two three four."),
        ("a-000001", "Five six seven eight."),
        ("b_c-a-000000", "Nine ten eleven twelve."),
    ]
    (tmp_path / "._a.txt").write_bytes(b"\0\5\x16\7")
    (tmp_path / "b c" / "latin.txt").write_bytes(b"Un caf\xe9 pour deux.")
    (tmp_path / "b c" / "1-1.trans.txt").write_text("1-1-0000\n")
    assert len(list(read_texts(tmp_path))) == 3
    shown = capsys.readouterr().err.splitlines()
    assert "1-1.trans.txt:1: not a transcript line" in shown[0] and "latin.txt:1: not a text in UTF-8" in shown[1]
    assert shown[2:] == [f"{tmp_path}: skipped 2 of 4 files"]


def test_unreadable_texts(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(InputError, match="no text file"):
            list(read_texts(path))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(FormatError, match=r"a\.txt"):
        list(read_texts(tmp_path))


def test_sentences() -> None:
    prose = """The Project Gutenberg eBook of Nothing at all.
*** START OF THIS PROJECT GUTENBERG EBOOK ***

Mr. J. Smith and Dr. Who met
in the [Illustration] _old_ garden. "Did you sleep?" asked one of them. Too short.

A heading without a stop
*** END OF THE PROJECT GUTENBERG EBOOK ***
You may copy it, give it away.
"""
    assert list(split_sentences(prose)) == [
        "Mr. J. Smith and Dr. Who met in the old garden.",
        "asked one of them.",
        "A heading without a stop",
    ]


def test_long_sentences_are_cut_at_commas() -> None:
    assert list(split_sentences("a b c d, e f g h; i j k, l m.", max_words=8)) == ["a b c d, e f g h;", "i j k, l m."]
    words = [str(i) for i in range(60)]
    pieces = list(split_sentences(" ".join(words)))
    assert [len(piece.split()) for piece in pieces] == [25, 25, 10]
    assert " ".join(pieces).split() == words


def test_stories_between_marks(tmp_path: Path) -> None:
    path = tmp_path / "tiny stories.txt"
    path.write_text("\nOnce upon\na time.\n\nThe end.\n<|endoftext|>\n\n<|endoftext|>Two.<|endoftext|>Three", "utf-8")
    assert list(read_stories(path)) == [
        ("tiny_stories-0000000", "Once upon a time. The end."),
        ("tiny_stories-0000001", ""),
        ("tiny_stories-0000002", "Two."),
        ("tiny_stories-0000003", "Three"),
    ]
    path.write_text("One.\n<|endoftext|>\n\n", "utf-8")
    assert list(read_stories(path)) == [("tiny_stories-0000000", "One.")]


def test_stories_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("Once upon  a time. Yes!\r\n\r\nA â€œdogâ€\x9d donâ€™t\r\n", "utf-8", newline="")
    (tmp_path / "b" / "c.txt").write_text("Two", "utf-8")
    assert list(read_stories(tmp_path)) == [
        ("a-0000000", "Once upon a time. Yes!"),
        ("a-0000001", ""),
        ("a-0000002", "A “dog” don't"),
        ("b-c-0000000", "Two"),
    ]


@pytest.mark.parametrize("name", ["1-1.trans.txt", "m.csv"])
def test_texts_with_ids_are_no_stories(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("id,path,text\n1-1-0000 A WORD\n", "utf-8")
    with pytest.raises(FormatError, match=rf"{name}: texts with ids, not stories"):
        list(read_stories(tmp_path / name))


def test_sentences_of_other_scripts() -> None:
    chinese = "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002\u5b69\u5b50\u4eec\u5728\u82b1\u56ed\u91cc\u73a9\uff01"
    assert list(split_sentences(chinese)) == [chinese[:7], chinese[7:]]
    # A long clause is cut by characters, at no space.
    assert list(split_sentences("\u4e00" * 30, max_words=25)) == ["\u4e00" * 25, "\u4e00" * 5]
    hindi = "\u0906\u091c \u092e\u094c\u0938\u092e \u0905\u091a\u094d\u091b\u093e \u0939\u0948\u0964 \u0939\u092e \u0916\u0947\u0932 \u0930\u0939\u0947 \u0939\u0948\u0902\u0964"  # noqa: E501
    assert [len(sentence.split()) for sentence in split_sentences(hindi)] == [4, 4]
    arabic = "\u0627\u0644\u0634\u0645\u0633 \u0645\u0634\u0631\u0642\u0629 \u0641\u064a \u0627\u0644\u0633\u0645\u0627\u0621\u060c \u0623\u0644\u064a\u0633 \u0643\u0630\u0644\u0643 \u064a\u0627 \u0635\u062f\u064a\u0642\u064a\u061f"  # noqa: E501
    assert list(split_sentences(arabic, max_words=4)) == [" ".join(arabic.split()[:4]), " ".join(arabic.split()[4:])]
    # Vowel signs stay with their consonants.
    thai = "\u0e17\u0e35\u0e48" * 30
    pieces = list(split_sentences(thai, max_words=25))
    assert "".join(pieces) == thai and not any(piece.startswith(("\u0e35", "\u0e48")) for piece in pieces)


def test_texts_are_composed(tmp_path: Path) -> None:
    text = "El ni\u00f1o comi\u00f3 una manzana roja."
    for name in ("a.txt", "b.trans.txt"):
        lines = unicodedata.normalize("NFD", text if name == "a.txt" else f"id {text}")
        (tmp_path / name).write_text(lines, encoding="utf-8")
        ((_, read),) = read_texts(tmp_path / name)
        assert read == (text if name == "a.txt" else text.lower())
