"""Detector: losses and detections for any input, values of the losses, and error messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detect.config.schema import ModelConfig
from detect.errors import ConfigError
from detect.models.anchors import default_anchors
from detect.models.backbones.staged import Csp
from detect.models.faster_rcnn import (
    ClippingRCNNTransform,
    NativeSizeTransform,
    build_detector,
    check_detector,
    summarize_modules,
)
from detect.models.roi_heads import RoIOutput
from tiny import TINY_MODEL

BOX_LOSSES = ["giou", "diou", "ciou", "smooth_l1"]
LOSSES = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def make(*, channels: int = 1, classes: int = 2, **changes: Any) -> FasterRCNN:
    """A tiny detector with random weights."""
    roi = {**TINY_MODEL["roi"], **changes.pop("roi", {})}
    model = ModelConfig.model_validate({**TINY_MODEL, "roi": roi, **changes})
    levels = len(model.backbone.widths)
    return build_detector(
        model,
        classes=classes,
        channels=channels,
        mean=[0.5] * channels,
        std=[0.2] * channels,
        shapes=default_anchors(levels, 2),
    )


def target(*boxes: tuple[float, float, float, float]) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.arange(len(boxes)) % 2 + 1,
    }


def image(height: int = 64, width: int = 64, channels: int = 1) -> Tensor:
    return torch.rand(channels, height, width)


def check_losses(losses: dict[str, Tensor]) -> None:
    assert set(losses) == LOSSES
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())


def check_detections(detections: dict[str, Tensor], height: int, width: int) -> None:
    x1, y1, x2, y2 = detections["boxes"].unbind(1)
    assert (x1 >= 0).all()
    assert (y1 >= 0).all()
    assert (x2 <= width).all()
    assert (y2 <= height).all()
    assert (x2 > x1).all()
    assert ((detections["scores"] > 0) & (detections["scores"] <= 1)).all()
    assert ((detections["labels"] >= 1) & (detections["labels"] <= 2)).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("box_loss", BOX_LOSSES)
def test_training_gives_four_finite_losses_and_gradients_of_all_parameters(channels: int, box_loss: str) -> None:
    model = make(channels=channels, roi={"box_loss": box_loss}).train()
    images = [image(channels=channels), image(channels=channels)]
    losses = model(images, [target((4, 4, 30, 20), (20, 30, 60, 60)), target((1, 1, 20, 60))])
    check_losses(losses)
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []


def test_images_without_boxes_give_finite_losses() -> None:
    model = make().train()
    check_losses(model([image(), image()], [target(), target((4, 4, 30, 20))]))
    losses = model([image(), image()], [target(), target()])
    check_losses(losses)
    assert losses["loss_box_reg"] == 0
    assert losses["loss_rpn_box_reg"] == 0
    sum(losses.values()).backward()


@pytest.mark.parametrize("input_size", [None, 48])
def test_a_batch_can_mix_image_sizes(input_size: int | None) -> None:
    model = make(input_size=input_size, roi={"score_threshold": 0.0}).train()
    images = [image(64, 64), image(40, 90), image(71, 50)]
    check_losses(model(images, [target((4, 4, 30, 20)), target(), target((5, 5, 45, 70))]))
    with torch.no_grad():
        detections = model.eval()(images)
    for each, image_detections in zip(images, detections):
        assert len(image_detections["boxes"])
        check_detections(image_detections, *each.shape[1:])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (1, 1), (5, 300), (65, 33)])
def test_boxes_are_inside_images_of_any_size(height: int, width: int) -> None:
    model = make(roi={"score_threshold": 0.0}).eval()
    with torch.no_grad():
        (detections,) = model([image(height, width)])
    check_detections(detections, height, width)


def test_images_are_not_resized_by_default() -> None:
    input_shapes = []
    for input_size, expected in ((None, (64, 96)), (32, (32, 48)), (128, (128, 192))):
        model = make(input_size=input_size).eval()
        model.backbone.body.register_forward_hook(lambda _, inputs, __: input_shapes.append(tuple(inputs[0].shape[2:])))
        with torch.no_grad():
            model([image(64, 96)])
        assert input_shapes[-1] == expected


def test_a_long_strip_is_resized_by_its_shorter_side() -> None:
    model, input_shapes = make(input_size=32).eval(), []
    model.backbone.body.register_forward_hook(lambda _, inputs, __: input_shapes.append(tuple(inputs[0].shape[2:])))
    with torch.no_grad():
        model([image(16, 400)])
    assert input_shapes == [(32, 800)]


def test_padding_is_small() -> None:
    model, input_shapes = make().eval(), []
    model.backbone.body.register_forward_hook(lambda _, inputs, __: input_shapes.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        model([image(200, 200), image(200, 193)])
    assert input_shapes == [(2, 1, 200, 200)]


def test_resized_input_gives_boxes_in_pixels_of_the_original() -> None:
    """The same image at twice the size, resized to the same input, has boxes twice as large."""
    model = make(input_size=32, roi={"score_threshold": 0.0}).eval()
    small = image(32, 32)
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    with torch.no_grad():
        # halving by bilinear interpolation averages the four equal pixels
        (small_detections,), (large_detections,) = model([small]), model([large])
    torch.testing.assert_close(large_detections["boxes"], small_detections["boxes"] * 2, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(large_detections["scores"], small_detections["scores"])


def test_half_precision_gives_finite_losses_in_full_precision() -> None:
    model = make().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model([image(), image()], [target((4, 4, 30, 20)), target()])
    check_losses(losses)
    assert all(loss.dtype == torch.float32 for loss in losses.values())


def test_pyramids_of_two_to_five_levels() -> None:
    for widths in ((8, 8), (8, 8, 8), (8, 8, 8, 8, 8)):
        model = make(backbone={"stem": 8, "widths": widths, "depths": (0,) * len(widths)}).train()
        check_losses(model([image(), image()], [target((4, 4, 30, 20)), target()]))


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_backbone_strides_and_shapes(depth: int) -> None:
    body = Csp(3, 8, (8, 16, 24), (depth,) * 3).eval()
    assert body.strides == [4, 8, 16]
    assert body.out_channels == [8, 16, 24]
    maps = body(torch.zeros(2, 3, 50, 33))
    assert [tuple(m.shape) for m in maps] == [(2, 8, 13, 9), (2, 16, 7, 5), (2, 24, 4, 3)]


class TestLosses:
    def sampled(self, model: FasterRCNN) -> tuple[list[Tensor], Tensor, Tensor]:
        """Proposals of two images, their labels, and their regression targets."""
        proposals = [torch.tensor([[0.0, 0, 20, 30], [10, 10, 40, 44]]), torch.tensor([[5.0, 5, 25, 30], [0, 0, 9, 9]])]
        objects = [p + torch.tensor([1.0, -2, 3, 4]) for p in proposals]
        regression_targets = torch.cat(model.roi_heads.box_coder.encode(objects, proposals))
        return proposals, torch.tensor([1, 2, 1, 0]), regression_targets

    @pytest.mark.parametrize("box_loss", BOX_LOSSES)
    def test_a_perfect_prediction_has_zero_loss(self, box_loss: str) -> None:
        model = make(roi={"box_loss": box_loss})
        proposals, labels, regression_targets = self.sampled(model)
        logits = nn.functional.one_hot(labels, 3).float() * 50
        losses = model.roi_heads.losses(
            RoIOutput(logits, regression_targets, None), proposals, labels, regression_targets
        )
        assert losses["loss_classifier"] == pytest.approx(0, abs=1e-6)
        assert losses["loss_box_reg"] == pytest.approx(0, abs=1e-4)

    def test_smooth_l1_equals_that_of_torchvision(self) -> None:
        model = make(roi={"box_loss": "smooth_l1", "box_loss_weight": 1.0, "label_smoothing": 0.0})
        proposals, labels, regression_targets = self.sampled(model)
        logits, offsets = torch.randn(4, 3), torch.randn(4, 4) / 5
        ours = model.roi_heads.losses(RoIOutput(logits, offsets, None), proposals, labels, regression_targets)
        classification, box = fastrcnn_loss(
            logits, offsets.repeat(1, 3), list(labels.split(2)), list(regression_targets.split(2))
        )
        torch.testing.assert_close(ours["loss_classifier"], classification)
        torch.testing.assert_close(ours["loss_box_reg"], box)

    def test_giou_by_hand(self) -> None:
        model = make(roi={"box_loss": "giou", "box_loss_weight": 2.0})
        proposals = [torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])]
        moved = [torch.tensor([[5.0, 0, 15, 10], [0, 0, 10, 10]])]
        regression_targets = torch.cat(model.roi_heads.box_coder.encode(moved, proposals))
        losses = model.roi_heads.losses(
            RoIOutput(torch.zeros(2, 3), torch.zeros(2, 4), None), proposals, torch.tensor([1, 0]), regression_targets
        )
        # IoU 50 / 150 and a hull of 150: 1 - GIoU = 2/3, for one positive of two proposals, with weight 2
        assert losses["loss_box_reg"] == pytest.approx(2 / 3 / 2 * 2, abs=1e-4)
        assert losses["loss_classifier"] == pytest.approx(np.log(3), abs=1e-5)

    def test_label_smoothing_penalises_confident_predictions(self) -> None:
        sharp, smooth = make(), make(roi={"label_smoothing": 0.1})
        proposals, labels, regression_targets = self.sampled(sharp)
        logits = nn.functional.one_hot(labels, 3).float() * 50
        arguments = (RoIOutput(logits, regression_targets, None), proposals, labels, regression_targets)
        assert smooth.roi_heads.losses(*arguments)["loss_classifier"] > 1
        assert sharp.roi_heads.losses(*arguments)["loss_classifier"] < 1e-6


class TestChecks:
    def test_the_model_summary_counts_every_parameter(self) -> None:
        model = make(channels=3)
        rows = summarize_modules(model)
        assert sum(row.parameters for row in rows) == sum(p.numel() for p in model.parameters())
        assert all(row.trains for row in rows)
        model.rpn.requires_grad_(False)
        assert [row.name for row in summarize_modules(model) if not row.trains] == ["rpn"]

    def test_configured_anchors_have_to_fit_the_backbone(self) -> None:
        model = ModelConfig.model_validate(TINY_MODEL)
        arguments: dict[str, Any] = {"classes": 2, "channels": 1, "mean": [0.5], "std": [0.2]}
        with pytest.raises(ConfigError, match=r"model\.anchors\.shapes: anchors are given for 3 levels instead of 4"):
            build_detector(model, shapes=default_anchors(3, 2), **arguments)
        with pytest.raises(ConfigError, match=r"levels have \[1, 2, 2, 2\] anchors"):
            build_detector(model, shapes=[[(8, 8)], *default_anchors(3, 2)], **arguments)

    def test_a_level_of_the_wrong_size_is_refused(self) -> None:
        model = make()
        model.backbone.body.stages[1][0][0].stride = (1, 1)
        with pytest.raises(ConfigError, match=r"model\.backbone: level p8 should be .* 25, 25\).* is .* 50, 50\)"):
            check_detector(model, 1)

    def test_roi_levels_missing_in_the_pyramid_are_refused(self) -> None:
        model = make()
        model.roi_heads.box_roi_pool.featmap_names = ["0", "1", "2", "3"]
        with pytest.raises(
            ConfigError, match=r"model\.fpn: RoIAlign reads \['0', '1', '2', '3'\], the pyramid returns"
        ):
            check_detector(model, 1)

    def test_a_head_for_another_number_of_anchors_is_refused(self) -> None:
        model = make()
        model.rpn.anchor_generator.shapes = default_anchors(4, 3)
        with pytest.raises(ConfigError, match=r"model\.anchors: levels have \[3, 3, 3, 3\] anchors per cell"):
            check_detector(model, 1)

    def test_the_check_does_not_change_mode_and_statistics(self) -> None:
        model = make().train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        check_detector(model, 1)
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_denoising_boxes_are_noisy_copies_near_the_ground_truth() -> None:
    heads = make().roi_heads
    heads.num_denoising_boxes, heads.box_noise_scale = 4, 0.2
    gt_boxes = torch.tensor([[10.0, 20, 50, 30], [0, 0, 8, 60]])
    proposals = torch.tensor([[1.0, 1, 5, 5]])
    torch.manual_seed(0)
    with_copies, without = (heads.add_denoising_boxes(proposals, boxes) for boxes in (gt_boxes, torch.zeros(0, 4)))
    assert torch.equal(without, proposals)
    assert torch.equal(with_copies[:3], torch.cat([proposals, gt_boxes]))
    copies = with_copies[3:].reshape(4, 2, 4)
    sides = torch.tensor([[40.0, 10, 40, 10], [8, 60, 8, 60]])
    shifts = ((copies - gt_boxes) / sides).abs()
    assert shifts.max() <= 0.2
    assert shifts.mean() > 0.05
    heads.num_denoising_boxes = 0
    assert torch.equal(heads.add_denoising_boxes(proposals, gt_boxes), torch.cat([proposals, gt_boxes]))


@pytest.mark.parametrize(
    ("transform", "corner", "size"),
    [
        (ClippingRCNNTransform(224, 4000, [0.5], [0.5]), 224.0, 1999),
        (NativeSizeTransform(224, 4000, [0.5], [0.5]), 200.00002, 200),
    ],
    ids=["resized", "native"],
)
def test_boxes_are_clipped_to_the_image(transform: ClippingRCNNTransform, corner: float, size: int) -> None:
    input_side = size if isinstance(transform, NativeSizeTransform) else 224
    result = [{"boxes": torch.tensor([[-1e-5, 0.0, corner, corner]])}]
    transform.eval()
    plain = GeneralizedRCNNTransform.postprocess(
        transform, [dict(result[0])], [(input_side, input_side)], [(size, size)]
    )
    assert plain[0]["boxes"].max() > size  # torchvision's rounding exceeds the border
    clipped = transform.postprocess(result, [(input_side, input_side)], [(size, size)])
    assert clipped[0]["boxes"].tolist() == [[0, 0, size, size]]
