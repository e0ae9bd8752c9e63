"""Level and clipping against the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from syllablelm.data.level import Level


def test_levels_of_known_waves():
    time = np.arange(16_000) / 16_000
    sine = np.sin(2 * math.pi * 100 * time)
    assert Level.of(sine / 2).dbfs == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)))
    assert Level.of(np.ones(10, np.float32)) == Level(10, 10, 10.0)
    assert Level.of(np.ones(10)).dbfs == 0
    assert (Level.of(np.zeros(10)).dbfs, Level().dbfs, Level().clipped_share) == (None, None, 0.0)


def test_counts_add_and_are_read_back():
    rng = np.random.default_rng(0)
    a, b = (np.clip(rng.standard_normal(size) / 2, -1, 1).astype(np.float32) for size in (100, 333))
    both = Level.of(a) + Level.of(b)
    whole = np.concatenate([a, b])
    assert (both.samples, both.clipped) == (433, sum(1 for x in whole if abs(x) >= 32767 / 32768))
    assert both.clipped > 0
    assert both.dbfs == pytest.approx(20 * math.log10(math.sqrt(np.mean(whole.astype(float) ** 2))))
    assert both.clipped_share == both.clipped / 433
    assert Level.from_dict(both.to_dict()) == both
