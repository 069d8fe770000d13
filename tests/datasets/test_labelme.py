from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detect.datasets import labelme
from detect.datasets.formats import recognise
from detect.errors import DataError
from detect.structures import Box, Dataset, Image
from labelled_data import picture


def shape(label: object = "dent", points: object = None, kind: object = "rectangle", **more: Any) -> dict[str, Any]:
    points = [[30.5, 40.0], [10.25, 4.0]] if points is None else points
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def saved(path: Path, *shapes: object, image: str | None = None, **changes: Any) -> Path:
    """A file as LabelMe 5 writes it."""
    data = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image or f"{path.stem}.png",
        "imageData": None,
        "imageHeight": 48,
        "imageWidth": 64,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data | changes), encoding="utf-8")
    return path


def test_rectangles_drawn_from_any_corner(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    corners = [[1.0, 2.0], [5.0, 2.0], [5.0, 9.0], [1.0, 9.0]]
    flags = {"difficult": True, "crowd": True, "wet": True}
    saved(
        tmp_path / "a.json",
        shape(" rolled\n in "),
        shape(points=corners, difficult=True, score=0.5),
        shape(flags=flags, score="high"),
    )
    reading = labelme.scan([tmp_path])
    assert reading.findings == ()
    assert reading.entries[0].image == Image(
        tmp_path / "a.png",
        64,
        48,
        (
            Box("rolled in", (10.25, 4, 30.5, 40)),
            Box("dent", (1, 2, 5, 9), difficult=True, score=0.5),
            Box("dent", (10.25, 4, 30.5, 40), difficult=True, crowd=True),
        ),
    )
    assert labelme.read(tmp_path / "a.json") == labelme.read(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (shape(kind="line"), "dent is a line, which has no area"),
        (shape(kind="points"), "dent is a points, which has no area"),
        (shape(kind="star"), "dent is a star, which is not read"),
        (shape(kind="circle", points=[[1, 2]]), "not the two of a circle"),
        (shape(points=[[1, 2]]), "not the two of a rectangle"),
        (shape(points=[]), "not pairs of x and y"),
        (shape(points=[[1, 2], [3, "4"]]), "not pairs of x and y"),
        (shape(points=[[1, 2], [3, float("1e300")]]), "not pairs of x and y"),
        (shape(label=" "), "no label"),
        (shape(label=None), "no label"),
        ("dent", "it is text ('dent'), not an object"),
    ],
)
def test_a_shape_without_area_costs_only_itself(tmp_path: Path, wrong: object, words: str) -> None:
    picture(tmp_path / "a.png")
    saved(tmp_path / "a.json", shape(), wrong)
    reading = labelme.scan([tmp_path])
    assert [(f.kind, f.severity) for f in reading.findings] == [("broken object", "error")]
    assert reading.findings[0].message.startswith("shape 2: ")
    assert words in reading.findings[0].message
    assert len(reading.entries[0].image.boxes) == 1


@pytest.mark.parametrize(
    ("form", "points", "xyxy", "became"),
    [
        ("polygon", [[5, 4], [30, 10], [12, 40]], (5, 4, 30, 40), "1 polygon became its enclosing box"),
        (None, [[5, 4], [30, 10], [12, 40]], (5, 4, 30, 40), "1 polygon became"),
        ("circle", [[20, 20], [23, 24]], (15, 15, 25, 25), "1 circle became"),
        ("circle", [[3, 20], [3, 25]], (0, 15, 8, 25), "1 circle became"),
        ("mask", [[5, 4], [30, 40]], (5, 4, 30, 40), "1 mask became"),
        ("rotation", [[10, 2], [14, 0], [16, 4], [12, 6]], (10, 0, 16, 6), "1 rotated box became"),
        ("oriented_rectangle", [[10, 2], [14, 0], [16, 4], [12, 6]], (10, 0, 16, 6), "1 rotated box became"),
        ("rectangle", [[10, 2], [14, 0], [16, 4], [12, 6]], (10, 0, 16, 6), "1 rotated box became"),
    ],
)
def test_other_shapes_become_their_enclosing_boxes(
    tmp_path: Path, form: str | None, points: list[list[float]], xyxy: tuple[float, ...], became: str
) -> None:
    picture(tmp_path / "a.png")
    saved(tmp_path / "a.json", shape(kind=form, points=points))
    reading = labelme.scan([tmp_path])
    assert [box.xyxy for box in reading.entries[0].image.boxes] == [xyxy]
    (finding,) = reading.findings
    assert (finding.kind, finding.severity) == ("shapes converted", "note")
    assert became in finding.message


