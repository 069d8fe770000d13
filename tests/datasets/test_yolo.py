from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from detect.datasets import yolo
from detect.datasets.formats import WRITERS, recognise
from detect.errors import DataError
from detect.structures import Box, Dataset, Image
from labelled_data import picture


def folder(root: Path, labels: dict[str, str | None], names: object = ("dent", "scratch")) -> Path:
    """``labels``: path of the image below ``root`` -> text of its label file, None for no file."""
    root.mkdir(parents=True, exist_ok=True)
    names = list(names) if isinstance(names, tuple) else names
    (root / "data.yaml").write_text(yaml.safe_dump({"names": names}), encoding="utf-8")
    for number, (image, text) in enumerate(labels.items()):
        picture(root / image, number, 100, 50)
        if text is not None:
            label = root / Path(image.replace("images", "labels")).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    return root


@pytest.mark.parametrize(
    ("image", "part"),
    [
        ("images/train/a.png", "train"),
        ("train/images/a.png", "train"),
        ("images/a.png", ""),
        ("images/val/deep er/ä.png", "val"),
        ("a.png", ""),
    ],
)
def test_layouts(tmp_path: Path, image: str, part: str) -> None:
    reading = yolo.scan([folder(tmp_path / "d", {image: "1 0.5 0.5 0.2 0.4\n"})])
    assert reading.findings == ()
    assert reading.categories == ("dent", "scratch")
    assert [(entry.part, entry.image.boxes) for entry in reading.entries] == [
        (part, (Box("scratch", (40, 15, 60, 35)),))
    ]


@pytest.mark.parametrize("names", [["dent", "scratch"], {0: "dent", 1: "scratch"}, {"1": "scratch", "0": "dent"}])
def test_names_as_list_or_numbered(tmp_path: Path, names: object) -> None:
    root = folder(tmp_path, {"images/a.png": "1 0.5 0.5 0.2 0.4"}, names)
    assert yolo.read(root).categories == ("dent", "scratch")
    assert yolo.read(root / "data.yaml") == yolo.read(root)


@pytest.mark.parametrize(
    ("names", "words"),
    [([], "no list"), (None, "no list"), ({0: "a", 2: "b"}, "0, 1, 2"), (["a", " "], "empty"), (["a", "a "], "twice")],
)
def test_names_that_cannot_be_used(tmp_path: Path, names: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        yolo.scan([folder(tmp_path, {"images/a.png": ""}, names)])


def test_no_names_at_all(tmp_path: Path) -> None:
    folder(tmp_path, {"images/a.png": ""})
    (tmp_path / "data.yaml").write_text("a: [broken")
    with pytest.raises(DataError, match=r"data\.yaml: the YAML can't be read"):
        yolo.scan([tmp_path])
    with pytest.raises(DataError, match="no such file"):
        yolo.scan([tmp_path / "none"])


def test_the_path_in_the_yaml_leads_to_the_images(tmp_path: Path) -> None:
    folder(tmp_path / "there", {"images/a.png": ""})
    (tmp_path / "here.yaml").write_text("path: there\nnames: [dent]")
    assert len(yolo.read(tmp_path / "here.yaml").images) == 1


def test_an_image_without_text_has_no_objects_and_text_without_image_is_an_error(tmp_path: Path) -> None:
    root = folder(tmp_path, {"images/a.png": None, "images/b.png": "\n", "images/c.png": ""})
    (root / "images" / "c.png").unlink()
    reading = yolo.scan([root])
    assert [entry.image.boxes for entry in reading.entries] == [(), ()]
    assert [(f.kind, f.severity, f.path.name) for f in reading.findings] == [
        ("label file without image", "error", "c.txt"),
        ("image without label file", "note", "a.png"),
    ]
    assert reading.findings[1].message.startswith("1 of 2 images (50 %) have no label file")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2", "4 numbers"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.3", "8 numbers"),
        ("0 0.1 0.1 0.2 0.1 0.2 nan", "not a finite number"),
        ("2 0.5 0.5 0.2 0.4", "none of 0 to 1"),
        ("-1 0.5 0.5 0.2 0.4", "none of 0 to 1"),
        ("0.5 0.5 0.5 0.2 0.4", "none of 0 to 1"),
        ("dent 0.5 0.5 0.2 0.4", "no number"),
        ("0 nan 0.5 0.2 0.4", "not a finite number"),
        ("0 1e999 0.5 0.2 0.4", "not a finite number"),
    ],
)
def test_a_broken_line_costs_only_itself(tmp_path: Path, line: str, words: str) -> None:
    reading = yolo.scan([folder(tmp_path, {"images/a.png": f"0 0.5 0.5 0.2 0.4\n{line}\n"})])
    assert [(f.kind, f.severity) for f in reading.findings] == [("broken object", "error")]
    assert reading.findings[0].message.startswith("line 2: ")
    assert words in reading.findings[0].message
    assert len(reading.entries[0].image.boxes) == 1


