"""Recordings in every shape in which other libraries hand them over, against the plain array."""

from __future__ import annotations

import io
import pathlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from helpers.random_models import noise
from syllablelm.core.errors import AudioError, InputError
from syllablelm.data.audio import SAMPLE_RATE, load_audio, load_blocks, load_waveforms, waveform_source
from syllablelm.data.samples import is_recording

# 16-bit samples, which a file and every other shape hold exactly.
PCM = np.rint(noise(9000) * 32767).astype(np.int16)
WAVE = (PCM / 32768).astype(np.float32)
OTHER = np.rint(noise(9000, seed=1) * 32767).astype(np.int16) / np.float32(32768)
STEREO = np.stack([WAVE, OTHER])
MEAN = ((WAVE + OTHER) / 2).astype(np.float32)


class Decoder:
    """A decoder of torchcodec, as far as it is recognised."""

    def __init__(self, data: torch.Tensor, sample_rate: int) -> None:
        self._samples = SimpleNamespace(data=data, sample_rate=sample_rate)

    def get_all_samples(self) -> Any:
        return self._samples


class Text:
    def __fspath__(self) -> str:
        return "no/such.wav"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    soundfile.write(path, PCM, SAMPLE_RATE)
    return path


ARRAYS: dict[str, Any] = {
    "float32": WAVE,
    "float64": WAVE.astype(np.float64),
    "big-endian": WAVE.astype(">f4"),
    "int16": PCM,
    "int32": PCM.astype(np.int32) << 16,
    "one row": WAVE[None],
    "one column": WAVE[:, None],
    "equal channels": np.stack([WAVE, WAVE]),
    "int16 channels": np.stack([PCM, PCM], axis=1),
    "list": WAVE.tolist(),
    "every second of a longer one": np.repeat(WAVE, 2)[::2],
    "read-only": np.frombuffer(WAVE.tobytes(), np.float32),
    "tensor": torch.from_numpy(WAVE),
    "torchaudio": torch.from_numpy(WAVE)[None],
    "tensor of int16": torch.from_numpy(PCM),
    "tensor with a gradient": torch.from_numpy(WAVE).requires_grad_(),
    "tensor of float64": torch.from_numpy(WAVE).double(),
    "pair of torchaudio": (torch.from_numpy(WAVE)[None], SAMPLE_RATE),
    "pair of soundfile": (WAVE, SAMPLE_RATE),
    "pair of scipy": (SAMPLE_RATE, PCM),
    "pair in a list": [WAVE, 16000.0],
    "data set": {"path": "a.wav", "array": WAVE, "sampling_rate": SAMPLE_RATE},
    "data set without NumPy": {"array": WAVE.tolist(), "sampling_rate": SAMPLE_RATE},
    "raw": {"raw": WAVE, "sampling_rate": SAMPLE_RATE},
    "waveform": {"waveform": torch.from_numpy(WAVE)[None], "sample_rate": SAMPLE_RATE},
    "decoder": Decoder(torch.from_numpy(WAVE)[None], SAMPLE_RATE),
    "decoded": Decoder(torch.from_numpy(WAVE)[None], SAMPLE_RATE).get_all_samples(),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(kind: str) -> None:
    audio = ARRAYS[kind]
    assert is_recording(audio)
    loaded = load_audio(audio)
    assert loaded.dtype == np.float32 and loaded.flags.c_contiguous
    np.testing.assert_array_equal(loaded, WAVE)
    np.testing.assert_array_equal(load_waveforms([WAVE, audio], sampling_rate=SAMPLE_RATE)[1], WAVE)


def test_files(file: pathlib.Path) -> None:
    data = file.read_bytes()
    audio: list[Any] = [file, str(file), data, bytearray(data), memoryview(data), io.BytesIO(data), file.open("rb")]
    audio += [{"bytes": data, "path": None}, {"bytes": data, "path": "gone.wav"}, {"bytes": None, "path": str(file)}]
    audio += [(file, SAMPLE_RATE)]
    for one in audio:
        assert is_recording(one)
        np.testing.assert_array_equal(load_audio(one), WAVE)


def test_a_float32_array_is_not_copied() -> None:
    assert load_audio(WAVE) is WAVE


def test_low_precision() -> None:
    for audio in (WAVE.astype(np.float16), torch.from_numpy(WAVE).bfloat16()):
        np.testing.assert_allclose(load_audio(audio), WAVE, rtol=2**-8)
    eight = np.clip(np.rint(WAVE * 128), -128, 127)
    np.testing.assert_array_equal(load_audio(eight.astype(np.int8)), eight / 128)
    np.testing.assert_array_equal(load_audio((eight + 128).astype(np.uint8)), eight / 128)


def test_eight_bit_samples_are_those_of_a_file(tmp_path: pathlib.Path) -> None:
    soundfile.write(tmp_path / "a.wav", WAVE, SAMPLE_RATE, subtype="PCM_U8")
    stored = np.frombuffer((tmp_path / "a.wav").read_bytes()[44 : 44 + len(WAVE)], np.uint8)
    np.testing.assert_array_equal(load_audio(stored), load_audio(tmp_path / "a.wav"))


@pytest.mark.parametrize("audio", [STEREO, STEREO.T, torch.from_numpy(STEREO), (STEREO.T, SAMPLE_RATE)])
def test_two_channels_are_averaged(audio: Any, tmp_path: pathlib.Path) -> None:
    soundfile.write(tmp_path / "a.wav", STEREO.T, SAMPLE_RATE)
    np.testing.assert_array_equal(load_audio(audio), MEAN)
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav"), MEAN)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_resampled_as_a_file_is(tmp_path: pathlib.Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", PCM, rate)
    expected = load_audio(tmp_path / "a.wav")
    assert len(expected) == round(len(WAVE) * SAMPLE_RATE / rate)
    both = {"array": PCM, "sampling_rate": rate}
    for audio, stated in ((WAVE, rate), ((PCM, rate), None), (both, None), (both, rate), (tmp_path / "a.wav", rate)):
        np.testing.assert_array_equal(load_audio(audio, sampling_rate=stated), expected)
    for size in (1, 1000, 100_000):
        blocks = [WAVE[first : first + size] for first in range(0, len(WAVE), size)]
        np.testing.assert_array_equal(np.concatenate(list(load_blocks(blocks, sampling_rate=rate))), expected)
        pairs = ((block, rate) for block in blocks)
        np.testing.assert_array_equal(np.concatenate(list(load_blocks(pairs))), expected)


