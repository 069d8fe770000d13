"""A labelled set small enough to train on in seconds: bright and dark rectangles on gray noise, 64 x 64 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from detect.config.loading import parse_config
from detect.config.schema import Config
from detect.datasets import coco
from detect.images import write_image
from detect.structures import Box, Dataset, Image

torch.set_num_threads(1)  # for networks this small more threads only wait for each other

CATEGORIES = ("bright", "dark")
SIDE = 64


def write_tiny(folder: Path, part: str, *, images: int, seed: int, empty: int = 1, side: int = SIDE) -> Path:
    """Write ``images`` pictures, the last ``empty`` of them without an object, and ``<part>.json``; give its path."""
    rng = np.random.default_rng(seed)
    (folder / part).mkdir(parents=True)
    records = []
    for i in range(images):
        pixels = rng.normal(128, 12, (side, side))
        boxes = []
        for label in CATEGORIES if i < images - empty else ():
            width, height = (int(v) for v in rng.integers(10 * side // SIDE, 26 * side // SIDE, 2))
            x, y = int(rng.integers(0, side - width)), int(rng.integers(0, side - height))
            pixels[y : y + height, x : x + width] += 90 if label == "bright" else -90
            boxes.append(Box(label, (x, y, x + width, y + height)))
        path = folder / part / f"{part}_{i:02d}.bmp"
        write_image(path, np.clip(pixels, 0, 255).astype(np.uint8))
        records.append(Image(path, side, side, tuple(boxes)))
    return coco.write({part: Dataset(tuple(records), CATEGORIES)}, folder)[part]


def write_parts(folder: Path, *, train: int = 8, val: int = 4) -> Path:
    """So many images to train on and to judge by, in ``folder``, which is given back."""
    write_tiny(folder, "train", images=train, seed=0)
    write_tiny(folder, "val", images=val, seed=1)
    return folder


TINY_MODEL: dict[str, Any] = {
    "backbone": {"stem": 8, "widths": (8, 8, 16, 16), "depths": (0, 1, 0, 0)},
    "fpn": {"channels": 16},
    "anchors": {"per_level": 2},
    "rpn": {"batch_per_image": 32, "proposals_train": 40, "proposals_test": 20},
    "roi": {"pool": 3, "conv_width": 16, "fc_width": 32, "batch_per_image": 16, "dropout": 0.1},
}


def tiny_config(folder: Path, run_dir: Path, /, **changes: dict[str, Any]) -> Config:
    """Four epochs of four steps on CPU; ``changes`` are merged into the sections of the tree."""
    tree: dict[str, dict[str, Any]] = {
        "run": {"dir": run_dir},
        "data": {"train": folder / "train.json", "val": folder / "val.json", "workers": 0},
        "model": dict(TINY_MODEL),
        "train": {
            "epochs": 4,
            "batch_size": 4,
            "lr": 5e-3,
            "warmup_steps": 2,
            "val_every": 2,
            "device": "cpu",
            "precision": "float32",
            "deterministic": True,
            "seed": 3,
        },
        "augment": {"mosaic": 0.5, "mosaic_off_epochs": 1},
    }
    for section, values in changes.items():
        tree[section] = {**tree.get(section, {}), **values}
    return parse_config(tree)
