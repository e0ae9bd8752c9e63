from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.random_encoders import make_encoder
from helpers.random_models import SHAPE, small_corpus, small_predictor
from syllablelm.core.artifact import Artifact, digest_path, new_artifact, open_artifact
from syllablelm.core.errors import InputError
from syllablelm.encoders import MaskedPredictor, load_encoder
from syllablelm.encoders.padding import pad_waveforms
from syllablelm.segment import losspred_matrix
from syllablelm.segment.mel import frame_count as count_frames
from syllablelm.train.batches import AugmentConfig, WaveformStore, save_arrays
from syllablelm.train.labels import LabelsConfig, make_labels, read_centres
from syllablelm.train.loop import LoopConfig
from syllablelm.train.pretrain import (
    IGNORED,
    EncoderConfig,
    MaskedPredictionTask,
    _start,
    _start_at_centres,
    span_mask,
    train_encoder,
)
from syllablelm.train.runlog import read_log
from syllablelm.train.stage import StageContext

LENGTHS = [40_000, 9_000, 64_000, 18_000]
CONFIG = EncoderConfig(
    LoopConfig(4, lr=1e-3, batch_seconds=6.0, log_every=2), shape=SHAPE, crop_seconds=1.5, mask_length=5
)


def runs(mask: np.ndarray) -> list[int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


class TestSpanMask:
    @given(st.integers(1, 200), st.floats(0.0, 1.0), st.integers(1, 30), st.integers(0, 1000))
    def test_spans_are_whole_and_something_is_masked(self, num_frames, prob, length, seed):
        mask = span_mask(num_frames, prob, length, np.random.default_rng(seed))
        assert mask.shape == (num_frames,) and mask.dtype == bool
        assert runs(mask) and min(runs(mask)) >= min(length, num_frames)

    @pytest.mark.parametrize(("prob", "length"), [(0.8, 10), (0.3, 5), (0.65, 10)])
    def test_coverage(self, prob, length):
        num_frames = 500
        shares = [span_mask(num_frames, prob, length, np.random.default_rng(seed)).mean() for seed in range(300)]
        # A frame escapes if none of the starts, drawn without repetition, is among the `length` that cover it.
        expected = 1 - (1 - length / (num_frames - length + 1)) ** (prob * num_frames / length)
        assert np.mean(shares) == pytest.approx(expected, abs=0.01)
        assert expected < prob

    def test_number_of_spans_is_right_on_average(self):
        # One frame per span: 20.5 of 41 frames.
        counts = [span_mask(41, 0.5, 1, np.random.default_rng(seed)).sum() for seed in range(1000)]
        assert set(counts) == {20, 21} and np.mean(counts) == pytest.approx(20.5, abs=0.05)

    def test_every_frame_is_masked_about_as_often(self):
        total = np.mean([span_mask(60, 0.5, 6, np.random.default_rng(seed)) for seed in range(2000)], axis=0)
        assert total[6:-6].std() < 0.03 and total.min() > 0.03

    def test_seeded(self):
        first, again, other = (span_mask(100, 0.5, 7, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_edges(self):
        assert span_mask(0, 0.8, 10, np.random.default_rng(0)).shape == (0,)
        assert span_mask(1, 0.8, 10, np.random.default_rng(0)).all()
        assert span_mask(50, 1.0, 50, np.random.default_rng(0)).all()


@pytest.fixture
def store(tmp_path) -> WaveformStore:
    return WaveformStore(small_corpus(tmp_path / "audio", LENGTHS))


def places(store: WaveformStore) -> dict[str, np.ndarray]:
    """As the label of every frame, its number."""
    return {r.id: np.arange(count_frames(r.num_samples), dtype=np.int16) for r in store.manifest}


def loudness(store: WaveformStore) -> dict[str, np.ndarray]:
    labels = {}
    for index, recording in enumerate(store.manifest):
        frames = np.lib.stride_tricks.sliding_window_view(store[index], 400)[::320]
        labels[recording.id] = np.digitize(np.square(frames).mean(1), [1e-3, 4e-3, 1e-2]).astype(np.int16)
    return labels


class TestTask:
    def test_labels_go_with_the_samples(self, store):
        task = MaskedPredictionTask(small_predictor(), store, places(store), CONFIG, seed=0)
        seen = set()
        for number in range(12):
            crops, batch = task.plan.batch(number), task.batch(number)
            for row, crop in enumerate(crops):
                length = int(batch["lengths"][row])
                count = count_frames(length)
                start = crop.start
                np.testing.assert_array_equal(
                    batch["wave"][row, :length].numpy(), store[crop.index][320 * start : 320 * start + length]
                )
                assert batch["labels"][row, :count].tolist() == list(range(start, start + count))
                assert (batch["labels"][row, count:] == IGNORED).all() and not batch["mask"][row, count:].any()
                assert min(runs(batch["mask"][row].numpy())) >= 5
                seen.add((crop.index, start))
            assert batch["seconds"] == pytest.approx(float(batch["lengths"].sum()) / 16_000)
        assert len({start for index, start in seen if index == 2}) > 2

    def test_a_batch_is_always_the_same(self, store):
        first, second = (MaskedPredictionTask(small_predictor(), store, places(store), CONFIG, seed=0) for _ in "ab")
        second.batch(5)
        for name, value in first.batch(2).items():
            assert np.array_equal(np.asarray(value), np.asarray(second.batch(2)[name])), name
        other = MaskedPredictionTask(small_predictor(), store, places(store), CONFIG, seed=1)
        assert not np.array_equal(other.batch(2)["mask"], first.batch(2)["mask"])

    def test_frames_without_a_label_are_not_asked(self, store):
        labels = {name: row[:-4] for name, row in places(store).items()}
        config = replace(CONFIG, crop_seconds=10.0, mask_prob=1.0)
        task = MaskedPredictionTask(small_predictor(), store, labels, config, seed=0)
        for number in range(3):
            batch = task.batch(number)
            for row, crop in enumerate(task.plan.batch(number)):
                count = count_frames(LENGTHS[crop.index])
                assert (batch["labels"][row, count - 4 :] == IGNORED).all()
                assert not batch["mask"][row, count - 4 :].any() and batch["mask"][row].any()

    @pytest.mark.parametrize("weight", [1.0, 0.7])
    def test_loss_is_mean_cross_entropy(self, store, weight):
        model = small_predictor()
        task = MaskedPredictionTask(model, store, loudness(store), replace(CONFIG, masked_weight=weight), seed=0)
        batch = next(b for b in map(task.batch, range(9)) if len(b["lengths"]) > 1)
        with torch.no_grad():
            output = task.module(batch)
            logits = model.head(model.hidden(*model.inputs(batch["wave"], batch["lengths"]), batch["mask"]))
        logprobs = torch.log_softmax(logits.double(), -1)
        sums, hits = {True: [], False: []}, 0
        for b, count in enumerate(model.encoder.frames(batch["lengths"]).tolist()):
            for t in range(count):
                masked = bool(batch["mask"][b, t])
                sums[masked].append(-float(logprobs[b, t, batch["labels"][b, t]]))
                hits += masked and int(logits[b, t].argmax()) == int(batch["labels"][b, t])
        masked, unmasked = np.mean(sums[True]), np.mean(sums[False])
        assert float(output["loss"]) == pytest.approx(weight * masked + (1 - weight) * unmasked, rel=1e-5)
        assert float(output["masked_loss"]) == pytest.approx(masked, rel=1e-5)
        assert (int(output["hits"]), int(output["targets"])) == (hits, len(sums[True]))


class TestStage:
    def labels(self, folder, store) -> Artifact:
        with new_artifact(folder, "labels", config={}, seed=0, parents={}, metrics={}) as payload:
            save_arrays(payload / "labels.safetensors", loudness(store))
        return open_artifact(folder)

    def test_trains_an_encoder_that_opens(self, store, tmp_path):
        labels = self.labels(tmp_path / "labels", store)
        made = [
            train_encoder(CONFIG, StageContext(store, seed=seed, device="cpu"), labels, tmp_path / name)
            for name, seed in (("a", 0), ("b", 0), ("c", 1))
        ]
        files = [{k: v for k, v in m.record["files"].items() if k != "log.jsonl"} for m in made]
        assert files[0] == files[1] != files[2]
        assert {"config.json", "model.safetensors", "head.safetensors", "log.jsonl"} <= files[0].keys() | {"log.jsonl"}
        assert made[0].metrics.keys() >= {"loss", "masked_accuracy", "masked_loss"}
        model = MaskedPredictor.load(made[0].path, device="cpu")
        assert model.head.num_labels == 4 and model.encoder.layer == 2

    def test_goes_on_from_the_iteration_before(self, store, tmp_path):
        labels = self.labels(tmp_path / "labels", store)
        first = train_encoder(CONFIG, StageContext(store, device="cpu"), labels, tmp_path / "a")
        still = replace(CONFIG, start="previous", loop=replace(CONFIG.loop, lr=0.0))
        second = train_encoder(still, StageContext(store, seed=1, device="cpu"), labels, tmp_path / "b", previous=first)
        assert second.record["parents"]["previous"] == first.digest
        before, after = (MaskedPredictor.load(a.path, device="cpu") for a in (first, second))
        for name, tensor in before.encoder.state_dict().items():
            assert torch.equal(after.encoder.state_dict()[name], tensor), name
        assert not torch.equal(after.head.label_embeddings, before.head.label_embeddings)
        with pytest.raises(InputError, match="no earlier iteration"):
            train_encoder(still, StageContext(store, device="cpu"), labels, tmp_path / "c")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"dim": 64}, r"\[32\] there, \[64\] here"),
            ({"layers": 3}, "layers.2.* none there"),
            ({"layers": 1}, "layers.1.* none here"),
        ],
    )
    def test_another_shape_than_the_iteration_before(self, store, tmp_path, change, words):
        labels = self.labels(tmp_path / "labels", store)
        first = train_encoder(CONFIG, StageContext(store, device="cpu"), labels, tmp_path / "a")
        other = replace(CONFIG, start="previous", shape=replace(SHAPE, **change))
        with pytest.raises(InputError, match=f'start = "previous": .*/a has another shape .*{words}') as caught:
            train_encoder(other, StageContext(store, device="cpu"), labels, tmp_path / "b", previous=first)
        assert "\n" not in str(caught.value)
        assert not any(path.name in ("b", ".b.work") for path in tmp_path.iterdir())


