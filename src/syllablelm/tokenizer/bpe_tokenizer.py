"""A tokenizer and a codec as one: recordings to the codec's coarser units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import RECORD, check_tokenizer, new_artifact, open_artifact
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.quantize.codec import KIND, Codec
from syllablelm.tokenizer.tokenizer import Features, Tokenizer

# The record's entry in which a codec artifact keeps the name of its tokenizer.
TOKENIZER_NAME = "tokenizer_name"
SAVED_KIND = "recoded"
CODEC_FOLDER, TOKENIZER_FOLDER = "codec", "tokenizer"


class RecodedTokenizer(Tokenizer):
    """A tokenizer whose units go through a codec; everything that takes a tokenizer takes it.

    Args:
        base: the tokenizer.
        codec: learned from its units.

    Its ``digest`` is the codec's, of which the tokenizer's is a part. A codec looks at a recording as a whole, so
    ``stream`` gives all units at the end.

    Raises:
        FormatError: the codec is of another tokenizer.
        InputError: the tokenizer has no codebook, or another number of units or frame grid than the codec.
    """

    def __init__(self, base: Tokenizer, codec: Codec) -> None:
        check_tokenizer("codec", codec.tokenizer, base.digest)
        grid = (base.encoder.hop, base.encoder.sample_rate)
        if base.num_units != codec.num_units or grid != (codec.hop, codec.sample_rate):
            raise InputError(
                f"a codec of {codec.num_units} units in frames of {codec.hop} samples at {codec.sample_rate} Hz does "
                f"not fit a tokenizer of {base.num_units} units in frames of {grid[0]} at {grid[1]}"
            )
        sizes: Any = {"batch_seconds": base.batch_seconds, "window_seconds": base.window_seconds}
        super().__init__(base.encoder, base.codebook, base.rule, **sizes, digest=codec.digest)
        self.base, self.codec = base, codec
        self.grid = base.grid

    @classmethod
    def load(cls, name: str | Path, **options: Any) -> RecodedTokenizer:
        """Open a codec artifact that knows its tokenizer's name, or what ``save`` wrote.

        Args:
            name: the folder.
            options: of ``Tokenizer.load``, for the tokenizer.

        Raises:
            FormatError: neither, or a tokenizer that is not there or another than the codec was learned from.
        """
        artifact = open_artifact(name)
        if artifact.kind == SAVED_KIND:
            base = open_tokenizer(artifact.path / TOKENIZER_FOLDER, **options)
            codec = Codec.load(artifact.path / CODEC_FOLDER)
            # A copy's files may differ from those of the original, which the codec names.
            base.digest = codec.tokenizer
            return cls(base, codec)
        codec = Codec.load(artifact.path)
        source = artifact.record.get(TOKENIZER_NAME)
        if not source:
            raise FormatError(
                f"{name}: this codec does not know its tokenizer; make it anew with --tokenizer, or recode its units"
            )
        return cls(open_tokenizer(str(source), **options), codec)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer and codec into one folder that ``load`` opens anywhere.

        Raises:
            InputError: the folder exists, or the encoder has no form in which it could be saved.
        """
        if Path(folder).exists():
            raise InputError(f"{folder} exists; choose another folder or remove it")
        parents = {"codec": self.codec.digest, "tokenizer": self.base.digest}
        config = {"kind": self.codec.kind, "codes": self.codec.num_codes}
        with new_artifact(folder, SAVED_KIND, config=config, seed=0, parents=parents, metrics={}) as payload:
            self.write_payload(payload)

    def write_payload(self, folder: Path) -> None:
        """Write both artifacts below a folder."""
        config = {"kind": self.codec.kind, "codes": self.codec.num_codes}
        parents = {"tokenizer": self.codec.tokenizer} if self.codec.tokenizer else {}
        with new_artifact(folder / CODEC_FOLDER, KIND, config=config, seed=0, parents=parents, metrics={}) as payload:
            self.codec.write_payload(payload)
        self.base.save(folder / TOKENIZER_FOLDER)

    @property
    def num_units(self) -> int:
        """Size of the codec's vocabulary."""
        return self.codec.num_codes

    def encode(self, audio: Any) -> Any:
        """Waveforms to segmentations of coarse units, as ``Tokenizer.encode``."""
        found = self.base.encode(audio)
        if isinstance(found, Segmentation):
            return self.codec.encode(found)
        return [self.codec.encode(one) for one in found]

    def encode_with_features(self, audio: npt.NDArray[np.floating]) -> tuple[Segmentation, Features]:
        """As ``Tokenizer.encode_with_features``, with coarse units."""
        found, features = self.base.encode_with_features(audio)
        return self.codec.encode(found), features

    def stream(self, blocks: Iterable[npt.NDArray[np.floating]]) -> Iterator[Segmentation]:
        """As ``Tokenizer.stream``, in one piece when the recording has ended."""
        yield self.codec.encode(Segmentation.join(self.base.stream(blocks)))

    def segment(self, features: Features) -> Segmentation:
        """Features (num_frames, dim) of one recording, taken whole, to its coarse units."""
        return self.codec.encode(self.base.segment(features))


def open_tokenizer(name: str | Path, **options: Any) -> Tokenizer:
    """Open a tokenizer, or a codec together with its tokenizer.

    Args:
        name: as ``Tokenizer.load`` and ``RecodedTokenizer.load``.
        options: of ``Tokenizer.load``.

    Raises:
        FormatError, InputError: as these.
    """
    folder = Path(name)
    if (folder / RECORD).is_file() and open_artifact(folder).kind in (KIND, SAVED_KIND):
        return RecodedTokenizer.load(folder, **options)
    return Tokenizer.load(name, **options)
