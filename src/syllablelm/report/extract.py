"""Results to cells: one small function for each evaluation, from its JSON to blocks of the paper's tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from syllablelm.evaluate.units.stability import CONDITIONS
from syllablelm.report.figures import Curve
from syllablelm.report.paper_tables import STABILITY, Block, Value, short_name
from syllablelm.report.result_files import RUN, Fields, Result

# How rows of ``evaluate boundaries`` are told to belong to Table 4: "similarity@9", "losspred", ".../round2/...".
_FIRST_BOUNDARIES = re.compile(r"^(.* )?(similarity|losspred)\b", re.IGNORECASE)
# The protocol of the published rows of Tables 1, 4 and 5; rows by another one stand below and name it.
PAPER = "paper"
# What is known of a language model, by column.
_SIZES = {"params": "params", "units": "num_units", "tokens": "unique_tokens"}
_ROUND = re.compile(r"\b(round|iteration)[-_ ]?\d+\b", re.IGNORECASE)


def percent(fields: Fields, key: str, low: str = "", high: str = "") -> Value:
    """A share as a cell in %, with its interval where the result has one."""
    value = fields.number(key)
    ends = [fields.optional(end) if end else None for end in (low, high)]
    first, least, most = (None if number is None else 100 * number for number in (value, *ends))
    return Value(first, least, most)


def plain(fields: Fields, key: str) -> Value:
    """A number as it is."""
    return Value(fields.optional(key))


def boundaries(result: Result) -> Iterator[Block]:
    """Table 1 for syllables, 4 for first boundaries and rounds, 5 where phones or words were references too."""
    # The paper's protocol first, so that what else was measured (purity) stands beside it.
    rows = sorted(result.body.parts("rows"), key=lambda row: row.values.get("protocol") != PAPER)
    levels = {row.text("level") for row in rows}
    for row in rows:
        f1 = percent(row, "f1@50", "f1_low", "f1_high")
        if row.text("level") == "syllable":
            yield from _cuts(result, row, f1)
        if levels != {"syllable"}:
            values = {row.text("level"): f1, "hz": _segment_rate(result, row)}
            yield _cut_block(result, row, "5", _known(values))


def _cut_block(result: Result, row: Fields, table: str, values: dict[str, Value], detail: str = "") -> Block:
    """A block of one system under one protocol and one rule for its number of groups."""
    name = row.text("segmenter")
    told, given = _count_text(result, row)
    made = block(result, table, name, "boundaries", f"{protocol_text(result, row)}; {told}", values)
    return replace(made, detail=detail, given_count=given)


def _cuts(result: Result, row: Fields, f1: Value) -> Iterator[Block]:
    """Syllable boundaries for Tables 1 and 4."""
    cuts = {"f1_50": f1, "precision": percent(row, "precision"), "recall": percent(row, "recall")}
    name = row.text("segmenter")
    # A tuned shift is each system's own, and each reference's: in Table 5 all references share a row.
    shift = show_shift(row.optional("shift") or 0.0) if row.values.get("tuned") else ""
    more = {
        "f1_20": percent(row, "f1@20"),
        "r_value": percent(row, "r_value"),
        "token_f1": percent(row, "token_f1", "token_f1_low", "token_f1_high"),
    }
    yield _cut_block(result, row, "1", {**cuts, **more}, shift)
    if _FIRST_BOUNDARIES.search(name) or _ROUND.search(name):
        yield _cut_block(result, row, "4", cuts, shift)


def purity(result: Result) -> Iterator[Block]:
    """Table 1: the purities as the released code reads them, against syllables."""
    for row in result.body.parts("rows"):
        if row.text("level") == "syllable":
            columns = {
                "cluster_purity": "cluster_purity",
                "syllable_purity": "syllable_purity",
                "nmi": "normalized_mutual_information",
            }
            values = {key: percent(row, name, f"{name}_low", f"{name}_high") for key, name in columns.items()}
            told = f"purities by {result.body.text('matching')} matching"
            yield replace(block(result, "1", system(result), "purity", "", values), detail=told)


def bitrate(result: Result) -> Iterator[Block]:
    """Table 2, and the rates of Tables 3 and 6."""
    values = {
        "hz": plain(result.body, "merged_unit_rate"),
        "units": plain(result.body, "num_units"),
        "bps": plain(result.body, "bits_per_second"),
    }
    lengths = {"length_bps": plain(result.body, "length_entropy_rate")}
    yield block(result, "2", system(result), "rate", "", _known(values | lengths))
    yield block(result, "3", system(result), "rate", "", _known(values))
    yield block(result, "6", system(result), "rate", "", _known({key: values[key] for key in ("hz", "units")}))


_STABILITY = {"unit_edit_distance": "unit edit distance in %", "f1@20": "F1 in % of boundaries at 20 ms"}


def stability(result: Result) -> Iterator[Block]:
    """Table S: a row of edit distances and one of boundary agreement for each model."""
    rows = result.body.parts("rows")
    tried = {row.text("condition") for row in rows}
    only = [name for name in CONDITIONS if name in tried]
    # A mean over fewer conditions is not that of the other rows.
    detail = "" if len(only) == len(CONDITIONS) else f"mean of {', '.join(only)}"
    for model in dict.fromkeys(row.text("model") for row in rows):
        mine = [row for row in rows if row.text("model") == model]
        for key, told in _STABILITY.items():
            values = {row.text("condition"): percent(row, key, f"{key}_low", f"{key}_high") for row in mine}
            protocol = f"{told}; seed {result.body.setting('seed')}"
            yield replace(block(result, STABILITY, model, "stability", protocol, values), detail=detail)


def resynthesis(result: Result) -> Iterator[Block]:
    """Table 2: resynthesis, and what bounds it."""
    parts = {"resynthesis": "", "vocoder": "vocoder only (bound)", "original": "original recordings"}
    shortest, longest = (result.body.setting(f"{end}_seconds") for end in ("min", "max"))
    told = f"recogniser {result.body.text('recognizer')}, recordings of {shortest} to {longest} s"
    for key, part in parts.items():
        if key == "resynthesis" or key in result.body:
            rates = result.body.part(key)
            values = {name: percent(rates, name, f"{name}_low", f"{name}_high") for name in ("wer", "cer")}
            yield block(result, "2", system(result), "resynthesis", told, values, part=part)


def lexical(result: Result) -> Iterator[Block]:
    """Tables 3 and 6."""
    values = _accuracies(
        result, {("all", "pairs"): "swuggy_all", ("vocabulary", "in"): "swuggy_iv", ("vocabulary", "oov"): "swuggy_oov"}
    )
    yield lm_block(result, "3", "lexical", values)
    yield lm_block(result, "6", "lexical", {k: v for k, v in values.items() if k == "swuggy_all"})


def syntactic(result: Result) -> Iterator[Block]:
    """Tables 3 and 6: the mean over pairs."""
    values = _accuracies(result, {("all", "pairs"): "sblimp"})
    yield lm_block(result, "3", "syntactic", values)
    yield lm_block(result, "6", "syntactic", values)


def cloze(result: Result) -> Iterator[Block]:
    """Table 3."""
    yield lm_block(result, "3", "cloze", _accuracies(result, {("all", "stories"): "tsc"}))


def speed(result: Result) -> Iterator[Block]:
    """Table 9: one row for each precision."""
    machine = result.body.part("machine")
    place = machine.optional_text("gpu") or f"{machine.text('processor')}, {machine.setting('threads')} threads"
    batch = result.body.setting("batch_seconds")
    for run in result.body.parts("runs"):
        told = f"{place}; {run.text('precision')}, batches of {batch} s, with all stages from file to units"
        yield block(result, "9", system(result), "speed", told, {"speed": plain(run, "audio_per_second")})


_CONTINUATION = {"ppx": ("ppx_at_oracle_vert", "PPX"), "vert": ("vert_at_oracle_ppx", "VERT")}


def continuation(result: Result) -> Iterator[Block]:
    """Table 7; nothing where only units were measured."""
    body = result.body
    if not any(key in body for key, _ in _CONTINUATION.values()):
        return
    values, misses = {}, []
    for column, (key, name) in _CONTINUATION.items():
        score = body.part(key)
        value, half = score.number("value"), score.optional("two_sigma")
        if value is None:
            misses.append(f"no {name}: {score.text('status')}")
        elif half is None:
            values[column] = Value(value)
        else:
            values[column] = Value(value, value - half, value + half, bar=True)
    parts = [
        f"recogniser {body.text('recognizer')}",
        f"text model {_text_model(body.part('text_lm'))}",
        f"{body.part('protocol').text('ppx_average')} PPX",
        f"prompts of {body.setting('prompt_seconds')} s, continuations of {body.setting('continuation_seconds')} s",
        f"reference: {body.part('oracle').text('source')}",
    ]
    made = block(result, "7", system(result), "continuation", "; ".join(parts), values)
    yield replace(made, detail="; ".join(misses))


def _text_model(fields: Fields) -> str:
    name, kind = fields.text("name"), fields.optional_text("kind")
    return f"{name} ({kind})" if kind else name


def run(result: Result) -> Iterator[Block]:
    """The sizes of Table 3."""
    yield Block("3", str(result.path.resolve().parent), "run", "", "", "", _sizes(result.body), result.path)


def _sizes(fields: Fields) -> dict[str, Value]:
    """Parameters, vocabulary and training units of a language model, where they are known."""
    return _known({column: plain(fields, key) for column, key in _SIZES.items()})


EXTRACTORS: dict[str, Callable[[Result], Iterator[Block]]] = {
    "boundaries": boundaries,
    "purity": purity,
    "bitrate": bitrate,
    "stability": stability,
    "resynthesis": resynthesis,
    "lexical": lexical,
    "syntactic": syntactic,
    "cloze": cloze,
    "continuation": continuation,
    "speed": speed,
    RUN: run,
}


def extract(results: Iterable[Result]) -> list[Block]:
    """The cells of all results, in the order of the paper's tables and columns."""
    order = [*EXTRACTORS]
    ordered = sorted(results, key=lambda result: order.index(result.evaluation))
    return [block for result in ordered for block in EXTRACTORS[result.evaluation](result)]


