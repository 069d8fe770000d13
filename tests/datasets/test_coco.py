from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from detect.datasets import coco
from detect.errors import DataError
from detect.evaluation.summary import judge
from detect.structures import Box, Dataset, Image
from labelled_data import picture


def content(**changes: Any) -> dict[str, Any]:
    """A foreign file: ids with gaps, no info, no licences, no sizes, extra keys."""
    data = {
        "images": [{"id": 70, "file_name": "b.png", "date": "today"}, {"id": 7, "file_name": "a.png"}],
        "categories": [{"id": 18, "name": "scratch"}, {"id": 3, "name": "dent", "supercategory": "defect"}],
        "annotations": [
            {"id": 5, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10.5, 4]},
            {"id": 9, "image_id": 7, "category_id": 18, "bbox": [0, 0, 3, 3], "iscrowd": 1, "difficult": 1},
        ],
    }
    return data | changes


def saved(folder: Path, data: Any, name: str = "train.json") -> Path:
    for number, image in enumerate(["a.png", "b.png"]):
        picture(folder / image, number)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def test_a_foreign_file_is_read_with_its_own_order_of_images_and_categories(tmp_path: Path) -> None:
    dataset = coco.read(saved(tmp_path, content()))
    assert dataset.categories == ("scratch", "dent")
    assert [image.path for image in dataset.images] == [tmp_path / "b.png", tmp_path / "a.png"]
    assert [image.boxes for image in dataset.images] == [
        (),
        (Box("dent", (1, 2, 11.5, 6)), Box("scratch", (0, 0, 3, 3), difficult=True, crowd=True)),
    ]


def test_what_is_written(tmp_path: Path) -> None:
    boxes = (Box("scratch", (1.0, 2.0, 4.5, 4.0), difficult=True), Box("dent", (0.0, 0.0, 5.0, 5.0), crowd=True))
    images = (
        Image(tmp_path / "pics" / "ä 1.png", 64, 48, boxes),
        Image(tmp_path / "elsewhere" / "2.png", 10, 20),
    )
    data = coco.to_dict(Dataset(images, ("dent", "scratch")), tmp_path / "pics")
    assert {"info", "licenses"} <= set(data)
    assert data["categories"] == [
        {"id": 1, "name": "dent", "supercategory": ""},
        {"id": 2, "name": "scratch", "supercategory": ""},
    ]
    assert data["images"] == [
        {"id": 1, "file_name": "ä 1.png", "width": 64, "height": 48},
        {"id": 2, "file_name": "../elsewhere/2.png", "width": 10, "height": 20},
    ]
    shared = {"image_id": 1, "segmentation": []}
    assert data["annotations"] == [
        shared | {"id": 1, "category_id": 2, "bbox": [1, 2, 3.5, 2], "area": 7, "iscrowd": 0, "difficult": 1},
        shared | {"id": 2, "category_id": 1, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 1, "difficult": 0},
    ]


def test_pycocotools_accepts_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    image = Image(picture(tmp_path / "a.png"), 64, 48, (Box("dent", (1, 2, 4, 4)),))
    file = coco.write({"val": Dataset((image,), ("dent",))}, tmp_path / "out")["val"]
    judge = COCO(str(file))
    results = judge.loadRes([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 2], "score": 0.5}])
    assert len(results.anns) == 1


def test_references_hold_when_folders_are_links(tmp_path: Path) -> None:
    image = Image(picture(tmp_path / "store" / "deep" / "a.png"), 64, 48)
    (tmp_path / "link").symlink_to(tmp_path / "store" / "deep")
    (tmp_path / "out").symlink_to(tmp_path / "store")
    through = Image(tmp_path / "link" / "a.png", image.width, image.height)
    file = coco.write({"all": Dataset((through,), ())}, tmp_path / "out")["all"]
    assert json.loads(file.read_text())["images"][0]["file_name"] == "deep/a.png"
    assert coco.read(file).images[0].path.exists()


def test_a_relative_path_to_the_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, content())
    monkeypatch.chdir(tmp_path)
    assert coco.read(Path("train.json")).images[0].path.is_file()


@pytest.mark.parametrize(
    "place", ["images/{}", "../images/{}", "../{}", "../train2017/{}", "pics/{}", "pics\\{}"], ids=str
)
def test_images_are_found_where_coco_users_keep_them(tmp_path: Path, place: str) -> None:
    file = tmp_path / "annotations" / "instances_train2017.json"
    data = content()
    if place.startswith("pics"):
        for item in data["images"]:
            item["file_name"] = place.format(item["file_name"])
    file.parent.mkdir()
    file.write_text(json.dumps(data))
    for number, name in enumerate(["a.png", "b.png"]):
        picture(file.parent / place.format(name).replace("\\", "/"), number)
    assert [image.path.name for image in coco.read(file).images] == ["b.png", "a.png"]


