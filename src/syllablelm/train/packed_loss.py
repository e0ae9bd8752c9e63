"""The loss of packed rows, in which no crop attends to another.

Three ways give the same loss: by crops (rows of crops of similar lengths, plain causal attention; the CPU's way), by
variable-length attention over all rows at once (GPUs in half precision), and by a mask of every pair of positions, for
compiled models, whose batches must have one shape.

Shape suffixes: B rows, T positions, N = B T positions of all rows, G crops of a group, L positions of the longest one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.errors import first_line
from syllablelm.core.progress import note
from syllablelm.encoders.weights import BUILD_FAULTS
from syllablelm.lm.packing import IGNORED, IntArray, PackedBatch

Way = Literal["crops", "varlen", "mask"]
Sums = dict[str, Tensor]
# A group has crops of at least this share of its longest one, and about so many positions: enough for fast products,
# few enough for a processor's caches.
SIMILAR, GROUP_TOKENS = 0.85, 4096
_VARLEN = "crops_of_packed_rows"


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
        parts = getattr(self, f"_by_{self.way}")(batch)
        nats, hits = (torch.stack(sums).sum() for sums in zip(*parts, strict=True))
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

    def _by_crops(self, batch: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        # Behind the end of a crop stand positions that no other one sees: attention is causal.
        for tokens_GL, targets_GL in batch["groups"]:
            yield _sums(self._run(input_ids=tokens_GL, use_cache=False).logits, targets_GL)

    def _by_varlen(self, batch: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        # All rows as one; a stretch of padding is a crop that no target belongs to.
        tokens_1N, positions_1N = (batch[name].flatten()[None] for name in ("tokens", "positions"))
        lengths = _lengths(batch["edges"], batch["tokens"].shape[1])
        output = self._run(input_ids=tokens_1N, position_ids=positions_1N, use_cache=False, **lengths)
        yield _sums(output.logits, batch["targets"].flatten()[None])

    def _by_mask(self, batch: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        crop_BT = batch["crop"]
        length = crop_BT.shape[1]
        causal_TT = torch.ones(length, length, dtype=torch.bool, device=crop_BT.device).tril()
        mask = ((crop_BT[:, :, None] == crop_BT[:, None, :]) & causal_TT)[:, None]
        output = self._run(
            input_ids=batch["tokens"], attention_mask=mask, position_ids=batch["positions"], use_cache=False
        )
        yield _sums(output.logits, batch["targets"])


def _sums(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of the targets, and the number of those that are the likeliest token."""
    logits, targets = logits.flatten(0, 1), targets.flatten()
    nats = F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
    with torch.no_grad():
        return nats, (logits.argmax(-1) == targets).sum()


def packed_arrays(packed: PackedBatch, way: Way, frame_seconds: float) -> dict[str, Any]:
    """Return what ``PackedLoss`` reads of a batch: tensors, and numbers that the device need not count."""
    batch: dict[str, Any] = {
        "num_learned": int((packed.targets != IGNORED).sum()),
        "num_tokens": int((packed.crop > 0).sum()),
        "num_positions": packed.targets.size,
        "seconds": float(packed.frames.sum()) * frame_seconds,
    }
    if way == "crops":
        groups = [
            (_taken(packed.tokens, at, 0), _taken(packed.targets, at, IGNORED)) for at in crop_groups(packed.crop)
        ]
        return batch | {"groups": groups, "num_positions": sum(targets.numel() for _, targets in groups)}
    names = ("tokens", "targets", "positions") + (("crop",) if way == "mask" else ())
    batch |= {name: torch.from_numpy(getattr(packed, name)) for name in names}
    if way == "varlen":
        batch["edges"] = torch.from_numpy(crop_edges(packed.crop).astype(np.int32))
    return batch


def _taken(array: IntArray, places: IntArray, fill: int) -> Tensor:
    return torch.from_numpy(np.where(places < 0, fill, array.reshape(-1)[places]))


