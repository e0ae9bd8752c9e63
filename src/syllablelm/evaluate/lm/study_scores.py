"""Scores of every model of a scaling study on suites of pairs: scores.json beside each run.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from syllablelm.core.artifact import check_tokenizer, digest_json, open_artifact
from syllablelm.core.errors import AudioError, InputError, located
from syllablelm.core.files import atomic_path
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Record, read_json
from syllablelm.evaluate.block_store import BlockStore, Row
from syllablelm.evaluate.lm import TieRule
from syllablelm.evaluate.lm.cloze import TIES, read_cloze
from syllablelm.evaluate.lm.pairs import Pair, PairCounts, list_pair_stems, score_pairs
from syllablelm.evaluate.lm.scorer import CHUNK, Encode, open_source, read_finished, refuse_faults, score_stems
from syllablelm.evaluate.lm.suites import WORD_SILENCE, read_lexical, read_syntactic, syntactic_rows
from syllablelm.evaluate.lm.zerospeech import check_stems, find_split, list_stems
from syllablelm.formats.record import from_record, to_record
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.lm.store import INFO_FILE, read_info
from syllablelm.scaling.runs import SCORES_FILE, collect_runs
from syllablelm.tokenizer.tokenizer import Tokenizer

SCORES_FOLDER = "scores"
Kind = Literal["lexical", "syntactic", "cloze"]


@dataclass(frozen=True)
class PairSuite(Record):
    """A set of spoken pairs that models of a study are scored on.

    Args:
        kind: "lexical" (accuracy over pairs), "syntactic" (mean over phenomena) or "cloze" (accuracy over stories).
        folder: folder of the recordings, as for `evaluate_lexical`, `evaluate_syntactic` and `evaluate_cloze`.
        units: file of their units; None to encode the recordings.
    """

    kind: Kind
    folder: str
    units: str | None = None


@dataclass(frozen=True)
class ScoredRun(Record):
    """Scores of one model in percent by name of the suite, and its folder."""

    run: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class StudyScores(Record):
    """Scores of the models of a study.

    Args:
        suites: suites by name.
        recordings: number of recordings of each suite.
        runs: scores of each model.
    """

    suites: Mapping[str, PairSuite]
    recordings: Mapping[str, int]
    runs: tuple[ScoredRun, ...]


@dataclass(frozen=True)
class _Items:
    """Pairs of a suite, names of their recordings, their units, and what these depend on."""

    pairs: list[Pair]
    stems: list[str]
    encode: Encode
    facts: Mapping[str, Any]


def read_suites(units: Iterable[str] = (), **folders: Iterable[str]) -> dict[str, PairSuite]:
    """Return suites by name.

    Args:
        units: files of units, ``NAME=FILE`` of one suite or ``FILE`` of all that have none of their own.
        folders: folders by kind, ``NAME=FOLDER`` or ``FOLDER``; the default name is the kind.

    Raises:
        InputError: no suite, a name twice, or units of a suite that is not there.
    """
    suites: dict[str, PairSuite] = {}
    files = dict(_split(argument, "") for argument in units)
    for kind in get_args(Kind):
        for name, folder in (_split(argument, kind) for argument in folders.get(kind, ())):
            if name in suites or Path(name).name != name or name.startswith("."):
                raise InputError(f"--{kind} {name}={folder}: give it a name of its own: --{kind} NAME={folder}")
            suites[name] = PairSuite(kind, folder, files.get(name, files.get("")))
    if not suites:
        raise InputError("nothing to score; give one of --lexical, --syntactic, --cloze with a folder")
    for name in files:
        if name and name not in suites:
            raise InputError(f"--units {name}={files[name]}: no suite of this name; there are {', '.join(suites)}")
    return suites


def _split(argument: str, default: str) -> tuple[str, str]:
    name, equals, path = argument.partition("=")
    return (name, path) if equals else (default, argument)


def score_study(
    folders: Iterable[str | Path],
    suites: Mapping[str, PairSuite],
    *,
    model: str | Path | Tokenizer = "small",
    split: str = "dev",
    ties: TieRule = "half",
    device: str = "auto",
) -> StudyScores:
    """Score every finished model of a study on suites of pairs, and write the scores into its scores.json.

    Recordings are encoded once for all models. A stopped run resumes; scored models are not scored again. Scores of the
    recordings lie in RUN/scores/NAME.txt.

    Args:
        folders: folders of ``scale run`` or ``train lm``, or folders above them, as `collect_runs` takes.
        suites: suites by name of the score (`read_suites`).
        model: tokenizer of the recordings; suites with units need none.
        split: part of the lexical and syntactic suites.
        ties: score of equal likelihoods in cloze suites, see `evaluate_cloze`.
        device: see `syllablelm.evaluate`.

    Raises:
        InputError: no finished run, scores of that name from elsewhere, or recordings that cannot be scored.
        FormatError: a folder of another layout, or a model of another tokenizer.
    """
    places = [Path(folder) for folder in folders]
    runs = [Path(run.place).parent for run in collect_runs(places).runs]
    from_audio = [name for name, suite in suites.items() if suite.units is None]
    if from_audio:
        model = model if isinstance(model, Tokenizer) else Tokenizer.load(model, device=device)
        for run in runs:
            with located(str(run)):
                check_tokenizer("language model", read_info(run / INFO_FILE).tokenizer, model.digest)
    items = {name: _open_items(suite, model, split) for name, suite in suites.items()}
    earlier = {run: _read_scores(run, suites) for run in runs}
    keys = {run: {name: _key(run, each) for name, each in items.items()} for run in runs}
    remedy = "give the suite another name: NAME=FOLDER"
    done = {(run, name): read_finished(_path(run, name), keys[run][name], remedy) for run in runs for name in items}
    # Units are kept until all models are scored.
    stores = {
        name: BlockStore(places[0], ".units", items[name].facts, CHUNK)
        for name in from_audio
        if any(done[run, name] is None for run in runs)
    }
    total = sum(len(items[name].stems) for name in [*stores, *(name for _ in runs for name in items)])
    finished = sum(len(scores or ()) for scores in done.values())
    rows = []
    with ProgressBar("scores", total, done=finished, closing_line=False) as bar:
        for name, store in stores.items():
            items[name] = _encode_all(items[name], store, bar.advance)
        for run in runs:
            lm, accuracies = None, {}
            for name, each in items.items():
                scores = done[run, name]
                if scores is None:
                    lm = lm or SpeechLM.load(run, device=device)
                    path, key = _path(run, name), keys[run][name]
                    scores = score_stems(each.stems, each.encode, lm, path, key, advance=bar.advance)
                points = TIES[ties if suites[name].kind == "cloze" else "half"]
                accuracies[name] = _percent(suites[name].kind, each.pairs, score_pairs(each.pairs, scores, ties=points))
            with atomic_path(run / SCORES_FILE) as part:
                part.write_text(json.dumps(earlier[run] | accuracies) + "\n", encoding="utf-8")
            rows.append(ScoredRun(str(run), accuracies))
    for store in stores.values():
        store.remove()
    return StudyScores(suites, {name: len(each.stems) for name, each in items.items()}, tuple(rows))


def _open_items(suite: PairSuite, model: str | Path | Tokenizer, split: str) -> _Items:
    folder = Path(suite.folder)
    if suite.kind == "cloze":
        pairs = read_cloze(folder)
    else:
        folder = find_split(folder, suite.kind, split)
        pairs = read_lexical(folder) if suite.kind == "lexical" else read_syntactic(folder)
    stems = list_pair_stems(pairs)
    if suite.units is None:
        check_stems(stems, list_stems(folder), folder)
    silence = WORD_SILENCE if suite.kind == "lexical" else None
    encode, source = open_source(folder, stems, model, suite.units, silence=silence)
    return _Items(pairs, stems, encode, {"source": source, "stems": stems})


def _encode_all(items: _Items, store: BlockStore, advance: Callable[[], None]) -> _Items:
    """Return the items with the units of all recordings encoded, those of a stopped run from the store."""

    def make(first: int, last: int) -> Iterator[Row]:
        units = items.encode(items.stems[first:last])
        for stem in items.stems[first:last]:
            fault = units[stem]
            yield {"id": stem, "fault": str(fault)} if isinstance(fault, AudioError) else to_record(stem, stem, fault)

    units, faults = {}, {}
    for row in store.rows(items.stems, make):
        if "fault" in row:
            faults[row["id"]] = row["fault"]
        else:
            units[row["id"]] = from_record(row)
        advance()
    refuse_faults(faults, len(items.stems))
    return replace(items, encode=lambda stems: {stem: units[stem] for stem in stems})


def _path(run: Path, name: str) -> Path:
    return run / SCORES_FOLDER / f"{name}.txt"


def _key(run: Path, items: _Items) -> str:
    return digest_json([open_artifact(run, "lm").digest, items.facts])


def _read_scores(run: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return the scores of a run; an InputError for one of these names that is not of its scored recordings."""
    scores = read_json(run / SCORES_FILE) if (run / SCORES_FILE).exists() else {}
    for name in names:
        if name in scores and not _path(run, name).exists():
            raise InputError(f"{run / SCORES_FILE}: has another score {name}; remove it, or name the suite otherwise")
    return scores


def _percent(kind: Kind, pairs: Sequence[Pair], counts: Sequence[PairCounts]) -> float:
    """Return the accuracy in percent: the mean over phenomena of a syntactic suite (FACTS C4), over pairs of others."""
    if kind == "syntactic":
        (share,) = (row.accuracy for row in syntactic_rows(pairs, counts, resamples=1) if row.group == "macro")
    else:
        share = PairCounts.merge(counts).accuracy
    return 100 * share
