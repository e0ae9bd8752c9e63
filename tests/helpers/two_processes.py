"""Start a program as two processes that know of each other."""

from __future__ import annotations

import os
import subprocess
import sys


def run_two(*arguments: object) -> subprocess.CompletedProcess[str]:
    """``torchrun`` with two processes on the CPU: a script or "-m" and a module, and what they take."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run([*command, *map(str, arguments)], env=environment, capture_output=True, text=True)
