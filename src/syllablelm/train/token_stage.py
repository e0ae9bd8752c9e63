"""Unit files as inputs of stages: packed tokens for language models, and codecs of coarser units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import RECORD, Artifact, digest_json, open_artifact
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.progress import note
from syllablelm.core.results import Record
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import iterate_segmentations, read_segmentations, units_digest, units_tokenizer
from syllablelm.lm.store import TokenInfo, TokenStore, unit_rows
from syllablelm.quantize.codec import KIND as CODEC_KIND
from syllablelm.quantize.codec import Codec, Kind, fit_codec
from syllablelm.tokenizer.reference_units import KIND as VOCABULARY_KIND
from syllablelm.tokenizer.reference_units import Vocabulary
from syllablelm.tokenizer.tokenizer import CODEC_FOLDER, RECODED_KIND, TOKENIZER_NAME, Tokenizer
from syllablelm.train.stage import StageRun, run_stage
from syllablelm.vocoder.interleave import StreamInfo, interleaved_rows


@dataclass(frozen=True)
class UnitsConfig:
    """Training and held-out units of a language model.

    Args:
        tokenizer: name or folder of the tokenizer, codec (``train recode``) or vocabulary (``convert --from
            alignments``) that made the units; every model trained on them stores its digest.
        train, valid: files or folders of units (jsonl or Parquet), relative to the current folder. Recordings whose id
            is in ``valid`` are left out of ``train``.
    """

    tokenizer: str
    train: tuple[str, ...]
    valid: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncodedConfig:
    """Units of the recordings that a vocoder LM learns from, made beforehand; matched by id.

    Args:
        syllables, acoustic: files or folders of units, relative to the current folder, such as OUT and OUT/acoustic of
            ``encode --acoustic``. In the same order they take no memory; of another order what waits for its match is
            held.
    """

    syllables: tuple[str, ...]
    acoustic: tuple[str, ...]


def tokenizer_info(name: str) -> TokenInfo:
    """Return the vocabulary of a tokenizer, of a codec of its units, or of reference labels."""
    kind = open_artifact(name).kind if (Path(name) / RECORD).is_file() else ""
    if kind == VOCABULARY_KIND:
        made = grid = Vocabulary.load(name)
        num_tokens, keep_repeats = made.num_units, True
    elif kind in (CODEC_KIND, RECODED_KIND):
        made = grid = Codec.load(name if kind == CODEC_KIND else Path(name) / CODEC_FOLDER)
        num_tokens, keep_repeats = made.num_codes, made.subwords is not None
    else:
        made = Tokenizer.load(name, device="cpu")
        num_tokens, keep_repeats, grid = made.num_units, False, made.encoder
    if num_tokens is None:
        raise InputError(f"{name}: a tokenizer without a codebook has no units to model")
    options: dict[str, Any] = {"hop": grid.hop, "sample_rate": grid.sample_rate, "keep_repeats": keep_repeats}
    return TokenInfo(num_tokens, tokenizer=made.digest, **options)


def make_tokens(sources: Sequence[str], info: TokenInfo, out: Path, *, without: Sequence[str] = ()) -> Artifact:
    """Concatenate the units of all sources as tokens; they are deduplicated unless ``info`` keeps repeats.

    Args:
        sources: files or folders of units.
        info: vocabulary of the units.
        without: files or folders of units whose recordings are left out, by id: those held out for validation, which a
            corpus of synthetic speech may hold under the same id.

    Raises:
        InputError: units outside the vocabulary, or no units at all.
        FormatError: units of another tokenizer.
    """
    left_out: list[str] = []
    digests = [units_digest(path) for path in sources]
    unique = [0]
    grid: Any = {"hop": info.hop, "sample_rate": info.sample_rate}

    def items() -> Iterator[tuple[str, Segmentation]]:
        held_out = {name for source in without for name, _ in iterate_segmentations(source, **grid)}
        kept = 0
        for place, source in enumerate(sources):
            # A source that is named twice is read twice; its tokens differ once.
            is_first = digests[place] not in digests[:place]
            for name, segmentation in iterate_segmentations(source, **grid):
                if name in held_out:
                    left_out.append(name)
                    continue
                kept += 1
                if segmentation.unit is None:
                    raise InputError(f"{source}: {name}: boundaries without units; tokenize with a codebook")
                modelled = info.as_modelled(segmentation)
                unique[0] += len(modelled) if is_first else 0
                yield f"{source}: {name}", modelled
        if left_out and not kept:
            raise InputError(f"{', '.join(sources)}: every recording is held out for validation too; name other ones")

    parents = {"info": digest_json(asdict(info)), "units": digest_json(digests)}
    if without:
        parents["without"] = digest_json([units_digest(path) for path in without])

    check_maker((*sources, *without), info.tokenizer, "units.tokenizer")

    def work(run: StageRun) -> None:
        store = TokenStore.write(run.folder, unit_rows(items(), info), info)
        run.metrics.update(recordings=len(store), tokens=len(store.tokens), hours=store.seconds / 3600)
        run.metrics["unique_tokens"] = unique[0]
        rate = len(store.tokens) / store.seconds
        omitted = f"; {len(left_out)} held-out recordings left out, such as {left_out[0]!r}" if left_out else ""
        note(f"tokens: {len(store.tokens)} of {store.seconds / 3600:.2f} h, {rate:.2f} a second{omitted}")

    return run_stage("tokens", out, config={}, seed=0, parents=parents, work=work, alone=True)


def check_maker(sources: Sequence[str | Path], tokenizer: str, key: str) -> None:
    """Refuse units of another tokenizer, by its digest, with a FormatError that names the recipe's key."""
    for source in sources:
        made_by = units_tokenizer(source)
        if made_by and tokenizer and made_by != tokenizer:
            raise FormatError(
                f"{source}: units of tokenizer {made_by}, but {key} is {tokenizer}; name the one that made them"
            )


