"""The entry point of the command ``syllablelm``, which is also ``python -m syllablelm``."""

from __future__ import annotations

import gc
import signal
import sys
from typing import NoReturn


class _CtrlC(KeyboardInterrupt):
    """A Ctrl-C that is handled: after a plain KeyboardInterrupt inside ``exec`` Python ends as if none had been."""


def _interrupt(*_: object) -> NoReturn:
    raise _CtrlC


def run() -> None:
    """Run the command of this process and exit with its status; Ctrl-C while modules load is one line, status 130."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
        from syllablelm.cli.app import run_process

        status = run_process()
        # Python would look once more through everything that torch has loaded.
        gc.freeze()
        sys.exit(status)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    run()
