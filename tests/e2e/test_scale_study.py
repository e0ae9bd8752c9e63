"""``scale run``: a study of tiny models, stopped, resumed, with a run that fails; then the laws and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.two_processes import run_two
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import open_writer

UNITS = 30
RECIPE = """
name = "micro"
[units]
tokenizer = "tiny"
train = ["{folder}/train.jsonl"]
valid = ["{folder}/valid.jsonl"]
[lm]
row_tokens = 64
batch_tokens = 256
[lm.shape]
positions = 64
dropout = 0.0
[lm.loop]
steps = 1
lr = 1e-2
checkpoint_every = 10
"""


def write_units(path: Path, recordings: int, seed: int) -> None:
    """A Markov language of 30 units, 40 to a recording; equal neighbours do not occur."""
    table = np.random.default_rng(7).dirichlet(np.full(UNITS - 1, 0.1), size=UNITS)
    rng = np.random.default_rng(seed)
    with open_writer(path, "jsonl") as writer:
        for number in range(recordings):
            units = [int(rng.integers(UNITS))]
            while len(units) < 40:
                step = 1 + int(rng.choice(UNITS - 1, p=table[units[-1]]))
                units.append((units[-1] + step) % UNITS)
            frames = np.concatenate([[0], np.cumsum(rng.integers(4, 16, 40))])
            writer.write(f"{seed}-{number}", f"{number}.wav", Segmentation.from_boundaries(frames, unit=units))


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its units."""
    folder = tmp_path_factory.mktemp("micro")
    write_units(folder / "train.jsonl", 2100, 0)
    write_units(folder / "valid.jsonl", 60, 1)
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder.as_posix()), encoding="utf-8")
    return folder


