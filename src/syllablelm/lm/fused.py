"""One step of a decoder from its cached keys and values: fused weights of OPT and Llama shapes, or the model itself.

Shape suffixes as in ``lm.decode``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.errors import FormatError, InputError

Apply = Callable[[Tensor], Tensor]
# Largest 8-bit integer, and the least size of rows that are rounded to such integers.
MOST_INT8, LEAST = 127.0, 1e-12
# Families of transformers whose layers are a Llama's, but for biases, shared keys and norms of queries and keys.
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
# Kinds of rotary embeddings whose angles do not depend on the length of the sequence.
_FIXED_ROTARY = ("default", "linear", "llama3", "yarn")


class Stepper(Protocol):
    """A decoder that reads new tokens after those whose keys and values are cached.

    Attributes:
        context: maximum number of positions.
        embedding: a weight of the model, for its device and precision.
        cache_shapes: key-value heads and head dimension of each layer.
        takes_slots: whether ``start`` may be a tensor.
    """

    context: int
    embedding: Tensor
    cache_shapes: list[tuple[int, int]]
    takes_slots: bool

    def __call__(
        self,
        tokens_BT: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        start: int | Tensor,
    ) -> Tensor:
        """Return the logits of the next token, (B, V); keys and values from slot ``start`` on are written.

        Args:
            tokens_BT: new tokens.
            positions: their positions, (T,) or (B, T).
            mask: (B or 1, 1, T, S) bool; None where a single token attends to every slot.
            keys, values: (B, K, capacity, head dimension) of each layer.
            start: slot of the first new token; or (T,) slots of all, with a mask over the whole capacity, so that every
                call has the same shapes.
        """
        ...


def make_stepper(model: nn.Module, *, int8: bool = False) -> Stepper:
    """Return fused weights of an OPT or a Llama-like model; other families are run by transformers.

    Fused projections are copies, other weights are shared: a model that is trained or moved afterwards needs a new one.

    Args:
        model: a float32 model for ``int8``.
        int8: compute the projections in 8-bit integers (``Int8Linear``): on a CPU, of those families; else InputError.
    """
    config: Any = model.config
    rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
    if config.model_type == "opt" or (
        config.model_type in LLAMA_LIKE and getattr(rotary, "rope_type", "") in _FIXED_ROTARY
    ):
        return FusedDecoder(model, Int8Linear if int8 else Linear)
    if int8:
        raise InputError(f"precision 'int8': not for models of type {config.model_type!r}; use bfloat16 or float32")
    return TransformersDecoder(model)


def max_positions(model: nn.Module) -> int:
    """Return the context length that a model supports; attention beyond a sliding window would need another mask."""
    config: Any = model.config
    sizes = [getattr(config, name, None) for name in ("max_position_embeddings", "sliding_window")]
    if getattr(config, "use_sliding_window", True) is False:
        sizes.pop()
    known = [size for size in sizes if size is not None]
    if not known:
        raise FormatError(f"a model of type {config.model_type!r} has no max_position_embeddings in its config.json")
    return int(min(known))


class Linear:
    """A projection in the precision of its weights."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Int8Linear:
    """A projection in 8-bit integers: weights are rounded per output, inputs per token, and sums are exact.

    Args:
        weight, bias: float32 (out, in), and (out,) or None, on the CPU.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            raise InputError("precision 'int8' is for the CPU; use bfloat16 on a GPU")
        size_N1 = weight.detach().abs().amax(1, keepdim=True).clamp(min=LEAST) / MOST_INT8
        # (in, out), as a view of rows of outputs.
        self.weight = (weight.detach() / size_N1).round_().to(torch.int8).T
        self.scale, self.bias = size_N1[:, 0], torch.zeros(len(weight)) if bias is None else bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """Return (..., out) of (..., in)."""
        rows = x.flatten(0, -2)
        size_R1 = rows.abs().amax(1, keepdim=True).clamp_(min=LEAST).div_(MOST_INT8)
        sums = torch.ops.aten._int_mm((rows / size_R1).round_().to(torch.int8), self.weight)
        return torch.addcmul(self.bias, sums.float().mul_(size_R1), self.scale).view(*x.shape[:-1], -1)


Projection = Linear | Int8Linear


class Norm:
    """LayerNorm, or RMSNorm where the mean is not taken off, over the last dimension."""

    def __init__(self, module: Any) -> None:
        self.weight, self.bias = module.weight, getattr(module, "bias", None)
        self.centred = isinstance(module, nn.LayerNorm)
        self.eps = float(module.eps if self.centred else module.variance_epsilon)

    def __call__(self, x: Tensor) -> Tensor:
        if self.centred:
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


@dataclass(frozen=True)
class Block:
    """Weights of one layer as plain tensors, the three projections of attention in one matrix.

    At one token a call, looking up modules and running their hooks would cost about as much as a small layer itself.
    """

    qkv: Projection
    out: Projection
    up: Projection
    down: Projection
    activate: Apply
    norms: tuple[Norm, Norm]
    norm_first: bool
    scale: float
    head_norms: tuple[Norm, Norm] | None


class FusedDecoder:
    """Weights of an OPT or a Llama-like model, fused for decoding; see ``Stepper`` and ``make_stepper``."""

    takes_slots = True

    def __init__(self, model: nn.Module, project: type[Projection]) -> None:
        lm: Any = model
        config = lm.config
        self.context = max_positions(model)
        self.embedding: Tensor = lm.get_input_embeddings().weight
        self.output = project(*_linear(lm.lm_head))
        self.positions = self.rotary = self.project_in = self.project_out = None
        self.heads = int(config.num_attention_heads)
        if config.model_type == "opt":
            decoder = lm.model.decoder
            # Position 0 is row 2 in OPT checkpoints.
            self.positions = decoder.embed_positions.weight.detach()[decoder.embed_positions.offset :]
            self.project_in, self.project_out = decoder.project_in, decoder.project_out
            final, self.kv_heads = decoder.final_layer_norm, self.heads
            self.blocks = [_opt_block(layer, project) for layer in decoder.layers]
        else:
            final, self.kv_heads, self.rotary = lm.model.norm, int(config.num_key_value_heads), lm.model.rotary_emb
            self.blocks = [_llama_block(layer, project) for layer in lm.model.layers]
        self.final_norm = None if final is None else Norm(final)
        attention = (lm.model.decoder if config.model_type == "opt" else lm.model).layers[0].self_attn
        self.head_dim = int(attention.head_dim)
        self.cache_shapes = [(self.kv_heads, self.head_dim)] * len(self.blocks)
        self.can_compile = (
            (self.embedding.device.type, self.embedding.dtype) == ("cpu", torch.float32)
            and self.project_in is None
            and self.final_norm is not None
            and all(block.norm_first and block.head_norms is None for block in self.blocks)
        )
        """Whether ``CompiledStep`` runs the model: in float32 on a CPU, not opt-350m or a Qwen3."""

    def __call__(
        self,
        tokens_BT: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        start: int | Tensor,
    ) -> Tensor:
        hidden_BTD = F.embedding(tokens_BT, self.embedding)
        if self.project_in is not None:
            hidden_BTD = self.project_in(hidden_BTD)
        turn = None
        if self.positions is not None:
            hidden_BTD = hidden_BTD + F.embedding(positions, self.positions)
        elif self.rotary is not None:
            cos, sin = self.rotary(hidden_BTD, positions if positions.ndim == 2 else positions[None])
            turn = cos[:, None], sin[:, None]
        for block, key_cache, value_cache in zip(self.blocks, keys, values, strict=True):
            hidden_BTD = self._layer(block, key_cache, value_cache, hidden_BTD, start, mask, turn)
        hidden_BD = hidden_BTD[:, -1]
        if self.final_norm is not None:
            hidden_BD = self.final_norm(hidden_BD)
        if self.project_out is not None:
            hidden_BD = self.project_out(hidden_BD)
        return self.output(hidden_BD)

    def _layer(
        self,
        block: Block,
        keys: Tensor,
        values: Tensor,
        hidden: Tensor,
        start: int | Tensor,
        mask: Tensor | None,
        turn: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        batch, new, _ = hidden.shape
        norm1, norm2 = block.norms
        x = norm1(hidden) if block.norm_first else hidden
        counts = (self.heads, self.kv_heads, self.kv_heads)
        heads = block.qkv(x).view(batch, new, sum(counts), self.head_dim).transpose(1, 2)
        query, key, value = heads.split(counts, dim=1)
        if block.head_norms is not None:
            query, key = block.head_norms[0](query), block.head_norms[1](key)
        if turn is not None:
            query, key = _rotate(query, *turn), _rotate(key, *turn)
        if isinstance(start, Tensor):
            keys.index_copy_(2, start, key)
            values.index_copy_(2, start, value)
        else:
            keys, values = keys[:, :, : start + new], values[:, :, : start + new]
            keys[:, :, start:] = key
            values[:, :, start:] = value
        shared = self.kv_heads < self.heads
        mixed = F.scaled_dot_product_attention(query, keys, values, mask, scale=block.scale, enable_gqa=shared)
        hidden = hidden + block.out(mixed.transpose(1, 2).flatten(2))
        if not block.norm_first:
            hidden = norm1(hidden)
        hidden = hidden + block.down(block.activate(block.up(norm2(hidden) if block.norm_first else hidden)))
        return hidden if block.norm_first else norm2(hidden)


def _linear(module: Any) -> tuple[Tensor, Tensor | None]:
    return module.weight, module.bias


def _joined(modules: Sequence[Any], scales: Sequence[float]) -> tuple[Tensor, Tensor | None]:
    """Projections of one input as one matrix, each times its scale."""
    weights = [module.weight.detach() * scale for module, scale in zip(modules, scales, strict=True)]
    if all(module.bias is None for module in modules):
        return torch.cat(weights), None
    biases = [
        torch.zeros_like(weight[:, 0]) if module.bias is None else module.bias.detach() * scale
        for module, weight, scale in zip(modules, weights, scales, strict=True)
    ]
    return torch.cat(weights), torch.cat(biases)


def _opt_block(layer: Any, project: type[Projection]) -> Block:
    attention = layer.self_attn
    return Block(
        # The scale of the scores is folded into the queries.
        qkv=project(
            *_joined([attention.q_proj, attention.k_proj, attention.v_proj], [float(attention.scaling), 1.0, 1.0])
        ),
        out=project(*_linear(attention.out_proj)),
        up=project(*_linear(layer.fc1)),
        down=project(*_linear(layer.fc2)),
        activate=F.relu_ if isinstance(layer.activation_fn, nn.ReLU) else layer.activation_fn,
        norms=(Norm(layer.self_attn_layer_norm), Norm(layer.final_layer_norm)),
        norm_first=bool(layer.do_layer_norm_before),
        scale=1.0,
        head_norms=None,
    )


def _llama_block(layer: Any, project: type[Projection]) -> Block:
    attention, activation = layer.self_attn, layer.mlp.act_fn

    def activate(x: Tensor) -> Tensor:
        gate, up = x.chunk(2, -1)
        return activation(gate) * up

    own_norms = hasattr(attention, "q_norm")
    return Block(
        qkv=project(*_joined([attention.q_proj, attention.k_proj, attention.v_proj], [1.0, 1.0, 1.0])),
        out=project(*_linear(attention.o_proj)),
        up=project(*_joined([layer.mlp.gate_proj, layer.mlp.up_proj], [1.0, 1.0])),
        down=project(*_linear(layer.mlp.down_proj)),
        activate=activate,
        norms=(Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)),
        norm_first=True,
        scale=float(attention.scaling),
        head_norms=(Norm(attention.q_norm), Norm(attention.k_norm)) if own_norms else None,
    )


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (RoPE): pairs of dimensions half a head apart are turned."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


class TransformersDecoder:
    """A model of any other family, run by transformers on the same cache; see ``Stepper``."""

    takes_slots = False

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = model
        self.context = max_positions(model)
        self.embedding: Tensor = self._model.get_input_embeddings().weight
        slots, first = _Slots([], [], 0), torch.zeros(1, 1, dtype=torch.long, device=self.embedding.device)
        self._run(first, first, first.new_ones(1, 1, 1, 1, dtype=torch.bool), slots)
        self.cache_shapes = slots.shapes

    def __call__(
        self,
        tokens_BT: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        start: int | Tensor,
    ) -> Tensor:
        if isinstance(start, Tensor):
            raise TypeError("a cache of transformers has no slots given by a tensor")
        if mask is None:
            mask = torch.ones(1, 1, 1, start + 1, dtype=torch.bool, device=tokens_BT.device)
        return self._run(tokens_BT, positions.expand(tokens_BT.shape), mask, _Slots(keys, values, start))

    @torch.inference_mode()
    def _run(self, tokens_BT: Tensor, positions_BT: Tensor, mask: Tensor, slots: _Slots) -> Tensor:
        options = {"past_key_values": slots, "use_cache": True}
        output = self._model(tokens_BT, attention_mask=mask, position_ids=positions_BT, **options)
        return output.logits[:, -1]


class _Slots:
    """The cache of a ``CachedDecoder`` as transformers' models write it; without one it notes the shapes."""

    is_compileable = False

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor], start: int) -> None:
        self._keys, self._values, self._start = keys, values, start
        self.shapes: list[tuple[int, int]] = []

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, K, T, head dimension) of a layer; return all of them."""
        if not self._keys:
            self.shapes.append((key.shape[1], key.shape[3]))
            return key, value
        stop = self._start + key.shape[2]
        keys, values = self._keys[layer][:, :, :stop], self._values[layer][:, :, :stop]
        keys[:, :, self._start :] = key
        values[:, :, self._start :] = value
        return keys, values

    def get_seq_length(self, layer: int = 0) -> int:
        """Return the number of cached tokens."""
        return self._start
