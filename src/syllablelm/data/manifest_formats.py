"""Manifests on disk: the lists of this package, fairseq, MLS, VoxPopuli, Common Voice, Kaldi, NeMo and lhotse, as rows.

A row has the columns of `Manifest.load`. What other programs call otherwise is renamed: ``audio_filepath``, ``audio``,
``wav``, ``file_name``, ``audio_file`` to path; ``ID``, ``utt_id`` to id; ``client_id``, ``speaker_id``, ``spk_id`` to
speaker; ``sentence``, ``tgt_text``, ``transcription``, ``wrd`` to text; ``gender`` to sex; ``locale``, ``lang`` to
language. A row whose recording cannot be used
as it is listed has a "fault" besides. Paths of other programs are relative to the manifest, or to the working folder.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from syllablelm.core.errors import FormatError
from syllablelm.core.files import first_keys, json_objects, text_lines
from syllablelm.data.layouts import is_mls_list, read_mls, read_voxpopuli

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row]]
"""Rows with their places ("m.csv:3")."""

_COLUMNS = {
    "path": ("audio_filepath", "audio", "wav", "file_name", "audio_file"),
    "id": ("ID", "utt_id"),
    "speaker": ("client_id", "speaker_id", "spk_id"),
    "text": ("sentence", "tgt_text", "transcription", "wrd"),
    "sex": ("gender",),
    "language": ("locale", "lang"),
}
_PATHS = {"path", *_COLUMNS["path"]}
_WRITE_OUT = "write it out as wav or flac and list that file"
_JSON = (".jsonl", ".jsonl.gz", ".json")


@dataclass(frozen=True)
class ManifestFormat:
    """A kind of manifest.

    Args:
        name: name in help texts and messages.
        suffixes: ends of the names of such files.
        read: reader.
        keys: keys of a jsonl, one of which its first row has; none where the name says all.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Rows]
    keys: frozenset[str] = frozenset()


def is_manifest(path: str | Path) -> bool:
    """Return whether a file is a manifest, by its name."""
    if is_mls_list(Path(path)):
        return True
    return Path(path).name.lower().endswith(tuple(end for format in MANIFEST_FORMATS for end in format.suffixes))


def read_rows(path: Path) -> Rows:
    """Yield the rows of a manifest; a FormatError names file and line."""
    if is_mls_list(path):
        yield from read_mls(path)
        return
    formats = [format for format in MANIFEST_FORMATS if path.name.lower().endswith(format.suffixes)]
    if not formats:
        raise FormatError(f"{path}: not a manifest; expected a .jsonl or .csv file, or one of {FOREIGN_MANIFESTS}")
    keys = (first_keys(path) or frozenset()) if len(formats) > 1 else frozenset()
    # The last one takes what no keys tell, such as an empty file.
    format = next((format for format in formats if format.keys & keys), formats[-1])
    try:
        yield from format.read(path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror or error}); check the name") from None


# Tables


def _csv(path: Path) -> Rows:
    # Carriage returns alone are the line ends of old Macs.
    lines = [part for _, text in text_lines(path) for part in text.split("\r")]
    # Spreadsheets of many countries separate by semicolons.
    head = lines[0].replace('"', "") if lines else ""
    delimiter = next((char for char in ",;\t" if _PATHS & set(head.split(char))), ",")
    line = 1
    try:
        reader = csv.reader((text + "\n" for text in lines), delimiter=delimiter, strict=True)
        columns = next(reader, [])
        _check_columns(f"{path}:1", columns)
        for fields in reader:
            # A quoted field may have lines; the last is what an editor shows beside the next row.
            line = reader.line_num
            if not "".join(fields).strip():
                continue
            if len(fields) != len(columns):
                raise FormatError(f"{path}:{line}: does not have {len(columns)} fields as line 1 does")
            yield f"{path}:{line}", _rename(dict(zip(columns, fields, strict=True)))
    except csv.Error as error:
        raise FormatError(f"{path}: not valid csv after line {line} ({error})") from error


