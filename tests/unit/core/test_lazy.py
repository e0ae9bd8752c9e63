"""Names of packages that are loaded on first use."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

FACES = ("", ".encoders", ".evaluate", ".lm", ".scaling", ".segment", ".tokenizer", ".vocoder")
EXAMPLE = """
from syllablelm.core.lazy import lazy_names
here = 1
__getattr__, __dir__ = lazy_names(__name__, {"slow": ["first", "second"], "deep.slower": ["third"]})
"""


def test_a_module_is_loaded_by_the_first_of_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lazy_example"
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text(EXAMPLE)
    (folder / "deep" / "__init__.py").touch()
    (folder / "slow.py").write_text("first, second = object(), object()")
    (folder / "deep" / "slower.py").write_text("third = 3")
    monkeypatch.syspath_prepend(tmp_path)
    package = importlib.import_module("lazy_example")
    assert {"first", "second", "third", "here"} <= set(dir(package)) and "lazy_example.slow" not in sys.modules
    assert package.second is package.second and package.first is sys.modules["lazy_example.slow"].first
    assert "lazy_example.deep.slower" not in sys.modules and package.third == 3


@pytest.mark.parametrize("face", FACES)
def test_every_public_name_loads(face: str) -> None:
    package = importlib.import_module(f"syllablelm{face}")
    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match=f"module 'syllablelm{face}' has no attribute 'nonsense'"):
        _ = package.nonsense
    # A module named like a function would take its place once it is imported.
    assert not {module.name for module in pkgutil.iter_modules(package.__path__)} & set(package.__all__)


def test_importing_the_faces_loads_nothing_heavy() -> None:
    script = f"import sys, {', '.join(f'syllablelm{face}' for face in FACES)}\n" + (
        "print({'torch', 'numba', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules))\n"
        "sys.modules['syllablelm.evaluate'].boundary_counts([0.1], [0.1])\n"
        "print({'torch', 'scipy'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["set()", "set()"]
