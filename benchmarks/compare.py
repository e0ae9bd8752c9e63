"""Compare the speed of two commits: their benchmarks run in turns, and every rate and time as a ratio.

Run: python benchmarks/compare.py BASE [NEW] [--turns 3] [--bench bench_segment.py bench_lm.py ...] [-- OPTIONS]
     make bench-compare BASE=v0.3 BENCH="bench_lm.py" OPTIONS="--size tiny"
BASE and NEW are commits; without NEW, the working tree as it is. Each commit's own benchmark runs on its own source in
a process of its own. A ratio above 1 says that NEW is faster; it is the median over the turns, with the smallest and
the largest beside it. Rows are matched by their labels; a ratio whose range includes 1 is no difference.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from syllablelm.core.document import format_table

ROOT = Path(__file__).resolve().parents[1]
BENCHES = ("bench_segment.py", "bench_tokenizer.py", "bench_lm.py", "bench_train.py")
# What a commit's benchmark needs.
PARTS = ("src", "benchmarks", "tests")
Rows = dict[tuple[str, ...], dict[str, float]]


def unpack(commit: str, folder: Path) -> Path:
    """Write the source of a commit into a new folder."""
    done = subprocess.run(["git", "archive", commit, *PARTS], cwd=ROOT, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{commit}: no such commit here ({done.stderr.decode().strip()})")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def run(tree: Path, bench: str, options: list[str], out: Path) -> Rows:
    """Run one benchmark of a source tree and return its measured numbers by the labels of their rows."""
    script = tree / "benchmarks" / bench
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    done = subprocess.run(
        [sys.executable, script, "--json", out, *options], env=environment, capture_output=True, text=True
    )
    if "--json" in done.stderr and not out.exists():
        raise SystemExit(f"{bench} of {tree.name} writes no JSON yet; compare with a later commit")
    if done.returncode or not out.exists():
        lines = [*done.stderr.splitlines(), *done.stdout.splitlines()]
        raise SystemExit(f"{script} failed: {lines[-1] if lines else done.returncode}")
    return read_rows(json.loads(out.read_text())["rows"])


def is_rate(name: str) -> bool:
    return name.endswith("/s")


def read_rows(rows: list[dict[str, Any]]) -> Rows:
    """Return rates and times of rows by their labels: strings and whole numbers that are neither."""
    found: Rows = {}
    for row in rows:
        timed = {name: value for name, value in row.items() if is_rate(name) or name.endswith("seconds")}
        label = tuple(
            str(value) for name, value in row.items() if name not in timed and not isinstance(value, float | None)
        )
        found[label] = {name: float(value) for name, value in timed.items() if isinstance(value, int | float)}
    return found


def ratios(pairs: list[tuple[Rows, Rows]]) -> list[dict[str, Any]]:
    """Return, for every number that both have in every turn, how many times as fast the second is."""
    result = []
    for label, numbers in pairs[0][0].items():
        for name in numbers:
            try:
                both = [(base[label][name], new[label][name]) for base, new in pairs]
            except KeyError:
                continue
            if min(min(pair) for pair in both) <= 0:
                continue
            found = sorted(new / base if is_rate(name) else base / new for base, new in both)
            row: dict[str, Any] = {"row": ", ".join(label), "number": name, "times as fast": median(found)}
            result.append(row | {"from": found[0], "to": found[-1], "base": both[-1][0], "new": both[-1][1]})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--bench", nargs="+", default=list(BENCHES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the ratios as JSON, too.")
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    arguments = parser.parse_args(own)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = unpack(arguments.base, folder / "base")
        new = unpack(arguments.new, folder / "new") if arguments.new else ROOT
        tables = {}
        for bench in arguments.bench:
            pairs = []
            for turn in range(arguments.turns):
                # The first of a turn changes, as the machine may warm up.
                trees = (base, new) if turn % 2 == 0 else (new, base)
                found = [run(tree, bench, options, folder / f"{turn}_{i}.json") for i, tree in enumerate(trees)]
                pairs.append((found[0], found[1]) if turn % 2 == 0 else (found[1], found[0]))
                print(f"{bench}: turn {turn + 1} of {arguments.turns}", file=sys.stderr, flush=True)
            tables[bench] = ratios(pairs)
            print(f"\n{bench}: {arguments.new or 'the working tree'} against {arguments.base}")
            print(format_table(tables[bench]) if tables[bench] else "no row in common")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
