from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import soundfile
import torch

import syllablelm.core.models
from helpers.random_models import SHAPE, noise
from syllablelm import Segmentation, Tokenizer
from syllablelm.core.artifact import new_artifact, open_artifact
from syllablelm.core.errors import AudioError, FormatError, InputError
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.encoders.data2vec2 import Data2Vec2, Data2Vec2Encoder, Data2Vec2Shape
from syllablelm.encoders.hub import HubEncoder
from syllablelm.quantize import Codebook, pool_segments
from syllablelm.segment import minsum, minsum_dynamic
from syllablelm.tokenizer.released_checkpoint import save_released
from syllablelm.tokenizer.segment_rule import RULE_FILE, SegmentRule
from syllablelm.tokenizer.tokenizer import CODEBOOK_FILE

CLIPS = [noise(n, seed) for seed, n in enumerate([16_000, 399, 30_000, 400, 5_000, 720, 16_000])]


def encoder() -> HubEncoder:
    torch.manual_seed(0)
    return HubEncoder(SHAPE.build())


def codebook(dim: int = 32, units: int = 20) -> Codebook:
    rng = np.random.default_rng(0)
    return Codebook(rng.standard_normal((40, dim)).astype(np.float32), np.arange(40, dtype=np.int32) % units)


def tokenizer(rule: SegmentRule | None = None, **options) -> Tokenizer:
    return Tokenizer(encoder(), codebook(), rule or SegmentRule(), **options)


def saved(folder: Path, rule: SegmentRule | None = None) -> Path:
    path = folder / "tok"
    with new_artifact(path, "tokenizer", config={}, seed=0, parents={}, metrics={}) as payload:
        encoder().save(payload)
        codebook().save(payload / CODEBOOK_FILE)
        (payload / RULE_FILE).write_text(json.dumps(asdict(rule or SegmentRule())))
    return path


