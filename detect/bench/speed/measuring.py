"""Latency and throughput from an image array to its boxes, measured in turns, and accuracy of the same calls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...evaluation import judge
from ...formats import coco
from ...images import Pixels
from ...prediction import coco_results
from ...records import Dataset
from ..latency import in_turn, limited_to
from .variants import Variant

_WARM_UP, _BLOCK = 2, 10  # calls before the clock runs, and calls in a row before the next one's turn


def measure(
    variants: Sequence[Variant],
    images: Sequence[Pixels],
    *,
    batches: Sequence[int],
    calls: int,
    truth: tuple[Dataset, dict[str, Any]] | None,
) -> list[dict[str, Any]]:
    """A row for each variant and batch size, in the order given.

    All take their turns in blocks of ten calls, so that a busy moment of the machine hits all alike; what compares are
    the ratios of one measurement.

    Args:
        variants: detectors in their forms.
        images: arrays of one size, as the networks take them; with ``truth``, those of its data set in order.
        batches: images a call.
        calls: that are timed for each row, rounded up to whole blocks.
        truth: data set and its COCO labels to judge by; None: no accuracy is told.

    Returns:
        Rows with ``system``, ``runtime``, ``precision``, ``threads``, ``batch``, ``calls``, ``p50_ms`` and ``p99_ms``
        of a call, ``images_per_s`` by the median, and ``AP``, ``AP50`` (None without truth).
    """
    jobs = [(variant, batch) for variant in variants for batch in batches]
    times: list[list[float]] = [[] for _ in jobs]
    for turn in range(-(-calls // _BLOCK)):
        for number in in_turn(range(len(jobs)), turn):
            variant, batch = jobs[number]
            with limited_to(variant.threads):
                times[number] += _block(variant, batch, images, turn)
    scores = {id(variant): _scores(variant, images, truth) for variant in variants}
    return [
        {
            "system": variant.system,
            "runtime": variant.runtime,
            "precision": variant.precision,
            "threads": variant.threads,
            "batch": batch,
            "calls": len(each),
            "p50_ms": round(float(np.median(each)), 4),
            "p99_ms": round(float(np.percentile(each, 99)), 4),
            "images_per_s": round(1000 * batch / float(np.median(each)), 2),
            **scores[id(variant)],
        }
        for (variant, batch), each in zip(jobs, times)
    ]


def _block(variant: Variant, batch: int, images: Sequence[Pixels], turn: int) -> list[float]:
    """Milliseconds of each call of a block."""
    took = []
    for call in range(-_WARM_UP, _BLOCK):
        first = (turn * _BLOCK + call) * batch
        given = [images[(first + i) % len(images)] for i in range(batch)]
        started = time.perf_counter()
        variant.detect(given)
        if call >= 0:
            took.append(1000 * (time.perf_counter() - started))
    return took


def _scores(
    variant: Variant, images: Sequence[Pixels], truth: tuple[Dataset, dict[str, Any]] | None
) -> dict[str, float | None]:
    if truth is None:
        return {"AP": None, "AP50": None}
    dataset, labels = truth
    with limited_to(variant.threads):
        found = [variant.detect([image])[0] for image in images]
    results = coco.in_ids_of(labels, coco_results(found, dataset.category_ids()), dataset)
    summary = judge(labels, results).summary
    return {key: None if summary[key] is None else round(summary[key], 4) for key in ("AP", "AP50")}
