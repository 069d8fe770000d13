"""Detections as pre-annotations: in every format, by both verbs, with nothing lost, moved or replaced on the way."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.datasets.convert import audit_sources
from detect.datasets.formats import CSV_COLUMNS, FORMATS, WRITERS, pre_annotate, write_pre_annotations
from detect.errors import DataError
from detect.structures import Box, Dataset, Detections, Image
from labelled_data import picture

CATEGORIES = ("rolled in", "dent")
Run = Callable[..., Any]

BOTH_WAYS = [name for name in FORMATS if name in WRITERS]


def detections(*found: tuple[float, float, float, float, float, int]) -> Detections:
    """Each of x1, y1, x2, y2, score and label from 1 on."""
    rows = np.array(found, dtype=np.float32).reshape(-1, 6)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64), CATEGORIES)


def pre_annotated(root: Path) -> list[Image]:
    """Images in subfolders, two of one stem; the last without a detection."""
    found = [
        detections((1.004, 2.25, 20.5, 30.125, 0.87654, 2), (0, 0, 64, 48, 0.5, 1)),
        detections((63.6, 47.7, 64, 48, 0.75, 2)),
        detections(),
    ]
    names = ("coil 1/a.png", "coil 2/a.png", "coil 2/b.png")
    return [pre_annotate(picture(root / name, i), 64, 48, each) for i, (name, each) in enumerate(zip(names, found))]


def write(images: list[Image], target: str, out: Path, **options: Any) -> Path:
    return write_pre_annotations(images, CATEGORIES, target, out, description="pre-annotations", **options)[0]


def read(target: str, place: Path) -> Dataset:
    return FORMATS[target].read(place)


def test_boxes_are_cut_at_the_borders_and_rounded() -> None:
    found = detections((-3, -2, 10.004, 70, 0.123456, 1), (70, 2, 80, 9, 0.9, 1), (5, 5, 5.001, 9, 0.9, 2))
    assert pre_annotate(Path("a.png"), 64, 48, found).boxes == (Box("rolled in", (0, 0, 10, 48), score=0.1235),)


@pytest.mark.parametrize("target", BOTH_WAYS)
def test_pre_annotations_are_read_back_unchanged(tmp_path: Path, target: str) -> None:
    images = pre_annotated(tmp_path / "new")
    place = write(images, target, tmp_path / "out", scores=target == "yolo")
    kept = read(target, place)
    precision = {"voc": 0.5, "coco": 1e-9, "yolo": 1e-6, "labelme": 0}[target]
    assert len(kept.images) == 3
    by_pixels = {image.path.read_bytes(): image for image in kept.images}
    for image in images:
        again = by_pixels[image.path.read_bytes()].boxes
        assert [(box.label, box.score) for box in again] == [(box.label, box.score) for box in image.boxes]
        for one, other in zip(again, image.boxes):
            thin = 1.0 if target == "voc" and other.xyxy[0] > 60 else precision  # VOC has no box below a pixel
            assert one.xyxy == pytest.approx(other.xyxy, abs=thin)
    report = audit_sources([place])
    assert not report.errors
    assert [f.severity for f in report.findings if f.kind == "pre-annotated boxes"] == ["note"]


@pytest.mark.parametrize("target", WRITERS)
def test_nothing_is_replaced(tmp_path: Path, target: str) -> None:
    images = pre_annotated(tmp_path / "new")
    write(images, target, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="pre-annotations replace nothing"):
        write(images[:1], target, tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_yolo_has_scores_where_they_are_asked_for_alone(tmp_path: Path) -> None:
    images = pre_annotated(tmp_path / "new")
    lines = {}
    for scores in (False, True):
        _, findings = write_pre_annotations(
            images, CATEGORIES, "yolo", tmp_path / str(scores), description="", scores=scores
        )
        text = (tmp_path / str(scores) / "labels" / "pre_annotations" / "coil 1_a.txt").read_text()
        lines[scores] = [line.split() for line in text.splitlines()]
        assert ("scores lost" in {finding.kind for finding in findings}) is not scores
        (renamed,) = [finding for finding in findings if finding.kind == "images renamed"]
        assert len(renamed.others) == 2
    assert [line[5:] for line in lines[True]] == [["0.8765"], ["0.5"]]
    assert [line[:5] for line in lines[True]] == lines[False]
    data = (tmp_path / "True" / "data.yaml").read_text()
    assert "rolled in" in data


def test_coco_names_images_as_annotation_tools_know_them(tmp_path: Path) -> None:
    images = pre_annotated(tmp_path / "new")
    place = write(images, "coco", tmp_path / "work" / "out")
    data = json.loads(place.read_text())
    assert [image["file_name"] for image in data["images"]] == ["coil 1/a.png", "coil 2/a.png", "coil 2/b.png"]
    assert data["info"] == {"description": "pre-annotations", "image_root": "../../new"}
    assert [category["name"] for category in data["categories"]] == list(CATEGORIES)
    first = data["annotations"][0]
    assert (first["bbox"], first["score"], first["segmentation"]) == ([1, 2.25, 19.5, 27.87], 0.8765, [])
    alone = json.loads(write(images[:1], "coco", tmp_path / "alone").read_text())
    assert alone["images"][0]["file_name"] == "a.png"


def test_a_table_with_a_row_for_each_box_and_each_image_without(tmp_path: Path) -> None:
    place = write(pre_annotated(tmp_path / "new"), "csv", tmp_path / "out")
    with place.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        list(CSV_COLUMNS),
        ["../new/coil 1/a.png", "64", "48", "dent", "0.8765", "1", "2.25", "20.5", "30.12"],
        ["../new/coil 1/a.png", "64", "48", "rolled in", "0.5", "0", "0", "64", "48"],
        ["../new/coil 2/a.png", "64", "48", "dent", "0.75", "63.6", "47.7", "64", "48"],
        ["../new/coil 2/b.png", "64", "48", *[""] * 6],
    ]


def test_a_table_of_labels_says_what_it_can_not_hold(tmp_path: Path, detect: Run) -> None:
    box = Box("dent", (1, 2, 3, 4), difficult=True)
    dataset = Dataset((Image(picture(tmp_path / "a.png"), 64, 48, (box,)),), CATEGORIES)
    WRITERS["coco"]({"all": dataset}, tmp_path / "labels")
    outcome = detect("convert", tmp_path / "labels", "--to", "csv", "--out", tmp_path / "out")
    assert (outcome.code, (tmp_path / "out" / "all.csv").read_text().count("\n")) == (0, 2)
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert [each["message"] for each in audit["findings"] if each["kind"] == "flags lost"] == [
        "CSV can't tell 1 difficult and 0 crowd objects from others; they count as ordinary now"
    ]


# infer


class FakePredictor:
    """Finds a dent surely and another less so, but in images that are dark nothing."""

    categories = CATEGORIES
    weights_path = Path("runs/fake/best.pt")
    brightest = None  # it was given no 16-bit image

    def tiling_for(self, width: int, height: int, **asked: Any) -> None:
        """All images are seen whole."""

    def __call__(self, pixels: Any, **tiles: Any) -> Detections:
        return detections((1, 2, 11, 12, 0.9, 2), (3, 3, 9, 9, 0.4, 1)) if pixels.any() else detections()


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures in subfolders, the second black."""
    from detect.images import write_image

    monkeypatch.setattr("detect.inference.predictor.Predictor.load", lambda path, **options: FakePredictor())
    picture(tmp_path / "new" / "coil 1" / "a.png")
    (tmp_path / "new" / "coil 2").mkdir()
    write_image(tmp_path / "new" / "coil 2" / "a.png", np.zeros((48, 64), np.uint8))
    return tmp_path / "new"


