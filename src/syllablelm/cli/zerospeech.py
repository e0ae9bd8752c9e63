"""``evaluate lexical``, ``syntactic`` and ``cloze``: how often a language model finds the right recording likelier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.common import (
    DEFAULT_MODEL,
    Device,
    Model,
    Resamples,
    Seed,
    TableFormat,
    Units,
    load_tokenizer,
    no_usable,
    print_json,
)
from syllablelm.core.errors import AudioError, FormatError, InputError
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.data.corpus import Manifest
    from syllablelm.evaluate.lm.pairs import Pair, PairCounts
    from syllablelm.evaluate.lm.zerospeech import Encode
    from syllablelm.lm.speech_lm import SpeechLM
    from syllablelm.tokenizer.tokenizer import Tokenizer

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The benchmark's folder.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Scores of all recordings, as submitted; resumes there.")
]
LanguageModel = Annotated[
    str | None, typer.Option("--lm", metavar="NAME|PATH", help="Language model; default that of --model.")
]
Split = Annotated[str, typer.Option("--split", metavar="dev|test", help="Which part.")]
Rows = Callable[["Sequence[Pair]", "Sequence[PairCounts]"], list[dict[str, Any]]]


@dataclass(frozen=True)
class _Models:
    """What scores: a language model, and what gives it units."""

    model: str
    lm: str | None
    units: Path | None
    device: str

    def head(self, suite: str, folder: Path, recordings: int, lm_info: Mapping[str, int | None]) -> dict[str, Any]:
        """The first keys of a result: what was measured, of which models, on what."""
        from syllablelm.evaluate.lm.zerospeech import open_set_name

        return {
            "evaluation": suite,
            "model": None if self.units else self.model,
            "data": {"name": str(folder), "set": open_set_name(folder), "recordings": recordings},
            "lm": self.lm or self.model,
            "lm_info": dict(lm_info),
            "units": str(self.units) if self.units else None,
        }


def lexical(
    folder: Folder,
    out: Out,
    model: Model = DEFAULT_MODEL,
    lm: LanguageModel = None,
    split: Split = "dev",
    units: Units = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    output_format: TableFormat = "json",
) -> None:
    """Tell words from non-words (sWUGGY).

    FOLDER is that of ZeroSpeech 2021; DIR/lexical/SPLIT.txt is the submission file.
    """
    from syllablelm.evaluate.lm.lexical import lexical_rows, read_lexical

    _zerospeech(
        folder,
        "lexical",
        split,
        out,
        _Models(model, lm, units, device),
        read_lexical,
        lambda pairs, counts: lexical_rows(pairs, counts, resamples=resamples, seed=seed),
        output_format,
    )


def syntactic(
    folder: Folder,
    out: Out,
    model: Model = DEFAULT_MODEL,
    lm: LanguageModel = None,
    split: Split = "dev",
    units: Units = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    output_format: TableFormat = "json",
) -> None:
    """Tell grammatical from ungrammatical sentences (sBLIMP).

    FOLDER is that of ZeroSpeech 2021; DIR/syntactic/SPLIT.txt is the submission file.
    """
    from syllablelm.evaluate.lm.syntactic import read_syntactic, syntactic_rows

    _zerospeech(
        folder,
        "syntactic",
        split,
        out,
        _Models(model, lm, units, device),
        read_syntactic,
        lambda pairs, counts: syntactic_rows(pairs, counts, resamples=resamples, seed=seed),
        output_format,
    )


def cloze(
    folder: Folder,
    out: Out,
    model: Model = DEFAULT_MODEL,
    lm: LanguageModel = None,
    ties: Annotated[
        Literal["half", "wrong"], typer.Option("--ties", help="What equal scores count: .5, or 0.")
    ] = "half",
    units: Units = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    output_format: TableFormat = "json",
) -> None:
    """Tell a story's own ending from another one (tStoryCloze, sStoryCloze).

    FOLDER holds ..._STORY_correct.wav and ..._STORY_incorrect.wav; DIR/cloze/FOLDER.txt gets the scores.
    """
    from syllablelm.evaluate.lm.cloze import TIES, cloze_rows, read_cloze
    from syllablelm.evaluate.lm.pairs import score_pairs

    pairs = read_cloze(folder)
    stems = sorted(stem for pair in pairs for couple in pair.stems for stem in couple)
    path = out / "cloze" / f"{folder.resolve().name}.txt"
    models = _Models(model, lm, units, device)
    scores, lm_info = _score("cloze", path, folder, stems, models)
    rows = cloze_rows(score_pairs(pairs, scores, ties=TIES[ties]), resamples=resamples, seed=seed)
    protocol = _protocol(ties=ties, pairing="by story in the file names", average="stories")
    _print(models.head("cloze", folder, len(stems), lm_info), protocol, rows, output_format)


def _zerospeech(
    folder: Path,
    suite: str,
    split: str,
    out: Path,
    models: _Models,
    read: Callable[[Path], list[Pair]],
    rows: Rows,
    output_format: str,
) -> None:
    """Score a suite of the ZeroSpeech benchmark."""
    from syllablelm.evaluate.lm.pairs import score_pairs
    from syllablelm.evaluate.lm.zerospeech import GOLD_FILE, check_stems, find_split, list_stems

    if not split or Path(split).name != split:
        raise InputError(f"--split {split!r}: the name of a folder is needed, such as dev")
    place = find_split(folder, suite, split)
    pairs = read(place) if (place / GOLD_FILE).is_file() else None
    wanted = [stem for pair in pairs or () for couple in pair.stems for stem in couple]
    # Units may have been made elsewhere: then the gold list says which recordings there are.
    stems = sorted(wanted) if models.units and pairs else list(list_stems(place))
    if pairs:
        check_stems(wanted, stems, place)
    path = out / suite / f"{split}.txt"
    scores, lm_info = _score(suite, path, place, stems, models)
    facts = {**models.head(suite, place, len(stems), lm_info), "split": split, "submission": str(path)}
    protocol = _protocol(ties="half", voices="averaged within a pair", average="pairs")
    if pairs is None:
        note(f"{place}: no {GOLD_FILE}; the submission file is written, its accuracy is not known here")
        print_json({**facts, "protocol": protocol, "rows": None})
        return
    _print(facts, protocol, rows(pairs, score_pairs(pairs, scores)), output_format)


def _describe_lm(lm: SpeechLM, name: str) -> dict[str, int | None]:
    """Sizes of a language model: non-embedding parameters, vocabulary, and how many units it was trained on."""
    import json

    from syllablelm.lm.speech_lm import find_lm
    from syllablelm.train.lm_stage import RUN_FILE, count_parameters

    path = find_lm(name) / RUN_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        trained = record.get("unique_tokens")
    except (ValueError, AttributeError) as error:
        raise FormatError(f"{path}: damaged ({error})") from None
    return {"params": count_parameters(lm.model)[0], "num_units": lm.info.num_tokens, "unique_tokens": trained}


def _protocol(**more: str) -> dict[str, str]:
    return {"score": "mean log-probability per unit after BOS", **more, "interval": "95 % bootstrap over pairs"}


def _print(
    facts: Mapping[str, Any], protocol: Mapping[str, str], rows: list[dict[str, Any]], output_format: str
) -> None:
    if output_format == "json":
        print_json({**facts, "protocol": protocol, "rows": rows})
        return
    from syllablelm.core.table import format_table

    data, sizes = facts["data"], facts["lm_info"]
    shown = {**facts, "data": data["name"], "set": data["set"], "recordings": data["recordings"], **protocol}
    shown["lm_info"] = ", ".join(f"{value:,} {key}" for key, value in sizes.items() if value is not None)
    print("; ".join(f"{key} {value}" for key, value in shown.items() if value is not None) + "\n")
    print(format_table(rows, style=output_format), flush=True)


def _score(
    suite: str, path: Path, folder: Path, stems: Sequence[str], models: _Models
) -> tuple[dict[str, float], dict[str, int | None]]:
    """Scores of all recordings, those of an earlier run where models and recordings are the same; what scored them."""
    from syllablelm.core.artifact import digest_json
    from syllablelm.core.progress import ProgressBar
    from syllablelm.evaluate.lm.zerospeech import ScoreStore, score_stems
    from syllablelm.lm.speech_lm import SpeechLM

    lm = SpeechLM.load(models.lm or models.model, device=models.device)
    lm_info = _describe_lm(lm, models.lm or models.model)
    encode, source = _encoder(folder, stems, models, lm)
    store = ScoreStore(path, digest_json([suite, lm.digest, source, sorted(stems)]))
    done = store.finished()
    if done is not None:
        note(f"{path}: scored before")
        return done, lm_info
    with ProgressBar(suite, len(stems), closing_line=False) as bar:
        return score_stems(stems, encode, lm, store, advance=bar.advance), lm_info


def _encoder(folder: Path, stems: Sequence[str], models: _Models, lm: SpeechLM) -> tuple[Encode, list[Any]]:
    """What gives the units of recordings by name, and its identity."""
    if models.units is not None:
        from syllablelm.core.artifact import digest_path

        return partial(_select, _pick_units(models.units, stems)), [digest_path(models.units)]
    from syllablelm.core.artifact import check_tokenizer

    manifest = _read_recordings(folder)
    tokenizer = load_tokenizer(models.model, device=models.device)
    check_tokenizer("language model", lm.info.tokenizer, tokenizer.digest)
    return partial(_encode, tokenizer, manifest), [tokenizer.digest, asdict(tokenizer.rule), manifest.contents()]


def _read_recordings(folder: Path) -> Manifest:
    """The folder's recordings by stem, all readable and of one sample rate."""
    from syllablelm.data.corpus import Manifest, scan
    from syllablelm.evaluate.lm.zerospeech import list_stems

    files = list_stems(folder)
    manifest, skipped = scan(list(files.values()))
    if not manifest:
        raise no_usable(skipped)
    if skipped:
        first = min(skipped, key=lambda item: item.path)
        raise InputError(
            f"{first.path}: {first.reason} ({len(skipped):,} of {len(files):,} recordings cannot be used; no result)"
        )
    rates = Counter(recording.sample_rate for recording in manifest)
    usual = rates.most_common(1)[0][0]
    odd = [recording for recording in manifest if recording.sample_rate != usual]
    if odd:
        raise InputError(
            f"{odd[0].path}: {odd[0].sample_rate} Hz where most recordings have {usual} Hz ({len(odd):,} of "
            f"{len(manifest):,} differ; no result); bring them to one rate"
        )
    return Manifest(manifest)


