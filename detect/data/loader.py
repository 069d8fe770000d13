"""Batches for training: shuffled by (seed, epoch) and the same with any number of worker processes."""

from __future__ import annotations

import errno
import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ..errors import DataError, OutOfMemoryError, is_out_of_memory
from .dataset import DetectionDataset, Sample
from .transforms import Augment, RandomWindows

_ALLOCATION_SIZE = re.compile(r"tried to allocate ([\d.]+ ?\w+)", re.IGNORECASE)
_SHARED_FILE = re.compile(r"</torch_[^>]*>.* \((\d+)\)$", re.MULTILINE)  # the memory that a tensor is handed over in


@contextmanager
def explain_out_of_memory(doing: str, fix: str) -> Iterator[None]:
    """Where memory runs out, of a GPU or of the machine, say so in one sentence.

    Args:
        doing: what needed it, as in "a training step".
        fix: what the user can change.

    Raises:
        OutOfMemoryError: it ran out, or the system ended a loader process, which mostly has the same reason.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        told = _out_of_memory_error(error, doing, fix)
        if told is None:
            raise
        raise told from None


def _out_of_memory_error(error: MemoryError | RuntimeError | OSError, doing: str, fix: str) -> OutOfMemoryError | None:
    """The error in words; None if it has another reason."""
    text, cause = str(error), str(error.__cause__)
    if cause.startswith("DataLoader worker"):  # it says which signal ended the process
        text = cause
    shared = _SHARED_FILE.search(text)
    if shared is not None and int(shared[1]) == errno.EMFILE:
        found = "loader processes hand over their batches in more open files than the system allows"
        return OutOfMemoryError(found, fix="set data.workers=0, or allow more of them (ulimit -n 65536)")
    if shared is not None or "killed by signal: Bus error" in text:
        found = "shared memory ran out, in which loader processes hand over their batches"
        remedy = "set data.workers=0, or give the container more of it (docker: --shm-size=4g)"
        return OutOfMemoryError(found, fix=remedy)
    if text.startswith("DataLoader worker"):
        reason = text.partition(". ")[0].rstrip(".")
        found = f"the system ended a loader process, mostly as memory ran out ({reason})"
        remedy = "lower data.workers, or set data.cache=false; --resume goes on with it"
        return OutOfMemoryError(found, where="data.workers", fix=remedy)
    lacking = error.errno == errno.ENOMEM if isinstance(error, OSError) else is_out_of_memory(error)
    if not lacking:
        return None
    wanted = _ALLOCATION_SIZE.search(text)
    more = f", {wanted[1]} more were wanted" if wanted else ""
    return OutOfMemoryError(f"memory ran out in {doing}{more}", fix=fix)


_SHUFFLE_STREAM, _IMAGE_STREAM = 0, 1  # streams of random numbers that must not meet
_MAX_SEED = 2**31


@dataclass(slots=True)
class Batch:
    """Images of one step.

    Attributes:
        images: FloatTensor[channels, height, width] each, 0 to 1.
        targets: a dict each of boxes FloatTensor[N, 4] (xyxy, pixels) and labels Int64Tensor[N] (1-based).
        indices: position of each image in the data set.
        mixed_in: positions of the images that a mosaic mixed into each.
        seeds: of what is drawn for each in the network, the same on whatever process it is.
        clip_length: so many images in a row are consecutive frames of one strip.
        motion_xy: FloatTensor[images, 2], pixels (right, down) that the surface moved since the frame before; a clip's
            first frame has the motion of its second. None for single images.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    indices: list[int]
    mixed_in: list[tuple[int, ...]]
    seeds: list[int]
    clip_length: int = 1
    motion_xy: Tensor | None = None

    def pin_memory(self) -> Batch:
        """For faster copies to a GPU (called by the loader)."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        targets = [{key: change(value) for key, value in target.items()} for target in self.targets]
        motion_xy = None if self.motion_xy is None else change(self.motion_xy)
        images = [change(image) for image in self.images]
        return replace(self, images=images, targets=targets, motion_xy=motion_xy)


# What a source of samples gives for (epoch, index): an image's position and sample, or those of each frame of a clip.
Item = list[tuple[int, Sample]] | DataError


class EpochBatchSampler:
    """Yields (epoch, index) in an order fixed by (seed, epoch); a short last batch is dropped if there is another.

    ``shard`` is (rank, size): of each batch, this process gets every ``size``-th image from the ``rank``-th on. With
    fewer images than a batch, a batch is as many as the processes can share evenly.

    Raises:
        DataError: fewer images or clips than processes.
    """

    def __init__(self, length: int, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> None:
        rank, size = shard
        if length < size:
            found = f"too few images or clips per epoch ({length:,}) for {size} processes"
            raise DataError(found, where="train.processes", fix=f"set it to {max(length, 1)}, or give more images")
        self.length, self.batch_size, self.seed = length, min(batch_size, length // size * size), seed
        self.share, self.epoch = slice(rank, None, size), 1

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, _SHUFFLE_STREAM, self.epoch)).permutation(self.length)
        for i in range(len(self)):
            batch = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield [(self.epoch, int(k)) for k in batch[self.share]]


class SeededLoader:
    """One pass over ``epoch(n)`` gives the n-th epoch's batches.

    Args:
        source: samples by (epoch, index).
        length: how many it has.
        batch_size: of them a step, of all processes together.
        seed: of their order.
        shard: (rank, size) of this process among those that share each batch.
        workers: loader processes; 0 loads in this one.
        pin: put batches into page-locked memory, for faster copies to a GPU.
    """

    def __init__(
        self,
        source: TorchDataset[Item],
        length: int,
        *,
        batch_size: int,
        seed: int,
        shard: tuple[int, int],
        workers: int,
        pin: bool,
    ) -> None:
        self.sampler = EpochBatchSampler(length, batch_size, seed, shard)
        keyed: Any = source  # by (epoch, index), not by int as torch has it
        self._loader: DataLoader[Batch | DataError] = DataLoader(
            keyed,
            batch_sampler=self.sampler,
            collate_fn=_collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin,
            worker_init_fn=_init_worker,
            generator=torch.Generator(),  # else starting workers would draw from the training's own random numbers
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Batches of epoch ``number`` (1-based).

        Raises:
            DataError: an image that isn't cached can't be read any more.
        """
        self.sampler.epoch = number
        for batch in self._loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch


