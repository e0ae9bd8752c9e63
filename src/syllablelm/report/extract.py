"""Results to cells: one small function for each evaluation, from its result to blocks of the paper's tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from syllablelm.core.results import Estimate
from syllablelm.evaluate.boundaries.comparison import BoundaryRow
from syllablelm.evaluate.boundaries.run import BoundaryResult
from syllablelm.evaluate.lm.cloze import ClozeResult
from syllablelm.evaluate.lm.pairs import PairsResult
from syllablelm.evaluate.lm.suites import LexicalResult, SyntacticResult
from syllablelm.evaluate.speech.continuation import ContinuationResult, OracleSummary
from syllablelm.evaluate.speech.quality import MEASURES, QualityResult
from syllablelm.evaluate.speech.resynthesis import RecognizerScores, ResynthesisResult
from syllablelm.evaluate.speech.sweep import TextSummary
from syllablelm.evaluate.speed import SpeedResult
from syllablelm.evaluate.system_speed import SystemSpeedResult
from syllablelm.evaluate.units.bitrate import BitrateResult
from syllablelm.evaluate.units.purity import PurityResult
from syllablelm.evaluate.units.stability import CONDITIONS, StabilityResult
from syllablelm.report.figures import Curve
from syllablelm.report.paper_tables import QUALITY, STABILITY, Block, Value, short_name
from syllablelm.report.result_files import ResultFile

# The protocol of the published rows of Tables 1, 4 and 5; rows by another one stand below and name it.
PAPER = "paper"
# Sources of first boundaries, the rows of Table 4 beside MinSum on the layers of encoders, such as SylBoost's rounds.
FIRST_BOUNDARIES = ("similarity", "losspred")

Number = float | Estimate | None


def percent(number: Number, low: float | None = None, high: float | None = None) -> Value:
    """Return a share as a cell in %, with its interval where it has one."""
    if isinstance(number, Estimate):
        return _scaled(number, 100)
    return _scaled(Estimate(math.nan if number is None else number, low, high), 100)


def _scaled(number: Estimate, factor: float) -> Value:
    """Return a number with its interval as a cell, multiplied; empty where it is not finite."""
    value, low, high = (
        None if (end := _finite(x)) is None else factor * end for x in (number.value, number.low, number.high)
    )
    return Value(value, low, high)


def plain(number: Number) -> Value:
    """Return a number as a cell, without its interval."""
    return Value(_finite(number.value if isinstance(number, Estimate) else number))


def _boundaries(file: ResultFile, result: BoundaryResult) -> Iterator[Block]:
    """Table 1 for syllables, 4 for first boundaries and rounds, 5 where phones or words were references too."""
    # The paper's protocol first, so that what else was measured (purity) stands beside it.
    rows = sorted(result.rows, key=lambda row: row.protocol != PAPER)
    levels = {row.level for row in rows}
    for row in rows:
        f1 = percent(row.f1_50, row.f1_low, row.f1_high)
        if row.level == "syllable":
            scores = {"f1_50": f1, "precision": percent(row.precision), "recall": percent(row.recall)}
            more = {"f1_20": percent(row.f1_20), "r_value": percent(row.r_value), "token_f1": percent(row.token_f1)}
            # A tuned shift is each system's own, and each reference's: in Table 5 all references share a row.
            shift = show_shift(row.shift) if row.tuned else ""
            yield _boundary_block(file, result, row, "1", scores | more, shift)
            if row.method in FIRST_BOUNDARIES or (row.method == "minsum" and row.layer is not None):
                yield _boundary_block(file, result, row, "4", scores, shift)
        if levels != {"syllable"}:
            yield _boundary_block(file, result, row, "5", {row.level: f1, "hz": _segment_rate(result, row)})


def _boundary_block(
    file: ResultFile,
    result: BoundaryResult,
    row: BoundaryRow,
    table: str,
    values: Mapping[str, Value],
    detail: str = "",
) -> Block:
    """Return a block of one system under one protocol and one rule for its number of segments."""
    shift = show_shift(row.shift) if round(1000 * row.shift) else "no shift"
    if row.tuned:
        shift = "shift tuned" + (f" on {short_name(result.tuning.name)}" if result.tuning else "")
    # A tokenizer whose count other rows were given stands among them.
    lent = row.count == "own" and any(other.count == f"own of {row.segmenter}" for other in result.rows)
    count = f"own of {row.segmenter}" if lent else row.count
    if count == "own":
        count = "its own"
    elif count.startswith("own of "):
        count = f"{short_name(count.removeprefix('own of '))}'s own"
    else:
        count = "the reference's" if count == "reference" else f"{count} a second"
    protocol = f"protocol {row.protocol}, {shift}; number of segments: {count}"
    system = row.segmenter
    if row.method and row.model:
        layer = "" if row.layer is None else f"@{row.layer}"
        system = f"{row.method}{layer} of {short_name(row.model)}"
    given = row.count != "own"
    return _block(file, table, "boundaries", values, system=system, protocol=protocol, detail=detail, given_count=given)


def _segment_rate(result: BoundaryResult, row: BoundaryRow) -> Value:
    """Segments per second of audio, not of a reference's count; unknown where only stretches of speech were seen."""
    if not result.data.seconds or row.count == "reference" or row.protocol == "zerosyl":
        return Value(None)
    return Value(row.token_predicted / result.data.seconds)