@pytest.mark.parametrize("target", BOTH_WAYS)
def test_infer_pre_annotates_what_it_shows(pictures: Path, tmp_path: Path, detect: Run, target: str) -> None:
    outcome = detect("infer", pictures, "--weights", "run", "--to", target, "--out", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    assert "1 pre-annotation on 1 of 2 images, score >= 0.5" in outcome.out
    boxes = [box for image in read(target, tmp_path / "out").images for box in image.boxes]
    assert [(box.label, box.xyxy) for box in boxes] == [("dent", (1, 2, 11, 12))]
    again = detect("infer", pictures, "--weights", "run", "--to", target, "--out", tmp_path / "out")
    assert (again.code, "pre-annotations replace nothing" in again.err, again.out) == (2, True, "")


def test_infer_obeys_the_threshold_and_keeps_json_alone(pictures: Path, tmp_path: Path, detect: Run) -> None:
    arguments = ["--to", "csv", "--json", "--threshold", "0.3", "--out", tmp_path / "out"]
    outcome = detect("infer", pictures, "--weights", "run", *arguments)
    assert len(json.loads(outcome.out)["images"]) == 2
    assert "2 pre-annotations on 1 of 2 images, score >= 0.3" in outcome.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["detections.json", "pre_annotations.csv"]


def test_infer_pre_annotates_the_readable_images(pictures: Path, tmp_path: Path, detect: Run) -> None:
    (pictures / "broken.png").write_bytes(b"no image")
    outcome = detect("infer", pictures, "--weights", "run", "--to", "labelme", "--out", tmp_path / "out")
    assert (outcome.code, "1 of 3 inputs could not be used" in outcome.err) == (2, True)
    assert len(read("labelme", tmp_path / "out").images) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["infer", "x.png", "--to", "coco"], "--to coco needs a folder; name one with --out"),
        (["infer", "x.png", "--to", "voc", "--scores", "--out", "o"], "--scores needs --to yolo"),
        (["infer", "x.png", "--to", "xml", "--out", "o"], "invalid choice: 'xml'"),
        (["pre-annotate", "x.json", "--out", "o"], "required: --to"),
        (["pre-annotate", "x.json", "--to", "voc", "--out", "o", "--threshold", "2"], "give a score from 0 to 1"),
        (["pre-annotate", "x.json", "--to", "voc", "--out", "o"], "no such folder or file"),
    ],
)
def test_mistakes_are_sentences(detect: Run, arguments: list[str], sentence: str) -> None:
    outcome = detect(*arguments)
    assert (outcome.code, sentence in outcome.err, outcome.err.count("\n")) == (2, True, 1)


