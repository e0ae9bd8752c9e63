"""What the verbs share: options, recordings from arguments, models, and the two output streams."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.core.config import MAX_SEED
from syllablelm.core.errors import InputError

if TYPE_CHECKING:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.data.corpus import Manifest, Recording, SkippedFile
    from syllablelm.tokenizer.tokenizer import Tokenizer

DEFAULT_MODEL = "small"

Audio = Annotated[
    list[str], typer.Argument(metavar="AUDIO", help="Files, folders, patterns, or one manifest (.csv, .jsonl).")
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where to compute.")]
Model = Annotated[
    str,
    typer.Option("--model", metavar="NAME|PATH", help="Bundled name, tokenizer's folder or hub id, or released .pth."),
]
SpeakingModel = Annotated[
    str,
    typer.Option("--model", metavar="NAME|FOLDER", help="Bundled name (small), or a folder that 'train bundle' made."),
]
Rate = Annotated[
    float | None, typer.Option("--rate", metavar="HZ", help="Units per second instead of the tokenizer's own.")
]
# As in `syllablelm.tokenizer.segment_rule`, which is not imported here because it loads torch.
Rule = Annotated[
    Literal["rate", "peaks", "released", "frames"] | None,
    typer.Option("--rule", help="How to cut, instead of the tokenizer's own way."),
]
Delta = Annotated[
    float | None, typer.Option("--delta", metavar="X", help="Threshold of --rule released instead of its own.")
]
BatchSeconds = Annotated[
    float, typer.Option("--batch-seconds", metavar="SECONDS", help="Audio encoded at once; bounds memory.")
]
Precision = Annotated[
    Literal["float32", "bfloat16", "float16"], typer.Option("--precision", help="Of the encoder; the rest is float32.")
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, max=MAX_SEED, help="Of everything that is drawn at random.")
]
# Of the verbs that score.
Units = Annotated[
    Path | None, typer.Option("--units", metavar="FILE", help="Output of tokenize to score instead of recordings.")
]
Resamples = Annotated[int, typer.Option("--resamples", metavar="N", min=1, help="Of the bootstrap intervals (95 %).")]
TableFormat = Annotated[Literal["json", "text", "markdown"], typer.Option("--format", help="What to print.")]
Recognizer = Annotated[
    str, typer.Option("--recognizer", metavar="NAME|PATH", help="pocketsphinx, or a Hugging Face CTC model.")
]
RecognizerWorkers = Annotated[int, typer.Option("--workers", metavar="N", min=1, help="Processes that recognise.")]
# Of the verbs that train.
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, such as lm.loop.steps=100; repeatable."),
]


def print_json(value: Any) -> None:
    """Print a result: one JSON object on standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def read_numbers(text: str, option: str) -> list[float]:
    """The numbers of an option such as ``--tokens 1e6,4e6``.

    Raises:
        InputError: something else; the message names the option.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text!r}: must be numbers with commas between them") from None


def errors_file(out: str | os.PathLike[str]) -> Path:
    """Where the unusable files of an output are listed: beside it."""
    out = Path(out)
    return out.with_name(out.name + ".errors.jsonl")


def load_tokenizer(name: str, **options: Any) -> Tokenizer:
    """Open a tokenizer, or a codec together with its tokenizer."""
    from syllablelm.tokenizer.bpe_tokenizer import open_tokenizer

    return open_tokenizer(name, **options)


def encode_recordings(
    tokenizer: Tokenizer, manifest: Manifest, skipped: list[SkippedFile]
) -> Iterator[tuple[Recording, Segmentation]]:
    """Encode a corpus in bounded memory and in its order; recordings that fail to load are added to ``skipped``."""
    from syllablelm.tokenizer.recordings import encode_recordings

    return encode_recordings(tokenizer, manifest, skipped)


def group_recordings(manifest: Manifest, longest: float) -> Iterator[list[Recording]]:
    """Neighbours together; a recording of more than ``longest`` seconds is alone."""
    from syllablelm.tokenizer.recordings import group_recordings

    return group_recordings(manifest, longest)


def read_recordings(paths: Sequence[str]) -> tuple[Manifest, list[SkippedFile]]:
    """Return the recordings that the arguments of a verb name, and those that cannot be used."""
    from syllablelm.data.corpus import read_recordings

    return read_recordings(paths)


def no_usable(skipped: Sequence[SkippedFile]) -> InputError:
    """Return the error of a run in which no recording could be used."""
    from syllablelm.data.corpus import no_usable

    return no_usable(skipped)
