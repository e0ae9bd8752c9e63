"""The command ``syllablelm``: its verbs, its exit status, and the one line that an error becomes."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import typer

from syllablelm import __version__
from syllablelm.cli import convert, demo, encode, evaluate, prepare, recode, scale, speech, tokenize, train
from syllablelm.core.errors import LONGEST_MESSAGE, SyllableLMError, one_line
from syllablelm.core.files import JSON_ESCAPES, refuse_inputs
from syllablelm.core.progress import note

# Exit status besides 0: something unforeseen; bad input or a full disk; Ctrl-C; a reader that closed the pipe.
UNFORESEEN, BAD_INPUT, STOPPED, CLOSED_PIPE = 1, 2, 130, 141
DEBUG = "--debug"
# Verbs that keep finished work and go on with it when they are run again.
RESUMED = frozenset(
    [
        "encode",
        "scale run",
        "scale score",
        *(f"train {part}" for part in ("encoder", "losspred", "sylboost", "codebook", "all", "lm", "vocoder")),
        *(f"prepare {corpus}" for corpus in ("stories", "synthetic", "wordlist", "minimal-pairs", "topic-cloze")),
        *(f"evaluate {name}" for name in ("continuation", "lexical", "syntactic", "cloze", "salmon")),
    ]
)
# Verbs that write file after file, and replace none unasked.
OVERWRITING = ("resynthesize", "continue")
# Names of the parameters that are written, and metavars of options that are files or folders.
OUTPUTS = frozenset({"out", "errors"})
_PATH = re.compile("PATH|FILE|FOLDER|DIR|AUDIO|UNITS|STUDY")
_FULL = os.strerror(errno.ENOSPC)
# typer raises click's errors, from click itself or, in newer versions, from a copy inside typer. Their common base
# is reached by the one of them that typer has always exported.
_UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Syllable-like units from speech, learned without labels.",
    epilog="Results go to standard output, messages to standard error. Exit status: 0, or 2 for bad input.",
    add_completion=False,
    rich_markup_mode=None,
)
app.command("tokenize")(tokenize.tokenize)
app.command("plot")(tokenize.plot)
app.command("encode")(encode.encode)
app.command("convert")(convert.convert)
app.command("recode")(recode.recode)
train.app.command("recode")(recode.train_recode)
app.command("resynthesize")(speech.resynthesize)
app.command("continue")(speech.continue_)
app.command("demo")(demo.demo)
app.add_typer(prepare.app, name="prepare")
app.add_typer(train.app, name="train")
app.add_typer(train.recipes_app, name="recipes")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(scale.app, name="scale")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Print the traceback of an error, for a report.")] = False,
) -> None:
    if version:
        typer.echo(f"syllablelm {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows ``syllablelm``; by default the process's own. ``--debug`` may stand anywhere.

    Returns:
        the exit status: 0, or one of those above; with one line on standard error, but for CLOSED_PIPE.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    verb: list[str] = []
    _prepare(command, verb)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        return _fail("standard output is closed; send it to a file, a pipe or /dev/null")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without UTF-8, or the name of a file that is not: JSON has escapes for both.
        sys.stdout.reconfigure(errors=JSON_ESCAPES)
    try:
        arguments = [argument for argument in given if argument != DEBUG]
        status = command.main(args=arguments, prog_name="syllablelm", standalone_mode=False)
        sys.stdout.flush()
        return _explain(typer.Abort(), " ".join(verb)) if status == STOPPED else status or 0
    except Exception as error:
        if DEBUG in given:
            traceback.print_exc()
        return _explain(error, " ".join(verb))
    except KeyboardInterrupt:
        return _explain(typer.Abort(), " ".join(verb))
    except SystemExit as error:
        # What typer makes of a pipe that its reader (head, less) has closed.
        if isinstance(error.__context__, BrokenPipeError):
            return CLOSED_PIPE
        raise
    finally:
        _drop_output()


def _explain(error: Any, verb: str) -> int:
    """Print one line about an error, and return the exit status."""
    if isinstance(error, BrokenPipeError):
        return CLOSED_PIPE
    if isinstance(error, typer.Abort):
        again = "with --overwrite starts over" if verb in OVERWRITING else "starts over"
        note(f"stopped; the same command {'resumes' if verb in RESUMED else again}")
        return STOPPED
    if isinstance(error, SyllableLMError):
        return _fail(str(error))
    if isinstance(error, _UsageError):
        place = error.ctx.command_path if error.ctx is not None else "syllablelm"
        return _fail(f"{error.format_message().rstrip('.')} (see {place} --help)")
    kind, text = type(error).__name__, str(error)
    if isinstance(error, OSError):
        # A full disk, a folder without write permission, a device that is gone: the message names it.
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or text}")
    if _FULL in text:
        return _fail(f"output: {text}")
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "can't allocate memory" in text:
        return _fail(f"not enough memory ({text or kind}); do less at once, or use another device", UNFORESEEN)
    return _fail(f"unexpected {kind}: {text}; please report this with what {DEBUG} prints", UNFORESEEN)


def _drop_output() -> None:
    """Forget output that cannot be written, so that the interpreter does not fail once more at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare(command: Any, verb: list[str]) -> None:
    """Check the values of options, see `_parse`; show an argument's metavar in help without the Python type."""
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None
    parts = getattr(command, "commands", {})
    if not parts:  # a group may take what its parser refuses: `prepare --out FILE SOURCE` is `prepare corpus --out ...`
        command.parse_args = partial(_parse, command, command.parse_args, verb)
    for part in parts.values():
        _prepare(part, verb)


def _parse(command: Any, parse: Callable[..., Any], verb: list[str], context: Any, arguments: list[str]) -> Any:
    """Parse the arguments of a verb, and note its name; refuse options of one value that are given twice, and outputs
    that are inputs."""
    verb[:] = context.command_path.split()[1:]
    # The last of several values would win silently.
    _, _, order = command.make_parser(context).parse_args(args=list(arguments))
    for parameter, count in Counter(order).items():
        if count > 1 and parameter.param_type_name == "option" and not (parameter.multiple or parameter.is_flag):
            context.fail(f"{parameter.opts[0]} takes one value but was given {count} times")
    rest = parse(context, arguments)
    paths = {p.name: _as_paths(context.params.get(p.name)) for p in command.params if is_path(p)}
    for output in OUTPUTS & paths.keys():
        # Of a folder the verb itself knows which of its files are inputs.
        files = [path for path in paths[output] if not os.path.isdir(path)]
        refuse_inputs(files, [path for name, others in paths.items() if name != output for path in others])
    return rest


def is_path(parameter: Any) -> bool:
    """Return whether an option or argument takes files or folders."""
    return parameter.param_type_name == "argument" or _PATH.search(parameter.metavar or "") is not None


def _as_paths(value: Any) -> list[str]:
    """Return the paths of a parameter's value; of ``LABEL=PATH`` both readings."""
    values = map(str, value if isinstance(value, list | tuple) else [] if value is None else [value])
    return [path for text in values for path in {text, text.partition("=")[2] or text}]


def _fail(message: str, status: int = BAD_INPUT) -> int:
    note("error: " + one_line(message, LONGEST_MESSAGE - len("error: ")))
    return status


def run_process() -> int:
    """Run the command of this process, with warnings as lines; returns the exit status."""
    if DEBUG not in sys.argv:
        # As other messages: Python's own form, with a line of code, reads like a traceback.
        warnings.formatwarning = lambda message, *_, **__: f"warning: {one_line(str(message))}\n"
    return main()
