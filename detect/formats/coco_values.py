"""A data set as COCO's plain values, ready to be written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..records import Dataset, Image
from .files import references

IMAGE_ROOT = "image_root"  # in info: the folder, as seen from the file, that its names start from


def to_dict(dataset: Dataset, root: Path) -> dict[str, Any]:
    """COCO's structure as plain values.

    Image ids are 1..N in the data set's order and category ids 1-based positions in its categories.
    Beyond the standard, each annotation tells ``difficult``, 0 or 1, and a draft its ``score``. Frames of strips are
    told as video data sets do: ``videos`` with id (1..M) and name, and images with ``video_id`` and ``frame_id``; and
    beyond these ``condition`` and, where it is known, ``origin_xy``.

    Args:
        dataset: images and their boxes.
        root: folder that image paths are told relative to, with forward slashes.
    """
    ids = dataset.category_ids()
    names = references([image.path for image in dataset.images], root)
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(dataset.images, start=1):
        for box in image.boxes:
            x1, y1, x2, y2 = box.xyxy
            width, height = x2 - x1, y2 - y1
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": ids[box.label],
                "bbox": [_plain(value) for value in (x1, y1, width, height)],
                "area": _plain(width * height),
                "iscrowd": int(box.crowd),
                "segmentation": [],  # CVAT refuses annotations without this key
                "difficult": int(box.difficult),
                **({} if box.score is None else {"score": box.score}),
            }
            annotations.append(annotation)
    strips = dict.fromkeys(image.frame.strip for image in dataset.images if image.frame)
    video_ids = {name: i for i, name in enumerate(strips, start=1)}
    return {
        "info": {"description": "Surface defects, boxes in pixels"},
        "licenses": [],
        **({"videos": [{"id": i, "name": name} for name, i in video_ids.items()]} if video_ids else {}),
        "images": [
            {"id": i, "file_name": name, "width": image.width, "height": image.height, **_place(image, video_ids)}
            for i, (name, image) in enumerate(zip(names, dataset.images), start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": ""} for name, i in ids.items()],
    }


def _place(image: Image, video_ids: Mapping[str, int]) -> dict[str, Any]:
    """The keys that only a frame of a strip has."""
    frame = image.frame
    if frame is None:
        return {}
    place: dict[str, Any] = {"video_id": video_ids[frame.strip], "frame_id": frame.number, "condition": frame.condition}
    if frame.origin_xy is not None:
        place["origin_xy"] = [_plain(value) for value in frame.origin_xy]
    return place


def _plain(value: float) -> float | int:
    """Whole numbers without a decimal point, others without the dust of a subtraction."""
    value = round(value, 9)
    return int(value) if value == int(value) else float(value)