# pre-annotate


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """COCO results beside a report that names its labels: ids with gaps, of an image whose entry stands last."""
    for name in ("a.png", "b.png"):
        picture(tmp_path / "data" / name)
    truth = {
        "images": [
            {"id": 70, "file_name": "b.png", "width": 64, "height": 48},
            {"id": 7, "file_name": "a.png", "width": 64, "height": 48},
        ],
        "annotations": [],
        "categories": [{"id": 9, "name": "dent"}, {"id": 4, "name": "rolled  in"}],
    }
    results = [
        {"image_id": 7, "category_id": 4, "bbox": [1, 2, 10, 6], "score": 0.6},
        {"image_id": 7, "category_id": 9, "bbox": [-4, 2, 20, 6], "score": 0.9},
        {"image_id": 7, "category_id": 9, "bbox": [70, 2, 20, 6], "score": 0.8},
        {"image_id": 70, "category_id": 9, "bbox": [1, 2, 3, 4], "score": 0.2},
    ]
    (tmp_path / "data" / "val.json").write_text(json.dumps(truth))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "detections.json").write_text(json.dumps(results))
    report = {"meta": {"data": str(tmp_path / "data" / "val.json")}}
    (tmp_path / "run" / "report.json").write_text(json.dumps(report))
    return tmp_path / "run"


