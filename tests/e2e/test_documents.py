"""What the documents tell users to type: every command exists with these options, every example of README runs."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import typer

import syllablelm as sl
from helpers.random_models import small_predictor
from helpers.shell_blocks import blocks, command_lines
from syllablelm.cli.app import app
from syllablelm.core.config import read_toml
from syllablelm.core.recipes import recipe_names
from syllablelm.data.audio import save_audio

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], key=lambda path: path.name)
REPOSITORY = read_toml(ROOT / "pyproject.toml")["project"]["urls"]["Repository"]
RUN = ("README.md", "docs/encode.md", "docs/speak.md")
# A stand-in for a value or for further options in a synopsis, not something to type.
PLACEHOLDER = re.compile(r"\.\.\.|\$|^[A-Z_]+\.*$")


def commands(document: Path) -> Iterator[list[str]]:
    """Words of each call of `syllablelm` in a document's shell blocks, after the program's name."""
    for block in blocks(document.read_text(encoding="utf-8"), "bash"):
        for line in command_lines(block):
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if not set(word) <= set(";|&"):
                    words.append(word)
                    continue
                if "syllablelm" in words:
                    yield words[words.index("syllablelm") + 1 :]
                words = []


@cache
def whole_program() -> click.Command:
    return typer.main.get_command(app)


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words call, and its arguments."""
    command: Any = whole_program()
    context = click.Context(command)
    while hasattr(command, "get_command"):
        assert words, "a command of commands is called without one"
        found = command.get_command(context, words[0])
        assert found is not None, f"no command {words[0]!r}"
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_have_these_options(document: Path) -> None:
    wrong = []
    for words in commands(document):
        try:
            command, arguments = find_command(words)
        except AssertionError as error:
            wrong.append(f"{' '.join(words)}: {error}")
            continue
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
        given = [word.partition("=")[0] for word in arguments if word.startswith("--")]
        wrong += [f"{' '.join(words)}: no option {name}" for name in given if name not in known]
        trains = words[0] == "train" and words[1] not in ("bundle", "recode")
        takes_recipe = trains or words[:2] == ["recipes", "show"]
        recipe = words[2] if takes_recipe else ""
        if recipe and not recipe.endswith(".toml") and not PLACEHOLDER.search(recipe) and recipe not in recipe_names():
            wrong.append(f"{' '.join(words)}: no recipe {recipe!r}")
    assert not wrong, "\n".join(wrong)


def prose(document: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(document: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)", re.sub(r"`[^`]*`", "", prose(document)))


@cache
def anchors(document: Path) -> set[str]:
    """Anchors of headings, as a forge and the site make them."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def find_fault(document: Path, link: str) -> str:
    """Why a link leads nowhere; nothing where it leads somewhere, or to another host, which must look like one."""
    if link.startswith(REPOSITORY):
        place = re.fullmatch(r"/(?:blob|raw|tree)/main/([^#]+)(#.*)?", link[len(REPOSITORY) :])
        if place is None:
            return "no file of the branch main"
        path, anchor = ROOT / place[1], place[2]
    elif ":" in link:
        return (
            "" if re.fullmatch(r"https?://[\w.-]+\.\w+(/[\w./~?=&%+-]*)?(#[\w.-]+)?", link) else "no address of a page"
        )
    else:
        name, _, anchor = link.partition("#")
        path = document.parent / name if name else document
    if not path.exists():
        return "no such file"
    return "no such heading" if anchor and anchor.lstrip("#") not in anchors(path) else ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    faults = {link: fault for link in links(document) if (fault := find_fault(document, link))}
    assert not faults


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("gone.md", "no such file"),
        ("docs/encode.md#gone", "no such heading"),
        ("docs/encode.md#a-corpus", ""),
        (f"{REPOSITORY}/blob/main/docs/gone.md", "no such file"),
        (f"{REPOSITORY}/blob/main/docs/encode.md#gone", "no such heading"),
        (f"{REPOSITORY}/blob/main/docs/encode.md#a-corpus", ""),
        (f"{REPOSITORY}/docs/encode.md", "no file of the branch main"),
        ("https://arxiv.org/abs/2410.04029", ""),
        ("http:/arxiv.org", "no address of a page"),
    ],
)
def test_the_check_of_links(link: str, fault: str) -> None:
    assert find_fault(ROOT / "README.md", link) == fault


def test_readme_lives_on_a_package_index() -> None:
    """Its links and its picture are absolute; what they name exists, by the test above."""
    found = links(ROOT / "README.md")
    assert len(found) > 20 and all(link.startswith("https://") for link in found)
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_lists_and_tables_follow_an_empty_line(document: Path) -> None:
    """The site's Markdown needs it, where a forge's does not."""
    starts = r"^(?![-*#|\s]|\d+\. ).+\n(?=[-*] |1\. |\|)"
    assert not re.findall(starts, prose(document), re.MULTILINE)


def test_the_documents_have_commands() -> None:
    """The tests above would pass on nothing."""
    found = [words for document in DOCUMENTS for words in commands(document)]
    assert len(found) > 80 and len({words[0] for words in found}) > 10


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_are_python(document: Path) -> None:
    for number, block in enumerate(blocks(document.read_text(encoding="utf-8"), "python")):
        compile(block, f"{document.name}, block {number}", "exec")


@pytest.mark.slow
def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one go, as they stand; what would come from a hub is a small encoder, called as the real one must be."""
    monkeypatch.chdir(tmp_path)
    wave = sl.load_audio(ROOT / "src/syllablelm/bundled/sample.flac")[:48_000]
    save_audio(tmp_path / "speech.flac", wave)
    np.save("centres.npy", np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32))
    signature, load = inspect.signature(sl.load_encoder), sl.Tokenizer.load

    def load_encoder(*arguments: Any, **options: Any) -> Any:
        signature.bind(*arguments, **options)
        return small_predictor().encoder

    def load_tokenizer(name: str | Path, **options: Any) -> Any:
        return load("tiny" if str(name).endswith(".pth") else name, **options)

    monkeypatch.setattr(sl, "load_encoder", load_encoder)
    monkeypatch.setattr(sl.Tokenizer, "load", load_tokenizer)
    rng = np.random.default_rng(1)
    features = rng.standard_normal((120, 8)).astype(np.float32)
    tokenizer = sl.Tokenizer.load("small")
    names: dict[str, Any] = {
        "blocks": iter(np.array_split(wave, 4)),
        "other": tokenizer.encode(wave[:32_000]),
        "features": features,
        "similarity": np.abs(features @ features.T),
    }
    for document in RUN:
        for block in blocks((ROOT / document).read_text(encoding="utf-8"), "python"):
            # Its own test runs where vLLM is: tests/unit/lm/test_transformers_files.py.
            if "from vllm" not in block:
                exec(block, names)
    assert names["wave"].dtype == np.float32 and len(names["more"]) > 0
    assert names["cuts"][0] == 0 and names["cuts"][-1] == 120
