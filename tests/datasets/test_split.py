from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.dataset import balanced_subset
from detect.datasets.split import (
    Fractions,
    Ranges,
    check_part_names,
    parse_split,
    split_by_fraction,
    split_by_number,
    split_into_folds,
)
from detect.errors import DataError


def test_ranges_and_fractions_are_told_apart() -> None:
    assert parse_split("train=1-200,val=201-240") == Ranges({"train": ((1, 200),), "val": ((201, 240),)})
    assert parse_split(" train = 1-5 , val=7, train=9-9") == Ranges({"train": ((1, 5), (9, 9)), "val": ((7, 7),)})
    assert parse_split("train=0.8,val=.1,test=0.1") == Fractions({"train": 0.8, "val": 0.1, "test": 0.1})
    assert parse_split("all=1.0") == Fractions({"all": 1.0})
    thirds = parse_split("a=0.333333333,b=0.333333333,c=0.333333334")
    assert isinstance(thirds, Fractions)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no name=value"),
        ("train", "'train' is no name=value"),
        ("train=", "is no name=value"),
        ("train=1-5,", "is no name=value"),
        ("../x=1-5", "can't be named"),
        ("au/dit=1-5", "a part can't be named"),
        ("train=0.8,val=0.1", "sum to 0.9, not to 1"),
        ("train=0.8,val=0.2,test=0.0", "share 0"),
        ("train=0.5,train=0.5", "named twice"),
        ("train=1-200,val=200-240", r"val=200-240 overlaps train=1-200"),
        ("train=1-10,train=5-6", "overlaps"),
        ("train=9-1", "backwards; write 1-9"),
        ("train=0.8,val=1-20", "'0.8' mixed with a range"),
        ("train=1-2-3", "no range"),
        ("train=a-b", "no range"),
        ("train=-0.5,val=1.5", "no range"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        parse_split(text)


def test_the_name_of_the_audit_is_refused_for_a_part_in_coco() -> None:
    names = parse_split("audit=1-5").of
    with pytest.raises(DataError, match="a part can't be named 'audit': coco files use the name"):
        check_part_names(names, "coco")
    check_part_names(names, "yolo")


def numbered(text: str, stems: list[str]) -> tuple[dict[str, list[int]], list[int]]:
    split = parse_split(text)
    assert isinstance(split, Ranges)
    return split_by_number(stems, split)


def test_the_number_at_the_end_of_the_name_decides() -> None:
    stems = ["a_1", "a_2", "a_010", "b2_3", "7", "no number", "a_99"]
    parts, rest = numbered("train=1-2,val=3-10", stems)
    assert parts == {"train": [0, 1], "val": [2, 3, 4]}
    assert rest == [5, 6]


def test_a_part_without_any_image_is_refused() -> None:
    with pytest.raises(DataError, match=r"no image has a number in val=300-400; the numbers go from 1 to 20"):
        numbered("train=1-20,val=300-400", ["a_1", "a_20"])
    with pytest.raises(DataError, match="no file name ends in a number"):
        numbered("train=1-20", ["a", "b"])


IMAGES = st.lists(st.tuples(st.sets(st.sampled_from("abc"), max_size=2), st.integers(0, 20)), min_size=30, max_size=80)


@settings(max_examples=40, deadline=None)
@given(images=IMAGES, seed=st.integers(0, 5))
def test_groups_stay_whole_and_every_image_is_placed_once(images: list[tuple[set[str], int]], seed: int) -> None:
    labels, groups = [label for label, _ in images], [group for _, group in images]
    if len(set(groups)) < 12:
        return
    parts = split_by_fraction(labels, Fractions({"train": 0.7, "val": 0.3}), groups=groups, seed=seed)
    assert sorted(i for members in parts.values() for i in members) == list(range(len(images)))
    homes = [{groups[i] for i in members} for members in parts.values()]
    assert not homes[0] & homes[1]
    folds = split_into_folds(labels, 3, groups=groups, seed=seed)
    assert sorted(i for name, members in folds.items() if name.endswith("_val") for i in members) == list(
        range(len(images))
    )
    for k in (1, 2, 3):
        train, val = folds[f"fold{k}_train"], folds[f"fold{k}_val"]
        assert sorted([*train, *val]) == list(range(len(images)))
        assert not {groups[i] for i in train} & {groups[i] for i in val}


def steel(each: int) -> list[set[str]]:
    classes = ["crazing", "inclusion", "patches"]
    mixed = [{"crazing", "patches"}] * (each // 5) + [set()] * (each // 2)
    return [{name} for name in classes for _ in range(each)] + mixed


@pytest.mark.parametrize("seed", range(3))
def test_every_part_has_its_share_of_every_class(seed: int) -> None:
    labels = steel(100)
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    parts = split_by_fraction(labels, Fractions(shares), groups=range(len(labels)), seed=seed)
    whole = Counter(name for label in labels for name in (label or {"none"}))
    for part, members in parts.items():
        assert abs(len(members) - shares[part] * len(labels)) <= 1
        here = Counter(name for i in members for name in (labels[i] or {"none"}))
        for name, total in whole.items():
            assert abs(here[name] - shares[part] * total) <= 1.5


def test_the_seed_decides_and_nothing_else() -> None:
    labels = steel(20)
    split = Fractions({"train": 0.5, "val": 0.5})
    first, again, other = (split_by_fraction(labels, split, groups=range(len(labels)), seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_more_parts_than_images_are_refused() -> None:
    with pytest.raises(DataError, match="no image is left for part 'test'"):
        split_by_fraction([{"a"}] * 2, Fractions({"train": 0.5, "val": 0.49, "test": 0.01}), groups=[0, 1], seed=0)
    with pytest.raises(DataError, match="1 folds leave nothing"):
        split_into_folds([{"a"}] * 4, 1, groups=range(4), seed=0)
    with pytest.raises(DataError, match="2 images or groups of them can't fill 3 folds"):
        split_into_folds([{"a"}] * 4, 3, groups=[0, 0, 1, 1], seed=0)


def test_a_part_may_be_small_but_never_empty_while_there_are_images() -> None:
    labels = [{"a"}] * 10 + [{"b"}] * 10
    parts = split_by_fraction(labels, Fractions({"train": 0.9, "val": 0.1}), groups=range(20), seed=0)
    assert {name: len(members) for name, members in parts.items()} == {"train": 18, "val": 2}


class TestEvenly:
    LABELS = [{"a"}] * 50 + [{"b"}] * 20 + [{"a", "c"}] * 5 + [set()] * 25

    def test_fewer_are_among_more(self) -> None:
        chosen = [set(balanced_subset(self.LABELS, count, seed=3)) for count in range(101)]
        assert [len(each) for each in chosen] == list(range(101))
        assert all(fewer < more for fewer, more in itertools.pairwise(chosen))

    def test_classes_come_in_turn_until_they_run_out(self) -> None:
        for count, expected in ((16, {"a": 6, "b": 5, "c": 5, "": 5}), (60, {"a": 20, "b": 20, "c": 5, "": 20})):
            chosen = balanced_subset(self.LABELS, count, seed=0)
            assert Counter(label for i in chosen for label in (self.LABELS[i] or {""})) == expected

    def test_the_seed_decides(self) -> None:
        assert (
            balanced_subset(self.LABELS, 10, seed=1)
            == balanced_subset(self.LABELS, 10, seed=1)
            != balanced_subset(self.LABELS, 10, seed=2)
        )
