"""``evaluate``: a verb for each evaluation."""

from __future__ import annotations

import typer

from syllablelm.cli.boundaries import boundaries
from syllablelm.cli.report import report
from syllablelm.cli.speech_scores import continuation, quality, resynthesis
from syllablelm.cli.unit_scores import abx, bitrate, identity, phones, purity, speed, stability
from syllablelm.cli.zerospeech import cloze, lexical, salmon, syntactic

app = typer.Typer(
    help="Evaluate segmentations, units, language models and speech by the papers' protocols.", rich_markup_mode=None
)
for verb in (boundaries, purity, bitrate, phones, identity, stability, speed, report, resynthesis):
    app.command()(verb)
for verb in (quality, continuation, abx, lexical, syntactic, cloze, salmon):
    app.command()(verb)
