from __future__ import annotations

import subprocess
import sys

import pytest

from syllablelm.core.errors import InputError
from syllablelm.segment.registry import ALIASES, METHODS, PUBLISHED, TOKENIZER_METHODS, get_method


def test_methods_by_name():
    assert all(name == method.name for name, method in METHODS.items())
    assert get_method("minsum").counted and not get_method("released").counted
    assert get_method("rate") is METHODS["minsum"] and ALIASES == {"rate": "minsum"}
    with pytest.raises(
        InputError, match="unknown segmentation method 'wavelets': choose one of even, frames, envelope"
    ):
        get_method("wavelets")
    with pytest.raises(InputError, match="unknown rule 'mel': choose one of even, frames, similarity, minsum"):
        get_method("mel", TOKENIZER_METHODS, "rule")


def test_tokenizers_take_every_method_that_needs_features_only():
    assert {"even", "frames", "similarity", "minsum", "released", "penalty", "peaks", *PUBLISHED} == set(
        TOKENIZER_METHODS
    )
    assert len(PUBLISHED) == 6


def test_the_list_loads_nothing_heavy():
    code = "import sys, syllablelm.segment.registry; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
