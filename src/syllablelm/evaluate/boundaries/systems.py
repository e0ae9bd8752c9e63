"""The systems of a boundary comparison: tokenizers, and segmentation methods on waveforms and encoder layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.vad import Method as VadMethod
from syllablelm.encoders import MaskedPredictor, load_encoder
from syllablelm.encoders.base import FrameEncoder
from syllablelm.evaluate.boundaries.comparison import Count, rate_count, reference_count
from syllablelm.evaluate.boundaries.selection import AlignmentLike
from syllablelm.segment.registry import get_method
from syllablelm.segment.segmenter import FrameGrid, Segmenter, make_segmenter
from syllablelm.tokenizer.tokenizer import Tokenizer

# Of every --encoder layer where no method that reads an encoder is named.
ENCODER_METHODS = ("similarity", "minsum", "peaks")


@dataclass(frozen=True)
class System:
    """One system of a comparison: a segmentation of waveforms, and where it comes from.

    Args:
        segmenter: segmentation of waveforms.
        count, method, model, layer: as in `BoundaryRow`; method is None for tokenizers.
    """

    segmenter: Segmenter
    count: str
    method: str | None = None
    model: str | None = None
    layer: int | None = None


class _OwnCount:
    """A tokenizer that chooses its number of segments.

    It keeps the last recording's segmentation, so that asking for the count and then for the segments encodes once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._last: tuple[object, Segmentation] | None = None

    def _segment(self, waveform: npt.NDArray[np.float32]) -> Segmentation:
        if self._last is None or self._last[0] is not waveform:
            self._last = (waveform, self.tokenizer.encode(waveform))
        return self._last[1]

    def count(self, name: str, waveform: npt.NDArray[np.float32], segmenter: Segmenter) -> int:
        return max(1, len(self._segment(waveform)))

    def cut(self, waveform: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int32]:
        segmentation = self._segment(waveform)
        return np.stack([segmentation.start, segmentation.end], axis=1)


