"""Codebook and tokenizer stages: k-means then Ward agglomeration on pooled segments; everything in one folder."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from syllablelm.core.artifact import UNITS_OF, Artifact, current_digest, open_artifact, units_digest
from syllablelm.core.errors import InputError, check_fields
from syllablelm.core.models import find_model
from syllablelm.core.progress import ProgressBar
from syllablelm.data.manifest import Manifest
from syllablelm.encoders.base import FrameEncoder
from syllablelm.encoders.device import pick_device
from syllablelm.encoders.load import load_encoder
from syllablelm.quantize import Codebook, Vectors, VectorWriter, fit_codebook
from syllablelm.quantize.kmeans import Method
from syllablelm.segment import minsum_penalty
from syllablelm.tokenizer.segment_rule import SegmentRule
from syllablelm.tokenizer.tokenizer import CODEBOOK_FILE, Tokenizer
from syllablelm.train.batches import WaveformStore, iterate_features
from syllablelm.train.stage import StageContext, StageRun

MOST_UNITS = 2**24
# Audio on which a penalty is fitted.
PENALTY_SECONDS = 1800.0


@dataclass(frozen=True)
class CodebookConfig:
    """Clustering of segment vectors.

    Args:
        units: number of units (2,048 at 8.33 Hz, 8,192 at 6.25 Hz, 16,384 at 5 Hz in the paper).
        centres: number of k-means centres before agglomeration; 0: twice the units.
        kmeans: k-means algorithm; "auto" depends on the size and on whether faiss is installed.
        rule: segmentation and pooling, here and later in the tokenizer.
        half: store the encoder's weights in float16; they are rounded before the codebook is fitted.
        take: tokenizer (folder or bundled name) whose codebook is taken as it is: of the teacher of a student that
            learned its features. Models of its units take the new ones as theirs. ``units``, ``centres`` and ``kmeans``
            are then ignored.
    """

    units: int = 2048
    centres: int = 0
    kmeans: Method = "auto"
    rule: SegmentRule = field(default_factory=SegmentRule)
    half: bool = False
    take: str = ""

    def __post_init__(self) -> None:
        check_fields(self, "units", least=1, most=MOST_UNITS)
        check_fields(self, "centres", least=0)
        if 0 < self.centres < self.units:
            raise InputError(f"centres {self.centres}: fewer than units {self.units}; 0 takes twice the units")


def train_codebook(config: CodebookConfig, context: StageContext, encoder: Artifact, out: Path) -> Artifact:
    """Fit a codebook on a corpus and write the finished tokenizer (encoder, codebook, rule).

    The vectors of all segments lie in files beside ``out`` meanwhile (4 bytes a dimension), so that neither their
    number nor the size of the memory matters, and a stopped run encodes no recording again.
    """

    @torch.no_grad()
    def work(run: StageRun) -> None:
        model = load_encoder(encoder.path, device=context.device)
        # The codebook is fitted to the features of the stored encoder.
        for name, tensor in model.state_dict().items() if config.half else ():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
                if not bool(tensor.isfinite().all()):
                    raise InputError(f"codebook.half: {name} is beyond the range of float16; set it to false")
        rule = config.rule
        if rule.method == "penalty" and rule.delta == 0.0:
            rule = replace(rule, delta=_fit_penalty(rule, model, context))
            run.metrics["penalty"] = rule.delta
        if taken is not None:
            codebook = Codebook.load(taken.file(CODEBOOK_FILE))
            Tokenizer(model, codebook, rule).write_payload(run.folder, half=config.half)
            return
        tokenizer = Tokenizer(model, None, rule)
        pooled = _pool(tokenizer, context, run)
        codebook = _fit(config, pooled, context.seed, pick_device(context.device))
        Tokenizer(model, codebook, rule).write_payload(run.folder, half=config.half)
        run.metrics["segments"] = len(pooled)
        run.metrics["rate"] = len(pooled) / context.manifest.total_seconds
        # Every centre is the nearest one of a segment.
        run.metrics["units_used"] = codebook.num_units

    parents = {"encoder": current_digest(encoder)}
    taken = open_artifact(find_model(config.take), "tokenizer") if config.take else None
    if taken is not None:
        parents[UNITS_OF] = units_digest(taken)
    return context.run("tokenizer", out, config, parents, work, alone=True)


def _fit_penalty(rule: SegmentRule, encoder: FrameEncoder, context: StageContext) -> float:
    """Find the penalty that gives ``rule.rate`` segments a second, on recordings drawn from the corpus."""
    lengths = np.array([recording.seconds for recording in context.manifest])
    drawn = np.random.default_rng(context.seed).permutation(len(lengths))
    drawn = drawn[: 1 + int(np.searchsorted(np.cumsum(lengths[drawn]), PENALTY_SECONDS))]
    store = WaveformStore(Manifest([context.manifest[int(index)] for index in drawn]))
    found = [feats for _, feats in iterate_features(store, encoder, label="penalty")]
    seconds = sum(map(len, found)) * encoder.hop / encoder.sample_rate
    low, high = 0.0, 1.0

    def too_many(penalty: float) -> bool:
        cut = (
            minsum_penalty(feats, penalty, min_length=rule.min_length, max_length=rule.max_length) for feats in found
        )
        return sum(len(boundaries) - 1 for boundaries in cut) > rule.rate * seconds

    while too_many(high) and high < 1e9:
        low, high = high, 4.0 * high
    for _ in range(20):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if too_many(middle) else (low, middle)
    return high


def _pool(tokenizer: Tokenizer, context: StageContext, run: StageRun) -> Vectors:
    """Write the vectors of all segments to files of the stage's scratch folder, from where a stopped run was."""
    folder = run.scratch / f"vectors-{run.fingerprint}"
    for other in run.scratch.glob("vectors-*"):
        if other != folder:  # of another recipe
            shutil.rmtree(other)
    writer = VectorWriter(folder)
    for _, feats in iterate_features(context.store, tokenizer.encoder, label="codebook", done=writer.items):
        writer.append(tokenizer.pool(feats, tokenizer.spans(feats)))
    return writer.finish()


def _fit(config: CodebookConfig, vectors: Vectors, seed: int, device: torch.device) -> Codebook:
    """Call `fit_codebook` with its progress on standard error."""
    centres = config.centres or 2 * config.units
    began = 0.0

    def before_ward(count: int) -> None:
        nonlocal began
        began = time.monotonic()
        print(f"codebook: Ward merges {count} centres into {config.units} units", file=sys.stderr, flush=True)

    options: dict[str, Any] = {
        "num_centres": centres,
        "seed": seed,
        "method": config.kmeans,
        "device": device,
        "before_ward": before_ward,
    }
    label = f"k-means ({len(vectors)} vectors, {centres} centres, % of the longest run)"
    with ProgressBar(label, 100, closing_line=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.advance(100 * done // total - bar.done)

        codebook = fit_codebook(vectors, config.units, progress=progress, **options)
    if began:
        print(f"codebook: merged in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return codebook
