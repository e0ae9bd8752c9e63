"""Speed of a tokenizer, stage by stage, and the agreement of its units in lower precision."""

from __future__ import annotations

import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, get_ident
from typing import Any, ClassVar

import numpy as np
import torch

from syllablelm.core.errors import InputError, check_positive
from syllablelm.core.files import refuse_inputs, scratch_folder
from syllablelm.core.models import BUNDLED
from syllablelm.core.results import Record, Result
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE, load_audio, save_audio
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.encoders.device import Precision, pick_device
from syllablelm.evaluate.boundaries.matching import BoundaryCounts, boundary_counts
from syllablelm.evaluate.counts import Counts
from syllablelm.evaluate.lists import Recordings, ScoredData, note_omitted, open_recordings
from syllablelm.tokenizer.tokenizer import Tokenizer

TOLERANCE = 0.02
"""Seconds by which a boundary may differ between precisions and still count as the same: one frame at 50 Hz."""

DECODE, CONVOLUTIONS, TRANSFORMER = "decoding", "convolutions", "transformer"
SEGMENTATION, UNITS, REST = "segmentation", "pooling and units", "the rest"
ALL = "all"
STAGES = (DECODE, CONVOLUTIONS, TRANSFORMER, SEGMENTATION, UNITS, REST)


class Stopwatch:
    """Seconds spent in stages; the time of a stage inside another counts for the inner one only.

    Args:
        synchronize: waits for work started on a GPU; called on both sides of every stage.

    A stage counts by its share of the cores: wholly in the thread that made the watch, and in another one by that one's
    threads of torch over those of the maker. On leaving its `with` block the watched methods are as they were.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._synchronize = synchronize
        self._owner, self._cores, self._lock = get_ident(), torch.get_num_threads(), Lock()
        # For each running stage of each thread, the time of the stages inside it.
        self._inner: dict[int, list[float]] = defaultdict(list)
        self._watched: list[tuple[Any, str]] = []

    @contextmanager
    def stage(self, name: str) -> Generator[None, None, None]:
        """Count the block for a stage."""
        self._synchronize()
        inner = self._inner[get_ident()]
        inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._synchronize()
            taken = (time.perf_counter() - start) * torch.get_num_threads() / self._cores
            with self._lock:
                self.seconds[name] += taken - inner.pop()
                # The first stage of a thread lies inside the one in which the maker waits for it.
                if around := inner or self._inner[self._owner]:
                    around[-1] += taken

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Count every call of ``owner.name`` for a stage."""
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            with self.stage(stage):
                return method(*arguments, **options)

        # A frozen dataclass (rule, codebook) is watched too.
        object.__setattr__(owner, name, timed)
        self._watched.append((owner, name))

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *error: Any) -> None:
        for owner, name in self._watched:
            object.__delattr__(owner, name)
        self._watched.clear()


@dataclass(frozen=True)
class StageTime(Record):
    """Time of one of `STAGES`, or of `ALL`; ``audio_per_second`` is None where no time passed."""

    stage: str
    seconds: float
    share: float
    audio_per_second: float | None


@dataclass(frozen=True)
class Speed(Record):
    """One timed run in one precision; ``stages`` holds the time of each of `STAGES`, then of `ALL`.

    ``cpu_seconds`` is the computing time of all threads, which hardly changes by other work on the machine. Peaks are
    those of the run, of the process and, on a GPU, of its tensors; ``units`` is the number of units found.
    """

    derived: ClassVar[tuple[str, ...]] = ("seconds", "audio_per_second", "audio_per_cpu_second")

    precision: str
    recordings: int
    audio_seconds: float
    cpu_seconds: float
    peak_memory_mib: float
    peak_device_mib: float | None
    units: int
    stages: tuple[StageTime, ...]

    @property
    def seconds(self) -> float:
        """Time of the whole run."""
        return self.stages[-1].seconds

    @property
    def audio_per_second(self) -> float:
        """Seconds of audio per second."""
        return self.audio_seconds / self.seconds

    @property
    def audio_per_cpu_second(self) -> float | None:
        """Seconds of audio per second of computing."""
        return self.audio_seconds / self.cpu_seconds if self.cpu_seconds else None


@dataclass(frozen=True)
class MachineInfo(Record):
    """The machine of a run: models of processor and GPU, cores, threads of torch, load average, version of torch.

    With a load above the number of cores, other work slowed the run down.
    """

    processor: str
    cores: int | None
    threads: int
    load: float | None
    gpu: str | None
    torch: str


