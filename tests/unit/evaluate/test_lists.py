from __future__ import annotations

import numpy as np
import pytest

from helpers.random_models import small_corpus
from syllablelm.core.errors import InputError
from syllablelm.data.alignment import Alignment, Interval, Word
from syllablelm.evaluate.lists import AlignedList
from syllablelm.segment.registry import FrameGrid, Segmenter, make_segmenter


def test_every_row_is_as_long_as_its_alignment(tmp_path):
    words = [Word("a", second, second + 1, (Interval("AA1", second, second + 1),)) for second in range(4)]
    references = {"r0": Alignment("r0", 4.0, tuple(words))}
    listed = AlignedList(("list",), small_corpus(tmp_path, [64_000]), {}, references, {})
    even = make_segmenter("even")
    slow = Segmenter(FrameGrid(640, 400, 16_000), lambda wave, count: even.cut(wave[::2], count))
    found = listed.segment({"even": even, "slow": slow}, lambda id, wave, segmenter: 4)
    assert found["even"]["r0"].duration == pytest.approx(3.98)
    assert found["slow"]["r0"].duration == pytest.approx(3.96)
    np.testing.assert_allclose(found["slow"]["r0"].seconds[:, 0], found["even"]["r0"].seconds[:, 0], atol=0.04)
    # Frames of 40 ms, taken for frames of 20 ms.
    halved = Segmenter(FrameGrid(320, 400, 16_000), slow.cut)
    with pytest.raises(InputError, match="list: 1 recording of another length than the alignment, such as 'r0' with 1"):
        listed.segment({"even": even, "halved": halved}, lambda id, wave, segmenter: 4)
