"""Training of language models: packed equals alone, runs resume, the folder opens with transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from several import run_two
from syllablelm.artifact import Artifact, new_artifact, open_artifact
from syllablelm.errors import InputError
from syllablelm.lm.speech_lm import SpeechLM, load_opt, typical_durations
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.train.lm import (
    RUN_FILE,
    LanguageModelTask,
    LMConfig,
    LMShape,
    count_parameters,
    save_lm,
    take_text_layers,
    train_lm,
)
from syllablelm.train.loop import LoopConfig, read_log

UNITS = 20
SHAPE = LMShape(layers=2, dim=32, heads=4, feed_forward=64, positions=64, dropout=0.0)
CONFIG = LMConfig(LoopConfig(steps=60, lr=5e-3, log_every=5), SHAPE, 5.0, row_tokens=64, batch_tokens=512)


def markov(count: int, seed: int) -> TokenStore:
    table = np.random.default_rng(7).dirichlet(np.full(UNITS, 0.1), size=UNITS)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        row = [int(rng.integers(UNITS))]
        while len(row) < 40:
            row.append(int(rng.choice(UNITS, p=table[row[-1]])))
        rows.append(np.array(row, dtype=np.int32))
    return TokenStore.from_arrays(rows, [np.full(40, 8, dtype=np.int32) for _ in rows], TokenInfo(UNITS))


def saved(store: TokenStore, path: Path) -> Artifact:
    with new_artifact(path, "tokens", config={}, seed=0, parents={}, metrics={}) as folder:
        store.save(folder)
    return open_artifact(path, "tokens")


def test_packed_loss_is_the_loss_of_each_crop_alone():
    store = markov(30, 0)
    torch.manual_seed(0)
    model = SHAPE.build(UNITS)
    task = LanguageModelTask(model, store, CONFIG, seed=0)
    batch = task.batch(2)
    task.module.eval()
    with torch.inference_mode():
        packed = task.module(batch)
    crops = [
        batch["targets"][r][batch["crop"][r] == c].numpy()
        for r in range(len(batch["crop"]))
        for c in range(1, int(batch["crop"][r].max()) + 1)
    ]
    assert len(crops) > len(batch["crop"])
    alone = SpeechLM(model, store.info, typical_durations(store))._score_tokens(crops)
    assert float(packed["nats"]) == pytest.approx(-sum(row.sum() for row in alone), rel=1e-4)
    assert int(packed["targets"]) == sum(len(row) for row in crops)


def test_training_beats_unigrams_resumes_and_opens_with_transformers(tmp_path):
    train, valid = saved(markov(120, 0), tmp_path / "train"), saved(markov(30, 1), tmp_path / "valid")
    artifact = train_lm(CONFIG, train, tmp_path / "lm", valid=valid, device="cpu")
    scores = artifact.metrics["valid"]
    assert scores["model"]["nats_per_token"] < scores["unigram"]["nats_per_token"] - 0.3
    assert scores["model"]["tokens"] == scores["bigram"]["tokens"] == 30 * 40

    from transformers.models.auto.modeling_auto import AutoModelForCausalLM

    speech_lm = SpeechLM.load(tmp_path / "lm", device="cpu")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    tokens = torch.tensor([[UNITS, 3, 1, 4]])
    torch.testing.assert_close(opened(tokens).logits, speech_lm.model(tokens).logits)

    record = json.loads((tmp_path / "lm" / RUN_FILE).read_text())
    assert record["flops"] == 6 * record["params"] * record["tokens"]
    assert record["tokens"] == 60 * 512
    assert record["tokens_per_second"] == pytest.approx(record["seconds_per_second"] / 0.16)
    assert 0 < record["mfu"] < 1
    assert record["mfu"] == pytest.approx(6 * record["params"] * record["tokens_per_second"] / record["peak_flops"])
    log = read_log(tmp_path / "lm")
    assert [line["step"] for line in log] == list(range(5, 61, 5))
    assert log[-1]["nats_per_second"] == pytest.approx(log[-1]["nats_per_token"] / 0.16, rel=1e-3)


class _Stopped(Exception):
    pass


def test_a_stopped_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    train = saved(markov(30, 0), tmp_path / "train")
    # Dropout on: its draws must resume too.
    shape = LMShape(1, 16, 2, 32, 64, dropout=0.1)
    loop = LoopConfig(steps=9, lr=5e-3, checkpoint_every=2, log_every=3)
    config = LMConfig(loop, shape, 5.0, row_tokens=64, batch_tokens=128)
    whole = train_lm(config, train, tmp_path / "whole", device="cpu")
    batch = LanguageModelTask.batch

    def fails(self, number):
        if number == 6:
            raise _Stopped
        return batch(self, number)

    monkeypatch.setattr(LanguageModelTask, "batch", fails)
    with pytest.raises(_Stopped):
        train_lm(config, train, tmp_path / "resumed", device="cpu")
    assert (tmp_path / ".resumed.work" / "state.pt").exists() and not (tmp_path / "resumed").exists()
    monkeypatch.undo()
    resumed = train_lm(config, train, tmp_path / "resumed", device="cpu")
    losses = [[(line["step"], line["loss"]) for line in read_log(made.path)] for made in (whole, resumed)]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    for one, other in zip(*(load_opt(made.path).parameters() for made in (whole, resumed)), strict=True):
        assert torch.equal(one, other)


TWO = """
import sys
from pathlib import Path
from syllablelm.artifact import open_artifact
from syllablelm.train.lm import LMConfig, LMShape, train_lm
from syllablelm.train.loop import LoopConfig

