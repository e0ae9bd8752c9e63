"""Acoustic units: their features (a layer of an encoder, or MFCCs of the clip) and their tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from syllablelm.core.artifact import digest_path, new_artifact, open_artifact
from syllablelm.core.errors import FormatError, InputError
from syllablelm.data.audio import SAMPLE_RATE, load_waveforms
from syllablelm.data.samples import AudioInput
from syllablelm.encoders.base import FrameEncoder
from syllablelm.encoders.load import load_encoder
from syllablelm.segment.mel import frame_count, mfcc
from syllablelm.tokenizer.tokenizer import CODEBOOK_FILE, FRAME_UNITS, Tokenizer

Source = Literal["encoder", "mfcc"]
# In a model's folder: cluster centres of the model's own encoder or of MFCCs; or an encoder with a codebook.
ACOUSTIC_FILE, ACOUSTIC_FOLDER = "acoustic.safetensors", "acoustic"
NUM_CEPSTRA, WINDOW = 13, 400
# Below this deviation a coefficient is constant (silence) and must not be amplified.
_LEAST_DEVIATION = 0.1


class MfccEncoder:
    """MFCCs of a clip, standardised over the clip, as the features of an encoder.

    Features of a small encoder trained for syllables lack information that a vocoder needs; MFCCs hold it, and
    standardising removes speaker and channel. See `FrameEncoder` for the attributes.
    """

    sample_rate, hop, dim, layer, receptive_field = SAMPLE_RATE, 320, NUM_CEPSTRA, 0, WINDOW
    device = torch.device("cpu")

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a clip."""
        return frame_count(num_samples, self.hop, WINDOW)

    def encode(
        self, waveforms: Sequence[AudioInput], layers: Sequence[int] | None = None
    ) -> list[npt.NDArray[np.float32]]:
        """Return the features of each clip, float32 (num_frames, 13); layers are an InputError."""
        if layers is not None:
            raise InputError("MFCCs have no layers")
        return [self._encode(wave) for wave in load_waveforms(waveforms)]

    def _encode(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        cepstra = mfcc(waveform, hop=self.hop)[:, :NUM_CEPSTRA]
        if len(cepstra) == 0:
            return cepstra
        return (cepstra - cepstra.mean(0)) / np.maximum(cepstra.std(0), _LEAST_DEVIATION)


def acoustic_encoder(folder: Path, source: Source, layer: int, *, device: str = "auto") -> FrameEncoder:
    """Return the encoder of acoustic units: MFCCs, or a layer of the encoder in a folder."""
    return MfccEncoder() if source == "mfcc" else load_encoder(folder, layer, device=device)


def find_acoustic(folder: Path, *, device: str = "auto") -> Tokenizer | None:
    """Open the acoustic tokenizer of a model folder; None without one. Its digest identifies the acoustic units."""
    own = folder / ACOUSTIC_FOLDER
    if (own / CODEBOOK_FILE).is_file():
        return open_acoustic(own, device=device)
    return load_acoustic(folder, device=device) if (folder / ACOUSTIC_FILE).is_file() else None


def open_acoustic(folder: Path, *, device: str = "auto") -> Tokenizer:
    """Open an acoustic tokenizer, an artifact of an encoder and a codebook of its frames; a FormatError otherwise."""
    digest = open_artifact(folder, "acoustic").digest
    return frame_units(load_encoder(folder, device=device), folder / CODEBOOK_FILE, digest)


def load_acoustic(folder: Path, *, device: str = "auto") -> Tokenizer:
    """Open the acoustic tokenizer of a model folder that holds cluster centres only; a FormatError for damaged ones.

    ``acoustic.safetensors`` holds the centres and names their features; an encoder lies in the folder itself.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / ACOUSTIC_FILE
    try:
        with safe_open(path, framework="numpy") as file:
            said: dict[str, Any] = file.metadata() or {}
        source, layer, digest = said.get("source", "encoder"), int(said["layer"]), said.get("digest", "")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FormatError(f"{path}: not the centres of acoustic units ({error})") from None
    if source not in ("encoder", "mfcc"):
        raise FormatError(f"{path}: acoustic units of {source!r} are unknown to this version")
    return frame_units(acoustic_encoder(folder, source, layer, device=device), path, digest or digest_path(path))


def save_acoustic(tokenizer: Tokenizer, folder: Path) -> None:
    """Write an acoustic tokenizer into a model folder; ``find_acoustic`` opens it with the same digest."""
    from safetensors.numpy import save_file

    digest = {"digest": tokenizer.digest} if tokenizer.digest else {}
    if isinstance(tokenizer.encoder, MfccEncoder) and tokenizer.codebook is not None:
        said = {"source": "mfcc", "layer": "0", **digest}
        save_file({"centres": tokenizer.codebook.centres}, folder / ACOUSTIC_FILE, metadata=said)
        return
    with new_artifact(
        folder / ACOUSTIC_FOLDER, "acoustic", config={}, seed=0, parents={}, metrics={}, extra=digest
    ) as payload:
        tokenizer.write_payload(payload)


def frame_units(encoder: FrameEncoder, codebook: Path, digest: str) -> Tokenizer:
    """Return a tokenizer of frames, deduplicated; ``digest`` identifies its units."""
    tokenizer = Tokenizer.from_parts(encoder, codebook, rule=FRAME_UNITS)
    tokenizer.digest = digest
    return tokenizer
