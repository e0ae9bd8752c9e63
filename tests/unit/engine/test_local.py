from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import syllablelm.data.manifest as data_manifest
import syllablelm.engine.local as local
from helpers.random_models import SLOW_SHAPE, noise, small_corpus, small_predictor
from syllablelm.core.errors import FormatError, InputError
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.engine import encode_corpus, open_corpus, read_units
from syllablelm.engine.claims import Claims
from syllablelm.engine.local import model_digest
from syllablelm.formats import read_segmentations, units_tokenizer
from syllablelm.quantize import Codebook
from syllablelm.tokenizer.segment_rule import SegmentRule
from syllablelm.tokenizer.tokenizer import Tokenizer

# Seconds: .5, 1, .75, .02 (shorter than a frame), 2, .5, 1.25, 1.5.
LENGTHS = [8_000, 16_000, 12_000, 320, 32_000, 8_000, 20_000, 24_000]
SHARD = {"shard_seconds": 2.5}


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder, device="cpu", batch_seconds=2.0)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    small_corpus(tmp_path / "audio", LENGTHS).save(tmp_path / "m.jsonl")
    return tmp_path / "m.jsonl"


def shard_bytes(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((path / "shards").iterdir())}


class TestResult:
    def test_same_as_the_tokenizer(self, tokenizer, manifest, tmp_path):
        corpus = encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        found = list(read_units(tmp_path / "out"))
        assert [recording.id for recording, _ in found] == [f"r{k}" for k in range(8)]
        for recording, segmentation in found:
            assert segmentation == tokenizer.encode(load_audio(recording.path)), recording.id
        assert len(found[3][1]) == 0
        assert corpus.is_finished and len(corpus.shards) == 4 and corpus.summary().failed == 0
        assert not (tmp_path / "out" / "claims").exists()

    def test_read_like_any_units(self, tokenizer, manifest, tmp_path):
        corpus = encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        expected = {recording.id: segmentation for recording, segmentation in read_units(corpus.path)}
        assert read_segmentations(corpus.path) == expected and len(corpus.shards) > 1
        assert units_tokenizer(corpus.path) == tokenizer.digest != ""
        (corpus.path / "artifact.json").unlink()
        with pytest.raises(FormatError, match="run the same encode command again"):
            read_segmentations(corpus.path)

    def test_bytes_do_not_depend_on_batches_or_threads(self, tokenizer, manifest, tmp_path, monkeypatch):
        encode_corpus(manifest, tmp_path / "a", tokenizer, workers=1, **SHARD)
        monkeypatch.setattr(local, "_num_segmenters", lambda tokenizer: 4)
        tokenizer.batch_seconds = 100.0
        encode_corpus(manifest, tmp_path / "b", tokenizer, workers=5, **SHARD)
        assert shard_bytes(tmp_path / "a") == shard_bytes(tmp_path / "b")

    def test_freed_memory_goes_back_after_every_batch(self, tokenizer, manifest, tmp_path, monkeypatch):
        trims, batches, trim, encode = [], [], local._trim_memory, local._Pipeline._encode
        monkeypatch.setattr(local, "_trim_memory", lambda: trims.append(trim()))
        monkeypatch.setattr(local._Pipeline, "_encode", lambda *given: batches.append(encode(*given)))
        encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        assert len(trims) == len(batches) > 1

    def test_again_does_nothing(self, tokenizer, manifest, tmp_path, monkeypatch):
        first = encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        monkeypatch.setattr(Tokenizer, "features", None)
        assert encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD) == first

    def test_a_shard_removed_by_hand_is_made_anew(self, tokenizer, manifest, tmp_path):
        corpus = encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        before = shard_bytes(corpus.path)
        corpus.shard_file(corpus.shards[2]).unlink()
        assert not corpus.is_finished
        encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        assert shard_bytes(corpus.path) == before and corpus.is_finished

    def test_unreadable_recordings_are_entered(self, tokenizer, manifest, tmp_path):
        save_audio(tmp_path / "audio" / "r1.wav", np.zeros(16_000, dtype=np.float32))
        (tmp_path / "audio" / "r4.wav").write_bytes(b"not audio")
        for name in ("r6.wav", "r7.wav"):
            (tmp_path / "audio" / name).unlink()
        corpus = encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        assert [recording.id for recording, _ in read_units(corpus.path)] == ["r0", "r2", "r3", "r5"]
        failed = [item for shard in corpus.shards for item in corpus.entry(shard).failed]
        assert [(item.id, item.reason.split(" ")[0]) for item in failed] == [
            ("r1", "is"),
            ("r4", "is"),
            ("r6", "no"),
            ("r7", "no"),
        ]

    def test_long_recordings_go_block_by_block(self, tokenizer_folder, tmp_path):
        small_corpus(tmp_path / "audio", [16_000, 80_000, 48_000, 80_000]).save(tmp_path / "m.jsonl")
        whole = (tmp_path / "audio" / "r3.wav").read_bytes()
        tokenizer = Tokenizer.load(tokenizer_folder, device="cpu", batch_seconds=1.5, window_seconds=2.0)
        recordings = list(Manifest.load(tmp_path / "m.jsonl"))
        (tmp_path / "audio" / "r3.wav").write_bytes(whole[: len(whole) // 2])
        corpus = encode_corpus(tmp_path / "m.jsonl", tmp_path / "out", tokenizer)
        found = {recording.id: segmentation for recording, segmentation in read_units(corpus.path)}
        assert found == {r.id: tokenizer.encode(r.load()) for r in recordings[:3]}
        assert "truncated" in corpus.entry(corpus.shards[0]).failed[0].reason


class TestAcoustic:
    """Units of a second tokenizer in the same pass."""

    @pytest.fixture
    def second(self) -> Tokenizer:
        centres = np.random.default_rng(1).standard_normal((7, 32)).astype(np.float32)
        encoder = small_predictor(seed=5, shape=SLOW_SHAPE).encoder
        made = Tokenizer.from_parts(encoder, Codebook(centres, np.arange(7, dtype=np.int32), standardize=False))
        made.digest = "b" * 16
        return made

    def test_each_as_alone(self, tokenizer, second, manifest, tmp_path):
        both = encode_corpus(manifest, tmp_path / "both", tokenizer, acoustic=second, **SHARD)
        alone = encode_corpus(manifest, tmp_path / "alone", tokenizer, **SHARD)
        other = encode_corpus(manifest, tmp_path / "other", second, **SHARD)
        assert shard_bytes(both.path) == shard_bytes(alone.path)
        acoustic = both.path / "acoustic"
        assert {file.name: file.read_bytes() for file in acoustic.iterdir()} == shard_bytes(other.path)
        assert units_tokenizer(acoustic) == second.digest and units_tokenizer(both.path) == tokenizer.digest
        assert next(iter(read_segmentations(acoustic).values())).hop == 640
        assert both.summary() == alone.summary()

    def test_long_recordings_and_failures(self, tokenizer_folder, second, tmp_path):
        small_corpus(tmp_path / "audio", [16_000, 80_000, 48_000, 80_000, 16_000]).save(tmp_path / "m.jsonl")
        tokenizer = Tokenizer.load(tokenizer_folder, device="cpu", batch_seconds=1.5)
        short = Tokenizer(second.encoder, second.codebook, second.rule, window_seconds=2.0, digest=second.digest)
        whole = (tmp_path / "audio/r3.wav").read_bytes()
        recordings = list(Manifest.load(tmp_path / "m.jsonl"))
        (tmp_path / "audio/r3.wav").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "audio/r4.wav").write_bytes(b"")
        corpus = encode_corpus(tmp_path / "m.jsonl", tmp_path / "out", tokenizer, acoustic=short)
        for folder, each in (("", tokenizer), ("acoustic", short)):
            found = read_segmentations(corpus.path / folder)
            assert found == {r.id: each.encode(r.load()) for r in recordings[:3]}, folder
        assert [one.id for one in corpus.entry(corpus.shards[0]).failed] == ["r3", "r4"]

    def test_what_is_missing_or_damaged_is_made_again(self, tokenizer, second, manifest, tmp_path):
        corpus = encode_corpus(manifest, tmp_path / "out", tokenizer, acoustic=second, **SHARD)
        files = {file: file.read_bytes() for file in corpus.path.rglob("*.parquet")}
        damaged, removed = corpus.path / "acoustic/000001.parquet", corpus.path / "acoustic/000002.parquet"
        damaged.write_bytes(b"PAR1")
        removed.unlink()
        assert [shard.index for shard in corpus.missing()] == [2] and not corpus.is_finished
        encode_corpus(manifest, tmp_path / "out", tokenizer, acoustic=second, **SHARD)
        assert {file: file.read_bytes() for file in corpus.path.rglob("*.parquet")} == files and corpus.is_finished
        (corpus.path / "artifact.json").unlink()
        with pytest.raises(FormatError, match="run the same encode command again"):
            read_segmentations(corpus.path / "acoustic")

    def test_other_settings_are_refused(self, tokenizer, second, manifest, tmp_path):
        encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        with pytest.raises(InputError, match="acoustic"):
            encode_corpus(manifest, tmp_path / "out", tokenizer, acoustic=second, **SHARD)


class TestStop:
    def test_resumes_after_every_shard(self, tokenizer, manifest, tmp_path, monkeypatch):
        encode_corpus(manifest, tmp_path / "whole", tokenizer, **SHARD)
        enter = local.enter_shard

        def enter_and_stop(*arguments):
            enter(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(local, "enter_shard", enter_and_stop)
        for done in range(1, 5):
            with pytest.raises(KeyboardInterrupt):
                encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
            assert len(shard_bytes(tmp_path / "out")) == done
            # What was claimed and not finished is free for others.
            assert list((tmp_path / "out" / "claims").iterdir()) == []
        monkeypatch.undo()
        encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "whole")
        assert (tmp_path / "out" / "artifact.json").read_bytes() == (tmp_path / "whole" / "artifact.json").read_bytes()

    def test_what_a_killed_process_leaves(self, tokenizer, manifest, tmp_path):
        corpus = encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        whole = shard_bytes(corpus.path)
        (corpus.path / "artifact.json").unlink()
        corpus.shard_file(corpus.shards[1]).rename(corpus.path / "shards" / ".000001.ab.tmp.parquet")
        corpus.shard_file(corpus.shards[2]).unlink()
        (corpus.path / "claims").mkdir()
        (corpus.path / "claims" / "000001.claim").write_text("")
        (corpus.path / "claims" / "000002.claim").write_text('{"host": "elsewhere", "pid": 1}')
        encode_corpus(manifest, tmp_path / "out", tokenizer, claim_timeout=0.3, **SHARD)
        assert shard_bytes(corpus.path) == whole

    def test_several_at_once(self, tokenizer_folder, manifest, tmp_path, monkeypatch):
        entered: list[str] = []
        enter = local.enter_shard

        def note(corpus, shard, *arguments):
            entered.append(shard.name)
            enter(corpus, shard, *arguments)

        monkeypatch.setattr(local, "enter_shard", note)
        monkeypatch.setattr(local, "_POLL_SECONDS", 0.01)
        small_corpus(tmp_path / "audio", [6_400] * 24).save(manifest)
        tokenizers = [Tokenizer.load(tokenizer_folder, device="cpu", batch_seconds=1.0) for _ in range(3)]
        whole = encode_corpus(manifest, tmp_path / "whole", tokenizers[0], shard_seconds=0.8)
        entered.clear()
        ends: list[bool] = []

        def work(tokenizer: Tokenizer) -> None:
            ends.append(encode_corpus(manifest, tmp_path / "out", tokenizer, shard_seconds=0.8).is_finished)

        threads = [threading.Thread(target=work, args=(tokenizer,)) for tokenizer in tokenizers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # None lost, none twice, and nobody leaves before all is there.
        assert sorted(entered) == [shard.name for shard in whole.shards] and ends == [True] * 3
        assert shard_bytes(tmp_path / "out") == shard_bytes(whole.path)

    def test_errors_of_the_encoder_come_out(self, tokenizer, manifest, tmp_path, monkeypatch):
        def fail(self, audio):
            raise RuntimeError("out of memory")

        monkeypatch.setattr(Tokenizer, "features", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        assert list((tmp_path / "out" / "claims").iterdir()) == []


class TestChanged:
    """Results are those of the audio and the files as they are now."""

    @pytest.fixture
    def whole(self, tokenizer, manifest, tmp_path) -> dict[str, bytes]:
        return shard_bytes(encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD).path)

    @pytest.fixture
    def entered(self, monkeypatch) -> list[str]:
        names: list[str] = []
        enter = local.enter_shard
        monkeypatch.setattr(
            local, "enter_shard", lambda c, shard, *more: (names.append(shard.name), enter(c, shard, *more))
        )
        return names

    def again(self, tokenizer, manifest, tmp_path) -> dict[str, bytes]:
        corpus = encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        assert corpus.is_finished and not (corpus.path / "claims").exists()
        return shard_bytes(corpus.path)

    @pytest.mark.parametrize("finished", [True, False])
    def test_replaced_audio_is_encoded_again(self, tokenizer, manifest, tmp_path, whole, entered, capfd, finished):
        save_audio(tmp_path / "audio" / "r5.wav", noise(8_000, seed=77))
        if not finished:
            (tmp_path / "out" / "artifact.json").unlink()
        found = self.again(tokenizer, manifest, tmp_path)
        assert entered == ["000001"] and [name for name in whole if found[name] != whole[name]] == ["000001.parquet"]
        assert read_segmentations(tmp_path / "out")["r5"] == tokenizer.encode(load_audio(tmp_path / "audio" / "r5.wav"))
        assert "000001.parquet: encoded again: " in (said := capfd.readouterr().err) and "r5.wav was replaced" in said
        assert self.again(tokenizer, manifest, tmp_path) == found and len(entered) == 1

    def test_touched_and_copied_audio_is_not(self, tokenizer, manifest, tmp_path, whole, entered, monkeypatch):
        read: list[Path] = []
        real = data_manifest.digest_path
        monkeypatch.setattr(data_manifest, "digest_path", lambda path: (read.append(path), real(path))[1])
        shutil.copytree(tmp_path / "audio", tmp_path / "copy", copy_function=shutil.copyfile)
        shutil.rmtree(tmp_path / "audio")
        (tmp_path / "copy").rename(tmp_path / "audio")
        for days in (2, 1):
            for file in (tmp_path / "audio").iterdir():
                os.utime(file, (time.time() - days * 86_400,) * 2)
            read.clear()
            assert self.again(tokenizer, manifest, tmp_path) == whole and len(read) == 8
        # Their new times are known now.
        read.clear()
        assert self.again(tokenizer, manifest, tmp_path) == whole and read == []
        assert entered == []

    def test_a_corpus_in_another_place(self, tokenizer, manifest, tmp_path, whole, entered):
        (tmp_path / "new").mkdir()
        for name in ("audio", "m.jsonl", "out"):
            (tmp_path / name).rename(tmp_path / "new" / name)
        assert self.again(tokenizer, tmp_path / "new" / "m.jsonl", tmp_path / "new") == whole and entered == []
        assert all(r.path.is_file() for r, _ in read_units(tmp_path / "new" / "out"))

    def test_audio_that_is_gone_was_not_replaced(self, tokenizer, manifest, tmp_path, whole, entered):
        (tmp_path / "audio" / "r2.wav").unlink()
        assert self.again(tokenizer, manifest, tmp_path) == whole and entered == []

    def test_a_repaired_recording_is_encoded(self, tokenizer, manifest, tmp_path, entered):
        file = tmp_path / "audio" / "r0.wav"
        good = file.read_bytes()
        file.unlink()
        corpus = encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        assert corpus.summary().failed == 1
        file.write_bytes(good)
        entered.clear()
        self.again(tokenizer, manifest, tmp_path)
        assert entered == ["000000"] and corpus.summary().failed == 0

    @pytest.mark.parametrize("samples", [4_000, 28_000])
    def test_replaced_by_another_length(self, tokenizer, manifest, tmp_path, samples):
        # Without lengths in the manifest; those of the plan are read from the headers.
        rows = [{"id": f"r{k}", "path": f"audio/r{k}.wav"} for k in range(8)]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
        save_audio(tmp_path / "audio" / "r1.wav", noise(samples, seed=5))
        found = self.again(tokenizer, manifest, tmp_path)
        assert found == shard_bytes(encode_corpus(manifest, tmp_path / "fresh", tokenizer, **SHARD).path)
        assert list(read_units(tmp_path / "out")) == list(read_units(tmp_path / "fresh"))
        assert read_segmentations(tmp_path / "out")["r1"] == tokenizer.encode(load_audio(tmp_path / "audio" / "r1.wav"))

    @pytest.mark.parametrize("damage", ["flip", "cut", "empty", "ledger", "no ledger"])
    def test_a_damaged_shard_is_named_and_encoded_again(
        self, tokenizer, manifest, tmp_path, whole, entered, capfd, damage
    ):
        file, ledger = tmp_path / "out/shards/000001.parquet", tmp_path / "out/ledger/000001.json"
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 8
        if "ledger" in damage:
            ledger.write_text("{}") if damage == "ledger" else ledger.unlink()
        else:
            file.write_bytes({"flip": bytes(data), "cut": bytes(data[:-9]), "empty": b""}[damage])
        assert self.again(tokenizer, manifest, tmp_path) == whole and entered == ["000001"]
        assert "000001.parquet: encoded again: " in capfd.readouterr().err

    def test_several_processes_drop_a_shard_once(self, tokenizer, manifest, tmp_path, whole):
        corpus = open_corpus(tmp_path / "out")
        corpus.shard_file(corpus.shards[1]).write_bytes(b"PAR1")
        faults = corpus.faults()
        corpus.shard_file(corpus.shards[1]).write_bytes(whole["000001.parquet"])
        with Claims(corpus.path) as claims:
            local._drop(corpus, faults, claims)
        assert [shard.name for shard in faults] == ["000001"] and shard_bytes(corpus.path) == whole


def test_decoded_audio_is_bounded(tokenizer, tmp_path, monkeypatch):
    small_corpus(tmp_path / "audio", [8_000] * 40).save(tmp_path / "m.jsonl")
    held, most, lock = [0.0], [0.0], threading.Lock()
    load, features = Recording.load, Tokenizer.features

    def counted_load(recording):
        with lock:
            held[0] += recording.seconds
            most[0] = max(most[0], held[0])
        return load(recording)

    def counted_features(self, waves):
        time.sleep(0.05)
        with lock:
            held[0] -= sum(map(len, waves)) / 16_000
        return features(self, waves)

    monkeypatch.setattr(Recording, "load", counted_load)
    monkeypatch.setattr(Tokenizer, "features", counted_features)
    encode_corpus(tmp_path / "m.jsonl", tmp_path / "out", tokenizer, workers=4, shard_seconds=5.0)
    # Batches of 2 s: two ahead, one with the encoder, and the rest of the one that completes the two.
    assert held[0] == 0.0 and 2.0 < most[0] <= 8.0


class TestDigest:
    def test_artifact(self, tokenizer):
        assert model_digest(tokenizer) == tokenizer.digest != ""

    def test_weights(self, tokenizer):
        tokenizer.digest = ""
        first = model_digest(tokenizer)
        assert first == model_digest(tokenizer) and len(first) == 16
        other = Codebook(tokenizer.codebook.centres, tokenizer.codebook.table[::-1])
        assert model_digest(Tokenizer(tokenizer.encoder, other, SegmentRule())) != first
        assert model_digest(Tokenizer(tokenizer.encoder, None, SegmentRule())) != first
        next(iter(tokenizer.encoder.parameters())).data += 1e-3
        assert model_digest(tokenizer) != first

    def test_unknown_encoder(self, tokenizer):
        class Bare:
            sample_rate, hop, dim, layer, receptive_field = 16_000, 320, 32, 1, 400

        with pytest.raises(InputError, match="has no digest"):
            model_digest(Tokenizer(Bare(), None, SegmentRule()))


def test_a_model_is_named_or_given(tokenizer, tokenizer_folder, manifest, tmp_path):
    given = encode_corpus(manifest, tmp_path / "given", tokenizer, **SHARD)
    named = encode_corpus(manifest, tmp_path / "named", tokenizer_folder, device="cpu", **SHARD)
    assert shard_bytes(given.path) == shard_bytes(named.path)
    with pytest.raises(InputError, match="pass its name"):
        encode_corpus(manifest, tmp_path / "ray", tokenizer, engine="ray")


def test_a_corpus_without_usable_recordings(tokenizer, manifest, tmp_path):
    for file in (tmp_path / "audio").iterdir():
        file.write_bytes(b"not audio")
    with pytest.raises(InputError, match=r"no usable recording: .*r0\.wav: is not readable audio"):
        encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)


def test_unusable_settings(tokenizer, manifest, tmp_path):
    with pytest.raises(InputError, match="workers 0"):
        encode_corpus(manifest, tmp_path / "out", tokenizer, workers=0)
    with pytest.raises(InputError, match="claim_timeout nan"):
        encode_corpus(manifest, tmp_path / "out", tokenizer, claim_timeout=float("nan"))
    with pytest.raises(InputError, match="shard_seconds -1"):
        encode_corpus(manifest, tmp_path / "out", tokenizer, shard_seconds=-1)
    assert not (tmp_path / "out").exists()


def test_progress_counts_and_estimates(tokenizer, manifest, tmp_path, monkeypatch, capfd):
    class Always(local.ProgressBar):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options, every=0.0)

    monkeypatch.setattr(local, "ProgressBar", Always)
    corpus = encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
    corpus.shard_file(corpus.shards[3]).unlink()
    assert "encode 8/8" in capfd.readouterr().err
    encode_corpus(manifest, tmp_path / "out", tokenizer, **SHARD)
    lines = capfd.readouterr().err.splitlines()
    assert (
        len(lines) == 1
        and lines[0].startswith("encode 8/8")
        and lines[0].endswith("s of audio per second, 0.0 min left")
    )
