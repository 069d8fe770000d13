"""Random textures with marks: reproducible images, labels of every kind, errors as one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

import make_textures


def make_set(out: Path, *, images: int, seed: int = 3) -> int:
    return make_textures.main(["--out", str(out), "--images", str(images), "--seed", str(seed)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("textures")
    assert make_set(out, images=60) == 0
    return out


@pytest.fixture(scope="module")
def labels(folder: Path) -> Any:
    return json.loads((folder / "labels.json").read_text())


def test_every_image_has_boxes_inside_the_image(labels: Any) -> None:
    assert len(labels["images"]) == 60
    assert {box["image_id"] for box in labels["annotations"]} == {image["id"] for image in labels["images"]}
    for box in labels["annotations"]:
        x, y, width, height = box["bbox"]
        assert min(x, y) >= 0
        assert max(x + width, y + height) <= 200
        assert min(width, height) >= 5


def test_every_kind_is_drawn(labels: Any) -> None:
    drawn = {box["category_id"] for box in labels["annotations"]}
    assert len(labels["categories"]) == 20
    assert [category["name"] for category in labels["categories"] if category["id"] not in drawn] == []


def test_images_are_gray_and_all_different(folder: Path) -> None:
    images = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in folder.glob("*.png")]
    assert all(image.shape == (200, 200) for image in images)
    assert len({image.tobytes() for image in images}) == 60


def test_larger_set_contains_the_smaller_one(folder: Path, tmp_path: Path) -> None:
    assert make_set(tmp_path, images=4) == 0
    for name in (f"texture_{number}.png" for number in range(1, 5)):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_another_seed_gives_other_images(folder: Path, tmp_path: Path) -> None:
    assert make_set(tmp_path, images=1, seed=4) == 0
    assert (tmp_path / "texture_1.png").read_bytes() != (folder / "texture_1.png").read_bytes()


def test_folder_with_other_files_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.png").write_bytes(b"")
    assert make_set(tmp_path, images=1) == 2
    assert "mine.png" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


@pytest.mark.parametrize("wrong", [{"images": 0}, {"images": 1, "seed": -1}])
def test_wrong_number_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, int]
) -> None:
    assert make_set(tmp_path / "out", **wrong) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