def show_shift(seconds: float) -> str:
    """Return a shift in whole milliseconds: "shift -15 ms"."""
    milliseconds = round(1000 * seconds)
    return f"shift {milliseconds:+d} ms" if milliseconds else "shift 0 ms"


def _purity(file: ResultFile, result: PurityResult) -> Iterator[Block]:
    """Table 1: the purities as the released code reads them, against syllables."""
    for row in result.rows:
        if row.level == "syllable":
            values = {
                "cluster_purity": percent(row.cluster_purity),
                "syllable_purity": percent(row.syllable_purity),
                "nmi": percent(row.normalized_mutual_information),
            }
            detail = f"purities by {result.matching} matching"
            yield _block(file, "1", "purity", values, system=row.model or "", detail=detail)


def _bitrate(file: ResultFile, result: BitrateResult) -> Iterator[Block]:
    """Table 2, and the rates of Tables 3 and 6."""
    values = {"hz": plain(result.merged_unit_rate), "units": plain(result.num_units)}
    bits = values | {"bps": plain(result.bits_per_second)}
    yield _block(file, "2", "rate", bits | {"length_bps": plain(result.length_entropy_rate)})
    yield _block(file, "3", "rate", bits)
    yield _block(file, "6", "rate", values)


def _stability(file: ResultFile, result: StabilityResult) -> Iterator[Block]:
    """Table S: a row of edit distances and one of boundary agreement for each model."""
    # A mean over fewer conditions is not that of the other rows.
    detail = "" if len(result.conditions) == len(CONDITIONS) else f"mean of {', '.join(result.conditions)}"
    for model in dict.fromkeys(row.model for row in result.rows):
        rows = [row for row in result.rows if row.model == model]
        for score, values in (
            ("unit edit distance in %", {row.condition: percent(row.unit_edit_distance) for row in rows}),
            ("F1 in % of boundaries at 20 ms", {row.condition: percent(row.f1_20) for row in rows}),
        ):
            protocol = f"{score}; seed {result.seed}"
            yield _block(file, STABILITY, "stability", values, system=model, protocol=protocol, detail=detail)


def _recognizer(result: RecognizerScores | ContinuationResult) -> str:
    settings = f" ({result.recognizer_settings})" if result.recognizer_settings else ""
    return f"recogniser {result.recognizer}{settings}"


def _resynthesis(file: ResultFile, result: ResynthesisResult) -> Iterator[Block]:
    """Table 2: resynthesis, and what bounds it, by each recogniser."""
    lengths = f"recordings of {result.min_seconds:g} to {result.max_seconds:g} s"
    about = {"system": f"units {Path(result.unit_file).name}"} if result.unit_file else {}
    for scores in result.by_recognizer:
        protocol = f"{_recognizer(scores)}, {lengths}, texts compared by the rule {result.normalization.name!r}"
        for part, rates in (
            ("", scores.resynthesis),
            ("predicted durations", scores.predicted_durations),
            ("vocoder only (bound)", scores.vocoder),
            ("original recordings", scores.original),
        ):
            if rates is not None:
                values = {"wer": percent(rates.wer), "cer": percent(rates.cer)}
                yield _block(file, "2", "resynthesis", values, protocol=protocol, part=part, **about)


