"""The number of kills is an option: ``make kill N=60``."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=18, help="Number of kills, divided among the commands.")
    parser.addoption("--kill-seed", type=int, default=0, help="Random seed of their moments.")
