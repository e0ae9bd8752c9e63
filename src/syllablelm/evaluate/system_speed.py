"""Speed of the paper's systems side by side (Table 9): encoders with their segmentation, and language models."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from syllablelm.core.errors import InputError, check_positive, unknown_name
from syllablelm.core.files import scratch_folder
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Record, Result
from syllablelm.core.segmentation import Segmentation
from syllablelm.encoders.data2vec2 import Data2Vec2Encoder
from syllablelm.encoders.data2vec2_model import Data2Vec2, Data2Vec2Shape
from syllablelm.encoders.device import Precision, check_precision, pick_device
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.load import load_encoder
from syllablelm.evaluate.lists import ScoredData
from syllablelm.evaluate.speed import MachineInfo, describe_machine, make_clips
from syllablelm.lm.backbone import LMShape
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.lm.store import TokenInfo
from syllablelm.segment.arrays import map_clips
from syllablelm.segment.segmenter import Clip, count_segments, segment_clip

Size = Literal["full", "miniature"]
RANDOM = "random"
RATE = 5.0
"""Segments per second of the encoders: one in 0.2 s, as in Peng et al. (2023)."""


@dataclass(frozen=True)
class PaperEncoder:
    """An encoder of Table 9: layer of its features, segmentation method, and layer of the norms of SD-HuBERT."""

    checkpoint: str
    layer: int
    method: str
    norm_layer: int | None = None


@dataclass(frozen=True)
class PaperLM:
    """A language model of Table 9: number of units, and units per second of audio."""

    checkpoint: str
    units: int
    rate: float


SYSTEMS: Mapping[str, PaperEncoder | PaperLM] = {
    "SD-HuBERT": PaperEncoder("sd-hubert", 9, "sdhubert", 11),
    "HuBERT + MinCut": PaperEncoder("hubert", 9, "similarity-merge"),
    "HuBERT + MinSum": PaperEncoder("hubert", 9, "minsum"),
    "Data2Vec2 + MinSum": PaperEncoder("data2vec2", 11, "minsum"),
    "TWIST LM": PaperLM("twist", 500, 19.5),
    "SyllableLM 6.25 Hz, 8k units": PaperLM("syllablelm", 8192, 6.25),
}
"""The rows of Table 9; Data2Vec2 is not among the printed ones."""
CHECKPOINTS = tuple(dict.fromkeys(system.checkpoint for system in SYSTEMS.values()))
# The ratios that the paper claims, and their printed values.
RATIOS = (
    ("HuBERT + MinSum", "HuBERT + MinCut", 488 / 88),
    ("SyllableLM 6.25 Hz, 8k units", "TWIST LM", 34_700 / 7_800),
)


@dataclass(frozen=True)
class SystemSpeed(Record):
    """Speed of one system.

    Args:
        system, weights: row of `SYSTEMS`, and its checkpoint, or "random".
        task: "encoding" (waveforms to segments, without codebook), or of a language model "generation" or "scoring".
        audio_per_second, standard_error: seconds of audio per second, mean over the runs, and its standard error
            (None for one run).
        units_per_second: segments found, or units generated or scored, per second of audio.
    """

    system: str
    weights: str
    task: str
    audio_per_second: float
    standard_error: float | None
    units_per_second: float


@dataclass(frozen=True)
class SpeedRatio(Record):
    """Speed of one system over that of another at one task, and the same as the paper prints it."""

    system: str
    against: str
    task: str
    ratio: float
    published: float


@dataclass(frozen=True)
class SystemSpeedResult(Result):
    """Speeds of the systems of Table 9 on the same clips, all of which are in memory and in one batch."""

    evaluation: ClassVar[str] = "system-speed"

    data: ScoredData
    size: str
    clip_seconds: float
    precision: str
    repeats: int
    machine: MachineInfo
    rows: tuple[SystemSpeed, ...]
    ratios: tuple[SpeedRatio, ...]


def evaluate_system_speed(
    *,
    size: Size = "full",
    checkpoints: Sequence[str] = (),
    clips: int | None = None,
    clip_seconds: float | None = None,
    repeats: int = 3,
    precision: Precision = "float32",
    device: str = "auto",
    out: str | os.PathLike[str] | None = None,
) -> SystemSpeedResult:
    """Time the systems of Table 9: SD-HuBERT, HuBERT and Data2Vec2 with MinCut or MinSum, and two language models.

    Encoders are timed from waveforms in memory to segments, `RATE` a second, without codebook. Language models of one
    shape (12 x 768) read and generate the units of as much audio: one at TWIST's 19.5 a second, one at 6.25. Whether
    the paper generates or scores is not printed, so both are timed.

    Args:
        size: "full" is the paper's: 32 clips of 25 s and models of the true shapes; "miniature" takes seconds.
        checkpoints: "NAME=PATH" of encoders and language models, named as in `CHECKPOINTS`; the others have random
            weights.
        clips, clip_seconds: number and length of the clips, instead of the size's.
        repeats: timed runs, after an untimed one.
        precision: precision of matrix products ("float32" or "bfloat16"; "float16" for encoders on a GPU).
        device: "auto", "cpu" or "cuda".
        out: file to which the result is saved.

    Raises:
        InputError: an unknown checkpoint, size or precision, or a number out of range.
    """
    if size not in ("full", "miniature"):
        raise InputError(f"size {size!r}: choose full or miniature")
    given: dict[str, str] = {}
    for text in checkpoints:
        name, _, path = text.partition("=")
        if name not in CHECKPOINTS:
            raise unknown_name("checkpoint", name, CHECKPOINTS)
        if not path:
            raise InputError(f"checkpoint {text!r}: give NAME=PATH, such as {name}=folder")
        given[name] = path
    count, seconds = (32, 25.0) if size == "full" else (2, 4.0)
    count, seconds = clips or count, seconds if clip_seconds is None else clip_seconds
    check_positive("repeats", repeats)
    place = pick_device(device)
    check_precision(precision, place)
    with scratch_folder() as folder:
        waves = [recording.load() for recording in make_clips(folder, count, seconds)]
    audio_seconds = count * seconds
    rows = []
    with ProgressBar("systems", len(SYSTEMS)) as bar:
        for name, system in SYSTEMS.items():
            weights = given.get(system.checkpoint, RANDOM)
            # The same random weights for one system whatever the others are.
            torch.manual_seed(0)
            if isinstance(system, PaperEncoder):
                tasks = _encoding(system, weights, waves, size, precision, place)
            else:
                tasks = _language_model(system, weights, count, seconds, size, precision, place)
            for task, run in tasks.items():
                taken, units = _time(run, repeats, place)
                speeds = audio_seconds / np.array(taken)
                error = float(speeds.std(ddof=1) / math.sqrt(repeats)) if repeats > 1 else None
                rows.append(SystemSpeed(name, weights, task, float(speeds.mean()), error, units / audio_seconds))
            bar.advance(note=name)
    speed = {(row.system, row.task): row.audio_per_second for row in rows}
    ratios = tuple(
        SpeedRatio(name, other, task, speed[name, task] / speed[other, task], published)
        for name, other, published in RATIOS
        for task in ("encoding", "generation", "scoring")
        if (name, task) in speed
    )
    machine = describe_machine(place)
    data = ScoredData(name="bundled recording, repeated", recordings=count, seconds=audio_seconds)
    result = SystemSpeedResult(data, size, seconds, precision, repeats, machine, tuple(rows), ratios)
    if out is not None:
        result.save(Path(out))
    return result


def _time(run: Callable[[], int], repeats: int, place: torch.device) -> tuple[list[float], int]:
    """Return the seconds of the runs after an untimed one, and the number of units of a run."""
    units, seconds = run(), []
    for _ in range(repeats):
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        start = time.perf_counter()
        units = run()
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        seconds.append(time.perf_counter() - start)
    return seconds, units


def _encoding(
    system: PaperEncoder, weights: str, waves: Sequence[Any], size: Size, precision: Precision, place: torch.device
) -> dict[str, Callable[[], int]]:
    layer = system.norm_layer or system.layer
    encoder: Any
    if weights == RANDOM:
        encoder = _random_encoder(system, layer, size).to(place)
        encoder.precision = precision
    else:
        encoder = load_encoder(weights, layer, device=place, precision=precision)
    # The threshold of SD-HuBERT belongs to its checkpoint; random norms have another scale.
    relative = system.method == "sdhubert" and weights == RANDOM
    method = "sdhubert-relative" if relative else system.method
    frame_rate = encoder.sample_rate / encoder.hop
    layers = [system.layer] if system.norm_layer is None else [system.layer, system.norm_layer]

    def segment(features: Mapping[int, Any]) -> int:
        feats = features[system.layer]
        norms = None if system.norm_layer is None else features[system.norm_layer]
        count = count_segments(len(feats), RATE, frame_rate=frame_rate)
        found = segment_clip(method, Clip(len(feats), frame_rate, feats, norms), count)
        return len(found) - (found.ndim == 1)

    return {"encoding": lambda: sum(map_clips(segment, encoder.encode(waves, layers)))}


def _random_encoder(system: PaperEncoder, layer: int, size: Size) -> Any:
    """An encoder with random weights, of HuBERT's or Data2Vec2's base shape."""
    small = size == "miniature"
    if system.checkpoint == "data2vec2":
        shape = Data2Vec2Shape(32, 64, 4, 128) if small else Data2Vec2Shape()
        return Data2Vec2Encoder(Data2Vec2(shape), layer)
    from transformers.models.hubert.configuration_hubert import HubertConfig
    from transformers.models.hubert.modeling_hubert import HubertModel

    sizes: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    return HubEncoder(HubertModel(HubertConfig(**sizes, conv_dim=(32,) * 7) if small else HubertConfig()), layer)


def _language_model(
    system: PaperLM, weights: str, count: int, seconds: float, size: Size, precision: Precision, place: torch.device
) -> dict[str, Callable[[], int]]:
    units = max(1, round(seconds * system.rate))
    # One unit as a prompt, since not every model begins with BOS.
    batch_tokens, half = count * (units + 2), precision != "float32"
    if weights == RANDOM:
        shape = LMShape(2, 64, 4, 128, units + 2) if size == "miniature" else LMShape(positions=units + 2)
        network = shape.build(system.units).to(place, torch.bfloat16 if half else torch.float32)
        durations = np.full(system.units, round(50 / system.rate), dtype=np.int32)
        model = SpeechLM(network, TokenInfo(system.units), durations, batch_tokens=batch_tokens)
    else:
        kind: Literal["bfloat16", "float32"] = "bfloat16" if half else "float32"
        model = SpeechLM.load(weights, device=place, batch_tokens=batch_tokens, precision=kind)
    info = model.info
    # Neighbours differ, so that nothing is deduplicated.
    steps = np.random.default_rng(0).integers(1, info.num_tokens, size=(count, units + 1))
    grid = {"hop": info.hop, "sample_rate": info.sample_rate}
    rows = [
        Segmentation.from_boundaries(np.arange(units + 2), unit=row, **grid)
        for row in np.cumsum(steps, axis=1) % info.num_tokens
    ]
    prompts = [replace(row.select(slice(1)), num_frames=1) for row in rows]

    def generate() -> int:
        model.generate(prompts, units=units)
        return count * units

    def score() -> int:
        model.log_probs(rows)
        return count * units

    return {"generation": generate, "scoring": score}