@dataclass(frozen=True)
class Agreement(Record):
    """Agreement of units in one precision with those in another: F1 of boundaries, the rest as in `AgreementCounts`."""

    precision: str
    against: str
    boundary_f1_20ms: float
    unit_agreement: float
    frames: int
    recordings: int
    same_recordings: int


@dataclass(frozen=True)
class SpeedResult(Result):
    """Speed of a tokenizer: a run in float32, one in the precision asked for if another, and their agreement."""

    evaluation: ClassVar[str] = "speed"

    model: str
    data: ScoredData
    machine: MachineInfo
    batch_seconds: float
    runs: tuple[Speed, ...]
    agreement: Agreement | None


def evaluate_speed(
    recordings: Recordings | None = None,
    model: str | os.PathLike[str] = "small",
    *,
    rate: float | None = None,
    rule: str | None = None,
    delta: float | None = None,
    precision: Precision = "float32",
    batch_seconds: float = 120.0,
    clips: int = 8,
    repeats: int = 1,
    device: str = "auto",
    out: str | os.PathLike[str] | None = None,
) -> SpeedResult:
    """Time a tokenizer stage by stage, in float32 and, if another is given, in that precision, and compare the units.

    Args:
        recordings: see `syllablelm.evaluate`; by default clips of 25 s of the bundled recording, repeated.
        model, rate, rule, delta, precision, batch_seconds, device: as for `Tokenizer.load`.
        clips: number of clips where no recordings are given.
        repeats: timed runs, of which the fastest counts.
        out: file to which the result is saved.

    Raises:
        InputError: nothing usable, or a number out of range.
        AudioError: a recording that cannot be used.
    """
    check_positive("batch_seconds", batch_seconds)
    with scratch_folder() as folder:
        if recordings:
            name, manifest, skipped = open_recordings(recordings)
        else:
            name, manifest, skipped = "bundled recording, repeated", make_clips(folder, clips), []
        if out is not None:
            refuse_inputs([Path(out)], (recording.path for recording in manifest))
        note_omitted({"unusable": len(skipped)})
        options: dict[str, Any] = {"device": device, "rate": rate, "rule": rule, "delta": delta}

        def measure(chosen: Precision) -> tuple[Speed, list[Segmentation]]:
            tokenizer = Tokenizer.load(str(model), **options, precision=chosen, batch_seconds=batch_seconds)
            return measure_speed(tokenizer, manifest, repeats=repeats)

        precisions: dict[Precision, None] = dict.fromkeys(("float32", precision))
        runs, units = zip(*map(measure, precisions), strict=True)
        machine = describe_machine(pick_device(device))
    agreement = None
    if len(units) > 1:
        counts = AgreementCounts.merge(compare_units(*pair) for pair in zip(units[1], units[0], strict=True))
        same = counts.frames, counts.recordings, counts.same_recordings
        agreement = Agreement(precision, "float32", counts.boundaries.f1, counts.unit_agreement, *same)
    data = ScoredData(name=name, recordings=len(manifest), seconds=manifest.total_seconds)
    result = SpeedResult(str(model), data, machine, batch_seconds, runs, agreement)
    if out is not None:
        result.save(Path(out))
    return result


def measure_speed(
    tokenizer: Tokenizer, recordings: Sequence[Recording], *, repeats: int = 1
) -> tuple[Speed, list[Segmentation]]:
    """Time the way from audio files to units, after an untimed run that compiles and warms up.

    Args:
        tokenizer: the tokenizer.
        recordings: recordings to encode; decoded in this thread, all held at once.
        repeats: timed runs, of which the fastest counts.

    Returns:
        The times, and the units of each recording.
    """
    if not recordings or repeats < 1:
        raise InputError("there must be at least one recording and one repeat to time")
    # Short and long recordings are encoded differently, and a GPU chooses its algorithms by the shape of a batch.
    tokenizer.encode([recording.load() for recording in recordings])
    runs = [_run(tokenizer, recordings) for _ in range(repeats)]
    return min(runs, key=lambda run: run[0].seconds)


