"""Time encoders in seconds of audio per second: each precision, batched and clip by clip, beside plain transformers.

Run: python benchmarks/bench_encoder.py [--models tiny base] [--device auto] [--seconds 60] [--repeats 3] [--long 60]
"tiny" is the encoder of that bundled tokenizer, "base" has HuBERT-base's size and random weights. Features are compared
before anything is timed; the programs run in turns, and the best turn of each counts. "per CPU second" divides by the
computing time of all threads, on which other load has less influence.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from results import add_json, report

from syllablelm.core.models import BUNDLED
from syllablelm.encoders.device import pick_device
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.load import load_model
from syllablelm.encoders.padding import frame_mask, pad_waveforms

RATE = 16_000


def make_model(name: str) -> Any:
    """Return a new model of transformers."""
    if name == "tiny":
        return load_model(BUNDLED / "tiny").eval()
    from transformers.models.hubert.configuration_hubert import HubertConfig
    from transformers.models.hubert.modeling_hubert import HubertModel

    torch.manual_seed(0)
    return HubertModel(HubertConfig()).eval()


def make_clips(seconds: float) -> list[np.ndarray]:
    """Return noise in clips of 2 to 16 s, as long as those of LibriSpeech, unsorted."""
    rng = np.random.default_rng(0)
    clips, left = [], seconds
    while left > 0:
        length = min(max(2.0, left), float(rng.choice([2.3, 5.1, 8.7, 11.9, 13.8, 14.6, 15.2, 15.9])))
        clips.append(0.1 * rng.standard_normal(int(RATE * length)).astype(np.float32))
        left -= length
    return clips


@torch.inference_mode()
def run_transformers(model: Any, clips: Sequence[np.ndarray], device: torch.device) -> list[np.ndarray]:
    """Return features of all clips in one padded batch by the model itself, used as its documentation shows."""
    wave_BN, lengths_B = pad_waveforms(clips, device)
    hidden = model(wave_BN, attention_mask=frame_mask(lengths_B, wave_BN.shape[1])).last_hidden_state
    counts = model._get_feat_extract_output_lengths(lengths_B)
    return [feats[:count].cpu().numpy() for feats, count in zip(hidden, counts.tolist(), strict=True)]


@torch.inference_mode()
def run_padded(encoder: HubEncoder, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return features of all clips in one padded batch by our encoder."""
    feats_BTD, frames_B = encoder(*pad_waveforms(clips, encoder.device))
    return [feats[:count].cpu().numpy() for feats, count in zip(feats_BTD, frames_B.tolist(), strict=True)]


def run_encode(encoder: HubEncoder, clips: Sequence[np.ndarray], precision: Any) -> list[np.ndarray]:
    encoder.precision = precision
    found = encoder.encode(clips)
    encoder.precision = "float32"
    return found


def distance(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return the largest relative distance of a clip's features."""
    pairs = zip(found, expected, strict=True)
    return max(float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in pairs)


def bench(name: str, clips: Sequence[np.ndarray], device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Return a row for each way to encode the clips."""
    plain, encoder = make_model(name).to(device), HubEncoder(make_model(name)).to(device)
    ways: dict[str, Callable[[], Any]] = {
        "transformers, one padded batch": lambda: run_transformers(plain, clips, device),
        "one padded batch": lambda: run_padded(encoder, clips),
        "clip by clip": lambda: [encoder.encode([clip])[0] for clip in clips],
        "encode, float32": lambda: run_encode(encoder, clips, "float32"),
        "encode, bfloat16": lambda: run_encode(encoder, clips, "bfloat16"),
    }
    if device.type == "cuda":
        ways["encode, float16"] = lambda: run_encode(encoder, clips, "float16")
    expected = [run_transformers(plain, [clip], device)[0] for clip in clips]
    far = {way: distance(run(), expected) for way, run in ways.items()}
    for way in ("one padded batch", "clip by clip", "encode, float32"):
        if far[way] > 1e-3:
            raise SystemExit(f"{name}: {way} differs from transformers clip by clip by {far[way]:.1e}")
    wall, computing = dict.fromkeys(ways, float("inf")), dict.fromkeys(ways, float("inf"))
    for _ in range(repeats):
        for way, run in ways.items():
            start, spent = time.perf_counter(), time.process_time()
            run()
            wall[way] = min(wall[way], time.perf_counter() - start)
            computing[way] = min(computing[way], time.process_time() - spent)
    audio = sum(len(clip) for clip in clips) / RATE
    base = computing if device.type == "cpu" else wall
    return [
        {
            "encoder": name,
            "way": way,
            "audio s/s": audio / wall[way],
            "per CPU second": audio / computing[way],
            "ratio": base["transformers, one padded batch"] / base[way],
            "distance": far[way],
        }
        for way in ways
    ]


def bench_memory(name: str, seconds: float, device: torch.device) -> None:
    """Print the peak memory that one long clip adds; on a CPU this needs a new process."""
    encoder = HubEncoder(make_model(name)).to(device)
    clip = 0.1 * np.random.default_rng(0).standard_normal(int(RATE * seconds)).astype(np.float32)
    encoder.encode([clip[:RATE]])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 2**20
        encoder.encode([clip])
        added = torch.cuda.max_memory_allocated() / 2**20 - before
    else:
        # Linux counts in kibibytes.
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        encoder.encode([clip])
        added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    print(f"{name}: one clip of {seconds:.0f} s adds {added:.0f} MiB to the peak", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["base", "tiny"], choices=["tiny", "base"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--long", type=float, default=60.0, help="seconds of the clip whose memory is measured")
    add_json(parser)
    options = parser.parse_args()
    device = pick_device(options.device)
    for name in options.models:
        bench_memory(name, options.long, device)
    rows = [bench(name, make_clips(options.seconds), device, options.repeats) for name in options.models]
    report(options, [row for part in rows for row in part], device)


if __name__ == "__main__":
    main()
