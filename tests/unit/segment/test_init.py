from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import syllablelm.segment as segment


def test_import_is_light():
    code = (
        "import sys, syllablelm.segment; "
        "print([m for m in ('torch', 'numba', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_functions_are_not_shadowed_by_their_modules():
    for name in ("mincut", "minsum"):
        importlib.import_module(f"syllablelm.segment.{name}")
    assert callable(segment.minsum) and callable(segment.mincut)
    assert segment.minsum.__module__ == "syllablelm.segment.minsum"


def test_names_resolve():
    for name in set(segment.__all__) - {"losspred_matrix"}:
        assert callable(getattr(segment, name))
    assert "losspred_matrix" in dir(segment)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        segment.nothing  # noqa: B018
