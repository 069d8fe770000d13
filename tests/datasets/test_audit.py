from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFilter, ImageOps
from rich.console import Console

from detect.datasets import audit, coco, duplicates
from detect.datasets.convert import audit_sources
from detect.errors import DataError
from detect.images import read_size
from detect.structures import Box, Dataset, Finding, Image
from labelled_data import pair, picture, pixels, voc_text

LABELS = Path("labels.xml")


def judged(*boxes: Box, known: tuple[str, ...] | None = None) -> list[tuple[int, str, str]]:
    image = Image(Path("a.png"), 64, 48, boxes)
    found = audit.check_boxes(image, LABELS, known)
    assert all(finding.path == LABELS and "a.png" in finding.message for _, finding in found)
    return [(i, finding.kind, finding.severity) for i, finding in found]


@pytest.mark.parametrize(
    ("xyxy", "kind"),
    [
        ((0, 0, 64, 48), None),
        ((-0.05, 0, 64.05, 48), None),
        ((-1, 0, 9, 9), "box outside image"),
        ((0, -1, 9, 9), "box outside image"),
        ((0, 0, 65, 9), "box outside image"),
        ((0, 0, 9, 49), "box outside image"),
        ((70, 50, 90, 60), "box outside image"),
        ((5, 5, 5, 9), "empty box"),
        ((5, 5, 9, 5), "empty box"),
        ((9, 5, 5, 9), "inverted box"),
        ((5, 9, 9, 5), "inverted box"),
    ],
)
def test_geometry(xyxy: tuple[float, float, float, float], kind: str | None) -> None:
    assert judged(Box("dent", xyxy)) == ([(0, kind, "error")] if kind else [])


def test_repeated_boxes_are_warnings() -> None:
    one, two = Box("dent", (1, 1, 5, 5)), Box("scratch", (1, 1, 5, 5))
    assert judged(one, one, Box("dent", (1, 1, 5, 6))) == [(1, "duplicate box", "warning")]
    assert judged(one, two) == [(1, "two classes on one box", "warning")]


def test_unknown_classes_suggest_the_nearest() -> None:
    assert judged(Box("dnet", (1, 1, 5, 5)), known=("dent", "scratch")) == [(0, "unknown class", "error")]
    message = audit.check_boxes(Image(Path("a.png"), 9, 9, (Box("dnet", (1, 1, 5, 5)),)), LABELS, ("dent",))[0][1]
    assert "did you mean 'dent'" in message.message


def test_class_names_that_differ_in_spelling_only() -> None:
    found = audit.check_names(["rolled-in_scale", "Rolled in scale", "dent", "划痕", "划伤"], LABELS)
    assert [finding.kind for finding in found] == ["similar class names"]
    assert "'Rolled in scale' and 'rolled-in_scale'" in found[0].message


def test_images_without_objects_are_noted() -> None:
    assert audit.check_no_objects(Image(Path("a.png"), 9, 9), LABELS)[0].severity == "note"
    assert audit.check_no_objects(Image(Path("a.png"), 9, 9, (Box("dent", (1, 1, 5, 5)),)), LABELS) == []


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".jpg", ".tif"])
def test_files_that_are_cut_short_are_found(tmp_path: Path, suffix: str) -> None:
    whole, cut = picture(tmp_path / f"whole{suffix}"), picture(tmp_path / f"cut{suffix}")
    cut.write_bytes(cut.read_bytes()[:-600])
    first, second = duplicates.fingerprints([whole, cut])
    assert isinstance(first, duplicates.Fingerprint)
    assert isinstance(second, DataError)
    boxes = (Box("dent", (1, 1, 5, 5)),)
    images = tuple(Image(path, *read_size(whole), boxes) for path in (whole, cut))
    file = coco.write({"all": Dataset(images, ("dent",))}, tmp_path)["all"]
    (error,) = audit_sources([file]).errors
    assert (error.kind, error.severity, error.path) == ("unreadable image", "error", cut)


def prints_of(*pictures: Pillow.Image, folder: Path) -> list[duplicates.Fingerprint]:
    paths = [folder / f"{i}.png" for i in range(len(pictures))]
    for path, image in zip(paths, pictures):
        image.save(path)
    found = duplicates.fingerprints(paths)
    assert all(isinstance(item, duplicates.Fingerprint) for item in found)
    return [item for item in found if isinstance(item, duplicates.Fingerprint)]


def steel(seed: int, width: int = 200, height: int = 200) -> Pillow.Image:
    """A lit plate with grain at two scales."""
    rng = np.random.default_rng(seed)
    light = np.linspace(-15, 15, width) * rng.uniform(-1, 1) + rng.uniform(110, 140)
    grain = pixels(seed, width, height).astype(float) * 0.3 + rng.normal(0, 3, (height, width))
    return Pillow.fromarray(np.clip(light + grain - 38, 0, 255).astype(np.uint8))


