"""COCO as CVAT and Label Studio export it, by layout and by what they write into it; and images given beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detect.datasets import coco
from detect.datasets.convert import audit_sources, convert
from detect.datasets.formats import recognise
from detect.datasets.paths import common_folder, last_part, leads_out
from detect.errors import DataError
from detect.structures import Box
from labelled_data import picture

NAMES = ["a.png", "b.png"]


def cvat(names: list[str], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """What CVAT 2 writes as COCO 1.0, key by key."""
    classes = ("rolled in", "dent")
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        "categories": [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(classes, 1)],
        "images": [
            {
                **{"id": i, "width": 64, "height": 48, "file_name": name},
                **{"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0},
            }
            for i, name in enumerate(names, 1)
        ],
        "annotations": [
            {
                **{"id": i, "image_id": 1, "category_id": 2, "segmentation": [], "area": 60.0, "iscrowd": 0},
                "attributes": {"occluded": False, "rotation": 0.0},
                **each,
            }
            for i, each in enumerate(annotations, 1)
        ],
    }


def label_studio(names: list[str | None], size: tuple[int | None, int | None] = (64, 48)) -> dict[str, Any]:
    """What Label Studio writes as COCO: ids from 0, ``ignore``, boxes as percentages made pixels again."""
    return {
        "images": [{"width": size[0], "height": size[1], "id": i, "file_name": name} for i, name in enumerate(names)],
        "categories": [{"id": 0, "name": "dent"}, {"id": 1, "name": "rolled in"}],
        "annotations": [
            {
                **{"id": 0, "image_id": 0, "category_id": 0, "segmentation": []},
                **{"bbox": [10.000000000000002, 4.8, 53.99999999999999, 12.000000000000002]},
                **{"ignore": 0, "iscrowd": 0, "area": 648.0},
            }
        ],
        "info": {"year": 2026, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""},
    }


def save(path: Path, data: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize("folder", ["images", "images/default"])
def test_a_cvat_export_with_images_is_read_by_its_folder(tmp_path: Path, folder: str) -> None:
    names = ["a.png", "coil 7/b.png"]
    save(tmp_path / "annotations" / "instances_default.json", cvat(names, [{"bbox": [1.5, 2, 10, 6]}]))
    for seed, name in enumerate(names):
        picture(tmp_path / folder / name, seed)
    assert recognise([tmp_path]) == "coco"
    dataset = coco.read(tmp_path)
    assert dataset.categories == ("rolled in", "dent")
    assert [image.path for image in dataset.images] == [tmp_path / folder / name for name in names]
    assert [image.boxes for image in dataset.images] == [(Box("dent", (1.5, 2, 11.5, 8)),), ()]


def test_a_cvat_export_without_images_says_what_is_missing_in_one_sentence(tmp_path: Path) -> None:
    file = save(tmp_path / "annotations" / "instances_default.json", cvat(NAMES, []))
    (missing,) = coco.scan([tmp_path]).findings
    assert (missing.kind, missing.severity, missing.path) == ("missing image", "error", file)
    assert "none of its 2 images is there (a.png was looked for in" in missing.message
    assert str(tmp_path / "images") in missing.message
    assert len(missing.others) == 2
    with pytest.raises(DataError, match=r"none of its 2 images.*name the images' folder, too"):
        coco.read(tmp_path)


def test_the_folder_of_the_images_is_given_as_another_source(tmp_path: Path) -> None:
    save(
        tmp_path / "export" / "annotations" / "instances_default.json",
        cvat(["a.png", "day 2/b.png"], [{"bbox": [1, 1, 4, 4]}]),
    )
    picture(tmp_path / "plant" / "a.png", 1)
    picture(tmp_path / "plant" / "line 3" / "b.png", 2)
    sources = [tmp_path / "export", tmp_path / "plant"]
    assert recognise(sources) == "coco"
    done = convert(sources, tmp_path / "out")
    assert [image.path.name for image in done.parts["all"].images] == NAMES
    assert [finding.kind for finding in done.findings if "plant" in finding.message] == ["image taken by name"]
    with pytest.raises(DataError, match="no JSON file of COCO's shape"):
        coco.scan([tmp_path / "plant"])


def test_objects_that_cvat_draws_other_than_as_boxes(tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES):
        picture(tmp_path / "images" / name, seed)
    annotations = [
        {"bbox": [20, 20, 20, 10], "attributes": {"occluded": True, "rotation": 90.0}},
        {"bbox": [0, 0, 20, 10], "attributes": {"occluded": False, "rotation": 30}},
        {"bbox": [1, 1, 4, 4], "segmentation": [[1, 1, 5, 1, 5, 5]]},
        {"bbox": [1, 1, 4, 4], "segmentation": {"counts": [3000, 72], "size": [48, 64]}, "iscrowd": 1},
    ]
    save(tmp_path / "annotations" / "instances_default.json", cvat(NAMES, annotations))
    reading = coco.scan([tmp_path])
    upright, cut, polygon, mask = reading.entries[0].image.boxes
    assert upright.xyxy == pytest.approx((25, 15, 35, 35))
    assert cut.xyxy == pytest.approx((0, 0, 10 + 10 * 3**0.5 / 2 + 2.5, 5 + 5 + 5 * 3**0.5 / 2))
    assert (polygon.xyxy, polygon.crowd, mask.crowd) == ((1, 1, 5, 5), False, True)
    assert [(f.kind, f.severity, f.message.partition(" ")[0]) for f in reading.findings] == [
        ("rotated boxes", "warning", "2"),
        ("outlines left out", "note", "2"),
        ("masks are crowd", "warning", "1"),
    ]


@pytest.mark.parametrize(
    ("told", "lies", "by_name"),
    [
        ("images/0a1b2c3d-plate.png", "images/0a1b2c3d-plate.png", False),
        ("images\\0a1b2c3d-plate.png", "images/0a1b2c3d-plate.png", False),
        ("/data/upload/1/0a1b2c3d-plate.png", "images/0a1b2c3d-plate.png", True),
        ("/data/upload/1/0a1b2c3d-plate.png", "images/plate.png", True),
        ("../../opt/media/upload/1/0a1b2c3d-plate.png", "images/0a1b2c3d-plate.png", True),
        ("C:\\Users\\ann\\media\\upload\\0a1b2c3d-plate.png", "images/0a1b2c3d-plate.png", True),
        ("/data/local-files/?d=coil%207/plate.png", "images/plate.png", True),
        ("https://host/bucket/coil%207/pl%20ate.png?token=1", "images/pl ate.png", True),
        ("s3://bucket/coil/plate.png", "plate.png", True),
    ],
)
def test_names_that_label_studio_tells(tmp_path: Path, told: str, lies: str, by_name: bool) -> None:
    picture(tmp_path / lies)
    file = save(tmp_path / "result.json", label_studio([told]))
    reading = coco.scan([tmp_path])
    assert [entry.image.path for entry in reading.entries] == [tmp_path / lies]
    assert [finding.kind for finding in reading.findings] == (["image taken by name"] if by_name else [])
    assert reading.entries[0].label_file == file
    assert reading.entries[0].image.boxes[0].xyxy == pytest.approx((10, 4.8, 64, 16.8))
    assert not audit_sources([tmp_path]).errors


def test_originals_are_found_below_a_folder_without_the_prefix_of_an_upload(tmp_path: Path) -> None:
    picture(tmp_path / "plant" / "deep" / "plate.png")
    save(tmp_path / "result.json", label_studio(["images/0a1b2c3d-plate.png"]))
    reading = coco.scan([tmp_path / "result.json", tmp_path / "plant"])
    assert [entry.image.path for entry in reading.entries] == [tmp_path / "plant" / "deep" / "plate.png"]


def test_a_folder_that_is_of_no_use_is_not_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / "export" / "images" / "a.png")
    save(tmp_path / "export" / "result.json", label_studio(["images/a.png"]))
    picture(tmp_path / "typo" / "b.png")
    with pytest.raises(DataError, match=r"typo: no JSON file of COCO's shape in it, and none of the images"):
        coco.scan([tmp_path / "export", tmp_path / "typo"])


def test_a_name_that_several_files_have_is_not_guessed(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        picture(tmp_path / "plant" / folder / "plate.png")
    save(tmp_path / "result.json", label_studio(["/data/upload/1/plate.png"]))
    (finding,) = coco.scan([tmp_path / "result.json", tmp_path / "plant"]).findings
    assert (finding.kind, finding.severity) == ("same name twice", "error")
    assert "2 files are named plate.png" in finding.message


def test_two_entries_never_share_an_image_by_name(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "plate.png")
    save(tmp_path / "result.json", label_studio(["day1/plate.png", "day2/plate.png"]))
    found = {finding.kind: finding for finding in coco.scan([tmp_path]).findings}
    assert found["same name twice"].severity == "error"
    assert "day1/plate.png and day2/plate.png both lead to" in found["same name twice"].message


def test_images_that_label_studio_has_not_seen_and_those_without_labels(tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES):
        picture(tmp_path / "images" / name, seed)
    save(tmp_path / "result.json", label_studio([f"images/{name}" for name in NAMES], size=(None, None)))
    reading = coco.scan([tmp_path])
    assert reading.findings == ()
    assert [len(entry.image.boxes) for entry in reading.entries] == [1, 0]


def test_a_project_whose_first_class_has_id_0_becomes_one_whose_ids_start_at_1(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    save(tmp_path / "result.json", label_studio(["images/a.png"]))
    done = convert([tmp_path], tmp_path / "out")
    written = json.loads(done.files["all"].read_text())
    assert [category["id"] for category in written["categories"]] == [1, 2]
    assert written["annotations"][0]["segmentation"] == []


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("a.png", "a.png"),
        ("x/y/a b.png", "a b.png"),
        ("x\\a.png", "a.png"),
        ("C:\\x\\a.png", "a.png"),
        ("http://h/x/a%20b.png?d2=1", "a b.png"),
        ("/data/local-files/?d=x/a.png", "a.png"),
        ("what?.png", "what?.png"),
        ("50%25.png", "50%25.png"),
    ],
)
def test_the_last_part_of_a_name(name: str, last: str) -> None:
    assert last_part(name) == last


def test_names_that_no_tool_knows() -> None:
    assert [leads_out(name) for name in ("../a.png", "/a.png", "C:\\a.png", "x\\..\\a.png", "x/a.png", "..a.png")] == [
        *[True] * 4,
        *[False] * 2,
    ]
    assert common_folder([]) is None
    assert common_folder([Path("/x/y/a.png"), Path("/x/z/b.png")]) == Path("/x")
