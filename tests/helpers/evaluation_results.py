"""Made-up results of every evaluation that the report shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from syllablelm.core.results import Estimate, Result
from syllablelm.evaluate.boundaries.comparison import BoundaryRow
from syllablelm.evaluate.boundaries.protocols import get_protocol
from syllablelm.evaluate.boundaries.run import BoundaryResult
from syllablelm.evaluate.lists import ScoredData
from syllablelm.evaluate.lm.cloze import ClozeResult
from syllablelm.evaluate.lm.pairs import AccuracyRow, LMSize, PairsData
from syllablelm.evaluate.lm.salmon import SalmonResult
from syllablelm.evaluate.lm.suites import LexicalResult, SyntacticResult
from syllablelm.evaluate.speech.continuation import ContinuationData, ContinuationResult, OracleSummary, TemperatureRow
from syllablelm.evaluate.speech.crossing import Crossing
from syllablelm.evaluate.speech.error_rates import NORMALIZATIONS, ErrorRates
from syllablelm.evaluate.speech.quality import QualityResult, QualityRow
from syllablelm.evaluate.speech.rendering import PredictedDurations, RenderedData
from syllablelm.evaluate.speech.repetition import score_repetition
from syllablelm.evaluate.speech.resynthesis import RecognizerScores, ResynthesisResult
from syllablelm.evaluate.speech.sweep import ScoreAtOracle, TextSummary
from syllablelm.evaluate.speech.text_lm import TextLMInfo
from syllablelm.evaluate.speed import MachineInfo, Speed, SpeedResult, StageTime
from syllablelm.evaluate.system_speed import SpeedRatio, SystemSpeed, SystemSpeedResult
from syllablelm.evaluate.units.abx import AbxResult, AbxRow
from syllablelm.evaluate.units.bitrate import BitrateResult
from syllablelm.evaluate.units.purity import PurityResult, PurityRow
from syllablelm.evaluate.units.stability import StabilityResult, StabilityRow

SET = ScoredData(name="our/dev.csv", recordings=35, seconds=420.0)


def around(value: float, low: float = 0.02, high: float = 0.02) -> Estimate:
    """An estimate with the distances of its interval's ends."""
    return Estimate(value, value - low, value + high)


def boundary_row(name: str, f1: float = 0.6, **more: Any) -> BoundaryRow:
    """A row of `evaluate boundaries` with an F1 at 50 ms; other fields on demand."""
    row = BoundaryRow(
        segmenter=name, level="syllable", protocol="paper", shift=0.0, tuned=False, f1_20=f1 / 2, f1_50=f1,
        precision=0.61, recall=0.59, r_value=0.65, f1_low=f1 - 0.02, f1_high=f1 + 0.015, hits=60, predicted=100,
        reference=102, token_hits=800, token_predicted=2058, token_reference=2000, token_precision=0.39,
        token_recall=0.4, token_f1=around(0.4, 0.02, 0.03), count="reference",
    )  # fmt: skip
    return replace(row, **more)


def boundary_result(*rows: BoundaryRow, **more: Any) -> BoundaryResult:
    """A result of `evaluate boundaries` with these rows."""
    levels = tuple(dict.fromkeys(row.level for row in rows))
    protocols = tuple(get_protocol(name).summary for name in dict.fromkeys(row.protocol for row in rows))
    result = BoundaryResult(model=None, data=SET, count="reference", levels=levels, protocols=protocols, rows=rows)
    return replace(result, **more)


def stability_row(model: str, condition: str, distance: float) -> StabilityRow:
    """A row of `evaluate stability` with a unit edit distance."""
    return StabilityRow(
        model=model, condition=condition, unit_edit_distance=Estimate(distance, distance / 2, 2 * distance),
        same_units=around(0.8), f1_20=Estimate(0.9, 0.88, 0.93), precision_20=0.9, recall_20=0.9, f1_50=around(0.95),
        precision_50=0.95, recall_50=0.95, edits=12, units=100, same_samples=800, samples=1000, hits_20=90, hits_50=95,
        distorted_boundaries=100, clean_boundaries=100,
    )  # fmt: skip


def accuracy_row(group: str, name: str, accuracy: float) -> AccuracyRow:
    """A row of results on pairs."""
    low, high = accuracy - 0.03, accuracy + 0.04
    return AccuracyRow(
        group=group, name=name, accuracy=accuracy, low=low, high=high, points=40.0, pairs=80, comparisons=80, ties=0
    )


