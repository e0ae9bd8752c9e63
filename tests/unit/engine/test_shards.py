from __future__ import annotations

import errno
import json
import os
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.random_models import small_corpus
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.engine import shards
from syllablelm.engine.shards import (
    CorpusSummary,
    FailedRecording,
    ShardEntry,
    begin_corpus,
    enter_shard,
    open_corpus,
    plan_shards,
    read_units,
)

CONFIG = {"rule": {"rate": 5.0}, "precision": "float32", "shard_seconds": 3.0}
PARENTS = {"model": "a" * 16}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Six recordings of .5 to 2.5 s; at 3 s a shard they make four shards: two, one, two and one recording."""
    corpus = small_corpus(tmp_path / "audio", [16_000, 24_000, 32_000, 8_000, 16_000, 40_000])
    corpus.save(tmp_path / "m.jsonl")
    return tmp_path / "m.jsonl"


def begin(manifest: Path, **changes: object):
    return begin_corpus(manifest, manifest.parent / "out", config={**CONFIG, **changes}, parents=PARENTS)


def segmentation(units: list[int]) -> Segmentation:
    return Segmentation.from_boundaries(range(len(units) + 1), unit=units)


def fill(corpus, failing: tuple[str, ...] = ()) -> None:
    """Enter every shard; the units of recording k are k + 1 times k."""
    for shard in corpus.shards:
        places = range(len(shard))
        failed = {p: "is silent" for p in places if corpus.recordings(shard)[p].id in failing}
        found = {
            p: segmentation([shard.first + p] * (shard.first + p + 1)) for p in reversed(places) if p not in failed
        }
        enter_shard(corpus, shard, found, failed)


class TestPlan:
    @given(st.lists(st.floats(0.01, 20.0), max_size=40), st.floats(0.1, 30.0))
    def test_covers_the_manifest_in_order(self, seconds, limit):
        shards = plan_shards(seconds, limit)
        assert [i for s in shards for i in range(s.first, s.last)] == list(range(len(seconds)))
        assert [s.index for s in shards] == list(range(len(shards))) and all(len(s) > 0 for s in shards)
        for shard in shards:
            assert len(shard) == 1 or sum(seconds[shard.first : shard.last]) <= limit + 1e-9
        for shard, following in pairwise(shards):
            # No shard could have held one more.
            assert sum(seconds[shard.first : following.first + 1]) > limit - 1e-9

    def test_values(self):
        cuts = [(s.first, s.last) for s in plan_shards([1.0, 1.5, 2.0, 0.5, 1.0, 9.0], 3.0)]
        assert cuts == [(0, 2), (2, 4), (4, 5), (5, 6)]
        assert plan_shards([], 3.0) == [] and plan_shards([1.0], 3.0)[0].name == "000000"

    @pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
    def test_unusable_sizes(self, limit):
        with pytest.raises(InputError, match="must be above 0, and finite"):
            plan_shards([1.0], limit)


class TestBegin:
    def test_plan_is_kept(self, manifest):
        first = begin(manifest)
        assert [len(s) for s in first.shards] == [2, 2, 1, 1] and len(first.missing()) == 4
        assert first.parents["model"] == "a" * 16 and len(first.parents["manifest"]) == 16
        # What is there counts, not what the audio has become since.
        (manifest.parent / "audio" / "r3.wav").unlink()
        assert begin(manifest) == first
        assert open_corpus(manifest.parent / "out") == first

    def test_headers_are_read_once_and_bad_files_skipped(self, manifest):
        rows = [{"id": f"x{k}", "path": f"audio/r{k}.wav"} for k in range(3)] + [{"path": "none.wav"}]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        corpus = begin(manifest)
        assert [(r.id, r.num_samples) for r in corpus.manifest] == [("x0", 16_000), ("x1", 24_000), ("x2", 32_000)]
        assert all(r.path.is_absolute() for r in corpus.manifest)
        assert [(s.path.name, s.reason) for s in corpus.skipped()] == [("none.wav", "no such file; check the name")]
        assert corpus.summary().skipped == 1

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"shard_seconds": 4.0}, r"shard_seconds 3.0, not 4.0"),
            ({"precision": "bfloat16"}, "precision float32, not bfloat16"),
            ({"rule": {"rate": 4.0}}, "rule.rate 5.0, not 4.0"),
            ({"new": 1}, "new None, not 1"),
        ],
    )
    def test_other_settings_are_refused(self, manifest, changes, words):
        begin(manifest)
        with pytest.raises(InputError, match=words) as caught:
            begin(manifest, **changes)
        assert "\n" not in str(caught.value)

    def test_another_model_or_manifest_is_refused(self, manifest):
        begin(manifest)
        with pytest.raises(InputError, match="model aaaaaaaaaaaaaaaa, not b"):
            begin_corpus(manifest, manifest.parent / "out", config=CONFIG, parents={"model": "b"})
        manifest.write_text("\n".join(manifest.read_text().splitlines()[:5]) + "\n")
        with pytest.raises(InputError, match="was begun with manifest "):
            begin(manifest)

    def test_rows_beside_a_kaldi_file_are_part_of_the_manifest(self, manifest):
        folder = manifest.parent
        recordings = [json.loads(line) for line in manifest.read_text().splitlines()]
        scp = folder / "wav.scp"
        scp.write_text("".join(f"{row['id']} {row['path']}\n" for row in recordings))
        digests = []
        for segments, text in (("", ""), ("u1 r0 0 .5\n", ""), ("u1 r0 0 .5\n", "u1 HELLO\n"), ("u1 r0 0 .4\n", "")):
            for name, content in (("segments", segments), ("text", text)):
                (folder / name).unlink(missing_ok=True)
                if content:
                    (folder / name).write_text(content)
            digests.append(shards.rows_digest(scp))
        # Texts do not change units.
        assert digests[1] == digests[2] and len(set(digests)) == 3

    def test_foreign_folders(self, manifest):
        out = manifest.parent / "out"
        out.mkdir()
        (out / ".plan.0123.tmp").mkdir()
        assert len(begin(manifest).shards) == 4
        (manifest.parent / "other").mkdir()
        (manifest.parent / "other" / "thesis.tex").touch()
        for foreign in (manifest.parent / "other", manifest):
            with pytest.raises(InputError, match=r"choose another folder|give the name of a folder"):
                begin_corpus(manifest, foreign, config=CONFIG, parents=PARENTS)
        assert [f.name for f in (manifest.parent / "other").iterdir()] == ["thesis.tex"]

    @pytest.mark.parametrize(
        ("text", "error", "words"),
        [
            ("", InputError, "no usable recording: the manifest is empty"),
            ('{"path": "none.wav"}\n', InputError, "no usable recording: .*none.wav: no such file"),
            ("nonsense\n", FormatError, "m.jsonl:1: not valid JSON"),
            (None, FormatError, "cannot be read .No such file"),
        ],
    )
    def test_unusable_manifests_leave_nothing(self, tmp_path, text, error, words):
        manifest = tmp_path / "m.jsonl"
        if text is not None:
            manifest.write_text(text)
        with pytest.raises(error, match=words) as caught:
            begin(manifest)
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()

    def test_several_at_once_agree(self, manifest):
        found, barrier = [], threading.Barrier(8)

        def work(number: int) -> None:
            barrier.wait()
            try:
                found.append(begin(manifest, shard_seconds=3.0 + number % 2))
            except InputError as error:
                found.append(str(error))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        corpora = [item for item in found if not isinstance(item, str)]
        # Those of one of the two settings, whichever came first; the others were told.
        assert len(corpora) == 4 and all(corpus == corpora[0] for corpus in corpora)
        assert [item.name for item in (manifest.parent / "out").iterdir()] == ["plan"]

    def test_plan_of_another_process_that_appears_meanwhile(self, manifest, monkeypatch):
        real = shards._check_free

        def late(path: Path) -> None:
            # Between the look for a plan and the look at the folder, another one begins and is at work.
            monkeypatch.setattr(shards, "_check_free", real)
            begin(manifest)
            (path / "claims").mkdir()
            real(path)

        monkeypatch.setattr(shards, "_check_free", late)
        assert begin(manifest) == open_corpus(manifest.parent / "out")

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            '{"kind": "units", "format": 1}',
            '{"kind": "lm", "format": 1}',
            '{"kind": "units", "format": "1", "config": {"shard_seconds": 3}, "parents": {}}',
        ],
    )
    def test_damaged_description(self, manifest, text):
        path = begin(manifest).path
        (path / "plan" / "corpus.json").write_text(text)
        with pytest.raises(FormatError, match=r"corpus.json: (damaged|not JSON|holds a list|a corpus of kind)"):
            open_corpus(path)


class TestRead:
    def test_manifest_order(self, manifest):
        corpus = begin(manifest)
        fill(corpus, failing=("r1", "r5"))
        found = list(read_units(corpus.path))
        assert [r.id for r, _ in found] == ["r0", "r2", "r3", "r4"]
        assert [s.unit.tolist() for _, s in found] == [[0], [2, 2, 2], [3] * 4, [4] * 5]
        summary = CorpusSummary(4, 4, recordings=4, seconds=4.5, segments=13, failed=2, skipped=0)
        assert corpus.summary() == summary == CorpusSummary.from_dict(summary.to_dict())

    def test_unfinished(self, manifest):
        corpus = begin(manifest)
        fill(corpus)
        corpus.shard_file(corpus.shards[1]).unlink()
        with pytest.raises(FormatError, match="1 of 4 shards are missing; run the same encode command"):
            read_units(corpus.path)
        assert [r.id for r, _ in read_units(corpus.path, unfinished=True)] == ["r0", "r1", "r4", "r5"]
        assert corpus.summary().recordings == 4 and not corpus.is_finished

    def test_no_corpus(self, tmp_path):
        with pytest.raises(FormatError, match="not an encoded corpus"):
            read_units(tmp_path)

    def test_damaged_shard_and_ledger(self, manifest):
        corpus = begin(manifest)
        fill(corpus)
        corpus.ledger_file(corpus.shards[0]).write_text("{}")
        with pytest.raises(FormatError, match=r"000000.json: missing or damaged; run the same encode command again"):
            corpus.summary()
        corpus.shard_file(corpus.shards[0]).write_bytes(b"PAR1")
        with pytest.raises(FormatError, match=r"000000.parquet"):
            list(read_units(corpus.path))


def test_finish_clears_up(manifest):
    corpus = begin(manifest)
    fill(corpus)
    for leftover in ("shards/.000001.ab.tmp.parquet", "ledger/.000001.ab.tmp.json", "claims/000003.claim"):
        path = corpus.path / leftover
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (corpus.path / ".plan.ab.tmp").mkdir()
    assert not corpus.is_finished
    corpus.finish()
    assert corpus.is_finished
    assert sorted(f.name for f in corpus.path.iterdir()) == ["artifact.json", "ledger", "plan", "shards"]
    assert [f.name for f in sorted((corpus.path / "shards").iterdir())] == [f"00000{k}.parquet" for k in range(4)]
    record = json.loads((corpus.path / "artifact.json").read_text())
    assert record["kind"] == "units" and record["metrics"]["recordings"] == 6 and len(record["files"]) == 4
    assert record["parents"] == dict(corpus.parents)


@pytest.fixture
def corpus(tmp_path):
    manifest = small_corpus(tmp_path / "audio", [16_000] * 3)
    manifest.save(tmp_path / "m.jsonl")
    return begin_corpus(tmp_path / "m.jsonl", tmp_path / "out", config={"shard_seconds": 60.0}, parents={})


FOUND = {0: Segmentation.from_boundaries([0, 3, 5], unit=[4, 5]), 2: Segmentation.from_boundaries([0, 9], unit=[1])}
FAILED = {1: "is silent"}


class TestEnter:
    def test_ledger(self, corpus):
        enter_shard(corpus, corpus.shards[0], FOUND, FAILED)
        entry = corpus.entry(corpus.shards[0])
        assert (entry.recordings, entry.done, entry.segments, entry.seconds) == (3, 2, 3, 2.0)
        assert entry.failed == (FailedRecording("r1", corpus.manifest[1].path, "is silent"),)
        assert ShardEntry.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry

    def test_bytes_do_not_depend_on_the_order(self, corpus):
        enter_shard(corpus, corpus.shards[0], FOUND, FAILED)
        file = corpus.shard_file(corpus.shards[0])
        first, digest = file.read_bytes(), corpus.entry(corpus.shards[0]).digest
        file.unlink()
        enter_shard(corpus, corpus.shards[0], dict(reversed(FOUND.items())), FAILED)
        assert file.read_bytes() == first and corpus.entry(corpus.shards[0]).digest == digest

    def test_full_disk(self, corpus, monkeypatch):
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            enter_shard(corpus, corpus.shards[0], FOUND, FAILED)
        assert caught.value.filename == str(corpus.shard_file(corpus.shards[0]))
        assert [f for f in corpus.path.rglob("*") if f.is_file() and "plan" not in f.parts] == []

    def test_another_was_faster_and_cleared_up(self, corpus, monkeypatch):
        enter_shard(corpus, corpus.shards[0], FOUND, FAILED)

        def cleared(source: object, target: object) -> None:
            raise FileNotFoundError(errno.ENOENT, "gone", str(source))

        monkeypatch.setattr(os, "replace", cleared)
        enter_shard(corpus, corpus.shards[0], FOUND, FAILED)
        corpus.shard_file(corpus.shards[0]).unlink()
        with pytest.raises(FileNotFoundError):
            enter_shard(corpus, corpus.shards[0], FOUND, FAILED)
