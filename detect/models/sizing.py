"""Images at their own size into the network: normalised and padded to a batch, not resized."""

from __future__ import annotations

from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform


class NativeSize(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """torchvision's input transform without its resizing, which by default makes any image 800 pixels."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """The image and its target as they are."""
        return image, target
