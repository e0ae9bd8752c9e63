"""The minimal loss per FLOP: a power law through the best runs or checkpoints (Figure 1 of Cuervo & Marxer 2024)."""

from __future__ import annotations

import numpy.typing as npt

from syllablelm.scaling.power import PowerLaw, fit_power_law


def fit_envelope(flops: npt.ArrayLike, loss: npt.ArrayLike, *, bootstrap: int = 0, seed: int = 0) -> PowerLaw:
    """Fit L = scale * C^exponent to the runs that no run of fewer FLOPs beats.

    Args:
        flops: of each run, or of each checkpoint on the way; loss: there.
        bootstrap: resamples of the points for the intervals.

    Raises:
        InputError: fewer than three points on the envelope, or a number that is not above 0.
    """
    return fit_power_law(flops, loss, best="least", bootstrap=bootstrap, seed=seed, what="envelope of least loss")
