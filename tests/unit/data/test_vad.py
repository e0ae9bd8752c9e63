"""Voice activity on synthetic speech, and its parts against slow oracles."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from syllablelm.core.errors import AudioError, InputError, MissingDependencyError
from syllablelm.data import vad
from syllablelm.data.vad import speech_frames, speech_regions

FORMANTS = (
    ((700, 80), (1200, 90), (2500, 120)),
    ((300, 60), (2300, 90), (3000, 120)),
    ((350, 60), (800, 80), (2300, 100)),
)


def phrase(num_syllables: int, rng: np.random.Generator) -> np.ndarray:
    """Buzz through formant filters, with weak noise between the vowels: enough like a voice for any detector."""
    pieces = []
    for index in range(num_syllables):
        time = np.arange(2600)
        pitch = (120 + 10 * (index % 3)) * (1 + 0.1 * np.sin(2 * np.pi * 3 * time / 16_000))
        wave = np.diff(np.floor(np.cumsum(pitch) / 16_000), prepend=0) + 0.01 * rng.normal(size=2600)
        for hertz, width in FORMANTS[index % 3]:
            radius = np.exp(-np.pi * width / 16_000)
            wave = np.asarray(lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * hertz / 16_000), radius**2], wave))
        wave = 0.5 * wave / np.abs(wave).max() * np.hanning(2600) ** 0.3
        pieces += [wave, 0.02 * rng.normal(size=800)]
    return np.concatenate(pieces)


@pytest.fixture(scope="module")
def spoken() -> tuple[np.ndarray, np.ndarray]:
    """Two phrases between faint noise, and where they lie."""
    rng = np.random.default_rng(0)
    first, second = phrase(6, rng), phrase(8, rng)
    pause = [0.0005 * rng.normal(size=num) for num in (16_000, 24_000, 16_000)]
    wave = np.concatenate([pause[0], first, pause[1], second, pause[2]]).astype(np.float32)
    start = 16_000 + len(first) + 24_000
    return wave, np.array([[16_000, 16_000 + len(first)], [start, start + len(second)]])


@pytest.mark.parametrize("method", ["silero", "energy"])
def test_phrases_are_found(spoken, method) -> None:
    if method == "silero":
        pytest.importorskip("silero_vad")
    wave, truth = spoken
    before = wave.copy()
    regions = speech_regions(wave, method=method)
    assert regions.dtype == np.int64 and regions.shape == (2, 2)
    assert np.abs(regions - truth).max() < 0.1 * 16_000
    np.testing.assert_array_equal(wave, before)
    np.testing.assert_array_equal(speech_regions(wave, method=method), regions)  # nothing is remembered


@pytest.mark.parametrize("method", ["silero", "energy"])
def test_noise_floor_alone_or_silence_is_not_speech(method) -> None:
    if method == "silero":
        pytest.importorskip("silero_vad")
    assert speech_regions(np.zeros(16_000), method=method).shape == (0, 2)
    faint = 1e-5 * np.random.default_rng(0).normal(size=16_000)
    assert speech_regions(faint, method=method).shape == (0, 2)


@pytest.mark.parametrize("gain", [0.05, 0.5, 1.5])
def test_energy_adapts_to_the_level(spoken, gain: float) -> None:
    wave, truth = spoken
    assert np.abs(speech_regions(gain * wave, method="energy") - truth).max() < 0.1 * 16_000


@pytest.mark.parametrize("decibels", [30, 20, 10])
def test_energy_hears_speech_in_noise(spoken, decibels: int) -> None:
    wave, truth = spoken
    level = np.sqrt(np.mean(wave**2) / 10 ** (decibels / 10))
    noisy = wave + level * np.random.default_rng(0).normal(size=len(wave)).astype(np.float32)
    assert np.abs(speech_regions(noisy, method="energy") - truth).max() < 0.1 * 16_000


def test_energy_keeps_a_recording_without_pauses(spoken) -> None:
    vowel = np.tile(phrase(1, np.random.default_rng(0))[400:1600], 10)
    np.testing.assert_array_equal(speech_regions(vowel, method="energy"), [[0, len(vowel)]])


def test_options(spoken) -> None:
    wave, _ = spoken
    whole = speech_regions(wave, method="energy", min_silence_ms=2000)
    assert len(whole) == 1
    tight = speech_regions(wave, method="energy", pad_ms=0)
    padded = speech_regions(wave, method="energy", pad_ms=50)
    np.testing.assert_array_equal(padded - tight, [[-800, 800]] * 2)
    assert len(speech_regions(wave, method="energy", min_speech_ms=1500)) == 1
    assert len(speech_regions(wave, method="energy", min_speech_ms=5000)) == 0
    np.testing.assert_array_equal(speech_regions(wave, method="none"), [[0, len(wave)]])


@pytest.mark.parametrize("num_samples", [1, 159, 160, 161, 400, 511, 513])
@pytest.mark.parametrize("method", ["silero", "energy"])
def test_short_recordings(num_samples: int, method) -> None:
    if method == "silero":
        pytest.importorskip("silero_vad")
    regions = speech_regions(np.full(num_samples, 0.1), method=method, min_speech_ms=0)
    assert np.all((regions >= 0) & (regions <= num_samples))


def test_errors(spoken) -> None:
    wave, _ = spoken
    with pytest.raises(InputError, match="unknown voice activity method 'x'"):
        speech_regions(wave, method="x")  # type: ignore[arg-type]
    for options in ({"threshold": 0.0}, {"threshold": 1.0}, {"pad_ms": -1}, {"min_speech_ms": -1}):
        with pytest.raises(InputError, match="threshold must lie"):
            speech_regions(wave, method="energy", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="shape"):
        speech_regions(np.zeros((2, 100)), method="energy")
    with pytest.raises(AudioError, match="NaN"):
        speech_regions([0.0, np.nan], method="energy")


def test_missing_package_says_how_to_install(spoken, monkeypatch) -> None:
    vad._silero.cache_clear()
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'syllablelm\[vad\]'"):
        speech_regions(spoken[0])


def test_silero_leaves_the_number_of_threads_alone(monkeypatch) -> None:
    pytest.importorskip("silero_vad")
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    vad._silero.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "silero_vad"]:
        monkeypatch.delitem(sys.modules, name)
    try:
        torch.set_num_threads(2)
        vad._silero()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        vad._silero.cache_clear()


def test_energy_needs_no_torch() -> None:
    code = (
        "import sys, numpy; from syllablelm.data.vad import speech_regions; "
        "speech_regions(numpy.ones(999), method='energy'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_full_scale_sine_is_at_zero_decibels() -> None:
    level = vad._band_level(np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32))
    assert len(level) == 100
    np.testing.assert_allclose(level[2:-2], 0.0, atol=0.05)


# Region arithmetic against loops

MASKS = st.lists(st.booleans(), max_size=40)


@given(mask=MASKS)
def test_runs(mask: list[bool]) -> None:
    regions = vad._runs(np.array(mask, dtype=bool))
    assert all(start < end for start, end in regions)
    assert {index for start, end in regions for index in range(start, end)} == set(np.flatnonzero(mask).tolist())
    assert np.all(regions[1:, 0] > regions[:-1, 1])


@given(levels=st.lists(st.integers(-70, 0), min_size=1, max_size=500))
def test_weighted_differences(levels: list[int]) -> None:
    power = [10 ** (level / 10) for level in levels]
    floor, changes = 0.0, []
    for index, (level, now) in enumerate(zip(levels, power, strict=True)):
        if index % 200 == 0:
            quiet = np.quantile(power[index : index + 200], 0.1)
            floor = 0.9 * floor + 0.1 * quiet if index else quiet
        ratio = max(0.0, level - 10 * np.log10(floor))
        changes.append(np.sqrt(abs(now - power[max(index - 1, 0)]) * ratio))
    expected = [np.mean(changes[max(0, index - 4) : index + 5]) for index in range(len(changes))]
    found = vad._weighted_differences(np.array(levels, dtype=float))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@given(mask=MASKS, shortest=st.integers(0, 6))
def test_close_gaps(mask: list[bool], shortest: int) -> None:
    regions = vad._runs(np.array(mask, dtype=bool))
    expected: list[list[int]] = []
    for start, end in regions.tolist():
        if expected and start - expected[-1][1] < max(shortest, 1):
            expected[-1][1] = end
        else:
            expected.append([start, end])
    assert vad._close_gaps(regions, shortest).tolist() == expected


def test_frames_are_speech_where_their_middle_is(spoken) -> None:
    wave, _ = spoken
    for hop in (320, 640):
        num_frames = len(wave) // hop
        regions = speech_regions(wave, method="energy", pad_ms=0)
        expected = [any(a <= hop * (frame + 0.5) < b for a, b in regions.tolist()) for frame in range(num_frames)]
        found = speech_frames(wave, num_frames, hop, pad_ms=0)
        assert found.tolist() == expected and 0 < sum(expected) < num_frames
    assert speech_frames(np.zeros(3200), 10, 320).tolist() == [False] * 10
    assert speech_frames(np.zeros(3200), 10, 320, method="none").all()
