"""The minimal loss per FLOP: a power law through the best runs or checkpoints (Figure 1 of Cuervo & Marxer 2024)."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from syllablelm.scaling.power import PowerLaw, fit_power_law


def fit_envelope(
    flops: npt.ArrayLike, loss: npt.ArrayLike, runs: npt.ArrayLike | None = None, *, bootstrap: int = 0, seed: int = 0
) -> PowerLaw:
    """Fit L = scale * C^exponent to the runs that no run of fewer FLOPs beats.

    Args:
        flops: of each run, or of each checkpoint on the way; loss: there.
        runs: which run each point is of; each is one of its own by default.
        bootstrap: resamples of the runs, each with all its points, for the intervals.

    Raises:
        InputError: fewer than three points on the envelope, or a number that is not above 0.
    """
    options: Any = {"groups": runs, "bootstrap": bootstrap, "seed": seed}
    return fit_power_law(flops, loss, best="least", what="envelope of least loss", **options)