class TestEncode:
    def test_a_list_an_array_and_any_batch_agree(self):
        tok = tokenizer()
        expected = [tok.encode(clip) for clip in CLIPS]
        assert all(isinstance(seg, Segmentation) for seg in expected)
        assert tok.encode(CLIPS) == expected
        assert tok.encode(CLIPS[::-1]) == expected[::-1]
        assert tok.encode(tuple(CLIPS[:2])) == expected[:2]
        assert tok.encode([]) == []
        for seconds in (0.01, 2.0, 1000.0):
            assert tokenizer(batch_seconds=seconds).encode(CLIPS) == expected

    def test_features_of_a_single_array(self):
        tok = tokenizer()
        single = tok.features(CLIPS[2])
        assert isinstance(single, np.ndarray) and np.array_equal(single, tok.features([CLIPS[2]])[0])
        assert tok.segment(single) == tok.encode(CLIPS[2])

    def test_covers_every_frame_with_units(self):
        tok = tokenizer()
        for clip, seg in zip(CLIPS, tok.encode(CLIPS), strict=True):
            assert seg.num_frames == tok.encoder.num_frames(len(clip))
            assert (seg.hop, seg.sample_rate) == (320, 16_000)
            if seg.num_frames:
                assert seg.start[0] == 0 and seg.end[-1] == seg.num_frames
                assert (seg.start[1:] == seg.end[:-1]).all()
            assert seg.unit is not None and len(seg.unit) == len(seg)
            assert (seg.unit >= 0).all() and (seg.unit < 20).all()
        assert tok.num_units == 20

    @pytest.mark.parametrize(("samples", "frames"), [(1, 0), (399, 0), (400, 1), (719, 1), (720, 2)])
    def test_shortest_clips(self, samples, frames):
        seg = tokenizer().encode(noise(1000)[:samples])
        assert seg.num_frames == frames and len(seg) == min(frames, 1)
        assert seg.unit is not None and len(seg.unit) == len(seg)

    @pytest.mark.parametrize("rate", [2.0, 5.0, 6.25, 8.33, 12.5, 1000.0])
    def test_exact_counts(self, rate):
        tok = tokenizer(SegmentRule(rate=rate))
        for seg in tok.encode([CLIPS[0], CLIPS[2], CLIPS[4]]):
            assert len(seg) == min(round(rate * seg.num_frames / 50), seg.num_frames)

    def test_segments_are_pooled_and_looked_up(self):
        tok = tokenizer(SegmentRule(rate=5.0))
        feats = tok.features([CLIPS[2]])[0]
        cuts = minsum(feats, 9)  # 93 frames
        seg = tok.encode(CLIPS[2])
        assert seg.start.tolist() == cuts[:-1].tolist() and seg.end.tolist() == cuts[1:].tolist()
        pooled = pool_segments(feats, cuts[:-1], cuts[1:], drop_edges=True)
        assert seg.unit is not None and seg.unit.tolist() == codebook().assign(pooled).tolist()
        whole = tokenizer(SegmentRule(rate=5.0, drop_edges=False)).pool(feats, np.stack([cuts[:-1], cuts[1:]], axis=1))
        np.testing.assert_array_equal(whole, pool_segments(feats, cuts[:-1], cuts[1:], drop_edges=False))

    def test_released_rule(self):
        feats = tokenizer().features([CLIPS[2]])[0]
        delta = float(np.var(feats, axis=0).mean()) / 2
        rule = SegmentRule("released", delta=delta, quantile=0.6, min_length=3, max_length=35)
        cuts = minsum_dynamic(feats, delta, quantile=0.6, min_length=3, max_length=35)
        seg = tokenizer(rule).encode(CLIPS[2])
        assert [0, *seg.end.tolist()] == cuts.tolist() and 6 <= len(seg) <= 18
        assert len(tokenizer(replace(rule, delta=1e9)).encode(CLIPS[2])) == 6  # a third of .2 a frame
        for clip in CLIPS:
            assert tokenizer(rule).encode(clip).num_frames == tokenizer().encode(clip).num_frames

    def test_shortest_group(self):
        for rate in (6.25, 20.0):
            seg = tokenizer(SegmentRule(rate=rate, min_length=3)).encode(CLIPS[2])
            lengths = seg.end - seg.start
            # 37 groups of three do not fit in 93 frames.
            assert len(seg) == round(rate * 93 / 50) and lengths.min() >= (3 if rate == 6.25 else 2)

    def test_merging_repeats(self):
        one = Codebook(np.ones((2, 32), dtype=np.float32), np.zeros(2, dtype=np.int32))
        seg = Tokenizer(encoder(), one, SegmentRule(merge=True)).encode(CLIPS[2])
        assert (seg.start.tolist(), seg.end.tolist(), seg.num_frames) == ([0], [93], 93)
        assert len(Tokenizer(encoder(), one, SegmentRule()).encode(CLIPS[2])) == 12

    def test_without_a_codebook(self):
        tok = Tokenizer(encoder(), None, SegmentRule(merge=True))
        assert tok.num_units is None
        for seg, other in zip(tok.encode(CLIPS), tokenizer().encode(CLIPS), strict=True):
            assert seg.unit is None and seg.boundaries.tolist() == other.boundaries.tolist()

    def test_silence(self):
        seg = tokenizer().encode(np.zeros(16_000, dtype=np.float32))
        assert seg.num_frames == 49 and len(seg) == 6

    def test_double_precision(self):
        tok = tokenizer()
        assert tok.encode(CLIPS[0].astype(np.float64)) == tok.encode(CLIPS[0])


class TestFeatures:
    def test_shapes_and_order(self):
        tok = tokenizer(batch_seconds=1.0)
        feats = tok.features(CLIPS)
        assert [f.shape for f in feats] == [(tok.encoder.num_frames(len(clip)), 32) for clip in CLIPS]
        assert all(f.dtype == np.float32 for f in feats)
        for clip, found in zip(CLIPS, feats, strict=True):
            if len(found):
                np.testing.assert_allclose(found, tok.encoder.encode([clip])[0], atol=1e-4)


