"""``prepare``: corpora to manifests, text to synthetic speech, and open sets of spoken pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from syllablelm.cli.options import Seed, print_json
from syllablelm.core.progress import note
from syllablelm.core.results import Record
from syllablelm.data.manifest_formats import FOREIGN_MANIFESTS

if TYPE_CHECKING:
    from syllablelm.data.corpus import PreparedCorpus


class _CorpusByDefault(TyperGroup):
    """``prepare SOURCE`` is ``prepare corpus SOURCE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["corpus", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_CorpusByDefault,
    help="Make a manifest, reference syllables, or synthetic speech.\n\n`prepare SOURCE` is `prepare corpus SOURCE`.",
    rich_markup_mode=None,
)

# The registries of corpora and of speech engines load numpy; a test holds these lists to them.
Kind = Literal["auto", "librispeech", "librilight", "folder", "manifest", "lhotse"]
EngineName = Literal["flite", "espeak-ng", "piper"]

Engine = Annotated[
    EngineName, typer.Option("--engine", help="Text-to-speech engine; flite and espeak-ng give phone times.")
]
Voices = Annotated[
    str | None, typer.Option("--voices", metavar="A,B", help="Voices, comma-separated (default: the engine's).")
]
Workers = Annotated[int, typer.Option("--workers", metavar="N", min=1, help="Number of engine processes.")]
SetFolder = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Folder of the set; an unfinished one is resumed.")
]
SetAudio = Annotated[Literal["flac", "wav"], typer.Option("--format", help="Audio format.")]


@app.command()
def corpus(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Folder of LibriSpeech, LibriLight, MLS, VoxPopuli or Common Voice, any folder, files, or a manifest "
            f"(.csv, {FOREIGN_MANIFESTS}).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Manifest to write (.jsonl).")],
    check: Annotated[bool, typer.Option("--check", help="Decode every file to its end, not only its header.")] = False,
    kind: Annotated[Kind, typer.Option("--kind", help="Layout of the source.")] = "auto",
    segment: Annotated[
        Literal["none", "vad"],
        typer.Option("--segment", help="vad: cut recordings longer than --max-seconds by voice activity."),
    ] = "none",
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", metavar="SECONDS", help="Maximum length of a piece (default: 30).")
    ] = None,
    vad: Annotated[Literal["energy", "silero"], typer.Option("--vad", help="Voice activity detection.")] = "energy",
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=1, help="Number of threads of --segment.")] = 1,
) -> None:
    """Make a manifest of a corpus.

    Unusable files are left out and listed in OUT.errors.jsonl.
    """
    from syllablelm.data.corpus import prepare_corpus

    named: Any = {"kind": kind, "check": check, "segment": segment, "max_seconds": max_seconds, "vad": vad}
    _print_corpus(prepare_corpus(source[0] if len(source) == 1 else source, out, workers=workers, **named))


@app.command()
def subset(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Manifest, or folder of a corpus.")],
    hours: Annotated[float, typer.Option("--hours", metavar="H", help="Maximum length in hours.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Manifest to write (.jsonl).")],
    by: Annotated[
        Literal["recording", "speaker"],
        typer.Option("--by", help="Draw single recordings, or speakers with all their recordings."),
    ] = "recording",
    seed: Seed = 0,
) -> None:
    """Make a manifest of a random part of a corpus.

    The paper trains its tokenizers on a random 100 hours of LibriSpeech.
    """
    from syllablelm.data.corpus import prepare_subset

    _print_corpus(prepare_subset(source, out, hours, by=by, seed=seed))


@app.command()
def alignments(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="TextGrid files or a folder of them, .ctm or .jsonl; phones in ARPAbet or IPA."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Alignments to write (.jsonl).")],
    onsets: Annotated[
        Path | None,
        typer.Option(
            "--onsets",
            metavar="FILE",
            help="Onsets of the language, one a line, phones in IPA separated by blanks (default: by sonority).",
        ),
    ] = None,
) -> None:
    """Divide the words of reference alignments into syllables.

    Writes one file that every evaluation takes for --alignments. Alignments with faults are left out and named.
    """
    from syllablelm.data.alignment import prepare_alignments

    print_json(prepare_alignments(source, out, onsets=onsets))


