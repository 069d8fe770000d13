"""Memory over frames: near the identity at initialisation, shifted by the motion, and not valid for new surface."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detect.models.recurrent import ConvGruCell, Memory, shift_features, state_features

NAMES, STRIDES = ["p4", "p8"], [4, 8]


def features(seed: int, batch: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"p{s}": torch.randn(batch, 6, 64 // s, 64 // s, generator=generator) for s in STRIDES}


def randomised(memory: Memory) -> Memory:
    """A memory with random weights, as after training."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return memory


@pytest.mark.parametrize("motion", [(3.0, 0.0), (0.0, -2.0), (-4.0, 5.0)])
def test_motion_by_whole_cells_shifts_the_map_with_zero_padding(motion: tuple[float, float]) -> None:
    level = torch.rand(2, 3, 12, 10) + 1
    x, y = int(motion[0]), int(motion[1])
    expected = torch.zeros_like(level)
    for row in range(12):
        for column in range(10):
            if 0 <= row - y < 12 and 0 <= column - x < 10:
                expected[:, :, row, column] = level[:, :, row - y, column - x]
    torch.testing.assert_close(shift_features(level, torch.tensor([motion, motion])), expected, rtol=0, atol=1e-5)


def test_motion_by_half_a_cell_averages_neighbours() -> None:
    level = torch.arange(8.0).reshape(1, 1, 1, 8)
    half = shift_features(level, torch.tensor([[0.5, 0.0]]))
    torch.testing.assert_close(half[0, 0, 0, 1:], torch.arange(7.0) + 0.5)


def test_each_image_of_a_batch_has_its_own_motion() -> None:
    level = torch.rand(2, 1, 6, 6)
    both = shift_features(level, torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    torch.testing.assert_close(both[0], level[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1, :, :, 2:], level[1, :, :, :-2], rtol=0, atol=1e-5)


def test_an_untrained_memory_does_not_change_a_first_frame() -> None:
    memory, frame = Memory(6, STRIDES, NAMES), features(0)
    after = state_features(memory(frame, None, torch.zeros(1, 2)))
    for name in NAMES:
        torch.testing.assert_close(after[name], frame[name])


def test_a_step_equals_the_gru_formula() -> None:
    cell = ConvGruCell(4)
    randomised(cell)  # type: ignore[arg-type]
    frame, hidden, valid = torch.rand(1, 4, 5, 5), torch.rand(1, 4, 5, 5), torch.ones(1, 1, 5, 5)
    update, reset = torch.sigmoid(cell.gates(torch.cat([frame, hidden, valid], 1))).split(4, dim=1)
    candidate = frame + cell.correction(torch.cat([frame, reset * hidden], 1))
    torch.testing.assert_close(cell(frame, hidden, valid), hidden + update * (candidate - hidden))


def test_the_state_moves_with_the_surface() -> None:
    memory, motion = randomised(Memory(6, STRIDES, NAMES)), torch.tensor([[16.0, 0.0]])
    zeros = {name: torch.zeros_like(level) for name, level in features(0).items()}
    changed = {name: level.clone() for name, level in zeros.items()}
    changed["p4"][..., 5, 3] = 5.0  # one cell in the first frame, zeros afterwards
    after = [
        state_features(memory(zeros, memory(first, None, torch.zeros(1, 2)), motion))["p4"]
        for first in (zeros, changed)
    ]
    difference = (after[1] - after[0]).abs().sum(dim=1)[0]
    assert difference[5, 3 + 4] > 0.01  # 16 pixels are 4 cells
    far = difference.clone()
    far[2:9, 4:11] = 0  # the first frame spreads it by one cell, the second by two
    assert far.max() == 0


def test_the_control_has_the_same_parameters_and_ignores_the_past() -> None:
    memory, control = randomised(Memory(6, STRIDES, NAMES)), Memory(6, STRIDES, NAMES, stateful=False)
    control.load_state_dict(memory.state_dict())
    motion, now = torch.zeros(1, 2), features(1)
    pasts = [control(features(seed), None, motion) for seed in (2, 3)]
    first, second = (state_features(control(now, past, motion)) for past in pasts)
    assert all(torch.equal(first[name], second[name]) for name in NAMES)
    first, second = (state_features(memory(now, past, motion)) for past in pasts)
    assert not torch.equal(first["p4"], second["p4"])


def test_new_surface_is_independent_of_the_past() -> None:
    memory, now, motion = randomised(Memory(6, STRIDES, NAMES)), features(1), torch.tensor([[32.0, 0.0]])
    pasts = [memory(features(seed), None, torch.zeros(1, 2)) for seed in (2, 3)]
    first, second = (state_features(memory(now, past, motion))["p4"] for past in pasts)
    # 8 cells are new, and the last one is next to valid cells
    torch.testing.assert_close(first[..., :7], second[..., :7])
    assert (first[..., 8:] - second[..., 8:]).abs().max() > 0.01
