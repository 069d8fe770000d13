"""Boxes that a tool lets stop short of a border are told, and honest ones of any habit are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.datasets import coco
from detect.datasets.audit import SHORT, BorderCounts, border_counts, check_borders, stops_short
from detect.datasets.convert import audit_sources
from detect.engine.data import audit_warnings
from detect.images import write_image
from detect.structures import Box, Dataset, Image, Xyxy

SIZE, PLACE = 100, Path("labels")


def images(boxes: Sequence[Xyxy]) -> list[Image]:
    return [Image(Path(f"{i}.png"), SIZE, SIZE, (Box("dent", box),)) for i, box in enumerate(boxes)]


def told(of: Sequence[Image], groups: Sequence[int] | None = None) -> list[str]:
    return [each.message for each in check_borders(of, PLACE, range(len(of)) if groups is None else groups)]


def defects(count: int, *, by: tuple[int, int] = (0, 0), short: int = 0, most: int = SIZE) -> list[Xyxy]:
    """Defects that reach over borders, cut there, then changed by a tool that keeps them inside the image.

    Args:
        count: of boxes.
        by: pixels that all are moved to the right and down.
        short: pixels that are left out at the end of each.
        most: where the tool lets boxes end at the right and below.
    """
    boxes: list[Xyxy] = []
    for x, y in np.random.default_rng(0).integers(-15, SIZE - 5, (count, 2)).tolist():
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + 20, SIZE), min(y + 20, SIZE)
        left, top = max(x1 + by[0], 0), max(y1 + by[1], 0)
        boxes.append((left, top, min(x2 + by[0], SIZE, most) - short, min(y2 + by[1], SIZE, most) - short))
    return boxes


class TestCounting:
    def test_the_nearest_box_of_an_image_counts_for_each_border(self) -> None:
        corners = [(0.0, 5.0, 9.0, 60.0), (2.0, 1.0, 100.0, 9.0), (0.0, 9.0, 9.0, 18.0)]
        several = Image(Path("a.png"), SIZE, 60, tuple(Box("dent", each) for each in corners))
        found = border_counts(
            [several, *images([(1.0, 40.0, 95.0, 97.5)]), Image(Path("b.png"), SIZE, SIZE, ())], range(3)
        )
        assert found == {
            "left": BorderCounts(near=2, touching=1, short=2, beyond=0),
            "right": BorderCounts(near=1, touching=1, short=0, beyond=1),
            "upper": BorderCounts(near=1, touching=0, short=0, beyond=0),
            "lower": BorderCounts(near=2, touching=1, short=1, beyond=0),
        }
        assert found["left"].share == 0.5

    def test_a_group_counts_once(self) -> None:
        frames = images([(0.0, 40.0, 50.0, 60.0), (2.0, 40.0, 50.0, 60.0), (4.0, 40.0, 50.0, 60.0)])
        assert border_counts(frames, [7, 7, 7])["left"] == BorderCounts(near=1, touching=1, short=0, beyond=0)
        assert border_counts(frames, [7, 8, 9])["left"] == BorderCounts(near=2, touching=1, short=1, beyond=1)

    def test_crowds_and_pre_annotations_do_not_count(self) -> None:
        box = (0.0, 0.0, 100.0, 100.0)
        unsure = Image(Path("a.png"), SIZE, SIZE, (Box("dent", box, crowd=True), Box("dent", box, score=0.4)))
        assert set(border_counts([unsure], [0]).values()) == {BorderCounts(0, 0, 0, 0)}


class TestStopsShort:
    @pytest.mark.parametrize(
        ("side", "other", "expected"),
        [
            (BorderCounts(100, 40, 60, 10), BorderCounts(100, 90, 10, 10), True),
            (BorderCounts(19, 1, 18, 0), BorderCounts(400, 390, 10, 10), False),  # fewer than 20 are near
            (
                BorderCounts(100, 75, 25, 2),
                BorderCounts(100, 90, 10, 10),
                False,
            ),  # shares that differ by less than a fifth
            (BorderCounts(22, 10, 12, 1), BorderCounts(22, 15, 7, 1), False),  # by chance
            (BorderCounts(100, 40, 60, 55), BorderCounts(100, 90, 10, 10), False),  # as many end a little farther off
            (BorderCounts(100, 90, 10, 10), BorderCounts(100, 40, 60, 10), False),  # it is the other one
        ],
    )
    def test_its_limits(self, side: BorderCounts, other: BorderCounts, expected: bool) -> None:
        assert stops_short(side, other) is expected


class TestFinding:
    def test_honest_labels_are_left_alone(self) -> None:
        assert told(images(defects(600))) == []
        assert told([]) == []

    @pytest.mark.parametrize(("boxes", "frames"), [(1, 1), (20, 1), (1, 40)], ids=["alone", "many", "strips"])
    def test_streaks_that_enter_at_one_border_are_left_alone(self, boxes: int, frames: int) -> None:
        """They end anywhere, now and then near the border across, the nearer the more of them an image or strip has."""
        ends = np.random.default_rng(1).uniform(10, SIZE, (4000, boxes)).tolist()
        streaks = [
            Image(Path(f"{i}.png"), SIZE, SIZE, tuple(Box("dent", (40.0, 0.0, 50.0, end)) for end in of_image))
            for i, of_image in enumerate(ends)
        ]
        assert told(streaks, [i // frames for i in range(len(streaks))]) == []

    @pytest.mark.parametrize(
        ("tool", "axes"),
        [
            ({"by": (-1, -1)}, ("left", "upper")),
            ({"by": (0, -1)}, ("upper",)),
            ({"by": (1, 0)}, ("left",)),
            ({"short": 1}, ("left", "upper")),
            ({"most": SIZE - 1}, ("left", "upper")),
        ],
    )
    def test_tools_that_shift_cut_or_keep_off_are_told_by_axis(
        self, tool: dict[str, Any], axes: tuple[str, ...]
    ) -> None:
        (message,) = told(images(defects(600, **tool)))
        assert tuple(axis for axis in ("left", "upper") if f"the {axis} border in " in message) == axes

    def test_frames_of_two_strips_are_two_pieces_of_evidence(self) -> None:
        frames = images([(0.0, 40.0, 50.0, 60.0)] * 40 + [(40.0, 40.0, 99.0, 60.0)] * 40)
        assert told(frames) != []
        assert told(frames, [0] * 40 + [1] * 40) == []


class TestAudit:
    @staticmethod
    def written(folder: Path, name: str, boxes: Sequence[Xyxy]) -> Path:
        folder.mkdir(exist_ok=True)
        rng, records = np.random.default_rng(1), []
        for i, box in enumerate(boxes):
            path = folder / f"{name}{i}.png"
            write_image(path, rng.integers(0, 256, (SIZE, SIZE), np.uint8))
            records.append(Image(path, SIZE, SIZE, (Box("dent", box),)))
        return coco.write({name: Dataset(tuple(records), ("dent",))}, folder)[name]

    def test_each_data_set_is_told_by_itself(self, tmp_path: Path) -> None:
        """Those moved up and left would hide those moved down and right."""
        low = self.written(tmp_path / "low", "a", defects(250, by=(-1, -1)))
        high = self.written(tmp_path / "high", "b", defects(250, by=(1, 1)))
        findings = [each for each in audit_sources([low], against=[high]).findings if each.kind == SHORT]
        assert [(each.path, each.severity) for each in findings] == [(low, "warning"), (high, "warning")]

    def test_a_training_that_knows_says_nothing_more_of_it(self, tmp_path: Path) -> None:
        labels = self.written(tmp_path, "a", defects(250, by=(-1, -1)))
        assert SHORT in audit_warnings(labels, None, 250)[0]
        assert audit_warnings(labels, None, 250, offset_known=True) == []
