"""Score every model of a scaling study on sets of spoken pairs: scores.json beside run.json.

Run: python examples/score_runs.py STUDY --minimal-pairs runs/open/minimal-pairs/syntactic/dev minimal_pairs.jsonl \
    --topic-cloze runs/open/topic-cloze/cloze topic_cloze.jsonl

Each set is a folder and a file of its units, made once by `tokenize`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from syllablelm.core.files import atomic_path
from syllablelm.core.progress import ProgressBar
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.lm.cloze import read_cloze
from syllablelm.evaluate.lm.pairs import Pair, PairCounts, list_pair_stems, score_pairs
from syllablelm.evaluate.lm.suites import read_syntactic, syntactic_rows
from syllablelm.formats import read_segmentations
from syllablelm.lm.speech_lm import SpeechLM

SETS = {"minimal_pairs": read_syntactic, "topic_cloze": read_cloze}


def accuracy(name: str, pairs: list[Pair], counts: list[PairCounts]) -> float:
    """Return the accuracy in percent: the mean over phenomena of minimal pairs (FACTS C4), over stories of a cloze."""
    if name == "minimal_pairs":
        (row,) = (row for row in syntactic_rows(pairs, counts, resamples=1) if row.group == "macro")
        return 100 * row.accuracy
    return 100 * PairCounts.merge(counts).accuracy


def score(lm: SpeechLM, sets: Mapping[str, tuple[list[Pair], dict[str, Segmentation]]]) -> dict[str, float]:
    """Return the accuracy of one model on every set."""
    result = {}
    for name, (pairs, units) in sets.items():
        stems = list_pair_stems(pairs)
        scores = dict(zip(stems, lm.score([units[stem] for stem in stems]), strict=True))
        result[name] = accuracy(name, pairs, score_pairs(pairs, scores))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path, help="Output directories of `scale run`.")
    for name in SETS:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, dest=name, nargs=2, type=Path, metavar=("FOLDER", "UNITS"))
    options = vars(parser.parse_args())
    sets = {}
    for name, read in SETS.items():
        if options[name]:
            folder, units = options[name]
            # The id of a recording in a folder is its path there.
            rows = {id.rpartition("/")[2]: row for id, row in read_segmentations(units).items()}
            sets[name] = (read(folder), rows)
    runs = sorted(path.parent for study in options["studies"] for path in study.rglob("run.json"))
    todo = [run for run in runs if not (run / "scores.json").exists()]
    with ProgressBar("runs", len(todo)) as bar:
        for run in todo:
            with atomic_path(run / "scores.json") as part:
                part.write_text(json.dumps(score(SpeechLM.load(run), sets)) + "\n", encoding="utf-8")
            bar.advance()


if __name__ == "__main__":
    main()