def _tsv(path: Path) -> Rows:
    """Read a table (Common Voice, VoxPopuli, fairseq's speech-to-text), or fairseq's list: a folder, paths, samples."""
    # fairseq's lists hold the names of files, whose bytes need not be UTF-8.
    lines = ((place, text.split("\t")) for place, text in text_lines(path, errors="surrogateescape") if text.strip())
    place, columns = next(lines, (f"{path}:1", [""]))
    if len(columns) == 1:
        yield from _named(_fairseq(path, columns[0], lines))
        return
    if "id" in columns and {"raw_text", "normalized_text"} & set(columns) and not _PATHS & set(columns):
        yield from read_voxpopuli(path, columns, lines)
        return
    _check_columns(place, columns)
    yield from _named(_common_voice(path, columns, lines))


def _fairseq(path: Path, root: str, lines: Iterable[tuple[str, list[str]]]) -> Rows:
    # The root of a list that was moved with its recordings is often "." or relative.
    folder = path.absolute().parent / root
    for place, fields in lines:
        samples = fields[1].strip() if len(fields) == 2 else ""
        if not (samples.isascii() and samples.isdigit()):
            raise FormatError(f"{place}: expected a path, a tab and a number of samples, after line 1 with the folder")
        yield place, {"path": str(folder / fields[0]), "num_samples": samples} | _archived(fields[0])


def _common_voice(path: Path, columns: list[str], lines: Iterable[tuple[str, list[str]]]) -> Rows:
    for place, fields in lines:
        if len(fields) != len(columns):
            yield place, {"path": str(path), "fault": f"{place}: does not have {len(columns)} fields as line 1 does"}
            continue
        row = _rename(dict(zip(columns, fields, strict=True)))
        if "path" in row:
            row |= {"path": _locate(path.parent, row["path"], "clips", "audios")} | _archived(row["path"])
        if "text" in row:
            row["text"] = _unquote(row["text"])
        yield place, row


def _unquote(text: str) -> str:
    """Remove the quotation marks that some releases put around sentences, as csv does."""
    inner = text[1:-1].replace('""', "\0")
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in inner
    return inner.replace("\0", '"') if is_quoted else text


def _check_columns(place: str, columns: list[str]) -> None:
    twice = [name for name, count in Counter(columns).items() if count > 1 and name]
    if twice:
        raise FormatError(f"{place}: two columns are called {twice[0]!r}; remove or rename one")
    if not _PATHS & set(columns):
        raise FormatError(f"{place}: no column 'path' (found: {', '.join(columns) or 'nothing'})")


def _rename(row: Mapping[str, Any]) -> Row:
    """Return a row under the names of this package, which come first; empty fields are left out."""
    renamed = {key: value for key, value in row.items() if value not in ("", None)}
    for name, others in _COLUMNS.items():
        other = next((other for other in others if other in renamed), None)
        if name not in renamed and other is not None:
            renamed[name] = renamed.pop(other)
    return renamed


# jsonl


def _jsonl(path: Path) -> Rows:
    yield from ((place, _rename(row)) for place, row in json_objects(path))


def _nemo(path: Path) -> Rows:
    def beside(row: Row) -> Row:
        return row | {"path": _locate(path.parent, row["path"])} if isinstance(row.get("path"), str) else row

    yield from _named((place, beside(row)) for place, row in _jsonl(path))


# Kaldi


