"""Large images and long strips in tiles: same detections as without tiles, for any cut, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detect.config.schema import ModelConfig
from detect.datasets import coco
from detect.engine.init import training_size
from detect.engine.trainer import train
from detect.errors import ConfigError, DataError
from detect.images import write_image
from detect.inference.predictor import Predictor
from detect.inference.tiling import StripFiles, Tiling, detect_tiled, strip_tiling, tile_rows, tiling_for
from detect.models.anchors import default_anchors
from detect.models.checkpoint import Checkpoint, DetectorSpec, load_checkpoint, save_checkpoint
from detect.structures import Box, Dataset, Detections, Image
from tiny import CATEGORIES, TINY_MODEL, tiny_config, write_tiny

Run = Callable[..., Any]


def painted(height: int, width: int, boxes: Sequence[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    """A black image on which each box has its own gray value."""
    pixels = np.zeros((height, width), np.uint8)
    for value, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        pixels[y1:y2, x1:x2] = value
    return pixels


def exact(pictures: Sequence[NDArray[np.uint8]]) -> list[Detections]:
    """A detector that finds every painted box; the gray value encodes category and score."""
    return [_detect_painted(pixels) for pixels in pictures]


def _detect_painted(pixels: NDArray[np.uint8]) -> Detections:
    rows = []
    for value in np.unique(pixels[pixels > 0]).tolist():
        y, x = np.nonzero(pixels == value)
        rows.append([x.min(), y.min(), x.max() + 1, y.max() + 1, 1 - value / 256, 1 + value % 2])
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), CATEGORIES)


BOXES = [
    *((10, 10, 30, 50), (90, 40, 110, 60), (40, 90, 60, 120), (90, 90, 105, 105)),  # complete, and cut in x, y and both
    *((130, 5, 136, 690), (5, 640, 195, 652), (150, 300, 199, 480)),  # long scratches, a large patch
    *((20, 660, 40, 700), (0, 500, 12, 520), (60, 300, 100, 340), (60, 341, 100, 380)),
]


def as_rows(detections: Detections) -> list[tuple[Any, ...]]:
    return sorted(zip(detections.boxes_xyxy.tolist(), detections.scores.tolist(), detections.labels.tolist()))


class TestTiles:
    @pytest.mark.parametrize(("side", "overlap"), [(100, 16), (100, 50), (64, 20), (200, 50), (333, 100)])
    def test_tiles_give_the_same_result_as_the_whole_image(self, side: int, overlap: int) -> None:
        pixels = painted(700, 200, BOXES)
        detections = detect_tiled(exact, [pixels], (200, 700), Tiling(side, overlap), CATEGORIES)
        assert as_rows(detections) == as_rows(_detect_painted(pixels))
        assert (np.diff(detections.scores) <= 0).all()

    @pytest.mark.parametrize("length", [1, 99, 100, 101, 176, 177, 1000])
    def test_tiles_cover_the_image_and_stay_inside(self, length: int) -> None:
        starts = Tiling(100, 24).starts(length)
        assert starts[0] == 0
        assert starts[-1] == max(0, length - 100)
        assert all(0 < b - a <= 76 for a, b in pairwise(starts))

    def test_tile_rows_do_not_depend_on_the_blocks(self) -> None:
        pixels, tiling = painted(700, 200, BOXES), Tiling(100, 24)
        expected = [(top, pixels[top : top + 100]) for top in tiling.starts(700)]
        for cuts in ([], [1, 2, 3], [350], [100, 176, 177], list(range(1, 700))):
            rows = list(tile_rows(np.split(pixels, cuts), 700, tiling))
            assert [top for top, _ in rows] == [top for top, _ in expected]
            assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(rows, expected))

    def test_only_one_row_of_tiles_is_read_and_kept(self) -> None:
        alive, read = 0, 0

        class Block(np.ndarray):  # type: ignore[type-arg]
            def __del__(self) -> None:
                nonlocal alive
                if self.base is None:
                    alive -= 1

        def blocks() -> Iterator[NDArray[np.uint8]]:
            nonlocal alive, read
            for _ in range(1000):
                alive, read = alive + 1, read + 50
                yield np.ndarray.__new__(Block, (50, 8), np.uint8)

        for top, _ in tile_rows(blocks(), 50_000, Tiling(100, 24)):
            assert alive <= 5
            assert read <= top + 150

    def test_which_images_are_processed_in_tiles(self) -> None:
        assert tiling_for(800, 400, trained=400) is None  # up to twice the training side there are no tiles
        assert tiling_for(801, 400, trained=400) == Tiling(400, 100)
        assert tiling_for(16384, 1024, trained=None) is None
        assert tiling_for(16384, 1024, trained=400, tile=0) is None
        assert tiling_for(401, 10, trained=None, tile=400, overlap=64) == Tiling(400, 64)
        assert tiling_for(400, 400, trained=100, tile=400) is None
        assert tiling_for(64, 9, trained=8) is None
        assert tiling_for(65, 9, trained=8) == Tiling(32, 16)
        assert strip_tiling(trained=12) == Tiling(32, 16)

    def test_invalid_tile_side_or_overlap_raises(self) -> None:
        with pytest.raises(ConfigError, match="tile: the tile side is 8 pixels; give at least 32"):
            Tiling(8, 4)
        for overlap in (0, 15, 201):
            with pytest.raises(ConfigError, match=r"overlap: the tile side is 400 .* give 16 to half of the side"):
                Tiling(400, overlap)


def written(folder: Path, pixels: NDArray[Any], cuts: Sequence[int]) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"part_{i}.png" for i in range(len(cuts) + 1)]
    for path, part in zip(paths, np.split(pixels, cuts)):
        write_image(path, part)
    return paths


CUTS = ([], [400], [100, 101, 333, 690])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with random weights and detections everywhere, with a training side of 64 pixels."""
    return random_weights(tmp_path_factory.mktemp("run"), side=64)


