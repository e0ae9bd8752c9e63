"""The loss of packed rows, in which no crop attends to another.

Two ways give the same loss. "varlen": all crops one after another without padding, so that every linear layer is one
product, and attention within each crop. "mask": whole rows and a mask of every pair of positions, for compiled models,
whose batches must have one shape, and for models that do not take the first way.

Shape suffixes: B rows, T positions, N tokens of all crops, D hidden dimension, V vocabulary, L length of a crop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, groupby
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.errors import first_line
from syllablelm.core.progress import note
from syllablelm.encoders.weights import BUILD_FAULTS
from syllablelm.lm.packing import IGNORED, IntArray, PackedBatch

Way = Literal["varlen", "mask"]
Sums = dict[str, Tensor]
Attention = Callable[..., tuple[Tensor, None]]
# Tokens of a part, which a CPU computes at a time, and logits that are in memory at once: enough for fast products, few
# enough for caches and for memory that the allocator uses again.
PART_TOKENS = 2048
LOGITS = {"cpu": 1 << 21, "cuda": 1 << 27}


class PackedLoss(nn.Module):
    """Mean cross-entropy of a packed batch.

    Args:
        model: language model.
        way: how crops are kept apart, see the module.
        compiled: whether to compile the model, for the way "mask".
        token_seconds: time of a token's 6 N operations at the devices' peak.
    """

    way: Way

    def __init__(self, model: nn.Module, way: Way, *, compiled: bool = False, token_seconds: float = 0.0) -> None:
        super().__init__()
        self.model, self.way, self.token_seconds = model, way, token_seconds
        # The method, not the module: compiled modules save weights under other names. Batches have one shape.
        self._run = torch.compile(model.forward, dynamic=False) if compiled else model.__call__

    def forward(self, batch: dict[str, Any]) -> Sums:
        """Return the loss, and sums for the log, of what ``packed_arrays`` gives."""
        nats, hits = self._by_mask(batch) if self.way == "mask" else self._by_varlen(batch)
        tokens = torch.tensor(batch["num_tokens"])
        return {
            "loss": nats / batch["num_learned"],
            "nats": nats,
            "hits": hits,
            "targets": torch.tensor(batch["num_learned"]),
            "positions": torch.tensor(batch["num_positions"]),
            "tokens": tokens,
            "peak_seconds": tokens * self.token_seconds,
            "audio": torch.tensor(batch["seconds"]),
        }

    def _by_varlen(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        lengths: tuple[int, ...] = batch["lengths"]
        on_cpu = batch["tokens"].device.type == "cpu"
        ends = part_ends(lengths, PART_TOKENS if on_cpu else sum(lengths))
        parts = self._parts(batch, ends)
        if len(ends) == 1 or not torch.is_grad_enabled():
            return _added(parts)
        return _GradientsFirst.apply(parts, *(p for p in self.model.parameters() if p.requires_grad))

    def _parts(self, batch: dict[str, Any], ends: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
        places = [0, *accumulate(batch["lengths"])]
        lm: Any = self.model
        for first, end in zip([0, *ends], ends, strict=False):
            at = slice(places[first], places[end])
            edges = batch["edges"][first : end + 1] - places[first]
            tokens_N, positions_N = batch["tokens"][at], batch["positions"][at]
            hidden_ND = _hidden(lm, tokens_N, positions_N, edges, batch["lengths"][first:end])
            yield _OutputLoss.apply(hidden_ND, lm.get_output_embeddings().weight, batch["targets"][at])

    def _by_mask(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        crop_BT = batch["crop"]
        length = crop_BT.shape[1]
        causal_TT = torch.ones(length, length, dtype=torch.bool, device=crop_BT.device).tril()
        mask = ((crop_BT[:, :, None] == crop_BT[:, None, :]) & causal_TT)[:, None]
        output = self._run(
            input_ids=batch["tokens"], attention_mask=mask, position_ids=batch["positions"], use_cache=False
        )
        logits, targets = output.logits.flatten(0, 1), batch["targets"].flatten()
        nats = F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
        with torch.no_grad():
            return nats, (logits.argmax(-1) == targets).sum()


def _hidden(model: Any, tokens_N: Tensor, positions_N: Tensor, edges: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """Last hidden states, (N, D), of crops of these lengths one after another."""
    # The names under which transformers passes the edges of packed sequences on to attention, and one of ours.
    crops = {"cu_seq_lens_q": edges, "cu_seq_lens_k": edges, "max_length_q": max(lengths), "max_length_k": max(lengths)}
    return model.base_model(
        input_ids=tokens_N[None], position_ids=positions_N[None], use_cache=False, crop_lengths=lengths, **crops
    ).last_hidden_state[0]


def _added(parts: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    nats, hits = (torch.stack(sums).sum() for sums in zip(*parts, strict=True))
    return nats, hits


class _GradientsFirst(torch.autograd.Function):
    """Sums over parts of a batch, with the gradients of each part before the next one is computed.

    Activations of one part only are in memory.
    """

    @staticmethod
    def forward(ctx: Any, parts: Iterator[tuple[Tensor, Tensor]], *weights: Tensor) -> tuple[Tensor, Tensor]:
        sums, ctx.grads = [], [torch.zeros_like(weight) for weight in weights]
        with torch.enable_grad():
            for nats, hits in parts:
                found = torch.autograd.grad(nats, weights, allow_unused=True, materialize_grads=True)
                for total, part in zip(ctx.grads, found, strict=True):
                    total += part
                sums.append((nats.detach(), hits))
        nats, hits = _added(sums)
        ctx.mark_non_differentiable(hits)
        return nats, hits

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grads, ctx.grads = ctx.grads, None
        return None, *(total.mul_(grad) for total in grads)


class _OutputLoss(torch.autograd.Function):
    """Summed negative log-likelihood and number of hits from (N, D) hidden states and a (V, D) output layer.

    Gradients are computed at once from the logits of some positions, which are kept no longer (Wijmans et al. 2024,
    arXiv 2411.09009, and Hsu et al. 2024, arXiv 2410.10989, do so on GPUs).
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        size = max(1, LOGITS[hidden_ND.device.type] // len(weight_VD))
        sums, grads = [], []
        weight_grad = torch.zeros_like(weight_VD)
        for hidden_CD, targets_C in zip(hidden_ND.split(size), targets_N.split(size), strict=True):
            scores_CV = F.log_softmax(F.linear(hidden_CD, weight_VD).float(), dim=-1)
            learned_C1 = (targets_C != IGNORED)[:, None]
            index_C1 = targets_C.clamp(min=0)[:, None]
            own_C1 = scores_CV.gather(1, index_C1)
            hits_C1 = learned_C1 & (own_C1 >= scores_CV.amax(-1, keepdim=True))
            sums.append((-(own_C1 * learned_C1).sum(), hits_C1.sum()))
            # The gradient with respect to the logits, in their place: probabilities less one at the target.
            gradient_CV = scores_CV.exp_().scatter_add_(1, index_C1, torch.full_like(own_C1, -1.0))
            gradient_CV *= learned_C1
            grads.append((gradient_CV @ weight_VD).to(hidden_ND.dtype))
            weight_grad += gradient_CV.t() @ hidden_CD
        ctx.save_for_backward(torch.cat(grads), weight_grad)
        nats, hits = _added(sums)
        ctx.mark_non_differentiable(hits)
        return nats, hits

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grad, weight_grad * grad, None


def packed_arrays(packed: PackedBatch, way: Way, frame_seconds: float) -> dict[str, Any]:
    """Return what ``PackedLoss`` reads of a batch: tensors, and numbers that the device need not count."""
    batch: dict[str, Any] = {
        "num_learned": int((packed.targets != IGNORED).sum()),
        "num_tokens": int((packed.crop > 0).sum()),
        "num_positions": packed.targets.size,
        "seconds": float(packed.frames.sum()) * frame_seconds,
    }
    if way == "mask":
        return batch | {
            name: torch.from_numpy(getattr(packed, name)) for name in ("tokens", "targets", "positions", "crop")
        }
    lengths, places = sorted_crops(packed.crop)
    batch |= {
        name: torch.from_numpy(getattr(packed, name).reshape(-1)[places]) for name in ("tokens", "targets", "positions")
    }
    edges = torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32))
    return batch | {"num_positions": len(places), "lengths": tuple(lengths.tolist()), "edges": edges}


