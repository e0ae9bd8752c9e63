"""Minimisation from many starts at once."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.scaling.minimise import minimise


def test_minimise_finds_each_starts_own_valley() -> None:
    """Rosenbrock's valley from 30 starts; a wall of infinities is only avoided."""

    def rosenbrock(points: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = points.T
        value = (1 - x) ** 2 + 100 * (y - x**2) ** 2
        gradient = np.stack([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)], axis=1)
        return np.where(np.abs(x) > 4, np.inf, value), gradient

    starts = np.random.default_rng(0).uniform(-2, 2, (30, 2))
    minima = minimise(rosenbrock, starts, tolerance=1e-14)
    assert minima.settled.all()
    assert minima.point == pytest.approx(np.ones((30, 2)), abs=1e-4)
    alone = minimise(rosenbrock, starts[7:8], tolerance=1e-14)
    assert alone.point[0] == pytest.approx(minima.point[7])