class TestRecordings:
    """One recording in any form, and lists of them; all forms are tested with ``load_audio``."""

    def test_encode_and_features(self, tmp_path):
        tok, wave = tokenizer(), CLIPS[2]
        expected, feats = tok.encode(wave), tok.features(wave)
        save_audio(tmp_path / "a.flac", wave)
        file = tok.encode(load_audio(tmp_path / "a.flac"))
        forms = [torch.from_numpy(wave)[None], (wave, 16_000), {"array": wave, "sampling_rate": 16_000}]
        for audio in forms:
            assert tok.encode(audio) == expected
            np.testing.assert_array_equal(tok.features(audio), feats)
            np.testing.assert_array_equal(tok.encoder.encode([audio])[0], feats)
            both = tok.encode_with_features(audio)
            assert both[0] == expected and np.array_equal(both[1], feats)
        assert tok.encode(tmp_path / "a.flac") == tok.encode((tmp_path / "a.flac").read_bytes()) == file
        batch = tok.encode([*forms, str(tmp_path / "a.flac"), CLIPS[0]])
        assert batch == [expected] * 3 + [file, tok.encode(CLIPS[0])]
        assert isinstance(tok.encode(tensor for tensor in torch.from_numpy(wave)[None]), list)

    def test_stereo_is_one_recording(self):
        tok = tokenizer()
        both = torch.from_numpy(np.stack([CLIPS[0], CLIPS[6]]))
        assert tok.encode(both) == tok.encode((CLIPS[0] + CLIPS[6]) / 2)
        assert tok.encode([both, both.T.numpy()]) == [tok.encode(both)] * 2

    def test_a_rate_resamples(self, tmp_path):
        tok, wave = tokenizer(), CLIPS[2]
        save_audio(tmp_path / "a.wav", wave, 44_100)
        file = load_audio(tmp_path / "a.wav")
        expected = tok.encode(file)
        pcm = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
        assert tok.encode(pcm, sampling_rate=44_100) == tok.encode((pcm, 44_100)) == expected
        np.testing.assert_array_equal(tok.features([pcm], sampling_rate=44_100)[0], tok.features(file))
        blocks = np.array_split(pcm, 7)
        assert Segmentation.join(tok.stream(blocks, sampling_rate=44_100)) == expected
        assert Segmentation.join(tok.stream(tmp_path / "a.wav")) == expected
        with pytest.raises(InputError, match="has 44100 Hz, but sampling_rate=16000 was passed"):
            tok.encode(tmp_path / "a.wav", sampling_rate=16_000)

    def test_what_a_notebook_plays(self, tmp_path):
        tok, wave = tokenizer(), CLIPS[2].copy()
        save_audio(tmp_path / "a.wav", wave)
        seg, of_file, of_tensor = tok.encode(wave), tok.encode(tmp_path / "a.wav"), tok.encode(torch.from_numpy(wave))
        np.testing.assert_array_equal(seg.audio, wave)
        np.testing.assert_array_equal(of_file.audio, load_audio(tmp_path / "a.wav"))
        assert of_tensor.audio is None, "the tensor was of this call alone"
        assert tok.encode([wave])[0].audio is None
        del wave
        assert seg.audio is None, "a segmentation does not keep a recording in memory"


def test_repr_names_encoder_rule_units_and_device(tmp_path):
    shown = repr(tokenizer(SegmentRule(rate=5.0)))
    assert shown == "<Tokenizer: HubEncoder layer 2, minsum at 5 per second, 20 units, 50 frames per second, cpu>"
    assert repr(Tokenizer(encoder(), None, SegmentRule("zerosyl"))) == (
        "<Tokenizer: HubEncoder layer 2, zerosyl, no units, 50 frames per second, cpu>"
    )
    assert repr(Tokenizer.load(saved(tmp_path), device="cpu")).startswith(f"<Tokenizer {tmp_path / 'tok'}: HubEncoder")
    assert repr(Tokenizer.load("tiny", device="cpu")).startswith("<Tokenizer tiny: HubEncoder layer ")


class TestErrors:
    @pytest.mark.parametrize(
        ("bad", "error", "match"),
        [
            (np.array([0.0, np.nan, 0.1], dtype=np.float32), AudioError, "waveform 1"),
            (np.full(500, np.inf), AudioError, "waveform 1"),
            (np.zeros((3, 16_000), dtype=np.float32), InputError, r"waveform 1: has shape \(3, 16000\)"),
            (np.zeros(16_000, dtype=np.int64), InputError, "waveform 1: has int64 samples"),
            (np.zeros(0, dtype=np.float32), AudioError, "waveform 1: holds no samples"),
            ("a.wav", AudioError, "a.wav: no such file"),
            (None, InputError, "waveform 1: a NoneType of dtype object is no recording"),
        ],
    )
    def test_unusable_waveforms_are_named(self, bad, error, match):
        with pytest.raises(error, match=match) as caught:
            tokenizer().encode([CLIPS[0], bad])
        assert "\n" not in str(caught.value)

    def test_a_batch_in_one_array(self):
        with pytest.raises(InputError, match="pass a batch of recordings as a list"):
            tokenizer().encode(np.zeros((3, 16_000), dtype=np.float32))

    def test_codebook_of_another_encoder(self):
        with pytest.raises(InputError, match="the codebook has 48 dims, the features have 32: it is of another"):
            Tokenizer(encoder(), codebook(dim=48), SegmentRule())


