from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, local

import numpy as np
import pytest
import torch

from syllablelm.cli.app import main
from syllablelm.core.errors import AudioError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import audio_info
from syllablelm.data.corpus import Recording, scan
from syllablelm.evaluate.speed import (
    STAGES,
    AgreementCounts,
    SpeedResult,
    Stopwatch,
    compare_units,
    describe_machine,
    make_clips,
    measure_speed,
)
from syllablelm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Frozen:
    """Something with two methods, one of which calls the other."""

    value: int = 3

    def outer(self) -> int:
        time.sleep(0.01)
        return self.inner(2) + 1

    def inner(self, factor: int) -> int:
        time.sleep(0.05)
        return self.value * factor


class TestStopwatch:
    def test_inner_time_counts_once(self, monkeypatch):
        clock = [0.0]
        monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
        monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
        thing, syncs = Frozen(), []
        with Stopwatch(lambda: syncs.append(clock[0])) as watch:
            watch.watch(thing, "outer", "a")
            watch.watch(thing, "inner", "b")
            assert thing.outer() == 7 and thing.inner(factor=1) == 3
            with watch.stage("c"):
                time.sleep(1.0)
                thing.inner(1)
        assert dict(watch.seconds) == pytest.approx({"a": 0.01, "b": 0.15, "c": 1.0})
        assert len(syncs) == 10
        # Watching is over: nothing is left of it.
        assert vars(thing) == {"value": 3} and thing.outer() == 7
        assert sum(watch.seconds.values()) == pytest.approx(1.16)

    def test_threads_count_by_their_share_of_the_cores(self, monkeypatch):
        share = local()
        monkeypatch.setattr(torch, "get_num_threads", lambda: getattr(share, "threads", 4))
        clock, both = local(), Barrier(2)
        monkeypatch.setattr(time, "perf_counter", lambda: getattr(clock, "now", 0.0))

        def work(seconds: float) -> None:
            share.threads, clock.now = 2, 0.0
            both.wait()
            with watch.stage("outer"):
                clock.now += 0.5
                with watch.stage("inner"):
                    clock.now += seconds

        with Stopwatch() as watch, watch.stage("all"), ThreadPoolExecutor(2) as pool:
            list(pool.map(work, [1.0, 2.0]))
            clock.now = 2.5
        assert dict(watch.seconds) == pytest.approx({"outer": 0.5, "inner": 1.5, "all": 0.5})

    def test_errors_pass_and_are_counted(self):
        with Stopwatch() as watch:
            with pytest.raises(ValueError, match="no"), watch.stage("a"):
                raise ValueError("no")
            with watch.stage("b"):
                pass
        assert set(watch.seconds) == {"a", "b"}


class TestMeasure:
    def test_stages_add_up_and_units_are_right(self, tokenizer_folder: Path, recordings: Path):
        tokenizer = Tokenizer.load(tokenizer_folder, device="cpu")
        manifest = scan(recordings)[0]
        speed, found = measure_speed(tokenizer, manifest, repeats=2)
        assert found == tokenizer.encode([recording.load() for recording in manifest])
        assert speed.recordings == 3 and speed.audio_seconds == 6.5 and speed.precision == "float32"
        assert speed.units == sum(map(len, found)) and speed.peak_device_mib is None
        *stages, all_stages = speed.stages
        assert [stage.stage for stage in speed.stages] == [*STAGES, "all"]
        assert all(stage.seconds > 0 for stage in stages)
        assert sum(stage.share for stage in stages) == pytest.approx(1.0) == all_stages.share
        assert all_stages.audio_per_second == speed.audio_per_second == pytest.approx(6.5 / speed.seconds)
        # More than numpy and torch alone, less than this test may use.
        assert 50 < speed.peak_memory_mib < 4000
        assert "convolve" not in vars(tokenizer.encoder) and vars(tokenizer.rule).keys() == {
            *tokenizer.rule.__dataclass_fields__
        }

    def test_an_encoder_of_one_piece(self, tokenizer_folder: Path, recordings: Path):
        class Whole:
            """An encoder without stages."""

            def __init__(self, inner):
                self.inner, self.device = inner, inner.device
                for name in ("sample_rate", "hop", "dim", "layer", "receptive_field", "num_frames"):
                    setattr(self, name, getattr(inner, name))

            def encode(self, waveforms, layers=None):
                return self.inner.encode(waveforms, layers)

        tokenizer = Tokenizer.load(tokenizer_folder, device="cpu")
        whole = Tokenizer(Whole(tokenizer.encoder), tokenizer.codebook, tokenizer.rule)
        speed, _ = measure_speed(whole, scan(recordings)[0][:1])
        _, convolutions, transformer, *_ = speed.stages
        assert convolutions.seconds == 0.0 and transformer.seconds > 0.0
        assert convolutions.audio_per_second is None

    def test_bad_input(self, tokenizer_folder: Path, recordings: Path):
        tokenizer = Tokenizer.load(tokenizer_folder, device="cpu")
        with pytest.raises(InputError, match="at least one recording"):
            measure_speed(tokenizer, [])
        with pytest.raises(AudioError, match=r"none.wav"):
            measure_speed(tokenizer, [Recording("none", recordings / "none.wav", 100, 16_000)])


