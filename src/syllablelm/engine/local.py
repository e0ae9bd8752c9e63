"""Encode a corpus in this process, beside any others that work on the same folder.

Threads decode the next batches while the encoder works on one; others segment the features of the batch before it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from syllablelm.core.artifact import RECORD, open_artifact
from syllablelm.core.config import to_table
from syllablelm.core.errors import AudioError, FormatError, InputError, check_positive
from syllablelm.core.progress import ProgressBar, note
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.corpus import SkippedFile, batches_by_seconds
from syllablelm.data.manifest import FileState, file_state
from syllablelm.engine.claims import CLAIM_TIMEOUT, Claims
from syllablelm.engine.ray import num_readers, run_on_cluster
from syllablelm.engine.shards import ACOUSTIC, SHARDS, Corpus, Shard, begin_corpus, enter_shard, open_corpus
from syllablelm.tokenizer.recordings import encode_in_blocks
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.vocoder.acoustic import open_acoustic

SHARD_SECONDS = 3600.0
# Decoded audio that waits for the encoder, in batches; one more may be on its way.
_BATCHES_AHEAD = 2
# Seconds between two looks at a corpus whose last shards are others'.
_POLL_SECONDS = 0.5
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_WORKERS = num_readers(_CORES)


def encode_corpus(
    manifest: str | Path,
    out: str | Path,
    model: str | Path | Tokenizer = "small",
    *,
    acoustic: str | Path | Tokenizer | None = None,
    engine: Literal["local", "ray"] = "local",
    shard_seconds: float = SHARD_SECONDS,
    workers: int | None = None,
    claim_timeout: float = CLAIM_TIMEOUT,
    **options: Any,
) -> Corpus:
    """Encode every recording of a manifest; returns when all shards exist, whichever process wrote them.

    Run it again after a stop, and in several processes at once, also on several hosts that share the folder. The bytes
    of a shard are a function of audio, manifest, tokenizer and settings; batches, threads and processes do not matter.
    A run begins by looking at what earlier ones made: shards whose bytes are not those that were written, or whose
    audio was replaced since, are named and encoded again. Audio files are read for it only if their size or time of
    modification changed, so a file that is replaced by one of the same size and time is not noticed.

    Args:
        manifest: a .jsonl or .csv manifest.
        out: folder of the corpus; new, empty, or begun before with the same manifest, model and settings.
        model: a tokenizer, or its name as `Tokenizer.load` takes it; its `batch_seconds` bounds the memory.
        acoustic: a second tokenizer, or its name or the folder of acoustic units that `train vocoder` wrote: its units
            of the same recordings are written too, to shards of the same names in ``out``/acoustic; each recording is
            decoded once (one longer than a window: twice).
        engine: "local" works in this process; "ray" in one on every GPU or node of the Ray cluster that `RAY_ADDRESS`
            names, which must see manifest, audio, model and `out` under the same names.
        shard_seconds: audio per shard in seconds; the work lost when a process is killed.
        workers: number of threads that decode audio; None chooses by the processor.
        claim_timeout: seconds without a finished batch after which the shards of a process are taken over.
        options: arguments of `Tokenizer.load`: device, rate, rule, delta, precision, batch_seconds.

    Raises:
        InputError: no usable recording, a folder with other contents or settings, or an unusable option.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers {workers}: at least one thread must decode")
    batch_seconds = model.batch_seconds if isinstance(model, Tokenizer) else options.get("batch_seconds", 1.0)
    limits = {"shard_seconds": shard_seconds, "claim_timeout": claim_timeout, "batch_seconds": batch_seconds}
    for name, value in limits.items():
        check_positive(name, value)
    if engine == "local":
        tokenizer = model if isinstance(model, Tokenizer) else Tokenizer.load(model, **options)
        config = {
            "rule": to_table(tokenizer.rule),
            "window_seconds": tokenizer.window_seconds,
            "precision": getattr(tokenizer.encoder, "precision", "float32"),
            "shard_seconds": float(shard_seconds),
        }
        tokenizers, parents = {SHARDS: tokenizer}, {"model": model_digest(tokenizer)}
        if acoustic is not None:
            tokenizers[ACOUSTIC] = second = _open_acoustic(acoustic, options)
            parents[ACOUSTIC] = model_digest(second)
            config[ACOUSTIC] = {"rule": to_table(second.rule), "window_seconds": second.window_seconds}
        corpus = begin_corpus(manifest, out, config=config, parents=parents)
        _finish(corpus, tokenizers, workers or _WORKERS, claim_timeout)
    elif isinstance(model, Tokenizer) or isinstance(acoustic, Tokenizer):
        raise InputError("the ray engine opens the model on every node: pass its name")
    else:
        places = {"manifest": os.path.abspath(manifest), "out": os.path.abspath(out)}
        names = {"model": model} if acoustic is None else {"model": model, "acoustic": acoustic}
        named = {key: os.path.abspath(name) if Path(name).exists() else name for key, name in names.items()}
        settings = {"shard_seconds": shard_seconds, "workers": workers, "claim_timeout": claim_timeout}
        arguments = {**places, **named, **settings, **options}
        run_on_cluster(encode_corpus, arguments, device=str(options.get("device", "auto")))
        corpus = open_corpus(out)
    if not corpus.summary().recordings:
        first = corpus.entry(corpus.shards[0]).failed[0]
        raise InputError(f"no usable recording: {first.path}: {first.reason}; see {corpus.path / 'ledger'}")
    return corpus


