"""Data set, transforms and loader: boxes follow the pixels, and an epoch does not depend on the workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.data.dataset import DetectionDataset, Sample, as_channels, read_dataset, unit_range
from detect.data.loader import TrainingLoader
from detect.data.transforms import Augment, change_light, flip, mosaic, random_crop
from detect.errors import DataError
from detect.images import write_image
from detect.structures import Box, Dataset, Image
from tiny import CATEGORIES, SIDE, write_tiny

OFF = Augment(
    flip_h=0,
    flip_v=0,
    crop=1,
    crop_min=1,
    aspect=0,
    brightness=0,
    contrast=0,
    illumination=0,
    mosaic=0,
    mosaic_scale=(0.9, 1.6),
    min_visible=0.3,
)


def rectangle(
    seed: int, *, height: int = 90, width: int = 120, channels: int = 1, label: int = 1, empty: bool = False
) -> Sample:
    """One white rectangle on black, with its box."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width) if channels == 1 else (height, width, channels), np.float32)
    if empty:
        return Sample(pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    w, h = (int(v) for v in rng.integers(20, 50, 2))
    x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
    pixels[y : y + h, x : x + w] = 1
    return Sample(pixels, np.array([[x, y, x + w, y + h]], np.float32), np.array([label], np.int64))


def extent(pixels: np.ndarray) -> np.ndarray | None:
    """Corners of the area brighter than 0.5."""
    bright = pixels > 0.5 if pixels.ndim == 2 else pixels[..., 0] > 0.5
    if not bright.any():
        return None
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def nothing_to_draw() -> Sample:
    raise AssertionError("only a mosaic draws other images")


class TestTransforms:
    @pytest.mark.parametrize("axis", [0, 1])
    def test_two_flips_restore_the_sample(self, axis: int) -> None:
        sample = rectangle(0)
        once, twice = flip(sample, axis=axis), flip(flip(sample, axis=axis), axis=axis)
        np.testing.assert_array_equal(twice.pixels, sample.pixels)
        np.testing.assert_array_equal(twice.boxes_xyxy, sample.boxes_xyxy)
        np.testing.assert_array_equal(once.boxes_xyxy[0], extent(once.pixels))
        assert not np.array_equal(once.boxes_xyxy, sample.boxes_xyxy)

    @pytest.mark.parametrize(
        ("change", "tolerance"),
        [
            ({"flip_h": 0.5, "flip_v": 0.5}, 0),
            ({"crop_min": 0.5}, 1.5),
            ({"crop_min": 0.6, "aspect": 0.3, "flip_h": 0.5, "flip_v": 0.5}, 1.5),
        ],
    )
    def test_boxes_follow_the_pixels(self, change: dict[str, Any], tolerance: float) -> None:
        augment, errors = replace(OFF, min_visible=0, **change), []
        for seed in range(80):
            sample = rectangle(seed, channels=3 if seed % 3 == 0 else 1)
            changed = augment(sample, np.random.default_rng(seed), nothing_to_draw)
            assert changed.pixels.shape == sample.pixels.shape
            edges = extent(changed.pixels)
            if len(changed.boxes_xyxy):
                errors.append(changed.boxes_xyxy[0] - edges)
            else:
                assert edges is None or (edges[2:] - edges[:2]).min() <= 3
        assert len(errors) > 65
        assert np.abs(errors).max() <= tolerance
        assert np.abs(np.mean(errors, axis=0)).max() < 0.1  # no systematic offset of half a pixel

    def test_boxes_of_a_mosaic_follow_the_pixels(self) -> None:
        num_boxes = 0
        for seed in range(60):
            position = seed % 4  # the one image of the four that has an object
            four = [rectangle(seed, label=2, empty=i != position) for i in range(4)]
            changed = mosaic(four, (0.6, 1.8), 0, np.random.default_rng(seed))
            assert changed.pixels.shape == four[0].pixels.shape
            edges = extent(changed.pixels)
            if len(changed.boxes_xyxy):
                num_boxes += 1
                assert changed.labels.tolist() == [2]
                np.testing.assert_allclose(changed.boxes_xyxy[0], edges, atol=1.5)
            else:
                assert edges is None or (edges[2:] - edges[:2]).min() <= 3
        assert num_boxes > 30

    def test_a_mosaic_contains_all_four_images(self) -> None:
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        four = [Sample(np.full((80, 100), level, np.float32), *none) for level in (0.1, 0.2, 0.3, 0.4)]
        for seed in range(60):
            pixels = mosaic(four, (0.25, 2.0), 0, np.random.default_rng(seed)).pixels
            np.testing.assert_allclose(pixels[[0, 0, -1, -1], [0, -1, 0, -1]], [0.1, 0.2, 0.3, 0.4], atol=1e-6)

    def test_a_mosaic_of_different_sizes_has_the_size_of_the_first(self) -> None:
        sizes = [(90, 120), (64, 64), (200, 50), (31, 97)]
        for position in range(4):
            four = [
                rectangle(3, height=max(h, 60), width=max(w, 60), empty=i != position) for i, (h, w) in enumerate(sizes)
            ]
            changed = mosaic(four, (1.9, 2.0), 0, np.random.default_rng(position))
            assert changed.pixels.shape == (90, 120)
            np.testing.assert_allclose(changed.boxes_xyxy[0], extent(changed.pixels), atol=1.5)

    def test_a_box_is_kept_if_enough_of_it_is_visible(self) -> None:
        sample = Sample(np.zeros((100, 100), np.float32), np.array([[0, 40, 100, 60]], np.float32), np.array([1]))

        def num_kept(min_visible: float) -> int:
            cuts = [random_crop(sample, 0.5, 0, min_visible, np.random.default_rng(s)) for s in range(40)]
            return sum(len(cut.boxes_xyxy) for cut in cuts)

        # the box is as wide as the image, so a window with a side of 0.5 to 1 shows at most that fraction of it
        assert num_kept(0) == 40 > num_kept(0.6) > num_kept(0.8) > num_kept(1) == 0

    def test_boxes_stay_inside_and_are_never_thin(self) -> None:
        augment = replace(OFF, crop_min=0.3, aspect=0.5, mosaic=0.5, mosaic_scale=(0.25, 2), flip_h=0.5, min_visible=0)
        for seed in range(80):
            rng = np.random.default_rng(seed)
            changed = augment(rectangle(seed), rng, lambda s=seed: rectangle(s + 1000))
            x1, y1, x2, y2 = changed.boxes_xyxy.T
            assert (x1 >= 0).all()
            assert (y1 >= 0).all()
            assert (x2 <= 120).all()
            assert (y2 <= 90).all()
            assert ((x2 - x1) >= 2).all()
            assert ((y2 - y1) >= 2).all()
            assert changed.boxes_xyxy.dtype == changed.pixels.dtype == np.float32
            assert changed.labels.dtype == np.int64
            assert len(changed.labels) == len(changed.boxes_xyxy)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_images_without_boxes_can_be_augmented(self, channels: int) -> None:
        augment = replace(OFF, crop_min=0.5, mosaic=0.5, flip_h=1, flip_v=1, brightness=0.5, illumination=0.5)
        for seed in range(8):
            changed = augment(
                rectangle(0, channels=channels, empty=True),
                np.random.default_rng(seed),
                lambda: rectangle(1, channels=channels, empty=True),
            )
            assert changed.boxes_xyxy.shape == (0, 4)
            assert changed.labels.shape == (0,)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_light_stays_between_black_and_white(self, channels: int) -> None:
        noise = np.random.default_rng(0).random((40, 50) if channels == 1 else (40, 50, 3)).astype(np.float32)
        sample = Sample(noise, rectangle(0).boxes_xyxy, np.array([1]))
        means = []
        for seed in range(20):
            changed = change_light(sample, 0.9, 0.9, 0.9, np.random.default_rng(seed))
            assert changed.pixels.dtype == np.float32
            assert changed.pixels.shape == noise.shape
            assert changed.pixels.min() >= 0
            assert changed.pixels.max() <= 1
            assert changed.boxes_xyxy is sample.boxes_xyxy
            means.append(changed.pixels.mean())
        assert np.std(means) > 0.1

    def test_light_is_the_same_for_all_colour_channels(self) -> None:
        gray = np.random.default_rng(0).random((40, 50)).astype(np.float32)
        colour = Sample(np.repeat(gray[..., None], 3, axis=2), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        changed = change_light(colour, 0.3, 0.3, 0.3, np.random.default_rng(1)).pixels
        np.testing.assert_array_equal(changed[..., 0], changed[..., 2])

    def test_disabled_augmentation_changes_nothing(self) -> None:
        sample = rectangle(0)
        changed = OFF(sample, np.random.default_rng(0), nothing_to_draw)
        np.testing.assert_allclose(changed.pixels, sample.pixels, atol=1e-6)
        np.testing.assert_array_equal(changed.boxes_xyxy, sample.boxes_xyxy)

    def test_the_original_is_not_modified(self) -> None:
        sample = rectangle(0)
        pixels, boxes = sample.pixels.copy(), sample.boxes_xyxy.copy()
        augment = replace(OFF, crop_min=0.5, flip_h=1, flip_v=1, brightness=0.5, contrast=0.5, illumination=0.5)
        augment(sample, np.random.default_rng(0), nothing_to_draw)
        np.testing.assert_array_equal(sample.pixels, pixels)
        np.testing.assert_array_equal(sample.boxes_xyxy, boxes)


@pytest.fixture
def tiny(tmp_path: Path) -> DetectionDataset:
    """A data set of 11 images."""
    return DetectionDataset(
        read_dataset(write_tiny(tmp_path, "train", images=11, seed=0), role="data.train"), channels=1
    )


def loader(
    dataset: DetectionDataset, *, workers: int = 0, seed: int = 0, batch_size: int = 4, plain_from: int = 99
) -> TrainingLoader:
    augment = replace(OFF, mosaic=0.5, crop_min=0.7, flip_h=0.5, brightness=0.2)
    return TrainingLoader(
        dataset,
        augment=augment,
        plain=replace(augment, mosaic=0),
        plain_from=plain_from,
        batch_size=batch_size,
        seed=seed,
        workers=workers,
        pin=False,
    )


def contents(loading: TrainingLoader, epoch: int) -> list[tuple[list[int], list[bytes], list[bytes]]]:
    """Batches of an epoch as comparable values."""
    return [
        (b.indices, [i.numpy().tobytes() for i in b.images], [t["boxes"].numpy().tobytes() for t in b.targets])
        for b in loading.epoch(epoch)
    ]


class TestLoader:
    def test_workers_load_the_same_batches(self, tiny: DetectionDataset) -> None:
        in_process, with_workers = loader(tiny), loader(tiny, workers=2)
        for epoch in (1, 2):
            assert contents(in_process, epoch) == contents(with_workers, epoch)

    def test_an_epoch_depends_on_seed_and_number_only(self, tiny: DetectionDataset) -> None:
        first = loader(tiny)
        one, two = contents(first, 1), contents(first, 2)
        assert one != two
        assert contents(loader(tiny), 2) == two  # as after a resume
        assert contents(loader(tiny, seed=1), 1) != one

    def test_loading_does_not_use_the_random_generator_of_the_training(self, tiny: DetectionDataset) -> None:
        import torch

        torch.manual_seed(0)
        expected = torch.rand(1)
        for workers in (0, 1):
            torch.manual_seed(0)
            contents(loader(tiny, workers=workers), 1)
            assert torch.rand(1) == expected

    def test_each_image_occurs_at_most_once_per_epoch_and_all_occur_over_epochs(self, tiny: DetectionDataset) -> None:
        loading, seen = loader(tiny), set()
        assert len(loading) == 2  # the short third batch is dropped
        for epoch in range(1, 8):
            indices = [i for batch in loading.epoch(epoch) for i in batch.indices]
            assert len(indices) == len(set(indices)) == 8
            seen.update(indices)
        assert seen == set(range(11))

    def test_every_image_occurs_once_if_no_batch_is_incomplete(self, tiny: DetectionDataset) -> None:
        for batch_size in (11, 1, 64):
            indices = [i for batch in loader(tiny, batch_size=batch_size).epoch(1) for i in batch.indices]
            assert sorted(indices) == list(range(11))

    def test_the_last_epochs_have_no_mosaic(self, tiny: DetectionDataset, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []
        import detect.data.transforms as transforms

        def counted(*arguments: Any) -> Sample:
            calls.append(1)
            return mosaic(*arguments)

        monkeypatch.setattr(transforms, "mosaic", counted)
        loading = loader(tiny, plain_from=3)
        contents(loading, 2)
        assert calls
        calls.clear()
        contents(loading, 3)
        assert not calls

    def test_batches_have_the_tensors_that_torchvision_expects(self, tiny: DetectionDataset) -> None:
        import torch

        batch = next(iter(loader(tiny).epoch(1)))
        assert [tuple(image.shape) for image in batch.images] == [(1, SIDE, SIDE)] * 4
        assert all(image.dtype == torch.float32 and 0 <= image.min() <= image.max() <= 1 for image in batch.images)
        for target in batch.targets:
            assert target["boxes"].dtype == torch.float32
            assert target["labels"].dtype == torch.int64
            assert target["boxes"].shape == (len(target["labels"]), 4)
        moved = batch.to(torch.device("cpu"))
        assert moved.indices == batch.indices
        assert torch.equal(moved.images[0], batch.images[0])


class TestDataset:
    @pytest.fixture
    def make(self, tmp_path: Path) -> Callable[..., DetectionDataset]:
        """A data set of images given as arrays."""

        def build(*pixels: np.ndarray, channels: int = 1, suffix: str = ".png", **kwargs: Any) -> DetectionDataset:
            images = []
            for i, each in enumerate(pixels):
                write_image(tmp_path / f"{i}{suffix}", each)
                boxes = (Box("dark", (1, 2, 11, 22)), Box("bright", (0, 0, 9, 9), crowd=True))
                images.append(Image(tmp_path / f"{i}{suffix}", each.shape[1], each.shape[0], boxes))
            return DetectionDataset(Dataset(tuple(images), CATEGORIES), channels=channels, **kwargs)

        return build

    def test_boxes_have_category_ids_and_crowd_boxes_are_omitted(self, make: Callable[..., DetectionDataset]) -> None:
        sample = make(np.zeros((30, 40), np.uint8))[0]
        assert sample.boxes_xyxy.tolist() == [[1, 2, 11, 22]]
        assert sample.labels.tolist() == [2]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_pixels_are_scaled_by_their_bit_depth(self, make: Callable[..., DetectionDataset], channels: int) -> None:
        eight = np.array([[0, 51, 255]] * 12, np.uint8)
        deep = np.array([[0, 13107, 65535]] * 12, np.uint16)
        images = make(eight, deep, np.repeat(eight[..., None], 3, axis=2), channels=channels)
        for i in range(3):
            pixels = images[i].pixels
            assert pixels.dtype == np.float32
            assert pixels.shape == ((12, 3) if channels == 1 else (12, 3, 3))
            row = pixels[0] if channels == 1 else pixels[0, :, 1]
            np.testing.assert_allclose(row, [0, 0.2, 1], atol=1e-6)

    def test_the_cache_keeps_the_bit_depth_of_the_files(self, make: Callable[..., DetectionDataset]) -> None:
        images = make(np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint16))
        assert [images.pixels(i).dtype for i in range(2)] == [np.uint8, np.uint16]
        images.path(0).unlink()
        images[0]
        uncached = make(np.zeros((30, 40), np.uint8), cache=False)
        uncached.preload()
        uncached.path(0).unlink()
        with pytest.raises(DataError, match="no such image"):
            uncached[0]

    def test_normalisation_is_that_of_all_pixels(self, make: Callable[..., DetectionDataset]) -> None:
        rng = np.random.default_rng(0)
        gray = [rng.integers(0, 200, (20, 30)).astype(np.uint8) for _ in range(7)]
        mean, std = make(*gray).normalisation()
        assert mean == pytest.approx([np.mean(gray) / 255], abs=1e-5)
        assert std == pytest.approx([np.std(gray) / 255], abs=1e-5)
        colour = [rng.integers(0, (256, 100, 10), (20, 30, 3)).astype(np.uint8) for _ in range(3)]
        mean, std = make(*colour, channels=3).normalisation()
        assert mean == pytest.approx(np.mean(colour, axis=(0, 1, 2)) / 255, abs=1e-5)
        assert std == pytest.approx(np.std(colour, axis=(0, 1, 2)) / 255, abs=1e-5)

    def test_the_deviation_of_blank_images_is_positive(self, make: Callable[..., DetectionDataset]) -> None:
        mean, std = make(np.zeros((20, 30), np.uint8)).normalisation()
        assert mean == [0]
        assert std[0] > 0

    def test_resize_factors_are_per_box(self, make: Callable[..., DetectionDataset]) -> None:
        images = make(np.zeros((30, 40), np.uint8), np.zeros((120, 60), np.uint8))
        assert images.boxes_wh().tolist() == [[10, 20], [10, 20]]
        assert images.resize_factors(60).tolist() == [2, 1]
        assert images.resize_factors(None).tolist() == [1, 1]

    def test_a_file_of_another_size_than_its_label_is_refused(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png", np.zeros((30, 40), np.uint8))
        images = DetectionDataset(Dataset((Image(tmp_path / "a.png", 30, 40),), ("x",)), channels=1)
        with pytest.raises(DataError, match=r"a\.png: the file has 40x30 pixels, its label 30x40"):
            images.preload()

    def test_channels_are_converted(self) -> None:
        gray = np.arange(12, dtype=np.uint16).reshape(3, 4)
        assert as_channels(gray, 1) is gray
        assert as_channels(gray, 3).shape == (3, 4, 3)
        np.testing.assert_array_equal(as_channels(as_channels(gray, 3), 1), gray)
        assert unit_range(np.full((2, 2), 65535, np.uint16)).tolist() == [[1, 1], [1, 1]]


class TestReadDataset:
    def test_files_unusable_for_training_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"none\.json: data\.val names no file; .*detect convert"):
            read_dataset(tmp_path / "none.json", role="data.val")
        for text, what in (
            ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}', "images"),
            ('{"images": [], "annotations": [], "categories": []}', "categories"),
        ):
            (tmp_path / "a.json").write_text(text)
            with pytest.raises(DataError, match=f"data.train holds no {what}"):
                read_dataset(tmp_path / "a.json", role="data.train")

    def test_other_categories_than_those_of_the_training_are_refused(self, tmp_path: Path) -> None:
        path = write_tiny(tmp_path, "val", images=2, seed=0)
        assert read_dataset(path, role="data.val", categories=CATEGORIES).categories == CATEGORIES
        with pytest.raises(DataError, match="its categories are bright, dark, those of the training dark, bright"):
            read_dataset(path, role="data.val", categories=("dark", "bright"))