def test_images_in_a_folder_that_is_told(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(content()))
    for name in ("a.png", "b.png"):
        picture(tmp_path / "far" / "away" / name)
    with pytest.raises(DataError, match=r"none of its 2 images is there \(b\.png was looked for"):
        coco.read(file)
    assert len(coco.read(file, images=tmp_path / "far" / "away").images) == 2


def changed(key: str, position: int, **fields: Any) -> dict[str, Any]:
    data = content()
    data[key][position] |= fields
    return data


def without(key: str, position: int, field: str) -> dict[str, Any]:
    data = content()
    del data[key][position][field]
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "can't be read"),
        ('{"images": [', "can't be read"),
        ("[" * 200_000, "nested too deeply|can't be read"),
        ("[1, 2]", "a list"),
        ({"images": [], "annotations": []}, "'categories' is missing"),
        (content(images={}), "images is an object"),
        (content(annotations=[3]), r"annotations\[0\] is a number \(3\)"),
        (changed("images", 0, id=" "), r"images\[0\]\.id is text \(' '\)"),
        (changed("images", 0, id=True), "truth value"),
        (changed("images", 0, id=7), r"images\[1\]\.id is 7, which an earlier one has"),
        (changed("categories", 0, id=3), r"categories\[1\]\.id is 3"),
        (changed("categories", 0, name="dent "), "both named 'dent'"),
        (without("images", 0, "id"), "missing, neither a whole number nor text"),
        (without("images", 0, "file_name"), r"images\[0\] has no file_name"),
        (without("categories", 0, "name"), r"categories\[0\] has no name"),
        (json.dumps(content()).replace("10.5", "9" * 5000), "can't be read|giant number"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, data: Any, words: str) -> None:
    file = saved(tmp_path, data)
    with pytest.raises(DataError, match=words) as caught:
        coco.load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert [finding.kind for finding in coco.scan([file]).findings] == ["unreadable label file"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed("annotations", 0, image_id=8), "image_id is 8, which none of the images has"),
        (changed("annotations", 0, category_id=1), "category_id is 1, which none of the categories has"),
        (without("annotations", 0, "bbox"), "bbox is missing"),
        (changed("annotations", 0, bbox=[1, 2, 3]), "bbox is a list"),
        (changed("annotations", 0, bbox=[1, 2, "3 px", 4]), "bbox holds text"),
        (changed("annotations", 0, bbox=[1, 2, math.nan, 4]), "bbox holds nan"),
        (changed("annotations", 0, bbox=[1, 2, math.inf, 4]), "bbox holds inf"),
        (json.dumps(content()).replace("10.5", "1e999"), "bbox holds inf"),
        (changed("annotations", 0, bbox=[1, 2, 10**400, 4]), "giant number"),
        (changed("annotations", 0, iscrowd=2), "iscrowd is 2"),
        (changed("annotations", 0, bbox=None, segmentation=[]), "bbox is missing, and so is its segmentation"),
        (changed("annotations", 0, bbox=None, segmentation=[["a", 1]]), "segmentation holds text"),
        (changed("annotations", 0, bbox=None, segmentation={"counts": 3, "size": [4, 4]}), "mask can't be read"),
        (changed("annotations", 0, bbox=None, segmentation={"counts": [16]}), "mask can't be read"),
        (changed("annotations", 0, bbox=None, segmentation="polygon"), "no polygon"),
    ],
)
def test_a_broken_annotation_is_named_with_its_image_and_costs_no_other(tmp_path: Path, data: Any, words: str) -> None:
    file = saved(tmp_path, data)
    with pytest.raises(DataError, match=words) as caught:
        coco.load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    reading = coco.scan([file])
    (finding,) = reading.findings
    assert (finding.kind, finding.severity) == ("broken object", "error")
    assert finding.image == (None if "image_id" in words else tmp_path / "a.png")
    assert [box.label for entry in reading.entries for box in entry.image.boxes] == ["scratch"]


def test_ids_and_numbers_may_be_text_and_what_boxes_do_not_need_may_be_anything(tmp_path: Path) -> None:
    plain = coco.read(saved(tmp_path, content()))
    data = content()
    for item in data["images"]:
        item |= {"id": str(item["id"]), "width": "64", "height": 48.0, "license": math.nan}
    for item in data["categories"]:
        item["id"] = float(item["id"])
    for item in data["annotations"]:
        item |= {"id": None, "image_id": f"{item['image_id']}", "category_id": str(item["category_id"])}
        item |= {"bbox": [str(value) for value in item["bbox"]], "area": math.nan, "score": None}
    data["annotations"][0]["iscrowd"] = None
    data["annotations"][1] |= {"iscrowd": "1", "difficult": True, "area": None}
    file = saved(tmp_path, data, "text.json")
    assert coco.read(file) == plain
    assert [item["id"] for item in coco.load(file)["images"]] == [70, 7]
    assert coco.load(file)["annotations"][0]["area"] == 42