def _open_acoustic(name: str | Path | Tokenizer, options: Mapping[str, Any]) -> Tokenizer:
    if isinstance(name, Tokenizer):
        return name
    if (Path(name) / RECORD).is_file() and open_artifact(name).kind == ACOUSTIC:
        return open_acoustic(Path(name), device=options.get("device", "auto"))
    shared = {key: options[key] for key in ("device", "precision", "batch_seconds") if key in options}
    return Tokenizer.load(name, **shared)


def _finish(corpus: Corpus, tokenizers: Mapping[str, Tokenizer], workers: int, claim_timeout: float) -> None:
    faults = corpus.faults()
    if not faults and corpus.is_finished:
        return
    if faults or corpus.missing():
        (corpus.path / RECORD).unlink(missing_ok=True)
        with Claims(corpus.path, timeout=claim_timeout) as claims:
            _drop(corpus, faults, claims)
            with (
                _threads(workers, "decode") as readers,
                _threads(_num_segmenters(tokenizers[SHARDS]), "segment") as segmenters,
                (progress := _Progress(corpus)).bar,
            ):
                _Pipeline(tokenizers, corpus, claims, readers, segmenters, progress).run()
    corpus.finish()


def _drop(corpus: Corpus, faults: Mapping[Shard, str], claims: Claims) -> None:
    """Remove shards that must be encoded again, under a claim: another process may do the same."""
    for shard in faults:
        while corpus.is_done(shard):
            if claims.take(shard.name):
                if fault := corpus.fault(shard):
                    note(f"{corpus.shard_file(shard)}: encoded again: {fault}")
                    for folder in corpus.folders:
                        corpus.shard_file(shard, folder).unlink(missing_ok=True)
                claims.release(shard.name)
                break
            time.sleep(_POLL_SECONDS)


