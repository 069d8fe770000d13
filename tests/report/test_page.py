"""The report files: equal numbers in all of them, valid and self-contained HTML, Markdown, LaTeX and SVG."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from detect.errors import DataError
from detect.evaluation.records import Judgement
from detect.evaluation.summary import judge
from detect.report.page import write_report

LOG = [
    {"epoch": e, "loss": 2.0 / e, "losses": {"loss_classifier": 1.0 / e}, "val": {"AP": 0.1 * e, "AP50": 0.2 * e}}
    for e in (1, 2, 3)
]
META = {
    "weights": "runs/a/best.pt",
    "data": "val.json",
    "seed": 7,
    "versions": {"torch": "2.11"},
    "machine": {"cpu": 2},
}


def judgement(names: tuple[str, ...] = ("patches", "scratches"), file_name: str = "{}.png") -> Judgement:
    """Three images: one hit of the first class, one missed label and one false alarm of the second class."""
    truth = {
        "images": [{"id": i, "file_name": file_name.format(i), "width": 64, "height": 48} for i in (1, 2, 3)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 30]},
            {"id": 2, "image_id": 2, "category_id": 2, "bbox": [10, 8, 30, 20]},
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }
    detections = [
        {"image_id": 1, "category_id": 1, "bbox": [6, 5, 20, 31], "score": 0.9},
        {"image_id": 3, "category_id": 2, "bbox": [40, 20, 20, 20], "score": 0.8},
    ]
    return judge(truth, detections, score_threshold=0.5)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in (1, 2, 3):
        Image.fromarray(rng.integers(0, 255, (48, 64), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


class Page(HTMLParser):
    """Parsed HTML: its elements with attributes, and the elements that are still open at the end."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def count(self, tag: str, css_class: str | None = None) -> int:
        return sum(
            t == tag and (css_class is None or css_class in (a.get("class") or "").split()) for t, a in self.tags
        )


def test_all_files_have_the_same_numbers(pictures: Path) -> None:
    judged = judgement()
    paths = write_report(judged, pictures / "out", images_root=pictures, log=LOG, meta=META)
    assert sorted(p.name for p in (pictures / "out").iterdir()) == [
        "detections.json",
        "figures",
        "report.html",
        "report.json",
        "report.md",
        "report.tex",
    ]
    assert json.loads(paths.detections.read_text()) == judged.detections
    numbers = json.loads(paths.json.read_text())
    assert {k: v for k, v in numbers.items() if k != "meta"} == judged.summary
    assert numbers["meta"] == META
    page, text = paths.html.read_text(), paths.markdown.read_text()
    for key in ("AP", "AP50", "AP75", "AR100"):
        for shown in (page, text):
            assert f"{judged.summary[key]:.3f}" in shown
    for shown in (page, text):
        assert f"{judged.summary['per_class']['patches']['mean_iou']:.3f}" in shown
        assert "no edge has a significant bias of 0.5 px or more" in shown  # one matched pair is never significant
        assert "runs/a/best.pt" in shown
        assert "torch 2.11" in shown


def test_written_detections_can_be_evaluated_again(pictures: Path) -> None:
    paths = write_report(judgement(), pictures / "out", images_root=None)
    truth = {
        "images": [{"id": i} for i in (1, 2, 3)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 30]}],
        "categories": [{"id": 1, "name": "patches"}, {"id": 2, "name": "scratches"}],
    }
    assert judge(truth, json.loads(paths.detections.read_text())).summary["AP50"] == pytest.approx(1)


