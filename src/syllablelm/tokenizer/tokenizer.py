"""The tokenizer: waveforms of any length to syllable-like units by encoder, segmentation, pooling and codebook."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import Artifact, check_tokenizer, new_artifact, open_artifact
from syllablelm.core.errors import AudioError, FormatError, InputError
from syllablelm.core.models import find_model
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import check_waveform
from syllablelm.data.corpus import batches_by_seconds
from syllablelm.encoders.base import FrameEncoder, TrainableEncoder
from syllablelm.encoders.device import Precision
from syllablelm.encoders.load import load_encoder
from syllablelm.quantize import Codebook, pool_segments
from syllablelm.quantize.codebook import read_codebook
from syllablelm.quantize.codec import KIND as CODEC_KIND
from syllablelm.quantize.codec import Codec
from syllablelm.tokenizer.released_checkpoint import load_released, released_digest
from syllablelm.tokenizer.segment_rule import RULE_FILE, SegmentRule, change_rule, read_rule
from syllablelm.tokenizer.windows import WINDOW_SECONDS, Stitcher, Stretch, WindowGrid, WindowReader, deduplicate_parts

Waveform = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]
CODEBOOK_FILE = "codebook.safetensors"
# A tokenizer with a codec on disk: the kind of its artifact and the folders of the two parts.
RECODED_KIND, CODEC_FOLDER, BASE_FOLDER = "recoded", "codec", "tokenizer"
# The entry of a codec artifact's record that names the tokenizer whose units it recodes.
TOKENIZER_NAME = "tokenizer_name"
FRAME_UNITS = SegmentRule("frames", drop_edges=False, merge=True)
"""The rule of HuBERT-like units: the cluster of every frame, deduplicated."""


class Tokenizer:
    """Turns recordings into units.

    Args:
        encoder, codebook, rule: encoder of frame features; codebook of segment vectors (None for segments without
            units); segmentation rule.
        batch_seconds: seconds of audio encoded at once, padding included; bounds memory, never changes a result.
        window_seconds: longer recordings are encoded in windows of this length (Whisper: at most 30 s), which overlap
            by 10 s or a quarter of a window where that is less, and are joined at a boundary of both (see ``windows``).
        digest: digest of the artifact it was loaded from; "" if unknown.

    Attributes:
        base, codec: the tokenizer and the codec that recodes its units, if ``with_codec`` made this one; else None.

    Of a recording longer than a window every segment comes from one window and lies at least 2.5 s (a sixteenth of a
    shorter window) away from any edge that is not one of the recording; counts ("rate" x seconds), prominences and
    waveform standardisation are those of the window.
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
        self.base: Tokenizer | None = None
        self.codec: Codec | None = None
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
        rule: str | None = None,
        delta: float | None = None,
        precision: Precision = "float32",
        batch_seconds: float = 120.0,
        window_seconds: float = WINDOW_SECONDS,
        revision: str | None = None,
    ) -> Tokenizer:
        """Open a tokenizer, or a codec together with the tokenizer whose units it recodes.

        Args:
            name: a bundled name ("small", "tiny"), the folder or hub id of a tokenizer or codec artifact, or a released
                SyllableLM checkpoint (SylBoost_833Hz.pth with its _kmeans.npy and _agglom.npy beside it).
            rate, rule, delta: changes of the tokenizer's ``SegmentRule``, see ``change_rule``.
            device, precision, revision: see ``load_encoder``.
            batch_seconds, window_seconds: see the class.

        Raises:
            FormatError: no such tokenizer, a damaged one, or a codec whose tokenizer is unknown or another one.
            InputError: a rate or delta that is not above zero or not of the rule, or an unknown rule.
        """
        sizes: Any = {"batch_seconds": batch_seconds, "window_seconds": window_seconds}
        path = find_model(name, revision)
        if path.is_file():
            encoder, codebook, own = load_released(path, device=device, delta=delta, precision=precision)
            return cls(encoder, codebook, change_rule(own, rate, rule, None), **sizes, digest=released_digest(path))
        artifact = open_artifact(path)
        if artifact.kind in (CODEC_KIND, RECODED_KIND):
            changes: Any = {"device": device, "rate": rate, "rule": rule, "delta": delta, "precision": precision}
            return cls._load_recoded(artifact, **changes, **sizes)
        artifact = open_artifact(path, "tokenizer")
        changed = change_rule(read_rule(artifact), rate, rule, delta)
        encoder = load_encoder(artifact.path, device=device, precision=precision)
        codebook = Codebook.load(artifact.file(CODEBOOK_FILE))
        return cls(encoder, codebook, changed, **sizes, digest=artifact.digest)

    @classmethod
    def _load_recoded(cls, artifact: Artifact, **options: Any) -> Tokenizer:
        """Open a codec artifact that names its tokenizer, or what ``save`` wrote of a tokenizer with a codec."""
        if artifact.kind == RECODED_KIND:
            codec = Codec.load(artifact.path / CODEC_FOLDER)
            base = cls.load(artifact.path / BASE_FOLDER, **options)
            # A copy's files may differ from those of the original, which the codec names.
            base.digest = codec.tokenizer
            return base.with_codec(codec)
        source = artifact.record.get(TOKENIZER_NAME)
        if not source:
            raise FormatError(
                f"{artifact.path}: this codec does not know its tokenizer; train it again with --tokenizer, or recode "
                "its units"
            )
        return cls.load(str(source), **options).with_codec(Codec.load(artifact.path))

    def with_codec(self, codec: Codec) -> Tokenizer:
        """Return a tokenizer whose units a codec, learned from the units of this one, recodes.

        Its ``digest`` is the codec's. A codec reads whole recordings, so ``stream`` then yields all units at the end.

        Raises:
            FormatError: the codec is of another tokenizer.
            InputError: no codebook, or another number of units or frame grid than the codec's.
        """
        check_tokenizer("codec", codec.tokenizer, self.digest)
        grid = (self.encoder.hop, self.encoder.sample_rate)
        if self.num_units != codec.num_units or grid != (codec.hop, codec.sample_rate):
            raise InputError(
                f"a codec of {codec.num_units} units in frames of {codec.hop} samples at {codec.sample_rate} Hz does "
                f"not fit a tokenizer of {self.num_units} units in frames of {grid[0]} at {grid[1]}"
            )
        recoded = copy.copy(self)
        recoded.base, recoded.codec, recoded.digest = self, codec, codec.digest
        return recoded

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
        """Make a tokenizer from an encoder and a codebook, such as mHuBERT with its k-means centres.

        Args:
            encoder, layer: an encoder; or its name and layer, as ``load_encoder`` takes them.
            codebook: a codebook, a .npy or .safetensors file of k-means centres (num_units, dim), or None (no units).
            rule: segmentation rule; by default every frame is a segment, and units are deduplicated.
            device, precision, batch_seconds, window_seconds: see ``load``.

        Raises:
            FormatError, InputError: an unreadable encoder or codebook, or one of other dimensions than the features.
        """
        if isinstance(encoder, str | Path):
            encoder = load_encoder(encoder, layer, device=device, precision=precision)
        if isinstance(codebook, str | Path):
            codebook = read_codebook(codebook)
        return cls(encoder, codebook, rule, batch_seconds=batch_seconds, window_seconds=window_seconds)

    def save(self, folder: str | Path) -> None:
        """Write a tokenizer artifact, the codec included, that ``load`` opens; an InputError where that cannot be."""
        if Path(folder).exists():
            raise InputError(f"{folder} exists; choose another folder or remove it")
        if self.base is not None and self.codec is not None:
            parents = {"codec": self.codec.digest, "tokenizer": self.base.digest}
            config: Any = {"kind": self.codec.kind, "codes": self.codec.num_codes}
            with new_artifact(folder, RECODED_KIND, config=config, seed=0, parents=parents, metrics={}) as payload:
                own = {"tokenizer": self.codec.tokenizer} if self.codec.tokenizer else {}
                with new_artifact(
                    payload / CODEC_FOLDER, CODEC_KIND, config=config, seed=0, parents=own, metrics={}
                ) as part:
                    self.codec.write_payload(part)
                self.base.save(payload / BASE_FOLDER)
            return
        parents = {"tokenizer": self.digest} if self.digest else {}
        with new_artifact(folder, "tokenizer", config=self.rule, seed=0, parents=parents, metrics={}) as payload:
            self.write_payload(payload)

    def write_payload(self, folder: Path, *, half: bool = False) -> None:
        """Write the files of a tokenizer artifact into a folder: encoder (``half``: in float16), codebook, rule."""
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
        if self.codec is not None:
            return self.codec.num_codes
        return None if self.codebook is None else self.codebook.num_units

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.encoder.sample_rate / self.encoder.hop

    @property
    def window_seconds(self) -> float:
        """Maximum length in seconds of a recording that is encoded whole."""
        return self.grid.num_frames / self.frame_rate

    @property
    def latency(self) -> float:
        """Maximum algorithmic latency of ``stream`` in seconds from the end of a segment: the window less its margin.

        57.5 s by default, 28.2 s with Whisper's 30 s. Deduplicated, a segment also waits for the next.
        """
        return self.grid.latency / self.encoder.sample_rate

    @overload
    def encode(self, audio: npt.NDArray[np.floating]) -> Segmentation: ...
    @overload
    def encode(self, audio: Sequence[npt.NDArray[np.floating]]) -> list[Segmentation]: ...
    def encode(
        self, audio: npt.NDArray[np.floating] | Sequence[npt.NDArray[np.floating]]
    ) -> Segmentation | list[Segmentation]:
        """Encode waveforms as segmentations.

        Args:
            audio: one waveform or a list of them: (num_samples,) mono at 16 kHz, any lengths.

        Returns:
            one Segmentation per waveform, empty for less than a frame; a single array gives a single Segmentation.

        Raises:
            InputError: a waveform is not one-dimensional or not floating point.
            AudioError: a waveform is empty, or holds NaN or infinity.
        """
        if isinstance(audio, np.ndarray):
            return self.encode([audio])[0]
        waves = _check_all(audio)
        result = {index: self.segment(feats) for index, feats in self._encode_short(waves)}
        for index in self._long(waves):
            result[index] = self._recode(Segmentation.join(self._parts([waves[index]])))
        return [result[index] for index in range(len(waves))]

    @overload
    def features(self, audio: npt.NDArray[np.floating]) -> Features: ...
    @overload
    def features(self, audio: Sequence[npt.NDArray[np.floating]]) -> list[Features]: ...
    def features(
        self, audio: npt.NDArray[np.floating] | Sequence[npt.NDArray[np.floating]]
    ) -> Features | list[Features]:
        """Return frame features, float32 (num_frames, dim) per waveform; otherwise as ``encode``."""
        if isinstance(audio, np.ndarray):
            return self.features([audio])[0]
        waves = _check_all(audio)
        result = dict(self._encode_short(waves))
        for index in self._long(waves):
            result[index] = np.concatenate([stretch.features for stretch in self._stretches([waves[index]])])
        return [result[index] for index in range(len(waves))]

    def encode_with_features(self, audio: npt.NDArray[np.floating]) -> tuple[Segmentation, Features]:
        """Return ``encode`` and ``features`` of one waveform (num_samples,), in one pass of the encoder."""
        waves = _check_all([audio])
        if not self._long(waves):
            feats = dict(self._encode_short(waves))[0]
            return self.segment(feats), feats
        stretches = list(self._stretches(waves))
        feats = np.concatenate([stretch.features for stretch in stretches])
        return self._recode(Segmentation.join(self._join_stretches(stretches))), feats

    def stream(self, blocks: Iterable[npt.NDArray[np.floating]]) -> Iterator[Segmentation]:
        """Encode one recording block by block in bounded memory, without knowing where it ends.

        Args:
            blocks: (num_samples,) each, mono at 16 kHz, of any sizes; the recording ends with the last one.

        Yields:
            parts of finished segments, in frames of the whole recording; ``num_frames`` of a part is the frame up to
            which segments are finished, at last the recording's length. ``Segmentation.join(parts)`` equals
            ``encode`` of the concatenated blocks. A segment appears at most ``latency`` seconds after its end.

        Raises:
            InputError: a block is not one-dimensional or not floating point; the message counts blocks from 0.
            AudioError: a block holds NaN or infinity, or there were no samples at all.
        """
        if isinstance(blocks, np.ndarray):
            raise InputError("stream takes an iterable of blocks; encode takes a single array")
        parts = self._parts(_check_blocks(blocks))
        return parts if self.codec is None else map(self._recode, map(Segmentation.join, [parts]))

    def segment(self, features: Features, spans: npt.NDArray[np.int32] | None = None) -> Segmentation:
        """Return the segmentation of the features (num_frames, dim) of one recording; ``spans`` may be given."""
        found = self.spans(features) if spans is None else spans
        segmentation = self._segment_stretch(Stretch(0, features, found))
        return self._recode(segmentation.deduplicate() if self._deduplicates else segmentation)

    def spans(self, features: Features) -> npt.NDArray[np.int32]:
        """Return int32 (num_segments, 2) starts and ends, in frames, of features (num_frames, dim) taken whole."""
        return self.rule.spans(features, self.frame_rate)

    def pool(self, features: Features, spans: npt.NDArray[np.int32]) -> Features:
        """Return the (num_segments, dim) means of segments, given their starts and ends, as the rule pools."""
        return pool_segments(features, spans[:, 0], spans[:, 1], drop_edges=self.rule.drop_edges)

    @property
    def _deduplicates(self) -> bool:
        return self.rule.merge and self.codebook is not None

    def _recode(self, segmentation: Segmentation) -> Segmentation:
        if self.base is None or self.codec is None:
            return segmentation
        return self.codec.encode(self.base._recode(segmentation))

    def _segment_stretch(self, stretch: Stretch) -> Segmentation:
        """Units of one stretch, not deduplicated, in frames of the recording."""
        spans = stretch.spans
        unit = None
        if self.codebook is not None:
            vectors = self.pool(stretch.features, spans)
            unit = self.codebook.assign(vectors) if len(vectors) else np.zeros(0, dtype=np.int32)
        start, end = spans[:, 0] + stretch.first, spans[:, 1] + stretch.first
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
        # Some encoders compute on a GPU while the CPU segments the batch before.
        ahead = getattr(self.encoder, "encode_batches", None)
        return map(self.encoder.encode, batches) if ahead is None else ahead(batches)

    def _no_features(self) -> Features:
        return np.zeros((0, self.encoder.dim), dtype=np.float32)

    def _parts(self, blocks: Iterable[Waveform]) -> Iterator[Segmentation]:
        return self._join_stretches(self._stretches(blocks))

    def _join_stretches(self, stretches: Iterable[Stretch]) -> Iterator[Segmentation]:
        parts = map(self._segment_stretch, stretches)
        return deduplicate_parts(parts) if self._deduplicates else parts

    def _stretches(self, blocks: Iterable[Waveform]) -> Iterator[Stretch]:
        """Finished stretches of one recording, in order, and at least one."""
        reader, stitcher = WindowReader(self.grid), Stitcher(self.grid)
        for windows in self._window_batches(reader, blocks):
            for feats in self.encoder.encode(windows):
                yield from stitcher.push(feats, self.spans(feats), last=False)
        if reader.num_samples == 0:
            raise AudioError("the stream ended without a sample; give at least one block that is not empty")
        rest = reader.close()
        if self.encoder.num_frames(len(rest)) == 0:
            feats = self._no_features()
            yield Stretch(0, feats, self.spans(feats))
            return
        feats = self.encoder.encode([rest])[0]
        yield from stitcher.push(feats, self.spans(feats), last=True)

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
        # A live source may deliver empty blocks.
        if np.shape(block) != (0,):
            yield check_waveform(block, name=f"block {i}", allow_silence=True)