@app.command()
def synthetic(
    text: Annotated[
        Path,
        typer.Argument(
            metavar="TEXT", help="Text file, .trans.txt transcript, manifest with texts, or folder of .txt files."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder of the corpus; an unfinished one is resumed.")
    ],
    engine: Engine = "flite",
    voices: Voices = None,
    hours: Annotated[
        float | None, typer.Option("--hours", metavar="H", help="Length of the corpus in hours (default: all texts).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Maximum number of utterances.")
    ] = None,
    speed: Annotated[
        tuple[float, float],
        typer.Option("--speed", metavar="LOW HIGH", help="Range of speaking rates, relative to the voice's own."),
    ] = (0.8, 1.3),
    pitch: Annotated[
        tuple[float, float], typer.Option("--pitch", metavar="LOW HIGH", help="Range of pitch, relative likewise.")
    ] = (0.85, 1.2),
    silence: Annotated[
        float, typer.Option("--silence", metavar="SECONDS", help="Silence before and after every utterance.")
    ] = 0.0,
    workers: Workers = 1,
    audio_format: Annotated[Literal["flac", "wav", "opus"], typer.Option("--format", help="Audio format.")] = "flac",
    seed: Seed = 0,
) -> None:
    """Speak a text with a text-to-speech engine.

    Writes audio, a manifest, and the engine's own phone times as reference.
    """
    from syllablelm.tts.reading import speak_texts

    speech = {"engine": engine, "voices": voices, "workers": workers, "audio_format": audio_format, "seed": seed}
    sound = {"speed_range": speed, "pitch_range": pitch, "silence": silence}
    print_json(speak_texts(text, out, hours=hours, limit=limit, **speech, **sound))


@app.command()
def stories(
    text: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT", help="Text files or folders: stories separated by <|endoftext|>, or one on each line."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder of the corpus; an unfinished one is resumed.")
    ],
    engine: Engine = "flite",
    voices: Annotated[
        str | None,
        typer.Option("--voices", metavar="A,B", help="Voices, comma-separated; one per story (default: a single one)."),
    ] = None,
    hours: Annotated[
        float | None, typer.Option("--hours", metavar="H", help="Length of the corpus in hours (default: all stories).")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Maximum number of stories.")] = None,
    max_words: Annotated[
        int, typer.Option("--max-words", metavar="N", min=1, help="Maximum words per story; longer ones are left out.")
    ] = 1000,
    workers: Workers = 1,
    audio_format: Annotated[Literal["flac", "wav", "opus"], typer.Option("--format", help="Audio format.")] = "flac",
    seed: Seed = 0,
) -> None:
    """Speak whole stories, as TinyStories, with a text-to-speech engine.

    Each story in one voice, at its own speed and pitch. Stories left out are counted.
    """
    from syllablelm.tts.reading import speak_stories

    speech = {"engine": engine, "voices": voices, "workers": workers, "audio_format": audio_format, "seed": seed}
    print_json(speak_stories(text, out, hours=hours, limit=limit, max_words=max_words, **speech))


@app.command()
def wordlist(
    out: SetFolder,
    dictionary: Annotated[
        Path | None,
        typer.Option(
            "--dictionary", metavar="FILE", help="Lines 'WORD  P H O N E S' as in CMUdict (default: pocketsphinx's)."
        ),
    ] = None,
    alignments: Annotated[
        Path | None, typer.Option("--alignments", metavar="FILE", help="Words and phones of a corpus instead.")
    ] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option("--text", metavar="FILE", help="Text file or folder in which words are counted; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Number of pairs.")] = 1000,
    engine: Annotated[
        Literal["flite", "espeak-ng"], typer.Option("--engine", help="Speech engine, told phones; flite finds stress.")
    ] = "flite",
    voices: Voices = None,
    workers: Workers = 1,
    audio_format: SetAudio = "flac",
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="LICENCE", help="Licence of the texts and of a dictionary given.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Speak words and non-words like them.

    For `evaluate lexical FOLDER`. A set of its own, not sWUGGY.
    """
    from syllablelm.itemsets import prepare_wordlist

    speech = {"voices": voices, "workers": workers, "audio_format": audio_format, "licence": licence, "seed": seed}
    words = {"dictionary": dictionary, "alignments": alignments, "text": text or (), "engine": engine}
    _print_set(out, prepare_wordlist(out, pairs=limit, **words, **speech))


@app.command("minimal-pairs")
def minimal_pairs(
    blimp: Annotated[
        Path, typer.Argument(metavar="BLIMP", help="BLiMP's .tar.gz, a folder with its .jsonl files, or one of them.")
    ],
    out: SetFolder,
    per_paradigm: Annotated[
        int, typer.Option("--per-paradigm", metavar="N", min=1, help="Pairs per paradigm, of 67.")
    ] = 20,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Maximum number of pairs.")] = None,
    engine: Engine = "flite",
    voices: Voices = None,
    workers: Workers = 1,
    audio_format: SetAudio = "flac",
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="LICENCE", help="Licence of the sentences (default: BLiMP's).")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Speak pairs of sentences of BLiMP.

    For `evaluate syntactic FOLDER`. A set of its own, not sBLIMP.
    """
    from syllablelm.itemsets import prepare_minimal_pairs

    speech = {"voices": voices, "workers": workers, "audio_format": audio_format, "licence": licence, "seed": seed}
    record = prepare_minimal_pairs(blimp, out, per_paradigm=per_paradigm, limit=limit, engine=engine, **speech)
    _print_set(out, record)


@app.command("topic-cloze")
def topic_cloze(
    texts: Annotated[
        list[Path],
        typer.Argument(metavar="TEXT", help="Text files, LibriSpeech transcripts (.trans.txt), folders of them."),
    ],
    out: SetFolder,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=2, help="Number of items, even.")] = 1000,
    context: Annotated[
        int, typer.Option("--context", metavar="N", min=1, help="Number of sentences before the ending.")
    ] = 3,
    max_words: Annotated[int, typer.Option("--max-words", metavar="N", min=4, help="Maximum words per sentence.")] = 25,
    engine: Engine = "flite",
    voices: Voices = None,
    workers: Workers = 1,
    audio_format: SetAudio = "flac",
    licence: Annotated[str, typer.Option("--licence", metavar="LICENCE", help="Licence of the texts.")] = "not given",
    seed: Seed = 0,
) -> None:
    """Speak stories with their own ending and with another's.

    For `evaluate cloze FOLDER/cloze`. A set of its own, not StoryCloze.
    """
    from syllablelm.itemsets import prepare_topic_cloze

    speech = {"voices": voices, "workers": workers, "audio_format": audio_format, "licence": licence, "seed": seed}
    stories = {"items": limit, "context": context, "max_words": max_words, "engine": engine}
    _print_set(out, prepare_topic_cloze(texts, out, **stories, **speech))


def _print_corpus(result: PreparedCorpus) -> None:
    if result.skipped:
        note(f"{result.skipped} skipped, see {result.errors}")
    print_json(result)


def _print_set(out: Path, record: Record) -> None:
    print_json({"folder": str(out), **record.to_dict()})
