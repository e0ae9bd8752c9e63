"""Headers of containers: never finished, beyond 4 GiB, joined, and with bytes that they do not count."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from syllablelm.core.errors import AudioError, AudioWarning
from syllablelm.data.audio import audio_info, load_audio

SAMPLES = (np.random.default_rng(0).integers(-9000, 9000, 8000) / 32768).astype(np.float32)


def written(folder: Path, kind: str = "WAV") -> bytearray:
    soundfile.write(folder / "whole", SAMPLES, 16_000, format=kind, subtype="PCM_16")
    return bytearray((folder / "whole").read_bytes())


def patched(data: bytearray, mark: bytes, offset: int, value: bytes) -> bytes:
    at = data.find(mark) + offset
    data[at : at + len(value)] = value
    return bytes(data)


UNFINISHED = {
    "WAV": (b"data", 4, [bytes(4), b"\xff" * 4, struct.pack("<I", 0x7FFF_F000), struct.pack("<I", 1 << 31)]),
    "AIFF": (b"SSND", 4, [bytes(4), b"\x7f\0\0\0"[:0] + b"\xff" * 4]),
    "AU": (b".snd", 8, [bytes(4), b"\xff" * 4]),
    "W64": (b"data\xf3", 16, [bytes(8), struct.pack("<q", 24)]),
    "RF64": (b"ds64", 16, [bytes(8), b"\xff" * 8]),
    "CAF": (b"data", 4, [b"\xff" * 8]),
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_header_that_was_never_finished_is_read_to_the_end_with_a_warning(tmp_path: Path, kind: str) -> None:
    mark, offset, values = UNFINISHED[kind]
    for value in values:
        path = tmp_path / f"a{value.hex()}"
        path.write_bytes(patched(written(tmp_path, kind), mark, offset, value))
        with pytest.warns(AudioWarning, match="never finished") as caught:
            np.testing.assert_array_equal(load_audio(path), SAMPLES)
            assert audio_info(path).num_samples == len(SAMPLES)
        assert str(caught[0].message).startswith(f"{path}: ")


def test_recording_of_no_samples_is_not_mistaken_for_one_never_finished(tmp_path: Path) -> None:
    data = patched(written(tmp_path)[:44], b"data", 4, bytes(4))
    for behind in (b"", b"LIST" + struct.pack("<I", 4) + b"INFO"):
        (tmp_path / "a").write_bytes(data + behind)
        with pytest.raises(AudioError, match="no samples"):
            load_audio(tmp_path / "a")


def test_sphere_header_without_a_count_is_refused(tmp_path: Path) -> None:
    data = written(tmp_path, "NIST").replace(b"sample_count -i 8000", b"sample_count -i 0   ")
    (tmp_path / "a.sph").write_bytes(data)
    with pytest.raises(AudioError, match="header was never finished"):
        load_audio(tmp_path / "a.sph")


@pytest.mark.parametrize("kind", ["WAV", "AU"])
def test_size_beyond_four_gibibytes_is_read_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(written(tmp_path, kind))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + (1 << 32))  # sparse: a size that is 2^32 too small
    with pytest.warns(AudioWarning, match="4 GiB"):
        assert audio_info(path).num_samples == len(SAMPLES) + (1 << 31)
        np.testing.assert_array_equal(load_audio(path, stop=len(SAMPLES)), SAMPLES)
    last = len(SAMPLES) + (1 << 31)
    with pytest.warns(AudioWarning), pytest.raises(AudioError, match="silent"):
        load_audio(path, start=last - 10)


def test_wav_of_two_to_four_gibibytes_that_is_cut_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(patched(written(tmp_path), b"data", 4, struct.pack("<I", 0xC000_0000)))
    with pytest.raises(AudioError, match="truncated, 3221209472 bytes"):
        audio_info(tmp_path / "a")


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_joined_files_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_bytes(written(tmp_path, kind) * 2)
    with pytest.raises(AudioError, match="joined end to end"):
        load_audio(tmp_path / "a")


def test_bytes_that_the_header_does_not_count_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(patched(written(tmp_path), b"data", 4, struct.pack("<I", 10_000)))
    with pytest.warns(AudioWarning, match="6000 bytes after its samples"):
        assert len(load_audio(tmp_path / "a")) == 5000


@pytest.mark.parametrize("rate", [1, 100, 3999, 768_001, 2_000_000_000])
def test_rate_of_a_damaged_header_is_an_error(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", SAMPLES, rate)
    for read in (audio_info, load_audio):
        with pytest.raises(AudioError, match=f"{rate} Hz, outside 4000 to 768000"):
            read(tmp_path / "a.wav")