def pair_facts(*rows: AccuracyRow, data: str = "our/words") -> dict[str, Any]:
    """Arguments of the results on pairs."""
    return {
        "model": "tiny", "data": PairsData(data, None, 80), "lm": "runs/x/lm",
        "lm_info": LMSize(1_234_567, 1024, 250_000), "units": None,
        "protocol": {"score": "mean log-probability per unit after BOS", "ties": "half"}, "rows": rows,
    }  # fmt: skip


def error_rates(wer: float, cer: float) -> ErrorRates:
    """Error rates without intervals."""
    return ErrorRates(Estimate(wer), Estimate(cer), word_edits=9, words=10, char_edits=6, chars=10)


def text_summary(ppx: float | None, vert: float) -> dict[str, Any]:
    """Arguments of the summary of texts."""
    return {
        "texts": 30, "empty_texts": 0, "tokens": 900, "unknown_words": 1, "ppx_mean": ppx, "ppx_mean_two_sigma": None,
        "ppx_median": ppx, "ppx_median_two_sigma": None, "vert": vert, "vert_two_sigma": None, "self_bleu_2": 0.2,
        "auto_bleu_2": 0.1,
    }  # fmt: skip


_REPETITION = score_repetition([[1, 2, 3], [2, 2, 4]], resamples=5, seed=0)

