from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from helpers.random_segmentations import SOME, segmentations
from syllablelm.core.errors import FormatError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import open_writer, read_segmentations
from syllablelm.formats.record import from_record, to_record


@settings(deadline=None, max_examples=50)
@given(segmentation=segmentations())
def test_record_round_trip_through_json(segmentation: Segmentation) -> None:
    record = to_record("a", Path("b/a.flac"), segmentation)
    assert list(record) == ["id", "path", "sample_rate", "hop", "num_frames", "unit", "start", "end"]
    assert from_record(json.loads(json.dumps(record))) == segmentation
    assert (record["id"], record["path"]) == ("a", "b/a.flac")


def test_record_is_the_documented_one() -> None:
    assert to_record("x", "x.wav", SOME["one"]) == {
        "id": "x",
        "path": "x.wav",
        "sample_rate": 16_000,
        "hop": 320,
        "num_frames": 12,
        "unit": [7, 0, 7],
        "start": [0, 3, 10],
        "end": [3, 10, 12],
    }
    assert to_record("x", "x.wav", SOME["no units"])["unit"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": None}, "start must be a list of integers$"),
        ({"start": [0.0, 3.0, 10.0]}, "start must be a list"),
        ({"unit": [True, False, True]}, "unit must be a list of integers or null"),
        ({"unit": "7 0 7"}, "unit must be a list"),
        ({"unit": [7, 0]}, "same length"),
        ({"unit": [7, 0, -1]}, "must not be negative"),
        ({"unit": [7, 0, 2**31]}, "does not fit 32 bits"),
        ({"end": [3, 9, 13]}, "reaches outside its 12 frames"),
        ({"end": [4, 10, 12]}, "must not overlap"),
        ({"num_frames": 12.0}, "num_frames must be an integer, not 12.0"),
        ({"hop": True}, "hop must be an integer"),
        ({"hop": 0}, "hop >= 1"),
        ({"sample_rate": "16000"}, "sample_rate must be an integer"),
        ({"path": None}, "path must be a string"),
    ],
)
def test_bad_records_are_named(change: dict, message: str) -> None:
    with pytest.raises(FormatError, match=f"record 'x': .*{message}"):
        from_record({**to_record("x", "x.wav", SOME["one"]), **change})


def test_incomplete_records_are_named() -> None:
    record = to_record("x", "x.wav", SOME["one"])
    del record["hop"], record["end"]
    with pytest.raises(FormatError, match="record 'x': missing hop, end"):
        from_record(record)
    with pytest.raises(FormatError, match="record without id: missing id"):
        from_record({})
    with pytest.raises(FormatError, match="must be an object"):
        from_record([1, 2])  # type: ignore[arg-type]
    assert from_record({**to_record("x", "x.wav", SOME["one"]), "speaker": 5}) == SOME["one"]


def test_jsonl_stream_is_written_line_by_line() -> None:
    stream = io.StringIO()
    with open_writer(stream) as writer:
        writer.write("one", "one.flac", SOME["one"])
        assert from_record(json.loads(stream.getvalue())) == SOME["one"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\n{", "a.jsonl:2: not valid JSON"),
        (b"\n[1]\n", "a.jsonl:2: a record must be an object"),
        (b'{"id": "q"}', "a.jsonl:1: record 'q': missing path"),
        (b'{"id": ["q"]}', "a.jsonl:1: record"),
        (b"[" * 100_000, "a.jsonl:1: not valid JSON"),
        (b'{"id": 1' + b"0" * 5000 + b"}", "a.jsonl:1: not valid JSON"),
        (b"\n\n\xff", "a.jsonl:3: not a text in UTF-8"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(text)
    with pytest.raises(FormatError, match=message):
        read_segmentations(tmp_path / "a.jsonl")
