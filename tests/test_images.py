"""Images as they lie on disks: every depth and format, and files that are no image any more."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from detect.errors import DataError
from detect.images import read_image, read_orientation, read_size, to_gray, to_rgb, write_image

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


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: np.rot90(np.fliplr(stored)),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(np.flipud(stored)),
    8: np.rot90,
}
ORIENTATIONS = tuple(UPRIGHT)


def exif_of(orientation: int) -> bytes:
    exif = Pillow.Exif()
    exif[274] = orientation
    return exif.tobytes()


def tiff(
    *pages: np.ndarray,
    tags: dict[int, int] | list[dict[int, int]] | None = None,
    order: str = "<",
    deflate: bool = False,
) -> bytes:
    """A TIFF file of gray or RGB pages; ``tags`` are further ones or others, of all pages or of each."""
    file, link = bytearray(b"II*\0" if order == "<" else b"MM\0*") + b"\0" * 4, 4
    for i, page in enumerate(pages):
        data = page.astype(page.dtype.newbyteorder(order)).tobytes()
        data = zlib.compress(data) if deflate else data
        channels, bits = 1 if page.ndim == 2 else page.shape[2], page.dtype.itemsize * 8
        values = {256: page.shape[1], 257: page.shape[0], 258: bits, 259: 8 if deflate else 1}
        values |= {262: 1 if channels == 1 else 2, 273: len(file), 277: channels, 278: page.shape[0], 279: len(data)}
        values |= (tags[i] if isinstance(tags, list) else tags) or {}
        file += data + b"\0" * (len(data) % 2)
        bits_place = len(file)
        file += struct.pack(f"{order}3H", bits, bits, bits)
        struct.pack_into(f"{order}I", file, link, len(file))
        file += struct.pack(f"{order}H", len(values))
        for tag, value in sorted(values.items()):
            if tag == 258 and channels == 3:
                file += struct.pack(f"{order}HHII", tag, 3, 3, bits_place)
            elif tag in (273, 279):
                file += struct.pack(f"{order}HHII", tag, 4, 1, value)
            else:
                file += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        link = len(file)
        file += b"\0" * 4
    return bytes(file)


def deep_png(path: Path, rgb: np.ndarray, orientation: int) -> None:
    """16-bit colour, which Pillow can't write."""
    exif = exif_of(orientation).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif
    content = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    path.write_bytes(content[:33] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + content[33:])


