"""Log-probabilities of recordings under a language model, resumable and kept as submission files."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from syllablelm.core.artifact import RUN, check_tokenizer, digest_json
from syllablelm.core.errors import AudioError, InputError, unknown_name
from syllablelm.core.files import atomic_path
from syllablelm.core.progress import ProgressBar, note
from syllablelm.core.results import read_json
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE, FloatArray, check_silence
from syllablelm.data.corpus import Manifest, no_usable, scan
from syllablelm.data.vad import METHODS, Method, speech_regions
from syllablelm.evaluate.block_store import BlockStore, Row
from syllablelm.evaluate.lm.likelihoods import SCORINGS, ScoredUnits, score_continuations
from syllablelm.evaluate.lm.pairs import LMSize, Pair, PairsData
from syllablelm.evaluate.lm.zerospeech import (
    list_stems,
    open_set_name,
    read_submission,
    write_submission,
)
from syllablelm.formats import read_segmentations, units_digest
from syllablelm.formats.record import from_record, to_record
from syllablelm.lm.speech_lm import SpeechLM, count_parameters, find_lm
from syllablelm.lm.store import check_units
from syllablelm.tokenizer.tokenizer import Tokenizer

# Recordings that are encoded and scored together.
CHUNK = 200
# Seconds by which units may be shorter or longer than their recording: encoders drop part of a frame or fill one up.
_LONGER_SECONDS = 0.1
# Shortest stretch of speech at the ends of a recording, in milliseconds: a word may begin with a burst.
_MIN_SPEECH_MS = 30
Encode = Callable[[Sequence[str]], Mapping[str, Segmentation | AudioError]]


def describe_protocol(models: Mapping[str, Any], **more: str) -> dict[str, str]:
    """Return how pairs were scored, in words; ``models`` are the arguments of `score_recordings`."""
    trim, silence = models.get("trim", "none"), models.get("silence")
    kept = "kept" if trim == "none" else f"units wholly before the first or after the last speech left out ({trim})"
    scores = {"score": "mean log-probability per unit after BOS", **SCORINGS}
    if silence and models.get("units") is None:
        scores["recordings"] = f"encoded between {silence:g} s of silence"
    return {**scores, "silence at the ends": kept, **more, "interval": "95 % bootstrap over pairs"}


def score_recordings(
    suite: str,
    folder: Path,
    path: Path,
    stems: Sequence[str],
    pairs: Sequence[Pair] = (),
    *,
    files: Mapping[str, Path] | None = None,
    model: str | Path = "small",
    lm: str | Path | None = None,
    units: str | Path | None = None,
    trim: str = "none",
    silence: float | None = None,
    device: str = "auto",
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Score recordings with a language model, resuming an earlier run of the same models and recordings.

    Args:
        suite: name of the progress bar, and part of the scores' identity.
        folder, stems: folder of the recordings, and their names.
        path: submission file, written when all are scored; its neighbour with the suffix .json holds the other scores.
        pairs: pairs of these recordings, for the scores of `SCORINGS`.
        files: recordings by name, where they do not lie right in the folder.
        model, units, device: see `syllablelm.evaluate`.
        lm: language model (default: that of ``model``).
        trim: voice activity method of `trim_silence`.
        silence: seconds of silence before and after every recording while it is encoded (default: none).

    Returns:
        scores by name ("mean", and with pairs those of `SCORINGS`) and stem, and the first fields of a `PairsResult`.

    Raises:
        InputError: ``path`` holds other scores, or recordings that cannot be scored.
        FormatError: no such model, or one of another tokenizer.
    """
    name = lm or model
    language_model = SpeechLM.load(name, device=device)
    encode, source = open_source(files or folder, stems, model, units, trim=trim, silence=silence, device=device)
    if units is None:
        check_tokenizer("language model", language_model.info.tokenizer, source[0])
    couples = sorted(couple for pair in pairs for couple in pair.stems)
    key = digest_json([suite, language_model.digest, source, sorted(stems), couples])
    scores = read_finished(path, key)
    if scores is None:
        with ProgressBar(suite, len(stems), closing_line=False) as bar:
            scores = score_stems(stems, encode, language_model, path, key, pairs=pairs, advance=bar.advance)
    else:
        note(f"{path}: scored before")
        # A process that was killed at its end may have left them.
        _unfinished(path, key).remove()
    run = find_lm(name) / RUN
    more = read_json(path.with_suffix(".json"))
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
        "shared_first_units": more["shared_first_units"],
    }
    return {"mean": scores, **more["scores"]}, facts


