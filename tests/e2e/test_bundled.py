"""The bundled tokenizers on the bundled recording: what a user sees on the first day."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import syllablelm as sl
from syllablelm.core.artifact import digest_files, open_artifact
from syllablelm.core.models import bundled_names
from syllablelm.data.alignment import read_alignments
from syllablelm.data.distortions import gain
from syllablelm.evaluate import boundary_counts

BUNDLED = Path(str(files("syllablelm"))) / "bundled"
GOLDEN = Path(__file__).parents[1] / "golden"
# All bundled files together; the wheel is to stay below 90 MB.
MOST_BYTES = 75_000_000


@pytest.fixture(scope="module", params=["small", "tiny"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokenizer(name: str) -> sl.Tokenizer:
    return sl.Tokenizer.load(name, device="cpu")


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return sl.load_audio(BUNDLED / "sample.flac")


def test_units_are_those_of_the_shipped_files(name: str, tokenizer: sl.Tokenizer, wave: np.ndarray) -> None:
    golden = json.loads((GOLDEN / f"{name}_sample.json").read_text())
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


def test_loudness_changes_nothing(tokenizer: sl.Tokenizer, wave: np.ndarray) -> None:
    soft, softer, normal = (tokenizer.encode(gain(wave, db)) for db in (-6.0, -12.0, 0.0))
    assert soft == softer == normal


def test_streamed_equals_whole(tokenizer: sl.Tokenizer, wave: np.ndarray) -> None:
    pieces = tokenizer.stream(np.array_split(wave, 7))
    assert sl.Segmentation.join(pieces) == tokenizer.encode(wave)


def test_the_files_are_what_training_wrote(name: str) -> None:
    artifact = open_artifact(BUNDLED / name, "tokenizer")
    present = digest_files(BUNDLED / name)
    assert {file: present[file] for file in artifact.record["files"]} == artifact.record["files"]


def test_everything_bundled_is_small_enough_to_ship() -> None:
    assert bundled_names() == ["small", "tiny"]
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= MOST_BYTES