def _kaldi(path: Path) -> Rows:
    """Read wav.scp, and segments, text, utt2spk and spk2gender beside it; commands ("sox ... |") are never run."""
    audio: dict[str, tuple[str, str]] = {}
    for place, id, text in _pairs(path, errors="surrogateescape"):
        if id in audio:
            raise FormatError(f"{place}: recording {id!r} was already listed; remove one of the lines")
        audio[id] = (place, text)
    texts, speakers, sexes = (
        {id: text for _, id, text in _pairs(path.with_name(name)) if text} if path.with_name(name).is_file() else {}
        for name in ("text", "utt2spk", "spk2gender")
    )

    def describe(id: str, recording: str, place: str) -> Row:
        listed = audio.get(recording)
        about = {"id": id, "text": texts.get(id), "speaker": speakers.get(id), "sex": sexes.get(speakers.get(id, ""))}
        if listed is None:
            return about | {"path": str(path), "fault": f"{place}: recording {recording!r} is not in {path.name}"}
        source = listed[1]
        if not source or source == "-" or source.endswith("|"):
            what = "is a command, which is not run" if source.endswith("|") else "names no file"
            return about | {"path": str(path), "fault": f"{listed[0]}: recording {recording!r} {what}; {_WRITE_OUT}"}
        return about | {"path": _locate(path.parent, source)} | _archived(source)

    segments = path.with_name("segments")
    if not segments.is_file():
        yield from ((place, describe(id, id, place)) for id, (place, _) in audio.items())
        return
    for place, id, text in _pairs(segments):
        try:
            recording, start, end, *channel = text.split()
            first, last = float(start), float(end)
        except ValueError:
            raise FormatError(f"{place}: not a line 'UTTERANCE RECORDING START END'") from None
        row = describe(id, recording, place) | {"offset": first}
        # Kaldi writes -1 for the end of the recording.
        row |= {} if last < 0 else {"duration": last - first}
        if channel:
            row |= {"fault": f"{place}: utterance {id!r} is one channel of a recording; {_WRITE_OUT}"}
        yield place, row


def _pairs(path: Path, *, errors: str = "strict") -> Iterator[tuple[str, str, str]]:
    for place, line in text_lines(path, errors=errors):
        id, *text = line.split(maxsplit=1)[:2] or [""]
        if id:
            yield place, id, text[0].strip() if text else ""


def _archived(source: str) -> Row:
    """Return the fault of an entry that is part of an archive, "feats.ark:123" or "audio.zip:40:80"."""
    if re.search(r"\.\w+(:\d+)+$", source):
        return {"fault": f"{source!r} is part of an archive, not a file of its own; {_WRITE_OUT}"}
    return {}


# lhotse


def _lhotse(path: Path) -> Rows:
    """Read recordings, cuts, or supervisions with the recordings beside them, from jsonl or jsonl.gz."""
    keys = first_keys(path) or frozenset()
    if "sources" in keys:
        yield from ((place, _recording(row, path, place)) for place, row in json_objects(path))
    elif "recording_id" in keys and "type" not in keys:
        yield from _supervisions(path)
    elif "storage_path" in keys:
        raise FormatError(f"{path}: lhotse features hold no audio; give recordings, supervisions or cuts")
    else:
        yield from ((place, _cut(row, path, place)) for place, row in json_objects(path))


def _recording(row: Row, path: Path, place: str, name: str | None = None) -> Row:
    """Return the row of a recording; `name` is that of the cut or supervision that is a part of it."""
    fault = None
    try:
        sources = row["sources"]
        channels = row.get("channel_ids") or [channel for source in sources for channel in source["channels"]]
        if row.get("transforms"):
            fault = "changes the sound of its recording on the fly"
        elif len(sources) != 1 or sources[0]["type"] != "file":
            fault = "is not stored in one local file"
        elif len(channels) != 1:
            fault = f"has {len(channels)} channels"
        if fault is None:
            return {
                "id": row["id"],
                "path": _locate(path.parent, sources[0]["source"]),
                "num_samples": row["num_samples"],
                "sample_rate": row["sampling_rate"],
            }
        return _faulty(name or row["id"], path, place, f"{fault}; write it out first (CutSet.save_audios)")
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise FormatError(f"{place}: not a lhotse recording ({error})") from None


def _cut(row: Row, path: Path, place: str) -> Row:
    try:
        if row.get("type", "MonoCut") != "MonoCut":
            kind = f"is a {row['type']}, not an excerpt of one file; write it out first (CutSet.save_audios)"
            return _faulty(row["id"], path, place, kind)
        if not row.get("recording"):
            return _faulty(row["id"], path, place, "has no recording; only cuts with audio can be used")
        recording = _recording(row["recording"], path, place, row["id"])
        spoken = [part for part in row.get("supervisions") or ()]
        text = " ".join(part["text"] for part in spoken if part.get("text")) or None
        about = {"speaker": "speaker", "sex": "gender", "language": "language"}
        values = {name: {part.get(key) for part in spoken} for name, key in about.items()}
        alike = {name: one.pop() if len(one) == 1 else None for name, one in values.items()}
        return _excerpt(row, recording) | {"text": text, **alike}
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{place}: not a lhotse cut ({error})") from None


