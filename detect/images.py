"""Image files <-> arrays: upright as the orientation tag says, gray stays one channel, 16 bits stay 16 bits.

What isn't one whole image is an error: damaged files, files of several pages, animations.
"""

from __future__ import annotations

import mmap
import re
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile, UnidentifiedImageError

from .errors import DataError
from .fileio import atomic_write

_PNM_SUFFIXES = (".pbm", ".pgm", ".pnm", ".ppm")
SUFFIXES = (
    *(".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
    *_PNM_SUFFIXES,
)
UNREAD_SUFFIXES = (  # of images that aren't read: no decoder, one that starts other programs, or one without limits
    *(".apng", ".arw", ".avif", ".cr2", ".cr3", ".dng", ".emf", ".eps", ".exr", ".hdr", ".heic", ".heif", ".ico"),
    *(".j2k", ".jp2", ".jpx", ".jxl", ".jxr", ".nef", ".orf", ".pcx", ".pfm", ".psd", ".raf", ".raw", ".rw2", ".svg"),
    *(".tga", ".wmf", ".xcf"),
)
FORMATS_READ = "BMP, GIF, JPEG, PNG, PNM, TIFF or WebP"
MOST_PIXELS = 50_000_000  # that an image may claim, half of it in 16-bit colour, PNM or WebP: decoded within 1 GB
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow knows more; some start other programs
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_BLOCK_PIXELS = 4_000_000  # brought to another kind at once
_MAX_SCANS = 200  # passes over a JPEG, of which writers make 10 or so; each costs time and hardly a byte
_MAX_PAGES = 1000  # of a TIFF that are counted
_CAMERA_BITS = (8, 10, 12, 14)  # that 16-bit files may hold no more than
_IMAGE_STARTS = (  # BMP, GIF, JPEG, JPEG 2000, PNG, PSD, TIFF, WebP, and HEIF with AVIF
    rb"BM....\0\0\0\0|GIF8[79]a|\xff\xd8\xff|\0\0\0\x0cjP  |\x89PNG\r\n|8BPS\0|II[*+]\0|MM\0[*+]|RIFF....WEBP|"
    rb"....ftyp(avi[fs]|hei[cfsx]|hev[cx]|mif1|msf1)"
)
GIVE_AN_IMAGE = f"give a {FORMATS_READ} file"

Pixels = NDArray[Any]  # uint8 or uint16, [height, width] or [height, width, 3] RGB


def read_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from the file's header, without decoding it.

    Raises:
        DataError: missing, not an image, of several pages, or one that claims more than ``MOST_PIXELS``.
    """
    with _open(path) as (image, page):
        width, height = image.size
        return (height, width) if page.orientation >= _FIRST_TRANSPOSED else (width, height)


def read_orientation(path: Path) -> int:
    """The orientation tag, 1 to 8 as EXIF and TIFF number them; 1 where it is missing or invalid.

    ``read_size`` and ``read_image`` apply it: what they give is upright. Only the header is read.

    Raises:
        DataError: as ``read_size``.
    """
    with _open(path) as (_, page):
        return page.orientation


def read_image(path: Path) -> Pixels:
    """Decode a BMP, GIF, JPEG, PNG, PNM, TIFF or WebP file, turned upright as its orientation tag says.

    Returns:
        uint8 or uint16 array, [height, width] for gray, [height, width, 3] RGB for colour, with the values that the
        file holds: those of 10 or 12 bits are not brought to 16. 0 is black, also where the file says that 0 is
        white. Transparency is dropped.

    Raises:
        DataError: missing, truncated, not an image, of several pages, of more than ``MOST_PIXELS``, or gray values
            that 16 bits can't hold.
    """
    try:
        pixels, orientation = _read_stored(path)
        return np.ascontiguousarray(_TO_UPRIGHT[orientation](pixels))
    except DataError:
        raise
    except MemoryError:
        found = "the image needs more memory than there is"
        raise DataError(found, where=path, fix="cut it into tiles, or close other programs") from None
    except Exception as error:  # Pillow raises whatever the damage led to: OSError, SyntaxError, struct.error, ...
        found = f"the image is damaged or cut short ({_reason(error)})"
        raise DataError(found, where=path, fix="replace the file") from None


def is_unread_image(path: Path) -> bool:
    """Whether a file whose suffix isn't one of ``SUFFIXES`` is an image all the same, by its suffix or first bytes."""
    if path.suffix.lower() in UNREAD_SUFFIXES:
        return path.is_file()
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return re.match(_IMAGE_STARTS, start, re.DOTALL) is not None


def as_pixels(array: Any) -> Pixels:
    """An array, if it is an image: uint8 or uint16, [height, width] or [height, width, 3]; one channel is dropped.

    Raises:
        DataError: an array of another kind.
    """
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype not in (np.uint8, np.uint16) or (pixels.ndim != 2 and pixels.shape[2:] != (3,)) or not pixels.size:
        found = f"an array of {pixels.dtype} with shape {pixels.shape} is no image"
        raise DataError(found, fix="give uint8 or uint16 of shape [height, width] or [height, width, 3]")
    return pixels


def to_gray(pixels: Pixels) -> Pixels:
    """[height, width] of the same depth; three equal channels give back that channel exactly."""
    if pixels.ndim == 2:
        return pixels
    if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2]):
        return np.ascontiguousarray(pixels[..., 0])
    gray = np.empty(pixels.shape[:2], pixels.dtype)
    for rows in _blocks(pixels.shape[1], pixels.shape[0]):
        luma = pixels[rows].astype(np.float64) @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
        gray[rows] = np.rint(luma)
    return gray


