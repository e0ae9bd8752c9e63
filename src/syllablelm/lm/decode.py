"""Fast decoding of OPT models: fused projections and a key-value cache of fixed size.

Shape suffixes: B sequences, T new tokens, S cached positions, H heads, K head dimension, D model dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Args:
        temperature: 0 takes the likeliest token.
        top_k: only the so many likeliest tokens; 0 is all.
        top_p: only the likeliest tokens that together reach this probability (nucleus); 1 is all.
        seed: of the draws; sequence i of a batch draws the same whatever stands beside it.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature {self.temperature}: must be 0 or above, and finite")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise InputError(f"top_k {self.top_k} must be 0 or above, and top_p {self.top_p} above 0 and at most 1")


class Sampler:
    """Draws tokens by one random stream per sequence, so that a batch gives what each sequence alone would give."""

    def __init__(self, sampling: Sampling, indices: Sequence[int]) -> None:
        self.sampling = sampling
        self._streams = [np.random.default_rng((sampling.seed, index)) for index in indices]

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """One token per row: (B,) int64."""
        if self.sampling.temperature == 0:
            return logits_BV.argmax(-1)
        probs_BV = self.probabilities(logits_BV)
        draws = torch.tensor([stream.random() for stream in self._streams], dtype=probs_BV.dtype)
        total_BV = probs_BV.cumsum(-1)
        drawn = torch.searchsorted(total_BV, draws.to(total_BV.device)[:, None] * total_BV[:, -1:], right=True)[:, 0]
        # Rounding can push a draw past the last token that has any probability.
        last = probs_BV.shape[-1] - 1 - (probs_BV > 0).flip(-1).int().argmax(-1)
        return torch.minimum(drawn, last)

    def probabilities(self, logits_BV: Tensor) -> Tensor:
        """Next-token distribution after temperature, top-k and top-p: (B, V), float64."""
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


class _Block:
    """The weights of one layer, with the three projections of attention in one matrix."""

    def __init__(self, layer: Any, scaling: float) -> None:
        attention = layer.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        weights = [part.weight.detach() for part in parts]
        zeros = torch.zeros(len(weights[0]), dtype=weights[0].dtype, device=weights[0].device)
        biases = [zeros if part.bias is None else part.bias.detach() for part in parts]
        # The scale of the scores is folded into the queries.
        self.qkv_weight = torch.cat([weights[0] * scaling, *weights[1:]])
        self.qkv_bias = torch.cat([biases[0] * scaling, *biases[1:]])
        self.out, self.fc1, self.fc2 = attention.out_proj, layer.fc1, layer.fc2
        self.norm1, self.norm2 = layer.self_attn_layer_norm, layer.final_layer_norm
        self.norm_first = bool(layer.do_layer_norm_before)
        self.activation = layer.activation_fn


class CachedDecoder:
    """Runs an OPT model token by token.

    Args:
        model: ``OPTForCausalLM`` in evaluation mode; its weights are shared but for the fused projections.
        capacity: positions that fit the cache.

    All sequences of a batch advance together; shorter prompts are padded on the left, and the padding is masked, so
    that a sequence gives the same alone and in a batch.
    """

    def __init__(self, model: nn.Module, batch: int, capacity: int) -> None:
        opt: Any = model
        decoder, config = opt.model.decoder, opt.config
        longest = int(config.max_position_embeddings)
        if capacity > longest:
            raise InputError(f"{capacity} tokens do not fit the model's context of {longest}; ask for fewer seconds")
        self.heads = int(config.num_attention_heads)
        self.decoder, self.output = decoder, opt.lm_head
        scaling = float(decoder.layers[0].self_attn.scaling)
        self.blocks = [_Block(layer, scaling) for layer in decoder.layers]
        weight = decoder.embed_tokens.weight
        shape = (len(self.blocks), 2, batch, self.heads, capacity, config.hidden_size // self.heads)
        self.cache = torch.empty(shape, dtype=weight.dtype, device=weight.device)
        self.length = 0
        self._first_B = torch.zeros(batch, dtype=torch.long, device=weight.device)
        self._padded = False

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts, at least one token each: logits of the next token, (B, V)."""
        device = self.cache.device
        width = max(len(prompt) for prompt in prompts)
        tokens_BT = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in zip(tokens_BT, prompts, strict=True):
            row[width - len(prompt) :] = torch.tensor(prompt)
        self._first_B = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
        self._padded = bool((self._first_B > 0).any())
        self.length = 0
        return self._advance(tokens_BT.to(device))

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Append one token to every sequence: logits of the next one, (B, V)."""
        return self._advance(tokens_B[:, None])

    def _advance(self, tokens_BT: Tensor) -> Tensor:
        start, new = self.length, tokens_BT.shape[1]
        stop = start + new
        decoder = self.decoder
        place_T = torch.arange(start, stop, device=tokens_BT.device)
        position_BT = (place_T[None] - self._first_B[:, None]).clamp(min=0)
        hidden = decoder.embed_tokens(tokens_BT)
        if decoder.project_in is not None:
            hidden = decoder.project_in(hidden)
        embedding = decoder.embed_positions
        hidden = hidden + F.embedding(position_BT + embedding.offset, embedding.weight)
        mask = self._mask(place_T, stop)
        for block, cache in zip(self.blocks, self.cache, strict=True):
            hidden = self._layer(block, cache, hidden, start, mask)
        hidden = hidden[:, -1]
        if decoder.final_layer_norm is not None:
            hidden = decoder.final_layer_norm(hidden)
        if decoder.project_out is not None:
            hidden = decoder.project_out(hidden)
        self.length = stop
        return self.output(hidden)

    def _mask(self, place_T: Tensor, stop: int) -> Tensor | None:
        """Which cached positions each new token sees, (B, 1, T, S); None where a single token sees them all."""
        if len(place_T) == 1 and not self._padded:
            return None
        slot_S = torch.arange(stop, device=place_T.device)
        causal_TS = slot_S[None, :] <= place_T[:, None]
        own_BS = slot_S[None, :] >= self._first_B[:, None]
        # Padding sees itself, so that no row of the softmax is empty.
        itself_TS = slot_S[None, :] == place_T[:, None]
        return ((causal_TS[None] & own_BS[:, None, :]) | itself_TS[None])[:, None]

    def _layer(self, block: _Block, cache: Tensor, hidden: Tensor, start: int, mask: Tensor | None) -> Tensor:
        batch, new, dim = hidden.shape
        stop = start + new
        x = block.norm1(hidden) if block.norm_first else hidden
        qkv = F.linear(x, block.qkv_weight, block.qkv_bias).view(batch, new, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        cache[0, :, :, start:stop] = key
        cache[1, :, :, start:stop] = value
        mixed = F.scaled_dot_product_attention(
            query, cache[0, :, :, :stop], cache[1, :, :, :stop], attn_mask=mask, scale=1.0
        )
        hidden = hidden + block.out(mixed.transpose(1, 2).reshape(batch, new, dim))
        if not block.norm_first:
            hidden = block.norm1(hidden)
        x = block.norm2(hidden) if block.norm_first else hidden
        hidden = hidden + block.fc2(block.activation(block.fc1(x)))
        return hidden if block.norm_first else block.norm2(hidden)
