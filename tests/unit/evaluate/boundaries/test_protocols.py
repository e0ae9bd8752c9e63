from __future__ import annotations

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.evaluate.boundaries.protocols import PROTOCOLS, Protocol, get_protocol, get_protocols


@pytest.mark.parametrize(("name", "grid"), [("peng", (-0.06, 0.031)), ("sdhubert", (-0.05, 0.05))])
def test_shift_grids_are_the_published_ones(name, grid):
    assert PROTOCOLS[name].shift_grid == pytest.approx(np.arange(grid[0], grid[1], 0.005))


def test_unknown_protocols_name_the_nearest():
    with pytest.raises(InputError, match="'sdhubert'"):
        get_protocol("sd-hubert")
    with pytest.raises(InputError, match="paper, peng"):
        get_protocol("xyz")
    with pytest.raises(InputError, match="prediction"):
        Protocol("mine", prediction="ends")  # type: ignore[arg-type]


def test_a_list_of_protocols():
    assert [protocol.name for protocol in get_protocols("zerosyl, paper,zerosyl")] == ["zerosyl", "paper"]
    assert get_protocols("all") == tuple(PROTOCOLS.values())
    assert list(PROTOCOLS) == ["paper", "peng", "sdhubert", "zerosyl", "strict"]
    with pytest.raises(InputError, match="'zerosyl'"):
        get_protocols("paper,zero-syl")
    with pytest.raises(InputError, match="choose all"):
        get_protocols(",")
