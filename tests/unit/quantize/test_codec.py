"""Codecs: units come back exactly, codes cover their units, damaged folders are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.artifact import new_artifact
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.quantize.codec import CODEC_FILE, KIND, Codec, Kind, fit_codec

UNITS, SEEN = 12, 8


def recording(units: list[int], seed: int = 0, gaps: bool = False) -> Segmentation:
    """Units of 1 to 6 frames, with gaps between some."""
    rng = np.random.default_rng(seed)
    length, gap = rng.integers(1, 7, size=len(units)), rng.integers(0, 3, size=len(units)) * gaps
    end = np.cumsum(length + gap)
    total = int(end[-1]) + 4 if len(units) else 4
    return Segmentation((end - length).astype(np.int32), end.astype(np.int32), np.array(units, dtype=np.int32), total)


def corpus() -> list[Segmentation]:
    rng = np.random.default_rng(1)
    words = [rng.integers(0, SEEN, size=rng.integers(2, 5)).tolist() for _ in range(10)]
    return [recording([u for w in rng.integers(0, 10, size=15) for u in words[w]], seed) for seed in range(50)]


CODECS = {
    (kind, merge): fit_codec(corpus(), kind, UNITS, 40, deduplicate=merge, tokenizer="abc")
    for kind in ("bpe", "unigram")
    for merge in (True, False)
} | {("runs", True): fit_codec(corpus(), "runs", UNITS, tokenizer="abc")}

some_units = st.lists(st.integers(0, UNITS - 1), max_size=40)


@pytest.mark.parametrize(("kind", "merge"), CODECS)
@given(some_units, st.integers(0, 5), st.booleans())
def test_units_come_back_and_codes_cover_them(kind: Kind, merge: bool, units: list[int], seed: int, gaps: bool) -> None:
    codec, given_units = CODECS[kind, merge], recording(units, seed, gaps)
    fine = given_units.deduplicate() if merge else given_units
    assert fine.unit is not None
    coarse = codec.encode(given_units)
    back = codec.decode(coarse)
    assert coarse.unit is not None and back.unit is not None
    assert back.unit.tolist() == fine.unit.tolist()
    assert (coarse.num_frames, coarse.hop, coarse.sample_rate) == (fine.num_frames, fine.hop, fine.sample_rate)
    # Every code begins and ends with units of its own, none is left out.
    sizes = [1] * len(coarse) if codec.subwords is None else codec.subwords.lengths[coarse.unit].tolist()
    first = 0
    for place, size in enumerate(sizes):
        assert coarse.start[place] == fine.start[first] == back.start[first]
        assert coarse.end[place] == fine.end[first + size - 1] == back.end[first + size - 1]
        first += size
    assert first == len(fine)
    assert codec.encode(back) == coarse, "the same codes from the units as they came back"


def test_kinds_and_rates() -> None:
    whole = corpus()
    runs, bpe, unigram = (CODECS[kind, True] for kind in ("runs", "bpe", "unigram"))
    assert [runs.encode(one) for one in whole] == [one.deduplicate() for one in whole]
    assert (runs.kind, runs.num_codes, bpe.kind, unigram.kind) == ("runs", UNITS, "bpe", "unigram")
    counts = [sum(len(codec.encode(one)) for one in whole) for codec in (runs, bpe, unigram)]
    assert max(counts[1:]) < 0.6 * counts[0] < 0.6 * sum(map(len, whole))
    # A unit that was never seen keeps its number.
    assert bpe.encode(recording([SEEN + 2])).unit.tolist() == [SEEN + 2]


def test_gaps_stay_where_no_code_runs_over_them() -> None:
    codec = Codec(UNITS, CODECS["bpe", True].subwords)
    units = recording([9, 10, 9], gaps=True, seed=3)
    assert codec.decode(codec.encode(units)) == units


@pytest.mark.parametrize(("kind", "merge"), CODECS)
def test_saved_and_loaded(tmp_path: Path, kind: Kind, merge: bool) -> None:
    codec = CODECS[kind, merge]
    with new_artifact(tmp_path / "codec", KIND, config={}, seed=0, parents={}, metrics={}) as folder:
        codec.write_payload(folder)
    again = Codec.load(tmp_path / "codec")
    assert again == codec and again.digest == codec.digest
    other = fit_codec(corpus(), kind, UNITS, 40 if kind != "runs" else None, deduplicate=merge, tokenizer="other")
    assert other.digest != codec.digest, "the tokenizer is a part of it"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"num_units": 11},
        {"num_units": "x"},
        {"pieces": {"method": "bpe"}},
        {"pieces": None, "merge_repeats": False},
    ],
)
def test_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    with new_artifact(tmp_path / "codec", KIND, config={}, seed=0, parents={}, metrics={}) as folder:
        CODECS["bpe", True].write_payload(folder)
    file = tmp_path / "codec" / CODEC_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(FormatError, match=CODEC_FILE):
        Codec.load(tmp_path / "codec")
    file.write_text("no json")
    with pytest.raises(FormatError, match=CODEC_FILE):
        Codec.load(tmp_path / "codec")


def test_refusals() -> None:
    codec = CODECS["bpe", True]
    with pytest.raises(InputError, match="unit 12 is outside the 12 units"):
        codec.encode(recording([3, 12]))
    with pytest.raises(InputError, match="frames of 160 samples"):
        codec.encode(Segmentation.from_boundaries([0, 2], unit=[1], hop=160))
    with pytest.raises(InputError, match="boundaries without units"):
        codec.encode(Segmentation.from_boundaries([0, 2]))
    with pytest.raises(InputError, match="outside the 40 codes"):
        codec.decode(recording([40]))
    with pytest.raises(InputError, match=r"stands for . units but lasts 1 frames"):
        codec.decode(Segmentation.from_boundaries([0, 1], unit=[39]))
    with pytest.raises(InputError, match="of one frame grid"):
        fit_codec([recording([1]), Segmentation.from_boundaries([0, 2], unit=[1], hop=160)], "runs", 4)
    with pytest.raises(InputError, match="unit 9 is outside the 4 units"):
        fit_codec([recording([9])], "bpe", 4)
    with pytest.raises(InputError, match="changes nothing"):
        Codec(4, None, deduplicate=False)
