"""What a training shows while it runs, and its log as TensorBoard scalars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..errors import ConfigError
from ..models.faster_rcnn import ModuleSummary


class TensorBoardLogger:
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


class ConsoleLogger:
    """Writes to standard output, or nothing at all if quiet; the bar appears on terminals only."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(highlight=False, quiet=quiet)

    def say(self, text: str) -> None:
        """One plain line."""
        self.console.print(text, soft_wrap=True, markup=False)

    def parts(self, parts: Iterable[ModuleSummary]) -> None:
        """Parts of the detector, their parameters, and whether they train."""
        table = Table("part", "what", "parameters", "trains", title="detector", title_justify="left")
        table.columns[2].justify = "right"
        total = 0
        for part in parts:
            table.add_row(part.name, part.description, f"{part.parameters:,}", "yes" if part.trains else "no")
            total += part.parameters
        table.add_section()
        table.add_row("all", "", f"{total:,}", "")
        self.console.print(table)

    @contextmanager
    def bar(self, *, epochs: int, steps: int, done: int) -> Iterator[ProgressBar]:
        """A bar over all steps of the training, starting at ``done`` steps."""
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        with progress:
            task = progress.add_task("training", total=epochs * steps, completed=done, rate="")
            yield ProgressBar(progress, task, epochs)


class ProgressBar:
    """Moves the bar by one step at a time."""

    def __init__(self, progress: Progress, task: Any, epochs: int) -> None:
        self._progress, self._task, self._epochs = progress, task, epochs

    def step(self, epoch: int, images_per_s: float, loss: float) -> None:
        """One step is done."""
        self._progress.update(
            self._task,
            advance=1,
            description=f"epoch {epoch}/{self._epochs}",
            rate=f"loss {loss:.3f}  {images_per_s:.0f} images/s",
        )

    def skipped(self) -> None:
        """One step was left out."""
        self._progress.update(self._task, advance=1)

    def judging(self, epoch: int) -> None:
        """Validation is under way."""
        self._progress.update(self._task, description=f"judging {epoch}/{self._epochs}")


def format_epoch(line: dict[str, Any]) -> str:
    """A log line in words."""
    text = (
        f"epoch {line['epoch']:>{len(str(line['epochs']))}}/{line['epochs']}  loss {line['loss']:.3f}"
        f"  {line['images_per_s']:.1f} images/s  {line['seconds']:.0f} s"
    )
    if line["skipped"]:
        text += f"  {line['skipped']} skipped"
    if line["val"]:
        text += "  " + "  ".join(f"{k} {line['val'][k]:.3f}" for k in ("AP", "AP50") if line["val"].get(k) is not None)
    return text
