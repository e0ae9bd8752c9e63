"""Manifests of other programs: each is read by its own conventions, or says by name why not."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError, InputError, SyllableLMError
from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import prepare_corpus, read_manifest, read_recordings, scan
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.data.manifest_formats import MANIFEST_FORMATS, is_manifest

SECOND = 16_000


def noise(path: Path, num_samples: int = SECOND) -> Path:
    save_audio(path, np.random.default_rng(0).uniform(-0.5, 0.5, num_samples))
    return path


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def write_rows(path: Path, *rows: dict[str, Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def shown(manifest: Manifest, folder: Path) -> list[tuple[Any, ...]]:
    return [
        (one.id, one.path.relative_to(folder).as_posix(), one.start, one.num_samples, one.speaker, one.text, one.sex)
        for one in manifest
    ]


def test_fairseq_list(tmp_path: Path) -> None:
    for name in ("a.wav", "deep/b.wav", "deep/short.wav"):
        noise(tmp_path / "audio" / name)
    path = write(
        tmp_path / "train.tsv",
        str(tmp_path / "audio"),
        f"a.wav\t{SECOND}",
        f"deep/b.wav\t{SECOND}",
        f"deep/short.wav\t{SECOND // 2}",
        f"gone.wav\t{SECOND}",
        "store.zip:40:80\t90",
    )
    manifest, skipped = scan(path)
    assert shown(manifest, tmp_path / "audio") == [
        ("a", "a.wav", 0, SECOND, None, None, None),
        ("b", "deep/b.wav", 0, SECOND, None, None, None),
    ]
    reasons = [item.reason for item in skipped]
    assert ["does not agree" in reasons[0], "no such file" in reasons[1], "archive" in reasons[2]] == [True] * 3
    (tmp_path / "audio" / "train.tsv").write_text(f".\na.wav\t{SECOND}\n")
    assert Manifest.load(tmp_path / "audio" / "train.tsv")[0].path.samefile(tmp_path / "audio/a.wav")
    for line in ("a.wav", "a.wav\tmany", "a.wav\t1\t2", "a.wav\t-1"):
        with pytest.raises(FormatError, match=r"train\.tsv:2: expected a path, a tab and a number"):
            Manifest.load(write(path, str(tmp_path), line))


def test_names_that_are_not_unique_become_paths(tmp_path: Path) -> None:
    for name in ("s1/001.wav", "s2/001.wav"):
        noise(tmp_path / name)
    path = write(tmp_path / "m.tsv", str(tmp_path), f"s1/001.wav\t{SECOND}", f"s2/001.wav\t{SECOND}")
    assert [recording.id for recording in Manifest.load(path)] == ["s1/001", "s2/001"]


def test_names_of_files_in_lists_need_not_be_utf8(tmp_path: Path) -> None:
    noise(tmp_path / "good.wav")
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9.wav")
    os.link(tmp_path / "good.wav", odd)
    (tmp_path / "m.tsv").write_bytes(os.fsencode(tmp_path) + b"\ncaf\xe9.wav\t16000\n")
    (tmp_path / "wav.scp").write_bytes(b"one " + odd + b"\n")
    for name in ("m.tsv", "wav.scp"):
        manifest = Manifest.load(tmp_path / name)
        assert os.fsencode(manifest[0].path) == odd and len(manifest[0].load()) == SECOND
        manifest.save(tmp_path / "m.jsonl")
        assert Manifest.load(tmp_path / "m.jsonl") == manifest


def test_common_voice(tmp_path: Path) -> None:
    noise(tmp_path / "clips" / "cv_1.wav")
    noise(tmp_path / "cv_2.wav")
    path = write(
        tmp_path / "validated.tsv",
        "client_id\tpath\tsentence_id\tsentence\tage\tgender",
        'x\tcv_1.wav\t7\tShe said "no\t\tfemale_feminine',
        "y\tcv_2.wav\t8\t\t\t",
        "z\tcut off",
        "z\tgone.wav\t8\tText\t\t",
    )
    manifest, skipped = scan(path)
    assert shown(manifest, tmp_path) == [
        ("cv_1", "clips/cv_1.wav", 0, SECOND, "x", 'She said "no', "female_feminine"),
        ("cv_2", "cv_2.wav", 0, SECOND, "y", None, None),
    ]
    assert f"{path}:4: does not have 6 fields" in skipped[0].reason and "no such file" in skipped[1].reason
    with pytest.raises(FormatError, match=r"durations\.tsv:1: no column 'path' \(found: clip, "):
        scan(write(tmp_path / "durations.tsv", "clip\tduration[ms]", "cv_1.wav\t1000"))


def test_tables_of_other_toolkits(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav")
    tables = {
        "speech_to_text.tsv": ("id\taudio\tn_frames\ttgt_text\tspeaker", "u1\ta.wav\t99\tgood day\tanna"),
        "speechbrain.csv": ("ID,duration,wav,spk_id,wrd", "u1,1.0,a.wav,anna,good day"),
        "metadata.csv": ("utt_id,file_name,transcription,speaker_id", "u1,a.wav,good day,anna"),
        "semicolons.csv": ("id;path;speaker;text", "u1;a.wav;anna;good day"),
        "quoted.csv": ('id,"path","x;y;z;w;v",text,speaker', 'u1,a.wav,,"good day",anna'),
    }
    for name, lines in tables.items():
        assert shown(Manifest.load(write(tmp_path / name, *lines)), tmp_path) == [
            ("u1", "a.wav", 0, SECOND, "anna", "good day", None)
        ], name


def test_kaldi(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav")
    path = write(
        tmp_path / "wav.scp",
        f"utt1 {tmp_path}/a.wav",
        "utt2 a.wav",
        f"utt3 touch {tmp_path}/touched |",
        "utt4 store.ark:123",
        "utt5",
    )
    write(tmp_path / "text", "utt1 GOOD DAY", "utt2")
    write(tmp_path / "utt2spk", "utt1 anna", "utt2 bob")
    write(tmp_path / "spk2gender", "anna f")
    manifest, skipped = scan(path)
    assert shown(manifest, tmp_path) == [
        ("utt1", "a.wav", 0, SECOND, "anna", "GOOD DAY", "f"),
        ("utt2", "a.wav", 0, SECOND, "bob", None, None),
    ]
    reasons = [item.reason for item in skipped]
    assert f"{path}:3: recording 'utt3' is a command, which is not run" in reasons[0]
    assert "part of an archive" in reasons[1] and "utt5" in reasons[2] and not (tmp_path / "touched").exists()

    write(
        tmp_path / "segments",
        "part1 utt1 0.25 0.5",
        "part2 utt2 0.5 -1",
        "part3 utt9 0 1",
        "part4 utt1 0 1 2",
        "part5 utt1 0 9",
    )
    write(tmp_path / "utt2spk", "part1 anna")
    manifest, skipped = scan(path)
    assert shown(manifest, tmp_path) == [
        ("part1", "a.wav", 4000, 4000, "anna", None, "f"),
        ("part2", "a.wav", 8000, 8000, None, None, None),
    ]
    reasons = [item.reason for item in skipped]
    assert "'utt9' is not in wav.scp" in reasons[0] and "one channel" in reasons[1] and "cut short" in reasons[2]
    with pytest.raises(FormatError, match=r"segments:1: not a line"):
        write(tmp_path / "segments", "part1 utt1 begin end")
        scan(path)
    with pytest.raises(FormatError, match=r"wav\.scp:2: recording 'a' was already listed"):
        scan(write(path, "a x.wav", "a y.wav"))


@pytest.mark.parametrize("name", ["manifest.json", "manifest.jsonl", "manifest.jsonl.gz"])
def test_nemo(tmp_path: Path, name: str) -> None:
    noise(tmp_path / "a.wav")
    noise(tmp_path / "b.wav")
    rows = [
        {"audio_filepath": str(tmp_path / "a.wav"), "offset": 0.25, "duration": 0.5, "text": "good", "speaker": 7},
        {"audio_filepath": "a.wav", "offset": 0.75, "duration": 0.25, "text": "day"},
        {"audio_filepath": "b.wav", "duration": 1.0, "text": "whole"},
        {"audio_filepath": "b.wav", "duration": float("nan")},
        {"audio_filepath": ["left.wav", "right.wav"], "duration": 1.0},
    ]
    manifest, skipped = scan(write_rows(tmp_path / name, *rows))
    assert shown(manifest, tmp_path) == [
        ("a-0.250", "a.wav", 4000, 8000, "7", "good", None),
        ("a-0.750", "a.wav", 12000, 4000, None, "day", None),
        ("b", "b.wav", 0, SECOND, None, "whole", None),
    ]
    assert [f"{tmp_path / name}:4, column duration" in skipped[0].reason, ":5, column path" in skipped[1].reason]


def lhotse_recording(path: str, **changes: Any) -> dict[str, Any]:
    sources = [{"type": "file", "channels": [0], "source": path}]
    row = {"id": "rec", "sources": sources, "sampling_rate": SECOND, "num_samples": SECOND, "duration": 1.0}
    return row | {"channel_ids": [0]} | changes


def test_lhotse_recordings_and_supervisions(tmp_path: Path) -> None:
    path = str(noise(tmp_path / "a.wav"))
    stereo = lhotse_recording(path, id="stereo", channel_ids=[0, 1])
    audio = write_rows(tmp_path / "x_recordings_train.jsonl.gz", lhotse_recording(path), stereo)
    manifest, skipped = scan(audio)
    assert list(manifest) == [Recording("rec", Path(path), SECOND, SECOND)]
    assert "'stereo' has 2 channels; write it out" in skipped[0].reason
    about = {"text": "good day", "speaker": "anna", "gender": "F"}
    rows = [
        {"id": "s1", "recording_id": "rec", "start": 0.25, "duration": 0.5, "channel": 0, **about},
        {"id": "s2", "recording_id": "other", "start": 0, "duration": 1, "channel": 0},
        {"id": "s3", "recording_id": "stereo", "start": 0, "duration": 1, "channel": 0},
    ]
    spoken = write_rows(tmp_path / "x_supervisions_train.jsonl.gz", *rows)
    manifest, skipped = scan(spoken)
    assert shown(manifest, tmp_path) == [("s1", "a.wav", 4000, 8000, "anna", "good day", "F")]
    assert "not in x_recordings_train.jsonl.gz" in skipped[0].reason and "'s3' has 2 channels" in skipped[1].reason
    audio.unlink()
    with pytest.raises(FormatError, match=r"supervisions name no audio; put x_recordings_train\.jsonl\.gz beside"):
        scan(spoken)
    with pytest.raises(FormatError, match="features hold no audio"):
        scan(write_rows(tmp_path / "feats.jsonl", {"type": "fbank", "storage_path": "x", "recording_id": "rec"}))


def test_what_lhotse_itself_writes(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    recording = lhotse.Recording.from_file(noise(tmp_path / "a.wav"))
    cut = recording.to_cut().truncate(offset=0.25, duration=0.5)
    lhotse.RecordingSet.from_recordings([recording]).to_file(tmp_path / "recordings.jsonl.gz")
    cuts = [cut, recording.to_cut().pad(3.0).with_id("padded"), cut.perturb_speed(1.1)]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    assert Manifest.load(tmp_path / "recordings.jsonl.gz")[0].num_samples == SECOND
    manifest, skipped = scan(tmp_path / "cuts.jsonl.gz")
    assert [(one.start, one.num_samples) for one in manifest] == [(4000, 8000)]
    assert "MixedCut" in skipped[0].reason and "on the fly" in skipped[1].reason


def test_every_door_takes_them(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav")
    path = write(tmp_path / "wav.scp", "utt a.wav")
    result = prepare_corpus(path, tmp_path / "m.jsonl")
    assert (result.recordings, result.skipped) == (1, 0)
    for manifest in (Manifest.load(path), read_manifest(path)[0], read_recordings([str(path)])[0]):
        assert manifest == Manifest.load(tmp_path / "m.jsonl")
    with pytest.raises(InputError, match="only argument"):
        read_recordings([str(path), str(tmp_path / "a.wav")])
    assert all(is_manifest(f"x{end.upper()}") for format in MANIFEST_FORMATS for end in format.suffixes)


def test_a_damaged_gz_names_its_line(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl.gz", *[{"path": f"{i}.wav", "text": "x" * i} for i in range(99)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FormatError, match=r"m\.jsonl\.gz:\d+: damaged \.gz"):
        read_manifest(path)
    path.write_bytes(b"plain text")
    with pytest.raises(FormatError, match=r"m\.jsonl\.gz:1: damaged \.gz"):
        read_manifest(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_content_gives_another_error(tmp_path_factory, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["m.csv", "m.tsv", "wav.scp", "m.jsonl", "m.json", "m.jsonl.gz"]))
    value = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.sampled_from(["a.wav", "x\0", "", "file", "\ud800"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
        max_leaves=8,
    )
    row = st.dictionaries(st.sampled_from(KEYS), value, max_size=8).map(lambda row: json.dumps(row).encode())
    word = st.sampled_from([*KEYS, "a.wav", "1", "-1", "nan", "x |", '"', "\xa0", ""]).map(str.encode) | st.binary()
    line = row | st.lists(word, max_size=5).flatmap(
        lambda words: st.sampled_from([b",", b"\t", b" "]).map(lambda s: s.join(words))
    )
    content = data.draw(st.lists(line, max_size=5).map(b"\n".join))
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    try:
        scan(folder / name)
    except SyllableLMError as error:
        assert name.split(".")[0] in str(error)


KEYS = (
    *("id", "path", "audio_filepath", "duration", "offset", "start", "num_samples", "sample_rate", "text", "speaker"),
    *("sources", "recording", "recording_id", "type", "channel_ids", "supervisions", "tracks", "source", "channels"),
    *("sampling_rate", "transforms", "gender", "client_id", "sentence"),
)
