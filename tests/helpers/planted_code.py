"""A model folder that tries, in every way that transformers knows, to have its code run."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

KERNEL = "kernels-community/no-such-kernel"
_CLASSES = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForCTC",
    "AutoModelForCausalLM",
    "AutoProcessor",
    "AutoTokenizer",
    "AutoFeatureExtractor",
]


def plant_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a module that ends the test when it is imported, and name it in every table; any question fails it too."""

    def fail(*_: object) -> Any:
        pytest.fail("the user is asked whether to run code")

    monkeypatch.setattr(builtins, "input", fail)
    (folder / "planted.py").write_text("raise SystemExit('the code of a model was run')\n", encoding="utf-8")
    for name in ("config", "tokenizer_config", "processor_config", "preprocessor_config", "generation_config"):
        path = folder / f"{name}.json"
        table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not table and name != "generation_config":
            continue
        code: dict[str, Any] = {key: "planted.Planted" for key in _CLASSES}
        code["AutoTokenizer"] = ["planted.Planted", "planted.Planted"]
        table |= {
            "auto_map": code,
            "trust_remote_code": True,
            "_attn_implementation": KERNEL,
            "_attn_implementation_internal": KERNEL,
            "attn_implementation": KERNEL,
            "custom_generate": "planted",
            "custom_pipelines": {"any": {"impl": "planted.Planted"}},
            "transformers_weights": "planted.bin",
        }
        if isinstance(table.get("feature_extractor"), dict):
            table["feature_extractor"]["auto_map"] = code
        path.write_text(json.dumps(table), encoding="utf-8")
