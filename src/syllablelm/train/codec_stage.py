"""Codecs as a stage: unit files to a codec of coarser units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import digest_json, digest_path
from syllablelm.core.errors import InputError
from syllablelm.core.results import Record
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import read_segmentations
from syllablelm.quantize.codec import KIND, Codec, Kind, fit_codec
from syllablelm.tokenizer.tokenizer import TOKENIZER_NAME
from syllablelm.train.stage import StageRun, run_stage
from syllablelm.train.token_stage import tokenizer_info


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
        out: output folder.
        kind: "bpe", "unigram", or "runs" (deduplication only).
        vocab_size: vocabulary size, single units included; 0: 4,096 for "bpe", 5,000 for "unigram".
        tokenizer: name or folder of the tokenizer, vocabulary or other codec that made the units.
        num_units: instead, the vocabulary size of a tokenizer that is not at hand.
        deduplicate: deduplicate the units first.

    Returns:
        a summary; the record of the "codec" artifact keeps the tokenizer's name, by which the codec opens as a
        tokenizer.

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
    parents = {"units": digest_json([digest_path(path) for path in sources])} | (
        {"tokenizer": digest} if digest else {}
    )

    def work(run: StageRun) -> None:
        rows = (row for source in sources for row in _read(source))
        codec = fit_codec(rows, kind, known, vocab_size or None, deduplicate=deduplicate, tokenizer=digest)
        codec.write_payload(run.folder)
        run.metrics.update(num_units=codec.num_units, num_codes=codec.num_codes)

    config = {"kind": kind, "size": vocab_size, "num_units": num_units, "merge_repeats": deduplicate}
    options: dict[str, Any] = {"extra": {TOKENIZER_NAME: tokenizer} if tokenizer else None, "alone": True}
    artifact = run_stage(KIND, Path(out), config=config, seed=0, parents=parents, work=work, **options)
    codec = Codec.load(artifact.path)
    return TrainedCodec(codec.kind, str(artifact.path), codec.digest, dict(artifact.metrics))


def _read(source: str | Path) -> list[Segmentation]:
    rows = read_segmentations(source)
    bare = next((name for name, row in rows.items() if row.unit is None), None)
    if bare is not None:
        raise InputError(f"{source}: {bare}: boundaries without units; tokenize with a codebook")
    return list(rows.values())