def _quality(file: ResultFile, result: QualityResult) -> Iterator[Block]:
    """Table Q: a row for each rendering, with the first recogniser's error rates; those of others in rows below."""
    lengths = f"recordings of {result.min_seconds:g} to {result.max_seconds:g} s"
    about = {"system": f"units {Path(result.unit_file).name}"} if result.unit_file else {}
    for place, name in enumerate(result.recognizers or ("",)):
        parts = [lengths]
        if name and result.normalization is not None:
            rule = f"texts compared by the rule {result.normalization.name!r}"
            parts = [f"recogniser {name} ({result.methods[f'recogniser {name}']})", lengths, rule]
        for row in result.rows:
            values: dict[str, Value] = {}
            for key, measure in MEASURES.items() if place == 0 else ():
                if (number := getattr(row, key)) is not None:
                    values[key] = _scaled(number, measure.factor)
            if name and row.errors:
                values |= {"wer": percent(row.errors[name].wer), "cer": percent(row.errors[name].cer)}
            part = row.speech.replace("_", " ")
            yield _block(file, QUALITY, "quality", values, protocol=", ".join(parts), part=part, **about)


def _pairs(file: ResultFile, result: PairsResult) -> Iterator[Block]:
    """Tables 3 and 6: accuracies of a language model on a tokenizer's units, and its sizes."""
    columns = _ACCURACIES[type(result)]
    found = {(row.group, row.name): percent(row.accuracy, row.low, row.high) for row in result.rows or ()}
    open_set = result.data.set or ""
    # Scores on an open set name it.
    scores = {
        column: Value(cell.number, cell.low, cell.high, on=open_set)
        for key, column in columns.items()
        if (cell := found.get(key)) is not None
    }
    info = result.lm_info
    sizes = {"params": plain(info.params), "units": plain(info.num_units), "tokens": plain(info.unique_tokens)}
    ties = result.protocol.get("ties")
    about = {
        "system": result.lm,
        "protocol": result.protocol["score"] + (f", ties count {ties}" if ties else ""),
        "tokenizer": result.model or "",
        "units": "" if result.model else Path(result.units or result.data.name).name,
        "open_set": open_set,
    }
    yield _block(file, "3", result.evaluation, scores | sizes, **about)
    for name in ("summed", "localised", "normalised"):
        others = {key: getattr(row, name) for row in result.rows or () if (key := (row.group, row.name)) in columns}
        cells = {columns[key]: replace(percent(value), on=open_set) for key, value in others.items() if value}
        if cells:
            score = {"protocol": about["protocol"].replace(result.protocol["score"], result.protocol[name])}
            yield _block(file, "3", result.evaluation, cells | sizes, **about | score)
    some = {key: cell for key, cell in scores.items() if key in ("swuggy_all", "sblimp")}
    if not isinstance(result, ClozeResult):
        yield _block(file, "6", result.evaluation, some | {"units": sizes["units"]}, **about)


_ACCURACIES: dict[type[PairsResult], dict[tuple[str, str], str]] = {
    LexicalResult: {
        ("all", "pairs"): "swuggy_all",
        ("vocabulary", "in"): "swuggy_iv",
        ("vocabulary", "oov"): "swuggy_oov",
    },
    SyntacticResult: {("all", "pairs"): "sblimp"},
    ClozeResult: {("all", "stories"): "tsc"},
}


def _continuation(file: ResultFile, result: ContinuationResult) -> Iterator[Block]:
    """Table 7; nothing where only units were measured."""
    if result.oracle is None or result.text_lm is None:
        return
    values, misses = {}, []
    for column, score in (("ppx", result.ppx_at_oracle_vert), ("vert", result.vert_at_oracle_ppx)):
        if score is None or score.value is None:
            misses.append(f"no {column.upper()}: {score.crossing.status if score else 'not measured'}")
        elif score.two_sigma is None:
            values[column] = Value(score.value)
        else:
            half = score.two_sigma
            values[column] = Value(score.value, score.value - half, score.value + half, bar=True)
    parts = [
        _recognizer(result),
        f"text model {result.text_lm.name} ({result.text_lm.kind})",
        f"{result.protocol['ppx_average']} PPX",
        f"prompts of {result.prompt_seconds:g} s, continuations of {result.continuation_seconds:g} s",
        f"reference: {result.oracle.source}",
    ]
    yield _block(file, "7", "continuation", values, protocol="; ".join(parts), detail="; ".join(misses))