class TestLoad:
    def test_saved_equals_built(self, tmp_path, capfd):
        rule = SegmentRule(rate=4.0, merge=True)
        tok = Tokenizer.load(saved(tmp_path, rule), device="cpu")
        assert tok.rule == rule and tok.num_units == 20 and len(tok.digest) == 16
        assert tok.encode(CLIPS) == tokenizer(rule).encode(CLIPS)
        assert capfd.readouterr() == ("", "")

    def test_another_rate(self, tmp_path):
        path = saved(tmp_path, SegmentRule("released", drop_edges=False))
        tok = Tokenizer.load(str(path), device="cpu", rate=10)
        assert tok.rule == SegmentRule("rate", rate=10.0, drop_edges=False)
        assert len(tok.encode(CLIPS[2])) == 19

    def test_another_rule(self, tmp_path):
        path = saved(tmp_path)
        peaks = Tokenizer.load(path, device="cpu", rule="peaks", rate=4.0)
        assert (peaks.rule.method, peaks.rule.rate) == ("peaks", 4.0)
        released = Tokenizer.load(path, device="cpu", rule="released", delta=0.01)
        assert (released.rule.method, released.rule.delta) == ("released", 0.01)
        with pytest.raises(InputError, match=r"unknown rule 'fast': .*choose one of even, frames"):
            Tokenizer.load(path, rule="fast")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="delta 0: must be above 0"):
            Tokenizer.load(path, rule="released", delta=0)

    def test_peaks_are_at_most_as_many_as_asked(self):
        seg = tokenizer(SegmentRule("peaks", rate=5.0)).encode(CLIPS[2])
        assert 1 < len(seg) <= round(5.0 * seg.num_frames / 50)

    @pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf")])
    def test_unusable_rates(self, tmp_path, rate):
        with pytest.raises(InputError, match="must be above 0, and finite"):
            Tokenizer.load(saved(tmp_path), rate=rate)

    def test_bundled_names(self, tmp_path, monkeypatch):
        saved(tmp_path)
        monkeypatch.setattr(syllablelm.core.models, "BUNDLED", tmp_path)
        assert Tokenizer.load("tok", device="cpu").num_units == 20
        with pytest.raises(FormatError, match=r"other: no such model; give a folder, .* bundled name \(tok\)"):
            Tokenizer.load("other")

    def test_hub_ids(self, tmp_path, monkeypatch):
        with pytest.raises(FormatError, match="someone/tok: neither a local path nor a model that the hub") as caught:
            Tokenizer.load("someone/tok")
        assert "\n" not in str(caught.value)
        asked = []
        monkeypatch.setattr(
            huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(saved(tmp_path))
        )
        assert Tokenizer.load("someone/tok", device="cpu").num_units == 20 and asked == ["someone/tok"]

    def test_released_files(self, tmp_path):
        torch.manual_seed(0)
        shape = Data2Vec2Shape(channels=16, dim=32, heads=2, feed_forward=32)
        model = Data2Vec2Encoder(Data2Vec2(shape))
        path = save_released(tmp_path, "SylBoost_625Hz", model, codebook())
        tok = Tokenizer.load(path, device="cpu")
        assert (tok.rule.method, tok.rule.delta, tok.rule.merge, tok.num_units) == ("released", 0.0028, True, 20)
        feats = model.encode([CLIPS[2]])[0]
        cuts = minsum_dynamic(feats, 0.0028)
        units = codebook().assign(pool_segments(feats, cuts[:-1], cuts[1:], drop_edges=True))
        assert tok.encode(CLIPS[2]) == Segmentation.from_boundaries(cuts, unit=units).deduplicate()
        # The release cannot encode clips of fewer than 15 frames.
        assert [len(seg) for seg in tok.encode([noise(400), noise(2400), noise(399)])] == [1, 1, 0]
        same = Tokenizer.load(path, device="cpu", rule="released", delta=0.5)
        assert same.rule == replace(tok.rule, delta=0.5)
        assert same.digest == tok.digest
        (tmp_path / "other").mkdir()
        other = save_released(tmp_path / "other", "SylBoost_625Hz", model, codebook(units=19))
        assert Tokenizer.load(other, device="cpu").digest not in ("", tok.digest)
        assert Tokenizer.load(path, device="cpu", rate=5.0).rule.method == "minsum"
        with pytest.raises(InputError, match="delta 0"):
            Tokenizer.load(path, device="cpu", delta=0)

    def test_nothing_bundled(self, tmp_path, monkeypatch):
        monkeypatch.setattr(syllablelm.core.models, "BUNDLED", tmp_path / "bundled")
        with pytest.raises(FormatError, match="none installed"):
            Tokenizer.load("small")

    def fails(self, path: Path, match: str) -> None:
        with pytest.raises(FormatError, match=match) as caught:
            Tokenizer.load(path, device="cpu")
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)

    def test_other_folders(self, tmp_path):
        self.fails(tmp_path, "not an artifact folder")
        with new_artifact(tmp_path / "e", "encoder", config={}, seed=0, parents={}, metrics={}):
            pass
        self.fails(tmp_path / "e", "an encoder artifact|a encoder artifact")

    @pytest.mark.parametrize("name", [RULE_FILE, CODEBOOK_FILE, "config.json", "model.safetensors"])
    def test_missing_files(self, tmp_path, name):
        (saved(tmp_path) / name).unlink()
        self.fails(tmp_path / "tok", "has no|no weights|not a folder|cannot be read")

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("{", "not JSON"),
            ("[1]", "not a JSON object"),
            ('{"rates": 5.0}', "unknown key 'rates'; did you mean 'rate'"),
            ('{"rate": "fast"}', "rate: expected float"),
            ('{"method": "magic"}', "unknown rule 'magic': choose one of even, frames"),
        ],
    )
    def test_unusable_rules(self, tmp_path, text, match):
        (saved(tmp_path) / RULE_FILE).write_text(text)
        self.fails(tmp_path / "tok", match)

    def test_damaged_codebook(self, tmp_path):
        (saved(tmp_path) / CODEBOOK_FILE).write_bytes(b"nonsense")
        self.fails(tmp_path / "tok", "not a codebook")


