"""What holds for every verb: its options, its streams, its exit status, and outputs that are inputs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import syllablelm
from syllablelm.cli import train
from syllablelm.cli.app import OUTPUTS, OVERWRITING, RESUMED, app, is_path, main


def verbs(command: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every verb of the program with its parameters."""
    command = command or typer.main.get_command(app)
    for part, below in getattr(command, "commands", {}).items():
        yield from verbs(below, f"{name} {part}".strip())
    if not hasattr(command, "commands"):
        yield name, command


def arguments_of(command: Any, **values: str) -> list[str]:
    """Arguments with these values by the names of parameters, and stand-ins for what else is required."""
    stand_ins = {"to": "jsonl", "hours": "1"}
    given = {p.name: stand_ins.get(p.name, "stand-in") for p in command.params if p.required} | values
    options = [
        part
        for p in command.params
        if p.param_type_name == "option" and p.name in given
        for part in (p.opts[0], given[p.name])
    ]
    return [
        *options,
        "--",
        *(given[p.name] for p in command.params if p.param_type_name == "argument" and p.name in given),
    ]


PAIRS = [
    pytest.param(verb, read.name, written.name, id=f"{verb}: {written.name} is {read.name}")
    for verb, command in verbs()
    for written in command.params
    if written.name in OUTPUTS
    for read in command.params
    if is_path(read) and read.name not in OUTPUTS
]


@pytest.mark.parametrize(("verb", "read", "written"), PAIRS)
def test_no_verb_replaces_its_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, read: str, written: str
) -> None:
    file = tmp_path / "r.wav"
    file.write_bytes(b"the only copy")
    (tmp_path / "link.png").symlink_to(file)
    (tmp_path / "hard.jsonl").hardlink_to(file)
    command = dict(verbs())[verb]
    for name in ("r.wav", "link.png", "hard.jsonl"):
        arguments = arguments_of(command, **{read: str(file), written: str(tmp_path / name)})
        assert main([*verb.split(), *arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and len(printed.err.splitlines()) == 1
        assert f"{name}: is an input of this run; choose another output" in printed.err
    assert file.read_bytes() == b"the only copy" and len(list(tmp_path.iterdir())) == 3


def test_every_verb_that_writes_is_among_them() -> None:
    writing = {verb for verb, command in verbs() if any(p.name in OUTPUTS for p in command.params)}
    assert {parameters.values[0] for parameters in PAIRS} == writing
    assert len(writing) > 25
    for verb, command in verbs():
        for parameter in command.params:
            if "Path" in str(parameter.type_descriptor.annotation):
                assert is_path(parameter), f"{verb} {parameter.name}: its metavar names no file or folder"
            if (parameter.metavar or "").startswith("NAME|PATH"):
                assert is_path(parameter)


def test_verbs_that_resume_say_so() -> None:
    helps = {
        verb: " ".join([command.help or "", *(getattr(p, "help", None) or "" for p in command.params)])
        for verb, command in verbs()
    }
    assert {verb for verb, command in verbs() if any(p.name == "overwrite" for p in command.params)} == {*OVERWRITING}
    say_so = {verb for verb, text in helps.items() if "resume" in text}
    assert {f"train {name}" for name, *_ in train._VERBS} | say_so == RESUMED


@pytest.mark.parametrize(("verb", "end"), [("recipes list", "starts over"), ("train all", "resumes")])
def test_a_stopped_verb_says_what_the_next_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str, end: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "list_recipes", stop)
    monkeypatch.setattr("syllablelm.train.pipeline.train_recipe", stop)
    assert main([*verb.split(), *(["x"] if verb == "train all" else [])]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"stopped; the same command {end}"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyError("a\nb" * 300), 1, "error: unexpected KeyError: "),
        (RecursionError("x"), 1, "please report this with what --debug prints"),
        (MemoryError(), 1, "error: not enough memory (MemoryError)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "error: not enough memory"),
        (OSError(28, "No space left on device", "a.jsonl"), 2, "error: a.jsonl: No space left on device"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "No space left on device"),
        (PermissionError(13, "Permission denied", "/srv/a"), 2, "error: /srv/a: Permission denied"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
    ],
)
def test_every_error_becomes_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, words: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(train, "list_recipes", fail)
    assert main(["recipes", "list"]) == status
    printed = capsys.readouterr()
    assert printed.out == "" and words in printed.err
    assert len(printed.err.splitlines()) == (status != 141) and len(printed.err) <= 301
    if status != 141:
        assert main(["recipes", "list", "--debug"]) == status
        debugged = capsys.readouterr().err
        assert debugged.startswith("Traceback") and debugged.endswith(printed.err)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m syllablelm"
    return subprocess.run(
        ["bash", "-c", command.replace("syllablelm", program)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


@pytest.mark.parametrize(
    ("command", "status", "err"),
    [
        (
            "syllablelm recipes list >&-",
            2,
            "error: standard output is closed; send it to a file, a pipe or /dev/null\n",
        ),
        ("syllablelm recipes list >/dev/full", 2, "error: input or output: No space left on device\n"),
        ("syllablelm --help >/dev/full", 2, "error: input or output: No space left on device\n"),
        ("syllablelm recipes list 2>&- | wc -l >/dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ("syllablelm recipes show nothing 2>&-", 2, ""),
        ("syllablelm recipes list <&- >/dev/null", 0, ""),
        ("(sleep 1; syllablelm recipes list) | true; exit ${PIPESTATUS[0]}", 141, ""),
    ],
)
def test_streams_that_are_closed_or_full(command: str, status: int, err: str) -> None:
    done = shell(command)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", err)


def test_warnings_of_libraries_are_lines() -> None:
    script = "import warnings; from syllablelm.cli import app\n"
    script += "app.main = lambda: warnings.warn('old:\\n use new') or 0\napp.run_process()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "warning: old: use new\n"


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


SAMPLE = Path(syllablelm.__file__).parent / "bundled" / "sample.flac"


@pytest.mark.parametrize("where", ["syllablelm.cli.app", "torch", "numpy"])
def test_ctrl_c_while_modules_load_is_one_line(where: str) -> None:
    script = f"""
import os, signal, sys
from syllablelm.__main__ import run
class Finder:
    def find_spec(self, name, *_):
        if name == {where!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv = ["syllablelm", "tokenize", {str(SAMPLE)!r}, "--model", "tiny"]
run()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 130 and done.stderr.startswith("stopped") and len(done.stderr.splitlines()) == 1
