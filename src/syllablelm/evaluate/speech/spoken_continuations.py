"""Spoken continuations of recordings: generated as units, vocoded, recognised; kept block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import check_tokenizer, digest_bytes, digest_path
from syllablelm.core.errors import InputError
from syllablelm.core.models import find_model
from syllablelm.core.progress import ProgressBar
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE, resample
from syllablelm.data.level import Level
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.block_store import BlockStore, Row
from syllablelm.evaluate.speech.error_rates import NormalizeText, normalize_text
from syllablelm.evaluate.speech.recognizers import Transcriber
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.vocoder.resynthesizer import Resynthesizer
from syllablelm.vocoder.speech_model import SpeechModel

Waveform = npt.NDArray[np.float32]
# Prompts continued, and continuations recognised, as one block; recognition is slow, so that less of it may be lost.
GENERATE_BLOCK, TRANSCRIBE_BLOCK = 32, 8


def draw_recordings(manifest: Manifest, count: int, min_seconds: float, seed: int) -> Manifest:
    """Return ``count`` recordings of at least ``min_seconds``, drawn by seed whatever their order is.

    Raises:
        InputError: there are fewer.
    """
    usable = sorted(recording.id for recording in manifest if recording.seconds >= min_seconds)
    if len(usable) < count:
        raise InputError(
            f"{count} prompts are wanted, but only {len(usable)} of {len(manifest)} recordings last "
            f"{min_seconds:g} s or more; give --prompts {len(usable)} at most, or more recordings"
        )
    order = np.random.default_rng(seed).permutation(len(usable))[:count]
    return manifest.subset(usable[index] for index in sorted(order.tolist()))


def first_units(tokenizer: Tokenizer, manifest: Manifest, seconds: float) -> list[list[int]]:
    """Return the units that begin in the first ``seconds`` of real speech, to compare with continuations as long."""
    encoded = tokenizer.encode(list(_beginnings(manifest, seconds)))
    return [_units(part)[: int((part.start * part.hop < seconds * part.sample_rate).sum())] for part in encoded]


def _beginnings(manifest: Manifest, seconds: float) -> Iterator[Waveform]:
    for recording in manifest:
        yield recording.load()[: round(seconds * SAMPLE_RATE)]


class Continuations:
    """Continuations of the beginnings of recordings by a language model, as units, at any temperature.

    Args:
        tokenizer, lm: the models.
        recordings: recordings whose first ``prompt_seconds`` are the prompts.
        seconds, units: length of the continuations: seconds, or number of units where it is given.
        seed: random seed.
        sampling: top_k and others of ``SpeechLM.generate``, the temperature excepted.
        folder: folder in which they are kept, by everything that they depend on.

    Raises:
        FormatError: the model was trained on units of another tokenizer.
        InputError: a prompt without any unit.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        lm: SpeechLM,
        recordings: Manifest,
        *,
        prompt_seconds: float,
        seconds: float,
        seed: int,
        folder: Path,
        units: int | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        check_tokenizer("language model", lm.info.tokenizer, tokenizer.digest)
        self.tokenizer, self.lm, self.recordings = tokenizer, lm, recordings
        self.seconds, self.units, self.seed, self.folder = seconds, units, seed, folder
        self.sampling: dict[str, Any] = dict(sampling or {})
        self.ids = [recording.id for recording in recordings]
        self.waves = list(_beginnings(recordings, prompt_seconds))
        self.prompts = tokenizer.encode(self.waves)
        empty = [id for id, prompt in zip(self.ids, self.prompts, strict=True) if len(prompt) == 0]
        if empty:
            raise InputError(f"{empty[0]}: the prompt has no unit ({len(empty)} of {len(self.ids)} prompts; no result)")
        self.facts = {
            "tokenizer": tokenizer.digest,
            "rule": asdict(tokenizer.rule),
            "lm": lm.digest,
            "prompts": digest_bytes(b"".join(wave.tobytes() for wave in self.waves)),
            "ids": self.ids,
            "seconds": seconds,
            "seed": seed,
        }
        if units is not None:
            self.facts |= {"seconds": None, "units": units}
        if self.sampling:
            self.facts["sampling"] = self.sampling

    def at(self, temperature: float) -> list[Segmentation]:
        """Return the continuation of each prompt at a temperature."""

        def make(first: int, last: int) -> Iterator[Row]:
            # Each block draws from random streams of its own.
            seed = int(np.random.SeedSequence([self.seed, first // GENERATE_BLOCK]).generate_state(1)[0])
            prompts = self.prompts[first:last]
            options: dict[str, Any] = self.sampling | {"temperature": temperature, "seed": seed}
            generated = self.lm.generate(prompts, self.seconds, units=self.units, **options)
            for id, part in zip(self.ids[first:last], generated, strict=True):
                yield {"id": id, "unit": _units(part), "boundaries": part.boundaries.tolist()}

        store = BlockStore(self.folder, "units", {**self.facts, "temperature": temperature}, GENERATE_BLOCK)
        info = self.lm.info
        return [
            Segmentation.from_boundaries(
                row["boundaries"], unit=row["unit"], hop=info.hop, sample_rate=info.sample_rate
            )
            for row in _counted(f"units at {temperature:g}", store.rows(self.ids, make), len(self.ids))
        ]

    def units_at(self, temperature: float) -> list[list[int]]:
        """Return the units of each continuation at a temperature."""
        return [_units(part) for part in self.at(temperature)]


class TranscribedContinuations:
    """Transcripts of spoken continuations, and the texts of the recordings themselves.

    Args:
        continuations: the continuations as units.
        model: bundled name or folder of the model that vocodes them; its contents are part of what is kept.
        transcriber: the recogniser.
        normalize: normalisation of the texts.
        with_prompt: whether the prompt is vocoded and transcribed too.

    Attributes:
        levels: level of the speech by temperature, of those in ``texts_at``.

    Raises:
        FormatError: no such model, or one that cannot vocode these units.
    """

    def __init__(
        self,
        continuations: Continuations,
        model: str | Path,
        transcriber: Transcriber,
        *,
        normalize: NormalizeText = normalize_text,
        with_prompt: bool = False,
        device: str = "auto",
    ) -> None:
        voice = Resynthesizer.load(model, device=device)
        self._speech = SpeechModel(continuations.tokenizer, continuations.lm, voice)
        self._source, self._transcriber = continuations, transcriber
        self._recognizer = digest_path(transcriber.name) if Path(transcriber.name).is_dir() else transcriber.name
        self._facts = {**continuations.facts, "model": digest_path(find_model(model)), "with_prompt": with_prompt}
        self._normalize, self._with_prompt = normalize, with_prompt
        self.levels: dict[float, Level] = {}

    def texts_at(self, temperature: float) -> list[str]:
        """Return the normalised transcripts of the continuations at a temperature."""
        source, units = self._source, self._source.at(temperature)

        def waves(first: int, last: int) -> Iterable[Waveform]:
            block = (source.waves[first:last], source.prompts[first:last], units[first:last])
            for spoken in self._speech.speak_continuations(*block, seed=source.seed, with_prompt=self._with_prompt):
                yield resample(spoken.waveform, spoken.sample_rate, SAMPLE_RATE)

        facts = {**self._facts, "temperature": temperature}
        texts, self.levels[temperature] = self._transcribe(f"temperature {temperature:g}", "transcripts", facts, waves)
        return texts

    def real_texts(self) -> tuple[list[str], str]:
        """Return the normalised texts of the whole recordings, and their source: never some of each."""
        recordings = self._source.recordings
        texts = [self._normalize(recording.text or "") for recording in recordings]
        if all(texts):
            return texts, "text of the recordings"

        def waves(first: int, last: int) -> Iterable[Waveform]:
            return (recording.load() for recording in recordings[first:last])

        facts = {"recordings": recordings.contents()}
        return self._transcribe("real speech", "real", facts, waves)[0], "recognised from the recordings"

    def _transcribe(
        self, label: str, kind: str, facts: dict[str, Any], waves: Callable[[int, int], Iterable[Waveform]]
    ) -> tuple[list[str], Level]:
        """Return the normalised transcripts, and the level of what was heard; kept as the recogniser wrote them."""
        ids = self._source.ids

        def make(first: int, last: int) -> Iterator[Row]:
            heard, measured = tee(waves(first, last))
            transcripts = self._transcriber.transcribe_all(heard)
            for id, text, wave in zip(ids[first:last], transcripts, measured, strict=True):
                yield {"id": id, "text": text.strip(), "level": asdict(Level.of(wave))}

        facts = {**facts, "recognizer": self._recognizer, "settings": self._transcriber.settings}
        store = BlockStore(self._source.folder, kind, facts, TRANSCRIBE_BLOCK)
        rows = list(_counted(label, store.rows(ids, make), len(ids)))
        level = sum((Level(**row["level"]) for row in rows), Level())
        return [self._normalize(row["text"]) for row in rows], level


def _units(part: Segmentation) -> list[int]:
    return [] if part.unit is None else part.unit.tolist()


def _counted(label: str, rows: Iterable[Row], total: int) -> Iterator[Row]:
    with ProgressBar(label, total, closing_line=False) as bar:
        for row in rows:
            yield row
            bar.advance()
