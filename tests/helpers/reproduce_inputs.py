"""The inputs of docs/reproduce.md under their own names: a few seconds of noise, and random weights of true layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.models.hubert.configuration_hubert import HubertConfig
from transformers.models.hubert.modeling_hubert import HubertModel

from helpers.data2vec2_checkpoints import write_data2vec2
from helpers.pair_benchmark import make_benchmark
from helpers.published_hifigan import TINY, random_weights, write
from helpers.random_encoders import COMMON, GROUP, MHUBERT
from helpers.random_models import noise
from helpers.random_recognizers import write_ctc, write_text_lm, write_whisper
from helpers.released_lms import TWIST, write_twist
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.encoders import load_encoder
from syllablelm.quantize import fit_kmeans

WORDS = ("bah", "bee", "boo")
VOWELS = ("AA1", "IY1", "UW1")
SYLLABLE_SECONDS = 0.2
# Number of acoustic units, as many as the small vocoder speaks.
MHUBERT_UNITS = TINY["num_embeddings"]
# Of a part of LibriSpeech: speakers, and seconds of each one's recordings.
PARTS = {
    "train/train-clean-100": {19: (1.6, 1.2), 26: (2.0,)},
    "train/train-clean-360": {14: (1.5, 1.4)},
    "train/train-other-500": {20: (1.8,)},
    "dev-clean": {1272: (2.0, 1.6), 1462: (1.8, 1.7)},
    "test/test-clean": {61: (4.2,), 121: (4.4,)},
    "test/test-other": {367: (1.5,)},
}
CORPORA = ("swc", "tedlium", "people", "voxpopuli")


def make_inputs(root: Path) -> Path:
    """Make every input that the page names, below ``root``."""
    seed = 0
    for part, speakers in PARTS.items():
        for speaker, lengths in speakers.items():
            chapter = root / "LibriSpeech" / part / f"{speaker}" / "128104"
            texts = []
            for number, seconds in enumerate(lengths):
                name = f"{speaker}-128104-{number:04d}"
                write_recording(chapter / f"{name}.flac", seconds, seed := seed + 1)
                texts.append(f"{name} {' '.join(WORDS[k % 3] for k in range(int(seconds))).upper()}\n")
            (chapter / f"{speaker}-128104.trans.txt").write_text("".join(texts), encoding="utf-8")
    for speaker in (100, 103, 107):
        write_recording(
            root / "LibriLight" / "small" / f"{speaker}" / "book" / f"b{speaker}.flac", 3.0, seed := seed + 1
        )
    for corpus in CORPORA:
        for name in (corpus, f"{corpus}_dev"):
            write_recording(root / "corpora" / name / f"{name}_0.flac", 2.0, seed := seed + 1)
    make_benchmark(root / "zerospeech")
    (root / "zerospeech" / "tSC").rename(root / "tSC")
    shutil.copytree(root / "tSC", root / "sSC")
    for part in ("rir_consistency", "speaker_consistency"):
        for option in range(2):
            write_recording(root / "salmon_benchmark" / part / f"sample_0_{option}.wav", 1.5, seed := seed + 1)
    align(root / "LibriSpeech" / "dev-clean", root / "alignments" / "dev-clean")
    align(root / "LibriSpeech" / "test", root / "alignments" / "test")
    align(root / "LibriLight", root / "alignments" / "librilight")
    for suite in ("lexical", "syntactic"):
        align(root / "zerospeech" / suite, root / "alignments" / suite)
    align(root / "tSC", root / "alignments" / "tSC")
    _texts(root)
    _models(root)
    return root


def write_recording(path: Path, seconds: float, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_audio(path, noise(round(16_000 * seconds), seed))


def align(recordings: Path, out: Path) -> None:
    """Write a TextGrid for every recording of a folder: a word of one syllable every fifth of a second."""
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(path for path in recordings.rglob("*") if path.suffix in (".flac", ".wav")):
        seconds = len(load_audio(file)) / 16_000
        words: list[tuple[float, float, str]] = []
        phones: list[tuple[float, float, str]] = []
        for number in range(int(seconds / SYLLABLE_SECONDS + 1e-6)):
            start, end = number * SYLLABLE_SECONDS, (number + 1) * SYLLABLE_SECONDS
            words.append((start, end, WORDS[number % 3]))
            phones += [(start, start + 0.06, "B"), (start + 0.06, end, VOWELS[number % 3])]
        lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", f"xmin = 0\nxmax = {seconds}"]
        lines += ["tiers? <exists>", "size = 2", "item []:"]
        for index, (tier, intervals) in enumerate((("words", words), ("phones", phones)), 1):
            end = intervals[-1][1]
            whole = [*intervals, (end, seconds, "")] if seconds - end > 1e-6 else intervals
            lines += [f"item [{index}]:", 'class = "IntervalTier"', f'name = "{tier}"', "xmin = 0", f"xmax = {seconds}"]
            lines.append(f"intervals: size = {len(whole)}")
            for place, (first, last, text) in enumerate(whole, 1):
                last = seconds if place == len(whole) else last
                lines += [f"intervals [{place}]:", f"xmin = {first:.6f}", f"xmax = {last:.6f}", f'text = "{text}"']
        (out / f"{file.stem}.TextGrid").write_text("\n".join(lines) + "\n", encoding="utf-8")


def story(name: str, thing: str) -> str:
    return f"{name} had a new {thing}. It was quite red. {name} took it to the park. Then {name} lost the old {thing}."


def _texts(root: Path) -> None:
    for part, thing in (("train", "ball"), ("valid", "boat")):
        stories = [story(name, thing) for name in ("Tim", "Mia", "Sam", "Lily")]
        text = "\n<|endoftext|>\n".join(stories)
        (root / f"TinyStoriesV2-GPT4-{part}.txt").write_text(text, encoding="utf-8")
    for number, size in enumerate(("70m", "160m", "410m", "1b", "2.8b", "6.9b")):
        results = {f"blimp_{paradigm}": {"acc": 0.6 + 0.02 * number} for paradigm in ("wh_island", "drop_argument")}
        path = root / f"evals/pythia-v0/pythia-{size}/zero-shot"
        path.mkdir(parents=True)
        name = f"pythia-{size}-0shot-global_step143000_eval_results_11-25.json"
        (path / name).write_text(
            json.dumps({"results": results, "versions": {}, "config": {"num_fewshot": 0}}), "utf-8"
        )


def _models(root: Path) -> None:
    def hubert(name: str, **changes: Any) -> None:
        torch.manual_seed(0)
        HubertModel(HubertConfig(**{**COMMON, **GROUP, "num_hidden_layers": 12, **changes})).save_pretrained(
            root / name
        )

    hubert("facebook/hubert-base-ls960")
    hubert("models/sdhubert")
    # Weights so small that the layers do not make all frames alike, and units change.
    hubert("slprl/mhubert-base-25hz", **{**MHUBERT, "num_hidden_layers": 12, "initializer_range": 0.05})
    write_data2vec2(root / "base_libri.pt")
    mhubert = load_encoder(root / "slprl/mhubert-base-25hz", 11, normalize=False, pad=40, device="cpu")
    frames = np.concatenate(mhubert.encode([noise(16_000, seed) for seed in range(4)]))
    np.save(root / "mhubert_km500.npy", fit_kmeans(frames, MHUBERT_UNITS))
    write(root / "models/hifigan_lj_mhubert_base_25hz", TINY, random_weights(TINY))
    for size in TWIST:
        write_twist(root / f"TWIST-{size}", size, vocab=MHUBERT_UNITS + 3, offset=2)
    write_ctc(root / "facebook/hubert-large-ls960-ft", "hubert")
    for name in ("openai/whisper-large-v3", "openai/whisper-large-v3-turbo"):
        write_whisper(root / name)
    for name in ("openai-community/gpt2", "meta-llama/Llama-3.2-1B"):
        write_text_lm(root / name, WORDS, positions=1024)
