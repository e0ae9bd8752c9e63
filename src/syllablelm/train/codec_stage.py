"""Codecs as a stage: unit files to a codec of coarser units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from syllablelm.core.artifact import Artifact, digest_json, digest_path
from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import read_segmentations
from syllablelm.quantize.codec import KIND, Kind, fit_codec
from syllablelm.tokenizer.bpe_tokenizer import TOKENIZER_NAME
from syllablelm.train.stage import StageRun, run_stage
from syllablelm.train.token_stage import tokenizer_info


@dataclass(frozen=True)
class RecodeConfig:
    """A codec.

    Args:
        kind: "runs", "bpe" or "unigram".
        size: of the vocabulary, single units included; 0 is 4,096 for BPE and 5,000 for unigram.
        num_units: of the tokenizer, where no tokenizer is named; 0 takes the tokenizer's.
        merge_repeats: join units that touch and are equal first.
    """

    kind: Kind = "bpe"
    size: int = 0
    num_units: int = 0
    merge_repeats: bool = True


def train_codec(sources: Sequence[Path], config: RecodeConfig, out: Path, *, tokenizer: str = "") -> Artifact:
    """Learn a codec from unit files; a finished one is not made again.

    Args:
        sources: files or folders of units (jsonl, Parquet, TextGrid).
        tokenizer: name or folder of what made them: a tokenizer, a vocabulary, or another codec.

    Returns:
        the "codec" artifact; its record keeps the tokenizer's name, by which the codec opens as a tokenizer.

    Raises:
        InputError: neither a tokenizer nor ``num_units``, or units that do not go with them.
    """
    if bool(tokenizer) == bool(config.num_units):
        raise InputError("say whose units they are: either --tokenizer NAME, or --num-units N for a foreign one")
    info = tokenizer_info(tokenizer) if tokenizer else None
    num_units, digest = (info.num_tokens, info.tokenizer) if info else (config.num_units, "")
    parents = {"units": digest_json([digest_path(path) for path in sources])}
    if digest:
        parents["tokenizer"] = digest

    def work(run: StageRun) -> None:
        found = (one for source in sources for one in _read(source))
        codec = fit_codec(
            found,
            config.kind,
            num_units,
            config.size or None,
            merge_repeats=config.merge_repeats,
            tokenizer=digest,
        )
        codec.write_payload(run.folder)
        run.metrics.update(num_units=codec.num_units, num_codes=codec.num_codes)

    extra = {TOKENIZER_NAME: tokenizer} if tokenizer else None
    return run_stage(KIND, out, config=config, seed=0, parents=parents, work=work, extra=extra, alone=True)


def _read(source: Path) -> list[Segmentation]:
    found = read_segmentations(source)
    bare = next((name for name, one in found.items() if one.unit is None), None)
    if bare is not None:
        raise InputError(f"{source}: {bare}: boundaries without units; tokenize with a codebook")
    return list(found.values())
