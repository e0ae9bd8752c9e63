"""Speech recognisers behind one interface, whose transcripts measure intelligibility; their registry.

The command line reads the registry for its help, so nothing heavy is imported at the top.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from syllablelm.core.errors import FormatError, InputError, MissingDependencyError, SyllableLMError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Waveform = npt.NDArray[np.float32]


class Recognizer(Protocol):
    """Waveform to words."""

    name: str

    def transcribe(self, waveform: Waveform) -> str:
        """Return the words of a waveform (num_samples,) at 16 kHz."""
        ...


class PocketsphinxRecognizer:
    """The small English model that comes with pocketsphinx: offline, weak, the same everywhere."""

    name = "pocketsphinx"
    # States and words followed per frame, in place of pocketsphinx's 30,000 and all: 1.8 times as fast, and no worse
    # on natural speech (twelve training recordings of LibriSpeech, 134 words: word error rate .20 both ways).
    search: ClassVar[dict[str, int]] = {"maxhmmpf": 3000, "maxwpf": 10}

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise MissingDependencyError(
                "the recogniser 'pocketsphinx' is not installed: pip install 'syllablelm[asr]'"
            ) from None
        from syllablelm.data.audio import SAMPLE_RATE

        self._decoder: Any = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", **self.search)

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

    def __init__(self, source: str, *, device: str = "auto") -> None:
        from transformers.models.auto.feature_extraction_auto import AutoFeatureExtractor
        from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING
        from transformers.models.auto.tokenization_auto import AutoTokenizer

        from syllablelm.encoders.device import pick_device
        from syllablelm.encoders.pretrained import open_part, open_transformers

        self.name, self._device = source, pick_device(device)
        try:
            folder, model = open_transformers(source, MODEL_FOR_CTC_MAPPING)
            self._extractor: Any = open_part(folder, AutoFeatureExtractor)
            self._tokenizer: Any = open_part(folder, AutoTokenizer)
        except FormatError as error:
            raise FormatError(f"not a CTC recogniser that can be opened: {error}; choose {CHOICES}") from None
        self._model: Any = model.to(self._device).eval()

    def transcribe(self, waveform: Waveform) -> str:
        """Return the words of a waveform."""
        import torch

        from syllablelm.data.audio import SAMPLE_RATE

        inputs = self._extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            ids = self._model(**inputs).logits.argmax(-1)
        return self._tokenizer.batch_decode(ids)[0]


DEFAULT_RECOGNIZER = PocketsphinxRecognizer.name
RECOGNIZERS: dict[str, Callable[[], Recognizer]] = {PocketsphinxRecognizer.name: PocketsphinxRecognizer}
"""Recognisers with a name of their own; any other name is the hub id or folder of a CTC model."""
CHOICES = f"{', '.join(RECOGNIZERS)}, or a Hugging Face CTC model (hub id or folder)"
"""What the name of a recogniser may be, for help texts and messages."""


def load_recognizer(name: str, *, device: str = "auto") -> Recognizer:
    """Open a recogniser by its name in `RECOGNIZERS`, or by the hub id or folder of a CTC model."""
    return RECOGNIZERS[name]() if name in RECOGNIZERS else CTCRecognizer(name, device=device)


class Transcriber:
    """A recogniser in this process, or ``workers`` of them, each with a copy, in processes of their own."""

    def __init__(self, name: str, *, device: str = "auto", workers: int = 1) -> None:
        if workers < 1:
            raise InputError(f"workers {workers}: must be at least 1")
        self.name, self._workers = name, workers
        # Opened here too, so that a missing recogniser is reported before any work.
        self._own: Recognizer = load_recognizer(name, device=device)
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
