from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from helpers.random_segmentations import SOME, files_below, segmentations, write_all
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import FormatOptions, read_entries

THREE = np.array([[4, 9], [9, 15], [20, 33]])


def read_one(path: Path) -> Segmentation:
    (entry,) = read_entries(path, "sdhubert")
    return entry.segmentation


@settings(deadline=None, max_examples=50)
@given(segmentation=segmentations())
def test_round_trip(tmp_path_factory, segmentation: Segmentation) -> None:
    folder = tmp_path_factory.mktemp("sdhubert") / "out"
    some = {"test-clean/61/61-70968-0000": segmentation, "other": SOME["no units"]}
    write_all(folder, "sdhubert", some)
    assert files_below(folder)[0] == "other.npz"
    assert {entry.id: entry.segmentation for entry in read_entries(folder, "sdhubert")} == some


def test_integers_are_frames_and_fractions_seconds(tmp_path: Path) -> None:
    expected = Segmentation(THREE[:, 0], THREE[:, 1], None, 33)
    for number, segments in enumerate((THREE, THREE.astype(np.uint16), THREE / 50.0, (THREE / 50).astype("f4"))):
        np.save(tmp_path / f"{number}.npy", segments)
        assert read_one(tmp_path / f"{number}.npy") == expected
    # What its MinCut gives where there is no speech.
    np.save(tmp_path / "none.npy", np.zeros((0, 2)))
    assert read_one(tmp_path / "none.npy") == Segmentation(THREE[:0, 0], THREE[:0, 1], None, 0)


def test_saved_anew_their_dictionary_is_read_whole(tmp_path: Path) -> None:
    theirs: Any = {"segments": THREE, "features": np.ones((40, 3)), "length": 40, "segment_features": np.ones((3, 3))}
    np.save(tmp_path / "a.npy", theirs)
    with pytest.raises(FormatError, match=r"a.npy: a pickled dictionary, .* save it anew by numpy.savez\("):
        read_one(tmp_path / "a.npy")
    d = np.load(tmp_path / "a.npy", allow_pickle=True)[()]
    np.savez(tmp_path / "a.npz", segments=d["segments"], length=d["length"])
    assert read_one(tmp_path / "a.npz") == Segmentation(THREE[:, 0], THREE[:, 1], None, 40)


class _Malice:
    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)

    path: Path


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    bad = _Malice()
    bad.path = tmp_path / "made by the pickle"
    np.save(tmp_path / "a.npy", np.array([bad], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", segments=np.array([bad], dtype=object))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(FormatError, match="a pickled dictionary, which can hold code and is not opened"):
            read_one(tmp_path / name)
    assert not bad.path.exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"segments": THREE[:, 0]}, r"segments must be \(num_segments, 2\) frames or seconds, not int64\[3\]"),
        ({"segments": THREE.astype(str)}, "segments must be"),
        ({"segments": THREE, "length": 30}, "reaches outside its 30 frames"),
        ({"segments": THREE, "length": 40.0}, "length must be one integer"),
        ({"segments": THREE[::-1], "length": 40}, "must be non-empty, sorted"),
        ({"segments": THREE - 5}, "reaches outside"),
        ({"segments": THREE + 2**31}, "does not fit"),
        ({"segments": THREE - 2**32}, "does not fit"),
        ({"segments": THREE, "units": [1, 2]}, "same length"),
        ({"segments": THREE, "units": [1.0, 2.0, 3.0]}, "one row of integers"),
        ({"segments": THREE, "units": [1, 2, 2**32]}, "does not fit"),
        ({"segments": THREE * 0.013}, "s is between two frames of 320 samples"),
        ({"segments": np.full((1, 2), np.nan)}, "not finite"),
        ({"length": 4}, "holds no array called 'segments'"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(FormatError, match=f"a.npz: .*{message}"):
        read_one(tmp_path / "a.npz")


@pytest.mark.parametrize("kept", [0, 3, 60, 140, 400])
def test_damaged_files_are_named(tmp_path: Path, kept: int) -> None:
    stream = io.BytesIO()
    np.savez(stream, segments=np.arange(100).reshape(-1, 2), length=100)
    np.save(tmp_path / "b.npy", np.arange(100).reshape(-1, 2))
    (tmp_path / "a.npz").write_bytes(stream.getvalue()[:kept])
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes()[:kept])
    for name in ("a.npz", "b.npy"):
        with pytest.raises(
            FormatError, match=f"{name}: (not a file of numpy arrays|damaged numpy file|not an array of numbers)"
        ):
            read_one(tmp_path / name)
    (tmp_path / "a.npz").write_text("segments")
    with pytest.raises(FormatError, match="not a file of numpy arrays"):
        read_one(tmp_path / "a.npz")


def test_only_fifty_frames_a_second_are_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="x: SD-HuBERT's files have 50 frames per second, not 25"):
        write_all(tmp_path / "out", "sdhubert", {"x": Segmentation.from_boundaries([0, 5], hop=640)})
    write_all(tmp_path / "out", "sdhubert", {"x": Segmentation.from_boundaries([0, 5], hop=441, sample_rate=22_050)})
    (entry,) = read_entries(tmp_path / "out", "sdhubert", FormatOptions(hop=441, sample_rate=22_050))
    assert entry.segmentation.hop == 441
