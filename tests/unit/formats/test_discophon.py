from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from helpers.random_segmentations import SOME, write_all
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import FormatOptions, detect_format, read_entries

HOP = FormatOptions(hop=320)


def test_a_record_has_a_unit_for_every_frame(tmp_path: Path) -> None:
    # The keys that discophon 0.2's read_submitted_units requires; it ignores others.
    file = tmp_path / "units-eng-dev.jsonl"
    write_all(file, "discophon", {"one": SOME["one"]})
    assert json.loads(file.read_text()) == {"file": "one", "units": [7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 7, 7]}
    assert detect_format(file) == "discophon"
    (entry,) = read_entries(file, "discophon", HOP)
    assert entry[:3] == ("one", "", SOME["one"])


def test_what_it_cannot_hold_is_refused(tmp_path: Path) -> None:
    twice = Segmentation.from_boundaries([0, 3, 5, 9], unit=[1, 2, 2])
    with pytest.raises(InputError, match="between two segments of one unit, which discophon files cannot hold"):
        write_all(io.StringIO(), "discophon", {"a": twice})
    for record, message in (({"units": [1]}, "'file' must be a string"), ({"file": "a", "units": "1"}, "'units' is a")):
        (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
        with pytest.raises(FormatError, match=rf"a.jsonl:1: .*{message}"):
            list(read_entries(tmp_path / "a.jsonl", "discophon", HOP))
