"""``evaluate continuation``: how likely and how varied a model's spoken continuations are, beside real speech."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.common import DEFAULT_MODEL, Device, Model, Seed, no_usable, note, print_json, read_recordings
from syllablelm.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from syllablelm.evaluate.continuation import TextStats
    from syllablelm.evaluate.text_lm import TextLM
    from syllablelm.evaluate.transcripts import Listener
    from syllablelm.lm.speech_lm import SpeechLM
    from syllablelm.manifest import Manifest
    from syllablelm.speech import SpeechModel
    from syllablelm.tokenizer import Tokenizer
    from syllablelm.types import Segmentation

# Prompts continued as one batch and kept in one file.
BLOCK = 32
TEMPERATURES = "0.3,0.6,0.9,1.2,1.5"

Audio = Annotated[
    list[str], typer.Argument(metavar="AUDIO", help="Files, folders, patterns, or one manifest (.csv, .jsonl).")
]
Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Units and transcripts are kept and resumed there.")]
Prompts = Annotated[int, typer.Option("--prompts", metavar="N", min=1, help="Recordings drawn; the paper's is 1000.")]
PromptSeconds = Annotated[float, typer.Option("--prompt-seconds", help="Length of a prompt.")]
Seconds = Annotated[float, typer.Option("--seconds", help="Length of a continuation.")]
Recognizer = Annotated[
    str, typer.Option("--recognizer", metavar="NAME|PATH", help="pocketsphinx, or a Hugging Face CTC model.")
]
TextModel = Annotated[
    str | None, typer.Option("--text-lm", metavar="NAME|PATH", help="A Hugging Face causal language model.")
]
Text = Annotated[
    list[Path] | None,
    typer.Option("--text", metavar="FILE", help="Instead of it: train a word 3-gram on this text; repeatable."),
]
Temperatures = Annotated[str, typer.Option("--temperatures", metavar="T,T,...", help="Where the search begins.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", min=0, help="Halvings of the interval that is found.")]
AverageOf = Annotated[Literal["mean", "median"], typer.Option("--average", help="Of the perplexities, in the search.")]
UnitsOnly = Annotated[bool, typer.Option("--units-only", help="Only repetition of units: needs no recogniser.")]
Workers = Annotated[int, typer.Option("--workers", metavar="N", min=1, help="Processes that recognise.")]
Resamples = Annotated[int, typer.Option("--resamples", metavar="N", min=2, help="Of the bootstrap over prompts.")]


def continuation(
    audio: Audio,
    out: Out,
    model: Model = DEFAULT_MODEL,
    prompts: Prompts = 1000,
    prompt_seconds: PromptSeconds = 3.0,
    seconds: Seconds = 10.0,
    recognizer: Recognizer = "pocketsphinx",
    text_lm: TextModel = None,
    text: Text = None,
    temperatures: Temperatures = TEMPERATURES,
    steps: Steps = 4,
    average: AverageOf = "mean",
    units_only: UnitsOnly = False,
    workers: Workers = 1,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score spoken continuations: perplexity at the real texts' variety, variety at their perplexity (GSLM)."""
    if not units_only and (text_lm is None) == (not text):
        raise InputError(
            "give either --text-lm (a Hugging Face model) or --text (a file to learn from), or --units-only"
        )
    if prompt_seconds <= 0 or seconds <= 0:
        raise InputError("--prompt-seconds and --seconds must be above 0")
    grid = _temperatures(temperatures)
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    from syllablelm.evaluate.continuation import draw_recordings

    chosen = draw_recordings(manifest, prompts, prompt_seconds, seed)
    task = _Task(out, seconds, seed, device, resamples)
    drawer = _UnitDrawer.open(model, chosen, prompt_seconds, task)
    head: dict[str, Any] = {
        "evaluation": "continuation",
        "model": model,
        "data": {
            "name": " ".join(audio),
            "recordings": len(manifest),
            "unusable": len(skipped),
            "prompts": prompts,
            "seconds": prompts * prompt_seconds,
        },
        "prompt_seconds": prompt_seconds,
        "continuation_seconds": seconds,
        "seed": seed,
    }
    real_units = drawer.real_repetition(manifest, prompts)
    if units_only:
        rows = [{"temperature": at, "units": drawer.repetition(at)} for at in grid]
        print_json({**head, "protocol": _UNITS_PROTOCOL, "temperatures": rows, "real_units": real_units})
        return
    scored_by = _open_text_lm(text_lm, text or [], manifest, device)
    from syllablelm.evaluate.continuation import TemperatureSweep, resample_weights
    from syllablelm.evaluate.transcripts import Listener

    with Listener(recognizer, device=device, workers=workers) as listener:
        speaker = _Speaker.open(model, drawer, listener)
        oracle, source = speaker.oracle(scored_by)
        sweep = TemperatureSweep(lambda at: speaker.stats(at, scored_by), oracle, grid, steps=steps, average=average)
        weights = resample_weights(prompts, resamples, seed)
        headline = sweep.headline(weights)
    rows = [
        {"temperature": at, **stats.to_dict(weights), "units": drawer.repetition(at)}
        for at, stats in sorted(sweep.points.items())
    ]
    protocol = {**_UNITS_PROTOCOL, **_TEXT_PROTOCOL, "ppx_average": average, "resamples": resamples}
    print_json(
        {
            **head,
            "recognizer": recognizer,
            "text_lm": scored_by.describe(),
            "protocol": protocol,
            **headline,
            "oracle": {"source": source, **oracle.to_dict(weights)},
            "temperatures": rows,
            "real_units": real_units,
        }
    )


