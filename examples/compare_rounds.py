"""Compare the stages of the paper on one list of recordings: even, similarity, LossPred, SylBoost rounds (Table 4).

Run: python examples/compare_rounds.py --run runs/losspred_whisper --teacher models/whisper-base --layer 7 --gap 50 \\
         --manifest data/librispeech/dev.csv --alignments data/librispeech/dev.alignments.jsonl

Every row gets as many boundaries as the reference has. F1 at 50 ms against syllables with 95 % bootstrap intervals over
recordings, and each row's paired difference from the row before it. --run is the output directory of `train all`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from syllablelm.core.errors import SyllableLMError
from syllablelm.data.alignment import read_alignments
from syllablelm.data.corpus import Manifest, scan
from syllablelm.encoders import MaskedPredictor, load_encoder
from syllablelm.evaluate.boundaries.comparison import compare_segmentations, reference_count, segment_corpus
from syllablelm.segment.segmenter import Segmenter, make_segmenter


def segmenters(run: Path, teacher: str, layer: int, gap: int) -> dict[str, Segmenter]:
    """Return the systems to compare, in the paper's order."""
    model = load_encoder(teacher, layer)
    predictor = MaskedPredictor.load(sorted(run.glob("iteration*/encoder"))[-1])
    rows = {
        "even": make_segmenter("even"),
        "similarity (MinCut)": make_segmenter("similarity", encoder=model),
        "MinSum on the teacher": make_segmenter("minsum", encoder=model),
        "LossPred (MinCut)": make_segmenter("losspred", predictor=predictor, gap=gap),
    }
    for number, folder in enumerate(sorted(run.glob("round*/encoder")), 1):
        rows[f"SylBoost round {number} (MinSum)"] = make_segmenter("minsum", encoder=load_encoder(folder, layer))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--layer", required=True, type=int)
    parser.add_argument("--gap", type=int, default=150)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--alignments", required=True, type=Path)
    args = parser.parse_args()
    manifest, _ = scan(args.manifest)
    references = read_alignments(args.alignments)
    held = Manifest([recording for recording in manifest if recording.id in references])
    known = {recording.id: references[recording.id] for recording in held}
    rows = segmenters(args.run, args.teacher, args.layer, args.gap)
    comparison = compare_segmentations(segment_corpus(held, rows, reference_count(known)), known)
    before = None
    for name in rows:
        row = next(row for row in comparison.rows(baseline=before) if row.segmenter == name)
        print(json.dumps(row.to_dict()), flush=True)
        before = name


if __name__ == "__main__":
    try:
        main()
    except SyllableLMError as error:
        sys.exit(f"error: {error}")