def test_page_is_valid_and_loads_nothing(pictures: Path) -> None:
    text = write_report(judgement(), pictures, images_root=pictures, log=LOG, meta=META).html.read_text()
    page = Page(text)
    assert page.open == []
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value)
    assert page.count("link") == page.count("iframe") == page.count("img") == 0
    assert not re.search(r"https?://|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    assert "default-src 'none'" in text
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    used = {a["href"].lstrip("#") for tag, a in page.tags if tag == "use" and a["href"]}
    assert used <= set(ids)


def viewer_data(text: str) -> dict[str, Any]:
    """The JSON data of the page's script."""
    (packed,) = re.findall(r'<script type="application/json" id="viewer-data">(.*?)</script>', text)
    data: dict[str, Any] = json.loads(packed)
    return data


def test_page_contains_every_image_with_its_boxes(pictures: Path) -> None:
    text = write_report(judgement(), pictures, images_root=pictures).html.read_text()
    packed = viewer_data(text)
    assert Page(text).count("image") == 3  # each image once
    assert packed["classes"] == ["patches", "scratches"]
    assert packed["threshold"] == 0.5
    thumbnail_of = {image[0]: image[3] for image in packed["images"]}
    assert sorted(thumbnail_of.values()) == [0, 1, 2]
    assert thumbnail_of["1.png"] == 2  # images with mistakes come first
    assert [image[:3] + image[4:] for image in packed["images"]] == [
        ["1.png", 64, 48, [[5, 5, 25, 35, 0]], [[6, 5, 26, 36, 0, 0.9, 0]]],
        ["2.png", 64, 48, [[10, 8, 40, 28, 1]], []],
        ["3.png", 64, 48, [], [[40, 20, 60, 40, 1, 0.8, -1, 4]]],
    ]


def test_names_are_escaped(pictures: Path) -> None:
    evil = '<script>alert("1")</script>'
    judged = judgement(names=(evil, "a|b `c` *d* \n e"), file_name="<img src=x onerror=alert(1)>{}.png")
    paths = write_report(judged, pictures, images_root=pictures, log=LOG, meta={"weights": evil, evil: evil})
    text = paths.html.read_text()
    page = Page(text)
    assert page.open == []
    assert page.count("script") == 2
    assert page.count("img") == 0
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert evil not in text
    markdown = paths.markdown.read_text()
    assert "<script" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| a\\|b \\`c\\` \\*d\\* e ")]
    assert len(rows) == 3
    assert json.loads(paths.json.read_text())["per_class"].keys() == judged.summary["per_class"].keys()


def test_missing_images_are_listed(pictures: Path) -> None:
    (pictures / "2.png").unlink()
    (pictures / "3.png").write_bytes(b"no picture")
    text = write_report(judgement(), pictures / "out", images_root=pictures).html.read_text()
    page = Page(text)
    assert page.count("image") == 1
    assert [image[3] for image in viewer_data(text)["images"]] == [0, None, None]
    assert "2 images can't be shown" in text
    assert "2.png: no such image" in text
    assert "3.png: the image can&#39;t be read" in text
    without = write_report(judgement(), pictures / "out", images_root=None).html.read_text()
    assert "No image folder was given" in without
    assert Page(without).count("image") == 0


def test_training_curves_need_a_log(pictures: Path) -> None:
    def page(log: list[dict[str, Any]] | None) -> str:
        return write_report(judgement(), pictures, images_root=pictures, log=log).html.read_text()

    with_log, without = page(LOG), page(None)
    assert "Validation: best AP 0.300 at epoch 3" in with_log
    assert "<h2>Training</h2>" not in without
    broken = [{"epoch": 1, "loss": float("nan"), "val": None}, {"epoch": 2, "loss": 1.0}]
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page(broken))


@pytest.mark.parametrize(("labels", "found"), [(True, False), (False, True), (False, False)])
def test_report_without_labels_or_without_detections(pictures: Path, labels: bool, found: bool) -> None:
    truth = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 30]}] if labels else [],
        "categories": [{"id": 1, "name": "patches"}],
    }
    detections = [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 30], "score": 0.5}] if found else []
    paths = write_report(judge(truth, detections), pictures, images_root=pictures)
    assert Page(paths.html.read_text()).open == []
    assert json.loads(paths.json.read_text())["AP"] == (0 if labels else None)
    assert ("0.000" if labels else "\N{EN DASH}") in paths.markdown.read_text()