def test_ids_that_are_no_numbers_stay_text_and_detections_follow(tmp_path: Path) -> None:
    data = content()
    names = {70: "0f8fad5b-d9cb-469f-a165-70867728950e", 7: 7}
    for item in data["images"]:
        item["id"] = names[item["id"]]
    for item in data["annotations"]:
        item["image_id"] = names[item["image_id"]]
    file = saved(tmp_path, data)
    assert [len(image.boxes) for image in coco.read(file).images] == [0, 2]
    truth = coco.load(file)
    assert [item["id"] for item in truth["images"]] == [names[70], "7"]
    found = [{"image_id": 7, "category_id": "3", "bbox": [1, 2, 10.5, 4], "score": 0.9}]
    found.append({"image_id": names[70], "category_id": 18.0, "bbox": [0, 0, 3, 3], "score": 0.8})
    results = coco.with_ids_of(found, *([item["id"] for item in truth[key]] for key in ("images", "categories")))
    assert [(item["image_id"], item["category_id"]) for item in results] == [("7", 3), (names[70], 18)]
    assert judge(truth, results).summary["per_class"]["dent"]["AP50"] == pytest.approx(1)


def test_an_annotation_without_a_box_gets_that_around_its_outline(tmp_path: Path) -> None:
    outlines = [
        [[1, 2, 11.5, 2, 6, 6]],
        [[1, 2, 4, 4, 2, 3], [11.5, 6, 8, 5, 9, 4]],
        [1, 2, 11.5, 2, 6, 6],
        {"size": [48, 64], "counts": [48 + 2, 4, 44, 4, 48 * 64 - 48 - 54]},
    ]
    for outline in outlines:
        data = changed("annotations", 0, bbox=[], segmentation=outline)
        reading = coco.scan([saved(tmp_path, data)])
        dent = reading.entries[1].image.boxes[0]
        assert dent.xyxy == pytest.approx((1, 2, 3, 6) if isinstance(outline, dict) else (1, 2, 11.5, 6))
        (finding,) = reading.findings
        assert (finding.kind, "became its enclosing box" in finding.message) == ("shapes converted", True)
    x, y, width, height = coco.load(tmp_path / "train.json")["annotations"][0]["bbox"]
    assert (x, y, width, height) == (1, 2, 2, 4)


def test_a_placeholder_of_the_project_is_no_class(tmp_path: Path) -> None:
    data = content()
    data["categories"].insert(0, {"id": 0, "name": "dent", "supercategory": "none"})
    file = saved(tmp_path, data)
    assert coco.read(file).categories == ("scratch", "dent")
    assert [item["id"] for item in coco.load(file)["categories"]] == [18, 3]
    data["annotations"].append({"id": 1, "image_id": 7, "category_id": 0, "bbox": [0, 0, 1, 1]})
    with pytest.raises(DataError, match="both named 'dent'"):
        coco.load(saved(tmp_path, data))
    every = [item | {"supercategory": "none"} for item in content()["categories"]]
    every[0]["id"] = 0  # a class like any other, though nothing here has it
    data = content(categories=every, annotations=content()["annotations"][:1])
    assert coco.read(saved(tmp_path, data)).categories == ("scratch", "dent")


def test_a_missing_file_and_a_byte_order_mark(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        coco.load(tmp_path / "none.json")
    file = saved(tmp_path, "\ufeff" + json.dumps(content()))
    assert len(coco.load(file)["images"]) == 2


def test_boxes_without_area_are_kept_for_the_audit_and_refused_when_read_strictly(tmp_path: Path) -> None:
    file = saved(tmp_path, changed("annotations", 0, bbox=[1, 2, 0, 4]))
    assert len(coco.scan([file]).entries[1].image.boxes) == 2
    with pytest.raises(DataError, match=r"box 1 \(dent\) of a\.png has no area"):
        coco.read(file)


def test_sizes_that_the_file_tells_are_compared_with_the_headers(tmp_path: Path) -> None:
    file = saved(tmp_path, changed("images", 0, width=640, height=480))
    reading = coco.scan([file])
    assert [(f.kind, f.severity) for f in reading.findings] == [("size mismatch", "warning")]
    assert (reading.entries[0].image.width, reading.entries[0].image.height) == (64, 48)


def test_a_folder_gives_each_file_as_a_part_and_passes_over_other_json(tmp_path: Path) -> None:
    saved(tmp_path, content(), "train.json")
    saved(tmp_path, content(images=[], annotations=[]), "val.json")
    (tmp_path / "audit.json").write_text('{"findings": []}')
    reading = coco.scan([tmp_path])
    assert [entry.part for entry in reading.entries] == ["train", "train"]
    assert reading.categories == ("scratch", "dent")
    assert len(coco.read(tmp_path).images) == 2


def test_writing_replaces_an_older_file_and_leaves_no_other(tmp_path: Path) -> None:
    image = Image(picture(tmp_path / "a.png"), 64, 48)
    for images in ((image, image), (image,)):
        coco.write({"all": Dataset(images, ())}, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["all.json"]
    assert len(coco.load(tmp_path / "out" / "all.json")["images"]) == 1
