"""A small Markov language of units, and an untrained model of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.speech_lm import SpeechLM, typical_durations
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.train.lm_stage import LMShape

UNITS = 30
INFO = TokenInfo(UNITS, tokenizer="abc")
SHAPE = LMShape(layers=2, dim=32, heads=4, feed_forward=64, positions=128, dropout=0.0)


def recording(rng: np.random.Generator, length: int, table: np.ndarray) -> Segmentation:
    units = [int(rng.integers(UNITS))]
    while len(units) < length:
        units.append(int(rng.choice(UNITS, p=table[units[-1]])))
    frames = rng.integers(3, 20, length)
    return Segmentation.from_boundaries(np.concatenate([[0], np.cumsum(frames)]), unit=units)


@pytest.fixture(scope="session")
def recordings() -> list[tuple[str, Segmentation]]:
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.full(UNITS, 0.1), size=UNITS) * (1 - np.eye(UNITS))
    table = table / table.sum(1, keepdims=True)
    return [(f"r{i}", recording(rng, int(rng.integers(5, 90)), table)) for i in range(120)]


@pytest.fixture(scope="session")
def store(recordings: list[tuple[str, Segmentation]]) -> TokenStore:
    return TokenStore.from_segmentations(recordings, INFO)


@pytest.fixture(scope="session")
def speech_lm(store: TokenStore) -> SpeechLM:
    torch.manual_seed(0)
    model = SHAPE.build(UNITS)
    # Larger weights than the usual start, so that the model has opinions that tests can tell apart.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.2)
    return SpeechLM(model, INFO, typical_durations(store))
