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
import torch

from syllablelm.core.artifact import (
    COPIED,
    Artifact,
    check_tokenizer,
    digest_files,
    new_artifact,
    open_artifact,
    units_digest,
)
from syllablelm.core.errors import AudioError, FormatError, InputError
from syllablelm.core.models import find_model
from syllablelm.core.segmentation import Segmentation
from syllablelm.core.sharing import ModelCard, Shareable, copied_record
from syllablelm.data.audio import load_blocks, load_waveforms, waveform_source
from syllablelm.data.corpus import batches_by_seconds
from syllablelm.data.samples import AudioInput, is_recording
from syllablelm.encoders.base import FrameEncoder, TrainableEncoder
from syllablelm.encoders.device import Precision
from syllablelm.encoders.load import load_encoder
from syllablelm.quantize import Codebook, pool_segments
from syllablelm.quantize.codebook import read_codebook
from syllablelm.quantize.codec import KIND as CODEC_KIND
from syllablelm.quantize.codec import Codec
from syllablelm.segment.registry import get_method
from syllablelm.tokenizer.lookahead import LiveSegmenter, Lookahead
from syllablelm.tokenizer.released_checkpoint import load_released, released_digest
from syllablelm.tokenizer.segment_rule import RULE_FILE, SegmentRule, change_rule, read_rule
from syllablelm.tokenizer.windows import WINDOW_SECONDS, Stitcher, Stretch, WindowGrid, WindowReader, deduplicate_parts

Waveform = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]
CODEBOOK_FILE = "codebook.safetensors"
NO_SAMPLES = "the stream ended without a sample; give at least one block that is not empty"
# A tokenizer with a codec on disk: the kind of its artifact and the folders of the two parts.
RECODED_KIND, CODEC_FOLDER, BASE_FOLDER = "recoded", "codec", "tokenizer"
# The entry of a codec artifact's record that names the tokenizer whose units it recodes.
TOKENIZER_NAME = "tokenizer_name"
FRAME_UNITS = SegmentRule("frames", drop_edges=False, merge=True)
"""The rule of HuBERT-like units: the cluster of every frame, deduplicated."""


