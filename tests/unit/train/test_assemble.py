"""One folder of all parts of a model, written whole or not at all."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from syllablelm.core.artifact import new_artifact, open_artifact
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.models import BUNDLED
from syllablelm.core.segmentation import Segmentation
from syllablelm.train.assemble import AssembledModel, assemble_model
from syllablelm.vocoder.resynthesizer import Resynthesizer
from syllablelm.vocoder.speech_model import SpeechModel


@pytest.mark.parametrize("meanwhile", ["nothing", "error", "taken"])
def test_a_model_is_assembled_whole_or_not_at_all(tmp_path, monkeypatch, meanwhile):
    for name in ("tokenizer", "lm", "run/acoustic", "run/vocoder", "run/vocoder_lm"):
        kind = name.removeprefix("run/")
        with new_artifact(tmp_path / name, kind, config={}, seed=0, parents={}, metrics={}) as folder:
            (folder / "w.txt").write_text(name)
            save_file({"centres": torch.ones(2)}, folder / "acoustic.safetensors")
    before, out = {path.name for path in tmp_path.iterdir()}, tmp_path / "model"

    def load(folder, device):
        if meanwhile == "error":
            raise InputError("parts do not fit")
        if meanwhile == "taken":
            out.mkdir()
            (out / "thesis.txt").touch()

    monkeypatch.setattr(SpeechModel, "load", load)
    arguments = (tmp_path / "tokenizer", tmp_path / "lm", tmp_path / "run", out)
    if meanwhile == "nothing":
        made = assemble_model(*arguments)
        assert made.path == str(out) and AssembledModel.from_dict(made.to_dict()) == made
        assert open_artifact(out).digest == open_artifact(tmp_path / "tokenizer").digest
        assert (out / "lm" / "w.txt").read_text() == "lm" and (out / "acoustic.safetensors").exists()
    else:
        with pytest.raises(InputError if meanwhile == "error" else OSError) as error:
            assemble_model(*arguments)
        assert ".tmp" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == before | ({"model"} if meanwhile != "error" else set())
    if meanwhile == "taken":
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_without_a_language_model_it_speaks(tmp_path):
    small = BUNDLED / "small"
    (tmp_path / "run").mkdir()
    shutil.copytree(small / "vocoder", tmp_path / "run" / "vocoder")
    assemble_model(small, None, tmp_path / "run", tmp_path / "model")
    assert not (tmp_path / "model" / "lm").exists()
    own, bundled = (Resynthesizer.load(name, device="cpu") for name in (tmp_path / "model", "small"))
    units = Segmentation.from_boundaries([0, 12, 20, 31], unit=[5, 700, 2047])
    np.testing.assert_array_equal(own.decode(units), bundled.decode(units))
    with pytest.raises(FormatError, match="the vocoder was trained on units of tokenizer"):
        assemble_model(BUNDLED / "tiny", None, tmp_path / "run", tmp_path / "other")
    assert not (tmp_path / "other").exists()
