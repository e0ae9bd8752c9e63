"""Models on the hub: what is uploaded and with which card, what comes back, and what the hub may answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import ModelCard as HubCard
from huggingface_hub.errors import HfHubHTTPError

import syllablelm as sl
from syllablelm.core.artifact import COPIED, new_artifact, open_artifact
from syllablelm.core.errors import InputError
from syllablelm.core.sharing import ModelCard, Shareable
from syllablelm.vocoder.speech_model import SpeechModel


class Hub:
    """A hub of folders by repository and branch, in place of the functions that talk to the real one."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.calls = root, list[tuple[Any, ...]]()
        for name in ("create_repo", "create_branch", "upload_folder", "snapshot_download"):
            monkeypatch.setattr(huggingface_hub, name, getattr(self, name))

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool, token: str | None) -> str:
        assert exist_ok
        self.calls.append(("create", repo_id, private, token))
        return f"https://hub.example/{repo_id}"

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool, token: str | None) -> None:
        assert exist_ok
        self.calls.append(("branch", repo_id, branch, token))

    def upload_folder(self, *, repo_id: str, folder_path: Path, revision: str | None, token: str | None) -> None:
        self.calls.append(("upload", repo_id, revision, token))
        shutil.copytree(folder_path, self.root / repo_id / (revision or "main"))

    def snapshot_download(self, name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        """A folder with the files of the patterns alone, as the real function makes it."""
        source, target = self.root / name / (revision or "main"), self.root / "cache" / name / (revision or "main")
        for path in source.rglob("*"):
            if path.is_file() and any(path.match(pattern) for pattern in allow_patterns):
                (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / path.relative_to(source))
        return str(target)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(tmp_path / "hub", monkeypatch)


class Note(Shareable):
    """A model of one file."""

    def model_card(self) -> ModelCard:
        return ModelCard("A note", "It says a word.", "other", ("a-tag",), {"rate": 4.5}, "load(MODEL)")

    def write_folder(self, folder: Path) -> None:
        with new_artifact(folder, "note", config={}, seed=0, parents={}, metrics={}) as payload:
            (payload / "note.txt").write_text("word", encoding="utf-8")


class Failing(Note):
    def write_folder(self, folder: Path) -> None:
        folder.mkdir()
        raise InputError("cannot be saved")


def test_pushed_with_a_card_and_found_again(hub: Hub) -> None:
    assert (
        Note().push_to_hub("org/note", private=True, token="t", license="cc-by-4.0") == "https://hub.example/org/note"
    )
    assert hub.calls == [("create", "org/note", True, "t"), ("upload", "org/note", None, "t")]
    text = (hub.root / "org/note/main/README.md").read_text(encoding="utf-8")
    data = HubCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-4.0", "syllablelm", "other")
    assert data.tags == ["syllablelm", "speech", "a-tag"]
    assert 'load("org/note")' in text and "| 4.5000 |" in text and "do not say how the model was made" in text


def test_a_branch_is_created_and_uploaded_to(hub: Hub) -> None:
    Note().push_to_hub("org/note", revision="v2")
    assert hub.calls[1:] == [("branch", "org/note", "v2", None), ("upload", "org/note", "v2", None)]
    assert HubCard((hub.root / "org/note/v2/README.md").read_text(encoding="utf-8")).data.license == "unknown"


def test_the_card_is_no_payload(tmp_path: Path) -> None:
    Note().save(tmp_path / "note")
    artifact = open_artifact(tmp_path / "note")
    assert sorted(artifact.record["files"]) == ["config.toml", "note.txt"]
    assert HubCard.load(tmp_path / "note/README.md").data.library_name == "syllablelm"


def test_nothing_is_overwritten_half_written_or_sent_half(tmp_path: Path, hub: Hub) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="there exists; choose another folder or remove it"):
        Note().save(tmp_path / "there")
    with pytest.raises(InputError, match="cannot be saved"):
        Failing().save(tmp_path / "new")
    with pytest.raises(InputError, match="cannot be saved"):
        Failing().push_to_hub("org/note")
    with pytest.raises(InputError, match="license 'my own\\\\nkey: 1'"):
        Note().save(tmp_path / "new", license="my own\nkey: 1")
    assert hub.calls == [] and [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    "error",
    [
        OSError("no token"),
        ValueError("Repo id must be in the form 'namespace/repo_name'"),
        HfHubHTTPError.__bases__[0]("no route to host\nat all"),
    ],
)
def test_a_hub_that_refuses_is_one_line(error: Exception, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "create_repo", fail)
    with pytest.raises(InputError, match=r"^org/note: the hub did not take the model \(.*\); see hf auth") as caught:
        Note().push_to_hub("org/note", token="secret")
    assert str(error).split("\n")[0] in str(caught.value) and "secret" not in str(caught.value)