_UNITS_PROTOCOL = {
    "prompts": "beginning of recordings drawn by seed",
    "distinct_n": "within each sequence, summed over sequences; intervals are 95 % bootstrap over sequences",
}
_TEXT_PROTOCOL = {
    "vert": "100 x geometric mean of mean self-BLEU-2 and mean auto-BLEU-2 (weights .5 .5, no brevity penalty)",
    "ppx": "exp(mean negative log-likelihood per token) of each text; empty texts are left out and counted",
    "two_sigma": "twice the standard deviation over bootstrap resamples of prompts, with each prompt's BLEUs held; at "
    "the oracle, the whole search is repeated in each resample on the measured temperatures, the oracle's texts too",
    "between_temperatures": "linear; nothing is extrapolated",
}


def _temperatures(text: str) -> list[float]:
    try:
        grid = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        raise InputError(f"--temperatures {text!r}: numbers with commas between them are needed") from None
    if not grid or not 0 <= grid[0] <= grid[-1] < float("inf"):
        raise InputError(f"--temperatures {text!r}: at least one is needed, 0 or above and finite")
    return grid


def _open_text_lm(name: str | None, files: list[Path], manifest: Manifest, device: str) -> TextLM:
    from syllablelm.evaluate.resynthesis import normalize_text
    from syllablelm.evaluate.text_lm import CausalTextLM, train_ngram

    if name is not None:
        return CausalTextLM(name, device=device)
    # What the oracle says must not have been learned by heart.
    texts = {normalize_text(recording.text) for recording in manifest if recording.text}
    return train_ngram(files, skip_ids={recording.id for recording in manifest}, skip_texts=texts)


@dataclass(frozen=True)
class _Task:
    """What all temperatures share."""

    out: Path
    seconds: float
    seed: int
    device: str
    resamples: int