def _run(tokenizer: Tokenizer, recordings: Sequence[Recording]) -> tuple[Speed, list[Segmentation]]:
    device = tokenizer.encoder.device
    _reset_peak(device)
    cpu, start = time.process_time(), time.perf_counter()
    with Stopwatch(lambda: torch.cuda.synchronize(device) if device.type == "cuda" else None) as watch:
        _watch_stages(watch, tokenizer)
        with watch.stage(DECODE):
            waves = [recording.load() for recording in recordings]
        with watch.stage(REST):
            found = tokenizer.encode(waves)
    cpu, taken = time.process_time() - cpu, time.perf_counter() - start
    # Time between the stages belongs to none of them.
    watch.seconds[REST] += max(0.0, taken - sum(watch.seconds.values()))
    audio_seconds = sum(map(len, waves)) / SAMPLE_RATE
    parts = {stage: watch.seconds[stage] for stage in STAGES}
    total = sum(parts.values())
    return Speed(
        precision=getattr(tokenizer.encoder, "precision", "float32"),
        recordings=len(waves),
        audio_seconds=audio_seconds,
        cpu_seconds=cpu,
        peak_memory_mib=_peak_memory() / 2**20,
        peak_device_mib=torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
        units=sum(map(len, found)),
        stages=tuple(
            StageTime(stage, seconds, seconds / total, audio_seconds / seconds if seconds > 0 else None)
            for stage, seconds in {**parts, ALL: total}.items()
        ),
    ), found


def _watch_stages(watch: Stopwatch, tokenizer: Tokenizer) -> None:
    encoder: Any = tokenizer.encoder
    if hasattr(encoder, "convolve"):
        watch.watch(encoder, "convolve", CONVOLUTIONS)
        watch.watch(encoder, "project", TRANSFORMER)
        watch.watch(encoder, "transform", TRANSFORMER)
    else:
        watch.watch(encoder, "encode", TRANSFORMER)
    watch.watch(tokenizer.rule, "spans", SEGMENTATION)
    watch.watch(tokenizer, "pool", UNITS)
    if tokenizer.codebook is not None:
        watch.watch(tokenizer.codebook, "assign", UNITS)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        # Linux: reset the highest resident size.
        peak.write_text("5")


def _peak_memory() -> float:
    """Return the highest resident size of this process in bytes: since the reset on Linux, else ever."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


@dataclass(frozen=True)
class AgreementCounts(Counts):
    """Agreement of the units of two runs; add those of recordings to get those of a corpus.

    Args:
        boundaries: boundaries of one run against the other's, `TOLERANCE` apart at most.
        frames, same_frames: frames of both, and those that carry the same unit (or both none).
        recordings, same_recordings: recordings, and those with the same boundaries and units throughout.
    """

    boundaries: BoundaryCounts = field(default_factory=BoundaryCounts)
    frames: int = 0
    same_frames: int = 0
    recordings: int = 0
    same_recordings: int = 0

    @property
    def unit_agreement(self) -> float:
        """Share of the frames that carry the same unit; 1.0 where there are no frames."""
        return self.same_frames / self.frames if self.frames else 1.0


def compare_units(found: Segmentation, reference: Segmentation) -> AgreementCounts:
    """Compare two segmentations of one recording; InputError where they differ in length or frame grid."""
    if (found.num_frames, found.hop, found.sample_rate) != (reference.num_frames, reference.hop, reference.sample_rate):
        raise InputError("two segmentations of one recording must have the same frames")
    frame_seconds = found.hop / found.sample_rate
    counts = boundary_counts(found.boundaries * frame_seconds, reference.boundaries * frame_seconds, TOLERANCE)
    same = int(np.count_nonzero(found.frame_units() == reference.frame_units()))
    return AgreementCounts(counts, found.num_frames, same, 1, int(found == reference))


def make_clips(folder: Path, count: int, seconds: float = 25.0) -> Manifest:
    """Write clips of the bundled recording, repeated, each from another offset, as flac files.

    Raises:
        InputError: no clips, or clips without length.
    """
    check_positive("seconds of a clip", seconds)
    if count < 1:
        raise InputError(f"{count} clips: give at least one")
    sample = load_audio(BUNDLED / "sample.flac")
    length = max(1, round(seconds * SAMPLE_RATE))
    clips = []
    for number in range(count):
        path = folder / f"clip{number:04d}.flac"
        # The step is a prime, so that no two clips of a batch are the same.
        save_audio(path, np.resize(np.roll(sample, -number * 7919), length))
        clips.append(Recording(path.stem, path, length, SAMPLE_RATE))
    return Manifest(clips)


def describe_machine(device: torch.device) -> MachineInfo:
    """Describe this machine: processor, cores, threads, load, GPU, torch."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    return MachineInfo(
        processor=processor,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        torch=torch.__version__,
    )