def open_source(
    folder: Path | Mapping[str, Path],
    stems: Sequence[str],
    model: str | Path | Tokenizer,
    units: str | Path | None = None,
    *,
    trim: str = "none",
    silence: float | None = None,
    device: str = "auto",
) -> tuple[Encode, list[Any]]:
    """Return the function from names of recordings to their units, and what the units depend on.

    Args:
        folder, stems: folder of the recordings, or their files by name, and their names.
        model: tokenizer, whose digest comes first in what the units depend on; unused with ``units``.
        units: file of their units.
        trim: voice activity method of `trim_silence`.
        silence: seconds of silence before and after every recording while it is encoded (default: none).
        device: see `syllablelm.evaluate`.

    Raises:
        InputError: an unknown method, or trimming of units without their recordings.
    """
    if trim not in METHODS:
        raise unknown_name("voice activity method", trim, METHODS)
    silence = silence or 0.0
    check_silence(silence)
    if units is not None:
        known = _read_units(Path(units), stems)
        if trim == "none":
            return partial(_select, known), [units_digest(units)]
        files = list_stems(folder, allow_none=True) if isinstance(folder, Path) else folder
        if missing := set(stems) - set(files):
            raise InputError(
                f"{folder if isinstance(folder, Path) else units}: without the recording of {min(missing)} "
                f"({len(missing):,} of {len(stems):,}); silence is found in recordings: add them, or give --trim none"
            )
        manifest = _read_recordings({stem: files[stem] for stem in stems})
        return partial(_trim_units, known, manifest, trim), [units_digest(units), trim, manifest.contents()]
    manifest = _read_recordings(list_stems(folder) if isinstance(folder, Path) else folder)
    tokenizer = model if isinstance(model, Tokenizer) else Tokenizer.load(model, device=device)
    source = [tokenizer.digest, asdict(tokenizer.rule), manifest.contents()]
    options = [*([trim] if trim != "none" else []), *([silence] if silence else [])]
    return partial(_encode, tokenizer, manifest, trim, silence), [*source, *options]