def random_weights(folder: Path, side: int | None) -> Path:
    torch.manual_seed(0)
    model = ModelConfig.model_validate({**TINY_MODEL, "roi": {**TINY_MODEL["roi"], "score_threshold": 0.0}})
    detector = DetectorSpec(model, CATEGORIES, 1, (0.5,), (0.2,), default_anchors(4, 2), side=side)
    save_checkpoint(folder / "best.pt", Checkpoint(detector, detector.build().state_dict(), epoch=1))
    return folder / "best.pt"


def steel(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)


class TestStrips:
    def test_detections_do_not_depend_on_where_a_strip_is_cut(self, tmp_path: Path) -> None:
        pixels = painted(700, 200, BOXES)
        for number, cuts in enumerate(CUTS):
            strip = StripFiles.of(written(tmp_path / str(number), pixels, cuts))
            size_wh = (strip.width, strip.height)
            detections = detect_tiled(exact, strip.blocks(1, None), size_wh, Tiling(100, 24), CATEGORIES)
            assert as_rows(detections) == as_rows(_detect_painted(pixels))

    def test_network_detections_on_a_cut_strip_are_bitwise_equal(self, weights: Path, tmp_path: Path) -> None:
        predictor, pixels = Predictor.load(weights, device="cpu"), steel(300, 100)
        one, two, many = (
            predictor.strip(written(tmp_path / str(number), pixels, cuts))
            for number, cuts in enumerate(([], [150], [7, 64, 65, 280]))
        )
        assert len(one) > 20
        for other in (two, many, predictor(pixels)):  # large enough for tiles by default
            assert np.array_equal(one.boxes_xyxy, other.boxes_xyxy)
            assert np.array_equal(one.scores, other.scores)

    def test_files_of_different_width_or_depth_are_named(self, tmp_path: Path) -> None:
        first, second = written(tmp_path / "a", steel(80, 60), [40])
        write_image(second, steel(40, 61))
        with pytest.raises(DataError, match=r"part_1\.png: the file is 61 pixels wide, the strip's first one 60"):
            StripFiles.of([first, second])
        write_image(second, steel(40, 60).astype(np.uint16))
        with pytest.raises(DataError, match=r"part_1\.png: the file holds 16 bits per pixel, the strip's first one 8"):
            list(StripFiles.of([first, second]).blocks(1, None))
        with pytest.raises(DataError, match="the strip has no files"):
            StripFiles.of([])

    def test_a_strip_needs_a_known_tile_side(self, tmp_path: Path) -> None:
        predictor = Predictor.load(random_weights(tmp_path, side=None), device="cpu")
        paths = written(tmp_path / "a", steel(200, 60), [100])
        with pytest.raises(ConfigError, match="doesn't hold the size of the training images; give their side in"):
            predictor.strip(paths)
        assert len(predictor.strip(paths, tile=64))


class TestTraining:
    def test_the_training_side_is_stored_in_the_checkpoint(self, tmp_path: Path) -> None:
        write_tiny(tmp_path, "train", images=4, seed=0)
        for window, side in ((None, 64), (48, 48), (100, 64)):
            config = tiny_config(
                tmp_path, tmp_path / f"run{side}{window}", data={"val": None, "window": window}, train={"epochs": 1}
            )
            run = train(config)
            assert load_checkpoint(run / "last.pt").detector.side == side
            assert Predictor.load(run, device="cpu").side == side

    def test_with_an_input_size_the_side_is_the_shorter_side(self, tmp_path: Path) -> None:
        from detect.data.dataset import DetectionDataset

        images = tuple(Image(tmp_path / f"{i}.png", *wh) for i, wh in enumerate([(300, 100), (120, 400)]))
        dataset = DetectionDataset(Dataset(images, CATEGORIES), channels=1)
        assert training_size(dataset, None, 64) == 110
        assert training_size(dataset, None, None) == 400
        assert training_size(dataset, 128, None) == 128

    def test_a_checkpoint_without_a_side_loads(self, tmp_path: Path) -> None:
        path = random_weights(tmp_path, side=64)
        content = torch.load(path, weights_only=True)
        del content["detector"]["side"]
        torch.save(content, path)
        assert load_checkpoint(path).detector.side is None


