"""Ogg files that are chained, damaged, or recorded from a broadcast."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from syllablelm.core.errors import AudioError, AudioWarning
from syllablelm.data.audio import audio_info, load_audio, read_blocks

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 100_000).astype(np.float32)


def encoded(path: Path, subtype: str = "VORBIS", rate: int = 16_000, channels: int = 1) -> list[bytes]:
    """Write a file and return its pages."""
    soundfile.write(path, np.stack([NOISE] * channels, axis=1), rate, format="OGG", subtype=subtype)
    data, at, pages = path.read_bytes(), 0, []
    while at < len(data):
        length = 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])
        pages.append(data[at : at + length])
        at += length
    return pages


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_links_of_a_chain_follow_each_other(tmp_path: Path, subtype: str) -> None:
    mono, stereo = tmp_path / "mono.ogg", tmp_path / "stereo.ogg"
    chain = b"".join(encoded(mono, subtype) + encoded(stereo, subtype, channels=2) + encoded(mono, subtype))
    (tmp_path / "c.ogg").write_bytes(chain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = load_audio(tmp_path / "c.ogg")
    parts = [load_audio(mono), load_audio(stereo), load_audio(mono)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert audio_info(tmp_path / "c.ogg").num_samples == len(whole)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(tmp_path / "c.ogg", 0.9))), whole)
    np.testing.assert_allclose(
        load_audio(tmp_path / "c.ogg", start=90_000, stop=210_000), whole[90_000:210_000], atol=1e-4
    )


def test_links_of_different_rates_are_refused(tmp_path: Path) -> None:
    pages = encoded(tmp_path / "a.ogg") + encoded(tmp_path / "a.ogg", rate=24_000)
    (tmp_path / "a.ogg").write_bytes(b"".join(pages))
    with pytest.raises(AudioError, match=r"\[16000, 24000\] Hz"):
        load_audio(tmp_path / "a.ogg")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_flipped_bit_is_an_error(tmp_path: Path, subtype: str) -> None:
    path, rng = tmp_path / "a.ogg", np.random.default_rng(1)
    data = b"".join(encoded(path, subtype))
    for _ in range(60):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(AudioError, match=r"damaged|truncated|not readable"):
            audio_info(path)


def test_missing_page_is_an_error(tmp_path: Path) -> None:
    pages = encoded(tmp_path / "a.ogg")
    (tmp_path / "a.ogg").write_bytes(b"".join(pages[:5] + pages[6:]))
    with pytest.raises(AudioError, match="1 pages are missing at byte"):
        load_audio(tmp_path / "a.ogg")


def test_file_without_an_end_mark_is_warned_of(tmp_path: Path) -> None:
    pages = encoded(tmp_path / "a.ogg")
    whole = load_audio(tmp_path / "a.ogg")
    (tmp_path / "a.ogg").write_bytes(b"".join(pages[:-1]))
    with pytest.warns(AudioWarning, match=r"a\.ogg: has no end mark"):
        cut = load_audio(tmp_path / "a.ogg")
    np.testing.assert_array_equal(cut, whole[: len(cut)])


def test_recording_that_joins_a_broadcast_is_read(tmp_path: Path) -> None:
    pages = encoded(tmp_path / "a.ogg")
    headers = next(index for index, page in enumerate(pages) if any(page[6:14]))  # a granule position that is not 0
    (tmp_path / "a.ogg").write_bytes(b"".join(pages[:headers] + pages[headers + 2 :]))
    assert 0 < len(load_audio(tmp_path / "a.ogg")) == audio_info(tmp_path / "a.ogg").num_samples < len(NOISE)
