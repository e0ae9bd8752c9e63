"""Fast decoding of OPT models: fused projections and a key-value cache of fixed size.

Shape suffixes: B sequences, T new tokens, S cached positions, H heads, K head dimension, D model dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.config import check_seed
from syllablelm.core.errors import InputError, check_positive


@dataclass(frozen=True)
class Sampling:
    """Sampling of the next token; an InputError for a value out of range.

    Args:
        temperature: sampling temperature; 0, or below a millionth, is greedy.
        top_k, top_p: top-k sampling (0 is off) and nucleus threshold (1 is off).
        seed: random seed; sequence i of a batch draws the same in any batch.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature, zero=True)
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

    def __call__(self, logits_BV: Tensor, rows: Sequence[int] | None = None) -> Tensor:
        """Draw one token per row of logits, (B,) int64; ``rows`` are their sequences, by default all of them."""
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


Linear = tuple[Tensor, Tensor | None]


class _Norm(NamedTuple):
    """Arguments of ``F.layer_norm`` after its input."""

    shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    @classmethod
    def of(cls, norm: Any) -> _Norm:
        return cls(norm.normalized_shape, norm.weight, norm.bias, norm.eps)


class _Block:
    """Weights of one layer as plain tensors, the three projections of attention in one matrix.

    At one token a call, looking up modules and running their hooks would cost about as much as a small layer itself.
    """

    def __init__(self, layer: Any, scaling: float) -> None:
        attention = layer.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        weights = [part.weight.detach() for part in parts]
        biases = [torch.zeros_like(weights[0][:, 0]) if part.bias is None else part.bias.detach() for part in parts]
        # The scale of the scores is folded into the queries.
        self.qkv: Linear = (
            torch.cat([weights[0] * scaling, *weights[1:]]),
            torch.cat([biases[0] * scaling, *biases[1:]]),
        )
        self.out, self.fc1, self.fc2 = (_linear(part) for part in (attention.out_proj, layer.fc1, layer.fc2))
        self.norm1, self.norm2 = _Norm.of(layer.self_attn_layer_norm), _Norm.of(layer.final_layer_norm)
        self.norm_first = bool(layer.do_layer_norm_before)
        self.activation = F.relu_ if isinstance(layer.activation_fn, nn.ReLU) else layer.activation_fn


def _linear(module: Any) -> Linear:
    return module.weight, module.bias


class FusedOPT:
    """Weights of an ``OPTForCausalLM``, fused for decoding.

    They are shared except for the fused projections, which are copies: a model that is trained or moved afterwards
    needs a new one.
    """

    def __init__(self, model: nn.Module) -> None:
        opt: Any = model
        decoder, config = opt.model.decoder, opt.config
        self.context = int(config.max_position_embeddings)
        self.heads, self.dim = int(config.num_attention_heads), int(config.hidden_size)
        self.embedding: Tensor = decoder.embed_tokens.weight
        # Position 0 is row 2 in OPT checkpoints.
        self.positions: Tensor = decoder.embed_positions.weight.detach()[decoder.embed_positions.offset :]
        self.project_in, self.project_out = decoder.project_in, decoder.project_out
        self.final_norm = None if decoder.final_layer_norm is None else _Norm.of(decoder.final_layer_norm)
        self.output = _linear(opt.lm_head)
        scaling = float(decoder.layers[0].self_attn.scaling)
        self.blocks = [_Block(layer, scaling) for layer in decoder.layers]


