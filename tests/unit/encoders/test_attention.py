"""Attention over blocks of queries, against the whole table written out."""

from __future__ import annotations

import math

import pytest
import torch

from syllablelm.encoders import attention
from syllablelm.encoders.attention import attend_in_blocks


@pytest.mark.parametrize("table", [1, 2_000, 1 << 20])
def test_blocks_equal_the_table_of_all_pairs(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 3, 50, 8)
    bias_1HTT, valid_BT = torch.randn(1, 3, 50, 50), torch.arange(50) < torch.tensor([50, 31])[:, None]
    asked = []

    def bias(start: int, stop: int) -> torch.Tensor:
        asked.append((start, stop))
        return bias_1HTT[:, :, start:stop]

    monkeypatch.setattr(attention, "TABLE_CPU", table)
    found = attend_in_blocks(query, key, value, bias, valid_BT[:, None, None])
    scores = torch.einsum("bhqe,bhke->bhqk", query, key) / math.sqrt(8) + bias_1HTT
    weights = scores.masked_fill(~valid_BT[:, None, None], -math.inf).softmax(-1)
    torch.testing.assert_close(found, weights @ value, atol=1e-5, rtol=1e-5)
    # Each query once, in blocks of at least 16 whatever the room.
    assert [stop for _, stop in asked[:-1]] == [start for start, _ in asked[1:]]
    assert (asked[0][0], asked[-1][1]) == (0, 50) and len(asked) == {1: 4, 2_000: 4, 1 << 20: 1}[table]
    everything = attend_in_blocks(query, key, value, bias, None)
    torch.testing.assert_close(everything[0], found[0])
    assert not torch.allclose(everything[1], found[1])
