from __future__ import annotations

import json
import math
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers import toy_task
from helpers.random_models import SHAPE, small_corpus, small_predictor
from helpers.toy_task import ToyTask, interrupt_at
from helpers.two_processes import run_two
from syllablelm.core.errors import FormatError, InputError
from syllablelm.train.batches import WaveformStore
from syllablelm.train.loop import LoopConfig, lr_factor, parameter_groups, run_loop
from syllablelm.train.pretrain import EncoderConfig, MaskedPredictionTask
from syllablelm.train.runlog import read_log

GOLDEN = Path(__file__).parents[2] / "golden" / "masked_prediction_losses.json"


def config(steps: int = 20, **options) -> LoopConfig:
    return LoopConfig(steps, **{"lr": 0.05, "log_every": 4, "checkpoint_every": 10, **options})


def run(task, folder: Path, options: LoopConfig | None = None, fingerprint: str = "toy", seed: int = 0):
    return run_loop(task, options or config(), folder, seed=seed, fingerprint=fingerprint, device="cpu")


def weights(task: ToyTask) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in task.module.state_dict().items()}


def log_without_speed(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k != "seconds_per_second"} for line in read_log(folder)]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


class TestSchedule:
    def test_linear(self):
        options = LoopConfig(100, warmup=0.1)
        factors = [lr_factor(step, options) for step in range(100)]
        assert factors[:11] == pytest.approx([0.1 * n for n in range(1, 11)] + [1.0])
        assert factors[10:] == pytest.approx([1 - n / 90 for n in range(90)])

    def test_cosine_down_to_a_floor(self):
        options = LoopConfig(100, warmup=0.2, schedule="cosine", final_lr=0.1)
        assert lr_factor(19, options) == lr_factor(20, options) == 1.0
        assert lr_factor(60, options) == pytest.approx(0.1 + 0.9 * 0.5)
        assert lr_factor(40, options) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5)))
        assert lr_factor(100, options) == pytest.approx(0.1)

    @pytest.mark.parametrize("options", [LoopConfig(1), LoopConfig(2, warmup=0.0), LoopConfig(3, warmup=1.0)])
    def test_shortest_runs(self, options):
        factors = [lr_factor(step, options) for step in range(options.steps)]
        assert all(0 < factor <= 1 for factor in factors) and max(factors) == 1.0

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *((key, 0) for key in ("steps", "accumulate", "checkpoint_every", "log_every", "batch_seconds", "clip")),
            *((key, value) for key in ("batch_seconds", "clip", "eps") for value in (-1.0, math.nan, math.inf)),
            *((key, value) for key in ("lr", "weight_decay", "final_lr") for value in (-0.1, math.nan, math.inf)),
            *((key, value) for key in ("beta1", "beta2", "warmup") for value in (-0.1, math.nan, 1.5)),
        ],
    )
    def test_unusable(self, key, value):
        with pytest.raises(InputError, match=rf"^{key} {value}: must be "):
            LoopConfig(**{"steps": 5, key: value})


class TestParameterGroups:
    def test_only_matrices_are_decayed(self):
        module = nn.Sequential(nn.Conv1d(2, 3, 5), nn.LayerNorm(3), nn.Linear(3, 4), nn.Linear(4, 4))
        module[3].requires_grad_(False)
        decayed, kept = parameter_groups(module, 0.3)
        assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
        assert [p.shape for p in decayed["params"]] == [module[0].weight.shape, module[2].weight.shape]
        assert [p.ndim for p in kept["params"]] == [1] * 4

    def test_decay_reaches_the_weights(self, tmp_path):
        ends = {}
        for decay in (0.0, 1.0):
            task = ToyTask()
            run(task, tmp_path / str(decay), config(weight_decay=decay))
            ends[decay] = weights(task)["layers.0.weight"].norm().item()
        assert ends[1.0] < 0.9 * ends[0.0]


