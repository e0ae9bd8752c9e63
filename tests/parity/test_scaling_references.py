"""The scaling room against published data and fits. The tables are not in the repository: without them, skipped."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from syllablelm.cli.app import main
from syllablelm.scaling import (
    PUBLISHED,
    PUBLISHED_REPETITION,
    FittedLaw,
    compute_for_same_gain,
    fit_isoflops,
    fit_loss_law,
    fit_power_law,
    fit_score_law,
)
from syllablelm.scaling.fit import law_objective
from syllablelm.scaling.power import frontier

DATA = Path(__file__).resolve().parents[2] / "data" / "scaling"
# Of the 31 speech models, these two are not ends of training curves: the published exponents are of the other 29.
NOT_ENDS = ("gslm-scaling-823m-26b", "gslm-scaling-823m-82b")


def read_table(name: str) -> list[dict[str, str]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here: reference tables of others are not part of the repository")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def columns(rows: list[dict[str, str]], *names: str) -> list[np.ndarray]:
    return [np.array([float(row[name]) for row in rows]) for name in names]


def chinchilla(runs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points of Besiroglu et al. (2024): all 245, or the 240 without the highest losses."""
    rows = read_table("epoch_chinchilla/svg_extracted_data.csv")
    params, flops, loss = columns(rows, "Model Size", "Training FLOP", "loss")
    assert len(loss) == 245
    kept = np.argsort(loss)[:runs]
    return params[kept], (flops / 6 / params)[kept], loss[kept]


@pytest.fixture(scope="module")
def corrected() -> FittedLaw:
    return fit_loss_law(*chinchilla(240), bootstrap=100)


def test_chinchilla_corrected_fit(corrected: FittedLaw) -> None:
    """Besiroglu et al. (2024), refitted: E 1.81722, alpha .34731, beta .36717; A and B are barely determined."""
    assert corrected.objective == pytest.approx(0.0010182740, rel=1e-6)
    assert pytest.approx(1.81722, abs=2e-4) == corrected.E
    assert corrected.alpha == pytest.approx(0.34731, abs=2e-4)
    assert corrected.beta == pytest.approx(0.36717, abs=2e-4)
    assert pytest.approx(477.826, rel=0.02) == corrected.A
    assert pytest.approx(2143.417, rel=0.02) == corrected.B
    assert corrected.status == "ok"
    assert corrected.a == pytest.approx(0.513, abs=0.002)


def test_chinchilla_intervals_are_as_published(corrected: FittedLaw) -> None:
    published = {"E": (1.769, 1.871), "alpha": (0.317, 0.373), "beta": (0.331, 0.415)}
    for name, (low, high) in published.items():
        found_low, found_high = corrected.intervals[name]
        width = high - low
        assert found_low == pytest.approx(low, abs=0.3 * width)
        assert found_high == pytest.approx(high, abs=0.3 * width)


def test_chinchilla_tokens_per_parameter(corrected: FittedLaw) -> None:
    """At Chinchilla's compute the corrected law agrees with about 20 tokens a parameter, the printed one does not."""
    budget = 6 * 70e9 * 1.4e12
    for law in (PUBLISHED["besiroglu"], corrected):
        best = law.optimal(budget)
        assert 17 < best.tokens / best.params < 26
    best = PUBLISHED["hoffmann"].optimal(budget)
    assert best.tokens / best.params > 70


def test_chinchilla_all_245_points() -> None:
    law = fit_loss_law(*chinchilla(245))
    assert law.objective == pytest.approx(0.00182601, rel=1e-5)
    assert [law.E, law.alpha, law.beta] == pytest.approx([1.89134, 0.34931, 0.45305], abs=3e-4)
    assert pytest.approx([495.726, 12845.6], rel=0.03) == [law.A, law.B]
    assert law.diagnostics.outliers >= 5


@pytest.mark.parametrize(
    ("constants", "objective"),
    [
        pytest.param((1.8172, 482.01, 2085.43, 0.3478, 0.3658), 0.00102284, id="Besiroglu, printed"),
        pytest.param((1.69, 406.4, 410.7, 0.34, 0.28), 0.00412101, id="Hoffmann, printed"),
        pytest.param(
            (np.exp(0.5267228), np.exp(6.0073404), np.exp(6.0179186), 0.33917084, 0.2849083),
            0.00123116,
            id="Hoffmann, not rounded",
        ),
    ],
)
def test_chinchilla_objective_of_published_constants(constants: tuple[float, ...], objective: float) -> None:
    theta = np.array([[*np.log(constants[:3]), *constants[3:]]])
    value, _ = law_objective(*chinchilla(240), 1e-3)(theta, np.arange(1))
    assert value[0] == pytest.approx(objective, rel=2e-5)


