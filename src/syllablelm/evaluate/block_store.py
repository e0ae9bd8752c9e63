"""Rows of long work, kept in blocks so that a stopped run resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import digest_json
from syllablelm.core.errors import FormatError
from syllablelm.core.files import atomic_path

Row = dict[str, Any]


class BlockStore:
    """Rows of long work in files of one block each, written whole or not at all; a stopped run loses one block at most.

    Args:
        folder: parent folder of all stores.
        kind: first part of the store's own folder name.
        facts: everything that the rows depend on; other facts have another folder.
        size: rows per block.
    """

    def __init__(self, folder: Path, kind: str, facts: Mapping[str, Any], size: int) -> None:
        # As they are read back: a tuple becomes a list.
        self._facts = json.loads(json.dumps({**facts, "block": size}))
        self.size, self.folder = size, folder / f"{kind}-{digest_json([kind, self._facts])}"

    def rows(self, ids: list[str], make: Callable[[int, int], Iterable[Row]]) -> Iterator[Row]:
        """Return the rows of all ids in their order, those of earlier runs from their files.

        Args:
            ids: identity of each row.
            make: from first and last (exclusive) index to the rows in between, each with its "id". A block is not kept
                if one of its rows has a "fault", which may be gone the next time.

        Raises:
            FormatError: a block that is not what was written.
        """
        for first in range(0, len(ids), self.size):
            wanted = ids[first : first + self.size]
            path = self.folder / f"{first // self.size:05d}.json"
            if path.exists():
                yield from self._read(path, wanted)
                continue
            rows: list[Row] = []
            for row in make(first, first + len(wanted)):
                rows.append(row)
                yield row
            if not any("fault" in row for row in rows):
                with atomic_path(path) as temporary:
                    temporary.write_text(json.dumps({"facts": self._facts, "rows": rows}) + "\n", encoding="utf-8")

    def remove(self) -> None:
        """Remove all blocks, once they are no longer needed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, path: Path, wanted: list[str]) -> list[Row]:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            facts, rows = value["facts"], value["rows"]
            ids = [row["id"] for row in rows]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(f"{path}: damaged ({error}); remove it to have it made again") from None
        if facts != self._facts or ids != wanted:
            raise FormatError(f"{path}: holds other recordings than its name says; remove it to have it made again")
        return rows
