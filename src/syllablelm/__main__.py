"""``python -m syllablelm`` is the command ``syllablelm``."""

from __future__ import annotations

from syllablelm.cli.app import run

if __name__ == "__main__":
    run()