folder = Path(sys.argv[1])
config = LMConfig(LoopConfig(steps=6, lr=5e-3, log_every=2), LMShape(1, 16, 2, 32, 64, 0.0), 5.0, 64, 128)
train_lm(config, open_artifact(folder / "train"), folder / "two", device="cpu")
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does_from_two_micro_batches(tmp_path):
    train = saved(markov(30, 0), tmp_path / "train")
    script = tmp_path / "two.py"
    script.write_text(TWO, encoding="utf-8")
    done = run_two(script, tmp_path)
    assert done.returncode == 0, done.stderr
    loop = LoopConfig(steps=6, lr=5e-3, log_every=2, accumulate=2)
    train_lm(LMConfig(loop, LMShape(1, 16, 2, 32, 64, 0.0), 5.0, 64, 128), train, tmp_path / "one", device="cpu")
    losses = [[line["loss"] for line in read_log(tmp_path / name)] for name in ("two", "one")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and len(losses[0]) == 3
    records = [json.loads((tmp_path / name / RUN_FILE).read_text()) for name in ("two", "one")]
    assert records[0]["tokens"] == records[1]["tokens"] == 6 * 2 * 128
    assert [record["processes"] for record in records] == [2, 1]


def test_parameters_without_embeddings_by_hand():
    model = SHAPE.build(UNITS)
    block = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32
    embeddings = (UNITS + 1) * 32 + (64 + 2) * 32
    assert count_parameters(model) == (2 * block + 2 * 32, 2 * block + 2 * 32 + embeddings)


def test_base_shape_of_the_paper_has_its_parameters():
    with torch.device("meta"):
        counts = [count_parameters(shape.build(4096))[0] for shape in (LMShape(), LMShape(24, 1024, 16, 4096))]
    assert [round(count / 1e6) for count in counts] == [85, 302]


def test_layers_of_a_text_model_are_taken_over(tmp_path):
    torch.manual_seed(1)
    text = SHAPE.build(500)
    save_lm(SpeechLM(text, TokenInfo(500), np.ones(500, dtype=np.int32)), tmp_path)
    torch.manual_seed(2)
    model = SHAPE.build(UNITS)
    take_text_layers(model, str(tmp_path))
    name = "model.decoder.layers.1.fc1.weight"
    assert torch.equal(model.state_dict()[name], text.state_dict()[name])
    with pytest.raises(InputError, match="another shape"):
        take_text_layers(LMShape(2, 64, 4, 64, 64).build(UNITS), str(tmp_path))
    with pytest.raises(InputError, match="more layers"):
        take_text_layers(LMShape(1, 32, 4, 64, 64).build(UNITS), str(tmp_path))


def test_crops_longer_than_the_context_are_refused_before_training(tmp_path):
    train = saved(markov(5, 0), tmp_path / "train")
    config = LMConfig(LoopConfig(steps=1), LMShape(1, 32, 4, 64, positions=16), 25.0, row_tokens=64, batch_tokens=64)
    with pytest.raises(InputError, match="up to 40 tokens"):
        train_lm(config, train, tmp_path / "lm", device="cpu")
    assert not (tmp_path / "lm").exists()


def test_saved_folder_of_another_kind_is_refused(tmp_path):
    store = markov(3, 0)
    save_dir = tmp_path / "x"
    with new_artifact(save_dir, "tokens", config={}, seed=0, parents={}, metrics={}) as folder:
        store.save(folder)
        save_lm(SpeechLM(SHAPE.build(UNITS), store.info, typical_durations(store)), folder)
    with pytest.raises(Exception, match="lm"):
        SpeechLM.load(save_dir)
