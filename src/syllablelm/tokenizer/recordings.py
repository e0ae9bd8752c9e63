"""Corpora in this process: recordings in, segmentations or unit files out, in bounded memory and in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import AudioError, InputError, unknown_name
from syllablelm.core.files import refuse_inputs
from syllablelm.core.progress import ProgressBar
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import read_blocks
from syllablelm.data.corpus import SkippedFile, errors_file, in_utf8, no_usable, read_recordings, write_errors
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.formats import TOKENIZE_FORMATS, open_writer
from syllablelm.tokenizer.tokenizer import Tokenizer

Blocks = Iterable[npt.NDArray[np.float32]]
# Decoded recordings held at once; the tokenizer sorts them by length into its own, smaller batches.
GROUP_SECONDS = 600.0


@dataclass(frozen=True)
class TokenizedFiles:
    """The outcome of ``tokenize_files``.

    Args:
        recordings, units, seconds: encoded recordings, their units (segments without a codebook) and total length.
        took_seconds: time that encoding took, without opening the model.
        skipped, errors: files that cannot be used, and why; the file that lists them, if any.
        segmentations: by id, where no output was given; else empty.
    """

    recordings: int
    units: int
    seconds: float
    took_seconds: float
    skipped: tuple[SkippedFile, ...]
    errors: Path | None = None
    segmentations: Mapping[str, Segmentation] = field(default_factory=dict)


def tokenize_files(
    audio: str | Path | Sequence[str | Path],
    model: str | Path | Tokenizer = "small",
    *,
    out: str | Path | IO[str] | None = None,
    format: str = "jsonl",
    errors: str | Path | None = None,
    **options: Any,
) -> TokenizedFiles:
    """Turn recordings of any length into units; unusable files are listed and skipped.

    Args:
        audio: files, folders and patterns, or one manifest.
        model, options: a tokenizer; or name and options for ``Tokenizer.load``: device, rate, rule, delta, ...
        out: file (a folder for TextGrids) or text stream to write; by default the segmentations are returned.
        format: format of ``out``, one of ``TOKENIZE_FORMATS``.
        errors: file that lists what was skipped; by default OUT.errors.jsonl beside an output file, else none.

    Raises:
        InputError, FormatError: no usable recording, an unsuitable format, or a model that cannot be opened.
    """
    if format not in TOKENIZE_FORMATS:
        raise unknown_name("format", format, TOKENIZE_FORMATS)
    is_file = isinstance(out, str | Path)
    if format in ("parquet", "textgrid") and out is not None and not is_file:
        raise InputError(f"--format {format} does not go to standard output; give --out PATH")
    listing = Path(errors) if errors is not None else errors_file(out) if is_file else None
    manifest, skipped = read_recordings([str(path) for path in ([audio] if isinstance(audio, str | Path) else audio)])
    if format in ("parquet", "textgrid"):
        manifest = in_utf8(manifest, skipped)
    found: dict[str, Segmentation] = {}
    done, units, seconds = 0, 0, 0.0
    inputs = [*([audio] if isinstance(audio, str | Path) else audio), *(recording.path for recording in manifest)]
    refuse_inputs([target for target in (out, listing) if isinstance(target, str | Path)], inputs)
    try:
        if not manifest:
            raise no_usable(skipped)
        tokenizer = model if isinstance(model, Tokenizer) else Tokenizer.load(model, **options)
        started = time.monotonic()
        with nullcontext() if out is None else open_writer(out, format, tokenizer=tokenizer.digest) as writer:
            for recording, segmentation in encode_recordings(tokenizer, manifest, skipped):
                if writer is None:
                    found[recording.id] = segmentation
                elif format == "textgrid" and segmentation.num_frames == 0:
                    reason = "is shorter than one frame, which a TextGrid cannot hold"
                    skipped.append(SkippedFile(recording.path, reason))
                    continue
                else:
                    writer.write(recording.id, recording.path, segmentation)
                done, units, seconds = done + 1, units + len(segmentation), seconds + recording.seconds
            if not done:
                raise no_usable(skipped)
        took = time.monotonic() - started
    finally:
        if listing is not None:
            write_errors(skipped, listing)
    return TokenizedFiles(done, units, seconds, took, tuple(skipped), listing, found)


def encode_recordings(
    tokenizer: Tokenizer, manifest: Manifest, skipped: list[SkippedFile]
) -> Iterator[tuple[Recording, Segmentation]]:
    """Encode a corpus in order and bounded memory; recordings that fail to load are added to ``skipped``.

    Recordings longer than the tokenizer's window are read block by block, the others in groups.
    """
    with ProgressBar("tokenize", len(manifest), closing_line=False) as bar:
        for group in group_recordings(manifest, tokenizer.window_seconds):
            usable, waves = [], []
            for recording in group:
                try:
                    if recording.seconds > tokenizer.window_seconds:
                        yield recording, encode_in_blocks(tokenizer, recording)
                        continue
                    waves.append(recording.load())
                    usable.append(recording)
                except AudioError as error:
                    skipped.append(SkippedFile.because(recording.path, error))
            yield from zip(usable, tokenizer.encode(waves), strict=True)
            bar.advance(len(group))


def encode_in_blocks(
    tokenizer: Tokenizer, recording: Recording, read: Callable[[Iterator[Any]], Blocks] = iter
) -> Segmentation:
    """Encode a recording of a manifest, of any length, in bounded memory; an AudioError where it cannot be read.

    Blocks last ``batch_seconds``, so that the windows which one completes are encoded together. ``read`` maps the
    iterator of decoded blocks to those to encode, for example by decoding the next one in another thread.
    """
    stop = recording.start + recording.num_samples
    blocks = read_blocks(recording.path, max(tokenizer.batch_seconds, 1.0), start=recording.start, stop=stop)
    return Segmentation.join(tokenizer.stream(read(blocks)))


def group_recordings(manifest: Manifest, longest: float) -> Iterator[list[Recording]]:
    """Yield neighbours of at most `GROUP_SECONDS` together; a recording of more than ``longest`` seconds alone."""
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
