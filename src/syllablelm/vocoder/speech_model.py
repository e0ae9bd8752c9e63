"""Speech continuation: tokenizer, language model and resynthesizer in one model (sections 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import check_tokenizer
from syllablelm.core.errors import InputError
from syllablelm.core.models import find_model
from syllablelm.core.segmentation import Segmentation
from syllablelm.core.sharing import ModelCard, Shareable
from syllablelm.data.audio import SAMPLE_RATE, load_audio
from syllablelm.data.samples import AudioInput
from syllablelm.lm.speech_lm import FOLDER, SpeechLM
from syllablelm.lm.store import check_units
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.vocoder.resynthesizer import Resynthesizer


@dataclass(frozen=True)
class Continuation:
    """A continuation of a recording.

    Args:
        waveform, sample_rate: (num_samples,) float32, the continuation alone, and its samples per second.
        prompt, units: units of the prompt, and of the continuation from frame 0 on.
    """

    waveform: npt.NDArray[np.float32]
    sample_rate: int
    prompt: Segmentation
    units: Segmentation


@dataclass(frozen=True)
class SpeechModel(Shareable):
    """Tokenizer, language model and resynthesizer of the same units; others are a FormatError."""

    tokenizer: Tokenizer
    lm: SpeechLM
    resynthesizer: Resynthesizer

    def __post_init__(self) -> None:
        given = self.tokenizer.digest
        check_tokenizer("language model", self.lm.info.tokenizer, given)
        check_tokenizer("vocoder", self.resynthesizer.tokenizer, given)
        object.__setattr__(self, "artifact", self.tokenizer.artifact)

    @classmethod
    def load(
        cls, name: str | Path, *, device: str = "auto", context: int | None = None, revision: str | None = None
    ) -> SpeechModel:
        """Open all three from one model.

        Args:
            name: a bundled name ("small"), a folder that ``train bundle`` wrote, or the hub id of one.
            context: context length of the language model in tokens, see ``SpeechLM``.
            device, revision: see ``load_encoder``.

        Raises:
            FormatError: no such model, or one that lacks a part.
        """
        folder = find_model(name, revision)
        lm = SpeechLM.load(folder, device=device, context=context)
        return cls(Tokenizer.load(folder, device=device), lm, Resynthesizer.load(folder, device=device))

    def write_folder(self, folder: Path) -> None:
        """Write all three into a new folder, which every loader and verb takes."""
        self.tokenizer.write_folder(folder)
        self.lm.write_folder(folder / FOLDER)
        self.resynthesizer.write_parts(folder)

    def model_card(self) -> ModelCard:
        """Return the contents of the model card; see ``Shareable``."""
        parts = [self.tokenizer.model_card(), self.lm.model_card(), self.resynthesizer.model_card()]
        return ModelCard(
            "Speech units, language model and vocoder",
            "A speech language model of units of about a syllable, with the tokenizer that makes its units and the "
            "vocoder that speaks them.",
            "audio-to-audio",
            tuple(dict.fromkeys(tag for part in parts for tag in part.tags)),
            {name: fact for part in parts for name, fact in part.facts.items()},
            "import syllablelm as sl\n\n"
            'more = sl.continue_speech(sl.load_audio("speech.flac"), seconds=10, model=MODEL)',
        )

    def continue_speech(
        self,
        waveform: AudioInput,
        seconds: float = 10.0,
        *,
        sampling_rate: int | None = None,
        seed: int = 0,
        vocoder_temperature: float = 0.8,
        **sampling: Any,
    ) -> Continuation:
        """Continue a recording.

        Args:
            waveform, sampling_rate: the prompt, see ``load_audio``.
            seconds: length of the continuation.
            seed: random seed.
            vocoder_temperature: sampling temperature of the vocoder LM; 0 is greedy.
            sampling: temperature, top_k and top_p of the language model.

        Raises:
            InputError: a prompt shorter than one unit, or too long for the language model.
        """
        wave = load_audio(waveform, sampling_rate=sampling_rate)
        prompt = self.tokenizer.encode(wave)
        if len(prompt) == 0:
            raise InputError(
                f"the prompt of {len(wave) / SAMPLE_RATE:.2f} s is shorter than one unit; give at least a second"
            )
        drawn = self.lm.generate(prompt, seconds, seed=seed, **sampling)
        return self.speak_continuations([wave], [prompt], [drawn], seed=seed, temperature=vocoder_temperature)[0]

    def speak_continuations(
        self,
        waveforms: Sequence[npt.NDArray[np.float32]],
        prompts: Sequence[Segmentation],
        drawn: Sequence[Segmentation],
        *,
        seed: int = 0,
        temperature: float = 0.8,
        with_prompt: bool = False,
    ) -> list[Continuation]:
        """Synthesize continuations, whose acoustic units continue those of the prompts.

        Args:
            waveforms, prompts: the prompts, (num_samples,) mono at 16 kHz each, and their units.
            drawn: units of the continuations, from frame 0 on.
            seed, temperature: random seed of each continuation; sampling temperature of the vocoder LM.
            with_prompt: whether the waveforms begin with the prompts, synthesised too.
        """
        acoustic, rate = self.resynthesizer.acoustic, self.resynthesizer.sample_rate
        encoded = None if acoustic is None else acoustic.encode(list(waveforms))
        whole = [join_units(*both) for both in zip(prompts, drawn, strict=True)]
        spoken = self.resynthesizer.decode_many(whole, encoded, seeds=[seed] * len(whole), temperature=temperature)
        return [
            Continuation(wave[0 if with_prompt else round(prompt.duration * rate) :], rate, prompt, units)
            for wave, prompt, units in zip(spoken, prompts, drawn, strict=True)
        ]


def predict_durations(units: Segmentation, lm: SpeechLM) -> Segmentation:
    """Return units, deduplicated, with the lengths that continuations have: the typical one of each, without pauses.

    Raises:
        InputError: no units, or another vocabulary or frame grid than the language model's.
    """
    modelled = check_units(lm.info.as_modelled(units), lm.info, "units")
    ends = np.cumsum(lm.durations[modelled])
    return Segmentation.from_boundaries(
        np.concatenate([[0], ends]).astype(np.int32), unit=modelled, hop=units.hop, sample_rate=units.sample_rate
    )


def join_units(first: Segmentation, second: Segmentation) -> Segmentation:
    """Concatenate two segmentations in time."""
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
    waveform: AudioInput,
    seconds: float = 10.0,
    *,
    model: str | Path = "small",
    sampling_rate: int | None = None,
    seed: int = 0,
    device: str = "auto",
    revision: str | None = None,
    **sampling: Any,
) -> npt.NDArray[np.float32]:
    """Continue a recording with a model opened for this call; see ``SpeechModel.continue_speech``.

    Args:
        model, device, revision: bundled name ("small"), folder or hub id of a model with all three parts; see
            ``load_encoder``.

    Returns:
        the continuation alone, float32 at the vocoder's sample rate (16 kHz for the bundled one).
    """
    speech = SpeechModel.load(model, device=device, revision=revision)
    return speech.continue_speech(waveform, seconds, sampling_rate=sampling_rate, seed=seed, **sampling).waveform
