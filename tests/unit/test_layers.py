"""Imports go downwards only: the layer table, checked on the syntax trees of every module; and a thin command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "syllablelm"

# From the bottom up; "" is the package itself. A room is a module, or a folder of modules, right below the package.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"", "core"}),
    # Scaling sees nothing but core; what trains and reports takes its counting and its laws.
    frozenset({"formats", "scaling"}),
    frozenset({"data"}),
    frozenset({"encoders", "quantize", "tts"}),
    frozenset({"itemsets", "segment"}),
    frozenset({"tokenizer"}),
    frozenset({"lm"}),
    frozenset({"vocoder"}),
    frozenset({"engine", "evaluate", "train"}),
    frozenset({"report"}),
    frozenset({"demo"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
# Rooms of one layer that must not know each other.
APART: tuple[frozenset[str], ...] = (
    frozenset({"engine", "evaluate", "train"}),
    frozenset({"encoders", "quantize", "tts"}),
    frozenset({"itemsets", "segment"}),
    frozenset({"formats", "scaling"}),
)
# Packages that take seconds to load: never at the top of a module in these rooms.
HEAVY = frozenset({"torch", "transformers", "accelerate", "numba", "sklearn", "matplotlib", "lhotse", "silero_vad"})
LIGHT_ROOMS = LAYERS[0] | LAYERS[1] | LAYERS[2] | {"itemsets", "tts", "cli", "__main__"}


@dataclass(frozen=True)
class Import:
    """An import: its target and line, whether it is at the top, whether it runs or is read by type checkers alone."""

    target: str
    line: int
    at_top: bool
    runs: bool = True


def read_imports(source: str, module: str, is_package: bool) -> Iterator[Import]:
    """Return the imports of a module, those inside functions and for type checkers included."""

    def visit(node: ast.AST, at_top: bool, runs: bool = True) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                yield from visit(ast.Module(child.body, []), False, False)
                yield from visit(ast.Module(child.orelse, []), at_top, runs)
            elif isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, at_top, runs) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                parents = module.split(".") if is_package else module.split(".")[:-1]
                base = parents[: len(parents) - child.level + 1] if child.level else []
                source_module = ".".join([*base, *([child.module] if child.module else [])])
                targets = [source_module, *(f"{source_module}.{alias.name}" for alias in child.names)]
                yield from (Import(target, child.lineno, at_top, runs) for target in targets)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, at_top and not inside, runs)

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
    # The face of the package hands names of every floor on; it is named by all and names nothing before it is asked.
    for module, path in modules.items():
        room = room_of(module)
        if room not in level:
            place = "loose at the top of the package" if path.parent == package else f"the room {room!r} is on no floor"
            faults.append(f"{module}: {place}")
            continue
        edges = graph.setdefault(module, set())
        for item in read_imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"):
            where = f"{module}:{item.line}"
            root = item.target.split(".")[0]
            if item.at_top and room in LIGHT_ROOMS and root in HEAVY:
                faults.append(f"{where}: {root} at the top of a module that must load quickly")
            if root != package.name or module == package.name:
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
            # What a type checker alone reads ties no knot, but for a package's face, which re-exports.
            if item.runs:
                edges.add(item.target)
    faults += [f"import cycle: {' -> '.join(cycle)}" for cycle in find_cycles(graph)]
    return faults + [f"two modules are called {name!r}: {', '.join(both)}" for name, both in find_namesakes(modules)]


def find_namesakes(modules: Mapping[str, Path]) -> list[tuple[str, list[str]]]:
    """Return names that several modules bear; a verb of the command line may be named like what it calls."""
    homes: dict[str, list[str]] = {}
    for module, path in modules.items():
        name = module.rpartition(".")[2]
        if path.name != "__init__.py" and room_of(module) not in ("cli", "__main__", ""):
            homes.setdefault(name, []).append(module)
    return [(name, both) for name, both in homes.items() if len(both) > 1]


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

GOOD = {
    "__init__.py": "",
    "core/errors.py": "",
    "data/audio.py": "",
    "tokenizer/tokenizer.py": "from syllablelm.core.errors import X",
    "train/__init__.py": "",
}
UPWARD = "'core' imports 'tokenizer'"


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
        pytest.param({"core/errors.py": "from syllablelm.tokenizer.tokenizer import T"}, UPWARD, id="upward"),
        pytest.param({"core/errors.py": "import syllablelm.tokenizer.tokenizer"}, UPWARD, id="plain import"),
        pytest.param({"core/errors.py": "from syllablelm.tokenizer import tokenizer"}, UPWARD, id="module"),
        pytest.param({"core/errors.py": "from ..tokenizer import tokenizer"}, UPWARD, id="relative"),
        pytest.param(
            {"core/errors.py": "def f():\n    from syllablelm.tokenizer.tokenizer import T"},
            "syllablelm.core.errors:2: 'core' imports 'tokenizer'",
            id="inside a function",
        ),
        pytest.param(
            {"core/errors.py": "import typing\nif typing.TYPE_CHECKING:\n    import syllablelm.tokenizer.tokenizer"},
            "syllablelm.core.errors:3: 'core' imports 'tokenizer'",
            id="for the type checker",
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
        pytest.param({"surprise/a.py": ""}, "the room 'surprise' is on no floor", id="unknown room"),
        pytest.param({"surprise.py": ""}, "syllablelm.surprise: loose at the top", id="loose"),
        pytest.param({"train/audio.py": ""}, "two modules are called 'audio'", id="name taken"),
        pytest.param({"train/a.py": "from syllablelm.gone.b import x"}, "no module syllablelm.gone.b", id="missing"),
        pytest.param({"data/audio.py": "import torch.nn"}, "torch at the top", id="heavy"),
        pytest.param({"data/audio.py": "class A:\n    import torch"}, "torch at the top", id="heavy in a class"),
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
            {"data/audio.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"}, id="heavy type"
        ),
        pytest.param({"data/audio.py": "def f():\n    import torch"}, id="heavy inside a function"),
        pytest.param({"train/a.py": "from .b import x", "train/b.py": "import torch"}, id="relative, heavy room"),
        pytest.param({"cli/audio.py": ""}, id="a verb named like a module"),
    ],
)
def test_checker_allows(tmp_path: Path, files: dict[str, str]) -> None:
    assert find_violations(make_package(tmp_path, files)) == []


def registered_functions() -> set[tuple[str, str]]:
    """Modules and names of the functions that are verbs, or that make one."""
    import typer

    from syllablelm.cli.app import app

    def visit(command: Any) -> Iterator[tuple[str, str]]:
        if command.callback is not None:
            yield command.callback.__module__, command.callback.__qualname__.split(".")[0]
        for part in getattr(command, "commands", {}).values():
            yield from visit(part)

    return set(visit(typer.main.get_command(app)))


def test_the_command_line_is_verbs_options_and_printers() -> None:
    verbs, others, lines = registered_functions(), [], 0
    assert len(verbs) > 30
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines += source.count("\n")
        module = f"syllablelm.cli.{path.stem}"
        # The entry point, and what reads values of options.
        if path.stem in ("app", "options"):
            continue
        for node in ast.parse(source).body:
            prints = isinstance(node, ast.FunctionDef) and re.match(r"_?(print|note)", node.name)
            if isinstance(node, ast.FunctionDef) and not prints and (module, node.name) not in verbs:
                others.append(f"{module}:{node.lineno}: {node.name} is neither a verb nor a printer")
    assert not others, "\n".join(others)
    assert lines <= 2600, "move logic into the library: whoever writes Python can call it there"
