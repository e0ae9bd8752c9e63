"""Make a tokenizer of frame units (k-means of every frame of one layer, deduplicated), as GSLM and TWIST do.

Run: python examples/frame_units.py --encoder src/syllablelm/bundled/tiny --layer 1 --units 500 --out runs/frames \\
         MANIFEST
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import syllablelm as sl
from syllablelm.quantize import fit_kmeans
from syllablelm.tokenizer.tokenizer import FRAME_UNITS, Tokenizer
from syllablelm.train.batches import WaveformStore, iterate_features
from syllablelm.train.tokenizer_recipe import DataConfig, read_corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="Manifests or folders of recordings.")
    parser.add_argument("--encoder", required=True, help="Encoder: hub id, folder or checkpoint file.")
    parser.add_argument("--layer", type=int, required=True)
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--frames", type=int, default=200_000, help="Number of frames for k-means, evenly spaced.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    manifest = read_corpus(DataConfig(sources=tuple(options.sources)))
    encoder = sl.load_encoder(options.encoder, options.layer)
    share = max(1, round(manifest.total_seconds * encoder.sample_rate / encoder.hop / options.frames))
    store = WaveformStore(manifest, budget_bytes=0)
    frames = [feats[index % share :: share] for index, feats in iterate_features(store, encoder)]
    centres = fit_kmeans(np.concatenate(frames), options.units, method="minibatch", seed=options.seed)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "centres.npy", centres)
        Tokenizer.from_parts(encoder, Path(folder) / "centres.npy", rule=FRAME_UNITS).save(options.out)


if __name__ == "__main__":
    main()
