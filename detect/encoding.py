"""Bytes of a text file -> text, in UTF-8, UTF-16, UTF-32, GBK or Windows-1252, where only one of them fits."""

from __future__ import annotations

import codecs
import re

_MARKS = (  # UTF-32 first: its mark begins like that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ACCENTED = re.compile(r"[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff]+")
_SIGNS = re.compile(r"[\u00b0\u00b2\u00b3\u00b5]")  # degree, square, cube, micro: as in 25 °C or 3 µm
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_COMMON_HANZI = re.compile(rb"[\xb0-\xd7][\xa1-\xfe]")  # level 1 of GB 2312: the 3,755 characters in everyday use


def decode(data: bytes) -> str:
    """Text, without a byte order mark, in the encoding that ``encoding_of`` names.

    Raises:
        UnicodeError: the bytes fit no encoding, or more than one.
    """
    return data.decode(encoding_of(data)).removeprefix("\ufeff")


def encoding_of(data: bytes) -> str:
    """Python's name of the encoding: "utf-8" wherever the bytes are valid UTF-8.

    Of other text, Chinese in GBK comes as pairs of high bytes, most of them common characters, and Western European
    text in Windows-1252 as accented letters between ASCII letters. What could be either, or neither, is not guessed.

    Raises:
        UnicodeError: the bytes fit no encoding, or more than one.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    found = _utf_16_without_mark(data) or _eight_bit(data)
    if found is None:
        raise UnicodeError("the text is not UTF-8 and could be GBK, Windows-1252 or another encoding")
    return found


def _utf_16_without_mark(data: bytes) -> str | None:
    """ASCII characters in UTF-16 have a zero byte each, which no other text has."""
    start = data[:200]
    if len(data) % 2 or len(start) < 4:
        return None
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if odd and not even:
        return "utf-16-le"
    return "utf-16-be" if even and not odd else None


def _eight_bit(data: bytes) -> str | None:
    try:
        data.decode()
        return "utf-8"
    except UnicodeDecodeError:
        pass
    runs = _HIGH_RUN.findall(data)
    letters = [bool(_ACCENTED.fullmatch(run.decode("latin-1"))) for run in runs]
    signs = [bool(_SIGNS.fullmatch(run.decode("latin-1"))) for run in runs]
    if any(len(run) % 2 for run in runs):
        western = all(len(run) <= 2 and (letter or sign) for run, letter, sign in zip(runs, letters, signs))
        return "cp1252" if western else None  # longer runs of letters are another alphabet, Cyrillic say
    if any(len(run) == 2 and letter for run, letter in zip(runs, letters)):
        return None  # one Chinese character or two accented letters
    pairs = [run[i : i + 2] for run in runs for i in range(0, len(run), 2)]
    common = sum(bool(_COMMON_HANZI.fullmatch(pair)) for pair in pairs)
    try:
        data.decode("gb2312")
    except UnicodeDecodeError:
        return None
    return "gbk" if 2 * common > len(pairs) else None
