"""Memory of a moving strip: it starts as the still detector, travels with the surface, and forgets at a new strip."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detect.models.recurrent import ConvGruCell, Memory, shift_features, state_features

NAMES, STRIDES = ["p4", "p8"], [4, 8]


def features(seed: int, batch: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"p{s}": torch.randn(batch, 6, 64 // s, 64 // s, generator=generator) for s in STRIDES}


def awake(memory: Memory) -> Memory:
    """A memory whose weights are no longer those of the start."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return memory


@pytest.mark.parametrize("motion", [(3.0, 0.0), (0.0, -2.0), (-4.0, 5.0)])
def test_moving_by_whole_cells_shifts_the_map_and_brings_in_zeros(motion: tuple[float, float]) -> None:
    level = torch.rand(2, 3, 12, 10) + 1
    x, y = int(motion[0]), int(motion[1])
    wanted = torch.zeros_like(level)
    for row in range(12):
        for column in range(10):
            if 0 <= row - y < 12 and 0 <= column - x < 10:
                wanted[:, :, row, column] = level[:, :, row - y, column - x]
    torch.testing.assert_close(shift_features(level, torch.tensor([motion, motion])), wanted, rtol=0, atol=1e-5)


def test_moving_by_half_a_cell_averages_neighbours() -> None:
    level = torch.arange(8.0).reshape(1, 1, 1, 8)
    half = shift_features(level, torch.tensor([[0.5, 0.0]]))
    torch.testing.assert_close(half[0, 0, 0, 1:], torch.arange(7.0) + 0.5)


def test_each_image_of_a_batch_moves_by_its_own() -> None:
    level = torch.rand(2, 1, 6, 6)
    both = shift_features(level, torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    torch.testing.assert_close(both[0], level[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1, :, :, 2:], level[1, :, :, :-2], rtol=0, atol=1e-5)


def test_an_untrained_memory_leaves_a_first_frame_as_it_is() -> None:
    memory, seen = Memory(6, STRIDES, NAMES), features(0)
    after = state_features(memory(seen, None, torch.zeros(1, 2)))
    for name in NAMES:
        torch.testing.assert_close(after[name], seen[name])


def test_a_step_is_the_gru_of_its_formula() -> None:
    cell = ConvGruCell(4)
    awake(cell)  # type: ignore[arg-type]
    seen, remembered, known = torch.rand(1, 4, 5, 5), torch.rand(1, 4, 5, 5), torch.ones(1, 1, 5, 5)
    update, reset = torch.sigmoid(cell.gates(torch.cat([seen, remembered, known], 1))).split(4, dim=1)
    candidate = seen + cell.correction(torch.cat([seen, reset * remembered], 1))
    torch.testing.assert_close(cell(seen, remembered, known), remembered + update * (candidate - remembered))


def test_what_was_seen_is_remembered_where_the_surface_has_gone() -> None:
    memory, motion = awake(Memory(6, STRIDES, NAMES)), torch.tensor([[16.0, 0.0]])
    blind = {name: torch.zeros_like(level) for name, level in features(0).items()}
    changed = {name: level.clone() for name, level in blind.items()}
    changed["p4"][..., 5, 3] = 5.0  # one cell seen in the first frame, blind afterwards
    after = [
        state_features(memory(blind, memory(first, None, torch.zeros(1, 2)), motion))["p4"]
        for first in (blind, changed)
    ]
    difference = (after[1] - after[0]).abs().sum(dim=1)[0]
    assert difference[5, 3 + 4] > 0.01  # 16 pixels are 4 cells
    far = difference.clone()
    far[2:9, 4:11] = 0  # its own frame spreads it by one cell, the next by two
    assert far.max() == 0


def test_the_control_has_the_parameters_and_no_past() -> None:
    memory, control = awake(Memory(6, STRIDES, NAMES)), Memory(6, STRIDES, NAMES, stateful=False)
    control.load_state_dict(memory.state_dict())
    motion, now = torch.zeros(1, 2), features(1)
    pasts = [control(features(seed), None, motion) for seed in (2, 3)]
    first, second = (state_features(control(now, past, motion)) for past in pasts)
    assert all(torch.equal(first[name], second[name]) for name in NAMES)
    first, second = (state_features(memory(now, past, motion)) for past in pasts)
    assert not torch.equal(first["p4"], second["p4"])


def test_surface_that_just_came_into_view_has_no_memory() -> None:
    memory, now, motion = awake(Memory(6, STRIDES, NAMES)), features(1), torch.tensor([[32.0, 0.0]])
    pasts = [memory(features(seed), None, torch.zeros(1, 2)) for seed in (2, 3)]
    first, second = (state_features(memory(now, past, motion))["p4"] for past in pasts)
    torch.testing.assert_close(first[..., :7], second[..., :7])  # 8 cells came in, the last one touches the known
    assert (first[..., 8:] - second[..., 8:]).abs().max() > 0.01
