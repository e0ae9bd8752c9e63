"""The rows of a boundary comparison: which segmenters the options ask for, and how many groups they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from syllablelm.core.errors import InputError
from syllablelm.tokenizer.bpe_tokenizer import open_tokenizer as load_tokenizer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from syllablelm.core.segmentation import Segmentation
    from syllablelm.data.alignment import Alignment, Level
    from syllablelm.encoders.base import FrameEncoder
    from syllablelm.evaluate.boundaries.comparison import Count
    from syllablelm.segment.registry import Segmenter
    from syllablelm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class RowChoice:
    """What is compared.

    Args:
        models: tokenizers.
        baselines: names of `make_segmenter`; those on features give a row for each layer of `encoders`.
        encoders: rows similarity@L, minsum@L and peaks@L of their layers; where there are several, with their name.
        layers: of the encoders, as text; all where empty, and those that an encoder has.
        predictor: encoder with its prediction head, for the row losspred.
    """

    models: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    predictor: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no row is asked for."""
        return not (self.models or self.baselines or self.encoders or self.predictor)


def split_names(text: str | None) -> tuple[str, ...]:
    """The parts of "a,b,c"."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def parse_levels(texts: Sequence[str] | None) -> tuple[Level, ...]:
    """The references of a repeatable --reference, each "a,b,c", each once; syllables where nothing is said.

    Raises:
        InputError: a reference that there is not.
    """
    from syllablelm.data.alignment import Level

    wanted = dict.fromkeys(name for text in texts or ["syllable"] for name in split_names(text))
    unknown = [name for name in wanted if name not in get_args(Level)]
    if unknown or not wanted:
        raise InputError(f"--reference {','.join(texts or [])}: choose some of {', '.join(get_args(Level))}")
    return cast("tuple[Level, ...]", tuple(wanted))


class _OwnRule:
    """A tokenizer that cuts as many groups as it sees fit.

    It keeps the last recording's segmentation, so that asking for the count and then for the boundaries encodes once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._last: tuple[object, Segmentation] | None = None

    def _segment(self, waveform: npt.NDArray[np.float32]) -> Segmentation:
        if self._last is None or self._last[0] is not waveform:
            self._last = (waveform, self.tokenizer.encode(waveform))
        return self._last[1]

    def count(self, name: str, waveform: npt.NDArray[np.float32], segmenter: Segmenter) -> int:
        return max(1, len(self._segment(waveform)))

    def cut(self, waveform: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int32]:
        return self._segment(waveform).boundaries


