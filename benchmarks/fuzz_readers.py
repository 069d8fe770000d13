"""Kinds of files for fuzzing: intact files, their readers, and checks of the result."""

from __future__ import annotations

import io
import json
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from detect.datasets.reading import TOLERANCE
from detect.errors import DetectError
from detect.images import read_image, read_size
from detect.structures import Image
from fuzz_mutations import Mutation, mutate_bytes, mutate_checkpoint, mutate_json, mutate_png, mutate_text

_SIDE = 48


class Misread(Exception):
    """The reader returned something else than the content of the file."""


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: file name that the reader expects.
        seeds: function that returns intact files.
        mutate: intact file -> damaged file.
        read: reads the damaged file in a folder; raises DetectError if it rejects the file, Misread if it misreads it.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    mutate: Mutation
    read: Callable[[Path], None]


def _pixels(seed: int, dtype: Any = np.uint8, channels: int = 1) -> np.ndarray:
    shape = (_SIDE, _SIDE + 8) if channels == 1 else (_SIDE, _SIDE + 8, channels)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def _image_files(form: str, *, deep: bool = False, **options: Any) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        kinds = [_pixels(0), _pixels(1, channels=3), *([_pixels(2, np.uint16)] if deep else [])]
        files = [io.BytesIO() for _ in kinds]
        for file, pixels in zip(files, kinds):
            Pillow.fromarray(pixels).save(file, form, **options)
        return [file.getvalue() for file in files]

    return seeds


def _pngs() -> list[bytes]:
    metadata = PngInfo()
    metadata.add_text("Comment", "rolled in the morning " * 4)
    metadata.add_itxt("Author", "Ü", zip=True)
    return _image_files("PNG", deep=True, pnginfo=metadata)()


def _rotated_files(form: str, **options: Any) -> Callable[[], list[bytes]]:
    """Files with an EXIF orientation tag."""
    return _image_files(
        form, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", **options
    )


def _pnms() -> list[bytes]:
    deep = b"P5\n%d %d\n4095\n" % (_SIDE + 8, _SIDE) + (_pixels(3, np.uint16) % 4096).astype(">u2").tobytes()
    return [*_image_files("PPM")(), deep]


