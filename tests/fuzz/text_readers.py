"""Fuzzed readers of alignments, texts and lists of items."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fuzz.registry import READERS, Read, Reader, sample


def _read_alignments(path: Path) -> None:
    from syllablelm.data.alignment import read_alignments

    for name, alignment in read_alignments(path).items():
        assert name == alignment.id and alignment.duration >= 0
        assert all(0 <= word.start <= word.end for word in alignment.words)


def small_alignment() -> Any:
    from syllablelm.data.alignment import Alignment, Interval, Word

    phones = (Interval("B", 0.1, 0.2), Interval("AA1", 0.2, 0.4))
    return Alignment("a", 1.0, (Word("bah", 0.1, 0.4, phones), Word("baa", 0.5, 0.8, (Interval("AA0", 0.5, 0.8),))))


@sample("alignments-jsonl", _read_alignments)
def _aligned(folder: Path) -> Path:
    from syllablelm.data.alignment import write_alignments

    write_alignments([small_alignment()], folder / "a.jsonl")
    return folder / "a.jsonl"


@sample("alignments-textgrid", _read_alignments)
def _textgrid(folder: Path) -> Path:
    tiers = {"words": [(0.0, 0.5, "bah"), (0.5, 1.0, "")], "phones": [(0.0, 0.2, "B"), (0.2, 0.5, "AA1"), (0.5, 1, "")]}
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 1", "tiers? <exists>"]
    lines += [f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        lines += [f"  item [{number}]:", '    class = "IntervalTier"', f'    name = "{name}"', "    xmin = 0"]
        lines += ["    xmax = 1", f"    intervals: size = {len(intervals)}"]
        for place, (start, end, label) in enumerate(intervals, start=1):
            lines += [f"    intervals [{place}]:", f"      xmin = {start}", f"      xmax = {end}"]
            lines += [f'      text = "{label}"']
    (folder / "a.TextGrid").write_text("\n".join(lines) + "\n")
    return folder / "a.TextGrid"


@sample("alignments-ctm", _read_alignments)
def _ctm(folder: Path) -> Path:
    (folder / "a.ctm").write_text("a 1 0.00 0.20 B\na 1 0.20 0.30 AA1\nb 1 0.00 0.40 AA0\n")
    return folder / "a.ctm"


def _text_reader(module: str, function: str) -> Read:
    def read(path: Path) -> None:
        from pkgutil import resolve_name

        found = resolve_name(f"syllablelm.{module}:{function}")(path)
        assert found is not None
        if not isinstance(found, Mapping | list):
            list(found) if hasattr(found, "__iter__") else None

    return read


_TEXTS = {
    "texts": ("data.texts", "read_texts", "a.txt", "He went up the hill again. Then, later on, he came down.\n" * 3),
    "dictionary": ("itemsets.pronunciations", "read_dictionary", "a.dict", "GO  G OW1\nON  AA1 N\nON(2)  AO1 N\n"),
    "overrides": ("core.config", "read_toml", "a.toml", 'a = 1\n[b]\nc = [1.5, "x"]\n'),
}
for _name, (_module, _function, _file, _content) in _TEXTS.items():

    def _write_text(folder: Path, file: str = _file, content: str = _content) -> Path:
        (folder / file).write_text(content)
        return folder / file

    READERS[f"text-{_name}"] = Reader(_write_text, _text_reader(_module, _function))


@sample("sentences-archive", _text_reader("itemsets.sentences", "read_sentences"))
def _blimp(folder: Path) -> Path:
    import tarfile

    row = {"sentence_good": "He goes.", "sentence_bad": "He go.", "field": "syntax", "linguistics_term": "agreement"}
    row |= {"UID": "agreement_1", "pairID": "0", "simple_LM_method": True, "lexically_identical": False}
    (folder / "a.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps({**row, 'pairID': '1'})}\n")
    with tarfile.open(folder / "pairs.tar.gz", "w:gz") as archive:
        archive.add(folder / "a.jsonl", "blimp/a.jsonl")
    (folder / "a.jsonl").unlink()
    return folder / "pairs.tar.gz"


def _read_gold(path: Path) -> None:
    from syllablelm.evaluate.lm.suites import read_lexical

    assert len(read_lexical(path)) == 1


@sample("items-lexical", _read_gold)
def _gold(folder: Path) -> Path:
    rows = "id,filename,voice,frequency,length,correct\n0,a_w,v,3,4,1\n0,a_n,v,,4,0\n"
    (folder / "gold.csv").write_text(rows)
    for name in ("a_w", "a_n"):
        (folder / f"{name}.wav").write_bytes(b"")
    return folder
