"""Distortions of a waveform, for the augmentation of training and for the stability evaluation.

All take and return float32 (num_samples,) at 16 kHz. Lengths are kept except by `delay`. Events stay at their sample,
except under `delay` (a constant shift), `mp3` (within 1 ms) and `pitch` (within 5 ms).
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from syllablelm.core.errors import MissingDependencyError
from syllablelm.data.audio import SAMPLE_RATE

Waveform = npt.NDArray[np.float32]

TELEPHONE_BAND = (300.0, 3400.0)
TELEPHONE_RATE = 8_000
MU = 255.0
# Samples that an MP3 encoder and decoder may shift a recording by; the true shift is searched in this range.
MP3_SEARCH = 3_000
# Frames of the overlap-add that `pitch` stretches time with, and how far they are shifted to fit, in samples: 4 ms
# either way find the phase of voices above 125 Hz and nearly that of lower ones, and keep events within 5 ms.
STRETCH_WINDOW, STRETCH_SEARCH = 512, 64


def gain(waveform: Waveform, db: float) -> Waveform:
    """Change the level by ``db``."""
    return (waveform * np.float32(10 ** (db / 20))).astype(np.float32)


def add_noise(waveform: Waveform, noise: npt.NDArray[np.floating], snr_db: float) -> Waveform:
    """Add a noise of the same length at a signal-to-noise ratio over the whole recording."""
    power = max(float(np.mean(np.square(noise, dtype=np.float64))), 1e-12)
    level = np.sqrt(float(np.mean(np.square(waveform, dtype=np.float64))) / power) * 10 ** (-snr_db / 20)
    return (waveform + np.float32(level) * noise).astype(np.float32)


def white_noise(waveform: Waveform, snr_db: float, rng: np.random.Generator) -> Waveform:
    """Add white Gaussian noise at a signal-to-noise ratio."""
    return add_noise(waveform, rng.standard_normal(len(waveform), dtype=np.float32), snr_db)


def equalize(waveform: npt.NDArray[np.floating], gains_db: npt.NDArray[np.float64]) -> Waveform:
    """Zero-phase filter whose gain runs smoothly through the given values, spaced evenly in mel up to 8 kHz."""
    spectrum = np.fft.rfft(waveform)
    mel = np.log1p(np.linspace(0, SAMPLE_RATE / 2, len(spectrum)) / 700.0)
    points = np.linspace(0, mel[-1], len(gains_db))
    return np.fft.irfft(spectrum * 10 ** (np.interp(mel, points, gains_db) / 20), len(waveform)).astype(np.float32)


def telephone(waveform: Waveform) -> Waveform:
    """Narrow-band telephone speech: 300 to 3,400 Hz, 8 kHz, mu-law of 8 bits; zero phase."""
    if len(waveform) == 0:
        return waveform
    spectrum = np.fft.rfft(waveform)
    hertz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    spectrum[(hertz < TELEPHONE_BAND[0]) | (hertz > TELEPHONE_BAND[1])] = 0
    narrow = np.fft.irfft(spectrum, len(waveform))
    peak = max(float(np.abs(narrow).max()), 1e-9)
    # The band ends below 4 kHz, so quantising at 16 kHz and removing what lies above is the 8 kHz channel's noise.
    scaled = narrow / peak
    coded = np.sign(scaled) * np.log1p(MU * np.abs(scaled)) / np.log1p(MU)
    coded = np.rint((coded + 1) / 2 * MU) / MU * 2 - 1
    decoded = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(MU)) / MU * peak
    spectrum = np.fft.rfft(decoded)
    spectrum[hertz > TELEPHONE_RATE / 2] = 0
    return np.fft.irfft(spectrum, len(waveform)).astype(np.float32)


def delay(waveform: Waveform, seconds: float) -> Waveform:
    """Put silence before the recording; the result is that much longer."""
    return np.concatenate([np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32), waveform])


def reverberate(waveform: Waveform, seconds: float, rng: np.random.Generator, *, direct: float = 0.5) -> Waveform:
    """Add the reverberation of a synthetic room: decaying noise after the direct sound, which is not shifted.

    `seconds` is the time of decay by 60 dB, `direct` the direct sound's share of the energy.
    """
    if len(waveform) == 0 or seconds <= 0:
        return waveform
    tail = rng.standard_normal(max(2, round(seconds * SAMPLE_RATE)))
    tail *= 10 ** (-3 * np.arange(len(tail)) / len(tail))
    tail[0] = 0
    response = tail * np.sqrt((1 - direct) / max(float(tail @ tail), 1e-12))
    response[0] = np.sqrt(direct)
    size = len(waveform) + len(response) - 1
    wet = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(response, size), size)
    return wet[: len(waveform)].astype(np.float32)


def mp3(waveform: Waveform, quality: float = 0.5) -> Waveform:
    """Encode as MP3 at a compression level from 0 (best) to 1 and decode, by libsndfile, without the codec's delay."""
    if len(waveform) == 0:
        return waveform
    buffer = io.BytesIO()
    try:
        soundfile.write(
            buffer, waveform, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III", compression_level=quality
        )
        buffer.seek(0)
        decoded, _ = soundfile.read(buffer, dtype="float32")
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:
        raise MissingDependencyError(
            f"this libsndfile writes no MP3 ({error}); install a newer soundfile: pip install 'soundfile>=0.13'"
        ) from None
    return _aligned(np.asarray(decoded, dtype=np.float32), waveform, MP3_SEARCH)


