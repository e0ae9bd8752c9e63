"""A whole model in one folder: tokenizer, language model, acoustic units and vocoder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from syllablelm.core.artifact import (
    RECORD,
    RUN,
    Artifact,
    check_tokenizer,
    digest_files,
    new_artifact,
    open_artifact,
    units_digest,
)
from syllablelm.core.config import read_toml
from syllablelm.core.errors import InputError
from syllablelm.core.files import atomic_path
from syllablelm.core.results import Record
from syllablelm.lm.speech_lm import FOLDER
from syllablelm.tokenizer.tokenizer import CODEBOOK_FILE
from syllablelm.vocoder.acoustic import ACOUSTIC_FILE, ACOUSTIC_FOLDER
from syllablelm.vocoder.resynthesizer import LM_FOLDER, VOCODER_FOLDER, Resynthesizer
from syllablelm.vocoder.speech_model import SpeechModel


@dataclass(frozen=True)
class AssembledModel(Record):
    """A model that ``assemble_model`` wrote.

    Args:
        path: its folder.
        megabytes: size of its files.
    """

    path: str
    megabytes: float


def assemble_model(
    tokenizer: Path, lm: Path | None, vocoder_run: Path, out: Path, *, half: bool = False
) -> AssembledModel:
    """Copy a tokenizer and the models trained on its units into one folder, which the verbs take as ``--model``.

    Args:
        tokenizer: tokenizer artifact; its digest is kept.
        lm: "lm" artifact of ``train lm``; without one the model speaks units, and continues nothing.
        vocoder_run: output folder of ``train vocoder``: vocoder/, with acoustic/ and vocoder_lm/ unless the vocoder
            speaks syllables.
        out: new folder.
        half: store the weights of language models and vocoder in float16; computation stays in float32.

    Raises:
        InputError: ``out`` exists.
        FormatError: a part is missing or was trained for another tokenizer.
    """
    if out.exists():
        raise InputError(f"{out} exists; choose another --out or remove it")
    sources = {VOCODER_FOLDER: vocoder_run / VOCODER_FOLDER} | ({} if lm is None else {FOLDER: lm})
    units, centres = open_artifact(tokenizer, "tokenizer"), None
    if (vocoder_run / LM_FOLDER).exists():
        sources[LM_FOLDER] = vocoder_run / LM_FOLDER
        centres = open_artifact(vocoder_run / "acoustic", "acoustic")
    with atomic_path(out) as temporary:
        temporary.mkdir()
        # By its own list: the folder of a bundled tokenizer holds a language model and a vocoder too.
        for name in (RECORD, *units.record["files"]):
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(units.file(name), temporary / name)
        if centres is not None and (centres.path / CODEBOOK_FILE).exists():
            shutil.copytree(centres.path, temporary / ACOUSTIC_FOLDER)
        elif centres is not None:
            shutil.copy(centres.file(ACOUSTIC_FILE), temporary / ACOUSTIC_FILE)
        for name, source in sources.items():
            artifact = open_artifact(source)
            if half:
                _copy_half(artifact, temporary / name)
            else:
                shutil.copytree(source, temporary / name)
        # Parts of other units are an error here.
        if lm is None:
            check_tokenizer("vocoder", Resynthesizer.load(temporary, device="cpu").tokenizer, units_digest(units))
        else:
            SpeechModel.load(temporary, device="cpu")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return AssembledModel(str(out), round(size / 1e6, 2))


def _copy_half(artifact: Artifact, path: Path) -> None:
    """Write a model's folder with weights in float16, as an artifact with the original as its parent."""
    config, seed = read_toml(artifact.file("config.toml")), artifact.record["seed"]
    parents, metrics = {artifact.kind: artifact.digest}, dict(artifact.metrics)
    with new_artifact(path, artifact.kind, config=config, seed=seed, parents=parents, metrics=metrics) as folder:
        record = [RUN] if (artifact.path / RUN).exists() else []
        for name in [*digest_files(artifact.path), *record]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".safetensors"):
                tensors = load_file(artifact.file(name))
                halved = {key: t.half() if t.is_floating_point() else t for key, t in tensors.items()}
                save_file(halved, folder / name, metadata={"format": "pt"})
            else:
                shutil.copy(artifact.file(name), folder / name)
