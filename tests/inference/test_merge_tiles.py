"""Merging detections of tiles: boxes cut by tile borders are complete again, none is duplicated or lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detect.inference.tiling import Tiling, merge_tiles
from detect.structures import Detections, iou

CATEGORIES = ("a", "b")
Row = tuple[Sequence[float], float, int]


def detections(rows: Sequence[Row]) -> Detections:
    boxes, scores, labels = ([row[i] for row in rows] for i in range(3))
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64), CATEGORIES
    )


def tiles_of(tiling: Tiling, width: int, height: int) -> list[tuple[int, int, int, int]]:
    return [
        (x, y, min(x + tiling.side, width), min(y + tiling.side, height))
        for y in tiling.starts(height)
        for x in tiling.starts(width)
    ]


def in_view(rows: Sequence[Row], tile: tuple[int, int, int, int], min_side: float = 3) -> list[Row]:
    """Detections of an exact detector in a tile: the parts of all boxes inside it, without very thin parts."""
    parts = [(np.clip(box, (*tile[:2], *tile[:2]), (*tile[2:], *tile[2:])), score, label) for box, score, label in rows]
    return [row for row in parts if min(row[0][2] - row[0][0], row[0][3] - row[0][1]) >= min_side]


def through_tiles(rows: Sequence[Row], tiling: Tiling, width: int, height: int) -> list[Row]:
    tiles = tiles_of(tiling, width, height)
    return listed(merge_tiles(tiles, [detections(in_view(rows, tile)) for tile in tiles], (width, height), CATEGORIES))


def listed(merged: Detections) -> list[Row]:
    each = zip(merged.boxes_xyxy.tolist(), merged.scores.tolist(), merged.labels.tolist())
    return [(box, round(score, 3), label) for box, score, label in each]


def whole(rows: Sequence[Row]) -> list[Row]:
    return listed(detections(sorted(rows, key=lambda row: -row[1])))


TILING = Tiling(100, 24)  # tiles at 0-100, 76-176, 152-252, 228-328, and the last one at 300-400


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([80, 10, 96, 30], id="whole in two tiles"),
        pytest.param([90, 10, 110, 30], id="cut by a tile border in x, complete in one tile"),
        pytest.param([10, 90, 30, 110], id="cut by a tile border in y"),
        pytest.param([85, 85, 115, 115], id="cut at a corner"),
        pytest.param([60, 20, 130, 40], id="too large for the overlap"),
        pytest.param([60, 60, 130, 130], id="too large for the overlap, at a corner"),
        pytest.param([5, 40, 395, 52], id="scratch along x over all tiles"),
        pytest.param([90, 3, 99, 397], id="scratch along y over all tiles, in an overlap"),
        pytest.param([0, 0, 400, 400], id="all of the image"),
        pytest.param([60, 20, 101, 40], id="a pixel beyond the border"),
        pytest.param([60, 20, 99.5, 40], id="just before the border"),
        pytest.param([300, 300, 400, 400], id="exactly a tile"),
    ],
)
def test_a_box_in_several_tiles_gives_one_complete_detection(box: list[float]) -> None:
    assert through_tiles([(box, 0.9, 1)], TILING, 400, 400) == [(box, 0.9, 1)]


def test_neighbouring_boxes_are_not_merged() -> None:
    rows = [
        ([60, 20, 140, 30], 0.9, 1),
        ([60, 33, 140, 43], 0.8, 1),  # parallel, across the same tile border
        ([70, 50, 98, 60], 0.7, 1),
        ([102, 50, 140, 60], 0.6, 1),  # one ends and one starts at the tile border
        ([60, 20, 140, 30.5], 0.5, 2),  # another category at the same position
    ]
    assert through_tiles(rows, TILING, 400, 400) == whole(rows)


def test_a_box_inside_another_is_not_merged() -> None:
    rows = [([60, 20, 200, 60], 0.9, 1), ([84, 25, 99, 58], 0.8, 1)]
    assert through_tiles(rows, TILING, 400, 400) == whole(rows)


def test_parts_of_a_diagonal_scratch_with_low_iou_are_merged() -> None:
    tiles = [(0, 0, 100, 100), (76, 0, 176, 100)]
    parts = [detections([([20, 10, 100, 60], 0.6, 1)]), detections([([76, 45, 150, 92], 0.8, 1)])]
    assert listed(merge_tiles(tiles, parts, (176, 100), CATEGORIES)) == [([20, 10, 150, 92], 0.8, 1)]


def test_a_box_that_does_not_reach_the_tile_border_is_not_merged() -> None:
    tiles = [(0, 0, 100, 100), (76, 0, 176, 100)]
    parts = [detections([([20, 10, 90, 60], 0.6, 1)]), detections([([86, 45, 150, 92], 0.8, 1)])]
    assert len(merge_tiles(tiles, parts, (176, 100), CATEGORIES)) == 2


def test_of_two_complete_boxes_the_higher_score_is_kept_unchanged() -> None:
    tiles = [(0, 0, 100, 100), (76, 0, 176, 100)]
    parts = [detections([([80, 10, 93, 60], 0.6, 1)]), detections([([81, 11, 94, 58], 0.8, 1)])]
    assert listed(merge_tiles(tiles, parts, (176, 100), CATEGORIES)) == [([81, 11, 94, 58], 0.8, 1)]


def test_a_complete_box_is_preferred_over_a_cut_box_with_a_higher_score() -> None:
    tiles = [(0, 0, 100, 100), (76, 0, 176, 100)]
    parts = [detections([([88, 10, 99, 60], 0.9, 1)]), detections([([87, 11, 112, 58], 0.7, 1)])]
    assert listed(merge_tiles(tiles, parts, (176, 100), CATEGORIES)) == [([87, 11, 112, 58], 0.7, 1)]


def test_a_box_that_only_seems_complete_does_not_remove_other_parts() -> None:
    """The right tile's box of a long scratch starts 6 pixels inside the tile, as if the scratch started there."""
    tiles = [(0, 0, 100, 100), (76, 0, 176, 100)]
    parts = [detections([([5, 10, 100, 20], 0.9, 1)]), detections([([82, 10, 150, 20], 0.7, 1)])]
    ((box, _, _),) = listed(merge_tiles(tiles, parts, (176, 100), CATEGORIES))
    assert box == [5, 10, 150, 20]


