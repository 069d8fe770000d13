"""The script of the report page: its counts equal those of the evaluation, and a browser shows the selected images."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detect.evaluation.coco_eval import confusion
from detect.evaluation.records import Judgement
from detect.evaluation.summary import image_outcomes, judge
from detect.report.page import pack_viewer_data, write_report
from detect.report.thumbnails import collect_thumbnails

SCRIPTS = Path(__file__).resolve().parents[2] / "detect" / "report" / "script"
NODE, BROWSER = which("node"), which("chromium") or which("chromium-browser") or which("google-chrome")

needs_node = pytest.mark.skipif(NODE is None, reason="needs node to run the page's script")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium to open the page")


def random_judgement(seed: int, images: int = 12, crowds: bool = True) -> Judgement:
    """An evaluation of boxes on a coarse grid, so that equal IoUs and scores are frequent."""
    rng = np.random.default_rng(seed)

    def box() -> list[float]:
        return [*(rng.integers(0, 8, 2) * 8.0), *(rng.integers(1, 4, 2) * 8.0)]

    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 5)):
            crowd = int(crowds and rng.random() < 0.15)
            place = {"image_id": image, "category_id": int(rng.integers(1, 4)), "bbox": box()}
            annotations.append({"id": len(annotations) + 1, "iscrowd": crowd, **place})
            if rng.random() < 0.7:
                near = [v + float(d) for v, d in zip(place["bbox"], rng.choice([0, 0, 2, 4], 4))]
                score = float(rng.integers(1, 10) / 10)
                detections.append({**place, "bbox": near, "score": score})
        for _ in range(rng.integers(0, 3)):
            score = float(rng.integers(1, 10) / 10)
            detections.append(
                {"image_id": image, "category_id": int(rng.integers(1, 4)), "bbox": box(), "score": score}
            )
    return judge(
        {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 96} for i in range(1, images + 1)],
            "annotations": annotations,
            "categories": [{"id": k, "name": name} for k, name in enumerate(("a", "b", "c"), 1)],
        },
        detections,
    )


def in_node(packed: dict[str, Any], threshold: float) -> dict[str, Any]:
    """Confusion matrix and outcomes of each image from the page's script."""
    code = (
        f"const counting = require({json.dumps(str(SCRIPTS / 'counting.js'))});"
        "const [packed, t] = JSON.parse(require('fs').readFileSync(0));"
        "const images = counting.unpack(packed), n = packed.classes.length;"
        "const matrix = Array.from({length: n + 1}, () => new Array(n + 1).fill(0));"
        "images.forEach((image) => counting.confusionPairs(image, t, packed.iou)"
        ".forEach((pair) => { matrix[pair.from ?? n][pair.to ?? n] += 1; }));"
        "console.log(JSON.stringify({matrix, outcomes: images.map((image) => counting.outcomes(image, t)"
        ".map((each) => [each.kind, packed.classes[each.category]]))}));"
    )
    assert NODE is not None
    done = subprocess.run([NODE, "-e", code], input=json.dumps([packed, threshold]), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts: dict[str, Any] = json.loads(done.stdout)
    return counts


@needs_node
@pytest.mark.parametrize("seed", range(4))
def test_script_counts_equal_the_evaluation(seed: int) -> None:
    judged = random_judgement(seed)
    packed = pack_viewer_data(judged.evaluated, collect_thumbnails([], [], None), judged.summary["score_threshold"])
    for threshold in (0.0, 0.3, judged.summary["score_threshold"], 1.0):
        counts = in_node(packed, threshold)
        assert counts["matrix"] == confusion(judged.evaluated, threshold)["matrix"]
        for actual, outcome in zip(counts["outcomes"], image_outcomes(judged.evaluated, threshold)):
            expected = [["right", hit.category] for hit in outcome.hits]
            expected += [["missed", miss.category] for miss in outcome.misses]
            expected += [["false", alarm.category] for alarm in outcome.false_alarms]
            assert sorted(actual) == sorted(expected)


def test_json_can_not_end_its_script_element(tmp_path: Path) -> None:
    from detect.report.page import as_script

    text = as_script({"classes": ["</script><b>&amp;", "\u2028"]})
    assert not set("<>&") & set(text)
    assert json.loads(text)["classes"] == ["</script><b>&amp;", "\u2028"]


def test_number_of_detections_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = random_judgement(0)
    monkeypatch.setattr("detect.report.page._MAX_VIEWER_DETECTIONS", 10)
    packed = pack_viewer_data(judged.evaluated, collect_thumbnails([], [], None), 0.5)
    scores = [d[5] for image in packed["images"] for d in image[5]]
    every = sorted((d["score"] for d in judged.detections), reverse=True)
    assert sorted(scores, reverse=True) == pytest.approx(every[:10])
    assert packed["min_score"] == pytest.approx(every[9])


def test_thumbnail_bytes_are_limited(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(4)]
    for name in names[:3]:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8)).save(tmp_path / name)
    album = collect_thumbnails(names, [3, 2, 0, 1], tmp_path, max_bytes=3000)
    assert album.of == {2: 0, 0: 1}
    assert album.left_out == 1
    assert album.unreadable == ("3.png: no such image",)
    assert album.size(0) == (64, 48)
    assert album.size(1) is None


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Judgement]:
    """A report of twelve images."""
    folder = tmp_path_factory.mktemp("page")
    judged = random_judgement(7, crowds=False)
    for i in range(1, 13):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (96, 96), dtype=np.uint8)).save(folder / f"{i}.png")
    return write_report(judged, folder / "out", images_root=folder).html, judged