def protocol_text(result: Result, row: Fields) -> str:
    """A boundary protocol for the reader: "protocol peng, shift tuned on tune.jsonl"."""
    shift = row.optional("shift") or 0.0
    told = show_shift(shift) if round(1000 * shift) else "no shift"
    if row.values.get("tuned"):
        told = "shift tuned"
        told += f" on {short_name(result.body.part('tuning').text('name'))}" if "tuning" in result.body else ""
    return f"protocol {row.text('protocol')}, {told}"


def show_shift(seconds: float) -> str:
    """A shift for the reader, in whole milliseconds: "shift -15 ms"."""
    milliseconds = round(1000 * seconds)
    return f"shift {milliseconds:+d} ms" if milliseconds else "shift 0 ms"


def _count_text(result: Result, row: Fields) -> tuple[str, bool]:
    """How a row came to its number of groups, and whether that was given to it from outside."""
    name, told = row.text("segmenter"), row.optional_text("count")
    if told == "own" and name != (result.model or "").split(", ")[0]:
        return "number of groups: its own", False
    # Older files say it once, for all rows.
    count, models = result.body.optional_text("count") or "own", (result.model or "").split(", ")
    # Rows of unit files bear the files' names.
    if name not in models and name in {Path(part).stem for part in result.data.split(", ")}:
        return "number of groups: its own", False
    if count == "reference":
        return "number of groups: the reference's", True
    if not count.startswith("own"):
        return f"number of groups: {count} a second", True
    if not models[0] or name in models[1:]:
        return "number of groups: its own", False
    # The first model's count is every baseline's too.
    return f"number of groups: {short_name(models[0])}'s own", name != models[0]


