"""Frames processed by their new surface only: with an exact detector in the window, all boxes stay correct."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from detect.inference.stream import RegionWindow, merge_new_region, new_region_window
from detect.structures import Detections, iou

SIZE = (200, 200)
UP = (0.0, -40.0)

Row = tuple[Sequence[float], float, int]


def detections_of(*rows: Row) -> Detections:
    """Rows of (box, score, label)."""
    boxes, scores, labels = ([row[i] for row in rows] for i in range(3))
    as_arrays = np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64)
    return Detections(*as_arrays, ("a", "b"))


def rows(detections: Detections) -> list[Row]:
    each = detections.boxes_xyxy.tolist(), detections.scores.tolist(), detections.labels.tolist()
    return [(box, round(score, 3), label) for box, score, label in zip(*each)]


@pytest.mark.parametrize(
    ("motion_xy", "axis", "start", "stop", "offset_xy"),
    [
        ((0, -40), 1, 96, 200, (0, 96)),
        ((3, 40), 1, 0, 104, (0, 0)),
        ((-21.5, 2), 0, 112, 200, (112, 0)),
        ((10, 0), 0, 0, 80, (0, 0)),
    ],
)
def test_the_window_is_at_the_border_where_surface_enters(
    motion_xy: tuple[float, float], axis: int, start: int, stop: int, offset_xy: tuple[int, int]
) -> None:
    window = new_region_window(motion_xy, SIZE)
    assert window is not None
    assert (window.axis, window.start, window.stop, window.offset_xy) == (axis, start, stop, offset_xy)
    rows, columns = window.slices
    assert np.zeros(SIZE)[rows, columns].shape == ((stop - start, 200) if axis else (200, stop - start))


def test_a_larger_frame_gets_a_window_with_more_known_surface() -> None:
    window = new_region_window((0, -160), (800, 600))
    assert window is not None
    assert 800 - window.start == 296  # 160 new, 133 known, in steps of 8
    narrow = new_region_window((0, -160), (800, 600), context=20)
    assert narrow is not None
    assert 800 - narrow.start == 184


@pytest.mark.parametrize("motion_xy", [(0, 0), (0, -120), (130, 10)])
def test_no_window_if_the_whole_frame_is_needed(motion_xy: tuple[float, float]) -> None:
    """No motion, or nearly the whole frame is new."""
    assert new_region_window(motion_xy, SIZE) is None


class TestGrown:
    """The surface moves up by 40 pixels; rows 160 to 200 are new, rows from 96 on are processed."""

    WINDOW = RegionWindow(axis=1, start=96, stop=200, enters_high=True)

    def after(self, before: Detections, in_window: Detections) -> list[Row]:
        return rows(merge_new_region(before, in_window, self.WINDOW, UP, SIZE))

    def test_a_complete_box_moves_and_keeps_its_score(self) -> None:
        before = detections_of(([10, 100, 60, 180], 0.6, 1))
        again = detections_of(([12, 96, 58, 141], 0.9, 1))
        assert self.after(before, again) == [([10, 60, 60, 140], 0.6, 1)]
        assert self.after(before, detections_of()) == [([10, 60, 60, 140], 0.6, 1)]

    def test_a_box_cut_by_the_border_grows_into_the_frame(self) -> None:
        before = detections_of(([10, 100, 60, 200], 0.6, 1))
        reaching_on = detections_of(([14, 96, 66, 200], 0.8, 1))
        assert self.after(before, reaching_on) == [([10, 60, 66, 200], 0.8, 1)]
        ending = detections_of(([14, 96, 58, 172], 0.5, 1))
        assert self.after(before, ending) == [([10, 60, 60, 172], 0.6, 1)]

    def test_a_small_cut_part_is_replaced_by_the_complete_box(self) -> None:
        before = detections_of(([10, 184, 60, 200], 0.3, 1))
        complete = detections_of(([11, 146, 62, 175], 0.7, 1))
        assert self.after(before, complete) == [([11, 146, 62, 175], 0.7, 1)]

    def test_an_unmatched_cut_box_keeps_its_known_extent(self) -> None:
        assert self.after(detections_of(([10, 170, 60, 200], 0.6, 1)), detections_of()) == [
            ([10, 130, 60, 160], 0.6, 1)
        ]

    def test_new_boxes_are_added_on_new_surface_only(self) -> None:
        new, old = ([10, 150, 60, 190], 0.7, 1), ([100, 100, 140, 140], 0.9, 1)
        assert self.after(detections_of(), detections_of(new, old)) == [(*new,)]

    def test_boxes_of_different_categories_are_not_merged(self) -> None:
        in_window = detections_of(([10, 150, 60, 200], 0.7, 2))
        assert self.after(detections_of(([10, 190, 60, 200], 0.6, 1)), in_window) == [
            ([10, 150, 60, 200], 0.7, 2),
            ([10, 150, 60, 160], 0.6, 1),
        ]

    def test_a_box_that_leaves_the_frame_is_removed(self) -> None:
        assert self.after(detections_of(([10, 0, 60, 40], 0.6, 1)), detections_of()) == []

    def test_of_two_overlapping_boxes_the_higher_score_is_kept(self) -> None:
        before = detections_of(([10, 100, 60, 200], 0.6, 1), ([10, 110, 60, 200], 0.5, 1))
        assert self.after(before, detections_of()) == [([10, 60, 60, 160], 0.6, 1)]


@pytest.mark.parametrize("direction", [(0, -1), (0, 1), (-1, 0), (1, 0)])
def test_an_exact_detector_keeps_every_box_of_a_long_strip(direction: tuple[int, int]) -> None:
    """Boxes of all sizes pass the camera; each frame contains exactly their visible parts."""
    rng = np.random.default_rng(0)
    along = 1 if direction[1] else 0
    place = np.sort(rng.uniform(0, 2000, 24))
    low = np.stack([rng.uniform(0, 80, 24), place])[:: 1 if along else -1].T
    boxes = np.concatenate([low, low + rng.uniform(20, 120, (24, 2))], axis=1)
    motion = (direction[0] * 33.0, direction[1] * 33.0)
    at = 200.0
    if direction[along] > 0:  # reversed: the strip is above the camera and moves down
        boxes[:, [along, along + 2]] = -boxes[:, [along + 2, along]]
    last: Detections | None = None
    compared = 0
    for number in range(50):
        origin = np.zeros(4)
        origin[[along, along + 2]] = (at + 33 * number) * -direction[along] - (0 if direction[along] < 0 else 200)
        complete = in_view(boxes - origin, 0, 200, along)
        window = new_region_window(motion, SIZE)
        assert window is not None
        if last is None:
            last = complete
            continue
        last = merge_new_region(last, in_view(boxes - origin, window.start, window.stop, along), window, motion, SIZE)
        clear = sides(complete).min(axis=1) > 16
        if clear.any():
            assert iou(complete.boxes_xyxy[clear], last.boxes_xyxy).max(axis=1).min() > 0.99
            compared += int(clear.sum())
        assert (sides(last).min(axis=1) > 4).sum() <= len(complete)
    assert compared > 100


def sides(detections: Detections) -> NDArray[np.float32]:
    return detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]


def in_view(boxes: NDArray[np.float64], start: int, stop: int, along: int) -> Detections:
    """The parts of boxes inside a window, each with its own label so that NMS removes none."""
    parts = boxes.copy()
    parts[:, [along, along + 2]] = np.clip(parts[:, [along, along + 2]], start, stop)
    there = parts[:, along + 2] - parts[:, along] > 2
    rows = [(box.tolist(), 0.9, label) for label, box in enumerate(parts) if there[label]]
    return detections_of(*rows)
