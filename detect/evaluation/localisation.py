"""Localisation accuracy of matched boxes: IoU, offsets of centre and edges, and the shift common to all boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ..structures import Array, elementwise_iou, xywh_to_xyxy
from .coco_eval import ALL, BEST_100, IOU_50
from .records import CocoEvaluation

EDGES = ("left", "top", "right", "bottom")
MIN_EDGE_BIAS_PX = 0.5
_BIN_EDGES = tuple(round(0.5 + 0.05 * i, 2) for i in range(11))


def localisation(
    evaluated: CocoEvaluation, category: int | None = None, *, groups: Sequence[int] | None = None
) -> dict[str, Any]:
    """Localisation accuracy of the matched pairs of one category, at any score.

    Args:
        evaluated: one run of COCOeval.
        category: position of one category; by default the pairs of all categories.
        groups: group number of each image; a group (frames of a strip) is one cluster in the intervals. By default each
            image is one.

    Returns:
        ``matched``, the number of pairs; ``mean_iou``; ``iou_quartiles``, [first, median, third]; ``iou_histogram``,
        {"edges": 0.50, 0.55, ..., 1.00, "counts": pairs from each edge up to the next}; ``centre_offset_px``, detected
        minus true centre: means of {"x", "y"} and of the "distance"; ``edge_bias_px``, mean of detected minus true for
        each edge, in pixels with y downwards, so that a positive left starts too far right; ``edge_bias_interval_px``,
        its 95 % interval [low, high] by ``clustered_interval``, None for fewer than two images; ``edge_sd_px``, the
        standard deviation of the difference; ``edge_bias_clear``, whether an edge is off by half a pixel or more and
        its interval doesn't hold 0. None where no pair was matched.
    """
    pred_xyxy, gt_xyxy, clusters = matched_pairs(evaluated, category, groups=groups)
    if not len(clusters):
        return _nothing_matched()
    offsets = pred_xyxy - gt_xyxy
    interval = clustered_interval(offsets, clusters)
    bias = offsets.mean(axis=0)
    clear = significant_bias(bias, interval, min_px=MIN_EDGE_BIAS_PX)
    bias_px = dict(zip(EDGES, bias.tolist()))
    return {
        "matched": len(clusters),
        **_overlap(elementwise_iou(pred_xyxy, gt_xyxy)),
        "centre_offset_px": _centre_offset((offsets[:, :2] + offsets[:, 2:]) / 2),
        "edge_bias_px": bias_px,
        "edge_bias_interval_px": dict(zip(EDGES, [None] * 4 if interval is None else interval.T.tolist())),
        "edge_sd_px": dict(zip(EDGES, offsets.std(axis=0).tolist())),
        "edge_bias_clear": dict(zip(EDGES, clear.tolist())),
    }


def ap_by_iou(evaluated: CocoEvaluation, category: int | None = None) -> dict[str, float | None]:
    """AP at each IoU, {"0.50": ..., "0.55": ..., ..., "0.95": ...}, as COCOeval.summarize gives it to the last bit.

    Args:
        evaluated: one run of COCOeval.
        category: position of one category; the mean over all by default.

    Returns:
        Fractions; None where there is no label.
    """
    chosen = slice(None) if category is None else slice(category, category + 1)
    curves = evaluated.precision[:, :, chosen, ALL, BEST_100]
    defined = [of_iou[of_iou > -1] for of_iou in curves]
    return {f"{0.5 + 0.05 * t:.2f}": float(np.mean(each)) if each.size else None for t, each in enumerate(defined)}


def matched_pairs(
    evaluated: CocoEvaluation, category: int | None = None, *, groups: Sequence[int] | None = None
) -> tuple[Array, Array, NDArray[Any]]:
    """Detections matched at IoU 0.5 and their labels, [N, 4] each, xyxy, pixels; and the image or group of each, [N].

    Args as for ``localisation``.
    """
    found, matches = evaluated.found, evaluated.matches
    pairs = (matches.matched_label[IOU_50] >= 0) & ~matches.ignored[IOU_50]
    if category is not None:
        pairs &= found.category[matches.order] == category
    rows = matches.order[pairs]
    pred_xyxy = xywh_to_xyxy(found.boxes_xywh[rows])
    gt_xyxy = xywh_to_xyxy(evaluated.truth.boxes_xywh[matches.matched_label[IOU_50, pairs]])
    return pred_xyxy, gt_xyxy, found.image[rows] if groups is None else np.asarray(groups)[found.image[rows]]


def significant_bias(
    means: NDArray[np.float64], interval: NDArray[np.float64] | None, *, min_px: float
) -> NDArray[np.bool_]:
    """bool[C], which of C means are ``min_px`` or more with an interval, float64[2, C], that doesn't hold 0."""
    if interval is None:
        return np.zeros(len(means), dtype=bool)
    return np.asarray((abs(means) >= min_px) & ((interval[0] > 0) | (interval[1] < 0)))


