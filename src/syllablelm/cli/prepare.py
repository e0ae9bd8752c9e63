"""``prepare``: corpora to manifests, and text to synthetic speech."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from syllablelm.cli import itemsets
from syllablelm.cli.common import Seed, errors_file, no_usable, print_json
from syllablelm.core.errors import InputError
from syllablelm.core.progress import note


class _CorpusByDefault(TyperGroup):
    """``prepare SOURCE`` is ``prepare corpus SOURCE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["corpus", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_CorpusByDefault,
    help="Make a manifest, or synthetic speech.\n\n`prepare SOURCE` is `prepare corpus SOURCE`.",
    rich_markup_mode=None,
)


@app.command()
def corpus(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE", help="LibriSpeech or LibriLight folder, any folder, files, table, lhotse cuts."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Manifest to write (.jsonl).")],
    check: Annotated[bool, typer.Option("--check", help="Decode every file to its end, not only its header.")] = False,
    kind: Annotated[
        Literal["auto", "librispeech", "librilight", "folder", "manifest", "lhotse"],
        typer.Option("--kind", help="What the source is."),
    ] = "auto",
) -> None:
    """Make a manifest of a corpus.

    Unusable files are left out and listed in OUT.errors.jsonl.
    """
    from syllablelm.data.corpus import scan, write_errors

    if out.suffix != ".jsonl":
        raise InputError(f"--out {out}: a manifest's name ends in .jsonl")
    manifest, skipped = scan(source[0] if len(source) == 1 else source, kind=kind, check=check)
    listing = errors_file(out)
    write_errors(skipped, listing)
    if not manifest:
        raise no_usable(skipped)
    manifest.save(out)
    for item in skipped:
        note(f"skipped {item.path}: {item.reason}")
    print_json(
        {
            "manifest": str(out),
            "recordings": len(manifest),
            "hours": manifest.total_seconds / 3600,
            "speakers": len({recording.speaker for recording in manifest} - {None}),
            "skipped": len(skipped),
            "errors": str(listing),
        }
    )


@app.command()
def synthetic(
    text: Annotated[
        Path, typer.Argument(metavar="TEXT", help="A text file, a .trans.txt transcript, or a folder of .txt files.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder of the corpus; one begun before is finished.")
    ],
    engine: itemsets.EngineName = "flite",
    voices: itemsets.Voices = None,
    hours: Annotated[float | None, typer.Option("--hours", help="Stop once the corpus is this long.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Speak at most so many utterances.", min=1)] = None,
    workers: itemsets.Workers = 1,
    audio_format: Annotated[Literal["flac", "wav", "opus"], typer.Option("--format", help="Of the audio.")] = "flac",
    seed: Seed = 0,
) -> None:
    """Speak a text with a speech engine.

    Writes audio, a manifest, and the engine's own phone times as reference.
    """
    from syllablelm.core.progress import ProgressBar
    from syllablelm.data.texts import read_texts
    from syllablelm.tts.synthesize import synthesize

    if hours is not None and hours <= 0:
        raise InputError(f"--hours {hours}: must be above 0")
    texts = list(islice(read_texts(text), limit))
    if not texts:
        raise InputError(f"{text}: holds no sentence long enough to speak")
    with ProgressBar("synthesize", len(texts), closing_line=False) as bar:
        result = synthesize(
            texts,
            out,
            engine=engine,
            voices=None if voices is None else [name.strip() for name in voices.split(",")],
            seed=seed,
            workers=workers,
            limit_seconds=None if hours is None else hours * 3600,
            audio_format=audio_format,
            progress=bar.advance,
        )
    print_json(
        {
            "manifest": str(result.manifest),
            "alignments": None if result.alignments is None else str(result.alignments),
            "utterances": result.num_utterances,
            "hours": result.seconds / 3600,
            "skipped": result.num_failed,
            "errors": str(result.errors),
        }
    )


app.command("wordlist")(itemsets.wordlist)
app.command("minimal-pairs")(itemsets.minimal_pairs)
app.command("topic-cloze")(itemsets.topic_cloze)
