"""The network of the phone probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.evaluate.units.phone_network import Example, PhoneNetwork, read_phones
from syllablelm.evaluate.units.phone_probe import ProbeSettings


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(0, 5))
def test_batched_equals_alone(sizes, seed):
    torch.manual_seed(seed)
    network = PhoneNetwork(6, 4, 3, ProbeSettings(dim=8, blocks=2)).eval()
    rng = np.random.default_rng(seed)
    unit, length = torch.from_numpy(rng.integers(0, 7, (len(sizes), max(sizes)))), torch.rand(len(sizes), max(sizes))
    valid = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    together = network(unit, length, valid)
    for row, size in enumerate(sizes):
        alone = network(unit[row : row + 1, :size], length[row : row + 1, :size], valid[row : row + 1, :size])
        torch.testing.assert_close(together[row, : size * 3], alone[0], atol=1e-5, rtol=1e-5)


def test_greedy_reading_joins_repeats_and_drops_blanks():
    class Fixed(PhoneNetwork):
        def forward(self, *_):
            return torch.nn.functional.one_hot(torch.tensor([[1, 1, 0, 1, 2, 2, 0, 3]]), 4).float()

    network = Fixed(1, 3, 2, ProbeSettings(dim=4, blocks=1))
    example = Example(np.ones(4, np.int64), np.zeros(4, np.float32), 1.0, np.zeros(0, np.int64))
    assert read_phones(network, example) == [1, 1, 2, 3]


@pytest.mark.parametrize("wrong", [{"kernel": 4}, {"steps": 0}, {"dropout": 1.0}, {"learning_rate": 0.0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(InputError):
        ProbeSettings(**wrong)
