from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from syllablelm.core.errors import FormatError
from syllablelm.quantize import Codebook
from syllablelm.quantize.codebook import read_codebook

CENTRES = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def nearest(vectors: np.ndarray) -> list[int]:
    return [int(np.argmin([((vector - centre) ** 2).sum() for centre in CENTRES])) for vector in vectors]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_matrix_of_centres_is_taken_as_it_is(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "km.npy", CENTRES.astype(dtype))
    save_file({"any name": CENTRES.astype(dtype)}, tmp_path / "km.safetensors", metadata={"format": "pt"})
    vectors = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
    for name in ("km.npy", "km.safetensors"):
        found = read_codebook(tmp_path / name)
        assert (found.num_units, found.dim, found.standardize) == (5, 3, False)
        if dtype is not np.float16:
            assert found.assign(vectors).tolist() == nearest(vectors)


def test_our_own_codebooks(tmp_path: Path) -> None:
    own = Codebook(CENTRES, np.array([0, 1, 1, 0, 2]), seed=3)
    own.save(tmp_path / "own.safetensors")
    assert read_codebook(tmp_path / "own.safetensors") == own


def test_unusable_files(tmp_path: Path) -> None:
    def fails(name: str, match: str) -> None:
        with pytest.raises(FormatError, match=match) as caught:
            read_codebook(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)

    fails("none.npy", "no such codebook file")
    (tmp_path / "km.bin").write_bytes(b"")
    fails("km.bin", "are read from .npy or .safetensors")
    (tmp_path / "text.npy").write_text("1 2 3")
    fails("text.npy", "not an array of numbers")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(CENTRES))
    fails("pickle.npy", "not an array of numbers")
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    fails("objects.npy", "not an array of numbers")
    np.save(tmp_path / "whole.npy", CENTRES)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-10])
    fails("cut.npy", "not an array of numbers")
    np.save(tmp_path / "vector.npy", CENTRES[0])
    fails("vector.npy", r"float32\(3,\), not a matrix of centres")
    np.save(tmp_path / "integers.npy", np.zeros((5, 3), dtype=int))
    fails("integers.npy", r"int64\(5, 3\), not a matrix")
    np.save(tmp_path / "nan.npy", np.full((5, 3), np.nan))
    fails("nan.npy", "not usable as centres")
    np.save(tmp_path / "empty.npy", np.zeros((0, 3)))
    fails("empty.npy", "not usable as centres")
    (tmp_path / "text.safetensors").write_bytes(b"nonsense")
    fails("text.safetensors", "not a safetensors file")
    save_file({"a": CENTRES, "b": CENTRES}, tmp_path / "two.safetensors")
    fails("two.safetensors", "holds 2 tensors")
