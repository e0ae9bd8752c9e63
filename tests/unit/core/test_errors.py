"""Messages of errors: what is wrong, and where."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from syllablelm.core.errors import (
    AudioError,
    FormatError,
    InputError,
    MissingDependencyError,
    SyllableLMError,
    and_more,
    check_fields,
    check_positive,
    located,
    one_line,
    plural,
    unknown_name,
)


def test_users_may_catch_the_builtin_kinds() -> None:
    assert issubclass(InputError, ValueError) and issubclass(MissingDependencyError, ImportError)
    assert all(issubclass(kind, SyllableLMError) for kind in (AudioError, FormatError, InputError))


def test_numbers_out_of_range_are_named() -> None:
    for value in (1, 1e-9, 3.5):
        check_positive("x", value)
    check_positive("x", 0, zero=True)
    for value in (0, -1, math.nan, math.inf):
        with pytest.raises(InputError, match=rf"^lm\.crop {value}: must be above 0, and finite$"):
            check_positive("lm.crop", value)
    for value in (-1e-9, math.nan, math.inf):
        with pytest.raises(InputError, match="must be 0 or above, and finite"):
            check_positive("x", value, zero=True)


def test_fields_out_of_range_are_named() -> None:
    config = SimpleNamespace(a=1, b=(1, 2), c=None, d=0.5)
    check_fields(config, "a b c", least=1, most=2)
    check_fields(config, "d", above=0, below=1)
    for name, limits, words in (
        ("a", {"least": 2}, "a 1: must be at least 2"),
        ("b", {"most": 1}, "b 2: must be at most 1"),
        ("d a", {"below": 1}, "a 1: must be below 1"),
        ("d", {"above": 0.5}, "d 0.5: must be above 0.5"),
    ):
        with pytest.raises(InputError, match=f"^{words}$"):
            check_fields(config, name, **limits)
    for value in (math.nan, math.inf, -math.inf, 10**10):
        with pytest.raises(InputError, match=r"^x "):
            check_fields(SimpleNamespace(x=value), "x")


def test_long_lists_of_names_are_cut_to_the_nearest() -> None:
    assert str(unknown_name("rule", "c", ["a", "b"])) == "unknown rule 'c': choose one of a, b"
    names = [f"condition-{number}" for number in range(33)]
    assert str(unknown_name("condition", "condition-2x", names)) == (
        "unknown condition 'condition-2x': did you mean 'condition-2'? "
        "choose one of condition-2, condition-32, condition-29 and 30 more"
    )


@pytest.mark.parametrize("kind", [FormatError, InputError])
def test_the_place_comes_before_the_fault(kind: type[Exception]) -> None:
    with pytest.raises(FormatError, match=r"^units\.jsonl:3: no id$") as caught, located("units.jsonl:3"):
        raise kind("no id")
    assert isinstance(caught.value.__cause__, kind)


def test_other_errors_pass_a_place_unchanged() -> None:
    with pytest.raises(AudioError, match=r"^a\.wav: is empty$"), located("list.csv:1"):
        raise AudioError("a.wav: is empty")


def test_counts_in_messages() -> None:
    assert [plural(n, "file") for n in (0, 1, 2000)] == ["0 files", "1 file", "2,000 files"]
    assert [and_more(n) for n in (0, 1, 2, 1001)] == ["", "", ", and 1 more such", ", and 1000 more such"]


def test_a_message_is_one_line_of_limited_length() -> None:
    assert one_line("a\n b\t c ") == "a b c"
    assert one_line("bad\x1b[2J\0\u202e") == "bad\\x1b[2J\\x00\\u202e"
    assert one_line("\udce9 é Ж") == "\\udce9 é Ж"
    long = one_line("/data/" + "x" * 500 + ": is truncated; copy it again")
    assert len(long) == 300 and long.startswith("/data/x") and long.endswith("x: is truncated; copy it again")
    assert " ... " in long and one_line("x" * 300) == "x" * 300
