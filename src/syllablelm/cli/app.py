"""The command ``syllablelm``: its verbs and its exit status: 0, 2 after bad input, or 130 after Ctrl-C."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from syllablelm import __version__
from syllablelm.cli import convert, demo, encode, evaluate, prepare, recode, scale, speech, tokenize, train
from syllablelm.core.errors import SyllableLMError
from syllablelm.core.progress import note

BAD_INPUT, STOPPED = 2, 130
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
) -> None:
    if version:
        typer.echo(f"syllablelm {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows ``syllablelm``; by default the process's own.

    Returns:
        the exit status: 0; 2 after bad input, with one line on standard error; 130 after Ctrl-C.
    """
    command = typer.main.get_command(app)
    _prepare(command)
    try:
        given = None if arguments is None else list(arguments)
        status = command.main(args=given, prog_name="syllablelm", standalone_mode=False)
    except SyllableLMError as error:
        return _fail(str(error))
    except _UsageError as error:
        place = error.ctx.command_path if error.ctx is not None else "syllablelm"
        return _fail(f"{error.format_message().rstrip('.')} (see {place} --help)")
    except BrokenPipeError:
        # The reader of the output (head, less) has closed it.
        raise
    except OSError as error:
        # A full disk, a folder without write permission: the message names it.
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except (typer.Abort, KeyboardInterrupt):
        status = STOPPED
    if status == STOPPED:
        note("stopped; run the same command to resume")
    return status or 0


def _prepare(command: Any) -> None:
    """Refuse options of one value that are given twice; show an argument's metavar in help without the Python type."""
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None
    parts = getattr(command, "commands", {})
    if not parts:  # a group may take what its parser refuses: `prepare --out FILE SOURCE` is `prepare corpus --out ...`
        command.parse_args = partial(_parse_once, command, command.parse_args)
    for part in parts.values():
        _prepare(part)


def _parse_once(command: Any, parse: Callable[..., Any], context: Any, arguments: list[str]) -> Any:
    # The last of several values would win silently.
    _, _, order = command.make_parser(context).parse_args(args=list(arguments))
    for parameter, count in Counter(order).items():
        if count > 1 and parameter.param_type_name == "option" and not (parameter.multiple or parameter.is_flag):
            context.fail(f"{parameter.opts[0]} takes one value but was given {count} times")
    return parse(context, arguments)


def _fail(message: str) -> int:
    note("error: " + " ".join(message.split()))
    return BAD_INPUT


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())
