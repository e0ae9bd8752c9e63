"""The codebook: k-means centres, their Ward agglomeration into units, standardisation and pooling of vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import atomic_path
from syllablelm.core.npy import read_npy
from syllablelm.core.segmentation import IntArray
from syllablelm.quantize.kmeans import Method, Progress, fit_kmeans
from syllablelm.quantize.nearest import CentreSearch
from syllablelm.quantize.vectors import FloatArray, VectorSource, as_vectors, open_vectors

if TYPE_CHECKING:
    import torch

FORMAT = "syllablelm.codebook"
FORMAT_VERSION = 1


def standardize_vectors(vectors: npt.ArrayLike, *, eps: float = 1e-6) -> FloatArray:
    """Subtract from each vector its own mean over dims and divide by its own unbiased standard deviation.

    The released code has no guard, so a constant vector becomes NaN there; here it becomes zeros.

    Args:
        vectors: (N, D), D >= 2.
        eps: a deviation of at most eps times the vector's absolute mean counts as zero. Relative, so that the
            result does not depend on the scale of the features.

    Returns:
        (N, D) float32.

    Raises:
        InputError: not a finite matrix with at least two dims, or eps negative.
    """
    x_ND = as_vectors(vectors)
    if x_ND.shape[1] < 2:
        raise InputError("vectors with one dimension have no deviation to be standardised by")
    if not eps >= 0:
        raise InputError(f"eps must not be negative, not {eps}")
    mean_N1 = x_ND.mean(axis=1, dtype=np.float64, keepdims=True)
    centred_ND = x_ND - mean_N1
    std_N1 = np.sqrt(np.einsum("nd,nd->n", centred_ND, centred_ND) / (x_ND.shape[1] - 1))[:, None]
    varies_N1 = std_N1 > eps * np.abs(mean_N1)
    scaled_ND = np.divide(centred_ND, std_N1, out=np.zeros_like(centred_ND), where=varies_N1)
    return scaled_ND.astype(np.float32)


def pool_segments(
    features: npt.ArrayLike, start: npt.ArrayLike, end: npt.ArrayLike, *, drop_edges: bool = False
) -> FloatArray:
    """Average the frames of each segment, by prefix sums.

    Args:
        features: (T, D) frames.
        start: (S,) integer, first frame of each segment.
        end: (S,) integer, frame after the last one; end > start.
        drop_edges: ignore the first and last frame of segments of three frames or more, as the released code does.

    Returns:
        (S, D) float32 means.

    Raises:
        InputError: empty segments, segments outside [0, T], features that are no finite matrix.
    """
    x_TD = as_vectors(features, "features")
    first, last = np.asarray(start), np.asarray(end)
    if first.ndim != 1 or first.shape != last.shape:
        raise InputError(f"start {first.shape} and end {last.shape} must be one-dimensional and of the same length")
    if len(first) == 0:
        return np.zeros((0, x_TD.shape[1]), dtype=np.float32)
    if first.dtype.kind not in "iu" or last.dtype.kind not in "iu":
        raise InputError(f"start and end must be integers (frames), not {first.dtype} and {last.dtype}")
    first, last = first.astype(np.int64), last.astype(np.int64)
    if first.min() < 0 or last.max() > len(x_TD) or (last <= first).any():
        raise InputError(f"segments must be non-empty and lie in the {len(x_TD)} frames of the features")
    if drop_edges:
        long_enough = last - first >= 3
        first, last = first + long_enough, last - long_enough
    prefix_TD = np.zeros((len(x_TD) + 1, x_TD.shape[1]), dtype=np.float64)
    np.cumsum(x_TD, axis=0, dtype=np.float64, out=prefix_TD[1:])
    mean_SD = (prefix_TD[last] - prefix_TD[first]) / (last - first)[:, None]
    return mean_SD.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Codebook:
    """Vectors to units: standardise, nearest k-means centre, agglomeration table.

    Args:
        centres: (K, D) float32 k-means centres, in the space of standardised vectors if `standardize`.
        table: (K,) int32 unit of each centre.
        standardize: whether vectors are standardised over their own dims first (`standardize_vectors`).
        seed: the seed it was fitted with, or None where that is unknown.

    Raises:
        InputError: shapes that do not fit, NaN or infinite centres, negative units.
    """

    centres: FloatArray
    table: IntArray
    standardize: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        # Private read-only copies: a frozen value must not change when the caller's arrays do.
        centres = as_vectors(self.centres, "centres").copy()
        table = np.asarray(self.table)
        if table.shape != (len(centres),) or table.dtype.kind not in "iu" or len(table) == 0:
            raise InputError(f"Codebook.table must hold one integer for each of the {len(centres)} centres")
        if table.min() < 0 or table.max() > np.iinfo(np.int32).max:
            raise InputError("Codebook.table must hold unit numbers from 0 up")
        table = table.astype(np.int32)
        centres.setflags(write=False)
        table.setflags(write=False)
        object.__setattr__(self, "centres", centres)
        object.__setattr__(self, "table", table)
        if self.standardize and self.dim < 2:
            raise InputError("a codebook of one-dimensional centres cannot standardise")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codebook):
            return NotImplemented
        return (
            (self.standardize, self.seed) == (other.standardize, other.seed)
            and np.array_equal(self.centres, other.centres)
            and np.array_equal(self.table, other.table)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def num_units(self) -> int:
        """Number of units: one more than the largest in the table."""
        return int(self.table.max()) + 1

    @property
    def dim(self) -> int:
        """Dimensions of the vectors it takes."""
        return self.centres.shape[1]

    def assign(self, vectors: npt.ArrayLike) -> IntArray:
        """Return the unit of each vector.

        Args:
            vectors: (N, D) pooled segment vectors, not standardised.

        Returns:
            (N,) int32 units.
        """
        x_ND = as_vectors(vectors)
        if x_ND.shape[1] != self.dim:
            raise InputError(
                f"vectors have {x_ND.shape[1]} dims, the codebook has {self.dim}: it is of another encoder"
            )
        if self.standardize:
            x_ND = standardize_vectors(x_ND)
        return self.table[self._search.nearest(x_ND)]

    @cached_property
    def _search(self) -> CentreSearch:
        return CentreSearch(self.centres, "cpu")

    def unit_centres(self) -> FloatArray:
        """Return the mean of the centres of each unit, (num_units, D) float32; zeros for a unit without any."""
        sums = np.zeros((self.num_units, self.dim), dtype=np.float32)
        np.add.at(sums, self.table, self.centres)
        return sums / np.maximum(np.bincount(self.table, minlength=self.num_units), 1)[:, None].astype(np.float32)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; it appears under its name only once complete."""
        from safetensors.numpy import save_file

        metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "standardize": str(int(self.standardize))}
        if self.seed is not None:
            metadata["seed"] = str(self.seed)
        with atomic_path(path) as temporary:
            save_file({"centres": self.centres, "table": self.table}, temporary, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path) -> Codebook:
        """Read a file that `save` wrote.

        Raises:
            FormatError: missing, not safetensors, of another kind or a newer version, or with unusable contents.
        """
        metadata, tensors = _read_safetensors(Path(path), "a codebook in safetensors form")
        if metadata.get("format") != FORMAT or "standardize" not in metadata:
            raise FormatError(f"{path}: a safetensors file, but not a codebook (format {metadata.get('format')!r})")
        if metadata.get("format_version") != str(FORMAT_VERSION):
            raise FormatError(
                f"{path}: codebook format version {metadata.get('format_version')}, this program reads "
                f"{FORMAT_VERSION}: use the version of syllablelm that wrote it"
            )
        try:
            seed = int(metadata["seed"]) if "seed" in metadata else None
            return cls(tensors["centres"], tensors["table"], bool(int(metadata["standardize"])), seed)
        except KeyError as error:
            raise FormatError(f"{path}: not a codebook in safetensors form (no {error})") from None
        except (InputError, ValueError) as error:
            raise FormatError(f"{path}: damaged codebook: {error}") from error


