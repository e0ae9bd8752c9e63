"""`plot`: the picture, and references that do not belong to the recording."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers.command_line import Run


def test_plot_writes_a_picture(
    run: Run,
    recordings: Path,
    alignments: Path,
    tokenizer_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    ended = run("plot", recordings / "r0.wav", "--model", tokenizer_folder)
    assert ended.result == {"picture": "r0.png", "segments": 10, "seconds": pytest.approx(1.98)}
    assert (tmp_path / "r0.png").read_bytes().startswith(b"\x89PNG")
    ended = run("plot", recordings / "r0.wav", "--model", tokenizer_folder, "--alignment", alignments, "--out", "p.svg")
    assert ended.status == 0
    assert "reference" in (tmp_path / "p.svg").read_text(encoding="utf-8")


def test_plot_refuses_another_recordings_reference(
    run: Run, recordings: Path, alignments: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(recordings / "r0.wav", tmp_path / "other.wav")
    ended = run("plot", tmp_path / "other.wav", "--model", tokenizer_folder, "--alignment", alignments)
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert "none of its 3 alignments has the id 'other'" in ended.err