def segmentation(cuts: list[int], units: list[int] | None) -> Segmentation:
    return Segmentation.from_boundaries(cuts, unit=units)


class TestAgreement:
    @pytest.mark.parametrize(
        ("cuts", "units", "f1", "same", "equal"),
        [
            pytest.param([0, 4, 10], [7, 8], 1.0, 10, 1, id="equal"),
            pytest.param([0, 5, 10], [7, 8], 1.0, 9, 0, id="one frame late: 20 ms"),
            pytest.param([0, 6, 10], [7, 8], 2 / 3, 8, 0, id="two frames late"),
            pytest.param([0, 4, 10], [7, 9], 1.0, 4, 0, id="another unit"),
            pytest.param([0, 10], [7], 2 * 2 / 5, 4, 0, id="a boundary less"),
        ],
    )
    def test_values(self, cuts, units, f1, same, equal):
        agreement = compare_units(segmentation(cuts, units), segmentation([0, 4, 10], [7, 8]))
        assert agreement.boundaries.f1 == pytest.approx(f1)
        assert (agreement.same_frames, agreement.frames, agreement.same_recordings) == (same, 10, equal)

    def test_sums(self):
        one = compare_units(segmentation([0, 2], [1]), segmentation([0, 2], [1]))
        other = compare_units(segmentation([0, 6], [1]), segmentation([0, 6], [2]))
        total = one + other
        assert total.unit_agreement == 2 / 8 and total.same_recordings == 1
        assert total.boundaries.f1 == 1.0 and total + AgreementCounts() == total

    def test_without_units_and_frames(self):
        assert compare_units(segmentation([0, 2, 4], None), segmentation([0, 3, 4], None)).same_frames == 3
        empty = compare_units(segmentation([], []), segmentation([], []))
        assert empty.unit_agreement == 1.0 and empty.same_recordings == 1

    def test_other_lengths(self):
        with pytest.raises(InputError, match="the same frames"):
            compare_units(segmentation([0, 2], [1]), segmentation([0, 3], [1]))


class TestClips:
    def test_clips(self, tmp_path: Path):
        clips = make_clips(tmp_path, 3, seconds=25.0)
        assert [audio_info(clip.path).num_samples for clip in clips] == [400_000] * 3
        waves = [clip.load() for clip in clips]
        assert not np.array_equal(waves[0], waves[1])
        # Each is the one before from another place on.
        np.testing.assert_array_equal(waves[0][7919 : 50_000 + 7919], waves[1][:50_000])

    @pytest.mark.parametrize(("count", "seconds"), [(0, 25.0), (1, 0.0), (1, float("nan"))])
    def test_bad_input(self, tmp_path: Path, count: int, seconds: float):
        with pytest.raises(InputError, match=r"at least one|above 0"):
            make_clips(tmp_path, count, seconds)


def test_machine():
    import torch

    machine = describe_machine(torch.device("cpu"))
    assert machine.cores is not None and machine.cores >= 1 and machine.gpu is None and machine.processor


class TestCommand:
    def test_table_and_json(self, tokenizer_folder: Path, recordings: Path, tmp_path: Path, capfd):
        options = ["--model", str(tokenizer_folder), "--device", "cpu", "--precision", "bfloat16"]
        assert main(["evaluate", "speed", str(recordings), *options, "--out", str(tmp_path / "s.json")]) == 0
        out, err = capfd.readouterr()
        result = json.loads(out)
        assert result == SpeedResult.load(tmp_path / "s.json").to_dict()
        assert [run["precision"] for run in result["runs"]] == ["float32", "bfloat16"]
        agreement = result["agreement"]
        assert agreement["recordings"] == 3 and agreement["frames"] == 99 + 74 + 149
        assert 0.5 < agreement["boundary_f1_20ms"] <= 1.0 and 0.0 < agreement["unit_agreement"] <= 1.0
        for words in ("stage", "transformer", "audio s/s", "peak memory", "bfloat16 against float32"):
            assert words in err

    def test_bundled_recording(self, tokenizer_folder: Path, capfd):
        assert main(["evaluate", "speed", "--clips", "1", "--model", str(tokenizer_folder), "--device", "cpu"]) == 0
        result = json.loads(capfd.readouterr().out)
        assert result["agreement"] is None and result["runs"][0]["audio_seconds"] == 25.0

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["none.wav"], "none.wav: no such file"),
            (["--clips", "0"], "'--clips'"),
            (["--batch-seconds", "0"], "batch_seconds 0.0: must be above 0, and finite"),
            (["--precision", "float16", "--clips", "1"], "float16"),
            (["--precision", "int8"], "'--precision'"),
        ],
    )
    def test_bad_input(self, tokenizer_folder: Path, arguments: list[str], words: str, capfd):
        assert main(["evaluate", "speed", *arguments, "--model", str(tokenizer_folder), "--device", "cpu"]) == 2
        out, err = capfd.readouterr()
        assert out == "" and words in err and len(err.splitlines()) == 1