class TestStartFromAnEncoder:
    """Masked prediction that goes on from a model of another origin, its head from the centres of the labels."""

    @pytest.fixture
    def whisper(self, tmp_path) -> Path:
        folder = tmp_path / "whisper"
        folder.mkdir()
        make_encoder("whisper").save(folder)
        return folder

    def labels(self, store, whisper, tmp_path, layer: int) -> Artifact:
        config = LabelsConfig("encoder", encoder=str(whisper), layer=layer, num_labels=5, whiten=True)
        return make_labels(config, StageContext(store, device="cpu"), tmp_path / "labels")

    def config(self, whisper, **changes) -> EncoderConfig:
        loop = LoopConfig(40, lr=1e-3, batch_seconds=6.0, log_every=4, warmup=0.1)
        return EncoderConfig(loop, crop_seconds=1.5, mask_length=5, mask_prob=0.5, start=str(whisper), **changes)

    def test_the_head_begins_with_the_nearest_centre(self, store, whisper, tmp_path):
        labels = self.labels(store, whisper, tmp_path, 4)
        model = _start(self.config(whisper, head="centres"), 5, None)
        _start_at_centres(model, labels, digest_path(whisper))
        centres, mean, scale = read_centres(labels)
        feats = (load_encoder(whisper, device="cpu").encode([store[0]])[0] - mean) / scale
        cosine = feats @ centres.T / np.linalg.norm(feats, axis=1)[:, None] / np.linalg.norm(centres, axis=1)
        wave, lengths = pad_waveforms([store[0]], torch.device("cpu"))
        with torch.no_grad():
            logits = model.head(model.hidden(*model.inputs(wave, lengths)))[0].numpy()
        np.testing.assert_allclose(logits, cosine / 0.1, atol=1e-2)

    def test_it_learns_and_losspred_reads_it(self, store, whisper, tmp_path):
        labels = self.labels(store, whisper, tmp_path, 4)
        config = self.config(whisper, head="centres", train_cnn=False)
        out = tmp_path / "out"
        made = train_encoder(config, StageContext(store, device="cpu"), labels, out)
        assert made.record["parents"]["start"] == digest_path(whisper)
        losses = [line["masked_loss"] for line in read_log(out)]
        assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
        predictor = MaskedPredictor.load(out, device="cpu")
        before, after = load_encoder(whisper, device="cpu"), load_encoder(out, device="cpu")
        moved = {n for n, w in before.state_dict().items() if not torch.equal(w, after.state_dict()[n])}
        assert moved and not any("conv" in name for name in moved)
        matrix = losspred_matrix(predictor, store[1], span=6, gap=6)
        assert matrix.shape == (count_frames(LENGTHS[1]),) * 2 and matrix.max() > 0

    @pytest.mark.parametrize("case", ["layer", "encoder", "random"])
    def test_centres_of_another_space(self, store, whisper, tmp_path, case):
        labels = self.labels(store, whisper, tmp_path, 3 if case == "layer" else 4)
        config = self.config(whisper, head="centres")
        if case == "encoder":
            (tmp_path / "other").mkdir()
            make_encoder("whisper-128").save(tmp_path / "other")
            config = replace(config, start=str(tmp_path / "other"))
        if case == "random":
            config = replace(CONFIG, head="centres")
        with pytest.raises(
            InputError, match=r"the labels are not of layer \d of the encoder that this iteration starts"
        ):
            train_encoder(config, StageContext(store, device="cpu"), labels, tmp_path / "out")

    def test_crops_longer_than_the_encoder_takes(self, store, whisper, tmp_path):
        labels = self.labels(store, whisper, tmp_path, 4)
        config = replace(self.config(whisper), crop_seconds=31.0)
        with pytest.raises(InputError, match="crop_seconds 31: this encoder takes at most 30 s at once"):
            train_encoder(config, StageContext(store, device="cpu"), labels, tmp_path / "out")