def sorted_crops(crop_BT: IntArray) -> tuple[IntArray, IntArray]:
    """Return the crops of packed rows, the longest first.

    Args:
        crop_BT: number of the crop at every position, 0 for padding.

    Returns:
        (crops,) lengths, and (N,) indices of the positions of one crop after another among the B T of all rows.
    """
    begins = np.ones(crop_BT.shape, dtype=bool)
    begins[:, 1:] = crop_BT[:, 1:] != crop_BT[:, :-1]
    first = np.flatnonzero(begins)
    lengths = np.diff(np.append(first, crop_BT.size))
    order = np.argsort(-lengths, kind="stable")
    order = order[crop_BT.reshape(-1)[first[order]] > 0]
    first, lengths = first[order], lengths[order]
    # From a position's place among those of all crops to its place in the rows.
    shift = first - (np.cumsum(lengths) - lengths)
    return lengths, np.arange(lengths.sum()) + np.repeat(shift, lengths)


def part_ends(lengths: Iterable[int], most: int) -> list[int]:
    """Return the number of crops up to the end of each part, which has at most ``most`` tokens, or a single crop."""
    ends, tokens, number = [], 0, 0
    for number, length in enumerate(lengths):
        if tokens and tokens + length > most:
            ends.append(number)
            tokens = 0
        tokens += length
    return [*ends, number + 1]


def choose_way(model: nn.Module, device: torch.device, *, half: bool, compiled: bool) -> Way:
    """Return the fastest way that a device and a model support; for "varlen" the model's attention is replaced.

    Args:
        model: language model, on the device.
        half: whether it runs in bfloat16.
        compiled: whether it is compiled.
    """
    kernels = (attend_by_kernel, attend_by_length) if device.type == "cuda" and half else (attend_by_length,)
    return "varlen" if not compiled and any(use_varlen(model, kernel) for kernel in kernels) else "mask"


def use_varlen(model: nn.Module, attention: Attention) -> bool:
    """Give a model ``attention`` and return whether its crops are then as each alone; else undo it."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    lm: Any = model
    before, was_training = lm.config._attn_implementation, lm.training
    name, half = attention.__name__, attention is attend_by_kernel

    def mask(
        batch_size: int, q_length: int, kv_length: int, *, attention_mask: Tensor | None = None, **more: Any
    ) -> Any:
        # Without padding nothing but causality, and the crops, restrict attention.
        if attention_mask is None and q_length == kv_length:
            return None
        return sdpa_mask(batch_size, q_length, kv_length, attention_mask=attention_mask, **more)

    ALL_ATTENTION_FUNCTIONS.register(name, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, mask)
    edges = torch.tensor([0, 3, 8], dtype=torch.int32)
    tokens, positions = torch.arange(8) % lm.config.vocab_size, torch.tensor([0, 1, 2, 0, 1, 2, 3, 4])
    try:
        lm.eval().set_attn_implementation(name)
        edges, tokens, positions = (tensor.to(lm.device) for tensor in (edges, tokens, positions))
        with torch.inference_mode(), torch.autocast(lm.device.type, dtype=torch.bfloat16, enabled=half):
            together = F.linear(_hidden(lm, tokens, positions, edges, (3, 5)), lm.get_output_embeddings().weight)
            alone = [lm(input_ids=part[None], use_cache=False).logits[0] for part in tokens.split([3, 5])]
        error = 0.05 if half else 1e-4
        if lm.get_output_embeddings().bias is not None:
            reason = "its output layer has a bias"
        elif torch.allclose(together.float(), torch.cat(alone).float(), atol=error, rtol=error):
            return True
        else:
            reason = "crops are not as each alone"
    except (ImportError, AttributeError, TypeError, *BUILD_FAULTS) as fault:
        reason = first_line(fault)
    finally:
        lm.train(was_training)
    note(f"{name} is not used with {lm.config.model_type!r}: {reason}")
    lm.set_attn_implementation(before)
    return False


def attend_by_length(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    crop_lengths: tuple[int, ...] = (),
    **more: Any,
) -> tuple[Tensor, None]:
    """An attention function of transformers: causal within each crop, crops of one length at a time.

    Args:
        query, key, value: (1, heads, N, head dimension); keys and values may have fewer heads.
        crop_lengths: lengths of the crops, equal ones side by side; (): torch's attention.

    Returns:
        (1, N, heads, head dimension), and no weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not crop_lengths:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    shapes = [(len(list(crops)), length) for length, crops in groupby(crop_lengths)]
    sizes = [crops * length for crops, length in shapes]
    groups = zip(*(tensor[0].transpose(0, 1).split(sizes) for tensor in (query, key, value)), strict=True)
    found = []
    for shape, group in zip(shapes, groups, strict=True):
        own_query, own_key, own_value = (part.unflatten(0, shape).transpose(1, 2) for part in group)
        mixed, _ = sdpa_attention_forward(module, own_query, own_key, own_value, None, **more)
        found.append(mixed.flatten(0, 1))
    return torch.cat(found)[None], None


def attend_by_kernel(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    **more: Any,
) -> tuple[Tensor, None]:
    """The same by torch's kernel for variable lengths, in half precision on GPUs.

    Args:
        cu_seq_lens_q, max_length_q: (crops + 1,) int32 edges of the crops, and the length of the longest one; None:
            torch's attention.
    """
    if cu_seq_lens_q is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **more)
    from torch.nn.attention import varlen  # torch >= 2.10

    # The kernel computes in half precision; rotary positions may have left it.
    parts = [tensor[0].transpose(0, 1).to(torch.bfloat16) for tensor in (query, key, value)]
    found: Any = varlen.varlen_attn(
        *parts,
        cu_seq_q=cu_seq_lens_q,
        cu_seq_k=cu_seq_lens_q,
        max_q=max_length_q,
        max_k=max_length_q,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=key.shape[1] < query.shape[1],
    )
    return found[None].to(query.dtype), None
