from __future__ import annotations

import subprocess
import sys

import pytest

import syllablelm.evaluate as evaluate


def test_every_public_name_loads():
    for name in evaluate.__all__:
        assert getattr(evaluate, name) is not None
        assert name in dir(evaluate)
    with pytest.raises(AttributeError, match="nonsense"):
        evaluate.nonsense  # noqa: B018


def test_importing_the_package_loads_neither_scipy_nor_torch():
    code = (
        "import sys, syllablelm.evaluate as e; e.boundary_counts([0.1], [0.1]);"
        "print([name for name in ('scipy', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
