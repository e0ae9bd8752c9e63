"""MinSum on a GPU: the program of `kernels` for a whole batch at once, in plain PyTorch.

Shapes: B clips, T frames of the longest, D dimensions, G = max_length, K segments. Costs come from float64 matrix
products of neighbouring frames, totals are float64 as well, so that the boundaries are those of the CPU kernels except
where two cuts cost the same to about 13 digits. Nothing inside the loops waits for the device; the table of lengths
comes to the CPU once, one byte per entry, and the cuts are read from it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from syllablelm.core.errors import InputError
from syllablelm.segment.arrays import FloatArray

_BLOCK = 128  # frames per matrix product


def solve(
    clips: Sequence[Tensor], counts: Sequence[int], min_length: int, max_length: int, at_most: bool
) -> Iterator[tuple[FloatArray, npt.NDArray[np.integer]]]:
    """Solve every clip for all counts up to its own.

    Args:
        clips, counts: (T_b, D) tensors on one device, each longer than `min_length` frames, and numbers of segments.
        min_length, max_length, at_most: as in `kernels.best_lengths`.

    Returns:
        for each clip what `kernels.squared_error_costs` and `kernels.best_lengths` return.

    Raises:
        InputError: values that are not finite.
    """
    if not clips:
        return
    feats_BTD = torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    if not bool(torch.isfinite(feats_BTD.sum(dim=(1, 2), dtype=torch.float64)).all()):
        raise InputError("features hold NaN or infinity; check the recording and the encoder that made them")
    max_length = min(max_length, feats_BTD.shape[1])
    costs_BGT = squared_error_costs(feats_BTD, max_length)
    lengths_KBT = best_lengths(costs_BGT, max(counts), min_length, at_most)
    costs, lengths = costs_BGT.cpu().numpy(), lengths_KBT.cpu().numpy()
    for index, clip in enumerate(clips):
        ends = len(clip) + 1
        yield (
            np.ascontiguousarray(costs[index, : min(max_length, len(clip)) + 1, :ends]),
            np.ascontiguousarray(lengths[: counts[index] + 1, index, :ends]),
        )


def neighbour_distances(feats_BTD: Tensor, reach: int) -> Tensor:
    """(B, T, reach + 1) float64 squared distances: entry [b, t, g] is that of frame t to frame t - g, if there is one.

    From matrix products |x|^2 + |y|^2 - 2 xy; the clip's first frame is taken off all, so that a common offset costs no
    precision and constant frames are exactly 0 apart.
    """
    num_clips, num_frames, _ = feats_BTD.shape
    origin = feats_BTD[:, :1].double()
    squares_BS = torch.zeros(num_clips, reach + num_frames, dtype=torch.float64, device=feats_BTD.device)
    distances = torch.empty(num_clips, num_frames, reach + 1, dtype=torch.float64, device=feats_BTD.device)
    for first in range(0, num_frames, _BLOCK):
        last = min(first + _BLOCK, num_frames)
        rows, ahead = last - first, max(0, reach - first)  # frames of this block; those missing before the first
        near = feats_BTD[:, max(0, first - reach) : last].double() - origin
        near = torch.nn.functional.pad(near, (0, 0, ahead, 0))
        products = torch.bmm(near[:, reach:], near.transpose(1, 2))
        width = rows + reach
        squares_BS[:, reach + first : reach + last] = products[:, :, reach:].diagonal(dim1=1, dim2=2)
        band = products.as_strided((num_clips, rows, reach + 1), (rows * width, width + 1, 1))
        others = squares_BS[:, first : last + reach].unfold(1, reach + 1, 1)
        block = others + others[:, :, -1:] - 2.0 * band
        distances[:, first:last] = block.clamp_(min=0.0).flip(2)
    return distances


def squared_error_costs(feats_BTD: Tensor, max_length: int) -> Tensor:
    """(B, max_length + 1, T + 1) float64: of every clip what `kernels.squared_error_costs` returns."""
    num_clips, num_frames, _ = feats_BTD.shape
    to_last = neighbour_distances(feats_BTD, max_length - 1).cumsum(dim=2)
    costs = torch.full(
        (num_clips, max_length + 1, num_frames + 1), torch.inf, dtype=torch.float64, device=feats_BTD.device
    )
    costs[:, 1, 1:] = 0.0
    # Sums over all pairs of frames of the segments that end with frame t, one frame longer every time.
    pairs_BT = torch.zeros(num_clips, num_frames, dtype=torch.float64, device=feats_BTD.device)
    for length in range(2, max_length + 1):
        pairs_BT = pairs_BT[:, :-1] + to_last[:, length - 1 :, length - 1]
        costs[:, length, length:] = pairs_BT / length
    return costs


def best_lengths(costs_BGT: Tensor, num_segments: int, min_length: int, at_most: bool) -> Tensor:
    """(num_segments + 1, B, T + 1): of every clip what `kernels.best_lengths` returns; any length where it has none.

    Time runs backwards inside, since a view of the totals before each end must not have negative strides.
    """
    num_clips, rows, num_ends = costs_BGT.shape
    max_length = rows - 1
    costs = costs_BGT[:, min_length:].flip(2)
    kind = torch.uint8 if rows <= 256 else torch.int32
    lengths = torch.zeros(num_segments + 1, num_clips, num_ends, dtype=kind, device=costs.device)
    # Behind the recording's beginning lie max_length entries for the ends before it.
    totals = torch.full((num_clips, num_ends + max_length), torch.inf, dtype=torch.float64, device=costs.device)
    totals[:, num_ends - 1] = 0.0
    before = totals.as_strided(costs.shape, (totals.stride(0), 1, 1), min_length)
    candidates = torch.empty_like(costs)
    for count in range(1, num_segments + 1):
        torch.add(before, costs, out=candidates)
        best = candidates.min(dim=1)
        totals[:, :num_ends] = best.values
        if at_most:
            totals[:, num_ends - 1] = 0.0
        lengths[count] = best.indices + min_length
    return lengths.flip(2)