def ward_merge(centres: npt.ArrayLike, num_units: int) -> npt.NDArray[np.int32]:
    """Merge centres into units, at each step the two clusters whose union adds the least squared error (Ward).

    The paper does not name its linkage; Ward is that of SD-HuBERT, with which it compares. Centres have equal weights,
    independent of their numbers of vectors. Memory and time grow with K squared: 4,096 centres of 512 dims take 3 s
    and 0.15 GB, 8,192 take 13 s and 0.55 GB, 32,768 would take 4 minutes and 9 GB.

    Args:
        centres: (K, D), K >= num_units.
        num_units: final number of clusters.

    Returns:
        (K,) int32 unit of each centre; units are numbered in the order of their first centre.

    Raises:
        InputError: fewer centres than units, num_units below 1, NaN or infinite values.
    """
    from sklearn.cluster import AgglomerativeClustering

    c_KD = as_vectors(centres, "centres")
    if not 1 <= num_units <= len(c_KD):
        raise InputError(f"{len(c_KD)} centres cannot be merged into {num_units} units: ask for 1 to {len(c_KD)} units")
    if num_units == len(c_KD):
        return np.arange(num_units, dtype=np.int32)
    if num_units == 1:
        return np.zeros(len(c_KD), dtype=np.int32)
    labels = AgglomerativeClustering(n_clusters=num_units, linkage="ward").fit_predict(c_KD.astype(np.float64))
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse.reshape(-1)]


