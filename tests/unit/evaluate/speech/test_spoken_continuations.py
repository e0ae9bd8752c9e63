"""Which recordings become prompts, and what is held against their continuations."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.random_models import noise
from syllablelm.core.errors import InputError
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.data.corpus import scan
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.evaluate.speech import spoken_continuations as spoken
from syllablelm.evaluate.speech.spoken_continuations import TranscribedContinuations, draw_recordings, first_units
from syllablelm.tokenizer.tokenizer import Tokenizer


def test_prompts_are_drawn_by_seed_whatever_the_order():
    recordings = [Recording(f"r{n}", Path(f"r{n}.wav"), 16_000 * (n + 1), 16_000) for n in range(9)]
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


class Loudest:
    """Transcribes a recording to the place where it is loudest."""

    name, settings = "loudest", "none"
    count = 0

    def transcribe_all(self, waves):
        for wave in waves:
            self.count += 1
            yield f"sample {np.abs(wave).argmax()}"


def transcribe(folder: Path, scratch: Path, transcriber: Loudest) -> list[str]:
    """Transcripts of the recordings of a folder, kept in another."""
    manifest, _ = scan(folder)
    source: Any = SimpleNamespace(
        recordings=manifest, ids=[r.id for r in manifest], folder=scratch, facts={}, tokenizer=None, lm=None
    )
    given: Any = transcriber
    texts, told = TranscribedContinuations(source, scratch, given).real_texts()
    assert told == "recognised from the recordings"
    return texts


def test_transcripts_belong_to_the_sound_and_not_to_its_length(tmp_path, monkeypatch):
    monkeypatch.setattr(spoken.Resynthesizer, "load", lambda name, device: None)
    monkeypatch.setattr(spoken, "SpeechModel", lambda *parts: None)
    folder, scratch, transcriber = tmp_path / "audio", tmp_path / "kept", Loudest()
    scratch.mkdir()
    for seed, name in enumerate(("a", "b")):
        save_audio(folder / f"{name}.wav", noise(8000, seed))
    first = transcribe(folder, scratch, transcriber)
    assert transcribe(folder, scratch, transcriber) == first and transcriber.count == 2
    one, other = ((folder / f"{name}.wav").read_bytes() for name in ("a", "b"))
    assert len(one) == len(other) and len(set(first)) == 2
    (folder / "a.wav").write_bytes(other)
    (folder / "b.wav").write_bytes(one)
    assert transcribe(folder, scratch, transcriber) == first[::-1]
    assert transcriber.count == 4
