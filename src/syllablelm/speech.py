"""Speech in, more speech out: the whole chain in one call (sections 4.1 and 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.audio import SAMPLE_RATE, check_waveform
from syllablelm.errors import InputError
from syllablelm.lm.decode import Sampling
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.lm.store import check_tokenizer
from syllablelm.tokenizer import Tokenizer
from syllablelm.types import Segmentation
from syllablelm.vocoder.resynthesizer import Resynthesizer


@dataclass(frozen=True)
class Continuation:
    """A continued recording and what it was made of.

    Args:
        waveform: (num_samples,) float32: the continuation alone.
        sample_rate: of the waveform.
        prompt, units: syllables heard and drawn; ``units`` begins at frame 0.
    """

    waveform: npt.NDArray[np.float32]
    sample_rate: int
    prompt: Segmentation
    units: Segmentation


@dataclass(frozen=True)
class SpeechModel:
    """Tokenizer, language model and resynthesizer that belong together.

    Raises:
        FormatError: they do not: a model was trained on units of another tokenizer.
    """

    tokenizer: Tokenizer
    lm: SpeechLM
    resynthesizer: Resynthesizer

    def __post_init__(self) -> None:
        given = self.tokenizer.digest
        check_tokenizer("language model", self.lm.info.tokenizer, given)
        check_tokenizer("vocoder", self.resynthesizer.vocoder_lm.stream.tokenizer, given)

    @classmethod
    def load(cls, name: str | Path, *, device: str = "auto") -> SpeechModel:
        """Open all three from one folder or bundled name."""
        lm, resynthesizer = SpeechLM.load(name, device=device), Resynthesizer.load(name, device=device)
        return cls(Tokenizer.load(name, device=device), lm, resynthesizer)

    def continue_speech(
        self, waveform: npt.NDArray[np.floating], seconds: float = 10.0, *, seed: int = 0, **sampling: Any
    ) -> Continuation:
        """Continue a recording.

        Args:
            waveform: the prompt, (num_samples,) mono at 16 kHz.
            seconds: length of the continuation.
            sampling: temperature, top_k and top_p of the language model.

        Raises:
            InputError: a prompt shorter than one unit, or too long for the language model.
        """
        wave = check_waveform(waveform, name="prompt")
        prompt = self.tokenizer.encode(wave)
        if len(prompt) == 0:
            raise InputError(
                f"the prompt of {len(wave) / SAMPLE_RATE:.2f} s is shorter than one unit; give at least a second"
            )
        drawn = self.lm.generate(prompt, seconds, seed=seed, **sampling)
        return self.speak_continuation(wave, prompt, drawn, seed=seed)

    def speak_continuation(
        self, waveform: npt.NDArray[np.float32], prompt: Segmentation, drawn: Segmentation, *, seed: int = 0
    ) -> Continuation:
        """Speak drawn units after a prompt, whose sound the vocoder's language model goes on from.

        Args:
            waveform: the prompt, (num_samples,) mono at 16 kHz; prompt: its units.
            drawn: units of the continuation, from frame 0 on.
        """
        heard = self.resynthesizer.acoustic.encode(waveform) if self.resynthesizer.acoustic is not None else None
        whole = join_units(prompt, drawn)
        acoustic = self.resynthesizer.vocoder_lm.decode(whole, prompt=heard, sampling=Sampling(seed=seed))
        spoken = self.resynthesizer.vocoder.decode(acoustic, seed=seed)
        rate = self.resynthesizer.sample_rate
        begin = round(prompt.duration * rate)
        return Continuation(spoken[begin:], rate, prompt, drawn)


def join_units(first: Segmentation, second: Segmentation) -> Segmentation:
    """Two segmentations one after the other."""
    if first.unit is None or second.unit is None:
        raise InputError("both parts need units")
    return Segmentation(
        np.concatenate([first.start, second.start + first.num_frames]),
        np.concatenate([first.end, second.end + first.num_frames]),
        np.concatenate([first.unit, second.unit]),
        first.num_frames + second.num_frames,
        first.hop,
        first.sample_rate,
    )


def continue_speech(
    waveform: npt.NDArray[np.floating],
    seconds: float = 10.0,
    *,
    model: str | Path = "tiny",
    seed: int = 0,
    device: str = "auto",
    **sampling: Any,
) -> npt.NDArray[np.float32]:
    """Continue a recording with a model opened for this call.

    Args:
        waveform: the prompt, (num_samples,) mono at 16 kHz.
        seconds: length of the continuation.
        model: a bundled name or a folder with tokenizer, language model and vocoder.
        seed: of every random choice.
        sampling: temperature, top_k and top_p of the language model.

    Returns:
        the continuation alone, float32 at the vocoder's sample rate (16 kHz for the bundled one).

    Raises:
        InputError, FormatError: see ``SpeechModel``, which is what to hold for many calls.
    """
    return SpeechModel.load(model, device=device).continue_speech(waveform, seconds, seed=seed, **sampling).waveform