class TestRun:
    def test_learns_and_logs(self, tmp_path):
        task = ToyTask()
        values = run(task, tmp_path, config(60))
        lines = read_log(tmp_path)
        assert [line["step"] for line in lines] == list(range(4, 61, 4))
        assert lines[-1]["loss"] < 0.6 * lines[0]["loss"] and not task.module.training
        assert values.pop("wall_seconds") > 0
        assert {"step": 60, **{k: round(v, 6) for k, v in values.items()}} == lines[-1]
        assert lines[-1]["lr"] == pytest.approx(0.05 * lr_factor(59, config(60)), abs=1e-6)
        assert lines[0].keys() == {"step", "loss", "close", "seconds_per_second", "lr", "grad_norm"}
        assert task.asked == list(range(60))

    def test_logged_numbers_are_sums_over_the_window(self, tmp_path):
        frozen = ToyTask()
        run(frozen, tmp_path, config(8, lr=0.0))
        outputs = [frozen.module(frozen.batch(n)) for n in range(8)]
        for line, window in zip(read_log(tmp_path), (outputs[:4], outputs[4:]), strict=True):
            assert line["loss"] == pytest.approx(sum(float(o["loss"].detach()) for o in window) / 4, abs=2e-6)
            assert line["close"] == pytest.approx(sum(int(o["close"]) for o in window) / 32, abs=2e-6)

    def test_gradients_are_clipped(self, tmp_path):
        steps = {}
        for clip in (1e-9, 1e9):
            task = ToyTask()
            before = weights(task)
            run(task, tmp_path / str(clip), config(1, clip=clip, eps=1.0, weight_decay=0.0, warmup=0.0))
            moved = {name: (tensor - before[name]).abs().max() for name, tensor in weights(task).items()}
            steps[clip] = float(max(moved.values()))
        assert steps[1e-9] < 1e-6 < 1e-3 < steps[1e9]

    def test_accumulated_halves_equal_whole_batches(self, tmp_path):
        whole, halves = ToyTask(), ToyTask(halves=True)
        run(whole, tmp_path / "whole")
        run(halves, tmp_path / "halves", config(accumulate=2))
        assert halves.asked == list(range(40))
        for name, tensor in weights(whole).items():
            assert torch.allclose(tensor, weights(halves)[name], atol=1e-5), name
        for a, b in zip(log_without_speed(tmp_path / "whole"), log_without_speed(tmp_path / "halves"), strict=True):
            assert a == pytest.approx(b, abs=1e-5)

    def test_seed_decides(self, tmp_path):
        runs = []
        for number, seed in enumerate((0, 0, 1)):
            task = ToyTask(dropout=0.5)
            run(task, tmp_path / str(number), seed=seed)
            runs.append(weights(task))
        assert_same(runs[0], runs[1])
        assert not torch.equal(runs[0]["layers.0.weight"], runs[2]["layers.0.weight"])

    def test_precisions_follow_each_other_in_one_process(self, tmp_path):
        losses = {}
        for precision in ("float32", "bfloat16", "auto"):
            losses[precision] = run(ToyTask(), tmp_path / precision, config(precision=precision))["loss"]
        assert losses["auto"] == losses["float32"] != losses["bfloat16"]
        assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)

    def test_an_error_in_a_batch_arrives(self, tmp_path):
        task = ToyTask()
        task.batch = lambda number: (_ for _ in ()).throw(InputError("no such recording"))  # type: ignore[method-assign]
        with pytest.raises(InputError, match="no such recording"):
            run(task, tmp_path)

    def test_trains_where_it_was_asked_to(self, tmp_path, monkeypatch):
        # No other device is at hand than "meta", which computes nothing and knows no autocast: one step is begun.
        monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())
        task = ToyTask()
        seen = []

        def look(module, inputs) -> None:
            seen.extend([inputs[0]["x"].device.type, *(p.device.type for p in module.parameters())])
            raise RuntimeError("seen")

        task.module.register_forward_pre_hook(look)
        with pytest.raises(RuntimeError, match="seen"):
            run_loop(task, config(), tmp_path, seed=0, fingerprint="", device=torch.device("meta"))
        assert set(seen) == {"meta"} and len(seen) > 5


class TestDivergence:
    """Every step is looked at, not only those that are logged."""

    def check(self, task: ToyTask, folder: Path, what: str, step: int, saved: int, **options) -> None:
        message = f"toys: the {what} is not finite at step {step}; lower the learning rate .* remove {folder}"
        with pytest.raises(InputError, match=message) as caught:
            run_loop(
                task,
                config(log_every=100, checkpoint_every=2, **options),
                folder,
                seed=0,
                fingerprint="",
                device="cpu",
                label="toys",
            )
        assert "\n" not in str(caught.value) and len(task.asked) <= step * options.get("accumulate", 1) + 1
        if not saved:
            assert not (folder / "state.pt").exists()
            return
        state = torch.load(folder / "state.pt", weights_only=True)
        assert state["step"] == saved
        assert all(bool(tensor.isfinite().all()) for tensor in state["model"].values())

    def test_loss(self, tmp_path):
        self.check(ToyTask(), tmp_path, "loss", 2, 0, lr=1e30)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_loss_of_one_micro_batch(self, tmp_path, value):
        task = ToyTask()
        forward = task.module.forward
        # The fifth step's second.
        task.module.forward = lambda batch: {
            **(out := forward(batch)),
            "loss": out["loss"] * (value if task.module.passes == 10 else 1.0),
        }
        self.check(task, tmp_path, "loss", 5, 4, accumulate=2)

    def test_gradient_of_a_finite_loss(self, tmp_path):
        task = ToyTask()
        forward = task.module.forward

        def rooted(batch):
            output = forward(batch)
            if task.module.passes == 4:
                # The root of zero is zero, and its slope is infinite.
                output["loss"] = (output["loss"] - output["loss"].detach()).abs().sqrt()
            return output

        task.module.forward = rooted
        self.check(task, tmp_path, "gradient", 4, 2)

    def test_state_behind_a_finite_loss(self, tmp_path):
        task = ToyTask()
        task.module.register_buffer("statistic", torch.zeros(2))

        def spoil(number: int) -> None:
            if number == 3:
                task.module.statistic[1] = float("nan")

        task.module.at_forward = spoil
        self.check(task, tmp_path, "model's state", 4, 2)


