"""Print the units of a recording with their times.

Run: python examples/print_units.py RECORDING [MODEL]
"""

from __future__ import annotations

import sys

import syllablelm as sl


def main(path: str, model: str = "small") -> None:
    segmentation = sl.Tokenizer.load(model).encode(sl.load_audio(path))
    units = [] if segmentation.unit is None else segmentation.unit.tolist()
    print("  start      end   unit")
    for (start, end), unit in zip(segmentation.seconds.tolist(), units, strict=True):
        print(f"{start:7.2f}  {end:7.2f}  {unit:5d}")


if __name__ == "__main__":
    main(*sys.argv[1:])