class _LayerFeatures:
    """One layer of an encoder that many systems share: a recording is encoded once, for all layers."""

    def __init__(self, model: FrameEncoder, layer: int, layers: list[int], kept: dict[str, Any]) -> None:
        self.layer, self.dim, self.num_frames = layer, model.dim, model.num_frames
        self.hop, self.receptive_field, self.sample_rate = model.hop, model.receptive_field, model.sample_rate
        self._model, self._layers, self._kept = model, layers, kept

    def encode(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        (waveform,) = waveforms
        if self._kept.get("waveform") is not waveform:
            self._kept.update(waveform=waveform, features=self._model.encode([waveform], self._layers)[0])
        return [self._kept["features"][self.layer]]


@dataclass(frozen=True)
class Systems:
    """Systems by name, and the number of segments that they are asked for."""

    systems: dict[str, System]
    count: Count


def make_systems(
    models: Sequence[str],
    methods: Sequence[str],
    encoders: Sequence[str],
    layers: Sequence[int],
    *,
    count: str | float,
    references: Mapping[str, AlignmentLike],
    predictors: Sequence[str] = (),
    vad: VadMethod = "energy",
    gap: int = 150,
    device: str = "auto",
) -> Systems:
    """Build the systems of a comparison.

    Args:
        models: tokenizers. Unless the count is "own", one whose method chooses its own number of segments is compared
            by MinSum on its features.
        methods: segmentation methods; those on features give a system for each encoder and layer ("minsum@9"), those
            on a masked-prediction head one for each predictor.
        encoders: encoders of the methods; without a method that reads one, `ENCODER_METHODS`.
        layers: layers of the encoders, 1-based; all where empty, and those that an encoder has.
        count: "reference", "own" (the first tokenizer's own number, for every system) or a rate per second.
        references: alignments by recording id, for "reference".
        predictors: encoders with their masked-prediction heads, by default the encoders; without a method that reads
            them, "losspred".
        vad, gap: voice activity detection of "losspred", see `speech_regions`; its gap and that of "combined", frames.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: an unknown count, method or layer, "own" without a tokenizer, or a method without its encoder.
    """
    wanted = [get_method(name) for name in dict.fromkeys(methods)]
    if predictors and not any("predictor" in method.needs for method in wanted):
        wanted.append(get_method("losspred"))
    on_encoder = [method for method in wanted if {"features", "predictor"} & set(method.needs)]
    for method in on_encoder:
        if "predictor" in method.needs and not (predictors or encoders):
            needed = "an encoder with its masked-prediction head; give --predictor NAME|PATH"
        elif "features" in method.needs and not encoders:
            needed = "an encoder; give --encoder NAME|PATH"
        else:
            continue
        raise InputError(f"segmentation method {method.name!r} needs {needed} too")
    if count == "own" and not models:
        raise InputError("--count own is the count of a tokenizer; give --model NAME too")
    requested = reference_count(references) if count in ("reference", "own") else rate_count(_parse_rate(count))
    source = f"own of {models[0]}" if count == "own" else str(count)
    systems: dict[str, System] = {}
    for name in models:
        tokenizer = Tokenizer.load(name, device=device)
        if count == "own":
            own = _OwnCount(tokenizer)
            requested = requested if systems else own.count
            systems[name] = System(Segmenter(FrameGrid.of(tokenizer.encoder), own.cut), "own", model=name)
        else:
            rule = tokenizer.rule
            method = rule.method if get_method(rule.method).counted else "minsum"
            segmenter = make_segmenter(method, encoder=tokenizer.encoder, max_length=rule.max_length)
            systems[name] = System(segmenter, source, model=name)
    for method in wanted:
        if method not in on_encoder:
            systems[method.name] = System(make_segmenter(method.name), _source(method.name, source), method.name)
    on_head = [method.name for method in on_encoder if "predictor" in method.needs]
    on_features = [method.name for method in on_encoder if "features" in method.needs]
    heads = (predictors or encoders) if on_head else ()
    for path in heads:
        label = f"{encoder_label(path)} " if len(heads) > 1 else ""
        predictor = MaskedPredictor.load(path, device=device)
        for name in on_head:
            segmenter = make_segmenter(name, predictor=predictor, vad=vad, gap=gap)
            systems[f"{label}{name}"] = System(segmenter, source, name, path)
    if not on_features and not (on_head and not predictors):
        on_features = [*ENCODER_METHODS]
    for encoder in encoders:
        label = f"{encoder_label(encoder)} " if len(encoders) > 1 else ""
        for (name, layer), segmenter in _layer_segmenters(encoder, layers, on_features, device).items():
            systems[f"{label}{name}@{layer}"] = System(segmenter, _source(name, source), name, encoder, layer)
    return Systems(systems, requested)


def _source(method: str, source: str) -> str:
    return source if get_method(method).counted else "own"


def _parse_rate(value: str | float) -> float:
    try:
        rate = float(value)
    except ValueError:
        rate = 0.0
    if not (math.isfinite(rate) and rate > 0):
        raise InputError(f"--count {value!r}: choose reference, own, or a number of segments per second")
    return rate


def encoder_label(name: str) -> str:
    """Return what tells one encoder from another: its folder's name, or that of the stage that it belongs to."""
    path = Path(name)
    return path.parent.name if path.name == "encoder" and path.parent.name else path.name


def _layer_segmenters(
    encoder: str, layers: Sequence[int], methods: Sequence[str], device: str
) -> dict[tuple[str, int], Segmenter]:
    """Return segmenters by method and layer, which share one pass of the encoder."""
    if not methods:
        return {}
    model = load_encoder(encoder, device=device)
    wanted = [layer for layer in layers or range(1, model.layer + 1) if 1 <= layer <= model.layer]
    if not wanted:
        raise InputError(f"--layers {','.join(map(str, layers))}: {encoder} has layers 1 to {model.layer}")
    kept: dict[str, Any] = {}
    shared: dict[int, Any] = {layer: _LayerFeatures(model, layer, wanted, kept) for layer in wanted}
    return {
        (name, layer): make_segmenter(name, encoder=features) for name in methods for layer, features in shared.items()
    }
