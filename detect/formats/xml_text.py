"""XML files -> elements, in whatever encoding they were saved, with every trick of hostile XML refused."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError  # the types; reading goes through defusedxml

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ..errors import DataError

_DECLARED = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_DECLARATION = re.compile(r"^\s*<\?xml.*?\?>", re.DOTALL)


def parse(path: Path) -> Element:
    """The root element.

    Raises:
        DataError: missing, empty, no XML, in an encoding nobody knows, or with entities, which only an attack needs.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"the file can't be read ({error.strerror})", where=path, fix="check it") from None
    if not data.strip():
        raise DataError("the file is empty", where=path, fix="write the labels again or remove it")
    try:
        return _parse(data)
    except DefusedXmlException:
        found = "the XML defines entities, which labels don't need and attacks do"
        raise DataError(found, where=path, fix="remove its DOCTYPE") from None
    except ParseError as error:
        if not _is_utf8(data):
            found = "the text is not UTF-8 and tells no other encoding"
            raise DataError(found, where=path, fix="save it as UTF-8") from None
        raise DataError(f"the XML is damaged or cut short ({error})", where=path, fix="write it again") from None
    except (LookupError, UnicodeError) as error:
        fix = "save it as UTF-8"
        raise DataError(f"the text does not fit its encoding ({error})", where=path, fix=fix) from None


def text_of(element: Element, path: str) -> str:
    """The text of a descendant without outer spaces, "" if there is none."""
    return (element.findtext(path) or "").strip()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse(data: bytes) -> Element:
    declared = _DECLARED.match(data)
    encoding = declared.group(1).decode("ascii") if declared else "utf-8"
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-16", "ascii", "us-ascii"):
        # Spaces before the declaration are a common slip that expat does not forgive.
        return fromstring(data.lstrip())
    # The parser knows few encodings; Python knows GB2312 and the like, usual in this field.
    text = _DECLARATION.sub("", data.decode(encoding), count=1)
    return fromstring(text)
