"""The model that comes with the library, and the word by which it is named in place of a run or checkpoint."""

from __future__ import annotations

from pathlib import Path

WORD = "released"
WEIGHTS = Path(__file__).with_name("neu.pt")
HOME = Path("runs/released")  # where what is written about it goes, as the library's own folder is no place for that


def is_released(run: Path) -> bool:
    """Whether a run or checkpoint is named by the word; a folder of that name needs its full path."""
    return str(run) == WORD


def folder_of(run: Path) -> Path:
    """The folder for what is written about a run folder, a checkpoint file or the released model."""
    if is_released(run):
        return HOME
    return run if run.is_dir() else run.parent
