"""The bundled tokenizer on the bundled recording: what a user sees on the first day."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import syllablelm as sl
from syllablelm.alignment import read_alignments
from syllablelm.artifact import open_artifact
from syllablelm.evaluate import boundary_counts

BUNDLED = Path(str(files("syllablelm"))) / "bundled"
GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_sample.json"


@pytest.fixture(scope="module")
def tokenizer() -> sl.Tokenizer:
    return sl.Tokenizer.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return sl.load_audio(BUNDLED / "sample.flac")


def test_units_are_those_of_the_shipped_files(tokenizer: sl.Tokenizer, wave: np.ndarray) -> None:
    golden = json.loads(GOLDEN.read_text())
    segmentation = tokenizer.encode(wave)
    assert segmentation.start.tolist() == golden["start"] and segmentation.end.tolist() == golden["end"]
    assert segmentation.unit is not None and segmentation.unit.tolist() == golden["unit"]


def test_boundaries_lie_at_syllables(tokenizer: sl.Tokenizer, wave: np.ndarray) -> None:
    segmentation = tokenizer.encode(wave)
    reference = read_alignments(BUNDLED / "sample.alignments.jsonl")["sample"].boundaries("syllable")
    found = segmentation.boundaries * segmentation.hop / segmentation.sample_rate
    even = np.linspace(0, segmentation.duration, len(found))
    assert boundary_counts(found, reference).f1 > max(0.7, boundary_counts(even, reference).f1 + 0.1)


def test_a_batch_changes_nothing(tokenizer: sl.Tokenizer, wave: np.ndarray) -> None:
    alone = tokenizer.encode(wave[:40_000])
    long, short, other = tokenizer.encode([wave, wave[:40_000], wave[20_000:]])
    assert short == alone and long == tokenizer.encode(wave) and other == tokenizer.encode(wave[20_000:])


def test_loudness_hardly_matters(tokenizer: sl.Tokenizer, wave: np.ndarray) -> None:
    quiet, normal = tokenizer.encode([0.3 * wave, wave])
    counts = boundary_counts(quiet.boundaries, normal.boundaries, tolerance=1)
    assert counts.f1 > 0.8


def test_the_files_are_what_training_wrote() -> None:
    from syllablelm.artifact import digest_files

    artifact = open_artifact(BUNDLED / "tiny", "tokenizer")
    present = digest_files(BUNDLED / "tiny")
    assert {name: present[name] for name in artifact.record["files"]} == artifact.record["files"]
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= 40 * 2**20
