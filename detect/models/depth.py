"""A first convolution that sees all bits of a deep image, whatever the others compute in."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from .strip import StripDetector


class DeepConv2d(nn.Conv2d):
    """A convolution to which 16 bits of its input count, also where autocast or a GPU rounds them to 8 or 11.

    ``keep_depth`` mixes it into the class of a convolution, which goes on computing in its own way; the result has to
    be affine in the images.
    """

    def forward(self, images: Tensor) -> Tensor:
        """FloatTensor[N, in_channels, H, W] -> float32[N, out_channels, h, w]."""
        with torch.autocast(images.device.type, enabled=False):
            if images.is_cuda:
                return self.in_two(images.float())
            return torch.as_tensor(super().forward(images.float()))

    def in_two(self, images: Tensor) -> Tensor:
        """The same as a sum: of what 8 bits of the input give, which TF32 keeps, and of what is left."""
        coarse = images.to(torch.bfloat16).float()
        of_nothing = super().forward(torch.zeros_like(images[:1]))  # the bias, which both parts add
        return torch.as_tensor(super().forward(coarse) + (super().forward(images - coarse) - of_nothing))


def keep_depth(detector: FasterRCNN) -> None:
    """Make the first convolution of each of a detector's backbones a ``DeepConv2d``; weights stay as they are.

    Normalised, gray values of 12 or 16 bits lie closer together than bfloat16 and TF32 can tell apart; what comes out
    of the first layer is of the size of what it found.
    """
    pyramids = [detector.backbone]
    if isinstance(detector, StripDetector) and detector.light is not None:
        pyramids.append(detector.light)
    for pyramid in pyramids:
        first = next(part for part in pyramid.body.modules() if isinstance(part, nn.Conv2d))
        if not isinstance(first, DeepConv2d):
            own = type(first)
            mixed = DeepConv2d if own is nn.Conv2d else type(f"Deep{own.__name__}", (DeepConv2d, own), {})
            first.__class__ = mixed  # as torch.nn.utils.parametrize does: weights, hooks and names stay