@pytest.mark.parametrize("name", ["", "a", "notes.txt", "a.json", None, 3, "C:\\pictures\\"])
def test_a_name_of_no_image_means_the_image_beside_the_file(tmp_path: Path, name: object) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("the rolls were changed")
    saved(tmp_path / "a.json", shape(), imagePath=name)
    assert labelme.read(tmp_path).images[0].path == tmp_path / "a.png"
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    (finding, unlabelled) = labelme.scan([tmp_path]).findings
    assert (finding.kind, unlabelled.kind) == ("unreadable label file", "image without label file")
    assert "names no image, and there is none in its folder" in finding.message


@pytest.mark.parametrize("image", ["../pictures/a.png", "..\\pictures\\a.png", "C:\\then\\a.png", "gone/a.png"])
def test_images_beside_elsewhere_and_after_a_move(tmp_path: Path, image: str) -> None:
    picture(tmp_path / "pictures" / "a.png")
    saved(tmp_path / "labels" / "a.json", shape(), image=image)
    assert labelme.read(tmp_path).images[0].path.resolve() == (tmp_path / "pictures" / "a.png").resolve()


def test_a_renamed_pair_stays_a_pair(tmp_path: Path) -> None:
    picture(tmp_path / "plate_7.bmp")
    saved(tmp_path / "plate_7.json", shape(), image="a.png")
    assert labelme.read(tmp_path).images[0].path == tmp_path / "plate_7.bmp"


def test_what_belongs_to_nothing_is_an_error(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "x/c.png", "y/c.png"):
        picture(tmp_path / name, len(name))
    saved(tmp_path / "a.json", shape())
    saved(tmp_path / "again.json", shape(), image="a.png")
    saved(tmp_path / "gone.json", shape())
    saved(tmp_path / "z" / "c.json", shape())
    (tmp_path / "broken.json").write_text('{"shapes": [], "imagePath": ')
    saved(tmp_path / "nameless.json", imagePath="")
    saved(tmp_path / "shapeless.json", shapes=3)
    found = {(f.kind, f.path.name): f.message for f in labelme.scan([tmp_path]).findings}
    assert set(found) == {
        ("same name twice", "again.json"),
        ("missing image", "gone.png"),
        ("unreadable label file", "c.json"),
        ("unreadable label file", "broken.json"),
        ("unreadable label file", "nameless.json"),
        ("unreadable label file", "shapeless.json"),
        ("image without label file", "b.png"),
        ("image without label file", "c.png"),
    }
    assert "2 others have that name" in found["unreadable label file", "c.json"]


def test_a_size_that_the_image_has_not(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    saved(tmp_path / "a.json", shape(), imageWidth=48, imageHeight=64)
    (told,) = labelme.scan([tmp_path]).findings
    assert (told.kind, "turned by its rotation flag" in told.message) == ("size mismatch", True)


def test_what_is_written(tmp_path: Path) -> None:
    boxes = (Box("dent", (1.0, 2.0, 4.5, 4.0), difficult=True), Box("rolled in", (0, 0, 5, 5), score=0.875))
    one = Image(picture(tmp_path / "x" / "a.png", 1), 64, 48, boxes)
    two = Image(picture(tmp_path / "y" / "a.png", 2), 64, 48)
    out = tmp_path / "out"
    assert labelme.write({"train": Dataset((one, two), ("dent", "rolled in"))}, out) == {"train": out / "train"}
    assert sorted(path.name for path in (out / "train").iterdir()) == ["x_a.json", "x_a.png", "y_a.json", "y_a.png"]
    data = json.loads((out / "train" / "x_a.json").read_text())
    assert (data["imagePath"], data["imageData"], data["imageWidth"], data["imageHeight"]) == ("x_a.png", None, 64, 48)
    assert [(each["points"], each["flags"], each["description"], each.get("score")) for each in data["shapes"]] == [
        ([[1, 2], [4.5, 4]], {"difficult": True}, "", None),
        ([[0, 0], [5, 5]], {}, "score 0.875", 0.875),
    ]
    assert [image.boxes for image in labelme.read(out).images] == [boxes, ()]
    with pytest.raises(DataError, match="not empty"):
        labelme.write({"train": Dataset((two,), ())}, out)


def test_recognised_by_content(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    file = saved(tmp_path / "deep" / "a.json", image="../a.png")
    assert recognise([file]) == recognise([tmp_path]) == "labelme"
    with pytest.raises(DataError, match="no LabelMe file"):
        labelme.scan([picture(tmp_path / "pictures" / "b.png").parent])
