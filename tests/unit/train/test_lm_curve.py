"""Held-out losses on the way of a language model: when, at which cost, and what a stopped run keeps of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.artifact import Artifact, new_artifact, open_artifact
from syllablelm.lm.ngram import Likelihood
from syllablelm.lm.speech_lm import SpeechLM, typical_durations
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.scaling.runs import collect_run
from syllablelm.train.lm_stage import (
    RUN_FILE,
    HeldOutCurve,
    LanguageModelTask,
    LMConfig,
    LMShape,
    curve_steps,
    train_lm,
)
from syllablelm.train.loop import LoopConfig
from syllablelm.train.runlog import read_log

UNITS, STEPS = 12, 12
LOOP = LoopConfig(steps=STEPS, lr=2e-2, checkpoint_every=2, log_every=3)
# Dropout on: measuring must not disturb its draws.
CONFIG = LMConfig(LOOP, LMShape(1, 16, 2, 32, 64, dropout=0.1), 5.0, row_tokens=64, batch_tokens=128)


def units(count: int, seed: int) -> TokenStore:
    rng = np.random.default_rng(seed)
    rows = [(rng.integers(UNITS) + np.arange(40) * rng.integers(1, 3)).astype(np.int32) % UNITS for _ in range(count)]
    return TokenStore.from_arrays(rows, [np.full(40, 8, dtype=np.int32)] * count, TokenInfo(UNITS))


def saved(store: TokenStore, path: Path) -> Artifact:
    with new_artifact(path, "tokens", config={}, seed=0, parents={}, metrics={}) as folder:
        store.save(folder)
    return open_artifact(path, "tokens")


@pytest.fixture
def data(tmp_path: Path) -> tuple[Artifact, Artifact]:
    return saved(units(30, 0), tmp_path / "train"), saved(units(2, 1), tmp_path / "valid")


def record(path: Path) -> dict[str, Any]:
    return json.loads((path / RUN_FILE).read_text(encoding="utf-8"))


@given(
    steps=st.integers(1, 100_000), warmup=st.floats(0, 1), tokens=st.integers(1, 10**12), held_out=st.integers(0, 10**8)
)
def test_measuring_is_cheap_and_after_the_warm_up(steps: int, warmup: float, tokens: int, held_out: int) -> None:
    found = curve_steps(LoopConfig(steps=steps, warmup=warmup), tokens, held_out)
    assert found == sorted(set(found)) and len(found) <= 6
    assert all(max(warmup * steps, 1) <= step < steps for step in found)
    # A held-out token costs a third of one in training.
    assert len(found) * held_out / 3 <= 0.05 * tokens
    assert all(step >= math.floor(steps / 8) for step in found)


def test_steps_are_even_in_the_logarithm() -> None:
    loop = LoopConfig(steps=8000, warmup=0.08)
    assert curve_steps(loop, 10**9, 1000) == [round(8000 * 8 ** (-k / 7)) for k in range(6, 0, -1)]
    # Six would cost too much of the training.
    assert curve_steps(loop, 10**6, 10**5) == [round(8000 * 8**-0.5)]
    assert curve_steps(loop, 10**6, 10**6) == []
    assert curve_steps(replace(loop, warmup=0.5), 10**9, 1000)[0] > 4000


def test_the_way_is_written_beside_the_end_and_changes_nothing(data: tuple[Artifact, Artifact], tmp_path: Path) -> None:
    train, valid = data
    made = train_lm(CONFIG, train, tmp_path / "lm", valid=valid, device="cpu")
    alone = train_lm(CONFIG, train, tmp_path / "alone", device="cpu")
    kept = [[(line["step"], line["loss"]) for line in read_log(each.path)] for each in (made, alone)]
    assert kept[0] == kept[1] and len(kept[0]) == 4
    found = record(made.path)
    # 80 held-out tokens against 1,536 positions: two points, at 12 / 4 and 12 / 2.
    assert [tokens for tokens, *_ in found["curve"]] == [found["tokens"] * step // 12 for step in (3, 6)]
    assert "curve" not in record(alone.path)
    end = found["valid"]["model"]
    for _, by_token, by_second in found["curve"]:
        assert by_token > end["nats_per_token"]
        assert by_second == pytest.approx(by_token * 80 / (2 * 40 * 8 * 0.02))
    run = collect_run(made.path)
    assert [list(point) for point in run.curve] == found["curve"]


@pytest.mark.parametrize("stopped", [5, 6, 7, 9])
def test_a_resumed_run_has_the_way_of_one_that_was_not_stopped(
    data: tuple[Artifact, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: int
) -> None:
    """Stopped before, at and after the point at 6 steps; checkpoints are at even ones."""
    train, valid = data
    whole = train_lm(CONFIG, train, tmp_path / "whole", valid=valid, device="cpu")
    batch = LanguageModelTask.batch

    def fails(self: LanguageModelTask, number: int) -> Any:
        if number == stopped:
            raise RuntimeError("stopped")
        return batch(self, number)

    monkeypatch.setattr(LanguageModelTask, "batch", fails)
    with pytest.raises(RuntimeError, match="stopped"):
        train_lm(CONFIG, train, tmp_path / "lm", valid=valid, device="cpu")
    monkeypatch.undo()
    state = torch.load(tmp_path / ".lm.work" / "state.pt", weights_only=True)
    measured, evaluate = [], SpeechLM.evaluate

    def noted(self: SpeechLM, store: TokenStore) -> Likelihood:
        measured.append(store)
        return evaluate(self, store)

    monkeypatch.setattr(SpeechLM, "evaluate", noted)
    resumed = train_lm(CONFIG, train, tmp_path / "lm", valid=valid, device="cpu")
    assert record(resumed.path)["curve"] == record(whole.path)["curve"]
    # What lies before the checkpoint is not measured again; the last is the end's.
    assert len(measured) == sum(step > state["step"] for step in (3, 6)) + 1
    if state["step"] == 6:
        model: Any = CONFIG.shape.build(UNITS)
        model.load_state_dict({name.removeprefix("model."): value for name, value in state["model"].items()})
        store = TokenStore.open(valid.path)
        info = SpeechLM.load(whole.path, device="cpu").info
        there = evaluate(SpeechLM(model, info, typical_durations(store)), store)
        assert record(whole.path)["curve"][1][1] == pytest.approx(there.nats_per_token, rel=1e-5)


def test_what_an_earlier_try_left_is_not_taken(tmp_path: Path) -> None:
    """A run that died before its first checkpoint, then begun anew with other steps."""

    class Model:
        def __init__(self) -> None:
            self.model, self.nats = torch.nn.Linear(1, 1), 0.0

        def evaluate(self, store: object) -> Likelihood:
            assert not self.model.training
            self.nats += 1
            return Likelihood(self.nats, 1, 2.0)

    model: Any = Model()
    store: Any = None
    first = HeldOutCurve(model, store, [2, 4, 8], tmp_path)
    assert first.read() == {}
    for step in range(1, 9):
        model.model.train()
        first(step)
        assert model.model.training
    assert first.read() == {2: (1.0, 0.5), 4: (2.0, 1.0), 8: (3.0, 1.5)}
    second = HeldOutCurve(model, store, [3, 4, 9], tmp_path)
    second(3)
    assert second.read() == {3: (4.0, 2.0)}
    second(4)
    assert second.read() == {3: (4.0, 2.0), 4: (5.0, 2.5)}
