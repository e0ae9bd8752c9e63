"""Minimal pairs of sentences, from archives and folders."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from syllablelm.core.errors import FormatError, InputError
from syllablelm.itemsets.sentences import make_minimal_pairs

VOICES = ("a", "b")


def blimp_rows(paradigm: str, count: int = 5) -> str:
    rows = [
        {
            "sentence_good": f"Good {i}.",
            "sentence_bad": f"Bad {i}.",
            "linguistics_term": "p",
            "UID": paradigm,
            "pairID": str(i),
        }
        for i in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_minimal_pairs_from_archive_and_folder(tmp_path: Path) -> None:
    folder = tmp_path / "blimp"
    folder.mkdir()
    with tarfile.open(tmp_path / "blimp.tar.gz", "w:gz") as archive:
        for name in ("x", "y"):
            (folder / f"{name}.jsonl").write_text(blimp_rows(name), encoding="utf-8")
            data = blimp_rows(name).encode()
            info = tarfile.TarInfo(f"blimp/{name}.jsonl")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            archive.addfile(tarfile.TarInfo(f"blimp/._{name}.jsonl"))
            (folder / f"._{name}.jsonl").write_bytes(b"\0\5\x16\7")
    packed, plain = (
        make_minimal_pairs(path, voices=VOICES, per_paradigm=3) for path in (tmp_path / "blimp.tar.gz", folder)
    )
    assert packed.clips == plain.clips
    assert Counter(clip.about["subtype"] for clip in packed.clips) == {"x": 6, "y": 6}
    assert len({(clip.pair, clip.voice) for clip in packed.clips}) == 6
    few = make_minimal_pairs(folder, voices=VOICES, per_paradigm=3, limit=2)
    assert Counter(clip.about["subtype"] for clip in few.clips) == {"x": 2, "y": 2}
    assert make_minimal_pairs(folder, voices=VOICES, per_paradigm=3, seed=1).clips != plain.clips


def test_bad_blimp(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"sentence_good": "x"}\n', encoding="utf-8")
    with pytest.raises(FormatError, match=r"a\.jsonl:1: no 'sentence_bad'"):
        make_minimal_pairs(path, voices=VOICES)
    path.write_text("", encoding="utf-8")
    with pytest.raises(FormatError, match="no pairs"):
        make_minimal_pairs(path, voices=VOICES)
    broken = tmp_path / "b.tar.gz"
    broken.write_bytes(b"nothing")
    with pytest.raises(FormatError, match="not a readable"):
        make_minimal_pairs(broken, voices=VOICES)
    with tarfile.open(broken, "w:gz") as archive:
        info = tarfile.TarInfo("a.jsonl")
        info.size = 100_000
        archive.addfile(info, io.BytesIO(b"[" * info.size))
    with pytest.raises(FormatError, match="not a readable"):
        make_minimal_pairs(broken, voices=VOICES)
    with pytest.raises(InputError, match="no such file"):
        make_minimal_pairs(tmp_path / "gone", voices=VOICES)
