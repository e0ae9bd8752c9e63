"""The recipes of speech: a language model of units, and the vocoder that speaks them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from syllablelm.core.artifact import RECORD, RUN, Artifact, digest_files, new_artifact, open_artifact
from syllablelm.core.config import check_seed, read_toml
from syllablelm.core.errors import InputError
from syllablelm.core.files import atomic_path
from syllablelm.lm.speech_lm import FOLDER
from syllablelm.tokenizer.tokenizer import CODEBOOK_FILE
from syllablelm.train.lm_stage import LMConfig, train_lm
from syllablelm.train.processes import join
from syllablelm.train.token_stage import UnitsConfig, make_tokens, tokenizer_info
from syllablelm.vocoder.acoustic import ACOUSTIC_FILE, ACOUSTIC_FOLDER
from syllablelm.vocoder.resynthesizer import LM_FOLDER, VOCODER_FOLDER
from syllablelm.vocoder.speech_model import SpeechModel


@dataclass(frozen=True)
class LMRecipe:
    """Everything that ``train lm`` does: units to token stores to a language model."""

    name: str
    units: UnitsConfig
    lm: LMConfig
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)


def train_lm_recipe(recipe: LMRecipe, out: Path, *, device: str = "auto") -> Artifact:
    """Run the stages of a language model's recipe below ``out``; finished ones are skipped."""
    join(device)
    info = tokenizer_info(recipe.units.tokenizer)
    train = make_tokens(recipe.units.train, info, out / "train", without=recipe.units.valid)
    valid = make_tokens(recipe.units.valid, info, out / "valid") if recipe.units.valid else None
    return train_lm(recipe.lm, train, out / "lm", valid=valid, seed=recipe.seed, device=device)


def assemble_model(tokenizer: Path, lm: Path, vocoder_run: Path, out: Path, *, half: bool = False) -> Path:
    """Copy a tokenizer and what was trained for it into one folder, which every verb takes as its ``--model``.

    Args:
        tokenizer: a tokenizer artifact; its digest stays what it was.
        lm: the "lm" artifact of ``train lm``.
        vocoder_run: the folder of ``train vocoder``: acoustic/, vocoder/ and vocoder_lm/.
        out: the new folder.
        half: weights of the language models and the vocoder in float16; they are computed with in float32.

    Raises:
        InputError: ``out`` is there already.
        FormatError: a part is missing or was trained for another tokenizer.
    """
    if out.exists():
        raise InputError(f"{out} exists; choose another --out or remove it")
    sources = {FOLDER: lm, LM_FOLDER: vocoder_run / LM_FOLDER, VOCODER_FOLDER: vocoder_run / VOCODER_FOLDER}
    units, centres = open_artifact(tokenizer, "tokenizer"), open_artifact(vocoder_run / "acoustic", "acoustic")
    with atomic_path(out) as temporary:
        temporary.mkdir()
        # By its own list: the folder of a bundled tokenizer holds a language model and a vocoder already.
        for name in (RECORD, *units.record["files"]):
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(units.file(name), temporary / name)
        if (centres.path / CODEBOOK_FILE).exists():
            shutil.copytree(centres.path, temporary / ACOUSTIC_FOLDER)
        else:
            shutil.copy(centres.file(ACOUSTIC_FILE), temporary / ACOUSTIC_FILE)
        for name, source in sources.items():
            artifact = open_artifact(source)
            if half:
                _copy_half(artifact, temporary / name)
            else:
                shutil.copytree(source, temporary / name)
        SpeechModel.load(temporary, device="cpu")
    return out


def _copy_half(artifact: Artifact, path: Path) -> None:
    """A model's folder with weights in float16, as an artifact that descends from the whole one."""
    config, seed = read_toml(artifact.file("config.toml")), artifact.record["seed"]
    parents, metrics = {artifact.kind: artifact.digest}, dict(artifact.metrics)
    with new_artifact(path, artifact.kind, config=config, seed=seed, parents=parents, metrics=metrics) as folder:
        record = [RUN] if (artifact.path / RUN).exists() else []
        for name in [*digest_files(artifact.path), *record]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".safetensors"):
                halved = {key: _half(tensor) for key, tensor in load_file(artifact.file(name)).items()}
                save_file(halved, folder / name, metadata={"format": "pt"})
            else:
                shutil.copy(artifact.file(name), folder / name)


def _half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float16) if tensor.is_floating_point() else tensor
