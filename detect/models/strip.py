"""The detector over a moving strip: torchvision's FasterRCNN with a memory between pyramid and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList

from ..config import MemoryConfig, ModelConfig
from ..errors import ConfigError
from .memory import Memory, State, levels_of
from .proposals import detect_from_features
from .pyramid import Pyramid, build_pyramid

Found = dict[str, Tensor]  # boxes FloatTensor[N, 4] (xyxy, pixels), labels Int64Tensor[N], scores FloatTensor[N]


class StripDetector(FasterRCNN):  # type: ignore[misc]  # torchvision has no types
    """A FasterRCNN whose features pass a memory; frame by frame with a state, or whole clips in training.

    Called on images alone it knows of no time and treats each as the first frame of a strip.

    Args:
        pyramid: full backbone and pyramid, as for FasterRCNN.
        memory: between pyramid and heads.
        light: a cheaper pyramid with the same levels and channels, for the frames between key frames (Liu et al.
            2019); None: every frame is a key frame.
        light_proposals: how many proposals the box head looks at in a light frame.
        light_share: share of frames after a clip's first one that train the light pyramid.
        unseen_share: share of frames after a clip's first one that are foreseen in training instead of seen.
        parts: what FasterRCNN takes.
    """

    def __init__(
        self,
        pyramid: nn.Module,
        *,
        memory: Memory,
        light: Pyramid | None,
        light_proposals: int,
        light_share: float,
        unseen_share: float,
        **parts: Any,
    ) -> None:
        super().__init__(pyramid, **parts)
        self.memory, self.light = memory, light
        self.light_proposals, self.light_share, self.unseen_share = light_proposals, light_share, unseen_share

    def forward(
        self,
        images: list[Tensor],
        targets: list[dict[str, Tensor]] | None = None,
        *,
        clip_length: int = 1,
        motion_xy: Tensor | None = None,
    ) -> dict[str, Tensor] | list[Found]:
        """Losses in training, detections otherwise.

        Args:
            images: FloatTensor[channels, H, W] each, 0 to 1, in training all of one size; clip after clip.
            targets: boxes and labels of each image, in training.
            clip_length: frames a clip.
            motion_xy: FloatTensor[len(images), 2], pixels (right, down) that the surface moved since the frame
                before; needed where clip_length is over 1.
        """
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        batch, targets = self.transform(images, targets)
        features = self._remembered(batch.tensors, clip_length, motion_xy)
        proposals, proposal_losses = self.rpn(batch, features, targets)
        found, losses = self.roi_heads(features, proposals, batch.image_sizes, targets)
        if self.training:
            return {**losses, **proposal_losses}
        return list(self.transform.postprocess(found, batch.image_sizes, sizes))

    def see(self, image: Tensor, state: State | None, motion_xy: Tensor, *, light: bool = False) -> tuple[Found, State]:
        """Detections of the next frame, and the state after it.

        Args:
            image: FloatTensor[channels, H, W], 0 to 1.
            state: after the frame before; None at the start of a strip.
            motion_xy: FloatTensor[2], pixels (right, down) that the surface moved since then.
            light: look at it with the light pyramid, if there is one.
        """
        batch, _ = self.transform([image])
        lighter = self.light if light and state is not None else None
        pyramid = self.backbone if lighter is None else lighter
        after = self.memory(pyramid(batch.tensors), state, _resized(motion_xy, batch, image.shape[-2:]))
        found = self._found(after, batch, tuple(image.shape[-2:]), None if lighter is None else self.light_proposals)
        return found, after

    def foresee(self, state: State, motion_xy: Tensor, size_hw: tuple[int, int]) -> tuple[Found, State]:
        """Detections of a frame that nobody has seen, and the state moved to it.

        Args:
            state: after the last frame that was seen.
            motion_xy: FloatTensor[2], pixels (right, down) that the surface will have moved.
            size_hw: pixels of the frame.
        """
        first = state[self.memory.names[0]]
        blank, _ = self.transform([first.new_zeros(self._channels, *size_hw)])
        ahead = self.memory.foresee(state, _resized(motion_xy, blank, size_hw))
        return self._found(ahead, blank, size_hw, None), ahead

    @property
    def _channels(self) -> int:
        return len(self.transform.image_mean)

    def _found(self, state: State, batch: ImageList, size_hw: tuple[int, ...], proposals_kept: int | None) -> Found:
        (only,) = detect_from_features(self, levels_of(state), batch, [(size_hw[0], size_hw[1])], proposals_kept)
        return only

    def _remembered(self, tensors: Tensor, clip_length: int, motion_xy: Tensor | None) -> dict[str, Tensor]:
        """Features of all frames after memory, in the images' order."""
        full = _by_frame(self.backbone(tensors), clip_length)
        if clip_length == 1:
            return levels_of(self.memory(full[0], None, tensors.new_zeros(len(tensors), 2)))
        assert motion_xy is not None, "clips come with the motion between their frames"
        motions = motion_xy.to(tensors).reshape(-1, clip_length, 2).unbind(1)
        light = _by_frame(self.light(tensors), clip_length) if self.light is not None and self.training else None
        state, frames = None, []
        for number, motion in enumerate(motions):
            way = float(torch.rand(())) if self.training and number > 0 else 1.0
            if state is not None and way < self.unseen_share:
                state = self.memory.foresee(state, motion)
            elif light is not None and way < self.unseen_share + self.light_share:
                state = self.memory(light[number], state, motion)
            else:
                state = self.memory(full[number], state, motion)
            frames.append(levels_of(state))
        return {name: torch.stack([frame[name] for frame in frames], dim=1).flatten(0, 1) for name in frames[0]}


