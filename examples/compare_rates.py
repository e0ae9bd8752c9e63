"""Compare unit rates and vocabulary sizes of one encoder, to choose those of a tokenizer.

Run: python examples/compare_rates.py --encoder runs/small/round2/encoder --words runs/words --out runs/rates.jsonl \\
         --manifest data/librispeech/train.csv --alignments data/librispeech/train.alignments.jsonl

Every ninth recording from the fifth is held out; codebooks are fitted on the others. Measured on the held-out ones:
boundaries, purity, bits, stability (first recordings only), and the phone error rate of a probe that is trained on the
others; and the identity of isolated words across voices (a folder that `prepare wordlist --voices A,B` wrote). One JSON
line per tokenizer; lines that --out holds already are not measured again. Alignments are used for the scores only.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from syllablelm.core.errors import SyllableLMError
from syllablelm.data.alignment import read_alignments
from syllablelm.data.corpus import Manifest, scan
from syllablelm.encoders import FrameEncoder, load_encoder
from syllablelm.evaluate.boundaries.scores import score_boundaries
from syllablelm.evaluate.units.bitrate import RateCounts, rate_counts
from syllablelm.evaluate.units.phone_probe import evaluate_phones
from syllablelm.evaluate.units.purity import PurityCounts, score_purity
from syllablelm.evaluate.units.stability import MEAN, evaluate_stability
from syllablelm.evaluate.units.word_identity import evaluate_identity
from syllablelm.quantize import fit_codebook
from syllablelm.tokenizer.segment_rule import SegmentRule
from syllablelm.tokenizer.tokenizer import Tokenizer

HELD_OUT = slice(4, None, 9)


class RememberingEncoder:
    """An encoder that caches the features of every clip; see `FrameEncoder`."""

    def __init__(self, encoder: FrameEncoder) -> None:
        self._encoder, self._kept = encoder, {}
        self.sample_rate, self.hop, self.dim, self.layer = encoder.sample_rate, encoder.hop, encoder.dim, encoder.layer
        self.receptive_field, self.device = encoder.receptive_field, encoder.device
        self.num_frames, self.max_frames = encoder.num_frames, getattr(encoder, "max_frames", None)

    def encode(self, waveforms: Sequence[Any], layers: Sequence[int] | None = None) -> list[Any]:
        """Return the features of waveforms, from the cache where a clip was encoded before."""
        keys = [hashlib.sha256(np.ascontiguousarray(wave).tobytes()).digest() for wave in waveforms]
        new = {key: wave for key, wave in zip(keys, waveforms, strict=True) if key not in self._kept}
        self._kept |= dict(zip(new, self._encoder.encode(list(new.values())), strict=True)) if new else {}
        return [self._kept[key] for key in keys]


def measure(tokenizer: Tokenizer, fitted: Manifest, held: Manifest, references: Any, args: Any) -> dict[str, Any]:
    """Return all scores of one tokenizer."""
    units = {r.id: tokenizer.encode(r.load()) for r in held}
    known = {r.id: references[r.id] for r in held}
    boundaries = score_boundaries(units, known, "paper").total(0.05)
    purity = PurityCounts.merge(score_purity(units, known).values())
    rates = RateCounts.merge(rate_counts(value) for value in units.values())
    result: dict[str, Any] = {
        "f1": boundaries.f1,
        "precision": boundaries.precision,
        "recall": boundaries.recall,
        "r_value": boundaries.r_value,
        "cluster_purity": purity.cluster_purity,
        "syllable_purity": purity.syllable_purity,
        "snmi": purity.syllable_normalized_mutual_information,
        "rate": rates.merged_unit_rate,
        "bits_per_second": rates.bits_per_second(tokenizer.num_units or 0),
        "entropy_rate": rates.entropy_rate(),
    }
    stability = evaluate_stability(held, tokenizer, limit=args.stable, resamples=2)
    rows = {row.condition: row.unit_edit_distance.value for row in stability.rows}
    result["unit_edit_distance"] = rows[MEAN]
    result["by_condition"] = rows
    if args.words:
        identity = evaluate_identity(args.words, tokenizer)
        result["word_identity"] = identity.unit_accuracy
        result["word_identity_vectors"] = identity.vector_accuracy
    if args.probe:
        train = {r.id: tokenizer.encode(r.load()) for r in fitted}
        aligned = {r.id: references[r.id] for r in fitted}
        phones = evaluate_phones(units, known, train, aligned, device="cpu")
        result["phone_error_rate"] = phones.phone_error_rate.value
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--alignments", required=True, type=Path)
    parser.add_argument("--words", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rules", default="minsum", help="Segmentation methods, comma-separated.")
    parser.add_argument("--rates", default="4.5,5,6.25,8.33")
    parser.add_argument("--units", default="1024,2048,4096")
    parser.add_argument("--centres", type=float, default=2.0, help="Number of k-means centres per unit.")
    parser.add_argument("--iterations", type=int, default=20, help="Maximum number of k-means iterations.")
    parser.add_argument("--stable", type=int, default=20, help="Number of recordings for the stability score.")
    parser.add_argument("--no-probe", dest="probe", action="store_false")
    args = parser.parse_args()
    manifest, _ = scan(args.manifest)
    references = read_alignments(args.alignments)
    recordings = [r for r in manifest if r.id in references]
    held = Manifest(recordings[HELD_OUT])
    fitted = Manifest([r for r in recordings if r.id not in {h.id for h in held}])
    encoder = RememberingEncoder(load_encoder(args.encoder, device="cpu"))
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    done = {json.loads(line)["name"] for line in lines}
    vectors: dict[tuple[str, float], Any] = {}
    sizes, rates = [int(text) for text in args.units.split(",")], [float(text) for text in args.rates.split(",")]
    for rule_name, units, rate in itertools.product(args.rules.split(","), sizes, rates):
        name = f"{rule_name} {rate:g} Hz, {units}"
        if name in done:
            continue
        rule = SegmentRule(rule_name, rate=rate)
        if (rule_name, rate) not in vectors:
            cutter = Tokenizer(encoder, None, rule)
            feats = [cutter.features([r.load()])[0] for r in fitted]
            vectors[rule_name, rate] = np.concatenate([cutter.pool(f, cutter.spans(f)) for f in feats])
        centres = round(args.centres * units)
        codebook = fit_codebook(
            vectors[rule_name, rate], units, num_centres=centres, method="lloyd", max_iter=args.iterations
        )
        row = measure(Tokenizer(encoder, codebook, rule), fitted, held, references, args)
        line = json.dumps({"name": name, "rule": rule_name, "hertz": rate, "units": units, "centres": centres, **row})
        lines.append(line)
        args.out.write_text("\n".join(lines) + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    try:
        main()
    except SyllableLMError as error:
        sys.exit(f"error: {error}")
