"""Stories against audiobooks on story cloze, by the commands of docs/train_lm.md at toy size, with the real flite."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from helpers.command_line import Run

pytestmark = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")

NAMES = ("Tim", "Mia", "Sam", "Lily", "Ben", "Anna")


def story(name: str, thing: str) -> str:
    return (
        f"{name} had a new {thing}. It was red. {name} took the {thing} to the park. Then {name} lost the old {thing}."
    )


def options(folder: Path, tokenizer: Path) -> list[str]:
    values = {
        "units.tokenizer": json.dumps(str(tokenizer)),
        "units.valid": json.dumps([str(folder / "held.jsonl")]),
        "lm.shape.layers": 1,
        "lm.shape.dim": 16,
        "lm.shape.heads": 2,
        "lm.shape.feed_forward": 32,
        "lm.shape.positions": 128,
        "lm.row_tokens": 64,
        "lm.batch_tokens": 64,
        "lm.unique_tokens": 130,
        "lm.loop.steps": 3,
    }
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def test_stories_against_audiobooks(run: Run, tokenizer_folder: Path, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n<|endoftext|>\n".join([*(story(n, "ball") for n in NAMES), ""]), "utf-8")
    (tmp_path / "valid.txt").write_text("<|endoftext|>".join(story(n, "boat") for n in NAMES[:2]), "utf-8")
    (tmp_path / "book.txt").write_text(" ".join(story(n, "ship of the king") for n in NAMES), "utf-8")
    spoken = run("prepare", "stories", tmp_path / "train.txt", "--out", tmp_path / "stories")
    assert spoken.result["utterances"] == spoken.result["stories"] == 6
    assert {spoken.result[reason] for reason in ("empty", "too_long", "repeated", "skipped")} == {0}
    book = ("prepare", "synthetic", tmp_path / "book.txt", "--voices", "awb", "--out", tmp_path / "book")
    assert run(*book).status == 0
    for source, name in ((tmp_path / "stories/manifest.jsonl", "stories"), (tmp_path / "book/manifest.jsonl", "book"),
                         (recordings, "held")):  # fmt: skip
        units = tmp_path / f"{name}.jsonl"
        assert run("tokenize", source, "--model", tokenizer_folder, "--out", units).status == 0
    for name, voices in (("same", "slt"), ("others", "awb,kal16")):
        made = run("prepare", "topic-cloze", tmp_path / "valid.txt", "--voices", voices, "--context", 2,
                   "--out", tmp_path / name)  # fmt: skip
        assert (made.result["pairs"], set(made.result["voices"]) <= set(voices.split(","))) == (2, True)
    scored = {}
    for recipe, name in (("stories", "stories"), ("stories_audiobooks", "book")):
        train = ("--set", f"units.train={json.dumps([str(tmp_path / f'{name}.jsonl')])}", "--device", "cpu")
        more = options(tmp_path, tokenizer_folder)
        ended = run("train", "lm", recipe, "--out", tmp_path / recipe, *train, *more)
        assert ended.status == 0, ended.err
        record = json.loads((tmp_path / recipe / "lm" / "run.json").read_text("utf-8"))
        # Whole recordings, as many as fit into the number of tokens that both may have.
        assert 60 < record["unique_tokens"] <= 130
        for items in ("same", "others"):
            result = run("evaluate", "cloze", tmp_path / items / "cloze", "--model", tokenizer_folder,
                         "--lm", tmp_path / recipe / "lm", "--out", tmp_path / "scores" / recipe / items)  # fmt: skip
            assert result.status == 0, result.err
            scored[recipe, items] = (tmp_path / "scores" / recipe / items / "cloze" / "cloze.txt").read_text("utf-8")
    # Another voice and another training give other scores of the same four texts.
    assert len(set(scored.values())) == 4
    assert {len(text.splitlines()) for text in scored.values()} == {4}


def test_stories_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("...\n", "utf-8")
    for file, message in (("gone.txt", "no text file"), ("a.txt", "none of 1 stories has 1 to 1000 words")):
        ended = run("prepare", "stories", tmp_path / file, "--out", tmp_path / "c")
        assert (ended.status, len(ended.lines)) == (2, 1) and message in ended.lines[0]
