"""Images into the network, normalised and padded to a batch, and boxes back to the pixels of the images."""

from __future__ import annotations

from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import clip_boxes_to_image


class Resized(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """torchvision's input transform, whose boxes end where the images end: rounding may lead out by 1e-4 pixels."""

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Detections, FloatTensor[N, 4] in "boxes", from images of ``image_shapes`` to the original (height, width)."""
        found: list[dict[str, Tensor]] = super().postprocess(result, image_shapes, original_image_sizes)
        for each, size_hw in zip(found, original_image_sizes):
            each["boxes"] = clip_boxes_to_image(each["boxes"], size_hw)
        return found


class NativeSize(Resized):
    """That without its resizing, which by default makes any image 800 pixels."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """The image and its target as they are."""
        return image, target
