"""Recoding of unit files by the library's own call: what the verbs `train recode` and `recode` do."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

from syllablelm.cli.recode import train_recode
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.units.recoding import RecodingResult, recode_units
from syllablelm.formats import open_writer, read_segmentations
from syllablelm.quantize.codec import Kind
from syllablelm.train.token_stage import TrainedCodec, train_codec

ROWS = {"a": [0, 0, 1, 2, 0, 1], "b": [2, 2, 0, 1]}


@pytest.fixture
def units(tmp_path: Path) -> Path:
    with open_writer(tmp_path / "units.jsonl") as writer:
        for name, row in ROWS.items():
            writer.write(name, "", Segmentation.from_boundaries(4 * np.arange(len(row) + 1), unit=row))
    return tmp_path / "units.jsonl"


def test_there_and_back_with_rates(units: Path, tmp_path: Path) -> None:
    codec = train_codec([units], tmp_path / "codec", "bpe", vocab_size=4, num_units=3)
    assert (codec.kind, codec.metrics) == ("bpe", {"num_units": 3, "num_codes": 4})
    assert TrainedCodec.from_dict(codec.to_dict()) == codec
    coded = recode_units(units, codec.path, tmp_path / "codes.jsonl")
    # Deduplicated 0 1 2 0 1 and 2 0 1; the pair 0 1 is a code of its own.
    assert (coded.recordings, coded.before.units, coded.after.units, coded.after.vocabulary) == (2, 8, 5, 4)
    assert coded.before.unit_rate == pytest.approx(8 / coded.seconds)
    assert coded.after.bits_per_second == pytest.approx(5 / coded.seconds * 2)
    assert RecodingResult.from_dict(coded.to_dict()) == coded
    back = recode_units(coded.out, codec.path, tmp_path / "units_again.jsonl", decode=True)
    assert back.after == coded.before
    found = {name: row.unit for name, row in read_segmentations(back.out).items()}
    assert {name: unit.tolist() for name, unit in found.items() if unit is not None} == {
        "a": [0, 1, 2, 0, 1],
        "b": [2, 0, 1],
    }


def test_refused(units: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="deduplicates and has no size"):
        train_codec([units], tmp_path / "codec", "runs", vocab_size=9, num_units=3)
    codec = train_codec([units], tmp_path / "codec", "runs", num_units=3).path
    with pytest.raises(InputError, match="is an input of this run"):
        recode_units(units, codec, units)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(FormatError, match="holds no recording"):
        recode_units(tmp_path / "empty.jsonl", codec, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_the_verb_offers_every_kind() -> None:
    """Its help is printed without importing numpy, so the verb lists the kinds itself."""
    assert set(get_args(get_type_hints(train_recode)["kind"])) == set(get_args(Kind))