class TestBfloat16:
    """On the CPU too the loop computes in half precision where it is asked to; the weights stay in single."""

    def test_trains_and_resumes_to_the_same_end(self, tmp_path):
        def task(name: str, stop: int = 0) -> MaskedPredictionTask:
            made = tiny_task(tmp_path / name)
            if stop:
                batch = made.batch
                # The batch is made while the one before it is computed.
                interrupt = interrupt_at(stop)
                made.batch = lambda number: (interrupt(number), batch(number))[1]  # type: ignore[method-assign]
            return made

        kinds = set()
        straight = task("straight")
        straight.module.model.head.projection.register_forward_hook(lambda module, inputs, out: kinds.add(out.dtype))
        options = replace(straight.config.loop, precision="bfloat16")
        run(straight, tmp_path / "straight", options)
        assert kinds == {torch.bfloat16}
        assert {p.dtype for p in straight.module.parameters()} == {torch.float32}
        losses = [line["loss"] for line in read_log(tmp_path / "straight")]
        assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
        golden = json.loads(GOLDEN.read_text())
        assert losses == pytest.approx(golden, rel=0.05) and losses != pytest.approx(golden, abs=1e-4)

        with pytest.raises(KeyboardInterrupt):
            run(task("stopped", stop=9), tmp_path / "stopped", options)
        assert 5 < len(read_log(tmp_path / "stopped")) < 15
        resumed = task("stopped")
        run(resumed, tmp_path / "stopped", options)
        assert_same(resumed.module.state_dict(), straight.module.state_dict())
        assert log_without_speed(tmp_path / "stopped") == log_without_speed(tmp_path / "straight")


