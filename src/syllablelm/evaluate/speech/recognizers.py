"""Speech recognisers behind one interface, whose transcripts measure intelligibility; their registry.

The command line reads the registry for its help, so nothing heavy is imported at the top.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from syllablelm.core.errors import (
    LONGEST_MESSAGE,
    FormatError,
    InputError,
    SyllableLMError,
    first_line,
    import_optional,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Waveform = npt.NDArray[np.float32]


# A greedy search of a small Whisper fails on short clips (word error rate .16 against .07), and may repeat itself.
BEAMS, NO_REPEAT = 5, 4
WHISPER_SETTINGS = f"beam {BEAMS}, no repeated {NO_REPEAT}-grams"


class Recognizer(Protocol):
    """Waveform to words.

    Attributes:
        name: what it was opened by.
        settings: how it searches, in one line, for results.
    """

    name: str
    settings: str

    def transcribe(self, waveform: Waveform) -> str:
        """Return the words of a waveform (num_samples,) at 16 kHz."""
        ...


class PocketsphinxRecognizer:
    """The small English model that comes with pocketsphinx: offline, weak, the same everywhere."""

    name = "pocketsphinx"
    settings = "en-us, n-gram language model"
    # States and words followed per frame, in place of pocketsphinx's 30,000 and all: 1.8 times as fast, and no worse
    # on natural speech (twelve training recordings of LibriSpeech, 134 words: word error rate .20 both ways).
    search: ClassVar[dict[str, int]] = {"maxhmmpf": 3000, "maxwpf": 10}

    def __init__(self) -> None:
        from syllablelm.data.audio import SAMPLE_RATE

        library = import_optional(
            "pocketsphinx", "the recogniser 'pocketsphinx' needs pocketsphinx", "'syllablelm[asr]'"
        )
        self._decoder: Any = library.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", **self.search)

    def transcribe(self, waveform: Waveform) -> str:
        """Return the words of a waveform; "" where none was recognised."""
        samples = (waveform * 32767.0).round().clip(-32768, 32767).astype("int16")
        # It adapts to earlier recordings: a transcript must not depend on them, nor on the process.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        best = self._decoder.hyp()
        return "" if best is None else best.hypstr


class CTCRecognizer:
    """A Hugging Face CTC model, decoded greedily, by hub id or folder, such as "facebook/hubert-large-ls960-ft".

    Raises:
        FormatError: no such model.
    """

    settings = "CTC, greedy"

    def __init__(self, source: str, *, device: str = "auto") -> None:
        from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING

        self.name = source
        self._extractor, self._tokenizer, self._model = _open_parts(source, MODEL_FOR_CTC_MAPPING, device)

    def transcribe(self, waveform: Waveform) -> str:
        """Return the words of a waveform."""
        import torch

        from syllablelm.data.audio import SAMPLE_RATE

        inputs = self._extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            ids = self._model(**inputs).logits.argmax(-1)
        return self._tokenizer.batch_decode(ids)[0]


class WhisperRecognizer:
    """A Hugging Face Whisper model by hub id or folder, such as "openai/whisper-base"; pieces of at most 30 s.

    Raises:
        FormatError: no such model.
    """

    def __init__(self, source: str, *, device: str = "auto", language: str = "en") -> None:
        from transformers.generation.configuration_utils import GenerationConfig
        from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING
        from transformers.models.whisper.configuration_whisper import WhisperConfig

        self.name, self.settings = source, f"{_named(language)}, {WHISPER_SETTINGS}"
        classes = {WhisperConfig: MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING[WhisperConfig]}
        self._extractor, self._tokenizer, self._model = _open_parts(source, classes, device)
        self._start = _start_tokens(self._tokenizer, language)
        end = self._tokenizer.eos_token_id
        # No words of sounds and brackets, as OpenAI's own decoding.
        silent = {"suppress_tokens": self._model.config.suppress_tokens or None}
        begin = {"begin_suppress_tokens": self._model.config.begin_suppress_tokens or None}
        limits = {"max_new_tokens": 200, "num_beams": BEAMS, "no_repeat_ngram_size": NO_REPEAT}
        self._search = GenerationConfig(eos_token_id=end, pad_token_id=end, **limits, **silent, **begin)

    def transcribe(self, waveform: Waveform) -> str:
        """Return the words of a waveform."""
        import torch
        from transformers.generation.utils import GenerationMixin

        from syllablelm.data.audio import SAMPLE_RATE

        size, words = 30 * SAMPLE_RATE, []
        # Whisper's own generate() would detect languages and times.
        generate: Any = getattr(GenerationMixin, "generate")  # noqa: B009 (typed as if it had no use without an instance)
        start = torch.tensor([self._start], device=self._model.device)
        for first in range(0, len(waveform), size):
            piece = waveform[first : first + size]
            features = self._extractor(piece, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
            inputs = {"input_features": features.to(self._model.device), "decoder_input_ids": start}
            with torch.inference_mode():
                ids = generate(self._model, generation_config=self._search, **inputs)
            words.append(self._tokenizer.decode(ids[0], skip_special_tokens=True).strip())
        return " ".join(words)


class FasterWhisperRecognizer:
    """Whisper by faster-whisper: a folder of CTranslate2, or the name of a size such as "base" or "large-v3".

    Raises:
        MissingDependencyError: faster-whisper is not installed. FormatError: no such model.
    """

    def __init__(self, source: str, *, device: str = "auto", language: str = "en") -> None:
        from syllablelm.encoders.device import pick_device

        library = import_optional(
            "faster_whisper", f"the recogniser {source!r} needs faster-whisper", "'syllablelm[asr]'"
        )
        where = pick_device(device).type
        self.name, self.settings, self._language = source, f"{_named(language)}, {WHISPER_SETTINGS}", language
        try:
            self._model: Any = library.WhisperModel(
                source, device=where, compute_type="int8" if where == "cpu" else "float16"
            )
        except Exception as error:  # CTranslate2 and the hub raise errors of many kinds
            raise FormatError(
                f"{source}: not a Whisper model that faster-whisper can open ({first_line(error, LONGEST_MESSAGE)})"
            ) from None

    def transcribe(self, waveform: Waveform) -> str:
        """Return the words of a waveform."""
        import numpy as np

        pieces, _ = self._model.transcribe(
            np.asarray(waveform, dtype=np.float32),
            language=self._language,
            beam_size=BEAMS,
            no_repeat_ngram_size=NO_REPEAT,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return " ".join(piece.text.strip() for piece in pieces)


def _open_parts(source: str, classes: Any, device: str) -> tuple[Any, Any, Any]:
    """Return feature extractor, tokenizer and model of a folder or hub id."""
    from transformers.models.auto.feature_extraction_auto import AutoFeatureExtractor
    from transformers.models.auto.tokenization_auto import AutoTokenizer

    from syllablelm.encoders.device import pick_device
    from syllablelm.encoders.pretrained import open_part, open_transformers

    with _choices():
        folder, model = open_transformers(source, classes)
        parts = open_part(folder, AutoFeatureExtractor), open_part(folder, AutoTokenizer)
    return *parts, model.to(pick_device(device)).eval()


@contextmanager
def _choices() -> Generator[None, None, None]:
    """Add to the FormatError of a model that does not open what else may be given."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"not a recogniser that can be opened: {error}; choose {CHOICES}") from None


