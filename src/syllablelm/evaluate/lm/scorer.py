"""Log-probabilities of recordings under a language model, resumable and kept as submission files."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import RUN, check_tokenizer, digest_json
from syllablelm.core.errors import AudioError, InputError
from syllablelm.core.files import atomic_path
from syllablelm.core.progress import ProgressBar, note
from syllablelm.core.results import read_json
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.corpus import Manifest, no_usable, scan
from syllablelm.evaluate.block_store import BlockStore, Row
from syllablelm.evaluate.lm.pairs import (
    LMSize,
    PairsData,
)
from syllablelm.evaluate.lm.zerospeech import (
    list_stems,
    open_set_name,
    read_submission,
    write_submission,
)
from syllablelm.formats import read_segmentations, units_digest
from syllablelm.lm.speech_lm import SpeechLM, count_parameters, find_lm
from syllablelm.lm.store import check_units
from syllablelm.tokenizer.tokenizer import Tokenizer

# Recordings that are encoded and scored together.
CHUNK = 200
Encode = Callable[[Sequence[str]], Mapping[str, Segmentation | AudioError]]


def describe_protocol(**more: str) -> dict[str, str]:
    """Return how pairs were scored, in words."""
    return {"score": "mean log-probability per unit after BOS", **more, "interval": "95 % bootstrap over pairs"}


def score_recordings(
    suite: str,
    folder: Path,
    path: Path,
    stems: Sequence[str],
    *,
    model: str | Path = "small",
    lm: str | Path | None = None,
    units: str | Path | None = None,
    device: str = "auto",
) -> tuple[dict[str, float], dict[str, Any]]:
    """Score recordings with a language model, resuming an earlier run of the same models and recordings.

    Args:
        suite: name of the progress bar, and part of the scores' identity.
        folder, stems: folder of the recordings, and their names.
        path: submission file, written when all are scored.
        model, units, device: see `syllablelm.evaluate`.
        lm: language model (default: that of ``model``).

    Returns:
        scores by stem, and the first fields of a `PairsResult`.

    Raises:
        InputError: ``path`` holds other scores, or recordings that cannot be scored.
        FormatError: no such model, or one of another tokenizer.
    """
    name = lm or model
    language_model = SpeechLM.load(name, device=device)
    if units is not None:
        encode: Encode = partial(_select, _read_units(Path(units), stems))
        source: list[Any] = [units_digest(units)]
    else:
        manifest, tokenizer = _read_recordings(folder), Tokenizer.load(model, device=device)
        check_tokenizer("language model", language_model.info.tokenizer, tokenizer.digest)
        encode = partial(_encode, tokenizer, manifest)
        source = [tokenizer.digest, asdict(tokenizer.rule), manifest.contents()]
    key = digest_json([suite, language_model.digest, source, sorted(stems)])
    scores = _read_finished(path, key)
    if scores is None:
        with ProgressBar(suite, len(stems), closing_line=False) as bar:
            scores = score_stems(stems, encode, language_model, path, key, advance=bar.advance)
    else:
        note(f"{path}: scored before")
        # A process that was killed at its end may have left them.
        _unfinished(path, key).remove()
    run = find_lm(name) / RUN
    facts = {
        "model": None if units else str(model),
        "data": PairsData(str(folder), open_set_name(folder), len(stems)),
        "lm": str(name),
        "lm_info": LMSize(
            count_parameters(language_model.model)[0],
            language_model.info.num_tokens,
            read_json(run).get("unique_tokens") if run.exists() else None,
        ),
        "units": str(units) if units else None,
    }
    return scores, facts


def score_stems(
    stems: Sequence[str],
    encode: Encode,
    lm: SpeechLM,
    path: Path,
    key: str,
    *,
    chunk: int = CHUNK,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, float]:
    """Return the mean log-probability per unit, in nats, of every recording, and write the submission file.

    Args:
        stems: names of the recordings.
        encode: function from names to units, or to the reason why a recording has none.
        lm: the model.
        path: submission file; unfinished scores lie in a folder beside it.
        key: digest of models and recordings.
        chunk: recordings that are encoded and scored together; bounds what a killed run loses, changes no score.
        advance: called with the number of further recordings done.

    Raises:
        InputError: recordings without units, after scoring all others; units of another vocabulary.
    """
    ids = list(stems)

    def make(first: int, last: int) -> Iterator[Row]:
        faults: dict[str, str] = {}
        usable: dict[str, Segmentation] = {}
        for stem, units in encode(ids[first:last]).items():
            if isinstance(units, AudioError):
                faults[stem] = str(units)
            elif not len(check_units(units, lm.info, stem)):
                faults[stem] = "has no units"
            else:
                usable[stem] = units
        scores = dict(zip(usable, lm.score(list(usable.values())), strict=True)) if usable else {}
        faults |= {stem: f"its score is {value}" for stem, value in scores.items() if not math.isfinite(value)}
        for stem in ids[first:last]:
            yield {"id": stem, "fault": faults[stem]} if stem in faults else {"id": stem, "score": scores[stem]}

    store = _unfinished(path, key, chunk)
    rows: list[Row] = []
    for row in store.rows(ids, make):
        rows.append(row)
        advance(1)
    faults = {row["id"]: row["fault"] for row in rows if "fault" in row}
    if faults:
        first = min(faults)
        raise InputError(
            f"{first}: {faults[first]} ({len(faults):,} of {len(ids):,} recordings cannot be scored; no result)"
        )
    scores = {row["id"]: float(row["score"]) for row in rows}
    with atomic_path(path.with_suffix(".json")) as part:
        part.write_text(json.dumps({"key": key, "stems": len(scores)}) + "\n", encoding="utf-8")
    write_submission(path, scores)
    store.remove()
    return scores


def _unfinished(path: Path, key: str, chunk: int = CHUNK) -> BlockStore:
    return BlockStore(path.parent, f".{path.stem}", {"key": key}, chunk)


def _read_finished(path: Path, key: str) -> dict[str, float] | None:
    """Return the scores of an earlier run that finished; None if this one has to.

    Raises:
        InputError: the file holds other scores, which must not be overwritten silently.
    """
    if not path.exists():
        return None
    record = path.with_suffix(".json")
    if not record.exists() or read_json(record).get("key") != key:
        raise InputError(f"{path} holds scores of another model or other recordings; choose another --out")
    return read_submission(path)


def _read_recordings(folder: Path) -> Manifest:
    """Return the folder's recordings by stem, all readable and of one sample rate."""
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
    return manifest


