"""Times of speech whose units have other lengths than in the recording."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.speech.rendering import map_times


def test_times_by_a_slow_search():
    # A pause in the recording, none in what is heard.
    own = Segmentation(
        np.array([0, 10, 40], np.int32),
        np.array([10, 30, 44], np.int32),
        np.array([1, 2, 3], np.int32),
        50,
        320,
        16_000,
    )
    heard = Segmentation.from_boundaries([0, 5, 25, 37], unit=[1, 2, 3], hop=160, sample_rate=16_000)
    seconds = np.arange(40) * 0.01
    expected = []
    for time in seconds:
        frame = time / 0.01
        for k, (start, end) in enumerate(zip(heard.start, heard.end, strict=True)):
            if round(frame) < end or k == len(heard) - 1:
                share = (frame - start) / (end - start)
                expected.append(0.02 * (own.start[k] + share * (own.end[k] - own.start[k])))
                break
    found = map_times(own, heard, seconds)
    assert found == pytest.approx(np.array(expected))
    assert (np.diff(found) > 0).all() and found[-1] > own.end[-1] * 0.02
    assert map_times(own, own, seconds[:20]) == pytest.approx(seconds[:20])
