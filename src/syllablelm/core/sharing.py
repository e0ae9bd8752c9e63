"""Models that people share: saved as a folder with a model card, and pushed to the Hugging Face hub."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import CARD, COPIED, Artifact
from syllablelm.core.config import read_toml, to_toml
from syllablelm.core.document import format_table
from syllablelm.core.errors import InputError, first_line
from syllablelm.core.files import atomic_path, scratch_folder
from syllablelm.core.models import BUNDLED

_CONFIG = "config.toml"
# A licence that the hub knows, for models of which we know none.
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class ModelCard:
    """Contents of a model card, as far as a model knows them.

    Args:
        title, summary: what the model is, as a heading and as a paragraph.
        pipeline_tag, tags: the hub's task and keywords.
        facts: rate, units, sizes and the like by name.
        usage: Python code that opens the model by the name MODEL.
    """

    title: str
    summary: str
    pipeline_tag: str
    tags: tuple[str, ...]
    facts: Mapping[str, object]
    usage: str

    def to_markdown(self, origin: Mapping[str, Any], license: str, name: str) -> str:
        """Return the card of a model.

        Args:
            origin: what ``copied_record`` says about the model's training.
            license: licence by the hub's short name, such as "mit".
            name: name by which ``usage`` opens the model.
        """
        head = [f"license: {license}", "library_name: syllablelm", f"pipeline_tag: {self.pipeline_tag}", "tags:"]
        tags = [f"- {tag}" for tag in ("syllablelm", "speech", *self.tags)]
        parts = ["\n".join(["---", *head, *tags, "---"]), f"# {self.title}", self.summary, _two_columns("", self.facts)]
        parts += ["## Use", f"```python\n{self.usage.replace('MODEL', json.dumps(name))}\n```", "## Training"]
        if not origin:
            parts.append("The files do not say how the model was made.")
        else:
            made: dict[str, object] = {name: origin[name] for name in ("digest", "commit", "seed") if name in origin}
            parents: Mapping[str, Any] = origin.get("parents", {})
            made |= {f"digest of its {name}": digest for name, digest in parents.items()}
            parts.append(_two_columns("record", made))
            if config := origin.get("config"):
                parts.append(f"```toml\n{to_toml(config)}```")
            if metrics := dict(_flat(origin.get("metrics", {}))):
                parts += ["Measured when it was made:", _two_columns("measure", metrics)]
        return "\n\n".join(parts) + "\n"


def _two_columns(heading: str, rows: Mapping[str, object]) -> str:
    return format_table([{heading: name, " ": value} for name, value in rows.items()], style="markdown", digits=4)


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float | str):
            yield f"{prefix}{name}", value


def copied_record(artifact: Artifact | None) -> dict[str, Any]:
    """Return what a copy tells of the making of its original: record, configuration and licence; {} for no artifact."""
    if artifact is None:
        return {}
    if COPIED in artifact.record:
        return dict(artifact.record[COPIED])
    record = {name: value for name, value in artifact.record.items() if name != "files"}
    if (artifact.path / _CONFIG).is_file():
        record["config"] = read_toml(artifact.path / _CONFIG)
    if artifact.path.is_relative_to(BUNDLED):
        record["license"] = "mit"
    return record


class Shareable(ABC):
    """A model that can be saved with a model card, and pushed to the Hugging Face hub.

    Attributes:
        artifact: the artifact that it was loaded from; None if unknown.
    """

    artifact: Artifact | None = None

    def _described(self, *facts: str) -> str:
        """Return a representation: class, name of the bundled model or folder, and facts."""
        path = None if self.artifact is None else self.artifact.path
        if path is not None and path.is_relative_to(BUNDLED):
            path = path.relative_to(BUNDLED)
        name = "" if path is None else f" {path}"
        return f"<{type(self).__name__}{name}: {', '.join(facts)}>"

    @abstractmethod
    def model_card(self) -> ModelCard:
        """Return the contents of the model card."""

    @abstractmethod
    def write_folder(self, folder: Path) -> None:
        """Write all that ``load`` needs into a new folder."""

    def save(self, folder: str | Path, *, license: str | None = None) -> None:
        """Write a folder that ``load`` opens, with a model card.

        Args:
            folder: new folder; it appears whole or not at all.
            license: licence on the card by the hub's short name, such as "cc-by-4.0"; by default that of a bundled
                model ("mit"), else "unknown".

        Raises:
            InputError: the folder exists, or a part that has no form in which it could be saved.
        """
        self._save(Path(folder), license, Path(folder).name)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        revision: str | None = None,
        token: str | None = None,
        license: str | None = None,
    ) -> str:
        """Save the model and upload it to the Hugging Face hub; return the address of the repository.

        Args:
            repo_id: hub id ("ORG/NAME"); the repository is created where there is none.
            private: whether a new repository is private.
            revision: branch to upload to, created where there is none; by default the main one.
            token: access token; by default the one that ``hf auth login`` keeps.
            license: see ``save``.

        Raises:
            InputError: the hub refuses the id or the token or does not answer, or the model cannot be saved.
        """
        from huggingface_hub import create_branch, create_repo, upload_folder
        from huggingface_hub.errors import HfHubHTTPError

        # Its bases: the HTTPError of whichever client this version uses, and OSError. Malformed ids are ValueErrors.
        faults: tuple[Any, ...] = (*HfHubHTTPError.__bases__, ValueError)
        with scratch_folder() as scratch:
            folder = scratch / "model"
            self._save(folder, license, repo_id)
            try:
                address = create_repo(repo_id, private=private, exist_ok=True, token=token)
                if revision is not None:
                    create_branch(repo_id, branch=revision, exist_ok=True, token=token)
                upload_folder(repo_id=repo_id, folder_path=folder, revision=revision, token=token)
            except faults as error:
                reason = first_line(error)
                raise InputError(f"{repo_id}: the hub did not take the model ({reason}); see hf auth login") from None
        return str(address)

    def _save(self, folder: Path, license: str | None, name: str) -> None:
        if folder.exists():
            raise InputError(f"{folder} exists; choose another folder or remove it")
        origin = copied_record(self.artifact)
        license = license or str(origin.get("license", _UNKNOWN))
        if not re.fullmatch(r"[\w.+-]{1,60}", license):
            raise InputError(f"license {license[:60]!r}: give the hub's short name of a licence, such as cc-by-4.0")
        with atomic_path(folder) as temporary:
            self.write_folder(temporary)
            text = self.model_card().to_markdown(origin, license, name)
            (temporary / CARD).write_text(text, encoding="utf-8")
