"""What every benchmark prints and, with ``--json``, writes: the machine, and rows of labels and measured numbers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from syllablelm.core.document import format_table
from syllablelm.evaluate.speed import describe_machine


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option that `report` reads."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write machine and rows as JSON, too.")


def report(
    options: argparse.Namespace,
    rows: Sequence[Mapping[str, Any]],
    device: str | torch.device = "cpu",
    digits: int = 3,
    by: str = "",
) -> None:
    """Print machine and rows, and write them to the file of ``--json``.

    Columns that end in "/s" are rates (more is faster), those that end in "seconds" are times; the strings and whole
    numbers among the others name the row. ``compare.py`` reads them so. Neighbouring rows with one value in the
    column ``by`` are printed as a table.
    """
    machine = describe_machine(torch.device(device)).to_dict()
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for _, table in groupby(rows, lambda row: row.get(by)):
        print(format_table(list(table), digits=digits))
    if options.json is not None:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        written = {"machine": machine, "settings": settings, "rows": list(rows)}
        options.json.write_text(json.dumps(written, indent=2, default=str) + "\n", encoding="utf-8")
