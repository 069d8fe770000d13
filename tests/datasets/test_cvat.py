"""CVAT's own XML: shapes that become enclosing boxes, and mistakes that are named while the rest is read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from detect.datasets import cvat
from detect.datasets.convert import convert
from detect.datasets.reading import Reading
from detect.errors import DataError
from detect.images import write_image

BOX = '<box label="dent" xtl="1" ytl="2" xbr="11" ybr="12"/>'


def read(folder: Path, *images: str, root: str = "annotations") -> Reading:
    for name in {"a.png", *re.findall(r'name="(\w\.png)"', "".join(images))}:
        write_image(folder / name, np.zeros((40, 60), np.uint8))
    (folder / "annotations.xml").write_text(f"<{root}>{''.join(images)}</{root}>")
    return cvat.scan([folder])


def image(shapes: str, name: str = "a.png", size: str = 'width="60" height="40"', subset: str = "") -> str:
    return f'<image id="0" name="{name}" subset="{subset}" {size}>{shapes}</image>'


def boxes(reading: Reading) -> list[tuple[str, tuple[float, ...]]]:
    return [(box.label, box.xyxy) for entry in reading.entries for box in entry.image.boxes]


CUBOID = " ".join(f'x{i}="{x}" y{i}="{y}"' for i, (x, y) in enumerate([(5, 6), (5, 20), (25, 7), (25, 21), (30, 4)]))
SKELETON = (
    '<skeleton label="dent"><points outside="0" points="3,4"/><points outside="1" points="50,30"/>'
    '<points outside="0" points="10,12"/></skeleton>'
)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (f'<cuboid label="dent" {CUBOID}/>', (5, 4, 30, 21)),
        (SKELETON, (3, 4, 10, 12)),
        ('<mask label="dent" left="4" top="5" width="6" height="7" rle="42"/>', (4, 5, 10, 12)),
        ('<ellipse label="dent" cx="20" cy="20" rx="5" ry="3"/>', (15, 17, 25, 23)),
    ],
    ids=["cuboid", "skeleton", "mask", "ellipse"],
)
def test_a_shape_becomes_its_enclosing_box(tmp_path: Path, shape: str, box: tuple[float, ...]) -> None:
    reading = read(tmp_path, image(shape))
    assert boxes(reading) == [("dent", box)]
    assert [finding.severity for finding in reading.findings] == ["note"]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<box xtl="1" ytl="2" xbr="11" ybr="12"/>', "the <box> has no label"),
        ('<mask label="dent" left="x" top="5" width="6" height="7"/>', "left of the <mask>"),
        ('<box label="dent" xtl="1" ytl="2" xbr="" ybr="12"/>', "xbr of the <box>"),
    ],
)
def test_a_wrong_shape_is_named_and_the_others_are_read(tmp_path: Path, shape: str, message: str) -> None:
    reading = read(tmp_path, image(shape + BOX))
    (error,) = (finding for finding in reading.findings if finding.severity == "error")
    assert message in error.message
    assert boxes(reading) == [("dent", (1, 2, 11, 12))]


def test_an_image_without_a_name_is_an_error(tmp_path: Path) -> None:
    reading = read(tmp_path, image(BOX), image(BOX, name=" "))
    (error,) = (finding for finding in reading.findings if finding.severity == "error")
    assert "an <image> has no name" in error.message
    assert [entry.image.path.name for entry in reading.entries] == ["a.png"]


def test_tags_of_images_are_counted_as_left_out(tmp_path: Path) -> None:
    reading = read(tmp_path, image('<tag label="night"/><tag label="wet"/>' + BOX), image(BOX, name="b.png"))
    (note,) = reading.findings
    assert (note.kind, note.severity) == ("image tags left out", "note")
    assert note.message.startswith("2 tags")
    assert len(boxes(reading)) == 2


def test_a_size_that_is_no_number_is_a_mismatch(tmp_path: Path) -> None:
    reading = read(tmp_path, image(BOX, size='width="wide" height="40"'))
    assert [finding.kind for finding in reading.findings] == ["size mismatch"]
    assert boxes(reading) == [("dent", (1, 2, 11, 12))]


def test_a_folder_without_cvat_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no CVAT file in it"):
        read(tmp_path, root="labels")
    with pytest.raises(DataError, match="its outermost element is <labels>, not <annotations>"):
        cvat.read(tmp_path / "annotations.xml")


@pytest.mark.parametrize(
    ("subset", "target", "why"),
    [
        ("../../escaped", "coco", "it is a path"),
        ("../../escaped", "yolo", "it is a path"),
        ("C:\\escaped", "voc", "it is a path"),
        ("audit", "coco", "coco files use the name"),
        ("names", "yolo", "yolo files use the name"),
    ],
)
def test_a_part_can_not_be_written_outside_or_over_other_files(
    tmp_path: Path, subset: str, target: str, why: str
) -> None:
    (tmp_path / "in").mkdir()
    read(tmp_path / "in", image(BOX, subset="train"), image(BOX, name="b.png", subset=subset))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=f"a part can't be named .*: {why}"):
        convert([tmp_path / "in"], tmp_path / "deep" / "out", target=target)
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == []
