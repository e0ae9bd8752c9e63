"""Language models of text, which measure how likely a transcript is as language."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import text_lines
from syllablelm.core.results import Record, json_key
from syllablelm.evaluate.speech.error_rates import NormalizeText, normalize_text
from syllablelm.evaluate.speech.word_ngram import WordNgram
from syllablelm.formats.transcript import is_transcript, read_transcript


@dataclass(frozen=True)
class TextScore:
    """Likelihood of one text: negative log-probability in nats, number of tokens of the model, and of unknown ones."""

    nats: float
    tokens: int
    unknown: int = 0

    @property
    def perplexity(self) -> float:
        """exp(nats per token); nan for a text without tokens."""
        return math.exp(min(self.nats / self.tokens, 700.0)) if self.tokens else math.nan


@dataclass(frozen=True, kw_only=True)
class TextLMInfo(Record):
    """A text language model, as a result names it: its kind, what it scores and, trained here, what on."""

    name: str
    kind: str
    tokens: str | None = json_key(omit_none=True)
    vocabulary: int | None = json_key(omit_none=True)
    trained_on_words: int | None = json_key(omit_none=True)
    sentences_left_out: int | None = json_key(omit_none=True)
    unknown_words: str | None = json_key(omit_none=True)
    sentence_end: str = "not scored"


class NgramTextLM:
    """A ``WordNgram`` behind the common interface; it scores words after the sentence's start, not the end."""

    def __init__(self, model: WordNgram, name: str, left_out: int = 0) -> None:
        self.model = model
        self.info = TextLMInfo(
            name=name,
            kind=f"interpolated Kneser-Ney {model.order}-gram of words",
            vocabulary=len(model.words),
            trained_on_words=model.trained_on,
            sentences_left_out=left_out,
            unknown_words="probability of <unk> times that of the spelling",
        )

    def score(self, texts: Sequence[str]) -> list[TextScore]:
        """Return the likelihood of each text, word by word."""
        rows = [text.split() for text in texts]
        return [
            TextScore(-float(self.model.log_probs(row).sum()), len(row), sum(map(self.model.is_unknown, row)))
            for row in rows
        ]


class CausalTextLM:
    """A Hugging Face causal language model; scores the model's own tokens after its BOS, not the end of the text.

    Args:
        source: hub id or folder, such as "openai-community/gpt2".
        batch_tokens: positions scored at once; bounds memory, never changes a result.
        own_start: begin a text as the tokenizer does by itself; where it adds no BOS, the first token is not scored.

    Raises:
        FormatError: not such a model, or one without a token that begins a text.
    """

    def __init__(self, source: str, *, device: str = "auto", batch_tokens: int = 4096, own_start: bool = False) -> None:
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
        from transformers.models.auto.tokenization_auto import AutoTokenizer

        from syllablelm.encoders.device import pick_device
        from syllablelm.encoders.pretrained import open_part, open_transformers

        self.info = TextLMInfo(name=source, kind="causal language model", tokens="its own")
        self._device, self._batch_tokens = pick_device(device), batch_tokens
        try:
            folder, model = open_transformers(source, MODEL_FOR_CAUSAL_LM_MAPPING)
            self._tokenizer: Any = open_part(folder, AutoTokenizer)
        except FormatError as error:
            raise FormatError(f"not a causal language model that can be opened: {error}") from None
        self._model: Any = model.to(self._device).eval()
        begins = self._tokenizer.bos_token_id
        # Models without a BOS (GPT-2's kin) begin a text after the end of the one before.
        self._bos = begins if begins is not None else self._tokenizer.eos_token_id
        self._own_start = own_start
        if self._bos is None and not own_start:
            raise FormatError(f"{source}: its tokenizer has neither a BOS nor an EOS token to begin a text with")

    def score(self, texts: Sequence[str]) -> list[TextScore]:
        """Return the likelihood of each text, in batches of similar length; InputError for one beyond the context."""
        import torch

        start = [] if self._own_start else [self._bos]
        rows = [
            [*start, *self._tokenizer(text, add_special_tokens=self._own_start)["input_ids"]] if text else []
            for text in texts
        ]
        context = getattr(self._model.config, "max_position_embeddings", None)
        longest = max(map(len, rows), default=0)
        if context is not None and longest > context:
            raise InputError(f"{self.info.name}: a text of {longest} tokens does not fit its context of {context}")
        scores = [TextScore(0.0, 0)] * len(rows)
        # The first token is given.
        order = sorted((i for i in range(len(rows)) if len(rows[i]) > 1), key=lambda i: -len(rows[i]))
        while order:
            count = max(1, self._batch_tokens // len(rows[order[0]]))
            batch, order = order[:count], order[count:]
            tokens_BT = torch.zeros(len(batch), len(rows[batch[0]]), dtype=torch.int64)
            mask_BT = torch.zeros_like(tokens_BT)
            for row, i in enumerate(batch):
                tokens_BT[row, : len(rows[i])] = torch.tensor(rows[i])
                mask_BT[row, : len(rows[i])] = 1
            tokens_BT, mask_BT = tokens_BT.to(self._device), mask_BT.to(self._device)
            with torch.inference_mode():
                logits = self._model(input_ids=tokens_BT[:, :-1], attention_mask=mask_BT[:, :-1]).logits.float()
            nats_BT = -logits.log_softmax(-1).gather(-1, tokens_BT[:, 1:, None])[..., 0].double()
            sums = (nats_BT * mask_BT[:, 1:]).sum(1).tolist()
            for i, nats in zip(batch, sums, strict=True):
                scores[i] = TextScore(nats, len(rows[i]) - 1)
        return scores


TextLM = NgramTextLM | CausalTextLM


def train_ngram(
    files: Sequence[Path],
    *,
    order: int = 3,
    skip_ids: Collection[str] = (),
    skip_texts: Collection[str] = (),
    normalize: NormalizeText = normalize_text,
) -> NgramTextLM:
    """Learn an n-gram model of words from text files.

    Args:
        files: plain text, a sentence per line; in ``*.trans.txt``, as LibriSpeech has them, an id stands before each.
        order: length of the n-grams.
        skip_ids, skip_texts: ids, and normalised texts, that are left out because they will be scored.
        normalize: normalisation of the sentences.

    Raises:
        InputError: no word in them. FormatError: no such file, or not UTF-8.
    """
    sentences: list[list[str]] = []
    left_out = 0
    for id, text in (pair for file in files for pair in read_sentences(file, normalize)):
        if id in skip_ids or text in skip_texts:
            left_out += 1
        else:
            sentences.append(text.split())
    name = ", ".join(str(file) for file in files)
    try:
        return NgramTextLM(WordNgram(sentences, order), name, left_out)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def read_sentences(file: Path, normalize: NormalizeText = normalize_text) -> Iterator[tuple[str | None, str]]:
    """Return the normalised sentences of a text file, with their ids where the file is ``*.trans.txt``."""
    if not file.is_file():
        raise FormatError(f"{file}: no such text file")
    lines = read_transcript(file) if is_transcript(file) else ((None, line) for _, line in text_lines(file))
    for id, line in lines:
        if text := normalize(line):
            yield id, text