def test_intervals_are_shown_with_every_metric(pictures: Path) -> None:
    judged = judgement()
    span = {"low": 0.123, "high": 0.987}
    keys = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "oLRP")
    metrics = dict.fromkeys(keys, span) | {"APl": {"low": None, "high": None}}
    intervals = {"overall": metrics, "per_class": dict.fromkeys(judged.summary["per_class"], metrics)}
    judged.summary["intervals"] = {**intervals, "confidence": 0.95, "resamples": 1000, "groups": 2}
    paths = write_report(judged, pictures / "out", images_root=None, meta=META)
    classes = len(judged.summary["per_class"])
    shown = "0.123\N{EN DASH}0.987"
    page, markdown, latex = (path.read_text() for path in (paths.html, paths.markdown, paths.latex))
    # tiles, strip, table of classes with its footer, oLRP with its footer
    assert page.count(shown) == 4 + 7 + (classes + 1) * 6 + (classes + 1)
    assert markdown.count(shown) == 5 + 6 + classes * 6
    assert re.search(
        r"Intervals have a confidence of 95.%, from 1,000 bootstrap resamples of 2 groups of images\.", markdown
    )
    assert latex.count("(12.3--98.7)") == (classes + 1) * 4
    assert r"in brackets 95\,\% bootstrap intervals" in latex


def test_markdown_tables_have_equal_rows(pictures: Path) -> None:
    text = write_report(judgement(), pictures, images_root=None, meta=META).markdown.read_text()
    blocks = [b.splitlines() for b in text.split("\n\n") if b.startswith("|")]
    assert len(blocks) == 9
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1
        assert set(block[1]) <= set("| -:")


def test_figures_are_valid_svg_files(pictures: Path) -> None:
    paths = write_report(judgement(names=("a & b", "<c>")), pictures, images_root=None)
    svg_files = sorted(paths.figures.iterdir())
    assert [path.name for path in svg_files] == ["precision_recall.svg", "score_threshold.svg"]
    for path in svg_files:
        root = ElementTree.fromstring(path.read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        height = float(root.attrib["viewBox"].split()[3])
        assert all(float(each.attrib.get("y", 0)) <= height for each in root.iter())
    assert "a &amp; b" in svg_files[0].read_text()
    empty = judge({"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}, [])
    assert list(write_report(empty, pictures, images_root=None).figures.iterdir()) == []


def test_latex_tables(pictures: Path) -> None:
    text = write_report(
        judgement(names=("rolled-in_scale", "50 % \\ & more")), pictures, images_root=None
    ).latex.read_text()
    assert r"rolled-in\_scale & 1 & " in text
    assert r"50 \% \textbackslash{} \& more & 1 & 0.0 & 0.0 & 0.0 & 0.0 \\" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    for block in re.findall(r"\\begin{tabular}{(l r*|lr*)}(.*?)\\end{tabular}", text, re.DOTALL):
        rows = [line for line in block[1].splitlines() if line.endswith("\\\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(block[0])}


def test_second_report_replaces_the_first(pictures: Path) -> None:
    out = pictures / "deep" / "out"
    write_report(judgement(), out, images_root=None)
    write_report(judgement(names=("a", "b")), out, images_root=None)
    assert "scratches" not in (out / "report.html").read_text()
    assert len(list(out.iterdir())) == 6


def test_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose a folder that can be written to"):
        write_report(judgement(), tmp_path / "file", images_root=None)


@pytest.mark.parametrize("kind", ["wide", "rgb", "uint16"])
def test_thumbnails_of_any_shape_and_depth_are_small(tmp_path: Path, kind: str) -> None:
    from detect.report.thumbnails import embed_thumbnail

    rng = np.random.default_rng(0)
    shapes: dict[str, Any] = {"wide": (100, 3000), "rgb": (30, 40, 3), "uint16": (30, 40)}
    depth: Any = np.uint16 if kind == "uint16" else np.uint8
    path = tmp_path / "a.png"
    Image.fromarray(rng.integers(0, 200, shapes[kind], dtype=depth)).save(path)
    picture = embed_thumbnail(path)
    assert (picture.height, picture.width) == shapes[kind][:2]
    assert picture.uri.startswith("data:image/jpeg;base64,")
    assert len(picture.uri) < 60_000


def test_report_imports_neither_torch_nor_a_plotting_library() -> None:
    code = "import sys, detect.report; print(sorted({'torch', 'cv2', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