RESULTS: dict[str, Result] = {
    "boundaries": boundary_result(
        boundary_row("tiny", 0.6841, model="tiny"),
        boundary_row("tiny", 0.6912, model="tiny", protocol="peng", shift=-0.015, tuned=True),
        boundary_row("tiny", 0.502, model="tiny", level="phone"),
        boundary_row("tiny", 0.611, model="tiny", level="word"),
        boundary_row("even", 0.41, method="even"),
        boundary_row("losspred", 0.55, method="losspred", model="hubert"),
    ),
    "purity": PurityResult(
        model="tiny", data=SET, matching="overlap",
        rows=(
            PurityRow(
                model="tiny", level="syllable", matched=1900, syllables=2000, segments=2058, syllable_to_unit=0.21,
                unit_to_syllable=0.32, cluster_purity=around(0.21, 0.01, 0.01), syllable_purity=around(0.32),
                mutual_information=5.0, normalized_mutual_information=around(0.7, 0.01, 0.01),
                syllable_normalized_mutual_information=around(0.75), token_hits=800, token_predicted=2058,
                token_reference=2000, token_precision=0.39, token_recall=0.4, token_f1=around(0.4),
            ),
        ),
    ),
    "bitrate": BitrateResult(
        model="tiny", data=SET, num_units=1024, units=2058, runs=2000, seconds=420.0, unit_rate=5.0,
        merged_unit_rate=around(4.9, 0.1, 0.1), bits_per_second=49.0, length_entropy_rate=around(17.3, 0.2, 0.2),
    ),
    "stability": StabilityResult(
        model="tiny, small", data=SET, conditions=("noise20", "mp3"), seed=0,
        rows=(
            stability_row("tiny", "mp3", 0.12), stability_row("tiny", "noise20", 0.3),
            stability_row("tiny", "mean", 0.21), stability_row("small", "mp3", 0.04),
            stability_row("small", "noise20", 0.1), stability_row("small", "mean", 0.07),
        ),
    ),
    "resynthesis": ResynthesisResult(
        model="tiny", data=RenderedData("our/read.csv", 20, 120.0, 0, 0),
        scores=RecognizerScores(
            recognizer="pocketsphinx", original=error_rates(0.2, 0.1), vocoder=error_rates(0.5, 0.3),
            resynthesis=error_rates(0.9, 0.6), predicted_durations=error_rates(0.95, 0.7),
        ),
        others=(RecognizerScores(
            recognizer="whisper", recognizer_settings="beam 5", original=error_rates(0.1, 0.05),
            vocoder=error_rates(0.4, 0.2), resynthesis=error_rates(0.8, 0.5),
        ),),
        normalization=NORMALIZATIONS["english"], min_seconds=4.0, max_seconds=10.0, units={"units": 600},
        durations=PredictedDurations(120.0, 114.0),
    ),
    "quality": QualityResult(
        model="tiny", data=RenderedData("our/read.csv", 20, 120.0, 0, 0),
        rows=(
            QualityRow(speech="original", mos=around(3.1), similarity_others=around(0.6),
                       errors={"whisper": error_rates(0.1, 0.05), "pocketsphinx": error_rates(0.2, 0.1)}),
            QualityRow(speech="predicted_durations", mos=around(2.7), similarity=around(0.55), pitch_error=around(6.0),
                       gross_pitch_error=around(0.8), voiced_frames=900,
                       errors={"whisper": error_rates(0.8, 0.5), "pocketsphinx": error_rates(0.9, 0.6)}),
        ),
        methods={"mos": "DNSMOS", "recogniser whisper": "beam 5", "recogniser pocketsphinx": "n-grams"},
        normalization=NORMALIZATIONS["english"], min_seconds=4.0, max_seconds=10.0, units={"units": 600},
    ),
    "lexical": LexicalResult(
        **pair_facts(
            accuracy_row("all", "pairs", 0.55),
            accuracy_row("vocabulary", "in", 0.57),
            accuracy_row("vocabulary", "oov", 0.5),
        )
    ),
    "syntactic": SyntacticResult(**pair_facts(accuracy_row("all", "pairs", 0.52), data="our/sentences")),
    "cloze": ClozeResult(**pair_facts(accuracy_row("all", "stories", 0.535), data="our/stories")),
    "salmon": SalmonResult(
        **pair_facts(accuracy_row("part", "speaker_consistency", 0.6), data="our/salmon")
    ),
    "abx": AbxResult(
        model="tiny", data=SET, kind="triphone", tokens=3000, left_out_tokens=2,
        protocol={"definition": "fastabx 0.9"},
        rows=(
            AbxRow(representation="units", speakers="across", error_rate=0.3, cells=20, triplets=90),
            AbxRow(representation="units", speakers="within", error_rate=None, cells=0, triplets=0),
        ),
    ),
    "continuation": ContinuationResult(
        model="tiny", data=ContinuationData("our/dev.csv", 35, 0, 30, 90.0), prompt_seconds=3.0,
        continuation_seconds=10.0, seed=0, resamples=100, protocol={"ppx_average": "mean"},
        ppx_at_oracle_vert=ScoreAtOracle(812.3, 40.0, Crossing("found", 0.85)),
        vert_at_oracle_ppx=ScoreAtOracle(None, None, Crossing("oracle below the reachable range")),
        oracle=OracleSummary(source="text of the recordings", **text_summary(90.0, 12.0)),
        temperatures=tuple(
            TemperatureRow(temperature=temperature, summary=TextSummary(**text_summary(ppx, vert)), units=_REPETITION)
            for temperature, ppx, vert in ((0.3, 300.0, 45.0), (0.8, 700.0, 14.0), (1.2, 1500.0, 6.0), (2.0, None, 5.0))
        ),
        recognizer="pocketsphinx", text_lm=TextLMInfo(name="a.txt", kind="3-gram"), real_units=_REPETITION,
    ),
    "speed": SpeedResult(
        model="tiny", data=ScoredData(name="bundled", recordings=8, seconds=200.0),
        machine=MachineInfo("a CPU", 2, 2, 0.1, None, "2.13"), batch_seconds=120.0,
        runs=(
            Speed(
                precision="float32", recordings=8, audio_seconds=200.0, cpu_seconds=3.0, peak_memory_mib=900.0,
                peak_device_mib=None, units=1000, stages=(StageTime("all", 200.0 / 127.3, 1.0, 127.3),),
            ),
        ),
        agreement=None,
    ),
    "system-speed": SystemSpeedResult(
        data=ScoredData(name="bundled", recordings=2, seconds=8.0),
        size="miniature", clip_seconds=4.0, precision="float32", repeats=2,
        machine=MachineInfo("a CPU", 2, 2, 0.1, None, "2.13"),
        rows=(
            SystemSpeed("HuBERT + MinCut", "random", "encoding", 40.0, 1.5, 5.0),
            SystemSpeed("HuBERT + MinSum", "a/folder", "encoding", 80.0, None, 5.0),
        ),
        ratios=(SpeedRatio("HuBERT + MinSum", "HuBERT + MinCut", "encoding", 2.0, 5.5),),
    ),
}  # fmt: skip


def write(path: Path, value: Result | dict[str, Any]) -> Path:
    """Write a result, or any JSON object, as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value.to_dict() if isinstance(value, Result) else value), encoding="utf-8")
    return path


def write_all(folder: Path) -> Path:
    """Write every result as a file of its own, beside a trained model."""
    for name, value in RESULTS.items():
        write(folder / f"{name}.json", value)
    write(folder / "runs" / "x" / "lm" / "artifact.json", {"kind": "lm"})
    write(folder / "runs" / "x" / "lm" / "config.json", {"not": "a result"})
    return folder
