"""The published numbers against values typed by hand from the paper's tables, all of them."""

from __future__ import annotations

import pytest

from syllablelm.report.paper_tables import Table, read_published

# One line a row as the paper prints it, columns in its order, "-" where it has none.
PAPER = {
    "1": """47.3 24.7 46.6 48.0 54.5 28.0 30.0
        59.6 31.4 54.9 66.7 56.3 - -
        66.1 32.2 64.9 67.4 70.7 43.2 45.0
        70.9 40.1 70.8 71.4 75.1 28.9 47.8
        73.2 44.6 72.1 74.4 76.9 33.6 54.9""",
    "2": """5.0 4096 60 37.3 22.7
        5.0 4096 60 18.5 10.2
        5.0 4096 60 12.8 6.4
        5.0 16384 70 9.1 4.3
        8.33 2048 91 8.0 3.7
        6.25 8192 81 7.0 3.2
        19.5 500 175 6.3 2.5""",
    "3": """90M 70 12.5 76 2.5B 70 81.4 95.2 67.7 68.8 80.6
        90M 28k 5.0 74 1B 70 79.5 93.1 65.9 69.3 76.6
        300M 1k 25 250 5B 2.9k* 71.5 83.7 59.3 64.7 -
        300M 500 19.5 175 9B 295 70.6 80.3 61.0 56.2 69.9
        1.3B 500 19.5 175 9B 1.1k* 71.8 81.1 62.3 57.0 70.6
        7B 500 19.5 175 9B 5.9k* 72.7 83.6 61.8 59.0 74.1
        13B 500 19.5 175 9B 10k* 73.9 84.1 63.7 59.2 76.4
        90M 500 19.5 175 3.9B 84 69.7 79.8 59.7 55.5 69.0
        90M 4k 9.8 118 2B 84 61.8 66.7 56.8 54.5 56.2
        90M 2k 8.3 91 1.6B 70 72.2 81.7 62.6 62.4 71.4
        90M 8k 6.25 81 1.2B 75 72.1 82.2 61.9 62.9 70.2
        90M 16k 5.0 70 1B 82 67.6 76.9 58.3 63.2 69.0
        300M 8k 6.25 81 1.2B 290 72.2 82.2 62.0 63.7 75.4""",
    "4": """46.7 48 45
        51.1 50 52
        50.4 51 50
        60.1 53 68
        67.1 67 68
        70.2 70 70""",
    "5": """8.33 72.0 63.5 56.8
        6.25 65.2 71.8 66.0
        5.0 58.7 73.0 71.8
        4.3 54.3 73.2 74.0""",
    "6": """8.33 4k 72.9 61.8
        6.25 4k 69.3 63.3
        5.0 4k 65.7 62.8
        8.33 2k 72.1 62.0
        8.33 8k 72.9 61.2""",
    "7": """205±24 24.0±1.0
        175±14 22.6±1.2
        159±8 15.1±.9
        139±12 20.1±.7
        131±11 15.2±1.0
        116±7 15.8±.9""",
    "9": "368 88 488 7800 34700".replace(" ", "\n"),
}
BY_ID = {table.id: table for table in read_published()}
# Columns that the paper does not have.
OWN = {"token_f1", "nmi", "length_bps"}


def test_every_table_of_the_paper_is_there() -> None:
    assert list(BY_ID) == list(PAPER)
    assert all(table.data and table.protocol and not table.ours for table in BY_ID.values())


@pytest.mark.parametrize("table", BY_ID.values(), ids=BY_ID)
def test_every_number_is_the_papers(table: Table) -> None:
    lines = [line.split() for line in PAPER[table.id].splitlines()]
    keys = [column.key for column in table.columns if column.key not in OWN]
    assert len(lines) == len(table.rows)
    for line, row in zip(lines, table.rows, strict=True):
        assert set(row.values) == {key for key, printed in zip(keys, line, strict=True) if printed != "-"}
        for key, printed in zip(keys, line, strict=True):
            if printed == "-":
                continue
            value = row.values[key]
            if value.text is not None:
                assert value.text == printed
                continue
            centre, _, half = printed.partition("±")
            assert value.number == float(centre)
            if half:
                assert value.low is not None and value.high is not None and value.bar
                assert (value.high - value.low) / 2 == pytest.approx(float(half))
            else:
                assert value.low is value.high is None


@pytest.mark.parametrize(
    ("table", "row", "key", "shown"),
    [
        ("1", "SylBoost, Data2Vec2", "f1_50", "73.2"),
        ("1", "SD-HuBERT", "cluster_purity", "43.2"),
        ("3", "SyllableLM 6.25 Hz, large", "tsc", "75.4"),
        ("3", "TWIST 7B", "gpu_hours", "5.9k*"),
        ("4", "LossPred, round 2", "f1_50", "70.2"),
        ("5", "SylBoost 4.3 Hz", "word", "74.0"),
        ("6", "6.25 Hz, 4k units", "sblimp", "63.3"),
        ("7", "SyllableLM 6.25 Hz, 8k units, 300M", "ppx", "116"),
        ("9", "HuBERT and MinSum", "speed", "488"),
    ],
)
def test_rows_have_their_own_names(table: str, row: str, key: str, shown: str) -> None:
    (found,) = [one for one in BY_ID[table].rows if one.name == row]
    (column,) = [one for one in BY_ID[table].columns if one.key == key]
    assert column.show(found.values[key])[0] == shown
    assert found.data == BY_ID[table].data
