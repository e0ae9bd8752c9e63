"""The speech language model: scores and continues segmentations (section 4.1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from syllablelm.core.artifact import COPIED, new_artifact, open_artifact
from syllablelm.core.errors import FormatError, InputError, check_positive
from syllablelm.core.models import find_model
from syllablelm.core.npy import read_npy
from syllablelm.core.segmentation import Segmentation
from syllablelm.core.sharing import ModelCard, Shareable, copied_record
from syllablelm.encoders.device import pick_device
from syllablelm.lm.backbone import load_decoder
from syllablelm.lm.decode import CachedDecoder, Sampler, Sampling
from syllablelm.lm.fused import Stepper, make_stepper, max_positions
from syllablelm.lm.ngram import Likelihood
from syllablelm.lm.packing import BLOCK_TOKENS
from syllablelm.lm.store import INFO_FILE, TokenInfo, TokenStore, check_units, read_info, write_info
from syllablelm.lm.transformers_files import write_model

FOLDER = "lm"
DURATIONS_FILE = "durations.npy"
Reduce = Literal["mean", "sum"]
Precision = Literal["auto", "float32", "bfloat16", "int8"]
# Rows of this number of batches are sorted by length together.
_BATCHES = 32


class SpeechLM(Shareable):
    """A language model of units: an OPT, a Llama, or another decoder of transformers.

    Args:
        model, info: causal language model of transformers over ``info.num_tokens`` units and BOS, and description of
            the tokens.
        durations: (num_units,) typical frames of each unit, the durations of generated units.
        batch_tokens: tokens scored or generated at once; bounds memory, never changes a result.
        digest: digest of the artifact it was loaded from; "" if unknown.
        context: context length in tokens, BOS included, up to the model's; by default that of the longest crop in
            training (later positions are untrained).

    Raises:
        FormatError, InputError: a model of another vocabulary, or an unsupported context length.
    """

    def __init__(
        self,
        model: nn.Module,
        info: TokenInfo,
        durations: npt.NDArray[np.int32],
        *,
        batch_tokens: int = 8192,
        digest: str = "",
        context: int | None = None,
    ) -> None:
        config: Any = model.config
        if config.vocab_size != info.num_tokens + info.has_bos or len(durations) != info.num_tokens:
            special = "one BOS" if info.has_bos else "no BOS"
            raise FormatError(
                f"a language model of {config.vocab_size} tokens does not fit {info.num_tokens} units and {special}"
            )
        self.model: Any = model.eval()
        self.int8 = False
        self.info, self.durations, self.batch_tokens, self.digest = info, durations, batch_tokens, digest
        positions = max_positions(model)
        if context is None:
            context = min(max(2, info.trained_tokens or positions), positions)
        elif not 2 <= context <= positions:
            raise InputError(f"context {context}: choose 2 to {positions}, the model's positions")
        self.context = context
        """Context length in tokens, BOS included."""

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        device: str | torch.device = "auto",
        batch_tokens: int = 8192,
        precision: Precision = "float32",
        context: int | None = None,
        revision: str | None = None,
    ) -> SpeechLM:
        """Open a language model.

        Args:
            name: a bundled name ("small"), a folder that ``train lm`` or ``train bundle`` wrote, or the hub id of one.
            device, revision: see ``load_encoder``.
            batch_tokens, context: see the class.
            precision: numeric precision: "bfloat16" changes mean scores by a few hundredths of a nat, and scores may
                then depend on the batch in their last digits; "auto" is bfloat16 on a GPU. "int8" (CPU, OPT and
                Llama-like models) generates faster, with matrix products in 8-bit integers; scores stay float32.

        Raises:
            FormatError: no such model, or a damaged one.
            InputError: an unsupported precision or context length.
        """
        if precision not in get_args(Precision):
            raise InputError(f"precision {precision!r}: choose {', '.join(get_args(Precision))}")
        folder = find_lm(name, revision)
        artifact = open_artifact(folder, "lm")
        info = read_info(folder / INFO_FILE)
        durations = read_npy(folder / DURATIONS_FILE)
        if durations.ndim != 1 or durations.dtype.kind not in "iu" or durations.min(initial=1) < 0:
            raise FormatError(f"{folder / DURATIONS_FILE}: a number of frames of each unit is needed")
        where = pick_device(device)
        half = precision == "bfloat16" or (precision == "auto" and where.type == "cuda")
        model = load_decoder(folder).to(where)
        # Not the buffers: angles of rotary positions need the precision.
        for parameter in model.parameters() if half else ():
            parameter.data = parameter.data.to(torch.bfloat16)
        try:
            lm = cls(model, info, durations, batch_tokens=batch_tokens, digest=artifact.digest, context=context)
        except FormatError as error:
            raise FormatError(f"{folder}: {error}") from None
        lm.artifact, lm.int8 = artifact, precision == "int8"
        if lm.int8:
            # Here, and not in the midst of a run, an unsupported family is refused.
            _ = lm._stepper
        return lm

    def __repr__(self) -> str:
        parameters = count_parameters(self.model)[1]
        return self._described(
            f"{self.model.config.model_type} of {parameters:,} parameters",
            f"{self.info.num_tokens} units of {float(self.durations.mean()) * self.info.frame_seconds:.2g} s",
            f"context of {self.context} tokens",
            str(self.device),
        )

    def write_folder(self, folder: Path) -> None:
        """Write a language model artifact into a new folder; transformers opens its model and tokenizer too."""
        parents, origin = {"lm": self.digest} if self.digest else {}, copied_record(self.artifact)
        extra = {COPIED: origin} if origin else {}
        with new_artifact(folder, "lm", config={}, seed=0, parents=parents, metrics={}, extra=extra) as payload:
            self.write_payload(payload)

    def write_payload(self, folder: Path) -> None:
        """Write the files of a language model artifact into a folder: network, words, vocabulary and durations."""
        write_model(self.model, self.info, folder)
        write_info(folder, self.info)
        np.save(folder / DURATIONS_FILE, self.durations)

    def model_card(self) -> ModelCard:
        """Return the contents of the model card; see ``Shareable``."""
        parameters, everything = count_parameters(self.model)
        facts: dict[str, object] = {
            "units": self.info.num_tokens,
            "BOS token": self.info.bos if self.info.has_bos else "none",
            "mean seconds of a unit": float(self.durations.mean()) * self.info.frame_seconds,
            "context in tokens": self.context,
            "network": f"{self.model.config.model_type} of {everything:,} parameters, embeddings aside {parameters:,}",
            "frame": f"{self.info.hop} samples at {self.info.sample_rate} Hz",
            "digest of the units' tokenizer": self.info.tokenizer or "unknown",
        }
        return ModelCard(
            "Speech language model of syllable-like units",
            "A causal language model that scores and continues speech as discrete units. AutoModelForCausalLM and "
            "AutoTokenizer of transformers open it too: the words of its tokens are `<Un0>`, `<Un1>` and so on.",
            "text-generation",
            ("speech-language-model", "speech-units", "syllables", "transformers"),
            facts,
            "import syllablelm as sl\n\nlm = sl.SpeechLM.load(MODEL)\n"
            "score = lm.score(units)  # a Segmentation of the tokenizer of its units\n"
            "more = lm.generate(units, seconds=10)",
        )

    @property
    def device(self) -> torch.device:
        return self.model.device

    @cached_property
    def _stepper(self) -> Stepper:
        return make_stepper(self.model, int8=self.int8)

    def decoder(self, batch: int, capacity: int) -> CachedDecoder:
        """Return a decoder that runs the model token by token."""
        return CachedDecoder(self._stepper, batch, capacity)

    @overload
    def score(self, segmentations: Segmentation, reduce: Reduce = "mean") -> float: ...
    @overload
    def score(self, segmentations: Sequence[Segmentation], reduce: Reduce = "mean") -> list[float]: ...
    def score(
        self, segmentations: Segmentation | Sequence[Segmentation], reduce: Reduce = "mean"
    ) -> float | list[float]:
        """Return the log-probability of the units after BOS in nats; units are deduplicated, as in training.

        A model without BOS scores the units after the first one.

        Args:
            segmentations: one or many, of any lengths; each is scored as if alone. Beyond the context length, each unit
                is scored after at least half a context (``score_windows``).
            reduce: "mean" per unit (as sWUGGY and sBLIMP are scored) or "sum".

        Raises:
            InputError: no units, or units outside the vocabulary.
        """
        if reduce not in ("mean", "sum"):
            raise InputError(f"reduce {reduce!r}: choose mean or sum")
        if isinstance(segmentations, Segmentation):
            return self.score([segmentations], reduce)[0]
        for index, segmentation in enumerate(segmentations):
            if len(segmentation) == 0:
                raise InputError(f"segmentation {index}: no unit to score; leave empty recordings out")
        rows = self.log_probs(segmentations)
        for index, row in enumerate(rows):
            if len(row) == 0:
                raise InputError(f"segmentation {index}: one unit; a model without BOS scores what follows another")
        return [float(row.mean() if reduce == "mean" else row.sum()) for row in rows]

    def log_probs(self, segmentations: Sequence[Segmentation]) -> list[npt.NDArray[np.float64]]:
        """Return the natural log-probability of each deduplicated unit of each segmentation: (num_units,) each.

        A model without BOS has none of the first unit.
        """
        return self._score_rows([self._units(segmentation, i) for i, segmentation in enumerate(segmentations)])

    def evaluate(self, store: TokenStore) -> Likelihood:
        """Return the likelihood of a token store, each recording scored as by ``score``."""
        total = Likelihood(0.0, 0, 0.0)
        rows: list[npt.NDArray[np.int32]] = []
        held = 0
        for index in range(len(store)):
            rows.append(store[index][0])
            held += len(rows[-1])
            # Many at a time, so that batches hold rows of similar length.
            if held >= _BATCHES * self.batch_tokens or index == len(store) - 1:
                total += self._evaluate(rows, store.info.loss_from)
                rows, held = [], 0
        return total + Likelihood(0.0, 0, store.seconds)

    def _evaluate(self, rows: list[npt.NDArray[np.int32]], loss_from: int) -> Likelihood:
        total, count = 0.0, 0
        for row, scored in zip(rows, self._score_rows(rows), strict=True):
            learned = row[len(row) - len(scored) :] >= loss_from
            total, count = total - float(scored[learned].sum()), count + int(learned.sum())
        return Likelihood(total, count, 0.0)

    def _score_rows(self, rows: Sequence[npt.NDArray[np.integer]]) -> list[npt.NDArray[np.float64]]:
        windows = [(i, *window) for i, row in enumerate(rows) for window in score_windows(len(row), self.context)]
        scored = self._score_tokens([rows[i][first:last] for i, first, last, _ in windows])
        parts: list[list[npt.NDArray[np.float64]]] = [[] for _ in rows]
        for (i, first, _, new), found in zip(windows, scored, strict=True):
            # What is scored of a window ends with it.
            parts[i].append(found[max(0, new - first - 1 + self.info.has_bos) :])
        return [np.concatenate(part) if part else np.zeros(0) for part in parts]

    @torch.inference_mode()
    def _score_tokens(self, rows: Sequence[npt.NDArray[np.integer]]) -> list[npt.NDArray[np.float64]]:
        result: list[npt.NDArray[np.float64]] = [np.zeros(0)] * len(rows)
        # Longest first: rows of a batch have similar lengths, and memory runs out in the first batch or never.
        lead = len(self.info.start)
        order = sorted((i for i in range(len(rows)) if len(rows[i]) + lead > 1), key=lambda i: -len(rows[i]))
        while order:
            width = len(rows[order[0]])
            count = max(1, self.batch_tokens // width)
            batch, order = order[:count], order[count:]
            tokens_BT = torch.full((len(batch), lead + width), self.info.num_tokens - 1 + lead)
            for row, i in zip(tokens_BT, batch, strict=True):
                row[lead : lead + len(rows[i])] = torch.from_numpy(rows[i].astype(np.int64))
            tokens_BT = tokens_BT.to(self.device)
            # No mask: padding is on the right, and attention is causal.
            logits = self.model(input_ids=tokens_BT[:, :-1], use_cache=False).logits.float()
            log_probs = logits.log_softmax(-1).gather(-1, tokens_BT[:, 1:, None])[..., 0].double().cpu().numpy()
            for row, i in zip(log_probs, batch, strict=True):
                result[i] = row[: lead + len(rows[i]) - 1]
        return result

    @overload
    def generate(
        self, prompts: Segmentation, seconds: float = 10.0, *, units: int | None = None, **sampling: Any
    ) -> Segmentation: ...
    @overload
    def generate(
        self,
        prompts: Sequence[Segmentation],
        seconds: float = 10.0,
        *,
        units: int | None = None,
        seeds: Sequence[int] | None = None,
        **sampling: Any,
    ) -> list[Segmentation]: ...
    def generate(
        self,
        prompts: Segmentation | Sequence[Segmentation],
        seconds: float = 10.0,
        *,
        units: int | None = None,
        seeds: Sequence[int] | None = None,
        **sampling: Any,
    ) -> Segmentation | list[Segmentation]:
        """Continue prompts; a sequence that outgrows the context goes on from BOS and its later half, to any length.

        Args:
            prompts: units of the prompts; an empty segmentation for none.
            seconds: length of the continuation, the sum of the typical durations of its units.
            units: number of units of the continuation instead.
            seeds: random seed of each prompt, which is then continued as it would be alone with that seed; by default
                the random streams differ by index.
            sampling: temperature (default 0.8; 0 is greedy), top_k, top_p and others, see ``Sampling``.

        Returns:
            the continuations alone, from frame 0 on; units have their typical durations.

        Raises:
            InputError: units outside the vocabulary, a prompt that does not fit the context, or too few or many seeds.
        """
        if isinstance(prompts, Segmentation):
            return self.generate([prompts], seconds, units=units, seeds=seeds, **sampling)[0]
        if seeds is not None and len(seeds) != len(prompts):
            raise InputError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}")
        check_positive("seconds", seconds)
        check_positive("units", 1 if units is None else units)
        if not prompts:
            return []
        rows = [self._prompt(prompt, i) for i, prompt in enumerate(prompts)]
        frames = max(1, round(seconds / self.info.frame_seconds)) if units is None else None
        # What a sequence may cost, and what each unit costs.
        limit = int(frames or units or 1)
        costs = np.ones_like(self.durations) if frames is None else self.durations
        options = Sampling(**sampling)
        own = [options.seed] * len(rows) if seeds is None else seeds
        # With a seed of its own, a prompt is continued as the first of its list.
        sampler = Sampler(options, range(len(rows)) if seeds is None else [0] * len(rows), own)
        return [self._timed(row, frames) for row in self._continue(rows, limit, sampler, costs)]

    def _most(self, longest: int, limit: int, costs: npt.NDArray[np.int32]) -> int:
        """Maximum number of tokens of a prompt and of a continuation whose units cost ``limit`` together."""
        return min(self.context, longest + -(-limit // int(costs.min())))

    def _continue(
        self, rows: list[list[int]], limit: int, sampler: Sampler, costs: npt.NDArray[np.int32]
    ) -> list[list[int]]:
        """Draw units until those of each sequence cost ``limit``; waiting prompts take the places of finished ones."""
        capacity = self._most(max(len(row) for row in rows), limit, costs)
        waiting = deque(range(len(rows)))
        present = [waiting.popleft() for _ in range(min(len(rows), max(1, self.batch_tokens // capacity)))]
        decoder = self.decoder(len(present), capacity)
        logits = self._without_bos(decoder.prefill([rows[i] for i in present]))
        windows = [list(row) for row in rows]
        drawn: list[list[int]] = [[] for _ in rows]
        spent = np.zeros(len(rows), dtype=np.int64)
        while True:
            tokens = sampler(logits, present, [windows[i] for i in present])
            for i, token in zip(present, tokens.tolist(), strict=True):
                if spent[i] < limit:
                    drawn[i].append(token)
                    windows[i].append(token)
                    spent[i] += costs[token]
            going = [place for place, i in enumerate(present) if spent[i] < limit]
            if not going and not waiting:
                return drawn
            # A finished sequence costs time, and may take up positions that another one needs.
            full = decoder.length >= decoder.capacity
            if not waiting and len(going) < len(present) and (full or 2 * len(going) <= len(present)):
                decoder.keep(going)
                present, tokens = [present[place] for place in going], tokens[going]
            if outgrown := [place for place, i in enumerate(present) if len(windows[i]) > self.context]:
                for place in outgrown:
                    windows[present[place]] = self.forget(windows[present[place]])
                # The latest token is read with those of the others.
                decoder.reread(outgrown, [windows[present[place]][:-1] for place in outgrown])
            if decoder.length >= decoder.capacity:
                decoder.keep(range(len(present)))
            logits = self._without_bos(decoder.step(tokens))
            if free := [place for place, i in enumerate(present) if spent[i] >= limit][: len(waiting)]:
                for place in free:
                    present[place] = waiting.popleft()
                joined = decoder.reread(free, [rows[present[place]] for place in free])
                logits = logits.index_copy(0, torch.tensor(free, device=logits.device), self._without_bos(joined))

    def forget(self, window: list[int]) -> list[int]:
        """What is kept of a sequence that has outgrown the context: its younger half, after BOS as in a crop."""
        return [*self.info.start, *window[-(self.context // 2) :]]

    def _without_bos(self, logits_BV: Tensor) -> Tensor:
        # BOS begins a recording and never occurs inside one.
        return logits_BV[:, : self.info.num_tokens]

    def _timed(self, units: list[int], frames: int | None) -> Segmentation:
        ends = np.cumsum(self.durations[units]).astype(np.int32)
        if frames is not None:
            ends[-1] = frames
        return Segmentation.from_boundaries(
            np.concatenate([[0], ends]), unit=units, hop=self.info.hop, sample_rate=self.info.sample_rate
        )

    def _units(self, segmentation: Segmentation, index: int) -> npt.NDArray[np.int32]:
        check_units(segmentation, self.info, f"segmentation {index}")
        return np.asarray(self.info.as_modelled(segmentation).unit, dtype=np.int32)

    def _prompt(self, segmentation: Segmentation, index: int) -> list[int]:
        """BOS and the units of a prompt."""
        units = self._units(segmentation, index)
        if len(units) >= self.context:
            positions = max_positions(self.model)
            more = f", or give a context of up to {positions}" if self.context < positions else ""
            raise InputError(
                f"segmentation {index}: {len(units)} units, but the model's context holds {self.context - 1}; "
                f"shorten it (--prompt-seconds){more}"
            )
        if len(units) == 0 and not self.info.has_bos:
            raise InputError(f"segmentation {index}: no units; a model without BOS continues at least one")
        return [*self.info.start, *units.tolist()]


def score_windows(length: int, context: int) -> list[tuple[int, int, int]]:
    """Return the windows in which a sequence longer than the context is scored.

    Returns:
        (first, last, new) of each window: it reads units ``first`` to ``last`` and scores those from ``new`` on. Every
        unit is scored once, after at least ``context // 2`` units, or all units before it.
    """
    windows = [(0, min(length, context), 0)] if length else []
    while windows and windows[-1][1] < length:
        new = windows[-1][1]
        first = new - context // 2
        windows.append((first, min(length, first + context), new))
    return windows


def typical_durations(store: TokenStore) -> npt.NDArray[np.int32]:
    """Return the (num_tokens,) mean frames of each unit, rounded, at least 1; unseen units get the overall mean."""
    counts, total = np.zeros(store.info.num_tokens, np.int64), np.zeros(store.info.num_tokens)
    # In blocks: the arrays may be larger than the memory.
    for at in range(0, len(store.tokens), BLOCK_TOKENS):
        tokens, frames = (array[at : at + BLOCK_TOKENS].astype(np.int64) for array in (store.tokens, store.frames))
        counts += np.bincount(tokens, minlength=len(counts))
        total += np.bincount(tokens, weights=frames, minlength=len(counts))
    mean = np.where(counts > 0, total / np.maximum(counts, 1), total.sum() / counts.sum())
    return np.maximum(np.rint(mean), 1).astype(np.int32)


def find_lm(name: str | Path, revision: str | None = None) -> Path:
    """Return the folder of a language model, by the names that ``SpeechLM.load`` takes; a FormatError for none."""
    folder = find_model(name, revision)
    for part in (folder, folder / FOLDER):
        if (part / INFO_FILE).is_file():
            return part
    raise FormatError(
        f"{name}: holds no language model; give a folder that 'train lm', 'train bundle' or 'convert --to lm' wrote"
    )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of non-embedding and of all parameters.

    Embeddings are those of tokens, at the input and, where it has its own, at the output, and of positions.
    """
    lm: Any = model
    total = sum(p.numel() for p in model.parameters())
    embeddings = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    embeddings.add(lm.get_output_embeddings().weight)
    return total - sum(weight.numel() for weight in embeddings), total
