"""Manifests: ordered lists of recordings with unique ids, stored in a jsonl or csv file."""

from __future__ import annotations

import json
import math
import os
import reprlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, overload

import numpy as np

from syllablelm.core.artifact import digest_path
from syllablelm.core.errors import AudioError, FormatError, InputError, and_more
from syllablelm.core.files import write_json_lines, write_text
from syllablelm.core.results import read_json
from syllablelm.data.audio import FloatArray, audio_info, check_audio, load_audio
from syllablelm.data.manifest_formats import read_rows

Part = Literal["speaker", "recording"]
# Seconds by which a header may disagree with a stated duration (rounded, or padded by a codec).
_DURATION_SLACK = 0.1
# Columns of whole numbers, and the least value of each.
_INTEGERS = {"num_samples": 1, "sample_rate": 1, "start": 0}
# Columns of metadata.
_ABOUT = ("speaker", "text", "sex", "language")


@dataclass(frozen=True)
class Recording:
    """One recording, or an excerpt of a file.

    Args:
        id: unique within a manifest, not empty.
        path: the audio file.
        num_samples: length in samples at the file's own rate.
        sample_rate: the file's own rate.
        start: first sample of the excerpt, at the file's own rate.
        speaker, text, sex, language: metadata of the corpus, or None.
    """

    id: str
    path: Path
    num_samples: int
    sample_rate: int
    start: int = 0
    speaker: str | None = None
    text: str | None = None
    sex: str | None = None
    language: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if not self.id:
            raise InputError(f"{self.path}: a recording needs an id that is not empty")
        if self.num_samples < 1 or self.sample_rate < 1 or self.start < 0:
            raise InputError(f"recording {self.id}: num_samples and sample_rate must be positive, start not negative")

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate

    def load(self) -> FloatArray:
        """Return the samples, (num_samples,) float32 at 16 kHz, mono; raises AudioError as `load_audio`."""
        return load_audio(self.path, start=self.start, stop=self.start + self.num_samples)


