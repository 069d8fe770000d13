"""Small labelled pictures for tests, made by code and the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

OBJECT = """<object><name>{0}</name><difficult>{5}</difficult><bndbox><xmin>{1}</xmin><ymin>{2}</ymin>\
<xmax>{3}</xmax><ymax>{4}</ymax></bndbox></object>"""


def pixels(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Cloudy gray noise: smooth enough to survive compression, different for every seed."""
    noise = np.random.default_rng(seed).normal(size=(height // 4 + 2, width // 4 + 2)).astype(np.float32)
    cloudy = np.asarray(Pillow.fromarray(noise).resize((width, height), Pillow.Resampling.BICUBIC))
    return np.clip(128 + 40 * cloudy, 0, 255).astype(np.uint8)


def picture(path: Path, seed: int = 0, width: int = 64, height: int = 48) -> Path:
    """Write such noise; the suffix chooses the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels(seed, width, height)).save(path)
    return path


def voc_text(filename: str, objects: Sequence[tuple[object, ...]] = (), size: tuple[int, int] | None = (64, 48)) -> str:
    """An annotation with objects of (name, xmin, ymin, xmax, ymax[, difficult])."""
    told = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    items = "".join(OBJECT.format(*item, *([0] if len(item) == 5 else [])) for item in objects)
    return f"<annotation><filename>{filename}</filename>{told}{items}</annotation>"


def pair(root: Path, name: str, objects: Sequence[tuple[object, ...]] = (), seed: int | None = None) -> Path:
    """An image and its XML in NEU's layout; returns the XML."""
    seed = sum(ord(c) * 31**i for i, c in enumerate(name)) if seed is None else seed
    picture(root / "IMAGES" / f"{name}.png", seed)
    xml = root / "ANNOTATIONS" / f"{name}.xml"
    xml.parent.mkdir(parents=True, exist_ok=True)
    xml.write_text(voc_text(f"{name}.png", objects), encoding="utf-8")
    return xml


def steel(root: Path, classes: Sequence[str] = ("crazing", "scratches"), each: int = 6) -> Path:
    """``each`` images of every class, numbered from 1, one object in each."""
    for name in classes:
        for number in range(1, each + 1):
            pair(root, f"{name}_{number}", [(name, 1 + number, 2, 20 + number, 30)])
    return root


def sample_steel(folder: Path, *, images: int, seed: int) -> Path:
    """COCO JSON of sample images of 200 pixels, drawn into ``folder``."""
    from detect.cli import main

    assert main(["sample", "--out", str(folder / "raw"), "--images", str(images), "--seed", str(seed)]) == 0
    assert main(["convert", str(folder / "raw"), "--out", str(folder), "--split", "all=1.0"]) == 0
    return folder / "all.json"