class TrainingLoader(SeededLoader):
    """Batches of single images.

    Args:
        dataset: pixels and boxes, or the windows of its images that take the place of images here.
        augment: the chain of random changes.
        plain: the chain of the last epochs, without mosaic; used from ``plain_from`` on.
        plain_from: first epoch (1-based) of the plain chain.
        batch_size: images a step, of all processes together.
        seed: of order and augmentation.
        shard, workers, pin: as for ``SeededLoader``.
    """

    def __init__(
        self,
        dataset: DetectionDataset | RandomWindows,
        *,
        augment: Augment,
        plain: Augment,
        plain_from: int,
        batch_size: int,
        seed: int,
        shard: tuple[int, int] = (0, 1),
        workers: int,
        pin: bool,
    ) -> None:
        source = _AugmentedDataset(dataset, augment, plain, plain_from, seed)
        super().__init__(source, len(dataset), batch_size=batch_size, seed=seed, shard=shard, workers=workers, pin=pin)


class _AugmentedDataset(TorchDataset[Item]):
    def __init__(
        self, dataset: DetectionDataset | RandomWindows, augment: Augment, plain: Augment, plain_from: int, seed: int
    ):
        self.dataset, self.augment, self.plain = dataset, augment, plain
        self.plain_from, self.seed = plain_from, seed

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        rng = np.random.default_rng((self.seed, _IMAGE_STREAM, epoch, index))
        chain = self.plain if epoch >= self.plain_from else self.augment
        mixed_in: list[int] = []

        def another() -> Sample:
            image, sample = self._drawn(int(rng.integers(len(self.dataset))), rng)
            mixed_in.append(image)
            return sample

        try:
            image, sample = self._drawn(index, rng)
            sample = chain(sample, rng, another)
        except DataError as error:  # raised in a worker process, it would arrive with a traceback in its message
            return error
        return add_seeds([(image, replace(sample, mixed_in=tuple(mixed_in)))], rng)

    def _drawn(self, index: int, rng: np.random.Generator) -> tuple[int, Sample]:
        if isinstance(self.dataset, RandomWindows):
            return self.dataset.draw(index, rng)
        return index, self.dataset[index]


def add_seeds(frames: list[tuple[int, Sample]], rng: np.random.Generator) -> Item:
    """The same with a seed each, drawn last so that nothing before depends on it."""
    seeds = rng.integers(_MAX_SEED, size=len(frames)).tolist()
    return [(index, replace(sample, seed=seed)) for (index, sample), seed in zip(frames, seeds)]


def _init_worker(worker: int) -> None:
    gc.freeze()  # else its first collection would write to all that was shared with the process it comes from
    cv2.setNumThreads(0)  # there are as many processes as wanted already; a forked thread pool may also hang


def _collate(items: list[Item]) -> Batch | DataError:
    frames: list[tuple[int, Sample]] = []
    for item in items:
        if isinstance(item, DataError):
            return item
        frames += item
    images = [to_tensor(sample.pixels) for _, sample in frames]
    targets = [{"boxes": torch.from_numpy(s.boxes_xyxy), "labels": torch.from_numpy(s.labels)} for _, s in frames]
    length = len(frames) // len(items)
    motion_xy = torch.tensor([sample.motion_xy for _, sample in frames]) if length > 1 else None
    indices, mixed_in = [index for index, _ in frames], [sample.mixed_in for _, sample in frames]
    return Batch(images, targets, indices, mixed_in, [sample.seed for _, sample in frames], length, motion_xy)


def to_tensor(pixels: NDArray[np.float32]) -> Tensor:
    """[height, width] or [height, width, channels] -> FloatTensor[channels, height, width]."""
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes))