class TestOrientation:
    """Where 1 pixel isn't square with another, a wrong turn can't look right: 37 x 53, all different."""

    @staticmethod
    def check(path: Path, stored: np.ndarray, orientation: int) -> None:
        upright = UPRIGHT[orientation](stored)
        found = read_image(path)
        assert found.dtype == stored.dtype
        np.testing.assert_array_equal(found, upright)
        assert found.flags.c_contiguous
        assert read_size(path) == upright.shape[1::-1]
        assert read_orientation(path) == orientation

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("depth", [8, 16])
    def test_tiff(self, tmp_path: Path, depth: int, channels: int, orientation: int) -> None:
        stored, path = noise(channels=channels, depth=depth), tmp_path / "a.tif"
        for order in "<>":
            for deflate in (False, True):
                path.write_bytes(tiff(stored, tags={274: orientation}, order=order, deflate=deflate))
                self.check(path, stored, orientation)

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG", "MPO"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_exif(self, tmp_path: Path, channels: int, form: str, orientation: int) -> None:
        path = tmp_path / "a"
        plain = noise(channels=channels if form != "WEBP" else 3)
        Pillow.fromarray(plain).save(
            path, form, exif=exif_of(orientation), **({"lossless": True} if form == "WEBP" else {})
        )
        with Pillow.open(path) as image:
            stored = np.asarray(image)
        self.check(path, stored, orientation)

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_png_of_sixteen_bits(self, tmp_path: Path, orientation: int) -> None:
        gray, colour = noise(depth=16), noise(channels=3, depth=16)
        Pillow.fromarray(gray).save(tmp_path / "gray.png", exif=exif_of(orientation))
        self.check(tmp_path / "gray.png", gray, orientation)
        deep_png(tmp_path / "colour.png", colour, orientation)
        self.check(tmp_path / "colour.png", colour, orientation)

    @pytest.mark.parametrize("value", [0, 9, 65535])
    def test_other_values_mean_nothing(self, tmp_path: Path, value: int) -> None:
        stored = noise()
        (tmp_path / "a.tif").write_bytes(tiff(stored, tags={274: value}))
        Pillow.fromarray(stored).save(tmp_path / "a.png", exif=exif_of(value))
        for name in ("a.tif", "a.png"):
            self.check(tmp_path / name, stored, 1)

    def test_damaged_metadata_is_no_damaged_image(self, tmp_path: Path) -> None:
        for exif in (b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\xff", b"Exif\0\0" + b"\xff" * 40):
            Pillow.fromarray(noise()).save(tmp_path / "a.png", exif=exif)
            self.check(tmp_path / "a.png", noise(), 1)

    def test_xmp_alone_turns_nothing(self, tmp_path: Path) -> None:
        xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        Pillow.fromarray(noise()).save(tmp_path / "a.tif", tiffinfo={700: xmp.encode()})
        self.check(tmp_path / "a.tif", noise(), 1)


class TestWhiteIsZero:
    @pytest.mark.parametrize("depth", [8, 16])
    @pytest.mark.parametrize("orientation", [1, 6])
    def test_gray_values_are_inverted(self, tmp_path: Path, orientation: int, depth: int) -> None:
        stored = noise(depth=depth)
        for order in "<>":
            for deflate in (False, True):
                tags = {262: 0, 274: orientation}
                (tmp_path / "a.tif").write_bytes(tiff(stored, tags=tags, order=order, deflate=deflate))
                found = read_image(tmp_path / "a.tif")
                assert found.dtype == stored.dtype
                np.testing.assert_array_equal(found, UPRIGHT[orientation](np.iinfo(stored.dtype).max - stored))

    def test_twelve_bits(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).integers(0, 4096, (HEIGHT, 52))
        first, second = values[:, ::2], values[:, 1::2]
        packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).astype(np.uint8)
        rows = packed.reshape(HEIGHT, -1)
        for photometric, wanted in ((1, values), (0, 4095 - values)):
            tags = {256: 52, 258: 12, 262: photometric}
            (tmp_path / "a.tif").write_bytes(tiff(rows, tags=tags))
            np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), wanted)

    @pytest.mark.parametrize("bits", [1, 4])
    def test_few_bits(self, tmp_path: Path, bits: int) -> None:
        values = np.random.default_rng(0).integers(0, 2**bits, (HEIGHT, 56))
        spread = np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
        rows = np.packbits(spread.reshape(HEIGHT, -1), axis=1)
        for photometric in (0, 1):
            tags = {256: 56, 258: bits, 262: photometric}
            (tmp_path / "a.tif").write_bytes(tiff(rows, tags=tags))
            shown = values if photometric else 2**bits - 1 - values
            np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), shown * (255 // (2**bits - 1)))


class TestPages:
    @staticmethod
    def refused(path: Path, number: str) -> None:
        for read in (read_size, read_image, read_orientation):
            with pytest.raises(
                DataError, match=f"{path.name}: the file holds {number}, .*save each as a file of its own"
            ):
                read(path)

    def test_several_pages_are_refused_and_counted(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        for order in "<>":
            path.write_bytes(tiff(*[noise()] * 3, order=order))
            self.refused(path, "3 pages")
        path.write_bytes(tiff(noise(), noise(channels=3, depth=16)))
        self.refused(path, "2 pages")
        Pillow.fromarray(noise()).save(path, save_all=True, append_images=[Pillow.fromarray(noise())], big_tiff=True)
        self.refused(path, "2 pages")

    @pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
    def test_animations_are_refused(self, tmp_path: Path, form: str) -> None:
        first, second = Pillow.fromarray(noise()), Pillow.fromarray(noise(seed=1))
        first.save(tmp_path / "a", form, save_all=True, append_images=[second])
        self.refused(tmp_path / "a", "2 frames")

    @pytest.mark.parametrize("tags", [{254: 1}, {254: 4}, {254: 5}, {255: 2}])
    def test_smaller_versions_and_masks_are_no_pages(self, tmp_path: Path, tags: dict[int, int]) -> None:
        small, path = noise(seed=1)[::2, ::2], tmp_path / "a.tif"
        for main in (noise(), noise(channels=3, depth=16)):
            for pages, each in (([main, small], [{274: 6}, tags]), ([small, main], [tags, {274: 6}])):
                path.write_bytes(tiff(*pages, tags=each))
                TestOrientation.check(path, main, 6)

    def test_a_chain_that_leads_nowhere_or_in_a_circle_is_no_page(self, tmp_path: Path) -> None:
        content = bytearray(tiff(noise()))
        for link in (7, len(content) + 99, struct.unpack_from("<I", content, 4)[0]):
            struct.pack_into("<I", content, len(content) - 4, link)
            (tmp_path / "a.tif").write_bytes(content)
            TestOrientation.check(tmp_path / "a.tif", noise(), 1)

    def test_previews_of_an_mpo_are_no_pages(self, tmp_path: Path) -> None:
        first, second = Pillow.fromarray(noise(channels=3)), Pillow.fromarray(noise(channels=3, seed=1))
        first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
        assert read_size(tmp_path / "a.jpg") == (WIDTH, HEIGHT)
        assert read_image(tmp_path / "a.jpg").shape == (HEIGHT, WIDTH, 3)


class TestFurtherFormats:
    @pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("WEBP", {"lossless": True})])
    def test_gif_and_webp(self, tmp_path: Path, form: str, options: dict[str, Any]) -> None:
        Pillow.fromarray(noise()).save(tmp_path / "a", form, **options)
        np.testing.assert_array_equal(to_gray(read_image(tmp_path / "a")), noise())
        assert read_size(tmp_path / "a") == (WIDTH, HEIGHT)

    @pytest.mark.parametrize("white", [15, 255, 1023, 4095, 65535])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_pgm_and_ppm_keep_their_values(self, tmp_path: Path, channels: int, white: int) -> None:
        values = noise(channels=channels, depth=16).astype(int) % (white + 1)
        head = f"P{5 if channels == 1 else 6}\n# of a camera\n{WIDTH} {HEIGHT}\n{white}\n".encode()
        (tmp_path / "a.pnm").write_bytes(head + values.astype(np.uint8 if white < 256 else ">u2").tobytes())
        found = read_image(tmp_path / "a.pnm")
        assert found.dtype == (np.uint8 if white < 256 else np.uint16)
        np.testing.assert_array_equal(found, values * (17 if white == 15 else 1))
        assert read_size(tmp_path / "a.pnm") == (WIDTH, HEIGHT)

    def test_pnm_of_text_or_cut_short_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.pgm").write_bytes(b"P2 2 2 255\n1 2 3 4\n")
        with pytest.raises(DataError, match=r"a\.pgm: the values of the PNM file are text; save it as binary"):
            read_image(tmp_path / "a.pgm")
        for white in (255, 4095):
            (tmp_path / "a.pgm").write_bytes(b"P5 2 2 %d\n123" % white)
            with pytest.raises(DataError, match=r"a\.pgm: the image is damaged or cut short"):
                read_image(tmp_path / "a.pgm")


def test_one_module_opens_image_files() -> None:
    """Whatever opens them elsewhere would have rules of its own on orientation, depth, pages and limits."""
    package = Path(__file__).resolve().parent.parent / "detect"
    opening = re.compile(r"Pillow\.open|Image\.open|\bimread\b|\bimdecode\b|QImage")
    found = {path.name for path in package.rglob("*.py") if opening.search(path.read_text(encoding="utf-8"))}
    assert found == {"images.py", "corruptions.py"}  # the second packs and unpacks JPEG in memory