def test_repetition_goldens() -> None:
    """Muennighoff et al. (2023), from the constants that their code prints."""
    law = PUBLISHED_REPETITION["muennighoff"]
    assert law.loss(6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, rel=1e-12)
    assert law.loss(8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, rel=1e-12)
    assert pytest.approx(9_218_325_738.59, rel=1e-11) == law.law.optimal(1e22).N
    assert pytest.approx(0.225802, abs=1e-6) == law.law.G
    # Theirs is the best of 500 numbers of epochs: 9.4935.
    best = law.optimal(1e22, 25e9)
    assert pytest.approx(9.4935, abs=0.01) == best.D / 25e9
    assert pytest.approx(7_022_364_735.88, rel=1e-3) == best.N
    assert law.loss(*best, 25e9) <= law.loss(7_022_364_735.88, 237_336_955_477.55, 25e9)


@pytest.mark.parametrize(
    ("flops", "params", "tokens", "loss"),
    [
        (1e18, 3.4593e7, 4.8179e9, 2.1000),
        (1e19, 1.0685e8, 1.5598e10, 2.0091),
        (1e20, 3.3005e8, 5.0497e10, 1.9405),
        (1e21, 1.0195e9, 1.6348e11, 1.8888),
        (1e22, 3.1490e9, 5.2927e11, 1.8498),
    ],
)
def test_speech_optimum_of_the_printed_constants(flops: float, params: float, tokens: float, loss: float) -> None:
    law = PUBLISHED["speech"]
    best = law.optimal(flops)
    assert best == pytest.approx((params, tokens), rel=1e-4)
    assert law.loss(*best) == pytest.approx(loss, abs=6e-5)


def test_speech_and_text_optimum_exponents() -> None:
    speech, text, unigram = PUBLISHED["speech"], PUBLISHED["text"], PUBLISHED["speech-unigram"]
    assert (speech.a, speech.b) == pytest.approx((0.4898, 0.5102), abs=5e-5)
    assert (speech.G, unigram.G, unigram.a) == pytest.approx((0.12700, 0.05440, 0.5161), abs=6e-5)
    best = text.optimal(1e22)
    assert (best.N, best.D, text.loss(*best)) == pytest.approx((9.1166e9, 1.8282e11, 2.2104), rel=1e-4)
    assert pytest.approx(20.05, abs=0.01) == best.D / best.N


def test_slamming_budget() -> None:
    """Models of 66M and 78M parameters are optimal for 3.74e18 and 5.26e18 FLOP by the speech law."""
    law = PUBLISHED["speech"]
    assert pytest.approx([66e6, 78e6], rel=0.01) == law.optimal([3.74e18, 5.26e18]).N


def test_ranges_are_those_of_the_five_shapes() -> None:
    """Layers, width and SwiGLU's width of the Llama decoders in Table 1 of Cuervo & Marxer (2024)."""
    shapes = [(6, 512, 1536), (12, 768, 2048), (12, 1024, 2816), (24, 1024, 2816), (16, 2048, 5632)]
    counts = [layers * (4 * dim**2 + 3 * dim * hidden + 2 * dim) + dim for layers, dim, hidden in shapes]
    assert counts == [20_453_888, 84_953_856, 154_166_272, 308_331_520, 822_151_168]
    assert PUBLISHED["speech"].ranges["params"] == (counts[0], counts[-1])
    assert PUBLISHED["speech-unigram"].ranges["params"] == (counts[0], counts[-2])


def endpoints() -> list[dict[str, str]]:
    rows = [row for row in read_table("slm_scaling_endpoints.csv") if row["model"] not in NOT_ENDS]
    assert len(rows) == 29
    return rows


@pytest.mark.parametrize(
    ("score", "gamma", "of_all"),
    [
        ("sblimp_macro", 0.0205, 0.0177),
        ("tstorycloze", 0.0251, 0.0234),
        ("sblimp_pair", 0.0182, None),
        # The paper prints .017 for this one. Neither the frontier nor all points give it: recorded, not reproduced.
        ("sstorycloze", 0.0108, 0.0117),
    ],
)
def test_speech_score_exponents(score: str, gamma: float, of_all: float | None) -> None:
    flops, scores = columns(endpoints(), "C_6ND", score)
    assert fit_score_law(flops, scores).gamma == pytest.approx(gamma, abs=6e-5)
    if of_all is not None:
        assert fit_power_law(flops, scores).exponent == pytest.approx(of_all, abs=6e-5)


