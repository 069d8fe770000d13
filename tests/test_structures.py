"""Box arithmetic against numbers worked out by hand and against counting pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.structures import area, clip, intersection, iou, xywh_to_xyxy, xyxy_to_xywh

SIDE = 24
corner = st.integers(0, SIDE)
boxes = st.lists(st.tuples(corner, corner, corner, corner), min_size=1, max_size=5).map(
    lambda corners: np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners], np.float64)
)


def raster(box: np.ndarray) -> np.ndarray:
    """The pixels that a box with whole corners covers; x2 and y2 are exclusive."""
    mask = np.zeros((SIDE, SIDE), bool)
    x1, y1, x2, y2 = box.astype(int)
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize(
    ("a", "b", "shared", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 100, 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 50, 1 / 3),
        ((0, 0, 10, 10), (2, 2, 7, 8), 30, 0.3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0, 0.0),  # they touch: x2 is exclusive
        ((0, 0, 10, 10), (30, 30, 40, 40), 0, 0.0),
        ((5, 5, 5, 9), (5, 5, 5, 9), 0, 0.0),  # no area at all
        ((8, 8, 2, 2), (0, 0, 10, 10), 0, 0.0),  # inverted
        ((0.5, 0.25, 1.5, 0.75), (1.0, 0.25, 2.0, 0.75), 0.25, 1 / 3),
    ],
)
def test_iou_by_hand(a: tuple[float, ...], b: tuple[float, ...], shared: float, expected: float) -> None:
    first, second = np.array([a], np.float64), np.array([b], np.float64)
    assert intersection(first, second) == pytest.approx(shared)
    assert iou(first, second) == pytest.approx(expected)
    assert iou(second, first) == pytest.approx(expected)


@given(boxes, boxes)
@settings(max_examples=60, deadline=None)
def test_iou_is_the_share_of_pixels(a: np.ndarray, b: np.ndarray) -> None:
    found = iou(a, b)
    assert found.shape == (len(a), len(b))
    for i, first in enumerate(map(raster, a)):
        assert area(a)[i] == first.sum()
        for k, second in enumerate(map(raster, b)):
            union = (first | second).sum()
            assert found[i, k] == pytest.approx((first & second).sum() / union if union else 0.0)


@given(boxes)
@settings(max_examples=40, deadline=None)
def test_corners_and_sizes_are_there_and_back(a: np.ndarray) -> None:
    np.testing.assert_array_equal(xywh_to_xyxy(xyxy_to_xywh(a)), a)


def test_any_leading_shape_is_kept() -> None:
    a = np.array([1, 2, 4, 8], np.float32)
    np.testing.assert_array_equal(xyxy_to_xywh(a), [1, 2, 3, 6])
    assert xyxy_to_xywh(np.broadcast_to(a, (2, 3, 4))).shape == (2, 3, 4)
    assert float(area(a)) == 18
    assert area(np.zeros((2, 3, 4))).shape == (2, 3)


def test_no_boxes() -> None:
    none, one = np.zeros((0, 4)), np.ones((1, 4))
    assert iou(none, one).shape == (0, 1)
    assert iou(one, none).shape == (1, 0)
    assert area(none).shape == (0,)
    assert clip(none, 5, 5).shape == (0, 4)


def test_clip_cuts_at_the_borders_and_keeps_the_type() -> None:
    cut = clip(np.array([[-3, -1, 30, 7], [2, 3, 4, 5], [25, 9, 40, 12]], np.float32), width=20, height=8)
    assert cut.dtype == np.float32
    np.testing.assert_array_equal(cut, [[0, 0, 20, 7], [2, 3, 4, 5], [20, 8, 20, 8]])
