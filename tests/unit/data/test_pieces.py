"""Long recordings in pieces: what is kept, how long the pieces are, and that blocks do not matter."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from syllablelm.core.errors import AudioError, InputError
from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import prepare_corpus
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.data.pieces import cut_recording, cut_recordings, find_pieces

RATE = 16_000


def talk(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in the rhythm of syllables, about five per second."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    level = 0.15 + 0.85 * np.sin(np.pi * 5 * times) ** 2
    return (0.2 * level * rng.standard_normal(len(times))).astype(np.float32)


def recording_of(parts: list[tuple[str, float]]) -> np.ndarray:
    """Parts ("speech" or "pause", seconds) one after the other, over a faint background."""
    waves = [talk(s, i) if kind == "speech" else np.zeros(round(s * RATE)) for i, (kind, s) in enumerate(parts)]
    wave = np.concatenate(waves)
    return (wave + 1e-4 * np.random.default_rng(9).standard_normal(len(wave))).astype(np.float32)


# Speech from 2 to 12, 12.5 to 20, 25 to 65 (longer than a piece) and 70 to 74 s.
PARTS = [("pause", 2.0), ("speech", 10.0), ("pause", 0.5), ("speech", 7.5), ("pause", 5.0), ("speech", 40.0),
         ("pause", 5.0), ("speech", 4.0), ("pause", 3.0)]  # fmt: skip
SPEECH = [(2.0, 12.0), (12.5, 20.0), (25.0, 65.0), (70.0, 74.0)]


def test_pieces_hold_all_speech_and_no_long_pause() -> None:
    wave = recording_of(PARTS)
    found = np.array(list(find_pieces([wave], 20 * RATE))) / RATE
    assert np.all(found[:, 1] - found[:, 0] <= 20.0) and np.all(found[:-1, 1] <= found[1:, 0])
    # The short pause is inside the first piece, the long ones are in none.
    assert (found[0, 0], found[0, 1]) == pytest.approx((2.0, 20.0), abs=0.3)
    assert found[-1].tolist() == pytest.approx([70.0, 74.0], abs=0.3)
    long = found[1:-1]
    assert long[0, 0] == pytest.approx(25.0, abs=0.3) and long[-1, 1] == pytest.approx(65.0, abs=0.3)
    assert len(long) >= 3 and all(first[1] == after[0] for first, after in pairwise(long))
    # Every sample of speech but for its edges is in one piece.
    held = np.zeros(len(wave), bool)
    for first, last in (found * RATE).astype(int):
        held[first:last] = True
    for first, last in SPEECH:
        assert held[int((first + 0.3) * RATE) : int((last - 0.3) * RATE)].all()
    assert held.mean() < 0.85


def test_speech_is_cut_where_it_is_quietest() -> None:
    wave = talk(30.0)
    wave[13 * RATE : 13 * RATE + 800] *= 1e-3
    (_, first), (second, _), *_ = find_pieces([wave], 16 * RATE)
    assert first == second and first == pytest.approx(13 * RATE + 400, abs=160)


@pytest.mark.parametrize("seconds", [41.0, 50.0, 55.5])
def test_blocks_lose_nothing(seconds: float) -> None:
    """Speech at the edge of a block is found as in the whole recording."""
    wave = recording_of(PARTS * 2)
    size = int(seconds * RATE)
    blocks = [wave[at : at + size] for at in range(0, len(wave), size)]
    whole, parts = (np.array(list(find_pieces(each, 20 * RATE))) for each in ([wave], blocks))
    assert np.all(parts[:, 1] - parts[:, 0] <= 20 * RATE) and np.all(parts[:-1, 1] <= parts[1:, 0])

    def held(found: np.ndarray) -> np.ndarray:
        mask = np.zeros(len(wave), bool)
        for first, last in found:
            mask[first:last] = True
        return mask

    assert (held(whole) != held(parts)).mean() < 0.01


def test_memory_does_not_grow_with_the_recording() -> None:
    held = 0

    def blocks():
        nonlocal held
        for number in range(12):
            yield talk(30.0, number)
            held = max(held, number)

    first = next(iter(find_pieces(blocks(), 10 * RATE)))
    # The first piece is known after the first block; the others are not read for it.
    assert first[0] < RATE and held == 0


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_times_are_those_of_the_file(tmp_path: Path, rate: int) -> None:
    wave = recording_of(PARTS)
    wave = np.interp(np.arange(int(len(wave) * rate / RATE)) * RATE / rate, np.arange(len(wave)), wave)
    save_audio(tmp_path / "a.wav", wave, rate)
    whole = Recording("a", tmp_path / "a.wav", len(wave) - rate, rate, start=rate, speaker="7", text="ALL OF IT")
    found = cut_recording(whole, 20.0)
    assert [one.id for one in found] == [f"a_{n:04d}" for n in range(len(found))]
    assert {(one.path, one.sample_rate, one.speaker, one.text) for one in found} == {(whole.path, rate, "7", None)}
    assert all(rate <= one.start and one.seconds <= 20.0 for one in found)
    assert found[0].start / rate == pytest.approx(2.0, abs=0.3)
    assert (found[-1].start + found[-1].num_samples) / rate == pytest.approx(74.0, abs=0.3)
    assert np.abs(found[-1].load()).std() > 0.01
    # What is short enough stays as it is, with its text.
    assert cut_recording(whole, 80.0) == [whole]


def test_a_corpus_is_cut_counted_and_named(tmp_path: Path) -> None:
    wave = recording_of(PARTS)
    save_audio(tmp_path / "in/long.flac", wave)
    save_audio(tmp_path / "in/short.flac", talk(5.0))
    save_audio(tmp_path / "in/tone.flac", np.r_[np.float32(1e-4), np.zeros(40 * RATE, np.float32)])
    (tmp_path / "in/broken.flac").write_bytes((tmp_path / "in/long.flac").read_bytes()[:400_000])
    result = prepare_corpus(tmp_path / "in", tmp_path / "m.jsonl", segment="vad", max_seconds=20.0, workers=3)
    manifest = Manifest.load(tmp_path / "m.jsonl")
    assert result.recordings == len(manifest) and [r.id for r in manifest][-1] == "short"
    assert {r.id.split("_")[0] for r in manifest} == {"long", "short"} and max(r.seconds for r in manifest) <= 20.0
    assert (result.cut, result.skipped) == (1, 2)
    assert result.hours + (result.no_speech_hours or 0) == pytest.approx((len(wave) / RATE + 5.0) / 3600)
    named = result.errors.read_text()
    assert "no speech in 40.0 s" in named and "broken.flac" in named
    # The same, one at a time.
    cut = cut_recordings(prepare_manifest(tmp_path), 20.0)
    assert list(cut.pieces) == [r for r in manifest if r.id != "short"] and cut.cut == 1


def prepare_manifest(folder: Path) -> Manifest:
    prepare_corpus(folder / "in/long.flac", folder / "whole.jsonl")
    return Manifest.load(folder / "whole.jsonl")


def test_wrong_options(tmp_path: Path) -> None:
    save_audio(tmp_path / "a.wav", talk(3.0))
    with pytest.raises(InputError, match="--segment vad only"):
        prepare_corpus(tmp_path / "a.wav", tmp_path / "m.jsonl", max_seconds=5.0)
    with pytest.raises(InputError, match="at least 1"):
        prepare_corpus(tmp_path / "a.wav", tmp_path / "m.jsonl", segment="vad", max_seconds=0.5)
    assert not (tmp_path / "m.jsonl").exists()
    silent = Recording("a", tmp_path / "b.wav", 5 * RATE, RATE)
    save_audio(silent.path, np.r_[np.float32(1e-4), np.zeros(5 * RATE - 1, np.float32)])
    with pytest.raises(AudioError, match=r"no speech in 5\.0 s"):
        cut_recording(silent, 2.0)
