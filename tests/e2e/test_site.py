"""The documentation site: its own build steps, and that it holds every public name and verb and loads nothing."""

from __future__ import annotations

import html
import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from syllablelm.cli.app import app
from syllablelm.evaluate.evaluations import RESULTS

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("mkdocs", reason="needs the extra docs")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verbs(command: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every verb by its words."""
    parts = getattr(command, "commands", {})
    return [(path.strip(), command), *(v for name, part in parts.items() for v in verbs(part, f"{path} {name}"))]


def test_the_page_of_commands_holds_every_verb_and_option(hooks: ModuleType) -> None:
    command = typer.main.get_command(app)
    page = hooks.command_markdown(command, typer.Context(command, info_name="syllablelm"))
    sections = {title: text for title, text in re.findall(r"^#+ (.+)\n((?:(?!#).*\n?)*)", page, re.MULTILINE)}
    for path, verb in verbs(command):
        text = sections[path or "syllablelm"]
        for option in (name for parameter in verb.params for name in parameter.opts if name.startswith("--")):
            assert f"<code>{option}" in text or f", {option}" in text, f"{path} {option}"


def test_help_texts_show_as_they_are(hooks: ModuleType) -> None:
    markdown = pytest.importorskip("markdown")
    text = "A|B <c> *d* _e_ `f` [g](h) & \\i"
    page = markdown.markdown(f"| x |\n|---|\n| {hooks.escape(text)} |", extensions=["tables"])
    assert html.unescape(re.findall("<td>(.*)</td>", page)[0]) == text


def test_a_notebook_becomes_a_page(hooks: ModuleType) -> None:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["one\n", "two\n"]},
        {"output_type": "stream", "name": "stderr", "text": ["a warning"]},
        {"output_type": "execute_result", "data": {"text/plain": ["3"]}},
        {"output_type": "display_data", "data": {"text/html": ["<b>\n\n4</b>"], "text/plain": ["4"]}},
        {"output_type": "display_data", "data": {"image/png": "QUJD\n", "text/plain": ["<Figure>"]}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text."]},
        {"cell_type": "code", "source": ["1 + 2"], "outputs": outputs},
        {"cell_type": "code", "source": ["%%bash\n", "ls"], "outputs": []},
        {"cell_type": "code", "source": [], "outputs": []},
    ]
    assert hooks.notebook_markdown({"cells": cells}).split("\n\n") == [
        "# Title\nText.",
        "```python\n1 + 2\n```",
        "```text\none\ntwo\n```",
        "```text\n3\n```",
        "<div><b>\n4</b></div>",
        '<img alt="" src="data:image/png;base64,QUJD">',
        "```bash\nls\n```",
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("package", ["syllablelm", "syllablelm.segment", "syllablelm.evaluate", "syllablelm.scaling"])
def test_the_reference_holds_every_public_name(site: Path, package: str) -> None:
    name = package.partition(".")[2] or "python"
    page = (site / f"reference/{name}.html").read_text(encoding="utf-8")
    public = [name for name in importlib.import_module(package).__all__ if name != "__version__"]
    missing = [name for name in public if f'id="{package}.{name}"' not in page]
    assert public and not missing


@pytest.mark.slow
def test_the_reference_holds_every_result(site: Path) -> None:
    page = (site / "reference/results.html").read_text(encoding="utf-8")
    assert all(f'id="{result.__module__}.{result.__qualname__}"' in page for result in RESULTS.values())


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|audio|source)[^>]* src="([^"]+)"', text)
        loaded += re.findall(r'<link[^>]* rel="(?:stylesheet|preload|preconnect|icon)"[^>]* href="([^"]+)"', text)
        assert not [address for address in loaded if re.match("(https?:)?//", address)], page.name


@pytest.mark.slow
def test_links_into_the_repository(site: Path) -> None:
    """Of a page in docs/ to one beside docs/ that is on the site, and to a file that is not."""
    assert 'href="contributing.html"' in (site / "index.html").read_text(encoding="utf-8")
    assert 'href="architecture.html"' in (site / "contributing.html").read_text(encoding="utf-8")
