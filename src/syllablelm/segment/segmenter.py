"""Segmenters: the functions of the registered methods, and what applies one to a waveform."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE
from syllablelm.data.vad import Method as VadMethod
from syllablelm.data.vad import speech_frames
from syllablelm.segment.baselines import boundary_strength, envelope, envelope_valleys, even_boundaries
from syllablelm.segment.combined import combined_boundaries, feature_step, novelty, peak_boundaries
from syllablelm.segment.graph_cut import mincut, similarity_matrix
from syllablelm.segment.least_squares import feasible_count, minsum, minsum_dynamic, minsum_penalty
from syllablelm.segment.losspred import losspred_matrix
from syllablelm.segment.mel import frame_count, log_mel
from syllablelm.segment.pauses import plan_pauses
from syllablelm.segment.registry import METHODS, get_method
from syllablelm.segment.rivals import (
    SDHUBERT_THRESHOLD,
    SYLBER_THRESHOLD,
    greedy_cosine_merge,
    norm_peaks,
    norm_threshold_mincut,
    relative_threshold,
    similarity_merge,
)

if TYPE_CHECKING:
    from syllablelm.encoders.base import FrameEncoder
    from syllablelm.encoders.masked_prediction import MaskedPredictor

Waveform = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]
Boundaries = npt.NDArray[np.int32]

# Peng et al. and SD-HuBERT cut a segment for every 0.2 s before they merge.
SEGMENT_SECONDS = 0.2
# The published inference code allows 0.2 segments a frame at 50 frames per second.
RELEASED_MAX_RATE = 10.0


@dataclass(frozen=True)
class FrameGrid:
    """Positions of the frames of a recording: samples per frame, of the shortest clip with a frame, and per second."""

    hop: int
    receptive_field: int
    sample_rate: int

    @classmethod
    def of(cls, encoder: FrameEncoder) -> FrameGrid:
        """Return the frame grid of an encoder."""
        return cls(encoder.hop, encoder.receptive_field, encoder.sample_rate)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    def num_frames(self, num_samples: int) -> int:
        """Number of frames of a recording."""
        return frame_count(num_samples, self.hop, self.receptive_field)


# Of methods without an encoder: as many frames as HuBERT has.
HUBERT_GRID = FrameGrid(320, 400, SAMPLE_RATE)


def count_segments(num_frames: int, rate: float, *, frame_rate: float, max_length: int = 50) -> int:
    """Return k = round(rate x seconds), clipped to what segments of at most ``max_length`` frames allow."""
    return feasible_count(num_frames, round(rate * num_frames / frame_rate), 1, max_length)


# The methods. Each takes a clip, the number of segments where it is counted, and its parameters by keyword. It returns
# boundaries [0, ..., num_frames], or (num_segments, 2) starts and ends if it may leave gaps.


@dataclass(frozen=True)
class Clip:
    """One recording, or one window of it, as a method reads it.

    Args:
        num_frames, frame_rate, hop: number of frames, T; frames per second; samples per frame.
        features, norm_features: (T, D) of the encoder; and those whose norms "sdhubert" compares with its threshold.
        waveform: (num_samples,).
        predictor: encoder with its masked-prediction head.
    """

    num_frames: int
    frame_rate: float
    features: Any = None
    norm_features: Any = None
    waveform: Any = None
    hop: int = HUBERT_GRID.hop
    predictor: Any = None

    @property
    def strength(self) -> npt.NDArray[np.float64]:
        """(T,) acoustic boundary score; an encoder may have a frame more or less than there are windows of 25 ms."""
        score = boundary_strength(self.waveform, hop=self.hop)[: self.num_frames]
        return np.pad(score, (0, self.num_frames - len(score)), mode="edge" if len(score) else "constant")

    def clip_count(self, count: int, max_length: int | None = None) -> int:
        """Clip a number of segments to what is feasible."""
        return feasible_count(self.num_frames, count, 1, max_length or max(self.num_frames, 1))


def _minsum(clip: Clip, count: int, *, min_length: int = 1, max_length: int = 50) -> Boundaries:
    count = clip.clip_count(count, max_length)
    # A very short clip may not hold its segments at the requested shortest length.
    shortest = max(1, min(min_length, clip.num_frames // max(count, 1)))
    return minsum(clip.features, count, min_length=shortest, max_length=max_length)


def _released(
    clip: Clip, count: int, *, delta: float, quantile: float = 0.75, min_length: int = 3, max_length: int = 35
) -> Boundaries:
    max_rate = min(1.0, RELEASED_MAX_RATE / clip.frame_rate)
    lengths = {"min_length": min_length, "max_length": max_length}
    return minsum_dynamic(clip.features, delta, quantile=quantile, max_rate=max_rate, **lengths)


def _similarity(clip: Clip, count: int, *, max_length: int = 50) -> Boundaries:
    return mincut(similarity_matrix(clip.features), clip.clip_count(count, max_length), max_length=max_length)


def _losspred(clip: Clip, count: int, *, max_length: int = 50, vad: VadMethod = "energy", **spans: int) -> Boundaries:
    """Cut the speech alone, joined, as in the paper; every pause is a segment, or several of at most `max_length`."""
    if clip.num_frames == 0:
        return np.zeros(1, dtype=np.int32)
    count, hop, encoder = clip.clip_count(count, max_length), clip.hop, clip.predictor.encoder
    is_speech = speech_frames(clip.waveform, clip.num_frames, hop, method=vad)
    plan = plan_pauses(is_speech, count, max_length=max_length, most_speech=RELEASED_MAX_RATE / clip.frame_rate)
    joined = clip.waveform
    if len(plan.starts):
        # The last frame reaches beyond its hop.
        stretches = plan.speech * hop
        stretches[-1, 1] += encoder.receptive_field - hop
        joined = np.concatenate([clip.waveform[start:end] for start, end in stretches])
    matrix = losspred_matrix(clip.predictor, joined, **spans)
    return plan.place(mincut(matrix, plan.count, max_length=max_length, edges=plan.joins))


def _combine(change: npt.NDArray[np.floating[Any]], clip: Clip, count: int) -> Boundaries:
    return combined_boundaries(change, clip.strength, clip.clip_count(count))


def _frames_per_segment(clip: Clip) -> float:
    return max(1.0, SEGMENT_SECONDS * clip.frame_rate)


def _sdhubert(clip: Clip, count: int, *, relative: bool = False) -> Boundaries:
    loud = clip.features if clip.norm_features is None else clip.norm_features
    return norm_threshold_mincut(
        clip.features,
        norms=np.linalg.norm(loud.astype(np.float64), axis=1),
        threshold=relative_threshold(loud) if relative else SDHUBERT_THRESHOLD,
        frames_per_segment=_frames_per_segment(clip),
    )


def _sylber(clip: Clip, count: int, *, relative: bool = False) -> Boundaries:
    threshold = relative_threshold(clip.features) if relative else SYLBER_THRESHOLD
    return greedy_cosine_merge(clip.features, threshold=threshold)


FUNCTIONS: dict[str, Callable[..., Boundaries]] = {
    "even": lambda clip, count, max_length=50: even_boundaries(clip.num_frames, clip.clip_count(count, max_length)),
    "frames": lambda clip, count: np.arange(clip.num_frames + 1),
    "envelope": lambda clip, count: envelope_valleys(envelope(clip.waveform), clip.clip_count(count)),
    "strength": lambda clip, count: envelope_valleys(-boundary_strength(clip.waveform), clip.clip_count(count)),
    "mel": lambda clip, count, **limits: _minsum(replace(clip, features=log_mel(clip.waveform)), count, **limits),
    "similarity": _similarity,
    "minsum": _minsum,
    "released": _released,
    "penalty": lambda clip, _, *, delta, **limits: minsum_penalty(clip.features, delta, **limits),
    "peaks": lambda clip, count: peak_boundaries(clip.features, clip.clip_count(count)),
    "refined": lambda clip, count: _combine(feature_step(clip.features), clip, count),
    "losspred": _losspred,
    "combined": lambda clip, count, **spans: _combine(
        novelty(losspred_matrix(clip.predictor, clip.waveform, **spans)), clip, count
    ),
    "similarity-merge": lambda clip, _: similarity_merge(clip.features, frames_per_segment=_frames_per_segment(clip)),
    "sdhubert": _sdhubert,
    "sdhubert-relative": partial(_sdhubert, relative=True),
    "sylber": _sylber,
    "sylber-relative": partial(_sylber, relative=True),
    "zerosyl": lambda clip, _: norm_peaks(clip.features),
}


def segment_clip(name: str, clip: Clip, count: int = 0, **parameters: float | str) -> Boundaries:
    """Segment one clip by a method of the registry.

    Args:
        count: requested number of segments; ignored by methods that choose their own.
        parameters: settings by name; those that the method does not take are ignored.

    Returns:
        int32 boundaries [0, ..., num_frames], or (num_segments, 2) starts and ends of a method that may leave gaps.
    """
    method = get_method(name)
    taken = {key: value for key, value in parameters.items() if key in method.parameters}
    return np.asarray(FUNCTIONS[method.name](clip, count, **taken), dtype=np.int32)


def to_spans(boundaries: Boundaries) -> Boundaries:
    """Return (num_segments, 2) starts and ends, of boundaries [0, ..., T] or of such starts and ends themselves."""
    return boundaries if boundaries.ndim == 2 else np.stack([boundaries[:-1], boundaries[1:]], axis=1)


@dataclass(frozen=True)
class Segmenter:
    """A function (waveform, num_segments) -> Segmentation of the whole recording, without units.

    Args:
        grid: the frames that are segmented.
        cut: (waveform, num_segments) -> what ``segment_clip`` returns.
    """

    grid: FrameGrid
    cut: Callable[[Waveform, int], Boundaries]

    def __call__(self, waveform: Waveform, count: int) -> Segmentation:
        found = self.cut(waveform, count)
        if found.ndim == 1:
            return Segmentation.from_boundaries(found, hop=self.grid.hop, sample_rate=self.grid.sample_rate)
        num_frames = self.grid.num_frames(len(waveform))
        return Segmentation(found[:, 0], found[:, 1], None, num_frames, self.grid.hop, self.grid.sample_rate)

    def count_segments(self, waveform: Waveform, rate: float, max_length: int = 50) -> int:
        """Return the number of segments of a recording at a rate per second, see ``count_segments``."""
        num_frames = self.grid.num_frames(len(waveform))
        return count_segments(num_frames, rate, frame_rate=self.grid.frame_rate, max_length=max_length)


def make_segmenter(
    name: str,
    *,
    encoder: FrameEncoder | None = None,
    predictor: MaskedPredictor | None = None,
    feature_layer: int | None = None,
    **parameters: float | str,
) -> Segmenter:
    """Build a segmenter of waveforms, on the frames of the model, or on HuBERT's without one.

    "even", "mel", "similarity", "minsum" and "losspred" give exactly the requested number, clipped to what is feasible;
    methods on peaks and valleys give fewer where there are fewer of them; the others choose their own. A clip without
    frames gives no segment.

    Args:
        name: method of the registry. The norm thresholds of "sdhubert" and "sylber" belong to those checkpoints; with
            "-relative" they follow the scale of the recording's norms, for any encoder.
        encoder, predictor: encoder of methods on features; and with its prediction head, of "losspred" and "combined".
        feature_layer: layer of the features of "sdhubert", where it is not the one whose norms are compared with the
            threshold, which is the encoder's own (published: 9, and 11 for the norms).
        parameters: settings of the methods, see ``Method.parameters``; those of other methods are ignored.

    Raises:
        InputError: an unknown name or setting, or the model it needs was not given.
    """
    method = get_method(name)
    unknown = set(parameters) - {key for one in METHODS.values() for key in one.parameters}
    if unknown:
        raise InputError(f"no segmentation method takes {min(unknown)!r}")
    model = None
    if "predictor" in method.needs:
        if predictor is None:
            raise InputError(f"segmentation method {name!r} needs an encoder with its masked-prediction head")
        model = predictor.encoder
    elif "features" in method.needs:
        if encoder is None:
            raise InputError(f"segmentation method {name!r} needs an encoder")
        model = encoder
    grid = HUBERT_GRID if model is None else FrameGrid.of(model)

    def cut(waveform: Waveform, count: int) -> Boundaries:
        features = norm_features = None
        if model is not None and "features" in method.needs:
            if model.num_frames(len(waveform)) == 0:
                features = np.zeros((0, model.dim), dtype=np.float32)
            elif feature_layer is None:
                features = model.encode([waveform])[0]
            else:
                layers = model.encode([waveform], [feature_layer, model.layer])[0]
                features, norm_features = layers[feature_layer], layers[model.layer]
        num_frames = grid.num_frames(len(waveform)) if features is None else len(features)
        clip = Clip(num_frames, grid.frame_rate, features, norm_features, waveform, grid.hop, predictor)
        return segment_clip(method.name, clip, count, **parameters)

    return Segmenter(grid, cut)
