"""How fast a tokenizer is, stage by stage, and whether lower precision changes its units."""

from __future__ import annotations

import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from syllablelm.core.errors import InputError
from syllablelm.core.models import BUNDLED
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE, load_audio, save_audio
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.evaluate.boundaries.scores import BoundaryCounts, boundary_counts
from syllablelm.tokenizer.tokenizer import Tokenizer

TOLERANCE = 0.02
"""Seconds by which a boundary may differ between precisions and still count as the same: one frame at 50 Hz."""

DECODE, CONVOLUTIONS, TRANSFORMER = "decoding", "convolutions", "transformer"
SEGMENTATION, UNITS, REST = "segmentation", "pooling and units", "the rest"
STAGES = (DECODE, CONVOLUTIONS, TRANSFORMER, SEGMENTATION, UNITS, REST)


class Stopwatch:
    """Seconds spent in stages; what a stage spends inside another counts for the inner one only.

    Args:
        synchronize: waits for what was started on a GPU; called on both sides of every stage.

    Only calls from one thread are counted right. On leaving its `with` block all that it watched is as it was.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._synchronize = synchronize
        # Of each stage that is running, the time that stages inside it took.
        self._inner: list[float] = []
        self._watched: list[tuple[Any, str]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block for a stage."""
        self._synchronize()
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._synchronize()
            taken = time.perf_counter() - start
            self.seconds[name] += taken - self._inner.pop()
            if self._inner:
                self._inner[-1] += taken

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
class Speed:
    """One timed run.

    Args:
        precision: of the encoder.
        recordings: how many were encoded.
        audio_seconds: their length together.
        stages: seconds of each of `STAGES`.
        cpu_seconds: computing time of all threads; hardly changed by what else a machine does.
        peak_memory_mib: most memory of the process during the run.
        peak_device_mib: most memory of tensors on the GPU during the run; None on a CPU.
        num_units: units found.
    """

    precision: str
    recordings: int
    audio_seconds: float
    stages: Mapping[str, float]
    cpu_seconds: float
    peak_memory_mib: float
    peak_device_mib: float | None
    num_units: int

    @property
    def seconds(self) -> float:
        """Time of the whole run."""
        return sum(self.stages.values())

    @property
    def speed(self) -> float:
        """Seconds of audio per second."""
        return self.audio_seconds / self.seconds

    def rows(self) -> list[dict[str, Any]]:
        """A row for each stage and one for all: seconds, share, seconds of audio per second."""
        parts = {**self.stages, "all": self.seconds}
        return [
            {
                "stage": stage,
                "seconds": seconds,
                "share": seconds / self.seconds,
                "audio_per_second": self.audio_seconds / seconds if seconds > 0 else None,
            }
            for stage, seconds in parts.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "precision": self.precision,
            "recordings": self.recordings,
            "audio_seconds": self.audio_seconds,
            "seconds": self.seconds,
            "audio_per_second": self.speed,
            "cpu_seconds": self.cpu_seconds,
            "audio_per_cpu_second": self.audio_seconds / self.cpu_seconds if self.cpu_seconds else None,
            "peak_memory_mib": self.peak_memory_mib,
            "peak_device_mib": self.peak_device_mib,
            "units": self.num_units,
            "stages": self.rows(),
        }


def measure_speed(
    tokenizer: Tokenizer, recordings: Sequence[Recording], *, repeats: int = 1
) -> tuple[Speed, list[Segmentation]]:
    """Time the way from audio files to units, after an untimed one that compiles and warms up.

    Args:
        tokenizer: what is timed.
        recordings: what is encoded; decoded in this thread, all held at once.
        repeats: timed runs, of which the fastest counts.

    Returns:
        The times, and the units of each recording.

    Raises:
        InputError: no recordings, or fewer than one repeat.
        AudioError: a recording that cannot be used.
    """
    if not recordings or repeats < 1:
        raise InputError("there must be at least one recording and one repeat to time")
    # Short and long recordings take different ways, and a GPU chooses its algorithms by the shape of a batch.
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
    # What passed between the stages belongs to none of them.
    watch.seconds[REST] += max(0.0, taken - sum(watch.seconds.values()))
    return Speed(
        precision=getattr(tokenizer.encoder, "precision", "float32"),
        recordings=len(waves),
        audio_seconds=sum(map(len, waves)) / SAMPLE_RATE,
        stages={stage: watch.seconds[stage] for stage in STAGES},
        cpu_seconds=cpu,
        peak_memory_mib=_peak_memory() / 2**20,
        peak_device_mib=torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
        num_units=sum(map(len, found)),
    ), found