class _UnitDrawer:
    """Continues the prompts as units, kept on disk by temperature."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        lm: SpeechLM,
        recordings: Manifest,
        waves: list[npt.NDArray[np.float32]],
        task: _Task,
    ) -> None:
        from syllablelm.artifact import digest_bytes

        self.tokenizer, self.lm, self.recordings, self.task, self.waves = tokenizer, lm, recordings, task, waves
        self.ids = [recording.id for recording in recordings]
        self.prompts = tokenizer.encode(waves)
        empty = [id for id, prompt in zip(self.ids, self.prompts, strict=True) if len(prompt) == 0]
        if empty:
            raise InputError(f"{empty[0]}: the prompt has no unit ({len(empty)} of {len(self.ids)} prompts; no result)")
        self.facts = {
            "tokenizer": tokenizer.digest,
            "rule": asdict(tokenizer.rule),
            "lm": lm.digest,
            "prompts": digest_bytes(b"".join(wave.tobytes() for wave in waves)),
            "ids": self.ids,
            "seconds": task.seconds,
            "seed": task.seed,
        }

    @classmethod
    def open(cls, model: str, recordings: Manifest, prompt_seconds: float, task: _Task) -> _UnitDrawer:
        from syllablelm.cli.common import load_tokenizer
        from syllablelm.evaluate.continuation import first_seconds
        from syllablelm.lm.speech_lm import SpeechLM
        from syllablelm.lm.store import check_tokenizer

        tokenizer = load_tokenizer(model, device=task.device)
        lm = SpeechLM.load(model, device=task.device)
        check_tokenizer("language model", lm.info.tokenizer, tokenizer.digest)
        return cls(tokenizer, lm, recordings, list(first_seconds(recordings, prompt_seconds)), task)

    def drawn(self, temperature: float) -> list[Segmentation]:
        """Continuations of all prompts."""
        from syllablelm.evaluate.continuation import continue_units
        from syllablelm.evaluate.transcripts import BlockStore
        from syllablelm.types import Segmentation

        def make(first: int, last: int) -> Iterator[dict[str, Any]]:
            task = self.task
            block = self.prompts[first:last]
            found = continue_units(self.lm, block, task.seconds, temperature, task.seed, first // BLOCK)
            for id, segments in zip(self.ids[first:last], found, strict=True):
                unit = [] if segments.unit is None else segments.unit.tolist()
                yield {"id": id, "unit": unit, "boundaries": segments.boundaries.tolist()}

        store = BlockStore(self.task.out, "units", {**self.facts, "temperature": temperature}, BLOCK)
        info = self.lm.info
        return [
            Segmentation.from_boundaries(
                row["boundaries"], unit=row["unit"], hop=info.hop, sample_rate=info.sample_rate
            )
            for row in store.rows(self.ids, make)
        ]

    def repetition(self, temperature: float) -> dict[str, Any] | None:
        """How much the continuations repeat themselves."""
        from syllablelm.evaluate.continuation import repetition_row

        rows = [[] if part.unit is None else part.unit.tolist() for part in self.drawn(temperature)]
        return repetition_row(rows, resamples=self.task.resamples, seed=self.task.seed)

    def real_repetition(self, manifest: Manifest, count: int) -> dict[str, Any] | None:
        """The same of real speech: the beginning of recordings that last as long as a continuation."""
        from syllablelm.evaluate.continuation import cut_units, draw_recordings, first_seconds, repetition_row

        seconds = self.task.seconds
        long = manifest.filter(lambda recording: recording.seconds >= seconds)
        if not long:
            note(f"no recording lasts {seconds:g} s: repetition of real speech is not measured")
            return None
        chosen = draw_recordings(long, min(count, len(long)), seconds, self.task.seed)
        found = self.tokenizer.encode(list(first_seconds(chosen, seconds)))
        rows = [cut_units(segments, seconds) for segments in found]
        return repetition_row(rows, resamples=self.task.resamples, seed=self.task.seed)


class _Speaker:
    """Speaks the continuations and has them recognised, kept on disk by temperature."""

    def __init__(self, speech: SpeechModel, identity: str, drawer: _UnitDrawer, listener: Listener) -> None:
        self._speech, self._drawer, self._listener = speech, drawer, listener
        self._facts = {**drawer.facts, "model": identity, "recognizer": _identity(listener.name)}

    @classmethod
    def open(cls, model: str, drawer: _UnitDrawer, listener: Listener) -> _Speaker:
        from syllablelm.artifact import digest_path
        from syllablelm.speech import SpeechModel
        from syllablelm.tokenizer import BUNDLED
        from syllablelm.vocoder.resynthesizer import Resynthesizer

        voice = Resynthesizer.load(model, device=drawer.task.device)
        folder = Path(model) if Path(model).is_dir() else BUNDLED / model
        return cls(SpeechModel(drawer.tokenizer, drawer.lm, voice), digest_path(folder), drawer, listener)

    def stats(self, temperature: float, lm: TextLM) -> TextStats:
        """Scores of what was heard at a temperature."""
        from syllablelm.evaluate.continuation import TextStats

        drawn = self._drawer.drawn(temperature)

        def waves(first: int, last: int) -> Iterator[npt.NDArray[np.float32]]:
            from syllablelm.audio import SAMPLE_RATE, resample

            for index in range(first, last):
                wave, prompt = self._drawer.waves[index], self._drawer.prompts[index]
                spoken = self._speech.speak_continuation(wave, prompt, drawn[index], seed=self._drawer.task.seed)
                yield resample(spoken.waveform, spoken.sample_rate, SAMPLE_RATE)

        facts = {**self._facts, "temperature": temperature}
        return TextStats.of(self._heard(f"temperature {temperature:g}", "transcripts", facts, waves), lm)

    def oracle(self, lm: TextLM) -> tuple[TextStats, str]:
        """Scores of the real texts of the recordings, and where they are from: never some of each."""
        from syllablelm.evaluate.continuation import TextStats
        from syllablelm.evaluate.resynthesis import normalize_text

        recordings = self._drawer.recordings
        texts = [normalize_text(recording.text or "") for recording in recordings]
        if all(texts):
            return TextStats.of(texts, lm), "text of the recordings"
        note(f"{texts.count('')} of {len(texts)} recordings have no text: the oracle is what is heard in all of them")

        def waves(first: int, last: int) -> Iterator[npt.NDArray[np.float32]]:
            for recording in recordings[first:last]:
                yield recording.load()

        facts = {
            "recognizer": self._facts["recognizer"],
            "recordings": [[r.id, r.path.stat().st_size, r.start, r.num_samples] for r in recordings],
        }
        heard = self._heard("real speech", "real", facts, waves)
        return TextStats.of(heard, lm), "recognised from the recordings"

    def _heard(
        self,
        label: str,
        kind: str,
        facts: dict[str, Any],
        waves: Callable[[int, int], Iterator[npt.NDArray[np.float32]]],
    ) -> list[str]:
        """What the recogniser hears, from the store where it is there."""
        from syllablelm.evaluate.resynthesis import normalize_text
        from syllablelm.evaluate.transcripts import BlockStore
        from syllablelm.progress import ProgressBar

        ids = self._drawer.ids

        def make(first: int, last: int) -> Iterator[dict[str, Any]]:
            heard = self._listener.hear(waves(first, last))
            for id, text in zip(ids[first:last], heard, strict=True):
                yield {"id": id, "text": normalize_text(text)}

        texts = []
        with ProgressBar(label, len(ids), closing_line=False) as bar:
            for row in BlockStore(self._drawer.task.out, kind, facts, BLOCK).rows(ids, make):
                texts.append(row["text"])
                bar.advance()
        return texts


def _identity(recognizer: str) -> str:
    """A recogniser's name, or the contents of its folder."""
    from syllablelm.artifact import digest_path

    return digest_path(recognizer) if Path(recognizer).is_dir() else recognizer
