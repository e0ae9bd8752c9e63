"""Audio in and out: every container, every kind of broken file, excerpts, streams and the finder."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import AudioError, InputError
from syllablelm.data import source
from syllablelm.data.audio import (
    SAMPLE_RATE,
    audio_info,
    check_audio,
    check_waveform,
    load_audio,
    read_blocks,
    save_audio,
)


def tone(num_samples: int, rate: int = SAMPLE_RATE, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(num_samples) / rate)).astype(np.float32)


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, num_samples).astype(np.float32)


FORMATS = {
    "a.wav": {"subtype": "PCM_16"},
    "b.wav": {"subtype": "FLOAT"},
    "a.flac": {},
    "a.ogg": {"format": "OGG", "subtype": "VORBIS"},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
    "a.aiff": {},
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_container_rate_and_channel_count(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for rate, channels in ((16_000, 1), (48_000, 2), (24_000, 1), (8_000, 2)):
        samples = np.stack([tone(rate, rate)] * channels, axis=1)
        soundfile.write(path, samples, rate, **FORMATS[name])
        info = audio_info(path)
        assert (info.sample_rate, info.channels) == (rate, channels)
        assert info.seconds == pytest.approx(1.0, abs=0.1)  # lossy codecs pad
        loaded = load_audio(path)
        assert loaded.dtype == np.float32 and loaded.ndim == 1
        assert len(loaded) == pytest.approx(info.num_samples * SAMPLE_RATE / rate, abs=2)
        spectrum = np.abs(np.fft.rfft(loaded[2000:14_000]))
        assert np.argmax(spectrum) * SAMPLE_RATE / 12_000 == pytest.approx(440.0, abs=2)
        assert np.abs(loaded[2000:14_000]).max() == pytest.approx(0.5, abs=0.05)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = noise(4000, 1), noise(4000, 2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)


def test_values_beyond_full_scale_are_kept(tmp_path: Path) -> None:
    samples = 3 * noise(4000)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav"), samples)


def test_resampler_removes_what_would_alias(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(48_000, 48_000, hertz=11_000), 48_000, subtype="FLOAT")
    assert np.abs(load_audio(tmp_path / "a.wav")[1000:-1000]).max() < 1e-4


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_excerpt_equals_slice_of_the_whole(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, noise(30_000), SAMPLE_RATE, **FORMATS[name])
    whole = load_audio(tmp_path / name)
    np.testing.assert_allclose(load_audio(tmp_path / name, start=7001, stop=20_011), whole[7001:20_011], atol=1e-4)
    np.testing.assert_allclose(load_audio(tmp_path / name, start=7001), whole[7001:], atol=1e-4)


def test_excerpt_counts_in_the_files_own_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(48_000), 48_000)
    assert len(load_audio(tmp_path / "a.wav", start=3000, stop=27_000)) == 8000


@pytest.mark.parametrize(("start", "stop"), [(-1, 10), (10, 10), (20, 10), (5000, None)])
def test_excerpt_without_samples_is_an_error(tmp_path: Path, start: int, stop: int | None) -> None:
    soundfile.write(tmp_path / "a.wav", noise(4000), SAMPLE_RATE)
    with pytest.raises(InputError, match=r"a\.wav.*do not enclose"):
        load_audio(tmp_path / "a.wav", start=start, stop=stop)


def test_excerpt_past_the_end_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(4000), SAMPLE_RATE)
    with pytest.raises(AudioError, match=r"a\.wav: has 4000 samples where 10 to 4001"):
        load_audio(tmp_path / "a.wav", start=10, stop=4001)


# Files that cannot be used


def broken(folder: Path, kind: str) -> Path:
    path = folder / "bad.wav"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("these are words, not sound\n" * 50)
    elif kind == "zero-length":
        soundfile.write(path, np.zeros(0, np.float32), SAMPLE_RATE)
    elif kind == "silent":
        soundfile.write(path, np.zeros(1000, np.float32), SAMPLE_RATE)
    elif kind == "cancelling":
        soundfile.write(path, np.stack([tone(1000), -tone(1000)], axis=1), SAMPLE_RATE, subtype="FLOAT")
    elif kind in ("nan", "inf"):
        samples = noise(1000)
        samples[321] = float(kind)
        soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")
    elif kind == "tiny":
        soundfile.write(path, noise(1), 96_000)
    elif kind == "raw":
        path = folder / "bad.raw"
        path.write_bytes(noise(100).tobytes())
    return path


BROKEN = {
    "missing": "no such file",
    "folder": "is a folder",
    "empty": "is empty",
    "text": "not readable audio",
    "zero-length": "no samples",
    "silent": "is silent",
    "cancelling": "cancel each other",
    "nan": "NaN or infinite sample at 321",
    "inf": "NaN or infinite sample at 321",
    "tiny": "shorter than one sample",
    "raw": "raw samples",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_unusable_file_gives_one_line_with_name_and_reason(tmp_path: Path, kind: str) -> None:
    path = broken(tmp_path, kind)
    for read in (load_audio, lambda p: list(read_blocks(p))):
        with pytest.raises(AudioError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and BROKEN[kind] in message
        assert "\n" not in message and ";" in message
    if kind in ("missing", "folder", "empty", "text", "zero-length", "raw"):
        with pytest.raises(AudioError, match=BROKEN[kind]):
            audio_info(path)


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_file_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(2 * SAMPLE_RATE), SAMPLE_RATE, **FORMATS[name])
    whole = path.read_bytes()
    check_audio(path)
    for fraction in (0.3, 0.8, 0.97):
        path.write_bytes(whole[: int(len(whole) * fraction)])
        for read in (load_audio, check_audio):
            with pytest.raises(AudioError, match=r"truncated|start is damaged"):
                read(path)


def test_wav_written_to_a_pipe_has_no_length_and_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(4000), SAMPLE_RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "b.wav").write_bytes(data)
    np.testing.assert_array_equal(load_audio(tmp_path / "b.wav"), load_audio(tmp_path / "a.wav"))


def test_flac_without_length_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(4000), SAMPLE_RATE)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] &= 0xF0  # STREAMINFO: the 36-bit sample count begins in the low half of this byte
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(AudioError, match="does not say how long"):
        load_audio(tmp_path / "a.flac")


def test_chunks_before_and_after_the_data_do_not_look_like_truncation(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(4000), SAMPLE_RATE)
    data = (tmp_path / "a.wav").read_bytes()
    odd = b"junk" + struct.pack("<I", 3) + b"xyz\0"
    body = data[12:36] + odd + data[36:] + odd
    (tmp_path / "b.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body)
    np.testing.assert_array_equal(load_audio(tmp_path / "b.wav"), load_audio(tmp_path / "a.wav"))


# Streams


@pytest.mark.parametrize("rate", [16_000, 44_100, 8_000])
@pytest.mark.parametrize("seconds", [0.013, 0.5, 30.0])
def test_blocks_joined_equal_the_whole(tmp_path: Path, rate: int, seconds: float, monkeypatch) -> None:
    monkeypatch.setattr(source, "BLOCK_FRAMES", 5000)
    soundfile.write(tmp_path / "a.flac", noise(3 * rate + 7), rate)
    blocks = list(read_blocks(tmp_path / "a.flac", seconds))
    size = round(seconds * SAMPLE_RATE)
    assert all(len(block) == size for block in blocks[:-1]) and 0 < len(blocks[-1]) <= size
    monkeypatch.setattr(source, "BLOCK_FRAMES", 1 << 20)
    np.testing.assert_allclose(np.concatenate(blocks), load_audio(tmp_path / "a.flac"), atol=1e-4)


def test_blocks_need_bounded_memory(tmp_path: Path) -> None:
    seconds = 600
    soundfile.write(tmp_path / "a.wav", np.tile(noise(SAMPLE_RATE), seconds), SAMPLE_RATE)
    tracemalloc.start()
    total = sum(len(block) for block in read_blocks(tmp_path / "a.wav", 5.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == seconds * SAMPLE_RATE
    assert peak < total * 4 / 4  # a quarter of the samples as float32


def test_blocks_reject_no_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(400), SAMPLE_RATE)
    with pytest.raises(InputError, match="seconds"):
        next(read_blocks(tmp_path / "a.wav", 0.0))


# Arrays from a caller


def test_check_waveform_leaves_good_samples_alone() -> None:
    samples = noise(100)
    assert check_waveform(samples) is samples


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ">f4"])
def test_check_waveform_converts_floats(dtype) -> None:
    given_samples = noise(100).astype(dtype)
    before = given_samples.copy()
    checked = check_waveform(given_samples[::2])
    assert checked.dtype == np.float32 and checked.flags.c_contiguous
    np.testing.assert_array_equal(checked, before[::2].astype(np.float32))
    np.testing.assert_array_equal(given_samples, before)


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        (np.zeros(10, np.int16), InputError, "32768"),
        (np.zeros((2, 10), np.float32), InputError, "average the channels"),
        (np.float32(1), InputError, "shape"),
        (np.ones(3, bool), InputError, "dtype"),
        (np.ones(3, complex), InputError, "dtype"),
        ("hello", InputError, "shape"),
        ([[0.1], [0.1, 0.2]], InputError, "cannot be read"),
        (np.zeros(0, np.float32), AudioError, "no samples"),
        (np.zeros(10, np.float32), AudioError, "silent"),
        (np.array([0.0, np.nan]), AudioError, "NaN or infinite sample at 1"),
        (np.array([1.0, 1e300]), AudioError, "infinite sample at 1"),
    ],
)
def test_check_waveform_says_what_is_wrong(samples, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        check_waveform(samples, name="take 3")
    assert str(caught.value).startswith("take 3: ")


def test_check_waveform_may_allow_silence() -> None:
    assert not check_waveform(np.zeros(10), allow_silence=True).any()


# Writing


@settings(deadline=None, max_examples=30)
@given(values=st.lists(st.integers(-32768, 32767), min_size=1, max_size=200).filter(any))
def test_sixteen_bit_samples_survive_a_round_trip(values: list[int], tmp_path_factory) -> None:
    samples = (np.array(values) / 32768).astype(np.float32)
    for name in ("a.wav", "a.flac"):
        path = tmp_path_factory.mktemp("round") / name
        save_audio(path, samples)
        np.testing.assert_array_equal(load_audio(path), samples)


def test_save_clips_and_keeps_rate(tmp_path: Path) -> None:
    save_audio(tmp_path / "a.wav", np.array([2.0, -2.0, 0.5]), 22_050)
    samples, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == 22_050
    np.testing.assert_allclose(samples, [32767 / 32768, -1.0, 0.5])


def test_save_makes_folders(tmp_path: Path) -> None:
    save_audio(tmp_path / "new" / "a.wav", tone(100))
    assert len(load_audio(tmp_path / "new" / "a.wav")) == 100


def test_save_into_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AudioError, match="cannot be written"):
        save_audio(tmp_path / "file" / "a.wav", tone(100))


def test_save_ogg(tmp_path: Path) -> None:
    save_audio(tmp_path / "a.ogg", tone(40 * SAMPLE_RATE))
    assert len(load_audio(tmp_path / "a.ogg")) == 40 * SAMPLE_RATE


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.wav"
    save_audio(path, tone(100))
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(AudioError, match="no space left"):
        save_audio(path, tone(200))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_save_rejects_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="xyz"):
        save_audio(tmp_path / "a.xyz", tone(100))
    with pytest.raises(InputError, match="sample_rate"):
        save_audio(tmp_path / "a.wav", tone(100), 0)
    with pytest.raises(AudioError, match="NaN"):
        save_audio(tmp_path / "a.wav", np.array([np.nan]))
    assert list(tmp_path.iterdir()) == []
