"""Named ways to score boundaries.

Published scores differ in which boundaries count and in whether a constant shift is tuned first; each way has a name
here (`PROTOCOLS`), and a score carries the protocol it was made by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from syllablelm.core.errors import InputError, unknown_name
from syllablelm.core.progress import note
from syllablelm.core.results import Record

Which = Literal["starts", "starts+ends"]
Side = Literal["predictions", "references"]


@dataclass(frozen=True)
class ProtocolSummary(Record):
    """What a result says of its protocol; the fields are those of `Protocol`."""

    name: str
    prediction: Which = "starts+ends"
    reference: Which = "starts+ends"
    shift: float | None = 0.0
    shift_side: Side = "predictions"
    drop_edges: bool = False
    stretches: bool = False


@dataclass(frozen=True)
class Protocol(ProtocolSummary):
    """A named way to score boundaries.

    Args:
        name: name printed beside the score.
        prediction: which boundaries of predicted segments count; equal times count once.
        reference: which boundaries of reference intervals count; equal times count once.
        shift: seconds added to one side before matching; None where it must be searched on a development list first
            (`search_shift`, then `with_shift`).
        shift_side: the side that the shift is added to.
        shift_grid: shifts in seconds that `search_shift` tries.
        tolerance: the main tolerance in seconds, used by the search.
        drop_edges: leave out, on both sides, boundaries at the very start and end of the recording, which every
            gap-free segmentation has for nothing.
        stretches: compare only inside stretches of speech (reference intervals without a gap), as ZeroSyl does: the
            edges of a stretch are given to both sides, predictions in silence or within the tolerance of an edge do
            not count. Predicted are the starts of segments and the end of the last.

    Raises:
        InputError: an unknown choice, a negative tolerance, a shift that is not finite, or stretches together with
            other boundaries than ZeroSyl's.
    """

    shift_grid: tuple[float, ...] = ()
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        for field, choices in (("prediction", Which), ("reference", Which), ("shift_side", Side)):
            value = getattr(self, field)
            if value not in get_args(choices):
                raise InputError(f"Protocol.{field} must be one of {get_args(choices)}, not {value!r}")
        if not all(map(math.isfinite, (self.tolerance, self.shift or 0.0, *self.shift_grid))) or self.tolerance < 0:
            raise InputError("Protocol needs finite shifts in seconds and a finite tolerance of at least 0")
        sides = (self.prediction, self.reference, self.shift_side, self.drop_edges)
        if self.stretches and sides != ("starts", "starts+ends", "predictions", False):
            raise InputError("Protocol.stretches needs predicted starts, reference starts+ends and shifted predictions")

    def with_shift(self, shift: float) -> Protocol:
        """The same protocol with the shift (seconds) that was found on a development list."""
        return replace(self, shift=float(shift))

    @property
    def summary(self) -> ProtocolSummary:
        """Name, sides, shift and edges, as results hold them."""
        return ProtocolSummary(*(getattr(self, field.name) for field in fields(ProtocolSummary)))


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # The paper says that it follows Peng et al. and does not say that it shifts: both sides whole, no shift.
        # Not known: whether it shifted, and on which list.
        Protocol("paper"),
        # Peng et al. 2023: arange(-.06, .031, .005) added to the predictions, the best R-value wins. They search on
        # every tenth item of the very set they report; here on a list apart, so expect a little less.
        Protocol("peng", shift=None, shift_grid=tuple(ms / 1000 for ms in range(-60, 31, 5))),
        # SD-HuBERT: predicted starts only; arange(-.05, .05, .005) added to the reference, searched on validation.
        Protocol(
            "sdhubert",
            prediction="starts",
            shift=None,
            shift_side="references",
            shift_grid=tuple(ms / 1000 for ms in range(-50, 50, 5)),
        ),
        # ZeroSyl (zerosyl/eval/boundaries.py of its repository), shift added to the predictions. Its notes give the
        # shifts that were chosen (-35 to -5 ms, whole steps of 5 ms) and that the R-value on dev chose them, not the
        # list that was searched: Peng's stands in. Checked against that evaluator on real units: equal counts. Its
        # reference tier (which silences it keeps) is its own.
        Protocol(
            "zerosyl",
            prediction="starts",
            shift=None,
            shift_grid=tuple(ms / 1000 for ms in range(-60, 31, 5)),
            stretches=True,
        ),
        # Ours: nothing for the edges of the recording, nothing tuned.
        Protocol("strict", drop_edges=True),
    )
}
"""Scoring protocols of boundaries by name."""


def get_protocol(name: str) -> Protocol:
    """Return the protocol of this name, one of `PROTOCOLS`.

    Raises:
        InputError: no such protocol; the message names the nearest one.
    """
    if name not in PROTOCOLS:
        raise unknown_name("boundary protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def choose_protocols(names: Sequence[str], shift: float | None = None, *, tuned: bool = False) -> tuple[Protocol, ...]:
    """Return the named protocols, each once and ready to score with, or to search a shift for.

    Args:
        names: names of protocols; "all" stands for every one.
        shift: seconds, of the protocols that take a shift; None is 0, or leaves it to be searched.
        tuned: whether shifts are searched on a development list.

    Raises:
        InputError: no name or an unknown one, both a shift and a search, a shift for no protocol, or one for
            protocols that add it to different sides.
    """
    if not names:
        raise InputError(f"No boundary protocol: choose all, or some of {', '.join(PROTOCOLS)}")
    wanted = PROTOCOLS if "all" in names else dict.fromkeys(names)
    protocols = tuple(get_protocol(name) for name in wanted)
    shifted = [protocol for protocol in protocols if protocol.shift is None]
    if shift is not None and tuned:
        raise InputError("give --shift or --tune, not both: --tune searches the shift")
    if (shift is not None or tuned) and not shifted:
        known = ", ".join(name for name, protocol in PROTOCOLS.items() if protocol.shift is None)
        raise InputError(f"--protocol {','.join(names)}: takes no shift; those that do are {known}")
    if shift is not None and len({protocol.shift_side for protocol in shifted}) > 1:
        raise InputError(
            "--shift: sdhubert adds it to the reference, peng and zerosyl to the predictions; score them apart, or "
            "search it with --tune"
        )
    if tuned:
        return protocols
    for protocol in shifted:
        low, high = min(protocol.shift_grid), max(protocol.shift_grid)
        if shift is not None and not low <= shift <= high:
            note(f"--shift {shift:g}: outside the {low:g} to {high:g} s among which {protocol.name} searches")
    return tuple(protocol.with_shift(shift or 0.0) if protocol in shifted else protocol for protocol in protocols)