def jpeg(image: Pillow.Image) -> Pillow.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=50)
    return Pillow.open(data).convert("L")


def noisy(image: Pillow.Image) -> Pillow.Image:
    values = np.asarray(image, dtype=float) + np.random.default_rng(5).normal(0, 4, (image.height, image.width))
    return Pillow.fromarray(np.clip(values, 0, 255).astype(np.uint8))


COPIES = {
    "compressed": jpeg,
    "brighter": lambda image: image.point(lambda v: min(255, int(v * 1.2))),
    "flatter": lambda image: image.point(lambda v: int(v * 0.6 + 40)),
    "equalised": ImageOps.equalize,
    "enlarged": lambda image: image.resize((640, 640), Pillow.Resampling.BICUBIC),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "noisy": noisy,
    "shifted by a pixel": lambda image: image.crop((1, 1, 200, 200)),
    "colour": lambda image: Pillow.merge("RGB", [image, image.point(lambda v: v // 2), image]),
    "sixteen bits": lambda image: Pillow.fromarray(np.asarray(image).astype(np.uint16) * 250),
}


@pytest.mark.parametrize("change", COPIES)
def test_near_duplicates_are_found_and_strangers_are_not(tmp_path: Path, change: str) -> None:
    strangers = [steel(seed) for seed in range(6)]
    duplicate_groups = duplicates.find_duplicates(prints_of(*strangers, COPIES[change](strangers[2]), folder=tmp_path))
    assert [(group.members, group.exact) for group in duplicate_groups] == [((2, 6), False)]
    assert duplicates.group_ids(7, duplicate_groups) == [0, 1, 2, 3, 4, 5, 2]


@pytest.mark.parametrize("turn", Pillow.Transpose)
def test_mirrored_and_turned_copies_are_found(tmp_path: Path, turn: Pillow.Transpose) -> None:
    one, other = steel(1), steel(2)
    duplicate_groups = duplicates.find_duplicates(prints_of(one, other, jpeg(other.transpose(turn)), folder=tmp_path))
    assert [(group.members, group.transformed) for group in duplicate_groups] == [((1, 2), True)]
    message = audit.check_duplicates(duplicate_groups, [Path("a.png")] * 3, {1: "train", 2: "val"})[0].message
    assert "mirrored or turned" in message


def test_two_bright_scratches_in_one_place_are_no_duplicates(tmp_path: Path) -> None:
    plates = []
    for seed in (1, 2):
        values = np.array(steel(seed))
        values[:, 90:100] = 250
        plates.append(Pillow.fromarray(values))
    assert duplicates.find_duplicates(prints_of(*plates, folder=tmp_path)) == []


def test_equal_pixels_are_exact_whatever_the_file_holds_them_in(tmp_path: Path) -> None:
    gray = steel(1)
    paths = [tmp_path / "a.bmp", tmp_path / "b.png"]
    gray.save(paths[0])
    gray.convert("RGB").save(paths[1])
    duplicate_groups = duplicates.find_duplicates(
        [item for item in duplicates.fingerprints(paths) if isinstance(item, duplicates.Fingerprint)]
    )
    assert [(group.members, group.exact, group.similarity) for group in duplicate_groups] == [((0, 1), True, 1.0)]


def test_blank_images_equal_only_their_copies(tmp_path: Path) -> None:
    blank = [Pillow.new("L", (50, 50), value) for value in (0, 0, 7)]
    assert [group.members for group in duplicates.find_duplicates(prints_of(*blank, folder=tmp_path))] == [(0, 1)]
    assert duplicates.find_duplicates([]) == []


def test_chains_of_likeness_are_one_group(tmp_path: Path) -> None:
    one, other = steel(1), steel(2)
    chain = prints_of(one, other, jpeg(one), one, folder=tmp_path)
    assert [(group.members, group.exact) for group in duplicates.find_duplicates(chain)] == [((0, 2, 3), False)]


def test_what_is_said_of_duplicates_depends_on_where_they_stand() -> None:
    paths = [Path(f"{i}.png") for i in range(4)]
    duplicate_groups = [duplicates.DuplicateGroup((0, 1), True, 1.0), duplicates.DuplicateGroup((2, 3), False, 0.8)]
    together = audit.check_duplicates(duplicate_groups, paths, {0: "train", 1: "train", 2: "train", 3: "train"})
    assert [(f.kind, f.severity) for f in together] == [
        ("duplicate image", "warning"),
        ("near-duplicate image", "note"),
    ]
    apart = audit.check_duplicates(duplicate_groups, paths, {0: "train", 1: "val", 2: "val", 3: "train"})
    assert [(f.kind, f.severity) for f in apart] == [("duplicate across parts", "warning")] * 2
    assert "train and val" in apart[0].message
    assert list(apart[1].others) == [Path("3.png")]
    assert [f.kind for f in audit.check_duplicates(duplicate_groups[:1], paths, {0: "train"})] == ["duplicate image"]


def test_report_and_table() -> None:
    images = [Image(Path("a.png"), 9, 9, (Box("dent", (1, 1, 5, 5), difficult=True),)), Image(Path("b.png"), 9, 9)]
    findings = tuple(
        Finding(kind, severity, Path(f"[bold]{i}.xml"), f"number {i}")
        for kind, severity, count in (("empty box", "error", 2), ("size mismatch", "warning", 5))
        for i in range(count)
    )
    left_out = (audit.LeftOut("box", Path("c.xml"), "no area"),)
    part = audit.PartCounts.of(images, ("dent", "scratch"))
    report = audit.AuditReport({"all": part}, findings, left_out)
    assert len(report.errors) == 2
    told = json.loads(json.dumps(report.as_dict()))
    assert told["schema"] == 1
    assert told["counts"] == {"empty box": 2, "size mismatch": 5}
    assert told["left_out"] == [{"what": "box", "path": "c.xml", "reason": "no area"}]
    assert told["parts"]["all"] == {
        "images": 2,
        "images_without_objects": 1,
        "boxes": 1,
        "difficult": 1,
        "crowd": 0,
        "per_class": {"dent": {"images": 1, "boxes": 1}, "scratch": {"images": 0, "boxes": 0}},
    }
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(audit.audit_table(report))
    text = console.export_text()
    for piece in (
        "dent",
        "scratch",
        "images without objects",
        "[bold]1.xml: number 1",
        "and 2 more",
        "audit.json: box: 1",
    ):
        assert piece in text


def test_a_clean_audit_says_so() -> None:
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(audit.audit_table(audit.AuditReport({}, ())))
    assert "No findings" in console.export_text()


def test_orientation_tags_are_one_warning_and_copies_are_equal_as_seen(tmp_path: Path) -> None:
    upright = pixels(1)
    exif = Pillow.Exif()
    paths = [tmp_path / name for name in ("plain.png", "a.tif", "b.png", "c.png")]
    Pillow.fromarray(upright).save(paths[0])
    for path, tag, stored in zip(paths[1:], (6, 3, 6), (np.rot90(upright), np.rot90(upright, 2), np.rot90(pixels(2)))):
        exif[274] = tag
        Pillow.fromarray(stored).save(path, exif=exif)
    prints = duplicates.fingerprints(paths)
    assert [each.orientation for each in prints if isinstance(each, duplicates.Fingerprint)] == [1, 6, 3, 6]
    assert [each.members for each in duplicates.find_duplicates(prints)] == [(0, 1, 2)]
    images = [Image(path, 64, 48) for path in paths]
    (warning,) = audit.check_orientation(images, prints)
    assert (warning.kind, warning.severity) == ("rotated by its orientation tag", "warning")
    assert (warning.path, tuple(warning.others)) == (paths[1], tuple(paths[2:]))
    assert "3 images have an orientation tag (3 in 1, 6 in 2)" in warning.message
    assert "a.tif, b.png, c.png" in warning.message
    assert audit.check_orientation(images[:1], prints[:1]) == []


def test_the_audit_and_the_conversion_see_upright_images(tmp_path: Path, detect: Any) -> None:
    for number in range(4):
        pair(tmp_path / "data", f"a{number}", [("dent", 1, 1, 40, 60)], seed=number)
        path = tmp_path / "data" / "IMAGES" / f"a{number}.png"
        exif = Pillow.Exif()
        exif[274] = 8
        Pillow.fromarray(pixels(number)).save(path, exif=exif)
        xml = tmp_path / "data" / "ANNOTATIONS" / f"a{number}.xml"
        xml.write_text(voc_text(f"a{number}.png", [("dent", 1, 1, 40, 60)], size=(48, 64)))
    outcome = detect("audit", tmp_path / "data")
    assert "4 images have an orientation tag (8 in 4)" in " ".join(outcome.out.split())
    assert detect("convert", tmp_path / "data", "--out", tmp_path / "out").code == 0
    written = json.loads((tmp_path / "out" / "all.json").read_text())
    assert {(each["width"], each["height"]) for each in written["images"]} == {(48, 64)}
