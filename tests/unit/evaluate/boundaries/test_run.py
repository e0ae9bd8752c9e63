from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.random_models import small_corpus, small_predictor
from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Interval, Word, write_alignments
from syllablelm.evaluate.boundaries.run import BoundaryResult, ScoredList, _segment, evaluate_boundaries
from syllablelm.evaluate.boundaries.systems import System, Systems
from syllablelm.quantize import Codebook
from syllablelm.segment.segmenter import FrameGrid, Segmenter, make_segmenter
from syllablelm.tokenizer.segment_rule import SegmentRule
from syllablelm.tokenizer.tokenizer import Tokenizer


def aligned(name: str, seconds: int) -> Alignment:
    """A syllable in every half second."""
    edges = np.arange(2 * seconds + 1) / 2
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return Alignment(name, float(seconds), tuple(Word("a", a, b, (Interval("AA1", a, b),)) for a, b in pairs))


@pytest.fixture
def lists(tmp_path: Path) -> tuple[list[str], Path]:
    """Two recordings of 4 and 2 s, and their alignments."""
    small_corpus(tmp_path / "audio", [64_000, 32_000])
    write_alignments([aligned("r0", 4), aligned("r1", 2)], tmp_path / "reference.jsonl")
    return [str(tmp_path / "audio")], tmp_path / "reference.jsonl"


def test_one_call_does_what_the_verb_does(lists, tmp_path):
    small_predictor().encoder.save(tmp_path / "encoder")
    result = evaluate_boundaries(
        *lists,
        methods=["even", "minsum", "sylber-relative"],
        encoders=[str(tmp_path / "encoder")],
        layers=[2],
        levels=["syllable", "phone"],
        protocols=["paper", "zerosyl"],
        against="even",
        resamples=5,
        device="cpu",
    )
    assert (result.model, result.count, result.levels) == (None, "reference", ("syllable", "phone"))
    assert (result.data.recordings, result.data.left_out, result.data.unusable) == (2, 0, 0)
    assert [one.name for one in result.protocols] == ["paper", "zerosyl"] and result.protocol is None
    assert len(result.rows) == 3 * 2 * 2
    even, minsum, sylber = result.rows[0], result.rows[4], result.rows[8]
    assert (even.segmenter, even.method, even.model, even.layer) == ("even", "even", None, None)
    assert (minsum.segmenter, minsum.method, minsum.layer) == ("minsum@2", "minsum", 2)
    assert (even.count, minsum.count, sylber.count) == ("reference", "reference", "own")
    assert even.f1_50 == 1.0 and even.gain is None
    assert minsum.predicted == minsum.reference == even.reference == 9 + 5
    assert minsum.gain is not None and minsum.gain.value == pytest.approx(minsum.f1_50 - 1.0)


def test_the_result_is_read_back_as_it_was_written(lists, tmp_path):
    result = evaluate_boundaries(*lists, methods=["even"], count=3.5, protocols=["peng"], shift=-0.01, resamples=5)
    assert result.protocol is not None and result.protocol.shift == result.rows[0].shift == -0.01
    result.save(tmp_path / "result.json")
    assert BoundaryResult.load(tmp_path / "result.json") == result
    assert BoundaryResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    tuned = replace(result, tuning=result.data)
    assert BoundaryResult.from_dict(tuned.to_dict()) == tuned
    keys = ["evaluation", "model", "data", "count", "levels", "protocols", "protocol", "rows"]
    assert list(result.to_dict()) == keys and result.to_dict()["count"] == "3.5"


def test_a_tokenizer_with_gaps_is_scored_with_them(lists, tmp_path):
    encoder = small_predictor().encoder
    centres = np.random.default_rng(0).standard_normal((6, encoder.dim)).astype(np.float32)
    tokenizer = Tokenizer(encoder, Codebook(centres, np.arange(6, dtype=np.int32)), SegmentRule("sylber-relative"))
    tokenizer.save(tmp_path / "tokenizer")
    name = str(tmp_path / "tokenizer")
    own = evaluate_boundaries(*lists, models=[name], count="own", protocols=["strict"], resamples=5, device="cpu").rows[
        0
    ]
    waves = [np.asarray(recording.load()) for recording in small_corpus(tmp_path / "again", [64_000, 32_000])]
    spans = [np.unique([seg.start, seg.end]) for seg in tokenizer.encode(waves)]
    edges = sum(
        int(((ends > 0) & (ends < seg.num_frames)).sum())
        for ends, seg in zip(spans, tokenizer.encode(waves), strict=True)
    )
    assert (own.count, own.model, own.method, own.predicted) == ("own", name, None, edges)
    # A number of segments can be asked of MinSum only.
    counted = evaluate_boundaries(*lists, models=[name], resamples=5, device="cpu").rows[0]
    assert (counted.count, counted.predicted) == ("reference", counted.reference)


def test_every_system_is_as_long_as_the_alignment(lists, tmp_path):
    manifest = small_corpus(tmp_path / "one", [64_000])
    listed = ScoredList("list", "file", {"r0": aligned("r0", 4)}, manifest, {}, {})
    even = make_segmenter("even")
    slow = Segmenter(FrameGrid(640, 400, 16_000), lambda wave, count: even.cut(wave[::2], count))

    def segment(**segmenters: Segmenter) -> dict[str, dict[str, Segmentation]]:
        systems = {name: System(segmenter, "own") for name, segmenter in segmenters.items()}
        made = _segment(listed, Systems(systems, lambda id, wave, segmenter: 4))
        return {name: dict(row) for name, row in made.items()}

    found = segment(even=even, slow=slow)
    assert found["even"]["r0"].duration == pytest.approx(3.98)
    assert found["slow"]["r0"].duration == pytest.approx(3.96)
    np.testing.assert_allclose(found["slow"]["r0"].seconds[:, 0], found["even"]["r0"].seconds[:, 0], atol=0.04)
    # Frames of 40 ms, taken for frames of 20 ms.
    with pytest.raises(InputError, match="list: 1 recording of another length than the alignment, such as 'r0' with 1"):
        segment(even=even, halved=Segmenter(FrameGrid(320, 400, 16_000), slow.cut))


def test_unknown_names(lists):
    for options, words in (
        ({"levels": ["mora"]}, "reference 'mora': choose some of syllable, phone, word"),
        ({"protocols": ["pneg"]}, "did you mean 'peng'"),
        ({"methods": ["even"], "tuning": ["x"], "protocols": ["peng"]}, "give --tune-alignments"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate_boundaries(*lists, **options)