class Tokenizer(Shareable):
    """Turns recordings into units.

    Args:
        encoder, codebook, rule: encoder of frame features; codebook of segment vectors (None for segments without
            units); segmentation rule.
        batch_seconds: seconds of audio encoded at once, padding included; bounds memory, never changes a result.
        window_seconds: longer recordings are encoded in windows of this length (Whisper: at most 30 s), which overlap
            by 10 s or a quarter of a window where that is less, and are joined at a boundary of both (see ``windows``).
        digest: digest of the artifact it was loaded from, or whose units it has; "" if unknown.

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
        tokenizer = cls(encoder, codebook, changed, **sizes, digest=units_digest(artifact))
        tokenizer.artifact = artifact
        return tokenizer

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

    def __repr__(self) -> str:
        encoder, rule = self.encoder, self.rule
        rate = f" at {rule.rate:g} per second" if get_method(rule.method).counted else ""
        units = "no units" if self.num_units is None else f"{self.num_units} units"
        source = f"{type(encoder).__name__} layer {encoder.layer}"
        return self._described(
            source, f"{rule.method}{rate}", units, f"{self.frame_rate:g} frames per second", str(encoder.device)
        )

    def write_folder(self, folder: Path) -> None:
        """Write a tokenizer artifact, the codec included, into a new folder; an InputError where that cannot be."""
        if self.base is not None and self.codec is not None:
            parents = {"codec": self.codec.digest, "tokenizer": self.base.digest}
            config: Any = {"kind": self.codec.kind, "codes": self.codec.num_codes}
            with new_artifact(folder, RECODED_KIND, config=config, seed=0, parents=parents, metrics={}) as payload:
                own = {"tokenizer": self.codec.tokenizer} if self.codec.tokenizer else {}
                with new_artifact(
                    payload / CODEC_FOLDER, CODEC_KIND, config=config, seed=0, parents=own, metrics={}
                ) as part:
                    self.codec.write_payload(part)
                self.base.write_folder(payload / BASE_FOLDER)
            return
        parents, origin = {"tokenizer": self.digest} if self.digest else {}, copied_record(self.artifact)
        extra: dict[str, Any] = {COPIED: origin} if origin else {}
        with new_artifact(
            folder, "tokenizer", config=self.rule, seed=0, parents=parents, metrics={}, extra=extra
        ) as payload:
            self.write_payload(payload, half=self._is_half())
            if self._is_copy(payload):
                extra["digest"] = self.digest

    def _is_copy(self, payload: Path) -> bool:
        """Whether weights and rule are those of the loaded artifact, whose digest the models of its units know."""
        if self.artifact is None or not (self.artifact.path / RULE_FILE).is_file():
            return False
        original = self.artifact.record.get("files", {})
        weights = {name: digest for name, digest in digest_files(payload).items() if name.endswith(".safetensors")}
        return self.rule == read_rule(self.artifact) and weights.items() <= dict(original).items()

    def _is_half(self) -> bool:
        """Whether float16 holds the encoder's weights exactly, as of those that were saved so."""
        encoder: Any = self.encoder
        return isinstance(encoder, torch.nn.Module) and all(
            torch.equal(weight, weight.half().to(weight.dtype)) for weight in encoder.parameters()
        )

    def model_card(self) -> ModelCard:
        """Return the contents of the model card; see ``Shareable``."""
        rule, hop = self.rule, self.encoder.hop
        facts: dict[str, object] = {
            "units": self.num_units,
            "segmentation": rule.method,
            "segments per second": rule.rate if get_method(rule.method).counted else "as the recording has them",
            "encoder": f"{type(self.encoder).__name__}, layer {self.encoder.layer}",
            "frame": f"{hop} samples at {self.encoder.sample_rate} Hz",
            "digest": self.digest or "unknown",
        }
        if self.codec is not None:
            facts["codec"] = f"{self.codec.kind}, {self.codec.num_units} units to {self.codec.num_codes} codes"
        return ModelCard(
            "Syllable-like speech units",
            "A tokenizer of speech: 16 kHz audio to segments of about a syllable, each with a discrete unit.",
            "feature-extraction",
            ("speech-tokenizer", "speech-units", "syllables"),
            facts,
            "import syllablelm as sl\n\n"
            'units = sl.Tokenizer.load(MODEL).encode(sl.load_audio("speech.flac"))\nprint(units.unit, units.seconds)',
        )

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
    def encode(self, audio: AudioInput, *, sampling_rate: int | None = None) -> Segmentation: ...
    @overload
    def encode(self, audio: Iterable[AudioInput], *, sampling_rate: int | None = None) -> list[Segmentation]: ...
    def encode(
        self, audio: AudioInput | Iterable[AudioInput], *, sampling_rate: int | None = None
    ) -> Segmentation | list[Segmentation]:
        """Encode recordings as segmentations.

        Args:
            audio: one recording or a list of them, of any lengths: arrays, tensors, pairs with a sample rate,
                dictionaries of data sets, paths, bytes and file objects, see ``load_audio``. Two dimensions are the
                channels of one recording, never several recordings.
            sampling_rate: rate in Hz of samples that come without one; 16,000 by default.

        Returns:
            one Segmentation per recording, empty for less than a frame; a single recording gives a single Segmentation.

        Raises:
            InputError: samples of another shape or type, or a sampling rate that contradicts the recording's own.
            AudioError: a recording is empty, holds NaN or infinity, or its file is unusable.
        """
        if is_recording(audio):
            segmentation = self.encode([audio], sampling_rate=sampling_rate)[0]
            return segmentation.with_audio(waveform_source(audio, sampling_rate))
        waves = load_waveforms(audio, sampling_rate=sampling_rate)
        result = {index: self.segment(feats) for index, feats in self._encode_short(waves)}
        for index in self._long(waves):
            result[index] = self._recode(Segmentation.join(self._parts([waves[index]])))
        return [result[index] for index in range(len(waves))]

    @overload
    def features(self, audio: AudioInput, *, sampling_rate: int | None = None) -> Features: ...
    @overload
    def features(self, audio: Iterable[AudioInput], *, sampling_rate: int | None = None) -> list[Features]: ...
    def features(
        self, audio: AudioInput | Iterable[AudioInput], *, sampling_rate: int | None = None
    ) -> Features | list[Features]:
        """Return frame features, float32 (num_frames, dim) per recording; otherwise as ``encode``."""
        if is_recording(audio):
            return self.features([audio], sampling_rate=sampling_rate)[0]
        waves = load_waveforms(audio, sampling_rate=sampling_rate)
        result = dict(self._encode_short(waves))
        for index in self._long(waves):
            result[index] = np.concatenate([stretch.features for stretch in self._stretches([waves[index]])])
        return [result[index] for index in range(len(waves))]

    def encode_with_features(
        self, audio: AudioInput | Iterable[AudioInput], *, sampling_rate: int | None = None
    ) -> tuple[Segmentation, Features]:
        """Return ``encode`` and ``features`` of one recording, in one pass of the encoder.

        Args:
            audio: one recording, or its blocks in order, read as they are encoded; see ``encode`` and ``stream``.
            sampling_rate: see ``encode``.
        """
        if is_recording(audio):
            blocks: Iterable[Waveform] = load_waveforms([audio], sampling_rate=sampling_rate)
        else:
            blocks = load_blocks(audio, sampling_rate=sampling_rate)
        stretches = list(self._stretches(blocks))
        feats = np.concatenate([stretch.features for stretch in stretches])
        return self._recode(Segmentation.join(self._join_stretches(stretches))), feats

    def stream(
        self,
        blocks: AudioInput | Iterable[AudioInput],
        *,
        sampling_rate: int | None = None,
        lookahead: float | None = None,
        context_seconds: float = 6.0,
        hop_seconds: float = 0.2,
    ) -> Iterator[Segmentation]:
        """Encode one recording block by block in bounded memory, without knowing where it ends.

        Args:
            blocks: samples in blocks of any sizes, as arrays or the like of ``encode``, until the recording ends; or a
                file, as path, bytes or file object.
            sampling_rate: rate in Hz of blocks that come without one; 16,000 by default.
            lookahead: maximum algorithmic latency in seconds from the end of a segment, for live use; by default
                ``latency``, with the segments of ``encode``.
            context_seconds, hop_seconds: with a lookahead, the audio encoded at once, at least twice the lookahead, and
                the time from one encoding to the next, at most half of the lookahead; their ratio is the cost.

        Yields:
            parts of finished segments, in frames of the whole recording; ``num_frames`` of a part is the frame up to
            which segments are finished, at last the recording's length. ``Segmentation.join(parts)`` equals
            ``encode`` of the concatenated blocks, unless there is a lookahead: then segments are decided with less
            context and never revised. A segment appears at most ``lookahead`` or else ``latency`` seconds after its
            end; deduplicated, it also waits for the next.

        Raises:
            InputError: a block of another shape, type or rate (the message counts blocks from 0), unusable seconds, or
                a lookahead where a codec reads whole recordings.
            AudioError: a block holds NaN or infinity, or there were no samples at all.
        """
        waves = load_blocks(blocks, sampling_rate=sampling_rate)
        if lookahead is None:
            parts = self._parts(waves)
            return parts if self.codec is None else map(self._recode, map(Segmentation.join, [parts]))
        if self.codec is not None:
            raise InputError("lookahead: a codec reads whole recordings; leave it out, or stream without the codec")
        sizes = (lookahead, context_seconds, hop_seconds)
        reach = getattr(self.encoder, "reach", None)
        plan = Lookahead.of_seconds(*sizes, self.grid, self.encoder.sample_rate, reach)
        return self._join_stretches(self._live_stretches(waves, plan))

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
            raise AudioError(NO_SAMPLES)
        rest = reader.close()
        if self.encoder.num_frames(len(rest)) == 0:
            feats = self._no_features()
            yield Stretch(0, feats, self.spans(feats))
            return
        feats = self.encoder.encode([rest])[0]
        yield from stitcher.push(feats, self.spans(feats), last=True)

    def _live_stretches(self, blocks: Iterable[Waveform], plan: Lookahead) -> Iterator[Stretch]:
        """Finished stretches of one recording with a lookahead, in order, and at least one."""
        live = LiveSegmenter(plan, self.spans)
        encode_window = getattr(self.encoder, "encode_window", lambda window, _: self.encoder.encode([window])[0])
        for first, window, last in plan.windows(blocks, self.grid):
            if len(window) == 0:
                raise AudioError(NO_SAMPLES)
            feats = self._no_features()
            if self.encoder.num_frames(len(window)):
                # Where positions count, they are those of the long window that the frame would be encoded in.
                feats = encode_window(window, first % self.grid.stride)
            stretch = live.push(feats, first, last=last)
            if stretch is not None:
                yield stretch

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