def test_text_in_another_encoding(tmp_path: Path) -> None:
    root = folder(tmp_path, {"images/a.png": "", "images/b.png": ""})
    (root / "labels" / "a.txt").write_bytes(b"\xff\xfe\x00\xd8")
    (root / "labels" / "b.txt").write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.2 0.4")
    reading = yolo.scan([root])
    assert [(f.kind, f.path.name) for f in reading.findings] == [("unreadable label file", "a.txt")]
    assert len(reading.entries[0].image.boxes) == 1


@pytest.mark.parametrize(("decimals", "exact"), [(6, True), (5, True), (2, False)])
def test_foreign_files_with_few_decimals_come_back_to_the_pixel(tmp_path: Path, decimals: int, exact: bool) -> None:
    width, x1, x2 = 1333, 401, 888
    picture(tmp_path / "images" / "a.png", 0, width, 10)
    line = f"0 {(x1 + x2) / 2 / width:.{decimals}f} 0.5 {(x2 - x1) / width:.{decimals}f} 1"
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(line)
    (tmp_path / "data.yaml").write_text("names: [dent]")
    found = yolo.read(tmp_path).images[0].boxes[0].xyxy
    assert (found == (x1, 0, x2, 10)) is exact


def test_written_files_are_the_usual_layout(tmp_path: Path) -> None:
    one = Image(picture(tmp_path / "a" / "1.png", 1, 100, 50), 100, 50, (Box("no", (40, 15, 60, 35), crowd=True),))
    two = Image(picture(tmp_path / "b" / "1.png", 2, 100, 50), 100, 50)
    out = tmp_path / "out"
    assert yolo.write({"train": Dataset((one, two), ("dent", "no"))}, out) == {"train": out / "labels" / "train"}
    assert yaml.safe_load((out / "data.yaml").read_text()) == {
        "train": "images/train",
        "names": {0: "dent", 1: "no"},
    }
    assert sorted(path.name for path in (out / "images" / "train").iterdir()) == ["a_1.png", "b_1.png"]
    assert (out / "labels" / "train" / "a_1.txt").read_text().split()[0] == "1"
    assert (out / "labels" / "train" / "b_1.txt").read_text() == ""
    with pytest.raises(DataError, match="not empty"):
        yolo.write({"val": Dataset((two,), ("dent",))}, out)