def _named(language: str) -> str:
    return "English" if language == "en" else f"language {language}"


def _start_tokens(tokenizer: Any, language: str) -> list[int]:
    """Return the tokens with which a transcript without times begins; English models know no language."""
    known = tokenizer.get_vocab()
    names = ("<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>")
    multilingual = "<|de|>" in known and "<|transcribe|>" in known
    if language != "en" and not (multilingual and names[1] in known):
        raise InputError(f"this model does not know the language {language!r}; take a multilingual one, or its code")
    return [known[name] for name in names if name in known and (multilingual or name not in names[1:3])]


DEFAULT_RECOGNIZER = PocketsphinxRecognizer.name
RECOGNIZERS: dict[str, Callable[..., Recognizer]] = {PocketsphinxRecognizer.name: PocketsphinxRecognizer}
"""Recognisers with a name of their own; any other name is that of a model, see `load_recognizer`."""
CHOICES = (
    f"{', '.join(RECOGNIZERS)}; a Whisper size (base, large-v3) or folder of CTranslate2, for faster-whisper; "
    "or a Hugging Face CTC or Whisper model (hub id or folder)"
)
"""What the name of a recogniser may be, for help texts and messages."""
SIZES = frozenset({"tiny", "base", "small", "medium", "large-v1", "large-v2", "large-v3", "large-v3-turbo", "turbo"})


