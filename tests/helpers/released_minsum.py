"""The released segmentation program as an oracle: the same float32 arithmetic on whole stacked arrays, in plain torch.

Written from its description, to compare boundaries, time and memory with. It keeps what the released program does: one
shifted copy of the features per segment length, stacked and then joined with padding, which is a second copy; the sums
of squares are taken as a difference, averaged over the feature dimensions; costs are capped at 16384, which also stands
for "no such segment"; every count starts from zero cost at the beginning, so a cut holds at most so many segments; ties
go to the shortest last segment; the dynamic count is the last probed one that is still too coarse.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

NO_SEGMENT = 16384.0


def segment_costs(feats_BTD: Tensor, max_length: int) -> Tensor:
    """(B, max_length + 1, T) float32: mean over dimensions of a segment's squared errors, by length and last frame."""
    num_clips, num_frames, _ = feats_BTD.shape
    # One rolled copy of the features per length, and a second one of it all with room for earlier starts in front.
    rolled = torch.stack([feats_BTD.roll(-shift, dims=1) for shift in range(max_length)], dim=1)
    front = feats_BTD[:, :max_length, None].expand(-1, -1, max_length - 1, -1)
    ahead = torch.cat([front, rolled], dim=2)
    squares = ahead.pow(2).mean(dim=-1).cumsum(dim=1)
    sizes = torch.arange(1, max_length + 1)[None, :, None]
    by_start = squares - ahead.cumsum(dim=1).pow(2).mean(dim=-1) / sizes
    costs = feats_BTD.new_full((num_clips, max_length + 1, num_frames), NO_SEGMENT)
    for length in range(1, max_length + 1):
        starts = slice(max_length - 1, max_length + num_frames - length)
        costs[:, length, length - 1 :] = by_start[:, length - 1, starts]
    return costs.clamp(max=NO_SEGMENT)


def last_lengths(costs: Tensor, most: int, min_length: int) -> Tensor:
    """(B, T + 1, most + 1) length of the last segment, by the frames covered and the number of segments allowed."""
    num_clips, rows, num_frames = costs.shape
    lengths = torch.arange(min_length, rows)
    ends = torch.arange(1, num_frames + 1)
    start = ends[None, :] - lengths[:, None]
    # One entry behind the last frame stands for starts before the recording.
    start = torch.where(start >= 0, start, num_frames + 1)[None].expand(num_clips, -1, -1)
    totals = costs.new_full((num_clips, num_frames + 2), NO_SEGMENT)
    totals[:, 0] = 0.0
    chosen = torch.zeros(num_clips, num_frames + 1, most + 1, dtype=torch.int64)
    for count in range(1, most + 1):
        before = totals[:, None].expand(-1, len(lengths), -1).gather(2, start)
        best = (before + costs[:, min_length:]).min(dim=1)
        totals[:, 1:-1] = best.values
        chosen[:, 1:, count] = best.indices + min_length
    return chosen


def boundaries(chosen: np.ndarray, count: int) -> list[int]:
    """[0, ..., T] from the lengths of one recording, (T + 1, most + 1)."""
    edges = [len(chosen) - 1]
    while edges[0] > 0:
        edges.insert(0, edges[0] - int(chosen[edges[0], count]))
        count -= 1
    return edges


def dynamic_count(costs: np.ndarray, chosen: np.ndarray, most: int, delta: float, quantile: float) -> list[int]:
    """The released search over counts, for one recording."""
    low, high, best = most // 3, most, most // 3
    while low <= high:
        middle = (low + high) // 2
        edges = boundaries(chosen, middle)
        means = [costs[end - start, end - 1] / (end - start) for start, end in itertools.pairwise(edges)]
        if np.quantile(means, quantile) > delta:
            low, best = middle + 1, middle
        else:
            high = middle - 1
    return boundaries(chosen, best)


@torch.inference_mode()
def released_minsum(
    feats_BTD: Tensor,
    delta: float,
    *,
    quantile: float = 0.75,
    max_rate: float = 0.2,
    min_length: int = 3,
    max_length: int = 35,
) -> list[list[int]]:
    """Boundaries of every recording of a batch without padding, (B, T, D) with T >= 15."""
    num_frames = feats_BTD.shape[1]
    most = int(max_rate * num_frames)
    costs = segment_costs(feats_BTD.float(), min(max_length, num_frames))
    chosen = last_lengths(costs, most, min_length).numpy()
    return [
        dynamic_count(cost, lengths, most, delta, quantile) for cost, lengths in zip(costs.numpy(), chosen, strict=True)
    ]
