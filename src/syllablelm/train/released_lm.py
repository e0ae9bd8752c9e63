"""Conversion of language models that others trained on units: SyllableLM's, its vocoder LM, TWIST's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import digest_path, new_artifact, open_artifact
from syllablelm.core.config import apply_overrides, build
from syllablelm.core.errors import FormatError, InputError, check_fields
from syllablelm.core.models import find_model, read_model_config
from syllablelm.core.results import Record, json_key
from syllablelm.formats import iterate_segmentations
from syllablelm.lm.backbone import keep_tokens, load_decoder, vocabulary_weights
from syllablelm.lm.decode import check_decoder
from syllablelm.lm.ngram import NgramModel
from syllablelm.lm.released_opt import load_opt_weights
from syllablelm.lm.speech_lm import SpeechLM, typical_durations
from syllablelm.lm.store import Interleaving, TokenInfo, TokenStore
from syllablelm.train.token_stage import tokenizer_info
from syllablelm.vocoder.acoustic import open_acoustic
from syllablelm.vocoder.interleave import StreamInfo

# Recordings of ``units`` that are scored: enough to tell whether the layout is right.
_SCORED = 200


@dataclass(frozen=True)
class ReleasedLayout:
    """What the files of a released language model do not say.

    Args:
        tokenizer: name or folder of the tokenizer of its units, of the syllables for a vocoder LM.
        num_units, hop: without a tokenizer, number of units, and samples per frame at 16 kHz.
        first: row of unit 0 in the embedding; by default ``offset`` of config.json, else 0.
        bos: row of BOS, -1 for none; by default none where config.json has an ``offset`` (TWIST), else the row after
            the last unit.
        heads: number of attention heads, for a file of weights alone; 0: one per 64 dimensions.
        context: longest sequence in training in tokens, BOS included; 0: all positions.
        units: file or folder of units (acoustic ones for a vocoder LM), for the typical duration of each.
        rate: without such units, units per second, for one duration of all.
        acoustic: folder of the acoustic units of a vocoder LM: acoustic/ of a `train vocoder` run.
        acoustic_units, acoustic_hop: without it, number of acoustic units, and samples per frame; 0: no vocoder LM.
        acoustic_first: row of acoustic unit 0; by default after the syllables.
        interleaving: order of the tokens of a vocoder LM, see ``vocoder.interleave``.
        ends: with "ella-v", rows of the end of the prefix, of a syllable, and of the stream.
    """

    tokenizer: str = ""
    num_units: int = 0
    hop: int = 320
    first: int | None = None
    bos: int | None = None
    heads: int = 0
    context: int = 0
    units: str = ""
    rate: float = 0.0
    acoustic: str = ""
    acoustic_units: int = 0
    acoustic_hop: int = 320
    acoustic_first: int | None = None
    interleaving: Interleaving = "time"
    ends: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, "num_units first heads context rate acoustic_units acoustic_first ends", least=0)
        check_fields(self, "hop acoustic_hop", least=1)
        check_fields(self, "bos", least=-1)
        if bool(self.tokenizer) == bool(self.num_units):
            raise InputError("name the tokenizer of its units: either tokenizer=NAME, or num_units=N")
        if bool(self.units) == bool(self.rate):
            raise InputError("durations of generated units: either units=FILE, or rate=N units per second")
        if self.acoustic and self.acoustic_units:
            raise InputError("give either acoustic=FOLDER or acoustic_units=N")
        if len(self.ends) != (3 if self.interleaving == "ella-v" else 0):
            raise InputError(f"ends: interleaving {self.interleaving!r} has {'3' if not self.ends else 'no'} such rows")

    @property
    def is_stream(self) -> bool:
        """Whether the model is a vocoder LM."""
        return bool(self.acoustic or self.acoustic_units)


@dataclass(frozen=True, kw_only=True)
class LMConversion(Record):
    """A language model that ``convert_lm`` wrote.

    Args:
        source_format, to: "weights" or "folder", and "lm".
        units, unused: number of units, and of rows of the vocabulary that are neither a unit nor BOS.
        first, bos: rows of unit 0 and of BOS (-1: none).
        nats_per_unit, unigram: mean loss on ``units``, and that of their unigrams: a wrong row shows as a model no
            better than those. None without ``units``, and for vocoder LMs.
    """

    source_format: str = json_key("from")
    to: str = "lm"
    units: int
    unused: int
    first: int
    bos: int
    nats_per_unit: float | None = None
    unigram: float | None = None
    loses: tuple[str, ...] = ()


def convert_lm(source: str | Path, out: str | Path, settings: Sequence[str] = ()) -> LMConversion:
    """Convert a released language model to an artifact, which ``SpeechLM.load`` and ``VocoderLM.load`` open.

    Args:
        source: Hugging Face folder or hub id of a causal language model (TWIST), or a file of weights of an OPT
            (SyllableLM); both are read without running code.
        out: new folder.
        settings: ``ReleasedLayout`` as "key=value".

    Raises:
        FormatError, InputError: an unreadable or unusable model, or a layout that does not fit it.
    """
    layout, source, out = build(ReleasedLayout, apply_overrides({}, settings), "--set"), find_model(source), Path(out)
    if out.exists():
        raise InputError(f"{out} exists; choose another --out or remove it")
    model: Any = load_decoder(source) if source.is_dir() else load_opt_weights(source, layout.heads)
    offset = read_model_config(source).get("offset") if source.is_dir() else None
    if offset is not None and not (type(offset) is int and offset >= 0):
        raise FormatError(f"{source}: offset in its config.json is {str(offset)[:40]}; give first=N")
    info, parents = _info(layout, source)
    first = layout.first if layout.first is not None else offset or 0
    rows = _unit_rows(layout, info, first)
    bos = layout.bos
    if bos is None:
        bos = -1 if offset is not None else max(rows) + 1
    if bos < 0 and layout.is_stream:
        raise InputError("a vocoder LM begins with BOS; give its row as bos=N")
    rows += [bos] if bos >= 0 else []
    size = len(vocabulary_weights(model)[0])
    if max(rows) >= size or len(set(rows)) < len(rows):
        raise InputError(
            f"{source}: {size} tokens, but units from row {first} and BOS in row {bos} need {max(rows) + 1} different "
            "ones; set first=N and bos=N (-1: none)"
        )
    keep_tokens(model, rows, has_bos=bos >= 0)
    check_decoder(model, str(source))
    info = replace(info, has_bos=bos >= 0, trained_tokens=layout.context)
    durations, store = _durations(layout, info)
    speech_lm, losses = SpeechLM(model, info, durations), {}
    if store is not None and not layout.is_stream:
        losses = {"nats_per_unit": speech_lm.evaluate(store), "unigram": NgramModel(store, 1).evaluate(store)}
    metrics: dict[str, float] = {name: each.nats_per_token for name, each in losses.items()}
    with new_artifact(out, "lm", config=layout, seed=0, parents=parents, metrics=dict(metrics)) as folder:
        speech_lm.write_payload(folder)
    form = "folder" if source.is_dir() else "weights"
    unused = size - len(rows)
    return LMConversion(
        source_format=form,
        units=info.num_tokens,
        unused=unused,
        first=first,
        bos=bos,
        **metrics,  # type: ignore[arg-type]
    )


def _info(layout: ReleasedLayout, source: Path) -> tuple[TokenInfo, dict[str, str]]:
    """Return the vocabulary of the converted model, and the digests of what it is made of."""
    units = tokenizer_info(layout.tokenizer) if layout.tokenizer else TokenInfo(layout.num_units, hop=layout.hop)
    parents = {"model": digest_path(source)} | ({"tokenizer": units.tokenizer} if units.tokenizer else {})
    if not layout.is_stream:
        return units, parents
    acoustic, hop, digest = layout.acoustic_units, layout.acoustic_hop, ""
    if layout.acoustic:
        opened = open_acoustic(open_artifact(layout.acoustic, "acoustic").path, device="cpu")
        acoustic, hop, digest = opened.num_units or 0, opened.encoder.hop, opened.digest
        parents["acoustic"] = digest
    grid = hop, units.sample_rate, units.hop
    stream = StreamInfo(units.num_tokens, acoustic, *grid, units.tokenizer, digest, layout.interleaving)
    return stream.tokens, parents


def _unit_rows(layout: ReleasedLayout, info: TokenInfo, first: int) -> list[int]:
    """Return the row of each token of ours but BOS."""
    if not layout.is_stream:
        return list(range(first, first + info.num_tokens))
    stream = StreamInfo.of_tokens(info)
    after = first + stream.syllables
    acoustic = after if layout.acoustic_first is None else layout.acoustic_first
    rows = [*range(first, after), *layout.ends[:1], *range(acoustic, acoustic + stream.acoustic), *layout.ends[1:]]
    return rows


def _durations(layout: ReleasedLayout, info: TokenInfo) -> tuple[npt.NDArray[np.int32], TokenStore | None]:
    """Return the typical frames of each token, and the units by which they were measured."""
    begin, count = 0, info.num_tokens
    if layout.is_stream:
        stream = StreamInfo.of_tokens(info)
        begin, count = stream.first_acoustic, stream.acoustic
    durations = np.ones(info.num_tokens, dtype=np.int32)
    if not layout.units:
        durations[begin : begin + count] = max(1, round(1 / (info.frame_seconds * layout.rate)))
        return durations, None
    own = replace(info, num_tokens=count, loss_from=0)
    rows = iterate_segmentations(layout.units, hop=info.hop, sample_rate=info.sample_rate)
    store = TokenStore.from_segmentations(((name, own.as_modelled(row)) for name, row in rows), own)
    durations[begin : begin + count] = typical_durations(store)
    return durations, TokenStore.from_arrays(*_head(store), own)


def _head(store: TokenStore) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]]:
    pairs = [store[index] for index in range(min(_SCORED, len(store)))]
    return [tokens for tokens, _ in pairs], [frames for _, frames in pairs]
