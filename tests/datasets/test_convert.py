from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from detect.datasets import coco
from detect.datasets.convert import LabelError, audit_sources, convert
from detect.datasets.formats import FORMATS
from detect.errors import DataError
from labelled_data import pair, picture, steel


def content(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_one_part_called_all_and_an_audit_beside_it(tmp_path: Path) -> None:
    done = convert([steel(tmp_path / "in")], tmp_path / "out")
    assert done.files == {"all": tmp_path / "out" / "all.json"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["all.json", "audit.json"]
    written = content(done.files["all"])
    assert [item["file_name"] for item in written["images"]][:2] == [
        "../in/IMAGES/crazing_1.png",
        "../in/IMAGES/crazing_2.png",
    ]
    assert [item["name"] for item in written["categories"]] == ["crazing", "scratches"]
    assert written["annotations"][0]["bbox"] == [1, 1, 20, 29]
    assert coco.read(done.files["all"]) == done.parts["all"]
    audit = content(tmp_path / "out" / "audit.json")
    assert audit["parts"]["all"]["boxes"] == 12
    assert audit["findings"] == audit["left_out"] == []


def test_categories_are_the_same_in_every_part(tmp_path: Path) -> None:
    root = steel(tmp_path / "in", ("zebra", "Ant"), 2)
    pair(root, "mole_9", [("mole", 1, 1, 5, 5)])
    done = convert([root], tmp_path / "out", split="train=1-2,val=9-9")
    names = [[item["name"] for item in content(path)["categories"]] for path in done.files.values()]
    assert names == [["Ant", "mole", "zebra"]] * 2
    done = convert([root], tmp_path / "out", split="train=1-2,val=9", categories=["zebra", "mole", "Ant", "none"])
    assert done.parts["val"].categories == ("zebra", "mole", "Ant", "none")


def test_numbers_in_no_part_are_counted_and_named(tmp_path: Path) -> None:
    done = convert([steel(tmp_path / "in")], tmp_path / "out", split="train=1-3,val=4")
    assert {name: len(part.images) for name, part in done.parts.items()} == {"train": 6, "val": 2}
    assert [(item.what, item.path.name) for item in done.left_out] == [
        ("image", "crazing_5.png"),
        ("image", "crazing_6.png"),
        ("image", "scratches_5.png"),
        ("image", "scratches_6.png"),
    ]
    assert [(f.kind, f.severity) for f in done.findings] == [("image in no part", "warning")]
    assert "4 images" in done.findings[0].message


def test_copies_stay_together_where_chance_divides_and_are_told_where_numbers_do(tmp_path: Path) -> None:
    root = steel(tmp_path / "in", ("crazing",), 12)
    for number in (3, 9):
        picture(root / "IMAGES" / f"crazing_{number}.png", seed=1000)
    for seed in range(6):
        done = convert([root], tmp_path / "halves", split="train=0.5,val=0.5", seed=seed)
        homes = {name for name, part in done.parts.items() for i in part.images if i.path.stem[-2:] in ("_3", "_9")}
        assert len(homes) == 1
        assert [f.kind for f in done.findings] == ["duplicate image"]
    done = convert([root], tmp_path / "folds", folds=3)
    assert list(done.files) == [f"fold{k}_{part}" for k in (1, 2, 3) for part in ("train", "val")]
    assert [f.kind for f in done.findings] == ["duplicate image"]
    done = convert([root], tmp_path / "numbers", split="train=1-6,val=7-12")
    assert [(f.kind, f.severity) for f in done.findings if f.kind != "parts differ"] == [
        ("duplicate across parts", "warning")
    ]


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    root = steel(tmp_path / "in")
    texts = []
    for seed, out in ((1, "a"), (1, "b"), (2, "c")):
        done = convert([root], tmp_path / out, split="train=0.5,val=0.5", seed=seed)
        texts.append([path.read_bytes() for path in done.files.values()])
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def broken(root: Path) -> Path:
    """Twelve images, of which one is cut short, one has no XML, one XML is empty, and three have a bad box."""
    steel(root)
    image = root / "IMAGES" / "crazing_1.png"
    image.write_bytes(image.read_bytes()[:-500])
    (root / "ANNOTATIONS" / "crazing_2.xml").unlink()
    (root / "ANNOTATIONS" / "crazing_3.xml").write_text("")
    pair(root, "crazing_4", [("crazing", 5, 5, 90, 20), ("crazing", 1, 1, 9, 9)])
    pair(root, "crazing_5", [("crazing", 9, 5, 5, 20)])
    pair(root, "crazing_6", [("crazing", "x", 5, 5, 20)])
    return root


def test_errors_stop_everything_but_the_audit(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"6 errors in the data, the first is .*--skip-bad") as caught:
        convert([broken(tmp_path / "in")], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["audit.json"]
    assert len(caught.value.report.errors) == 6
    told = content(tmp_path / "out" / "audit.json")
    assert told["counts"] == {
        "image without label file": 1,
        "unreadable label file": 1,
        "broken object": 1,
        "unreadable image": 1,
        "box outside image": 1,
        "inverted box": 1,
    }
    assert {Path(finding["path"]).stem for finding in told["findings"]} == {f"crazing_{i}" for i in range(1, 7)}


def test_skipping_what_is_bad_tells_what_was_left_out(tmp_path: Path) -> None:
    done = convert([broken(tmp_path / "in")], tmp_path / "out", skip_bad=True)
    kept = {image.path.stem: len(image.boxes) for image in done.parts["all"].images}
    # An image with a bad box is left out with all its boxes: kept without it, it would count as free of that defect.
    assert kept == {f"scratches_{i}": 1 for i in range(1, 7)}
    assert sorted((item.what, item.path.name) for item in done.left_out) == [
        ("box", "crazing_4.xml"),
        ("box", "crazing_5.xml"),
        ("box", "crazing_6.xml"),
        ("image", "crazing_1.png"),
        ("image", "crazing_2.png"),
        ("image", "crazing_3.png"),
        ("image", "crazing_4.png"),
        ("image", "crazing_5.png"),
        ("image", "crazing_6.png"),
        ("label file", "crazing_3.xml"),
    ]
    assert content(tmp_path / "out" / "audit.json")["left_out"] == [item.as_dict() for item in done.left_out]


def test_nothing_left_to_convert(tmp_path: Path) -> None:
    pair(tmp_path / "in", "a").write_text("")
    with pytest.raises(DataError, match="no image is left"):
        convert([tmp_path / "in"], tmp_path / "out", skip_bad=True)


def test_unknown_classes_stop_the_conversion(tmp_path: Path) -> None:
    root = steel(tmp_path / "in")
    with pytest.raises(LabelError, match="class 'crazing' is none of scratches"):
        convert([root], tmp_path / "out", categories=["scratches"])
    done = convert([root], tmp_path / "out", categories=["scratches"], skip_bad=True)
    assert len(done.parts["all"].images) == 6


@pytest.mark.parametrize("categories", [[], ["a", "a"], ["a", " "]])
def test_lists_of_categories_that_cannot_be_meant(tmp_path: Path, categories: list[str]) -> None:
    with pytest.raises(DataError, match="list of categories"):
        convert([steel(tmp_path / "in", each=1)], tmp_path / "out", categories=categories)


def test_difficult_objects(tmp_path: Path) -> None:
    root = tmp_path / "in"
    pair(root, "a_1", [("dent", 1, 1, 5, 5, 1), ("dent", 1, 1, 9, 9, 0)])
    pair(root, "a_2", [("dent", 1, 1, 5, 5, 1)])

    def flags(mode: Any) -> list[list[tuple[int, int]]]:
        done = convert([root], tmp_path / "out", difficult=mode)
        items = content(done.files["all"])["annotations"]
        assert len(done.left_out) == (2 if mode == "drop" else 0)
        return [[(a["difficult"], a["iscrowd"]) for a in items if a["image_id"] == i] for i in (1, 2)]

    assert flags("keep") == [[(1, 0), (0, 0)], [(1, 0)]]
    assert flags("ignore") == [[(1, 1), (0, 0)], [(1, 1)]]
    assert flags("drop") == [[(0, 0)], []]


@pytest.mark.parametrize("target", ["voc", "yolo"])
def test_other_targets_hold_copies_of_the_images(tmp_path: Path, target: str) -> None:
    done = convert([steel(tmp_path / "in")], tmp_path / "out", target=target, split="train=1-4,val=5-6")
    shutil.rmtree(tmp_path / "in")
    assert [f.kind for f in done.findings] == ["images copied"]
    back = FORMATS[target].scan([tmp_path / "out"])
    assert not [f for f in back.findings if f.severity == "error"]
    assert sorted(entry.part for entry in back.entries) == ["train"] * 8 + ["val"] * 4
    again = convert([tmp_path / "out"], tmp_path / "coco", split="train=1-4,val=5-6")
    for name, part in done.parts.items():
        theirs = {image.path.name: image.boxes for image in again.parts[name].images}
        assert theirs == {image.path.name: image.boxes for image in part.images}
    with pytest.raises(DataError, match="not empty"):
        convert([tmp_path / "coco"], tmp_path / "out", target=target, split="train=1-4,val=5-6")


def test_parts_of_the_source_are_kept(tmp_path: Path) -> None:
    convert([steel(tmp_path / "in")], tmp_path / "yolo", target="yolo", split="train=1-4,val=5-6")
    done = convert([tmp_path / "yolo"], tmp_path / "coco")
    assert {name: len(part.images) for name, part in done.parts.items()} == {"train": 8, "val": 4}
    assert set(convert([tmp_path / "coco"], tmp_path / "more").files) == {"train", "val"}
    assert set(convert([tmp_path / "coco" / "val.json"], tmp_path / "one").files) == {"all"}
    convert([tmp_path / "coco"], tmp_path / "voc", target="voc")
    assert set(convert([tmp_path / "voc"], tmp_path / "last").files) == {"train", "val"}
    # In some copies of NEU-DET an image and its XML are in different parts: these are no division.
    (tmp_path / "voc" / "train" / "IMAGES" / "crazing_1.png").rename(
        tmp_path / "voc" / "val" / "IMAGES" / "crazing_1.png"
    )
    assert set(convert([tmp_path / "voc"], tmp_path / "last").files) == {"all"}
    assert set(audit_sources([tmp_path / "voc"]).parts) == {"train", "val"}


def test_what_a_format_cannot_hold_is_told(tmp_path: Path) -> None:
    root = tmp_path / "in"
    pair(root, "a_1", [("dent", 1, 1, 5, 5, 1)])
    done = convert([root], tmp_path / "yolo", target="yolo")
    assert ("flags lost", "warning") in [(f.kind, f.severity) for f in done.findings]
    convert([root], tmp_path / "coco")
    data = content(tmp_path / "coco" / "all.json")
    data["annotations"][0]["bbox"] = [0.5, 0.5, 4, 4]
    (tmp_path / "coco" / "all.json").write_text(json.dumps(data))
    done = convert([tmp_path / "coco"], tmp_path / "voc", target="voc")
    assert ("boxes rounded", "note") in [(f.kind, f.severity) for f in done.findings]


def test_parts_of_an_earlier_conversion_are_told(tmp_path: Path) -> None:
    root = steel(tmp_path / "in")
    convert([root], tmp_path / "out", folds=2)
    done = convert([root], tmp_path / "out", split="train=1-4,val=5-6")
    assert [f.kind for f in done.findings] == ["older part"]
    assert {path.name for path in done.findings[0].others} == {
        f"fold{k}_{p}.json" for k in "12" for p in ("train", "val")
    }


def test_a_source_is_never_overwritten(tmp_path: Path) -> None:
    convert([steel(tmp_path / "in")], tmp_path / "out")
    before = (tmp_path / "out" / "all.json").read_bytes()
    with pytest.raises(DataError, match="would be replaced"):
        convert([tmp_path / "out" / "all.json"], tmp_path / "out")
    assert (tmp_path / "out" / "all.json").read_bytes() == before
    convert([tmp_path / "in"], tmp_path / "in")
    convert([tmp_path / "in"], tmp_path / "in")  # the JSON files of the first time don't confuse the second


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "pdf"}, "no format 'pdf' to write"),
        ({"source": "pdf"}, "no format 'pdf' to read"),
        ({"split": "train=0.5,val=0.5", "folds": 2}, "exclude each other"),
        ({"split": "train=0.5"}, "sum to 0.5"),
        ({"split": "train=1-6,val=50-60"}, "val=50-60"),
        ({"folds": 100}, "can't fill 100 folds"),
        ({"folds": 0}, "0 folds"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        convert([steel(tmp_path / "in")], tmp_path / "out", **arguments)
    assert not list((tmp_path / "out").glob("*.json"))


def test_spaces_and_umlauts_in_every_path(tmp_path: Path) -> None:
    root = tmp_path / "Prüf ling"
    pair(root, "划痕 1", [("Kratzer ü", 1, 1, 5, 5)])
    done = convert([root], tmp_path / "aus gabe ß")
    assert content(done.files["all"])["images"][0]["file_name"] == "../Prüf ling/IMAGES/划痕 1.png"
    assert coco.read(done.files["all"]).images[0].boxes[0].label == "Kratzer ü"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are no Unicode")
def test_file_names_that_are_no_unicode(tmp_path: Path) -> None:
    root = tmp_path / "in"
    pair(root, "a_1", [("dent", 1, 1, 5, 5)])
    for folder, suffix in (("IMAGES", ".png"), ("ANNOTATIONS", ".xml")):
        (root / folder / f"a_1{suffix}").rename(root / folder / f"\udce4_1{suffix}")
    done = convert([root], tmp_path / "out")
    assert coco.read(done.files["all"]).images[0].path.is_file()


def test_auditing_writes_nothing(tmp_path: Path) -> None:
    root = broken(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    report = audit_sources([root])
    assert len(report.errors) == 6
    assert report.left_out == ()
    assert [f.severity for f in report.findings] == sorted(f.severity for f in report.findings)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_torch_and_no_opencv(tmp_path: Path) -> None:
    steel(tmp_path / "in", each=1)
    code = (
        "import sys; from pathlib import Path; from detect.datasets.convert import convert; "
        f"convert([Path({str(tmp_path / 'in')!r})], Path({str(tmp_path / 'out')!r})); "
        "print([name for name in ('torch', 'torchvision', 'cv2', 'pycocotools') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_real_data(neu_det: Path, tmp_path: Path) -> None:
    start = time.process_time()  # not the clock on the wall: other work may keep the machine busy
    done = convert([neu_det], tmp_path, split="train=1-200,val=201-240")
    seconds = time.process_time() - start
    counts = {name: (part.images, part.boxes) for name, part in done.report.parts.items()}
    assert counts == {"train": (1200, 2758), "val": (240, 577)}
    assert done.report.errors == ()
    copies = [f for f in done.findings if "duplicate" in f.kind and f.others]
    named = {frozenset({f.path.stem, *(path.stem for path in f.others)}): f.kind for f in copies}
    # One picture twice in the training part, and one defect photographed twice, once in each part.
    assert named == {
        frozenset({"patches_101", "patches_105"}): "duplicate image",
        frozenset({"inclusion_188", "inclusion_210"}): "duplicate across parts",
    }
    repeated = {f.path.stem for f in done.findings if f.kind == "duplicate box"}
    assert repeated == {"crazing_120", "inclusion_62", "patches_198"}
    assert sum(f.kind == "file name without extension" for f in done.findings) == 174
    assert seconds < 15, "three seconds of the processor on a slow core: it has grown several times"
