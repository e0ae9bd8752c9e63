"""The rule of a tokenizer: how features become segments and vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import Artifact
from syllablelm.core.config import build
from syllablelm.core.errors import FormatError, InputError
from syllablelm.segment import minsum, minsum_dynamic
from syllablelm.segment.combined import peak_boundaries
from syllablelm.segment.registry import count_groups

Features = npt.NDArray[np.float32]
RULE_FILE = "tokenizer.json"

Method = Literal["rate", "peaks", "released", "frames"]
# The published inference code allows 0.2 segments a frame at 50 frames per second.
RELEASED_MAX_RATE = 10.0


@dataclass(frozen=True)
class SegmentRule:
    """How features become segments and vectors.

    Args:
        method: "rate" cuts exactly round(rate x seconds) groups by MinSum (Eq. 4); "peaks" cuts at most so many where
            the features change most; "released" chooses the count from the data by the rule of the published
            inference code; "frames" makes every frame a segment, for HuBERT-like units.
        rate: groups per second, for "rate" and "peaks".
        delta, quantile: of "released"; delta is tied to the scale of one checkpoint's features.
        min_length, max_length: of a group, in frames, for "rate" and "released".
        drop_edges: leave the first and last frame of a group of at least three out of its mean.
        merge: join neighbours that carry the same unit.

    A recording longer than a tokenizer's window is cut window by window, each with a count of its own.
    """

    method: Method = "rate"
    rate: float = 6.25
    delta: float = 0.0028
    quantile: float = 0.75
    min_length: int = 1
    max_length: int = 50
    drop_edges: bool = True
    merge: bool = False

    def boundaries(self, features: Features, frame_rate: float) -> npt.NDArray[np.int32]:
        """Boundaries [0, ..., T] of the features (T, D) of one recording, or one window, at so many frames a second."""
        num_frames = len(features)
        if self.method == "frames":
            cuts = np.arange(num_frames + 1)
        elif self.method == "released":
            cuts = minsum_dynamic(
                features,
                self.delta,
                quantile=self.quantile,
                max_rate=min(1.0, RELEASED_MAX_RATE / frame_rate),
                min_length=self.min_length,
                max_length=self.max_length,
            )
        elif self.method == "peaks":
            cuts = peak_boundaries(features, self._count(num_frames, frame_rate, num_frames))
        else:
            count = self._count(num_frames, frame_rate, self.max_length)
            cuts = minsum(features, count, min_length=self._shortest(num_frames, count), max_length=self.max_length)
        return np.asarray(cuts, dtype=np.int32)

    def _count(self, num_frames: int, frame_rate: float, max_length: int) -> int:
        return count_groups(num_frames, self.rate, frame_rate=frame_rate, max_length=max_length)

    def _shortest(self, num_frames: int, count: int) -> int:
        # A very short clip may not hold its groups at the wanted shortest length.
        return max(1, min(self.min_length, num_frames // max(count, 1)))


def change_rule(own: SegmentRule, rate: float | None, method: Method | None, delta: float | None) -> SegmentRule:
    """A tokenizer's rule with what the caller wants otherwise; a rate alone turns the released rule into MinSum's.

    Raises:
        InputError: an unknown method, a rate or delta that is not above zero, or one that the method does not use.
    """
    if method is not None and method not in get_args(Method):
        raise InputError(f"rule {method!r}: choose one of {', '.join(get_args(Method))}")
    if rate is not None and not 0 < rate < float("inf"):
        raise InputError(f"rate {rate}: groups per second must be above 0 and finite")
    if delta is not None and not 0 < delta < float("inf"):
        raise InputError(f"delta {delta}: the threshold must be above 0 and finite")
    if method is None:
        method = "rate" if own.method in ("released", "frames") and rate is not None else own.method
    if rate is not None and method not in ("rate", "peaks"):
        raise InputError(
            f"rate {rate}: the rule {method!r} has no rate; leave it out, or choose rule 'rate' or 'peaks'"
        )
    if delta is not None and method != "released":
        raise InputError(f"delta {delta}: the rule {method!r} has no delta; leave it out, or choose rule 'released'")
    return replace(
        own,
        method=method,
        rate=own.rate if rate is None else float(rate),
        delta=own.delta if delta is None else float(delta),
    )


def read_rule(artifact: Artifact) -> SegmentRule:
    """The segmentation rule of a tokenizer artifact."""
    path = artifact.file(RULE_FILE)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: not JSON ({error})") from None
    if not isinstance(table, dict):
        raise FormatError(f"{path}: not a JSON object of rule settings")
    return build(SegmentRule, table, str(path))
