"""Recordings that PyAV decodes: read whole, refused when cut, and named where it is missing."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syllablelm.core.errors import AudioError, AudioWarning
from syllablelm.data.audio import audio_info, load_audio, read_blocks
from syllablelm.data.pyav import DECODED_BY_AV, can_decode_av

CODECS = {".m4a": "aac", ".mp4": "aac", ".webm": "libopus", ".mka": "aac", ".wma": "wmav2", ".aac": "aac"}


def encoded(path: Path, samples: np.ndarray, **options: Any) -> bytes:
    av = pytest.importorskip("av")
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream(CODECS[path.suffix], rate=48_000, layout="mono")
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=48_000, frame_size=960)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("suffix", CODECS)
def test_files_are_read_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    encoded(path, (0.5 * np.sin(np.arange(144_000) * 2 * np.pi * 440 / 48_000)).astype(np.float32))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        waveform = load_audio(path)
    assert {warning.category for warning in caught} == ({AudioWarning} if suffix == ".aac" else set())
    info = audio_info(path)
    assert (info.sample_rate, info.channels) == (48_000, 1)
    assert len(waveform) == pytest.approx(48_000, abs=1400) and len(waveform) * 3 == pytest.approx(
        info.num_samples, abs=3
    )
    assert np.argmax(np.abs(np.fft.rfft(waveform[8000:40_000]))) == pytest.approx(880, abs=2)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, 0.5))), waveform)
    excerpt = load_audio(path, start=30_000, stop=60_000)
    np.testing.assert_allclose(excerpt[50:-50], waveform[10_050:19_950], atol=1e-3)


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_cut_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    options = {"options": {"movflags": "faststart"}} if suffix == ".m4a" else {}
    data = encoded(path, np.random.default_rng(0).uniform(-0.5, 0.5, 100_000).astype(np.float32), **options)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        whole = audio_info(path).num_samples
    for cut in np.random.default_rng(1).integers(1, len(data), 30).tolist():
        path.write_bytes(data[:cut])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                length = len(load_audio(path)) and audio_info(path).num_samples
            except AudioError as error:
                assert str(path) in str(error) and "\n" not in str(error)
                continue
        assert length == whole or caught, cut


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for suffix in DECODED_BY_AV:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"any")
        with pytest.raises(AudioError, match=r"needs PyAV .* pip install 'syllablelm\[av\]', or convert it"):
            load_audio(path)


def test_text_under_such_a_name_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    assert can_decode_av()
    for suffix in DECODED_BY_AV:
        path = tmp_path / f"a{suffix}"
        path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n")
        with pytest.raises(AudioError, match=r"not readable audio|no audio|holds no samples|damaged"):
            load_audio(path)