def test_formats_are_recognised(tmp_path: Path) -> None:
    boxes = (Box("dent", (1, 2, 3, 4)),)
    dataset = Dataset((Image(picture(tmp_path / "a.png"), 64, 48, boxes),), ("dent",))
    for name in ("voc", "coco", "yolo", "labelme"):
        WRITERS[name]({"all": dataset}, tmp_path / name)
        assert recognise([tmp_path / name]) == name
    assert recognise([tmp_path / "coco" / "all.json"]) == "coco"
    assert recognise([tmp_path / "yolo" / "data.yaml"]) == "yolo"
    with pytest.raises(DataError, match="different formats"):
        recognise([tmp_path / "voc", tmp_path / "yolo"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no Pascal-VOC XML"):
        recognise([tmp_path / "empty"])
    with pytest.raises(DataError, match="no such"):
        recognise([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="at least one"):
        recognise([])


def one_image(root: Path, label: str = "0 0.5 0.5 0.25 0.25\n") -> Path:
    """An image with its label file, and no class names yet."""
    picture(root / "images" / "train" / "a.png")
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text(label)
    return root


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("data.yaml", "names: [dent]\ntrain: {a: b}\n", "train is neither a path nor a list of paths"),
        ("data.yaml", "names: [dent]\nkpt_shape: 17\n", "kpt_shape is no pair of numbers"),
        ("data.yaml", "names: [dent]\nkpt_shape: [a, b]\n", "kpt_shape is no pair of numbers"),
        ("data.yaml", "names: [dent, dent]\n", "a class name is empty or stands there twice"),
        ("data.yaml", "names: [dent, '']\n", "a class name is empty or stands there twice"),
        (
            "obj.data",
            "classes = 1\ntrain = data/train.txt\nnames = data/other.names\n",
            "its file of class names, other.names",
        ),
        ("classes.txt", "\n\n", "it names no class"),
        ("notes.json", "[]", "it has no list of categories"),
        ("notes.json", '{"categories": [{"id": "x", "name": "dent"}]}', "it has no list of categories"),
    ],
)
def test_a_description_that_cannot_be_used(tmp_path: Path, file: str, text: str, message: str) -> None:
    (one_image(tmp_path) / file).write_text(text)
    with pytest.raises(DataError, match=message):
        yolo.scan([tmp_path])


def test_notes_of_label_studio_name_the_classes_by_their_ids(tmp_path: Path) -> None:
    notes = '{"categories": [{"id": 1, "name": "scratch"}, {"id": 0, "name": "dent"}]}'
    (one_image(tmp_path, "1 0.5 0.5 0.25 0.25\n") / "notes.json").write_text(notes)
    (entry,) = yolo.scan([tmp_path]).entries
    assert [box.label for box in entry.image.boxes] == ["scratch"]


def test_a_second_list_of_names_that_differs_is_a_warning(tmp_path: Path) -> None:
    (one_image(tmp_path) / "data.yaml").write_text("names: [dent]\n")
    (tmp_path / "classes.txt").write_text("scratch\n")
    (tmp_path / "labels" / "classes.txt").write_text("")  # names nothing and is passed over
    (warning,) = (f for f in yolo.scan([tmp_path]).findings if f.kind == "class names differ")
    assert "class 0 is 'dent' here and 'scratch' in" in warning.message


def test_a_part_without_images_and_a_part_that_is_one_image(tmp_path: Path) -> None:
    (one_image(tmp_path) / "data.yaml").write_text("names: [dent]\ntrain: images/train/a.png\nval: images/none\n")
    (tmp_path / "images" / "none").mkdir()
    reading = yolo.scan([tmp_path])
    assert [entry.part for entry in reading.entries] == ["train"]
    (finding,) = (f for f in reading.findings if f.kind == "part missing")
    assert "in which there is no image" in finding.message


def test_a_score_is_the_sixth_number_and_goes_from_0_to_1(tmp_path: Path) -> None:
    rows = "0 0.5 0.5 0.25 0.25 0.9\n0 0.25 0.25 0.125 0.125 7\n"
    (one_image(tmp_path, rows) / "classes.txt").write_text("dent\n")
    reading = yolo.scan([tmp_path])
    assert [box.score for entry in reading.entries for box in entry.image.boxes] == [0.9]
    assert any("its sixth number is 7, not a score" in finding.message for finding in reading.findings)
