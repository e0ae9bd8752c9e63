"""Encode a corpus into Parquet shards: resumable, in as many processes as there are, with a ledger of every recording.

The folder of a corpus:

- ``plan/``: what is to be done, fixed by the first process: ``corpus.json`` (model, manifest, settings), the manifest
  with all lengths filled in, and ``skipped.jsonl``, the files that cannot be opened.
- ``shards/000000.parquet``, ...: the units, in the manifest's order; a shard appears complete or not at all.
- ``ledger/000000.json``, ...: of each shard, how many recordings are done, and which failed and why.
- ``claims/``: which process works on which shard; gone when all is done.
- ``artifact.json``: written last, when every shard is there.

The names below are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syllablelm.engine.local import encode_corpus
    from syllablelm.engine.shards import Corpus, Shard, open_corpus, plan_shards, read_units

_HOME = {
    "Corpus": "shards",
    "Shard": "shards",
    "encode_corpus": "local",
    "open_corpus": "shards",
    "plan_shards": "shards",
    "read_units": "shards",
}

__all__ = ["Corpus", "Shard", "encode_corpus", "open_corpus", "plan_shards", "read_units"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
