"""Resynthesis of speech from units: vocoder LM, then unit vocoder (section 4.2); or a unit vocoder of syllables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import COPIED, RECORD, new_artifact, open_artifact
from syllablelm.core.errors import FormatError
from syllablelm.core.models import find_model
from syllablelm.core.results import read_json
from syllablelm.core.segmentation import Segmentation
from syllablelm.core.sharing import ModelCard, Shareable, copied_record
from syllablelm.lm.decode import Sampling
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.vocoder.acoustic import find_acoustic, save_acoustic
from syllablelm.vocoder.hifigan import HiFiGanVocoder
from syllablelm.vocoder.source_filter import SourceFilterVocoder
from syllablelm.vocoder.unit_vocoder import SHAPE_FILE, UnitVocoder
from syllablelm.vocoder.vocoder_lm import VocoderLM

LM_FOLDER, VOCODER_FOLDER = "vocoder_lm", "vocoder"
VOCODERS = {cls.kind: cls for cls in (SourceFilterVocoder, HiFiGanVocoder)}


class Resynthesizer(Shareable):
    """Synthesizes syllable units; parts of different acoustic units are a FormatError.

    Args:
        vocoder: unit vocoder.
        vocoder_lm: model of the vocoder's acoustic units given syllables; None if the vocoder speaks the syllables
            themselves, with their lengths.
        acoustic: tokenizer of acoustic units, which encodes prompts; None for continuations without a prompt's sound.
    """

    def __init__(
        self, vocoder: UnitVocoder, vocoder_lm: VocoderLM | None = None, acoustic: Tokenizer | None = None
    ) -> None:
        self.vocoder_lm, self.vocoder, self.acoustic = vocoder_lm, vocoder, acoustic
        if vocoder_lm is None:
            return
        sizes = {vocoder_lm.stream.acoustic, vocoder.num_units}
        if acoustic is not None and acoustic.num_units is not None:
            sizes.add(acoustic.num_units)
        if len(sizes) > 1:
            raise FormatError(f"vocoder LM, vocoder and acoustic tokenizer disagree on the number of units: {sizes}")
        # An unknown digest fits all: published vocoders have none.
        digests = {
            "vocoder LM": vocoder_lm.stream.acoustic_units,
            "vocoder": vocoder.acoustic,
            "acoustic tokenizer": "" if acoustic is None else acoustic.digest,
        }
        if len(set(digests.values()) - {""}) > 1:
            named = ", ".join(f"{name} {digest}" for name, digest in digests.items() if digest)
            raise FormatError(f"parts of different acoustic units do not fit: {named}; use parts of one run")

    @classmethod
    def load(cls, name: str | Path, *, device: str = "auto", revision: str | None = None) -> Resynthesizer:
        """Open a resynthesizer.

        Args:
            name: a bundled name ("small"), a folder that ``train vocoder`` or ``train bundle`` wrote, or a hub id.
            device, revision: see ``load_encoder``.

        Raises:
            FormatError: no such model, one without a vocoder, or parts that do not belong together.
        """
        folder = find_model(name, revision)
        if not (folder / VOCODER_FOLDER).is_dir():
            raise FormatError(f"{name}: holds no vocoder; give a folder with {VOCODER_FOLDER}/ in it")
        vocoder, vocoder_lm, acoustic = load_vocoder(folder / VOCODER_FOLDER, device=device), None, None
        if (folder / LM_FOLDER).is_dir():
            acoustic = find_acoustic(folder, device=device)
            vocoder_lm = VocoderLM.load(folder / LM_FOLDER, device=device)
        resynthesizer = cls(vocoder, vocoder_lm, acoustic)
        if (folder / VOCODER_FOLDER / RECORD).is_file():
            resynthesizer.artifact = open_artifact(folder / VOCODER_FOLDER, "vocoder")
        return resynthesizer

    def __repr__(self) -> str:
        stream = None if self.vocoder_lm is None else self.vocoder_lm.stream
        spoken = f"{self.vocoder.num_units} units"
        if stream is not None:
            spoken = f"{stream.syllables} units by {stream.acoustic} acoustic units"
        device = next(self.vocoder.net.parameters()).device
        return self._described(self.vocoder.kind, spoken, f"{self.sample_rate} Hz", str(device))

    def write_folder(self, folder: Path) -> None:
        """Write the parts into a new folder."""
        folder.mkdir()
        self.write_parts(folder)

    def write_parts(self, folder: Path) -> None:
        """Write the parts into an existing folder, that of a tokenizer perhaps."""
        origin = copied_record(self.artifact)
        extra, parents = {COPIED: origin} if origin else {}, {"acoustic": self.vocoder.acoustic}
        with new_artifact(
            folder / VOCODER_FOLDER, "vocoder", config={}, seed=0, parents=parents, metrics={}, extra=extra
        ) as payload:
            self.vocoder.save(payload)
        if self.vocoder_lm is not None:
            self.vocoder_lm.lm.write_folder(folder / LM_FOLDER)
        if self.acoustic is not None:
            save_acoustic(self.acoustic, folder)

    def model_card(self) -> ModelCard:
        """Return the contents of the model card; see ``Shareable``."""
        stream = None if self.vocoder_lm is None else self.vocoder_lm.stream
        facts: dict[str, object] = {
            "units": self.vocoder.num_units if stream is None else stream.syllables,
            "acoustic units": "none; the vocoder speaks the units" if stream is None else stream.acoustic,
            "vocoder": self.vocoder.kind,
            "sample rate in Hz": self.sample_rate,
            "digest of the units' tokenizer": self.tokenizer or "unknown",
        }
        return ModelCard(
            "Vocoder of syllable-like units",
            "Resynthesis of speech: discrete units of about a syllable, with their times, to a waveform.",
            "audio-to-audio",
            ("vocoder", "speech-synthesis", "speech-units", "syllables"),
            facts,
            "import syllablelm as sl\n\nvoice = sl.Resynthesizer.load(MODEL)\n"
            "waveform = voice.decode(units)  # a Segmentation of the tokenizer of its units",
        )

    @property
    def tokenizer(self) -> str:
        """Digest of the tokenizer of the syllables; "" if unknown."""
        return self.vocoder.acoustic if self.vocoder_lm is None else self.vocoder_lm.stream.tokenizer

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms that ``decode`` returns."""
        return self.vocoder.sample_rate

    def decode(
        self, segmentation: Segmentation, *, prompt: Segmentation | None = None, seed: int = 0, **sampling: Any
    ) -> npt.NDArray[np.float32]:
        """Synthesize syllable units: (num_samples,) float32 at ``sample_rate``.

        Args:
            segmentation, prompt: the syllables, with their times; acoustic units of the prompt, from frame 0 on.
            seed: random seed.
            sampling: temperature (default 0.8; 0 is greedy), top_k and top_p of the acoustic units, see ``Sampling``;
                without effect where the vocoder speaks the syllables.

        Raises:
            InputError: units that do not fit, or none.
        """
        return self.decode_many([segmentation], [prompt], seeds=[seed], **sampling)[0]

    def decode_many(
        self,
        segmentations: Sequence[Segmentation],
        prompts: Sequence[Segmentation | None] | None = None,
        *,
        seeds: Sequence[int] | None = None,
        **sampling: Any,
    ) -> list[npt.NDArray[np.float32]]:
        """Synthesize many sequences of syllables; each waveform equals that of ``decode`` alone.

        Args:
            segmentations, prompts: syllables of each sequence; acoustic units of each prompt, or None.
            seeds, sampling: random seed of each sequence, 0 by default; and see ``decode``.
        """
        seeds = [0] * len(segmentations) if seeds is None else seeds
        choice, drawn = Sampling(**sampling), list(segmentations)
        if self.vocoder_lm is not None:
            drawn = self.vocoder_lm.decode_many(segmentations, prompts, sampling=choice, seeds=seeds)
        return [self.vocoder.decode_finite(acoustic, seed=seed) for acoustic, seed in zip(drawn, seeds, strict=True)]


def load_vocoder(folder: str | Path, *, device: str = "auto") -> UnitVocoder:
    """Open a unit vocoder of any kind: a folder of this package, or a published unit HiFi-GAN; else a FormatError."""
    folder = Path(folder)
    # A published one has no description of this package.
    kind = str(read_json(folder / SHAPE_FILE).get("kind")) if (folder / SHAPE_FILE).exists() else HiFiGanVocoder.kind
    if kind not in VOCODERS:
        raise FormatError(
            f"{folder / SHAPE_FILE}: unknown kind of vocoder {kind!r}; this version knows {', '.join(VOCODERS)}"
        )
    vocoder = VOCODERS[kind].load(folder, device=device)
    vocoder.place = str(folder)
    return vocoder
