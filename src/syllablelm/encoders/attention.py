"""Attention with relative positions (WavLM, w2v-BERT 2.0), over blocks of queries.

transformers computes both with tables of every query times every key, for each head, several at a time: gigabytes for
a minute of speech. Here the tables exist for one block of queries only. The modules hold the very parts of the ones
they take the place of, so that weights keep their names.

Shape suffixes: B clips, H heads, T frames (Q of them as queries), D features, E features of one head, R distances.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Numbers in one table of biases (B x H x Q x T). On a CPU four times as many took as long, and five times the memory
# in all, because freed blocks of that size stay with the process.
TABLE_CPU, TABLE_GPU = 1 << 20, 1 << 28


def attend_in_blocks(
    query_BHTE: Tensor,
    key_BHTE: Tensor,
    value_BHTE: Tensor,
    bias: Callable[[int, int], Tensor],
    mask_B11T: Tensor | None,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention with a bias for every pair: (B, H, T, E).

    Args:
        bias: (start, stop) -> what is added to the scaled scores of those queries, (B or 1, H, stop - start, T).
        mask_B11T: True where a key may be attended to; None for all.
        dropout: share of attention weights that are dropped.
    """
    clips, heads, num_frames, _ = query_BHTE.shape
    room = TABLE_CPU if query_BHTE.device.type == "cpu" else TABLE_GPU
    step = max(16, room // (clips * heads * num_frames))
    blocks = []
    for start in range(0, num_frames, step):
        stop = min(start + step, num_frames)
        bias_BHQT = bias(start, stop)
        if mask_B11T is not None:
            bias_BHQT = bias_BHQT.masked_fill(~mask_B11T, -math.inf)
        part = query_BHTE[:, :, start:stop]
        blocks.append(
            F.scaled_dot_product_attention(
                part, key_BHTE, value_BHTE, attn_mask=bias_BHQT.to(part.dtype), dropout_p=dropout
            )
        )
    return torch.cat(blocks, dim=2)


class GatedRelativeAttention(nn.Module):
    """WavLM's attention: a learned bias for every distance, gated by each query (Chen et al. 2022, Sec. III-C).

    Args:
        original: ``WavLMAttention``; the first layer's holds the biases, the others are handed them.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = original.q_proj, original.k_proj, original.v_proj
        self.out_proj = original.out_proj
        self.gru_rel_pos_const, self.gru_rel_pos_linear = original.gru_rel_pos_const, original.gru_rel_pos_linear
        if hasattr(original, "rel_attn_embed"):
            self.rel_attn_embed = original.rel_attn_embed
        self.heads, self.dropout = int(original.num_heads), float(original.dropout)
        self.num_buckets, self.max_distance = int(original.num_buckets), int(original.max_distance)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        index: int = 0,
        **_: Any,
    ) -> tuple[Tensor, None, Tensor]:
        """Attention output (B, T, D), no weights, and the biases (H, 2T - 1) for the layers to come."""
        num_frames = hidden_states.shape[1]
        bias_HR = self._biases(num_frames) if position_bias is None else position_bias
        # Row t of the table of pairs is a window of the biases that begins t places before the last.
        windows_HTT = bias_HR.unfold(1, num_frames, 1)
        gate_BHT1 = self._gate(hidden_states)

        def bias(start: int, stop: int) -> Tensor:
            rows_HQT = windows_HTT[:, num_frames - stop : num_frames - start].flip(1)
            return gate_BHT1[:, :, start:stop] * rows_HQT

        query, key, value = (
            projection(hidden_states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = self.dropout if self.training else 0.0
        mixed_BHTE = attend_in_blocks(query, key, value, bias, attention_mask, dropout=dropout)
        return self.out_proj(mixed_BHTE.transpose(1, 2).flatten(2)), None, bias_HR

    def _biases(self, num_frames: int) -> Tensor:
        """A bias for every distance from -(T - 1) to T - 1, key minus query: (H, 2T - 1)."""
        device = self.rel_attn_embed.weight.device
        distance_R = torch.arange(1 - num_frames, num_frames, device=device)
        half = self.num_buckets // 2
        exact = half // 2
        size_R = distance_R.abs()
        # Short distances have buckets of their own, longer ones share buckets that grow like the logarithm.
        growth_R = torch.log(size_R.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        shared_R = (exact + growth_R * (half - exact)).long().clamp(max=half - 1)
        bucket_R = torch.where(size_R < exact, size_R, shared_R) + half * (distance_R > 0)
        return self.rel_attn_embed(bucket_R).T

    def _gate(self, hidden_BTD: Tensor) -> Tensor:
        by_head_BHTE = hidden_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        first, second = self.gru_rel_pos_linear(by_head_BHTE).unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        return first * (second * self.gru_rel_pos_const - 1.0) + 2.0


class ClippedRelativeAttention(nn.Module):
    """w2v-BERT 2.0's attention: a learned key for every distance, clipped (Shaw et al. 2018, Sec. 3.2).

    Args:
        original: ``Wav2Vec2BertSelfAttention`` with positions of the kind "relative_key".
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.linear_q, self.linear_k, self.linear_v = original.linear_q, original.linear_k, original.linear_v
        self.linear_out, self.dropout = original.linear_out, original.dropout
        self.distance_embedding = original.distance_embedding
        self.heads = int(original.num_heads)
        self.left, self.right = original.left_max_position_embeddings, original.right_max_position_embeddings

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> tuple[Tensor, None]:
        """Attention output (B, T, D), and no weights."""
        query, key, value = (
            projection(hidden_states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.linear_q, self.linear_k, self.linear_v)
        )
        # Every query against the few distances there are; the pairs then look their distance up.
        scores_BHTR = query @ self.distance_embedding.weight.T * query.shape[-1] ** -0.5
        place_T = torch.arange(query.shape[2], device=query.device)

        def bias(start: int, stop: int) -> Tensor:
            distance_QT = (place_T[None, :] - place_T[start:stop, None]).clamp(-self.left, self.right) + self.left
            scores_BHQR = scores_BHTR[:, :, start:stop]
            return scores_BHQR.gather(-1, distance_QT.expand(*scores_BHQR.shape[:2], -1, -1))

        dropout = self.dropout.p if self.training else 0.0
        mixed_BHTE = attend_in_blocks(query, key, value, bias, attention_mask, dropout=dropout)
        return self.linear_out(mixed_BHTE.transpose(1, 2).flatten(2)), None
