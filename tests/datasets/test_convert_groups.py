"""Images that their names keep together when chance divides a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from detect.datasets.convert import convert
from detect.errors import ConfigError, DataError
from labelled_data import pair

COILS = "([a-z]+coil)_"


@pytest.fixture
def coils(tmp_path: Path) -> Path:
    """Eight coils of three images, in a folder whose own name the pattern would match."""
    root = tmp_path / "allcoil_"
    for coil in "abcdefgh":
        for number in range(3):
            pair(root, f"{coil}coil_{number}", [("crazing", 1, 2, 20, 30)])
    return root


def coils_of(part: object) -> set[str]:
    return {image.path.name[0] for image in part.images}


@pytest.mark.parametrize("seed", range(4))
def test_no_coil_is_in_two_parts(coils: Path, tmp_path: Path, seed: int) -> None:
    done = convert([coils], tmp_path / "out", split="train=0.75,val=0.25", seed=seed, group_pattern=COILS)
    train, val = coils_of(done.parts["train"]), coils_of(done.parts["val"])
    assert not train & val
    assert (len(train), len(val)) == (6, 2)
    told = [finding for finding in done.findings if finding.kind == "grouped by name"]
    assert [finding.severity for finding in told] == ["note"]
    assert "24 images are 8 groups by the pattern '([a-z]+coil)_', of at most 3 images" in told[0].message
    assert [finding["kind"] for finding in done.report.as_dict()["findings"]].count("grouped by name") == 1


def test_without_the_pattern_chance_parts_them(coils: Path, tmp_path: Path) -> None:
    done = convert([coils], tmp_path / "out", split="train=0.75,val=0.25")
    assert coils_of(done.parts["train"]) & coils_of(done.parts["val"])


def test_folds_keep_coils_whole_and_judge_each_once(coils: Path, tmp_path: Path) -> None:
    done = convert([coils], tmp_path / "out", folds=4, group_pattern=COILS)
    judged = [coils_of(done.parts[f"fold{k}_val"]) for k in range(1, 5)]
    assert sorted(map(len, judged)) == [2, 2, 2, 2]
    assert set().union(*judged) == set("abcdefgh")
    assert all(not coils_of(done.parts[f"fold{k}_train"]) & judged[k - 1] for k in range(1, 5))


def test_days_may_be_folders(tmp_path: Path) -> None:
    for day in ("03", "04", "05", "06"):
        for number in range(2):
            pair(tmp_path / "in" / f"2026-11-{day}", f"shot{day}{number}", [("crazing", 1, 2, 20, 30)])
    done = convert([tmp_path / "in"], tmp_path / "out", split="train=0.5,val=0.5", group_pattern=r"\d{4}-\d\d-\d\d")
    days = [{image.path.parent.parent.name for image in part.images} for part in done.parts.values()]
    assert sorted(set.union(*days)) == ["2026-11-03", "2026-11-04", "2026-11-05", "2026-11-06"]
    assert not set.intersection(*days)


def test_copies_join_the_coils_that_they_lie_in(coils: Path, tmp_path: Path) -> None:
    for name in ("acoil_0", "bcoil_0"):
        pair(coils, name, [("crazing", 1, 2, 20, 30)], seed=1000)
    for seed in range(4):
        done = convert([coils], tmp_path / "out", split="train=0.5,val=0.5", seed=seed, group_pattern=COILS)
        assert all(coils_of(part) >= {"a", "b"} or not coils_of(part) & {"a", "b"} for part in done.parts.values())


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"folds": 9, "group_pattern": COILS}, DataError, "8 images or groups of them can't fill 9 folds"),
        ({"folds": 2, "group_pattern": "[a-d]coil"}, DataError, "12 of the 24 images don't match the pattern"),
        ({"folds": 2, "group_pattern": "(coil"}, ConfigError, "is no regular expression"),
        ({"split": "train=0,val=1-2", "group_pattern": COILS}, DataError, "keeps images together where chance divides"),
        ({"group_pattern": COILS}, DataError, "keeps images together where chance divides"),
    ],
)
def test_requests_that_cannot_be_met(
    coils: Path, tmp_path: Path, arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        convert([coils], tmp_path / "out", **arguments)
    assert not list((tmp_path / "out").glob("*.json"))
