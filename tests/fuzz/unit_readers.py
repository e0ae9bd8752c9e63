"""Fuzzed readers of units, artifacts, and what they are made of."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.corpus_readers import small_recordings
from fuzz.registry import READERS, Make, Read, Reader, sample
from fuzz.text_readers import small_alignment


def _write_units(name: str) -> Make:
    def make(folder: Path) -> Path:
        from syllablelm.core.segmentation import Segmentation
        from syllablelm.formats import FORMATS, open_writer

        path = folder / f"units{FORMATS[name].suffixes[0] if name not in ('textgrid', 'sdhubert') else ''}"
        with open_writer(path, name) as writer:
            for id, units in {"a": [3, 1, 2], "b/c": [0, 5], "d": [7]}.items():
                edges = np.arange(len(units) + 1) * 3
                writer.write(id, f"{id}.wav", Segmentation.from_boundaries(edges, unit=units))
        return path

    return make


def _read_units(name: str) -> Read:
    def read(path: Path) -> None:
        from syllablelm.formats import FormatOptions, detect_format, read_entries, read_segmentations, units_tokenizer

        detect_format(path, [name])
        entries = list(read_entries(path, name, FormatOptions(hop=320, unit_frames=2)))
        assert all(isinstance(entry.id, str) and len(entry.segmentation) >= 0 for entry in entries)
        if name in ("jsonl", "parquet"):
            assert list(read_segmentations(path)) == [entry.id for entry in entries]
            units_tokenizer(path)

    return read


for _name in (
    "jsonl", "parquet", "textgrid", "slamkit", "slamkit-tokens", "textless", "textless-lines", "gslm", "discophon",
    "sdhubert",
):  # fmt: skip
    READERS[f"units-{_name}"] = Reader(_write_units(_name), _read_units(_name))


def _open_tokenizer(path: Path) -> None:
    from helpers.random_models import noise
    from syllablelm.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(path, device="cpu")
    segments = tokenizer.encode(noise(16_000))
    assert segments.num_frames and (segments.unit is None or segments.unit.max(initial=0) < (tokenizer.num_units or 0))


@sample("artifact-tokenizer", _open_tokenizer)
def _tokenizer(folder: Path) -> Path:
    from dataclasses import asdict

    from helpers.random_models import small_predictor
    from syllablelm.core.artifact import new_artifact
    from syllablelm.quantize import Codebook
    from syllablelm.tokenizer.segment_rule import RULE_FILE, SegmentRule
    from syllablelm.tokenizer.tokenizer import CODEBOOK_FILE

    rule = SegmentRule(rate=5.0)
    centres = np.random.default_rng(0).standard_normal((24, 32)).astype(np.float32)
    path = folder / "tokenizer"
    with new_artifact(path, "tokenizer", config=rule, seed=0, parents={}, metrics={}) as payload:
        small_predictor().save(payload)
        Codebook(centres, np.arange(24, dtype=np.int32) % 12).save(payload / CODEBOOK_FILE)
        (payload / RULE_FILE).write_text(json.dumps(asdict(rule)))
    return path


def _read_codec(path: Path) -> None:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.quantize.codec import Codec

    codec = Codec.load(path)
    units = Segmentation.from_boundaries([0, 2, 4, 6], unit=[1, 2, 1], hop=codec.hop, sample_rate=codec.sample_rate)
    assert codec.decode(codec.encode(units)).unit is not None


@sample("artifact-codec", _read_codec)
def _codec(folder: Path) -> Path:
    from syllablelm.core.artifact import new_artifact
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.quantize.codec import KIND, fit_codec

    units = Segmentation.from_boundaries(np.arange(41) * 2, unit=[1, 2, 3, 4] * 10)
    with new_artifact(folder / "codec", KIND, config={}, seed=0, parents={}, metrics={}) as payload:
        fit_codec([units], "bpe", 8, 12).write_payload(payload)
    return folder / "codec"


def _read_store(path: Path) -> None:
    from syllablelm.lm.store import TokenStore

    store = TokenStore.open(path)
    assert all(len(tokens) == len(frames) for tokens, frames in (store[index] for index in range(len(store))))
    assert store.seconds >= 0


@sample("artifact-tokens", _read_store)
def _store(folder: Path) -> Path:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.lm.store import TokenInfo, TokenStore

    path = folder / "store"
    path.mkdir()
    TokenStore.from_segmentations(
        [("a", Segmentation.from_boundaries([0, 2, 5], unit=[1, 2]))] * 3, TokenInfo(num_tokens=5)
    ).save(path)
    return path


@sample("artifact-codebook", lambda path: _quantized(path))
def _codebook(folder: Path) -> Path:
    from syllablelm.quantize import Codebook

    centres = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    Codebook(centres, np.arange(6, dtype=np.int32) % 3).save(folder / "codebook.safetensors")
    return folder / "codebook.safetensors"


@sample("artifact-centres", lambda path: _quantized(path))
def _centres(folder: Path) -> Path:
    np.save(folder / "centres.npy", np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32))
    return folder / "centres.npy"


def _quantized(path: Path) -> None:
    from syllablelm.quantize.codebook import read_codebook

    book = read_codebook(path)
    units = book.assign(np.zeros((2, book.dim), dtype=np.float32))
    assert (units >= 0).all() and (units < book.num_units).all()


def _open_lm(path: Path) -> None:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.lm.speech_lm import SpeechLM

    lm = SpeechLM.load(path, device="cpu")
    prompt = Segmentation.from_boundaries([0, 3, 6], unit=[1, 2], hop=lm.info.hop, sample_rate=lm.info.sample_rate)
    assert np.isfinite(lm.score(prompt))


def _save_lm(folder: Path, num_tokens: int, info: Any) -> Any:
    import torch

    from syllablelm.core.artifact import new_artifact
    from syllablelm.lm.speech_lm import SpeechLM
    from syllablelm.train.lm_stage import LMShape

    torch.manual_seed(0)
    lm = SpeechLM(LMShape(1, 16, 2, 32, 64, 0.0).build(num_tokens), info, np.full(num_tokens, 3, dtype=np.int32))
    with new_artifact(folder, "lm", config={}, seed=0, parents={}, metrics={}) as payload:
        lm.write_payload(payload)
    return lm


@sample("artifact-lm", _open_lm)
def _lm(folder: Path) -> Path:
    from syllablelm.lm.store import TokenInfo

    _save_lm(folder / "lm", 8, TokenInfo(8))
    return folder / "lm"


def _open_resynthesizer(path: Path) -> None:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.vocoder.resynthesizer import Resynthesizer

    speaker = Resynthesizer.load(path, device="cpu")
    wave = speaker.decode(Segmentation.from_boundaries([0, 6, 12], unit=[3, 1]))
    assert wave.dtype == np.float32 and np.isfinite(wave).all()


@sample("artifact-resynthesizer", _open_resynthesizer)
def _resynthesizer(folder: Path) -> Path:
    import torch

    from syllablelm.vocoder.interleave import StreamInfo
    from syllablelm.vocoder.resynthesizer import LM_FOLDER, VOCODER_FOLDER
    from syllablelm.vocoder.source_filter import SourceFilterNet, SourceFilterShape, SourceFilterVocoder

    path = folder / "speaker"
    path.mkdir()
    _save_lm(path / LM_FOLDER, 14, StreamInfo(syllables=8, acoustic=6).tokens)
    (path / VOCODER_FOLDER).mkdir()
    torch.manual_seed(0)
    SourceFilterVocoder(SourceFilterNet(SourceFilterShape(6, dim=16, blocks=2, kernel=3))).save(path / VOCODER_FOLDER)
    return path


def _read_vocabulary(path: Path) -> None:
    from syllablelm.tokenizer.reference_units import Vocabulary

    assert Vocabulary.load(path).encode(small_alignment()).segmentation.num_frames == 50


@sample("artifact-vocabulary", _read_vocabulary)
def _vocabulary(folder: Path) -> Path:
    from syllablelm.tokenizer.reference_units import fit_vocabulary

    fit_vocabulary([small_alignment()], "syllable").save(folder / "vocabulary")
    return folder / "vocabulary"


def _read_encoded(path: Path) -> None:
    from syllablelm.engine.shards import open_corpus, read_units

    corpus = open_corpus(path)
    assert corpus.summary().recordings >= 0
    assert all(units.num_frames >= 0 for _, units in islice(read_units(path), 100))


@sample("artifact-encoded-corpus", _read_encoded, only="out/**/*")
def _encoded(folder: Path) -> Path:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.engine.shards import begin_corpus, enter_shard

    small_recordings(folder).save(folder / "m.jsonl")
    config = {"rule": {"rate": 5.0}, "precision": "float32", "shard_seconds": 0.6}
    corpus = begin_corpus(folder / "m.jsonl", folder / "out", config=config, parents={"model": "a" * 16})
    for shard in corpus.shards:
        places = range(len(shard))
        enter_shard(corpus, shard, {p: Segmentation.from_boundaries([0, 2, 4], unit=[1, 2]) for p in places}, {})
    corpus.finish()
    return folder / "out"
