"""Which images are drawn together: by a key of theirs, or by their file names."""

from __future__ import annotations

from typing import Any

import pytest

from detect.datasets.split import groups_of
from detect.errors import ConfigError, DataError
from detect.evaluation.records import groups_with_boxes
from detect.evaluation.summary import judge
from evaluation_cases import random_case


def images(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": i, "file_name": f"{i}.png", **entry} for i, entry in enumerate(entries, start=1)]


def test_images_with_the_same_value_share_a_number() -> None:
    given = images({"coil": "B"}, {"coil": "A"}, {"coil": "B"}, {"coil": "C"})
    assert groups_of(given, key="coil") == [0, 1, 0, 2]
    assert groups_of(images({"video_id": 7}, {"video_id": 7}, {"video_id": 0}), key="video_id") == [0, 0, 1]


def test_numbers_come_in_the_order_of_ids_as_the_judge_has_them() -> None:
    given = [{"id": 9, "coil": "A"}, {"id": 2, "coil": "B"}, {"id": 5, "coil": "A"}]
    assert groups_of(given, key="coil") == [0, 1, 1]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"plate\d+", [0, 0, 1]),
        (r"(plate\d+)_", [0, 0, 1]),
        (r"_(\d)\.", [0, 1, 0]),
        (r"(?:cam|plate)(\d)", [0, 0, 1]),
        (r"^[^/]+/", [0, 0, 0]),
    ],
)
def test_a_pattern_names_the_group_by_its_first_group_or_by_all_it_matches(pattern: str, expected: list[int]) -> None:
    given = images(*({"file_name": f"day1/{name}.png"} for name in ("plate1_1", "plate1_2", "plate2_1")))
    assert groups_of(given, pattern=pattern) == expected


def test_images_without_the_key_are_named() -> None:
    given = images({"coil": 1}, {}, {"coil": None}, {"coil": [1]}, {}, {})
    with pytest.raises(DataError) as told:
        groups_of(given, key="coil")
    assert str(told.value) == (
        "images: 5 of the 6 images have no 'coil': 2.png, 3.png, 4.png and 2 more; "
        "write 'coil' into each image of the labels"
    )


@pytest.mark.parametrize("pattern", [r"plate(\d)", r"\d*(x)?", r"z*"])
def test_images_that_the_pattern_does_not_match_are_named(pattern: str) -> None:
    """Nor does it name a group where it matches nothing at all, or where its first group takes no part."""
    with pytest.raises(DataError, match=r"2 of the 2 images don't match the pattern .*: 1.png, 2.png; change"):
        groups_of(images({}, {}), pattern=pattern)


def test_a_wrong_question_is_refused() -> None:
    with pytest.raises(ConfigError, match="by a key or by a pattern; give one"):
        groups_of(images({}))
    with pytest.raises(ConfigError, match="give one"):
        groups_of(images({}), key="coil", pattern="x")
    with pytest.raises(ConfigError, match=r"'\(' is no regular expression \(.*\); correct it"):
        groups_of(images({}), pattern="(")


def test_groups_that_hold_a_box_are_counted() -> None:
    truth, detections = random_case(3, images=12)
    truth_arrays = judge(truth, detections).evaluated.truth
    for groups in (None, [i // 4 for i in range(12)]):
        counted = groups_with_boxes(truth_arrays, groups)
        seen: dict[str, set[int]] = {name: set() for name in truth_arrays.categories}
        for i, k, crowd in zip(truth_arrays.image, truth_arrays.category, truth_arrays.crowd):
            if not crowd:
                seen[truth_arrays.categories[k]].add(int(i) if groups is None else groups[i])
        assert counted == {None: len(set().union(*seen.values())), **{name: len(each) for name, each in seen.items()}}
    assert 0 in counted.values()  # a category that is never labelled
