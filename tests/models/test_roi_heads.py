"""RoI heads: equal to torchvision's with one stage; IoU prediction, cascade stages, Soft-NMS and box voting."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign, box_iou

from detect.benchmark.speed import model_cost
from detect.models.nms import box_voting, pairwise_iou, postprocess_detections, soft_nms
from detect.models.roi_heads import PyramidRoIAlign, RoIOutput, stage_losses
from tiny import TINY_MODEL
from tiny_detector import tiny_detector, train_one_step


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def heads(**roi: Any) -> Any:
    return tiny_detector(roi={**TINY_MODEL["roi"], **roi}).roi_heads.eval()


def some_boxes(count: int, *, side: float = 64) -> Tensor:
    corners = torch.rand(count, 2, 2) * side
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


@pytest.mark.parametrize("counts", [[30, 12], [0, 5], [0, 0]])
@pytest.mark.parametrize("spread", [0.3, 8.0])
def test_a_single_stage_gives_the_detections_of_torchvision(counts: list[int], spread: float) -> None:
    model, shapes = heads(score_threshold=0.05, max_detections=15), [(64, 64), (50, 40)]
    proposals = [some_boxes(count) for count in counts]
    logits, offsets = torch.randn(sum(counts), 3) * 2, torch.randn(sum(counts), 4) * spread
    given = logits, offsets.repeat(1, 3), proposals, shapes
    expected = zip(*RoIHeads.postprocess_detections(model, *given))
    output = RoIOutput(logits, offsets, None)
    moved = model.box_coder.decode_single(offsets, torch.cat(proposals)).split(counts)
    scores = model.class_scores(output).split(counts)
    settings = {"score_thresh": 0.05, "nms_thresh": model.nms_thresh, "detections_per_img": 15}
    for (boxes, expected_scores, labels), *ours in zip(expected, moved, scores, shapes):
        detections = postprocess_detections(*ours, **settings)
        assert torch.equal(detections["boxes"], boxes)
        assert torch.equal(detections["scores"], expected_scores)
        assert torch.equal(detections["labels"], labels)


class TestIouPrediction:
    def losses(self, iou_logits: Tensor, offsets: Tensor) -> dict[str, Tensor]:
        proposals = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 9, 9]])
        coder = heads().box_coder
        regression_targets = coder.encode_single(
            torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [5, 5, 9, 9]]), proposals
        )
        return stage_losses(
            RoIOutput(torch.zeros(3, 3), offsets, iou_logits),
            proposals,
            torch.tensor([1, 2, 0]),
            regression_targets,
            decode=coder.decode_single,
            box_loss="giou",
            box_loss_weight=0.0,
            label_smoothing=0.0,
        )

    def test_its_target_is_the_iou_of_the_predicted_boxes(self) -> None:
        """With zero offsets, the IoUs with the objects are 1 and 1/2; background has no IoU loss."""
        logits = torch.tensor([3.0, 0.0, -9.0], requires_grad=True)
        loss = self.losses(logits, torch.zeros(3, 4))["loss_iou"]
        loss.backward()
        grad = torch.tensor([torch.sigmoid(torch.tensor(3.0)) - 1, 0.5 - 0.5, 0]) / 2
        torch.testing.assert_close(logits.grad, grad)

    def test_its_loss_has_no_gradient_to_the_boxes(self) -> None:
        offsets = torch.zeros(3, 4, requires_grad=True)
        self.losses(torch.zeros(3, requires_grad=True), offsets)["loss_iou"].backward()
        assert offsets.grad is None or not offsets.grad.any()

    def test_scores_are_weighted_with_it(self) -> None:
        output = RoIOutput(torch.zeros(1, 3), torch.zeros(1, 4), torch.zeros(1))
        torch.testing.assert_close(
            heads(iou_score_weight=0.25).class_scores(output), torch.full((1, 2), 3**-0.75 * 2**-0.25)
        )
        assert heads().box_predictor.iou_score is None, "no IoU is predicted if its weight is 0"


class TestCascade:
    def test_every_stage_is_trained_and_counted(self) -> None:
        roi = {**TINY_MODEL["roi"], "stages": 3, "iou_score_weight": 0.5}
        model = tiny_detector(roi=roi)
        train_one_step(model)
        target = {"boxes": torch.tensor([[4.0, 4, 40, 30]]), "labels": torch.tensor([1])}
        nothing = {"boxes": torch.zeros(0, 4), "labels": target["labels"][:0]}
        losses = model([torch.rand(1, 64, 64)] * 2, [target, nothing])
        assert {"loss_box_reg", "loss_box_reg_2", "loss_box_reg_3", "loss_iou_3"} <= set(losses)
        one, three = (model_cost(each, (64, 64)).multiply_adds for each in (tiny_detector(), model))
        proposals = TINY_MODEL["rpn"]["proposals_test"]
        stage_cost = 16 * 16 * 9 * 9 + 16 * 9 * 32 + 32 * 32 + 32 * 3 + 32 * 4
        assert three - one == proposals * (2 * stage_cost + 3 * 32)

    def test_a_stage_pools_the_boxes_of_the_previous_stage(self) -> None:
        model, pooled_boxes = heads(stages=2), []
        model.box_roi_pool.register_forward_pre_hook(lambda _, given: pooled_boxes.append(torch.cat(given[1])))
        model.box_predictor.offset.bias.data = torch.tensor([10.0, 0, 0, 0])  # shift by one width to the right
        features = {f"p{s}": torch.rand(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32)}
        model.box_predictor.offset.weight.data.zero_()
        model(features, [torch.tensor([[0.0, 0, 20, 20]])], [(64, 64)])
        assert pooled_boxes[1].tolist() == [[20, 0, 40, 20]]

    def test_scores_are_the_mean_of_the_stages(self) -> None:
        model = heads(stages=2)
        for predictor, bias in ((model.box_predictor, [0.0, 9, 0]), (model.refinement[0].predictor, [0.0, 0, 9])):
            predictor.score.weight.data.zero_()
            predictor.score.bias.data = torch.tensor(bias)
        features = {f"p{s}": torch.rand(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32)}
        ((detections,), _) = model(features, [torch.tensor([[0.0, 0, 20, 20]])], [(64, 64)])
        assert sorted(detections["labels"].tolist()) == [1, 2]
        torch.testing.assert_close(detections["scores"], torch.full((2,), 0.5), atol=1e-3, rtol=0)

    def test_boxes_are_positive_from_the_iou_threshold_on(self) -> None:
        boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 16], [0, 0, 10, 18], [30, 30, 40, 40]])
        target = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([2])}
        model = heads()
        (labels,), (regression_targets,) = model._assign_targets([boxes], [target], iou_thresh=0.6)
        assert labels.tolist() == [2, 2, 0, 0]
        back = model.box_coder.decode_single(regression_targets, boxes)
        torch.testing.assert_close(box_iou(back, target["boxes"])[:, 0], torch.ones(4))


class TestSoftNms:
    def one_class(self, boxes: Tensor, scores: Tensor, picks: int, power: int, scale: float) -> Tensor:
        """Soft-NMS as in the paper, in a loop over picks; scores of the remaining boxes stay as after the last pick."""
        current, final = scores.clone(), scores.clone()
        overlap, remaining = box_iou(boxes, boxes), torch.ones(len(boxes), dtype=torch.bool)
        for _ in range(min(picks, len(boxes))):
            best = torch.where(remaining, current, -1.0).argmax()
            final[best], remaining[best] = current[best], False
            current = current * torch.exp(-(overlap[best] ** power) / scale)
        return torch.where(remaining, current, final)

    @pytest.mark.parametrize("picks", [5, 25, 40])
    @pytest.mark.parametrize(("nms_method", "power", "scale"), [("gaussian", 2, 0.5), ("super_gaussian", 4, 0.12)])
    def test_scores_equal_those_of_the_paper_in_every_class(
        self, nms_method: Literal["gaussian", "super_gaussian"], power: int, scale: float, picks: int
    ) -> None:
        boxes, scores = some_boxes(25), torch.rand(25, 3)
        scores[:, 2] = 0
        rescored = soft_nms(pairwise_iou(boxes), scores, nms_method, max_picks=picks)
        for number in range(3):
            torch.testing.assert_close(
                rescored[:, number], self.one_class(boxes, scores[:, number], picks, power, scale)
            )

    def test_scores_above_the_threshold_are_exact_and_others_stay_below_it(self) -> None:
        boxes, scores = some_boxes(40), torch.rand(40, 2)
        exact, quick = soft_nms(pairwise_iou(boxes), scores), soft_nms(pairwise_iou(boxes), scores, score_thresh=0.2)
        assert torch.equal(exact > 0.2, quick > 0.2)
        assert torch.equal(exact[exact > 0.2], quick[exact > 0.2])

    def test_an_overlapping_box_is_kept_with_a_lower_score(self) -> None:
        boxes = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 30], [50, 50, 60, 60]])
        scores = torch.tensor([[0.9], [0.8], [0.3]])
        settings = {"score_thresh": 0.05, "nms_thresh": 0.5, "detections_per_img": 10}
        hard = postprocess_detections(boxes, scores, (64, 64), **settings)
        assert hard["scores"].tolist() == pytest.approx([0.9, 0.3])
        for nms_method, decay in (
            ("gaussian", math.exp(-(0.75**2) / 0.5)),
            ("super_gaussian", math.exp(-(0.75**4) / 0.12)),
        ):
            detections = postprocess_detections(boxes, scores, (64, 64), nms_method=nms_method, **settings)
            assert detections["scores"].tolist() == pytest.approx([0.9, 0.3, 0.8 * decay])
            assert torch.equal(detections["boxes"], boxes[[0, 2, 1]])

    @pytest.mark.parametrize("nms_method", ["hard", "gaussian", "super_gaussian"])
    @pytest.mark.parametrize("voting", [False, True])
    def test_empty_detections_are_valid(self, nms_method: str, voting: bool) -> None:
        settings = {
            "score_thresh": 0.05,
            "nms_thresh": 0.5,
            "detections_per_img": 10,
            "nms_method": nms_method,
            "voting": voting,
        }
        for boxes, scores in ((torch.zeros(0, 4), torch.zeros(0, 2)), (some_boxes(3), torch.full((3, 2), 0.01))):
            detections = postprocess_detections(boxes, scores, (64, 64), **settings)
            assert [len(detections[key]) for key in ("boxes", "labels", "scores")] == [0, 0, 0]


class TestBoxVoting:
    def test_a_box_moves_to_the_mean_weighted_by_score_and_overlap(self) -> None:
        boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 3]])
        scores = torch.tensor([[0.6, 0.0], [0.3, 0.5], [0.9, 0.5]])
        near = math.exp(-((1 - 0.8) ** 2) / 0.1)  # the third box has an IoU of 0.3 with the first and no weight
        voted_boxes = box_voting(boxes, pairwise_iou(boxes), scores)
        bottom = (0.6 * 10 + 0.3 * near * 8) / (0.6 + 0.3 * near)
        torch.testing.assert_close(voted_boxes[0, 0], torch.tensor([0, 0, 10, bottom]))
        torch.testing.assert_close(voted_boxes[1, 1], boxes[1])  # in the second class, the first box has score 0

    def test_suppressed_boxes_have_a_vote(self) -> None:
        boxes = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 30]])
        settings = {"score_thresh": 0.05, "nms_thresh": 0.5, "detections_per_img": 10}
        detections = postprocess_detections(boxes, torch.tensor([[0.9], [0.8]]), (64, 64), voting=True, **settings)
        assert detections["scores"].tolist() == pytest.approx([0.9])
        assert 30 < float(detections["boxes"][0, 3]) < 40


STRIDES = (4, 8, 16, 32)
NAMES = [f"p{stride}" for stride in STRIDES]
SHAPES = [(200, 136)] * 3


def pyramid() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(3, 5, -(-200 // stride), -(-136 // stride), generator=generator).requires_grad_()
        for name, stride in zip(NAMES, STRIDES)
    }


def scattered_boxes() -> list[Tensor]:
    """40 boxes per image, from tiny to larger than the image, some across or outside its border."""
    generator = torch.Generator().manual_seed(2)
    centres = torch.rand(3, 40, 2, generator=generator) * 260 - 30
    sides = torch.rand(3, 40, 2, generator=generator) ** 2 * 260
    return list(torch.cat([centres - sides / 2, centres + sides / 2], dim=2))


def ours(*, sampling_ratio: int = 2, canonical_side: int = 224) -> PyramidRoIAlign:
    return PyramidRoIAlign(NAMES, STRIDES, output_size=7, sampling_ratio=sampling_ratio, canonical_side=canonical_side)


@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
@pytest.mark.parametrize("canonical_side", [224, 60])
def test_values_and_gradients_equal_those_of_torchvision(sampling_ratio: int, canonical_side: int) -> None:
    maps, boxes = pyramid(), scattered_boxes()
    reference = MultiScaleRoIAlign(NAMES, 7, sampling_ratio, canonical_scale=canonical_side)
    expected = reference(maps, boxes, SHAPES)
    actual = ours(sampling_ratio=sampling_ratio, canonical_side=canonical_side)(maps, boxes, SHAPES)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
    grad_output = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3))
    leaves = list(maps.values())
    for our_grad, expected_grad in zip(
        torch.autograd.grad(actual, leaves, grad_output), torch.autograd.grad(expected, leaves, grad_output)
    ):
        torch.testing.assert_close(our_grad, expected_grad, rtol=0, atol=1e-4)


def test_a_smaller_canonical_side_pools_boxes_from_coarser_levels() -> None:
    maps = {name: torch.full((1, 1, 200 // s + 1, 200 // s + 1), float(s)) for name, s in zip(NAMES, STRIDES)}
    box = [torch.tensor([[20.0, 20.0, 120.0, 120.0]])]
    strides = [ours(canonical_side=side)(maps, box, [(200, 200)]).mean().item() for side in (224, 112, 56)]
    assert strides == pytest.approx([4, 8, 16])


def test_images_without_boxes_give_empty_outputs() -> None:
    empty, one = torch.zeros(0, 4), torch.tensor([[1.0, 1.0, 30.0, 30.0]])
    assert ours()(pyramid(), [empty, empty, empty], SHAPES).shape == (0, 5, 7, 7)
    assert ours()(pyramid(), [empty, one, empty], SHAPES).shape == (1, 5, 7, 7)