def clustered_interval(
    values: NDArray[np.float64], clusters: NDArray[Any], *, confidence: float = 0.95
) -> NDArray[np.float64] | None:
    """Interval of a mean over values that come in clusters, such as the boxes of one image.

    Boxes of an image share light, defect and annotator, so they are not independent and the usual standard error is too
    small. The jackknife (Tukey 1958) takes the mean again without each cluster and assumes only that clusters are
    independent, whatever their sizes. It is as fast as a mean, needs no random numbers, and agrees with a bootstrap
    over images. With Student's t of clusters - 1 degrees of freedom its coverage is right with a dozen images too,
    where plain cluster-robust intervals are too narrow (compared by MacKinnon, Nielsen & Webb 2023).

    Args:
        values: float64[N, C], C quantities at a time.
        clusters: [N], cluster of each value.
        confidence: probability that such an interval contains the true mean.

    Returns:
        float64[2, C], the lower and upper ends; None for fewer than two clusters.
    """
    cluster = np.unique(clusters, return_inverse=True)[1].ravel()
    sizes = np.bincount(cluster)
    if len(sizes) < 2:
        return None
    mean = values.mean(axis=0)
    sums = np.stack([np.bincount(cluster, column) for column in (values - mean).T], axis=1)
    moved = -sums / (len(values) - sizes)[:, None]  # the mean without a cluster, less the mean
    error = np.sqrt((len(sizes) - 1) / len(sizes) * (moved**2).sum(axis=0))
    reach = stdtrit(len(sizes) - 1, (1 + confidence) / 2) * error
    return np.stack([mean - reach, mean + reach])


def _overlap(ious: Array) -> dict[str, Any]:
    within = np.clip(ious, _BIN_EDGES[0], _BIN_EDGES[-1])  # pycocotools' own IoU may differ in the last bit
    return {
        "mean_iou": float(ious.mean()),
        "iou_quartiles": np.quantile(ious, (0.25, 0.5, 0.75)).tolist(),
        "iou_histogram": {"edges": list(_BIN_EDGES), "counts": np.histogram(within, _BIN_EDGES)[0].tolist()},
    }


def _centre_offset(offsets_xy: Array) -> dict[str, float | None]:
    x, y = offsets_xy.mean(axis=0).tolist()
    return {"x": x, "y": y, "distance": float(np.hypot(*offsets_xy.T).mean())}


def _nothing_matched() -> dict[str, Any]:
    none = dict.fromkeys(EDGES)
    return {
        "matched": 0,
        "mean_iou": None,
        "iou_quartiles": None,
        "iou_histogram": {"edges": list(_BIN_EDGES), "counts": [0] * 10},
        "centre_offset_px": dict.fromkeys(("x", "y", "distance")),
        "edge_bias_px": none,
        "edge_bias_interval_px": dict(none),
        "edge_sd_px": dict(none),
        "edge_bias_clear": dict.fromkeys(EDGES, False),
    }


MIN_BOX_BIAS_PX = 0.3
_MIN_CLUSTERS = 10  # images or groups; with fewer no shift is called clear


def box_bias(evaluated: CocoEvaluation, *, groups: Sequence[int] | None = None) -> dict[str, Any]:
    """The shift that boxes of all classes share, over the pairs that pycocotools matches at IoU 0.5.

    It is the interquartile mean of detected minus true centre, separately for x and y, so that a few boxes with another
    extent, tens of pixels off, have no effect. A detector trained on mirrored images can't learn a common offset of the
    labels, so such an offset of the labels shows here.

    Args:
        evaluated: one run of COCOeval.
        groups: group number of each image; a group (frames of a strip) is one cluster in the interval. By default each
            image is one.

    Returns:
        ``matched``, the number of pairs; by "x" and "y" ``px``, positive to the right and downwards, ``interval_px``,
        its 95 % interval [low, high] by ``clustered_interval``, None for fewer than two groups, and ``clear``, whether
        it is 0.3 pixels or more with an interval, of ten groups or more, that doesn't hold 0. None in place of numbers
        where no pair was matched.
    """
    pred_xyxy, gt_xyxy, clusters = matched_pairs(evaluated, groups=groups)
    if not len(clusters):
        none = dict.fromkeys("xy")
        unclear = dict.fromkeys("xy", False)
        return {"matched": 0, "px": none, "interval_px": dict(none), "clear": unclear}
    offsets = pred_xyxy - gt_xyxy
    middle, standing_for = interquartile_mean((offsets[:, :2] + offsets[:, 2:]) / 2)
    interval = clustered_interval(standing_for, clusters)
    enough = len(np.unique(clusters)) >= _MIN_CLUSTERS
    clear = significant_bias(middle, interval if enough else None, min_px=MIN_BOX_BIAS_PX)
    px = dict(zip("xy", middle.tolist()))
    return {
        "matched": len(clusters),
        "px": px,
        "interval_px": dict(zip("xy", [None] * 2 if interval is None else interval.T.tolist())),
        "clear": dict(zip("xy", clear.tolist())),
    }


def interquartile_mean(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The interquartile mean of each column, and pseudo-values with that mean.

    Args:
        values: float64[N, C], N of at least 1.

    Returns:
        float64[C], and float64[N, C]: that mean plus the influence of each row (Huber 1981, section 3.3). An interval
        of the mean of these values is an interval of the interquartile mean.
    """
    cut = len(values) // 4
    rising = np.sort(values, axis=0)[cut : len(values) - cut]
    middle = rising.mean(axis=0)
    held = values.clip(rising[0], rising[-1])
    return middle, middle + len(values) / len(rising) * (held - held.mean(axis=0))
