"""A made-up benchmark of pairs of noise, and language models with random weights."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

from helpers.random_models import noise
from syllablelm.core.artifact import new_artifact
from syllablelm.data.audio import save_audio
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.lm.store import TokenInfo
from syllablelm.train.lm_stage import LMShape

SHAPE = LMShape(layers=1, dim=16, heads=2, feed_forward=32, positions=24, dropout=0.0)


def make_lm(path: Path, tokenizer: str, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = SHAPE.build(12)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.5)
    with new_artifact(path, "lm", config=SHAPE, seed=0, parents={}, metrics={}) as folder:
        SpeechLM(model, TokenInfo(12, tokenizer=tokenizer), np.full(12, 10, dtype=np.int32)).write_payload(folder)
    return path


def write_gold(folder: Path, rows: list[dict[str, object]]) -> None:
    with (folder / "gold.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_benchmark(root: Path) -> Path:
    """Six recordings of words in two voices, four of sentences in one, four of stories; each of other noise."""
    rows: dict[str, list[dict[str, object]]] = {"lexical": [], "syntactic": []}
    for number, (pair, voice) in enumerate([("1", "A"), ("1", "B"), ("2", "A")]):
        for correct in (1, 0):
            stem = f"x{number}{'ab'[correct]}"
            rows["lexical"].append(
                {"id": pair, "filename": stem, "voice": voice, "frequency": 7 * (pair == "2") if correct else "",
                 "word": "w", "phones": "w", "length": 3, "correct": correct}
            )  # fmt: skip
    for number, kind in enumerate(("agreement", "island")):
        for correct in (0, 1):
            stem = f"y{number}{correct}"
            rows["syntactic"].append(
                {"id": 0, "filename": stem, "voice": "A", "type": kind, "subtype": f"{kind}_1",
                 "transcription": "a, b", "correct": correct}
            )  # fmt: skip
    files = [root / suite / "dev" / f"{row['filename']}.wav" for suite in rows for row in rows[suite]]
    files += [root / "tSC" / f"{name}.wav" for name in ("0_8_incorrect", "1_8_correct", "2_9_correct", "3_9_incorrect")]
    for seed, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        save_audio(file, noise(16_000 + 1600 * (seed % 5), seed))
    for suite, listed in rows.items():
        write_gold(root / suite / "dev", listed)
    return root
