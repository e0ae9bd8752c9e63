"""Token stores as a stage: unit files of ``tokenize`` or ``encode`` to the arrays that language models train on."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from syllablelm.artifact import Artifact, digest_json, digest_path
from syllablelm.errors import InputError
from syllablelm.formats import read_segmentations
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.tokenizer import Tokenizer
from syllablelm.train.stage import run_stage
from syllablelm.types import Segmentation


@dataclass(frozen=True)
class UnitsConfig:
    """Where units come from.

    Args:
        tokenizer: name or folder of what made them; its digest goes with every model trained on them.
        train, valid: files or folders of units (jsonl or Parquet), relative to the current folder.
    """

    tokenizer: str
    train: tuple[str, ...]
    valid: tuple[str, ...] = ()


def tokenizer_info(name: str) -> TokenInfo:
    """The vocabulary of a tokenizer."""
    tokenizer = Tokenizer.load(name, device="cpu")
    if tokenizer.num_units is None:
        raise InputError(f"{name}: a tokenizer without a codebook has no units to model")
    encoder = tokenizer.encoder
    return TokenInfo(tokenizer.num_units, hop=encoder.hop, sample_rate=encoder.sample_rate, tokenizer=tokenizer.digest)


def make_tokens(sources: Sequence[str], info: TokenInfo, out: Path, *, seed: int = 0) -> Artifact:
    """Lay the units of all sources end to end; equal neighbours are merged as the language model sees them.

    Raises:
        InputError: units that ``info`` does not know, or no units at all.
    """

    def items() -> Iterator[tuple[str, Segmentation]]:
        for source in sources:
            for name, segmentation in read_segmentations(source, hop=info.hop, sample_rate=info.sample_rate).items():
                if segmentation.unit is None:
                    raise InputError(f"{source}: {name}: boundaries without units; tokenize with a codebook")
                yield f"{source}: {name}", segmentation.merge_repeats()

    parents = {"info": digest_json(asdict(info)), "units": digest_json([digest_path(path) for path in sources])}

    def work(folder: Path, scratch: Path, metrics: dict[str, Any]) -> None:
        store = TokenStore.from_segmentations(items(), info)
        store.save(folder)
        metrics.update(recordings=len(store), tokens=len(store.tokens), hours=store.seconds / 3600)
        rate = len(store.tokens) / store.seconds
        print(f"tokens: {len(store.tokens)} of {store.seconds / 3600:.2f} h, {rate:.2f} a second", file=sys.stderr)

    return run_stage("tokens", out, config={}, seed=seed, parents=parents, work=work, alone=True)
