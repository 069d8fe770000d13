"""The scan: it starts as nothing, reaches along whole lines, costs as much a pixel at any size, has a fair control."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detect.benchmark.speed import model_cost
from detect.errors import ConfigError
from detect.models.faster_rcnn import proposal_strides, summarize_modules
from detect.models.recurrent import Scan, ScanControl, scan_in_windows
from tiny_detector import model_config, tiny_detector, train_one_step


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def awake(scan: nn.Module) -> Any:
    """A scan as after some training: its projection is no longer zero."""
    nn.init.normal_(scan.project.weight, std=0.5)  # type: ignore[union-attr, arg-type]
    return scan.eval()


def gru(channels: int = 3, hidden: int = 4) -> nn.GRU:
    return nn.GRU(channels, hidden, batch_first=True, bidirectional=True).eval()


@pytest.mark.parametrize("scan", [Scan(8, 4, window=4, overlap=2), ScanControl(8, 400)], ids=["gru", "conv"])
def test_it_starts_as_the_identity_at_any_size(scan: nn.Module) -> None:
    for size in ((2, 8, 1, 1), (1, 8, 5, 30), (3, 8, 17, 9)):
        features = torch.randn(size)
        assert torch.equal(scan.eval()(features), features)


@torch.no_grad()
def test_one_cell_is_heard_in_all_rows_and_columns() -> None:
    scan = awake(Scan(4, 8, window=32, overlap=8))
    features = torch.randn(1, 4, 12, 20)
    changed = features.clone()
    changed[0, :, 2, 3] += 10
    difference = (scan(changed) - scan(features)).abs().sum(dim=1)[0]
    assert (difference > 0).all()
    control = awake(ScanControl(4, 500))
    local = (control(changed) - control(features)).abs().sum(dim=1)[0]
    assert (local > 0).sum() <= 9


@torch.no_grad()
@pytest.mark.parametrize(("here", "there"), [(0, 23), (23, 0)])
def test_both_directions_reach_from_end_to_end_of_a_window(here: int, there: int) -> None:
    scan = awake(Scan(4, 8, window=16, overlap=4))
    for axis in (2, 3):
        features = torch.randn(1, 4, *((24, 1) if axis == 2 else (1, 24)))
        changed = features.clone()
        changed.select(axis, here).add_(10)
        difference = (scan(changed) - scan(features)).select(axis, there)
        assert difference.abs().max() > 0


@torch.no_grad()
def test_lines_of_one_window_are_scanned_whole() -> None:
    each, lines = gru(), torch.randn(2, 12, 3)
    assert torch.equal(scan_in_windows(each, lines, window=8, overlap=2), each(lines)[0])


@torch.no_grad()
@pytest.mark.parametrize("cells", [13, 16, 17, 24, 41])
def test_every_window_is_what_a_scan_of_its_surroundings_finds(cells: int) -> None:
    each, lines, window, overlap = gru(), torch.randn(2, cells, 3), 8, 2
    found = scan_in_windows(each, lines, window=window, overlap=overlap)
    for cell in range(cells):
        start = min(max(cell // window * window - overlap, 0), cells - window - 2 * overlap)
        alone = each(lines[:, start : start + window + 2 * overlap])[0]
        torch.testing.assert_close(found[:, cell], alone[:, cell - start])


@torch.no_grad()
def test_windows_hardly_show_and_what_is_far_away_does_not_count() -> None:
    each, lines = gru(), torch.randn(4, 200, 3)
    found = scan_in_windows(each, lines, window=32, overlap=16)
    torch.testing.assert_close(found, each(lines)[0], atol=1e-2, rtol=0)
    changed = lines.clone()
    changed[:, 100:] = torch.randn(4, 100, 3)
    elsewhere = scan_in_windows(each, changed, window=32, overlap=16)
    assert torch.equal(found[:, :64], elsewhere[:, :64])  # whose windows end before cell 100
    longer = scan_in_windows(each, torch.cat([lines, changed], dim=1), window=32, overlap=16)
    assert torch.equal(found[:, :160], longer[:, :160])


def test_work_a_pixel_stays_the_same_at_any_size() -> None:
    detector = tiny_detector(scan={"hidden": 4, "window": 4, "overlap": 2})
    without = tiny_detector()
    work = {
        side: model_cost(detector, (side, side)).multiply_adds - model_cost(without, (side, side)).multiply_adds
        for side in (512, 1024)
    }
    assert work[1024] == pytest.approx(4 * work[512], rel=0.05)


@torch.no_grad()
def test_under_bfloat16_it_computes_in_float32() -> None:
    scan, features = awake(Scan(4, 8, window=4, overlap=2)), torch.randn(1, 4, 9, 14)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = scan(features)
    assert found.dtype == torch.float32
    assert torch.equal(found, scan(features))


@pytest.mark.parametrize("hidden", [8, 32, 64])
def test_the_control_has_as_many_parameters(hidden: int) -> None:
    def parameters(kind: str) -> int:
        detector = tiny_detector(fpn={"channels": 64}, scan={"kind": kind, "hidden": hidden})
        return sum(part.parameters for part in summarize_modules(detector) if part.name == "scan")

    assert parameters("conv") == pytest.approx(parameters("gru"), rel=0.02)


@pytest.mark.parametrize("kind", ["gru", "conv"])
def test_a_detector_with_it_trains_all_its_parts(kind: str) -> None:
    detector = tiny_detector(scan={"kind": kind, "hidden": 4}).train()
    nn.init.normal_(detector.backbone.scan.project.weight)  # zero stops the gradient in the very first step
    with torch.autocast("cpu", dtype=torch.bfloat16):
        train_one_step(detector)
    assert all(float(p.grad.abs().max()) > 0 for p in detector.backbone.scan.parameters())


def test_it_is_off_unless_asked_for_and_then_on_all_levels_from_stride_8() -> None:
    assert tiny_detector().backbone.scan is None
    assert tiny_detector(scan={}).backbone.scanned_strides == [8, 16, 32]
    assert tiny_detector(scan={"strides": [4, 32]}).backbone.scanned_strides == [4, 32]
    detector = tiny_detector(scan={})
    assert [part.name for part in summarize_modules(detector)] == ["backbone", "pyramid", "scan", "rpn", "box head"]
    assert sum(part.parameters for part in summarize_modules(detector)) == sum(p.numel() for p in detector.parameters())


def test_only_the_chosen_levels_change() -> None:
    detector = tiny_detector(scan={"strides": [16]}).eval()
    images: Tensor = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before = detector.backbone(images)
        awake(detector.backbone.scan)
        after = detector.backbone(images)
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["p16"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scan": {"strides": [8, 64]}},
            r"model\.scan\.strides: there is no level at stride 64: .* strides 4, 8, 16, 32;",
        ),
        (
            {"scan": {"strides": []}},
            r"model\.scan\.strides: no level is scanned: the pyramid has strides 4, 8, 16, 32",
        ),
        ({"scan": {}, "fpn": {"single_stride": 4}}, r"no level is scanned: the pyramid has strides 4; name some"),
        (
            {"scan": {"strides": [8]}, "fpn": {"single_stride": 4}},
            r"there is no level at stride 8: .* strides 4; choose",
        ),
    ],
)
def test_a_scan_of_levels_that_are_not_there_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        proposal_strides(model_config(**changes), 1)
