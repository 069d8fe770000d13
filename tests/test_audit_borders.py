"""Labels that a tool has shifted by a pixel are found at the borders of images, and honest ones are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detect.audit import check_borders
from detect.audit.borders import BESIDE, Borders, borders
from detect.conversion import audit_sources
from detect.formats import coco
from detect.images import write_image
from detect.records import Box, Dataset, Image, Xyxy

SIDE, PLACE = 100, Path("labels")


def images(boxes: list[Xyxy]) -> list[Image]:
    return [Image(Path(f"{i}.png"), SIDE, SIDE, (Box("dent", box),)) for i, box in enumerate(boxes)]


def defects(count: int, *, by: tuple[int, int] = (0, 0), short: int = 0) -> list[Xyxy]:
    """Defects that reach over borders, cut there, then moved by a tool that keeps them inside the image."""
    rng = np.random.default_rng(0)
    boxes = []
    for x, y in rng.integers(-15, SIDE - 5, (count, 2)).tolist():
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + 20, SIDE), min(y + 20, SIDE)
        moved = max(x1 + by[0], 0), max(y1 + by[1], 0), min(x2 + by[0], SIDE) - short, min(y2 + by[1], SIDE) - short
        boxes.append(tuple(map(float, moved)))
    return boxes


def test_they_are_counted_by_image_and_side() -> None:
    corners = [(0.0, 5.0, 9.0, 60.0), (2.0, 1.0, 100.0, 9.0), (0.0, 9.0, 9.0, 18.0)]
    several = Image(Path("a.png"), SIDE, 60, tuple(Box("dent", each) for each in corners))
    found = borders([several, *images([(1.0, 40.0, 50.0, 60.0)]), Image(Path("b.png"), SIDE, SIDE, ())])
    assert found == {"x": Borders((2, 1), (1, 1)), "y": Borders((1, 1), (0, 1))}
    assert found["x"].shares == (0.5, 1.0)


def test_honest_labels_are_left_alone() -> None:
    assert check_borders(images(defects(600)), PLACE) == []


@pytest.mark.parametrize(("by", "offset"), [((-1, -1), "[-1,-1]"), ((0, -1), "[0,-1]"), ((1, 0), "[1,0]")])
def test_shifted_ones_are_told_with_their_direction(by: tuple[int, int], offset: str) -> None:
    shifted = images(defects(600, by=by))
    (finding,) = check_borders(shifted, PLACE)
    assert (finding.kind, finding.severity, finding.path) == (BESIDE, "warning", PLACE)
    assert finding.message.endswith(f"augment.label_offset_xy={offset}")
    low, high = (round(100 * share) for share in borders(shifted)["x"].shares)
    assert (f"the left border in {low} % and the right one in {high} %" in finding.message) == (by[0] != 0)
    assert ("the upper border in " in finding.message) == (by[1] != 0)


def test_boxes_without_their_last_pixel_are_told_too() -> None:
    (finding,) = check_borders(images(defects(600, short=1)), PLACE)
    assert "or to lack their last pixel" in finding.message


def test_few_images_prove_nothing() -> None:
    assert check_borders(images(defects(40, by=(-1, -1))), PLACE) == []
    assert check_borders([], PLACE) == []


def test_the_audit_names_the_place_of_the_labels(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    rng = np.random.default_rng(1)
    records = []
    for i, box in enumerate(defects(300, by=(-1, -1))):
        path = tmp_path / "raw" / f"{i}.png"
        write_image(path, rng.integers(0, 256, (SIDE, SIDE), np.uint8))
        records.append(Image(path, SIDE, SIDE, (Box("dent", box),)))
    coco.write({"train": Dataset(tuple(records), ("dent",))}, tmp_path)
    report = audit_sources([tmp_path / "train.json"])
    (finding,) = (each for each in report.findings if each.kind == BESIDE)
    assert finding.path == tmp_path / "train.json"