def to_rgb(pixels: Pixels) -> Pixels:
    """[height, width, 3] of the same depth."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def likely_white(brightest: int) -> int:
    """The white of the camera that wrote 16-bit files with this brightest value: 255, 1023, 4095, 16383 or 65535."""
    return next((2**bits - 1 for bits in _CAMERA_BITS if brightest < 2**bits), 2**16 - 1)


def write_image(path: Path, pixels: Pixels) -> None:
    """Write gray or RGB pixels as a ``atomic_write``; the suffix chooses the format."""
    with atomic_write(path) as file:
        Pillow.fromarray(pixels).save(file, Pillow.registered_extensions()[path.suffix.lower()])


_ORIENTATION = 274  # the tag's number in EXIF and TIFF
_FIRST_TRANSPOSED = 5  # orientations from here on swap width and height
_TO_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}


@dataclass(frozen=True, slots=True)
class _Page:
    """How the one image of a file is stored.

    Attributes:
        source: where to decode it from: the file, or its bytes with the tags of a TIFF changed so that every decoder
            gives the stored pixels of this page.
        orientation: 1 to 8.
        white: the gray value that stands for black, where 0 is white and no decoder inverts it; None elsewhere.
    """

    source: Path | mmap.mmap
    orientation: int = 1
    white: int | None = None


def _read_stored(path: Path) -> tuple[Pixels, int]:
    """The pixels as stored, and their orientation."""
    with _open(path) as (image, page):
        layout = _deep_layout(image)
        if image.format in ("JPEG", "MPO"):
            _check_scans(path)
        if image.format == "PPM":
            pixels = _pnm(image, path)
            if pixels is not None:
                return pixels, page.orientation
        if image.format == "TIFF":
            image.getexif()[_ORIENTATION] = 1  # where the tag is missing, Pillow would take one from XMP
        image.load()
        if image.mode in _SIXTEEN_BIT:
            return _sixteen_bit(image, path, page.white), page.orientation
        if image.mode == "F":  # Pillow would cut its values off at 255
            raise DataError("gray values with fractions", where=path, fix="save it as 8- or 16-bit gray")
        if layout is None:
            return _eight_bit(image), page.orientation
        is_png = image.format == "PNG"
    return _deep_channels(path, page, layout, is_png=is_png), page.orientation


@contextmanager
def _open(path: Path) -> Iterator[tuple[Pillow.Image, _Page]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # odd metadata; damage that matters is an error
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
        image, page = _header(path)
        with image:
            width, height = image.size
            _check_size(path, width, height, halved=_needs_twice(image))
            frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))  # an MPO's others are previews
            if image.format != "TIFF" and frames > 1:
                raise _several(path, f"{frames:,} frames")
            yield image, page


def _header(path: Path) -> tuple[Pillow.Image, _Page]:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # a pipe would be waited for
            raise DataError("it is no file but a pipe or device", where=path, fix=GIVE_AN_IMAGE)
        with path.open("rb") as file:
            start = file.read(30)
        webp = _webp_size(start)
        if webp is not None:  # Pillow allocates before it knows the size
            _check_size(path, *webp, halved=True)
        if start[:2] in _BYTE_ORDERS and 42 <= max(start[2:4], default=0) <= 43:
            page = _tiff_page(path)
            return Pillow.open(page.source, formats=_FORMATS), page  # type: ignore[arg-type]
        image = Pillow.open(path, formats=_FORMATS)
        return image, _Page(path, _exif_orientation(image.info.get("exif")))
    except FileNotFoundError:
        raise DataError("no such image", where=path, fix="check the path") from None
    except Pillow.DecompressionBombError as error:
        claimed = re.search(r"\d+", str(error))  # Pillow refuses what is larger still
        raise _too_large(path, claimed[0] if claimed else "too many", MOST_PIXELS) from None
    except DataError:
        raise
    except Exception as error:  # as when it is decoded
        reason = "its content is no image" if isinstance(error, UnidentifiedImageError) else _reason(error)
        raise DataError(f"the image can't be read ({reason})", where=path, fix=GIVE_AN_IMAGE) from None


def _check_size(path: Path, width: int, height: int, *, halved: bool) -> None:
    limit = MOST_PIXELS // 2 if halved else MOST_PIXELS
    if width * height > limit:
        raise _too_large(path, f"{width} x {height}", limit)
    if width * height < 1:
        raise DataError("the image claims to have no pixels", where=path, fix="replace the file")


def _needs_twice(image: Pillow.Image) -> bool:
    deep_pnm = image.format == "PPM" and _first_tile(image)[0] == "ppm"
    return deep_pnm or image.format == "WEBP" or _deep_layout(image) is not None


def _first_tile(image: Pillow.Image) -> Any:
    """Decoder, box, offset and arguments of the first part of a file that isn't decoded yet."""
    assert isinstance(image, ImageFile.ImageFile)
    return image.tile[0]