def test_a_copy_knows_how_the_original_was_made(hub: Hub) -> None:
    """What goes up and down is the bundled model: its units, its digest, its licence, its training."""
    tokenizer = sl.Tokenizer.load("tiny", device="cpu")
    tokenizer.push_to_hub("org/tiny")
    again = sl.Tokenizer.load("org/tiny", device="cpu", revision="main")
    wave = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    assert again.encode(wave) == tokenizer.encode(wave) and again.digest == tokenizer.digest
    # In float16, as it was.
    uploaded, bundled = hub.root / "org/tiny/main", open_artifact(tokenizer.artifact.path)
    assert (uploaded / "model.safetensors").stat().st_size == (bundled.path / "model.safetensors").stat().st_size
    text = (uploaded / "README.md").read_text(encoding="utf-8")
    assert HubCard(text).data.license == "mit" and HubCard(text).data.pipeline_tag == "feature-extraction"
    record = bundled.record
    for told in (bundled.digest, record["commit"], record["parents"]["corpus"], "units = 1024", "93534"):
        assert told in text
    # A copy of the copy still does.
    again.push_to_hub("org/tiny", revision="second")
    record = open_artifact(hub.root / "org/tiny/second").record
    assert record[COPIED] == open_artifact(uploaded).record[COPIED] and record["digest"] == bundled.digest


def test_another_rule_or_other_weights_make_another_tokenizer(tmp_path: Path) -> None:
    """Models of the original's units must refuse them."""
    tokenizer = sl.Tokenizer.load("tiny", device="cpu", rate=6.0)
    tokenizer.save(tmp_path / "rate")
    changed = sl.Tokenizer.load("tiny", device="cpu")
    next(changed.encoder.parameters()).data[0] += 0.5  # type: ignore[attr-defined]
    changed.save(tmp_path / "weights")
    digests = {sl.Tokenizer.load(tmp_path / name, device="cpu").digest for name in ("rate", "weights")}
    assert len(digests | {tokenizer.digest}) == 3


def test_language_model_vocoder_and_all_three(hub: Hub) -> None:
    whole = SpeechModel.load("small", device="cpu")
    whole.push_to_hub("org/small")
    whole.lm.push_to_hub("org/lm")
    whole.resynthesizer.push_to_hub("org/voice")
    cards = {name: HubCard((hub.root / f"org/{name}/main/README.md").read_text("utf-8")) for name in ("lm", "voice")}
    assert (cards["lm"].data.pipeline_tag, cards["voice"].data.pipeline_tag) == ("text-generation", "audio-to-audio")
    assert "valid.model.nats_per_token" in cards["lm"].text and "16000" in cards["voice"].text
    wave = sl.load_audio("src/syllablelm/bundled/sample.flac")[:32_000]
    parts = SpeechModel(
        whole.tokenizer, sl.SpeechLM.load("org/lm", device="cpu"), sl.Resynthesizer.load("org/voice", device="cpu")
    )
    expected = whole.continue_speech(wave, 1.0).waveform
    np.testing.assert_array_equal(parts.continue_speech(wave, 1.0).waveform, expected)
    np.testing.assert_array_equal(sl.continue_speech(wave, 1.0, model="org/small", revision="main"), expected)
