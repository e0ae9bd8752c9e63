"""Figures: what is fitted and how it is marked, read from the axes before they are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.scaling import Run, fit_envelope, fit_score_law, plot_study
from syllablelm.scaling import law_plots as module
from syllablelm.scaling.law_plots import StudyFigure

pytest.importorskip("matplotlib")


def make_runs() -> list[Run]:
    runs = []
    for n in (1e6, 3e6, 1e7):
        for d in (4 * n, 20 * n, 100 * n):
            loss = 20 * (6 * n * d) ** -0.05 * (1 + 0.02 * abs(math.log(d / n / 20)))
            runs.append(Run(n, d, loss, 6 * n * d, name=f"{n:.0e}-{d:.0e}"))
    return runs


def again(run: Run) -> Run:
    return replace(run, tokens=9 * run.tokens, flops=9 * run.flops, loss=0.7 * run.loss, unique_tokens=run.tokens)


def shown(groups: dict[str, list[Run]], out: Path, **options: Any) -> Any:
    """What a figure shows, by panel and group."""
    drawn = plot_study(groups, out, **options)
    assert StudyFigure.from_dict(drawn.to_dict()) == drawn
    return drawn.shown


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of every panel that is drawn."""
    found: list[Any] = []
    for name in ("_draw_loss", "_draw_score"):
        draw = getattr(module, name)

        def noted(drawn: Any, *rest: Any, draw: Any = draw, **options: Any) -> Any:
            found.append(drawn)
            return draw(drawn, *rest, **options)

        monkeypatch.setattr(module, name, noted)
    return found


def marks(axes: Any, *, is_open: bool) -> set[tuple[float, float]]:
    """The points that are drawn as open, or as full marks."""
    lines = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    lines = [line for line in lines if (line.get_markerfacecolor() == "none") == is_open]
    return {(float(x), float(y)) for line in lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}


def ends(runs: Sequence[Run]) -> set[tuple[float, float]]:
    return {(run.flops, run.loss) for run in runs}


def legend(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_runs_on_repeated_data_are_open_and_no_part_of_the_envelope(tmp_path: Path, axes: list[Any]) -> None:
    once = make_runs()
    repeated = [again(run) for run in once[::2]]
    found = shown({"a": [*once, *repeated]}, tmp_path / "a.svg", bootstrap=5)
    assert (marks(axes[0], is_open=False), marks(axes[0], is_open=True)) == (ends(once), ends(repeated))
    law = fit_envelope([run.flops for run in once], [run.loss for run in once])
    assert found["loss"]["a"] == pytest.approx(law.exponent)
    assert legend(axes[0]).count("repeated data") == 1
    # Of several groups too it is said once, and not at all where nothing is repeated.
    shown({"a": [*once, *repeated], "b": repeated}, tmp_path / "b.svg", bootstrap=5)
    assert legend(axes[1]).count("repeated data") == 1
    shown({"a": once}, tmp_path / "c.svg", bootstrap=5)
    assert "repeated data" not in legend(axes[-1])


def test_the_way_of_each_run_is_a_thin_line_and_counts(tmp_path: Path, axes: list[Any]) -> None:
    once = make_runs()
    ahead = (once[0].tokens / 4, 20 * (once[0].flops / 4) ** -0.05, None)
    runs = [replace(once[0], curve=(ahead,)), *once[1:]]
    found = shown({"a": runs}, tmp_path / "a.svg", bootstrap=5)
    way = [(once[0].flops / 4, ahead[1]), (once[0].flops, once[0].loss)]
    lines = [line for line in axes[0].lines if line.get_marker() in ("None", None, "")]
    assert way in [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in lines]
    x, y = zip(*(ends(once) | {way[0]}), strict=True)
    assert found["loss"]["a"] == pytest.approx(fit_envelope(x, y).exponent)
    assert found["loss"]["a"] != shown({"a": once}, tmp_path / "b.svg", bootstrap=5)["loss"]["a"]


def test_saturated_runs_are_grey_and_no_part_of_the_law(tmp_path: Path, axes: list[Any]) -> None:
    runs = [replace(run, scores={"sblimp": min(58.0, 10 * run.flops**0.05)}) for run in make_runs()]
    flops, score = (np.array(values) for values in zip(*((r.flops, r.scores["sblimp"]) for r in runs), strict=True))
    assert 0 < (score >= 57).sum() < len(runs) - 3
    found = shown({"a": runs}, tmp_path / "a.svg", figure="scores", saturation=57.0, bootstrap=5)
    expected = fit_score_law(flops, score, saturation=57.0).gamma
    assert found["sblimp"]["a"] == pytest.approx(expected) == pytest.approx(0.05)
    grey = [line for line in axes[0].lines if line.get_color() == module.LIGHT and len(line.get_xdata())]
    assert {float(x) for line in grey for x in line.get_xdata()} == set(flops[score >= 57])
    assert "saturated, left out" in legend(axes[0])
    without = shown({"a": runs}, tmp_path / "b.svg", figure="scores", bootstrap=5)["sblimp"]["a"]
    assert without == pytest.approx(fit_score_law(flops, score).gamma) != expected
    assert "saturated, left out" not in legend(axes[1])
    # All of them may be; then there is no law, and the picture is drawn all the same.
    assert shown({"a": runs}, tmp_path / "c.svg", figure="scores", saturation=1.0) == {"sblimp": {"a": None}}


def test_no_law_is_drawn_through_noise(tmp_path: Path, axes: list[Any]) -> None:
    rng = np.random.default_rng(0)
    noise = [replace(run, scores={"sblimp": float(50 + rng.normal(0, 2))}) for run in make_runs()]
    better = [replace(run, scores={"sblimp": 10 * run.flops**0.05}) for run in make_runs()]
    found = shown({"a": noise, "b": better, "c": better[:2]}, tmp_path / "a.svg", figure="scores", bootstrap=20)
    assert found["sblimp"]["a"] is found["sblimp"]["c"] is None and found["sblimp"]["b"] == pytest.approx(0.05)
    told = legend(axes[0])
    assert any(text.startswith("a: no law: ") for text in told) and "c: no law: too few points" in told
    lines = [line for line in axes[0].lines if line.get_marker() in ("None", None, "")]
    assert lines and {line.get_color() for line in lines} == {module.COLOURS[1]}


def test_a_wide_band_leaves_the_runs_to_be_seen(tmp_path: Path, axes: list[Any]) -> None:
    # Three points of little range: a resample's line may go anywhere.
    runs = [replace(run, loss=20 - 0.1 * k + 3 * (k % 2)) for k, run in enumerate(make_runs()[:6])]
    shown({"a": runs}, tmp_path / "a.svg", bootstrap=50)
    low, high = axes[0].get_ylim()
    values = [float(y) for line in axes[0].lines for y in line.get_ydata()]
    assert 0.9 * min(values) < low <= min(values) and max(values) <= high < 1.1 * max(values)


def test_losses_of_several_tokenisations_are_not_drawn(tmp_path: Path) -> None:
    runs = [replace(run, place=f"b.jsonl:{number}") for number, run in enumerate(make_runs(), start=1)]
    runs[1] = replace(runs[1], tokenizer="other")
    with pytest.raises(InputError, match=r"^b\.jsonl: the runs have 2 tokenisations"):
        shown({"a": runs}, tmp_path / "a.svg", figure="loss", bootstrap=5)
    assert not (tmp_path / "a.svg").exists()
