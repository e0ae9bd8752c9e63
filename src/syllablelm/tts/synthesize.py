"""Speech corpora from text, with the phone times of the text-to-speech engine as reference.

`synthesize` writes a corpus:

    out/audio/00000/*.flac   audio in shards; a shard appears whole or not at all
    out/manifest.jsonl       one line per utterance: id, path, num_samples, sample_rate, speaker, text, ...
    out/alignments.jsonl     words and phones in seconds (see `syllablelm.data.alignment`), if the engine prints them
    out/errors.jsonl         sentences that could not be spoken, with the reason
    out/synthesis.json       the settings

A killed run resumes: finished shards are not spoken again. Voice, speed and pitch of an utterance are drawn from the
seed and its id, so they depend neither on the order of the texts nor on the number of workers. Several processes may
work in one folder: the first to finish a shard provides it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from syllablelm.core.errors import AudioError, FormatError, InputError
from syllablelm.core.files import atomic_path, write_json_lines, write_text
from syllablelm.core.results import Record, read_json
from syllablelm.data.alignment import Alignment, Word, alignment_row
from syllablelm.data.audio import check_silence
from syllablelm.tts.engines import Engine, open_engine

AUDIO_FORMATS = {"flac": ("FLAC", "PCM_16"), "wav": ("WAV", "PCM_16"), "opus": ("OGG", "OPUS")}
AUDIO, SHARD = "audio", "shard.json"
# Characters of an id that a file name takes only in quotation ("%27").
_UNSAFE = re.compile(r"^[.+-]|[^\w.+-]")


@dataclass(frozen=True)
class SynthesisResult(Record):
    """Result of `synthesize`: paths of its lists, number and total length of the utterances.

    `alignments` is None where the engine prints no times; `skipped` sentences could not be spoken, see `errors`.
    """

    manifest: Path
    alignments: Path | None
    utterances: int
    hours: float
    skipped: int
    errors: Path


@dataclass(frozen=True)
class _Settings:
    """The settings of a corpus, on which the sound and the place of every utterance depend."""

    engine: str
    voices: tuple[str, ...]
    seed: int
    speed_range: tuple[float, float]
    pitch_range: tuple[float, float]
    sample_rate: int
    audio_format: str
    shard_size: int
    silence: float

    def check(self) -> None:
        if not self.voices:
            raise InputError("synthesis needs at least one voice")
        for name in ("speed_range", "pitch_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} must be (low, high) with 0 < low <= high, not {(low, high)}")
        if self.sample_rate < 1 or self.shard_size < 1:
            raise InputError("sample_rate and shard_size must be at least 1")
        check_silence(self.silence)
        if self.audio_format not in AUDIO_FORMATS:
            raise InputError(f"unknown audio format {self.audio_format!r}; choose {', '.join(AUDIO_FORMATS)}")


def synthesize(
    texts: Iterable[tuple[str, str]],
    out: str | PathLike[str],
    *,
    engine: str | Engine = "flite",
    voices: str | Sequence[str] | None = None,
    seed: int = 0,
    speed_range: tuple[float, float] = (0.8, 1.3),
    pitch_range: tuple[float, float] = (0.85, 1.2),
    workers: int = 1,
    sample_rate: int = 16_000,
    limit_seconds: float | None = None,
    audio_format: str = "flac",
    shard_size: int = 100,
    silence: float = 0.0,
    progress: Callable[[int], None] | None = None,
) -> SynthesisResult:
    """Speak texts into a corpus folder (see the module's docstring), or resume one.

    Args:
        texts: pairs (id, text); the file of an utterance is named by its id, other characters than letters, digits and
            "_.+-" in quotation ("adam%27s").
        out: folder of the corpus.
        engine, voices: as in `open_engine`; the voices are drawn uniformly.
        seed: random seed of voice, speed and pitch.
        speed_range: lowest and highest speaking rate relative to the voice's own, drawn uniformly in the logarithm.
        pitch_range: the same for pitch.
        workers: number of engine processes.
        sample_rate: sample rate of the files in Hz.
        limit_seconds: stop once the corpus is this long; audio spoken ahead stays on disk, outside the manifest.
        audio_format: "flac", "wav" or "opus" (a tenth of the size).
        shard_size: utterances per shard.
        silence: seconds of silence before and after every utterance, as single words need (see `evaluate_lexical`).
        progress: called with the number of utterances of each finished shard.

    Raises:
        InputError: an unusable option, an empty or repeated id, or a folder with other settings or texts.
        AudioError: a file cannot be written.
    """
    engine, chosen = open_engine(engine, voices)
    files = (sample_rate, audio_format, shard_size, silence)
    settings = _Settings(engine.name, chosen, seed, speed_range, pitch_range, *files)
    settings.check()
    if workers < 1:
        raise InputError("workers must be at least 1")
    out = Path(out)
    _claim(out, settings)
    limit = float("inf") if limit_seconds is None else limit_seconds
    shards = enumerate(_shards(texts, shard_size))
    # Folder, digest of its texts and number of utterances in the lists, by shard.
    done: list[tuple[Path, str, int]] = []
    seconds, finished = 0.0, False
    stop = threading.Event()
    # Threads suffice: the work is done by the processes they wait for.
    with _present(out / AUDIO), ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[tuple[Path, str, list[dict[str, Any]]]]] = deque()
        try:
            while not finished:
                for number, shard in islice(shards, max(0, 2 * workers - len(pending))):
                    pending.append(pool.submit(_make_shard, engine, settings, out, number, shard, stop))
                if not pending:
                    break
                folder, digest, records = pending.popleft().result()
                count = 0
                while count < len(records) and seconds < limit:
                    seconds += records[count].get("alignment", {}).get("duration", 0.0)
                    count += 1
                done.append((folder, digest, count))
                finished = seconds >= limit
                if progress is not None:
                    progress(len(records))
        finally:
            stop.set()
            for future in pending:
                future.cancel()
    return _write_lists(out, done)


def _claim(out: Path, settings: _Settings) -> None:
    """Write the settings into a new folder, or compare them with those of a folder begun before."""
    path, text = out / "synthesis.json", json.dumps({"version": 1, **vars(settings)}, indent=1)
    if not path.exists():
        # The settings that another process is writing, or that a killed one left, are not foreign. Nor is anything once
        # there are settings: another process may have written them, and begun its work, in the meantime.
        items = out.iterdir() if out.is_dir() else [out] if out.exists() else []
        foreign = any(not item.name.startswith(".synthesis.") for item in items)
        if foreign and not path.exists():
            raise InputError(f"{out} exists and is not a synthetic corpus; choose another folder")
        write_text(path, text)
    # Older corpora name no silence.
    before, now = {"silence": 0.0, **read_json(path)}, json.loads(text)
    changed = sorted(key for key in now if before.get(key) != now[key])
    if changed:
        raise InputError(f"{out} holds a corpus with another {', '.join(changed)}; choose another folder")


@contextmanager
def _present(audio: Path) -> Generator[None, None, None]:
    """Hold a shared lock on a folder of shards; the first to hold it removes what killed runs left there."""
    import fcntl

    audio.mkdir(exist_ok=True)
    folder = os.open(audio, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Another process is at work, or the file system has no such locks: leftovers are harmless and stay.
            pass
        else:
            for leftover in audio.glob(".*.tmp"):
                shutil.rmtree(leftover, ignore_errors=True)
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)


def _shards(texts: Iterable[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    seen: set[str] = set()
    rest = iter(texts)
    while shard := list(islice(rest, size)):
        for name, _ in shard:
            if not name:
                raise InputError("an empty id among the texts; name every utterance")
            if name in seen:
                raise InputError(f"id {name!r} appears twice among the texts")
            seen.add(name)
        yield shard


def _make_shard(
    engine: Engine, settings: _Settings, out: Path, number: int, texts: Sequence[tuple[str, str]], stop: threading.Event
) -> tuple[Path, str, list[dict[str, Any]]]:
    """Speak one shard; a finished one is only read, a stopped one dropped. Return its folder, digest and records."""
    final = out / AUDIO / f"{number:05d}"
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    if final.exists():
        return final, digest, _read_shard(final, digest)
    try:
        with atomic_path(final) as part:
            part.mkdir()
            utterances = []
            for item in texts:
                if stop.is_set():
                    raise CancelledError
                utterances.append(_make_utterance(engine, settings, part, final.relative_to(out), item))
            (part / SHARD).write_text(json.dumps({"texts": digest, "utterances": utterances}), encoding="utf-8")
    except OSError:
        # Another process that works in this folder was faster: its shard is the same.
        if not final.exists():
            raise
        return final, digest, _read_shard(final, digest)
    return final, digest, utterances


def _read_shard(folder: Path, digest: str) -> list[dict[str, Any]]:
    """Return the records of a finished shard, whose texts must have this digest."""
    file = folder / SHARD
    try:
        record = read_json(file)
        before, utterances = record["texts"], record["utterances"]
    except (FormatError, KeyError) as error:
        raise FormatError(f"{file} is damaged; delete {folder} and run again: {error}") from error
    if before != digest:
        raise InputError(f"{folder} holds other texts than these; choose another folder, or delete {folder.parents[1]}")
    return utterances


def _make_utterance(
    engine: Engine, settings: _Settings, folder: Path, relative: Path, item: tuple[str, str]
) -> dict[str, Any]:
    """Speak one utterance; a sentence that the engine cannot speak becomes an error record."""
    name, text = item
    hashed = hashlib.sha256(f"{settings.seed}:{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(hashed[:8], "little"))
    voice = settings.voices[rng.integers(len(settings.voices))]
    speed, pitch = (
        round(float(np.exp(rng.uniform(*np.log(limits)))), 4) for limits in (settings.speed_range, settings.pitch_range)
    )
    try:
        spoken = engine.speak(text, voice, speed=speed, pitch=pitch)
        duration = len(spoken.samples) / spoken.sample_rate + 2 * settings.silence
        alignment = Alignment(name, duration, tuple(_later(word, settings.silence) for word in spoken.words))
    except (AudioError, FormatError) as error:
        return {"error": {"id": name, "text": text, "voice": voice, "error": str(error)}}
    samples = spoken.samples
    if spoken.sample_rate != settings.sample_rate:
        samples = soxr.resample(samples, spoken.sample_rate, settings.sample_rate)
    samples = np.pad(samples, round(settings.silence * settings.sample_rate))
    container, subtype = AUDIO_FORMATS[settings.audio_format]
    quoted = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), name)
    file = f"{quoted}.{settings.audio_format}"
    try:
        soundfile.write(folder / file, np.clip(samples, -1, 1), settings.sample_rate, format=container, subtype=subtype)
    except soundfile.LibsndfileError as error:
        # Not the sentence's fault: a full disk, or a sample rate that the format does not know.
        raise AudioError(f"{relative / file}: cannot be written as {container} ({error.error_string})") from error
    manifest = {
        "id": name,
        "path": (relative / file).as_posix(),
        "num_samples": len(samples),
        "sample_rate": settings.sample_rate,
        # A voice of piper is a file.
        "speaker": f"{engine.name}-{Path(voice).stem}",
        "text": text,
        "engine": engine.name,
        "voice": voice,
        "speed": speed,
        "pitch": spoken.pitch,
        "licence": engine.licence,
    }
    return {"manifest": manifest, "alignment": alignment_row(alignment)}


def _later(word: Word, seconds: float) -> Word:
    phones = tuple(replace(phone, start=phone.start + seconds, end=phone.end + seconds) for phone in word.phones)
    return Word(word.label, word.start + seconds, word.end + seconds, phones)


def _write_lists(out: Path, shards: Sequence[tuple[Path, str, int]]) -> SynthesisResult:
    """Write the lists of the first utterances of each shard, read again: not all of them may fit in memory."""
    manifest, alignments, errors = (out / f"{name}.jsonl" for name in ("manifest", "alignments", "errors"))
    counts: Counter[str] = Counter()
    seconds = 0.0

    def rows(key: str) -> Iterator[dict[str, Any]]:
        nonlocal seconds
        for folder, digest, count in shards:
            for record in _read_shard(folder, digest)[:count]:
                # A recording without known words is no reference: all of it would count as silence.
                if key in record and (key != "alignment" or any(word["word"] for word in record[key]["words"])):
                    counts[key] += 1
                    if key == "manifest":
                        seconds += record[key]["num_samples"] / record[key]["sample_rate"]
                    yield record[key]

    for path, key in ((manifest, "manifest"), (errors, "error"), (alignments, "alignment")):
        write_json_lines(path, rows(key))
    if not counts["alignment"]:
        alignments.unlink()
    timed = alignments if counts["alignment"] else None
    return SynthesisResult(manifest, timed, counts["manifest"], seconds / 3600, counts["error"], errors)
