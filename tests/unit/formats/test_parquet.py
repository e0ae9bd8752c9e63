from __future__ import annotations

from pathlib import Path

import pytest

from helpers.random_segmentations import SOME, write_all
from syllablelm.core.errors import FormatError
from syllablelm.formats import open_writer, read_segmentations, units_digest, units_tokenizer
from syllablelm.formats.record import to_record

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def test_parquet_has_the_columns_of_the_records(tmp_path: Path) -> None:
    write_all(tmp_path / "units.parquet", "parquet", SOME)
    table = parquet.read_table(tmp_path / "units.parquet")
    assert table.to_pylist() == [to_record(name, f"audio/{name}.flac", seg) for name, seg in SOME.items()]
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["sample_rate"] == kinds["hop"] == kinds["num_frames"] == "int32"
    assert all(kinds[name].startswith("list<") and "int32" in kinds[name] for name in ("unit", "start", "end"))


def test_parquet_keeps_order_over_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syllablelm.formats.parquet.ROWS_PER_GROUP", 2)
    write_all(tmp_path / "units.parquet", "parquet", SOME)
    assert parquet.ParquetFile(tmp_path / "units.parquet").num_row_groups == 3
    assert list(read_segmentations(tmp_path / "units.parquet").items()) == list(SOME.items())


def test_parquet_of_something_else_is_named(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"id": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(FormatError, match="missing columns path, sample_rate"):
        read_segmentations(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("text")
    with pytest.raises(FormatError, match=r"b\.parquet: not a readable Parquet file"):
        read_segmentations(tmp_path / "b.parquet")


def write_one(file: Path, tokenizer: str) -> None:
    name, segmentation = next(iter(SOME.items()))
    with open_writer(file, file.suffix[1:], tokenizer=tokenizer) as writer:
        writer.write(f"{file.stem}/{name}", "", segmentation)


def test_what_made_the_units_is_kept(tmp_path: Path) -> None:
    write_one(tmp_path / "a.parquet", "0123abcd")
    write_one(tmp_path / "b.parquet", "")
    write_one(tmp_path / "c.jsonl", "0123abcd")
    assert [units_tokenizer(file) for file in sorted(tmp_path.iterdir())] == ["0123abcd", "", ""]
    assert units_tokenizer(tmp_path) == "0123abcd"
    write_one(tmp_path / "d.parquet", "4567")
    with pytest.raises(FormatError, match="units of several tokenizers"):
        units_tokenizer(tmp_path)


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    """Every flipped bit of the data, which decodes to other numbers where nothing checks it."""
    write_all(tmp_path / "units.parquet", "parquet", SOME)
    data = (tmp_path / "units.parquet").read_bytes()
    metadata = parquet.ParquetFile(tmp_path / "units.parquet").metadata
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    columns = [group.column(k) for group in groups for k in range(group.num_columns)]
    end = max(column.data_page_offset for column in columns)
    unnoticed = []
    for place in range(4, end, 7):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "damaged.parquet").write_bytes(damaged)
        try:
            found = read_segmentations(tmp_path / "damaged.parquet")
        except FormatError as error:
            assert "damaged.parquet" in str(error) and "\n" not in str(error)
            continue
        if found != SOME:
            unnoticed.append(place)
    assert unnoticed == []


def test_units_are_digested_without_what_lies_beside_them(tmp_path: Path) -> None:
    write_all(tmp_path / "corpus" / "shards" / "000000.parquet", "parquet", SOME)
    for name in ("plan/corpus.json", "artifact.json", "ledger/000000.json"):
        (tmp_path / "corpus" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "corpus" / name).write_text("{}")
    before = units_digest(tmp_path / "corpus")
    (tmp_path / "corpus" / "ledger" / "000000.json").write_text('{"touched": 1}')
    assert units_digest(tmp_path / "corpus") == before
    write_all(tmp_path / "corpus" / "shards" / "000000.parquet", "parquet", dict(reversed(SOME.items())))
    assert units_digest(tmp_path / "corpus") != before