def _supervisions(path: Path) -> Rows:
    audio = path.with_name(path.name.replace("supervisions", "recordings"))
    if audio == path or not audio.is_file():
        wanted = audio.name if audio != path else "their recordings"
        raise FormatError(f"{path}: lhotse supervisions name no audio; put {wanted} beside them, or give cuts")
    recordings = {str(row.get("id")): (place, row) for place, row in json_objects(audio)}
    for place, row in json_objects(path):
        try:
            if row["recording_id"] not in recordings:
                yield place, _faulty(row["id"], path, place, f"is of a recording that is not in {audio.name}")
                continue
            from_place, recording = recordings[row["recording_id"]]
            about = {"text": row.get("text"), "speaker": row.get("speaker"), "sex": row.get("gender")}
            about["language"] = row.get("language")
            yield place, _excerpt(row, _recording(recording, audio, from_place, row["id"])) | about
        except (KeyError, TypeError) as error:
            raise FormatError(f"{place}: not a lhotse supervision ({error})") from None


def _excerpt(row: Row, recording: Row) -> Row:
    return (
        recording
        if "fault" in recording
        else {"id": row["id"], "path": recording["path"], "offset": row["start"], "duration": row["duration"]}
    )


def _faulty(id: Any, path: Path, place: str, fault: str) -> Row:
    return {"id": id, "path": str(path), "fault": f"{place}: '{id}' {fault}"}


# Names


def _locate(folder: Path, name: str, *subfolders: str) -> str:
    """Return the file of a name below the manifest's folder or a subfolder of it, or below the working folder."""
    try:
        places = [folder / name, *(folder / subfolder / name for subfolder in subfolders), Path(name)]
        found = next((place for place in places if place.exists()), folder / name)
    except OSError:
        found = folder / name
    # Absolute: the reader of manifests joins relative ones to the manifest's folder.
    return os.path.abspath(found)


def _named(rows: Iterable[tuple[str, Row]]) -> Rows:
    """Give rows without ids the names of their files; where these repeat, the paths, and the offsets of excerpts."""
    listed = list(rows)
    unnamed = [row for _, row in listed if "id" not in row and isinstance(row.get("path"), str) and "fault" not in row]
    stems = {PurePath(row["path"]).stem for row in unnamed}
    paths = {row["path"] for row in unnamed}
    repeated = len(stems) < len(paths)
    shared = Counter(row["path"] for row in unnamed)
    common = _common_folder(paths) if repeated else ""
    for row in unnamed:
        path = PurePath(row["path"])
        row["id"] = path.relative_to(common).with_suffix("").as_posix() if repeated else path.stem
        if shared[row["path"]] > 1 and isinstance(row.get("offset"), int | float):
            row["id"] += f"-{row['offset']:.3f}"
    yield from listed


def _common_folder(paths: Iterable[str]) -> PurePath:
    parents = [PurePath(path).parent.parts for path in paths]
    shortest = min(parents, key=len)
    count = next((i for i, part in enumerate(shortest) if any(other[i] != part for other in parents)), len(shortest))
    return PurePath(*shortest[:count])


MANIFEST_FORMATS = (
    ManifestFormat("csv", (".csv",), _csv),
    ManifestFormat("fairseq, VoxPopuli or Common Voice .tsv", (".tsv",), _tsv),
    ManifestFormat("Kaldi wav.scp", (".scp",), _kaldi),
    ManifestFormat("jsonl", _JSON, _jsonl, frozenset({"path"})),
    ManifestFormat("NeMo .json", _JSON, _nemo, frozenset(_COLUMNS["path"])),
    ManifestFormat("lhotse .jsonl.gz", _JSON, _lhotse, frozenset({"sources", "recording_id", "recording", "type"})),
    ManifestFormat("jsonl", _JSON, _jsonl),
)
FOREIGN_MANIFESTS = ", ".join(format.name for format in MANIFEST_FORMATS if " " in format.name)
"""Names of the manifests of other programs, for help texts and messages."""