class TestStopAndResume:
    @pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("stop", [7, 8, 13])
    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_same_as_one_that_was_not_stopped(self, tmp_path, stop, which, accumulate):
        options = config(accumulate=accumulate)
        straight = ToyTask(dropout=0.3)
        run(straight, tmp_path / "straight", options)

        stopped = ToyTask(dropout=0.3)
        stopped.module.at_forward = interrupt_at(stop * accumulate, which)
        handler = signal.getsignal(which)
        with pytest.raises(KeyboardInterrupt):
            run(stopped, tmp_path / "stopped", options)
        assert signal.getsignal(which) is handler
        assert stopped.module.passes == stop * accumulate

        resumed = ToyTask(dropout=0.3, seed=99)  # what it starts from comes from the checkpoint
        run(resumed, tmp_path / "stopped", options)
        assert resumed.module.passes == (20 - stop) * accumulate
        assert_same(weights(resumed), weights(straight))
        assert log_without_speed(tmp_path / "stopped") == log_without_speed(tmp_path / "straight")

    def test_a_crash_goes_back_to_the_last_checkpoint(self, tmp_path):
        straight = ToyTask(dropout=0.3)
        run(straight, tmp_path / "straight")

        def fail(number: int) -> None:
            if number == 13:
                raise RuntimeError("power cut")

        crashed = ToyTask(dropout=0.3)
        crashed.module.at_forward = fail
        with pytest.raises(RuntimeError, match="power cut"):
            run(crashed, tmp_path / "crashed")
        assert [line["step"] for line in read_log(tmp_path / "crashed")] == [4, 8, 12]
        resumed = ToyTask(dropout=0.3)
        run(resumed, tmp_path / "crashed")
        assert resumed.module.passes == 10
        assert_same(weights(resumed), weights(straight))
        assert log_without_speed(tmp_path / "crashed") == log_without_speed(tmp_path / "straight")

    def test_a_second_signal_stops_at_once(self, tmp_path):
        task = ToyTask()
        interrupt = interrupt_at(7)
        after: list[int] = []

        def twice(number: int) -> None:
            interrupt(number)
            interrupt(number)
            if number == 7:
                after.append(number)

        task.module.at_forward = twice
        with pytest.raises(KeyboardInterrupt):
            run(task, tmp_path)
        assert not after and not (tmp_path / "state.pt").exists()

    def test_a_signal_in_the_last_step_finishes(self, tmp_path):
        task = ToyTask()
        task.module.at_forward = interrupt_at(20)
        assert run(task, tmp_path)["loss"] > 0

    def test_finished_runs_give_their_numbers_again(self, tmp_path):
        task = ToyTask()
        values = run(task, tmp_path)
        again = ToyTask(seed=5)
        # Killed after the last checkpoint, before the artifact: it stores what an unbroken run stores, to the last bit.
        assert run(again, tmp_path) == values
        assert again.module.passes == 0 and not again.module.training
        assert_same(weights(again), weights(task))

    def test_a_checkpoint_of_another_run_is_refused(self, tmp_path):
        run(ToyTask(), tmp_path)
        log = (tmp_path / "log.jsonl").read_text()
        with pytest.raises(FormatError, match="another recipe, seed or inputs; remove") as caught:
            run(ToyTask(), tmp_path, fingerprint="another")
        assert "\n" not in str(caught.value) and (tmp_path / "log.jsonl").read_text() == log

    @pytest.mark.parametrize("damage", [b"", b"nonsense", "cut"])
    def test_a_damaged_checkpoint_is_named(self, tmp_path, damage):
        run(ToyTask(), tmp_path)
        path = tmp_path / "state.pt"
        path.write_bytes(path.read_bytes()[:2000] if damage == "cut" else damage)
        with pytest.raises(FormatError, match=r"state\.pt: damaged checkpoint") as caught:
            run(ToyTask(), tmp_path)
        assert "\n" not in str(caught.value)

    def test_nothing_is_left_half_written(self, tmp_path):
        run(ToyTask(), tmp_path)
        assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"state.pt", "log.jsonl"}


def tiny_task(folder: Path) -> MaskedPredictionTask:
    """Masked prediction of how loud each frame is, in seven steps."""
    manifest = small_corpus(folder, [24_000, 40_000, 18_000, 31_000, 25_000, 52_000])
    store = WaveformStore(manifest)
    labels = {}
    for index, recording in enumerate(manifest):
        wave = store[index]
        frames = np.lib.stride_tricks.sliding_window_view(wave, 400)[::320]
        level = np.log(np.square(frames, dtype=np.float64).mean(axis=1))
        labels[recording.id] = np.digitize(level, np.linspace(-7, -3, 6)).astype(np.int16)
    options = EncoderConfig(
        LoopConfig(20, lr=2e-3, batch_seconds=4.0, log_every=1), shape=SHAPE, crop_seconds=1.5, mask_length=5
    )
    return MaskedPredictionTask(small_predictor(), store, labels, options, seed=0)


def test_golden_loss_curve(tmp_path):
    task = tiny_task(tmp_path)
    run(task, tmp_path / "work", task.config.loop)
    losses = [line["loss"] for line in read_log(tmp_path / "work")]
    # Written by this test's own code, once: a change of it is a change of training.
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-3)
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    def launch(folder: Path, *arguments: str) -> None:
        folder.mkdir(exist_ok=True)
        done = run_two(toy_task.__file__, folder, 12, *arguments)
        assert done.returncode == 0, done.stderr

    one = ToyTask(halves=True)
    run(one, tmp_path / "one", config(12, accumulate=2, checkpoint_every=100))
    launch(tmp_path / "two")
    # Ctrl-C reaches one process only; both stop after the same step and go on from there.
    launch(tmp_path / "stopped", "6")
    assert {path.name for path in (tmp_path / "stopped").glob("stopped*")} == {"stopped0", "stopped1"}
    assert [line["step"] for line in read_log(tmp_path / "stopped" / "work")] == [4]
    launch(tmp_path / "stopped")
    for folder in ("two", "stopped"):
        ends = [torch.load(tmp_path / folder / f"weights{rank}.pt", weights_only=True) for rank in (0, 1)]
        assert_same(ends[0], ends[1])
        for name, tensor in weights(one).items():
            assert torch.allclose(tensor, ends[0][name], atol=1e-5), name
        logs = log_without_speed(tmp_path / "one"), log_without_speed(tmp_path / folder / "work")
        for a, b in zip(*logs, strict=True):
            assert a == pytest.approx(b, abs=1e-5)
