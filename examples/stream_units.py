"""Print the units of a stream in bounded memory; input: raw 16-bit mono samples at 16 kHz on standard input.

Run: ffmpeg -loglevel error -i RECORDING -f s16le -ac 1 -ar 16000 - | python examples/stream_units.py [MODEL]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

import syllablelm as sl


def read_samples(source: BinaryIO, seconds: float = 0.5) -> Iterator[np.ndarray]:
    """Yield blocks of float32 samples; an odd byte at the end of a block belongs to the next."""
    rest = b""
    while data := source.read(round(seconds * 16_000) * 2):
        data = rest + data
        rest = data[len(data) // 2 * 2 :]
        yield np.frombuffer(data[: len(data) - len(rest)], dtype="<i2").astype(np.float32) / 32768


def main(model: str = "small") -> None:
    # A shorter window lowers the latency and gives less context.
    tokenizer = sl.Tokenizer.load(model, window_seconds=10)
    print(f"a unit appears at most {tokenizer.latency:.1f} s after its end", file=sys.stderr)
    for piece in tokenizer.stream(read_samples(sys.stdin.buffer)):
        units = [] if piece.unit is None else piece.unit.tolist()
        for (start, end), unit in zip(piece.seconds.tolist(), units, strict=True):
            print(f"{start:7.2f}  {end:7.2f}  {unit:5d}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
