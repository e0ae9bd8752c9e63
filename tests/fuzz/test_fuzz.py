"""Every reader meets damaged files; `make fuzz N=5000` runs more cases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).with_name("run.py")


def test_damaged_files_are_read_soundly_or_refused_in_one_line() -> None:
    # A process of its own: each case is a fork, which the threads of other tests would not survive.
    done = subprocess.run([sys.executable, str(RUN), "--cases", "300"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
