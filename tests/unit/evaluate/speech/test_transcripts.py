"""Listening in order, and blocks that are made once."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.core.errors import FormatError, InputError
from syllablelm.evaluate.speech import recognizers as recognize
from syllablelm.evaluate.speech.transcripts import BlockStore, Listener


class Fake:
    name = "fake"

    def transcribe(self, waveform):
        return f"{len(waveform)} samples"


def test_listening_keeps_the_order(monkeypatch):
    monkeypatch.setattr(recognize, "load_recognizer", lambda name, device: Fake())
    with Listener("fake") as listener:
        assert list(listener.hear(np.zeros(n, np.float32) for n in (3, 1, 2))) == [
            "3 samples",
            "1 samples",
            "2 samples",
        ]
    with pytest.raises(InputError, match="workers 0"):
        Listener("fake", workers=0)


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


@pytest.mark.slow
def test_pocketsphinx_hears_the_same_whoever_listens_and_whatever_came_before():
    pytest.importorskip("pocketsphinx")
    from syllablelm.core.models import BUNDLED
    from syllablelm.data.audio import load_audio

    wave = load_audio(BUNDLED / "sample.flac")[:48_000]
    waves = [wave, wave * 0.1, wave[::-1].copy(), wave]
    with Listener("pocketsphinx") as alone, Listener("pocketsphinx", workers=2) as several:
        one, other = list(alone.hear(waves)), list(several.hear(waves))
    assert one == other
    assert one[0] == one[3]
