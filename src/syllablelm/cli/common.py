"""What the verbs share: options, recordings from arguments, models, and the two output streams."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.config import MAX_SEED
from syllablelm.errors import AudioError, InputError

if TYPE_CHECKING:
    from syllablelm.corpus import Manifest, Recording, SkippedFile
    from syllablelm.tokenizer import Tokenizer
    from syllablelm.types import Segmentation

DEFAULT_MODEL = "small"
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".jsonl.gz")
# Decoded recordings held at once; the tokenizer sorts them by length into its own, smaller batches.
GROUP_SECONDS = 600.0

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
# As in `syllablelm.rule` and `syllablelm.tokenizer`, which are not imported here because they load torch.
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


def note(text: str) -> None:
    """Say something to the person: one line on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print a result: one JSON object on standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def read_recordings(paths: Sequence[str]) -> tuple[Manifest, list[SkippedFile]]:
    """The recordings that the arguments of a verb name, in their order, and those that cannot be used.

    Args:
        paths: one manifest, or files, folders and patterns.

    Raises:
        InputError: a manifest among other arguments.
        AudioError, FormatError: the only argument is missing, or a manifest that cannot be understood.
    """
    from syllablelm.audio import find_audio
    from syllablelm.corpus import Manifest, SkippedFile, scan

    if len(paths) == 1:
        return scan(paths[0])
    manifests = [path for path in paths if path.lower().endswith(MANIFEST_SUFFIXES)]
    if manifests:
        raise InputError(f"{manifests[0]}: a manifest must be the only argument; run once for each")
    files: list[Path] = []
    skipped: list[SkippedFile] = []
    for path in paths:
        try:
            files.extend(find_audio(path))
        except AudioError as error:
            skipped.append(SkippedFile(Path(path), str(error).removeprefix(f"{path}: ")))
    if not files:
        return Manifest(), skipped
    # `scan` orders by path; a file that is named twice keeps its first place.
    place = {file: number for number, file in reversed(list(enumerate(files)))}
    manifest, unusable = scan(files)
    return Manifest(sorted(manifest, key=lambda recording: place[recording.path])), skipped + unusable


def split_units(paths: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Tell arguments that are recordings or manifests from those that are files of units."""
    units = [Path(path) for path in paths if _holds_units(Path(path))]
    return [path for path in paths if Path(path) not in units], units


def _holds_units(path: Path) -> bool:
    """Whether a file is Parquet, or a jsonl whose first line has segments; what cannot be read is reported later."""
    if path.suffix != ".jsonl":
        return path.suffix == ".parquet"
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(next(iter(file), "{}"))
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and {"unit", "start", "end"} <= set(first)


def read_numbers(text: str, option: str) -> list[float]:
    """The numbers of an option such as ``--tokens 1e6,4e6``.

    Raises:
        InputError: something else; the message names the option.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text!r}: must be numbers with commas between them") from None


def read_recipe(path: Path, changes: Sequence[str] | None) -> dict[str, Any]:
    """The table of a recipe with the changes of ``--set``; it loads no torch."""
    from syllablelm.config import apply_overrides, read_toml

    return apply_overrides(read_toml(path), changes or [])


def no_usable(skipped: Sequence[SkippedFile]) -> InputError:
    """The error of a run in which no recording could be used: the first reasons in one line."""
    shown = "; ".join(f"{item.path}: {item.reason}" for item in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return InputError(f"no usable recording: {shown or 'the manifest is empty'}{more}")


def load_tokenizer(
    name: str,
    *,
    device: str = "auto",
    rate: float | None = None,
    rule: Rule = None,
    delta: float | None = None,
    precision: Precision = "float32",
) -> Tokenizer:
    """Open a tokenizer, or a codec together with its tokenizer."""
    from syllablelm.recoded import open_tokenizer

    return open_tokenizer(name, device=device, rate=rate, rule=rule, delta=delta, precision=precision)


def encode_recordings(
    tokenizer: Tokenizer, manifest: Manifest, skipped: list[SkippedFile]
) -> Iterator[tuple[Recording, Segmentation]]:
    """Encode a corpus in bounded memory and in its order; recordings that fail to load are added to ``skipped``.

    Recordings that may be longer than the tokenizer's window are read block by block, the others in groups.
    """
    from syllablelm.corpus import SkippedFile
    from syllablelm.progress import ProgressBar

    with ProgressBar("tokenize", len(manifest), closing_line=False) as bar:
        for group in group_recordings(manifest, tokenizer.window_seconds):
            usable, waves = [], []
            for recording in group:
                try:
                    if recording.seconds > tokenizer.window_seconds:
                        yield recording, _encode_long(tokenizer, recording)
                        continue
                    waves.append(recording.load())
                    usable.append(recording)
                except AudioError as error:
                    reason = str(error).removeprefix(f"{recording.path}: ")
                    skipped.append(SkippedFile(recording.path, reason))
            yield from zip(usable, tokenizer.encode(waves), strict=True)
            bar.advance(len(group))


def _encode_long(tokenizer: Tokenizer, recording: Recording) -> Segmentation:
    from syllablelm.audio import read_blocks
    from syllablelm.types import Segmentation

    stop = recording.start + recording.num_samples
    # A block of many windows lets them be encoded together.
    blocks = read_blocks(recording.path, max(tokenizer.batch_seconds, 1.0), start=recording.start, stop=stop)
    return Segmentation.join(tokenizer.stream(blocks))


def group_recordings(manifest: Manifest, longest: float) -> Iterator[list[Recording]]:
    """Neighbours of at most `GROUP_SECONDS` together; a recording of more than ``longest`` seconds is alone."""
    group: list[Recording] = []
    seconds = 0.0
    for recording in manifest:
        alone = recording.seconds > longest
        if group and (alone or seconds + recording.seconds > GROUP_SECONDS):
            yield group
            group, seconds = [], 0.0
        group.append(recording)
        seconds += recording.seconds
        if alone:
            yield group
            group, seconds = [], 0.0
    if group:
        yield group


def errors_file(out: str | os.PathLike[str]) -> Path:
    """Where the unusable files of an output are listed: beside it."""
    out = Path(out)
    return out.with_name(out.name + ".errors.jsonl")
