"""Slow, independent versions of algorithms that need a model, written from their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def probabilities_under_mask(model: Any, waveform: np.ndarray, hidden_frames: set[int]) -> np.ndarray:
    """(T, labels) probabilities of every label at every frame, from the wave, with some frames hidden."""
    with torch.inference_mode():
        wave_1N, lengths_1 = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
        input_1TD, frames_1 = model.inputs(wave_1N, lengths_1)
        mask_1T = torch.tensor([[t in hidden_frames for t in range(input_1TD.shape[1])]])
        logits = model.head(model.hidden(input_1TD, frames_1, mask_1T))[0].double().numpy()
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def losspred_matrix_slow(
    model: Any, waveform: np.ndarray, *, span: int = 50, gap: int | None = None, labels: Any = None
) -> np.ndarray:
    """Section 3.1 row by row: C[r, c] is the probability of c's label while the span beside r is hidden.

    Args:
        gap: None hides that one span only; otherwise also every span that a multiple of span + gap frames separates
            from it, as far as they reach into the recording.

    Returns:
        (T, T) float64.
    """
    clean = probabilities_under_mask(model, waveform, set())
    num_frames = len(clean)
    label = clean.argmax(axis=1) if labels is None else np.asarray(labels)
    matrix = np.zeros((num_frames, num_frames))
    for row in range(num_frames):
        for side in ("after", "before"):
            beside = range(row + 1, row + span + 1) if side == "after" else range(row - span, row)
            hidden = set(beside)
            if gap is not None:
                reach = num_frames // (span + gap) + 2
                hidden = {t + k * (span + gap) for t in beside for k in range(-reach, reach + 1)}
            hidden &= set(range(num_frames))
            columns = [c for c in beside if 0 <= c < num_frames and abs(row - c) <= span // 2]
            if not columns:
                continue
            probabilities = probabilities_under_mask(model, waveform, hidden)
            for column in columns:
                matrix[row, column] = probabilities[column, label[column]]
    return matrix
