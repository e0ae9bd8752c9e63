"""Time the tokenizer: seconds of audio per second, the share of each stage, and peak memory.

Run: python benchmarks/bench_tokenizer.py [--size small|tiny|base|whisper-base] [--clips 8] [--clip 25]
         [--precision float32] [--repeats 1]
"small" and "tiny" are the bundled tokenizers; "base" and "whisper-base" have the size of HuBERT-base (layer 9) and of
Whisper-base with random weights, MinSum at 6.25 a second, and 16,384 centres for 4,096 units, as in the paper's timing.
The audio is the bundled recording, repeated. `syllablelm evaluate speed` times any tokenizer on any recordings.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from results import add_json, report

from syllablelm import Tokenizer
from syllablelm.encoders.device import Precision, check_precision, pick_device
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.whisper import WhisperEncoder
from syllablelm.encoders.whisper_network import WhisperModel, WhisperShape
from syllablelm.evaluate.speed import make_clips, measure_speed
from syllablelm.quantize import Codebook
from syllablelm.tokenizer.segment_rule import SegmentRule


def open_tokenizer(size: str, device: torch.device, precision: Precision, *, toy: bool = False) -> Tokenizer:
    """Return a bundled tokenizer, or a random one of HuBERT-base's or Whisper-base's size (``toy``: small ones)."""
    if size not in ("base", "whisper-base"):
        return Tokenizer.load(size, device=str(device), precision=precision)
    torch.manual_seed(0)
    encoder = (random_hubert(toy) if size == "base" else random_whisper(toy)).to(device)
    encoder.precision = check_precision(precision, device)
    count = 64 if toy else 16_384
    centres = np.random.default_rng(0).standard_normal((count, encoder.dim)).astype(np.float32)
    codebook = Codebook(centres, np.arange(count, dtype=np.int32) % (count // 4))
    return Tokenizer(encoder, codebook, SegmentRule(rate=6.25))


def random_hubert(toy: bool) -> HubEncoder:
    """Return layer 9 of HuBERT-base's size."""
    from transformers.models.hubert.configuration_hubert import HubertConfig
    from transformers.models.hubert.modeling_hubert import HubertModel

    small: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    config = HubertConfig(**small, conv_dim=(16,) * 7, num_hidden_layers=2) if toy else HubertConfig()
    return HubEncoder(HubertModel(config), 2 if toy else 9)


def random_whisper(toy: bool) -> HubEncoder:
    """Return the last layer of Whisper-base's size."""
    sizes = (2, 2, 64, 32) if toy else (6, 8, 2048, 512)
    return WhisperEncoder(WhisperModel(WhisperShape(80, *sizes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("small", "tiny", "base", "whisper-base"), default="small")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--clip", type=float, default=25.0, help="Seconds per recording.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--batch-seconds", type=float, default=120.0)
    parser.add_argument("--repeats", type=int, default=1)
    add_json(parser)
    options = parser.parse_args()
    device = pick_device(options.device)
    tokenizer = open_tokenizer(options.size, device, options.precision)
    tokenizer.batch_seconds = options.batch_seconds
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(Path(folder), options.clips, options.clip)
        speed, _ = measure_speed(tokenizer, clips, repeats=options.repeats)
    print(f"{options.size}: {speed.audio_seconds:.0f} s of audio in {speed.recordings} clips, {speed.units} units")
    per_cpu = speed.audio_seconds / speed.cpu_seconds
    stages = [stage.to_dict() for stage in speed.stages]
    report(options, [*stages, {"stage": "all, of computing", "audio s per CPU s": per_cpu}], device)
    print(f"{per_cpu:.0f} s of audio per second of computing; peak memory {speed.peak_memory_mib:.0f} MiB")


if __name__ == "__main__":
    main()
