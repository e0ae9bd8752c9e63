"""Optional packages: every message about a missing one names an extra that has it, and "all" has no cluster in it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syllablelm.core.errors import MissingDependencyError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# Installed by themselves: a program, a library whose users have it, and a package whose requirements need a compiler.
ALONE = {"pandas", "piper-tts", "resemblyzer"}
# A function that imports a package or fails: position of the installed name among its arguments.
IMPORTERS = {"import_optional": 2, "find_optional": 2}
INSTALL = re.compile(r"pip install (?:--no-deps )?('[^']+'|[\w.>=\[\]-]+)")


def packages(requirements: list[str]) -> set[str]:
    """Names of the packages of requirements, those of extras that they name included."""
    names: set[str] = set()
    for requirement in requirements:
        if extras := re.fullmatch(r"syllablelm\[(.+)\]", requirement):
            names |= {name for extra in extras[1].split(",") for name in packages(EXTRAS[extra])}
        else:
            names.add(re.split(r"[<>=;\[ ]", requirement)[0])
    return names


def text_of(node: ast.expr | None, constants: dict[str, str]) -> str:
    """The text of a string, variable parts left out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return constants.get(node.id, "")
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, constants) for part in node.values)
    return ""


def messages() -> Iterator[tuple[str, str]]:
    """(place, message) of every error about a missing package or program, with the name of the package."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
        constants = {
            target.id: text_of(value, {})
            for node in assigned
            for target, value in zip(
                node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets,
                node.value.elts if isinstance(node.value, ast.Tuple) else [node.value],
                strict=False,
            )
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)) or path.name == "errors.py":
                continue
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            if node.func.id in IMPORTERS:
                package, need, install = (text_of(argument, constants) for argument in node.args)
                yield place, f"{package} {need}; install it with: pip install {install}"
            elif node.func.id == "MissingDependencyError":
                yield place, text_of(node.args[0], constants)


MESSAGES = list(messages())


@pytest.mark.parametrize(("place", "message"), MESSAGES, ids=[place for place, _ in MESSAGES])
def test_messages_name_an_extra_that_has_the_package(place: str, message: str) -> None:
    if "apt-get install" in message:
        return
    found = INSTALL.search(message)
    assert found, f"{place}: {message!r} does not say how to install it"
    name = found[1].strip("'")
    if extra := re.fullmatch(r"syllablelm\[(\w+)\]", name):
        assert extra[1] in EXTRAS, f"{place}: no extra {extra[1]!r}"
        own = {package.replace("_", "-") for package in packages(EXTRAS[extra[1]])}
        words = set(re.findall(r"[a-z0-9-]+", message.replace(found[0], "").lower().replace("_", "-")))
        assert own & words or {package.split("-")[0] for package in own} & words, f"{place}: {extra[0]} has {own} only"
        return
    package = re.split(r"[<>=]", name)[0]
    required = packages(PROJECT["dependencies"])
    optional = [extra for extra in EXTRAS if package in packages(EXTRAS[extra]) and extra not in ("all", "dev")]
    assert package in required | ALONE, f"{place}: {package} is in {optional or 'no extra'}; name the extra"


def test_the_messages_are_found() -> None:
    """The test above would pass on nothing."""
    text = " ".join(message for _, message in MESSAGES)
    named = set(re.findall(r"syllablelm\[(\w+)\]", text))
    assert len(MESSAGES) > 15 and {"asr", "av", "demo", "faiss", "plot", "ray", "textgrid", "vad"} <= named
    assert all(message for _, message in MESSAGES)


def test_extras_that_documents_and_other_messages_name_exist() -> None:
    files = [*(ROOT / "src").rglob("*.py"), *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for path in files:
        for named in re.findall(r"syllablelm\[([\w,]+)\]", path.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= set(EXTRAS), f"{path}: {named}"


def test_all_is_every_extra_but_clusters_and_development() -> None:
    """Ray and Slurm are for clusters alone; everything else comes with "all"."""
    (all_extras,) = EXTRAS["all"]
    listed = all_extras.removeprefix("syllablelm[").removesuffix("]").split(",")
    apart = {"all", "dev", "docs", "ray", "slurm"} & set(EXTRAS)
    assert set(listed) == set(EXTRAS) - apart and listed == sorted(listed)
    assert not packages(EXTRAS["all"]) & {"ray", "submitit"}


def test_a_missing_package_is_one_line_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from syllablelm.core.pictures import import_matplotlib

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"^pictures need matplotlib: pip install 'syllablelm\[plot\]'$"):
        import_matplotlib()
