"""Batches for training: shuffled by (seed, epoch) and the same with any number of worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ..errors import DataError
from .dataset import DetectionDataset, Sample
from .transforms import Augment

_SHUFFLE, _IMAGE = 0, 1  # streams of random numbers that must not meet


@dataclass(slots=True)
class Batch:
    """Images of one step.

    Attributes:
        images: FloatTensor[channels, height, width] each, 0 to 1.
        targets: a dict each of boxes FloatTensor[N, 4] (xyxy, pixels) and labels Int64Tensor[N] (1-based).
        indices: position of each image in the data set.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    indices: list[int]

    def pin_memory(self) -> Batch:
        """For faster copies to a GPU (called by the loader)."""
        targets = [{k: v.pin_memory() for k, v in t.items()} for t in self.targets]
        return Batch([i.pin_memory() for i in self.images], targets, self.indices)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        targets = [{k: v.to(device, non_blocking=True) for k, v in t.items()} for t in self.targets]
        return Batch([i.to(device, non_blocking=True) for i in self.images], targets, self.indices)


class EpochSampler:
    """Yields (epoch, index) in an order fixed by (seed, epoch); a short last batch is dropped if there is another.

    ``share`` is (rank, size): of each batch, this process gets every ``size``-th image from the ``rank``-th on.
    """

    def __init__(self, length: int, batch_size: int, seed: int, share: tuple[int, int] = (0, 1)) -> None:
        rank, size = share
        self.length, self.batch_size, self.seed = length, min(batch_size, length // size * size), seed
        self.share, self.epoch = slice(rank, None, size), 1

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, _SHUFFLE, self.epoch)).permutation(self.length)
        for i in range(len(self)):
            batch = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield [(self.epoch, int(k)) for k in batch[self.share]]


class TrainingLoader:
    """One pass over ``epoch(n)`` gives the n-th epoch's batches.

    Args:
        dataset: pixels and boxes.
        augment: the chain of random changes.
        plain: the chain of the last epochs, without mosaic; used from ``plain_from`` on.
        plain_from: first epoch (1-based) of the plain chain.
        batch_size: images a step, of all processes together.
        share: (rank, size) of this process among those that share each batch.
        seed: of order and augmentation.
        workers: loader processes; 0 loads in this one.
        pin: put batches into page-locked memory, for faster copies to a GPU.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        *,
        augment: Augment,
        plain: Augment,
        plain_from: int,
        batch_size: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
        workers: int,
        pin: bool,
    ) -> None:
        self.sampler = EpochSampler(len(dataset), batch_size, seed, share)
        source: Any = _Augmented(dataset, augment, plain, plain_from, seed)  # keys are (epoch, index), not int
        self._loader: DataLoader[Batch | DataError] = DataLoader(
            source,
            batch_sampler=self.sampler,
            collate_fn=_collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin,
            worker_init_fn=_one_thread,
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


class _Augmented(TorchDataset[tuple[int, Sample] | DataError]):
    def __init__(self, dataset: DetectionDataset, augment: Augment, plain: Augment, plain_from: int, seed: int):
        self.dataset, self.augment, self.plain = dataset, augment, plain
        self.plain_from, self.seed = plain_from, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, Sample] | DataError:
        epoch, index = key
        rng = np.random.default_rng((self.seed, _IMAGE, epoch, index))
        chain = self.plain if epoch >= self.plain_from else self.augment
        try:
            sample = chain(self.dataset[index], rng, lambda: self.dataset[int(rng.integers(len(self.dataset)))])
        except DataError as error:  # raised in a worker process, it would arrive with a traceback in its message
            return error
        return index, sample


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # there are as many processes as wanted already; a forked thread pool may also hang


def _collate(loaded: list[tuple[int, Sample] | DataError]) -> Batch | DataError:
    samples = []
    for each in loaded:
        if isinstance(each, DataError):
            return each
        samples.append(each)
    images = [to_tensor(sample.pixels) for _, sample in samples]
    targets = [{"boxes": torch.from_numpy(s.boxes_xyxy), "labels": torch.from_numpy(s.labels)} for _, s in samples]
    return Batch(images, targets, [index for index, _ in samples])


def to_tensor(pixels: NDArray[np.float32]) -> Tensor:
    """[height, width] or [height, width, channels] -> FloatTensor[channels, height, width]."""
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes))
