"""Published evaluations of the Pythia suite, the text models that the speech scaling study compares with."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from syllablelm.core.errors import FormatError, InputError, located
from syllablelm.core.results import read_json
from syllablelm.scaling.runs import CollectedRuns, Run

# Layers and width of the GPT-NeoX decoders.
_SHAPES = {
    "14m": (6, 128), "31m": (6, 256), "70m": (6, 512), "160m": (12, 768), "410m": (24, 1024), "1b": (16, 2048),
    "1.4b": (24, 2048), "2.8b": (32, 2560), "6.9b": (32, 4096), "12b": (36, 5120),
}  # fmt: skip
# All were trained on the same number of tokens: 143,000 updates of 2,097,152, or fewer of more.
TOKENS = 143_000 * 2**21
_LAST_STEPS = frozenset({71_500, 143_000})
_MODEL = re.compile(r"pythia-(?P<size>[0-9.]+[mb])(-deduped)?(-bf16)?")
_STEP = re.compile(r"step(\d+)(?!\d)")
# Name under which the mean of BLiMP's paradigms can be compared with that of speech models.
_BLIMP = "sblimp"


def collect_pythia(folders: Iterable[str | Path]) -> CollectedRuns:
    """Read the zero-shot evaluations of fully trained Pythia models.

    Args:
        folders: folders of ``MODEL/zero-shot/*_step143000*.json`` as in the folder ``evals`` of the suite's repository,
            such as ``pythia-v1``, or folders above or below. Each file is a result of the LM evaluation harness,
            ``{"results": {TASK: {"acc": SHARE, ...}}}``. Steps before the last are ignored.

    Returns:
        A run for each model, with non-embedding parameters, 3e11 tokens and the accuracies of tasks in percent. Tasks
        that begin with "blimp" become their mean, "sblimp". Where WikiText was evaluated its loss is that in nats per
        byte (``bits_per_byte``), which is the same unit for all models.

    Raises:
        InputError: no such folder, or no evaluation of a fully trained model below it.
        FormatError: a file of another layout.
    """
    runs: dict[str, Run] = {}
    left_out = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        for file in sorted(folder.resolve().rglob("*.json")):
            step = _STEP.search(file.name)
            if file.parent.name != "zero-shot" or step is None or int(step.group(1)) not in _LAST_STEPS:
                continue
            name = file.parent.parent.name
            match = _MODEL.fullmatch(name)
            if match is None or match["size"] not in _SHAPES:
                left_out.append(f"{file}: {name} is no model of the suite")
            elif name in runs and runs[name].place != str(file):
                left_out.append(f"{file}: a second evaluation of {name}")
            else:
                runs[name] = _read_run(file, name, match["size"])
    if not runs:
        raise InputError("no Pythia evaluations: MODEL/zero-shot/*_step143000*.json, as in the suite's evals/pythia-v1")
    return CollectedRuns(tuple(sorted(runs.values(), key=lambda run: run.params)), tuple(left_out))


def _read_run(file: Path, name: str, size: str) -> Run:
    results = read_json(file).get("results")
    if not isinstance(results, Mapping) or not all(isinstance(task, Mapping) for task in results.values()):
        raise FormatError(f"{file}: no results by task as the LM evaluation harness writes them")
    shares = {task: values["acc"] for task, values in results.items() if "acc" in values}
    bits = results.get("wikitext", {}).get("bits_per_byte")
    numbers: dict[str, Any] = shares if bits is None else {**shares, "wikitext": bits}
    for task, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise FormatError(f"{file}: {task}: {number!r} is no number")
    blimp = [share for task, share in shares.items() if task.startswith("blimp")]
    scores = {task: 100 * share for task, share in shares.items() if not task.startswith("blimp")}
    if blimp:
        scores[_BLIMP] = 100 * float(np.mean(blimp))
    layers, dim = _SHAPES[size]
    params = layers * (12 * dim**2 + 13 * dim) + 2 * dim
    loss = None if bits is None else math.log(2) * bits
    with located(file):
        return Run(
            params, TOKENS, loss, 6.0 * params * TOKENS, tokenizer="bytes of WikiText" if loss else None,
            scores=scores, name=name, place=str(file),
        )  # fmt: skip
