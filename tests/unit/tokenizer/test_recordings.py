"""Files to units in one call: returned, or written in any format."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from helpers.random_models import SHAPE, noise
from syllablelm.core.errors import InputError
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.data.corpus import scan
from syllablelm.encoders.hub import HubEncoder
from syllablelm.formats import read_segmentations
from syllablelm.quantize import Codebook
from syllablelm.tokenizer.recordings import encode_in_blocks, tokenize_files
from syllablelm.tokenizer.segment_rule import SegmentRule
from syllablelm.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    centres = np.random.default_rng(0).standard_normal((8, 32)).astype(np.float32)
    encoder = HubEncoder(SHAPE.build())
    return Tokenizer(encoder, Codebook(centres, np.arange(8, dtype=np.int32)), SegmentRule(), window_seconds=2.0)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    for name, samples in (("a", 20_000), ("b", 50_000)):
        save_audio(tmp_path / "audio" / f"{name}.wav", noise(samples, samples))
    return tmp_path / "audio"


def test_segmentations_are_returned(tokenizer: Tokenizer, audio: Path) -> None:
    done = tokenize_files(audio, tokenizer)
    assert done.segmentations == {name: tokenizer.encode(load_audio(audio / f"{name}.wav")) for name in "ab"}
    assert (done.recordings, done.skipped, done.errors) == (2, (), None)
    assert done.units == sum(map(len, done.segmentations.values()))
    assert done.seconds == pytest.approx(70_000 / 16_000)


def test_files_are_written(tokenizer: Tokenizer, audio: Path, tmp_path: Path) -> None:
    (audio / "c.wav").write_bytes(b"")
    expected = tokenize_files(audio, tokenizer).segmentations
    for format, name in (("jsonl", "u.jsonl"), ("parquet", "u.parquet"), ("textgrid", "grids")):
        done = tokenize_files([audio], tokenizer, out=tmp_path / name, format=format)
        assert read_segmentations(tmp_path / name) == expected
        assert not done.segmentations and done.errors == tmp_path / f"{name}.errors.jsonl"
        assert [item.path.name for item in done.skipped] == ["c.wav"]
        assert "c.wav" in done.errors.read_text(encoding="utf-8")
    stream = io.StringIO()
    tokenize_files(audio, tokenizer, out=stream)
    assert stream.getvalue() == (tmp_path / "u.jsonl").read_text(encoding="utf-8")


def test_refusals(tokenizer: Tokenizer, audio: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'csv': choose one of jsonl, parquet, textgrid, slamkit"):
        tokenize_files(audio, tokenizer, format="csv")
    with pytest.raises(InputError, match="--format parquet does not go to standard output"):
        tokenize_files(audio, tokenizer, out=io.StringIO(), format="parquet")
    save_audio(audio / "empty" / "x.wav", np.zeros(16_000, dtype=np.float32))
    with pytest.raises(InputError, match="no usable recording"):
        tokenize_files(audio / "empty", tokenizer)


def test_a_recording_in_blocks(tokenizer: Tokenizer, audio: Path) -> None:
    recording = scan(audio / "b.wav")[0][0]
    sizes: list[int] = []

    def read(blocks):
        for block in blocks:
            sizes.append(len(block))
            yield block

    assert encode_in_blocks(tokenizer, recording, read) == tokenizer.encode(load_audio(audio / "b.wav"))
    assert sum(sizes) == 50_000