class _LayerFeatures:
    """One layer of an encoder that many rows share: a recording is encoded once, for all layers."""

    def __init__(self, model: FrameEncoder, layer: int, layers: list[int], kept: dict[str, Any]) -> None:
        self.layer, self.dim, self.num_frames = layer, model.dim, model.num_frames
        self.hop, self.receptive_field, self.sample_rate = model.hop, model.receptive_field, model.sample_rate
        self._model, self._layers, self._kept = model, layers, kept

    def encode(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        (waveform,) = waveforms
        if self._kept.get("waveform") is not waveform:
            self._kept.update(waveform=waveform, features=self._model.encode([waveform], self._layers)[0])
        return [self._kept["features"][self.layer]]


class Rows(NamedTuple):
    """Segmenters by the name of their row.

    Args:
        segmenters: by row.
        groups: how many groups each is asked for.
        counts: whose number of groups a row has: "own", "own of MODEL", "reference" or a rate per second.
    """

    segmenters: dict[str, Segmenter]
    groups: Count
    counts: dict[str, str]


def make_rows(choice: RowChoice, count: str, references: Mapping[str, Alignment], device: str) -> Rows:
    """Build the segmenters by the name of their row, and the rule for the number of groups.

    Args:
        choice: the rows.
        count: "reference", "own" (the first tokenizer's own choice, for every row) or a rate per second.
        references: by recording id, for "reference".
        device: of the models.

    Raises:
        InputError: a count, baseline or layer that there is not, "own" without a tokenizer, or a baseline on features
            without an encoder.
    """
    from syllablelm.evaluate.boundaries.comparison import rate_count, reference_count
    from syllablelm.segment.registry import ON_FEATURES, RIVALS, FrameGrid, Segmenter, make_segmenter

    if count == "own" and not choice.models:
        raise InputError("--count own is the count of a tokenizer; give --model NAME too")
    # Rows that choose their number of groups themselves.
    own_count = set(choice.models) if count == "own" else set()
    groups = reference_count(references) if count in ("reference", "own") else rate_count(_parse_rate(count))
    rows: dict[str, Segmenter] = {}
    for name in choice.models:
        tokenizer = load_tokenizer(name, device=device)
        if count == "own":
            own = _OwnRule(tokenizer)
            groups = groups if rows else own.count
            rows[name] = Segmenter(FrameGrid.of(tokenizer.encoder), own.cut)
        else:
            rule = tokenizer.rule
            rows[name] = make_segmenter(
                "peaks" if rule.method == "peaks" else "minsum", encoder=tokenizer.encoder, max_length=rule.max_length
            )
    masked = None if choice.predictor is None else _load_predictor(choice.predictor, device)
    on_features = [name for name in choice.baselines if name in ON_FEATURES]
    if on_features and not choice.encoders:
        raise InputError(f"--baselines {','.join(on_features)}: cut features; give --encoder NAME|PATH too")
    for name in [*choice.baselines, *(["losspred"] if masked else [])]:
        if name not in on_features:
            rows[name] = make_segmenter(name, predictor=masked)  # type: ignore[arg-type]
    kinds = tuple(dict.fromkeys(["similarity", "minsum", "peaks", *on_features]))
    for name in choice.encoders:
        label = f"{encoder_label(name)} " if len(choice.encoders) > 1 else ""
        for (kind, layer), segmenter in _layer_rows(name, choice.layers, kinds, device).items():
            row = f"{label}{kind}@{layer}"
            rows[row] = segmenter
            own_count |= {row} if kind in RIVALS else set()
    asked = f"own of {choice.models[0]}" if count == "own" else count
    return Rows(rows, groups, {row: "own" if row in own_count else asked for row in rows})


def _parse_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise InputError(f"--count {text!r}: choose reference, own, or a number of groups per second")
    return rate


def _load_predictor(folder: str, device: str) -> Any:
    from syllablelm.encoders import MaskedPredictor

    return MaskedPredictor.load(folder, device=device)


def encoder_label(name: str) -> str:
    """What tells one encoder from another: the folder's name, or that of the stage that it belongs to."""
    path = Path(name)
    return path.parent.name if path.name == "encoder" and path.parent.name else path.name


def _layer_rows(
    encoder: str, layers: tuple[str, ...], kinds: tuple[str, ...], device: str
) -> dict[tuple[str, int], Segmenter]:
    """Segmenters by kind and layer."""
    from syllablelm.encoders import load_encoder
    from syllablelm.segment.registry import make_segmenter

    try:
        wanted = [int(layer) for layer in layers]
    except ValueError:
        raise InputError(f"--layers {','.join(layers)}: give numbers joined by commas, such as 3,4") from None
    model = load_encoder(encoder, device=device)
    wanted = [layer for layer in wanted or range(1, model.layer + 1) if layer <= model.layer]
    if not wanted:
        raise InputError(f"--layers {','.join(layers)}: {encoder} has layers 1 to {model.layer}")
    kept: dict[str, Any] = {}
    shared = {layer: _LayerFeatures(model, layer, wanted, kept) for layer in wanted}
    return {
        (name, layer): make_segmenter(name, encoder=features)  # type: ignore[arg-type]
        for name in kinds
        for layer, features in shared.items()
    }
