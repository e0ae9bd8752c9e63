"""Whole corpora in this process: recordings in, segmentations out, in bounded memory and in order."""

from __future__ import annotations

from collections.abc import Iterator

from syllablelm.core.errors import AudioError
from syllablelm.core.progress import ProgressBar
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import read_blocks
from syllablelm.data.corpus import SkippedFile
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.tokenizer.tokenizer import Tokenizer

# Decoded recordings held at once; the tokenizer sorts them by length into its own, smaller batches.
GROUP_SECONDS = 600.0


def encode_recordings(
    tokenizer: Tokenizer, manifest: Manifest, skipped: list[SkippedFile]
) -> Iterator[tuple[Recording, Segmentation]]:
    """Encode a corpus in bounded memory and in its order; recordings that fail to load are added to ``skipped``.

    Recordings that may be longer than the tokenizer's window are read block by block, the others in groups.
    """

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
