"""Agreement of two annotations: matches, shares and standard deviations by hand, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.errors import DataError
from evaluation_cases import AWAY, PART, WHOLE, case
from label_agreement import duplicate_label_agreement, label_agreement, main

Corners = tuple[float, float, float, float]
GOOD = (0.0, 0.0, 100.0, 80.0)  # IoU 0.8 with WHOLE


def labels(*rows: tuple[int, str, Corners], crowd: tuple[int, ...] = ()) -> dict[str, Any]:
    return case(list(rows), [], crowd=crowd)[0]


def test_matches_shares_and_f1() -> None:
    first = labels((1, "patches", WHOLE), (1, "patches", AWAY), (2, "patches", WHOLE))
    second = labels((1, "patches", GOOD), (2, "patches", WHOLE))
    result = label_agreement(first, second)
    row = result["per_class"]["patches"]
    assert result["images"] == 3
    assert (row["boxes"], row["matched"]) == ([3, 2], 2)
    assert row["matched_share"] == pytest.approx([2 / 3, 1])
    assert row["f1"] == pytest.approx(4 / 5)
    at_iou = {"0.50": 0.8, "0.55": 0.8, "0.60": 0.8, "0.65": 0.8, "0.70": 0.8, "0.75": 0.8, "0.80": 0.8}
    assert row["f1_by_iou"] == pytest.approx(at_iou | {"0.85": 0.4, "0.90": 0.4, "0.95": 0.4})
    assert row["mean_iou"] == pytest.approx(0.9)
    assert row["edge_difference_px"] == {"left": 0, "top": 0, "right": 0, "bottom": -10}
    assert row["edge_sd_px"]["bottom"] == pytest.approx(200**0.5)  # -20 and 0
    assert row["annotator_sd_px"]["bottom"] == pytest.approx(10)
    assert result["overall"] == row


def test_standard_deviation_of_one_annotator() -> None:
    """Both have independent errors of 2 px, so the standard deviation of their difference is 2 * sqrt(2)."""
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(2):
        rows = [(i % 3 + 1, "patches", (0.0, 200.0 * i, 100.0, 200.0 * i + 100)) for i in range(300)]
        pairs.append(labels(*((i, n, tuple(np.array(box) + rng.normal(0, 2, 4))) for i, n, box in rows)))
    row = label_agreement(*pairs)["per_class"]["patches"]
    assert list(row["annotator_sd_px"].values()) == pytest.approx([2] * 4, rel=0.15)
    assert list(row["edge_difference_px"].values()) == pytest.approx([0] * 4, abs=0.6)
    assert row["f1"] == 1


def test_highest_iou_is_matched_first_in_either_order_of_files() -> None:
    lower, between = (0.0, 20.0, 100.0, 120.0), (0.0, 15.0, 100.0, 115.0)
    first, second = labels((1, "patches", WHOLE), (1, "patches", lower)), labels((1, "patches", between))
    for one, other, side in ((first, second, 0), (second, first, 1)):
        row = label_agreement(one, other)["overall"]
        assert row["matched"] == 1
        assert row["matched_share"][side] == 0.5
        assert row["mean_iou"] == pytest.approx(95 / 105)


def test_other_classes_are_counted_but_not_matched() -> None:
    result = label_agreement(labels((1, "patches", WHOLE)), labels((1, "scratches", GOOD)))
    assert result["overall"]["matched"] == 0
    assert result["overall"]["f1"] == 0
    assert result["overall"]["other_class"] == 2
    assert [result["per_class"][name]["other_class"] for name in ("inclusion", "patches", "scratches")] == [0, 1, 1]


def test_no_match_below_an_iou_of_0_5() -> None:
    row = label_agreement(labels((1, "patches", WHOLE)), labels((1, "patches", PART)))["overall"]
    assert (row["matched"], row["other_class"], row["mean_iou"]) == (0, 0, None)
    assert row["edge_sd_px"] == row["edge_difference_px"] == dict.fromkeys(("left", "top", "right", "bottom"))


def test_crowd_boxes_and_boxes_inside_them_do_not_count() -> None:
    first = labels((1, "patches", WHOLE), (2, "patches", WHOLE), crowd=(0,))
    second = labels((1, "patches", PART), (1, "patches", AWAY), (1, "scratches", PART), (2, "patches", WHOLE))
    for pair, sides in (((first, second), ([1, 2], [0, 1])), ((second, first), ([2, 1], [1, 0]))):
        result = label_agreement(*pair)
        assert result["per_class"]["patches"]["boxes"] == sides[0]
        assert result["per_class"]["patches"]["matched"] == 1
        assert result["per_class"]["scratches"]["boxes"] == sides[1]


def test_box_in_a_crowd_region_counts_if_matched_or_less_than_half_inside() -> None:
    first = labels((1, "patches", WHOLE), (1, "patches", GOOD), crowd=(0,))
    second = labels((1, "patches", GOOD), (1, "patches", (80.0, 0.0, 180.0, 100.0)))
    assert label_agreement(first, second)["overall"]["boxes"] == [1, 2]
    assert label_agreement(second, first)["overall"]["boxes"] == [2, 1]


def test_matched_box_has_no_other_class() -> None:
    row = label_agreement(labels((1, "patches", WHOLE)), labels((1, "patches", GOOD), (1, "scratches", WHOLE)))[
        "overall"
    ]
    assert (row["matched"], row["other_class"]) == (1, 0)


def test_images_are_paired_by_id_and_classes_by_name() -> None:
    first = labels((1, "patches", WHOLE), (3, "scratches", WHOLE))
    second = labels((3, "scratches", WHOLE))
    second["images"] = [{"id": 3, "file_name": "elsewhere/3.png"}]
    second["categories"] = [{"id": 3, "name": "scratches"}, {"id": 9, "name": "dent"}]
    result = label_agreement(first, second)
    assert result["images"] == 1
    assert list(result["per_class"]) == ["inclusion", "patches", "scratches", "dent"]
    assert result["per_class"]["scratches"]["f1"] == 1
    assert result["per_class"]["patches"]["f1"] is None
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_duplicate_images_in_one_data_set() -> None:
    truth = labels((1, "patches", WHOLE), (2, "patches", GOOD), (3, "patches", WHOLE), (3, "patches", AWAY))
    row = duplicate_label_agreement(truth, [(1, 2)])["per_class"]["patches"]
    assert (row["boxes"], row["f1"]) == ([1, 1], 1)
    assert row["edge_difference_px"]["bottom"] == -20
    assert row["edge_sd_px"]["bottom"] is None  # from one pair
    row = duplicate_label_agreement(truth, [(1, 2), (1, 3)])["per_class"]["patches"]
    assert (row["boxes"], row["matched"]) == ([2, 3], 2)


def test_without_labels_nothing_is_measured() -> None:
    result = label_agreement(labels(), labels())
    assert result["overall"]["f1"] is None
    assert result["overall"]["boxes"] == [0, 0]


class TestErrors:
    def test_no_image_in_common(self) -> None:
        second = labels()
        second["images"] = [{"id": 44}]
        with pytest.raises(DataError, match="no image id in common; give two annotations of the same images"):
            label_agreement(labels(), second)

    def test_id_with_different_file_names(self) -> None:
        second = labels()
        second["images"][1]["file_name"] = "7.png"
        with pytest.raises(DataError, match=r"image 2 is '2\.png' in the first file and '7\.png' in the second"):
            label_agreement(labels(), second)

    @pytest.mark.parametrize(
        ("pairs", "message"),
        [([], "no pair"), ([(1, 44)], "image 44 is not in the labels"), ([(2, 2)], "image 2 is paired with itself")],
    )
    def test_invalid_pairs(self, pairs: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            duplicate_label_agreement(labels(), pairs)

    def test_value_that_is_no_coco_data_set(self) -> None:
        with pytest.raises(DataError, match="COCO"):
            label_agreement([], labels())  # type: ignore[arg-type]


def test_command_prints_the_agreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, box in (("first", WHOLE), ("second", GOOD)):
        (tmp_path / f"{name}.json").write_text(json.dumps(labels((1, "patches", box))))
    assert main([str(tmp_path / "first.json"), str(tmp_path / "second.json")]) == 0
    assert json.loads(capsys.readouterr().out)["overall"]["mean_iou"] == pytest.approx(0.8)
    assert main([str(tmp_path / "first.json"), "--pair", "1", "99"]) == 2
    assert "image 99 is not in the labels" in capsys.readouterr().err
