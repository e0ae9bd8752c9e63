"""Token stores: what goes in comes out, and nothing foreign goes in."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.store import FRAMES_FILE, INFO_FILE, OFFSETS_FILE, TOKENS_FILE, TokenInfo, TokenStore, token_frames


def test_saved_and_mapped_store_holds_the_same(tmp_path, store):
    store.save(tmp_path)
    mapped = TokenStore.open(tmp_path)
    assert mapped.info == store.info
    assert isinstance(mapped.tokens, np.memmap)
    assert len(mapped) == len(store)
    for index in range(len(store)):
        for ours, theirs in zip(mapped[index], store[index], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_durations_cover_gaps_and_the_end_but_not_the_start():
    seg = Segmentation(np.array([2, 5, 10]), np.array([4, 9, 12]), np.array([0, 1, 2]), 20)
    assert token_frames(seg).tolist() == [3, 5, 10]


def test_seconds_are_those_of_the_recordings(store, recordings):
    assert store.seconds == pytest.approx(sum(seg.duration for _, seg in recordings))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (Segmentation.from_boundaries([0, 3]), "without units"),
        (Segmentation.from_boundaries([0, 3], unit=[30]), "unit 30 is outside the vocabulary of 30"),
        (Segmentation.from_boundaries([0, 3], unit=[1], hop=640), "640 samples"),
    ],
)
def test_foreign_units_are_refused_by_name(segmentation, message):
    with pytest.raises(InputError, match=message) as error:
        TokenStore.from_segmentations([("talk7", segmentation)], TokenInfo(30))
    assert "talk7" in str(error.value)


def test_no_units_at_all():
    empty = Segmentation.from_boundaries([], unit=[])
    with pytest.raises(InputError, match="no units at all"):
        TokenStore.from_segmentations([("a", empty)], TokenInfo(30))


@pytest.mark.parametrize("name", [INFO_FILE, TOKENS_FILE, OFFSETS_FILE])
def test_damaged_files_are_named(tmp_path, store, name):
    store.save(tmp_path)
    (tmp_path / name).write_bytes(b"\x80\x04nonsense")
    with pytest.raises(FormatError, match=str(tmp_path)):
        TokenStore.open(tmp_path)


def test_pickled_arrays_are_not_opened(tmp_path, store):
    store.save(tmp_path)
    np.save(tmp_path / TOKENS_FILE, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match=f"{TOKENS_FILE}: .* a pickle of Python objects"):
        TokenStore.open(tmp_path)


def test_offsets_that_do_not_fit_are_refused(tmp_path, store):
    store.save(tmp_path)
    np.save(tmp_path / OFFSETS_FILE, store.offsets[:-1])
    with pytest.raises(FormatError, match="offsets"):
        TokenStore.open(tmp_path)


@pytest.mark.parametrize("odd", [-1, 2**63 - 1])
def test_durations_that_are_none_are_refused(tmp_path, store, odd):
    store.save(tmp_path)
    frames = store.frames.astype(np.int64)
    frames[0] = odd
    np.save(tmp_path / FRAMES_FILE, frames)
    with pytest.raises(FormatError, match=f"{FRAMES_FILE}: holds durations that are none"):
        TokenStore.open(tmp_path)


def test_part_of_a_store(store):
    few, more = store.limited(500, seed=1), store.limited(1500, seed=1)
    for part, limit in ((few, 500), (more, 1500)):
        assert limit - max(np.diff(store.offsets)) < len(part.tokens) <= limit
        assert part.info == store.info
    whole, large, small = ([part[i][0].tobytes() for i in range(len(part))] for part in (store, more, few))
    # In the store's order, and the smaller one within the larger.
    assert large == [row for row in whole if row in set(large)]
    assert set(small) < set(large)
    assert store.limited(500, seed=2).tokens.tolist() != few.tokens.tolist()
    assert store.limited(len(store.tokens), seed=0) is store
    with pytest.raises(InputError, match="less than one recording"):
        store.limited(1, seed=0)


def test_written_row_by_row_as_at_once(tmp_path):
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 30, size) for size in (5, 0, 1, 400, 0)]
    frames = [rng.integers(1, 90, len(row)).astype(np.int32) for row in rows]
    for info in (TokenInfo(30), TokenInfo(1 << 17)):
        (a := tmp_path / f"{info.num_tokens}a").mkdir()
        (b := tmp_path / f"{info.num_tokens}b").mkdir()
        kept = [index for index, row in enumerate(rows) if len(row)]
        TokenStore.from_arrays([rows[index] for index in kept], [frames[index] for index in kept], info).save(a)
        found = TokenStore.write(b, zip(rows, frames, strict=True), info)
        assert {file.name: file.read_bytes() for file in a.iterdir()} == {f.name: f.read_bytes() for f in b.iterdir()}
        assert len(found) == 3 and found.tokens.dtype == (np.uint16 if info.num_tokens == 30 else np.int32)
    with pytest.raises(InputError, match="no units at all"):
        TokenStore.write(tmp_path, iter([]), TokenInfo(30))
