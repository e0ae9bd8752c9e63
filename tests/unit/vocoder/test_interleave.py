"""The interleaved stream, by hand and by an oracle that sorts tuples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.vocoder.interleave import StreamInfo, interleave, interleaved_store

INFO = StreamInfo(syllables=10, acoustic=5)


def test_by_hand():
    # Syllables begin at 0, .2 and .4 s and enter .08 s earlier; acoustic frames are 20 ms.
    syllables = Segmentation.from_boundaries([0, 10, 20, 30], unit=[7, 3, 9])
    acoustic = Segmentation.from_boundaries([0, 3, 6, 16, 18, 30], unit=[0, 1, 2, 2, 4])
    tokens, frames = interleave(syllables, acoustic, INFO)
    # The 3 is due at frame 6 and stands before the acoustic unit that begins there; two runs of 2 are one.
    assert tokens.tolist() == [7, 10, 11, 3, 12, 9, 14]
    assert frames.tolist() == [0, 3, 3, 0, 12, 0, 12]


@st.composite
def segmentations(draw, units, hop):
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=30))
    drawn = draw(st.lists(st.integers(0, units - 1), min_size=len(lengths), max_size=len(lengths)))
    return Segmentation.from_boundaries(np.concatenate([[0], np.cumsum(lengths)]), unit=drawn, hop=hop)


@given(segmentations(10, 320), segmentations(5, 640))
@settings(max_examples=100, deadline=None)
def test_equals_sorting_tuples(syllables, acoustic):
    info = StreamInfo(10, 5, hop=640, syllable_hop=320)
    tokens, frames = interleave(syllables, acoustic, info)
    s, a = syllables.deduplicate(), acoustic.deduplicate()
    events = [(max(int(b) * 320 - 1280, 0), 0, i, int(u)) for i, (b, u) in enumerate(zip(s.start, s.unit, strict=True))]
    events += [(int(b) * 640, 1, i, int(u) + 10) for i, (b, u) in enumerate(zip(a.start, a.unit, strict=True))]
    assert tokens.tolist() == [event[3] for event in sorted(events)]
    assert frames.sum() == acoustic.num_frames
    assert np.all(frames[tokens < 10] == 0)


def test_store_learns_acoustic_tokens_only():
    syllables = Segmentation.from_boundaries([0, 10], unit=[7])
    acoustic = Segmentation.from_boundaries([0, 4, 10], unit=[0, 1])
    store = interleaved_store([("a", syllables, acoustic)], INFO)
    assert store.info.loss_from == 10
    assert store.seconds == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("syllables", "acoustic", "message"),
    [
        (Segmentation.from_boundaries([0, 4], unit=[10]), None, "talk: its syllable units"),
        (Segmentation.from_boundaries([0, 4]), None, "talk: its syllable units"),
        (Segmentation.from_boundaries([0, 4], unit=[1], hop=160), None, "syllable frames of 160"),
        (
            Segmentation.from_boundaries([0, 4], unit=[1]),
            Segmentation.from_boundaries([0, 4], unit=[5]),
            "acoustic units",
        ),
    ],
)
def test_foreign_units_are_refused(syllables, acoustic, message):
    acoustic = acoustic or Segmentation.from_boundaries([0, 4], unit=[0])
    with pytest.raises(InputError, match=message):
        interleaved_store([("talk", syllables, acoustic)], INFO)