class Manifest(Sequence[Recording]):
    """An immutable sequence of recordings with unique ids (otherwise InputError); a slice of it is a Manifest."""

    def __init__(self, recordings: Iterable[Recording] = ()) -> None:
        self._recordings = tuple(recordings)
        twice = [id for id, count in Counter(recording.id for recording in self._recordings).items() if count > 1]
        if twice:
            raise InputError(f"two recordings have the id '{twice[0]}'{and_more(len(twice))}; ids must be unique")

    def __len__(self) -> int:
        return len(self._recordings)

    @overload
    def __getitem__(self, index: int) -> Recording: ...
    @overload
    def __getitem__(self, index: slice) -> Manifest: ...
    def __getitem__(self, index: int | slice) -> Recording | Manifest:
        chosen = self._recordings[index]
        return chosen if isinstance(chosen, Recording) else Manifest(chosen)

    def __iter__(self) -> Iterator[Recording]:
        return iter(self._recordings)

    def __eq__(self, other: object) -> bool:
        return self._recordings == other._recordings if isinstance(other, Manifest) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._recordings)

    def __repr__(self) -> str:
        return f"Manifest({len(self)} recordings, {self.total_seconds:.1f} s)"

    @property
    def total_seconds(self) -> float:
        """Total length of the recordings in seconds."""
        return math.fsum(recording.seconds for recording in self)

    def filter(self, keep: Callable[[Recording], bool]) -> Manifest:
        """Return the recordings for which `keep` is true, in order."""
        return Manifest(recording for recording in self if keep(recording))

    def subset(self, ids: Iterable[str]) -> Manifest:
        """Return the recordings with these ids, in the order of `ids`; an unknown or repeated id is an InputError."""
        by_id = {recording.id: recording for recording in self}
        wanted = list(ids)
        unknown = [id for id in wanted if id not in by_id]
        if unknown:
            raise InputError(
                f"no recording has the id '{unknown[0]}' ({len(unknown)} of {len(wanted)} ids are unknown)"
            )
        return Manifest(by_id[id] for id in wanted)

    def contents(self, known: str | os.PathLike[str] | None = None) -> dict[str, tuple[str, int, int]]:
        """Return the identity of each recording's audio by id: digest of its file, first sample, number of samples.

        Every file is read once; FormatError if one is missing.

        Args:
            known: JSON file that keeps the digests: with it, only files whose size or time of modification changed are
                read again. It is written where it is missing, and may be removed at any time.
        """
        states = _read_states(known)
        paths = list(dict.fromkeys(os.path.abspath(recording.path) for recording in self))

        with ThreadPoolExecutor() as pool:
            found = dict(zip(paths, pool.map(file_state, paths, map(states.get, paths)), strict=True))
        if known is not None and any(states.get(path) != state for path, state in found.items()):
            write_text(Path(known), json.dumps(states | found) + "\n")
        return {r.id: (found[os.path.abspath(r.path)].digest, r.start, r.num_samples) for r in self}

    def sample(self, hours: float, *, by: Part = "recording", seed: int = 0) -> Manifest:
        """Return a random part of at most `hours`, in the manifest's order.

        Recordings, or speakers with all their recordings, are drawn until the next one does not fit; with the same seed
        a smaller draw is part of a larger one.

        Args:
            by, seed: as of `split`.

        Raises:
            InputError: the manifest is shorter, the first one drawn is longer, or a recording without a speaker.
        """
        keys, names = self._keys(by)
        seconds = dict.fromkeys(names, 0.0)
        for recording, key in zip(self, keys, strict=True):
            seconds[key] += recording.seconds
        if not 0 < hours <= self.total_seconds / 3600:
            raise InputError(f"cannot draw {hours:g} h from {self.total_seconds / 3600:.2f} h; take 0 to all of it")
        order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
        count = int(np.searchsorted(np.cumsum([seconds[name] for name in order]), 3600 * hours + 1e-6, side="right"))
        if count == 0:
            raise InputError(f"{hours:g} h: less than the first {by} drawn, of {seconds[order[0]] / 3600:.2f} h")
        chosen = set(order[:count])
        return Manifest(recording for recording, key in zip(self, keys, strict=True) if key in chosen)

    def split(self, held_out: int, *, by: Part = "speaker", seed: int = 0) -> tuple[Manifest, Manifest]:
        """Hold out a random part; return the rest and the held-out part, both in the manifest's order.

        Args:
            held_out: number of speakers (with all their recordings) or of recordings to hold out.
            by: unit that is drawn; "speaker" puts no speaker on both sides.
            seed: random seed; the draw does not depend on the order of the recordings.

        Raises:
            InputError: fewer than `held_out`, or a recording without a speaker.
        """
        keys, names = self._keys(by)
        if not 0 <= held_out <= len(names):
            raise InputError(f"cannot set aside {held_out} of {len(names)} {by}s")
        chosen = {names[index] for index in np.random.default_rng(seed).permutation(len(names))[:held_out]}
        sides: tuple[list[Recording], list[Recording]] = ([], [])
        for recording, key in zip(self, keys, strict=True):
            sides[key in chosen].append(recording)
        return Manifest(sides[0]), Manifest(sides[1])

    def _keys(self, by: Part) -> tuple[list[str], list[str]]:
        """Return the speaker or id of each recording, and the different ones, sorted."""
        if by not in get_args(Part):
            raise InputError(f"by must be 'speaker' or 'recording', not '{by}'")
        if by == "speaker" and (nameless := [recording.id for recording in self if recording.speaker is None]):
            raise InputError(f"recording '{nameless[0]}' has no speaker; draw by 'recording' instead")
        keys = [str(recording.speaker) if by == "speaker" else recording.id for recording in self]
        return keys, sorted(set(keys))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON object per line; audio paths below the file's folder are stored relative to it."""
        path = Path(path)
        folder = os.path.abspath(path.parent)
        write_json_lines(path, (_to_row(recording, folder) for recording in self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Manifest:
        """Open a manifest: jsonl as `save` writes it, csv, or one of other programs (`data.manifest_formats`).

        Columns: `path` (relative to the manifest's folder); optional `id` (default: the file's name without suffix),
        `num_samples`, `sample_rate`, `start` (samples) or `offset` (seconds) of an excerpt, `duration` (seconds),
        `speaker`, `text`, `sex`, `language`; others are ignored. Where `num_samples` or `sample_rate` is missing the
        file's header is read. A FormatError names line and column.
        """
        return cls(draft.recording() for draft in read_drafts(path))


class FileState(NamedTuple):
    """Size in bytes, time of modification in ns (0 where it is too recent to be trusted) and digest of a file."""

    size: int
    modified: int
    digest: str


def file_state(path: str | Path, known: FileState | None = None) -> FileState:
    """Return the state of a file, which is read only if its size or time of modification is not that of ``known``.

    A file that is replaced by another one of the same size and has its time set back is therefore not noticed. A
    FormatError if it is missing.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}); check the name") from None
    if known is not None and known[:2] == (stat.st_size, stat.st_mtime_ns):
        return known
    digest = digest_path(path)
    # File systems round times: within two seconds of a change another one may leave the time as it is.
    settled = abs(time.time_ns() - stat.st_mtime_ns) > 2_000_000_000
    return FileState(stat.st_size, stat.st_mtime_ns if settled else 0, digest)


@dataclass(frozen=True)
class Draft:
    """A recording as described by its corpus, before its header is read; numbers may be missing.

    An excerpt may begin at `offset_seconds` instead of `start`; `seconds` is its length, or without either the file's.
    `fault` says why the corpus's entry cannot be used: `recording` and `measure` raise it.
    """

    id: str
    path: Path
    num_samples: int | None = None
    sample_rate: int | None = None
    start: int | None = None
    offset_seconds: float | None = None
    seconds: float | None = None
    speaker: str | None = None
    text: str | None = None
    sex: str | None = None
    language: str | None = None
    fault: FormatError | None = None

    def recording(self) -> Recording:
        """Return the recording; the header is read only where numbers are missing; raises as `measure`."""
        if self.fault or self.num_samples is None or self.sample_rate is None or self.offset_seconds is not None:
            return self.measure()
        return self._build(self.num_samples, self.sample_rate, self.start or 0)

    def _build(self, num_samples: int, sample_rate: int, start: int) -> Recording:
        about = {name: getattr(self, name) for name in _ABOUT}
        return Recording(self.id, self.path, num_samples, sample_rate, start, **about)

    def measure(self, *, check: bool = False) -> Recording:
        """Return the recording with the numbers of its header, or AudioError, or `fault`; `check` decodes all."""
        if self.fault:
            raise self.fault
        info = audio_info(self.path)
        rate = info.sample_rate
        if self.sample_rate not in (None, rate):
            raise AudioError(
                f"{self.path}: has {rate} Hz, the manifest says {self.sample_rate}; prepare the manifest again"
            )
        is_excerpt = self.start is not None or self.offset_seconds is not None
        start = self.start or round((self.offset_seconds or 0.0) * rate)
        available = info.num_samples - start
        slack = _DURATION_SLACK * rate
        wanted = self.num_samples
        if wanted is None:
            wanted = available if self.seconds is None else round(self.seconds * rate)
        too_long = self.num_samples is None and wanted > available + slack
        # Without a start, the length is that of the file.
        if too_long or (not is_excerpt and wanted < available - slack):
            raise AudioError(
                f"{self.path}: lasts {info.seconds:.2f} s, which does not agree with the {wanted / rate:.2f} s "
                f"from {start / rate:.2f} s that the manifest gives; it is cut short or another version"
            )
        if self.num_samples is None:
            # The rounded duration only serves to recognise the file.
            wanted = min(wanted, available) if is_excerpt else available
        if wanted > available or wanted < 1:
            raise AudioError(
                f"{self.path}: has {info.num_samples} samples where {start} to {start + wanted} are wanted; "
                "it is cut short or another version of the recording"
            )
        if check:
            check_audio(self.path, start=start, stop=start + wanted)
        return self._build(wanted, rate, start)


def read_drafts(path: str | os.PathLike[str]) -> Iterator[Draft]:
    """Yield the rows of a manifest, checked for form and for unique ids; no audio file is opened.

    A row that cannot be used is a draft with a `fault`, which names line and column. A FormatError is raised for a file
    that cannot be read, and after the last row for repeated ids, the first and their count.
    """
    path = Path(path)
    seen: dict[str, str] = {}
    twice: list[str] = []
    for place, row in read_rows(path):
        try:
            draft = _to_draft(row, place, path.parent)
        except FormatError as error:
            yield Draft(place, path, fault=error)
            continue
        if draft.id in seen:
            twice.append(f"{place}, column id: '{draft.id}' was already used in {seen[draft.id]}")
            continue
        seen[draft.id] = f"line {place.rpartition(':')[2]}"
        yield draft
    if twice:
        raise FormatError(twice[0] + and_more(len(twice)))


def _to_draft(row: Mapping[str, Any], where: str, folder: Path) -> Draft:
    if "fault" in row:
        raise FormatError(row["fault"])
    path = _text(row, "path", where)
    if not path:
        raise FormatError(f"{where}, column path: missing")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise FormatError(f"{where}, column path: {path!r} cannot be the name of a file") from None
    duration, offset = _number(row, "duration", where), _number(row, "offset", where)
    if duration is not None and duration <= 0:
        raise FormatError(f"{where}, column duration: must be positive, not {duration}")
    if offset is not None and offset < 0:
        raise FormatError(f"{where}, column offset: must not be negative, but is {offset}")
    numbers: dict[str, Any] = {name: _integer(row, name, where, least) for name, least in _INTEGERS.items()}
    texts: dict[str, Any] = {name: _text(row, name, where) for name in _ABOUT}
    id = _text(row, "id", where) or Path(path).stem
    return Draft(id, folder / path, offset_seconds=offset, seconds=duration, **numbers, **texts)


def _text(row: Mapping[str, Any], column: str, where: str) -> str | None:
    value = row.get(column)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # speakers are often numbers
    if value is not None and not isinstance(value, str):
        raise FormatError(f"{where}, column {column}: expected text, not {reprlib.repr(value)}")
    if value and "\0" in value:
        raise FormatError(f"{where}, column {column}: holds a NUL character; remove it")
    return value


def _number(row: Mapping[str, Any], column: str, where: str) -> float | None:
    value = row.get(column)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    # Larger numbers are neither samples nor seconds, and not exact.
    if not abs(number) <= 2**53:
        raise FormatError(f"{where}, column {column}: expected a number, not {reprlib.repr(value)}")
    return number


def _integer(row: Mapping[str, Any], column: str, where: str, least: int) -> int | None:
    number = _number(row, column, where)
    if number is not None and (number != int(number) or number < least):
        raise FormatError(
            f"{where}, column {column}: expected a whole number from {least}, not {reprlib.repr(row[column])}"
        )
    return None if number is None else int(number)


def _read_states(path: str | os.PathLike[str] | None) -> dict[str, FileState]:
    """Read the digests of ``Manifest.contents``; none from a file that is missing or damaged: all are then read."""
    with suppress(FormatError, TypeError):
        return {} if path is None else {name: FileState(*state) for name, state in read_json(Path(path)).items()}
    return {}


def _to_row(recording: Recording, folder: str) -> dict[str, Any]:
    path = os.path.abspath(recording.path)
    inside = os.path.commonpath([path, folder]) == folder
    row: dict[str, Any] = {"id": recording.id, "path": os.path.relpath(path, folder) if inside else path}
    values = {name: getattr(recording, name) for name in (*_INTEGERS, *_ABOUT)}
    return row | {name: value for name, value in values.items() if value is not None}
