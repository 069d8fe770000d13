"""torchrun restarts a group when one of its processes is killed, and the run equals an uninterrupted one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detect.config.loading import to_yaml
from detect.config.schema import Config
from detect.models.checkpoint import load_checkpoint
from processes import free_port, needs_fork, train_in_processes
from runs import assert_same_run
from tiny import tiny_config, write_parts

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

# Like ``detect`` on the command line, but the second process dies in its tenth step, the second of epoch 3.
_DYING = """
import faulthandler, os, signal, sys
faulthandler.dump_traceback_later(150, exit=True)  # ends a hanging group with a traceback
from detect.cli import main
from detect.engine.steps import Stepper
step, calls = Stepper.step, []
def last_step(self, *arguments):
    calls.append(1)
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and len(calls) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *arguments)
Stepper.step = last_step
sys.exit(main(sys.argv[1:]))
"""

ONE_MACHINE = [["--standalone", "--nproc-per-node=2"]]


def two_machines() -> list[list[str]]:
    """Two agents that connect over the loopback interface, each with its own process."""
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=test"]
    return [["--nnodes=2", "--nproc-per-node=1", *meeting]] * 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("data"), train=16, val=6)


def config(data: Path, run: Path) -> Config:
    return tiny_config(data, run)  # four epochs of four steps


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    train_in_processes(2, config(data, run))
    return run


@needs_fork
@pytest.mark.parametrize("machines", [lambda: ONE_MACHINE, two_machines], ids=["one machine", "two machines"])
def test_a_killed_worker_is_replaced_and_no_epoch_is_lost(
    machines: object, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    script, run = tmp_path / "dying.py", tmp_path / "run"
    script.write_text(_DYING)
    run.mkdir()
    (run / "config.yaml").write_text(to_yaml(config(data, run)))
    assert callable(machines)
    torchrun = ["-m", "torch.distributed.run", "--monitor-interval=0.1"]
    agents = [
        subprocess.Popen(
            [sys.executable, *torchrun, *launch, "--max-restarts=1", str(script), "train", str(run)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for launch in machines()
    ]
    try:
        output = "".join(agent.communicate(timeout=200)[0] for agent in agents)
    finally:
        for agent in agents:
            agent.kill()
    assert [agent.returncode for agent in agents] == [0] * len(agents), output
    assert f"resuming {run} after epoch 2 of 4" in output
    assert "Signal 9 (SIGKILL)" in output or "exitcode: -9" in output
    assert load_checkpoint(run / "last.pt").epoch == 4
    assert not (run / ".lock").exists()
    assert_same_run(run, undisturbed)
