"""Recognisers: their names, their order of transcripts, and what is missing."""

from __future__ import annotations

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.planted_code import plant_code
from helpers.random_recognizers import write_ctc, write_whisper
from syllablelm.core.errors import FormatError, InputError, MissingDependencyError
from syllablelm.core.models import BUNDLED
from syllablelm.data.audio import load_audio
from syllablelm.evaluate.speech import recognizers
from syllablelm.evaluate.speech.error_rates import error_counts
from syllablelm.evaluate.speech.recognizers import (
    RECOGNIZERS,
    CTCRecognizer,
    FasterWhisperRecognizer,
    PocketsphinxRecognizer,
    Transcriber,
    WhisperRecognizer,
    load_recognizer,
    split_language,
)


class Fake:
    name, settings = "fake", "none"

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
    with pytest.raises(FormatError, match="not a recogniser"):
        CTCRecognizer(str(tmp_path))


def test_messages_take_the_names_from_the_registry(tmp_path, monkeypatch):
    assert set(RECOGNIZERS) == {"pocketsphinx"}
    with pytest.raises(FormatError, match="choose pocketsphinx; a Whisper size"):
        load_recognizer(str(tmp_path))
    monkeypatch.setitem(RECOGNIZERS, "fake", Fake)
    assert load_recognizer("fake").name == "fake"


@pytest.fixture(scope="module")
def ctc(tmp_path_factory):
    return write_ctc(tmp_path_factory.mktemp("ctc"))


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


class TestFasterWhisper:
    """A stand-in of the library: no weights of Whisper are installed."""

    @pytest.fixture
    def calls(self, monkeypatch):
        calls = []

        class WhisperModel:
            def __init__(self, source, **options):
                if source == "base.en":
                    raise RuntimeError("no network\nat all")
                calls.append((source, options))

            def transcribe(self, waveform, **options):
                calls.append((waveform.dtype, options))
                return iter([SimpleNamespace(text=" One two,"), SimpleNamespace(text=" three.")]), None

        monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=WhisperModel))
        return calls

    def test_sizes_and_folders(self, calls, tmp_path):
        (tmp_path / "model.bin").write_bytes(b"")
        for name in ("large-v3", str(tmp_path)):
            recognizer = load_recognizer(name, device="cpu")
            assert isinstance(recognizer, FasterWhisperRecognizer)
            assert recognizer.transcribe(np.zeros(16_000)) == "One two, three."
        assert [source for source, _ in calls[::2]] == ["large-v3", str(tmp_path)]
        dtype, options = calls[1]
        assert dtype == np.float32
        # Greedy search fails on short clips.
        assert (options["beam_size"], options["no_repeat_ngram_size"], options["temperature"]) == (5, 4, 0.0)
        assert recognizer.settings == "English, beam 5, no repeated 4-grams"
        assert options["language"] == "en"
        spanish = load_recognizer("large-v3:es", device="cpu")
        spanish.transcribe(np.zeros(16_000))
        assert calls[-1][1]["language"] == "es" and spanish.settings.startswith("language es, ")

    def test_a_model_that_does_not_open(self, calls):
        with pytest.raises(FormatError, match=r"^base\.en: not a Whisper model .*\(no network\)$"):
            load_recognizer("base.en", device="cpu")

    def test_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "faster_whisper", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'syllablelm\[asr\]'"):
            load_recognizer("base", device="cpu")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return write_whisper(tmp_path_factory.mktemp("whisper"))


def test_whisper_of_transformers_hears_pieces_of_30_seconds(whisper):
    recognizer = load_recognizer(str(whisper), device="cpu")
    assert isinstance(recognizer, WhisperRecognizer)
    recognizer._search.max_new_tokens = 8
    waves = [np.random.default_rng(seed).standard_normal(480_000).astype(np.float32) for seed in (0, 1)]
    alone = [recognizer.transcribe(wave) for wave in waves]
    assert recognizer.transcribe(np.concatenate(waves)) == " ".join(alone)
    vocabulary = recognizer._tokenizer.get_vocab()
    marks = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
    assert recognizer._start == [vocabulary[mark] for mark in marks]
    german = load_recognizer(f"{whisper}:de", device="cpu")
    assert german._start[1] == vocabulary["<|de|>"] and german.name == f"{whisper}:de"
    with pytest.raises(InputError, match="does not know the language 'xx'"):
        load_recognizer(f"{whisper}:xx", device="cpu")
    search = recognizer._search
    assert (search.num_beams, search.no_repeat_ngram_size) == (5, 4)
    assert recognizer.settings == "English, beam 5, no repeated 4-grams"


def test_languages_of_recognizers(tmp_path, monkeypatch):
    assert split_language("base:es") == ("base", "es")
    assert split_language("openai/whisper-base") == ("openai/whisper-base", "en")
    assert split_language("C:/models") == ("C:/models", "en")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:es").mkdir()
    assert split_language("a:es") == ("a:es", "en")
    for name in ("pocketsphinx:es", "base.en:es"):
        with pytest.raises(InputError, match="knows English only"):
            load_recognizer(name)