class TestFromParts:
    def test_units_of_every_frame(self, tmp_path):
        centres = np.random.default_rng(1).standard_normal((10, 32)).astype(np.float32)
        np.save(tmp_path / "km.npy", centres)
        encoder().save(tmp_path)
        tok = Tokenizer.from_parts(tmp_path, tmp_path / "km.npy", layer=1, device="cpu")
        feats = encoder().encode([CLIPS[2]], layers=[1])[0][1]
        labels = [int(((frame - centres) ** 2).sum(1).argmin()) for frame in feats]
        runs = [(unit, len(list(group))) for unit, group in itertools.groupby(labels)]
        seg = tok.encode(CLIPS[2])
        assert seg.unit is not None and list(zip(seg.unit, seg.end - seg.start, strict=True)) == runs
        assert seg.num_frames == len(labels) > len(runs) > 1
        apart = Tokenizer.from_parts(encoder(), tok.codebook, rule=SegmentRule("frames"))
        assert len(apart.encode(CLIPS[2])) == 93
        with pytest.raises(FormatError, match="no such codebook file"):
            Tokenizer.from_parts(tmp_path, tmp_path / "none.npy", device="cpu")

    def test_slower_frames(self):
        torch.manual_seed(0)
        half = HubEncoder(replace(SHAPE, conv_stride=(10, 4, 4, 4)).build())
        tok = Tokenizer.from_parts(half, None, rule=SegmentRule(rate=5.0))
        assert (tok.frame_rate, tok.grid.num_frames) == (25.0, 1500)
        seg = tok.encode(CLIPS[2])
        assert (seg.num_frames, seg.hop, len(seg)) == (47, 640, 9) and seg.unit is None


class TestSave:
    def test_saved_and_loaded(self, tmp_path):
        tok = tokenizer(SegmentRule("peaks", rate=4.0, merge=True))
        tok.save(tmp_path / "new")
        again = Tokenizer.load(tmp_path / "new", device="cpu")
        assert again.rule == tok.rule and again.encode(CLIPS) == tok.encode(CLIPS) and again.digest
        again.save(tmp_path / "copy")
        copy = open_artifact(tmp_path / "copy", "tokenizer")
        assert copy.record["parents"] == {"tokenizer": again.digest}

    def test_nothing_is_overwritten_or_half_written(self, tmp_path):
        with pytest.raises(InputError, match="exists; choose another folder"):
            tokenizer().save(tmp_path)
        with pytest.raises(InputError, match="a tokenizer without a codebook cannot be saved"):
            Tokenizer(encoder(), None, SegmentRule()).save(tmp_path / "new")
        other = tokenizer()
        other.encoder = object()  # type: ignore[assignment]
        with pytest.raises(InputError, match="object has no form in which it could be saved"):
            other.save(tmp_path / "new")
        assert list(tmp_path.iterdir()) == []