def labelled(folder: Path) -> Path:
    """A large image and a small one with labels."""
    images = []
    for name, shape in (("large", (300, 100)), ("small", (64, 60))):
        write_image(folder / f"{name}.png", steel(*shape))
        images.append(Image(folder / f"{name}.png", shape[1], shape[0], (Box("bright", (5.0, 5.0, 30.0, 30.0)),)))
    return coco.write({"val": Dataset(tuple(images), CATEGORIES)}, folder)["val"]


class TestCommands:
    def test_evaluate_and_infer_use_the_same_tiles(self, weights: Path, tmp_path: Path, detect: Run) -> None:
        data = labelled(tmp_path)
        shown = detect("infer", tmp_path / "large.png", "--weights", weights, "--json", "--threshold", 0)
        assert "is much larger than the training images (64 px), so it is processed in 2 x 6 tiles" in shown.err
        expected = json.loads(shown.out)["images"][0]["detections"]
        judged = detect("evaluate", weights, "--data", data, "--out", tmp_path / "report")
        assert judged.code == 0
        assert "1 of 2 images in tiles" in judged.err
        detections = json.loads((tmp_path / "report" / "detections.json").read_text())
        mine = sorted(each["score"] for each in detections if each["image_id"] == 1)
        assert mine == pytest.approx(sorted(each["score"] for each in expected), abs=1e-5)
        whole = detect("infer", tmp_path / "large.png", "--weights", weights, "--json", "--threshold", 0, "--tile", 0)
        assert "tiles" not in whole.err
        assert len(json.loads(whole.out)["images"][0]["detections"]) < len(expected)

    def test_infer_strip_joins_several_files(self, weights: Path, tmp_path: Path, detect: Run) -> None:
        strips = []
        for number, cuts in enumerate(([], [90], [150, 200])):
            written(tmp_path / str(number), steel(300, 100), cuts)
            arguments = ["infer", "--strip", tmp_path / str(number), "--weights", weights, "--threshold", 0.3]
            outcome = detect(*arguments, "--json", "--tile", 96, "--overlap", 32)
            assert (outcome.code, "processed in 2 x 5 tiles of 96 px that overlap by 32" in outcome.err) == (0, True)
            strip = json.loads(outcome.out)["strip"]
            assert [each["top"] for each in strip["files"]] == [0, *cuts]
            strips.append((strip["width"], strip["height"], strip["detections"]))
        assert strips[0] == strips[1] == strips[2]
        assert strips[0][:2] == (100, 300)
        assert strips[0][2]

    def test_a_strip_writes_one_image_and_label_per_file(self, weights: Path, tmp_path: Path, detect: Run) -> None:
        paths = written(tmp_path / "a", steel(200, 100), [100])
        arguments = ["--weights", weights, "--threshold", 0.3, "--draw", "--to", "coco", "--out", tmp_path / "out"]
        outcome = detect("infer", "--strip", *paths, *arguments)
        assert outcome.code == 0
        assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
            f"part_{i}.detections.png" for i in (0, 1)
        ]
        (label_file,) = (tmp_path / "out").glob("*.json")
        dataset = coco.read(label_file)
        assert len(dataset.images) == 2
        assert all(0 <= box.xyxy[1] < box.xyxy[3] <= 100 for image in dataset.images for box in image.boxes)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--tile", "-1"], "--tile is -1; give a side in pixels, or 0 for no tiles"),
            (["--tile", "0", "--overlap", "20"], "--overlap has no meaning with --tile 0"),
            (["--tile", "64", "--overlap", "40"], "overlap: the tile side is 64 pixels and the overlap is 40"),
            (["--strip", "--tile", "0"], "a strip needs tiles; give their side in pixels"),
            (["--strip", "none.png"], "none.png: no such image"),
        ],
    )
    def test_a_usage_error_gives_one_line(
        self, arguments: list[str], sentence: str, weights: Path, tmp_path: Path, detect: Run
    ) -> None:
        (path,) = written(tmp_path / "a", steel(200, 100), [])
        outcome = detect("infer", path, "--weights", weights, *arguments)
        assert outcome.code == 2
        assert sentence in outcome.err
        assert "Traceback" not in outcome.err
