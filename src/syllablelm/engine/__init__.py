"""Encode a corpus into Parquet shards: resumable, in any number of processes, with a ledger of every recording.

The folder of a corpus:

- ``plan/``: written by the first process: ``corpus.json`` (model, manifest, settings), the manifest with all lengths,
  and ``skipped.jsonl``, the files that cannot be opened.
- ``shards/000000.parquet``, ...: the units, in the manifest's order; a shard appears complete or not at all.
- ``acoustic/000000.parquet``, ...: units of a second tokenizer, where asked for.
- ``ledger/000000.json``, ...: per shard the counts of encoded recordings, and the failed ones with their reasons.
- ``claims/``: which process works on which shard; removed at the end.
- ``artifact.json``: written last, when every shard exists.
"""

from __future__ import annotations

from syllablelm.engine.local import encode_corpus
from syllablelm.engine.shards import Corpus, CorpusSummary, open_corpus, read_units

__all__ = ["Corpus", "CorpusSummary", "encode_corpus", "open_corpus", "read_units"]
