"""Released tokenizers and our tokenizer artifacts, one into the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from syllablelm.core.artifact import digest_bytes, new_artifact
from syllablelm.core.errors import InputError
from syllablelm.tokenizer.released import CENTRES, ENCODER, TABLE, load_released, released_rule, save_released
from syllablelm.tokenizer.tokenizer import Tokenizer


def convert_tokenizer(
    source: str | Path, out: str | Path, *, to: str, format: str | None = None, delta: float | None = None
) -> dict[str, Any]:
    """Turn a released tokenizer into an artifact of this package, or one with such an encoder back.

    Args:
        source: the release's ``SylBoost_833Hz.pth``, whose companions lie beside it; or an artifact's folder.
        out: the artifact's folder; or the release's ``.pth``.
        to: "tokenizer" or "released".
        format: of the source, the other of the two; None tells it by its suffix.
        delta: threshold of the released rule instead of the published one of the rate in the name.

    Returns:
        the formats, the number of units, and what the output does not hold.

    Raises:
        FormatError: unreadable input.
        InputError: nothing to convert, an output that exists or cannot hold the tokenizer.
    """
    source, out = Path(source), Path(out)
    if format is None:
        format = "released" if source.suffix == ENCODER else "tokenizer"
    if (format, to) == ("released", "tokenizer"):
        return {"from": format, "to": to, **_to_artifact(source, out, delta)}
    if (format, to) == ("tokenizer", "released"):
        if delta is not None:
            raise InputError("--delta belongs to reading a released tokenizer; its files hold none")
        return {"from": format, "to": to, **_to_release(source, out)}
    raise InputError(f"{source}: {format} cannot become {to}: a tokenizer is 'released' or 'tokenizer', and turns over")


def _to_artifact(source: Path, out: Path, delta: float | None) -> dict[str, Any]:
    if out.exists():
        raise InputError(f"{out} exists; choose another --out or remove it")
    encoder, codebook, rule = load_released(source, device="cpu", delta=delta)
    files = [source, *(source.with_name(source.stem + ending) for ending in (CENTRES, TABLE))]
    parents = {file.name: digest_bytes(file.read_bytes()) for file in files}
    metrics: dict[str, Any] = {}
    with new_artifact(out, "tokenizer", config=rule, seed=0, parents=parents, metrics=metrics) as folder:
        Tokenizer(encoder, codebook, rule).write_payload(folder)
    return {"units": codebook.num_units, "loses": []}


def _to_release(source: Path, out: Path) -> dict[str, Any]:
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
    lost = [] if kept else [f"the rule ({rule.method}, delta {rule.delta:g}, rate {rule.rate:g})"]
    return {"units": tokenizer.codebook.num_units, "loses": lost}
