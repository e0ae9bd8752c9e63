from __future__ import annotations

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.evaluate.boundaries.protocols import (
    PROTOCOLS,
    Protocol,
    ProtocolSummary,
    choose_protocols,
    get_protocol,
)


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
    for wrong in ({"tolerance": -0.01}, {"tolerance": float("nan")}, {"shift": float("inf")}):
        with pytest.raises(InputError, match="finite"):
            Protocol("mine", **wrong)


def test_a_list_of_protocols():
    assert [protocol.name for protocol in choose_protocols(["zerosyl", "paper", "zerosyl"])] == ["zerosyl", "paper"]
    assert choose_protocols(["all"], tuned=True) == tuple(PROTOCOLS.values())
    assert {protocol.shift for protocol in choose_protocols(["all"])} == {0.0}
    assert list(PROTOCOLS) == ["paper", "peng", "sdhubert", "zerosyl", "strict"]
    with pytest.raises(InputError, match="'zerosyl'"):
        choose_protocols(["paper", "zero-syl"])
    with pytest.raises(InputError, match="choose all"):
        choose_protocols([])


def test_a_shift_goes_to_the_protocols_that_take_one():
    assert [protocol.shift for protocol in choose_protocols(["paper", "peng", "zerosyl"], -0.03)] == [0.0, -0.03, -0.03]
    for names, tuned, words in (
        (["paper"], False, "those that do are peng, sdhubert, zerosyl"),
        (["peng", "sdhubert"], False, "score them apart"),
        (["peng"], True, "not both"),
    ):
        with pytest.raises(InputError, match=words):
            choose_protocols(names, 0.01, tuned=tuned)


def test_the_summary_is_what_results_hold():
    summary = PROTOCOLS["sdhubert"].summary
    assert summary == ProtocolSummary("sdhubert", "starts", "starts+ends", None, "references", False, False)
    assert ProtocolSummary.from_dict(summary.to_dict()) == summary
