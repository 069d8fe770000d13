"""Parts that differ: what is found, and how rarely chance alone is taken for a difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from detect.datasets.audit import check_shifts
from detect.datasets.duplicates import Fingerprint
from detect.datasets.part_shift import Shift, find_shifts, fisher_exact_p, holm_correction, permutation_p
from detect.structures import Box, Image
from labelled_data import steel


def images_of(
    rng: np.random.Generator, count: int, *, side: float = 30, boxes: int = 3, spread: float = 0.5, own: float = 0.05
) -> list[Image]:
    """Images of one or two classes, with boxes that are alike within an image and differ between images."""
    images = []
    for i in range(count):
        here = []
        for label in ("dent", "scratch")[: rng.integers(1, 3)]:
            typical = side * np.exp(rng.normal(0, spread))
            for _ in range(rng.integers(1, 2 * boxes)):
                width, height = typical * np.exp(rng.normal(0, own, 2))
                here.append(Box(label, (0.0, 0.0, float(width), float(height))))
        images.append(Image(Path(f"{i}.png"), 200, 200, tuple(here)))
    return images


def prints_of(rng: np.random.Generator, count: int, brightness: float = 0.5) -> list[Fingerprint]:
    small = np.zeros((32, 32), np.float32)
    values = rng.normal(brightness, 0.05, (count, 2))
    return [Fingerprint(bytes([i % 256]), small, float(b), float(c) / 5) for i, (b, c) in enumerate(values)]


def halves(count: int, first: int) -> dict[str, list[int]]:
    return {"train": list(range(first)), "val": list(range(first, count))}


def sure(shifts: list[Shift]) -> list[tuple[str, str | None]]:
    return [(shift.measure.key, shift.category) for shift in shifts if shift.significant]


# The tests themselves


def test_a_permutation_test_agrees_with_all_ways_to_divide() -> None:
    values, weights = np.array([5.0, 9.0, 2.0, 3.0, 8.0, 1.0, 4.0]), np.array([1.0, 2.0, 1.0, 1.0, 2.0, 1.0, 3.0])
    first = np.array([True, True, False, False, True, False, False])

    def apart(chosen: np.ndarray) -> float:
        return abs(values[chosen].sum() / weights[chosen].sum() - values[~chosen].sum() / weights[~chosen].sum())

    ways = [np.isin(np.arange(7), way) for way in combinations(range(7), 3)]
    exact = np.mean([apart(way) >= apart(first) - 1e-9 for way in ways])
    drawn = permutation_p(values, weights, first, rng=np.random.default_rng(0), max_permutations=20_000)
    assert drawn == pytest.approx(exact, rel=0.5)  # it stops after 20 hits
    assert permutation_p(values, weights, first, rng=np.random.default_rng(0), max_permutations=20_000) == drawn
    assert permutation_p(values, weights, ~first, rng=np.random.default_rng(0), max_permutations=20_000) == drawn


def test_no_p_value_is_smaller_than_the_drawing_can_tell() -> None:
    values, first = np.concatenate([np.zeros(50), np.ones(50)]), np.arange(100) < 50
    assert permutation_p(values, np.ones(100), first, rng=np.random.default_rng(0), max_permutations=999) == 1 / 1000
    assert (
        permutation_p(values, np.ones(100), np.zeros(100, bool), rng=np.random.default_rng(0), max_permutations=999)
        == 1
    )
    assert permutation_p(np.ones(100), np.ones(100), first, rng=np.random.default_rng(0), max_permutations=999) == 1


def test_shares_and_the_correction_by_hand() -> None:
    assert fisher_exact_p((3, 0), (3, 3)) == pytest.approx(0.1)  # 2 of the 20 ways
    assert fisher_exact_p((1, 1), (2, 2)) == 1
    assert holm_correction([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm_correction([]) == []


# Parts


def test_larger_boxes_are_found_and_told() -> None:
    rng = np.random.default_rng(1)
    images = [*images_of(rng, 60), *images_of(rng, 40, side=60)]
    shifts = find_shifts(images, prints_of(rng, 100), ("dent", "scratch"), halves(100, 60))
    assert sure(shifts) == [("size", "dent"), ("size", "scratch")]
    assert shifts[0].p <= shifts[0].corrected_p < 0.05
    (first, *_) = check_shifts(shifts, {"train": Path("train.json"), "val": Path("val.json")})
    assert (first.kind, first.severity, first.path, first.others) == (
        "parts differ",
        "warning",
        Path("train.json"),
        (Path("val.json"),),
    )
    low, high = (int(value.split()[0]) for value in shifts[0].values)
    assert 25 < low < 36 < 50 < high < 72
    assert f"boxes as large as a square of {low} px in train, {high} px in val" in first.message
    json.dumps([shift.as_dict() for shift in shifts])


def test_light_numbers_of_boxes_and_empty_images_are_found() -> None:
    rng = np.random.default_rng(2)
    bare = [Image(Path("e.png"), 200, 200)] * 20
    images = [*images_of(rng, 80), *images_of(rng, 60, boxes=6), *bare]
    prints = [*prints_of(rng, 80), *prints_of(rng, 80, brightness=0.6)]
    found = sure(find_shifts(images, prints, ("dent", "scratch"), halves(160, 80)))
    assert {("empty", None), ("brightness", None), ("count", "dent"), ("brightness", "scratch")} <= set(found)
    assert ("size", "dent") not in found


@pytest.mark.parametrize("own", [0.0, 0.5])
def test_random_parts_are_hardly_ever_said_to_differ(own: float) -> None:
    # Many boxes an image, all alike where ``own`` is 0: a test that took boxes as independent would often be wrong.
    rng = np.random.default_rng(3)
    alarms = 0
    for number in range(40):
        images = images_of(rng, 50, boxes=12, own=own)
        shifts = find_shifts(images, prints_of(rng, 50), ("dent", "scratch"), halves(50, 30), seed=number)
        alarms += bool(sure(shifts))
    assert alarms <= 7  # of 40 where 2 are expected; more come in less than 1 of 500


def test_frames_of_a_strip_count_as_one() -> None:
    rng = np.random.default_rng(4)
    strips = [image for _ in range(8) for image in images_of(rng, 1, spread=1.0) * 20]
    prints = [seen for _ in range(8) for seen in prints_of(rng, 1) * 20]
    units = [i // 20 for i in range(160)]
    assert sure(find_shifts(strips, prints, ("dent",), halves(160, 80)))
    assert not sure(find_shifts(strips, prints, ("dent",), halves(160, 80), units=units))


def test_many_parts_are_held_against_the_others() -> None:
    rng = np.random.default_rng(5)
    images = [*images_of(rng, 100), *images_of(rng, 25, side=90)]
    parts = {f"fold{k}": list(range(25 * k, 25 * k + 25)) for k in range(5)}
    shifts = find_shifts(images, prints_of(rng, 125), ("dent", "scratch"), parts)
    assert {shift.parts for shift in shifts} == {(f"fold{k}", "the rest") for k in range(5)}
    assert shifts[0].parts == ("fold4", "the rest")
    assert shifts[0].significant
    few = find_shifts(
        images, prints_of(rng, 125), ("dent",), {name: parts[name] for name in ("fold0", "fold1", "fold4")}
    )
    assert {shift.parts for shift in few} == {("fold0", "fold1"), ("fold0", "fold4"), ("fold1", "fold4")}


def test_what_cannot_be_compared_is_left_out() -> None:
    rng = np.random.default_rng(6)
    assert find_shifts([], [], ("dent",), {"all": []}) == []
    images = images_of(rng, 10)
    assert find_shifts(images, prints_of(rng, 10), ("dent",), {"all": range(10)}) == []
    only = [Image(Path("a.png"), 9, 9, (Box("dent", (0, 0, 5, 5)),)), Image(Path("b.png"), 9, 9)] * 4
    told = find_shifts(only, prints_of(rng, 8), ("dent", "none"), {"a": [0, 2, 4, 6], "b": [1, 3, 5, 7]})
    assert {(shift.measure.key, shift.category) for shift in told} == {
        ("share", "dent"),
        ("empty", None),
        ("brightness", None),
        ("contrast", None),
    }
    crowd = [Image(Path("a.png"), 9, 9, (Box("dent", (0, 0, 5, k + 1.0), crowd=True),)) for k in range(8)]
    assert all(shift.category is None for shift in find_shifts(crowd, prints_of(rng, 8), ("dent",), halves(8, 4)))


# From the command line


def test_a_split_to_compare(tmp_path: Path, detect: Callable[..., object]) -> None:
    root = steel(tmp_path / "voc")
    outcome = detect("audit", root, "--split", "train=1-3,val=4-6", "--json")
    told = json.loads(outcome.out)
    assert outcome.code == 0
    assert {name: part["images"] for name, part in told["parts"].items()} == {"train": 6, "val": 6}
    assert {tuple(shift["parts"]) for shift in told["shifts"]} == {("train", "val")}
    outcome = detect("audit", root, "--split", "train=1-3,val=4-6", "--against", root)
    assert outcome.code == 2
    assert "a split is of one data set" in outcome.err


def test_data_sets_are_compared_whatever_their_format(tmp_path: Path, detect: Callable[..., object]) -> None:
    mine, theirs = steel(tmp_path / "mine"), steel(tmp_path / "theirs", classes=("crazing",), each=4)
    assert detect("convert", theirs, "--to", "yolo", "--out", tmp_path / "yolo").code == 0
    outcome = detect("audit", mine, "--against", tmp_path / "yolo", "--json")
    told = json.loads(outcome.out)
    assert {name: part["images"] for name, part in told["parts"].items()} == {"mine": 12, "all": 4}
    # the same pictures by name are the same by content here: each is in both
    leaks = [f for f in told["findings"] if f["kind"] == "duplicate across parts"]
    assert len(leaks) == 4
    assert all("are in all and mine" in f["message"] for f in leaks)


def test_sources_that_hold_images_each_are_parts(tmp_path: Path, detect: Callable[..., object]) -> None:
    one, other = steel(tmp_path / "one"), steel(tmp_path / "other", classes=("patches",))
    told = json.loads(detect("audit", one, other, "--json").out)
    assert {name: part["images"] for name, part in told["parts"].items()} == {"one": 12, "other": 6}
    told = json.loads(detect("audit", one / "IMAGES", one / "ANNOTATIONS", "--json").out)
    assert set(told["parts"]) == {"all"}


def test_files_of_one_name_in_two_folders_stay_apart(tmp_path: Path, detect: Callable[..., object]) -> None:
    for name in ("a", "b"):
        root = steel(tmp_path / f"voc_{name}")
        assert detect("convert", root, "--out", tmp_path / name, "--split", "train=1-3,val=4-6").code == 0
    told = json.loads(detect("audit", tmp_path / "a", tmp_path / "b", "--json").out)
    assert {name: part["images"] for name, part in told["parts"].items()} == {
        "a/train": 6,
        "a/val": 6,
        "b/train": 6,
        "b/val": 6,
    }


def test_the_real_data_differs_from_part_to_part(neu_det: Path, detect: Callable[..., object]) -> None:
    told = json.loads(detect("audit", neu_det, "--split", "train=1-200,val=201-240", "--json").out)
    found = {(s["measure"], s["category"]) for s in told["shifts"] if s["corrected_p"] < 0.05}
    assert found == {
        ("count", "inclusion"),
        ("count", "scratches"),
        ("size", "crazing"),
        ("brightness", "inclusion"),
        ("brightness", "rolled-in_scale"),
        ("brightness", "scratches"),
        ("contrast", "rolled-in_scale"),
        ("contrast", "scratches"),
    }
    pairs = [(*(Path(p).stem for p in pair["images"]), pair["exact"]) for pair in told["duplicates"]]
    assert sorted(pairs) == [("inclusion_188", "inclusion_210", False), ("patches_101", "patches_105", True)]
    assert max(pair["similarity"] for pair in told["similar_pairs"]) < 0.65
