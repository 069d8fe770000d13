"""Trainings killed in a step, a validation or a write and resumed give the same result as an uninterrupted one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_and_resume.py"

pytestmark = pytest.mark.slow


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_killed_runs_equal_an_uninterrupted_one() -> None:
    command = [sys.executable, str(TOOL), "--kills", "4", "--per-run", "2", "--epochs", "2", "--seed", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^\| \d \| [02] \| .* \| equal \|$", done.stdout, flags=re.MULTILINE)
    assert len(rows) == 4
    assert ".pt: " in "".join(rows)  # at least one was killed while it wrote a checkpoint
    assert re.search(r"4 kills in \d runs: (\d) of \1 are equal to the uninterrupted one$", done.stdout.strip())
