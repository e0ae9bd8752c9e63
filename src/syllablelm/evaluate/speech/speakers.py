"""Speaker encoders behind one interface, whose embeddings tell how similar two voices are; their registry.

The command line reads the registry for its help, so nothing heavy is imported at the top.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from syllablelm.core.errors import FormatError, InputError, find_optional

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Waveform = npt.NDArray[np.float32]


class SpeakerEncoder(Protocol):
    """Waveform to a vector of the voice.

    Attributes:
        settings: encoder and its rules in one line, for results.
    """

    settings: str

    def embed(self, waveform: Waveform) -> Waveform:
        """Return the embedding (dim,) of a waveform (num_samples,) at 16 kHz, of length 1; 0 where there is none."""
        ...


class ResemblyzerEncoder:
    """The GE2E encoder of Resemblyzer (Wan et al. 2018): three LSTM layers over 1.6 s of 40 mel bands.

    The weights lie in the wheel of resemblyzer. Its code is not run: it needs webrtcvad, which has to be compiled.

    Raises:
        MissingDependencyError: resemblyzer is not installed.
    """

    settings = (
        "GE2E (weights of resemblyzer 0.1) at 16 kHz; level raised to -30 dB below full scale, never lowered; silences "
        "kept; mean over windows of 1.6 s every 0.77 s, shorter speech padded with zeros"
    )
    _DBFS, _HOP, _BANDS, _FRAMES, _STEP = -30.0, 160, 40, 160, 77
    # A last window is left out if less than this share of it is speech.
    _COVERED = 0.75

    def __init__(self, *, device: str = "auto") -> None:
        import torch

        from syllablelm.data.audio import SAMPLE_RATE
        from syllablelm.encoders.checkpoint import read_checkpoint
        from syllablelm.encoders.device import pick_device
        from syllablelm.encoders.whisper import slaney_filters

        # Its requirements are not needed, and cannot all be installed without a compiler.
        folder = find_optional("resemblyzer", "the speaker encoder 'resemblyzer' is missing", "--no-deps resemblyzer")
        state = read_checkpoint(folder / "pretrained.pt")["model_state"]
        layers = {"lstm": torch.nn.LSTM(self._BANDS, 256, 3, batch_first=True), "linear": torch.nn.Linear(256, 256)}
        self._layers = torch.nn.ModuleDict(layers)
        self._layers.load_state_dict({key: value for key, value in state.items() if key.partition(".")[0] in layers})
        self._device = pick_device(device)
        self._layers.to(self._device).eval()
        self._mel_FM = slaney_filters(self._BANDS, 201, SAMPLE_RATE).T.contiguous().to(self._device)

    def embed(self, waveform: Waveform) -> Waveform:
        """Return the embedding (256,) of a waveform; no component is negative."""
        import torch

        count = (len(waveform) + self._HOP) // self._HOP
        starts = range(0, max(1, count - self._FRAMES + self._STEP + 1), self._STEP)
        covered = (len(waveform) - starts[-1] * self._HOP) / (self._FRAMES * self._HOP)
        if covered < self._COVERED and len(starts) > 1:
            starts = starts[:-1]
        wave = torch.from_numpy(waveform).to(self._device)
        level = wave.square().mean().sqrt()
        wave = wave * max(1.0, float(10 ** (self._DBFS / 20) / level.clamp(min=1e-9)))
        missing = (starts[-1] + self._FRAMES) * self._HOP - len(wave)
        wave = torch.nn.functional.pad(wave, (0, max(0, missing)))
        with torch.inference_mode():
            window = torch.hann_window(400, device=self._device)
            spectrum = torch.stft(wave, 400, self._HOP, window=window, pad_mode="constant", return_complex=True)
            mel_TM = spectrum.abs().square().T @ self._mel_FM
            windows_BTM = torch.stack([mel_TM[start : start + self._FRAMES] for start in starts])
            _, (hidden_LBD, _) = self._layers["lstm"](windows_BTM)
            parts_BD = torch.nn.functional.normalize(self._layers["linear"](hidden_LBD[-1]).relu(), dim=1)
            return torch.nn.functional.normalize(parts_BD.mean(0), dim=0).cpu().numpy()


class XVectorEncoder:
    """A Hugging Face model with an x-vector head, by hub id or folder, such as "microsoft/wavlm-base-plus-sv".

    Raises:
        FormatError: no such model.
    """

    def __init__(self, source: str, *, device: str = "auto") -> None:
        from transformers.models.auto.feature_extraction_auto import AutoFeatureExtractor
        from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_XVECTOR_MAPPING

        from syllablelm.encoders.device import pick_device
        from syllablelm.encoders.pretrained import open_part, open_transformers

        try:
            folder, model = open_transformers(source, MODEL_FOR_AUDIO_XVECTOR_MAPPING)
            self._extractor: Any = open_part(folder, AutoFeatureExtractor)
        except FormatError as error:
            raise FormatError(f"not a speaker encoder that can be opened: {error}; choose {CHOICES}") from None
        self._model: Any = model.to(pick_device(device)).eval()
        self.settings = (
            f"x-vector of {source} at 16 kHz; level by its feature extractor; speech under 1 s padded with zeros"
        )

    def embed(self, waveform: Waveform) -> Waveform:
        """Return the embedding of a waveform."""
        import numpy as np
        import torch

        from syllablelm.data.audio import SAMPLE_RATE

        wave = np.pad(waveform, (0, max(0, SAMPLE_RATE - len(waveform))))
        inputs = self._extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            vector_D = self._model(**inputs).embeddings[0]
            return torch.nn.functional.normalize(vector_D, dim=0).cpu().numpy()


DEFAULT_SPEAKER_ENCODER = "resemblyzer"
SPEAKER_ENCODERS: dict[str, Callable[..., SpeakerEncoder]] = {DEFAULT_SPEAKER_ENCODER: ResemblyzerEncoder}
"""Speaker encoders with a name of their own; any other name is that of a model, see `load_speaker_encoder`."""
CHOICES = f"{', '.join(SPEAKER_ENCODERS)}, or a Hugging Face x-vector model (hub id or folder)"
"""What the name of a speaker encoder may be, for help texts and messages."""


def load_speaker_encoder(name: str, *, device: str = "auto") -> SpeakerEncoder:
    """Open a speaker encoder.

    Args:
        name: name in `SPEAKER_ENCODERS`, or the hub id or folder of a Hugging Face model with an x-vector head.
        device: "auto", "cpu" or "cuda".
    """
    if not name:
        raise InputError(f"no speaker encoder: choose {CHOICES}")
    if name in SPEAKER_ENCODERS:
        return SPEAKER_ENCODERS[name](device=device)
    return XVectorEncoder(name, device=device)
