"""``train``: one training run from configuration to checkpoints, with its console and TensorBoard output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..config.schema import Config
from ..data.dataset import describe_bit_depth
from ..data.loader import SeededLoader, explain_out_of_memory
from ..data.transforms import RandomWindows
from ..errors import ConfigError, DivergenceError
from ..models.checkpoint import Checkpoint, save_checkpoint
from ..models.distributed import World, process_group, resolve_device, was_restarted
from ..models.faster_rcnn import ModuleSummary, proposal_strides, summarize_modules
from .data import audit_warnings, check_batch_config, memory_hint, read_data, training_loader
from .init import init_detector
from .optim import build_optimizer, deterministic_algorithms, epoch_seed, learning_rate, resolve_precision, weights_seed
from .run_folder import RunFolder
from .steps import BadStepError, BadStepHandler, StepIndex, Stepper


class TensorBoardLogger:
    """Writes the metrics of each epoch to ``folder``; view them with ``tensorboard --logdir``.

    Raises:
        ConfigError: the tensorboard package is missing.
    """

    def __init__(self, folder: Path, *, first_epoch: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            message, fix = "the tensorboard package is not installed", "pip install 'surface-detect[tensorboard]'"
            raise ConfigError(message, where="train.tensorboard", fix=fix) from None
        self._writer: Any = SummaryWriter(str(folder), purge_step=first_epoch)

    def add(self, line: dict[str, Any]) -> None:
        """Write one epoch's losses, learning rate, speed and, if it was validated, average precision."""
        scalars = {f"loss/{name.removeprefix('loss_')}": value for name, value in line["losses"].items()}
        scalars |= {"loss/total": line["loss"], "train/lr": line["lr"], "train/images_per_s": line["images_per_s"]}
        for name, value in (line["val"] or {}).items():
            if isinstance(value, float):
                scalars[f"val/{name}"] = value
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, line["epoch"])
        self._writer.flush()


class ConsoleLogger:
    """Writes to standard output, or nothing if ``quiet``; the progress bar appears on terminals only."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(highlight=False, quiet=quiet)

    def say(self, text: str) -> None:
        """Print one line of plain text."""
        self.console.print(text, soft_wrap=True, markup=False)

    def parts(self, parts: Iterable[ModuleSummary]) -> None:
        """Print a table of the detector's parts, their parameter counts, and whether they are trainable."""
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
        """Show a progress bar over all steps of the training, starting at ``done`` steps."""
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
    """Advances the progress bar by one step at a time."""

    def __init__(self, progress: Progress, task: Any, epochs: int) -> None:
        self._progress, self._task, self._epochs = progress, task, epochs

    def step(self, epoch: int, images_per_s: float, loss: float) -> None:
        """Count one finished step."""
        self._progress.update(
            self._task,
            advance=1,
            description=f"epoch {epoch}/{self._epochs}",
            rate=f"loss {loss:.3f}  {images_per_s:.0f} images/s",
        )

    def skip(self) -> None:
        """Count one skipped step."""
        self._progress.update(self._task, advance=1)

    def start_validation(self, epoch: int) -> None:
        """Show that validation is running."""
        self._progress.update(self._task, description=f"validating {epoch}/{self._epochs}")


def format_epoch(line: dict[str, Any]) -> str:
    """Format a log line for the console."""
    text = (
        f"epoch {line['epoch']:>{len(str(line['epochs']))}}/{line['epochs']}  loss {line['loss']:.3f}"
        f"  {line['images_per_s']:.1f} images/s  {line['seconds']:.0f} s"
    )
    if line["skipped"]:
        text += f"  {line['skipped']} skipped"
    if line["val"]:
        text += "  " + "  ".join(f"{k} {line['val'][k]:.3f}" for k in ("AP", "AP50") if line["val"].get(k) is not None)
    return text


