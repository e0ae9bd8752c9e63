"""Conversion of released tokenizers to tokenizer artifacts and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import digest_bytes, new_artifact
from syllablelm.core.errors import InputError
from syllablelm.core.results import Record, json_key
from syllablelm.tokenizer.released_checkpoint import (
    CENTRES,
    ENCODER,
    TABLE,
    load_released,
    released_rule,
    save_released,
)
from syllablelm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class TokenizerConversion(Record):
    """Result of ``convert_tokenizer``: forms, number of units, and what the output does not hold."""

    source_format: str = json_key("from")
    to: str
    units: int
    loses: tuple[str, ...]


def convert_tokenizer(
    source: str | Path, out: str | Path, *, to: str, format: str | None = None, delta: float | None = None
) -> TokenizerConversion:
    """Convert a released tokenizer to an artifact of this package, or an artifact with such an encoder back.

    Args:
        source: the ``SylBoost_833Hz.pth`` of a release, with its companions beside it; or the folder of an artifact.
        out: folder of the artifact; or the ``.pth`` of a release.
        to, format: forms of output and source, "tokenizer" and "released"; by default the suffix tells the source's.
        delta: threshold of the released rule instead of the published one of the rate in the name.

    Raises:
        FormatError, InputError: unreadable input, unknown forms, an output that exists or cannot hold the tokenizer.
    """
    source, out = Path(source), Path(out)
    if format is None:
        format = "released" if source.suffix == ENCODER else "tokenizer"
    if (format, to) == ("released", "tokenizer"):
        units, lost = _to_artifact(source, out, delta)
    elif (format, to) != ("tokenizer", "released"):
        known = "convert a 'released' tokenizer to 'tokenizer', or back"
        raise InputError(f"{source}: {format} cannot become {to}: {known}")
    elif delta is not None:
        raise InputError("--delta belongs to reading a released tokenizer; its files hold none")
    else:
        units, lost = _to_release(source, out)
    return TokenizerConversion(source_format=format, to=to, units=units, loses=lost)


def _to_artifact(source: Path, out: Path, delta: float | None) -> tuple[int, tuple[str, ...]]:
    if out.exists():
        raise InputError(f"{out} exists; choose another --out or remove it")
    encoder, codebook, rule = load_released(source, device="cpu", delta=delta)
    files = [source, *(source.with_name(source.stem + ending) for ending in (CENTRES, TABLE))]
    parents = {file.name: digest_bytes(file.read_bytes()) for file in files}
    metrics: dict[str, Any] = {}
    with new_artifact(out, "tokenizer", config=rule, seed=0, parents=parents, metrics=metrics) as folder:
        Tokenizer(encoder, codebook, rule).write_payload(folder)
    return codebook.num_units, ()


def _to_release(source: Path, out: Path) -> tuple[int, tuple[str, ...]]:
    if out.suffix != ENCODER:
        raise InputError(f"--out {out}: the name of a released tokenizer ends in {ENCODER}, as in SylBoost_833Hz.pth")
    tokenizer = Tokenizer.load(source, device="cpu")
    if tokenizer.codebook is None:
        raise InputError(f"{source}: a released tokenizer needs a codebook")
    save_released(out.parent, out.stem, tokenizer.encoder, tokenizer.codebook)  # type: ignore[arg-type]
    # The published program takes its rule from the name alone.
    try:
        kept = tokenizer.rule == released_rule(out.stem)
    except InputError:
        kept = False
    rule = tokenizer.rule
    lost = () if kept else (f"the rule ({rule.method}, delta {rule.delta:g}, rate {rule.rate:g})",)
    return tokenizer.codebook.num_units, lost