def crop_edges(crop_BT: IntArray) -> IntArray:
    """Return the first of the N positions of every crop and of every stretch of padding, and N."""
    begins = np.ones(crop_BT.shape, dtype=bool)
    begins[:, 1:] = crop_BT[:, 1:] != crop_BT[:, :-1]
    return np.append(np.flatnonzero(begins), crop_BT.size)


def crop_groups(crop_BT: IntArray) -> list[IntArray]:
    """Return the crops of packed rows in groups of similar lengths, the longest first.

    Args:
        crop_BT: number of the crop at every position, 0 for padding.

    Returns:
        (G, L) indices into the N positions, one crop a row, and -1 behind its end.
    """
    edges = crop_edges(crop_BT)
    own = crop_BT.reshape(-1)[edges[:-1]] > 0
    first, length = edges[:-1][own], np.diff(edges)[own]
    order = np.argsort(-length, kind="stable")
    groups: list[IntArray] = []
    at = 0
    while at < len(order):
        longest = int(length[order[at]])
        stop = at + max(1, min(GROUP_TOKENS // longest, int((length[order[at:]] >= SIMILAR * longest).sum())))
        chosen, step = order[at:stop], np.arange(longest)
        groups.append(np.where(step < length[chosen, None], first[chosen, None] + step, -1))
        at = stop
    return groups


def choose_way(model: nn.Module, device: torch.device, *, half: bool, compiled: bool) -> Way:
    """Return the fastest way that a device and a model support; for "varlen" the model's attention is replaced.

    Args:
        model: language model, on the device.
        half: whether it runs in bfloat16.
        compiled: whether it is compiled.
    """
    if compiled:
        return "mask"
    return "varlen" if device.type == "cuda" and half and use_varlen(model) else "crops"


def use_varlen(model: nn.Module) -> bool:
    """Give a model variable-length attention and return whether its crops are then as each alone; else undo it."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    lm: Any = model
    before, was_training = lm.config._attn_implementation, lm.training
    ALL_ATTENTION_FUNCTIONS.register(_VARLEN, attend_within_crops)
    # Without crops to keep apart nothing but causality restricts attention.
    ALL_MASK_ATTENTION_FUNCTIONS.register(_VARLEN, lambda *_, **__: None)
    edges = torch.tensor([0, 3, 8], dtype=torch.int32)
    tokens = torch.arange(8)[None] % lm.config.vocab_size
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]])
    try:
        lm.eval().set_attn_implementation(_VARLEN)
        edges, tokens, positions = (tensor.to(lm.device) for tensor in (edges, tokens, positions))
        with torch.inference_mode(), torch.autocast(lm.device.type, dtype=torch.bfloat16):
            together = lm(input_ids=tokens, position_ids=positions, use_cache=False, **_lengths(edges, 5)).logits[0]
            alone = [lm(input_ids=part, use_cache=False).logits[0] for part in tokens.split([3, 5], dim=1)]
        if torch.allclose(together.float(), torch.cat(alone).float(), atol=0.05, rtol=0.05):
            return True
        reason = "crops are not as each alone"
    except (ImportError, TypeError, *BUILD_FAULTS) as error:
        reason = first_line(error)
    finally:
        lm.train(was_training)
    note(f"variable-length attention is not used with {lm.config.model_type!r}: {reason}")
    lm.set_attn_implementation(before)
    return False


def _lengths(edges: Tensor, longest: int) -> dict[str, Any]:
    """The names under which transformers passes the edges of packed sequences on to attention."""
    return {"cu_seq_lens_q": edges, "cu_seq_lens_k": edges, "max_length_q": longest, "max_length_k": longest}


def attend_within_crops(
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
    """An attention function of transformers: causal within each crop; without edges, that of torch.

    Args:
        query, key, value: (1, heads, N, head dimension); keys and values may have fewer heads.
        cu_seq_lens_q, max_length_q: (crops + 1,) int32 edges of the crops, and the length of the longest one.

    Returns:
        (1, N, heads, head dimension), and no weights.
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