def detect_stills(model: FasterRCNN, images: list[Tensor], proposals: int) -> list[Found]:
    """What ``model(images)`` gives in evaluation mode, from no more than so many proposals of each image."""
    batch, _ = model.transform(images)
    if isinstance(model, StripDetector):
        features = model._remembered(batch.tensors, 1, None)
    else:
        features = model.backbone(batch.tensors)
    sizes_hw = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    return detect_from_features(model, features, batch, sizes_hw, proposals)


def _resized(motion_xy: Tensor, batch: ImageList, size_hw: Sequence[int]) -> Tensor:
    """A frame's motion, FloatTensor[2] in its own pixels, as FloatTensor[1, 2] in those that the network sees."""
    (height, width), seen = size_hw, batch.image_sizes[0]
    factors = torch.tensor([seen[1] / width, seen[0] / height]).to(batch.tensors)
    return (motion_xy.to(batch.tensors) * factors)[None]


def memory_parts(model: ModelConfig, pyramid: Pyramid, in_channels: int) -> dict[str, Any]:
    """What a StripDetector takes besides the parts of a FasterRCNN, with random weights.

    Raises:
        ConfigError: the light backbone doesn't fit the full one.
    """
    config = model.memory or MemoryConfig()
    light = None
    if config.light is not None:
        light = build_pyramid(model.model_copy(update={"backbone": config.light, "scan": None}), in_channels)
        if light.strides != pyramid.strides:
            found = f"the light backbone has strides {light.strides}, the full one {pyramid.strides}"
            raise ConfigError(found, where="model.memory.light", fix="give both as many stages")
    return {
        "memory": Memory(pyramid.out_channels, pyramid.strides, pyramid.names, remembers=config.kind == "gru"),
        "light": light,
        "light_proposals": config.light_proposals,
        "light_share": config.light_share,
        "unseen_share": config.unseen_share,
    }


def _by_frame(features: dict[str, Tensor], clip_length: int) -> Sequence[dict[str, Tensor]]:
    """{name: [clips * frames, ...]} -> one {name: [clips, ...]} a frame."""
    clips = {name: level.reshape(-1, clip_length, *level.shape[1:]) for name, level in features.items()}
    return [{name: level[:, number] for name, level in clips.items()} for number in range(clip_length)]
