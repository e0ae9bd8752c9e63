"""The nearest of many centres, exactly and in bounded memory, on a processor or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.quantize.vectors import BLOCK_ROWS, FloatArray, as_vectors

if TYPE_CHECKING:
    import torch

# Numbers in one block of the distance matrix: 16 MB of float32 on the processor, 512 MB on a GPU.
BLOCK_NUMBERS = {"cpu": 4_000_000, "cuda": 128_000_000}


def nearest_centre(
    vectors: npt.ArrayLike, centres: npt.ArrayLike, *, device: str | torch.device = "cpu"
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Find the nearest centre of each vector by matrix products over blocks, in bounded memory.

    The answer is that of double precision, so that a vector's centre depends neither on the batch it came in nor on the
    device: float32 products round differently for different block shapes. They only narrow the choice: where the
    rounding error of float32 leaves more than one centre, the distances to those are computed in float64. Of equally
    near centres the first wins.

    Args:
        vectors: (N, D).
        centres: (K, D), at least one.
        device: "cpu" or "cuda", where the products are computed.

    Returns:
        (N,) int32 index of the centre and (N,) float64 squared Euclidean distance to it.

    Raises:
        InputError: shapes that do not fit, NaN or infinite values.
    """
    x_ND, c_KD = as_vectors(vectors), as_vectors(centres, "centres")
    if len(c_KD) == 0 or x_ND.shape[1] != c_KD.shape[1]:
        raise InputError(f"vectors {x_ND.shape} and centres {c_KD.shape} do not fit: same dims and a centre are needed")
    search = CentreSearch(c_KD, device)
    index = search.nearest(x_ND)
    return index, search.distance(x_ND, index)


class CentreSearch:
    """Centres (K, D) that are ready for the search of `nearest_centre`, for blocks of vectors (B, D).

    Products in float32 must be that, as they are in torch unless a program allows it less (TF32, bfloat16).
    """

    def __init__(self, c_KD: FloatArray, device: str | torch.device) -> None:
        import torch

        self.c64_KD = c_KD.astype(np.float64)
        self.norm_K = np.einsum("kd,kd->k", self.c64_KD, self.c64_KD)
        try:
            self._device = torch.device(device)
            self._rows = max(1, BLOCK_NUMBERS[self._device.type] // len(c_KD))
        except (RuntimeError, KeyError):
            raise InputError(f"device {str(device)!r}: choose cpu or cuda") from None
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device {str(device)!r}: no CUDA device is available here; use cpu")
        with np.errstate(over="ignore"):
            self._norm_K = torch.from_numpy(self.norm_K.astype(np.float32)).to(self._device)
        self._c_DK = torch.from_numpy(c_KD.copy()).to(self._device).T

    def nearest(self, x_ND: FloatArray) -> npt.NDArray[np.int32]:
        """Return the (N,) index of the nearest centres."""
        index = np.empty(len(x_ND), dtype=np.int32)
        for first in range(0, len(x_ND), self._rows):
            x_BD = x_ND[first : first + self._rows]
            best_B, row_P, candidate_P = self._candidates(x_BD)
            if len(row_P):
                row, best = self._first_nearest(x_BD, row_P, candidate_P)
                best_B[row] = best
            index[first : first + self._rows] = best_B
        return index

    def distance(self, x_ND: FloatArray, index: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Return the (N,) squared distances of vectors to the centres of an index."""
        squared = np.empty(len(x_ND), dtype=np.float64)
        for first in range(0, len(x_ND), BLOCK_ROWS):
            rows = slice(first, first + BLOCK_ROWS)
            x64_BD = x_ND[rows].astype(np.float64)
            cross_B = np.einsum("bd,bd->b", x64_BD, self.c64_KD[index[rows]])
            power_B = np.einsum("bd,bd->b", x64_BD, x64_BD)
            squared[rows] = np.maximum(self.norm_K[index[rows]] - 2.0 * cross_B + power_B, 0.0)
        return squared

    def _candidates(
        self, x_BD: FloatArray
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the nearest centres by float32, and rows and centres, in order, of all where that leaves a choice."""
        import torch

        norm_B = np.sqrt(np.einsum("bd,bd->b", x_BD, x_BD, dtype=np.float64))
        # Twice a bound of one float32 score's error: D + 4 roundings of terms that add up to |c| (|c| + 2 |x|) at most.
        largest = float(np.sqrt(self.norm_K.max()))
        unit = (x_BD.shape[1] + 4) * float(np.finfo(np.float32).eps)
        margin_B = 2.0 * unit * largest * (largest + 2.0 * norm_B)
        with np.errstate(over="ignore"):
            margin = torch.from_numpy(margin_B.astype(np.float32)).to(self._device)
        # |x - c|^2 without |x|^2, which does not change the arg-min.
        score_BK = torch.addmm(self._norm_K, torch.from_numpy(x_BD.copy()).to(self._device), self._c_DK, alpha=-2.0)
        least_B, best_B = score_BK.min(dim=1)
        limit_B = torch.nextafter(least_B + margin, torch.full_like(margin, torch.inf))
        second_B = score_BK.scatter_(1, best_B[:, None], torch.inf).amin(dim=1)
        # Where a bound overflows float32 every centre is a candidate.
        open_R = torch.nonzero(~(second_B > limit_B))[:, 0]
        near_RK = ~(score_BK[open_R] > limit_B[open_R, None])
        near_RK[torch.arange(len(open_R), device=self._device), best_B[open_R]] = True
        row_P, candidate_P = near_RK.nonzero(as_tuple=True)
        return best_B.cpu().numpy(), open_R[row_P].cpu().numpy(), candidate_P.cpu().numpy()

    def _first_nearest(
        self, x_BD: FloatArray, row_P: npt.NDArray[np.int64], candidate_P: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the rows among pairs of row and centre, and of each the nearest centre, the first of equals."""
        exact_P = np.empty(len(row_P), dtype=np.float64)
        size = max(1, BLOCK_NUMBERS["cpu"] // x_BD.shape[1])
        for first in range(0, len(row_P), size):
            pairs = slice(first, first + size)
            # Each dot product on its own: a matrix product may round equal rows differently.
            products = np.einsum("pd,pd->p", self.c64_KD[candidate_P[pairs]], x_BD[row_P[pairs]].astype(np.float64))
            exact_P[pairs] = self.norm_K[candidate_P[pairs]] - 2.0 * products
        rows, first_R, count_R = np.unique(row_P, return_index=True, return_counts=True)
        least_P = np.repeat(np.minimum.reduceat(exact_P, first_R), count_R)
        _, chosen_R = np.unique(np.where(exact_P == least_P, row_P, -1), return_index=True)
        # Where every pair is the nearest of its row no -1 comes first.
        return rows, candidate_P[chosen_R[-len(rows) :]]
