"""Objects that an artifact holds as one JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from syllablelm.core.artifact import Artifact
from syllablelm.core.errors import FormatError, InputError

Built = TypeVar("Built")


def read_payload(artifact: Artifact, name: str, form: str, build: Callable[[dict[str, Any], str], Built]) -> Built:
    """Read a JSON file of an artifact and build from it what it describes.

    Args:
        artifact: opened; messages call the object by its kind.
        name: of the file.
        form: which its key "format" must name.
        build: the object of the parsed file and its path.

    Raises:
        FormatError: no such file, of another form, or nothing can be built from it; the path is named.
    """
    path = artifact.file(name)
    try:
        table: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: a damaged {artifact.kind} ({error})") from None
    if not isinstance(table, dict) or table.get("format") != form:
        raise FormatError(f"{path}: not a {artifact.kind} of this version of syllablelm ({form})")
    try:
        return build(table, str(path))
    except (InputError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: a damaged {artifact.kind} ({error})") from None