def test_a_low_score_box_neither_extends_a_high_score_box_nor_joins_two() -> None:
    tiles = [(0, 0, 100, 100), (76, 0, 176, 100), (152, 0, 252, 100)]
    high = [([60, 10, 96, 60], 0.9, 1), ([156, 10, 200, 60], 0.9, 1)]
    low: Row = ([76, 10, 176, 60], 0.1, 1)  # matches both inside the overlaps
    parts = [detections(rows) for rows in ([high[0]], [low], [high[1]])]
    assert listed(merge_tiles(tiles, parts, (252, 100), CATEGORIES)) == [*high, low]


def test_a_low_score_box_covered_by_a_high_score_box_is_removed() -> None:
    tiles = [(0, 0, 100, 100), (76, 0, 176, 100)]
    parts = [detections([([60, 10, 96, 60], 0.9, 1)]), detections([([76, 12, 98, 58], 0.2, 1)])]
    assert listed(merge_tiles(tiles, parts, (176, 100), CATEGORIES)) == [([60, 10, 96, 60], 0.9, 1)]


def test_no_detections_give_no_detections() -> None:
    assert listed(merge_tiles([(0, 0, 100, 100)], [detections([])], (100, 100), CATEGORIES)) == []
    assert listed(merge_tiles([], [], (100, 100), CATEGORIES)) == []


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Tiling, int, int, list[Row]]:
    """An image under tiles with boxes of all sizes; boxes of one category overlap little."""
    side = draw(st.integers(64, 160))
    tiling = Tiling(side, draw(st.integers(16, side // 2)))
    width, height = draw(st.integers(20, 500)), draw(st.integers(20, 700))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows: list[Row] = []
    boxes: NDArray[np.float64] = np.zeros((0, 4))
    for _ in range(draw(st.integers(0, 14))):
        wh = np.minimum(rng.choice([8, 30, 90, 400], 2) * rng.uniform(0.6, 1.2, 2), [width, height])
        low = rng.uniform(0, 1, 2) * ([width, height] - wh)
        box = np.concatenate([low, low + wh]).round(2)
        label = int(rng.integers(1, 3))
        same_label = boxes[[row[2] == label for row in rows]] if rows else boxes
        if len(same_label) and iou(box[None], same_label).max() > 0.2:
            continue
        boxes = np.concatenate([boxes, box[None]])
        rows.append((box.astype(np.float32).tolist(), round(float(rng.uniform(0.1, 1)), 3), label))
    return tiling, width, height, rows


@settings(max_examples=100, deadline=None)
@given(scenes())
def test_tiles_give_the_same_boxes_as_the_whole_image(scene: tuple[Tiling, int, int, list[Row]]) -> None:
    tiling, width, height, rows = scene
    assert sorted(through_tiles(rows, tiling, width, height)) == sorted(whole(in_view(rows, (0, 0, width, height))))
