from __future__ import annotations

import pytest

from syllablelm.cli.app import main


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("tokenize", "a.wav", "--model", "tiny", "--model", "small"), "--model"),
        (("evaluate", "bitrate", "a.wav", "--model", "tiny", "--seed", "1", "--model=small"), "--model"),
        (("scale", "plan", "--flops", "1e18", "--flops", "1e19"), "--flops"),
    ],
)
def test_an_option_of_one_value_is_refused_twice(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], option: str
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert f"error: {option} takes one value but was given 2 times (see syllablelm {arguments[0]}" in printed.err


def test_repeatable_options_and_flags_may_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    repeated = ("--set", "a=1", "--set", "b=2")
    assert main(("train", "all", "no-such-recipe", *repeated)) == 2
    assert main(("resynthesize", "no-such.wav", "--out", "x.wav", "--overwrite", "--overwrite")) == 2
    assert "takes one value" not in capsys.readouterr().err