def _tiffs() -> list[bytes]:
    plain = _image_files("TIFF", deep=True)()
    rotated = _image_files("TIFF", deep=True, tiffinfo={274: 6})()
    pages = io.BytesIO()
    small = Pillow.fromarray(_pixels(3)[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Pillow.fromarray(_pixels(2)).save(pages, "TIFF", save_all=True, append_images=[small])
    return [*plain, *rotated, pages.getvalue()]


def _read_image(folder: Path) -> None:
    (path,) = folder.iterdir()
    pixels = read_image(path)
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[:2] != read_size(path)[::-1]:
        raise Misread(f"{pixels.dtype}{pixels.shape}")


_OBJECT = (
    "<object><name>{0}</name><difficult>{1}</difficult><bndbox><xmin>3</xmin><ymin>{2}</ymin><xmax>30</xmax>"
    "<ymax>40</ymax></bndbox></object>"
)


def _annotations() -> list[bytes]:
    size = f"<size><width>{_SIDE + 8}</width><height>{_SIDE}</height><depth>1</depth></size>"
    few = "".join(_OBJECT.format(name, number % 2, 2 + number) for number, name in enumerate(["dent", "Kratzer ü"]))
    many = "\n".join(_OBJECT.format("dent", 0, 1 + number) for number in range(20))
    start = '<?xml version="1.0" encoding="UTF-8"?>\n<annotation><filename>a.png</filename>'
    return [f"{start}{size}{objects}</annotation>".encode() for objects in (few, many, "")]


def _audited(folder: Path, form: str) -> tuple[list[Image], list[str]]:
    """Images that pass the audit, and the errors; Misread if a box is invalid."""
    from detect.datasets.convert import check
    from detect.datasets.reading import ReadOptions

    checked = check([folder], form, None, "keep", ReadOptions(allow_empty=True))
    for entry in checked.entries:
        image = entry.image
        for box in image.boxes:
            x1, y1, x2, y2 = box.xyxy
            inside = min(x1, y1) >= -TOLERANCE and x2 <= image.width + TOLERANCE and y2 <= image.height + TOLERANCE
            if not (all(map(math.isfinite, box.xyxy)) and x2 > x1 and y2 > y1 and inside and box.label.strip()):
                raise Misread(str(box))
    errors = [f"{finding.path}: {finding.message}" for finding in checked.findings if finding.severity == "error"]
    if not checked.entries and not errors:
        raise Misread("no image and no error")
    return [entry.image for entry in checked.entries], errors


def _raise_first(errors: list[str]) -> None:
    if errors:
        raise DetectError(errors[0])


def _read_annotation(folder: Path) -> None:
    from detect.datasets.reading import local_name, parse

    Pillow.fromarray(_pixels(0)).save(folder / "a.png")
    images, errors = _audited(folder, "voc")
    if images and not errors:
        # independent of the encoding and capitals of the damaged file
        written = [each for each in parse(folder / "a.xml").iter() if local_name(each.tag) == "object"]
        if len(written) != len(images[0].boxes):
            raise Misread(f"{len(images[0].boxes)} of {len(written)} objects")
    _raise_first(errors)


def _data_set() -> dict[str, Any]:
    images = [
        {"id": i, "file_name": f"{i}.png", "width": _SIDE + 8, "height": _SIDE, "video_id": 1, "frame_id": i}
        for i in range(1, 4)
    ]
    boxes = [
        {"id": i, "image_id": 1 + i % 3, "category_id": 1 + i % 2, "bbox": [i, 2.5, 10, 12], "area": 120, "iscrowd": 0}
        for i in range(1, 9)
    ]
    names = [{"id": 1, "name": "dent"}, {"id": 2, "name": "Kratzer ü"}]
    return {"videos": [{"id": 1, "name": "coil"}], "images": images, "annotations": boxes, "categories": names}


def _read_data_set(folder: Path) -> None:
    for number in range(1, 4):
        Pillow.fromarray(_pixels(number)).save(folder / f"{number}.png")
    path = folder / "train.json"
    if not path.exists():
        return
    images, errors = _audited(path, "coco")
    _raise_first(errors)
    content = json.loads(path.read_bytes())
    if len(images) != len(content["images"]) or sum(len(i.boxes) for i in images) != len(content["annotations"]):
        raise Misread("images or boxes are missing")


def _detections() -> list[bytes]:
    detections = [
        {"image_id": 1 + i % 3, "category_id": 1 + i % 2, "bbox": [i, 2.5, 10, 12.25], "score": 0.9 - i / 20}
        for i in range(12)
    ]
    return [json.dumps(detections).encode(), b"[]", json.dumps(detections[:1]).encode()]


def _read_detections(folder: Path) -> None:
    from detect.cli.common import read_json
    from detect.evaluation.summary import judge

    judgement = judge(_data_set(), read_json(folder / "detections.json"))
    if not 0 <= judgement.summary["AP"] <= 1 or not all(math.isfinite(each["score"]) for each in judgement.detections):
        raise Misread(str(judgement.summary["AP"]))


def _yolo_labels() -> list[bytes]:
    return [b"0 0.5 0.5 0.25 0.5\n1 0.125 0.5 0.2 0.3\n", b"1 0.5 0.5 1 1\n" * 20, b"\n"]


def _read_yolo(folder: Path) -> None:
    labels = folder / "a.txt"
    for name in ("images", "labels"):
        (folder / name).mkdir()
    labels.rename(folder / "labels" / "a.txt")
    Pillow.fromarray(_pixels(0)).save(folder / "images" / "a.png")
    (folder / "data.yaml").write_text("names: [dent, scratch]\n")
    images, errors = _audited(folder, "yolo")
    _raise_first(errors)
    text = (folder / "labels" / "a.txt").read_bytes().decode("utf-8-sig")
    lines = sum(bool(line.strip()) for line in text.splitlines())
    if lines != len(images[0].boxes):
        raise Misread(f"{len(images[0].boxes)} of {lines} lines")


def _configs() -> list[bytes]:
    from detect.config.loading import to_yaml
    from detect.config.schema import Config

    by_hand = (
        "train: &t {epochs: 3, lr: 1.e-3}\nmodel:\n  scan: {kind: gru}\n  anchors:\n    shapes: [[[3, 4]], [[8, 9]]]\n"
    )
    tagged = "train:\n  lr: !!float 0.1\n  seed: !!python/object/apply:os.getpid []\ndata: {train: 2020-01-01}\n"
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi"))
    return [to_yaml(Config()).encode(), by_hand.encode(), tagged.encode(), bomb.encode()]


def _read_config(folder: Path) -> None:
    from detect.config.loading import load_config, parse_config

    config = load_config(folder / "a.yaml")
    if parse_config(config.model_dump(mode="json")) != config:
        raise Misread("the configuration changes when it is written and read again")


def _checkpoints() -> list[bytes]:
    import torch

    from detect.config.schema import ModelConfig
    from detect.models.anchors import default_anchors
    from detect.models.checkpoint import SCHEMA, DetectorSpec

    torch.manual_seed(0)
    small = {"stem": 8, "widths": (8, 8), "depths": (0, 1)}
    model = ModelConfig.model_validate({"backbone": small, "fpn": {"channels": 8}, "roi": {"fc_width": 16, "pool": 3}})
    detector = DetectorSpec(model, ("dent", "ü"), 1, (0.4,), (0.2,), default_anchors(2, 5))
    file = io.BytesIO()
    spec = {"categories": detector.categories, "channels": 1, "mean": (0.4,), "std": (0.2,), "shapes": detector.shapes}
    content = {"detector": {**spec, "model": model.model_dump(mode="json"), "max_value": 4095}, "schema": SCHEMA}
    weights = detector.build().state_dict()
    torch.save({**content, "weights": weights, "epoch": 1, "metrics": {}, "training": None}, file)
    return [file.getvalue()]


_INTACT_WEIGHTS: dict[str, Any] = {}


def _read_checkpoint(folder: Path) -> None:
    import torch

    from detect.models.checkpoint import load_checkpoint

    if not _INTACT_WEIGHTS:
        _INTACT_WEIGHTS.update(torch.load(io.BytesIO(_checkpoints()[0]), weights_only=True)["weights"])
    weights = load_checkpoint(folder / "a.pt").load_model().state_dict()
    if any(not torch.equal(weights[name], value) for name, value in _INTACT_WEIGHTS.items()):
        raise Misread("the weights differ from those written")


KINDS = {
    "Pascal-VOC XML": Kind("a.xml", _annotations, mutate_text, _read_annotation),
    "COCO JSON": Kind("train.json", lambda: [json.dumps(_data_set()).encode()], mutate_json, _read_data_set),
    "COCO results": Kind("detections.json", _detections, mutate_json, _read_detections),
    "YOLO text": Kind("a.txt", _yolo_labels, mutate_text, _read_yolo),
    "configuration": Kind("a.yaml", _configs, mutate_text, _read_config),
    "checkpoint": Kind("a.pt", _checkpoints, mutate_checkpoint, _read_checkpoint),
    "BMP": Kind("a.bmp", _image_files("BMP"), mutate_bytes, _read_image),
    "GIF": Kind("a.gif", _image_files("GIF"), mutate_bytes, _read_image),
    "WebP": Kind("a.webp", _rotated_files("WEBP", lossless=True), mutate_bytes, _read_image),
    "PNM": Kind("a.pgm", _pnms, mutate_bytes, _read_image),
    "JPEG": Kind("a.jpg", _rotated_files("JPEG"), mutate_bytes, _read_image),
    "progressive JPEG": Kind("a.jpg", _image_files("JPEG", progressive=True), mutate_bytes, _read_image),
    "PNG": Kind("a.png", _pngs, mutate_png, _read_image),
    "TIFF": Kind("a.tif", _tiffs, mutate_bytes, _read_image),
    "packed TIFF": Kind("a.tif", _image_files("TIFF", deep=True, compression="tiff_lzw"), mutate_bytes, _read_image),
}


def mutate(kind: Kind, seeds: list[bytes], seed: int, number: int) -> bytes:
    """The damaged file with this number, reproducible by seed."""
    rng = random.Random(f"{kind.name} {seed} {number}")
    return kind.mutate(rng.choice(seeds), seeds, rng)
