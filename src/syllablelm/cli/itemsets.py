"""``prepare wordlist``, ``minimal-pairs`` and ``topic-cloze``: open sets of spoken pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from syllablelm.cli.common import Seed, print_json
from syllablelm.core.errors import InputError

if TYPE_CHECKING:
    from syllablelm.itemsets import ItemSet
    from syllablelm.tts.engines import Engine

Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder of the set; one begun before is finished.")]
Voices = Annotated[
    str | None, typer.Option("--voices", metavar="A,B", help="Names joined by commas; default the usual.")
]
EngineName = Annotated[
    Literal["flite", "espeak-ng", "piper"],
    typer.Option("--engine", help="flite gives phone times; the voices of piper are .onnx files."),
]
Workers = Annotated[int, typer.Option("--workers", help="Speech engines at a time.", min=1)]
AudioFormat = Annotated[Literal["flac", "wav"], typer.Option("--format", help="Of the audio.")]
CMUDICT_LICENCE = "CMU Pronouncing Dictionary: BSD-2-Clause (Carnegie Mellon University)"


def wordlist(
    out: Out,
    dictionary: Annotated[
        Path | None,
        typer.Option(
            "--dictionary", metavar="FILE", help="Lines 'WORD  P H O N E S' as CMUdict's; default that in pocketsphinx."
        ),
    ] = None,
    alignments: Annotated[
        Path | None, typer.Option("--alignments", metavar="FILE", help="A corpus's words and phones instead.")
    ] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option("--text", metavar="FILE", help="Text or folder that counts words; may be given more than once."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Pairs to make.", min=1)] = 1000,
    voices: Voices = None,
    workers: Workers = 1,
    audio_format: AudioFormat = "flac",
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", metavar="TEXT", help="Of the texts (and of the dictionary, if given), for the record."
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Speak words and non-words like them.

    For `evaluate lexical FOLDER`. A set of its own, not sWUGGY.
    """
    from syllablelm.core.progress import ProgressBar
    from syllablelm.itemsets import Source, make_wordlist
    from syllablelm.itemsets.phone_voice import PhoneFlite
    from syllablelm.itemsets.pronunciations import count_words, default_dictionary, read_dictionary
    from syllablelm.itemsets.pronunciations import read_spoken_dictionary as read_spoken

    if dictionary is not None and alignments is not None:
        raise InputError("--dictionary and --alignments: give one of them")
    path = alignments or dictionary or default_dictionary()
    words_licence = CMUDICT_LICENCE if path not in (alignments, dictionary) else licence or "not given"
    lexicon = read_spoken(path) if alignments else read_dictionary(path)
    sources = [Source.of(path, words_licence), *(Source.of(file, licence or "not given") for file in text or ())]
    engine = PhoneFlite()
    chosen = _voices(engine, voices)
    with ProgressBar("non-words", limit, closing_line=False) as bar:
        items = make_wordlist(
            lexicon,
            count_words(text) if text else None,
            lambda word, phones: engine.find_stress(word, phones, voice=chosen[0]),
            sources,
            voices=chosen,
            pairs=limit,
            seed=seed,
            progress=bar.advance,
        )
    _speak(items, out, engine, workers, audio_format)


def minimal_pairs(
    blimp: Annotated[
        Path, typer.Argument(metavar="BLIMP", help="Its .tar.gz, a folder with its .jsonl files, or one of them.")
    ],
    out: Out,
    per_paradigm: Annotated[
        int, typer.Option("--per-paradigm", metavar="N", help="Pairs of each of the 67.", min=1)
    ] = 20,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="Pairs in all.", min=1)] = None,
    engine: EngineName = "flite",
    voices: Voices = None,
    workers: Workers = 1,
    audio_format: AudioFormat = "flac",
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="Of the sentences; default BLiMP's.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Speak pairs of sentences of BLiMP.

    For `evaluate syntactic FOLDER`. A set of its own, not sBLIMP.
    """
    from syllablelm.itemsets.sentences import LICENCE, make_minimal_pairs
    from syllablelm.tts.engines import ENGINES

    speaker = ENGINES[engine]()
    items = make_minimal_pairs(
        blimp,
        voices=_voices(speaker, voices),
        per_paradigm=per_paradigm,
        limit=limit,
        seed=seed,
        licence=licence or LICENCE,
    )
    _speak(items, out, speaker, workers, audio_format)


def topic_cloze(
    texts: Annotated[
        list[Path],
        typer.Argument(metavar="TEXT", help="Text files, LibriSpeech transcripts (.trans.txt), folders of them."),
    ],
    out: Out,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Items; an even number.", min=2)] = 1000,
    context: Annotated[int, typer.Option("--context", metavar="N", help="Sentences before the ending.", min=1)] = 3,
    max_words: Annotated[int, typer.Option("--max-words", metavar="N", help="Of a sentence.", min=4)] = 25,
    engine: EngineName = "flite",
    voices: Voices = None,
    workers: Workers = 1,
    audio_format: AudioFormat = "flac",
    licence: Annotated[
        str, typer.Option("--licence", metavar="TEXT", help="Of the texts, for the record.")
    ] = "not given",
    seed: Seed = 0,
) -> None:
    """Speak stories with their own ending and with another's.

    For `evaluate cloze FOLDER/cloze`. A set of its own, not StoryCloze.
    """
    from syllablelm.itemsets import make_topic_cloze
    from syllablelm.tts.engines import ENGINES

    speaker = ENGINES[engine]()
    items = make_topic_cloze(
        texts,
        voices=_voices(speaker, voices),
        items=limit,
        context=context,
        max_words=max_words,
        seed=seed,
        licence=licence,
    )
    _speak(items, out, speaker, workers, audio_format)


def _voices(engine: Engine, names: str | None) -> tuple[str, ...]:
    chosen = engine.voices if names is None else tuple(dict.fromkeys(name.strip() for name in names.split(",")))
    # Before the items are made: that may take minutes.
    engine.check(chosen)
    return chosen


def _speak(items: ItemSet, out: Path, engine: Engine, workers: int, audio_format: str) -> None:
    from syllablelm.core.progress import ProgressBar
    from syllablelm.itemsets import speak_set

    with ProgressBar(items.name, len(items.clips), closing_line=False) as bar:
        record = speak_set(items, out, engine, workers=workers, audio_format=audio_format, progress=bar.advance)
    print_json({"folder": str(out), **record})
