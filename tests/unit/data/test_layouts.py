"""Small trees in the layouts of MLS, VoxPopuli and Common Voice: texts, speakers, languages, and their faults."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import prepare_corpus, scan
from syllablelm.data.layouts import find_lists
from syllablelm.data.manifest import Manifest
from syllablelm.data.texts import read_texts


def noise(path: Path) -> Path:
    """Write a quarter of a second of noise; as ogg or opus where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 4000)
    if path.suffix in (".ogg", ".opus"):
        import soundfile

        soundfile.write(path, wave, 16_000, format="OGG", subtype="OPUS" if path.suffix == ".opus" else "VORBIS")
    else:
        save_audio(path.with_suffix(".wav"), wave)
        path.with_suffix(".wav").rename(path)
    return path


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def shown(manifest: Manifest) -> list[tuple[Any, ...]]:
    return [(one.id, one.text, one.speaker, one.sex, one.language) for one in manifest]


@pytest.fixture(params=[".flac", ".opus"])
def mls(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    root = tmp_path / ("mls_german_opus" if request.param == ".opus" else "mls_german")
    for split, id in (("train", "13_9_000001"), ("train", "13_9_000002"), ("dev", "20_8_000001")):
        speaker, book, _ = id.split("_")
        noise(root / split / "audio" / speaker / book / f"{id}{request.param}")
    write(
        root / "train" / "transcripts.txt",
        "13_9_000001\tein \u00fcberaus \u00abkluger\u00bb satz",
        "13_9_000002\t",
        "13_9_000003\tdie datei fehlt",
        "",
        "nonsense line",
    )
    write(root / "dev" / "transcripts.txt", "20_8_000001\tnoch einer")
    write(root / "metainfo.txt", "SPEAKER | GENDER | PARTITION | MINUTES", "13   | F | train | 1", "20 | M | dev | 1")
    write(root / "train" / "limited_supervision" / "9hr" / "handles.txt", "13_9_000001")
    return root


def test_mls(mls: Path) -> None:
    manifest, skipped = scan(mls)
    dev = ("20_8_000001", "noch einer", "20", "M", "german")
    train = [
        ("13_9_000001", "ein \u00fcberaus \u00abkluger\u00bb satz", "13", "F", "german"),
        ("13_9_000002", None, "13", "F", "german"),
    ]
    assert shown(manifest) == [dev, *train]
    reasons = [item.reason for item in skipped]
    assert len(reasons) == 2 and "no such file" in reasons[0] and "not a line 'SPEAKER_BOOK_NUMBER TEXT'" in reasons[1]
    # A split, its list, and several splits are the same.
    assert shown(scan(mls / "train")[0]) == shown(scan(mls / "train" / "transcripts.txt")[0]) == train
    assert shown(scan([mls / "train", mls / "dev"])[0]) == [*train, dev]
    assert list(read_texts(mls / "dev" / "transcripts.txt")) == [("20_8_000001", "noch einer")]


def test_lists_by_relative_names(mls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mls.parent)
    assert len(scan(mls.name)[0]) == 3
    assert len(scan(f"{mls.name}/dev/transcripts.txt")[0]) == 1


def test_other_files_of_transcripts_are_none_of_mls(tmp_path: Path) -> None:
    path = write(tmp_path / "transcripts.txt", "Es war einmal ein kleines Haus.")
    assert [text for _, text in read_texts(path)] == ["Es war einmal ein kleines Haus."]
    assert find_lists(tmp_path) == []


VOXPOPULI = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender\tis_gold_transcript\taccent"


def test_voxpopuli(tmp_path: Path) -> None:
    root = tmp_path / "voxpopuli"
    es = root / "transcribed_data" / "es"
    for id in ("20170103-0900-PLENARY-3-es_1", "20180103-0900-PLENARY-3-es_2"):
        noise(es / id[:4] / f"{id}.ogg")
    noise(root / "raw_audios" / "fi" / "2019" / "20190101-0900-PLENARY_fi.ogg")
    write(
        es / "asr_train.tsv",
        VOXPOPULI,
        "20170103-0900-PLENARY-3-es_1\tS\u00ed, \u201cgracias\u201d.\ts\u00ed gracias\t124\ttrain\tfemale\tTrue\tNone",
        '20180103-0900-PLENARY-3-es_2\tDijo "no\t\tNone\ttrain\tNone\tFalse\tNone',
        "20180103-0900-PLENARY-3-es_3\tFalta\tfalta\t124\ttrain\tfemale\tTrue\tNone",
        "20180103-0900\tcut off",
    )
    manifest, skipped = scan(root)
    transcribed = [
        ("20170103-0900-PLENARY-3-es_1", "s\u00ed gracias", "124", "female", "es"),
        ("20180103-0900-PLENARY-3-es_2", 'Dijo "no', None, None, "es"),
    ]
    assert shown(manifest) == [
        *transcribed,
        ("raw_audios/fi/2019/20190101-0900-PLENARY_fi", None, None, None, "fi"),
    ]
    reasons = [item.reason for item in skipped]
    assert len(reasons) == 2 and "no such file" in reasons[0] and "8 fields" in reasons[1]
    assert shown(scan(es)[0]) == shown(scan(es / "asr_train.tsv")[0]) == transcribed
    assert [one[-1] for one in shown(scan(root / "raw_audios")[0])] == ["fi"]


COMMON_VOICE = "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tgender\tlocale"


def test_common_voice(tmp_path: Path) -> None:
    root = tmp_path / "cv-corpus" / "hi"
    for name in ("a", "b", "c", "d", "rejected"):
        noise(root / "clips" / f"{name}.mp3")
    decomposed = unicodedata.normalize("NFD", "\u0915\u093c\u0932\u092e \u00e9t\u00e9")
    write(
        root / "validated.tsv",
        COMMON_VOICE,
        'x\ta.mp3\t1\t"""Ja"", sagte er."\t\t2\tmale_masculine\tde',
        "x\tb.mp3\t2\t\t\t2\t\tde",
        f"y\tc.mp3\t3\t{decomposed}\t\t2\t\thi",
        'y\td.mp3\t4\t"Nein", sagte sie, "nie"\t\t2\t\tde',
        "y\tgone.mp3\t5\tText\t\t2\t\tde",
    )
    manifest, skipped = scan(tmp_path / "cv-corpus")
    assert shown(manifest) == [
        ("a", '"Ja", sagte er.', "x", "male_masculine", "de"),
        ("b", None, "x", None, "de"),
        ("c", decomposed, "y", None, "hi"),
        ("d", '"Nein", sagte sie, "nie"', "y", None, "de"),
    ]
    assert [item.path.name for item in skipped] == ["gone.mp3"]
    # What was listed, survives a manifest.
    prepare_corpus(root, tmp_path / "m.jsonl")
    assert shown(Manifest.load(tmp_path / "m.jsonl")) == shown(manifest)
    (root / "validated.tsv").rename(root / "train.tsv")
    assert len(scan(root)[0]) == 4


def test_spontaneous_speech_of_common_voice(tmp_path: Path) -> None:
    noise(tmp_path / "audios" / "spontaneous-speech-sw-1.mp3")
    noise(tmp_path / "audios" / "spontaneous-speech-sw-2.mp3")
    write(
        tmp_path / "ss-corpus-sw.tsv",
        "client_id\taudio_id\taudio_file\tduration_ms\tprompt_id\tprompt\ttranscription\tgender\tlanguage",
        "x\t1\tspontaneous-speech-sw-1.mp3\t250\t7\tSwali?\tJibu [laugh]\t\tsw",
        "x\t2\tspontaneous-speech-sw-2.mp3\t250\t7\tSwali?\t\t\tsw",
    )
    manifest, skipped = scan(tmp_path)
    assert skipped == []
    assert shown(manifest) == [
        ("spontaneous-speech-sw-1", "Jibu [laugh]", "x", None, "sw"),
        ("spontaneous-speech-sw-2", None, "x", None, "sw"),
    ]