def _several(path: Path, number: str) -> DataError:
    fix = "save each as a file of its own, such as with ImageMagick: magick FILE page_%d.png"
    return DataError(f"the file holds {number}, and only files of one image are read", where=path, fix=fix)


def _exif_orientation(exif: bytes | None) -> int:
    if exif is None:
        return 1
    try:
        tags = Pillow.Exif()
        tags.load(exif)
        value = tags.get(_ORIENTATION, 1)
    except Exception:  # damaged metadata, whatever it led to; the pixels may be whole
        return 1
    return value if isinstance(value, int) and value in _TO_UPRIGHT else 1


def _webp_size(start: bytes) -> tuple[int, int] | None:
    """Width and height that the first 30 bytes of a WebP file claim; None for other files."""
    if start[:4] != b"RIFF" or start[8:12] != b"WEBP" or len(start) < 30:
        return None
    if start[12:16] == b"VP8X":
        return int.from_bytes(start[24:27], "little") + 1, int.from_bytes(start[27:30], "little") + 1
    if start[12:16] == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(start[26:28], "little") & 0x3FFF, int.from_bytes(start[28:30], "little") & 0x3FFF


def _too_large(path: Path, claimed: str, limit: int) -> DataError:
    found = f"the image claims {claimed} pixels, more than the {limit:,} that are read"
    return DataError(found, where=path, fix="cut it into tiles, or into files for detect infer --strip")


def _check_scans(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        scans, at = 0, content.find(b"\xff\xda")
        while at >= 0 and scans <= _MAX_SCANS:
            scans, at = scans + 1, content.find(b"\xff\xda", at + 2)
    if scans > _MAX_SCANS:
        found = f"the JPEG has more than {_MAX_SCANS} scans, which only a trap needs"
        raise DataError(found, where=path, fix="replace the file")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split()) or repr(error)


