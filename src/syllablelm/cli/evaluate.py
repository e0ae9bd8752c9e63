"""``evaluate``: a verb for each kind of score."""

from __future__ import annotations

import typer

from syllablelm.cli.continuation import continuation
from syllablelm.cli.identity import identity
from syllablelm.cli.phones import phones
from syllablelm.cli.report import report
from syllablelm.cli.speech import evaluate_resynthesis
from syllablelm.cli.speed import speed
from syllablelm.cli.stability import stability
from syllablelm.cli.units import bitrate, boundaries, purity
from syllablelm.cli.zerospeech import cloze, lexical, syntactic

app = typer.Typer(help="Score units as the papers do.", rich_markup_mode=None)
app.command()(boundaries)
app.command()(purity)
app.command()(bitrate)
app.command()(phones)
app.command()(identity)
app.command()(stability)
app.command()(speed)
app.command()(report)
app.command("resynthesis")(evaluate_resynthesis)
app.command()(continuation)
app.command()(lexical)
app.command()(syntactic)
app.command()(cloze)
