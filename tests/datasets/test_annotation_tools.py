"""What annotation tools make of pre-annotations and label issues, and we of their exports, with their own code.

Each test is skipped where its tool is not installed: ``pip install datumaro label-studio-sdk labelme supervision
fiftyone`` into an environment of its own that has this library too, then
``pytest tests/datasets/test_annotation_tools.py -rs``.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.datasets import coco
from detect.datasets.formats import FORMATS, pre_annotate, write_pre_annotations
from detect.evaluation.label_issues import find_label_issues
from detect.report.label_issues import write_label_issues
from detect.structures import Detections, Image
from evaluation_cases import evaluated, issue_case
from labelled_data import picture

pytestmark = pytest.mark.filterwarnings("ignore")  # other people's code warns as it likes

CATEGORIES = ("dent", "rolled in")
DOCS = Path(__file__).resolve().parents[2] / "docs" / "exchange.md"


@pytest.fixture
def pre_annotated(tmp_path: Path) -> list[Image]:
    """Three images in subfolders, the last without a detection."""
    found = [[(1, 2.25, 20.5, 30.12, 0.875, 1), (0, 0, 64, 48, 0.5, 2)], [(3.5, 4, 9.75, 40, 0.625, 2)], []]
    images = []
    for i, (name, each) in enumerate(zip(("coil 1/a.png", "coil 2/a.png", "coil 2/b.png"), found)):
        rows = np.array(each, dtype=np.float32).reshape(-1, 6)
        detections = Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64), CATEGORIES)
        images.append(pre_annotate(picture(tmp_path / "new" / name, i), 64, 48, detections))
    return images


@pytest.fixture
def pre_annotations_json(pre_annotated: list[Image], tmp_path: Path) -> Path:
    return write_pre_annotations(pre_annotated, CATEGORIES, "coco", tmp_path / "out", description="pre-annotations")[0]


@pytest.fixture
def doubts_json(tmp_path: Path) -> Path:
    """A label issue of each reason, about labels whose names lead out of their folder."""
    here, there = (10.0, 10.0, 60.0, 60.0), (100.0, 100.0, 160.0, 150.0)
    labels = [(1, "scratches", there), (2, "inclusion", here), (3, "patches", (10.0, 10.0, 60.0, 90.0))]
    found = [(1, "patches", here, 0.9), (2, "scratches", here, 0.9), (3, "patches", (10.0, 10.0, 60.0, 45.0), 0.9)]
    truth, results = issue_case(labels, found)
    for each in truth["images"]:
        each["file_name"] = f"../plant/{each['id']}.png"
        picture(tmp_path / "plant" / f"{each['id']}.png", each["id"], 200, 200)
    pictures = {each["id"]: tmp_path / "plant" / f"{each['id']}.png" for each in truth["images"]}
    return write_label_issues(
        find_label_issues(evaluated(truth, results)), truth, tmp_path / "label_issues", pictures=pictures
    ).coco


def expected(images: list[Image]) -> dict[str, list[tuple[Any, ...]]]:
    """Name from the common folder on -> label and corners of each box."""
    return {f"{i.path.parent.name}/{i.path.name}": [(b.label, *b.xyxy) for b in i.boxes] for i in images}


def datumaro_data_set(json_file: Path, images: Path, root: Path) -> Any:
    """The JSON in the layout that datumaro asks for, as it reads it."""
    datumaro = pytest.importorskip("datumaro")
    (root / "annotations").mkdir(parents=True)
    shutil.copy(json_file, root / "annotations" / "instances_default.json")
    shutil.copytree(images, root / "images")
    return datumaro.Dataset.import_from(str(root), "coco_instances")


def boxes_of(data_set: Any) -> dict[str, list[tuple[Any, ...]]]:
    import datumaro

    names = [each.name for each in data_set.categories()[datumaro.AnnotationType.label].items]
    return {
        f"{item.id}.png": [
            (names[a.label], *(round(v, 2) for v in a.points)) for a in sorted(item.annotations, key=lambda a: a.id)
        ]
        for item in data_set
    }


def test_datumaro_reads_pre_annotations(pre_annotations_json: Path, pre_annotated: list[Image], tmp_path: Path) -> None:
    data_set = datumaro_data_set(pre_annotations_json, tmp_path / "new", tmp_path / "task")
    assert boxes_of(data_set) == expected(pre_annotated)
    scores = [a.attributes["score"] for item in data_set for a in item.annotations]
    assert sorted(scores) == [0.5, 0.625, 0.875]


def test_datumaro_reads_label_issues_with_their_reasons(doubts_json: Path, tmp_path: Path) -> None:
    data_set = datumaro_data_set(doubts_json, tmp_path / "plant", tmp_path / "task")
    written = json.loads(doubts_json.read_text())
    told = {a.id: a.attributes for item in data_set for a in item.annotations}
    assert {each["id"]: each["reason"] for each in written["annotations"]} == {i: a["reason"] for i, a in told.items()}
    assert {a["reason"] for a in told.values()} == {"missing", "wrong class", "badly drawn", "not found"}
    assert all(a["note"] and 0 <= a["score"] <= 1 for a in told.values())
    assert {item.id for item in data_set} == {"1", "2", "3"}


def test_datumaro_reads_pre_annotations_in_yolo(pre_annotated: list[Image], tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    place = write_pre_annotations(pre_annotated, CATEGORIES, "yolo", tmp_path / "out", description="pre-annotations")[0]
    found = boxes_of(datumaro.Dataset.import_from(str(place), "yolo"))
    assert {name.replace("_", "/"): boxes for name, boxes in found.items()} == {
        **{name: boxes for name, boxes in expected(pre_annotated).items() if boxes},
        "b.png": [],
    }


def test_datumaro_reads_pre_annotations_in_voc_a_pixel_beside(pre_annotated: list[Image], tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    place = write_pre_annotations(pre_annotated, CATEGORIES, "voc", tmp_path / "out", description="pre-annotations")[0]
    shutil.move(place / "ANNOTATIONS", place / "Annotations")
    shutil.move(place / "IMAGES", place / "JPEGImages")
    (place / "ImageSets" / "Main").mkdir(parents=True)
    stems = [path.stem for path in (place / "Annotations").glob("*.xml")]
    (place / "ImageSets" / "Main" / "default.txt").write_text("\n".join(stems))
    (place / "labelmap.txt").write_text("".join(f"{name}:::\n" for name in CATEGORIES))
    data_set = datumaro.Dataset.import_from(str(place), "voc_detection")
    (box,) = [a for item in data_set for a in item.annotations if item.id == "coil 2_a"]
    assert list(box.points) == [5, 5, 10, 40]  # 1-based corners taken as they stand: 4, 4, 10, 40 is meant
    assert float(box.attributes["score"]) == 0.625


def test_an_export_of_datumaro_is_read(pre_annotated: list[Image], tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    from datumaro.components.media import Image as Media

    items = [
        datumaro.DatasetItem(
            id=f"{image.path.parent.name}/{image.path.stem}",
            media=Media.from_file(path=str(image.path)),
            annotations=[
                datumaro.Bbox(x1, y1, x2 - x1, y2 - y1, label=CATEGORIES.index(box.label))
                for box in image.boxes
                for x1, y1, x2, y2 in [box.xyxy]
            ],
        )
        for image in pre_annotated
    ]
    mask = np.zeros((48, 64), dtype=bool)
    mask[3:9, 5:20] = True
    items[2].annotations = [
        datumaro.Polygon([1, 1, 9, 1, 9, 7], label=0),
        datumaro.Mask(mask, label=1),
    ]
    data_set = datumaro.Dataset.from_iterable(items, categories=list(CATEGORIES))
    data_set.export(str(tmp_path / "export"), "coco_instances", save_media=True)
    reading = coco.scan([tmp_path / "export"])
    found = {f"{e.image.path.parent.name}/{e.image.path.name}": e.image.boxes for e in reading.entries}
    drawn = found.pop("coil 2/b.png")
    assert {name: [(b.label, *b.xyxy) for b in boxes] for name, boxes in found.items()} == expected(pre_annotated[:2])
    assert [(b.label, b.crowd) for b in drawn] == [("dent", False), ("rolled in", True)]
    assert [b.xyxy for b in drawn] == [pytest.approx((1, 1, 9, 7)), pytest.approx((5, 3, 20, 9), abs=1)]
    assert {f.kind for f in reading.findings} == {"outlines left out", "masks are crowd"}


def label_studio_tasks(json_file: Path, folder: Path) -> list[dict[str, Any]]:
    imports = pytest.importorskip("label_studio_sdk.converter.imports.coco")
    imports.convert_coco_to_ls(str(json_file), str(folder / "tasks.json"), out_type="predictions")
    tasks: list[dict[str, Any]] = json.loads((folder / "tasks.json").read_text())
    return tasks


def rectangles(task: dict[str, Any]) -> list[tuple[Any, ...]]:
    boxes = []
    for each in task["predictions"][0]["result"]:
        value, width, height = each["value"], each["original_width"] / 100, each["original_height"] / 100
        x, y, w, h = (value["x"] * width, value["y"] * height, value["width"] * width, value["height"] * height)
        boxes.append((value["rectanglelabels"][0], *(round(v, 2) for v in (x, y, x + w, y + h))))
    return boxes


def test_label_studio_reads_pre_annotations(
    pre_annotations_json: Path, pre_annotated: list[Image], tmp_path: Path
) -> None:
    tasks = label_studio_tasks(pre_annotations_json, tmp_path)
    assert [rectangles(task) for task in tasks] == list(expected(pre_annotated).values())
    assert [task["data"]["image"] for task in tasks] == [
        f"/data/local-files/?d={name}".replace(" ", "%20") for name in expected(pre_annotated)
    ]


def test_label_studio_reads_label_issues(doubts_json: Path, tmp_path: Path) -> None:
    tasks = label_studio_tasks(doubts_json, tmp_path)
    boxes = {task["data"]["image"]: rectangles(task) for task in tasks}
    written = coco.read(doubts_json)
    assert boxes == {
        f"/data/local-files/?d={image.path.name}": [(b.label, *b.xyxy) for b in image.boxes] for image in written.images
    }


@pytest.mark.parametrize("downloaded", [True, False])
def test_an_export_of_label_studio_is_read(
    pre_annotations_json: Path, pre_annotated: list[Image], tmp_path: Path, downloaded: bool
) -> None:
    converter = pytest.importorskip("label_studio_sdk.converter")
    tasks = label_studio_tasks(pre_annotations_json, tmp_path)
    for number, (task, image) in enumerate(zip(tasks, pre_annotated)):
        name = f"0a1b2c3{number}-{image.path.parent.name}_{image.path.name}".replace(" ", "_")
        (tmp_path / "export" / "images").mkdir(parents=True, exist_ok=True)
        shutil.copy(image.path, tmp_path / "export" / "images" / name)
        local = str(tmp_path / "export" / "images" / name)
        task |= {"id": number, "data": {"image": local if downloaded else f"/data/upload/1/{name}"}}
        task["annotations"] = task.pop("predictions") if image.boxes else []
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    config = re.sub(
        r"<PolygonLabels.*?</PolygonLabels>", "", (tmp_path / "tasks.label_config.xml").read_text(), flags=re.S
    )
    export = converter.Converter(config, project_dir=str(tmp_path), download_resources=False)
    export.convert_to_coco(str(tmp_path / "tasks.json"), str(tmp_path / "export"), is_dir=False)
    reading = coco.scan([tmp_path / "export"])
    assert not [finding for finding in reading.findings if finding.severity == "error"]
    assert [[(b.label, *(round(v, 2) for v in b.xyxy)) for b in e.image.boxes] for e in reading.entries] == list(
        expected(pre_annotated).values()
    )


def test_labelme_opens_pre_annotations_and_we_what_it_saves(pre_annotated: list[Image], tmp_path: Path) -> None:
    labelme = pytest.importorskip("labelme")
    place = write_pre_annotations(
        pre_annotated, CATEGORIES, "labelme", tmp_path / "out", description="pre-annotations"
    )[0]
    for path in sorted(place.glob("*.json")):
        file = labelme.LabelFile(str(path))
        shapes = [{**shape, **shape.pop("other_data")} for shape in file.shapes]
        for shape in shapes:
            shape.pop("mask")
        file.save(str(path), shapes, Path(file.image_path).name, 48, 64)
    read = FORMATS["labelme"].read(place)
    saved = {image.path.read_bytes(): image.boxes for image in read.images}
    assert saved == {image.path.read_bytes(): image.boxes for image in pre_annotated}


def test_fiftyone_reads_pre_annotations(
    pre_annotations_json: Path, pre_annotated: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIFTYONE_DISABLE_SERVICES", "1")  # its importer needs no database
    readers = pytest.importorskip("fiftyone.utils.coco")
    importer = readers.COCODetectionDatasetImporter(
        data_path=str(tmp_path / "new"), labels_path=str(pre_annotations_json), label_types=["detections"]
    )
    with importer:
        read = {path: labels.detections if labels else [] for path, _, labels in importer}
    assert {
        Path(path).read_bytes(): [(each.label, each.confidence) for each in found] for path, found in read.items()
    } == {image.path.read_bytes(): [(box.label, box.score) for box in image.boxes] for image in pre_annotated}
    for path, found in read.items():
        (image,) = (each for each in pre_annotated if each.path.read_bytes() == Path(path).read_bytes())
        for one, box in zip(found, image.boxes):
            x1, y1, x2, y2 = box.xyxy
            assert one.bounding_box == pytest.approx([x1 / 64, y1 / 48, (x2 - x1) / 64, (y2 - y1) / 48])


def snippet(title: str) -> str:
    """The Python block under a heading of docs/exchange.md."""
    found = re.search(rf"## {title}\n.*?```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.S)
    assert found, f"docs/exchange.md has no Python under {title}"
    return found[1]


def test_the_recipe_for_supervision(
    tmp_path: Path, pre_annotated: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervision = pytest.importorskip("supervision")

    class FakePredictor:
        def __call__(self, image: Any, threshold: float = 0) -> Detections:
            boxes = np.array([[1, 2, 20, 30], [3, 4, 9, 40]], np.float32)
            return Detections(boxes, np.array([0.9, 0.6], np.float32), np.array([2, 1]), CATEGORIES).above(threshold)

    monkeypatch.setattr("detect.inference.predictor.Predictor.load", lambda path: FakePredictor())
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "new" / "plate_0412.png")
    write_pre_annotations(
        pre_annotated, CATEGORIES, "coco", tmp_path / "pre_annotations", description="pre-annotations"
    )
    names: dict[str, Any] = {}
    exec(snippet("supervision"), names)
    assert isinstance(names["found"], supervision.Detections)
    assert names["found"].data["class_name"].tolist() == ["rolled in", "dent"]
    assert names["found"].class_id.tolist() == [1, 0]
    assert len(names["pre-annotate"]) == 3
    assert sorted(len(each) for _, _, each in names["pre-annotate"]) == [0, 1, 2]
