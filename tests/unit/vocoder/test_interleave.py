"""The interleaved stream, by hand and by an oracle that sorts tuples."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.store import TokenStore
from syllablelm.vocoder.interleave import StreamInfo, interleave, interleave_pieces, interleaved_rows

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


ENDED = StreamInfo(syllables=10, acoustic=5, interleaving="ella-v")
# Tokens of ENDED: P after the prefix, acoustic units from A on, E after a syllable, Z at the end.
P, A, E, Z = 10, 11, 16, 17


def test_ella_v_by_hand():
    syllables = Segmentation.from_boundaries([0, 10, 20, 30], unit=[7, 3, 9])
    acoustic = Segmentation.from_boundaries([0, 3, 6, 16, 18, 30], unit=[0, 1, 2, 2, 4])
    tokens, frames = interleave(syllables, acoustic, ENDED)
    assert tokens.tolist() == [7, 3, 9, P, 7, A, A + 1, E, 3, A + 2, E, 9, A + 4, E, Z]
    assert frames[frames > 0].tolist() == [3, 3, 12, 12]
    assert np.all((frames > 0) == (tokens >= A) & (tokens < E))
    assert (ENDED.tokens.num_tokens, ENDED.tokens.loss_from, StreamInfo.of_tokens(ENDED.tokens)) == (18, A, ENDED)
    # A late first syllable owns what precedes it; one without acoustic units of its own has an end all the same.
    late = Segmentation([12, 20, 22], [20, 22, 30], [7, 3, 9], 30)
    tokens, _ = interleave(late, Segmentation.from_boundaries([0, 3, 30], unit=[0, 1]), ENDED)
    assert tokens.tolist() == [7, 3, 9, P, 7, A, A + 1, E, 3, E, 9, E, Z]
    nothing = Segmentation([], [], [], 30)
    assert [len(row) for row in interleave(nothing, acoustic, ENDED)] == [0, 0]


@given(
    segmentations(10, 320),
    segmentations(5, 640),
    st.integers(1, 60),
    st.floats(0.1, 3),
)
@settings(max_examples=100, deadline=None)
def test_pieces_are_the_stream_by_time(syllables, acoustic, row_tokens, seconds):
    timed = StreamInfo(10, 5, hop=640, syllable_hop=320)
    info = replace(timed, interleaving="ella-v")
    limits = {"crop_seconds": seconds, "row_tokens": row_tokens}
    pieces = list(interleave_pieces(syllables, acoustic, info, **limits))
    body: list[int] = []
    for tokens, frames in pieces:
        row, ends = tokens.tolist(), int((tokens == E).sum())
        # Each piece: its syllables, P, then each of them with its acoustic units and E; Z.
        assert row[ends] == P and row[-1] == Z and row[-2] == E
        assert row[:ends] == [token for token in row[ends + 1 :] if token < 10]
        assert [row[at - 1] for at in range(ends + 2, len(row)) if row[at] < 10] == [E] * (ends - 1)
        fits = len(row) <= row_tokens and frames.sum() * 0.04 <= seconds + 1e-9
        assert fits or ends == 1
        body += [token - (token > 10) for token in row[ends + 1 :] if token < E]
    by_time, frames = interleave(syllables, acoustic, timed)
    first = by_time.tolist().index(int(syllables.unit[0]))
    assert body == [by_time[first], *by_time[:first], *by_time[first + 1 :]]
    assert sum(int(row.sum()) for _, row in pieces) == frames.sum()
    # Greedy: no piece could have taken the next syllable too.
    for (one, lasts), (other, others) in pairwise(pieces):
        begin = int((other == E).sum()) + 1
        more = other[begin : begin + int(np.argmax(other[begin:] == E)) + 1]
        frames = lasts.sum() + others[begin : begin + len(more)].sum()
        assert len(one) + len(more) + 1 > row_tokens or frames * 0.04 > seconds - 1e-9


def test_store_learns_acoustic_tokens_only():
    syllables = Segmentation.from_boundaries([0, 10], unit=[7])
    acoustic = Segmentation.from_boundaries([0, 4, 10], unit=[0, 1])
    tokens, frames = zip(*interleaved_rows([("a", syllables, acoustic)], INFO), strict=True)
    store = TokenStore.from_arrays([*tokens], [*frames], INFO.tokens)
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
        list(interleaved_rows([("talk", syllables, acoustic)], INFO))
