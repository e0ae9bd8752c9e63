"""Manifests: the value, its file, and messages that name line and column."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.artifact import digest_path
from syllablelm.core.errors import AudioError, FormatError, InputError
from syllablelm.data.audio import save_audio
from syllablelm.data.manifest import Manifest, Recording


def noise(num_samples: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, num_samples)


def example(folder: Path = Path("/data")) -> Manifest:
    return Manifest(
        Recording(f"r{i}", folder / f"{i}.wav", 1000 + i, 8000, 5 * i, f"s{i % 4}", f"Wörter {i}\u2028\n", "F")
        for i in range(12)
    )


def test_recording_loads_its_excerpt_at_16_khz(tmp_path: Path) -> None:
    samples = np.round(noise(1000) * 32768) / 32768
    save_audio(tmp_path / "a.wav", samples)
    loaded = Recording("a", tmp_path / "a.wav", 300, 16_000, start=200).load()
    np.testing.assert_array_equal(loaded, samples[200:500].astype(np.float32))
    save_audio(tmp_path / "b.wav", noise(4800), 48_000)
    recording = Recording("b", tmp_path / "b.wav", 2400, 48_000)
    assert recording.seconds == 0.05 and recording.load().shape == (800,)


@pytest.mark.parametrize("change", [{"id": ""}, {"num_samples": 0}, {"sample_rate": 0}, {"start": -1}])
def test_recording_rejects_impossible_values(change: dict) -> None:
    with pytest.raises(InputError):
        Recording(**({"id": "a", "path": Path("a.wav"), "num_samples": 1, "sample_rate": 1} | change))


def test_manifest_is_a_sequence() -> None:
    manifest = example()
    assert len(manifest) == 12 and manifest[3].id == "r3" and manifest[-1].id == "r11"
    assert [recording.id for recording in manifest[2:4]] == ["r2", "r3"] and isinstance(manifest[2:4], Manifest)
    assert manifest.total_seconds == pytest.approx(sum(1000 + i for i in range(12)) / 8000)
    assert len(manifest.filter(lambda recording: recording.speaker == "s1")) == 3
    assert [recording.id for recording in manifest.subset(["r5", "r1"])] == ["r5", "r1"]
    with pytest.raises(InputError, match="'x'"):
        manifest.subset(["r1", "x"])
    with pytest.raises(InputError, match="'r1'; ids"):
        Manifest([manifest[1], manifest[1]])
    with pytest.raises(InputError, match="'r2', and 1 more such"):
        Manifest([*manifest[1:4], *manifest[2:4]])


@given(held_out=st.integers(0, 4), seed=st.integers(0, 100), data=st.data())
def test_split_by_speaker_shares_no_speaker_and_loses_nothing(held_out: int, seed: int, data: st.DataObject) -> None:
    manifest = example()
    rest, held = manifest.split(held_out, seed=seed)
    assert len({recording.speaker for recording in held}) == held_out
    assert not {recording.speaker for recording in held} & {recording.speaker for recording in rest}
    assert sorted([*rest, *held], key=manifest.index) == list(manifest)
    assert [*rest] == [recording for recording in manifest if recording in rest]
    shuffled = Manifest(data.draw(st.permutations(list(manifest))))
    assert set(shuffled.split(held_out, seed=seed)[1]) == set(held)


def test_split_by_recording_depends_on_the_seed_only() -> None:
    first, second, third = (example().split(5, by="recording", seed=seed)[1] for seed in (1, 1, 2))
    assert len(first) == 5 and first == second and first != third


def test_split_errors() -> None:
    with pytest.raises(InputError, match="cannot set aside 5 of 4 speakers"):
        example().split(5)
    with pytest.raises(InputError, match="by must be"):
        example().split(1, by="sex")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no speaker"):
        Manifest([Recording("a", Path("a.wav"), 1, 1)]).split(1)


def test_saved_manifest_loads_equal_and_moves_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    outside = Recording("far", Path("/elsewhere/x.wav"), 5, 8000)
    manifest = Manifest([*example(tmp_path / "one" / "audio"), outside])
    manifest.save(tmp_path / "one" / "m.jsonl")
    assert Manifest.load(tmp_path / "one" / "m.jsonl") == manifest
    (tmp_path / "one").rename(tmp_path / "two")
    moved = Manifest.load(tmp_path / "two" / "m.jsonl")
    assert moved[0].path == tmp_path / "two" / "audio" / "0.wav" and moved[-1] == outside


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    example().save(tmp_path / "m.jsonl")
    before = (tmp_path / "m.jsonl").read_bytes()
    monkeypatch.setattr(json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        example()[:3].save(tmp_path / "m.jsonl")
    assert (tmp_path / "m.jsonl").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_csv_is_relative_to_its_folder_and_reads_headers(tmp_path: Path) -> None:
    save_audio(tmp_path / "audio" / "a.wav", noise(8000), 8000)
    (tmp_path / "m.csv").write_text(
        'id,speaker,sex,path,duration,text,other\nu1,103,F,audio/a.wav,1.0,"HELLO, YOU",7\nu2,,,audio/a.wav,,,\n'
    )
    first, second = Manifest.load(tmp_path / "m.csv")
    assert first == Recording("u1", tmp_path / "audio/a.wav", 8000, 8000, 0, "103", "HELLO, YOU", "F")
    assert (second.speaker, second.text, second.num_samples) == (None, None, 8000)


def test_csv_excerpt(tmp_path: Path) -> None:
    save_audio(tmp_path / "a.wav", noise(8000), 8000)
    (tmp_path / "m.csv").write_text("path,start,duration\na.wav,2000,0.25\n")
    assert Manifest.load(tmp_path / "m.csv")[0] == Recording("a", tmp_path / "a.wav", 2000, 8000, 2000)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_of_spreadsheets(tmp_path: Path, line_end: str, mark: str, delimiter: str) -> None:
    save_audio(tmp_path / "a.wav", noise(8000))
    rows = ["path,id,offset,text", "", "a.wav,1,0.25,Grüße", ",,,", "a.wav,2,,"]
    text = mark + line_end.join(rows).replace(",", delimiter) + line_end
    (tmp_path / "m.csv").write_text(text, encoding="utf-8", newline="")
    first, second = Manifest.load(tmp_path / "m.csv")
    assert (first.id, first.start, first.num_samples, first.text) == ("1", 4000, 4000, "Grüße")
    assert (second.id, second.start, second.num_samples, second.text) == ("2", 0, 8000, None)


@pytest.mark.parametrize("duration", [0.7, 1.5])
def test_duration_that_disagrees_with_the_file(tmp_path: Path, duration: float) -> None:
    save_audio(tmp_path / "a.wav", noise(8000), 8000)
    (tmp_path / "m.csv").write_text(f"path,duration\na.wav,{duration}\n")
    with pytest.raises(AudioError, match=r"a\.wav: lasts 1\.00 s"):
        Manifest.load(tmp_path / "m.csv")
    samples = round(duration * 8000)
    (tmp_path / "m.csv").write_text(f"path,num_samples\na.wav,{samples}\n")
    with pytest.raises(AudioError, match=r"does not agree|are wanted"):
        Manifest.load(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.csv", "", "no column 'path'"),
        ("m.csv", "id,file\n1,a.wav\n", ":1: no column 'path' (found: id, file)"),
        ("m.csv", "id,path\n1,a.wav\n2\n", ":3: does not have 2 fields"),
        ("m.csv", "id,path\n1,a.wav,x\n", ":2: does not have 2 fields"),
        ("m.csv", "id,path\n1,\n", ":2, column path: missing"),
        ("m.csv", "path,duration\na.wav,long\n", ":2, column duration: expected a number"),
        ("m.csv", "path,duration\na.wav,-1\n", ":2, column duration: must be positive"),
        ("m.csv", 'path,text\na.wav,"open\n', "not valid csv"),
        ("m.jsonl", '{"path": "a.wav"}\n{"path": }\n', ":2: not valid JSON"),
        ("m.jsonl", "[1]\n", ":1: expected a JSON object"),
        ("m.jsonl", '{"path": 1.5}\n', ":1, column path: expected text"),
        ("m.jsonl", '{"path": "a", "num_samples": 1.5}\n', ":1, column num_samples: expected a whole number from 1"),
        ("m.jsonl", '{"path": "a", "sample_rate": true}\n', ":1, column sample_rate: expected a number"),
        ("m.jsonl", '{"path": "a", "start": -1}\n', ":1, column start: expected a whole number from 0"),
        ("m.jsonl", '{"path": "a.wav"}\n\n{"path": "b/a.wav"}\n', ":3, column id: 'a' was already used in line 1"),
        ("m.csv", "path\na.wav\nb/a.wav\nc/a.wav\n", ":3, column id: 'a' was already used in line 2, and 1 more"),
        ("m.csv", "path,id,id\na.wav,1,2\n", ":1: two columns are called 'id'"),
        ("m.csv", "path,id\r\n\r\n,\r\na.wav,\0\r\n", ":4, column id: holds a NUL"),
        ("m.csv", "path\ra\0.wav\r", ":2, column path: holds a NUL"),
        ("m.csv", "path,duration\na.wav,nan\n", ":2, column duration: expected a number, not 'nan'"),
        ("m.csv", "path,duration\na.wav,inf\n", ":2, column duration: expected a number"),
        ("m.csv", "path,offset\na.wav,-1\n", ":2, column offset: must not be negative"),
        ("m.csv", "path,start\na.wav,1e300\n", ":2, column start: expected a number"),
        ("m.jsonl", f'{{"path": "a.wav", "start": {10**400}}}\n', ":1, column start: expected a number"),
        ("m.jsonl", f'{{"path": {list(range(999))}}}\n', ":1, column path: expected text, not [0, 1, 2, 3, 4, 5, ...]"),
        ("m.jsonl", '{"path": "\\ud800.wav"}\n', r":1, column path: '\ud800.wav' cannot be the name of a file"),
        ("m.jsonl", '{"path": ""}\n', ":1, column path: missing"),
        ("m.jsonl", "[" * 100_000, ":1: not valid JSON"),
        ("m.txt", "a.wav\n", "expected a .jsonl or .csv"),
        ("m.jsonl", None, "cannot be read"),
    ],
)
def test_manifest_errors_name_line_and_column(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    save_audio(tmp_path / "a.wav", noise(8000))
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(FormatError) as caught:
        Manifest.load(tmp_path / name)
    assert words in str(caught.value) and str(caught.value).startswith(str(tmp_path / name))


def test_manifest_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="UTF-8"):
        Manifest.load(tmp_path / "m.jsonl")


def test_complete_rows_need_no_audio_file(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"id": 7, "path": "gone.wav", "num_samples": 3, "sample_rate": 8000}\n')
    assert Manifest.load(tmp_path / "m.jsonl")[0] == Recording("7", tmp_path / "gone.wav", 3, 8000)


def test_contents_are_those_of_the_files(tmp_path: Path, monkeypatch) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.wav").write_bytes(name.encode() * 9)
    pieces = [("x", "a", 0), ("y", "a", 4), ("z", "b", 0)]
    manifest = Manifest(Recording(id, tmp_path / f"{name}.wav", 4, 8000, start) for id, name, start in pieces)
    read = []
    monkeypatch.setattr("syllablelm.data.manifest.digest_path", lambda path: read.append(path) or digest_path(path))
    found = manifest.contents()
    assert len(read) == 2, "each file once"
    assert len(set(found.values())) == 3
    # Another file of the same length is another recording; the names of the files say nothing.
    (tmp_path / "a.wav").write_bytes((tmp_path / "b.wav").read_bytes())
    changed = manifest.contents()
    assert changed["x"] == changed["z"] == found["z"]
    assert changed["y"] not in found.values()


def test_known_contents_are_read_again_only_where_a_file_changed(tmp_path: Path, monkeypatch) -> None:
    files = [tmp_path / f"{name}.wav" for name in "abc"]
    for file in files:
        file.write_bytes(file.name.encode() * 9)
        os.utime(file, (1e9, 1e9))
    manifest, known = Manifest(Recording(f.stem, f, 4, 8000) for f in files), tmp_path / "run" / ".audio.json"
    read: list[str] = []
    monkeypatch.setattr(
        "syllablelm.data.manifest.digest_path", lambda path: read.append(Path(path).name) or digest_path(path)
    )

    def look() -> dict:
        read.clear()
        found = manifest.contents(known)
        assert found == {f.stem: (digest_path(f), 0, 4) for f in files}
        return found

    first = look()
    assert sorted(read) == ["a.wav", "b.wav", "c.wav"]
    assert look() == first and read == []
    os.utime(files[0], (2e9, 1.1e9))
    files[1].write_bytes(files[2].read_bytes())  # as long as before, a moment ago
    assert look() != first and sorted(read) == ["a.wav", "b.wav"]
    # The time of the file that was just written may hide another change within it.
    assert look() and read == ["b.wav"]
    for damage in ("{", "[]", '{"' + str(files[0]) + '": 3}', '{"' + str(files[0]) + '": [1]}'):
        known.write_text(damage)
        assert look() and len(read) == 3
    known.unlink()
    assert look() and len(read) == 3
    files[0].unlink()
    with pytest.raises(FormatError, match=r"a\.wav: cannot be read"):
        manifest.contents(known)


class TestSample:
    @staticmethod
    def corpus() -> Manifest:
        rng = np.random.default_rng(0)
        return Manifest(
            Recording(
                f"s{n % 7}-{n}", Path(f"{n}.wav"), int(rng.integers(16_000, 320_000)), 16_000, speaker=f"s{n % 7}"
            )
            for n in range(300)
        )

    def test_hours_at_random(self) -> None:
        corpus = self.corpus()
        drawn = corpus.sample(0.3)
        assert 0.3 * 3600 - 20 < drawn.total_seconds <= 0.3 * 3600
        assert [r.id for r in corpus if r in set(drawn)] == [r.id for r in drawn]
        assert corpus.sample(0.3) == drawn != corpus.sample(0.3, seed=1)
        # Whatever the order of the rows; and a smaller draw is part of a larger one.
        assert set(Manifest(reversed(list(corpus))).sample(0.3)) == set(drawn) >= set(corpus.sample(0.1))
        assert corpus.sample(corpus.total_seconds / 3600) == corpus
        shares = [sum(r.id == "s3-3" for r in [*corpus.sample(0.3, seed=seed)]) for seed in range(200)]
        assert 0.2 < np.mean(shares) < 0.6

    def test_speakers_are_whole(self) -> None:
        corpus = self.corpus()
        drawn = corpus.sample(0.4, by="speaker", seed=3)
        chosen = {r.speaker for r in drawn}
        assert 1 <= len(chosen) < 7 and drawn == corpus.filter(lambda r: r.speaker in chosen)
        assert drawn.total_seconds <= 0.4 * 3600

    def test_refusals(self) -> None:
        corpus = self.corpus()
        for hours in (0.0, -1.0, 1000.0, float("nan")):
            with pytest.raises(InputError, match="cannot draw"):
                corpus.sample(hours)
        with pytest.raises(InputError, match="less than the first speaker drawn"):
            corpus.sample(0.01, by="speaker")
        with pytest.raises(InputError, match="has no speaker"):
            Manifest([Recording("a", Path("a.wav"), 16_000, 16_000)]).sample(0.0001, by="speaker")
