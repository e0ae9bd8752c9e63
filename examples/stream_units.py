"""Print the units of a live stream, each soon after it was spoken.

Run: python examples/stream_units.py RECORDING           a file, played in real time
     python examples/stream_units.py --microphone        until Ctrl-C; needs `pip install sounddevice`
     ffmpeg -loglevel error -i RECORDING -f s16le -ac 1 -ar 16000 - | python examples/stream_units.py
                                                          raw 16-bit mono samples at 16 kHz
Options: --model NAME, --lookahead SECONDS (1).
"""

from __future__ import annotations

import argparse
import queue
import sys
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

import syllablelm as sl

RATE, BLOCK_SECONDS = 16_000, 0.1


def read_samples(source: BinaryIO) -> Iterator[np.ndarray]:
    """Yield blocks of float32 samples; an odd byte at the end of a block belongs to the next."""
    rest = b""
    while data := source.read(round(BLOCK_SECONDS * RATE) * 2):
        data = rest + data
        rest = data[len(data) // 2 * 2 :]
        yield np.frombuffer(data[: len(data) - len(rest)], dtype="<i2").astype(np.float32) / 32768


def play(wave: np.ndarray) -> Iterator[np.ndarray]:
    """Yield blocks of a waveform when they would have been heard."""
    started, step = time.monotonic(), round(BLOCK_SECONDS * RATE)
    for first in range(0, len(wave), step):
        block = wave[first : first + step]
        time.sleep(max(0.0, started + (first + len(block)) / RATE - time.monotonic()))
        yield block


def record() -> Iterator[np.ndarray]:
    """Yield blocks from the microphone until Ctrl-C."""
    try:
        import sounddevice
    except ImportError:
        sys.exit("--microphone needs sounddevice: pip install sounddevice")
    blocks: queue.Queue[np.ndarray] = queue.Queue()

    def keep(data: Any, *_: Any) -> None:
        blocks.put(data[:, 0].copy())

    with sounddevice.InputStream(RATE, round(BLOCK_SECONDS * RATE), channels=1, dtype="float32", callback=keep):
        try:
            while True:
                yield blocks.get()
        except KeyboardInterrupt:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", nargs="?")
    parser.add_argument("--microphone", action="store_true")
    parser.add_argument("--model", default="small")
    parser.add_argument("--lookahead", type=float, default=1.0)
    options = parser.parse_args()
    tokenizer = sl.Tokenizer.load(options.model)
    if options.microphone:
        blocks = record()
    elif options.recording:
        blocks = play(sl.load_audio(options.recording))
    else:
        blocks = read_samples(sys.stdin.buffer)
    for piece in tokenizer.stream(blocks, lookahead=options.lookahead):
        units = [] if piece.unit is None else piece.unit.tolist()
        for (start, end), unit in zip(piece.seconds.tolist(), units, strict=True):
            print(f"{start:7.2f}  {end:7.2f}  {unit:5d}", flush=True)


if __name__ == "__main__":
    main()
