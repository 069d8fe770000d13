"""What a training draws for each image: a stream of random numbers of the image's own, and a balanced choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

_STREAMS = {"anchors": 0, "proposals": 1}


def draws_of(
    target: Mapping[str, Tensor], stream: Literal["anchors", "proposals"], device: torch.device
) -> torch.Generator | None:
    """The random numbers of one image in one step, whatever process it is on and whatever stands beside it.

    Args:
        target: of the image; its ``seed``, a whole number below 2 ** 31 on the CPU, decides. Without one, torch's
            common stream is drawn from (None).
        stream: what they are for.
        device: where they are drawn.
    """
    if "seed" not in target:
        return None
    return torch.Generator(device).manual_seed(2 * int(target["seed"]) + _STREAMS[stream])


def balanced(
    labels: Tensor, most: int, positive_fraction: float, draws: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """A random choice of boxes to learn from, as torchvision's BalancedPositiveNegativeSampler makes it.

    Args:
        labels: Tensor[N], 1 and more for objects, 0 for background, -1 for neither.
        most: boxes to choose.
        positive_fraction: largest share of objects among ``most``.
        draws: where random numbers come from; None: torch's common stream.

    Returns:
        BoolTensor[N] twice: the chosen objects, and the chosen background.
    """
    objects, background = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
    positives = min(len(objects), int(most * positive_fraction))
    chosen = []
    for places, count in ((objects, positives), (background, most - positives)):
        order = torch.randperm(len(places), generator=draws, device=labels.device)[:count]
        chosen.append(torch.zeros(len(labels), dtype=torch.bool, device=labels.device))
        chosen[-1][places[order]] = True
    return chosen[0], chosen[1]
