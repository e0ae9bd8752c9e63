"""Blocks of rows that are made once."""

from __future__ import annotations

import pytest

from syllablelm.core.errors import FormatError
from syllablelm.evaluate.block_store import BlockStore


def rows_of(store, ids, made):
    def make(first, last):
        made.append((first, last))
        return [{"id": id, "value": 2 * int(id)} for id in ids[first:last]]

    return [row["value"] for row in store.rows(ids, make)]


def test_blocks_are_made_once(tmp_path):
    ids, made = list("01234"), []
    for _ in range(2):
        assert rows_of(BlockStore(tmp_path, "x", {"a": (1, 2)}, 2), ids, made) == [0, 2, 4, 6, 8]
    assert made == [(0, 2), (2, 4), (4, 5)]
    rows_of(BlockStore(tmp_path, "x", {"a": (1, 3)}, 2), ids, made)
    assert len(made) == 6


def test_a_stopped_run_keeps_whole_blocks_only(tmp_path):
    def stops(first, last):
        yield {"id": str(first)}
        if first == 2:
            raise KeyboardInterrupt
        yield {"id": str(first + 1)}

    store = BlockStore(tmp_path, "x", {}, 2)
    with pytest.raises(KeyboardInterrupt):
        list(store.rows(list("0123"), stops))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["00000.json"]


@pytest.mark.parametrize("content", ["", "{}", '{"facts": {}, "rows": [{"id": "9"}]}'])
def test_a_foreign_block_is_refused(tmp_path, content):
    store = BlockStore(tmp_path, "x", {}, 2)
    rows_of(store, ["0"], [])
    (path,) = (path for path in tmp_path.rglob("*.json"))
    path.write_text(content)
    with pytest.raises(FormatError, match="remove it"):
        rows_of(store, ["0"], [])


def test_a_block_with_a_fault_is_not_kept(tmp_path):
    store = BlockStore(tmp_path, "x", {}, 1)
    fault = [{"id": "0", "fault": "unreadable"}]
    assert list(store.rows(["0"], lambda first, last: fault)) == fault
    assert rows_of(store, ["0"], []) == [0]
    store.remove()
    assert list(tmp_path.iterdir()) == []
