"""Every evaluation by name: results read back by the class that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from syllablelm.core.errors import FormatError
from syllablelm.core.results import Result, read_json
from syllablelm.evaluate.boundaries.run import BoundaryResult
from syllablelm.evaluate.lm.cloze import ClozeResult
from syllablelm.evaluate.lm.salmon import SalmonResult
from syllablelm.evaluate.lm.suites import LexicalResult, SyntacticResult
from syllablelm.evaluate.speech.continuation import ContinuationResult
from syllablelm.evaluate.speech.quality import QualityResult
from syllablelm.evaluate.speech.resynthesis import ResynthesisResult
from syllablelm.evaluate.speed import SpeedResult
from syllablelm.evaluate.system_speed import SystemSpeedResult
from syllablelm.evaluate.units.abx import AbxResult
from syllablelm.evaluate.units.bitrate import BitrateResult
from syllablelm.evaluate.units.phone_probe import PhoneResult
from syllablelm.evaluate.units.purity import PurityResult
from syllablelm.evaluate.units.stability import StabilityResult
from syllablelm.evaluate.units.word_identity import IdentityResult

RESULTS: Mapping[str, type[Result]] = {
    result.evaluation: result
    for result in (
        *(BoundaryResult, PurityResult, BitrateResult, StabilityResult, PhoneResult, IdentityResult, AbxResult),
        *(
            ResynthesisResult,
            QualityResult,
            LexicalResult,
            SyntacticResult,
            ClozeResult,
            SalmonResult,
            ContinuationResult,
            SpeedResult,
            SystemSpeedResult,
        ),
    )
}
"""Result classes by the name of their evaluation."""


def read_result(path: str | Path) -> Result:
    """Read the result of any evaluation from a file that an ``evaluate`` verb printed or ``Result.save`` wrote.

    Raises:
        FormatError: no such file, not JSON, or no result; see `parse_result`.
    """
    return parse_result(read_json(path), str(path))


def parse_result(table: Mapping[str, object], where: str = "result") -> Result:
    """Return the result that a JSON object holds, as ``Result.to_dict`` gave it; ``where`` begins error messages.

    Raises:
        FormatError: an unknown evaluation, or a key that is missing, unknown or of another type.
    """
    if "evaluation" not in table:
        raise FormatError(f"{where}: no result: it has no key 'evaluation'; give the output of one evaluate verb")
    name = table["evaluation"]
    if not isinstance(name, str) or name not in RESULTS:
        raise FormatError(f"{where}: evaluation {name!r} is unknown; known: {', '.join(RESULTS)}")
    return RESULTS[name].from_dict(table, where)
