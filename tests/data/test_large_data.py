"""Large data sets and images: packed records, a cache with a size limit, and random windows of strips."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from detect.data.dataset import DetectionDataset, PackedImages
from detect.data.loader import TrainingLoader
from detect.data.transforms import RandomWindows, choose_window, count_cut_boxes
from detect.engine.data import cache_budget, fill_caches
from detect.engine.trainer import train
from detect.errors import ConfigError
from detect.fileio import free_bytes
from detect.images import write_image
from detect.structures import Box, Dataset, Frame, Image
from tiny import TINY_MODEL, tiny_config, write_tiny

Corners = tuple[float, float, float, float]


class Blank(DetectionDataset):
    """A data set with generated pixels: the first two channels are the column and row."""

    def pixels(self, index: int) -> np.ndarray:
        width, height = self.images.sizes_wh[index].tolist()
        made = np.zeros((height, width, 3), np.uint16)
        made[..., 0], made[..., 1] = np.arange(width), np.arange(height)[:, None]
        return made


def position_of(pixels: np.ndarray) -> np.ndarray:
    """Position (x, y) of a window in its image."""
    return np.rint(pixels[0, 0, :2] * np.iinfo(np.uint16).max)


def blank(*boxes: Sequence[Corners], size: tuple[int, int] = (16384, 1024)) -> Blank:
    images = [
        Image(Path(f"{i}.png"), *size, tuple(Box("dent", box) for box in image_boxes))
        for i, image_boxes in enumerate(boxes)
    ]
    return Blank(Dataset(tuple(images), ("dent",)), channels=3)


def scattered(rng: np.random.Generator, size: tuple[int, int], cell: int = 128) -> list[Corners]:
    """One box in every fourth diagonal of a grid of cells, up to the size of a cell."""
    boxes = []
    for column in range(size[0] // cell):
        for row in range(size[1] // cell):
            if (column + row) % 4 == 0:
                width, height = rng.uniform(10, cell - 2, 2)
                x, y = column * cell + rng.uniform(0, cell - width), row * cell + rng.uniform(0, cell - height)
                boxes.append((float(x), float(y), float(x + width), float(y + height)))
    return boxes


# Packed records


def test_packed_images_are_the_records_without_boxes() -> None:
    records = [
        Image(Path("a/b ä.png"), 30, 20, (Box("dent", (0, 0, 5, 5)),)),
        Image(Path("/tmp/c.png"), 5, 9, frame=Frame("s", 3, (1.0, 2.0), "noisy")),
        Image(Path(os.fsdecode(b"d\xff.png")), 1, 2),
    ]
    packed = PackedImages(records)
    assert len(packed) == 3
    assert list(packed) == [Image(i.path, i.width, i.height, frame=i.frame) for i in records]
    assert packed[-1].path == records[2].path
    assert packed[1:] == [packed[1], packed[2]]
    assert packed.path(0) == records[0].path
    with pytest.raises(IndexError):
        packed[3]
    assert list(PackedImages([])) == []


def objects_of(thing: object) -> int:
    """Number of Python objects reachable from an object, without types and modules."""
    visited: dict[int, object] = {}
    waiting = [thing]
    while waiting:
        each = waiting.pop()
        if id(each) not in visited and not isinstance(each, (type, type(os))):
            visited[id(each)] = each
            waiting += gc.get_referents(each)
    return len(visited)


def test_a_large_data_set_has_few_python_objects() -> None:
    few, many = (blank(*[[(0, 0, 5, 5), (1, 1, 9, 9)]] * count) for count in (3, 3000))
    assert objects_of(many.__dict__) <= objects_of(few.__dict__) + 10
    boxes, labels = many.boxes_of(2999)
    assert boxes.tolist() == [[0, 0, 5, 5], [1, 1, 9, 9]]
    assert labels.tolist() == [1, 1]
    assert boxes.base is not None  # a view, not a copy
    assert len(many.boxes_wh()) == 6000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak memory of a process")
def test_reading_40000_annotations_has_limited_time_and_memory(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((64, 64), np.uint8))
    images = [{"id": i, "file_name": "a.png", "width": 64, "height": 64} for i in range(2000)]
    annotations = [
        {"id": k, "image_id": k % 2000, "category_id": 1, "bbox": [k % 30, 3, 20.5, 10], "area": 205, "iscrowd": 0}
        for k in range(40_000)
    ]
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "dent"}]}
    (tmp_path / "a.json").write_text(json.dumps(data))
    code = (
        "import time; from pathlib import Path; from detect.datasets import coco\n"
        "def peak(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "before, start = peak(), time.process_time()\n"
        f"read = coco.read(Path({str(tmp_path / 'a.json')!r}))\n"
        "print(time.process_time() - start, peak() - before, len(read.images))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, kilobytes, count = (float(word) for word in done.stdout.split())
    assert count == 2000
    assert seconds < 10  # about 1 s on an ordinary machine
    assert 0 < kilobytes < 2e6 * 40_000 / 1e6


# The cache


def write_images(folder: Path, count: int, depth: type = np.uint8) -> Dataset:
    for i in range(count):
        write_image(folder / f"{i}.png", np.full((10, 20), i, depth))
    return Dataset(tuple(Image(folder / f"{i}.png", 20, 10) for i in range(count)), ("dent",))


def test_the_cache_reports_its_size_and_keeps_images_up_to_its_limit(tmp_path: Path) -> None:
    records = write_images(tmp_path, 6)
    lines: list[str] = []
    images = DetectionDataset(records, channels=1)
    assert images.decoded_bytes() == 1200
    fill_caches([images], 700, say=lines.append)
    assert images.cached_bytes == 600
    assert lines == [
        "decoded images take 0.0 MB, more than the limit of 0.0 MB (data.cache_gb)",
        "3 of 6 images are kept in memory, the others are read again for each use",
    ]
    (tmp_path / "0.png").unlink()
    assert images[0].pixels[0, 0] == 0
    write_image(tmp_path / "5.png", np.full((10, 20), 99, np.uint8))
    assert images.pixels(5)[0, 0] == 99
    # images read later are not cached, as every loader process would have its own copy
    assert images.cached_bytes == 600


def test_the_cache_limit_is_shared_and_optional(tmp_path: Path) -> None:
    records = write_images(tmp_path, 4, np.uint16)
    first, second = (DetectionDataset(records, channels=3) for _ in range(2))
    assert first.decoded_bytes() == 4 * 200 * 3 * 2
    lines: list[str] = []
    fill_caches([first, second], 7200, say=lines.append)
    assert (first.cached_bytes, second.cached_bytes) == (4800, 2400)
    unlimited = DetectionDataset(records, channels=1)
    fill_caches([unlimited], None, say=lines.append)
    assert unlimited.cached_bytes == 1600
    none = DetectionDataset(records, channels=1, cache=False)
    fill_caches([none], 0, say=lines.append)
    assert none.cached_bytes == 0
    assert lines[-1] == "decoded images take 0.0 MB; they are read again for each use (data.cache)"
    assert cache_budget(3.0, 2) == 1.5e9
    free = free_bytes()
    assert free is not None
    assert 0 < (cache_budget(None, 1) or 0) < 8 * free


# Windows


def test_windows_of_a_strip_cut_no_boxes() -> None:
    boxes = scattered(np.random.default_rng(0), (16384, 1024))
    windows = RandomWindows(blank(boxes), 512)
    assert len(windows) == 64
    drawn_boxes, positions = set(), set()
    for epoch in range(2):
        for index in range(0, 64, 4):
            image, sample = windows.draw(index, np.random.default_rng((epoch, index)))
            assert (image, sample.pixels.shape) == (0, (512, 512, 3))
            position = position_of(sample.pixels)
            positions.add(tuple(position))
            assert abs(position[0] - 512 * (index % 32)) < 512  # near its own cell of the strip
            for box in sample.boxes_xyxy + np.tile(position, 2):
                distance = np.abs(np.array(boxes) - box).max(axis=1)
                assert distance.min() < 0.01  # an uncut box, as labelled
                drawn_boxes.add(int(distance.argmin()))
            inside = [b for b in boxes if (position <= b[:2]).all() and (np.array(b[2:]) <= position + 512).all()]
            assert len(sample.boxes_xyxy) == len(inside)
    assert len(positions) == 32
    assert len(drawn_boxes) > 0.15 * len(boxes)  # from 1/4 of the windows


def test_windows_are_random_and_reproducible() -> None:
    windows = RandomWindows(blank(scattered(np.random.default_rng(1), (2048, 1024)), size=(2048, 1024)), 512)
    one, repeated, *others = (windows.draw(3, np.random.default_rng(seed))[1] for seed in (0, 0, 1, 2, 3, 4, 5))
    np.testing.assert_array_equal(one.pixels, repeated.pixels)
    np.testing.assert_array_equal(one.boxes_xyxy, repeated.boxes_xyxy)
    assert len({tuple(position_of(other.pixels)) for other in others}) > 1


def test_boxes_larger_than_a_window_are_clipped_and_slivers_dropped() -> None:
    long = (100.0, 500.0, 4000.0, 540.0)
    windows = RandomWindows(blank([long], size=(4096, 1024)), 512)
    for index in range(len(windows)):
        _, sample = windows.draw(index, np.random.default_rng(index))
        for x1, y1, x2, y2 in sample.boxes_xyxy:
            assert 0 <= x1 < x2 <= 512
            assert 0 <= y1 < y2 <= 512
            assert x2 - x1 >= 16
            assert y2 - y1 >= 16


def test_small_images_are_one_window_each() -> None:
    boxes = [(3.0, 4.0, 50.0, 60.0)]
    windows = RandomWindows(blank(boxes, [], size=(200, 100)), 512)
    assert len(windows) == 2
    image, sample = windows.draw(0, np.random.default_rng(0))
    assert (image, sample.pixels.shape[:2], sample.boxes_xyxy.tolist()) == (0, (100, 200), [list(boxes[0])])
    assert windows.draw(1, np.random.default_rng(0))[0] == 1
    assert len(RandomWindows(blank(), 512)) == 0


def test_smaller_windows_are_enlarged_with_their_boxes() -> None:
    boxes = scattered(np.random.default_rng(2), (2048, 512))
    windows = RandomWindows(blank(boxes, size=(2048, 512)), 512, crop=1.0, crop_min=0.5)
    for index in range(4):
        _, sample = windows.draw(index, np.random.default_rng(index))
        assert sample.pixels.shape[:2] == (512, 512)
        columns = np.rint(sample.pixels[256, [100, 400], 0] * 65535)
        zoom = 300 / (columns[1] - columns[0])
        assert 1 <= zoom <= 2.05
        widths = [b[2] - b[0] for b in boxes]
        for x1, _, x2, _ in sample.boxes_xyxy:
            assert min(abs((x2 - x1) / zoom - width) for width in widths) < 2


def test_a_position_between_boxes_is_found() -> None:
    rng = np.random.default_rng(0)
    # boxes of 90 pixels with gaps of 10: per axis, at most 1/10 of the positions of a window of 100 cuts no box
    boxes = np.float32([(100 * i + 5, 100 * j + 5, 100 * i + 95, 100 * j + 95) for i in range(9) for j in range(9)])
    window = np.array([100, 100])
    for _ in range(20):
        position = choose_window(boxes, window, np.array([150, 150]), np.array([450, 450]), np.array([800, 800]), rng)
        assert count_cut_boxes(boxes, position[None], window)[0] == 0
    origin = np.array([0, 0])
    assert choose_window(np.zeros((0, 4), np.float32), window, origin, origin, origin, rng).tolist() == [0, 0]


def test_the_loader_gives_windows_with_the_indices_of_their_images(tmp_path: Path) -> None:
    from detect.config.schema import AugmentConfig
    from detect.data.transforms import Augment

    values = AugmentConfig(mosaic=0.5).model_dump(exclude={"mosaic_off_epochs", "transpose_classes"})
    chain = Augment(**{**values, "crop": 0.0})
    images = blank(*[scattered(np.random.default_rng(i), (1024, 512)) for i in range(3)], size=(1024, 512))
    loader = TrainingLoader(
        RandomWindows(images, 256, crop=0.5, crop_min=0.65),
        augment=chain,
        plain=chain,
        plain_from=9,
        batch_size=8,
        seed=0,
        workers=0,
        pin=False,
    )
    assert len(loader) == 3
    batches = list(loader.epoch(1))
    assert sorted(i for batch in batches for i in batch.indices) == [0] * 8 + [1] * 8 + [2] * 8
    assert {tuple(image.shape) for batch in batches for image in batch.images} == {(3, 256, 256)}
    repeated = next(iter(loader.epoch(1)))
    assert repeated.indices == batches[0].indices
    assert all((a == b).all() for a, b in zip(repeated.images, batches[0].images))


def test_a_detector_trains_on_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny(tmp_path, "train", images=6, seed=0)
    write_tiny(tmp_path, "val", images=3, seed=1)
    changes = {"train": {"epochs": 1}, "data": {"window": 40, "cache_gb": 1e-5}}
    train(tiny_config(tmp_path, tmp_path / "run", **changes))
    lines = capsys.readouterr().out
    assert "24 windows per epoch, of 40 x 40 pixels or less" in lines
    assert "decoded images take 0.0 MB, more than the limit of 0.0 MB (data.cache_gb)" in lines
    assert "2 of 6 images are kept in memory" in lines


def test_windows_with_resizing_or_clips_are_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path, "train", images=4, seed=0)
    resized = tiny_config(tmp_path, tmp_path / "a", data={"window": 40}, model={**TINY_MODEL, "input_size": 64})
    with pytest.raises(ConfigError, match=r"model\.input_size: windows and whole images would be resized"):
        train(resized)
    clips = tiny_config(tmp_path, tmp_path / "b", data={"window": 40}, clips={"length": 2, "pan": True})
    with pytest.raises(ConfigError, match=r"data\.window: clips need whole frames"):
        train(clips)