def _watch_stages(watch: Stopwatch, tokenizer: Tokenizer) -> None:
    encoder: Any = tokenizer.encoder
    if hasattr(encoder, "convolve"):
        watch.watch(encoder, "convolve", CONVOLUTIONS)
        watch.watch(encoder, "project", TRANSFORMER)
        watch.watch(encoder, "transform", TRANSFORMER)
    else:
        watch.watch(encoder, "encode", TRANSFORMER)
    watch.watch(tokenizer.rule, "boundaries", SEGMENTATION)
    watch.watch(tokenizer, "pool", UNITS)
    if tokenizer.codebook is not None:
        watch.watch(tokenizer.codebook, "assign", UNITS)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        # Linux: forget the highest resident size so far.
        peak.write_text("5")


def _peak_memory() -> float:
    """Most resident bytes of this process: since the reset on Linux, else ever."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


@dataclass(frozen=True)
class Agreement:
    """How far the units of two runs are the same; add those of recordings to get those of a corpus.

    Args:
        boundaries: of one run against the other's, `TOLERANCE` apart at most.
        frames: frames of both.
        same_frames: of them, those that carry the same unit (or both none).
        recordings: how many were compared.
        same_recordings: of them, those with the same boundaries and units throughout.
    """

    boundaries: BoundaryCounts = field(default_factory=BoundaryCounts)
    frames: int = 0
    same_frames: int = 0
    recordings: int = 0
    same_recordings: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        if not isinstance(other, Agreement):
            return NotImplemented
        return Agreement(
            self.boundaries + other.boundaries,
            self.frames + other.frames,
            self.same_frames + other.same_frames,
            self.recordings + other.recordings,
            self.same_recordings + other.same_recordings,
        )

    @property
    def unit_agreement(self) -> float:
        """Share of the frames that carry the same unit; 1.0 where there are no frames."""
        return self.same_frames / self.frames if self.frames else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "boundary_f1_20ms": self.boundaries.f1,
            "unit_agreement": self.unit_agreement,
            "frames": self.frames,
            "recordings": self.recordings,
            "same_recordings": self.same_recordings,
        }


def compare_units(found: Segmentation, reference: Segmentation) -> Agreement:
    """Compare two segmentations of one recording.

    Raises:
        InputError: they differ in length or frame grid.
    """
    if (found.num_frames, found.hop, found.sample_rate) != (reference.num_frames, reference.hop, reference.sample_rate):
        raise InputError("two segmentations of one recording must have the same frames")
    frame_seconds = found.hop / found.sample_rate
    counts = boundary_counts(found.boundaries * frame_seconds, reference.boundaries * frame_seconds, TOLERANCE)
    same = int(np.count_nonzero(_frame_units(found) == _frame_units(reference)))
    return Agreement(counts, found.num_frames, same, 1, int(found == reference))


def _frame_units(segmentation: Segmentation) -> np.ndarray:
    """(num_frames,) unit of each frame, or the number of its segment where there are no units; -1 in gaps."""
    units = np.full(segmentation.num_frames, -1, dtype=np.int64)
    values = np.arange(len(segmentation)) if segmentation.unit is None else segmentation.unit
    for start, end, value in zip(segmentation.start, segmentation.end, values, strict=True):
        units[start:end] = value
    return units


def make_clips(folder: Path, count: int, seconds: float = 25.0) -> Manifest:
    """Write clips of the bundled recording, repeated, each from another place on, as flac files.

    Raises:
        InputError: no clips, or clips without length.
    """
    if count < 1 or not 0 < seconds < float("inf"):
        raise InputError(f"{count} clips of {seconds} s: give at least one, and some length")
    sample = load_audio(BUNDLED / "sample.flac")
    length = max(1, round(seconds * SAMPLE_RATE))
    clips = []
    for number in range(count):
        path = folder / f"clip{number:04d}.flac"
        # An odd step, so that no two clips of a batch are the same.
        save_audio(path, np.resize(np.roll(sample, -number * 7919), length))
        clips.append(Recording(path.stem, path, length, SAMPLE_RATE))
    return Manifest(clips)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the numbers belong to: processor, cores, threads, load, GPU, torch."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        # Above the number of cores, other work slowed this run down.
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
    }
