from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import syllablelm.segment as segment


def test_import_is_light():
    code = (
        "import sys, syllablelm.segment; "
        "print([m for m in ('torch', 'numba', 'numpy', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_functions_are_not_shadowed_by_their_modules():
    modules = [module.name for module in pkgutil.iter_modules(segment.__path__)]
    for name in modules:
        importlib.import_module(f"syllablelm.segment.{name}")
    assert not set(modules) & set(segment.__all__)
    assert callable(segment.minsum) and callable(segment.mincut)


def test_names_resolve():
    for name in set(segment.__all__) - {"METHODS"}:
        assert callable(getattr(segment, name))
    assert "losspred_matrix" in dir(segment)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        segment.nothing  # noqa: B018
