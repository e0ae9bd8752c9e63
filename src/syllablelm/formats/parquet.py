"""Parquet: the records of `tokenize` as columns, exact."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, import_optional
from syllablelm.core.files import find_files
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.format import Entry, FormatOptions, RecordWriter
from syllablelm.formats.record import KEYS, entry_of, to_record

ROWS_PER_GROUP = 1024
_AGAIN = "make it again (encode does, when it is run again)"
# Key of the file's metadata: digest of the tokenizer that made the units.
TOKENIZER_KEY = "syllablelm.tokenizer.tokenizer"


class Writer(RecordWriter):
    """Writer of ``parquet``."""

    binary = True

    def _open(self, stack: ExitStack) -> None:
        pyarrow, parquet = _import_pyarrow()
        super()._open(stack)
        integers = pyarrow.list_(pyarrow.int32())
        kinds = {"id": pyarrow.string(), "path": pyarrow.string(), "unit": integers, "start": integers, "end": integers}
        said = {TOKENIZER_KEY: self.tokenizer} if self.tokenizer else None
        self._schema = pyarrow.schema([(key, kinds.get(key, pyarrow.int32())) for key in KEYS], metadata=said)
        self._to_table = pyarrow.Table.from_pylist
        self._rows: list[dict[str, Any]] = []
        self._writer = stack.enter_context(parquet.ParquetWriter(self._stream, self._schema, write_page_checksum=True))
        # Runs before the writer above is closed.
        stack.push(lambda kind, error, trace: self._flush() if kind is None else None)

    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        self._rows.append(to_record(id, path, segmentation))
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._to_table(self._rows, schema=self._schema))
            self._rows = []


def read(path: Path, options: FormatOptions) -> Iterator[Entry]:
    """Read ``parquet``."""
    for file in find_files(path, (".parquet",)):
        with _opened(file) as table:
            missing = [key for key in KEYS if key not in table.schema_arrow.names]
            if missing:
                raise FormatError(f"{file}: missing columns {', '.join(missing)}")
            rows = 0
            for batch in table.iter_batches(columns=list(KEYS)):
                rows += batch.num_rows
                yield from (entry_of(str(file), record) for record in batch.to_pylist())
            # Pages have checksums, but their headers have none: one that is damaged can end a column.
            if rows != table.metadata.num_rows:
                raise FormatError(f"{file}: damaged: {rows} of {table.metadata.num_rows} rows can be read; {_AGAIN}")


def read_tokenizer(file: Path) -> str:
    """Return the digest of the tokenizer that made a file's units; "" if unknown."""
    with _opened(file) as table:
        return (table.schema_arrow.metadata or {}).get(TOKENIZER_KEY.encode(), b"").decode()


@contextmanager
def _opened(file: Path) -> Generator[Any, None, None]:
    pyarrow, parquet = _import_pyarrow()
    try:
        with parquet.ParquetFile(file, page_checksum_verification=True) as table:
            yield table
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{file}: not a readable Parquet file ({' '.join(str(error).split())}); {_AGAIN}") from error


def _import_pyarrow() -> tuple[Any, Any]:
    need = "the parquet format needs pyarrow"
    return import_optional("pyarrow", need, "pyarrow"), import_optional("pyarrow.parquet", need, "pyarrow")