def test_figure_2_by_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The released end points as runs without loss: `scale fit`, and `scale predict` against text's exponents."""
    path, study = tmp_path / "speech.jsonl", tmp_path / "speech.json"
    names = {"sblimp_macro": "sblimp", "tstorycloze": "tstorycloze", "sstorycloze": "sstorycloze"}
    with path.open("w", encoding="utf-8") as file:
        for row in endpoints():
            scores = {name: float(row[column]) for column, name in names.items()}
            sizes = {"params": float(row["N_nonemb"]), "tokens": float(row["tokens_seen"])}
            file.write(json.dumps({"name": row["model"], **sizes, "scores": scores}) + "\n")
    assert main(["scale", "fit", str(path), "--bootstrap", "200", "--out", str(study)]) == 0
    fitted = json.loads(capfd.readouterr().out)["scores"]
    gammas = {name: fit["power"]["exponent"] for name, fit in fitted.items()}
    assert gammas == pytest.approx({"sblimp": 0.0205, "tstorycloze": 0.0251, "sstorycloze": 0.0108}, abs=6e-5)
    for name, printed in {"sblimp": 0.021, "tstorycloze": 0.025}.items():
        low, high = fitted[name]["power"]["exponent_interval"]
        assert low < printed < high
    assert main(["scale", "predict", str(study), "--against", "text"]) == 0
    against = json.loads(capfd.readouterr().out)["against"]
    assert np.log10(against["sblimp"]["compute"]) == pytest.approx(0.066 / gammas["sblimp"])


def test_story_cloze_exponent_of_the_paper_is_not_reproduced() -> None:
    flops, scores = columns(endpoints(), "C_6ND", "sstorycloze")
    law = fit_score_law(flops, scores, bootstrap=300)
    assert abs(law.gamma - 0.017) > 0.005
    assert len(frontier(flops, scores, "most")) == law.power.points


def test_speech_needs_a_thousand_times_more_compute_than_text() -> None:
    """The printed exponents: what text gains from 10 times the compute costs speech 10^3.14 for syntax."""
    printed = {"syntax": (0.021, 0.066, 3.14), "tcloze": (0.025, 0.039, 1.56), "scloze": (0.017, 0.046, 2.71)}
    flops = np.geomspace(1e18, 1e21, 5)
    for speech, text, decades in printed.values():
        laws = [fit_power_law(flops, flops**gamma) for gamma in (speech, text)]
        assert np.log10(compute_for_same_gain(*laws)[0]) == pytest.approx(decades, abs=0.01)


@pytest.mark.parametrize(
    ("name", "experiment", "params", "tokens"),
    [
        # Llama 3 (2024), section 3.2.1: D_opt = 0.299 C^0.537.
        pytest.param("llama_3", "llama_3__raw_loss", 0.463, 0.537, id="Llama 3"),
        # Hoffmann et al. (2022), approach 2: a .49 (.462 to .534), b .51 (.483 to .529).
        pytest.param(
            "epochai_chinchilla", "epochai_chinchilla__massivetext__chinchilla", 0.492, 0.508, id="Chinchilla"
        ),
        pytest.param("ml_scalefit", "ml_scalefit__massivetext__chinchilla", 0.49, 0.51, id="Chinchilla, other copy"),
    ],
)
def test_isoflop_exponents(name: str, experiment: str, params: float, tokens: float) -> None:
    rows = [row for row in read_table(f"openathena_isoflops/{name}/isoflops.csv") if row["experiment"] == experiment]
    sizes, data, loss, budgets = columns(rows, "params", "tokens", "loss", "budget")
    fit = fit_isoflops(sizes, loss, budgets, tokens=data, bootstrap=20)
    assert fit.params.exponent == pytest.approx(params, abs=0.025)
    assert fit.tokens.exponent == pytest.approx(tokens, abs=0.025)
    low, high = fit.params.exponent_interval
    assert low < (0.463 if name == "llama_3" else 0.5) < high
    if name == "llama_3":
        assert fit.tokens.exponent == pytest.approx(0.537, abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["epochai_chinchilla", "llama_3", "marin_202603", "misfitting", "ml_scalefit"])
def test_isoflop_sets_give_sane_answers(name: str) -> None:
    rows = read_table(f"openathena_isoflops/{name}/isoflops.csv")
    for experiment in sorted({row["experiment"] for row in rows}):
        chosen = [row for row in rows if row["experiment"] == experiment]
        sizes, data, loss, budgets = columns(chosen, "params", "tokens", "loss", "budget")
        fit = fit_isoflops(sizes, loss, budgets, tokens=data)
        assert 0.35 < fit.params.exponent < 0.6
        assert all(curve.status == "ok" or curve.status.startswith("degenerate: ") for curve in fit.curves)
        law = fit_loss_law(sizes, data, loss)
        assert law.status == "ok"
        assert 0.3 < law.a < 0.6
