"""Run a trained network on images or on a data set: pixels in, detections out."""

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
    """Return the detections of each image, best score first, with uncalibrated scores.

    Args:
        model: in evaluation mode; the images are moved to its device.
        images: uint8 or uint16, [height, width] or [height, width, 3] to match the model's channels.
        categories: the model's category names.
        max_value: gray value of white in 16-bit images, as in training; None: 65535.
        proposals: maximum number of proposals per image for the box head; None: as the model was built.

    Raises:
        OutOfMemoryError: the device has too little memory for the images.
    """
    device = next(model.parameters()).device
    height, width = max((pixels.shape[:2] for pixels in images), default=(0, 0), key=lambda size: size[0] * size[1])
    fix = "split large images into tiles (detect infer --tile), or use a device with more memory"
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
    """Yield batches of detections, in the data set's order; consecutive images of one size share a batch.

    Scores are uncalibrated.

    Args:
        model: in evaluation mode.
        dataset: supplies pixels; its labels are not used.
        categories: the model's category names.
        batch_size: maximum images per batch; large images use smaller batches, so that they fit into memory.
        positions: of the images to process, in this order; None: all.
    """
    order = range(len(dataset)) if positions is None else positions
    start = 0
    while start < len(order):
        first = dataset.images[order[start]]
        max_images = min(batch_size, max(_BATCH_PIXELS // (first.width * first.height), 1))
        stop = start + 1
        while stop < min(start + max_images, len(order)) and (
            (dataset.images[order[stop]].width, dataset.images[order[stop]].height) == (first.width, first.height)
        ):
            stop += 1
        images = [dataset.pixels(i) for i in order[start:stop]]
        yield detect_images(model, images, categories, max_value=dataset.max_value)
        start = stop


def coco_results(detections_per_image: Sequence[Detections], category_ids: dict[str, int]) -> list[dict[str, object]]:
    """Convert detections into COCO results: image_id is the position + 1, boxes are xywh in pixels.

    Args:
        detections_per_image: one entry per image, in the data set's order.
        category_ids: category name -> id in the ground truth.
    """
    results: list[dict[str, object]] = []
    for image_id, detections in enumerate(detections_per_image, start=1):
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
    """Convert torchvision's output for one image, best score first."""
    order = output["scores"].argsort(descending=True, stable=True)
    return Detections(
        output["boxes"][order].cpu().numpy().astype(np.float32),
        output["scores"][order].cpu().numpy().astype(np.float32),
        output["labels"][order].cpu().numpy().astype(np.int64),
        categories,
    )