def _select(found: Mapping[str, Segmentation], names: Sequence[str]) -> dict[str, Segmentation]:
    return {name: found[name] for name in names}


def _encode(tokenizer: Tokenizer, manifest: Manifest, names: Sequence[str]) -> dict[str, Segmentation | AudioError]:
    result: dict[str, Segmentation | AudioError] = {}
    waves: dict[str, Any] = {}
    for recording in manifest.subset(names):
        try:
            waves[recording.id] = recording.load()
        except AudioError as error:
            result[recording.id] = AudioError(str(error).removeprefix(f"{recording.path}: "))
    return result | dict(zip(waves, tokenizer.encode(list(waves.values())), strict=True))


def _pick_units(units: Path, stems: Sequence[str]) -> dict[str, Segmentation]:
    """Segmentations of a file by stem: an id may be a path that ends in it, as ``tokenize`` names files in folders."""
    from syllablelm.formats import read_segmentations

    wanted = set(stems)
    found: dict[str, Segmentation] = {}
    twice: list[str] = []
    for id, segmentation in read_segmentations(units).items():
        stem = id.rpartition("/")[2]
        if stem in found:
            twice.append(stem)
        if stem in wanted:
            found[stem] = segmentation
    missing = wanted - set(found)
    for what, names in (("there more than once", twice), ("missing", missing)):
        if names:
            raise InputError(
                f"{units}: recordings {what}: {min(names)} ({len(names):,} of {len(wanted):,} needed; no result)"
            )
    return found