def model_digest(tokenizer: Tokenizer) -> str:
    """Return the identity of a tokenizer's weights: its artifact's digest, or else that of encoder and codebook."""
    if tokenizer.digest:
        return tokenizer.digest
    encoder: Any = tokenizer.encoder
    if not hasattr(encoder, "state_dict"):
        raise InputError("this tokenizer has no digest, by which a corpus knows its model; give it one (digest=...)")
    arrays: dict[str, np.ndarray] = {
        name: weight.float().cpu().numpy() for name, weight in encoder.state_dict().items()
    }
    codebook = tokenizer.codebook
    if codebook is not None:
        arrays |= {"codebook.centres": codebook.centres, "codebook.table": codebook.table}
    hasher = hashlib.sha256(f"layer {encoder.layer} standardize {codebook and codebook.standardize}".encode())
    for name, array in sorted(arrays.items()):
        hasher.update(f"{name} {array.dtype} {array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()[:16]


def _state(path: Path) -> FileState:
    """Return the state of an audio file, one without digest if it cannot be read."""
    try:
        return file_state(path)
    except FormatError:
        return FileState(-1, 0, "")


def _num_segmenters(tokenizer: Tokenizer) -> int:
    # An encoder on the processor takes all cores; beside one on a GPU they would be idle.
    return 1 if tokenizer.encoder.device.type == "cpu" else max(1, _CORES - _WORKERS // 2)


def _trim_memory() -> None:
    """Give freed memory back: glibc keeps what lies between blocks in use, which grows for hours with mixed lengths."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@contextmanager
def _threads(count: int, name: str) -> Generator[ThreadPoolExecutor, None, None]:
    """Yield a pool that drops its waiting work when the block is left, so that Ctrl-C stops at once."""
    pool = ThreadPoolExecutor(count, name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class _OpenShard:
    """A claimed shard that is being encoded: what was found, by folder and place."""

    shard: Shard
    batches_left: int
    found: dict[str, dict[int, Segmentation]] = field(default_factory=lambda: defaultdict(dict))
    failed: dict[int, str] = field(default_factory=dict)
    audio: dict[int, FileState] = field(default_factory=dict)


@dataclass
class _Batch:
    """Recordings of one shard that are encoded together; `places` count from the shard's first."""

    into: _OpenShard
    places: list[int]
    seconds: float
    waves: dict[int, Future[Any]] = field(default_factory=dict)
    segmented: dict[tuple[str, int], Future[Segmentation]] = field(default_factory=dict)
    states: dict[int, Future[FileState]] = field(default_factory=dict)


class _Progress:
    """The progress bar, and a time estimate from seconds of audio, those of other processes included."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        missing = set(corpus.missing())
        self._counted = {shard.index for shard in corpus.shards if shard not in missing}
        self._left = sum(self._seconds(shard) for shard in missing)
        self._encoded = 0.0
        self._started = time.monotonic()
        total = len(corpus.manifest)
        self.bar = ProgressBar("encode", total, done=total - sum(map(len, missing)), closing_line=False)

    def _seconds(self, shard: Shard) -> float:
        return self._corpus.recordings(shard).total_seconds

    def open(self, shard: Shard) -> None:
        """Register a shard whose recordings this process counts one by one."""
        self._counted.add(shard.index)

    def look_around(self, missing: set[Shard]) -> None:
        """Count the shards finished by other processes."""
        for shard in self._corpus.shards:
            if shard.index not in self._counted and shard not in missing:
                self._counted.add(shard.index)
                self.advance(len(shard), self._seconds(shard))

    def advance(self, count: int, seconds: float) -> None:
        """Count recordings as encoded."""
        self._encoded += seconds
        self._left -= seconds
        speed = self._encoded / max(time.monotonic() - self._started, 1e-9)
        minutes = max(self._left, 0.0) / max(speed, 1e-9) / 60
        self.bar.advance(count, f"{speed:.0f} s of audio per second, {minutes:.1f} min left")


@dataclass
class _Pipeline:
    """Batches on their way from claims through decoding, encoders and segmentation to the files of shards.

    `tokenizers` are by the folder of their shards.
    """

    tokenizers: Mapping[str, Tokenizer]
    corpus: Corpus
    claims: Claims
    readers: ThreadPoolExecutor
    segmenters: ThreadPoolExecutor
    progress: _Progress
    ahead: deque[_Batch] = field(default_factory=deque)
    segmenting: deque[_Batch] = field(default_factory=deque)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._batch_seconds = min(tokenizer.batch_seconds for tokenizer in self.tokenizers.values())
        # Longer recordings are read block by block when it is their turn.
        self._whole_seconds = min(tokenizer.window_seconds for tokenizer in self.tokenizers.values())

    def run(self) -> None:
        """Work until every shard exists."""
        source = self._batches()
        try:
            while self._read_ahead(source) or self.ahead or self.segmenting:
                if self.ahead:
                    batch = self.ahead.popleft()
                    self._encode(batch)
                    self.segmenting.append(batch)
                    # One batch is segmented while the next is encoded.
                    if len(self.segmenting) > 1:
                        self._settle(self.segmenting.popleft())
                elif self.segmenting:
                    self._settle(self.segmenting.popleft())
                else:
                    time.sleep(_POLL_SECONDS)
        finally:
            self.stopped.set()

    def _batches(self) -> Iterator[_Batch | None]:
        """Yield batches of claimed shards until the corpus is complete; None while others hold all that is missing.

        The recordings of a batch are a function of the shard alone, and so are the shard's bytes.
        """
        while missing := self.corpus.missing():
            self.progress.look_around(set(missing))
            for shard in missing:
                if not self.claims.take(shard.name):
                    continue
                if self.corpus.is_done(shard):
                    # Another process finished it before the claim.
                    self.claims.release(shard.name)
                    continue
                self.progress.open(shard)
                seconds = [recording.seconds for recording in self.corpus.recordings(shard)]
                batches = batches_by_seconds(seconds, self._batch_seconds)
                into = _OpenShard(shard, len(batches))
                for places in batches:
                    yield _Batch(into, places, sum(seconds[place] for place in places))
            yield None

    def _read_ahead(self, source: Iterator[_Batch | None]) -> bool:
        """Start decoding until enough waits for the encoder; False when the source has ended."""
        enough = _BATCHES_AHEAD * self._batch_seconds
        while sum(batch.seconds for batch in self.ahead) < enough:
            try:
                batch = next(source)
            except StopIteration:
                return False
            if batch is None:
                break
            recordings = self.corpus.recordings(batch.into.shard)
            # Before the samples are read: a file that is replaced meanwhile is noticed later.
            batch.states = {place: self.readers.submit(_state, recordings[place].path) for place in batch.places}
            batch.waves = {
                place: self.readers.submit(recordings[place].load)
                for place in batch.places
                if recordings[place].seconds <= self._whole_seconds
            }
            self.ahead.append(batch)
        return True

    def _encode(self, batch: _Batch) -> None:
        recordings = self.corpus.recordings(batch.into.shard)
        waves: dict[int, np.ndarray] = {}
        for place, future in batch.waves.items():
            with self._noting_failure(batch, place):
                waves[place] = future.result()
        batch.waves = {}
        for folder, tokenizer in self.tokenizers.items():
            for place, feats in zip(waves, tokenizer.features(list(waves.values())), strict=True):
                batch.segmented[folder, place] = self.segmenters.submit(tokenizer.segment, feats)
            for place in batch.places:
                if recordings[place].seconds > self._whole_seconds and place not in batch.into.failed:
                    # In a segmenter's thread, so that the cores are not shared by more threads than were chosen.
                    coming = self.segmenters.submit(encode_in_blocks, tokenizer, recordings[place], self._decode_ahead)
                    with self._noting_failure(batch, place):
                        coming.result()
                        batch.segmented[folder, place] = coming

    @contextmanager
    def _noting_failure(self, batch: _Batch, place: int) -> Generator[None, None, None]:
        try:
            yield
        except AudioError as error:
            path = self.corpus.recordings(batch.into.shard)[place].path
            batch.into.failed[place] = SkippedFile.because(path, error).reason
            for folder in self.tokenizers:
                batch.segmented.pop((folder, place), None)

    def _decode_ahead(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield blocks while the next one is decoded; cut off when the run was stopped."""
        coming = self.readers.submit(next, blocks, None)
        while (block := coming.result()) is not None and not self.stopped.is_set():
            coming = self.readers.submit(next, blocks, None)
            yield block
            self.claims.renew()

    def _settle(self, batch: _Batch) -> None:
        """Take a batch's segments; write the shard with its last batch."""
        into = batch.into
        for (folder, place), future in batch.segmented.items():
            into.found[folder][place] = future.result()
        into.audio.update((place, future.result()) for place, future in batch.states.items())
        into.batches_left -= 1
        _trim_memory()
        self.claims.renew()
        self.progress.advance(len(batch.places), batch.seconds)
        if into.batches_left == 0:
            acoustic = into.found[ACOUSTIC] if ACOUSTIC in self.tokenizers else None
            enter_shard(self.corpus, into.shard, into.found[SHARDS], into.failed, into.audio, acoustic)
            self.claims.release(into.shard.name)