def split_language(name: str) -> tuple[str, str]:
    """Split the name of a recogniser into model and code of its language: "base:es" into "base" and "es"."""
    match = re.fullmatch(r"(.+):([a-z]{2,3})", name)
    return (match[1], match[2]) if match is not None and not Path(name).exists() else (name, "en")


def load_recognizer(name: str, *, device: str = "auto") -> Recognizer:
    """Open a recogniser.

    Args:
        name: name in `RECOGNIZERS`; a size of Whisper ("base", "base.en", "large-v3") or a folder of CTranslate2, for
            faster-whisper; or the hub id or folder of a Hugging Face CTC or Whisper model. A Whisper may have the code
            of a language behind it ("base:es"); otherwise it hears English.
        device: "auto", "cpu" or "cuda".
    """
    model, language = split_language(name)
    if model in RECOGNIZERS:
        if language != "en":
            raise InputError(f"{name}: {model} knows English only; take a multilingual Whisper (base:{language})")
        return RECOGNIZERS[model]()
    path = Path(model)
    if (path / "model.bin").is_file() or (model.removesuffix(".en") in SIZES and not path.exists()):
        if language != "en" and model.endswith(".en"):
            raise InputError(f"{name}: {model} knows English only; take {model.removesuffix('.en')}:{language}")
        return FasterWhisperRecognizer(model, device=device, language=language)
    from syllablelm.core.models import find_model, read_model_config

    with _choices():
        folder = find_model(model)
        family = read_model_config(folder)["model_type"]
    # By its folder: a hub is asked once.
    recognizer: Recognizer
    if family == "whisper":
        recognizer = WhisperRecognizer(str(folder), device=device, language=language)
    elif language != "en":
        raise InputError(f"{name}: a CTC model has its own language; leave out :{language}")
    else:
        recognizer = CTCRecognizer(str(folder), device=device)
    recognizer.name = name
    return recognizer


class Transcriber:
    """A recogniser in this process, or ``workers`` of them, each with a copy, in processes of their own."""

    def __init__(self, name: str, *, device: str = "auto", workers: int = 1) -> None:
        if workers < 1:
            raise InputError(f"workers {workers}: must be at least 1")
        self.name, self._workers = name, workers
        # Opened here too, so that a missing recogniser is reported before any work.
        self._own: Recognizer = load_recognizer(name, device=device)
        self.settings = self._own.settings
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            # Not forked: this process may have threads of torch.
            self._pool = ProcessPoolExecutor(workers, get_context("spawn"), _open, (name, device))

    def __enter__(self) -> Transcriber:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def transcribe_all(self, waves: Iterable[Waveform]) -> Iterator[str]:
        """Return the words of each waveform at 16 kHz, in their order; few waveforms are held at once."""
        if self._pool is None:
            yield from map(self._own.transcribe, waves)
            return
        waiting: deque[Future[str]] = deque()
        try:
            for wave in waves:
                waiting.append(self._pool.submit(_transcribe, wave))
                if len(waiting) > 2 * self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise SyllableLMError(f"a process of the recogniser {self.name!r} died; use fewer --workers") from None


_recognizer: Recognizer | None = None


def _open(name: str, device: str) -> None:
    global _recognizer
    _recognizer = load_recognizer(name, device=device)


def _transcribe(wave: Waveform) -> str:
    if _recognizer is None:
        raise RuntimeError("this process has no recogniser")
    return _recognizer.transcribe(wave)
