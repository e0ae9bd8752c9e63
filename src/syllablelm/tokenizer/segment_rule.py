"""The rule of a tokenizer: how features become segments and vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import Artifact
from syllablelm.core.config import build
from syllablelm.core.errors import FormatError, InputError, check_fields, check_positive
from syllablelm.core.results import read_json
from syllablelm.segment.registry import HIGHEST_RATE, TOKENIZER_METHODS, Method, get_method
from syllablelm.segment.segmenter import Clip, segment_clip, to_spans

Features = npt.NDArray[np.float32]
RULE_FILE = "tokenizer.json"


@dataclass(frozen=True)
class SegmentRule:
    """How features become segments and vectors.

    Args:
        method: segmentation method on features, one of ``TOKENIZER_METHODS``, such as "minsum" (round(rate x seconds)
            segments, Eq. 4), "released" (the published inference code) and "frames" (every frame, HuBERT-like units).
        rate: segments per second, of methods that take a number of segments.
        delta, quantile: thresholds of "released"; delta is also the penalty of "penalty" (``segment.minsum_penalty``),
            where in a recipe 0 stands for the one that gives ``rate`` segments a second. It belongs to the scale of one
            checkpoint's features.
        min_length, max_length: limits of a segment in frames, where the method has them.
        drop_edges: leave the first and last frame of a segment of at least three out of its mean.
        merge: deduplicate: join neighbours that touch and carry the same unit.

    A recording longer than a tokenizer's window is segmented window by window, each with a number of its own.
    """

    method: str = "minsum"
    rate: float = 6.25
    delta: float = 0.0028
    quantile: float = 0.75
    min_length: int = 1
    max_length: int = 50
    drop_edges: bool = True
    merge: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", _find(self.method).name)
        check_fields(self, "rate", above=0, most=HIGHEST_RATE)
        check_fields(self, "delta", **({"least": 0} if self.method == "penalty" else {"above": 0}))
        check_fields(self, "quantile", least=0, most=1)
        check_fields(self, "min_length max_length", least=1)
        if self.max_length < self.min_length:
            raise InputError(f"max_length {self.max_length}: less than min_length {self.min_length}")

    def spans(self, features: Features, frame_rate: float) -> npt.NDArray[np.int32]:
        """Segment the features (num_frames, dim) of one recording, or one window.

        Returns:
            int32 (num_segments, 2) starts and ends in frames, sorted; methods that detect silence leave gaps.
        """
        if len(features) == 0:
            return np.zeros((0, 2), dtype=np.int32)
        method = _find(self.method)
        clip = Clip(len(features), frame_rate, features)
        parameters = {name: getattr(self, name) for name in method.parameters}
        return to_spans(segment_clip(method.name, clip, round(self.rate * len(features) / frame_rate), **parameters))


def _find(name: str) -> Method:
    return get_method(name, TOKENIZER_METHODS, "rule")


def change_rule(own: SegmentRule, rate: float | None, method: str | None, delta: float | None) -> SegmentRule:
    """Return a tokenizer's rule with the caller's changes; None changes nothing.

    Args:
        own: rule of the tokenizer.
        rate: segments per second; alone it turns a method that chooses its own number into "minsum".
        method, delta: segmentation method, and threshold of "released" or penalty of "penalty".

    Raises:
        InputError: an unknown method, a rate or delta that is not above zero, or one that the method does not use.
    """
    for name, value in (("rate", rate), ("delta", delta)):
        if value is not None:
            check_positive(name, value)
    chosen = _find(method or own.method)
    if method is None and rate is not None and not chosen.counted:
        chosen = _find("minsum")
    if rate is not None and not chosen.counted:
        counted = ", ".join(name for name in TOKENIZER_METHODS if _find(name).counted)
        raise InputError(f"rate {rate}: the rule {chosen.name!r} has no rate; leave it out, or choose one of {counted}")
    if delta is not None and "delta" not in chosen.parameters:
        raise InputError(
            f"delta {delta}: the rule {chosen.name!r} has no delta; leave it out, or take rule 'released' or 'penalty'"
        )
    if chosen.name == "penalty" and own.method != "penalty" and delta is None:
        raise InputError("rule 'penalty' needs a delta, the penalty of a segment; of `small` .45 gives 4.6 a second")
    return replace(
        own,
        method=chosen.name,
        rate=own.rate if rate is None else float(rate),
        delta=own.delta if delta is None else float(delta),
    )


def read_rule(artifact: Artifact) -> SegmentRule:
    """Read the segmentation rule of a tokenizer artifact; a FormatError for a damaged file or an unknown setting."""
    path = artifact.file(RULE_FILE)
    try:
        return build(SegmentRule, read_json(path), str(path))
    except InputError as error:
        raise FormatError(str(error)) from None