def fit_codebook(
    vectors: VectorSource,
    num_units: int,
    *,
    num_centres: int | None = None,
    standardize: bool = True,
    method: Method = "auto",
    seed: int = 0,
    restarts: int = 1,
    max_iter: int | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    before_ward: Callable[[int], None] | None = None,
) -> Codebook:
    """Fit a codebook: standardise, k-means, Ward agglomeration.

    Args:
        vectors: (N, D) pooled segment vectors, not standardised, as `fit_kmeans` takes them; N >= num_centres.
        num_units: final number of units.
        num_centres: number of k-means centres before agglomeration (default: twice the units).
        standardize: see `Codebook`.
        method, seed, restarts, max_iter, device, progress: see `fit_kmeans`.
        before_ward: called as before_ward(num_centres) between k-means and agglomeration, if there is one.

    Raises:
        InputError: too few (distinct) vectors, fewer centres than units, NaN or infinite values.
        MissingDependencyError: method "faiss" without faiss installed.
    """
    centres_wanted = 2 * num_units if num_centres is None else num_centres
    if not 1 <= num_units <= centres_wanted:
        raise InputError(f"{centres_wanted} centres cannot be merged into {num_units} units: give at least as many")
    held = open_vectors(vectors)
    held = held.map(standardize_vectors) if standardize else held
    options = {"seed": seed, "restarts": restarts, "max_iter": max_iter, "progress": progress}
    centres = fit_kmeans(held, centres_wanted, method=method, device=device, **options)
    if before_ward is not None and num_units < centres_wanted:
        before_ward(centres_wanted)
    return Codebook(centres, ward_merge(centres, num_units), standardize=standardize, seed=seed)


def read_codebook(path: str | Path) -> Codebook:
    """Read a codebook of this package, or k-means centres (num_units, dim) as .npy or .safetensors.

    Of foreign centres every one is a unit, and vectors are not standardised.

    Raises:
        FormatError: missing, a pickle, or not one matrix of finite numbers.
    """
    path = Path(path)
    if path.is_file() and path.suffix == ".npy":
        centres = read_npy(path)
    elif path.suffix == ".safetensors" or not path.is_file():
        metadata, tensors = _read_safetensors(path, "a safetensors file of numbers")
        if metadata.get("format") == FORMAT:
            return Codebook.load(path)
        if len(tensors) != 1:
            raise FormatError(f"{path}: holds {len(tensors)} tensors; one matrix of centres is needed")
        centres = next(iter(tensors.values()))
    else:
        # Joblib files of scikit-learn models, the usual other form, are pickles, which may run code.
        raise FormatError(f"{path}: k-means centres are read from .npy or .safetensors; save their matrix as one")
    if centres.ndim != 2 or centres.dtype.kind != "f":
        raise FormatError(f"{path}: has {centres.dtype}{centres.shape}, not a matrix of centres (num_units, dim)")
    try:
        return Codebook(centres, np.arange(len(centres), dtype=np.int32), standardize=False)
    except InputError as error:
        raise FormatError(f"{path}: not usable as centres: {error}") from None


def _read_safetensors(path: Path, what: str) -> tuple[dict[str, str], dict[str, npt.NDArray]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FormatError(f"{path}: there is no such codebook file")
    try:
        # numpy has no bfloat16; copies, because the tensors lie in the file.
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        floats = {name: tensor.float() for name, tensor in found.items() if tensor.is_floating_point()}
        return metadata, {name: tensor.numpy().copy() for name, tensor in (found | floats).items()}
    except (SafetensorError, TypeError, RuntimeError) as error:
        raise FormatError(f"{path}: not {what} ({error})") from None
