"""mp3 files with and without a header of their length, joined, tagged and damaged."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from syllablelm.core.errors import AudioError, AudioWarning
from syllablelm.data import source
from syllablelm.data.audio import audio_info, load_audio, read_blocks

SPEECH = np.sin(np.arange(64_000) ** 1.5 / 3e3).astype(np.float32) * np.linspace(0, 0.8, 64_000, dtype=np.float32)
ID3 = b"ID3\3\0\0\0\0\x08\0" + bytes(1024)


def encoded(path: Path, mode: str = "VARIABLE", rate: int = 16_000) -> bytes:
    soundfile.write(path, SPEECH, rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    return path.read_bytes()


def frames(data: bytes) -> list[bytes]:
    """Frames of an MPEG-1 or 2 layer III file, by an independent walk."""
    at, out = 0, []
    while at + 4 <= len(data):
        word = struct.unpack_from(">I", data, at)[0]
        first = word >> 19 & 1
        table = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
        table = table if first else (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
        rate = (44_100, 48_000, 32_000)[word >> 10 & 3] // (1 if first else 2)
        length = (144 if first else 72) * table[word >> 12 & 15] * 1000 // rate + (word >> 9 & 1)
        out.append(data[at : at + length])
        at += length
    return out


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("tag", [b"", ID3])
def test_file_without_a_tag_of_its_length_is_read_whole(tmp_path: Path, mode: str, rate: int, tag: bytes) -> None:
    path = tmp_path / "a.mp3"
    walked = frames(encoded(path, mode, rate))
    whole = load_audio(path)
    assert b"Xing" in walked[0] or b"Info" in walked[0]
    path.write_bytes(tag + b"".join(walked[1:]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        waveform, info = load_audio(path), audio_info(path)
        np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, 0.3))), waveform)
    size = 1152 if rate == 44_100 else 576
    assert (len(walked) - 3) * size <= info.num_samples <= (len(walked) - 1) * size
    # The delay of the encoder, which the tag tells, is all that is more.
    ours, theirs = np.fft.rfft(waveform, 1 << 18), np.fft.rfft(whole, 1 << 18)
    delay = int(np.argmax(np.fft.irfft(ours * theirs.conj())))
    end = len(whole) - 200
    assert 0 <= delay < 3000
    np.testing.assert_allclose(waveform[delay + 2000 : delay + end], whole[2000:end], atol=0.05)


def test_joined_files_are_read_whole(tmp_path: Path) -> None:
    data = encoded(tmp_path / "a.mp3")
    one = load_audio(tmp_path / "a.mp3")
    bare = b"".join(frames(data)[1:])
    (tmp_path / "b.mp3").write_bytes(data + ID3 + data + b"TAG" + bytes(125))
    two = load_audio(tmp_path / "b.mp3")
    np.testing.assert_array_equal(two, np.concatenate([one, one]))
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(tmp_path / "b.mp3", 0.7))), two)
    middle = load_audio(tmp_path / "b.mp3", start=len(one) - 1000, stop=len(one) + 1000)
    np.testing.assert_allclose(middle, two[len(one) - 1000 : len(one) + 1000], atol=1e-4)
    for joined in (data + bare, bare + data, bare + bare):
        (tmp_path / "c.mp3").write_bytes(joined)
        assert len(load_audio(tmp_path / "c.mp3")) >= 2 * len(one)


def test_joined_files_of_different_rates_are_refused(tmp_path: Path) -> None:
    data = encoded(tmp_path / "a.mp3") + encoded(tmp_path / "b.mp3", rate=44_100)
    (tmp_path / "c.mp3").write_bytes(data)
    with pytest.raises(AudioError, match=r"\[16000, 44100\] Hz"):
        load_audio(tmp_path / "c.mp3")


def test_fewer_frames_than_promised_are_an_error(tmp_path: Path) -> None:
    walked = frames(encoded(tmp_path / "a.mp3"))
    (tmp_path / "a.mp3").write_bytes(b"".join(walked[:-1]))
    for read in (audio_info, load_audio):
        with pytest.raises(AudioError, match=f"{len(walked) - 2} of its {len(walked) - 1} frames"):
            read(tmp_path / "a.mp3")


def test_file_without_a_tag_that_ends_or_breaks_within_a_frame_is_warned_of(tmp_path: Path) -> None:
    walked = frames(encoded(tmp_path / "a.mp3"))[1:]
    (tmp_path / "a.mp3").write_bytes(b"".join(walked)[:-5])
    with pytest.warns(AudioWarning, match=r"a\.mp3: ends within a frame"):
        assert len(load_audio(tmp_path / "a.mp3")) == (len(walked) - 1) * 576 - 529
    (tmp_path / "b.mp3").write_bytes(b"".join(walked[:30]) + b"\0" * 77 + b"junk" + b"".join(walked[30:]))
    with pytest.warns(AudioWarning, match="81 bytes at byte"):
        load_audio(tmp_path / "b.mp3")


def test_blocks_and_excerpts_are_slices_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded(tmp_path / "a.mp3")
    whole = load_audio(tmp_path / "a.mp3")
    monkeypatch.setattr(source, "BLOCK_FRAMES", 3000)
    np.testing.assert_allclose(load_audio(tmp_path / "a.mp3"), whole, atol=1e-6)
    for start in range(1000, len(whole) - 400, 7001):
        excerpt = load_audio(tmp_path / "a.mp3", start=start, stop=start + 400)
        np.testing.assert_allclose(excerpt, whole[start : start + 400], atol=1e-6)
