"""What several tests share: the command line as a function, and the folder of the real data where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # no test has a screen


@dataclass(frozen=True)
class Outcome:
    """What a command line left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def detect(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``detect`` with these arguments in this process."""
    from detect.cli import main

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session", autouse=True)
def _no_memory_of_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What conversions remember in a user's home stays out of the home of whoever runs the tests."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def neu_det() -> Path:
    """The folder of NEU-DET, from the environment variable NEU_DET."""
    folder = os.environ.get("NEU_DET")
    if not folder:
        pytest.skip("set NEU_DET to the folder of NEU-DET to run this on the real data")
    return Path(folder)
