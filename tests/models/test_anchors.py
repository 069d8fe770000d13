"""Anchors: fitted shapes have a higher recall than the default ones, and anchors are centred on their cells."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from detect.datasets import voc
from detect.errors import ConfigError
from detect.models.anchors import (
    AnchorShapes,
    ShapeAnchorGenerator,
    best_possible_recall,
    default_anchors,
    fit_anchors,
    shape_iou,
)
from detect.models.faster_rcnn import check_anchors

STRIDES = [4, 8, 16, 32]


def steel_boxes(count: int = 400, seed: int = 0) -> np.ndarray:
    """Widths and heights like those of steel defects in images of 200 pixels: patches, spots and thin scratches."""
    rng = np.random.default_rng(seed)
    side, ratio = rng.lognormal(np.log(50), 0.6, count), np.exp(rng.normal(0, 0.9, count))
    return np.clip(np.stack([side * np.sqrt(ratio), side / np.sqrt(ratio)], axis=1), 6, 199)


@pytest.mark.parametrize("seed", range(3))
def test_fitted_anchors_have_a_higher_recall_than_the_default(seed: int) -> None:
    boxes_wh = steel_boxes(seed=seed)
    fitted = fit_anchors(boxes_wh, 4, 5, seed=seed)
    ours, default = best_possible_recall(boxes_wh, fitted), best_possible_recall(boxes_wh, default_anchors(4))
    assert ours > 0.93
    assert ours > default + 0.05
    unseen = steel_boxes(seed=seed + 100)
    assert best_possible_recall(unseen, fitted) > best_possible_recall(unseen, default_anchors(4))


def test_fitted_anchors_are_reproducible_and_grow_with_the_level() -> None:
    boxes_wh = steel_boxes()
    fitted = fit_anchors(boxes_wh, 4, 5, seed=1)
    assert fitted == fit_anchors(boxes_wh, 4, 5, seed=1)
    assert [len(level) for level in fitted] == [5, 5, 5, 5]
    areas = [w * h for level in fitted for w, h in level]
    assert all(small <= large * 1.02 for small, large in pairwise(areas))  # sides are rounded to a tenth


def test_as_many_anchors_as_shapes_fit_all_boxes_exactly() -> None:
    boxes_wh = np.array([[10, 20], [30, 30], [80, 15], [150, 160]], np.float32).repeat(9, axis=0)
    assert fit_anchors(boxes_wh, 2, 2) == [[(10, 20), (30, 30)], [(80, 15), (150, 160)]]
    assert best_possible_recall(boxes_wh, [[(10, 20), (30, 30)], [(80, 15), (150, 160)]], iou=0.999) == 1


@pytest.mark.parametrize("boxes_wh", [np.zeros((0, 2)), np.array([[40.0, 40.0]]), np.full((50, 2), 40.0)])
def test_too_few_shapes_fall_back_to_default_anchors_around_them(boxes_wh: np.ndarray) -> None:
    shapes = fit_anchors(boxes_wh, 4, 3)
    assert [len(level) for level in shapes] == [3, 3, 3, 3]
    assert all(side > 0 for level in shapes for shape in level for side in shape)
    if len(boxes_wh):
        assert best_possible_recall(boxes_wh, shapes, iou=0.7) == 1
    else:
        assert shapes == default_anchors(4)


def test_the_default_is_that_of_torchvision() -> None:
    shapes = default_anchors(2)
    np.testing.assert_allclose([w * h for level in shapes for w, h in level], [32**2] * 3 + [64**2] * 3)
    np.testing.assert_allclose([h / w for w, h in shapes[0]], [0.5, 1, 2])
    assert default_anchors(1, per_level=1) == [[(32, 32)]]


def test_shape_iou_equals_values_by_hand() -> None:
    ious = shape_iou(np.array([[10.0, 10.0]]), np.array([[10.0, 10.0], [20.0, 10.0], [10.0, 40.0], [5.0, 20.0]]))
    np.testing.assert_allclose(ious, [[1, 0.5, 0.25, 50 / 150]])


def test_recall_without_boxes_is_nan() -> None:
    assert np.isnan(best_possible_recall(np.zeros((0, 2)), default_anchors(4)))


def anchors_of(side: int, shapes: AnchorShapes, strides: list[int]) -> list[torch.Tensor]:
    """Anchors of two blank square images, per level, each [height, width, anchors, 4]."""
    maps = [torch.zeros(2, 8, -(-side // s), -(-side // s)) for s in strides]
    both = ShapeAnchorGenerator(shapes, strides)(ImageList(torch.zeros(2, 1, side, side), [(side, side)] * 2), maps)
    assert len(both) == 2
    assert torch.equal(both[0], both[1])
    levels = both[0].split([m.shape[2] * m.shape[3] * len(shapes[0]) for m in maps])
    return [level.reshape(m.shape[2], m.shape[3], -1, 4) for level, m in zip(levels, maps)]


@pytest.mark.parametrize("side", [200, 208, 64, 33])
def test_anchors_are_centred_on_their_cells_at_the_exact_stride(side: int) -> None:
    shapes = [[(10.0, 20.0), (30.0, 8.0)]] * 4
    for stride, level in zip(STRIDES, anchors_of(side, shapes, STRIDES)):
        cells = -(-side // stride)  # 13 at stride 16 for 200 pixels, with the last centre at 200 instead of 192.3
        centres = (level[..., :2] + level[..., 2:]) / 2
        expected = (torch.arange(cells) + 0.5) * stride
        assert torch.equal(centres[0, :, 0, 0], expected)
        assert torch.equal(centres[:, 0, 1, 1], expected)
        assert torch.equal(level[..., 2:] - level[..., :2], torch.tensor(shapes[0]).expand(cells, cells, 2, 2))


def test_maps_finer_than_the_strides_have_no_anchors() -> None:
    maps = [torch.zeros(1, 8, side, side) for side in (16, 8, 4)]
    (anchors,) = ShapeAnchorGenerator([[(9.0, 9.0)]] * 2, [8, 16])(
        ImageList(torch.zeros(1, 1, 64, 64), [(64, 64)]), maps
    )
    assert (
        anchors.tolist()
        == ShapeAnchorGenerator([[(9.0, 9.0)]] * 2, [8, 16])(
            ImageList(torch.zeros(1, 1, 64, 64), [(64, 64)]), maps[1:]
        )[0].tolist()
    )
    assert len(anchors) == 8 * 8 + 4 * 4


def test_anchors_have_the_order_of_the_head_outputs() -> None:
    """The order is rows, columns, shapes, as torchvision flattens the outputs of the head."""
    level = anchors_of(32, [[(4.0, 4.0), (8.0, 8.0)]], [16])[0].reshape(-1, 4)
    centres = ((level[:, :2] + level[:, 2:]) / 2).tolist()
    assert centres == [[8, 8], [8, 8], [24, 8], [24, 8], [8, 24], [8, 24], [24, 24], [24, 24]]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            [[(8, 8)]] * 3,
            r"model\.anchors\.shapes: anchors are given for 3 levels instead of 4 .* one list",
        ),
        ([[(8, 8)], [(8, 8)], [(8, 8), (9, 9)], [(8, 8)]], r"levels have \[1, 1, 2, 1\] anchors; give each level the"),
        ([[], [], [], []], r"levels have \[0, 0, 0, 0\] anchors"),
        ([[(8, 8)], [(8, 0)], [(8, 8)], [(8, 8)]], "an anchor has a side that is not positive"),
    ],
)
def test_anchors_that_do_not_fit_the_levels_are_refused(shapes: AnchorShapes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_anchors(shapes, STRIDES)


def test_fitted_anchors_have_a_high_recall_on_real_data(neu_det: Path) -> None:
    images = voc.scan([neu_det]).entries
    boxes = np.array([box.xyxy for entry in images for box in entry.image.boxes])
    boxes_wh = boxes[:, 2:] - boxes[:, :2]
    fitted = fit_anchors(boxes_wh[::2], 4, 5)
    assert best_possible_recall(boxes_wh[1::2], fitted) > 0.98  # on boxes that they were not fitted to
    assert best_possible_recall(boxes_wh[1::2], default_anchors(4)) < 0.9