def _blocks(width: int, height: int) -> Iterator[slice]:
    rows = max(1, _BLOCK_PIXELS // max(width, 1))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _eight_bit(image: Pillow.Image) -> Pixels:
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    width, height = image.size
    pixels = np.empty((height, width) if mode == "L" else (height, width, 3), np.uint8)
    for rows in _blocks(width, height):  # whole, Pillow's copies on the way would add up to several images
        pixels[rows] = np.asarray(image.crop((0, rows.start, width, rows.stop)).convert(mode))
    return pixels


def _sixteen_bit(image: Pillow.Image, path: Path, white: int | None) -> Pixels:
    width, height = image.size
    pixels = np.empty((height, width), np.uint16)
    for rows in _blocks(width, height):
        values = np.asarray(image.crop((0, rows.start, width, rows.stop)))
        if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
            raise DataError("the gray values don't fit 16 bits", where=path, fix="save it as 8- or 16-bit gray")
        pixels[rows] = values if white is None else white - values
    return pixels


def _deep_layout(image: Pillow.Image) -> str | None:
    """How several channels of 16 bits are stored, "LA;16B" for one; None of other files. Asked before decoding."""
    if image.format not in ("PNG", "TIFF") or image.mode in _SIXTEEN_BIT:
        return None
    arguments = [tile.args for tile in getattr(image, "tile", ())]
    named = [each if isinstance(each, str) else str(each[0]) for each in arguments if each]
    return next((layout for layout in named if ";16" in layout), None)


def _deep_channels(path: Path, page: _Page, layout: str, *, is_png: bool) -> Pixels:
    """A file that Pillow found whole, read in the depth of which Pillow keeps the upper half only."""
    import cv2

    content = np.fromfile(path, np.uint8) if isinstance(page.source, Path) else np.frombuffer(page.source, np.uint8)
    if is_png and page.orientation != 1:  # OpenCV's versions differ in whether they turn it
        content = np.frombuffer(_png_without_metadata(content.tobytes()), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise DataError("colour of 16 bits in an unusual layout", where=path, fix="save it as plain 16-bit RGB")
    if layout.startswith("LA"):  # of gray, OpenCV makes three equal channels
        return np.ascontiguousarray(pixels[..., 0])
    rgb = pixels if pixels.shape[2] == 3 else np.empty((*pixels.shape[:2], 3), np.uint16)
    for rows in _blocks(pixels.shape[1], pixels.shape[0]):
        rgb[rows] = pixels[rows, :, 2::-1]
    return np.asarray(rgb)


def _png_without_metadata(content: bytes) -> bytes:
    """Header, pixels and end alone: the chunks whose names start with a capital."""
    kept, at = [content[:8]], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        if content[at + 4 : at + 5].isupper():
            kept.append(content[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept)


def _pnm(image: Pillow.Image, path: Path) -> Pixels | None:
    """A PGM or PPM file whose values Pillow would bring to another range; None of one that it reads as it is."""
    decoder, _, offset, args = _first_tile(image)
    if decoder == "ppm_plain":
        raise DataError("the values of the PNM file are text", where=path, fix="save it as binary PGM, PPM, or PNG")
    if decoder != "ppm":
        return None
    width, height = image.size
    shape = (height, width, 3) if image.mode == "RGB" else (height, width)
    white = int(args[-1])
    values = np.fromfile(path, np.uint8 if white < 256 else ">u2", count=int(np.prod(shape)), offset=offset)
    pixels = values.reshape(shape)  # of too few values, an error
    if white < 256:
        scaled = np.rint(np.arange(256) * (255 / white)).clip(0, 255).astype(np.uint8)
        return np.asarray(scaled[pixels])
    return pixels.astype(np.uint16)


_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
_FIELD_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of whole numbers
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS = range(254, 259)  # tags
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339
_MOST_TAGS = 4096  # of a directory; files have some dozens
_REDUCED_OR_MASK = 1 | 4  # bits of NewSubfileType
_OLD_REDUCED = 2
_INVERTED_HERE = (12, 16)  # bits of gray values that Pillow doesn't invert where 0 is white


@dataclass(frozen=True, slots=True)
class _Directory:
    """The tags of one image in a TIFF file.

    Attributes:
        offset: in the file.
        values: tag -> its value, of single whole numbers.
        places: tag -> struct format and offset of that value.
        next_offset: of the next directory; 0 if this is the last.
        next_place: struct format and offset of that number.
    """

    offset: int
    values: dict[int, int]
    places: dict[int, tuple[str, int]]
    next_offset: int
    next_place: tuple[str, int]

    @property
    def is_full(self) -> bool:
        """Not a thumbnail, a smaller version or a mask of another one."""
        reduced = self.values.get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK
        return not reduced and self.values.get(_OLD_SUBFILE_TYPE) != _OLD_REDUCED


def _tiff_page(path: Path) -> _Page:
    """The one full image of a TIFF file.

    Raises:
        DataError: several full images.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # changes stay in memory
    order = _BYTE_ORDERS[content[:2]]
    is_big = 43 in content[2:4]
    first_place = (f"{order}Q", 8) if is_big else (f"{order}I", 4)
    directories = _tiff_directories(content, first_place, is_big=is_big)
    full = [each for each in directories if each.is_full]
    if len(full) > 1:
        number = f"{len(full):,}" if len(directories) < _MAX_PAGES else f"{len(full):,} or more"
        raise _several(path, f"{number} pages")
    if not directories:  # damaged, as Pillow will find
        return _Page(path)
    main = full[0] if full else directories[0]
    changes: list[tuple[str, int, int]] = []
    if main is not directories[0]:
        changes.append((*first_place, main.offset))
    if main.next_offset:  # Pillow would read what follows
        changes.append((*main.next_place, 0))
    orientation = main.values.get(_ORIENTATION, 1)
    if orientation != 1:
        changes.append((*main.places[_ORIENTATION], 1))
    bits, white = main.values.get(_BITS), None
    if main.values.get(_PHOTOMETRIC) == 0 and bits in _INVERTED_HERE and main.values.get(_SAMPLE_FORMAT, 1) == 1:
        changes.append((*main.places[_PHOTOMETRIC], 1))
        white = 2**bits - 1
    for form, place, value in changes:
        struct.pack_into(form, content, place, value)
    return _Page(content if changes else path, orientation if orientation in _TO_UPRIGHT else 1, white)


def _tiff_directories(content: mmap.mmap, first_place: tuple[str, int], *, is_big: bool) -> list[_Directory]:
    """The chain of images that have a size, as far as it can be followed; at most ``_MAX_PAGES``."""
    order = first_place[0][0]
    forms = ("Q", "HHQ", "Q") if is_big else ("H", "HHI", "I")
    count_form, entry_form, offset_form = (order + form for form in forms)
    found: list[_Directory] = []
    seen = set[int]()
    try:
        (offset,) = struct.unpack_from(first_place[0], content, first_place[1])
        while offset and offset not in seen and len(found) < _MAX_PAGES:
            seen.add(offset)
            (count,) = struct.unpack_from(count_form, content, offset)
            if count > _MOST_TAGS:
                break
            at = offset + struct.calcsize(count_form)
            values, places = {}, {}
            for _ in range(count):
                tag, kind, number = struct.unpack_from(entry_form, content, at)
                place = at + struct.calcsize(entry_form)
                form = order + _FIELD_TYPES.get(kind, "B")
                if number == 1 and kind in _FIELD_TYPES:
                    places[tag] = form, place
                    (values[tag],) = struct.unpack_from(form, content, place)
                at = place + struct.calcsize(offset_form)
            (following,) = struct.unpack_from(offset_form, content, at)
            if _WIDTH in values and _HEIGHT in values:
                found.append(_Directory(offset, values, places, following, (offset_form, at)))
            offset = following
    except struct.error:  # beyond the end of the file
        pass
    return found
