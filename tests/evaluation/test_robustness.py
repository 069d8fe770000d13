"""A detector under corruptions: what is judged, what is lost, and how it is shown."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from detect.cli.common import UsageError, add_tile_arguments
from detect.cli.evaluate import add_corruption_arguments, check_corruption_arguments, judge_under_corruptions
from detect.errors import DataError
from detect.evaluation.bootstrap import report_intervals
from detect.evaluation.robustness import judge_corrupted
from detect.evaluation.summary import average_precision, judge
from detect.images import Pixels, read_image, write_image
from detect.report.robustness import class_rows, robustness_summary, table_rows, to_markdown, to_svg
from detect.structures import Dataset, Detections, Image
from detect.synthetic.corruptions import CORRUPTIONS, corrupt

CLASSES = ("bright_spot", "dark")
BOX = (10, 12, 40, 30)


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, Any]]:
    """Six gray pictures, alternately with a bright and a dark box; their ids fall."""
    folder = tmp_path_factory.mktemp("steel")
    rng = np.random.default_rng(0)
    paths, images, annotations = [], [], []
    for i in range(6):
        pixels = rng.normal(120, 4, (48, 64))
        pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 220 if i % 2 == 0 else 20
        paths.append(folder / f"{i}.png")
        write_image(paths[-1], pixels.astype(np.uint8))
        images.append({"id": 60 - i, "file_name": paths[-1].name, "width": 64, "height": 48})
        box = [BOX[0], BOX[1], BOX[2] - BOX[0], BOX[3] - BOX[1]]
        annotations.append({"id": i + 1, "image_id": 60 - i, "category_id": 7 - i % 2, "bbox": box})
    categories = [{"id": 7, "name": "bright_spot"}, {"id": 6, "name": "dark"}]
    return paths, {"images": images, "annotations": annotations, "categories": categories}


def seen(pixels: Pixels, **tiles: object) -> Detections:
    """Finds what is brighter than 180 or darker than 60: good light is all it knows."""
    boxes, labels = [], []
    for label, mask in enumerate((pixels > 180, pixels < 60), start=1):
        y, x = np.nonzero(mask)
        if len(x):
            boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
            labels.append(label)
    scores = np.full(len(boxes), 0.9, np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, np.int64), CLASSES)


def detect(pictures: Sequence[Pixels]) -> list[Detections]:
    return [seen(pixels) for pixels in pictures]


def test_what_each_severity_loses_is_known(steel: tuple[list[Path], dict[str, Any]]) -> None:
    paths, truth = steel
    results = judge_corrupted(detect, paths, truth, names=["underexposure", "blur"], severities=[1, 5], resamples=50)
    assert results["clean"]["AP50"] == results["clean"]["AP"] == pytest.approx(1)
    assert (results["images"], results["boxes"], results["names"]) == (6, 6, ["underexposure", "blur"])
    dark = results["corruptions"]["underexposure"]
    # At -3 EV nothing is brighter than 60: the bright boxes are lost, and all pictures are dark to their borders.
    assert dark["severities"]["5"]["value"] == -3
    assert dark["severities"]["5"]["AP50"] == 0
    assert dark["severities"]["5"]["drop"] == 1
    assert dark["severities"]["1"]["per_class"]["bright_spot"] == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0, "drop": 1.0}
    assert dark["severities"]["1"]["per_class"]["dark"]["AP50"] == pytest.approx(1)
    assert dark["severities"]["1"]["AP50"] == pytest.approx(0.5)
    assert dark["mean"]["AP50"] == pytest.approx(0.25)
    assert dark["mean"]["drop"] == pytest.approx(0.75)
    assert results["corruptions"]["blur"]["severities"]["1"]["drop"] == pytest.approx(0)
    each = [row["severities"][s]["AP50"] for row in results["corruptions"].values() for s in ("1", "5")]
    assert results["mean"]["AP50"] == pytest.approx(np.mean(each))
    assert results["by_severity"]["1"]["AP50"] == pytest.approx(np.mean([each[0], each[2]]))
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_figures_are_those_of_the_judge(steel: tuple[list[Path], dict[str, Any]]) -> None:
    paths, truth = steel
    results = judge_corrupted(detect, paths, truth, names=["noise"], severities=[4], seed=5, resamples=0)
    found = []
    for i, (path, image) in enumerate(zip(paths, truth["images"])):
        for one in seen(corrupt(read_image(path), "noise", 4, seed=5, image=i)):
            x1, y1, x2, y2 = one.xyxy
            category = next(c["id"] for c in truth["categories"] if c["name"] == one.label)
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": one.score}
            found.append({"image_id": image["id"], "category_id": category, **box})
    expected = average_precision(truth, found)
    row = results["corruptions"]["noise"]["severities"]["4"]
    assert {key: row[key] for key in ("AP", "AP50", "AP75")} == {k: expected[k] for k in ("AP", "AP50", "AP75")}
    assert row["AP50_low"] is row["drop_high"] is None  # no resamples


def test_batches_progress_and_repetition(steel: tuple[list[Path], dict[str, Any]]) -> None:
    paths, truth = steel
    sizes: list[int] = []
    steps: list[int] = []

    def counted(pictures: Sequence[Pixels]) -> list[Detections]:
        sizes.append(len(pictures))
        return detect(pictures)

    options: dict[str, Any] = {"names": ["noise", "jpeg"], "severities": [3, 1, 3], "resamples": 20}
    first = judge_corrupted(counted, paths, truth, batch_size=4, progress=steps.append, **options)
    assert set(sizes) == {4, 2}
    assert sum(steps) == 6 * (1 + 2 * 2)
    assert first["severities"] == [1, 3]
    assert first == judge_corrupted(detect, paths, truth, batch_size=1, **options)
    assert first != judge_corrupted(detect, paths, truth, seed=1, **options)


def test_intervals_hold_the_figures(steel: tuple[list[Path], dict[str, Any]]) -> None:
    paths, truth = steel
    results = judge_corrupted(detect, paths, truth, names=["noise"], severities=[5], resamples=200)
    row = results["mean"]
    assert row["AP50_low"] <= row["AP50"] <= row["AP50_high"]
    assert row["drop_low"] <= row["drop"] <= row["drop_high"]
    alone = judge_corrupted(detect, paths, truth, names=["noise"], severities=[5], resamples=50, groups=[0] * 6)
    assert alone["mean"]["AP50_low"] is None  # one group says nothing of others


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2, 3]])
def test_the_clean_interval_is_the_one_of_the_report(
    steel: tuple[list[Path], dict[str, Any]], groups: list[int] | None
) -> None:
    paths, truth = steel
    # Two images without a box tell nothing of what is found, and every third box is missed.
    labelled = {**truth, "annotations": truth["annotations"][:4]}

    def careless(pictures: Sequence[Pixels]) -> list[Detections]:
        return [each if pixels[0, 0] % 3 else each.above(0.95) for pixels, each in zip(pictures, detect(pictures))]

    options: dict[str, Any] = {"names": ["noise"], "severities": [1], "resamples": 300, "groups": groups}
    clean = judge_corrupted(careless, paths, labelled, **options)["clean"]
    ids = {"bright_spot": 7, "dark": 6}
    found = [
        {"image_id": image["id"], "category_id": ids[each.label], "bbox": box, "score": each.score}
        for image, found in zip(truth["images"], careless([read_image(path) for path in paths]))
        for each in found
        for box in [[*each.xyxy[:2], each.xyxy[2] - each.xyxy[0], each.xyxy[3] - each.xyxy[1]]]
    ]
    reported = report_intervals(judge(labelled, found).evaluated, groups=groups, resamples=300)["overall"]["AP50"]
    assert 0 < clean["AP50"] < 1
    assert {"low": clean["AP50_low"], "high": clean["AP50_high"]} == reported
    assert reported["low"] < reported["high"]


def test_a_blind_detector_and_empty_labels(steel: tuple[list[Path], dict[str, Any]]) -> None:
    paths, truth = steel
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), CLASSES)
    blind = judge_corrupted(lambda p: [nothing] * len(p), paths, truth, names=["blur"], severities=[1], resamples=20)
    assert blind["clean"]["AP50"] == blind["mean"]["AP50"] == 0
    assert blind["mean"]["drop"] is blind["mean"]["drop_low"] is None
    assert "no loss can be measured" in robustness_summary(blind)
    empty = judge_corrupted(detect, paths, {**truth, "annotations": []}, names=["blur"], severities=[1], resamples=20)
    assert empty["clean"]["AP50"] is empty["mean"]["drop"] is None
    for results in (blind, empty):
        assert to_markdown(results)
        ElementTree.fromstring(to_svg(results))


def test_mistakes_are_told_before_anything_is_detected(steel: tuple[list[Path], dict[str, Any]]) -> None:
    paths, truth = steel

    def never(_: Sequence[Pixels]) -> list[Detections]:
        raise AssertionError

    with pytest.raises(DataError, match="no corruption is called 'rain'"):
        judge_corrupted(never, paths, truth, names=["rain"])
    with pytest.raises(DataError, match="no corruption or no severity was given"):
        judge_corrupted(never, paths, truth, names=[])
    with pytest.raises(DataError, match="5 image files for the 6"):
        judge_corrupted(never, paths[:5], truth)
    with pytest.raises(DataError, match="the detector was trained on bright_spot, dark, the data has rust"):
        judge_corrupted(detect, paths, {**truth, "annotations": [], "categories": [{"id": 1, "name": "rust"}]})


def test_tables_and_chart_show_the_numbers(steel: tuple[list[Path], dict[str, Any]]) -> None:
    paths, truth = steel
    results = judge_corrupted(detect, paths, truth, names=["underexposure", "blur"], severities=[1, 5], resamples=50)
    header, rows = table_rows(results)
    assert header == ["corruption", "1", "5", "mean", "lost", "95 % interval"]
    assert rows[0][:5] == ["underexposure", "0.500", "0.000", "0.250", "75\N{NO-BREAK SPACE}%"]
    assert rows[-1][0] == "mean"
    assert class_rows(results)[0] == ["corruption", *sorted(CLASSES, key=lambda name: name != "dark")]
    text = to_markdown(results, {"weights": "runs/a_b"})
    assert "| underexposure | 0.500 | 0.000 | 0.250 |" in text
    assert "exposure, EV" in text
    assert "runs/a\\_b" in text
    for block in (b.splitlines() for b in text.split("\n\n") if b.startswith("|")):
        assert len({line.count("|") for line in block}) == 1
    assert "loss is largest with underexposure (75" in robustness_summary(results)
    svg = to_svg(results)
    ElementTree.fromstring(svg)
    assert all(name in svg for name in (*CLASSES, "underexposure", "blur", "severity 1, 5: -0.5, -3 EV"))
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", svg)


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", nargs="?")
    add_corruption_arguments(parser)
    add_tile_arguments(parser)
    return parser.parse_intermixed_args(given)


def test_the_command_line_judges_and_writes(
    steel: tuple[list[Path], dict[str, Any]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths, truth = steel
    dataset = Dataset(tuple(Image(path, 64, 48) for path in paths), CLASSES)
    args = arguments("run", "--corruptions", "blur,noise", "--severities", "1,5")
    monkeypatch.setattr(seen, "max_value", None, raising=False)  # as of a predictor that was trained on 8 bits
    results = judge_under_corruptions(seen, dataset, truth, args, tmp_path / "out", {"weights": "w"})  # type: ignore[arg-type]
    assert results["names"] == ["blur", "noise"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("corruptions.json", "corruptions.md", "corruptions.svg")
    ]
    assert json.loads((tmp_path / "out" / "corruptions.json").read_text()) == {**results, "meta": {"weights": "w"}}
    assert "2 corruptions at 2 severities: 30 images" in capfd.readouterr().out


def test_the_command_line_refuses_what_cannot_be_meant() -> None:
    check_corruption_arguments(arguments("run"))
    check_corruption_arguments(arguments("run", "--corruptions"))
    with pytest.raises(UsageError, match="--severities has no meaning without --corruptions"):
        check_corruption_arguments(arguments("run", "--severities", "1"))
    with pytest.raises(UsageError, match="needs a detector"):
        check_corruption_arguments(arguments("--corruptions"))
    with pytest.raises(DataError, match="no corruption is called 'run'"):
        check_corruption_arguments(arguments("run", "--corruptions", "run"))
    with pytest.raises(DataError, match="no severity 9"):
        check_corruption_arguments(arguments("run", "--corruptions", "--severities", "9"))
    assert len(CORRUPTIONS) == 9
