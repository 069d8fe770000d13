"""Drawn boxes land on the right pixels, labels stay inside and apart, and classes keep their colours."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.errors import DataError
from detect.structures import Box, Detection, Detections
from detect.visualize import (
    StyledBox,
    _fit,
    _place,
    class_colours,
    contact_sheet,
    default_scale,
    draw_boxes,
    draw_detections,
    draw_styled_boxes,
    to_uint8,
)

GRAY = np.full((200, 200), 128, np.uint8)
RED = (255, 0, 0)
STEEL = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.any(before != after, axis=-1)


def test_an_outline_frames_its_box_and_leaves_the_inside_alone() -> None:
    picture = draw_styled_boxes(GRAY, [StyledBox((50, 60, 90, 120), "", RED)], scale=4)
    assert picture.shape == (800, 800, 3)
    red = picture[..., 0].astype(int) - picture[..., 1] > 100
    ys, xs = np.nonzero(red)
    assert abs(xs.min() - 200) <= 4
    assert abs(xs.max() + 1 - 360) <= 4
    assert abs(ys.min() - 240) <= 4
    assert abs(ys.max() + 1 - 480) <= 4
    assert (picture[250:470, 210:350] == 128).all()


def test_a_fractional_corner_gives_a_softer_edge_than_a_whole_one() -> None:
    column = {
        x: draw_styled_boxes(GRAY, [StyledBox((x, 60, 150, 120), "", RED)], scale=1)[90, 40:60, 0] for x in (50.0, 50.5)
    }
    assert set(column[50.0]) < set(column[50.5]) or len(set(column[50.5])) > len(set(column[50.0]))


def test_the_input_is_left_as_it_was() -> None:
    rgb = np.full((200, 200, 3), 90, np.uint8)
    draw_detections(rgb, [Detection("patches", 0.5, (10, 10, 50, 50))], scale=1)
    assert (rgb == 90).all()


def test_nothing_found_gives_the_plain_enlarged_image() -> None:
    picture = draw_detections(GRAY, [])
    assert picture.shape == (800, 800, 3)
    assert (picture == 128).all()


def test_records_of_both_kinds_draw_the_same() -> None:
    arrays = Detections(
        np.array([[20, 30, 60, 80], [100, 100, 160, 190]], np.float32),
        np.array([0.9, 0.25], np.float32),
        np.array([6, 3]),
        STEEL,
    )
    assert np.array_equal(draw_detections(GRAY, arrays), draw_detections(GRAY, list(arrays), categories=STEEL))


def test_score_and_class_are_written() -> None:
    one, other = (draw_detections(GRAY, [Detection("patches", s, (50, 50, 90, 90))]) for s in (0.51, 0.88))
    assert changed(one, other).any()
    assert changed(one, draw_boxes(GRAY, [Box("patches", (50, 50, 90, 90))])).any()


def test_ignored_boxes_are_dashed() -> None:
    solid, dashed = (draw_boxes(GRAY, [Box("patches", (50, 50, 150, 150), crowd=c)], scale=1) for c in (False, True))
    edge = np.s_[60:140, 46:50]
    assert 0 < (changed(solid, dashed)[edge]).mean() < 0.5


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-300, 600, allow_nan=False)] * 4),
    st.sampled_from([(200, 200), (16, 16), (30, 400), (400, 12), (1, 1)]),
)
def test_any_box_can_be_drawn_on_any_picture(corners: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    pixels = np.full(size, 128, np.uint8)
    plain = draw_styled_boxes(pixels, [], scale=1)
    for text in ("", "rolled-in_scale 0.87"):
        picture = draw_styled_boxes(pixels, [StyledBox(corners, text, RED)], scale=1)
        assert picture.shape == (*size, 3)
        assert changed(plain, picture).any()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(0, 700)] * 4), min_size=1, max_size=6),
    st.tuples(st.integers(5, 720), st.integers(5, 720)),
)
def test_labels_stay_inside_the_picture(boxes: list[tuple[float, float, float, float]], size: tuple[int, int]) -> None:
    shown, font, px = _fit("rolled-in_scale 0.93", 16, *size)
    assert shown.endswith("0.93")
    assert px >= 9
    wh = (min(round(font.getlength(shown)) + 6, size[0]), min(20, size[1]))
    for box in boxes:
        x, y = _place(box, wh, size, [], boxes)
        assert 0 <= x <= size[0] - wh[0]
        assert 0 <= y <= size[1] - wh[1]


def test_labels_of_neighbours_keep_apart() -> None:
    box = (300.0, 300.0, 420.0, 420.0)
    taken: list[tuple[float, float, float, float]] = []
    for _ in range(8):
        x, y = _place(box, (110, 20), (800, 800), taken, [box])
        assert all(x + 110 <= t[0] or t[2] <= x or y + 20 <= t[1] or t[3] <= y for t in taken)
        taken.append((x, y, x + 110, y + 20))


@pytest.mark.parametrize("corner", [(0, 0), (170, 0), (0, 170), (170, 170)])
def test_the_label_can_be_read_in_every_corner(corner: tuple[int, int]) -> None:
    x, y = corner
    picture = draw_detections(GRAY, [Detection("scratches", 0.87, (x, y, x + 30, y + 30))])
    colour = np.array(class_colours(["scratches"])["scratches"])
    label = (picture == colour).all(axis=-1)
    rows = np.flatnonzero(label.sum(axis=1) > 60)
    assert len(rows) >= 8, "no filled label to be seen"


def test_small_images_are_enlarged_and_large_ones_are_not() -> None:
    assert [default_scale(size) for size in ((200, 200), (16, 16), (300, 2000), (720, 10))] == [4, 45, 1, 1]
    assert draw_boxes(GRAY, [], scale=3).shape == (600, 600, 3)


def test_sixteen_bits_are_stretched() -> None:
    ramp = np.linspace(3000, 5000, 200 * 200).reshape(200, 200).astype(np.uint16)
    shown = to_uint8(ramp)
    assert shown.dtype == np.uint8
    assert shown.min() == 0
    assert shown.max() == 255
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()
    assert (to_uint8(np.full((4, 4), 700, np.uint16)) == 0).all()
    assert draw_boxes(ramp, [Box("patches", (10, 10, 40, 40))]).dtype == np.uint8


def test_colours_are_fixed_by_name_and_distinct_for_twenty() -> None:
    alone = {name: class_colours([name])[name] for name in STEEL}
    assert class_colours(STEEL) == {name: alone[name] for name in sorted(STEEL)}
    names = [f"class {i}" for i in range(14)] + list(STEEL)
    assert len(set(class_colours(names).values())) == 20
    assert class_colours(names) == class_colours(reversed(names))
    assert len(class_colours([f"class {i}" for i in range(45)])) == 45


@pytest.mark.parametrize(
    "sight",
    [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ],
    ids=["normal", "protan", "deutan"],
)
def test_the_six_steel_colours_differ_for_every_eye(sight: np.ndarray) -> None:
    colours = np.array(list(class_colours(STEEL).values())) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.asarray(sight).T, 0, 1)
    xyz = seen @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    f = np.cbrt(xyz / np.array([0.9505, 1, 1.089]))
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2)) > 25


def test_a_contact_sheet_keeps_every_picture() -> None:
    pictures = [np.full((20 + i, 30, 3), 10 * i, np.uint8) for i in range(5)] + [np.full((9, 9), 200, np.uint8)]
    sheet = contact_sheet(pictures, 4, gap_px=2)
    assert sheet.shape == (2 * (24 + 2) + 2, 4 * 32 + 2, 3)
    assert (sheet[2:22, 2:32] == 0).all()
    assert (sheet[28:37, 34:43] == 200).all()
    assert (sheet[:2] == 255).all()
    assert contact_sheet(pictures[:1], 6).shape[1] == 30 + 12


def test_mistakes_are_told_in_words() -> None:
    with pytest.raises(DataError, match="corners"):
        draw_boxes(GRAY, [Box("patches", (0, 0, float("nan"), 5.0))])
    with pytest.raises(DataError, match="float64"):
        draw_boxes(GRAY.astype(float), [])
    with pytest.raises(DataError, match="scale 0"):
        draw_boxes(GRAY, [], scale=0)
    with pytest.raises(DataError, match="0 pictures"):
        contact_sheet([], 3)
