"""The predictor: any image, the same boxes alone and in a batch, and the AP that the training log reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.data.dataset import DetectionDataset
from detect.datasets import coco
from detect.engine.trainer import train
from detect.errors import CheckpointError, ConfigError, DataError
from detect.evaluation.summary import judge
from detect.images import read_image, write_image
from detect.inference import detection as prediction
from detect.inference.detection import coco_results, detect_dataset, detect_images
from detect.inference.predictor import Predictor
from detect.structures import Dataset, Detections, Image
from tiny import CATEGORIES, SIDE, tiny_config, write_parts
from tiny_detector import untrained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json and val.json."""
    return write_parts(tmp_path_factory.mktemp("data"), train=12, val=7)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few epochs, whose detector has a few detections."""
    return train(tiny_config(data, tmp_path_factory.mktemp("runs") / "run", train={"epochs": 5, "lr": 1e-2}))


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    """The best detector of ``run``."""
    return Predictor.load(run, device="cpu")


def assert_close(a: Detections, b: Detections) -> None:
    assert len(a) == len(b)
    np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=1e-2)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


class TestOneImage:
    def test_detections_are_sorted_inside_the_image_and_have_category_names(
        self, predictor: Predictor, data: Path
    ) -> None:
        detections = predictor(data / "val" / "val_00.bmp")
        assert len(detections) > 0
        assert (np.diff(detections.scores) <= 0).all()
        assert (detections.scores > 0).all()
        assert (detections.boxes_xyxy >= 0).all()
        assert (detections.boxes_xyxy <= SIDE).all()
        assert (detections.boxes_xyxy.dtype, detections.scores.dtype, detections.labels.dtype) == (
            np.float32,
            np.float32,
            np.int64,
        )
        assert {each.label for each in detections} <= set(CATEGORIES)
        assert predictor.categories == detections.categories == CATEGORIES

    def test_a_path_and_its_array_give_the_same_detections(self, predictor: Predictor, data: Path) -> None:
        path = data / "val" / "val_01.bmp"
        of_path = predictor(path)
        for same in (predictor(str(path)), predictor(read_image(path))):
            np.testing.assert_array_equal(same.boxes_xyxy, of_path.boxes_xyxy)
            np.testing.assert_array_equal(same.scores, of_path.scores)

    def test_gray_rgb_and_16_bits_of_one_image_give_the_same_detections(
        self, predictor: Predictor, data: Path, tmp_path: Path
    ) -> None:
        gray = read_image(data / "val" / "val_02.bmp")
        expected = predictor(gray)
        assert_close(predictor(np.repeat(gray[..., None], 3, axis=2)), expected)
        assert_close(predictor(gray[..., None]), expected)
        deep = gray.astype(np.uint16) * 257  # 255 becomes 65535
        assert_close(predictor(deep), expected)
        write_image(tmp_path / "deep.png", deep)
        assert_close(predictor(tmp_path / "deep.png"), expected)

    def test_an_array_view_gives_the_same_detections_as_a_copy(self, predictor: Predictor, data: Path) -> None:
        gray = read_image(data / "val" / "val_02.bmp")
        assert_close(predictor(gray[::-1, ::-1]), predictor(gray[::-1, ::-1].copy()))
        gray.flags.writeable = False
        predictor(gray)

    def test_a_colour_detector_takes_gray(self, tmp_path: Path) -> None:
        predictor = untrained(tmp_path, channels=3)
        gray = np.random.default_rng(0).integers(0, 256, (50, 70)).astype(np.uint8)
        assert len(predictor(gray))
        assert_close(predictor(gray), predictor(np.repeat(gray[..., None], 3, axis=2)))

    @pytest.mark.parametrize("shape", [(1, 1), (3, 400), (201, 65)])
    def test_any_size(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        detections = untrained(tmp_path)(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
        assert (detections.boxes_xyxy >= 0).all()
        assert (detections.boxes_xyxy <= [shape[1], shape[0], shape[1], shape[0]]).all()

    def test_the_threshold_removes_lower_scores(self, predictor: Predictor, data: Path) -> None:
        everything = predictor(data / "val" / "val_00.bmp")
        middle = float(np.median(everything.scores))
        assert len(predictor(data / "val" / "val_00.bmp", threshold=middle)) == (everything.scores >= middle).sum()
        assert len(predictor(data / "val" / "val_00.bmp", threshold=1.0)) == 0

    @pytest.mark.parametrize(
        ("wrong", "what"),
        [
            (np.zeros((4, 4), np.float32), r"float32 with shape \(4, 4\)"),
            (np.zeros((4, 4), bool), "bool"),
            (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
            (np.zeros((1, 3, 4, 4), np.uint8), r"shape \(1, 3, 4, 4\)"),
            (np.zeros(4, np.uint8), r"shape \(4,\)"),
            (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        ],
    )
    def test_an_array_that_is_no_image_raises(self, predictor: Predictor, wrong: np.ndarray, what: str) -> None:
        with pytest.raises(DataError, match=f"an array of .*{what}.* is no image; give uint8 or uint16"):
            predictor(wrong)
        with pytest.raises(DataError, match="is no image; give uint8 or uint16"):
            predictor.predict_batch([np.zeros((8, 8), np.uint8), wrong])
        with pytest.raises(DataError, match="is no image; give uint8 or uint16"):
            predictor.stream()(wrong)

    def test_a_missing_image_file_is_named(self, predictor: Predictor, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"none\.bmp: no such image"):
            predictor(tmp_path / "none.bmp")


class TestLoading:
    def test_a_run_folder_loads_its_best_checkpoint(self, run: Path, predictor: Predictor) -> None:
        assert predictor.weights_path == run / "best.pt"
        scores = {
            line["epoch"]: line["val"]["AP50"]
            for line in map(json.loads, (run / "log.jsonl").read_text().splitlines())
            if line["val"]
        }
        assert scores[predictor.epoch] == max(scores.values())
        assert Predictor.load(str(run / "last.pt"), device="cpu").weights_path == run / "last.pt"

    def test_a_moved_checkpoint_file_is_sufficient(
        self, run: Path, data: Path, predictor: Predictor, tmp_path: Path
    ) -> None:
        shutil.copy(run / "best.pt", tmp_path / "moved.pt")
        image = data / "val" / "val_00.bmp"
        assert_close(Predictor.load(tmp_path / "moved.pt", device="cpu")(image), predictor(image))

    def test_a_missing_path_or_unknown_device_raises(self, tmp_path: Path, run: Path) -> None:
        with pytest.raises(CheckpointError, match="no such run or checkpoint"):
            Predictor.load(tmp_path / "none")
        with pytest.raises(ConfigError, match="unknown device 'gpu'"):
            Predictor.load(run, device="gpu")


class TestDataSet:
    def test_ap_equals_the_value_reported_in_training(self, run: Path, predictor: Predictor, data: Path) -> None:
        lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
        reported = next(line["val"] for line in lines if line["epoch"] == predictor.epoch)
        dataset = coco.read(data / "val.json")
        summary = judge(json.loads((data / "val.json").read_text()), predictor.detect_dataset(dataset)).summary
        assert reported["AP"] > 0
        for name in ("AP", "AP50", "AP75"):
            assert summary[name] == pytest.approx(reported[name], abs=1e-9)
        for name in CATEGORIES:
            assert summary["per_class"][name]["AP50"] == pytest.approx(reported["per_class"][name]["AP50"], abs=1e-9)

    def test_image_ids_are_positions_and_categories_match_by_name(self, predictor: Predictor, data: Path) -> None:
        dataset = coco.read(data / "val.json")
        other = Dataset(
            dataset.images[::-1], ("scratch", "dark", "bright")
        )  # another order, and an additional category
        results = predictor.detect_dataset(other)
        for position, image in enumerate(other.images, start=1):
            expected = list(predictor(image.path))
            of_image = [each for each in results if each["image_id"] == position]
            assert [other.categories[each["category_id"] - 1] for each in of_image] == [each.label for each in expected]
            for detections, each in zip(of_image, expected):
                x, y, width, height = detections["bbox"]
                np.testing.assert_allclose((x, y, x + width, y + height), each.xyxy, atol=1e-2)
                assert detections["score"] == pytest.approx(each.score, abs=1e-4)
        json.dumps(results)

    def test_a_category_that_the_data_lacks_is_named(self, predictor: Predictor, data: Path) -> None:
        dataset = Dataset(coco.read(data / "val.json").images, ("bright", "scratch"))
        with pytest.raises(DataError, match=r"best\.pt: the detector finds dark, the data set has bright, scratch"):
            predictor.detect_dataset(dataset)

    def test_single_images_and_batches_give_the_same_detections(self, tmp_path: Path) -> None:
        predictor, rng = untrained(tmp_path), np.random.default_rng(0)
        sizes = [(64, 64)] * 3 + [(50, 80)] * 2 + [(64, 64)] + [(33, 41)]
        arrays = [rng.integers(0, 256, size).astype(np.uint8) for size in sizes]
        images = []
        for i, pixels in enumerate(arrays):
            write_image(tmp_path / f"{i}.png", pixels)
            images.append(Image(tmp_path / f"{i}.png", pixels.shape[1], pixels.shape[0]))
        dataset = DetectionDataset(Dataset(tuple(images), CATEGORIES), channels=1)
        batches = list(detect_dataset(predictor._model, dataset, CATEGORIES, batch_size=2))
        assert [len(batch) for batch in batches] == [2, 1, 2, 1, 1]  # consecutive images of one size
        for together, pixels in zip([each for batch in batches for each in batch], arrays):
            alone = detect_images(predictor._model, [pixels], CATEGORIES)[0]
            assert len(alone) > 5
            assert_close(together, alone)

    def test_large_images_use_small_batches(
        self, predictor: Predictor, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dataset = DetectionDataset(coco.read(data / "val.json"), channels=1)
        for pixels, expected in ((2 * SIDE * SIDE, [2, 2, 2, 1]), (5, [1] * 7), (10**9, [7])):
            monkeypatch.setattr(prediction, "_BATCH_PIXELS", pixels)
            batches = detect_dataset(predictor._model, dataset, CATEGORIES)
            assert [len(batch) for batch in batches] == expected

    def test_coco_results_without_detections(self) -> None:
        none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), CATEGORIES)
        ids: dict[str, Any] = {"bright": 1, "dark": 2}
        assert coco_results([none, none], ids) == []
