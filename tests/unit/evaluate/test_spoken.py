"""Which recordings become prompts, and what is held against their continuations."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.audio import load_audio
from syllablelm.corpus import scan
from syllablelm.errors import InputError
from syllablelm.evaluate.spoken import draw_recordings, first_units
from syllablelm.manifest import Manifest, Recording
from syllablelm.tokenizer import Tokenizer


def test_prompts_are_drawn_by_seed_whatever_the_order():
    recordings = [Recording(f"r{n}", f"r{n}.wav", 16_000 * (n + 1), 16_000) for n in range(9)]
    one = draw_recordings(Manifest(recordings), 4, 3.0, seed=0)
    other = draw_recordings(Manifest(recordings[::-1]), 4, 3.0, seed=0)
    assert [r.id for r in one] == [r.id for r in other]
    assert all(r.seconds >= 3 for r in one)
    with pytest.raises(InputError, match="only 7 of 9"):
        draw_recordings(Manifest(recordings), 8, 3.0, seed=0)


def test_real_units_are_those_that_begin_in_time(tokenizer_folder, recordings):
    tokenizer = Tokenizer.load(tokenizer_folder, device="cpu")
    manifest, _ = scan(recordings)
    found = first_units(tokenizer, manifest.subset(["r2"]), 1.0)
    whole = tokenizer.encode(load_audio(recordings / "r2.wav")[:16_000])
    assert whole.unit is not None
    assert found == [whole.unit[np.flatnonzero(whole.start * 320 < 16_000)].tolist()]
