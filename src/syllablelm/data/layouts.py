"""Folders of public corpora in many languages, whose lists give texts, speakers and languages.

* Multilingual LibriSpeech: ``mls_german/train/transcripts.txt``, ``audio/SPEAKER/BOOK/SPEAKER_BOOK_NUMBER.flac`` or
  ``.opus`` beside it, ``metainfo.txt`` above it.
* VoxPopuli: ``transcribed_data/LANG/asr_train.tsv`` and ``YEAR/*.ogg`` beside it; ``raw_audios/LANG/YEAR/*.ogg`` and
  ``unlabelled_data/LANG/YEAR/*.ogg`` have no lists.
* Common Voice: ``validated.tsv`` and ``clips/*.mp3``; of spontaneous speech ``ss-corpus-LANG.tsv`` and
  ``audios/*.mp3``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from syllablelm.core.files import text_lines

MLS_LIST = "transcripts.txt"
_MLS_SUFFIXES, _VOXPOPULI_SUFFIXES = (".flac", ".opus"), (".ogg", ".flac", ".wav")
# Folder beside a list, by the pattern of the list's name; VoxPopuli's has one of each year.
_LISTS = {MLS_LIST: "audio", "asr_*.tsv": "[12][0-9][0-9][0-9]", "validated.tsv": "clips", "ss-corpus-*.tsv": "audios"}
# In place of a validated.tsv that is not there.
_SPLITS = ("train.tsv", "dev.tsv", "test.tsv")


def is_mls_list(path: Path) -> bool:
    """Return whether a file is the list of Multilingual LibriSpeech, beside its audio."""
    return path.name == MLS_LIST and path.with_name("audio").is_dir()


def find_lists(folder: Path) -> list[Path]:
    """Return the lists of a folder in one of the layouts, at most two folders deep; none in other folders."""
    found: list[Path] = []
    for name, beside in _LISTS.items():
        for depth in ("", "*/", "*/*/"):
            found += [path for path in sorted(folder.glob(depth + name)) if any(path.parent.glob(beside))]
    if not found and (folder / "clips").is_dir():
        found = [folder / name for name in _SPLITS if (folder / name).is_file()]
    return found


def raw_language(path: Path) -> str | None:
    """Return the language of a recording of VoxPopuli that no list names, by its folder; None for other recordings."""
    parts = path.parts
    return parts[-3] if len(parts) >= 4 and parts[-4] in ("raw_audios", "unlabelled_data") else None


def read_mls(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a list of Multilingual LibriSpeech, lines "SPEAKER_BOOK_NUMBER TEXT", with their places."""
    folder = path.absolute().parent
    language = next((part[4:].removesuffix("_opus") for part in folder.parts[:-3:-1] if part.startswith("mls_")), None)
    sexes: dict[str, str] = {}
    for about in (folder.parent / "metainfo.txt", folder / "metainfo.txt"):
        if about.is_file():
            rows = [[field.strip() for field in line.split("|")] for _, line in text_lines(about)]
            sexes = {row[0]: row[1] for row in rows if len(row) > 2}
    for place, line in text_lines(path):
        id, *text = line.split(maxsplit=1)[:2] or [""]
        if not id:
            continue
        speaker, _, rest = id.partition("_")
        book = rest.partition("_")[0]
        if not re.fullmatch(r"[^_]+_[^_]+_[^_]+", id):
            yield place, {"path": str(path), "fault": f"{place}: not a line 'SPEAKER_BOOK_NUMBER TEXT'"}
            continue
        audio = _existing(folder / "audio" / speaker / book, id, _MLS_SUFFIXES)
        about = {"speaker": speaker, "sex": sexes.get(speaker), "language": language}
        yield place, {"id": id, "path": str(audio), "text": text[0].strip() if text else None, **about}


def read_voxpopuli(
    path: Path, columns: Sequence[str], lines: Iterator[tuple[str, list[str]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a list of VoxPopuli: the text is the normalised one where there is one."""
    folder = path.absolute().parent
    for place, fields in lines:
        if len(fields) != len(columns):
            yield place, {"path": str(path), "fault": f"{place}: does not have {len(columns)} fields as line 1 does"}
            continue
        # Unknown speakers are written as Python prints them.
        row = {key: value for key, value in zip(columns, fields, strict=True) if value not in ("", "None")}
        id = row.get("id", "")
        about = {"speaker": row.get("speaker_id"), "sex": row.get("gender"), "language": folder.name}
        text = row.get("normalized_text") or row.get("raw_text")
        yield (
            place,
            {"id": id, "path": str(_existing(path.parent / id[:4], id, _VOXPOPULI_SUFFIXES)), "text": text, **about},
        )


def _existing(folder: Path, id: str, suffixes: Sequence[str]) -> Path:
    paths = [folder / f"{id}{suffix}" for suffix in suffixes]
    return next((path for path in paths if path.exists()), paths[0])