def score_stems(
    stems: Sequence[str],
    encode: Encode,
    lm: SpeechLM,
    path: Path,
    key: str,
    *,
    pairs: Sequence[Pair] = (),
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
        pairs: pairs of these recordings, whose scores of `SCORINGS` are written beside the submission file.
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
                usable[stem] = lm.info.as_modelled(units)
        scored = dict(zip(usable, lm.log_probs(list(usable.values())), strict=True)) if usable else {}
        sums = {stem: float(row.sum()) for stem, row in scored.items()}
        faults |= {stem: f"its score is {value}" for stem, value in sums.items() if not math.isfinite(value)}
        faults |= {
            stem: "one unit; a model without BOS scores what follows another"
            for stem in scored
            if not len(scored[stem])
        }
        for stem in ids[first:last]:
            if stem in faults:
                yield {"id": stem, "fault": faults[stem]}
            else:
                yield {**to_record(stem, "", usable[stem]), "log_probs": scored[stem].tolist()}

    store = _unfinished(path, key, chunk)
    rows: list[Row] = []
    for row in store.rows(ids, make):
        rows.append(row)
        advance(1)
    faults = {row["id"]: row["fault"] for row in rows if "fault" in row}
    refuse_faults(faults, len(ids))
    recordings = {row["id"]: ScoredUnits(from_record(row), np.asarray(row["log_probs"])) for row in rows}
    scores = {stem: float(scored.log_probs.mean()) for stem, scored in recordings.items()}
    more, shared = score_continuations(pairs, recordings, lm)
    record = {"key": key, "stems": len(scores), "shared_first_units": shared, "scores": more if pairs else {}}
    with atomic_path(path.with_suffix(".json")) as part:
        part.write_text(json.dumps(record) + "\n", encoding="utf-8")
    write_submission(path, scores)
    store.remove()
    return scores


def refuse_faults(faults: Mapping[str, str], recordings: int) -> None:
    """Raise an InputError that names the first faulty recording by stem, and their number, if there are any."""
    if faults:
        first = min(faults)
        raise InputError(
            f"{first}: {faults[first]} ({len(faults):,} of {recordings:,} recordings cannot be scored; no result)"
        )


def _unfinished(path: Path, key: str, chunk: int = CHUNK) -> BlockStore:
    return BlockStore(path.parent, f".{path.stem}", {"key": key}, chunk)


def read_finished(path: Path, key: str, remedy: str = "choose another --out") -> dict[str, float] | None:
    """Return the scores of an earlier run that finished, None without; ``remedy`` ends the message of an error.

    Raises:
        InputError: the file holds other scores, which must not be overwritten silently.
    """
    if not path.exists():
        return None
    record = path.with_suffix(".json")
    if not record.exists() or read_json(record).get("key") != key:
        raise InputError(f"{path} holds scores of another model or other recordings; {remedy}")
    return read_submission(path)


def _read_recordings(files: Mapping[str, Path]) -> Manifest:
    """Return recordings by stem, all readable and of one sample rate."""
    manifest, skipped = scan(list(files.values()))
    if not manifest:
        raise no_usable(skipped)
    if skipped:
        first = min(skipped, key=lambda item: item.path)
        raise InputError(
            f"{first.path}: {first.reason} ({len(skipped):,} of {len(files):,} recordings cannot be used; no result)"
        )
    stems = {file: stem for stem, file in files.items()}
    manifest = Manifest(replace(recording, id=stems[recording.path]) for recording in manifest)
    rates = Counter(recording.sample_rate for recording in manifest)
    usual = rates.most_common(1)[0][0]
    odd = [recording for recording in manifest if recording.sample_rate != usual]
    if odd:
        raise InputError(
            f"{odd[0].path}: {odd[0].sample_rate} Hz where most recordings have {usual} Hz ({len(odd):,} of "
            f"{len(manifest):,} differ; no result); bring them to one rate"
        )
    return manifest


def _encode(
    tokenizer: Tokenizer, manifest: Manifest, trim: str, silence: float, names: Sequence[str]
) -> dict[str, Segmentation | AudioError]:
    result: dict[str, Segmentation | AudioError] = {}
    waves: dict[str, FloatArray] = {}
    for name, wave in _load(manifest, names):
        if isinstance(wave, AudioError):
            result[name] = wave
        else:
            # What is too short for a single unit stays so, and is refused.
            waves[name] = np.pad(wave, round(silence * SAMPLE_RATE) if len(wave) > tokenizer.encoder.hop else 0)
    encoded = zip(waves, tokenizer.encode(list(waves.values())), strict=True)
    return result | {name: trim_silence(units, waves[name], trim) for name, units in encoded}


def _select(units: Mapping[str, Segmentation], names: Sequence[str]) -> dict[str, Segmentation]:
    return {name: units[name] for name in names}


def _trim_units(
    units: Mapping[str, Segmentation], manifest: Manifest, trim: str, names: Sequence[str]
) -> dict[str, Segmentation | AudioError]:
    result: dict[str, Segmentation | AudioError] = {}
    for name, wave in _load(manifest, names):
        if isinstance(wave, AudioError):
            result[name] = wave
            continue
        seconds = len(wave) / SAMPLE_RATE
        if abs(units[name].duration - seconds) > _LONGER_SECONDS:
            result[name] = AudioError(f"its units last {units[name].duration:.2f} s, its recording {seconds:.2f} s")
        else:
            result[name] = trim_silence(units[name], wave, trim)
    return result


def _load(manifest: Manifest, names: Sequence[str]) -> Iterator[tuple[str, FloatArray | AudioError]]:
    for recording in manifest.subset(names):
        try:
            yield recording.id, recording.load()
        except AudioError as error:
            yield recording.id, AudioError(str(error).removeprefix(f"{recording.path}: "))


def trim_silence(units: Segmentation, waveform: FloatArray, method: str) -> Segmentation:
    """Return units without those that lie wholly before the first or wholly after the last speech of their recording.

    The encoder has seen the whole recording: it is units that are left out, not samples. A recording in which no
    speech is found keeps all of them.

    Args:
        units: segments of the recording.
        waveform: (num_samples,) float32 at 16 kHz.
        method: voice activity method of `speech_regions`; "none" keeps all.
    """
    regions = speech_regions(waveform, method=cast(Method, method), min_speech_ms=_MIN_SPEECH_MS)
    if method == "none" or not len(regions):
        return units
    starts, ends = units.seconds.T * SAMPLE_RATE
    kept = (ends > regions[0, 0]) & (starts < regions[-1, 1])
    if units.unit is None or not kept.any():
        return units
    return units.select(kept)


def _read_units(file: Path, stems: Sequence[str]) -> dict[str, Segmentation]:
    """Return segmentations by stem: an id may be a path that ends in it, as ``tokenize`` names files in folders."""
    wanted, seen = set(stems), Counter[str]()
    parts = 1 + max((stem.count("/") for stem in wanted), default=0)
    units: dict[str, Segmentation] = {}
    for id, segmentation in read_segmentations(file).items():
        stem = "/".join(id.split("/")[-parts:])
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
