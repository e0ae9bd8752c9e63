"""The rule of a tokenizer: how features become segments and vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.artifact import Artifact
from syllablelm.config import build
from syllablelm.errors import FormatError, InputError
from syllablelm.segment import minsum, minsum_dynamic
from syllablelm.segment.combined import peak_boundaries
from syllablelm.segmenters import count_groups

Features = npt.NDArray[np.float32]
RULE_FILE = "tokenizer.json"

Method = Literal["rate", "peaks", "released"]


@dataclass(frozen=True)
class SegmentRule:
    """How features become segments and vectors.

    Args:
        method: "rate" cuts exactly round(rate x seconds) groups by MinSum (Eq. 4); "peaks" cuts at most so many where
            the features change most; "released" chooses the count from the data by the rule of the published
            inference code.
        rate: groups per second, for "rate" and "peaks".
        delta, quantile: of "released"; delta is tied to the scale of one checkpoint's features.
        min_length, max_length: of a group, in frames.
        drop_edges: leave the first and last frame of a group out of its mean.
        merge: join neighbours that carry the same unit.
    """

    method: Method = "rate"
    rate: float = 6.25
    delta: float = 0.0028
    quantile: float = 0.75
    min_length: int = 1
    max_length: int = 50
    drop_edges: bool = True
    merge: bool = False

    def boundaries(self, features: Features) -> npt.NDArray[np.int32]:
        """Boundaries [0, ..., T] of one recording's features (T, D)."""
        if self.method == "released":
            cuts = minsum_dynamic(
                features, self.delta, quantile=self.quantile, min_length=self.min_length, max_length=self.max_length
            )
        elif self.method == "peaks":
            cuts = peak_boundaries(features, count_groups(len(features), self.rate, len(features)))
        else:
            count = count_groups(len(features), self.rate, self.max_length)
            cuts = minsum(features, count, min_length=self._shortest(len(features), count), max_length=self.max_length)
        return np.asarray(cuts, dtype=np.int32)

    def _shortest(self, num_frames: int, count: int) -> int:
        # A very short clip may not hold its groups at the wanted shortest length.
        return max(1, min(self.min_length, num_frames // max(count, 1)))


def change_rule(own: SegmentRule, rate: float | None, method: Method | None, delta: float | None) -> SegmentRule:
    """A tokenizer's rule with what the caller wants otherwise; a rate turns the released rule into MinSum's."""
    if method is not None and method not in get_args(Method):
        raise InputError(f"rule {method!r}: choose one of {', '.join(get_args(Method))}")
    if rate is not None and not 0 < rate < float("inf"):
        raise InputError(f"rate {rate}: groups per second must be above 0 and finite")
    if delta is not None and not 0 < delta < float("inf"):
        raise InputError(f"delta {delta}: the threshold must be above 0 and finite")
    if method is None:
        method = "rate" if own.method == "released" and rate is not None else own.method
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