def test_distorted_audio_keeps_its_labels(store):
    labels = {r.id: np.arange(count_frames(r.num_samples), dtype=np.int16) for r in store.manifest}
    plain, loud = (
        MaskedPredictionTask(small_predictor(), store, labels, replace(CONFIG, augment=AugmentConfig(prob=prob)), 0)
        for prob in (0.0, 1.0)
    )
    for number in range(3):
        a, b = plain.batch(number), loud.batch(number)
        assert torch.equal(a["labels"], b["labels"]) and torch.equal(a["mask"], b["mask"])
        assert not torch.equal(a["wave"], b["wave"])


def test_standardised_waveforms(store, tmp_path):
    labels = {r.id: np.zeros(count_frames(r.num_samples), np.int16) for r in store.manifest}
    with new_artifact(tmp_path / "labels", "labels", config={}, seed=0, parents={}, metrics={}) as payload:
        save_arrays(payload / "labels.safetensors", labels)
    made = train_encoder(
        replace(CONFIG, normalize=True),
        StageContext(WaveformStore(store.manifest), device="cpu"),
        open_artifact(tmp_path / "labels"),
        tmp_path / "out",
    )
    encoder = load_encoder(made.path, device="cpu")
    np.testing.assert_allclose(encoder.encode([store[1] / 2])[0], encoder.encode([store[1]])[0], atol=1e-3)
