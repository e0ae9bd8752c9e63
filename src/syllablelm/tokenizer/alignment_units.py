"""Alignments to reference units, by a vocabulary that is learned from them or was learned before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, InputError
from syllablelm.data.alignment import read_alignments
from syllablelm.formats import FORMATS, Unsaid, open_writer
from syllablelm.tokenizer.reference_units import Tier, Vocabulary, alignments_digest, fit_vocabulary


def convert_alignments(
    source: str | Path,
    out: str | Path,
    *,
    to: str,
    tier: Tier,
    vocabulary: str | Path,
    fit: int | None = None,
    unsaid: Unsaid | None = None,
) -> dict[str, Any]:
    """Write the phones, syllables, words or text pieces of alignments as units.

    Args:
        source: what ``read_alignments`` takes.
        out: file, folder or prefix of the units.
        to: a name of the registry of formats.
        tier: "phone", "syllable", "word" or "text".
        vocabulary: folder of the vocabulary: made where ``fit`` is given, else opened.
        fit: units of the vocabulary, that of unseen labels included; 0 for all labels.
        unsaid: the hop and sample rate of a new vocabulary (320 at 16 kHz), and the unit that stands for gaps.

    Returns:
        what was written and lost: units that the vocabulary does not hold, and those that had to make room for others.

    Raises:
        FormatError, InputError: unreadable input, a vocabulary of another tier, an output that cannot be written.
    """
    alignments = read_alignments(Path(source))
    unsaid = unsaid or Unsaid()
    if fit is None:
        found = Vocabulary.load(vocabulary)
        if found.tier != tier:
            raise InputError(f"{vocabulary}: a vocabulary of tier {found.tier}, not {tier}")
        if unsaid.hop not in (None, found.hop):
            raise InputError(f"{vocabulary}: a vocabulary of frames of {found.hop} samples; --hop cannot change them")
    else:
        grid: Any = {"hop": unsaid.hop or 320, "sample_rate": unsaid.sample_rate}
        if Path(vocabulary).exists():
            raise InputError(f"{vocabulary} exists; choose another --vocab, or leave out --fit to use what it holds")
        found = fit_vocabulary(alignments.values(), tier, fit, **grid)
    segments, unseen, moved = 0, 0, 0
    with open_writer(out, to, unsaid, tokenizer=found.digest) as writer:
        for name, alignment in alignments.items():
            placed = found.encode(alignment)
            try:
                writer.write(name, "", placed.segmentation)
            except InputError as error:
                raise FormatError(f"{source}: {error}") from None
            segments += len(placed.segmentation)
            unseen, moved = unseen + placed.unseen, moved + placed.moved
    if fit is not None:
        found.save(vocabulary, {"alignments": alignments_digest(alignments)})
    return {
        "from": "alignments",
        "to": to,
        "tier": tier,
        "recordings": len(alignments),
        "segments": segments,
        "vocabulary": found.num_units,
        "unseen": unseen,
        "moved": moved,
        "grids": [[found.hop, found.sample_rate]],
        "loses": ["silences (they are gaps)", *FORMATS[to].loses],
    }
