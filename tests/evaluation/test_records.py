"""What can't be judged is refused by index and with its likely cause; what is only suspicious is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detect.errors import DataError
from detect.evaluation.records import Judgement
from detect.evaluation.summary import judge
from detect.report.tables import warning_sentence


def warnings_of(judged: Judgement) -> list[str]:
    return [warning_sentence(each, judged.summary["detections"]) for each in judged.summary["warnings"]]


def labels(images: int = 4, *, image_from: int = 1, category_from: int = 1) -> dict[str, Any]:
    ids = range(image_from, image_from + images)
    places = [(i, category_from + n % 3) for n, i in enumerate(ids)]
    return {
        "images": [{"id": i, "file_name": f"{i}.bmp", "width": 100, "height": 100} for i in ids],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": [10, 20, 30, 40]} for n, (i, c) in enumerate(places, 1)
        ],
        "categories": [{"id": category_from + k, "name": name} for k, name in enumerate("abc")],
    }


def result(image_id: Any = 1, category_id: Any = 1, bbox: Any = (10, 20, 30, 40), score: Any = 0.9) -> dict[str, Any]:
    box = list(bbox) if isinstance(bbox, tuple) else bbox
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}


def refusal(truth: Any, detections: Any) -> str:
    with pytest.raises(DataError) as caught:
        judge(truth, detections)
    return str(caught.value)


def test_category_ids_from_zero() -> None:
    said = refusal(labels(), [result(category_id=c) for c in (0, 1, 2)])
    assert "category ids start at 0, the truth's start at 1" in said
    assert "1 of the 3 category ids is not in the truth" in said


def test_category_ids_from_one() -> None:
    said = refusal(labels(category_from=0), [result(category_id=c) for c in (1, 2, 3)])
    assert "start at 1, the truth's start at 0" in said


def test_unknown_category() -> None:
    said = refusal(labels(), [result(category_id=c) for c in (1, 44)])
    assert "44" in said
    assert "by name" in said
    assert "text ('crazing')" in refusal(labels(), [result(category_id="crazing")])


def test_image_ids_of_another_part() -> None:
    said = refusal(labels(), [result(image_id=i) for i in range(100, 140)])
    assert "none of the 40 image ids is in the truth" in said
    assert "another part" in said


def test_image_ids_from_zero() -> None:
    assert "image ids start at 0, the truth's start at 1" in refusal(labels(), [result(i) for i in range(4)])
    assert "start at 1, the truth's start at 0" in refusal(labels(image_from=0), [result(i) for i in range(1, 5)])


@pytest.mark.parametrize(("image_id", "cause"), [("1", "write them as numbers"), ("crazing_1", "look like file names")])
def test_image_ids_as_text(image_id: str, cause: str) -> None:
    assert cause in refusal(labels(), [result(image_id=image_id)])


@pytest.mark.parametrize(
    ("bbox", "said"),
    [
        ((1, 2, float("nan"), 4), "is NaN"),
        ((1, 2, float("inf"), 4), "is infinite"),
        ((float("-inf"), 2, 3, 4), "is infinite"),
        ((1, 2, -3, 4), "negative side"),
        ((1, 2, 3), "the box is [1, 2, 3]"),
        ("1 2 3 4", "the box is '1 2 3 4'"),
        ((1, "2", 3, 4), "not a number"),
        (None, "the box is None"),
    ],
)
def test_boxes_that_are_none_are_named_by_index(bbox: Any, said: str) -> None:
    message = refusal(labels(), [result(), result(bbox=bbox)])
    assert message.startswith("detection 1: ")
    assert said in message


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (float("nan"), "is NaN"),
        (float("inf"), "is infinite"),
        (-0.1, "is negative"),
        (87, "is above 1"),
        ("0.5", "not a number"),
        (True, "not a number"),
    ],
)
def test_scores_that_are_none_are_named_by_index(score: Any, said: str) -> None:
    message = refusal(labels(), [result(), result(), result(score=score)])
    assert message.startswith("detection 2: ")
    assert said in message


def test_labels_are_checked_too() -> None:
    truth = labels()
    truth["annotations"][2]["bbox"][3] = float("nan")
    assert refusal(truth, []).startswith("annotations[2]: ")
    truth = labels()
    truth["annotations"][1]["category_id"] = 9
    assert "category_id 9 is not in the labels" in refusal(truth, [])
    truth = labels()
    truth["images"][1]["id"] = 1
    assert "stands there twice" in refusal(truth, [])
    truth = labels()
    truth["categories"][1]["name"] = "a"
    assert "two categories are named 'a'" in refusal(truth, [])


@pytest.mark.parametrize(
    ("truth", "detections", "said"),
    [
        ([], [], "the labels are a COCO data set"),
        ({}, [], "no list 'images'"),
        ({"images": [], "annotations": [], "categories": []}, [], "hold no image"),
        (labels(), {"images": []}, "detections are a list of COCO results"),
        (labels(), [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}], "no 'score'"),
        (labels(), [[1, 2, 3]], "no 'image_id'"),
        (labels(), [result(image_id=None)], "'image_id' is None"),
        (labels(), [result(image_id=[1])], "'image_id' is [1]"),
    ],
)
def test_what_is_not_coco_is_told_so(truth: Any, detections: Any, said: str) -> None:
    assert said in refusal(truth, detections)


def test_numpy_numbers_and_boxes_beyond_the_border_are_fine() -> None:
    box = np.array([-4.5, 20, 30, 40], dtype=np.float32)
    detection = result(image_id=np.int64(1), category_id=np.int64(1), bbox=box, score=np.float32(0.5))
    assert judge(labels(), [detection]).summary["detections"] == 1


def test_corners_in_place_of_sides_are_suspected() -> None:
    truth = labels()
    for annotation in truth["annotations"]:
        annotation["bbox"] = [60, 50, 30, 40]
    right = [result(a["image_id"], a["category_id"], (60, 50, 30, 40)) for a in truth["annotations"]]
    wrong = [result(a["image_id"], a["category_id"], (60, 50, 90, 90)) for a in truth["annotations"]]
    assert judge(truth, right).summary["warnings"] == []
    assert "two corners" in warnings_of(judge(truth, wrong))[0]


def test_fractions_and_silence_are_suspected() -> None:
    assert "fractions" in warnings_of(judge(labels(), [result(bbox=(0.1, 0.2, 0.3, 0.4))]))[0]
    assert "no detection" in warnings_of(judge(labels(), []))[0]