def opened(page: Path, state: str, tmp_path: Path) -> str:
    """The DOM of the page after its script has run."""
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    own = [f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=3000", "--dump-dom"]
    assert BROWSER is not None
    arguments = [BROWSER, "--headless", "--no-sandbox", *quiet, *own, page.as_uri() + state]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True).stdout


def texts(dom: str, pattern: str) -> list[str]:
    return [unescape(re.sub(r"<[^>]*>", "", match)).strip() for match in re.findall(pattern, dom, re.DOTALL)]


@needs_browser
def test_initial_counts_are_those_of_the_report(page: tuple[Path, Judgement], tmp_path: Path) -> None:
    path, judged = page
    dom = opened(path, "", tmp_path)
    matrix = judged.summary["confusion"]["matrix"]
    assert [int(n) for n in texts(dom, r"<button[^>]*data-cell[^>]*>(.*?)</button>")] == [
        n for row in matrix for n in row
    ][:-1]
    (foot,) = re.findall(r'id="counts".*?<tfoot>(.*?)</tfoot>', dom, re.DOTALL)
    at = judged.summary["at_threshold"]
    assert texts(foot, r"<td[^>]*>(.*?)</td>")[:3] == [str(at[key]) for key in ("found", "missed", "false")]
    assert "12 of 12 images" in dom
    assert dom.count('<figure class="card"') == 12


@needs_browser
def test_url_fragment_selects_threshold_and_filters(page: tuple[Path, Judgement], tmp_path: Path) -> None:
    path, judged = page
    dom = opened(path, "#t=0.75&kind=missed&category=1", tmp_path)
    expected = [o for o in image_outcomes(judged.evaluated, 0.75) if any(miss.category == "b" for miss in o.misses)]
    assert f"{len(expected)} of 12 images at a score of 0.750 or more" in dom
    shown = texts(dom, r'<span class="file"[^>]*>(.*?)</span>')
    assert sorted(shown[: len(expected)]) == sorted(o.image.file_name for o in expected)


@needs_browser
def test_confusion_cell_shows_its_images(page: tuple[Path, Judgement], tmp_path: Path) -> None:
    path, judged = page
    row = judged.summary["confusion"]["matrix"][0]
    dom = opened(path, "#cell=0-3", tmp_path)
    assert "where a is missed" in dom
    assert 0 < dom.count('<figure class="card"') <= row[3]
    assert re.search(r'data-cell="0-3"[^>]*aria-pressed="true"', dom)
