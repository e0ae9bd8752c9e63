"""Imports go downwards only: the layer table, checked on the syntax trees of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "syllablelm"

# From the bottom up; "" is the package itself. A room is a module, or a folder of modules, right below the package.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"", "bundles", "errors", "types", "config", "artifact", "formats", "progress", "webpage"}),
    # Beside the others: it sees nothing but what is above this line; training takes its table of GPUs only.
    frozenset({"scaling"}),
    frozenset(
        {
            "alignment",
            "audio",
            "corpus",
            "distortions",
            "itemsets",
            "manifest",
            "pieces",
            "reference_units",
            "speech_engines",
            "syllables",
            "synthesis",
            "texts",
            "vad",
        }
    ),
    frozenset({"encoders", "quantize", "segment"}),
    frozenset({"plot", "segmenters"}),
    frozenset({"rule", "windows"}),
    frozenset({"released"}),
    frozenset({"lm", "tokenizer"}),
    frozenset({"recoded", "vocoder"}),
    frozenset({"speech"}),
    frozenset({"convert", "engine", "evaluate", "train"}),
    frozenset({"demo"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
# Rooms of one layer that must not know each other.
APART: tuple[frozenset[str], ...] = (
    frozenset({"engine", "evaluate", "train"}),
    frozenset({"encoders", "quantize", "segment"}),
)
# Packages that take seconds to load: never at the top of a module in these rooms.
HEAVY = frozenset({"torch", "transformers", "accelerate", "numba", "sklearn", "matplotlib", "lhotse", "silero_vad"})
LIGHT_ROOMS = LAYERS[0] | LAYERS[1] | LAYERS[2] | {"cli", "plot", "__main__"}


@dataclass(frozen=True)
class Import:
    """One import statement's target, as far as the layers care."""

    target: str
    line: int
    at_top: bool


def read_imports(source: str, module: str, is_package: bool) -> Iterator[Import]:
    """Every import of a module, those inside functions too; what only a type checker sees is left out."""

    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                for other in child.orelse:
                    yield from visit(ast.Module([other], []), at_top)
            elif isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                parents = module.split(".") if is_package else module.split(".")[:-1]
                base = parents[: len(parents) - child.level + 1] if child.level else []
                source_module = ".".join([*base, *([child.module] if child.module else [])])
                yield Import(source_module, child.lineno, at_top)
                yield from (Import(f"{source_module}.{alias.name}", child.lineno, at_top) for alias in child.names)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, at_top and not inside)

    return visit(ast.parse(source), True)


def room_of(module: str) -> str:
    """The room of a module: "syllablelm.train.loop" -> "train"."""
    return module.split(".")[1] if "." in module else ""


def modules_of(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def find_violations(
    package: Path, layers: tuple[frozenset[str], ...] = LAYERS, apart: tuple[frozenset[str], ...] = APART
) -> list[str]:
    """What is wrong with the imports of a package: one line for each fault."""
    modules = modules_of(package)
    level = {room: number for number, rooms in enumerate(layers) for room in rooms}
    faults: list[str] = []
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        room = room_of(module)
        if room not in level:
            faults.append(f"{module}: the room {room!r} is in no layer")
            continue
        edges = graph.setdefault(module, set())
        for item in read_imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"):
            where = f"{module}:{item.line}"
            root = item.target.split(".")[0]
            if item.at_top and room in LIGHT_ROOMS and root in HEAVY:
                faults.append(f"{where}: {root} at the top of a module that must load quickly")
            if root != package.name:
                continue
            # `from package.module import name` also gives "package.module.name", which is a module or nothing.
            if item.target not in modules:
                if item.target.rpartition(".")[0] not in modules:
                    faults.append(f"{where}: no module {item.target}")
                continue
            other = room_of(item.target)
            if level.get(other, -1) > level[room]:
                faults.append(f"{where}: {room!r} imports {other!r}, which lies above it")
            if other != room and any({room, other} <= rooms for rooms in apart):
                faults.append(f"{where}: {room!r} and {other!r} must not import each other")
            edges.add(item.target)
    return faults + [f"import cycle: {' -> '.join(cycle)}" for cycle in find_cycles(graph)]


def find_cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """A cycle for every edge that closes one in a depth-first walk; empty if and only if the graph has none."""
    cycles: list[list[str]] = []
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> None:
        if node in path:
            cycles.append([*path[path.index(node) :], node])
        elif node not in done:
            for following in sorted(graph.get(node, ())):
                walk(following, [*path, node])
            done.add(node)

    for node in sorted(graph):
        walk(node, [])
    return cycles


def test_package_imports_go_downwards() -> None:
    assert find_violations(PACKAGE) == []


def test_every_room_of_the_table_exists() -> None:
    rooms = {room_of(module) for module in modules_of(PACKAGE)}
    assert set().union(*LAYERS) == rooms


# The checker must see what it is there to see.

GOOD = {"__init__.py": "", "errors.py": "", "tokenizer.py": "from syllablelm.errors import X", "train/__init__.py": ""}


def make_package(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "syllablelm"
    for name, source in {**GOOD, **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return package


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        pytest.param({"errors.py": "from syllablelm.tokenizer import T"}, "'errors' imports 'tokenizer'", id="upward"),
        pytest.param({"errors.py": "import syllablelm.tokenizer"}, "'errors' imports 'tokenizer'", id="plain import"),
        pytest.param({"errors.py": "from syllablelm import tokenizer"}, "'errors' imports 'tokenizer'", id="from root"),
        pytest.param({"errors.py": "from . import tokenizer"}, "'errors' imports 'tokenizer'", id="relative"),
        pytest.param(
            {"errors.py": "def f():\n    from syllablelm.tokenizer import T"},
            "syllablelm.errors:2: 'errors' imports 'tokenizer'",
            id="inside a function",
        ),
        pytest.param(
            {"train/loop.py": "from syllablelm.evaluate.purity import P", "evaluate/purity.py": ""},
            "'train' and 'evaluate' must not",
            id="train and evaluate",
        ),
        pytest.param(
            {"train/a.py": "from syllablelm.train.b import x", "train/b.py": "def f():\n    import syllablelm.train.a"},
            "import cycle: syllablelm.train.a -> syllablelm.train.b -> syllablelm.train.a",
            id="cycle",
        ),
        pytest.param({"surprise.py": ""}, "the room 'surprise' is in no layer", id="unknown room"),
        pytest.param({"train/a.py": "from syllablelm.gone.b import x"}, "no module syllablelm.gone.b", id="missing"),
        pytest.param({"audio.py": "import torch.nn"}, "torch at the top", id="heavy"),
        pytest.param({"audio.py": "class A:\n    import torch"}, "torch at the top", id="heavy in a class"),
    ],
)
def test_checker_finds_the_fault(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    faults = find_violations(make_package(tmp_path, files))
    assert any(fault in line for line in faults), faults


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="downward"),
        pytest.param(
            {"errors.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import syllablelm.tokenizer"},
            id="for the type checker",
        ),
        pytest.param({"audio.py": "def f():\n    import torch"}, id="heavy inside a function"),
        pytest.param({"train/a.py": "from .b import x", "train/b.py": "import torch"}, id="relative, heavy room"),
    ],
)
def test_checker_allows(tmp_path: Path, files: dict[str, str]) -> None:
    assert find_violations(make_package(tmp_path, files)) == []
