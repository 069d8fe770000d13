"""Images as they lie on disks: every depth and format, and files that are no image any more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from detect.errors import DataError
from detect.images import read_image, read_size, to_gray, to_rgb, write_image

HEIGHT, WIDTH = 37, 53
LOSSLESS = (".bmp", ".png", ".tif")


def noise(*, channels: int = 1, depth: int = 8, seed: int = 0) -> np.ndarray:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(seed).integers(0, 2**depth, shape).astype(np.uint8 if depth == 8 else np.uint16)


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 3])
def test_eight_bits_come_back_as_written(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = noise(channels=channels)
    write_image(tmp_path / f"a{suffix}", pixels)
    found = read_image(tmp_path / f"a{suffix}")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)
    assert read_size(tmp_path / f"a{suffix}") == (WIDTH, HEIGHT)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    pixels = noise(depth=16)
    write_image(tmp_path / f"a{suffix}", pixels)
    found = read_image(tmp_path / f"a{suffix}")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, pixels)


def test_big_endian_tiff(tmp_path: Path) -> None:
    pixels = noise(depth=16)
    Pillow.frombytes("I;16B", (WIDTH, HEIGHT), pixels.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    found = read_image(tmp_path / "a.tif")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, pixels)


def test_gray_jpeg_is_one_channel_and_close(tmp_path: Path) -> None:
    pixels = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.uint8)
    write_image(tmp_path / "a.jpg", pixels)
    found = read_image(tmp_path / "a.jpg")
    assert found.shape == pixels.shape
    assert np.abs(found.astype(int) - pixels).max() <= 8


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("1", (HEIGHT, WIDTH)), ("LA", (HEIGHT, WIDTH)), ("P", (HEIGHT, WIDTH, 3)), ("RGBA", (HEIGHT, WIDTH, 3))],
)
def test_odd_modes_become_gray_or_rgb(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    Pillow.fromarray(noise(channels=3)).convert(mode).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")
    assert found.shape == shape
    assert found.dtype == np.uint8


def test_values_that_sixteen_bits_cannot_hold_are_refused(tmp_path: Path) -> None:
    Pillow.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "deep.tif")
    Pillow.fromarray(np.full((4, 4), 0.25, np.float32)).save(tmp_path / "fraction.tif")
    for name in ("deep.tif", "fraction.tif"):
        with pytest.raises(DataError, match=f"{name}: .*save it as 8- or 16-bit gray"):
            read_image(tmp_path / name)


def test_three_equal_channels_give_that_channel_exactly() -> None:
    for depth in (8, 16):
        channel = noise(depth=depth)
        gray = to_gray(np.repeat(channel[..., None], 3, axis=2))
        assert gray.dtype == channel.dtype
        np.testing.assert_array_equal(gray, channel)


def test_gray_of_colour_is_its_brightness() -> None:
    pixels = np.zeros((1, 4, 3), np.uint8)
    pixels[0, 0], pixels[0, 1], pixels[0, 2], pixels[0, 3] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 254)
    assert to_gray(pixels).tolist() == [[76, 150, 29, 255]]


def test_to_gray_and_to_rgb_are_there_and_back() -> None:
    pixels = noise(depth=16)
    assert to_rgb(pixels).shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(to_gray(to_rgb(pixels)), pixels)
    colour = noise(channels=3)
    assert to_rgb(colour) is colour


def test_names_in_any_script(tmp_path: Path) -> None:
    path = tmp_path / "bände 表面 é" / "Kratzer_ü #1%.png"
    path.parent.mkdir()
    write_image(path, noise())
    np.testing.assert_array_equal(read_image(path), noise())


@pytest.mark.parametrize("suffix", [".jpg", *LOSSLESS])
def test_a_file_cut_short_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    write_image(path, noise(channels=3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=f"cut{suffix}: the image"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"<xml/>", b"BM", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.bmp"
    path.write_bytes(content)
    for read in (read_size, read_image):
        with pytest.raises(DataError, match=r"no\.bmp: the image can't be read"):
            read(path)


@pytest.mark.parametrize("suffix", [".jpg", *LOSSLESS])
def test_damage_anywhere_is_an_error_in_words_or_harmless(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(5)
    path = tmp_path / f"damaged{suffix}"
    write_image(path, noise())
    whole = path.read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 300), 4):  # headers break in more ways than pixels do
            content[at] = rng.integers(256)
        path.write_bytes(content)
        try:
            found = read_image(path)
        except DataError as error:
            assert error.where == path  # noqa: PT017
        else:
            assert found.dtype in (np.uint8, np.uint16)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.bmp: no such image; check the path"):
        read_image(tmp_path / "nowhere.bmp")
    with pytest.raises(DataError, match=r"can't be read \(Is a directory\)|can't be read \(Permission denied\)"):
        read_image(tmp_path)
