"""Training batches, shuffled by (seed, epoch), independent of the number of worker processes."""

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
_SHARED_FILE = re.compile(r"</torch_[^>]*>.* \((\d+)\)$", re.MULTILINE)  # shared memory of a tensor


@contextmanager
def explain_out_of_memory(doing: str, fix: str) -> Iterator[None]:
    """Turn exceptions for exhausted memory, of a GPU or of the machine, into an OutOfMemoryError of one sentence.

    Args:
        doing: what needed the memory, such as "a training step".
        fix: what the user can change.

    Raises:
        OutOfMemoryError: memory ran out, or the system ended a loader process, which usually has the same reason.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        out_of_memory = _out_of_memory_error(error, doing, fix)
        if out_of_memory is None:
            raise
        raise out_of_memory from None


def _out_of_memory_error(error: MemoryError | RuntimeError | OSError, doing: str, fix: str) -> OutOfMemoryError | None:
    """The OutOfMemoryError for an exception; None if it has another reason."""
    text, cause = str(error), str(error.__cause__)
    if cause.startswith("DataLoader worker"):  # contains the signal that ended the process
        text = cause
    shared = _SHARED_FILE.search(text)
    if shared is not None and int(shared[1]) == errno.EMFILE:
        message = "loader processes hand over their batches in more open files than the system allows"
        return OutOfMemoryError(message, fix="set data.workers=0, or allow more of them (ulimit -n 65536)")
    if shared is not None or "killed by signal: Bus error" in text:
        message = "shared memory ran out, in which loader processes hand over their batches"
        return OutOfMemoryError(message, fix="set data.workers=0, or give the container more (docker: --shm-size=4g)")
    if text.startswith("DataLoader worker"):
        reason = text.partition(". ")[0].rstrip(".")
        message = f"the system ended a loader process, usually because memory ran out ({reason})"
        fix = "lower data.workers, or set data.cache=false, and continue with --resume"
        return OutOfMemoryError(message, where="data.workers", fix=fix)
    ran_out = error.errno == errno.ENOMEM if isinstance(error, OSError) else is_out_of_memory(error)
    if not ran_out:
        return None
    size = _ALLOCATION_SIZE.search(text)
    requested = f", {size[1]} more were wanted" if size else ""
    return OutOfMemoryError(f"memory ran out in {doing}{requested}", fix=fix)


_SHUFFLE_STREAM, _IMAGE_STREAM = 0, 1  # part of the seed, so that the random streams are independent
_MAX_SEED = 2**31


@dataclass(slots=True)
class Batch:
    """Images of one training step.

    Attributes:
        images: FloatTensor[channels, height, width] each, 0 to 1.
        targets: per image, boxes FloatTensor[N, 4] (xyxy, pixels) and labels Int64Tensor[N] (1-based).
        indices: index of each image in the data set.
        mixed_in: per image, indices of the other images of its mosaic.
        seeds: per image, seed of the random sampling in the network, independent of the process.
        clip_length: number of consecutive images that are frames of one clip.
        motion_xy: FloatTensor[images, 2], motion of the surface in pixels (right, down) since the previous frame; the
            first frame of a clip has the motion of the second. None for single images.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    indices: list[int]
    mixed_in: list[tuple[int, ...]]
    seeds: list[int]
    clip_length: int = 1
    motion_xy: Tensor | None = None

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, for faster copies to a GPU; called by torch's DataLoader."""
        return self._apply(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return self._apply(lambda tensor: tensor.to(device, non_blocking=True))

    def _apply(self, function: Callable[[Tensor], Tensor]) -> Batch:
        targets = [{key: function(value) for key, value in target.items()} for target in self.targets]
        motion_xy = None if self.motion_xy is None else function(self.motion_xy)
        images = [function(image) for image in self.images]
        return replace(self, images=images, targets=targets, motion_xy=motion_xy)


# What a data set returns for (epoch, index): index and sample of an image, or of each frame of a clip.
Item = list[tuple[int, Sample]] | DataError


class EpochBatchSampler:
    """Yields batches of (epoch, index) in an order determined by (seed, epoch); an incomplete last batch is dropped.

    With fewer images than ``batch_size``, the batch is the largest number that the processes can share evenly.

    Args:
        length: number of images or clips.
        batch_size: images or clips per step, of all processes together.
        seed: of the order.
        shard: (rank, size) of this process, which gets every ``size``-th image of each batch from ``rank`` on.

    Raises:
        DataError: fewer images or clips than processes.
    """

    def __init__(self, length: int, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> None:
        rank, size = shard
        if length < size:
            message = f"too few images or clips per epoch ({length:,}) for {size} processes"
            raise DataError(message, where="train.processes", fix=f"set it to {max(length, 1)}, or give more images")
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
    """Base class of loaders; ``epoch(n)`` iterates over the batches of epoch n.

    Args:
        source: samples by (epoch, index).
        length: number of samples per epoch.
        batch_size: samples per step, of all processes together.
        seed: of the order.
        shard: (rank, size) of this process among those that share each batch.
        workers: number of loader processes; 0: load in this process.
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
        keyed: Any = source  # indexed by (epoch, index) instead of int
        self._loader: DataLoader[Batch | DataError] = DataLoader(
            keyed,
            batch_sampler=self.sampler,
            collate_fn=_collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin,
            worker_init_fn=_init_worker,
            generator=torch.Generator(),  # otherwise starting workers would use the random generator of the training
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Batches of epoch ``number`` (1-based).

        Raises:
            DataError: an image that isn't cached can't be read.
        """
        self.sampler.epoch = number
        for batch in self._loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch


class TrainingLoader(SeededLoader):
    """Batches of single images.

    Args:
        dataset: images with boxes, or random windows of them.
        augment: the augmentation.
        plain: the augmentation of the last epochs, without mosaic.
        plain_from: first epoch (1-based) that uses ``plain``.
        batch_size: images per step, of all processes together.
        seed: of order and augmentation.
        shard, workers, pin: see ``SeededLoader``.
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
        augment = self.plain if epoch >= self.plain_from else self.augment
        mixed_in: list[int] = []

        def draw() -> Sample:
            image, sample = self._sample(int(rng.integers(len(self.dataset))), rng)
            mixed_in.append(image)
            return sample

        try:
            image, sample = self._sample(index, rng)
            sample = augment(sample, rng, draw)
        except DataError as error:  # returned, as torch would add the worker's traceback to the message of a raised one
            return error
        return add_seeds([(image, replace(sample, mixed_in=tuple(mixed_in)))], rng)

    def _sample(self, index: int, rng: np.random.Generator) -> tuple[int, Sample]:
        if isinstance(self.dataset, RandomWindows):
            return self.dataset.draw(index, rng)
        return index, self.dataset[index]


def add_seeds(frames: list[tuple[int, Sample]], rng: np.random.Generator) -> Item:
    """Add a seed to each sample, drawn after all other random numbers so that these don't depend on it."""
    seeds = rng.integers(_MAX_SEED, size=len(frames)).tolist()
    return [(index, replace(sample, seed=seed)) for (index, sample), seed in zip(frames, seeds)]


def _init_worker(worker: int) -> None:
    gc.freeze()  # otherwise the first collection would write to, and so copy, the memory shared with the parent
    cv2.setNumThreads(0)  # workers already run in parallel, and a forked thread pool can hang


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