def _speed(file: ResultFile, result: SpeedResult) -> Iterator[Block]:
    """Table 9: one row for each precision."""
    machine = result.machine
    place = machine.gpu or f"{machine.processor}, {machine.threads} threads"
    for run in result.runs:
        protocol = (
            f"{place}; {run.precision}, batches of {result.batch_seconds:g} s, with all stages from file to units"
        )
        yield _block(file, "9", "speed", {"speed": plain(run.audio_per_second)}, protocol=protocol)


def _system_speed(file: ResultFile, result: SystemSpeedResult) -> Iterator[Block]:
    """Table 9: one row for each system and task."""
    machine = result.machine
    place = machine.gpu or f"{machine.processor}, {machine.threads} threads"
    clips = f"{result.size} size, clips of {result.clip_seconds:g} s"
    for row in result.rows:
        protocol = f"{place}; {result.precision}, {clips}, {row.weights} weights, {row.task}"
        yield _block(file, "9", "speed", {"speed": plain(row.audio_per_second)}, system=row.system, protocol=protocol)


# In the order of the paper's tables and columns.
_EXTRACTORS: dict[type, Callable[[ResultFile, Any], Iterator[Block]]] = {
    BoundaryResult: _boundaries,
    PurityResult: _purity,
    BitrateResult: _bitrate,
    StabilityResult: _stability,
    ResynthesisResult: _resynthesis,
    QualityResult: _quality,
    LexicalResult: _pairs,
    SyntacticResult: _pairs,
    ClozeResult: _pairs,
    ContinuationResult: _continuation,
    SpeedResult: _speed,
    SystemSpeedResult: _system_speed,
}


def extract(files: Iterable[ResultFile]) -> list[Block]:
    """Return the cells of all results, in the order of the paper's tables and columns."""
    order = [*_EXTRACTORS]
    known = [file for file in files if type(file.result) in order]
    known.sort(key=lambda file: order.index(type(file.result)))
    return [block for file in known for block in _EXTRACTORS[type(file.result)](file, file.result)]


def extract_curves(files: Iterable[ResultFile]) -> list[Curve]:
    """Return perplexity and diversity over temperature, of the continuations among the results."""
    results = [file.result for file in files if isinstance(file.result, ContinuationResult)]
    return [_curve(result, result.oracle) for result in results if result.oracle is not None]


def _curve(result: ContinuationResult, oracle: OracleSummary) -> Curve:
    def scores(summary: TextSummary) -> tuple[float, float] | None:
        ppx = summary.ppx_mean if result.protocol["ppx_average"] == "mean" else summary.ppx_median
        return None if ppx is None else (ppx, summary.vert)

    points = [(row.temperature, scores(row.summary)) for row in result.temperatures if row.summary is not None]
    known = tuple((temperature, *point) for temperature, point in points if point is not None)
    return Curve(result.model, result.data.name, known, scores(oracle))


def _block(
    file: ResultFile,
    table: str,
    family: str,
    values: Mapping[str, Value],
    system: str = "",
    protocol: str = "",
    **more: Any,
) -> Block:
    """Return a block of a result about its own data."""
    result: Any = file.result
    # What was measured: the model, or the file of units.
    name = system or result.model or f"units {Path(result.data.name).name}"
    known = {key: value for key, value in values.items() if value.number is not None}
    return Block(table, name, family, result.data.name, _size(result.data), protocol, known, file.path, **more)


def _size(data: Any) -> str:
    counts = ((name, getattr(data, name, None)) for name in ("recordings", "items", "prompts", "pairs"))
    parts = [f"{count:,} {name[:-1] if count == 1 else name}" for name, count in counts if count is not None]
    seconds = getattr(data, "seconds", None)
    return ", ".join(parts if seconds is None else [*parts, show_seconds(seconds)])


def show_seconds(seconds: float) -> str:
    """Return a length as text: "48 s", "7.0 min", "2.8 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