def _aligned(late: Waveform, reference: Waveform, most: int) -> Waveform:
    """Remove the shift at which ``late`` fits ``reference`` best, and bring it to the same length."""
    size = len(late) + len(reference) + most
    product = np.fft.irfft(np.fft.rfft(late, size) * np.conj(np.fft.rfft(reference, size)), size)
    # Some decoders skip more than the encoder's delay: the shift may be negative.
    shift = int(np.concatenate([product[-most:], product[: most + 1]]).argmax()) - most
    moved = np.pad(late, (max(0, -shift), 0))[max(0, shift) :][: len(reference)]
    return np.pad(moved, (0, len(reference) - len(moved))).astype(np.float32)


def pitch(waveform: Waveform, semitones: float) -> Waveform:
    """Raise (or lower) pitch and formants together; the duration stays.

    The recording is resampled, which changes pitch and speed, and the speed is undone by overlap-add of stretches that
    are shifted to where they fit best (WSOLA).
    """
    if len(waveform) == 0 or semitones == 0:
        return waveform
    factor = 2 ** (semitones / 12)
    faster = soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE).astype(np.float32)
    return _stretch(faster, len(waveform))


def _stretch(waveform: Waveform, length: int) -> Waveform:
    """Change the length of a waveform without changing its pitch, by WSOLA."""
    hop = STRETCH_WINDOW // 2
    taper = np.hanning(STRETCH_WINDOW + 1)[:-1]
    room = STRETCH_WINDOW + STRETCH_SEARCH
    padded = np.pad(waveform.astype(np.float64), (room, 2 * room))
    out, weight = np.zeros(length + 2 * room), np.zeros(length + 2 * room)
    speed, expected = len(waveform) / length, None
    for at in range(0, length + hop, hop):
        place = round(at * speed) + room - hop
        if expected is not None:
            low = place - STRETCH_SEARCH
            near = padded[low : low + STRETCH_WINDOW + 2 * STRETCH_SEARCH]
            if len(near) == STRETCH_WINDOW + 2 * STRETCH_SEARCH:
                place = low + _best_fit(near, expected)
        piece = padded[place : place + STRETCH_WINDOW]
        out[at : at + len(piece)] += piece * taper[: len(piece)]
        weight[at : at + len(piece)] += taper[: len(piece)]
        expected = padded[place + hop : place + hop + STRETCH_WINDOW]
        if len(expected) < STRETCH_WINDOW:
            break
    return (out / np.maximum(weight, 1e-3))[hop : hop + length].astype(np.float32)


def _best_fit(near: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> int:
    """Where in ``near`` a stretch looks most like ``expected``; the middle where nothing fits better, as in silence."""
    fit = np.correlate(near, expected, "valid")
    # Without the energies, the loudest stretch would win and move onsets.
    energy = np.convolve(np.square(near), np.ones(len(expected)), "valid")
    middle = len(fit) // 2
    closeness = fit / np.sqrt(np.maximum(energy * (expected @ expected), 1e-12))
    closeness -= 0.05 * np.abs(np.arange(len(fit)) - middle) / max(middle, 1)
    return int(closeness.argmax())
