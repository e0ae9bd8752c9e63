"""Make units by segmentation methods of other systems: feature similarity (Peng et al.), SD-HuBERT, Sylber, ZeroSyl.

Run: python examples/rival_units.py train=train.jsonl dev=dev.jsonl --segmenter similarity-merge \\
         --encoder facebook/hubert-base-ls960 --layer 8 --units 4096 --out runs/similarity

Features of --pool-layer (default: --layer) are averaged over segments and clustered as ours are: k-means with twice as
many centres, then Ward. The codebook is fitted on recordings drawn from the first manifest; the units of every manifest
go to OUT/NAME.jsonl. A codec that only deduplicates then serves as their tokenizer:

    syllablelm train recode OUT/train.jsonl --kind runs --num-units 4096 --out OUT/codec
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from syllablelm.core.errors import InputError, SyllableLMError
from syllablelm.core.progress import ProgressBar
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.corpus import Manifest, scan
from syllablelm.encoders import load_encoder
from syllablelm.encoders.base import FrameEncoder
from syllablelm.formats import open_writer
from syllablelm.quantize import fit_codebook, pool_segments
from syllablelm.segment.registry import PUBLISHED
from syllablelm.segment.segmenter import Segmenter, make_segmenter

Vectors = np.ndarray


def segment_all(
    manifest: Manifest, segmenter: Segmenter, encoder: FrameEncoder, label: str
) -> Iterator[tuple[str, Path, Segmentation, Vectors]]:
    """Yield id, path, segments without units, and (num_segments, dim) means of every recording."""
    with ProgressBar(label, len(manifest)) as bar:
        for recording in manifest:
            wave = recording.load()
            feats = encoder.encode([wave])[0]
            found = segmenter(wave, 0)
            yield recording.id, recording.path, found, pool_segments(feats, found.start, found.end)
            bar.advance()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("manifest", nargs="+", metavar="NAME=MANIFEST")
    parser.add_argument("--segmenter", choices=PUBLISHED, required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--layer", type=int, required=True)
    parser.add_argument("--pool-layer", type=int)
    parser.add_argument("--units", type=int, default=4096)
    parser.add_argument("--fit-seconds", type=float, default=36_000.0, help="Audio for the codebook in seconds.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    corpora: dict[str, Manifest] = {}
    for text in chosen.manifest:
        name, _, source = text.partition("=")
        if not source:
            raise InputError(f"{text!r}: write NAME=MANIFEST, as in train=train.jsonl")
        corpora[name] = scan(source)[0]
    if chosen.out.exists():
        raise InputError(f"{chosen.out} exists; choose another --out or remove it")
    encoder = load_encoder(chosen.encoder, chosen.layer, device=chosen.device)
    pooled = encoder
    if chosen.pool_layer is not None:
        pooled = load_encoder(chosen.encoder, chosen.pool_layer, device=chosen.device)
    segmenter = make_segmenter(chosen.segmenter, encoder=encoder, feature_layer=chosen.pool_layer)

    first = next(iter(corpora.values()))
    order = np.random.default_rng(chosen.seed).permutation(len(first))
    total = np.cumsum([first[int(i)].seconds for i in order])
    drawn = Manifest([first[int(i)] for i in order[: max(1, int(np.searchsorted(total, chosen.fit_seconds)))]])
    vectors = np.concatenate([means for *_, means in segment_all(drawn, segmenter, pooled, "codebook")])
    codebook = fit_codebook(vectors, chosen.units, seed=chosen.seed)
    chosen.out.mkdir(parents=True)
    codebook.save(chosen.out / "codebook.safetensors")
    for name, manifest in corpora.items():
        with open_writer(chosen.out / f"{name}.jsonl") as writer:
            for id, path, found, means in segment_all(manifest, segmenter, pooled, name):
                unit = codebook.assign(means) if len(means) else np.zeros(0, dtype=np.int32)
                grid = found.num_frames, found.hop, found.sample_rate
                writer.write(id, path, Segmentation(found.start, found.end, unit, *grid))


if __name__ == "__main__":
    try:
        main()
    except SyllableLMError as error:
        sys.exit(f"error: {error}")