class CachedDecoder:
    """Runs an OPT model token by token.

    Args:
        weights: weights of the model.
        batch: number of sequences, which advance together.
        capacity: positions of the cache, at most the model's (else an InputError).

    Shorter prompts are padded on the left, and the padding is masked, so that a sequence gives the same alone and in a
    batch.
    """

    def __init__(self, weights: FusedOPT, batch: int, capacity: int) -> None:
        if capacity > weights.context:
            raise InputError(
                f"{capacity} tokens do not fit the model's context of {weights.context}; ask for fewer seconds"
            )
        self.weights, self.capacity = weights, capacity
        shape = (batch, weights.heads, capacity, weights.dim // weights.heads)
        self.keys, self.values = (self._room(shape) for _ in range(2))
        self.length = 0
        # Position of the first token of each sequence, and the mask of its tokens; None without padding.
        self._first_B: Tensor | None = None
        self._own_BS: Tensor | None = None

    def _room(self, shape: tuple[int, ...]) -> list[Tensor]:
        embedding = self.weights.embedding
        return [torch.empty(shape, dtype=embedding.dtype, device=embedding.device) for _ in self.weights.blocks]

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
                fresh = kept.new_empty(len(rows), *kept.shape[1:])
                fresh[:, :, : self.length - spare] = kept[index_R, :, spare : self.length]
                cache[layer] = fresh
        self.length -= spare
        self._pad(first_R - spare)

    @torch.inference_mode()
    def reread(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        """Re-prefill selected sequences with shorter ones, no longer than the current length."""
        part = CachedDecoder(self.weights, len(rows), max(len(prompt) for prompt in prompts))
        part.prefill(prompts)
        index_R = torch.tensor(rows, device=self.weights.embedding.device)
        for caches, fresh in ((self.keys, part.keys), (self.values, part.values)):
            for cache, new in zip(caches, fresh, strict=True):
                cache[index_R, :, self.length - part.length : self.length] = new
        batch = self.keys[0].shape[0]
        first_B = (
            torch.zeros(batch, dtype=torch.long, device=index_R.device) if self._first_B is None else self._first_B
        )
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=index_R.device)
        self._pad(first_B.index_copy(0, index_R, self.length - lengths))

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Append one token to every sequence; return the logits of the next one, (B, V)."""
        return self._advance(tokens_B[:, None])

    def _advance(self, tokens_BT: Tensor) -> Tensor:
        start, stop, weights = self.length, self.length + tokens_BT.shape[1], self.weights
        hidden_BTD = F.embedding(tokens_BT, weights.embedding)
        if weights.project_in is not None:
            hidden_BTD = weights.project_in(hidden_BTD)
        hidden_BTD = hidden_BTD + self._position(start, stop)
        mask = self._mask(start, stop)
        for block, keys, values in zip(weights.blocks, self.keys, self.values, strict=True):
            hidden_BTD = self._layer(block, keys, values, hidden_BTD, start, mask)
        hidden_BD = hidden_BTD[:, -1]
        if weights.final_norm is not None:
            hidden_BD = F.layer_norm(hidden_BD, *weights.final_norm)
        if weights.project_out is not None:
            hidden_BD = weights.project_out(hidden_BD)
        self.length = stop
        return F.linear(hidden_BD, *weights.output)

    def _position(self, start: int, stop: int) -> Tensor:
        """Position embeddings from ``start`` on: (T, D), or (B, T, D) where prompts are padded."""
        if self._first_B is None:
            return self.weights.positions[start:stop]
        place_T = torch.arange(start, stop, device=self._first_B.device)
        return F.embedding((place_T - self._first_B[:, None]).clamp(min=0), self.weights.positions)

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

    def _layer(
        self, block: _Block, keys: Tensor, values: Tensor, hidden: Tensor, start: int, mask: Tensor | None
    ) -> Tensor:
        batch, new, dim = hidden.shape
        stop = start + new
        x = F.layer_norm(hidden, *block.norm1) if block.norm_first else hidden
        qkv = F.linear(x, *block.qkv).view(batch, new, 3, self.weights.heads, dim // self.weights.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()
        keys, values = keys[:, :, :stop], values[:, :, :stop]
        keys[:, :, start:] = key
        values[:, :, start:] = value
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=1.0)
        hidden = hidden + F.linear(mixed.transpose(1, 2).reshape(batch, new, dim), *block.out)
        if not block.norm_first:
            hidden = F.layer_norm(hidden, *block.norm1)
        x = F.layer_norm(hidden, *block.norm2) if block.norm_first else hidden
        hidden = hidden + F.linear(block.activation(F.linear(x, *block.fc1)), *block.fc2)
        return hidden if block.norm_first else F.layer_norm(hidden, *block.norm2)
