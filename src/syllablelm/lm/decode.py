"""Fast decoding: sampling, and a key-value cache of fixed size.

Shape suffixes: B sequences, T new tokens, S cached positions, H heads, K key-value heads, D model dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from syllablelm.core.config import check_seed
from syllablelm.core.errors import FormatError, InputError, check_positive, first_line
from syllablelm.encoders.weights import BUILD_FAULTS
from syllablelm.lm.fused import FusedDecoder, Stepper, make_stepper

if TYPE_CHECKING:
    from syllablelm.lm.compiled_step import CompiledStep


@dataclass(frozen=True)
class Sampling:
    """Sampling of the next token; an InputError for a value out of range.

    Args:
        temperature: sampling temperature; 0, or below a millionth, is greedy.
        top_k, top_p: top-k sampling (0 is off) and nucleus threshold (1 is off).
        seed: random seed; sequence i of a batch draws the same in any batch.
        repetition_penalty: divisor of the positive logits, factor of the negative ones, of units that a sequence has
            already (CTRL, Keskar et al. 2019; 1 is off).
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature, zero=True)
        check_positive("repetition_penalty", self.repetition_penalty)
        if not isinstance(self.top_k, Integral) or self.top_k < 0:
            raise InputError(f"top_k {self.top_k}: must be a whole number, 0 or above")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p}: must be above 0 and at most 1")
        check_seed(self.seed)


class Sampler:
    """Draws tokens with one random stream per sequence, so that a batch gives what each sequence gives alone.

    Args:
        sampling: sampling options.
        indices, seeds: index of each sequence, which with its seed (by default ``sampling.seed``) defines its stream.
    """

    def __init__(self, sampling: Sampling, indices: Sequence[int], seeds: Sequence[int] | None = None) -> None:
        self.sampling = sampling
        own = [sampling.seed] * len(indices) if seeds is None else seeds
        for seed in own:
            check_seed(seed)
        self._streams = [np.random.default_rng((seed, index)) for seed, index in zip(own, indices, strict=True)]

    def __call__(
        self, logits_BV: Tensor, rows: Sequence[int] | None = None, seen: Sequence[Sequence[int]] = ()
    ) -> Tensor:
        """Draw one token per row of logits, (B,) int64.

        Args:
            logits_BV: logits of the next tokens.
            rows: sequences of the rows, by default all of them.
            seen: tokens so far of each row, for the penalty on repetition; those without a logit do not count.
        """
        if self.sampling.repetition_penalty != 1 and seen:
            logits_BV = _penalize(logits_BV, seen, self.sampling.repetition_penalty)
        # Logits divided by less come near the end of the floating-point numbers.
        if self.sampling.temperature < 1e-6:
            return logits_BV.argmax(-1)
        probs_BV = self.probabilities(logits_BV)
        streams = self._streams if rows is None else [self._streams[row] for row in rows]
        draws = torch.tensor([[stream.random()] for stream in streams], dtype=probs_BV.dtype)
        total_BV = probs_BV.cumsum(-1)
        whole_B1 = total_BV[:, -1:]
        # Rounding must not push a draw past the last token with any probability, where the sum first reaches its end.
        aim_B1 = torch.minimum(draws.to(whole_B1.device) * whole_B1, whole_B1.nextafter(torch.zeros_like(whole_B1)))
        return torch.searchsorted(total_BV, aim_B1, right=True)[:, 0]

    def probabilities(self, logits_BV: Tensor) -> Tensor:
        """Return the next-token distribution after temperature, top-k and top-p: (B, V), float64."""
        options = self.sampling
        scaled = logits_BV.double() / options.temperature
        if 0 < options.top_k < scaled.shape[-1]:
            # By rank, not by value: ties at the edge must not let more than k tokens in.
            kept = torch.zeros_like(scaled, dtype=torch.bool).scatter(-1, scaled.topk(options.top_k).indices, True)
            scaled = scaled.masked_fill(~kept, -torch.inf)
        probs = scaled.softmax(-1)
        if options.top_p < 1:
            ordered, order = probs.sort(stable=True, descending=True)
            # The token that crosses the threshold still belongs to the nucleus.
            outside = ordered.cumsum(-1) - ordered >= options.top_p
            probs = probs.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), 0.0)
            probs = probs / probs.sum(-1, keepdim=True)
        return probs