def _segment_rate(result: Result, row: Fields) -> Value:
    """Segments per second of audio, not of a reference's count; unknown where only stretches of speech were seen."""
    seconds, count = result.body.part("data").optional("seconds"), row.optional("token_predicted")
    reference = (row.optional_text("count") or result.body.optional_text("count")) == "reference"
    if not seconds or count is None or reference or row.text("protocol") == "zerosyl":
        return Value(None)
    return Value(count / seconds)


def system(result: Result) -> str:
    """What was measured: the model, or the file of units."""
    if result.model:
        return result.model
    # In a bit rate "units" is their number, and the file of units is the data.
    file = result.data if result.evaluation == "bitrate" else result.body.optional_text("units") or result.data
    return f"units {Path(file).name}"


def block(
    result: Result, table: str, name: str, family: str, protocol: str, values: dict[str, Value], *, part: str = ""
) -> Block:
    """A block of a result about its own data."""
    return Block(table, name, family, result.data, result.size, protocol, values, result.path, part=part)


def lm_block(result: Result, table: str, family: str, values: dict[str, Value]) -> Block:
    """A block about a language model on a tokenizer's units; its scores say on which open set they are."""
    name = open_set(result)
    values = {key: replace(value, on=name) for key, value in values.items()}
    if "lm_info" in result.body:
        sizes = _sizes(result.body.part("lm_info"))
        values |= sizes if table == "3" else {key: sizes[key] for key in sizes if key == "units"}
    made = block(result, table, result.body.text("lm"), family, _pair_protocol(result), values)
    # "units NAME" where no tokenizer was run.
    units = "" if result.model else system(result).removeprefix("units ")
    return replace(made, tokenizer=result.model or "", units=units, open_set=name)


def open_set(result: Result) -> str:
    """The name of an open set of pairs; "" for any other."""
    return result.body.part("data").optional_text("set") or ""


def _pair_protocol(result: Result) -> str:
    protocol = result.body.part("protocol")
    ties = protocol.optional_text("ties")
    return protocol.text("score") + (f", ties count {ties}" if ties else "")


def _accuracies(result: Result, wanted: dict[tuple[str, str], str]) -> dict[str, Value]:
    """Accuracies of some rows by column; none where the set has no gold list."""
    if "rows" not in result.body:
        return {}
    return {
        wanted[place]: percent(row, "accuracy", "low", "high")
        for row in result.body.parts("rows")
        if (place := (row.text("group"), row.text("name"))) in wanted
    }


def _known(values: dict[str, Value]) -> dict[str, Value]:
    return {key: value for key, value in values.items() if value.number is not None}


def curves(results: Iterable[Result]) -> list[Curve]:
    """Perplexity and diversity over temperature, of the continuations among the results."""
    return [_curve(result) for result in results if result.evaluation == "continuation" and "oracle" in result.body]


def _curve(result: Result) -> Curve:
    key = f"ppx_{result.body.part('protocol').text('ppx_average')}"

    def place(fields: Fields) -> tuple[float, float] | None:
        ppx, vert = fields.number(key), fields.number("vert")
        return None if ppx is None or vert is None else (ppx, vert)

    points = [(row.number("temperature"), place(row)) for row in result.body.parts("temperatures")]
    known = tuple((at, *point) for at, point in points if at is not None and point is not None)
    return Curve(system(result), result.data, known, place(result.body.part("oracle")))
