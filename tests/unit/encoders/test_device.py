from __future__ import annotations

import pytest
import torch

from syllablelm.core.errors import InputError
from syllablelm.encoders.device import check_precision, pick_device


class TestPickDevice:
    def test_choices(self):
        assert pick_device("cpu") == torch.device("cpu") == pick_device(torch.device("cpu"))
        assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")

    @pytest.mark.parametrize("name", ["gpu", "", "meta", "cpu:x"])
    def test_unknown(self, name):
        with pytest.raises(InputError, match="choose auto, cpu or cuda"):
            pick_device(name)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
    def test_absent(self):
        with pytest.raises(InputError, match="use --device cpu"):
            pick_device("cuda")


class TestPrecision:
    def test_choices(self):
        cpu, cuda = torch.device("cpu"), torch.device("cuda")
        assert [check_precision(name, cpu) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]
        assert check_precision("float16", cuda) == "float16"

    def test_unknown(self):
        with pytest.raises(InputError, match="precision 'int8': choose float32, bfloat16, float16"):
            check_precision("int8", torch.device("cpu"))

    def test_float16_on_a_cpu(self):
        with pytest.raises(InputError, match="needs a CUDA device; use bfloat16"):
            check_precision("float16", torch.device("cpu"))
