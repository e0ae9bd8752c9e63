"""``evaluate``: a verb for each evaluation."""

from __future__ import annotations

import typer

from syllablelm.cli.boundaries import boundaries
from syllablelm.cli.report import report
from syllablelm.cli.speech_scores import continuation, resynthesis
from syllablelm.cli.unit_scores import bitrate, identity, phones, purity, speed, stability
from syllablelm.cli.zerospeech import cloze, lexical, syntactic

app = typer.Typer(
    help="Evaluate segmentations, units, language models and speech by the papers' protocols.", rich_markup_mode=None
)
app.command()(boundaries)
app.command()(purity)
app.command()(bitrate)
app.command()(phones)
app.command()(identity)
app.command()(stability)
app.command()(speed)
app.command()(report)
app.command()(resynthesis)
app.command()(continuation)
app.command()(lexical)
app.command()(syntactic)
app.command()(cloze)
