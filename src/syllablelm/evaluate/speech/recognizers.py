"""Speech recognisers behind one small interface: what they hear is how intelligibility is measured."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, MissingDependencyError
from syllablelm.data.audio import SAMPLE_RATE

POCKETSPHINX = "pocketsphinx"
# States and words followed per frame, in place of pocketsphinx's 30,000 and all: 1.8 times as fast, and no worse
# on natural speech (twelve training recordings of LibriSpeech, 134 words: word error rate .20 both ways).
SEARCH = {"maxhmmpf": 3000, "maxwpf": 10}


class Recognizer(Protocol):
    """Waveform to words."""

    name: str

    def transcribe(self, waveform: npt.NDArray[np.float32]) -> str:
        """Words of a waveform (num_samples,) at 16 kHz."""
        ...


class PocketsphinxRecognizer:
    """The small English model that comes with pocketsphinx: offline, weak, the same everywhere."""

    name = POCKETSPHINX

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise MissingDependencyError(
                "the recogniser 'pocketsphinx' is not installed: pip install 'syllablelm[asr]'"
            ) from None
        self._decoder: Any = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", **SEARCH)

    def transcribe(self, waveform: npt.NDArray[np.float32]) -> str:
        """Words of a waveform; "" where nothing was heard."""
        samples = np.clip(np.rint(waveform * 32767.0), -32768, 32767).astype(np.int16)
        # It adapts to the recordings heard before: a transcript must not depend on them, nor on who hears it.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return "" if found is None else found.hypstr


class CTCRecognizer:
    """A Hugging Face CTC model, decoded greedily.

    Args:
        source: hub id or folder of a model with its processor, such as "facebook/hubert-large-ls960-ft".
        device: "auto", "cpu" or "cuda".
    """

    def __init__(self, source: str, *, device: str = "auto") -> None:
        from transformers.models.auto.modeling_auto import AutoModelForCTC
        from transformers.models.auto.processing_auto import AutoProcessor

        from syllablelm.encoders.device import pick_device
        from syllablelm.encoders.quiet import quiet_transformers

        self.name, self._device = source, pick_device(device)
        try:
            with quiet_transformers():
                self._processor: Any = AutoProcessor.from_pretrained(source)
                self._model: Any = AutoModelForCTC.from_pretrained(source).to(self._device).eval()
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise FormatError(f"{source}: not a CTC recogniser that transformers can open ({reason})") from None

    def transcribe(self, waveform: npt.NDArray[np.float32]) -> str:
        """Words of a waveform."""
        import torch

        inputs = self._processor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            ids = self._model(**inputs).logits.argmax(-1)
        return self._processor.batch_decode(ids)[0]


def load_recognizer(name: str, *, device: str = "auto") -> Recognizer:
    """Open a recogniser: "pocketsphinx", or the hub id or folder of a CTC model."""
    return PocketsphinxRecognizer() if name == POCKETSPHINX else CTCRecognizer(name, device=device)
