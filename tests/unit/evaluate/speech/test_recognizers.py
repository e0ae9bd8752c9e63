"""Recognisers: their names, their order of transcripts, and what is missing."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from helpers.planted_code import plant_code
from syllablelm.core.errors import FormatError, InputError, MissingDependencyError
from syllablelm.core.models import BUNDLED
from syllablelm.data.audio import load_audio
from syllablelm.evaluate.speech import recognizers
from syllablelm.evaluate.speech.error_rates import error_counts
from syllablelm.evaluate.speech.recognizers import (
    RECOGNIZERS,
    CTCRecognizer,
    PocketsphinxRecognizer,
    Transcriber,
    load_recognizer,
)


class Fake:
    name = "fake"

    def transcribe(self, waveform):
        return f"{len(waveform)} samples"


def test_transcripts_keep_the_order(monkeypatch):
    monkeypatch.setattr(recognizers, "load_recognizer", lambda name, device: Fake())
    with Transcriber("fake") as transcriber:
        assert list(transcriber.transcribe_all(np.zeros(n, np.float32) for n in (3, 1, 2))) == [
            "3 samples",
            "1 samples",
            "2 samples",
        ]
    with pytest.raises(InputError, match="workers 0"):
        Transcriber("fake", workers=0)


@pytest.mark.slow
def test_pocketsphinx_transcripts_depend_on_the_recording_alone():
    pytest.importorskip("pocketsphinx")
    wave = load_audio(BUNDLED / "sample.flac")[:48_000]
    waves = [wave, wave * 0.1, wave[::-1].copy(), wave]
    with Transcriber("pocketsphinx") as alone, Transcriber("pocketsphinx", workers=2) as several:
        one, other = list(alone.transcribe_all(waves)), list(several.transcribe_all(waves))
    assert one == other
    assert one[0] == one[3]


def test_pocketsphinx_recognises_some_of_a_real_recording():
    pytest.importorskip("pocketsphinx")
    recognizer = load_recognizer("pocketsphinx")
    assert isinstance(recognizer, PocketsphinxRecognizer)
    record = json.loads((BUNDLED / "sample.alignments.jsonl").read_text(encoding="utf-8"))
    spoken = " ".join(word["word"] for word in record["words"])
    heard = recognizer.transcribe(load_audio(BUNDLED / "sample.flac"))
    assert error_counts(spoken, heard).wer < 0.9


def test_a_missing_recogniser_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        PocketsphinxRecognizer()


def test_no_such_ctc_model(tmp_path):
    with pytest.raises(FormatError, match="not a CTC recogniser"):
        CTCRecognizer(str(tmp_path))


def test_messages_take_the_names_from_the_registry(tmp_path, monkeypatch):
    assert set(RECOGNIZERS) == {"pocketsphinx"}
    with pytest.raises(FormatError, match="choose pocketsphinx, or a Hugging Face CTC model"):
        load_recognizer(str(tmp_path))
    monkeypatch.setitem(RECOGNIZERS, "fake", Fake)
    assert load_recognizer("fake").name == "fake"


@pytest.fixture(scope="module")
def ctc(tmp_path_factory):
    """A random wav2vec 2.0 with a head of letters, and its processor."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC, Wav2Vec2Processor
    from transformers.models.wav2vec2.feature_extraction_wav2vec2 import Wav2Vec2FeatureExtractor

    folder = tmp_path_factory.mktemp("ctc")
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABC"]
    (folder / "letters.json").write_text(json.dumps({letter: n for n, letter in enumerate(letters)}), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "letters.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


def test_ctc_transcripts_are_those_of_transformers(ctc):
    import torch
    from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    processor = Wav2Vec2Processor.from_pretrained(ctc)
    with torch.inference_mode():
        inputs = processor(wave, sampling_rate=16_000, return_tensors="pt")
        ids = Wav2Vec2ForCTC.from_pretrained(ctc).eval()(**inputs).logits.argmax(-1)
    assert CTCRecognizer(str(ctc), device="cpu").transcribe(wave) == processor.batch_decode(ids)[0]


def test_no_code_of_a_recogniser_is_run(ctc, tmp_path, monkeypatch):
    folder = shutil.copytree(ctc, tmp_path / "ctc")
    (wave,) = np.random.default_rng(0).standard_normal((1, 16_000)).astype(np.float32)
    expected = CTCRecognizer(str(folder), device="cpu").transcribe(wave)
    plant_code(folder, monkeypatch)
    assert CTCRecognizer(str(folder), device="cpu").transcribe(wave) == expected
