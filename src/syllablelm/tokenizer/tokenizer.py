"""The tokenizer: waveforms of any length to syllable-like units by encoder, boundaries, pooling and codebook."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import new_artifact, open_artifact
from syllablelm.core.errors import AudioError, InputError
from syllablelm.core.models import find_model
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import check_waveform
from syllablelm.data.corpus import batches_by_seconds
from syllablelm.encoders.base import FrameEncoder, TrainableEncoder
from syllablelm.encoders.device import Precision
from syllablelm.encoders.load import load_encoder
from syllablelm.quantize import Codebook, pool_segments
from syllablelm.quantize.centres import read_codebook
from syllablelm.tokenizer.released import load_released, released_digest
from syllablelm.tokenizer.segment_rule import RULE_FILE, Method, SegmentRule, change_rule, read_rule
from syllablelm.tokenizer.windows import WINDOW_SECONDS, Stitcher, Stretch, WindowGrid, WindowReader, merge_pieces

Waveform = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]
CODEBOOK_FILE = "codebook.safetensors"
FRAME_UNITS = SegmentRule("frames", drop_edges=False, merge=True)
"""The rule of HuBERT-like units: the nearest centre of every frame, equal neighbours joined."""


class Tokenizer:
    """Turns recordings into units.

    Args:
        encoder: frame features.
        codebook: segment vectors to units; None leaves the units out.
        rule: features to segments.
        batch_seconds: seconds of audio encoded at once, padding included; bounds memory, never changes a result.
        window_seconds: longer recordings are encoded in windows of this length, which overlap by 10 s (a quarter of a
            window where that is less) and are joined at a boundary that both found (see ``windows``). Encoders that
            take no clip so long have shorter windows (Whisper: 30 s).
        digest: identity of the weights, where it was loaded from an artifact.

    A recording of at most one window is encoded whole. Of a longer one every segment comes from one window and lies
    at least 2.5 s (a sixteenth of a shorter window) away from any edge the recording itself does not have; counts
    ("rate" x seconds), prominences and waveform standardisation are those of the window.

    Raises:
        InputError: a codebook of other dimensions than the encoder's features, or windows shorter than a second.
    """

    def __init__(
        self,
        encoder: FrameEncoder,
        codebook: Codebook | None,
        rule: SegmentRule,
        *,
        batch_seconds: float = 120.0,
        window_seconds: float = WINDOW_SECONDS,
        digest: str = "",
    ) -> None:
        if codebook is not None and codebook.dim != encoder.dim:
            raise InputError(
                f"the codebook has {codebook.dim} dims, the features have {encoder.dim}: it is of another encoder"
            )
        self.encoder, self.codebook, self.rule = encoder, codebook, rule
        self.batch_seconds, self.digest = batch_seconds, digest
        most = getattr(encoder, "max_frames", None)
        if most is not None:
            window_seconds = min(window_seconds, most * encoder.hop / encoder.sample_rate)
        self.grid = WindowGrid.of_seconds(window_seconds, encoder.hop, encoder.receptive_field, encoder.sample_rate)

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        device: str = "auto",
        rate: float | None = None,
        rule: Method | None = None,
        delta: float | None = None,
        precision: Precision = "float32",
        batch_seconds: float = 120.0,
        window_seconds: float = WINDOW_SECONDS,
    ) -> Tokenizer:
        """Open a tokenizer.

        Args:
            name: a bundled name ("small", "tiny"), a tokenizer artifact's folder, the hub id of one, or a released
                SyllableLM checkpoint (SylBoost_833Hz.pth with its _kmeans.npy and _agglom.npy beside it).
            device: "auto", "cpu" or "cuda".
            rate: groups per second instead of the tokenizer's own.
            rule: "rate" (MinSum), "peaks", "released" or "frames" instead of the tokenizer's own way of cutting.
            delta: threshold of the "released" rule instead of the tokenizer's own.
            precision: of the encoder: "float32", "bfloat16" or, on a GPU, "float16".
            batch_seconds, window_seconds: see the class.

        Raises:
            FormatError: no such tokenizer, or a damaged one.
            InputError: a rate or delta that is not above zero or not of the rule, or an unknown rule.
        """
        sizes: Any = {"batch_seconds": batch_seconds, "window_seconds": window_seconds}
        path = find_model(name)
        if path.is_file():
            encoder, codebook, own = load_released(path, device=device, delta=delta, precision=precision)
            return cls(encoder, codebook, change_rule(own, rate, rule, None), **sizes, digest=released_digest(path))
        artifact = open_artifact(path, "tokenizer")
        changed = change_rule(read_rule(artifact), rate, rule, delta)
        encoder = load_encoder(artifact.path, device=device, precision=precision)
        codebook = Codebook.load(artifact.file(CODEBOOK_FILE))
        return cls(encoder, codebook, changed, **sizes, digest=artifact.digest)

    @classmethod
    def from_parts(
        cls,
        encoder: str | Path | FrameEncoder,
        codebook: str | Path | Codebook | None,
        *,
        layer: int | None = None,
        rule: SegmentRule = FRAME_UNITS,
        device: str = "auto",
        precision: Precision = "float32",
        batch_seconds: float = 120.0,
        window_seconds: float = WINDOW_SECONDS,
    ) -> Tokenizer:
        """Make a tokenizer of an encoder and a codebook, such as mHuBERT with its k-means centres.

        Args:
            encoder: what ``load_encoder`` opens (hub id, folder, checkpoint file), or an encoder.
            codebook: a codebook of this package, a .npy or .safetensors file of k-means centres (num_units, dim),
                or None for segments without units.
            layer: 1-based layer of an encoder given by name; None is the last.
            rule: how to cut; by default every frame is a segment and equal neighbours are joined.
            device, precision, batch_seconds, window_seconds: see ``load``.

        Raises:
            FormatError: an encoder or a codebook that cannot be read.
            InputError: a codebook of other dimensions than the features.
        """
        if isinstance(encoder, str | Path):
            encoder = load_encoder(encoder, layer, device=device, precision=precision)
        if isinstance(codebook, str | Path):
            codebook = read_codebook(codebook)
        return cls(encoder, codebook, rule, batch_seconds=batch_seconds, window_seconds=window_seconds)

    def save(self, folder: str | Path) -> None:
        """Write a tokenizer artifact that ``load`` opens; it appears complete or not at all.

        Raises:
            InputError: the folder exists, or there is no codebook to write.
        """
        if Path(folder).exists():
            raise InputError(f"{folder} exists; choose another folder or remove it")
        parents = {"tokenizer": self.digest} if self.digest else {}
        with new_artifact(folder, "tokenizer", config=self.rule, seed=0, parents=parents, metrics={}) as payload:
            self.write_payload(payload)

    def write_payload(self, folder: Path, *, half: bool = False) -> None:
        """Write the files of a tokenizer artifact into its folder: encoder (``half``: in float16), codebook, rule."""
        if self.codebook is None:
            raise InputError("a tokenizer without a codebook cannot be saved; fit one first")
        if not isinstance(self.encoder, TrainableEncoder):
            raise InputError(
                f"a {type(self.encoder).__name__} has no form in which it could be saved; keep its own files"
            )
        self.encoder.save(folder, half=half)
        self.codebook.save(folder / CODEBOOK_FILE)
        (folder / RULE_FILE).write_text(json.dumps(asdict(self.rule), indent=2) + "\n", encoding="utf-8")

    @property
    def num_units(self) -> int | None:
        """Size of the unit vocabulary; None without a codebook."""
        return None if self.codebook is None else self.codebook.num_units

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.encoder.sample_rate / self.encoder.hop

    @property
    def window_seconds(self) -> float:
        """Longest recording that is certainly encoded whole, in seconds."""
        return self.grid.num_frames / self.frame_rate

    @property
    def latency(self) -> float:
        """Most seconds between a segment's end and its appearance from ``stream``, blocks and computing aside.

        It is the window less the margin at its end: 57.5 s with the default window, 28.2 s with Whisper's 30 s, 9.4 s
        with one of 10 s. Under a rule that merges, a segment waits for the one after it too.
        """
        return self.grid.latency / self.encoder.sample_rate

    @overload
    def encode(self, audio: npt.NDArray[np.floating]) -> Segmentation: ...
    @overload
    def encode(self, audio: Sequence[npt.NDArray[np.floating]]) -> list[Segmentation]: ...
    def encode(
        self, audio: npt.NDArray[np.floating] | Sequence[npt.NDArray[np.floating]]
    ) -> Segmentation | list[Segmentation]:
        """Waveforms to segmentations.

        Args:
            audio: one waveform or a list of them: (num_samples,) mono at 16 kHz, any lengths.

        Returns:
            one Segmentation per waveform, in order; a single array gives a single Segmentation. A clip shorter than
            one frame gives an empty one.

        Raises:
            InputError: a waveform is not one-dimensional or not floating point.
            AudioError: a waveform is empty, or holds NaN or infinity.
        """
        if isinstance(audio, np.ndarray):
            return self.encode([audio])[0]
        waves = _check_all(audio)
        result = {index: self.segment(feats) for index, feats in self._encode_short(waves)}
        for index in self._long(waves):
            result[index] = Segmentation.join(self._pieces([waves[index]]))
        return [result[index] for index in range(len(waves))]

    def features(self, audio: Sequence[npt.NDArray[np.floating]]) -> list[Features]:
        """Frame features of each waveform: float32 (num_frames, dim); each frame from the window that its segment has.

        Raises:
            InputError, AudioError: as ``encode``.
        """
        waves = _check_all(audio)
        result = dict(self._encode_short(waves))
        for index in self._long(waves):
            result[index] = np.concatenate([stretch.features for stretch in self._stretches([waves[index]])])
        return [result[index] for index in range(len(waves))]

    def encode_with_features(self, audio: npt.NDArray[np.floating]) -> tuple[Segmentation, Features]:
        """What ``encode`` and ``features`` give for one waveform, (num_samples,), by one pass of the encoder.

        Raises:
            InputError, AudioError: as ``encode``.
        """
        waves = _check_all([audio])
        if not self._long(waves):
            feats = dict(self._encode_short(waves))[0]
            return self.segment(feats), feats
        stretches = list(self._stretches(waves))
        feats = np.concatenate([stretch.features for stretch in stretches])
        return Segmentation.join(self._join_stretches(stretches)), feats

    def stream(self, blocks: Iterable[npt.NDArray[np.floating]]) -> Iterator[Segmentation]:
        """Encode one recording block by block in bounded memory, without knowing where it ends.

        Args:
            blocks: (num_samples,) each, mono at 16 kHz, of any sizes. When they end, so does the recording.

        Yields:
            pieces of one or more finished segments, in frames of the whole recording; ``num_frames`` of a piece is
            the frame up to which segments are finished, and of the last piece the recording's. There is always one.
            ``Segmentation.join(pieces)`` is what ``encode`` gives for the blocks joined, whatever their sizes.

        Held are the samples of the windows in work (one, or ``batch_seconds`` of them if a block completes so many),
        the features of one window, and the last block. A segment appears at most ``latency`` seconds after its end.

        Raises:
            InputError: a block is not one-dimensional or not floating point; the message counts blocks from 0.
            AudioError: a block holds NaN or infinity, or there were no samples at all.
        """
        if isinstance(blocks, np.ndarray):
            raise InputError("stream takes blocks, one after the other; a single array is for encode")
        return self._pieces(_check_blocks(blocks))

    def segment(self, features: Features) -> Segmentation:
        """Features (num_frames, dim) of one recording, taken whole, to its segmentation."""
        segmentation = self._segment_stretch(Stretch(0, features, self.boundaries(features)))
        return segmentation.merge_repeats() if self._merges else segmentation

    def boundaries(self, features: Features) -> npt.NDArray[np.int32]:
        """Boundaries [0, ..., num_frames] of features (num_frames, dim) of one recording, taken whole, by the rule."""
        if len(features) == 0:
            return np.zeros(1, dtype=np.int32)
        return self.rule.boundaries(features, self.frame_rate)

    def pool(self, features: Features, boundaries: npt.NDArray[np.int32]) -> Features:
        """(num_segments, dim) mean of each segment, as the rule pools."""
        return pool_segments(features, boundaries[:-1], boundaries[1:], drop_edges=self.rule.drop_edges)

    @property
    def _merges(self) -> bool:
        return self.rule.merge and self.codebook is not None

    def _segment_stretch(self, stretch: Stretch) -> Segmentation:
        """Units of one stretch, not merged, in frames of the recording."""
        cuts = stretch.boundaries
        unit = None
        if self.codebook is not None:
            vectors = self.pool(stretch.features, cuts)
            unit = self.codebook.assign(vectors) if len(vectors) else np.zeros(0, dtype=np.int32)
        start, end = cuts[:-1] + stretch.first, cuts[1:] + stretch.first
        finished = stretch.first + len(stretch.features)
        return Segmentation(start, end, unit, finished, self.encoder.hop, self.encoder.sample_rate)

    def _long(self, waves: Sequence[Waveform]) -> list[int]:
        return [i for i, wave in enumerate(waves) if self.encoder.num_frames(len(wave)) > self.grid.num_frames]

    def _encode_short(self, waves: Sequence[Waveform]) -> Iterator[tuple[int, Features]]:
        """(index, features) of the recordings that fit in one window, in any order."""
        frames = [self.encoder.num_frames(len(wave)) for wave in waves]
        yield from ((i, self._no_features()) for i, count in enumerate(frames) if count == 0)
        usable = [i for i, count in enumerate(frames) if 0 < count <= self.grid.num_frames]
        seconds = [len(waves[i]) / self.encoder.sample_rate for i in usable]
        batches = [[usable[place] for place in batch] for batch in batches_by_seconds(seconds, self.batch_seconds)]
        found = self._encode_ahead([waves[i] for i in batch] for batch in batches)
        for batch, features in zip(batches, found, strict=True):
            yield from zip(batch, features, strict=True)

    def _encode_ahead(self, batches: Iterable[list[Waveform]]) -> Iterator[list[Features]]:
        # Some encoders work on a GPU while the batch before is cut on the processor.
        ahead = getattr(self.encoder, "encode_batches", None)
        return map(self.encoder.encode, batches) if ahead is None else ahead(batches)

    def _no_features(self) -> Features:
        return np.zeros((0, self.encoder.dim), dtype=np.float32)

    def _pieces(self, blocks: Iterable[Waveform]) -> Iterator[Segmentation]:
        return self._join_stretches(self._stretches(blocks))

    def _join_stretches(self, stretches: Iterable[Stretch]) -> Iterator[Segmentation]:
        pieces = map(self._segment_stretch, stretches)
        return merge_pieces(pieces) if self._merges else pieces

    def _stretches(self, blocks: Iterable[Waveform]) -> Iterator[Stretch]:
        """Finished stretches of one recording, in order, and at least one."""
        reader, stitcher = WindowReader(self.grid), Stitcher(self.grid)
        for windows in self._window_batches(reader, blocks):
            for feats in self.encoder.encode(windows):
                yield from stitcher.push(feats, self.boundaries(feats), last=False)
        if reader.num_samples == 0:
            raise AudioError("the stream ended without a sample; give at least one block that is not empty")
        rest = reader.close()
        if self.encoder.num_frames(len(rest)) == 0:
            feats = self._no_features()
            yield Stretch(0, feats, self.boundaries(feats))
            return
        feats = self.encoder.encode([rest])[0]
        yield from stitcher.push(feats, self.boundaries(feats), last=True)

    def _window_batches(self, reader: WindowReader, blocks: Iterable[Waveform]) -> Iterator[list[Waveform]]:
        """Windows that have successors, together those that one block completes, as many as a batch may hold."""
        most = max(1, int(self.batch_seconds * self.frame_rate / self.grid.num_frames))
        for block in blocks:
            ready: list[Waveform] = []
            for window in reader.push(block):
                ready.append(window)
                if len(ready) == most:
                    yield ready
                    ready = []
            if ready:
                yield ready


def _check_all(audio: Sequence[npt.NDArray[np.floating]]) -> list[Waveform]:
    return [check_waveform(wave, name=f"waveform {i}", allow_silence=True) for i, wave in enumerate(audio)]


def _check_blocks(blocks: Iterable[npt.NDArray[np.floating]]) -> Iterator[Waveform]:
    for i, block in enumerate(blocks):
        # A live source may have nothing new.
        if np.shape(block) != (0,):
            yield check_waveform(block, name=f"block {i}", allow_silence=True)