@pytest.mark.parametrize("target", BOTH_WAYS)
def test_detections_of_a_run_become_pre_annotations(judged: Path, tmp_path: Path, detect: Run, target: str) -> None:
    outcome = detect("pre-annotate", judged, "--to", target, "--out", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    assert "2 pre-annotations on 1 of 2 images, score >= 0.5" in outcome.out
    assert "left out, as they have no area inside their image: 1" in outcome.out
    found = {image.path.name: image.boxes for image in read(target, tmp_path / "out").images}
    assert [(box.label, box.xyxy) for box in found["a.png"]] == [
        ("dent", (0, 2, 16, 8)),
        ("rolled in", (1, 2, 11, 8)),
    ]
    assert found["b.png"] == ()


def test_detections_of_another_tool_become_pre_annotations(judged: Path, tmp_path: Path, detect: Run) -> None:
    theirs = judged.parent / "theirs.json"
    theirs.write_text((judged / "detections.json").read_text())
    arguments = ["--to", "csv", "--threshold", "0.1", "--out", tmp_path / "out"]
    assert "name their COCO file with --data" in detect("pre-annotate", theirs, *arguments).err
    outcome = detect("pre-annotate", theirs, *arguments, "--data", tmp_path / "data" / "val.json")
    assert (outcome.code, "3 pre-annotations on 2 of 2 images, score >= 0.1" in outcome.out) == (0, True)


def test_one_run_at_a_time(judged: Path, tmp_path: Path, detect: Run) -> None:
    for seed in (0, 1):
        (tmp_path / "bench" / f"seed{seed}").mkdir(parents=True)
        (tmp_path / "bench" / f"seed{seed}" / "detections.json").write_text((judged / "detections.json").read_text())
    outcome = detect("pre-annotate", tmp_path / "bench", "--to", "csv", "--out", tmp_path / "out")
    assert (outcome.code, "holds 2 runs; name one of them" in outcome.err) == (2, True)


def test_thresholds_that_were_chosen_for_the_detections_are_obeyed(judged: Path, tmp_path: Path, detect: Run) -> None:
    content = {
        "schema": 1,
        "thresholds": {"dent": 0.1, "rolled in": 0.7},
        "calibration": None,
        "made": {"data": "val.json"},
    }
    (judged / "thresholds.json").write_text(json.dumps(content))
    outcome = detect("pre-annotate", judged, "--to", "csv", "--out", tmp_path / "chosen")
    assert "thresholds of" in outcome.err
    assert "2 pre-annotations on 2 of 2 images, score >= threshold of the class" in outcome.out
    asked = detect("pre-annotate", judged, "--to", "csv", "--out", tmp_path / "asked", "--threshold", "0.85")
    assert "--threshold 0.85 overrides the thresholds of" in asked.err
    assert "1 pre-annotation on 1 of 2 images" in asked.out


def test_thresholds_of_the_weights_that_were_judged_are_obeyed(judged: Path, tmp_path: Path, detect: Run) -> None:
    from detect.fileio import sha256_of

    (judged / "best.pt").write_bytes(b"weights")
    report = {"meta": {"data": str(tmp_path / "data" / "val.json"), "weights": "runs/once/best.pt"}}
    (judged / "report").mkdir()
    (judged / "report" / "report.json").write_text(json.dumps(report))
    (judged / "detections.json").rename(judged / "report" / "detections.json")
    for weights, scores in ((judged / "best.pt", "threshold of the class"), (judged / "report" / "report.json", "0.5")):
        content = {
            "schema": 1,
            "thresholds": {"dent": 0.1, "rolled in": 0.7},
            "calibration": None,
            "made": {"weights": {"sha256": sha256_of(weights)}},
        }
        (judged / "thresholds.json").write_text(json.dumps(content))
        outcome = detect("pre-annotate", judged, "--to", "csv", "--out", tmp_path / scores)
        assert f"score >= {scores}" in outcome.out
        assert ("was not chosen for this best.pt" in outcome.err) is (scores == "0.5")