def plan(run: Run, path: Path, **settings: Any) -> list[dict[str, Any]]:
    """Rows of a grid that ``scale plan`` writes."""
    changes = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    ended = run("scale", "plan", "--design", "grid", "--out", path, *changes)
    assert ended.status == 0, ended.err
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_study_of_llamas(run: Run, micro: Path, tmp_path: Path) -> None:
    """The speech scaling study's plan and recipe, in miniature."""
    changes = ['shapes=["1x32", "2x64"]', "ratios=[0.02, 0.04]", "batch_tokens=[512]", "lr=[1e-2]", "context=64"]
    options = [word for change in changes for word in ("--set", change)]
    assert run("scale", "plan", "speech", *options, "--out", tmp_path / "plan.jsonl").status == 0
    settings = [
        'units.tokenizer="tiny"', f'units.train=["{micro}/train.jsonl"]', f'units.valid=["{micro}/valid.jsonl"]',
        "lm.crop_seconds=25.0", "lm.row_tokens=64", "lm.batch_tokens=256", "lm.shape.positions=64",
    ]  # fmt: skip
    options = [word for change in settings for word in ("--set", change)]
    ended = run("scale", "run", tmp_path / "plan.jsonl", "scaling_llama", "--out", tmp_path / "study", *options)
    assert ended.status == 0, ended.err
    planned = [json.loads(line) for line in (tmp_path / "plan.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in planned:
        record = json.loads((tmp_path / "study" / "runs" / row["name"] / "run.json").read_text(encoding="utf-8"))
        assert (record["params"], record["layers"], record["dim"]) == (row["params"], row["layers"], row["dim"])
        assert record["valid"]["model"]["tokens"] == 60 * 40


@pytest.mark.slow
def test_a_study_from_plan_to_report(run: Run, micro: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine runs on a grid and two on repeated data; stopped after the third and taken up again."""
    pytest.importorskip("matplotlib")
    from syllablelm.train import study_runs as study

    rows = plan(run, tmp_path / "plan.jsonl", shapes=["1x16", "1x32", "2x64"], tokens=[4e3, 1.6e4, 6.4e4])
    rows += plan(run, tmp_path / "more.jsonl", shapes=["1x32", "2x64"], tokens=[1.6e4], passes=[4])
    (tmp_path / "plan.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = tmp_path / "study"
    command = ("scale", "run", tmp_path / "plan.jsonl", micro / "recipe.toml", "--out", out, "--device", "cpu")

    train_lm, count = study.train_lm, 0

    def stopped(*arguments: object, **options: object) -> object:
        nonlocal count
        count += 1
        if count > 3:
            raise KeyboardInterrupt
        return train_lm(*arguments, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(study, "train_lm", stopped)
    assert run(*command).status == 130
    monkeypatch.undo()
    ended = run(*command)
    assert ended.status == 0, ended.err
    assert ended.result == {"runs": 11, "failed": {}, "out": str(out)}
    assert ended.err.count("is finished, skipped") == 2 + 3
    order = [line.split(": ")[1].split(",")[0] for line in ended.lines if line.startswith("run ")]
    cost = {row["name"]: row["flops"] for row in rows}
    assert [cost[name] for name in order] == pytest.approx(sorted(cost.values()), rel=0.5)

    table = tmp_path / "runs.jsonl"
    # The folder of the runs lies in that of the study.
    assert run("scale", "collect", out, out / "runs", "--out", table).result["runs"] == 11
    found = {row["name"]: row for row in map(json.loads, table.read_text(encoding="utf-8").splitlines())}
    for row in rows:
        assert found[row["name"]]["params"] == row["params"]
        # A plan counts positions. Here a crop of 40 tokens stands alone in a row of 64 in which 24 are padding.
        assert 40 / 64 * row["tokens"] - 128 < found[row["name"]]["tokens"] <= row["tokens"] + 128
        assert found[row["name"]]["unique_tokens"] == (84_000 if "unique_tokens" not in row else 4000)
    for name, row in found.items():
        # 2,400 held-out tokens: to measure the shorter runs on their way would cost too much.
        assert len(row.get("curve", [])) in ((3, 4) if row["tokens"] > 2e4 else (0,)), name
        tokens, by_token, by_second = zip(*row.get("curve", [[0, 9, 99]]), strict=True)
        assert list(tokens) == sorted(set(tokens)) and tokens[-1] < row["tokens"], name
        if "curve" in row:
            each = row["nats_per_second"] / row["loss"]
            assert list(by_second) == pytest.approx([each * value for value in by_token])
    # More parameters and tokens help, repeated tokens help less.
    losses = {name: row["loss"] for name, row in found.items()}
    smallest, largest = order[0], order[-1]
    assert losses[largest] < losses[smallest] - 0.5
    repeated = max((name for name in losses if name.endswith("-x4")), key=lambda name: found[name]["params"])
    assert losses[repeated] > losses[repeated.removesuffix("-x4")]

    fitted = run("scale", "fit", table, "--per", "second", "--huber-delta", 0.03, "--bootstrap", 20).result
    assert (fitted["per"], fitted["law"]["runs"]) == ("second", 9)
    assert fitted["repetition"]["repeat_tokens"] > 0
    report = run("scale", "report", f"micro={table}", "--out", tmp_path / "report", "--bootstrap", 20)
    assert report.status == 0, report.err
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "2 repeat their data" in page
    assert all(name in page for name in found)


def test_a_run_that_fails_does_not_stop_the_others(run: Run, micro: Path, tmp_path: Path) -> None:
    rows = plan(run, tmp_path / "plan.jsonl", shapes=["1x16", "1x32"], tokens=[4e3], lr=[2e9, 1e-2])
    out = tmp_path / "study"
    command = ("scale", "run", tmp_path / "plan.jsonl", micro / "recipe.toml", "--out", out, "--device", "cpu")
    ended = run(*command)
    bad, good = (row["name"] for row in rows)
    assert ended.status == 2
    assert ended.result["runs"] == 1
    assert "not finite" in ended.result["failed"][bad]
    assert f"1 run of 2 failed; {bad}: " in ended.lines[-1]
    assert json.loads((out / "failed.json").read_text(encoding="utf-8")) == ended.result["failed"]
    assert (out / "runs" / good / "run.json").exists()


@pytest.mark.slow
def test_two_processes_make_one_study(run: Run, micro: Path, tmp_path: Path) -> None:
    """One run fails and one ends well, in both processes alike; what is there is not made again."""
    rows = plan(run, tmp_path / "plan.jsonl", shapes=["1x16", "1x32"], tokens=[4e3], lr=[2e9, 1e-2])
    bad, good = (row["name"] for row in rows)
    out = tmp_path / "study"
    command = ("scale", "run", tmp_path / "plan.jsonl", micro / "recipe.toml", "--out", out, "--device", "cpu")
    ended = run_two("-m", "syllablelm", *command)
    assert ended.returncode != 0 and ended.stdout, ended.stderr
    result = json.loads(ended.stdout)
    assert (result["runs"], list(result["failed"]), result["out"]) == (1, [bad], str(out))
    assert "not finite" in result["failed"][bad]
    assert f"1 run of 2 failed; {bad}: " in ended.stderr
    # An update has the plan's tokens, whatever the number of processes.
    record = json.loads((out / "runs" / good / "run.json").read_text(encoding="utf-8"))
    assert record["processes"] == 2 and 40 / 64 * 16 * 256 <= record["tokens"] <= 16 * 256
    assert record["valid"]["model"]["tokens"] > 0
    assert sorted(path.name for path in out.iterdir()) == ["failed.json", "runs", "train", "valid"]

    (tmp_path / "plan.jsonl").write_text(json.dumps(rows[1]) + "\n", encoding="utf-8")
    again = run_two("-m", "syllablelm", *command)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == {"runs": 1, "failed": {}, "out": str(out)}
    assert again.stderr.count("is finished, skipped") == 3
    assert not (out / "failed.json").exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("", "no runs", id="empty"),
        pytest.param("{", "plan.jsonl:1: not valid JSON", id="broken"),
        pytest.param('{"name": "a", "layers": 1}', "missing key 'dim'", id="missing"),
        pytest.param(
            '{"name": "../a", "layers": 1, "dim": 8, "heads": 1, "feed_forward": 8, "tokens": 9}', "name", id="name"
        ),
        pytest.param(
            '{"name": "a", "layers": 1, "dim": 8, "heads": 3, "feed_forward": 8, "tokens": 9}', "multiple", id="heads"
        ),
        pytest.param(
            '{"name": "a", "layers": 1, "dim": 8, "heads": 1, "feed_forward": 8, "tokens": 9, "batch_tokens": 8}',
            "less than a row",
            id="batch",
        ),
    ],
)
def test_plans_that_cannot_be_run(run: Run, micro: Path, tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "plan.jsonl").write_text(line + "\n", encoding="utf-8")
    ended = run("scale", "run", tmp_path / "plan.jsonl", micro / "recipe.toml", "--out", tmp_path / "study")
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert reason in ended.err
    assert not (tmp_path / "study").exists()
