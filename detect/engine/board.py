"""The log as TensorBoard scalars, for those who installed the extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ConfigError


class Board:
    """Writes each log line to ``folder``; view it with ``tensorboard --logdir``.

    Raises:
        ConfigError: the tensorboard package is missing.
    """

    def __init__(self, folder: Path, *, first_epoch: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            found, fix = "the tensorboard package is not installed", "pip install 'surface-detect[tensorboard]'"
            raise ConfigError(found, where="train.tensorboard", fix=fix) from None
        self._writer: Any = SummaryWriter(str(folder), purge_step=first_epoch)

    def add(self, line: dict[str, Any]) -> None:
        """One epoch's losses, learning rate, speed and, where judged, average precision."""
        scalars = {f"loss/{name.removeprefix('loss_')}": value for name, value in line["losses"].items()}
        scalars |= {"loss/total": line["loss"], "train/lr": line["lr"], "train/images_per_s": line["images_per_s"]}
        for name, value in (line["val"] or {}).items():
            if isinstance(value, float):
                scalars[f"val/{name}"] = value
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, line["epoch"])
        self._writer.flush()