def test_excerpts_count_samples_at_the_own_rate(tmp_path: pathlib.Path) -> None:
    soundfile.write(tmp_path / "a.wav", PCM, 48_000)
    expected = load_audio(tmp_path / "a.wav", start=3000, stop=6000)
    for audio in ((WAVE, 48_000), (tmp_path / "a.wav").read_bytes()):
        np.testing.assert_array_equal(load_audio(audio, start=3000, stop=6000), expected)
        with pytest.raises(AudioError, match="has 9000 samples where 0 to 9001 are wanted"):
            load_audio(audio, stop=9001)


def test_blocks_of_a_file(file: pathlib.Path) -> None:
    for audio in (file, file.read_bytes(), io.BytesIO(file.read_bytes())):
        np.testing.assert_array_equal(np.concatenate(list(load_blocks(audio))), WAVE)


@pytest.mark.parametrize(
    ("audio", "sampling_rate", "error", "words"),
    [
        pytest.param(np.zeros((3, 900)), None, InputError, r"has shape \(3, 900\); two dimensions", id="batch"),
        pytest.param(np.zeros((900, 3)), None, InputError, r"has shape \(900, 3\); two dimensions", id="channels"),
        pytest.param(np.ones((2, 2)), None, InputError, "could be either way round", id="square"),
        pytest.param(torch.zeros(1, 2, 900), None, InputError, r"has shape \(1, 2, 900\)", id="three dimensions"),
        pytest.param(np.float32(1), None, InputError, r"has shape \(\)", id="number"),
        pytest.param(np.zeros(9, np.int64), None, InputError, "int64 samples, whose full scale is unknown", id="int64"),
        pytest.param([1, 2, 3], None, InputError, "int64 samples", id="integers"),
        pytest.param(np.zeros(9, np.uint16), None, InputError, "uint16 samples", id="uint16"),
        pytest.param(np.ones(9, bool), None, InputError, "dtype bool is no recording", id="bool"),
        pytest.param(np.ones(9, complex), None, InputError, "dtype complex128 is no recording", id="complex"),
        pytest.param(None, None, InputError, "a NoneType of dtype object is no recording", id="none"),
        pytest.param(torch.ones(9).to_sparse(), None, InputError, "cannot be read as an array", id="sparse"),
        pytest.param(np.zeros(0, np.float32), None, AudioError, "holds no samples", id="empty"),
        pytest.param(np.zeros((2, 0), np.float32), None, InputError, r"has shape \(2, 0\)", id="empty channels"),
        pytest.param(np.zeros(9, np.float32), None, AudioError, "is silent", id="silence"),
        pytest.param(np.array([0.1, np.nan]), None, AudioError, "NaN or infinite sample at 1", id="NaN"),
        pytest.param(torch.tensor([[0.1, np.inf, 0.1]]), None, AudioError, "infinite sample at 1", id="infinity"),
        pytest.param(np.stack([WAVE, -WAVE]), None, AudioError, "channels cancel each other", id="cancelled"),
        pytest.param(np.stack([WAVE, WAVE * np.nan]), None, AudioError, "NaN or infinite", id="NaN in a channel"),
        pytest.param({"array": WAVE}, None, InputError, "no sampling rate; add 'sampling_rate'", id="no rate"),
        pytest.param({"audio": {"array": WAVE}}, None, InputError, r"row\['audio'\]", id="row"),
        pytest.param({"bytes": None, "path": None}, None, InputError, "needs 'array' and", id="nothing"),
        pytest.param((WAVE, 48_000), 16_000, InputError, "has 48000 Hz, but sampling_rate=16000 was", id="two rates"),
        pytest.param((WAVE, 0), None, InputError, "sampling rate 0 must be a whole number", id="rate 0"),
        pytest.param((WAVE, 44_100.5), None, InputError, "sampling rate 44100.5 must be", id="half a sample"),
        pytest.param((WAVE, float("nan")), None, InputError, "sampling rate nan must be", id="rate NaN"),
        pytest.param(WAVE, "16k", InputError, "sampling rate '16k' must be", id="words"),
        pytest.param(WAVE[:1], 48_000, AudioError, "shorter than one sample at 16000 Hz", id="a third of a sample"),
        pytest.param(io.StringIO("text"), None, InputError, "opened as text; open it with mode 'rb'", id="text"),
        pytest.param(b"", None, AudioError, "waveform: is empty", id="no bytes"),
        pytest.param(b"not audio at all", None, AudioError, "waveform: is not readable audio", id="bytes"),
        pytest.param(
            {"bytes": b"RIFF", "path": "x.wav"}, None, AudioError, "^x.wav: is not readable", id="named bytes"
        ),
        pytest.param(Text(), None, AudioError, "^no/such.wav: no such file", id="path"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(audio: Any, sampling_rate: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        load_audio(audio, sampling_rate=sampling_rate)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300 and "/tmp" not in str(caught.value)


def test_a_file_of_another_rate_is_an_error(tmp_path: pathlib.Path) -> None:
    soundfile.write(tmp_path / "a.wav", PCM, 48_000)
    data = (tmp_path / "a.wav").read_bytes()
    for audio in (tmp_path / "a.wav", data, {"bytes": data, "path": "b.wav"}):
        with pytest.raises(InputError, match="has 48000 Hz, but sampling_rate=16000 was passed"):
            load_audio(audio, sampling_rate=16_000)


def test_bytes_without_a_name_are_recognised(tmp_path: pathlib.Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE)
        frame = av.AudioFrame.from_ndarray(np.tile(WAVE, 4)[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    np.testing.assert_array_equal(load_audio(path.read_bytes()), load_audio(path))


def test_a_list_is_several_recordings() -> None:
    for batch in ([WAVE, OTHER], (WAVE, OTHER), [], iter([WAVE]), [(WAVE, SAMPLE_RATE)] * 2, [[0.1, 0.2], [0.3]]):
        assert not is_recording(batch)
    with pytest.raises(InputError, match=r"pass a single one as \[recording\]"):
        load_waveforms(WAVE)
    assert not load_waveforms([np.zeros(9)])[0].any()
    with pytest.raises(AudioError, match="waveform 1: holds no samples"):
        load_waveforms([WAVE, []])


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        (WAVE, "stream takes an iterable of blocks, or a file; encode takes a single array"),
        ([WAVE, WAVE.tobytes()], "block 1: is bytes or a file, not samples"),
        ([(WAVE, 48_000), WAVE], "block 1: has 16000 Hz after blocks of 48000 Hz"),
        ([WAVE, np.zeros((2, 2))], "block 1: has shape"),
    ],
)
def test_unusable_blocks(blocks: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(load_blocks(blocks))


def test_blocks_may_be_empty_silent_or_cancelled() -> None:
    blocks = [np.zeros(0), np.zeros(5), np.stack([WAVE, -WAVE]), np.zeros((1, 0))]
    assert [len(block) for block in load_blocks(blocks)] == [5, len(WAVE)]


def test_a_source_of_the_waveform_holds_no_array(file: pathlib.Path) -> None:
    array, tensor = PCM.copy(), torch.from_numpy(WAVE.copy())
    for source in (waveform_source(array), waveform_source(tensor), waveform_source(file)):
        assert source is not None
        np.testing.assert_array_equal(source(), WAVE)
    sources = [waveform_source(array), waveform_source(tensor)]
    del array, tensor
    assert [source and source() for source in sources] == [None, None]
    assert waveform_source({"array": WAVE, "sampling_rate": SAMPLE_RATE}) is None
