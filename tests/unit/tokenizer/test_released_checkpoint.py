from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from helpers.released_checkpoints import Oracle, random_weights, tones, write_triple
from helpers.released_minsum import released_minsum
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.encoders.data2vec2 import Data2Vec2Encoder, from_state
from syllablelm.quantize import Codebook
from syllablelm.tokenizer.released_checkpoint import load_released, released_rule, save_released
from syllablelm.tokenizer.segment_rule import SegmentRule
from syllablelm.tokenizer.tokenizer import Tokenizer

SILENCE = np.zeros(48_000, dtype=np.float32)


@pytest.fixture(scope="module")
def triple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rich_triple(tmp_path_factory.mktemp("released"), random_weights())


def write_rich_triple(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A tokenizer whose 64 centres are standardised frames, so that a clip has many units."""
    frames = Data2Vec2Encoder(from_state(weights, "here")).encode([tones(20_800, 99)])[0]
    centred = frames[:64] - frames[:64].mean(axis=1, keepdims=True)
    return write_triple(folder, weights=weights, centres=centred / centred.std(axis=1, ddof=1, keepdims=True))


@pytest.fixture
def folder(tmp_path: Path, triple: Path) -> Path:
    """Links to the three files, which a test may replace."""
    for file in triple.parent.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def replace(path: Path, array: npt.NDArray | bytes) -> None:
    path.unlink()
    if isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array, allow_pickle=True)


def released_units(feats: npt.NDArray, triple: Path, delta: float) -> list[list[int]]:
    """Steps 1 to 8 of the published program in float32 on the CPU: [units, starts, ends]."""
    feats_TD = torch.from_numpy(np.ascontiguousarray(feats, dtype=np.float32))
    edges = released_minsum(feats_TD[None], delta)[0]
    centres = torch.from_numpy(np.load(triple.with_name(f"{triple.stem}_kmeans.npy")))
    table = np.load(triple.with_name(f"{triple.stem}_agglom.npy"))
    merged: list[list[int]] = []
    for start, end in itertools.pairwise(edges):
        vector = feats_TD[start + 1 : end - 1].mean(dim=0)
        vector = (vector - vector.mean()) / vector.std(unbiased=True)
        unit = int(table[int((centres - vector).square().sum(dim=1).argmin())])
        if merged and merged[-1][0] == unit:
            merged[-1][2] = end
        else:
            merged.append([unit, start, end])
    return [list(column) for column in zip(*merged, strict=True)]


def columns(found: Segmentation) -> list[list[int]]:
    assert found.unit is not None
    return [found.unit.tolist(), found.start.tolist(), found.end.tolist()]


class TestChain:
    @pytest.mark.parametrize("num_samples", [5_000, 5_200, 16_000, 48_000, 79_999, 130_000])
    def test_units_equal_the_published_steps(self, triple, num_samples):
        tokenizer, wave = Tokenizer(*load_released(triple, device="cpu")), tones(num_samples, num_samples)
        self.check(tokenizer, tokenizer.features([wave])[0], wave, triple, 0.0033)

    def test_units_equal_those_of_the_oracle_of_the_encoder(self, triple):
        tokenizer, wave = Tokenizer(*load_released(triple, device="cpu")), tones(30_000)
        self.check(tokenizer, Oracle(random_weights()).layers(wave, last=11)[11], wave, triple, 0.0033)

    @pytest.mark.parametrize("delta", [0.0005, 0.002, 0.006, 0.0065, 0.007, 0.02])
    def test_delta_chooses_the_count(self, triple, delta):
        tokenizer, wave = Tokenizer(*load_released(triple, device="cpu", delta=delta)), tones(80_000, 80_000)
        self.check(tokenizer, tokenizer.features([wave])[0], wave, triple, delta)

    def test_the_deltas_of_these_tests_reach_the_middle_of_the_search(self, triple):
        counts = []
        for delta in (0.002, 0.0065, 0.007, 0.02):
            encoder, _, rule = load_released(triple, device="cpu", delta=delta)
            counts.append(len(rule.spans(encoder.encode([tones(80_000, 80_000)])[0], 50.0)))
        assert counts[0] == 49 > counts[1] >= counts[2] > counts[3] == 16

    def test_three_seconds_of_silence(self, triple):
        tokenizer = Tokenizer(*load_released(triple, device="cpu"))
        feats = tokenizer.features([SILENCE])[0]
        assert len(feats) == 149
        self.check(tokenizer, feats, SILENCE, triple, 0.0033)

    @pytest.mark.slow
    def test_files_of_true_size(self, tmp_path):
        triple = write_rich_triple(tmp_path, random_weights(channels=512, dim=768, feed_forward=3072))
        tokenizer = Tokenizer(*load_released(triple, device="cpu"))
        waves = [SILENCE, tones(9_000), tones(48_000, 1)]
        alone = [self.check(tokenizer, tokenizer.features([wave])[0], wave, triple, 0.0033) for wave in waves]
        assert tokenizer.encoder.dim == 768 and len(alone[2][0]) > 9
        assert [columns(found) for found in tokenizer.encode(waves)] == alone

    def check(self, tokenizer: Tokenizer, feats: Any, wave: Any, triple: Path, delta: float) -> list[list[int]]:
        spans = tokenizer.spans(np.asarray(feats, dtype=np.float32))
        expected = torch.from_numpy(np.asarray(feats, dtype=np.float32))[None]
        assert [0, *spans[:, 1].tolist()] == released_minsum(expected, delta)[0]
        found = tokenizer.encode(wave)
        assert columns(found) == released_units(feats, triple, delta)
        assert (found.hop, found.sample_rate, found.num_frames) == (320, 16_000, len(feats))
        return columns(found)

    def test_short_clips_have_units_too(self, triple):
        tokenizer = Tokenizer(*load_released(triple, device="cpu"))
        # One frame to fourteen; the published program fails below fifteen.
        for num_frames in range(1, 15):
            found = tokenizer.encode(tones(400 + 320 * (num_frames - 1), num_frames))
            assert found.num_frames == num_frames and found.unit is not None and len(found.unit) >= 1
            assert found.start[0] == 0 and found.end[-1] == num_frames


class TestRule:
    @pytest.mark.parametrize(
        ("name", "delta", "rate"), [("833", 0.0033, 8.33), ("625", 0.0028, 6.25), ("500", 0.0019, 5)]
    )
    def test_published_numbers(self, name, delta, rate):
        expected = SegmentRule(
            method="released",
            rate=rate,
            delta=delta,
            quantile=0.75,
            min_length=3,
            max_length=35,
            drop_edges=True,
            merge=True,
        )
        assert released_rule(f"SylBoost_{name}Hz") == expected

    def test_another_delta(self):
        assert released_rule("SylBoost_625Hz", 0.004).delta == 0.004
        assert released_rule("mine", 0.004).delta == 0.004

    @pytest.mark.parametrize("name", ["SylBoost", "SylBoost_833", "SylBoost_1833Hz", "SylBoost_1250Hz"])
    def test_unknown_rates_need_a_delta(self, name):
        with pytest.raises(
            InputError, match=f"^{name}: the threshold is known for names with 833Hz, 625Hz, 500Hz only"
        ):
            released_rule(name)

    @pytest.mark.parametrize("delta", [0.0, -1.0, float("nan"), float("inf")])
    def test_deltas_that_are_none(self, delta):
        with pytest.raises(InputError, match="above 0"):
            released_rule("SylBoost_833Hz", delta)


class TestFiles:
    def test_codebook(self, triple):
        _, codebook, _ = load_released(str(triple), device="cpu")
        assert np.array_equal(codebook.centres, np.load(triple.with_name("SylBoost_833Hz_kmeans.npy")))
        assert np.array_equal(codebook.table, np.load(triple.with_name("SylBoost_833Hz_agglom.npy")))
        assert codebook.standardize

    def test_a_column_of_units_is_taken_as_a_list(self, folder, triple):
        path = folder / "SylBoost_833Hz_agglom.npy"
        table = np.load(path)
        replace(path, table[:, None])
        assert np.array_equal(load_released(folder / triple.name, device="cpu")[1].table, table)

    @pytest.mark.parametrize("ending", [".pth", "_kmeans.npy", "_agglom.npy"])
    def test_missing_files(self, folder, triple, ending):
        (folder / f"SylBoost_833Hz{ending}").unlink()
        with pytest.raises(FormatError, match=f"SylBoost_833Hz{ending}: no such file"):
            load_released(folder / triple.name, device="cpu")

    @pytest.mark.parametrize(
        ("ending", "array", "message"),
        [
            ("kmeans", np.zeros((64, 47), np.float32), "centres of 47 dims, but the features .* have 48"),
            ("kmeans", np.zeros((64, 48), np.int64), r"a real matrix .* not int64 of shape \(64, 48\)"),
            ("kmeans", np.zeros(64, np.float32), r"a real matrix .* not float32 of shape \(64,\)"),
            ("kmeans", np.full((64, 48), np.nan, np.float32), "no codebook: .*NaN"),
            ("kmeans", np.array([{}, 1]), "not an array of numbers"),
            ("kmeans", b"", "not an array of numbers"),
            ("agglom", np.zeros(63, np.int64), r"one integer for each of the 64 centres .*int64 of shape \(63,\)"),
            ("agglom", np.zeros((1, 64), np.int64), r"one integer for each of the 64 centres"),
            ("agglom", np.zeros(64, np.float32), "one integer for each"),
            ("agglom", np.full(64, -1), "no codebook: .*unit numbers"),
            ("agglom", b"PK\x03\x04", "not an array of numbers"),
        ],
    )
    def test_arrays_that_are_no_codebook(self, folder, triple, ending, array, message):
        replace(folder / f"SylBoost_833Hz_{ending}.npy", array)
        with pytest.raises(FormatError, match=f"SylBoost_833Hz_.*{message}") as caught:
            load_released(folder / triple.name, device="cpu")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("ending", [".pth", "_kmeans.npy", "_agglom.npy"])
    @pytest.mark.parametrize("share", [0.1, 0.9])
    def test_truncated_files(self, folder, triple, ending, share):
        path = folder / f"SylBoost_833Hz{ending}"
        whole = path.read_bytes()
        replace(path, whole[: int(share * len(whole))])
        with pytest.raises(FormatError, match=f"SylBoost_833Hz{ending}: "):
            load_released(folder / triple.name, device="cpu")

    def test_archives_of_arrays(self, folder, triple):
        path = folder / "SylBoost_833Hz_kmeans.npy"
        path.unlink()
        with open(path, "wb") as file:
            np.savez(file, centres=np.zeros((64, 48)))
        with pytest.raises(FormatError, match="not an array of numbers"):
            load_released(folder / triple.name, device="cpu")

    def test_precision_reaches_the_encoder(self, triple):
        assert load_released(triple, device="cpu", precision="bfloat16")[0].precision == "bfloat16"


class TestSaving:
    def test_round_trip(self, triple, tmp_path):
        encoder, codebook, rule = load_released(triple, device="cpu")
        path = save_released(tmp_path / "out", "SylBoost_625Hz", encoder, codebook)
        assert path == tmp_path / "out" / "SylBoost_625Hz.pth"
        assert sorted(file.name for file in path.parent.iterdir()) == [
            "SylBoost_625Hz.pth",
            "SylBoost_625Hz_agglom.npy",
            "SylBoost_625Hz_kmeans.npy",
        ]
        again, codes, other = load_released(path, device="cpu")
        assert codes == codebook
        assert (rule.delta, other.delta) == (0.0033, 0.0028)
        for name, weight in encoder.model.state_dict().items():
            assert torch.equal(weight, again.model.state_dict()[name]), name
        for ending in ("_kmeans.npy", "_agglom.npy"):
            copy, original = (np.load(p.with_name(p.stem + ending)) for p in (path, triple))
            assert copy.dtype == original.dtype and np.array_equal(copy, original)

    def test_what_the_format_cannot_hold(self, triple, tmp_path):
        encoder, codebook, _ = load_released(triple, device="cpu")
        other_layer, standardised = (
            Data2Vec2Encoder(from_state(random_weights(), "here"), layer, normalize=normalize)
            for layer, normalize in ((9, False), (11, True))
        )
        plain = Codebook(codebook.centres, codebook.table, standardize=False)
        narrow = Codebook(codebook.centres[:, :47], codebook.table)
        foreign: Any = torch.nn.Identity()
        for wrong, codes, name, message in (
            (foreign, codebook, "a", "not a Identity"),
            (other_layer, codebook, "a", "takes layer 11"),
            (standardised, codebook, "a", "not standardised"),
            (encoder, plain, "a", "codebook of standardised vectors of 48 dims"),
            (encoder, narrow, "a", "codebook of standardised vectors of 48 dims"),
            (encoder, codebook, "", "not a file name"),
            (encoder, codebook, "../a", "not a file name"),
        ):
            with pytest.raises(InputError, match=message):
                save_released(tmp_path / "out", name, wrong, codes)
        assert not (tmp_path / "out").exists()
