"""A file of any format that is cut anywhere is refused or warned of, and never shorter in silence."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from syllablelm.core.errors import AudioError
from syllablelm.data.audio import audio_info, load_audio, read_blocks

# libsndfile itself does not read back what it writes as DWVW; raw samples are refused; SD2 needs a second file.
UNREADABLE = {"DWVW_12", "DWVW_16", "DWVW_24"}
FORMATS = [
    (kind, subtype)
    for kind in sorted(set(soundfile.available_formats()) - {"RAW", "SD2"})
    for subtype in soundfile.available_subtypes(kind)
    if subtype not in UNREADABLE and (kind, subtype) != ("WAV", "MPEG_LAYER_III")
    if not subtype.startswith("MPEG_LAYER_I") or subtype == "MPEG_LAYER_III"
]
# Formats without any length: every file is warned of.
UNPROMISED = {"PAF", "PVF", "IRCAM", "XI"}


def write(path: Path, kind: str, subtype: str) -> bytes:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 12_000).astype(np.float32)
    narrow = kind == "WVE" or subtype.startswith(("GSM", "NMS", "G72"))
    soundfile.write(path, samples, 8000 if narrow else 16_000, subtype=subtype, format=kind)
    return path.read_bytes()


def load(path: Path) -> tuple[np.ndarray, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return load_audio(path), [str(warning.message) for warning in caught]


def check_cuts(path: Path, kind: str, subtype: str, count: int) -> None:
    data = write(path, kind, subtype)
    whole, told = load(path)
    assert bool(told) == (kind in UNPROMISED), told
    expected = soundfile.read(path, dtype="float32")[0]
    if audio_info(path).sample_rate == 16_000:
        np.testing.assert_allclose(whole, expected, atol=1e-6)
    for cut in np.random.default_rng(zlib.crc32(f"{kind}{subtype}".encode())).integers(1, len(data), count).tolist():
        path.write_bytes(data[:cut])
        try:
            waveform, told = load(path)
        except AudioError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            continue
        assert len(waveform) == len(whole) or any(str(path) in line for line in told), f"{kind} {subtype} at {cut}"
        assert len(waveform) <= len(whole)


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_cut_is_refused_or_warned_of(tmp_path: Path, kind: str, subtype: str) -> None:
    check_cuts(tmp_path / "a.bin", kind, subtype, 12)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_every_format_at_150_places(tmp_path: Path, kind: str, subtype: str) -> None:
    check_cuts(tmp_path / "a.bin", kind, subtype, 150)


@pytest.mark.parametrize("kind", ["WAV", "AU", "FLAC", "NIST", "OGG", "MP3"])
def test_what_a_warned_cut_gives_is_a_prefix(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    data = write(path, kind, soundfile.default_subtype(kind))
    whole = load_audio(path)
    for cut in range(100, len(data), len(data) // 25):
        path.write_bytes(data[:cut])
        try:
            waveform, _ = load(path)
        except AudioError:
            continue
        np.testing.assert_allclose(waveform, whole[: len(waveform)], atol=1e-6)
        assert len(waveform) == audio_info(path).num_samples
        np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, 0.1))), waveform)
