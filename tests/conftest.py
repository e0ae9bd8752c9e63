"""What all tests share: quiet threads, no network, and a small tokenizer with recordings to use it on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Before torch is imported: threads that wait actively slow a busy machine down several times over.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# A test that would ask the network fails at once instead.
os.environ["HF_HUB_OFFLINE"] = "1"

# How long an example takes says more about the machine than about the code.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

SYLLABLE_SECONDS = 0.2


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer artifact with random weights: 2 layers of 32, 12 units, 5 per second."""
    from helpers.random_models import small_predictor
    from syllablelm.core.artifact import new_artifact
    from syllablelm.quantize import Codebook
    from syllablelm.tokenizer.segment_rule import RULE_FILE, SegmentRule
    from syllablelm.tokenizer.tokenizer import CODEBOOK_FILE

    rule = SegmentRule(rate=5.0)
    centres = np.random.default_rng(0).standard_normal((24, 32)).astype(np.float32)
    path = tmp_path_factory.mktemp("models") / "random"
    with new_artifact(path, "tokenizer", config=rule, seed=0, parents={}, metrics={}) as folder:
        small_predictor().save(folder)
        Codebook(centres, np.arange(24, dtype=np.int32) % 12).save(folder / CODEBOOK_FILE)
        (folder / RULE_FILE).write_text(json.dumps(asdict(rule)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three recordings of noise, r0.wav to r2.wav: 2, 1.5 and 3 seconds."""
    from helpers.random_models import small_corpus

    folder = tmp_path_factory.mktemp("recordings")
    small_corpus(folder, [32_000, 24_000, 48_000])
    return folder


@pytest.fixture(scope="session")
def alignments(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up references of the recordings: a syllable every fifth of a second."""
    from syllablelm.data.alignment import Alignment, Interval, Word, write_alignments
    from syllablelm.data.corpus import scan

    found = []
    for recording in scan(recordings)[0]:
        words = []
        for number in range(int(recording.seconds / SYLLABLE_SECONDS + 1e-6)):
            start, end = number * SYLLABLE_SECONDS, (number + 1) * SYLLABLE_SECONDS
            vowel = ("AA1", "IY1", "UW1")[number % 3]
            phones = (Interval("B", start, start + 0.06), Interval(vowel, start + 0.06, end))
            words.append(Word(f"b{vowel.lower()}", start, end, phones))
        found.append(Alignment(recording.id, recording.seconds, tuple(words)))
    path = tmp_path_factory.mktemp("alignments") / "alignments.jsonl"
    write_alignments(found, path)
    return path
