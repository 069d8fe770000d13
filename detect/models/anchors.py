"""Anchor shapes fitted to the boxes of the training data, and an anchor generator with the exact strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

AnchorShapes = list[list[tuple[float, float]]]  # [level][anchor](width, height) in pixels


class ShapeAnchorGenerator(AnchorGenerator):  # type: ignore[misc]  # torchvision has no types
    """Anchors of given widths and heights, centred on the cells.

    torchvision's generator computes the stride as the size of the image divided by that of the map. If a side is not a
    multiple of the stride (200 pixels at stride 16 are 13 cells), its anchors drift by more than half a cell across the
    image. Here the strides are those of the network.

    Args:
        shapes: [level][anchor](width, height) in pixels; the same number of anchors on every level.
        strides: pixels per cell of these levels; finer maps get no anchors.
    """

    def __init__(self, shapes: AnchorShapes, strides: Sequence[int]) -> None:
        super().__init__(sizes=((1,),) * len(shapes), aspect_ratios=((1.0,),) * len(shapes))
        self.shapes, self.strides = shapes, list(strides)
        self.cell_anchors = [_base_anchors(level) for level in shapes]

    def num_anchors_per_location(self) -> list[int]:
        return [len(level) for level in self.shapes]

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Anchors of each image, FloatTensor[sum over levels of H * W * anchors, 4], xyxy, pixels."""
        device = feature_maps[0].device
        levels, maps = [], feature_maps[-len(self.strides) :]
        for base_anchors, stride, level in zip(self.cell_anchors, self.strides, maps):
            height, width = int(level.shape[-2]), int(level.shape[-1])
            x = (torch.arange(width, device=device) + 0.5) * stride
            y = (torch.arange(height, device=device) + 0.5) * stride
            cy, cx = torch.meshgrid(y, x, indexing="ij")
            centres = torch.stack([cx, cy, cx, cy], dim=-1).reshape(-1, 1, 4)
            levels.append((centres + base_anchors.to(device)).reshape(-1, 4))
        anchors = torch.cat(levels).to(feature_maps[0].dtype)
        return [anchors for _ in image_list.image_sizes]


def fit_anchors(boxes_wh: NDArray[np.floating[Any]], levels: int, per_level: int, *, seed: int = 0) -> AnchorShapes:
    """Cluster box shapes by IoU (k-means of Redmon & Farhadi 2017) and distribute the centres over levels by area.

    With fewer distinct box shapes than anchors, the result is that of ``default_anchors``.

    Args:
        boxes_wh: float[N, 2], width and height in pixels at the network's input size.
        levels: number of pyramid levels, finest first.
        per_level: anchors per level.
        seed: of the initial centres.

    Returns:
        [levels][per_level](width, height), smallest area first.
    """
    num_anchors = levels * per_level
    num_distinct = len(np.unique(np.round(boxes_wh, 2), axis=0)) if len(boxes_wh) else 0
    if num_distinct < num_anchors:
        return default_anchors(levels, per_level, boxes_wh)
    rng = np.random.default_rng(seed)
    best, best_score = None, -1.0
    for _ in range(5):
        centres = _k_means(boxes_wh.astype(np.float64), num_anchors, rng)
        score = float(shape_iou(boxes_wh, centres).max(axis=1).mean())
        if score > best_score:
            best, best_score = centres, score
    assert best is not None
    ordered = best[np.argsort(best.prod(axis=1))]
    return [
        [(round(float(w), 1), round(float(h), 1)) for w, h in ordered[i * per_level : (i + 1) * per_level]]
        for i in range(levels)
    ]


def default_anchors(levels: int, per_level: int = 3, boxes_wh: NDArray[np.floating[Any]] | None = None) -> AnchorShapes:
    """torchvision's default: 32 pixels at the finest level, doubled at each further one; aspect ratios 0.5 to 2.

    With ``boxes_wh``, the size at the finest level is 1/4 of their median side and at least 4 pixels, for data sets
    too small for clustering.
    """
    smallest = 32.0
    if boxes_wh is not None and len(boxes_wh):
        smallest = max(float(np.sqrt(np.median(np.prod(boxes_wh, axis=1)))) / 4, 4.0)
    ratios = np.geomspace(0.5, 2, per_level) if per_level > 1 else np.array([1.0])
    return [
        [(float(smallest * 2**i / np.sqrt(r)), float(smallest * 2**i * np.sqrt(r))) for r in ratios]
        for i in range(levels)
    ]


def shape_iou(a_wh: NDArray[np.floating[Any]], b_wh: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """IoU of every pair of shapes with the same centre: float[N, 2], float[M, 2] -> float[N, M]."""
    intersection = np.minimum(a_wh[:, None], b_wh[None]).prod(axis=2)
    union = a_wh.prod(axis=1)[:, None] + b_wh.prod(axis=1)[None] - intersection
    return np.asarray(intersection / np.maximum(union, 1e-9), np.float64)


def best_possible_recall(boxes_wh: NDArray[np.floating[Any]], shapes: AnchorShapes, iou: float = 0.5) -> float:
    """Fraction of boxes whose IoU with the best anchor on the same centre is at least ``iou``; NaN without boxes."""
    if not len(boxes_wh):
        return float("nan")
    flat = np.array([shape for level in shapes for shape in level])
    return float((shape_iou(boxes_wh, flat).max(axis=1) >= iou).mean())


def _k_means(boxes_wh: NDArray[np.float64], k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    centres = boxes_wh[rng.choice(len(boxes_wh), 1)]
    while len(centres) < k:  # k-means++: prefer boxes far from all centres
        distance = (1 - shape_iou(boxes_wh, centres).max(axis=1)) ** 2 + 1e-12
        centres = np.vstack([centres, boxes_wh[rng.choice(len(boxes_wh), p=distance / distance.sum())]])
    nearest = np.full(len(boxes_wh), -1)
    for _ in range(100):
        assigned = shape_iou(boxes_wh, centres).argmax(axis=1)
        if (assigned == nearest).all():
            break
        nearest = assigned
        for i in np.unique(nearest):
            centres[i] = np.median(boxes_wh[nearest == i], axis=0)
    return centres


def _base_anchors(level: Sequence[tuple[float, float]]) -> Tensor:
    half = torch.tensor(level, dtype=torch.float32) / 2
    return torch.cat([-half, half], dim=1)
