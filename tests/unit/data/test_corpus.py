"""Corpora: every layout to a manifest, bad files listed, and batches by padded length."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import AudioError, FormatError, InputError
from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import (
    Manifest,
    PreparedCorpus,
    Recording,
    SkippedFile,
    batches_by_seconds,
    find_audio,
    prepare_corpus,
    read_manifest,
    read_recordings,
    scan,
    write_errors,
)


def write_noise(path: Path, num_samples: int = 1600, rate: int = 16_000) -> Path:
    save_audio(path, np.random.default_rng(0).uniform(-0.5, 0.5, num_samples), rate)
    return path


def ids(manifest: Manifest) -> list[str]:
    return [recording.id for recording in manifest]


@pytest.fixture
def libri(tmp_path: Path) -> Path:
    part = tmp_path / "LibriSpeech" / "dev-clean"
    for name in ("84-121-0001", "84-121-0000", "9-55-0000"):
        speaker, chapter, _ = name.split("-")
        write_noise(part / speaker / chapter / f"{name}.flac")
    (part / "84/121/84-121.trans.txt").write_text("84-121-0000 GO DO YOU HEAR\n84-121-0001 BUT\n")
    speakers = "; a comment | x |\n9    | M | dev-clean | 8.0 | Some One\n84   | F | dev-clean | 8.0 | Another\n"
    (part.parent / "SPEAKERS.TXT").write_text(speakers)
    return part


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("kind", ["auto", "librispeech", "librilight"])
def test_librispeech(libri: Path, above: bool, kind) -> None:
    manifest, skipped = scan(libri.parent if above else libri, kind=kind)
    assert not skipped
    assert ids(manifest) == ["84-121-0000", "84-121-0001", "9-55-0000"]
    assert manifest[0] == Recording(
        "84-121-0000", libri / "84/121/84-121-0000.flac", 1600, 16_000, 0, "84", "GO DO YOU HEAR", "F"
    )
    assert (manifest[2].speaker, manifest[2].text, manifest[2].sex) == ("9", None, "M")


@pytest.mark.parametrize("kind", ["auto", "librispeech"])
def test_several_parts_of_librispeech(libri: Path, kind) -> None:
    other = libri.parent / "test-clean"
    write_noise(other / "61" / "7" / "61-7-0000.flac")
    (other / "61/7/61-7.trans.txt").write_text("61-7-0000 THERE\n")
    manifest, skipped = scan([libri, other], kind=kind)
    assert not skipped
    assert ids(manifest) == ["84-121-0000", "84-121-0001", "9-55-0000", "61-7-0000"]
    assert [recording.speaker for recording in manifest] == ["84", "84", "9", "61"]
    assert (manifest[0].text, manifest[3].text) == ("GO DO YOU HEAR", "THERE")
    # Beside a folder of another layout all are plain folders.
    write_noise(libri.parents[1] / "mine" / "a.wav")
    manifest, _ = scan([libri, libri.parents[1] / "mine"])
    assert {recording.text for recording in manifest} == {None} and len(manifest) == 4


def test_one_speakers_folder_is_still_librispeech(libri: Path) -> None:
    manifest, _ = scan(libri / "84")
    assert [recording.speaker for recording in manifest] == ["84", "84"]


def test_librilight_without_transcripts(tmp_path: Path) -> None:
    write_noise(tmp_path / "100/emerald_city/part_01.flac")
    write_noise(tmp_path / "200/sea_fairies/part_01.flac")
    manifest, _ = scan(tmp_path)
    assert [recording.speaker for recording in manifest] == ["100", "200"]
    assert ids(manifest) == ["100/emerald_city/part_01", "200/sea_fairies/part_01"]  # the stems alone are not unique


def test_folder_lists_bad_files_and_keeps_the_rest(tmp_path: Path) -> None:
    write_noise(tmp_path / "b/y.wav", 800, 8000)
    write_noise(tmp_path / "a.ogg")
    (tmp_path / "b/empty.wav").touch()
    (tmp_path / "b/text.flac").write_text("not audio" * 100)
    manifest, skipped = scan(tmp_path)
    assert ids(manifest) == ["a", "b/y"] and manifest[1].sample_rate == 8000 and manifest[1].speaker is None
    assert [item.path for item in skipped] == [tmp_path / "b/empty.wav", tmp_path / "b/text.flac"]
    assert skipped[0].reason.startswith("is empty") and "not readable audio" in skipped[1].reason


def test_check_finds_what_headers_hide(tmp_path: Path) -> None:
    write_noise(tmp_path / "good.wav")
    save_audio(tmp_path / "silent.wav", np.zeros(1000))
    whole = write_noise(tmp_path / "cut.flac", 50_000).read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    assert ids(scan(tmp_path)[0]) == ["cut", "good", "silent"]
    manifest, skipped = scan(tmp_path, check=True)
    assert ids(manifest) == ["good"]
    assert "truncated" in skipped[0].reason and "silent" in skipped[1].reason


def test_same_name_with_two_suffixes(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "b.wav"):
        write_noise(tmp_path / name)
    assert ids(scan(tmp_path)[0]) == ["a.flac", "a.wav", "b"]
    write_noise(tmp_path / "a.wav.flac")
    assert ids(scan(tmp_path)[0]) == ["a.flac", "a.wav", "a.wav.flac", "b.wav"]


def test_numbered_folders_of_other_recordings_are_not_speakers(tmp_path: Path) -> None:
    write_noise(tmp_path / "2024" / "a.flac")
    write_noise(tmp_path / "2024" / "may" / "b.wav")
    assert all(recording.speaker is None for recording in scan(tmp_path)[0])


def test_files_patterns_and_lists(tmp_path: Path) -> None:
    for name in ("x/a.wav", "y/b.wav", "y/c.wav"):
        write_noise(tmp_path / name)
    assert ids(scan(tmp_path / "y/b.wav")[0]) == ["b"]
    assert ids(scan(str(tmp_path / "*/*.wav"))[0]) == ["x/a", "y/b", "y/c"]
    assert ids(scan([tmp_path / "y", tmp_path / "x/a.wav"])[0]) == ["x/a", "y/b", "y/c"]
    assert scan([]) == (Manifest(), [])


def test_a_manifest_without_rows_is_refused_by_name(tmp_path: Path) -> None:
    for name, text in (("m.csv", "id,path\n"), ("m.jsonl", "\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(FormatError, match=f"{name}: lists no recordings"):
            scan(tmp_path / name)


def test_manifest_source_measures_and_skips(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.wav")
    rows = [
        {"id": "ok", "path": "a.wav", "num_samples": 1000, "sample_rate": 16_000, "start": 600},
        {"id": "gone", "path": "b.wav", "num_samples": 1600, "sample_rate": 16_000},
        {"id": "long", "path": "a.wav", "num_samples": 1601, "sample_rate": 16_000},
        {"id": "rate", "path": "a.wav", "num_samples": 1600, "sample_rate": 8000},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    manifest, skipped = scan(tmp_path / "m.jsonl")
    assert list(manifest) == [Recording("ok", tmp_path / "a.wav", 1000, 16_000, 600)]
    assert ["no such file" in skipped[0].reason, "1601 are wanted" in skipped[1].reason] == [True, True]
    assert "has 16000 Hz" in skipped[2].reason
    (tmp_path / "m.csv").write_text("path\na.wav\nb.wav\n")
    manifest, skipped = scan(tmp_path / "m.csv", check=True)
    assert ids(manifest) == ["a"] and [item.path.name for item in skipped] == ["b.wav"]


def test_scanned_manifest_survives_saving(libri: Path) -> None:
    manifest, _ = scan(libri)
    manifest.save(libri / "m.jsonl")
    assert Manifest.load(libri / "m.jsonl") == manifest


def test_scan_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown kind 'x'"):
        scan(tmp_path, kind="x")  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="no recordings"):
        scan(tmp_path)
    with pytest.raises(AudioError, match="no such file"):
        scan(tmp_path / "nowhere")
    with pytest.raises(FormatError, match="cannot be read"):
        scan(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="one path"):
        scan([tmp_path], kind="manifest")
    with pytest.raises(InputError, match="folders of LibriSpeech"):
        scan([tmp_path / "a.flac"], kind="librispeech")


def test_write_errors(tmp_path: Path) -> None:
    write_errors([SkippedFile(Path("a b.wav"), "is empty")], tmp_path / "errors.jsonl")
    assert json.loads((tmp_path / "errors.jsonl").read_text()) == {"path": "a b.wav", "reason": "is empty"}
    write_errors([], tmp_path / "errors.jsonl")
    assert (tmp_path / "errors.jsonl").read_text() == ""


def test_prepare_corpus(tmp_path: Path) -> None:
    write_noise(tmp_path / "audio/a.wav", 16_000)
    (tmp_path / "audio/b.wav").touch()
    result = prepare_corpus(tmp_path / "audio", tmp_path / "m.jsonl")
    assert ids(Manifest.load(tmp_path / "m.jsonl")) == ["a"]
    assert (result.recordings, result.hours, result.speakers, result.skipped) == (1, 1 / 3600, 0, 1)
    assert json.loads(result.errors.read_text())["reason"].startswith("is empty")
    assert PreparedCorpus.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    with pytest.raises(InputError, match="ends in"):
        prepare_corpus(tmp_path / "audio", tmp_path / "m.csv")


def test_recordings_named_on_a_command_line(tmp_path: Path) -> None:
    for name in ("x/a.wav", "y/b.wav", "y/c.wav"):
        write_noise(tmp_path / name)
    paths = [str(tmp_path / name) for name in ("y/c.wav", "gone.wav", "x", "y/*.wav")]
    manifest, skipped = read_recordings(paths)
    assert ids(manifest) == ["y/c", "x/a", "y/b"]
    assert skipped == [SkippedFile(tmp_path / "gone.wav", "no such file or folder; check the name")]
    assert read_recordings(["gone", "gone too"])[0] == Manifest()
    with pytest.raises(InputError, match="only argument"):
        read_recordings([paths[0], "m.jsonl"])


def test_manifest_with_unusable_rows(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.wav")
    (tmp_path / "m.csv").write_text("path,num_samples,sample_rate\na.wav,,\nb.wav,,\nc.wav,1600,16000\n")
    manifest, skipped = read_manifest(tmp_path / "m.csv")
    assert ids(manifest) == ["a", "c"] and [item.path.name for item in skipped] == ["b.wav"]
    rows = ['{"path": "a.wav"}', '{"path": "b.wav", "start": NaN}', '{"path": 5.5}', '{"path": "c\\u0000.wav"}']
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    for read in (scan, read_manifest):
        manifest, skipped = read(tmp_path / "m.jsonl")
        assert ids(manifest) == ["a"] and {item.path.name for item in skipped} == {"m.jsonl"}
        assert [f"m.jsonl:{line}, column " in item.reason for line, item in enumerate(skipped, 2)] == [True] * 3


# Finding


def test_find_audio(tmp_path: Path) -> None:
    for name in ("b.wav", "a.FLAC", "deep/er/c.mp3", "notes.txt", ".hidden.wav", ".git/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in find_audio(tmp_path)]
    assert found == ["a.FLAC", "b.wav", "deep/er/c.mp3"]
    assert find_audio([tmp_path / "b.wav", tmp_path, str(tmp_path / "*.wav")]) == find_audio([tmp_path])
    assert find_audio(str(tmp_path / "**" / "*.mp3")) == [tmp_path / "deep/er/c.mp3"]
    assert find_audio(str(tmp_path / "*")) == find_audio(tmp_path)
    assert find_audio(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_links_to_one_content_are_recordings_of_their_own(tmp_path: Path) -> None:
    store = tmp_path / ".git/annex/objects/x"
    for name, length in (("one.wav", 1600), ("two.wav", 1601)):
        write_noise(store / name, length)
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    for name in ("a.wav", "b.wav", "deep/a.wav"):
        (data / name).symlink_to(store / "one.wav")
    (data / "hard.wav").hardlink_to(store / "two.wav")
    (data / "harder.wav").hardlink_to(store / "two.wav")
    (data / "deep/again").symlink_to(data)
    (tmp_path / "other name").symlink_to(data)
    manifest, skipped = scan(data)
    assert ids(manifest) == ["a", "b", "deep/a", "hard", "harder"] and not skipped
    assert [len(recording.load()) for recording in manifest] == [1600, 1600, 1600, 1601, 1601]
    # One name, however it is reached, is one recording.
    names = [str(data / "a.wav"), f"{data}/./a.wav", f"{data}/deep/../a.wav", str(tmp_path / "other name" / "a.wav")]
    assert len(read_recordings(names)[0]) == len(find_audio(names)) == 1
    assert len(read_recordings([str(data), str(tmp_path / "other name")])[0]) == 5


def test_content_that_was_not_fetched(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.wav")
    (tmp_path / "b.wav").symlink_to(tmp_path / ".git/annex/objects/gone")
    (tmp_path / "c.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    (tmp_path / "d.wav").write_text("/annex/objects/SHA256E-s12345--4d7a.wav\n")
    for source in (tmp_path, [tmp_path / "b.wav", tmp_path / "c.wav", tmp_path / "d.wav"]):
        skipped = scan(source)[1]
        assert [item.path.name for item in skipped] == ["b.wav", "c.wav", "d.wav"]
        assert all("not here; fetch it (git annex get, git lfs pull, dvc pull)" in item.reason for item in skipped)
    assert "not here" in read_recordings([str(tmp_path / "b.wav")])[1][0].reason


def test_formats_that_are_not_read_are_listed(tmp_path: Path) -> None:
    write_noise(tmp_path / "one.wav")
    names = ["five.APE", "four.wma", "six.mkv", "three.webm", "two.m4a"]
    for name in names:
        (tmp_path / name).write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(4000))
    manifest, skipped = scan(tmp_path)
    assert ids(manifest) == ["one"] and [item.path.name for item in skipped] == names
    assert sorted(path.name for path in find_audio(str(tmp_path / "*"))) == sorted([*names, "one.wav"])


def test_a_name_that_is_not_utf8_is_found_again(tmp_path: Path) -> None:
    write_noise(tmp_path / "good.wav")
    os.link(tmp_path / "good.wav", os.path.join(os.fsencode(tmp_path), b"caf\xe9.wav"))
    result = prepare_corpus(tmp_path, tmp_path / "m.jsonl")
    assert (result.recordings, result.skipped) == (2, 0)
    assert b'"caf\\udce9"' in (tmp_path / "m.jsonl").read_bytes()
    assert all(len(recording.load()) == 1600 for recording in Manifest.load(tmp_path / "m.jsonl"))
    open(os.path.join(os.fsencode(tmp_path), b"text\xe9.flac"), "wb").close()
    result = prepare_corpus(tmp_path, tmp_path / "m.jsonl")
    assert json.loads(result.errors.read_text())["reason"].startswith("is empty")


def test_damaged_transcripts_are_listed(libri: Path) -> None:
    (libri / "84/121/._84-121.trans.txt").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert not scan(libri)[1]
    (libri / "9/55/9-55.trans.txt").write_bytes(b"9-55-0000 CAF\xc9\n")
    (libri.parent / "SPEAKERS.TXT").write_bytes(b"84 | \xc9")
    manifest, skipped = scan(libri)
    assert [recording.text for recording in manifest] == ["GO DO YOU HEAR", "BUT", None]
    assert [item.path.name for item in skipped] == ["9-55.trans.txt", "SPEAKERS.TXT"]
    assert all("not a text in UTF-8" in item.reason for item in skipped)


def test_find_audio_takes_a_real_name_with_pattern_characters(tmp_path: Path) -> None:
    (tmp_path / "take[1].wav").touch()
    assert find_audio(tmp_path / "take[1].wav") == [tmp_path / "take[1].wav"]


def test_find_audio_names_what_matches_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("none.wav", "*.wav", "empty"):
        with pytest.raises(AudioError) as caught:
            find_audio(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


# lhotse


def cut_row(id: str, path: str, start: float = 0.0, duration: float = 0.1, **recording: object) -> dict:
    source = {"type": "file", "channels": [0], "source": path}
    described = {"id": "r", "sources": [source], "sampling_rate": 16_000, "num_samples": 1600, "duration": 0.1}
    spoken = {"id": "s", "recording_id": "r", "start": 0.0, "duration": duration, "channel": 0}
    spoken |= {"text": "good day", "speaker": "anna", "gender": "F"}
    return {
        "id": id,
        "start": start,
        "duration": duration,
        "channel": 0,
        "supervisions": [spoken],
        "recording": described | {"channel_ids": [0]} | recording,
        "type": "MonoCut",
    }


@pytest.mark.parametrize("kind", ["auto", "lhotse"])
def test_lhotse_cuts(tmp_path: Path, kind) -> None:
    path = str(write_noise(tmp_path / "a.wav"))
    speed = [{"name": "Speed", "kwargs": {"factor": 1.1}}]
    url = [{"type": "url", "channels": [0], "source": "https://example.org/a.wav"}]
    rows = [
        cut_row("whole", path),
        cut_row("part", path, 0.05, 0.025),
        cut_row("gone", str(tmp_path / "gone.wav")),
        cut_row("fast", path, transforms=speed),
        cut_row("web", path, sources=url),
        cut_row("beside", "a.wav"),
    ]
    (tmp_path / "cuts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest, skipped = scan(tmp_path / "cuts.jsonl", kind=kind)
    assert ids(manifest) == ["whole", "part", "beside"]
    assert manifest[1] == Recording("part", Path(path), 400, 16_000, 800, "anna", "good day", "F")
    reasons = {item.reason for item in skipped}
    assert len(skipped) == 3 and any("'fast' changes the sound" in reason for reason in reasons)
    assert any("'web' is not stored" in reason for reason in reasons)
    assert any("no such file" in reason for reason in reasons)


# Batches

LENGTHS = st.lists(st.floats(0.01, 60.0), max_size=60)


@given(seconds=LENGTHS, limit=st.floats(1.0, 100.0), seed=st.none() | st.integers(0, 9))
def test_batches_hold_everything_once_within_the_limit(seconds, limit, seed) -> None:
    batches = batches_by_seconds(seconds, limit, shuffle_seed=seed)
    assert sorted(index for batch in batches for index in batch) == list(range(len(seconds)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(seconds[index] for index in batch) <= limit
    assert batches == batches_by_seconds(seconds, limit, shuffle_seed=seed)


def test_batches_are_as_large_as_the_limit_allows() -> None:
    assert batches_by_seconds([1.0] * 6, 3.0) == [[0, 1, 2], [3, 4, 5]]
    assert batches_by_seconds([5.0, 1.0, 50.0, 1.5], 4.0) == [[1, 3], [0], [2]]
    assert batches_by_seconds([], 3.0) == []


def test_similar_lengths_waste_less_padding_and_seeds_differ() -> None:
    seconds = np.random.default_rng(0).uniform(1, 30, 500)

    def padded(batches: Sequence[Any]) -> float:
        return sum(len(batch) * max(seconds[batch]) for batch in batches)

    shuffled = [batches_by_seconds(seconds, 120.0, shuffle_seed=seed) for seed in (0, 1)]
    assert padded(shuffled[0]) < 1.2 * seconds.sum()
    at_random = np.split(np.random.default_rng(0).permutation(500), np.cumsum([len(one) for one in shuffled[0]])[:-1])
    assert padded(at_random) > 1.4 * seconds.sum()
    assert shuffled[0] != shuffled[1]
    neighbours = [{frozenset(batch) for batch in batches} for batches in shuffled]
    assert len(neighbours[0] & neighbours[1]) < len(neighbours[0]) / 2
    # Batches come in no order of length, or an epoch would begin with the shortest.
    lengths = [float(np.mean(seconds[batch])) for batch in shuffled[0]]
    assert abs(np.corrcoef(lengths, np.arange(len(lengths)))[0, 1]) < 0.3


@pytest.mark.parametrize(("seconds", "limit"), [([0.0], 1.0), ([-1.0], 1.0), ([float("nan")], 1.0), ([1.0], 0.0)])
def test_batches_reject_impossible_lengths(seconds: list[float], limit: float) -> None:
    with pytest.raises(InputError):
        batches_by_seconds(seconds, limit)
