"""Fuzzed readers of audio files, corpora and manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fuzz.registry import READERS, Make, Reader, sample


def _read_audio(path: Path) -> None:
    from syllablelm.data.audio import audio_info, load_audio, read_blocks

    info, wave = audio_info(path), load_audio(path)
    assert info.num_samples > 0 and wave.dtype == np.float32 and wave.ndim == 1 and np.isfinite(wave).all()
    assert sum(map(len, read_blocks(path))) == len(wave)


def _write_audio(suffix: str, **options: Any) -> Make:
    def make(folder: Path) -> Path:
        import soundfile

        from helpers.random_models import noise

        path = folder / f"speech.{suffix}"
        soundfile.write(path, noise(24_000), 16_000, **options)
        return path

    return make


for _name, _options in {
    "wav": {}, "flac": {}, "ogg": {}, "mp3": {}, "aiff": {}, "au": {}, "caf": {}, "w64": {}, "rf64": {}, "voc": {},
    "opus": {"format": "OGG", "subtype": "OPUS"}, "sph": {"format": "NIST"}, "float.wav": {"subtype": "FLOAT"},
}.items():  # fmt: skip
    READERS[f"audio-{_name}"] = Reader(_write_audio(_name, **_options), _read_audio)


def _read_corpus(path: Path) -> None:
    from syllablelm.data.corpus import scan

    manifest, skipped = scan(path)
    assert all(recording.num_samples > 0 and recording.sample_rate > 0 for recording in manifest)
    assert len({recording.id for recording in manifest}) == len(manifest) > 0 or skipped
    assert all(len(recording.load()) for recording in manifest)


def small_recordings(folder: Path) -> Any:
    from helpers.random_models import small_corpus

    return small_corpus(folder, [16_000, 8_000])


@sample("corpus-folder", _read_corpus)
def _folder(folder: Path) -> Path:
    small_recordings(folder / "corpus")
    return folder / "corpus"


@sample("corpus-librispeech", _read_corpus)
def _librispeech(folder: Path) -> Path:
    import soundfile

    from helpers.random_models import noise

    chapter = folder / "dev" / "84" / "121"
    chapter.mkdir(parents=True)
    for number in range(2):
        soundfile.write(chapter / f"84-121-000{number}.flac", noise(8_000), 16_000)
    (chapter / "84-121.trans.txt").write_text("84-121-0000 GO ON\n84-121-0001 AND REST\n")
    (folder / "SPEAKERS.TXT").write_text("; ID|SEX|SUBSET|MINUTES|NAME\n84 | F | dev-clean | 8.02 | A B\n")
    return folder


@sample("manifest-jsonl", _read_corpus, only="*.jsonl")
def _jsonl(folder: Path) -> Path:
    small_recordings(folder).save(folder / "manifest.jsonl")
    return folder / "manifest.jsonl"


@sample("manifest-csv", _read_corpus, only="*.csv")
def _csv(folder: Path) -> Path:
    small_recordings(folder)
    text = "id,path,start,num_samples,speaker,text\na,r0.wav,100,5000,s1,go on\nb,r1.wav,,,s2,rest\n"
    (folder / "manifest.csv").write_text(text)
    return folder / "manifest.csv"