def _penalize(logits_BV: Tensor, seen: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Return logits with those of seen tokens lowered."""
    known_BV = torch.zeros_like(logits_BV, dtype=torch.bool)
    for row, tokens in enumerate(seen):
        known_BV[row, [token for token in set(tokens) if token < logits_BV.shape[1]]] = True
    lowered_BV = torch.where(logits_BV < 0, logits_BV * penalty, logits_BV / penalty)
    return torch.where(known_BV, lowered_BV, logits_BV)


class CachedDecoder:
    """Runs a language model token by token.

    Args:
        weights: the model, by ``make_stepper``.
        batch: number of sequences, which advance together.
        capacity: positions of the cache, at most the model's (else an InputError).
        static: whether steps have fixed shapes (``StaticStep``) or growing ones. By default fixed on a GPU, where they
            are CUDA graphs, and those of ``CompiledStep`` where it can run the model and is faster. Models run by
            transformers always have growing ones.

    Shorter prompts are padded on the left, and the padding is masked, so that a sequence gives the same alone and in a
    batch.
    """

    def __init__(self, weights: Stepper, batch: int, capacity: int, *, static: bool | None = None) -> None:
        if capacity > weights.context:
            raise InputError(
                f"{capacity} tokens do not fit the model's context of {weights.context}; ask for fewer seconds"
            )
        self.weights, self.capacity = weights, capacity
        on_gpu = weights.embedding.device.type == "cuda"
        self._is_static = weights.takes_slots and (on_gpu if static is None else static)
        self._is_compiled = static is None and isinstance(weights, FusedDecoder) and weights.can_compile
        self._fixed: StaticStep | CompiledStep | None = None
        self.keys, self.values = (self._room(batch) for _ in range(2))
        self.length = 0
        # Position of the first token of each sequence, and the mask of its tokens; None without padding.
        self._first_B: Tensor | None = None
        self._own_BS: Tensor | None = None

    def _room(self, batch: int) -> list[Tensor]:
        embedding = self.weights.embedding
        shapes = [(batch, heads, self.capacity, size) for heads, size in self.weights.cache_shapes]
        # Zeros: free slots are masked, but a masked value that is not a number would spread.
        return [torch.zeros(shape, dtype=embedding.dtype, device=embedding.device) for shape in shapes]

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Prefill the cache with prompts of at least one token; return the logits of the next token, (B, V)."""
        device = self.weights.embedding.device
        width = max(len(prompt) for prompt in prompts)
        tokens_BT = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in zip(tokens_BT, prompts, strict=True):
            row[width - len(prompt) :] = torch.tensor(prompt)
        self._pad(torch.tensor([width - len(prompt) for prompt in prompts], device=device))
        self.length = 0
        return self._advance(tokens_BT.to(device))

    def _pad(self, first_B: Tensor) -> None:
        """Set the amount of padding before each sequence."""
        self._first_B = self._own_BS = None
        if self._fixed is not None:
            self._fixed.first_B1.copy_(first_B[:, None])
        if bool(first_B.any()):
            self._first_B = first_B
            self._own_BS = torch.arange(self.capacity, device=first_B.device) >= first_B[:, None]

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Keep selected sequences; drop positions that are padding in all of them."""
        index_R = torch.tensor(rows, device=self.weights.embedding.device)
        first_R = torch.zeros_like(index_R) if self._first_B is None else self._first_B[index_R]
        spare = int(first_R.min())
        for cache in (self.keys, self.values):
            for layer, kept in enumerate(cache):
                fresh = kept.new_zeros(len(rows), *kept.shape[1:])
                fresh[:, :, : self.length - spare] = kept[index_R, :, spare : self.length]
                cache[layer] = fresh
        self.length -= spare
        self._fixed = None
        self._pad(first_R - spare)

    @torch.inference_mode()
    def reread(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> Tensor:
        """Replace selected sequences by others, which fit into the cache.

        Returns:
            (rows, V) logits of the next token of each.
        """
        part = CachedDecoder(self.weights, len(rows), max(len(prompt) for prompt in prompts))
        logits_BV = part.prefill(prompts)
        index_R = torch.tensor(rows, device=self.weights.embedding.device)
        lack = max(0, part.length - self.length)
        for cache in (*self.keys, *self.values) if lack else ():
            cache[:, :, lack : part.length] = cache[:, :, : self.length].clone()
        self.length += lack
        for caches, fresh in ((self.keys, part.keys), (self.values, part.values)):
            for cache, new in zip(caches, fresh, strict=True):
                cache[index_R, :, self.length - part.length : self.length] = new
        batch = self.keys[0].shape[0]
        first_B = (
            torch.zeros(batch, dtype=torch.long, device=index_R.device) if self._first_B is None else self._first_B
        ) + lack
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=index_R.device)
        self._pad(first_B.index_copy(0, index_R, self.length - lengths))
        return logits_BV

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Append one token to every sequence; return the logits of the next one, (B, V)."""
        if not (self._is_static or self._is_compiled):
            return self._advance(tokens_B[:, None])
        if self.length >= self.capacity:
            raise IndexError(f"all {self.capacity} positions of the cache are taken")
        if self._fixed is None:
            self._fixed = self._make_step()
            if self._first_B is not None:
                self._fixed.first_B1.copy_(self._first_B[:, None])
        if not self._fixed.pays(self.length):
            return self._advance(tokens_B[:, None])
        self.length += 1
        return self._fixed(tokens_B, self.length - 1)

    def _make_step(self) -> StaticStep | CompiledStep:
        if not isinstance(self.weights, FusedDecoder) or self._is_static:
            return StaticStep(self.weights, self.keys, self.values)
        # Loads numba.
        from syllablelm.lm.compiled_step import CompiledStep

        return CompiledStep(self.weights, self.keys, self.values)

    def _advance(self, tokens_BT: Tensor) -> Tensor:
        start, stop = self.length, self.length + tokens_BT.shape[1]
        mask, positions = self._mask(start, stop), self._positions(start, stop)
        logits_BV = self.weights(tokens_BT, positions, mask, self.keys, self.values, start)
        self.length = stop
        return logits_BV

    def _positions(self, start: int, stop: int) -> Tensor:
        """Positions from ``start`` on: (T,), or (B, T) where prompts are padded."""
        place_T = torch.arange(start, stop, device=self.weights.embedding.device)
        return place_T if self._first_B is None else (place_T - self._first_B[:, None]).clamp(min=0)

    def _mask(self, start: int, stop: int) -> Tensor | None:
        """Attention mask of the new tokens, (B or 1, 1, T, S); None where a single token attends to all positions."""
        own_BS = self._own_BS
        if stop - start == 1:
            return None if own_BS is None else own_BS[:, None, None, :stop]
        slot_S = torch.arange(stop, device=self.weights.embedding.device)
        place_T1 = slot_S[start:, None]
        seen = slot_S <= place_T1
        if own_BS is None:
            return seen[None, None]
        # Padding sees itself, so that no row of the softmax is empty.
        return ((seen & own_BS[:, None, :stop]) | (slot_S == place_T1))[:, None]


class StaticStep:
    """One token of every sequence in fixed shapes: its slot is a tensor, and attention is masked over all slots.

    On a GPU the first ``WARM_UP`` calls run as they are, the next one is captured as a CUDA graph, which it and all
    later ones replay: one launch a step instead of several a layer.

    Args:
        weights, keys, values: model and cache, which is written in place.

    Attributes:
        first_B1: position of the first token of each sequence, to be written in place.
    """

    WARM_UP = 3

    def __init__(self, weights: Stepper, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self._weights, self._keys, self._values = weights, keys, values
        device = weights.embedding.device
        self._slot_S = torch.arange(keys[0].shape[2], device=device)
        self._slot_1 = self._slot_S.new_zeros(1)
        self._tokens_B1, self.first_B1 = (self._slot_S.new_zeros(keys[0].shape[0], 1) for _ in range(2))
        self._calls = 0
        self._graph: Any = None
        self._logits_BV = torch.empty(0)

    def pays(self, slot: int) -> bool:
        """Return whether this step is faster than those of growing shapes."""
        return True

    def __call__(self, tokens_B: Tensor, slot: int) -> Tensor:
        """Return the logits of the next token, (B, V), after ``tokens_B`` at a slot."""
        self._tokens_B1.copy_(tokens_B[:, None])
        self._slot_1.fill_(slot)
        self._calls += 1
        if self._slot_1.device.type != "cuda" or self._calls <= self.WARM_UP:
            return self._run()
        if self._graph is None:
            device = self._slot_1.device
            # Kernels are recorded on another stream; other threads may use theirs meanwhile.
            with torch.cuda.device(device):
                graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    self._logits_BV = self._run()
            self._graph = graph
        self._graph.replay()
        # The next replay writes the same memory.
        return self._logits_BV.clone()

    def _run(self) -> Tensor:
        own_BS = (self._slot_S >= self.first_B1) & (self._slot_S <= self._slot_1)
        positions_B1 = self._slot_1 - self.first_B1
        mask_B11S = own_BS[:, None, None]
        return self._weights(self._tokens_B1, positions_B1, mask_B11S, self._keys, self._values, self._slot_1)


def check_decoder(model: nn.Module, name: str) -> None:
    """Refuse a model whose packed or cached sequences differ from each sequence alone.

    Language models are trained on packed rows and decoded from a cache, both with masks and positions of their own; a
    recurrent family, for one, takes neither.

    Raises:
        FormatError: such a model; the message begins with ``name``.
    """
    lm: Any = model
    device = lm.get_input_embeddings().weight.device
    tokens = torch.arange(5, device=device)[None] % lm.config.vocab_size
    crop, positions = (torch.tensor([row], device=device) for row in ([1, 1, 2, 2, 2], [0, 1, 0, 1, 2]))
    mask = ((crop[:, :, None] == crop[:, None, :]) & torch.ones(5, 5, dtype=torch.bool, device=device).tril())[:, None]
    reason, was_training = "", lm.training
    try:
        lm.eval()
        with torch.inference_mode():
            alone = lm(input_ids=tokens[:, 2:], use_cache=False).logits[0]
            packed = lm(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False).logits[0, 2:]
        decoder = CachedDecoder(make_stepper(model), 1, 3)
        stepped = torch.cat([decoder.prefill([tokens[0, 2:3].tolist()]), *map(decoder.step, tokens[:, 3:].T)])
        for what, logits in (("packed", packed), ("cached", stepped)):
            if not torch.allclose(logits, alone, atol=1e-3, rtol=1e-3):
                reason = f"{what} sequences differ from each alone"
    except BUILD_FAULTS as error:
        reason = first_line(error)
    finally:
        lm.train(was_training)
    if reason:
        raise FormatError(f"{name}: models of type {lm.config.model_type!r} cannot be used here ({reason})")
