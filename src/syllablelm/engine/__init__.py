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

from typing import TYPE_CHECKING

from syllablelm.core.lazy import lazy_names

if TYPE_CHECKING:
    from syllablelm.engine.local import encode_corpus
    from syllablelm.engine.shards import Corpus, Shard, open_corpus, plan_shards, read_units

__all__ = ["Corpus", "Shard", "encode_corpus", "open_corpus", "plan_shards", "read_units"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "local": ["encode_corpus"],
        "shards": ["Corpus", "Shard", "open_corpus", "plan_shards", "read_units"],
    },
)