def train(config: Config, *, resume: bool = False, on_epoch: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Train a detector, or continue an interrupted run.

    Args:
        config: the resolved configuration.
        resume: continue ``config.run.dir`` from its last epoch; a folder without a checkpoint starts a new run. Also
            set when torchrun restarts a group of processes after it lost one.
        on_epoch: called with each log line once its checkpoint is written; an exception that it raises ends the
            training.

    Returns:
        The run folder, with config.yaml, environment.json, log.jsonl, last.pt and, with validation data, best.pt.

    Raises:
        DetectError: the data, configuration or run folder can't be used; the message says which and why.
        DivergenceError: a loss or the gradient is not finite, or the loss exploded.
        OutOfMemoryError: the device or the machine has too little memory.
        DistributedError: another process of the training was lost.
    """
    device, folder = resolve_device(config.train.device), RunFolder(config.run.dir)
    with (
        deterministic_algorithms(device, required=config.train.deterministic),
        process_group(device) as world,
        folder.lock,
    ):
        resume = any(world.all_gather(resume or was_restarted()))  # torchrun counts restarts per machine only
        return _Training(config, device, world, folder, resume=resume).run(on_epoch)


class _Training:
    """One training run, from reading the data to the last epoch; ``run`` is called once."""

    def __init__(self, config: Config, device: torch.device, world: World, folder: RunFolder, *, resume: bool) -> None:
        self.config, self.device, self.world, self.folder = config, device, world, folder
        self.console = ConsoleLogger(quiet=not world.is_main_process)
        check_batch_config(config, world)
        self.precision = resolve_precision(config.train.precision, self.device)
        if world.is_main_process and folder.dir.is_dir():
            self._warn(folder.acquire_lock())  # before any file in it is read: another process may be changing them
        saved = self.folder.resume(config) if resume and self.folder.last.exists() else None
        if saved is None:
            # Both checks come before the images are read, which may take minutes.
            self.folder.check_free()
            proposal_strides(config.model, config.data.channels)  # raises ConfigError if the backbone can't be built
        self.dataset, self.validator = read_data(config.data, world=world, say=self.console.say)
        self.loader = training_loader(config, self.dataset, device=device, world=world)
        if saved is None and world.is_main_process:
            self._warn(self.folder.start(config))
            self._say_start()
        torch.manual_seed(weights_seed(config.train.seed))
        if saved is None:
            self.detector, model = init_detector(config, self.dataset, say=self.console.say)
        else:
            self.detector, model = saved.detector, saved.detector.build()
        model = model.to(self.device)
        self.stepper = Stepper(
            model,
            self.detector.build().to(self.device),
            build_optimizer(model, config.train),
            settings=config.train,
            precision=self.precision,
            device=self.device,
            world=world,
        )
        self.bad_steps = BadStepHandler(
            folder.dir,
            self.dataset,
            world,
            action=config.train.on_bad_step,
            max_consecutive=config.train.max_consecutive_skips,
            say=self.console.say,
        )
        self.epoch, self.best_score, self.best_epoch, self.stale = 0, -1.0, 0, 0
        self.unvalidated: dict[str, Any] | None = None  # log line of an epoch that was trained and not yet validated
        if saved is not None:
            self._restore(saved)
            if world.is_main_process:
                self.folder.rewind(saved)
        if world.is_main_process:
            paths = [p for p in (config.data.train, config.data.val) if p is not None]
            changes = self.folder.write_environment(
                device=self.device, precision=self.precision, processes=world.size, data=paths
            )
            if changes:
                self._warn(f"{', '.join(changes)}: the run continues, but its results may differ by rounding errors")
        self.console.parts(summarize_modules(model))

    def run(self, on_epoch: Callable[[dict[str, Any]], None] | None) -> Path:
        """Train the remaining epochs."""
        config, loader = self.config, self.loader
        board = None
        if config.train.tensorboard and self.world.is_main_process:
            board = TensorBoardLogger(self.folder.dir / "tensorboard", first_epoch=self.epoch + 1)
        with self.console.bar(epochs=config.train.epochs, steps=len(loader), done=self.epoch * len(loader)) as bar:
            while self.unvalidated is not None or (self.epoch < config.train.epochs and not self._is_stale()):
                if self.unvalidated is None:
                    with explain_out_of_memory(f"a step of epoch {self.epoch + 1}", memory_hint(config)):
                        line = self._train_epoch(loader, self.epoch + 1, bar)
                    self.epoch += 1
                else:
                    line, self.unvalidated = self.unvalidated, None
                if self._needs_validation(self.epoch):
                    self._save({}, unvalidated=line)  # so that the epoch isn't lost if validation fails
                    bar.start_validation(self.epoch)
                    with explain_out_of_memory(
                        f"validating epoch {self.epoch}", "lower model.input_size, or cut large images"
                    ):
                        assert self.validator is not None
                        line["val"] = self.validator(self.stepper.averaged_model(), side=self.detector.side)
                self._finish_epoch(line)
                if board is not None:
                    board.add(line)
                self.console.say(format_epoch(line))
                if on_epoch is not None:
                    on_epoch(line)
        if self._is_stale():
            self.console.say(f"stopped early: no better {config.train.best_metric} in {self.stale} validations")
        return self.folder.dir

    def _warn(self, sentence: str | None) -> None:
        if sentence is not None:
            self.console.say(f"note: {sentence}")

    def _say_start(self) -> None:
        data, val_images = self.config.data, self.validator.total if self.validator else 0
        offset_known = any(self.config.augment.label_offset_xy)
        for line in audit_warnings(data.train, data.val, len(self.dataset) + val_images, offset_known=offset_known):
            self.console.say(line)
        boxes = len(self.dataset.boxes_wh())
        validation = f"validating on {val_images:,}" if self.validator else "no validation: data.val is unset"
        self.console.say(f"training on {len(self.dataset):,} images with {boxes:,} boxes, {validation}")
        if data.window is not None:
            windows = len(RandomWindows(self.dataset, data.window))
            self.console.say(f"{windows:,} windows per epoch, of {data.window} x {data.window} pixels or less")
        threads = torch.get_num_threads()
        self.console.say(f"{self.device}, {self.precision}, {threads} thread{'s' if threads > 1 else ''}")
        if self.dataset.brightest is not None:
            description, warning = describe_bit_depth(self.dataset.brightest, self.config.data.max_value)
            self.console.say(description)
            if warning is not None:
                self.console.say(f"check this: {warning}")
        size = self.config.model.input_size
        self.console.say("input size: image size" if size is None else f"input size: shorter side {size} px")

    def _train_epoch(self, loader: SeededLoader, epoch: int, bar: ProgressBar) -> dict[str, Any]:
        config, steps = self.config.train, len(loader)
        torch.manual_seed(epoch_seed(config.seed, epoch, self.world.rank))
        sums: dict[str, float] = {}
        started, images, rate, steps_taken = time.perf_counter(), 0, 0.0, 0
        for i, batch in enumerate(loader.epoch(epoch)):
            step = (epoch - 1) * steps + i
            rate = learning_rate(step, config, total_steps=config.epochs * steps)
            try:
                losses = self.stepper.step(batch, rate)
            except BadStepError as error:
                self.bad_steps.handle(str(error), batch, StepIndex(epoch, i + 1))
                bar.skip()
                continue
            self.bad_steps.reset()
            steps_taken += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            images += len(batch.images) * self.world.size
            bar.step(epoch, images / (time.perf_counter() - started), sum(losses.values()))
        if not steps_taken:
            fix = "check the batches in bad_steps of the run folder, or lower train.lr"
            raise DivergenceError(f"all steps of epoch {epoch} were bad", fix=fix)
        seconds = time.perf_counter() - started
        means = {name: round(total / steps_taken, 6) for name, total in sums.items()}
        return {
            "epoch": epoch,
            "epochs": config.epochs,
            "step": epoch * steps,
            "lr": rate,
            "loss": round(sum(means.values()), 6),
            "losses": means,
            "skipped": steps - steps_taken,
            "images_per_s": round(images / seconds, 2),
            "seconds": round(seconds, 2),
            "val": None,
        }

    def _needs_validation(self, epoch: int) -> bool:
        config = self.config.train
        return self.validator is not None and (epoch % config.val_every == 0 or epoch == config.epochs)

    def _is_stale(self) -> bool:
        return 0 < self.config.train.early_stop <= self.stale

    def _finish_epoch(self, line: dict[str, Any]) -> None:
        """Write the log line and the checkpoints of an epoch; all processes track the best score, the main one writes.

        The order matters: a process killed at any point leaves a folder that ``RunFolder.rewind`` can repair.
        """
        metrics = line["val"]
        improved = False
        if metrics is not None:
            score = metrics[self.config.train.best_metric] or 0.0
            improved = score > self.best_score
            self.stale = 0 if improved else self.stale + 1
            if improved:
                self.best_score, self.best_epoch = score, self.epoch
        if self.world.is_main_process:
            self.folder.append_log(line)
        self._save(metrics or {})
        if improved and self.world.is_main_process:
            save_checkpoint(self.folder.best, Checkpoint(self.detector, self.stepper.ema.weights, self.epoch, metrics))

    def _save(self, metrics: dict[str, Any], *, unvalidated: dict[str, Any] | None = None) -> None:
        """Write last.pt; ``unvalidated`` is the log line of an epoch that is not yet validated."""
        if not self.world.is_main_process:
            return
        state = {
            **self.stepper.state(),
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "stale": self.stale,
            "bad_steps_in_a_row": self.bad_steps.consecutive,
            **({} if unvalidated is None else {"unjudged": unvalidated}),
        }
        checkpoint = Checkpoint(self.detector, self.stepper.ema.weights, self.epoch, metrics, state)
        save_checkpoint(self.folder.last, checkpoint)

    def _restore(self, saved: Checkpoint) -> None:
        assert saved.training is not None
        state = saved.training
        self.stepper.restore(state, saved.weights)
        self.best_score, self.stale, self.epoch = state["best_score"], state["stale"], saved.epoch
        self.best_epoch = state.get("best_epoch", 0)  # older checkpoints lack this key and the next
        self.bad_steps.consecutive = state.get("bad_steps_in_a_row", 0)
        self.unvalidated = state.get("unjudged")
        at = "after" if self.unvalidated is None else "at the validation of"
        self.console.say(f"resuming {self.folder.dir} {at} epoch {self.epoch} of {self.config.train.epochs}")
