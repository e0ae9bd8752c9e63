"""The tokenizer: waveforms to syllable-like units by encoder, MinSum, pooling and codebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from syllablelm.artifact import open_artifact
from syllablelm.audio import check_waveform
from syllablelm.corpus import batches_by_seconds
from syllablelm.encoders.hub import HubEncoder, load_encoder
from syllablelm.errors import FormatError
from syllablelm.quantize import Codebook, pool_segments
from syllablelm.rule import RULE_FILE, Method, SegmentRule, change_rule, read_rule
from syllablelm.types import Segmentation

Waveform = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]
BUNDLED = Path(__file__).resolve().parent / "bundled"
CODEBOOK_FILE = "codebook.safetensors"


class Tokenizer:
    """Turns recordings into units.

    Args:
        encoder: frame features.
        codebook: segment vectors to units; None leaves the units out.
        rule: features to segments.
        batch_seconds: seconds of audio encoded at once, padding included; bounds memory, never changes a result.
        digest: identity of the weights, where it was loaded from an artifact.
    """

    def __init__(
        self,
        encoder: HubEncoder,
        codebook: Codebook | None,
        rule: SegmentRule,
        *,
        batch_seconds: float = 120.0,
        digest: str = "",
    ) -> None:
        self.encoder, self.codebook, self.rule = encoder, codebook, rule
        self.batch_seconds, self.digest = batch_seconds, digest

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        device: str = "auto",
        rate: float | None = None,
        rule: Method | None = None,
        delta: float | None = None,
        batch_seconds: float = 120.0,
    ) -> Tokenizer:
        """Open a tokenizer.

        Args:
            name: a bundled name ("tiny") or a tokenizer artifact's folder.
            device: "auto", "cpu" or "cuda".
            rate: groups per second instead of the tokenizer's own.
            rule: "rate" (MinSum), "peaks" or "released" instead of the tokenizer's own way of cutting.
            delta: threshold of the "released" rule instead of the tokenizer's own.
            batch_seconds: see the class.

        Raises:
            FormatError: no such tokenizer, or a damaged one.
            InputError: a rate or delta that is not above zero, or an unknown rule.
        """
        artifact = open_artifact(_resolve(name), "tokenizer")
        own = read_rule(artifact)
        changed = change_rule(own, rate, rule, delta)
        encoder = load_encoder(artifact.path, device=device)
        codebook = Codebook.load(artifact.file(CODEBOOK_FILE))
        return cls(encoder, codebook, changed, batch_seconds=batch_seconds, digest=artifact.digest)

    @property
    def num_units(self) -> int | None:
        """Size of the unit vocabulary; None without a codebook."""
        return None if self.codebook is None else self.codebook.num_units

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
        return [self.segment(feats) for feats in self.features(audio)]

    def features(self, audio: Sequence[npt.NDArray[np.floating]]) -> list[Features]:
        """Frame features of each waveform: float32 (num_frames, dim)."""
        waves = [check_waveform(wave, name=f"waveform {i}", allow_silence=True) for i, wave in enumerate(audio)]
        result: list[Features] = [np.zeros((0, self.encoder.dim), dtype=np.float32)] * len(waves)
        for index, feats in self._encode_batches(waves):
            result[index] = feats
        return result

    def _encode_batches(self, waves: Sequence[Waveform]) -> Iterator[tuple[int, Features]]:
        usable = [i for i, wave in enumerate(waves) if self.encoder.num_frames(len(wave)) > 0]
        seconds = [len(waves[i]) / self.encoder.sample_rate for i in usable]
        for batch in batches_by_seconds(seconds, self.batch_seconds):
            members = [usable[place] for place in batch]
            yield from zip(members, self.encoder.encode([waves[i] for i in members]), strict=True)

    def segment(self, features: Features) -> Segmentation:
        """Features (num_frames, dim) of one recording to its segmentation."""
        hop, sample_rate = self.encoder.hop, self.encoder.sample_rate
        if len(features) == 0:
            none = None if self.codebook is None else []
            return Segmentation.from_boundaries([], unit=none, hop=hop, sample_rate=sample_rate)
        cuts = self.rule.boundaries(features)
        unit = None
        if self.codebook is not None:
            unit = self.codebook.assign(self.pool(features, cuts))
        segmentation = Segmentation.from_boundaries(cuts, unit=unit, hop=hop, sample_rate=sample_rate)
        return segmentation.merge_repeats() if self.rule.merge and unit is not None else segmentation

    def pool(self, features: Features, boundaries: npt.NDArray[np.int32]) -> Features:
        """(num_segments, dim) mean of each segment, as the rule pools."""
        return pool_segments(features, boundaries[:-1], boundaries[1:], drop_edges=self.rule.drop_edges)


def _resolve(name: str | Path) -> Path:
    path = Path(name)
    if path.is_dir():
        return path
    bundled = BUNDLED / str(name)
    if len(path.parts) == 1 and bundled.is_dir():
        return bundled
    known = sorted(path.parent.name for path in BUNDLED.glob(f"*/{RULE_FILE}"))
    raise FormatError(f"{name}: no such tokenizer; give a folder or a bundled name ({', '.join(known) or 'none here'})")
