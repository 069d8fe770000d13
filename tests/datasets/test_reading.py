"""No box, part or name of a data set is lost in silence, whatever its tool has made of folders, lists and encodings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from pycocotools.mask import encode

from detect.datasets import coco, cvat, voc, yolo
from detect.datasets.convert import Conversion, LabelError, audit_sources, convert
from detect.datasets.formats import recognise
from detect.datasets.reading import ReadOptions
from detect.errors import DataError
from detect.fileio import decode
from detect.images import read_image
from detect.structures import Finding
from labelled_data import pair, picture, pixels, steel, voc_text

LINE = "0 .5 .5 .2 .2\n"
WHOLE = (40.0, 32.0, 60.0, 48.0)  # what LINE is in an image of 100 x 80


def png(path: Path, seed: int | None = None) -> Path:
    return picture(path, sum(map(ord, str(path))) % 10_000 if seed is None else seed, 100, 80)


def text(path: Path, content: str | bytes = LINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def boxes(done: Conversion) -> dict[str, dict[str, int]]:
    return {
        part: {image.path.stem: len(image.boxes) for image in data.images} for part, data in sorted(done.parts.items())
    }


def kinds(findings: tuple[Finding, ...], severity: str | None = None) -> list[str]:
    return sorted(finding.kind for finding in findings if severity in (None, finding.severity))


class TestYoloFolders:
    @pytest.mark.parametrize(
        ("image", "label"),
        [
            ("images/a.png", "labels/a.txt"),
            ("Images/a.png", "Labels/a.txt"),
            ("IMAGES/a.PNG", "labels/a.txt"),
            ("images/a.png", "images/a.txt"),
            ("images/a.png", "annotations/a.txt"),
            ("a.png", "labels/a.txt"),
            ("pictures/a.png", "labels/a.txt"),
            ("images/a.png", "labels/a.png.txt"),
            ("images/A.PNG", "labels/a.txt"),
        ],
    )
    def test_the_box_is_found(self, tmp_path: Path, image: str, label: str) -> None:
        png(tmp_path / image)
        text(tmp_path / label)
        text(tmp_path / "data.yaml", "names: [dent]")
        reading = yolo.scan([tmp_path])
        assert [box.xyxy for entry in reading.entries for box in entry.image.boxes] == [WHOLE]
        assert reading.findings == ()

    def test_equal_names_in_two_parts_are_paired_by_folder(self, tmp_path: Path) -> None:
        for part, number in (("train", 1), ("test", 2)):
            png(tmp_path / "images" / part / "0001.png")
            text(tmp_path / "labels" / part / "0001.txt", LINE * number)
            png(tmp_path / part / "0002.png")
            text(tmp_path / part / "0002.txt", LINE * number)
        text(tmp_path / "data.yaml", "names: [dent]")
        done = convert([tmp_path], tmp_path / "out")
        assert boxes(done) == {"test": {"0001": 2, "0002": 2}, "train": {"0001": 1, "0002": 1}}

    def test_images_and_labels_may_be_two_sources(self, tmp_path: Path) -> None:
        png(tmp_path / "camera" / "a.png")
        text(tmp_path / "labelled" / "a.txt")
        text(tmp_path / "labelled" / "classes.txt", "dent\n")
        sources = [tmp_path / "labelled", tmp_path / "camera"]
        assert boxes(convert(sources, tmp_path / "out", source="yolo")) == {"all": {"a": 1}}

    def test_names_may_be_given_by_hand_where_no_file_has_them(self, tmp_path: Path) -> None:
        png(tmp_path / "images" / "a.png")
        text(tmp_path / "labels" / "a.txt")
        with pytest.raises(DataError, match=r"data\.yaml.*classes\.txt.*--classes"):
            convert([tmp_path], tmp_path / "out")
        done = convert([tmp_path], tmp_path / "out", categories=["dent"])
        assert [box.label for box in done.parts["all"].images[0].boxes] == ["dent"]


class TestSeveralLabelFiles:
    """What two files say of one image is united by nobody: equal files count once, others leave the image out."""

    @pytest.mark.parametrize("second", ["", "0 .5 .5 .4 .4\n"])
    @pytest.mark.parametrize("skip_bad", [False, True])
    def test_two_yolo_files_of_one_image(self, tmp_path: Path, second: str, skip_bad: bool) -> None:
        for name in ("a", "b"):
            png(tmp_path / "images" / f"{name}.png")
            text(tmp_path / "labels" / f"{name}.txt")
        text(tmp_path / "images" / "a.txt", second)
        text(tmp_path / "data.yaml", "names: [dent]")
        if not skip_bad:
            with pytest.raises(LabelError, match=r"labels/a\.txt: a\.png has another label file, .*images/a\.txt"):
                convert([tmp_path], tmp_path / "out")
            return
        done = convert([tmp_path], tmp_path / "out", skip_bad=True)
        assert boxes(done) == {"all": {"b": 1}}
        assert ("image", "a.png") in [(item.what, item.path.name) for item in done.left_out]

    def test_equal_files_count_once(self, tmp_path: Path) -> None:
        png(tmp_path / "images" / "a.png")
        for folder in ("images", "labels"):
            text(tmp_path / folder / "a.txt")
        text(tmp_path / "data.yaml", "names: [dent]")
        done = convert([tmp_path], tmp_path / "out")
        assert boxes(done) == {"all": {"a": 1}}
        assert kinds(done.findings) == ["copy of a file"]

    def test_a_copy_of_an_image_is_not_taken_for_a_clean_one(self, tmp_path: Path) -> None:
        root = tmp_path / "data"
        png(root / "images" / "a.png", seed=1)
        png(root / "backup" / "a.png", seed=1)
        text(root / "labels" / "a.txt")
        text(root / "data.yaml", "names: [dent]")
        done = convert([root], tmp_path / "out")
        assert boxes(done) == {"all": {"a": 1}}
        assert kinds(done.findings) == ["copy of a file"]

    def test_links_in_the_folders_of_parts_have_the_labels_of_what_they_link_to(self, tmp_path: Path) -> None:
        root = tmp_path / "data"
        for name, part in (("a", "train"), ("b", "val")):
            png(root / "all" / f"{name}.png")
            text(root / "all" / f"{name}.txt")
            (root / part).mkdir()
            (root / part / f"{name}.png").symlink_to(f"../all/{name}.png")
        text(root / "data.yaml", "train: train\nval: val\nnames: [dent]")
        assert boxes(convert([root], tmp_path / "out")) == {"train": {"a": 1}, "val": {"b": 1}}

    def test_two_voc_files_of_one_image(self, tmp_path: Path) -> None:
        pair(tmp_path, "a", [("dent", 1, 1, 9, 9)])
        pair(tmp_path, "b", [("dent", 1, 1, 9, 9)])
        text(tmp_path / "IMAGES" / "a.xml", voc_text("a.png", [("dent", 5, 5, 9, 9)]))
        with pytest.raises(LabelError, match=r"a\.png has another label file"):
            convert([tmp_path], tmp_path / "out")
        assert boxes(convert([tmp_path], tmp_path / "out", skip_bad=True)) == {"all": {"b": 1}}

    def test_a_label_in_a_folder_of_another_name_is_not_given_to_the_image_that_has_none(self, tmp_path: Path) -> None:
        for part in ("train", "val"):
            png(tmp_path / part / "images" / "1.png")
        for part in ("train", "test"):
            text(tmp_path / part / "labels" / "1.txt", LINE if part == "train" else "0 .5 .5 .4 .4\n")
        text(tmp_path / "data.yaml", "names: [dent]")
        with pytest.raises(LabelError, match="other files are named 1, too"):
            convert([tmp_path], tmp_path / "out")
        assert boxes(convert([tmp_path], tmp_path / "out", skip_bad=True)) == {"all": {"1": 1}}

    def test_equal_names_in_two_sources_are_paired_source_by_source(self, tmp_path: Path) -> None:
        for number, source in enumerate(("first", "second"), start=1):
            objects = [("dent", 5, 5, 20, 20 + i) for i in range(number)]
            png(tmp_path / source / "JPEGImages" / "1.png")
            text(tmp_path / source / "Annotations" / "1.xml", voc_text("1.png", objects, (100, 80)))
        reading = voc.scan([tmp_path / "first", tmp_path / "second"])
        assert [len(entry.image.boxes) for entry in reading.entries] == [1, 2]
        assert reading.findings == ()

    @pytest.mark.parametrize("labels", ["coco", "cvat"])
    def test_an_image_that_one_file_names_twice(self, tmp_path: Path, labels: str) -> None:
        def write(*lefts: int) -> Path:
            if labels == "coco":
                images = [{"id": i, "file_name": "a.png"} for i in range(len(lefts))]
                objects = [{"image_id": i, "category_id": 1, "bbox": [x, 2, 9, 9]} for i, x in enumerate(lefts)]
                data = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "dent"}]}
                return text(tmp_path / "all.json", json.dumps(data))
            box = '<image name="a.png"><box label="dent" xtl="{}" ytl="2" xbr="30" ybr="11"/></image>'
            return text(tmp_path / "all.xml", f"<annotations>{''.join(map(box.format, lefts))}</annotations>")

        png(tmp_path / "a.png")
        done = convert([write(1, 1)], tmp_path / "out")
        assert boxes(done) == {"all": {"a": 1}}
        assert kinds(done.findings) == ["image twice"]
        with pytest.raises(LabelError, match=r"2 sets of labels are about a\.png"):
            convert([write(1, 5)], tmp_path / "out")

    def test_a_data_set_that_is_named_twice_is_read_once(self, tmp_path: Path) -> None:
        root = tmp_path / "data"
        png(root / "set" / "images" / "a.png")
        text(root / "set" / "labels" / "a.txt")
        file = text(root / "set" / "data.yaml", "names: [dent]")
        (root / "link").symlink_to("set")
        for sources in ([file, root / "set"], [root / "link", root / "set"], [root / "set" / "images" / "..", root]):
            done = convert(sources, tmp_path / "out")
            assert boxes(done) == {"all": {"a": 1}}
            assert done.findings == ()


class TestSeveralFormats:
    def labelme(self, path: Path) -> Path:
        shape = {"label": "dent", "points": [[1, 2], [9, 9]], "shape_type": "rectangle"}
        return text(path, json.dumps({"shapes": [shape], "imagePath": path.with_suffix(".png").name}))

    def test_labels_in_a_second_format_are_not_passed_over_in_silence(self, tmp_path: Path) -> None:
        pair(tmp_path, "a", [("dent", 1, 1, 9, 9)])
        text(tmp_path / "labels" / "a.txt")
        text(tmp_path / "data.yaml", "names: [dent]")
        done = convert([tmp_path], tmp_path / "out")
        told = {finding.kind: finding.message for finding in done.findings}
        assert "read as voc; its labels in yolo are not read, --from yolo" in told["labels of another format"]
        assert kinds(convert([tmp_path], tmp_path / "out", source="voc").findings) == []

    def test_xml_of_other_programs_makes_no_folder_pascal_voc(self, tmp_path: Path) -> None:
        png(tmp_path / "images" / "a.png")
        text(tmp_path / "labels" / "a.txt")
        text(tmp_path / "data.yaml", "names: [dent]")
        text(tmp_path / "images" / "a.png.aux.xml", "<PAMDataset/>")
        assert recognise([tmp_path]) == "yolo"
        pair(tmp_path / "voc", "a", [("dent", 1, 1, 9, 9)])
        text(tmp_path / "voc" / "IMAGES" / "a.png.aux.xml", "<PAMDataset/>")
        assert convert([tmp_path / "voc"], tmp_path / "out").findings == ()

    def test_text_files_of_yolo_without_class_names_do_not_hide_labelme(self, tmp_path: Path) -> None:
        png(tmp_path / "a.png")
        self.labelme(tmp_path / "a.json")
        text(tmp_path / "a.txt")
        assert recognise([tmp_path]) == "labelme"

    @pytest.mark.parametrize("content", ["", '{"shapes": [{"label": "dent", "points": [[1, 2]', '{"shapes": 3}'])
    def test_a_damaged_labelme_file_makes_no_clean_image(self, tmp_path: Path, content: str) -> None:
        for name in ("a", "b"):
            png(tmp_path / f"{name}.png")
            self.labelme(tmp_path / f"{name}.json")
        text(tmp_path / "a.json", content)
        options = ReadOptions(allow_empty=True)
        with pytest.raises(LabelError, match=r"a\.json"):
            convert([tmp_path], tmp_path / "out", options=options)
        assert boxes(convert([tmp_path], tmp_path / "out", options=options, skip_bad=True)) == {"all": {"b": 1}}

    def test_an_image_that_two_labelme_files_are_about_is_left_out(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            png(tmp_path / f"{name}.png")
            self.labelme(tmp_path / f"{name}.json")
        text(tmp_path / "c.json", (tmp_path / "a.json").read_text())
        done = convert([tmp_path], tmp_path / "out", skip_bad=True)
        assert boxes(done) == {"all": {"b": 1}}
        assert [(item.what, item.path.name) for item in done.left_out] == [("label file", "c.json"), ("image", "a.png")]


class TestYoloParts:
    def data(self, root: Path) -> None:
        for name in ("a", "b", "c", "d", "left"):
            png(root / "images" / f"{name}.png")
            text(root / "labels" / f"{name}.txt")
        for name in ("e", "f"):
            png(root / "images" / "more" / f"{name}.png")
            text(root / "labels" / "more" / f"{name}.txt")

    @pytest.mark.parametrize(
        "path", ["", "path: .\n", "path: {here}\n", "path: /mnt/of/another/machine\n", "path: gone\n"]
    )
    @pytest.mark.parametrize("start", ["images/", "./images/", "/data/sets/steel/images/", "C:\\steel\\images\\", ""])
    def test_lists_name_exactly_their_images(self, tmp_path: Path, path: str, start: str) -> None:
        self.data(tmp_path)
        text(tmp_path / "train.txt", f"{start}a.png\n\n{start}b.png\n")
        text(tmp_path / "val.txt", f"{start}c.png\r\n{start}d.png")
        lists = "train: train.txt\nval: [val.txt]\ntest:\n"
        text(tmp_path / "data.yaml", path.format(here=tmp_path) + lists + "names: [dent]\n")
        done = convert([tmp_path], tmp_path / "out")
        assert boxes(done) == {"train": {"a": 1, "b": 1}, "val": {"c": 1, "d": 1}}
        (finding,) = (finding for finding in done.findings if finding.kind == "image in no part")
        assert finding.message.startswith(
            "3 images are in no part that data.yaml names and left out: e.png, f.png, left.png"
        )
        assert len([item for item in done.left_out if item.what == "image"]) == 3

    def test_folders_and_lists_of_folders(self, tmp_path: Path) -> None:
        for number, place in enumerate(["images/day 1", "images/day 2", "images/val", "images/old"]):
            png(tmp_path / place / f"{number}.png")
            text(tmp_path / place.replace("images", "labels") / f"{number}.txt")
        text(tmp_path / "data.yaml", "train: [images/day 1, images/day 2]\nval: images/val\nnames: [dent]\n")
        done = convert([tmp_path], tmp_path / "out")
        assert boxes(done) == {"train": {"0": 1, "1": 1}, "val": {"2": 1}}

    def test_an_image_of_two_parts_stays_in_the_first(self, tmp_path: Path) -> None:
        self.data(tmp_path)
        text(tmp_path / "data.yaml", "train: images\nval: images/more\nnames: [dent]\n")
        done = convert([tmp_path], tmp_path / "out")
        assert {part: sorted(images) for part, images in boxes(done).items()} == {
            "all": ["a", "b", "c", "d", "e", "f", "left"]
        }
        assert "image in two parts" in kinds(done.findings, "warning")

    def test_what_is_named_and_not_there_is_an_error(self, tmp_path: Path) -> None:
        self.data(tmp_path)
        text(tmp_path / "train.txt", "images/a.png\nimages/gone.png\n")
        text(tmp_path / "data.yaml", "train: train.txt\nval: images/gone\ntest: ../test/images\nnames: [dent]\n")
        report = audit_sources([tmp_path])
        told = {(finding.kind, finding.severity): finding.message for finding in report.findings}
        assert "1 of its 2 images are not there: images/gone.png" in told["missing image", "error"]
        assert "val is images/gone, which does not exist" in told["part missing", "error"]
        assert "test is ../test/images, which does not exist" in told["part missing", "warning"]

    def test_data_yaml_in_a_folder_of_its_own(self, tmp_path: Path) -> None:
        png(tmp_path / "steel" / "images" / "a.png")
        text(tmp_path / "steel" / "labels" / "a.txt")
        file = text(tmp_path / "configs" / "steel.yaml", "train: ../steel/images\nnames: [dent]\n")
        assert [len(entry.image.boxes) for entry in yolo.scan([file]).entries] == [1]

    def test_a_list_that_is_empty_is_no_part(self, tmp_path: Path) -> None:
        self.data(tmp_path)
        text(tmp_path / "train.txt", "\n")
        text(tmp_path / "data.yaml", "train: train.txt\nval: images\nnames: [dent]\n")
        with pytest.raises(LabelError, match=r"train is train\.txt, which names no image"):
            convert([tmp_path], tmp_path / "out")

    def test_parts_of_other_names_are_folders_or_lists_of_images(self, tmp_path: Path) -> None:
        for name in ("a", "b", "c"):
            png(tmp_path / name / f"{name}.png")
            text(tmp_path / name / f"{name}.txt")
        (tmp_path / "runs").mkdir()
        text(tmp_path / "spare.txt", "c/c.png\n")
        text(tmp_path / "data.yaml", "train: a\nholdout: b\nspare: spare.txt\nproject: runs\nnames: [dent]\n")
        assert sorted(convert([tmp_path], tmp_path / "out").parts) == ["holdout", "spare", "train"]

    def test_parts_of_any_name_that_this_library_has_written(self, tmp_path: Path) -> None:
        convert([steel(tmp_path / "in")], tmp_path / "yolo", target="yolo", folds=2)
        back = convert([tmp_path / "yolo"], tmp_path / "out")
        assert sorted(back.parts) == ["fold1_train", "fold1_val", "fold2_train", "fold2_val"]


class TestYoloNames:
    @pytest.mark.parametrize(
        "names", ["[yes, no, on, null, 1.0]", "{0: yes, 1: no, 2: on, 3: null, 4: 1.0}", "classes.txt"]
    )
    def test_words_are_as_written(self, tmp_path: Path, names: str) -> None:
        png(tmp_path / "images" / "a.png")
        text(tmp_path / "labels" / "a.txt", "".join(f"{i} .5 .5 .2 .{i + 1}\n" for i in range(5)))
        text(tmp_path / "classes.txt", "yes\nno\non\nnull\n1.0\n")
        text(tmp_path / "data.yaml", f"names: {names}\n")
        assert yolo.read(tmp_path).categories == ("yes", "no", "on", "null", "1.0")

    @pytest.mark.parametrize(
        ("encoding", "name"),
        [("gbk", "划痕"), ("cp1252", "Kratzer für"), ("utf-16", "划痕"), ("utf-16-le", "dent"), ("utf-8-sig", "Blöße")],
    )
    @pytest.mark.parametrize("file", ["data.yaml", "classes.txt"])
    def test_encodings(self, tmp_path: Path, encoding: str, name: str, file: str) -> None:
        png(tmp_path / "images" / "a.png")
        text(tmp_path / "labels" / "a.txt")
        content = f"names: [{name}]\n" if file == "data.yaml" else f"{name}\n"
        text(tmp_path / file, content.encode(encoding))
        assert yolo.read(tmp_path).categories == (name,)

    @pytest.mark.parametrize("other", ["classes.txt", "labels/classes.txt", "more.yaml", "notes.json"])
    def test_files_that_name_the_classes_differently(self, tmp_path: Path, other: str) -> None:
        png(tmp_path / "images" / "a.png")
        text(tmp_path / "labels" / "a.txt")
        text(tmp_path / "data.yaml", "names: [dent, scratch]\n")
        names = {"txt": "{0}\n{1}\n", "yaml": "names: [{0}, {1}]", "json": '{{"categories": [%s, %s]}}'}
        names["json"] %= ('{{"id": 0, "name": "{0}"}}', '{{"id": 1, "name": "{1}"}}')
        content = names[other.rpartition(".")[2]]
        for order, number in ((("dent", "scratch"), 0), (("scratch", "dent"), 1)):
            text(tmp_path / other, content.format(*order))
            reading = yolo.scan([tmp_path])
            assert reading.entries[0].image.boxes[0].label == "dent"
            assert kinds(reading.findings, "warning") == ["class names differ"] * number

    def test_a_number_of_classes_that_is_not_theirs(self, tmp_path: Path) -> None:
        png(tmp_path / "images" / "a.png")
        text(tmp_path / "labels" / "a.txt")
        text(tmp_path / "data.yaml", "nc: 3\nnames: [dent]\n")
        assert kinds(yolo.scan([tmp_path]).findings) == ["class names differ"]

    def test_an_empty_yaml_leaves_the_names_to_classes_txt(self, tmp_path: Path) -> None:
        png(tmp_path / "images" / "a.png")
        text(tmp_path / "labels" / "a.txt")
        text(tmp_path / "data.yaml", "")
        names = text(tmp_path / "classes.txt", "dent\n")
        assert yolo.read(tmp_path).categories == ("dent",)
        assert recognise([names]) == "yolo"
        text(tmp_path / "data.yaml", "just words")
        with pytest.raises(DataError, match="no list of class names"):
            yolo.read(tmp_path)

    def test_names_that_are_no_words(self, tmp_path: Path) -> None:
        png(tmp_path / "images" / "a.png")
        text(tmp_path / "data.yaml", "names: [{name: dent}]\n")
        with pytest.raises(DataError, match="no list of class names"):
            yolo.scan([tmp_path])

    def test_several_data_sets_in_one_folder_are_named(self, tmp_path: Path) -> None:
        for name, names in (("x", "[dent, pit]"), ("y", "[pit, dent]")):
            png(tmp_path / name / "images" / f"{name}.png")
            text(tmp_path / name / "labels" / f"{name}.txt")
            text(tmp_path / name / "data.yaml", f"names: {names}")
        with pytest.raises(DataError, match=r"2 folders in it have class names .*x/data\.yaml.*y/data\.yaml"):
            convert([tmp_path], tmp_path / "out")
        (all_of_it,) = convert([tmp_path / "x", tmp_path / "y"], tmp_path / "out").parts.values()
        assert [image.boxes[0].label for image in all_of_it.images] == ["dent", "pit"]

    def test_a_yaml_that_cannot_be_read_says_so(self, tmp_path: Path) -> None:
        png(tmp_path / "images" / "a.png")
        text(tmp_path / "labels" / "a.txt")
        for content, words in (
            ("names: [a, b", "the YAML can't be read"),
            ("names: [Дефект]".encode("cp1251"), "not UTF-8"),
        ):
            text(tmp_path / "data.yaml", content)
            with pytest.raises(DataError, match=words):
                convert([tmp_path], tmp_path / "out")


class TestYoloRows:
    def read(self, root: Path, row: str, more: str = "") -> Any:
        png(root / "images" / "a.png")
        text(root / "labels" / "a.txt", row)
        text(root / "data.yaml", f"names: [dent]\n{more}")
        return yolo.scan([root])

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("0 .1 .1 .5 .2 .3 .5", "1 polygon became its enclosing box"),
            ("0 .1 .1 .5 .1 .5 .5 .1 .5", "1 rotated box became its enclosing box"),
            ("0 .1 .1 .5 .1 .5 .5 .1 .5 .2 .2", "1 polygon became its enclosing box"),
        ],
    )
    def test_outlines_become_their_enclosing_boxes(self, tmp_path: Path, row: str, message: str) -> None:
        reading = self.read(tmp_path, row)
        assert [box.xyxy for box in reading.entries[0].image.boxes] == [(10, 8, 50, 40)]
        assert [(f.kind, f.message) for f in reading.findings] == [("shapes converted", message)]

    def test_a_polygon_at_the_border_is_not_taken_for_keypoints(self, tmp_path: Path) -> None:
        """Every third number after the fourth is 0, 1 or 2, as the visibilities of two keypoints would be."""
        reading = self.read(tmp_path, "0 .6 .5 .8 .4 .9 .5 1 .7 .9 1")
        assert [box.xyxy for box in reading.entries[0].image.boxes] == [(60, 32, 100, 80)]
        assert kinds(self.read(tmp_path, "0 .6 .5 .8 .4 .9 .5 1 .7 .6 1").findings) == ["keypoints left out"]

    @pytest.mark.parametrize(
        ("rest", "more"),
        [
            (".45 .5 2 .55 .5 0 .5 .5 1", ""),
            (".45 .5 .55 .5", "kpt_shape: [2, 2]"),
            (".45 .5 2.0 .55 .5 0.0", "kpt_shape: [2, 3]"),
            (".45 .5 1 .55 .5 1", ""),
            (".95 .5 2 .55 .5 1", ""),
        ],
    )
    def test_keypoints_are_left_out_and_the_box_stays(self, tmp_path: Path, rest: str, more: str) -> None:
        reading = self.read(tmp_path, f"{LINE.strip()} {rest}", more)
        assert [box.xyxy for box in reading.entries[0].image.boxes] == [WHOLE]
        assert kinds(reading.findings) == ["keypoints left out"]


class TestNothingIsTakenForClean:
    def test_no_box_in_the_whole_set(self, tmp_path: Path) -> None:
        png(tmp_path / "images" / "a.png")
        png(tmp_path / "images" / "b.png")
        text(tmp_path / "data.yaml", "names: [dent]")
        for skip_bad in (False, True):
            with pytest.raises(LabelError, match=r"none of the 2 images has a box: no label file was found for any"):
                convert([tmp_path], tmp_path / "out", skip_bad=skip_bad)
        done = convert([tmp_path], tmp_path / "out", options=ReadOptions(allow_empty=True))
        assert boxes(done) == {"all": {"a": 0, "b": 0}}

    def test_label_files_of_no_image(self, tmp_path: Path) -> None:
        png(tmp_path / "images" / "a.png")
        for name in ("a", "b", "c"):
            text(tmp_path / "labels" / f"{name}.txt")
        text(tmp_path / "data.yaml", "names: [dent]")
        with pytest.raises(LabelError) as caught:
            convert([tmp_path], tmp_path / "out")
        assert kinds(caught.value.findings, "error") == ["label file without image"] * 2
        done = convert([tmp_path], tmp_path / "out", options=ReadOptions(allow_empty=True))
        assert kinds(done.findings, "warning") == ["label file without image"] * 2

    def test_the_share_without_labels_and_a_part_without_boxes_are_said(self, tmp_path: Path) -> None:
        for part, number in (("train", 6), ("val", 2)):
            for i in range(number):
                png(tmp_path / "images" / part / f"{part}{i}.png")
        for i in range(5):
            text(tmp_path / "labels" / "train" / f"train{i}.txt")
        text(tmp_path / "data.yaml", "names: [dent]")
        done = convert([tmp_path], tmp_path / "out")
        told = {finding.kind: finding.message for finding in done.findings}
        assert told["image without label file"].startswith("3 of 8 images (38 %) have no label file")
        assert told["part without boxes"].startswith("none of the 2 images in val has a box")

    def test_drawings_of_detections_are_no_images(self, tmp_path: Path) -> None:
        for layout in ("images", "IMAGES"):
            root = tmp_path / layout
            png(root / layout / "a.png")
            png(root / layout / "a.detections.png")
        text(tmp_path / "images" / "labels" / "a.txt")
        text(tmp_path / "images" / "data.yaml", "names: [dent]")
        text(tmp_path / "IMAGES" / "ANNOTATIONS" / "a.xml", voc_text("a.png", [("dent", 1, 1, 9, 9)], (100, 80)))
        for root in (tmp_path / "images", tmp_path / "IMAGES"):
            done = convert([root], tmp_path / "out")
            assert boxes(done) == {"all": {"a": 1}}
            assert kinds(done.findings) == ["picture left out"]

    @pytest.mark.parametrize("target", ["voc", "coco", "yolo", "labelme"])
    def test_an_image_with_a_bad_object_is_left_out_in_every_format(self, tmp_path: Path, target: str) -> None:
        """Two images of two boxes each; one box of the first becomes one without area, and one without a class."""
        convert([steel(tmp_path / "in", ("dent",), 3)], tmp_path / "out", target=target)
        bad = {
            "voc": [("</name>", "</name><name>"), ("<name>dent</name>", "")],
            "yolo": [("0 ", "7 ")],
            "labelme": [('"label": "dent"', '"label": ""')],
            "coco": [('"category_id": 1', '"category_id": 99')],
        }[target][-1]
        pattern = {"voc": "*_1.xml", "yolo": "dent_1.txt", "labelme": "dent_1.json", "coco": "all.json"}[target]
        (file,) = (tmp_path / "out").rglob(pattern)
        file.write_text(file.read_text().replace(*bad, 1))
        with pytest.raises(LabelError):
            convert([tmp_path / "out"], tmp_path / "again")
        done = convert([tmp_path / "out"], tmp_path / "again", skip_bad=True)
        assert boxes(done) == {"all": {"dent_2": 1, "dent_3": 1}}
        assert [(item.what, item.path.stem) for item in done.left_out if item.what == "image"] == [("image", "dent_1")]


class TestVoc:
    def read(self, root: Path, content: str | bytes, **options: Any) -> Any:
        png(root / "a.png")
        text(root / "a.xml", content)
        return voc.scan([root], ReadOptions(**options))

    BOX = "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"

    @pytest.mark.parametrize(
        "objects",
        [
            "<object><name>dent</name>{0}{0}</object>",
            "<objects><object><name>dent</name>{0}</object><object><name>dent</name>{0}</object></objects>",
            "<Object><Name>dent</Name>{0}</Object><OBJECT><NAME>dent</NAME>{0}</OBJECT>",
            "<object><name>dent</name><boxes>{0}{0}</boxes></object>",
            "<object><name>dent</name>{0}</object><layer><object><name>dent</name>{0}</object></layer>",
        ],
    )
    @pytest.mark.parametrize("capitals", [False, True])
    def test_every_box_of_every_object(self, tmp_path: Path, objects: str, capitals: bool) -> None:
        box = self.BOX.replace("bndbox", "BndBox").replace("xmin", "XMin") if capitals else self.BOX
        root = "Annotation" if capitals else "annotation"
        reading = self.read(tmp_path, f"<{root}><filename>a.png</filename>{objects.format(box)}</{root}>")
        assert [(box.label, box.xyxy) for box in reading.entries[0].image.boxes] == [("dent", (10, 20, 30, 40))] * 2
        assert reading.findings == ()

    def test_a_box_of_no_object_is_an_error_and_one_of_a_part_is_none_of_the_object(self, tmp_path: Path) -> None:
        part = f"<part><name>head</name>{self.BOX}</part>"
        item = f"<object><name>dent</name>{self.BOX}{part}</object>"
        content = f"<annotation><filename>a.png</filename>{{0}}{item}</annotation>"
        assert len(self.read(tmp_path, content.format("")).entries[0].image.boxes) == 1
        (finding,) = self.read(tmp_path, content.format(self.BOX)).findings
        assert (finding.kind, "outside of every <object>" in finding.message) == ("broken object", True)

    @pytest.mark.parametrize(
        ("item", "words"),
        [
            ("<item><name>dent</name><xmin>1</xmin></item>", "a <xmin> stands outside of every <object>"),
            ("<item><name>dent</name><polygon/></item>", "a <polygon> stands outside of every <object>"),
            ("<object><name>dent</name><name>pit</name>{0}</object>", "it has 2 names, dent and pit"),
            ("<object><name>dent</name>{1}</object>", "a <bndbox> of dent holds more than one box"),
        ],
    )
    def test_nothing_of_an_object_is_passed_over(self, tmp_path: Path, item: str, words: str) -> None:
        two_boxes = self.BOX.replace("</bndbox>", self.BOX.removeprefix("<bndbox>"))
        content = f"<annotation><filename>a.png</filename>{item.format(self.BOX, two_boxes)}</annotation>"
        (finding,) = self.read(tmp_path, content).findings
        assert (finding.kind, words in finding.message) == ("broken object", True)

    def test_a_rotated_box_and_a_polygon(self, tmp_path: Path) -> None:
        robnd = "<robndbox><cx>50</cx><cy>40</cy><w>20</w><h>10</h><angle>1.5707963267948966</angle></robndbox>"
        points = "<polygon><pt><x>5</x><y>6</y></pt><pt><x>20</x><y>9</y></pt><pt><x>7</x><y>30</y></pt></polygon>"
        pairs = "<polygon><x1>5</x1><y1>6</y1><x2>20</x2><y2>30</y2></polygon>"
        rotation = "<attributes><attribute><name>rotation</name><value>90</value></attribute></attributes>"
        shapes = [robnd, points, pairs, f"{self.BOX}{rotation}"]
        objects = "".join(f"<object><name>dent</name>{shape}</object>" for shape in shapes)
        reading = self.read(tmp_path, f"<annotation><filename>a.png</filename>{objects}</annotation>")
        found = [box.xyxy for box in reading.entries[0].image.boxes]
        assert found[0] == pytest.approx((45, 30, 55, 50))
        assert found[1:3] == [(5, 6, 20, 30)] * 2
        assert reading.findings[0].message == "2 polygons and 2 rotated boxes became their enclosing boxes"

    @pytest.mark.parametrize(
        ("corners", "origin", "xyxy", "said"),
        [
            ([(0, 0, 99, 79), (0, 10, 20, 30)], None, (0, 0, 100, 80), "are the last pixels"),
            ([(0, 0, 100, 80), (0, 10, 20, 30)], None, (0, 0, 100, 80), "are the border"),
            ([(0.0, 3.5, 20.25, 30), (1, 10, 20, 30)], None, (0, 3.5, 20.25, 30), "are the border"),
            ([(10.5, 3.5, 20.25, 30), (4.25, 10, 20, 30)], None, (10.5, 3.5, 20.25, 30), "have fractions"),
            ([(10, 5, 20, 30), (1, 10, 20, 30)], None, (9, 4, 20, 30), ""),
            ([(10, 5, 20, 30), (7, 10, 20, 30)], 0, (10, 5, 20, 30), "as chosen"),
            ([(10, 5, 99, 30), (7, 10, 20, 30)], 0, (10, 5, 100, 31), "as chosen"),
            (
                [(1, 1, 5, 5), (1, 2, 6, 6), (0, 10, 20, 30)],
                None,
                (0, 0, 5, 5),
                "taken as counted from 1, though 1 box",
            ),
            ([(1, 1, 5, 5), (0, 2, 6, 6), (0, 10, 20, 30)], None, (1, 1, 5, 5), "since 2 boxes begin at 0 and 1 at 1"),
        ],
    )
    def test_where_coordinates_count_from(
        self, tmp_path: Path, corners: list[tuple[float, ...]], origin: int | None, xyxy: tuple[float, ...], said: str
    ) -> None:
        content = voc_text("a.png", [("dent", *each) for each in corners], (100, 80))
        reading = self.read(tmp_path, content, voc_origin=origin)
        assert reading.entries[0].image.boxes[0].xyxy == xyxy
        messages = [finding.message for finding in reading.findings if finding.kind.startswith("coordinates")]
        assert len(messages) == bool(said)
        assert said in "".join(messages)

    def test_sources_that_count_differently_are_not_mixed(self, tmp_path: Path) -> None:
        for name, left in (("points", 0), ("pixels", 1), ("neither", 7)):
            png(tmp_path / name / f"{name}.png")
            text(tmp_path / name / f"{name}.xml", voc_text(f"{name}.png", [("dent", left, 5, 20, 30)], (100, 80)))
        sources = [tmp_path / "points", tmp_path / "pixels"]
        with pytest.raises(DataError, match=r"count from 0 in .*points and from 1 in .*pixels; convert them"):
            voc.scan(sources)
        both = voc.scan(sources, ReadOptions(voc_origin=0)).entries
        assert sorted(entry.image.boxes[0].xyxy[0] for entry in both) == [0, 1]
        with_one = voc.scan([tmp_path / "points", tmp_path / "neither"]).entries
        assert sorted(entry.image.boxes[0].xyxy[0] for entry in with_one) == [0, 7]

    def test_a_set_counted_from_0_can_be_taken_as_counted_from_1(self, tmp_path: Path) -> None:
        content = voc_text("a.png", [("dent", 0, 5, 20, 30)], (100, 80))
        assert self.read(tmp_path, content, voc_origin=1).entries[0].image.boxes[0].xyxy == (-1, 4, 20, 30)

    @pytest.mark.parametrize(
        ("encoding", "declared", "name"),
        [
            ("gbk", None, "划痕"),
            ("gbk", "utf-8", "夹杂"),
            ("cp1252", None, "Maß"),
            ("cp1252", "utf-8", "Kratzer für"),
            ("utf-16", "utf-8", "划痕"),
            ("utf-8", "utf-16", "划痕"),
            ("utf-8", "gb2312", "划痕"),
            ("cp1251", "windows-1251", "Дефект"),
        ],
    )
    def test_encodings_with_a_wrong_declaration(
        self, tmp_path: Path, encoding: str, declared: str | None, name: str
    ) -> None:
        start = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
        content = start + voc_text("a.png", [(name, 1, 1, 9, 9)], (100, 80))
        reading = self.read(tmp_path, content.encode(encoding))
        assert [box.label for box in reading.entries[0].image.boxes] == [name]
        guessed = encoding in ("gbk", "cp1252")
        assert kinds(reading.findings) == (["text decoded"] if guessed else [])

    def test_a_devkit_with_its_lists_and_masks(self, tmp_path: Path) -> None:
        root = tmp_path / "VOCdevkit" / "VOC2007"
        for name in ("000001", "000002", "000003", "000004"):
            png(root / "JPEGImages" / f"{name}.png")
            text(root / "Annotations" / f"{name}.xml", voc_text(f"{name}.png", [("dent", 1, 1, 9, 9)], (100, 80)))
            png(root / "SegmentationClass" / f"{name}.png")
        lists = root / "ImageSets" / "Main"
        text(lists / "train.txt", "000001\n")
        text(lists / "val.txt", "000002\n")
        text(lists / "trainval.txt", "000001\n000002\n")
        text(lists / "test.txt", "000003\n")
        text(lists / "dent_train.txt", "000001  1\n")
        done = convert([tmp_path], tmp_path / "out")
        assert boxes(done) == {"test": {"000003": 1}, "train": {"000001": 1}, "val": {"000002": 1}}
        told = {finding.kind: finding.message for finding in done.findings}
        assert "ImageSets/Main: train, val, test" in told["parts of the source"]
        assert "1 image is in no part that ImageSets/Main names" in told["image in no part"]
        assert "4 pictures in SegmentationClass" in told["picture left out"]
        assert boxes(convert([tmp_path], tmp_path / "own", split="train=1-2,val=3-4"))["val"] == {
            "000003": 1,
            "000004": 1,
        }
        text(lists / "val.txt", "000002\n000009\n")
        with pytest.raises(LabelError, match="1 of its names have no image: 000009"):
            convert([tmp_path], tmp_path / "out")

    @pytest.mark.parametrize("place", ["ImageSets/Main", "ImageSets", "ImageSets/Segmentation", "imagesets/main"])
    @pytest.mark.parametrize(
        "names",
        [
            "a 1\nb.x",
            "a 1.png\nb.x.png",
            "a 1.xml\r\nb.x.xml\r\n",
            "sub/a 1\nsub\\b.x",
            "\ufeffA 1\n\nb.x \n",
            "/d/a 1.jpg\n./b.x.jpg",
        ],
    )
    def test_lists_as_others_write_them(self, tmp_path: Path, place: str, names: str) -> None:
        for name in ("a 1", "b.x", "c"):
            png(tmp_path / "JPEGImages" / f"{name}.png")
            text(tmp_path / "Annotations" / f"{name}.xml", voc_text(f"{name}.png", [("dent", 5, 5, 9, 9)], (100, 80)))
        text(tmp_path / place / "train.txt", names)
        text(tmp_path / place / "val.txt", "c\n")
        done = convert([tmp_path], tmp_path / "out")
        assert boxes(done) == {"train": {"a 1": 1, "b.x": 1}, "val": {"c": 1}}
        if place == "ImageSets/Main":
            done = convert([tmp_path / "Annotations", tmp_path / "JPEGImages"], tmp_path / "out")
            assert sorted(done.parts) == ["train", "val"]

    @pytest.mark.parametrize("content", ["", "a  1\nb -1\n"])
    def test_lists_that_name_no_part_are_said(self, tmp_path: Path, content: str) -> None:
        for name in ("a", "b"):
            pair(tmp_path, name, [("dent", 5, 5, 9, 9)])
        text(tmp_path / "ImageSets" / "Main" / "dent_train.txt", content)
        done = convert([tmp_path], tmp_path / "out")
        assert boxes(done) == {"all": {"a": 1, "b": 1}}
        assert set(kinds(done.findings)) == {"part missing"}

    def test_equal_names_in_two_parts_are_paired_by_folder(self, tmp_path: Path) -> None:
        for part, number in (("train", 1), ("test", 2)):
            png(tmp_path / part / "0001.png")
            objects = [("dent", 1, 1, 9, 9 + i) for i in range(number)]
            text(tmp_path / part / "0001.xml", voc_text("0001.png", objects, (100, 80)))
        assert boxes(convert([tmp_path], tmp_path / "out")) == {"test": {"0001": 2}, "train": {"0001": 1}}

    def test_an_image_without_a_file_is_clean_only_if_it_is_allowed(self, tmp_path: Path) -> None:
        pair(tmp_path, "a", [("dent", 1, 1, 9, 9)])
        png(tmp_path / "IMAGES" / "b.png")
        with pytest.raises(LabelError, match="or --allow-empty takes the image as without objects"):
            convert([tmp_path], tmp_path / "out")
        done = convert([tmp_path], tmp_path / "out", options=ReadOptions(allow_empty=True))
        assert boxes(done) == {"all": {"a": 1, "b": 0}}
        assert "1 of 2 images (50 %) have no label file" in "".join(finding.message for finding in done.findings)


class TestCoco:
    def content(self, image: str, bbox: list[float] | None = None) -> str:
        return json.dumps(
            {
                "images": [{"id": 0, "file_name": image}],
                "categories": [
                    {"id": 0, "name": "steel", "supercategory": "none"},
                    {"id": 1, "name": "dent", "supercategory": "steel"},
                ],
                "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": bbox or [1, 2, 3, 4]}],
            }
        )

    def roboflow(self, root: Path) -> list[Path]:
        for part in ("train", "valid", "test"):
            png(root / part / f"{part}.png")
            text(root / part / "_annotations.coco.json", self.content(f"{part}.png"))
        return [root / part for part in ("train", "valid", "test")]

    def test_a_file_in_each_part_s_folder(self, tmp_path: Path) -> None:
        folders = self.roboflow(tmp_path / "export")
        for sources in ([tmp_path / "export"], folders):
            done = convert(sources, tmp_path / "out")
            assert boxes(done) == {"test": {"test": 1}, "train": {"train": 1}, "valid": {"valid": 1}}
            assert done.parts["train"].categories == ("dent",)
            assert kinds(done.findings, "note").count("category left out") == 3

    def test_files_of_one_name_in_the_folders_of_parts(self, tmp_path: Path) -> None:
        for folder in self.roboflow(tmp_path / "data"):
            (folder / "_annotations.coco.json").rename(folder / "export.json")
        assert sorted(convert([tmp_path / "data"], tmp_path / "out").parts) == ["test", "train", "valid"]

    def one(self, root: Path, *, name: str = "a.png", file: str = "all.json", **annotation: Any) -> Any:
        """The audit of a file with one annotation of an image of 100 x 80 pixels."""
        png(root / name)
        item = {"image_id": 1, "category_id": 1, **annotation}
        data = {"images": [{"id": 1, "file_name": name, "width": 100, "height": 80}], "annotations": [item]}
        return text(root / file, json.dumps({**data, "categories": [{"id": 1, "name": "dent"}]}))

    @pytest.mark.parametrize(
        ("segmentation", "xyxy"),
        [
            ([[10, 20, 30, 20, 30, 40]], (10, 20, 30, 40)),
            ([[10, 20, 30, 20, 30, 40], [50, 5, 60, 5, 60, 9]], (10, 5, 60, 40)),
            ({"size": [80, 100], "counts": [80 * 10 + 5, 20, 60, 20, 80 * 88 + 55]}, (10, 5, 12, 25)),
            ({"size": [80, 100], "counts": [70, 20, 7910]}, (0, 0, 2, 80)),
            ({"size": ["80", "100"], "counts": "Ti0d0l100000000000000000000000000000000000000000000000000Yd8"}, None),
            ({"size": [80, 100], "counts": [5, 9_000_000]}, "run lengths don't fill it"),
            ({"size": [160, 200], "counts": [805, 20, 31_175]}, "200 x 160 pixels, its image 100 x 80"),
            ({"size": [80, 100], "counts": "~~~~é"}, "run lengths are damaged"),
            ({"size": [80, 100], "counts": [8000]}, "it is empty"),
            ({"size": [80, 100], "counts": [None]}, "run lengths"),
            ({"size": 80, "counts": [8000]}, "its size is a number"),
            ([[10, 20, 30, 20, 30]], "an x without a y"),
            ([], "bbox is missing, and so is its segmentation"),
        ],
    )
    def test_the_box_around_a_segmentation(self, tmp_path: Path, segmentation: Any, xyxy: Any) -> None:
        if xyxy is None:
            mask = np.zeros((80, 100), np.uint8, order="F")
            mask[10:30, 20:50] = 1
            segmentation["counts"], xyxy = encode(mask)["counts"].decode(), (20, 10, 50, 30)
        reading = coco.scan([self.one(tmp_path, segmentation=segmentation)])
        if isinstance(xyxy, str):
            (finding,) = reading.findings
            assert (finding.kind, xyxy in finding.message) == ("broken object", True)
        else:
            assert [box.xyxy for box in reading.entries[0].image.boxes] == [xyxy]
            assert kinds(reading.findings) == ["shapes converted"]

    @pytest.mark.parametrize("empty", [float("nan"), None, ""])
    def test_flags_and_areas_that_are_empty_cells_of_a_table(self, tmp_path: Path, empty: Any) -> None:
        file = self.one(tmp_path, bbox=[1, 2, 3, 4], iscrowd=empty, difficult=empty, area=empty, id=empty)
        assert coco.read(file).images[0].boxes[0].xyxy == (1, 2, 4, 6)
        assert coco.load(file)["annotations"][0]["iscrowd"] == 0

    def test_ids_of_annotations_are_not_used(self, tmp_path: Path) -> None:
        file = self.one(tmp_path, bbox=[1, 2, 3, 4], id=7)
        data = json.loads(file.read_text())
        data["annotations"].append({**data["annotations"][0], "bbox": [40, 2, 3, 4]})
        text(file, json.dumps(data))
        assert len(coco.read(file).images[0].boxes) == len(coco.load(file)["annotations"]) == 2
        assert kinds(coco.scan([file]).findings, "warning") == ["annotation id twice"]

    def test_a_name_of_two_characters_for_one_letter(self, tmp_path: Path) -> None:
        file = self.one(tmp_path, name="M\u00fcller.png", bbox=[1, 2, 3, 4])
        text(file, file.read_text().replace("\\u00fc", "u\\u0308"))
        assert len(coco.read(file).images) == 1

    @pytest.mark.parametrize("content", ["", '{"images": [{"id": 1, "file_name": "b.png"}], "annot'])
    def test_a_damaged_file_among_others_is_an_error(self, tmp_path: Path, content: str) -> None:
        self.one(tmp_path, file="train.json", bbox=[1, 2, 3, 4])
        text(tmp_path / "val.json", content)
        with pytest.raises(LabelError, match=r"val\.json: the JSON is empty or cut short"):
            convert([tmp_path], tmp_path / "out")

    def test_what_a_folder_holds_besides_is_said(self, tmp_path: Path) -> None:
        self.one(tmp_path, file="train.json", bbox=[1, 2, 3, 4])
        self.one(tmp_path, file="more/val.json", bbox=[1, 2, 3, 4])
        png(tmp_path / "b.png")
        told = {finding.kind: finding.message for finding in convert([tmp_path], tmp_path / "out").findings}
        assert "1 more COCO file farther down, not read: " in told["label file left out"]
        assert "1 image is named by no label file" in told["image in no part"]
        assert convert([tmp_path / "train.json"], tmp_path / "out").findings == ()

    def test_detections_may_be_given_as_the_placeholder(self, tmp_path: Path, detect: Callable[..., Any]) -> None:
        png(tmp_path / "a.png")
        text(tmp_path / "val.json", self.content("a.png"))
        found = [{"image_id": 0, "category_id": i, "bbox": [1, 2, 3, 4], "score": 0.9} for i in (0, 1)]
        text(tmp_path / "found.json", json.dumps(found))
        done = detect("evaluate", "--detections", tmp_path / "found.json", "--data", tmp_path / "val.json")
        assert done.code == 0, done.err
        assert json.loads((tmp_path / "report" / "report.json").read_text())["AP50"] == pytest.approx(1)

    def test_skipping_what_is_bad_counts_images_not_files(self, tmp_path: Path) -> None:
        self.roboflow(tmp_path)
        file = tmp_path / "train" / "_annotations.coco.json"
        data = json.loads(file.read_text())
        for i in range(1, 4):
            png(tmp_path / "train" / f"more{i}.png")
            data["images"].append({"id": i, "file_name": f"more{i}.png"})
            for bbox in ([1, 2, 3, 4], [1, 2, "x" if i == 2 else 9, 4]):
                data["annotations"].append({"image_id": i, "category_id": 1, "bbox": bbox})
        file.write_text(json.dumps(data))
        done = convert([tmp_path], tmp_path / "out", skip_bad=True)
        assert boxes(done)["train"] == {"train": 1, "more1": 2, "more3": 2}
        assert [(item.what, item.path.name) for item in done.left_out] == [
            ("box", "_annotations.coco.json"),
            ("image", "more2.png"),
        ]


class TestCvat:
    def test_every_shape_with_an_area(self, tmp_path: Path) -> None:
        shapes = [
            '<box label="dent" xtl="10.00" ytl="20.00" xbr="30.00" ybr="40.00" occluded="0" z_order="0">'
            '<attribute name="difficult">true</attribute></box>',
            '<box label="dent" xtl="10.00" ytl="20.00" xbr="30.00" ybr="30.00" rotation="90.00"/>',
            '<polygon label="dent" points="5.00,6.00;20.00,9.00;7.00,30.00"/>',
            '<ellipse label="dent" cx="50.00" cy="40.00" rx="20.00" ry="10.00" rotation="90.00"/>',
            '<mask label="dent" rle="3, 4" left="7" top="8" width="9" height="10"/>',
            '<tag label="rusty" source="manual"/>',
        ]
        png(tmp_path / "images" / "sub" / "a.png")
        labels = "".join(f"<label><name>{name}</name></label>" for name in ("dent", "rusty"))
        head = f"<meta><task><labels>{labels}</labels></task></meta>"
        image = f'<image id="0" name="sub/a.png" width="100" height="80">{"".join(shapes)}</image>'
        text(tmp_path / "annotations.xml", f"<annotations><version>1.1</version>{head}{image}</annotations>")
        assert recognise([tmp_path]) == recognise([tmp_path / "annotations.xml"]) == "cvat"
        reading = cvat.scan([tmp_path])
        (entry,) = reading.entries
        assert [tuple(round(value, 6) for value in box.xyxy) for box in entry.image.boxes] == [
            (10, 20, 30, 40),
            (15, 15, 25, 35),
            (5, 6, 20, 30),
            (40, 20, 60, 60),
            (7, 8, 16, 18),
        ]
        assert [box.difficult for box in entry.image.boxes] == [True, False, False, False, False]
        assert reading.categories == ("dent", "rusty")
        assert kinds(reading.findings) == ["image tags left out", "shapes converted"]

    def test_an_enclosing_box_is_cut_only_where_it_has_to_reach_out(self, tmp_path: Path) -> None:
        png(tmp_path / "a.png")
        ellipse = '<ellipse label="dent" cx="95" cy="40" rx="20" ry="10"/>'
        polygon = '<polygon label="dent" points="90,6;130,9;97,30"/>'
        for shape, xyxy in ((ellipse, (75, 30, 100, 50)), (polygon, (90, 6, 130, 30))):
            text(
                tmp_path / "all.xml", f'<annotations><images><image name="a.png">{shape}</image></images></annotations>'
            )
            assert [box.xyxy for box in cvat.scan([tmp_path]).entries[0].image.boxes] == [xyxy]
        with pytest.raises(LabelError, match="outside its 100 x 80 pixels"):
            convert([tmp_path], tmp_path / "out")

    def test_a_file_without_images_says_so(self, tmp_path: Path) -> None:
        file = text(tmp_path / "all.xml", "<annotations><version>1.1</version></annotations>")
        with pytest.raises(DataError, match="it has no <image>"):
            cvat.read(file)

    def test_lines_tracks_and_missing_images_are_refused_by_name(self, tmp_path: Path) -> None:
        png(tmp_path / "a.png")
        image = '<image id="0" name="a.png" width="100" height="80"><polyline label="dent" points="1,1;5,5"/></image>'
        text(tmp_path / "annotations.xml", f"<annotations>{image}</annotations>")
        (finding,) = cvat.scan([tmp_path]).findings
        assert (finding.kind, finding.image) == ("broken object", (tmp_path / "a.png").resolve())
        assert "dent is drawn as polyline, which has no area" in finding.message
        text(tmp_path / "annotations.xml", '<annotations><track id="0" label="dent"/></annotations>')
        with pytest.raises(DataError, match="'CVAT for video', whose tracks are not read"):
            cvat.read(tmp_path)
        images = "".join(f'<image id="{i}" name="gone{i}.png"/>' for i in range(3))
        text(tmp_path / "annotations.xml", f"<annotations>{images}</annotations>")
        with pytest.raises(DataError, match="none of its 3 images is there"):
            cvat.read(tmp_path)


class TestBorders:
    def done(self, root: Path, box: tuple[object, ...], **more: Any) -> Conversion:
        pair(root, "a", [("dent", 5, 5, 20, 20), ("dent", *box)])
        return convert([root], root / "out", **more)

    @pytest.mark.parametrize(
        ("box", "xyxy"),
        [((0, 1, 9, 9), (0, 0, 9, 9)), ((1, 1, 65, 48), (0, 0, 64, 48)), ((50, 40, 64, 49), (49, 39, 64, 48))],
    )
    def test_up_to_a_pixel_is_clipped_and_counted(
        self, tmp_path: Path, box: tuple[int, ...], xyxy: tuple[float, ...]
    ) -> None:
        done = self.done(tmp_path, box, options=ReadOptions(voc_origin=1))
        assert done.parts["all"].images[0].boxes[1].xyxy == xyxy
        (finding,) = done.findings
        assert (finding.kind, finding.severity) == ("boxes clipped", "note")
        assert finding.message.startswith("1 box of a.png")

    def test_more_is_an_error_unless_it_is_asked_for(self, tmp_path: Path) -> None:
        with pytest.raises(LabelError, match="outside its 64 x 48 pixels"):
            self.done(tmp_path, (5, 5, 70, 20))
        done = self.done(tmp_path, (5, 5, 70, 20), clip=True)
        assert done.parts["all"].images[0].boxes[1].xyxy == (4, 4, 64, 20)
        with pytest.raises(LabelError, match="outside its 64 x 48 pixels"):  # nothing of it would be left
            self.done(tmp_path, (70, 5, 90, 20), clip=True)

    def test_a_hundredth_of_a_large_image_is_little(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png", 0, 1000, 60)
        text(tmp_path / "a.xml", voc_text("a.png", [("dent", 900, 5, 1009, 20)], (1000, 60)))
        assert convert([tmp_path], tmp_path / "out").parts["all"].images[0].boxes[0].xyxy == (899, 4, 1000, 20)
        text(tmp_path / "a.xml", voc_text("a.png", [("dent", 900, 5, 990, 62)], (1000, 60)))
        with pytest.raises(LabelError, match="outside its 1000 x 60 pixels"):
            convert([tmp_path], tmp_path / "out")


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_boxes_drawn_on_stored_pixels_follow_the_image(self, tmp_path: Path, orientation: int) -> None:
        """A bright mark is labelled where it is stored; upright, the box has to be around it again."""
        stored = np.full((48, 64), 90, np.uint8)
        stored[5:15, 40:60] = 250
        exif = Pillow.Exif()
        exif[0x0112] = orientation
        Pillow.fromarray(stored).save(tmp_path / "a.png", exif=exif)
        text(tmp_path / "a.xml", voc_text("a.png", [("dent", 41, 6, 60, 15)]))
        text(tmp_path / "yolo" / "a.txt", f"0 {50 / 64} {10 / 48} {20 / 64} {10 / 48}\n")
        text(tmp_path / "yolo" / "classes.txt", "dent\n")
        Pillow.fromarray(stored).save(tmp_path / "yolo" / "a.png", exif=exif)
        for source, name in ((tmp_path, "voc"), (tmp_path / "yolo", "yolo")):
            options = ReadOptions(ignores_orientation=True)
            files = [source / "a.xml", source / "a.png"] if name == "voc" else [source]
            (image,) = convert(files, tmp_path / "out", source=name, options=options).parts["all"].images
            rows, columns = np.nonzero(read_image(image.path) > 200)
            assert (image.height, image.width) == read_image(image.path).shape
            assert image.boxes[0].xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)

    def test_a_size_that_the_tag_swaps_names_the_option(self, tmp_path: Path) -> None:
        exif = Pillow.Exif()
        exif[0x0112] = 6
        Pillow.fromarray(pixels(0)).save(tmp_path / "a.png", exif=exif)
        text(tmp_path / "a.xml", voc_text("a.png", [("dent", 1, 1, 9, 9)]))
        told = {finding.kind: finding.message for finding in audit_sources([tmp_path]).findings}
        assert "--ignore-orientation" in told["size mismatch"]
        assert "rotated by its orientation tag" in told


def test_what_could_be_several_encodings_is_not_guessed() -> None:
    for data in ("ÄÖ".encode("cp1252"), "Дефект".encode("cp1251"), "キズ".encode("shift_jis"), b"\xff\xfe\x00\xd8"):
        with pytest.raises(UnicodeError):
            decode(data)


def test_the_command_takes_these_options(tmp_path: Path, detect: Callable[..., Any]) -> None:
    pair(tmp_path / "in", "a", [("dent", 0, 5, 70, 20)])
    png(tmp_path / "in" / "IMAGES" / "b.png")
    arguments = ["convert", tmp_path / "in", "--out", tmp_path / "out"]
    failed = detect(*arguments)
    assert failed.code == 2
    assert "--allow-empty" in failed.out
    passed = detect(*arguments, "--allow-empty", "--clip", "--voc-origin", "1", "--ignore-orientation")
    assert passed.code == 0, passed.err
    assert json.loads((tmp_path / "out" / "all.json").read_text())["annotations"][0]["bbox"] == [0, 4, 64, 16]


def test_evaluation_takes_what_conversion_takes(tmp_path: Path, detect: Callable[..., Any]) -> None:
    png(tmp_path / "a.png")
    truth = {
        "images": [{"id": "img-7", "file_name": "a.png"}],
        "categories": [{"id": "0", "name": "dent", "supercategory": "none"}, {"id": "1", "name": "scratch"}],
        "annotations": [{"image_id": "img-7", "category_id": "1", "segmentation": [[10, 20, 30, 20, 30, 40]]}],
    }
    found = [{"image_id": "img-7", "category_id": 1, "bbox": [10, 20, 20, 20], "score": 0.9}]
    (tmp_path / "val.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    assert boxes(convert([tmp_path / "val.json"], tmp_path / "out")) == {"all": {"a": 1}}
    done = detect("evaluate", "--detections", tmp_path / "found.json", "--data", tmp_path / "val.json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "report" / "report.json").read_text())["AP50"] == pytest.approx(1)


def test_reading_labels_needs_no_torch(tmp_path: Path) -> None:
    png(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt")
    text(tmp_path / "classes.txt", "dent\n")
    code = (
        "import sys; from pathlib import Path; from detect.datasets.convert import convert; "
        f"convert([Path({str(tmp_path)!r})], Path({str(tmp_path / 'out')!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
