"""The segmentation methods: one list, which tokenizers, training, evaluation and help texts use.

It loads neither numpy nor torch. The function of each method stands in ``segmenter`` under the same name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from syllablelm.core.errors import unknown_name

Need = Literal["waveform", "features", "predictor"]
# Written in tokenizers and recipes of earlier versions.
ALIASES = {"rate": "minsum"}
HIGHEST_RATE = 1000.0
"""Most segments per second that may be asked for; no method gives more of them than there are frames."""


@dataclass(frozen=True)
class Method:
    """A segmentation method.

    Args:
        name, summary: name in options, recipes and artifacts, and noun phrase for help texts.
        needs: what it reads: the waveform, features of an encoder, or an encoder with its masked-prediction head.
        parameters: settings that it takes: "delta", "quantile", "min_length", "max_length", "span", "gap",
            "vad".
        counted: whether it takes the number of segments; otherwise it chooses its own.
        gaps: whether it may leave frames out (silence) between segments.
        published: whether it is another system's, with that system's settings.
    """

    name: str
    summary: str
    needs: tuple[Need, ...] = ()
    parameters: tuple[str, ...] = ()
    counted: bool = True
    gaps: bool = False
    published: bool = False

    @property
    def for_tokenizers(self) -> bool:
        """Whether features are all it needs, so that a tokenizer may segment by it."""
        return set(self.needs) <= {"features"}


def _rival(name: str, summary: str, *, gaps: bool = False) -> Method:
    return Method(name, summary, ("features",), counted=False, gaps=gaps, published=True)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("even", "segments of equal length", parameters=("max_length",)),
        Method("frames", "every frame a segment", counted=False),
        Method("envelope", "valleys of the amplitude envelope", ("waveform",)),
        Method("strength", "peaks of the acoustic boundary score", ("waveform",)),
        Method("mel", "MinSum on log-mel features", ("waveform",), ("max_length",)),
        Method("similarity", "MinCut on feature similarity", ("features",), ("max_length",)),
        Method("minsum", "MinSum on features", ("features",), ("min_length", "max_length")),
        Method(
            "released",
            "MinSum with the released code's choice of the number of segments",
            ("features",),
            ("delta", "quantile", "min_length", "max_length"),
            counted=False,
        ),
        Method(
            "penalty",
            "MinSum with a penalty for every segment instead of their number",
            ("features",),
            ("delta", "min_length", "max_length"),
            counted=False,
        ),
        Method("peaks", "peaks of feature change", ("features",)),
        Method("refined", "peaks of feature change plus acoustic boundary score", ("features", "waveform")),
        Method(
            "losspred",
            "MinCut on the loss-prediction matrix of the speech",
            ("predictor", "waveform"),
            ("span", "gap", "max_length", "vad"),
        ),
        Method("combined", "LossPred plus acoustic boundary score", ("predictor", "waveform"), ("span", "gap")),
        _rival("similarity-merge", "Peng et al."),
        _rival("sdhubert", "SD-HuBERT", gaps=True),
        _rival("sdhubert-relative", "SD-HuBERT, threshold relative to the recording", gaps=True),
        _rival("sylber", "Sylber", gaps=True),
        _rival("sylber-relative", "Sylber, threshold relative to the recording", gaps=True),
        _rival("zerosyl", "ZeroSyl"),
    )
}
"""Segmentation methods by name."""
PUBLISHED = tuple(name for name, method in METHODS.items() if method.published)
TOKENIZER_METHODS = tuple(name for name, method in METHODS.items() if method.for_tokenizers)


def get_method(name: str, known: Iterable[str] = METHODS, what: str = "segmentation method") -> Method:
    """Return a method by its name, or an earlier one; an InputError for any other than the ``known`` names."""
    current = ALIASES.get(name, name)
    if current not in known:
        raise unknown_name(what, name, known)
    return METHODS[current]
