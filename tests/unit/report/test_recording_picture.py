"""The picture of a recording in one call; the verb's refusals are tested with the verb."""

from __future__ import annotations

from pathlib import Path

import pytest

from syllablelm.core.models import BUNDLED
from syllablelm.report.recording_picture import RecordingPicture, plot_recording

SAMPLE = BUNDLED / "sample.flac"


def test_plot_recording(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    alignment = BUNDLED / "sample.alignments.jsonl"
    drawn = plot_recording(SAMPLE, "tiny", out=tmp_path / "p.svg", alignment=alignment, seconds=2.0, device="cpu")
    assert RecordingPicture.from_dict(drawn.to_dict()) == drawn
    assert drawn.picture == str(tmp_path / "p.svg") and drawn.segments > 10
    assert "reference" in (tmp_path / "p.svg").read_text(encoding="utf-8")
