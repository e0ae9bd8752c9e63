"""Words of help texts and public docstrings: the glossary of CONTRIBUTING.md, one word for one thing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from syllablelm.cli.app import app

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "syllablelm"

# What we do not write, and what we write instead.
BANNED: dict[str, str] = {
    r"\bmerge[_ ]repeats?\b": "deduplicate",
    r"\bjudges?\b": "discriminator",
    r"\bfooled\b": "adversarial loss",
    r"\bso many\b": "a number, or a maximum",
    r"\bwhat is there\b": "the existing files, values, ...",
    r"\bthat there (is|are) not\b": "unknown, unsupported",
    r"\banew\b": "again, or re-",
    r"\bhold(s)? still\b": "frozen",
    r"\bequal neighbours\b": "deduplicated",
    r"\bpositions of a sequence\b": "context length in tokens",
    r"\bhow it (ends|ended)\b": "exit status",
    r"<int(eger)? range>|<float range>|<choice>": "a metavar",
}
# Beginnings of a help line or of the description of an argument.
BARE_GENITIVE = re.compile(r"^(Of|At most|How many|Where to|Instead of)\b")
PYTHON_TYPE = re.compile(r"<[a-z]+ range>|--[\w-]+ +(?:INTEGER|FLOAT|TEXT)\b")
ARGUMENT = re.compile(r"^\s{4,}[a-z_][a-z0-9_]*(?:, [a-z_][a-z0-9_]*)*: (?P<text>.+)$")


def faults_of(text: str) -> list[str]:
    """Return the banned phrases of a text, each with what to write."""
    return [f"{match.group(0)!r}: write {use}" for ban, use in BANNED.items() if (match := re.search(ban, text, re.I))]


def help_texts() -> Iterator[tuple[str, str, str]]:
    """Return (command, option, help) of every command; the option is "" for the command's own help."""

    def walk(command: Any, path: str) -> Iterator[tuple[str, str, str]]:
        yield path, "", command.help or ""
        for option in command.params:
            yield path, "/".join(option.opts), getattr(option, "help", None) or ""
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{path} {name}")

    return walk(typer.main.get_command(app), "syllablelm")


def rendered_help() -> Iterator[tuple[str, str]]:
    """Return (command, printed help) of every command."""

    def walk(command: Any, path: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
        context = command.make_context(path.split()[-1], [], parent=parent, resilient_parsing=True)
        yield path, command.get_help(context)
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{path} {name}", context)

    return walk(typer.main.get_command(app), "syllablelm", None)


def public_docstrings() -> Iterator[tuple[str, str]]:
    """Return (place, docstring) of every module, public class and public function."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = getattr(node, "name", "")
                text = ast.get_docstring(node, clean=False)
                if text and not name.startswith("_"):
                    yield f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 1)} {name}", text


def test_help_texts_use_the_glossary() -> None:
    wrong = []
    for command, option, text in help_texts():
        wrong += [f"{command} {option}: {fault}" for fault in faults_of(text)]
        if option and not text:
            wrong.append(f"{command} {option}: has no help")
        if option and BARE_GENITIVE.search(text):
            wrong.append(f"{command} {option}: begin {text!r} with a noun phrase")
    assert not wrong, "\n".join(wrong)


def test_help_shows_no_python_types() -> None:
    wrong = []
    for command, text in rendered_help():
        wrong += [f"{command}: {found}" for found in PYTHON_TYPE.findall(text)]
    assert not wrong, "\n".join(wrong)


def test_docstrings_use_the_glossary() -> None:
    wrong = []
    for place, text in public_docstrings():
        wrong += [f"{place}: {fault}" for fault in faults_of(text)]
        for line in text.splitlines():
            argument = ARGUMENT.match(line)
            if argument and re.match(r"of (the|a|an|its|each|every|all|both|what|those|that|one)\b", argument["text"]):
                wrong.append(f"{place}: bare genitive in {line.strip()!r}")
    assert not wrong, "\n".join(wrong)


def test_most_public_functions_have_a_docstring() -> None:
    bare = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            public = isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                bare.append(f"{path.relative_to(PACKAGE)}: {node.name}")
    assert not bare, "\n".join(bare)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Top-k sampling over so many units.", "'so many': write a number, or a maximum"),
        ("Join repeats (merge_repeats).", "'merge_repeats': write deduplicate"),
        ("The judges of the vocoder.", "'judges': write discriminator"),
    ],
)
def test_the_checker_finds(text: str, fault: str) -> None:
    assert faults_of(text) == [fault]


def test_the_checker_passes_plain_english() -> None:
    assert faults_of("Maximum number of recordings.") == []
    assert not BARE_GENITIVE.search("Output directory (default: runs/NAME).")
    assert len(list(help_texts())) > 300 and len(list(public_docstrings())) > 600