def make_stream(
    units: EncodedConfig, info: StreamInfo, out: Path, parents: Mapping[str, str], **limits: Any
) -> Artifact:
    """Interleave the syllables and the acoustic units of recordings into packed tokens.

    Recordings without one of them, or without syllables, are left out and counted.

    Args:
        parents: digests of the units.
        limits: those of ``interleave_pieces``.
    """

    def work(run: StageRun) -> None:
        syllables = chain.from_iterable(map(iterate_segmentations, units.syllables))
        acoustic = chain.from_iterable(map(iterate_segmentations, units.acoustic))
        unmatched: list[str] = []
        rows = (row for row in match_units(syllables, acoustic, unmatched) if len(row[1]))
        store = TokenStore.write(run.folder, interleaved_rows(rows, info, **limits), info.tokens)
        run.metrics.update(recordings=len(store), tokens=len(store.tokens), hours=store.seconds / 3600)
        if unmatched:
            run.metrics["unmatched"] = len(unmatched)
            note(f"stream: {len(unmatched)} recordings with only one kind of units left out, such as {unmatched[0]!r}")

    return run_stage("tokens", out, config=asdict(info) | limits, seed=0, parents=parents, work=work, alone=True)


Rows = Iterable[tuple[str, Segmentation]]


def match_units(first: Rows, second: Rows, unmatched: list[str]) -> Iterator[tuple[str, Segmentation, Segmentation]]:
    """Yield id and both segmentations of the ids of both; the others' are appended to ``unmatched`` at the end.

    Both are read at the same pace, and what waits for its match is held: next to nothing where their orders agree.
    """
    waiting: tuple[dict[str, Segmentation], ...] = ({}, {})
    for pair in zip_longest(first, second):
        for side, item in enumerate(pair):
            if item is None:
                continue
            name, row = item
            if name in waiting[side]:
                raise FormatError(f"two recordings have the id {name!r}; ids must be unique in all units of one kind")
            other = waiting[1 - side].pop(name, None)
            if other is None:
                waiting[side][name] = row
            else:
                yield (name, other, row) if side else (name, row, other)
    unmatched += [*waiting[0], *waiting[1]]


@dataclass(frozen=True)
class TrainedCodec(Record):
    """A codec that was trained.

    Args:
        kind: "bpe", "unigram" or "runs".
        path: folder of the artifact.
        digest: digest of the codec, which its codes carry.
        metrics: vocabulary sizes before and after: "num_units" and "num_codes".
    """

    kind: str
    path: str
    digest: str
    metrics: Mapping[str, int]


def train_codec(
    sources: Sequence[str | Path],
    out: str | Path,
    kind: Kind = "bpe",
    *,
    vocab_size: int = 0,
    tokenizer: str = "",
    num_units: int = 0,
    deduplicate: bool = True,
) -> TrainedCodec:
    """Learn a codec from unit files; a finished one is not made again.

    Args:
        sources: files or folders of units (jsonl, Parquet, TextGrid).
        out: output folder; the record of the artifact keeps the tokenizer's name, by which the codec opens as one.
        kind, deduplicate: see ``fit_codec``.
        vocab_size: vocabulary size, single units included; 0: 4,096 for "bpe", 5,000 for "unigram".
        tokenizer: name or folder of the tokenizer, vocabulary or other codec that made the units.
        num_units: instead, the vocabulary size of a tokenizer that is not at hand.

    Raises:
        InputError: neither or both of ``tokenizer`` and ``num_units``, options that ``kind`` does not use, or units
            outside the vocabulary.
    """
    if kind == "runs" and (vocab_size or not deduplicate):
        raise InputError("kind 'runs' deduplicates and has no size: leave --vocab and --keep-repeats out")
    if bool(tokenizer) == bool(num_units):
        raise InputError("name the tokenizer of the units: either --tokenizer NAME, or --num-units N for a foreign one")
    info = tokenizer_info(tokenizer) if tokenizer else None
    known, digest = (info.num_tokens, info.tokenizer) if info else (num_units, "")
    parents = {"units": digest_json([units_digest(path) for path in sources])}
    if digest:
        parents["tokenizer"] = digest

    def work(run: StageRun) -> None:
        rows: list[Segmentation] = []
        for source in sources:
            for name, row in read_segmentations(source).items():
                if row.unit is None:
                    raise InputError(f"{source}: {name}: boundaries without units; tokenize with a codebook")
                rows.append(row)
        codec = fit_codec(rows, kind, known, vocab_size or None, deduplicate=deduplicate, tokenizer=digest)
        codec.write_payload(run.folder)
        run.metrics.update(num_units=codec.num_units, num_codes=codec.num_codes)

    config = {"kind": kind, "size": vocab_size, "num_units": num_units, "merge_repeats": deduplicate}
    options: dict[str, Any] = {"extra": {TOKENIZER_NAME: tokenizer} if tokenizer else None, "alone": True}
    artifact = run_stage(CODEC_KIND, Path(out), config=config, seed=0, parents=parents, work=work, **options)
    codec = Codec.load(artifact.path)
    return TrainedCodec(codec.kind, str(artifact.path), codec.digest, dict(artifact.metrics))
