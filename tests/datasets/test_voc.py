from __future__ import annotations

from pathlib import Path

import pytest

from detect.datasets import voc
from detect.datasets.paths import NamedImages
from detect.errors import DataError
from detect.structures import Finding
from labelled_data import OBJECT, pair, picture, voc_text

BOX = ("dent", 3, 4, 10, 20)


def kinds(findings: tuple[Finding, ...], severity: str = "error") -> list[str]:
    return [finding.kind for finding in findings if finding.severity == severity]


def test_coordinates_count_from_one_and_include_the_last_pixel(tmp_path: Path) -> None:
    pair(tmp_path, "a", [("dent", 1, 1, 64, 48), ("dent", 5, 7, 5, 7)])
    boxes = voc.read(tmp_path).images[0].boxes
    assert [box.xyxy for box in boxes] == [(0, 0, 64, 48), (4, 6, 5, 7)]


LAYOUTS = {
    "NEU": ("IMAGES/{}.png", "ANNOTATIONS/{}.xml"),
    "lower case": ("images/{}.png", "annotations/{}.xml"),
    "flat": ("{}.png", "{}.xml"),
    "parts with class folders": ("train/images/dent/{}.png", "train/annotations/{}.xml"),
    "partner in the other part": ("train/images/dent/{}.png", "validation/annotations/{}.xml"),
    "upper case suffixes": ("IMAGES/{}.PNG", "ANNOTATIONS/{}.XML"),
    "spaces and umlauts": ("Prüf ling/bil der/{}.png", "Prüf ling/ü/{}.xml"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    image, label = LAYOUTS[layout]
    for number, name in enumerate(["dent_2", "dent_10"]):
        picture(tmp_path / image.format(name), number)
        xml = tmp_path / label.format(name)
        xml.parent.mkdir(parents=True, exist_ok=True)
        xml.write_text(voc_text(f"{name}.png", [BOX]))
    reading = voc.scan([tmp_path])
    assert not kinds(reading.findings)
    assert [entry.image.path.stem for entry in reading.entries] == ["dent_2", "dent_10"]
    assert all(len(entry.image.boxes) == 1 for entry in reading.entries)


def test_partners_are_found_across_roots_and_overlapping_roots_count_once(tmp_path: Path) -> None:
    xml = pair(tmp_path / "one", "a", [BOX])
    (tmp_path / "two").mkdir()
    xml.rename(tmp_path / "two" / "a.xml")
    reading = voc.scan([tmp_path / "one", tmp_path / "two", tmp_path])
    assert len(reading.entries) == 1
    assert reading.findings == ()


def test_links_are_followed_without_running_in_circles(tmp_path: Path) -> None:
    pair(tmp_path / "store", "a", [BOX])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "loop").symlink_to(tmp_path / "data")
    assert len(voc.read(tmp_path).images) == 1
    assert len(voc.scan([tmp_path / "data", tmp_path / "store"]).entries) == 1


def test_missing_partners_are_named(tmp_path: Path) -> None:
    pair(tmp_path, "a", [BOX]).unlink()
    pair(tmp_path, "b", [BOX])
    (tmp_path / "IMAGES" / "b.png").unlink()
    found = voc.scan([tmp_path]).findings
    assert {(finding.kind, finding.path.name) for finding in found} == {
        ("image without label file", "a.png"),
        ("label file without image", "b.xml"),
    }


def test_two_different_images_of_one_name_are_an_error(tmp_path: Path) -> None:
    pair(tmp_path, "a", [BOX])
    picture(tmp_path / "more" / "a.png", seed=99)
    reading = voc.scan([tmp_path])
    assert reading.entries == ()
    assert kinds(reading.findings) == ["same name twice"]
    assert "2 different images are named a" in reading.findings[0].message
    files = (reading.findings[0].path, *reading.findings[0].others)
    assert sorted(path.name for path in files) == ["a.png", "a.png", "a.xml"]


def test_a_copy_of_an_image_is_only_a_warning(tmp_path: Path) -> None:
    pair(tmp_path, "a", [BOX], seed=1)
    picture(tmp_path / "more" / "a.png", seed=1)
    reading = voc.scan([tmp_path])
    assert len(reading.entries) == 1
    assert kinds(reading.findings, "warning") == ["copy of a file"]


def test_size_comes_from_the_header(tmp_path: Path) -> None:
    pair(tmp_path, "a").write_text(voc_text("a.png", [BOX], size=(500, 400)))
    pair(tmp_path, "b").write_text(voc_text("b.png", [BOX], size=(48, 64)))
    pair(tmp_path, "c").write_text(voc_text("c.png", [BOX], size=None))
    reading = voc.scan([tmp_path])
    assert {(entry.image.width, entry.image.height) for entry in reading.entries} == {(64, 48)}
    assert [(f.kind, f.severity, f.path.stem) for f in reading.findings] == [
        ("size mismatch", "warning", "a"),
        ("size mismatch", "warning", "b"),
    ]
    assert "swapped" in reading.findings[1].message


@pytest.mark.parametrize(
    ("told", "kind", "severity"),
    [
        ("a", "file name without extension", "note"),
        ("a.jpg", "file name at odds", "note"),
        ("b.png", "file name at odds", "warning"),
        ("IMAGES/a.png", None, None),
        (r"C:\\data\\a.png", "file name outside the data", "error"),
        ("/data/a.png", "file name outside the data", "error"),
        ("../a.png", "file name outside the data", "error"),
        (r"..\\..\\a.png", "file name outside the data", "error"),
        ("", "file name missing", "note"),
    ],
)
def test_file_name_told_by_the_xml(tmp_path: Path, told: str, kind: str | None, severity: str | None) -> None:
    pair(tmp_path, "a").write_text(voc_text(told, [BOX]))
    findings = voc.scan([tmp_path]).findings
    assert [(f.kind, f.severity) for f in findings] == ([(kind, severity)] if kind else [])


BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation><filename>&c;</filename></annotation>"""
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation><filename>&a;</filename></annotation>'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB, "defines entities"),
        (OUTSIDE, "defines entities"),
        ("", "empty"),
        (" \n", "empty"),
        (voc_text("a.png", [BOX])[:-30], "cut short"),
        ("<html></html>", "<html>"),
        (b"\x00\xff\x10", "cut short"),
        (
            "<annotation><folder>\u0414\u0435\u0444</folder></annotation>".encode("cp1251"),
            "GBK, Windows-1252 or another",
        ),
        ("<annotation><folder>\u00c4\u00d6</folder></annotation>".encode("cp1252"), "GBK, Windows-1252 or another"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "klingon"),
        ("<a>" * 5000, "cut short"),
    ],
)
def test_hostile_and_damaged_xml_is_refused_in_words(tmp_path: Path, content: str | bytes, words: str) -> None:
    xml = pair(tmp_path, "a")
    xml.write_bytes(content if isinstance(content, bytes) else content.encode())
    pair(tmp_path, "b", [BOX])
    reading = voc.scan([tmp_path])
    assert [entry.image.path.stem for entry in reading.entries] == ["b"]
    assert kinds(reading.findings) == ["unreadable label file"]
    assert reading.findings[0].path == xml
    assert words in reading.findings[0].message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb2312", "latin-1", "spaces first"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    name = {"gb2312": "划痕", "latin-1": "Blöße", "utf-16": "划痕"}.get(encoding, "Blöße 划痕")
    body = voc_text("a.png", [(name, 1, 1, 9, 9)])
    if encoding == "spaces first":
        data = f'\n <?xml version="1.0" encoding="UTF-8"?>{body}'.encode()
    else:
        declared = "utf-8" if encoding == "utf-8-sig" else encoding
        data = f'<?xml version="1.0" encoding="{declared}"?>{body}'.encode(encoding)
    pair(tmp_path, "a").write_bytes(data)
    assert voc.read(tmp_path).images[0].boxes[0].label == name


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("<object><name>dent</name></object>", "no <bndbox>"),
        ("<object><name>dent</name><segmentation/></object>", "only <segmentation>"),
        ("<object><name>dent</name><robndbox/></object>", "<cx> of dent: a number is missing"),
        ("<object><name>dent</name><polygon/></object>", "the <polygon> of dent has no points"),
        (OBJECT.format("", 1, 1, 2, 2, 0), "no <name>"),
        (OBJECT.format("dent", "nan", 1, 2, 2, 0), "not a finite number"),
        (OBJECT.format("dent", 1, "1e999", 2, 2, 0), "not a finite number"),
        (OBJECT.format("dent", 1, 1, "left", 2, 0), "'left' is no number"),
        (OBJECT.format("dent", 1, 1, "", 2, 0), "a number is missing"),
        (OBJECT.format("dent", 1, 1, 2, 2, "maybe"), "neither 0 nor 1"),
    ],
)
def test_a_broken_object_costs_only_itself(tmp_path: Path, item: str, words: str) -> None:
    good = OBJECT.format("dent", 1, 1, 2, 2, 1)
    pair(tmp_path, "a").write_text(f"<annotation><filename>a.png</filename>{item}{good}</annotation>")
    reading = voc.scan([tmp_path])
    assert kinds(reading.findings) == ["broken object"]
    assert reading.findings[0].message.startswith("object 1: ")
    assert words in reading.findings[0].message
    assert [(box.label, box.difficult) for box in reading.entries[0].image.boxes] == [("dent", True)]


def test_reading_strictly_raises_the_first_error_and_counts_the_others(tmp_path: Path) -> None:
    pair(tmp_path, "a", [BOX]).write_text("")
    pair(tmp_path, "b", [BOX]).write_text("")
    with pytest.raises(DataError, match=r"a\.xml: the file is empty.*and 1 more error"):
        voc.read(tmp_path)
    pair(tmp_path, "a", [("dent", 9, 9, 8, 20)])
    pair(tmp_path, "b")
    with pytest.raises(DataError, match=r"box 1 \(dent\) of a\.png has no area"):
        voc.read(tmp_path)


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_nothing_to_read(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=place):
        voc.scan([tmp_path / place])


def test_unreadable_image_header(tmp_path: Path) -> None:
    pair(tmp_path, "a", [BOX])
    (tmp_path / "IMAGES" / "a.png").write_text("not a picture")
    findings = voc.scan([tmp_path]).findings
    assert kinds(findings) == ["unreadable image"]
    assert [path.name for path in findings[0].others] == ["a.xml"]


def test_writing_never_mixes_into_a_full_folder_and_tells_what_xml_cannot_hold(tmp_path: Path) -> None:
    pair(tmp_path / "in", "a", [BOX])
    dataset = voc.read(tmp_path / "in")
    voc.write({"all": dataset}, tmp_path / "out")
    with pytest.raises(DataError, match="not empty"):
        voc.write({"all": dataset}, tmp_path / "out")
    with pytest.raises(DataError, match="can't stand in XML"):
        voc.to_xml(dataset.images[0], "a\x00.png")


def test_markup_in_names_survives(tmp_path: Path) -> None:
    item = OBJECT.format("&lt;dent&gt; &amp; co", 1, 1, 2, 2, 0)
    xml = pair(tmp_path / "in", "a & b")
    xml.write_text(f"<annotation><filename>a &amp; b.png</filename>{item}</annotation>")
    voc.write({"all": voc.read(tmp_path / "in")}, tmp_path / "out")
    assert voc.scan([tmp_path / "out"]).findings == ()
    assert voc.read(tmp_path / "out").categories == ("<dent> & co",)


def test_an_image_in_two_lists_of_parts_stays_in_the_first(tmp_path: Path) -> None:
    for name in "ab":
        pair(tmp_path, name, [BOX])
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("b\n")
    reading = voc.scan([tmp_path])
    assert [entry.part for entry in reading.entries] == ["train", "train"]
    (warning,) = (finding for finding in reading.findings if finding.kind == "image in two parts")
    assert "1 images are in two lists and stay in the first" in warning.message


def test_a_list_of_parts_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    pair(tmp_path, "a", [BOX])
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_bytes(b"\x00\xff\xfe" * 50)
    assert kinds(voc.scan([tmp_path]).findings) == ["unreadable label file"]


def test_deleted_objects_are_left_out(tmp_path: Path) -> None:
    xml = pair(tmp_path, "a", [BOX, ("dent", 20, 20, 30, 30)])
    text = xml.read_text()
    at = text.index("<object>", text.index("<object>") + 1) + len("<object>")
    xml.write_text(f"{text[:at]}<deleted>1</deleted>{text[at:]}")
    assert [box.xyxy for box in voc.read(tmp_path).images[0].boxes] == [(2, 3, 10, 20)]


@pytest.mark.parametrize(("value", "angle"), [("30", 30), ("much", None)])
def test_a_rotation_of_cvat_is_read_if_it_is_a_number(tmp_path: Path, value: str, angle: float | None) -> None:
    xml = pair(tmp_path, "a", [("dent", 20, 10, 40, 20)])
    attribute = f"<attributes><attribute><name>rotation</name><value>{value}</value></attribute></attributes></object>"
    xml.write_text(xml.read_text().replace("</object>", attribute))
    (box,) = voc.scan([tmp_path]).entries[0].image.boxes
    assert (box.xyxy == (19, 9, 40, 20)) is (angle is None)


def test_of_several_images_with_a_name_the_folders_decide(tmp_path: Path) -> None:
    paths = [tmp_path / part / "1.png" for part in ("train", "val")]
    find = NamedImages(paths)
    assert find("C:\\data\\val\\1.png") == paths[1]
    assert find("./1.png") is None
    assert find("data/2.png") is None
    assert NamedImages([tmp_path / "a.b.png"], suffixes=False)("a.b.xml") == tmp_path / "a.b.png"