def _encode(tokenizer: Tokenizer, manifest: Manifest, names: Sequence[str]) -> dict[str, Segmentation | AudioError]:
    result: dict[str, Segmentation | AudioError] = {}
    waves: dict[str, npt.NDArray[np.float32]] = {}
    for recording in manifest.subset(names):
        try:
            waves[recording.id] = recording.load()
        except AudioError as error:
            result[recording.id] = AudioError(str(error).removeprefix(f"{recording.path}: "))
    return result | dict(zip(waves, tokenizer.encode(list(waves.values())), strict=True))


def _select(units: Mapping[str, Segmentation], names: Sequence[str]) -> dict[str, Segmentation]:
    return {name: units[name] for name in names}


def _read_units(file: Path, stems: Sequence[str]) -> dict[str, Segmentation]:
    """Return segmentations by stem: an id may be a path that ends in it, as ``tokenize`` names files in folders."""
    wanted, seen = set(stems), Counter[str]()
    units: dict[str, Segmentation] = {}
    for id, segmentation in read_segmentations(file).items():
        stem = id.rpartition("/")[2]
        if stem in wanted:
            seen[stem] += 1
            units[stem] = segmentation
    repeated = [stem for stem, count in seen.items() if count > 1]
    for what, names in (("there more than once", repeated), ("missing", wanted - set(units))):
        if names:
            raise InputError(
                f"{file}: recordings {what}: {min(names)} ({len(names):,} of {len(wanted):,} needed; no result)"
            )
    return units
