"""Corruptions: physical parameters, reproducibility, unchanged shapes and types."""

from __future__ import annotations

import numpy as np
import pytest

from detect.errors import DataError
from detect.report.robustness import corruption_sheet
from detect.synthetic.corruptions import CORRUPTIONS, SEVERITIES, checked_severities, corrupt
from labelled_data import pixels as make_pixels

GRAY = make_pixels(1, 96, 80)
RGB = np.stack([GRAY, 255 - GRAY, GRAY // 2], axis=2)
KINDS = {"gray": GRAY, "rgb": RGB, "gray16": GRAY.astype(np.uint16) * 16, "rgb16": RGB.astype(np.uint16) * 257}
PAIRS = [(name, kind) for name in CORRUPTIONS for kind in KINDS]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_shape_type_and_input_are_unchanged(name: str, kind: str) -> None:
    pixels = KINDS[kind].copy()
    for severity in range(1, SEVERITIES + 1):
        copy = corrupt(pixels, name, severity, seed=3, image=7)
        assert (copy.shape, copy.dtype) == (pixels.shape, pixels.dtype)
        assert not np.array_equal(copy, pixels)
        assert np.array_equal(copy, corrupt(pixels, name, severity, seed=3, image=7))
    assert np.array_equal(pixels, KINDS[kind])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_0_changes_nothing(name: str) -> None:
    copy = corrupt(GRAY, name, 0)
    assert np.array_equal(copy, GRAY)
    assert copy is not GRAY


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_change_grows_with_severity(name: str) -> None:
    changes = [abs(corrupt(GRAY, name, s).astype(float) - GRAY).mean() for s in range(SEVERITIES + 1)]
    assert changes == sorted(changes)
    assert len(set(changes)) == SEVERITIES + 1


@pytest.mark.parametrize("name", ["noise", "motion_blur", "illumination", "scale_pits"])
def test_random_values_depend_on_seed_and_image(name: str) -> None:
    first = corrupt(GRAY, name, 3, seed=0, image=0)
    assert not np.array_equal(first, corrupt(GRAY, name, 3, seed=1, image=0))
    assert not np.array_equal(first, corrupt(GRAY, name, 3, seed=0, image=1))


def test_noise_has_the_signal_to_noise_ratio_of_its_level() -> None:
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(32_000, 2_000, (200, 200)), 0, 65_535).astype(np.uint16)  # far from black and white
    for severity, snr_db in enumerate(CORRUPTIONS["noise"].levels, start=1):
        noise = corrupt(image, "noise", severity).astype(float) - image
        assert 10 * np.log10(image.var() / noise.var()) == pytest.approx(snr_db, abs=0.15)


def test_blur_of_a_point_has_the_sigma_of_its_level() -> None:
    point = np.zeros((61, 61), np.uint16)
    point[30, 30] = 60_000
    for severity, sigma_px in enumerate(CORRUPTIONS["blur"].levels, start=1):
        spread = corrupt(point, "blur", severity).astype(float)
        x = np.arange(61) - 30
        assert (spread.sum(axis=0) * x**2).sum() / spread.sum() == pytest.approx(sigma_px**2, rel=0.1, abs=0.06)


def test_motion_blur_of_a_point_has_the_length_of_its_level() -> None:
    point = np.zeros((61, 61), np.uint16)
    point[30, 30] = 60_000
    x = np.arange(61) - 30
    for severity, length_px in enumerate(CORRUPTIONS["motion_blur"].levels, start=1):
        line = corrupt(point, "motion_blur", severity, image=severity).astype(float)
        covariance = np.cov(np.tile(x, 61), np.repeat(x, 61), aweights=line.ravel(), ddof=0)
        min_variance, max_variance = np.linalg.eigvalsh(covariance)
        assert max_variance == pytest.approx(
            length_px**2 / 12, rel=0.1, abs=0.45
        )  # variance of a uniform distribution; the tolerance covers the pixel grid
        assert min_variance < 0.5


def test_light_changes_by_its_level() -> None:
    flat = np.full((101, 101), 20_000, np.uint16)  # white is 65,535
    for severity in range(1, SEVERITIES + 1):
        percent = CORRUPTIONS["illumination"].levels[severity - 1]
        lit = corrupt(flat, "illumination", severity).astype(float)
        assert lit.min() == pytest.approx(20_000 * (1 - percent / 100), rel=0.001)
        assert lit.max() == pytest.approx(20_000 * (1 + percent / 100), rel=0.001)
        assert lit[50, 50] == pytest.approx(20_000)
        stops = CORRUPTIONS["overexposure"].levels[severity - 1]
        assert corrupt(flat, "overexposure", severity)[0, 0] == pytest.approx(20_000 * 2**stops, abs=2)
        assert corrupt(flat, "underexposure", severity)[0, 0] < 20_000
    assert corrupt(np.full((4, 4), 200, np.uint8), "overexposure", 5).min() == 255


def test_contrast_keeps_the_mean_and_scales_the_deviation() -> None:
    for severity, percent in enumerate(CORRUPTIONS["contrast"].levels, start=1):
        copy = corrupt(GRAY, "contrast", severity).astype(float)
        assert copy.mean() == pytest.approx(GRAY.mean(), abs=0.5)
        assert copy.std() == pytest.approx(GRAY.std() * percent / 100, rel=0.03)


def test_pits_are_dark_and_small_and_increase_with_severity() -> None:
    flat = np.full((200, 300), 40_000, np.uint16)
    before = np.zeros(flat.shape, bool)
    for severity in range(1, SEVERITIES + 1):
        copy = corrupt(flat, "scale_pits", severity, image=4)
        dark = copy < 32_000
        assert copy.max() == 40_000
        assert copy.min() >= 40_000 * 0.2**3  # pits can overlap
        assert (dark | ~before).all()  # the pits of the previous severity remain
        before = dark
    assert 0.01 < before.mean() < 0.1


def test_jpeg_keeps_the_channel_order() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    copy = corrupt(red, "jpeg", 1)
    assert copy[..., 0].mean() > 180
    assert copy[..., 2].mean() < 20


def test_white_of_16_bit_images_follows_the_camera_bit_depth() -> None:
    twelve_bit = np.array([[100, 4_000]], np.uint16)
    assert corrupt(twelve_bit, "overexposure", 5).max() == 4_095
    sixteen_bit = np.array([[100, 40_000]], np.uint16)
    assert corrupt(sixteen_bit, "overexposure", 5).max() == 65_535


def test_noise_leaves_constant_images_unchanged() -> None:
    flat = np.full((8, 8), 90, np.uint8)
    assert np.array_equal(corrupt(flat, "noise", 5), flat)
    assert corrupt(np.zeros((1, 1), np.uint8), "scale_pits", 5).shape == (1, 1)


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(DataError, match="no corruption is called 'fog'; choose from noise, blur"):
        corrupt(GRAY, "fog", 1)
    with pytest.raises(DataError, match="there is no severity 6; give whole numbers from 0 to 5"):
        corrupt(GRAY, "noise", 6)
    with pytest.raises(DataError, match="no severity 0; give whole numbers from 1 to 5"):
        checked_severities([1, 0])
    with pytest.raises(DataError, match="is no image"):
        corrupt(GRAY.astype(float), "noise", 1)


def test_corruption_sheet_has_one_row_per_corruption_and_six_columns() -> None:
    sheet = corruption_sheet(GRAY[:40, :48], ["noise", "jpeg"])
    assert sheet.shape == (2 * (40 + 20 + 6) + 6, 6 * (48 + 6) + 6, 3)
