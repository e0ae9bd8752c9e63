"""open-minimal-pairs: pairs of sentences of BLiMP, spoken, by phenomenon.

BLiMP (Warstadt et al. 2020, doi:10.1162/tacl_a_00321) has 67 paradigms of 1,000 pairs, one jsonl file each, in 12
phenomena (the files name 13). A line has ``sentence_good``, ``sentence_bad``, ``linguistics_term`` (the phenomenon),
``UID`` (the paradigm) and ``pairID``.
"""

from __future__ import annotations

import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import find_files, json_lines, read_each
from syllablelm.itemsets.speak import Clip, ItemSet, Source, SpokenSet, prepare_set

NAME = "open-minimal-pairs"
COLUMNS = ("type", "subtype", "transcription")
LICENCE = "BLiMP: CC-BY-4.0 (Warstadt et al. 2020)"
_FIELDS = ("sentence_good", "sentence_bad", "linguistics_term", "UID", "pairID")


class SentencePair(NamedTuple):
    """A grammatical sentence and its ungrammatical counterpart."""

    good: str
    bad: str
    phenomenon: str
    paradigm: str
    number: str


def prepare_minimal_pairs(blimp: str | Path, out: str | Path, **options: Any) -> SpokenSet:
    """Speak pairs of sentences of BLiMP into a folder for ``evaluate syntactic``, or resume one.

    `options` are those of `make_minimal_pairs` and `prepare_set`: per_paradigm, limit, seed, engine, voices, ...
    """
    return prepare_set(partial(make_minimal_pairs, Path(blimp)), out, **options)


def make_minimal_pairs(
    path: Path,
    *,
    voices: Sequence[str],
    per_paradigm: int = 20,
    limit: int | None = None,
    seed: int = 0,
    licence: str | None = None,
) -> ItemSet:
    """Draw pairs from every paradigm; each pair gets one voice, drawn as well.

    Args:
        path: BLiMP's ``.tar.gz``, a folder with its jsonl files, or one of them.
        voices, seed, licence: voices to draw from, random seed, licence of the sentences (None: that of BLiMP).
        per_paradigm: number of pairs per paradigm; all of a paradigm that has fewer.
        limit: maximum number of pairs, spread evenly over the paradigms.
    """
    rng = np.random.default_rng(seed)
    paradigms: dict[str, list[SentencePair]] = {}
    for pair in read_sentences(path):
        # Pairs that sound the same (Who's, Whose) are found only after they are spoken.
        if pair.good != pair.bad:
            paradigms.setdefault(pair.paradigm, []).append(pair)
    drawn: list[tuple[int, SentencePair]] = []
    for _, pairs in sorted(paradigms.items()):
        pairs.sort(key=lambda pair: (pair.number, pair.good, pair.bad))
        drawn += enumerate(pairs[i] for i in rng.permutation(len(pairs))[:per_paradigm].tolist())
    drawn.sort(key=lambda item: item[0])
    chosen = sorted((pair for _, pair in drawn[:limit]), key=lambda pair: (pair.paradigm, pair.number))
    clips = tuple(clip for pair in chosen for clip in _clips(pair, voices[int(rng.integers(len(voices)))]))
    options = {"per_paradigm": per_paradigm, "limit": limit, "seed": seed}
    measures = {"phenomena": len({pair.phenomenon for pair in chosen}), "paradigms": len({p.paradigm for p in chosen})}
    sources = (Source.of(path, licence or LICENCE),)
    return ItemSet(NAME, "syntactic/dev", COLUMNS, clips, sources, options, measures)


def read_sentences(path: Path) -> Iterator[SentencePair]:
    """Yield the pairs of an archive, a folder or a file; see `make_minimal_pairs`."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    found = False
    for place, row in _rows(path):
        missing = [field for field in _FIELDS if not isinstance(row, dict) or field not in row]
        if missing:
            raise FormatError(f"{place}: no {missing[0]!r}; a line of BLiMP has {', '.join(_FIELDS)}")
        found = True
        yield SentencePair(*(str(row[field]) for field in _FIELDS))
    if not found:
        raise FormatError(f"{path}: no pairs; give BLiMP's .tar.gz or the folder with its .jsonl files")


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    if path.is_dir() or path.suffix == ".jsonl":
        yield from read_each(path, find_files(path, (".jsonl",)), json_lines)
        return
    try:
        # Read member by member: nothing is unpacked to disk.
        with tarfile.open(path) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                # Macs add ._NAME.jsonl.
                wanted = member.isfile() and member.name.endswith(".jsonl") and "/." not in f"/{member.name}"
                stream = archive.extractfile(member) if wanted else None
                for number, line in enumerate(stream or (), start=1):
                    if line.strip():
                        yield f"{path}:{member.name}:{number}", json.loads(line)
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not a readable .tar.gz of jsonl files ({error})") from None


def _clips(pair: SentencePair, voice: str) -> tuple[Clip, Clip]:
    number = pair.number.zfill(3)

    def clip(kind: str, text: str) -> Clip:
        about = {"type": pair.phenomenon, "subtype": pair.paradigm, "transcription": text}
        stem = re.sub(r"[^\w.+-]+", "_", f"{pair.paradigm}-{number}-{kind}")
        return Clip(stem, f"{pair.paradigm}-{number}", kind == "good", voice, text, about)

    return clip("good", pair.good), clip("bad", pair.bad)
