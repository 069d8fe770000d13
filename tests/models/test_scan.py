"""Scan: identity at initialisation, receptive field, constant cost per pixel, and a control of equal size."""

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


def randomised(scan: nn.Module) -> Any:
    """A scan with a projection that is not zero, as after training."""
    nn.init.normal_(scan.project.weight, std=0.5)  # type: ignore[union-attr, arg-type]
    return scan.eval()


def gru(channels: int = 3, hidden: int = 4) -> nn.GRU:
    return nn.GRU(channels, hidden, batch_first=True, bidirectional=True).eval()


@pytest.mark.parametrize("scan", [Scan(8, 4, window=4, overlap=2), ScanControl(8, 400)], ids=["gru", "conv"])
def test_it_is_the_identity_at_initialisation_at_any_size(scan: nn.Module) -> None:
    for size in ((2, 8, 1, 1), (1, 8, 5, 30), (3, 8, 17, 9)):
        features = torch.randn(size)
        assert torch.equal(scan.eval()(features), features)


@torch.no_grad()
def test_a_cell_affects_all_rows_and_columns_but_only_neighbours_in_the_control() -> None:
    scan = randomised(Scan(4, 8, window=32, overlap=8))
    features = torch.randn(1, 4, 12, 20)
    changed = features.clone()
    changed[0, :, 2, 3] += 10
    difference = (scan(changed) - scan(features)).abs().sum(dim=1)[0]
    assert (difference > 0).all()
    control = randomised(ScanControl(4, 500))
    local = (control(changed) - control(features)).abs().sum(dim=1)[0]
    assert (local > 0).sum() <= 9


@torch.no_grad()
@pytest.mark.parametrize(("start_cell", "end_cell"), [(0, 23), (23, 0)])
def test_both_directions_reach_the_other_end_of_a_line(start_cell: int, end_cell: int) -> None:
    scan = randomised(Scan(4, 8, window=16, overlap=4))
    for axis in (2, 3):
        features = torch.randn(1, 4, *((24, 1) if axis == 2 else (1, 24)))
        changed = features.clone()
        changed.select(axis, start_cell).add_(10)
        difference = (scan(changed) - scan(features)).select(axis, end_cell)
        assert difference.abs().max() > 0


@torch.no_grad()
def test_short_lines_are_scanned_without_windows() -> None:
    layer, lines = gru(), torch.randn(2, 12, 3)
    assert torch.equal(scan_in_windows(layer, lines, window=8, overlap=2), layer(lines)[0])


@torch.no_grad()
@pytest.mark.parametrize("cells", [13, 16, 17, 24, 41])
def test_each_window_equals_a_scan_of_the_window_with_its_overlap(cells: int) -> None:
    layer, lines, window, overlap = gru(), torch.randn(2, cells, 3), 8, 2
    outputs = scan_in_windows(layer, lines, window=window, overlap=overlap)
    for cell in range(cells):
        start = min(max(cell // window * window - overlap, 0), cells - window - 2 * overlap)
        expected = layer(lines[:, start : start + window + 2 * overlap])[0]
        torch.testing.assert_close(outputs[:, cell], expected[:, cell - start])


@torch.no_grad()
def test_windows_hardly_change_outputs_and_distant_cells_have_no_effect() -> None:
    layer, lines = gru(), torch.randn(4, 200, 3)
    outputs = scan_in_windows(layer, lines, window=32, overlap=16)
    torch.testing.assert_close(outputs, layer(lines)[0], atol=1e-2, rtol=0)
    changed = lines.clone()
    changed[:, 100:] = torch.randn(4, 100, 3)
    changed_outputs = scan_in_windows(layer, changed, window=32, overlap=16)
    assert torch.equal(outputs[:, :64], changed_outputs[:, :64])  # whose windows end before cell 100
    longer = scan_in_windows(layer, torch.cat([lines, changed], dim=1), window=32, overlap=16)
    assert torch.equal(outputs[:, :160], longer[:, :160])


def test_cost_per_pixel_does_not_depend_on_the_image_size() -> None:
    detector = tiny_detector(scan={"hidden": 4, "window": 4, "overlap": 2})
    without = tiny_detector()
    work = {
        side: model_cost(detector, (side, side)).multiply_adds - model_cost(without, (side, side)).multiply_adds
        for side in (512, 1024)
    }
    assert work[1024] == pytest.approx(4 * work[512], rel=0.05)


@torch.no_grad()
def test_it_computes_in_float32_under_bfloat16_autocast() -> None:
    scan, features = randomised(Scan(4, 8, window=4, overlap=2)), torch.randn(1, 4, 9, 14)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = scan(features)
    assert outputs.dtype == torch.float32
    assert torch.equal(outputs, scan(features))


@pytest.mark.parametrize("hidden", [8, 32, 64])
def test_the_control_has_the_same_number_of_parameters(hidden: int) -> None:
    def parameters(kind: str) -> int:
        detector = tiny_detector(fpn={"channels": 64}, scan={"kind": kind, "hidden": hidden})
        return sum(part.parameters for part in summarize_modules(detector) if part.name == "scan")

    assert parameters("conv") == pytest.approx(parameters("gru"), rel=0.02)


@pytest.mark.parametrize("kind", ["gru", "conv"])
def test_all_parameters_of_the_scan_get_gradients(kind: str) -> None:
    detector = tiny_detector(scan={"kind": kind, "hidden": 4}).train()
    nn.init.normal_(detector.backbone.scan.project.weight)  # zero stops the gradient in the very first step
    with torch.autocast("cpu", dtype=torch.bfloat16):
        train_one_step(detector)
    assert all(float(p.grad.abs().max()) > 0 for p in detector.backbone.scan.parameters())


def test_it_is_off_by_default_and_scans_all_levels_from_stride_8_when_enabled() -> None:
    assert tiny_detector().backbone.scan is None
    assert tiny_detector(scan={}).backbone.scanned_strides == [8, 16, 32]
    assert tiny_detector(scan={"strides": [4, 32]}).backbone.scanned_strides == [4, 32]
    detector = tiny_detector(scan={})
    assert [part.name for part in summarize_modules(detector)] == ["backbone", "pyramid", "scan", "rpn", "box head"]
    assert sum(part.parameters for part in summarize_modules(detector)) == sum(p.numel() for p in detector.parameters())


def test_only_the_scanned_levels_change() -> None:
    detector = tiny_detector(scan={"strides": [16]}).eval()
    images: Tensor = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before = detector.backbone(images)
        randomised(detector.backbone.scan)
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
def test_a_scan_of_missing_levels_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        proposal_strides(model_config(**changes), 1)
