"""A trained network over images: pixels in, detections out, alone or over a whole data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from ..data.dataset import DetectionDataset, unit_range
from ..data.loader import explain_out_of_memory, to_tensor
from ..images import Pixels
from ..models.faster_rcnn import detect_single_images
from ..structures import Detections

_BATCH_PIXELS = 16 * 640 * 640


@torch.inference_mode()
def detect_images(
    model: FasterRCNN,
    images: Sequence[Pixels],
    categories: tuple[str, ...],
    *,
    max_value: int | None = None,
    proposals: int | None = None,
) -> list[Detections]:
    """Detections of each image, best score first, with the network's own scores.

    Args:
        model: in evaluation mode; the images go to its device.
        images: uint8 or uint16, [height, width] or [height, width, 3] as the model's channels ask.
        categories: the model's category names.
        max_value: white of 16-bit images, as in training; None: 65535.
        proposals: how many the box head looks at in each image, at most; None: as many as the model was built for.

    Raises:
        OutOfMemoryError: the device has too little memory for them.
    """
    device = next(model.parameters()).device
    height, width = max((pixels.shape[:2] for pixels in images), default=(0, 0), key=lambda size: size[0] * size[1])
    fix = "see large images in tiles (detect infer --tile), or take a device with more memory"
    with explain_out_of_memory(f"detection on {len(images)} images of up to {width}x{height} px on {device}", fix):
        tensors = [to_tensor(unit_range(pixels, max_value)).to(device) for pixels in images]
        outputs = model(tensors) if proposals is None else detect_single_images(model, tensors, proposals)
    return [to_detections(output, categories) for output in outputs]


def detect_dataset(
    model: FasterRCNN,
    dataset: DetectionDataset,
    categories: tuple[str, ...],
    *,
    batch_size: int = 16,
    positions: Sequence[int] | None = None,
) -> Iterator[list[Detections]]:
    """Batches of detections, image by image in the data set's order; neighbours of one size share a batch.

    Scores are the network's own.

    Args:
        model: in evaluation mode.
        dataset: pixels; labels aren't looked at.
        categories: the model's category names.
        batch_size: most images a batch; large ones come in smaller batches, so that memory suffices.
        positions: of the images to look at, in this order; None: all.
    """
    order = range(len(dataset)) if positions is None else positions
    start = 0
    while start < len(order):
        first = dataset.images[order[start]]
        most = min(batch_size, max(_BATCH_PIXELS // (first.width * first.height), 1))
        stop = start + 1
        while stop < min(start + most, len(order)) and (
            (dataset.images[order[stop]].width, dataset.images[order[stop]].height) == (first.width, first.height)
        ):
            stop += 1
        pictures = [dataset.pixels(i) for i in order[start:stop]]
        yield detect_images(model, pictures, categories, max_value=dataset.max_value)
        start = stop


def coco_results(found: Sequence[Detections], category_ids: dict[str, int]) -> list[dict[str, object]]:
    """COCO results of a data set: image_id is the position + 1, boxes are xywh in pixels.

    Args:
        found: one entry an image, in the data set's order.
        category_ids: category name -> id in the truth.
    """
    results: list[dict[str, object]] = []
    for image_id, detections in enumerate(found, start=1):
        for each in detections:
            x1, y1, x2, y2 = each.xyxy
            results.append(
                {
                    "image_id": image_id,
                    "category_id": category_ids[each.label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": each.score,
                }
            )
    return results


def to_detections(output: dict[str, Tensor], categories: tuple[str, ...]) -> Detections:
    """What torchvision gives for one image, best score first."""
    order = output["scores"].argsort(descending=True, stable=True)
    return Detections(
        output["boxes"][order].cpu().numpy().astype(np.float32),
        output["scores"][order].cpu().numpy().astype(np.float32),
        output["labels"][order].cpu().numpy().astype(np.int64),
        categories,
    )
