"""The released SyllableLM tokenizers: an encoder (.pth), k-means centres and an agglomeration table (.npy).

The files of one rate lie side by side under the names of the release::

    SylBoost_833Hz.pth    SylBoost_833Hz_kmeans.npy    SylBoost_833Hz_agglom.npy        (625Hz and 500Hz likewise)
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import digest_json, digest_path
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import atomic_path
from syllablelm.core.npy import read_npy
from syllablelm.encoders.data2vec2 import RELEASED_LAYER, Data2Vec2Encoder, load_data2vec2, save_data2vec2
from syllablelm.encoders.device import Precision
from syllablelm.quantize import Codebook
from syllablelm.tokenizer.segment_rule import SegmentRule

ENCODER, CENTRES, TABLE = ENDINGS = (".pth", "_kmeans.npy", "_agglom.npy")
# Hundredths of a Hz in the name -> threshold of the rule, in the scale of that checkpoint's features.
DELTAS = {833: 0.0033, 625: 0.0028, 500: 0.0019}


def load_released(
    path: str | Path, *, device: str = "auto", delta: float | None = None, precision: Precision = "float32"
) -> tuple[Data2Vec2Encoder, Codebook, SegmentRule]:
    """Open a released tokenizer with the rule of the published program.

    Args:
        path: encoder file, such as ``SylBoost_833Hz.pth``; its ``_kmeans.npy`` and ``_agglom.npy`` lie beside it.
        delta: threshold of the rule instead of the published one of the rate in the name.
        device, precision: see ``load_encoder``.

    Raises:
        FormatError: a file is missing, damaged or of another kind, or the files do not belong together.
        InputError: no delta is known for the name, or an unusable delta, device or precision.
    """
    path = Path(path)
    # The encoder, which takes seconds to load, comes last.
    rule = released_rule(path.stem, delta)
    beside = [path.with_name(path.stem + ending) for ending in (CENTRES, TABLE)]
    for file in (path, *beside):
        if not file.is_file():
            raise FormatError(f"{file}: no such file; a released tokenizer is {path.stem} with {', '.join(ENDINGS)}")
    codebook = _read_codebook(*beside)
    encoder = load_data2vec2(path, device=device, precision=precision)
    if codebook.dim != encoder.dim:
        raise FormatError(
            f"{beside[0]}: centres of {codebook.dim} dims, but the features of {path.name} have {encoder.dim}"
        )
    return encoder, codebook, rule


def released_digest(path: str | Path) -> str:
    """Return the digest of the three files of a released tokenizer."""
    path = Path(path)
    return digest_json([digest_path(path.with_name(path.stem + ending)) for ending in ENDINGS])


def released_rule(name: str, delta: float | None = None) -> SegmentRule:
    """Return the published rule of a tokenizer by its name ("SylBoost_833Hz"); an InputError for unknown rates."""
    found = re.search(r"(\d+)Hz", name)
    rate = int(found[1]) if found else 0
    if delta is None and rate not in DELTAS:
        known = ", ".join(f"{known}Hz" for known in DELTAS)
        raise InputError(f"{name}: the threshold is known for names with {known} only; give delta")
    chosen = DELTAS[rate] if delta is None else float(delta)
    if not 0 < chosen < float("inf"):
        raise InputError(f"delta {delta}: the threshold must be above 0 and finite")
    return SegmentRule(
        method="released",
        rate=rate / 100 if rate in DELTAS else SegmentRule.rate,
        delta=chosen,
        quantile=0.75,
        min_length=3,
        max_length=35,
        drop_edges=True,
        merge=True,
    )


def _read_codebook(centres_path: Path, table_path: Path) -> Codebook:
    centres, table = read_npy(centres_path), read_npy(table_path)
    if centres.ndim != 2 or centres.dtype.kind != "f":
        raise FormatError(f"{centres_path}: a real matrix (centres, dims) is needed, not {_describe(centres)}")
    # The published program flattens the table.
    if table.shape == (len(centres), 1):
        table = table[:, 0]
    if table.shape != (len(centres),) or table.dtype.kind not in "iu":
        raise FormatError(
            f"{table_path}: one integer for each of the {len(centres)} centres of {centres_path.name} is needed, "
            f"not {_describe(table)}"
        )
    try:
        return Codebook(centres, table, standardize=True)
    except InputError as error:
        raise FormatError(f"{centres_path} and {table_path.name}: no codebook: {error}") from None


def _describe(array: npt.NDArray) -> str:
    return f"{array.dtype} of shape {array.shape}"


def save_released(folder: str | Path, name: str, encoder: Data2Vec2Encoder, codebook: Codebook) -> Path:
    """Write a tokenizer as the three files of a release; each appears complete or not at all.

    The published program and `load_released` read them. They do not hold the rule: its threshold follows from the rate
    in the name, or is given again at loading.

    Args:
        folder, name: output folder, created if missing, and "SylBoost_833Hz" for ``SylBoost_833Hz.pth``.
        encoder: a Data2Vec 2.0 encoder, whose 11th block's output on plain waveforms the program takes.
        codebook: codebook of standardised vectors.

    Returns:
        path of the ``.pth`` file.

    Raises:
        InputError: a name that is no file name, or something that the format cannot hold.
    """
    if not isinstance(encoder, Data2Vec2Encoder):
        raise InputError(f"a released tokenizer holds a Data2Vec 2.0 encoder, not a {type(encoder).__name__}")
    if encoder.layer != RELEASED_LAYER or encoder.normalize:
        raise InputError(f"the released program takes layer {RELEASED_LAYER} of waveforms that are not standardised")
    if not codebook.standardize or codebook.dim != encoder.dim:
        raise InputError(f"a released tokenizer needs a codebook of standardised vectors of {encoder.dim} dims")
    if not name or Path(name).name != name:
        raise InputError(f"{name!r}: not a file name")
    folder = Path(folder)
    for ending, array in ((CENTRES, codebook.centres), (TABLE, codebook.table.astype(np.int64))):
        with atomic_path(folder / (name + ending)) as temporary, open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)
    path = folder / (name + ENCODER)
    save_data2vec2(encoder, path)
    return path
