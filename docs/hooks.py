"""Build steps of the site: pages beside docs/, notebooks, commands, result classes, links into the repository."""

from __future__ import annotations

import json
import os
import posixpath
import re
import typing
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from syllablelm.cli.app import app
from syllablelm.core.config import read_toml
from syllablelm.core.results import Record
from syllablelm.evaluate.evaluations import RESULTS

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = read_toml(ROOT / "pyproject.toml")["project"]["urls"]["Repository"]
# Pages of the site that lie beside docs/, by their path in the repository.
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
COMMANDS, RESULTS_MARK = "<!-- the commands -->", "<!-- the result classes -->"
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)")
_FENCED = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


class NotebookFile(File):
    """A notebook that is a page of the site."""

    def is_documentation_page(self) -> bool:
        return True


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.extra["social"] = [{"icon": "fontawesome/brands/git-alt", "link": REPOSITORY, "name": "Repository"}]
    return config


def on_files(files: Files, /, *, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and make notebooks pages."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            files.append(NotebookFile(file.src_uri, config.docs_dir, config.site_dir, config.use_directory_urls))
    return files


def on_page_read_source(*, page: Page, config: MkDocsConfig) -> str | None:
    """Return the Markdown of a notebook."""
    source = page.file.abs_src_path
    if source is None or not source.endswith(".ipynb"):
        return None
    return notebook_markdown(json.loads(Path(source).read_text(encoding="utf-8")))


def on_page_markdown(markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in commands and result classes; lead links to files that are not on the site to the repository."""
    if COMMANDS in markdown:
        command = typer.main.get_command(app)
        root = typer.Context(command, info_name="syllablelm")
        markdown = markdown.replace(COMMANDS, command_markdown(command, root))
    if RESULTS_MARK in markdown:
        names = [f"::: {record.__module__}.{record.__qualname__}" for record in result_classes()]
        markdown = markdown.replace(RESULTS_MARK, "\n\n".join(names))
    source = page.file.abs_src_path
    assert source is not None
    folder = posixpath.dirname(Path(source).relative_to(ROOT).as_posix())

    def lead(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        uri = OUTSIDE.get(target) or (target[len("docs/") :] if target.startswith("docs/") else "")
        if uri and files.get_file_from_path(uri) is not None:
            return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        # A link that leads nowhere stays: the build fails on it.
        return f"{REPOSITORY}/blob/main/{target}" if os.path.exists(ROOT / target) else link[1]

    parts = _FENCED.split(markdown)
    return "".join(part if i % 2 else _LINK.sub(lead, part) for i, part in enumerate(parts))


def command_markdown(command: Any, context: Any) -> str:
    """Return a section for a command of the program, and for each of its own commands."""
    path = context.command_path
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = "\n".join(f"| {_code(record[0])} | {escape(record[1])} |" for record in records if record)
    lines = [
        f"{'#' * (path.count(' ') + 2)} {path.partition(' ')[2] or path}",
        f"```text\n{usage}\n```",
        escape(command.help or ""),
        f"| argument | meaning |\n|---|---|\n{rows}",
    ]
    parts = getattr(command, "commands", {})
    return "\n\n".join([*lines, *(command_markdown(c, typer.Context(c, context, name)) for name, c in parts.items())])


def _code(name: str) -> str:
    return "<code>" + escape(name.replace(" <list[str]>", "...")) + "</code>"


def escape(text: str) -> str:
    """Return a help text as Markdown that shows it as it is."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return re.sub(r"([*_`\[\]\\])", r"\\\1", text)


def result_classes() -> list[type[Record]]:
    """Return the result class of every evaluation, each followed by the classes of its parts."""
    found: list[type[Record]] = []

    def collect(hint: Any) -> None:
        if isinstance(hint, type) and issubclass(hint, Record) and hint not in found:
            found.append(hint)
            for part in typing.get_type_hints(hint).values():
                collect(part)
        for part in typing.get_args(hint):
            collect(part)

    for result in RESULTS.values():
        collect(result)
    return found


def notebook_markdown(notebook: dict[str, Any]) -> str:
    """Return a notebook's texts, code and outputs as Markdown."""
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif source:
            shell = source.startswith("%%bash\n")
            parts.append(f"```bash\n{source[7:]}\n```" if shell else f"```python\n{source}\n```")
        parts += [text for output in cell.get("outputs", []) if (text := _output_markdown(output))]
    return "\n\n".join(parts)


def _output_markdown(output: dict[str, Any]) -> str:
    data = {kind: "".join(value) for kind, value in output.get("data", {}).items() if not isinstance(value, dict)}
    if "text/html" in data:
        # One block of HTML for Markdown: an empty line would end it.
        return "<div>" + re.sub(r"\n\s*\n", "\n", data["text/html"]) + "</div>"
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{data["image/png"].strip()}">'
    text = data.get("text/plain") or ("".join(output.get("text", "")) if output.get("name") == "stdout" else "")
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
