"""Synthetic strips: exact boxes per frame, recorded motion and conditions, reproducible bytes per seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.datasets import coco
from detect.errors import DataError
from detect.images import read_image
from detect.structures import Box, Dataset, Image, recognisable
from detect.synthetic.defects import PlacedDefect
from detect.synthetic.scenes import CATEGORIES
from detect.synthetic.strips import (
    SHARES,
    Camera,
    Shot,
    Strip,
    boxes_of,
    degrade,
    draw_condition,
    expose,
    film,
    motion_blur,
    motions,
    smear_px,
    travel,
    write_strips,
)

FRAMES = 10


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_strips(tmp_path_factory.mktemp("strips"), frames=FRAMES, strips=6, seed=1, degraded=0.5)


def strip_and_number(image: Image) -> tuple[str, int]:
    assert image.frame
    return image.frame.strip, image.frame.number


def test_every_frame_of_every_strip_is_written(sample: Dataset) -> None:
    assert [strip_and_number(image) for image in sample.images] == [
        (f"{c}_1", k) for c in CATEGORIES for k in range(FRAMES)
    ]
    assert sample.categories == CATEGORIES
    for image in sample.images:
        pixels = read_image(image.path)
        assert pixels.shape == (200, 200) == (image.height, image.width)
        assert pixels.dtype == np.uint8
        for box in image.boxes:
            x1, y1, x2, y2 = box.xyxy
            assert 0 <= x1 < x2 <= 200
            assert 0 <= y1 < y2 <= 200
    for category in CATEGORIES:
        assert any(
            b.label == category for i in sample.images if strip_and_number(i)[0] == f"{category}_1" for b in i.boxes
        )


def test_same_seed_gives_the_same_bytes_for_any_number_of_strips(sample: Dataset, tmp_path: Path) -> None:
    again = write_strips(tmp_path / "again", frames=FRAMES, strips=2, seed=1, degraded=0.5)
    first = [image for image in sample.images if strip_and_number(image)[0] in ("crazing_1", "inclusion_1")]
    for one, other in zip(first, again.images, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert (one.boxes, one.frame) == (other.boxes, other.frame)
    other_seed = write_strips(tmp_path / "other", frames=FRAMES, strips=1, seed=2)
    assert other_seed.images[0].path.read_bytes() != first[0].path.read_bytes()


def test_bytes_are_the_same_on_every_machine() -> None:
    content = hashlib.sha256()
    for category in CATEGORIES:
        for pixels, boxes, frame in film(category, 1, frames=4, seed=0):
            content.update(pixels.tobytes() + repr([(b.label, b.xyxy) for b in boxes] + [frame]).encode())
    assert content.hexdigest()[:16] == "bcb868bc265bae60"


def test_larger_frames_contain_more_defects_of_the_same_size(tmp_path: Path) -> None:
    large = write_strips(tmp_path / "large", frames=3, strips=6, seed=0, degraded=0, side_px=600)
    small = write_strips(tmp_path / "small", frames=3, strips=6, seed=0, degraded=0)
    assert {read_image(image.path).shape for image in large.images} == {(600, 600)}
    assert {(image.width, image.height) for image in large.images} == {(600, 600)}
    assert len(boxes_in(large)) > 4 * len(boxes_in(small))  # nine times the area
    medians = [np.median([box.xyxy[3] - box.xyxy[1] for box in boxes_in(each)]) for each in (large, small)]
    assert 0.7 < medians[0] / medians[1] < 1.6


def boxes_in(dataset: Dataset) -> list[Box]:
    return [box for image in dataset.images for box in image.boxes]


@pytest.mark.parametrize(("side_px", "frames"), [(99, 1), (2001, 1), (800, 63), (400, 251)])
def test_frame_sizes_and_counts_out_of_range_are_errors(tmp_path: Path, side_px: int, frames: int) -> None:
    with pytest.raises(
        DataError, match=r"pixels is out of range; give 100 to 2000|are out of range; give 1 to (62|250) frames"
    ):
        write_strips(tmp_path, frames=frames, strips=1, seed=0, side_px=side_px)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("numbers", [{"frames": 0}, {"frames": 1001}, {"strips": 0}, {"seed": -1}, {"degraded": 1.5}])
def test_numbers_out_of_range_are_errors(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(DataError, match="are out of range"):
        write_strips(tmp_path, **({"frames": 2, "strips": 1, "seed": 0} | numbers))
    assert not list(tmp_path.iterdir())


def test_other_files_in_the_folder_are_an_error(tmp_path: Path) -> None:
    write_strips(tmp_path, frames=2, strips=1, seed=0)
    with pytest.raises(DataError, match=r"1 other files, crazing_1_0001\.bmp among them"):
        write_strips(tmp_path, frames=1, strips=1, seed=0)


def test_convert_splits_the_written_strips(detect: Callable[..., Any], tmp_path: Path) -> None:
    outcome = detect("sample", "--out", tmp_path / "steel", "--frames", 3, "--strips", 6, "--seed", 1)
    assert outcome.code == 0
    assert "6 strips of 3 frames" in outcome.out
    written = coco.read(tmp_path / "steel" / "strips.json")
    assert written.images == write_strips(tmp_path / "steel", frames=3, strips=6, seed=1).images
    assert detect("convert", tmp_path / "steel", "--out", tmp_path / "out", "--split", "train=0.5,val=0.5").code == 0
    parts = [coco.read(tmp_path / "out" / f"{part}.json") for part in ("train", "val")]
    strips = [{strip_and_number(image)[0] for image in part.images} for part in parts]
    assert len(strips[0] | strips[1]) == 6
    assert not strips[0] & strips[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--strips", 3], "--strips needs --frames; add --frames"),
        (["--frames", 3, "--images", 3], "--images and --frames exclude each other; give --images"),
        (["--frames", 0], "--frames is 0; give at least 1"),
        (["--size", 400], "--size needs --frames; still images are 200 x 200 pixels; add --frames"),
        (["--frames", 3, "--size", 50], "the frame side of 50 pixels is out of range; give 100 to 2000"),
        (["--frames", 1001], "frames=1001, strips=30, seed=0"),
    ],
)
def test_wrong_options_are_errors(
    detect: Callable[..., Any], tmp_path: Path, arguments: list[object], sentence: str
) -> None:
    outcome = detect("sample", "--out", tmp_path / "x", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert sentence in outcome.err
    assert not (tmp_path / "x").exists()


class TestBoxes:
    @pytest.fixture
    def bright(self) -> tuple[Strip, Camera]:
        """A dark strip with a bright rectangle and a bright slanted bar, under uniform light."""
        steel = np.full((700, 212), 0.2)
        rectangle, bar = np.ones((90, 40), bool), np.zeros((120, 120), bool)
        for row in range(120):
            bar[row, row : row + 8] = True
        marks = (PlacedDefect("patches", 260, 20, rectangle), PlacedDefect("scratches", 250, 80, bar))
        for mark in marks:
            height, width = mark.mask.shape
            steel[mark.top : mark.top + height, mark.left : mark.left + width][mark.mask] = 0.9
        return Strip(steel, marks), Camera(np.full((200, 200), 255.0), 0.0)

    @pytest.mark.parametrize("motion_px", [-20.0, -60.0])
    def test_boxes_are_the_extents_of_the_visible_pixels(self, bright: tuple[Strip, Camera], motion_px: float) -> None:
        strip, camera = bright
        counts = Counter()
        for top in range(0, 460, 7):
            shot = Shot(top % 12, top, motion_px)
            pixels = expose(strip, camera, shot, np.random.default_rng(0)) > 140
            boxes = boxes_of(strip, shot, (200, 200))
            # the rectangle is left of column 70 of the strip, the bar is right of it
            parts = {"patches": pixels[:, : 70 - shot.left], "scratches": pixels[:, 70 - shot.left :]}
            counts[len(boxes)] += 1
            for box in boxes:
                rows, columns = (np.flatnonzero(parts[box.label].any(axis=axis)) for axis in (1, 0))
                offset = 0 if box.label == "patches" else 70 - shot.left
                extents = (columns[0] + offset, rows[0], columns[-1] + 1 + offset, rows[-1] + 1)
                assert box.xyxy == extents, "the box of the visible part, also for a cut slanted bar"
        assert set(counts) == {0, 1, 2}

    def test_unrecognisable_parts_have_no_box(self, bright: tuple[Strip, Camera]) -> None:
        strip, _ = bright

        def labels(top: int) -> list[str]:
            return [box.label for box in boxes_of(strip, Shot(0, top, -40.0), (200, 200))]

        assert labels(260 + 16 - 200) == ["patches", "scratches"]
        assert labels(260 + 15 - 200) == ["scratches"]
        assert labels(260 + 90 - 16) == ["patches", "scratches"]
        assert labels(260 + 90 - 15) == ["scratches"]

    def test_boxes_of_a_blurred_frame_are_at_the_middle_of_its_exposure(self, bright: tuple[Strip, Camera]) -> None:
        strip, camera = bright
        shot = Shot(0, 200, -40.0, condition="blurred", severity=1.0)
        pixels = expose(strip, camera, shot, np.random.default_rng(0)).astype(float)
        (x1, y1, x2, y2), *_ = (box.xyxy for box in boxes_of(strip, shot, (200, 200)))
        profile = pixels[:, int(x1) : int(x2)].mean(axis=1)
        half = (profile.max() + profile.min()) / 2
        rows = np.flatnonzero(profile > half)
        assert abs(rows[0] - y1) <= 1
        assert abs(rows[-1] + 1 - y2) <= 1
        soft = np.flatnonzero((profile > profile.min() + 2) & (profile < profile.max() - 2))
        assert abs(len(soft) - 2 * smear_px(1.0, 40)) <= 4

    def test_recognisable_depends_on_the_sides_of_the_visible_part(self) -> None:
        whole = np.array([[0, 0, 200, 10], [0, 0, 200, 10], [0, 0, 200, 10], [0, 0, 20, 300], [0, 0, 8, 8]], float)
        cut = np.array([[0, 0, 16, 10], [0, 0, 15, 10], [0, 0, 16, 4], [0, 0, 20, 20], [0, 0, 0, 8]], float)
        assert recognisable(cut, whole).tolist() == [True, False, False, True, False]
        assert recognisable(whole, whole).all()
        assert recognisable(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)


class TestMotion:
    def test_recorded_motion_equals_the_motion_of_the_pixels(self) -> None:
        compared = 0
        for category in ("crazing", "patches", "rolled-in_scale"):
            shots = list(film(category, 2, frames=8, seed=0, degraded=0))
            # the lighting doesn't move with the steel and would be measured as a resting strip
            light = np.mean([pixels for pixels, _, _ in shots], axis=0)
            for (before, _, earlier), (after, _, frame) in pairwise(shots):
                assert measured(before / light, after / light) == frame.motion_since(earlier)
                compared += 1
        assert compared == 21

    def test_boxes_move_with_the_steel(self) -> None:
        followed = 0
        for category in ("patches", "scratches"):  # connected defects, so that all pixels are visible in a frame
            shots = list(film(category, 1, frames=40, seed=4))
            for (_, before, earlier), (_, after, frame) in pairwise(shots):
                moved = frame.motion_since(earlier)
                assert moved
                for box in before:
                    x1, y1, x2, y2 = (value + step for value, step in zip(box.xyxy, moved * 2))
                    margin = min(x1, y1, 200 - x2, 200 - y2, *box.xyxy[:2], *(200 - v for v in box.xyxy[2:]))
                    if margin > 0:  # completely visible in both frames
                        assert (x1, y1, x2, y2) in [other.xyxy for other in after]
                        followed += 1
        assert followed > 20

    def test_frames_overlap_and_sideways_shift_is_small(self) -> None:
        steady = 0
        for seed in range(60):
            origins = travel(np.random.default_rng(seed), 30, 200)
            steps = np.diff(origins[:, 1])
            assert steps.min() >= 19
            assert steps.max() <= 61
            assert np.abs(origins[:, 0]).max() <= 6
            assert origins[0, 1] == 0
            steady += int(steps.max() - steps.min() <= 1)
            assert (motions(origins)[1:] == -np.diff(origins, axis=0)).all()
        assert 15 < steady < 45
        assert motions(travel(np.random.default_rng(0), 1, 200)).tolist() == [[0, 0]]


class TestConditions:
    def test_conditions_have_the_given_frequencies(self) -> None:
        rng = np.random.default_rng(0)
        drawn = Counter(draw_condition(rng, 0.25)[0] for _ in range(20000))
        assert sum(SHARES.values()) == pytest.approx(1)
        assert drawn["clean"] / 20000 == pytest.approx(0.75, abs=0.01)
        for condition, share in SHARES.items():
            assert drawn[condition] / 20000 == pytest.approx(0.25 * share, abs=0.01)
        assert {draw_condition(rng, 0)[0] for _ in range(100)} == {"clean"}
        assert "clean" not in {draw_condition(rng, 1)[0] for _ in range(100)}

    def test_pixels_match_the_recorded_condition(self, sample: Dataset) -> None:
        conditions = set()
        sharpness: dict[tuple[str, str], list[float]] = {}
        for image in sample.images:
            assert image.frame
            strip, condition = image.frame.strip, image.frame.condition
            pixels = read_image(image.path).astype(float)
            down, across = (np.abs(np.diff(pixels, axis=axis)).mean() for axis in (0, 1))
            conditions.add(condition)
            if condition == "dropped":
                assert not pixels.any()
                continue
            assert ((pixels == 255).mean() >= 0.48) == (condition == "overexposed")
            assert down > 15 or condition != "noisy"
            sharpness.setdefault((strip, condition), []).append(down / across)
        assert conditions == {"clean", *SHARES}
        grained = (
            "crazing_1",
            "patches_1",
            "rolled-in_scale_1",
        )  # the other classes have little texture besides the sensor noise
        smeared = [strip for strip, condition in sharpness if condition == "blurred" and strip in grained]
        assert smeared
        for strip in smeared:
            assert max(sharpness[strip, "blurred"]) < 0.95 * min(sharpness[strip, "clean"])

    def test_change_grows_with_severity(self) -> None:
        rng = np.random.default_rng(0)
        pixels = np.clip(rng.normal(0.4, 0.1, (60, 50)), 0, 1)

        def error(condition: str, severity: float) -> float:
            degraded = degrade(pixels, condition, severity, (0, -40), np.random.default_rng(1))
            assert degraded.min() >= 0
            assert degraded.max() <= 1
            return float(np.abs(degraded - pixels).mean())

        for condition in ("blurred", "overexposed", "noisy"):
            assert 0 < error(condition, 0) < error(condition, 1)
        assert degrade(pixels, "clean", 1, (0, -40), rng) is pixels
        assert not degrade(pixels, "dropped", 0, (0, -40), rng).any()

    @pytest.mark.parametrize("channels", [(), (3,)])
    def test_types_and_shapes_are_unchanged(self, channels: tuple[int, ...]) -> None:
        pixels = np.random.default_rng(0).random((20, 30, *channels)).astype(np.float32)
        original = pixels.copy()
        for condition in SHARES:
            degraded = degrade(pixels, condition, 0.5, (3, -10), np.random.default_rng(0))
            assert (degraded.dtype, degraded.shape) == (np.float32, pixels.shape)
        np.testing.assert_array_equal(pixels, original)

    @pytest.mark.parametrize(
        ("length_px", "taps"),
        [(1.0, [1.0]), (2.0, [0.25, 0.5, 0.25]), (3.0, [1 / 3] * 3), (3.5, [1 / 14, *[2 / 7] * 3, 1 / 14])],
    )
    def test_motion_blur_is_the_mean_over_the_path(self, length_px: float, taps: list[float]) -> None:
        point = np.zeros((11, 11))
        point[5, 5] = 1
        for axis in (0, 1):
            blurred = motion_blur(point, length_px, axis)
            line = blurred[:, 5] if axis == 0 else blurred[5]
            np.testing.assert_allclose(line[line > 0], taps)
            assert blurred.sum() == pytest.approx(1)
        np.testing.assert_allclose(motion_blur(np.full((9, 9), 0.3), 7.3, 0), 0.3)

    def test_motion_blur_follows_the_motion(self) -> None:
        stripes = np.tile(np.array([0.0, 1.0]), (20, 10))  # constant down
        rng = np.random.default_rng(0)
        np.testing.assert_allclose(degrade(stripes, "blurred", 1, (2, -40), rng), stripes, atol=1e-12)
        assert np.ptp(degrade(stripes, "blurred", 1, (40, -2), rng)[:, 8:12]) < 0.2


def measured(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Shift of the content by phase correlation, (right, down) in pixels."""
    window = np.outer(np.hanning(200), np.hanning(200))
    one, two = (np.fft.fft2(window * (pixels - pixels.mean())) for pixels in (before, after))
    product = two * one.conj()
    peak = np.fft.ifft2(product / np.maximum(np.abs(product), 1e-9)).real
    down, across = np.unravel_index(peak.argmax(), peak.shape)
    return float((across + 100) % 200 - 100), float((down + 100) % 200 - 100)
