"""Model names: one resolver for bundled names, folders, checkpoint files and hub ids."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

import syllablelm as sl
import syllablelm.core.models
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.models import BUNDLED, HubModel, find_model, resolve_model
from syllablelm.vocoder.speech_model import SpeechModel

LOADERS = (sl.Tokenizer.load, sl.SpeechLM.load, sl.Resynthesizer.load, SpeechModel.load, sl.load_encoder)


def test_local_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.pth").touch()
    assert find_model(tmp_path) == tmp_path and find_model(str(tmp_path / "model.pth")) == tmp_path / "model.pth"
    assert find_model("small") == BUNDLED / "small"
    # A folder is meant before a bundled model of its name.
    (tmp_path / "small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("small") == Path("small")
    with pytest.raises(InputError, match="revision 'v1' is for hub ids"):
        find_model("tiny", "v1")


def test_hub_ids() -> None:
    assert resolve_model("org/name") == HubModel("org/name")
    assert resolve_model("org/name@v1.0") == resolve_model("org/name", "v1.0") == HubModel("org/name", "v1.0")
    with pytest.raises(InputError, match="names a revision already"):
        resolve_model("org/name@v1", "v2")


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("name", ["giant", "models/SylBoost_833Hz.pth", "a/b/c", "/nowhere/model"])
def test_every_loader_gives_the_same_error(load, name: str) -> None:
    with pytest.raises(FormatError) as caught:
        load(name)
    assert str(caught.value) == (
        f"{name}: no such model; give a folder, a checkpoint file, a hub id (ORG/NAME) or a bundled name (small, tiny)"
    )


@pytest.mark.parametrize("load", LOADERS[:-1])
def test_every_loader_takes_a_hub_id_and_a_revision(load, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        # No code and no pickles.
        assert set(allow_patterns) == {"*.json", "*.model", "*.npy", "*.safetensors", "*.toml", "*.txt"}
        return str(BUNDLED / "small")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    load("org/model", device="cpu", revision="v1")
    load("org/model@v2", device="cpu")
    assert asked == [("org/model", "v1"), ("org/model", "v2")]


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(FormatError, match=r"^org/model: neither a local path nor a model .* \(no route\)$"):
        find_model("org/model")


def test_a_tokenizer_alone_has_no_voice() -> None:
    with pytest.raises(FormatError, match="tiny: holds no language model"):
        sl.SpeechLM.load("tiny")
    with pytest.raises(FormatError, match="tiny: holds no vocoder"):
        sl.Resynthesizer.load("tiny")


def test_a_bundled_encoder() -> None:
    assert sl.load_encoder("tiny", device="cpu").dim == sl.Tokenizer.load("tiny", device="cpu").encoder.dim
