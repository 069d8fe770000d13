"""Two processes with half of each batch equal one with the whole batch: norms, losses, sampling, validation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from detect.config.loading import parse_config
from detect.engine.data import split_by_process
from detect.engine.trainer import train
from detect.errors import ConfigError
from detect.models.checkpoint import load_checkpoint
from detect.models.distributed import reduce_mean_count
from detect.models.layers import AllReduceBatchNorm
from detect.models.rpn import image_generator, sample_pos_neg
from detect.structures import Frame, Image
from processes import in_process_group, needs_fork, run_processes, train_in_processes
from tiny import TINY_MODEL, tiny_config, write_tiny
from tiny_detector import tiny_detector, train_one_step

# Maximum relative difference of the weights after 12 steps of AdamW, caused by the order of sums.
TOLERANCE = 1e-4


@pytest.fixture
def lone() -> Iterator[None]:
    """Fail if a forked process has left a process group in this one."""
    assert not dist.is_initialized()
    yield
    assert not dist.is_initialized()


@needs_fork
def test_two_processes_train_like_one(tmp_path: Path, lone: None) -> None:
    write_tiny(tmp_path, "train", images=8, seed=0)
    write_tiny(tmp_path, "val", images=5, seed=1)  # odd number: unequal shares
    data, runs = tmp_path, (tmp_path / "one", tmp_path / "two")
    model = {**TINY_MODEL, "norm": "group", "roi": {**TINY_MODEL["roi"], "dropout": 0.0, "iou_score_weight": 0.3}}
    for size, run in enumerate(runs, start=1):
        config = tiny_config(data, run, model=model, train={"epochs": 6, "val_every": 3})
        train(config) if size == 1 else train_in_processes(size, config)
    one, two = ([json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in runs)
    assert [line["step"] for line in one] == [2, 4, 6, 8, 10, 12]
    for alone, shared in zip(one, two):
        assert alone["losses"] == pytest.approx(shared["losses"], rel=TOLERANCE)
        assert (alone["val"] is None) == (shared["val"] is None)
        if alone["val"] is not None:
            assert shared["val"]["AP50"] == pytest.approx(alone["val"]["AP50"], abs=1e-3)
    expected, halves = (load_checkpoint(run / "last.pt").weights for run in runs)
    apart = {
        name: float((halves[name] - value).norm() / value.norm().clamp(min=1e-6)) for name, value in expected.items()
    }
    assert max(apart.values()) < TOLERANCE, max(apart, key=lambda name: apart[name])


def _normalised(x: Tensor, slope: Tensor, norm: nn.Module) -> list[Tensor]:
    torch.manual_seed(5)
    nn.init.uniform_(norm.weight)  # type: ignore[arg-type]
    x = x.clone().requires_grad_()
    output = norm(x)
    output.backward(slope)
    state = norm.state_dict()
    return [output.detach(), x.grad, norm.weight.grad, norm.bias.grad, state["running_mean"], state["running_var"]]  # type: ignore[list-item, union-attr]


def _of_share(rank: int, x: Tensor, slope: Tensor) -> list[Any]:
    part = slice(0, 2) if rank == 0 else slice(2, None)  # unequal shares
    return [each.numpy() for each in _normalised(x[part], slope[part], AllReduceBatchNorm(5))]


@needs_fork
@pytest.mark.parametrize("shape", [(6, 5, 7, 3), (6, 5)])
def test_sync_norm_equals_the_norm_of_the_whole_batch(shape: tuple[int, ...], lone: None) -> None:
    torch.manual_seed(0)
    x, slope = torch.randn(shape) * 3 + 10, torch.randn(shape)
    ordinary = nn.BatchNorm2d(5) if len(shape) == 4 else nn.BatchNorm1d(5)
    y, of_x, of_weight, of_bias, *running = _normalised(x, slope, ordinary)
    first, second = (
        [torch.from_numpy(each) for each in share] for share in run_processes(2, in_process_group, _of_share, x, slope)
    )
    for k, expected in enumerate((y, of_x)):
        torch.testing.assert_close(torch.cat([first[k], second[k]]), expected, rtol=1e-4, atol=1e-5)
    for k, expected in enumerate((of_weight, of_bias), start=2):
        torch.testing.assert_close(first[k] + second[k], expected, rtol=1e-4, atol=1e-5)
    for k, expected in enumerate(running, start=4):
        torch.testing.assert_close(first[k], expected)
        torch.testing.assert_close(second[k], expected)


def test_sync_norm_of_one_process_is_batch_norm() -> None:
    torch.manual_seed(0)
    x, slope = torch.randn(6, 5, 7, 3), torch.randn(6, 5, 7, 3)
    for own, ordinary in zip(_normalised(x, slope, AllReduceBatchNorm(5)), _normalised(x, slope, nn.BatchNorm2d(5))):
        assert torch.equal(own, ordinary)


def _divisor(rank: int, counts: list[int]) -> float:
    return float(reduce_mean_count(counts[rank], torch.device("cpu")))


@needs_fork
@pytest.mark.parametrize(("counts", "divisor"), [([3, 5], 4.0), ([0, 5], 2.5), ([0, 0], 0.5)])
def test_losses_are_divided_by_the_samples_of_all_processes(counts: list[int], divisor: float) -> None:
    assert run_processes(2, in_process_group, _divisor, counts) == [divisor] * 2
    assert _divisor(0, [0]) == 1.0


@pytest.mark.parametrize("norm", ["sync", "group"])
def test_every_norm_of_a_detector_is_the_configured_one(norm: str) -> None:
    asked_for, kinds = {"sync": AllReduceBatchNorm, "group": nn.GroupNorm}[norm], (nn.BatchNorm1d, nn.BatchNorm2d)
    torch.manual_seed(0)
    ordinary = tiny_detector(backbone={"name": "torchvision", "arch": "mobilenet_v3_small"})
    torch.manual_seed(0)
    model = tiny_detector(backbone={"name": "torchvision", "arch": "mobilenet_v3_small"}, norm=norm)
    assert not any(isinstance(part, kinds) for part in model.modules())
    replaced = sum(isinstance(part, asked_for) for part in model.modules())
    assert replaced == sum(isinstance(part, kinds) for part in ordinary.modules()) > 0
    for (name, own), (other, expected) in zip(model.named_parameters(), ordinary.named_parameters()):
        assert name == other
        assert torch.equal(own, expected)
    if norm == "sync":
        assert list(model.state_dict()) == list(ordinary.state_dict())  # checkpoints of both are interchangeable
    train_one_step(tiny_detector(norm=norm))


def test_group_norm_groups_have_enough_channels() -> None:
    widths = {"stem": 24, "widths": (40, 48, 100, 17), "depths": (0, 0, 0, 0)}
    groups = [part for part in tiny_detector(backbone=widths, norm="group").modules() if isinstance(part, nn.GroupNorm)]
    assert {(each.num_channels, each.num_groups) for each in groups} >= {(24, 1), (40, 2), (48, 3), (100, 5), (17, 1)}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"norm": "sync", "memory": {"light": {}}}, "some steps skip memory.light"),
        ({"norm": "group", "backbone": {"name": "torchvision", "weights": "hub"}}, "trained with batch norm"),
    ],
)
def test_a_norm_that_does_not_fit_raises(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"model": model})


def test_random_samples_of_an_image_do_not_depend_on_other_images() -> None:
    model = tiny_detector().train()
    labels = torch.tensor([1, 0] * 50)
    target = {"boxes": torch.tensor([[4.0, 4, 40, 30]]), "labels": torch.tensor([1]), "seed": torch.tensor(7)}
    other = {**target, "seed": torch.tensor(8)}
    proposals = torch.tensor([[float(i), 0, i + 20, 30] for i in range(40)])
    chosen = model.roi_heads._select_training_samples(proposals, target)
    torch.manual_seed(99)
    model.roi_heads._select_training_samples(proposals, other)
    assert torch.equal(model.roi_heads._select_training_samples(proposals, target), chosen)
    assert not torch.equal(model.roi_heads._select_training_samples(proposals, other), chosen)
    streams = [
        sample_pos_neg(labels, 20, 0.5, image_generator(target, each, labels.device))
        for each in ("anchors", "proposals")
    ]
    assert not torch.equal(streams[0][0], streams[1][0])


class TestShares:
    def images(self, strips: list[str | None]) -> list[Image]:
        frames = [None if strip is None else Frame(strip, number) for number, strip in enumerate(strips)]
        return [Image(Path(f"{i}.png"), 8, 8, (), frame=frame) for i, frame in enumerate(frames)]

    @pytest.mark.parametrize("size", [1, 2, 3, 8])
    def test_every_image_is_evaluated_once(self, size: int) -> None:
        dealt = split_by_process(self.images([None] * 7), size)
        assert len(dealt) == size
        assert sorted(position for share in dealt for position in share) == list(range(7))
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1

    def test_strips_are_not_divided(self) -> None:
        strips: list[str | None] = ["a", "b", "c", "a", "a", "b", "a"]
        first, second = split_by_process(self.images(strips), 2)
        assert first == [0, 3, 4, 6]
        assert second == [1, 2, 5]

    def test_with_still_images_every_image_is_processed_alone(self) -> None:
        assert split_by_process(self.images(["a", "a", None, "a"]), 2) == [[0, 2], [1, 3]]
