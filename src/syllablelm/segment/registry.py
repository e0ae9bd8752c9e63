"""Every segmenter by its name: a waveform and a number of groups in, segments on the frames of its model out.

Training takes its first boundaries from them, and evaluation compares them. The segmenters of other systems (`RIVALS`)
choose the number of groups themselves, and some leave out what they take for silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE
from syllablelm.data.vad import keep_speech, speech_regions
from syllablelm.segment import (
    boundary_strength,
    envelope,
    envelope_valleys,
    even_boundaries,
    feasible_count,
    losspred_matrix,
    mincut,
    minsum,
    similarity_matrix,
)
from syllablelm.segment.combined import combined_boundaries, feature_step, novelty, peak_boundaries
from syllablelm.segment.mel import frame_count, log_mel
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
Boundaries = npt.NDArray[np.int32]
# Boundaries [0, ..., T]; of a segmenter that leaves frames out, (num_segments, 2) starts and ends.
Cut = Callable[[Waveform, int], Boundaries]
Rival = Literal["similarity-merge", "sdhubert", "sdhubert-relative", "sylber", "sylber-relative", "zerosyl"]
Name = Literal[
    "even", "envelope", "strength", "mel", "similarity", "minsum", "peaks", "refined", "losspred", "combined", Rival
]
RIVALS: tuple[Rival, ...] = get_args(Rival)
ON_FEATURES: tuple[Name, ...] = ("similarity", "minsum", "peaks", "refined", *RIVALS)

# Peng et al. and SD-HuBERT cut a segment for every 0.2 s before they merge.
SEGMENT_SECONDS = 0.2


def count_groups(num_frames: int, rate: float, *, frame_rate: float, max_length: int = 50) -> int:
    """k = round(rate x seconds), clipped to what groups of at most ``max_length`` frames allow."""
    return feasible_count(num_frames, round(rate * num_frames / frame_rate), 1, max_length)


@dataclass(frozen=True)
class FrameGrid:
    """Where the frames of a recording lie.

    Args:
        hop: samples from one frame to the next.
        receptive_field: samples that the shortest clip needs to give one frame.
        sample_rate: of the waveforms, in Hz.
    """

    hop: int
    receptive_field: int
    sample_rate: int

    @classmethod
    def of(cls, encoder: FrameEncoder) -> FrameGrid:
        """The frames of an encoder."""
        return cls(encoder.hop, encoder.receptive_field, encoder.sample_rate)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    def num_frames(self, num_samples: int) -> int:
        """Frames of a recording."""
        return frame_count(num_samples, self.hop, self.receptive_field)


# What segmenters without an encoder cut: as many frames as HuBERT has.
HUBERT_GRID = FrameGrid(320, 400, SAMPLE_RATE)


@dataclass(frozen=True)
class Segmenter:
    """A function (waveform, num_segments) -> Segmentation of the whole recording, without units.

    Args:
        grid: the frames that are cut.
        cut: (waveform, num_segments) -> boundaries [0, ..., num_frames], or (num_segments, 2) starts and ends where
            frames may be left out; in frames of the grid.
    """

    grid: FrameGrid
    cut: Cut

    def __call__(self, waveform: Waveform, count: int) -> Segmentation:
        found = self.cut(waveform, count)
        if found.ndim == 1:
            return Segmentation.from_boundaries(found, hop=self.grid.hop, sample_rate=self.grid.sample_rate)
        num_frames = self.grid.num_frames(len(waveform))
        return Segmentation(found[:, 0], found[:, 1], None, num_frames, self.grid.hop, self.grid.sample_rate)

    def count_groups(self, waveform: Waveform, rate: float, max_length: int = 50) -> int:
        """How many groups a recording has at so many a second, see ``count_groups``."""
        num_frames = self.grid.num_frames(len(waveform))
        return count_groups(num_frames, rate, frame_rate=self.grid.frame_rate, max_length=max_length)


def make_segmenter(
    name: Name,
    *,
    encoder: FrameEncoder | None = None,
    predictor: MaskedPredictor | None = None,
    span: int = 50,
    gap: int = 150,
    max_length: int = 50,
    feature_layer: int | None = None,
) -> Segmenter:
    """Build a segmenter.

    Args:
        name: "even" (equal lengths), "envelope" (valleys of the band-limited amplitude envelope), "strength"
            (peaks of the acoustic boundary score), "mel" (MinSum on log-mel), "similarity" (MinCut on the encoder's
            feature similarity), "minsum" (MinSum on its features), "peaks" (where its features change most),
            "refined" ("peaks" added to the acoustic score), "losspred" (MinCut on the loss-prediction matrix),
            "combined" (LossPred's novelty added to the acoustic score); and those of other systems on the encoder's
            features: "similarity-merge" (Peng et al.), "sdhubert", "sylber" and "zerosyl", with their published
            settings. The norm thresholds of "sdhubert" and "sylber" belong to those checkpoints; with "-relative" they
            follow the scale of the recording's norms, for any encoder.
        encoder: for those on features.
        predictor: for "losspred" and "combined".
        span, gap: of LossPred, in frames.
        max_length: longest group of MinSum and MinCut, in frames.
        feature_layer: of "sdhubert", where it is not the layer whose norms are compared with the threshold, which is
            the encoder's own (published: 9, and 11 for the norms).

    Returns:
        function (waveform, num_segments) -> Segmentation, on the frames of the model, or on HuBERT's without one.
        "even", "mel", "similarity", "minsum" and "losspred" give exactly the asked number, clipped to what is
        feasible; the other systems' give their own; the rest give fewer where there are fewer peaks. A clip without
        frames gives no segment. "sdhubert" and "sylber" leave gaps; the others cover the recording.

    Raises:
        InputError: an unknown name, or the model it needs was not given.
    """
    if name not in get_args(Name):
        raise InputError(f"unknown segmenter {name!r}; choose one of {', '.join(get_args(Name))}")

    def clip(num_frames: int, count: int) -> int:
        return feasible_count(num_frames, count, 1, max_length)

    def even(wave: Waveform, count: int) -> Boundaries:
        num_frames = HUBERT_GRID.num_frames(len(wave))
        return even_boundaries(num_frames, clip(num_frames, count))

    if name == "even":
        return Segmenter(HUBERT_GRID, even)
    if name == "envelope":
        return Segmenter(HUBERT_GRID, lambda wave, count: _valleys(envelope(wave), count))
    if name == "strength":
        return Segmenter(HUBERT_GRID, lambda wave, count: _valleys(-boundary_strength(wave), count))
    if name == "mel":
        return Segmenter(HUBERT_GRID, lambda wave, count: _minsum(log_mel(wave), count, max_length))
    if name in ON_FEATURES:
        if encoder is None:
            raise InputError(f"segmenter {name!r} needs an encoder")
        cut = _rival(name, encoder, feature_layer) if name in RIVALS else _on_features(name, encoder, max_length)
        return Segmenter(FrameGrid.of(encoder), cut)
    if predictor is None:
        raise InputError(f"segmenter {name!r} needs an encoder with its masked-prediction head")
    masked, grid = predictor, FrameGrid.of(predictor.encoder)

    def by_losspred(wave: Waveform, count: int) -> Boundaries:
        matrix = losspred_matrix(masked, wave, span=span, gap=gap)
        if name == "combined":
            groups = _clip_to_frames(len(matrix), count)
            return combined_boundaries(novelty(matrix), _strength(wave, grid, len(matrix)), groups)
        return mincut(matrix, clip(len(matrix), count), max_length=max_length)

    return Segmenter(grid, by_losspred)


def _on_features(name: Name, model: FrameEncoder, max_length: int) -> Cut:
    def segment(wave: Waveform, count: int) -> Boundaries:
        feats = _features(model, wave)
        if name == "minsum":
            return _minsum(feats, count, max_length)
        if name == "similarity":
            groups = feasible_count(len(feats), count, 1, max_length)
            return mincut(similarity_matrix(feats), groups, max_length=max_length)
        groups = _clip_to_frames(len(feats), count)
        if name == "peaks":
            return peak_boundaries(feats, groups)
        strength = _strength(wave, FrameGrid.of(model), len(feats))
        return combined_boundaries(feature_step(feats), strength, groups)

    return segment


def _rival(name: Name, model: FrameEncoder, feature_layer: int | None) -> Cut:
    relative = name.endswith("-relative")
    per_segment = max(1.0, SEGMENT_SECONDS * FrameGrid.of(model).frame_rate)

    def segment(wave: Waveform, count: int) -> Boundaries:
        if name.startswith("sdhubert") and feature_layer is not None and model.num_frames(len(wave)):
            clip = model.encode([wave], [feature_layer, model.layer])[0]
            feats, loud = clip[feature_layer], clip[model.layer]
        else:
            feats = loud = _features(model, wave)
        if name == "similarity-merge":
            return similarity_merge(feats, frames_per_segment=per_segment)
        if name == "zerosyl":
            return norm_peaks(feats)
        if name.startswith("sdhubert"):
            level = relative_threshold(loud) if relative else SDHUBERT_THRESHOLD
            norms = np.linalg.norm(loud.astype(np.float64), axis=1)
            return norm_threshold_mincut(feats, norms=norms, threshold=level, frames_per_segment=per_segment)
        return greedy_cosine_merge(feats, threshold=relative_threshold(loud) if relative else SYLBER_THRESHOLD)

    return segment


def _features(model: FrameEncoder, wave: Waveform) -> npt.NDArray[np.float32]:
    # A clip without frames has an empty segmentation under every segmenter.
    return model.encode([wave])[0] if model.num_frames(len(wave)) else np.zeros((0, model.dim), dtype=np.float32)


def _strength(wave: Waveform, grid: FrameGrid, num_frames: int) -> npt.NDArray[np.float64]:
    """The acoustic score before every frame of an encoder, which may have one more or less than windows of 25 ms."""
    score = boundary_strength(wave, hop=grid.hop)[:num_frames]
    return np.pad(score, (0, num_frames - len(score)), mode="edge" if len(score) else "constant")


def _clip_to_frames(num_frames: int, count: int) -> int:
    return feasible_count(num_frames, count, 1, max(num_frames, 1))


def _valleys(curve: npt.NDArray[np.float64], count: int) -> Boundaries:
    return envelope_valleys(curve, _clip_to_frames(len(curve), count))


def speech_only(segmenter: Segmenter, method: Literal["none", "energy", "silero"]) -> Segmenter:
    """Let a segmenter see the speech of a recording only, as the paper's LossPred does; pauses become groups.

    Args:
        segmenter: any segmenter that gives boundaries [0, ..., num_frames].
        method: voice activity detection (``vad.speech_regions``); "none" returns the segmenter as it is.

    Returns:
        segmenter whose boundaries lie in the whole recording; the asked number of groups is spent on the speech in
        proportion to its length, and every edge of a pause is a boundary too.
    """
    if method == "none":
        return segmenter
    grid = segmenter.grid

    def segment(wave: Waveform, count: int) -> Boundaries:
        regions = speech_regions(wave, method=method)
        speech, places = keep_speech(wave, regions)
        num_frames, kept_frames = grid.num_frames(len(wave)), grid.num_frames(len(speech))
        if kept_frames == 0 or len(speech) == len(wave):
            return segmenter.cut(wave, count)
        share = feasible_count(kept_frames, max(1, round(count * kept_frames / num_frames)))
        inner = segmenter.cut(speech, share)[1:-1] * grid.hop
        edges = np.concatenate([places.to_original(inner), regions.ravel()])
        frames = np.rint(edges / grid.hop).astype(np.int32)
        inside = frames[(frames > 0) & (frames < num_frames)]
        return np.unique(np.concatenate([[0], inside, [num_frames]])).astype(np.int32)

    return Segmenter(grid, segment)


def _minsum(feats: npt.NDArray[np.float32], count: int, max_length: int) -> Boundaries:
    boundaries = minsum(feats, feasible_count(len(feats), count, 1, max_length), max_length=max_length)
    return np.asarray(boundaries, dtype=np.int32)
