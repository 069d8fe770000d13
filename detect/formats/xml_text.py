"""XML files -> elements, in whatever encoding they were saved, with every trick of hostile XML refused."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder  # reading goes through defusedxml

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from ..errors import DataError
from .files import read_bytes

_DECLARED = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_DECLARATION = re.compile(r"^\s*<\?xml.*?\?>", re.DOTALL)
_NO_TEXT = {"idna", "punycode", "raw_unicode_escape", "unicode_escape"}  # Python's own, some of them slow without bound
_MOST_BYTES = 10_000_000  # some 30,000 objects; parsed, the worst of it takes 0.4 GB
_DEEPEST = 100  # levels; an annotation has four


def parse(path: Path) -> Element:
    """The root element.

    Raises:
        DataError: missing, empty, no XML, in an encoding nobody knows, or with entities, which only an attack needs.
    """
    try:
        data = read_bytes(path, _MOST_BYTES)
    except OSError as error:
        raise DataError(f"the file can't be read ({error.strerror})", where=path, fix="check it") from None
    except ValueError as error:
        raise DataError(f"the file can't be read ({error})", where=path, fix="write the labels again") from None
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
    except (LookupError, UnicodeError, ValueError) as error:
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


class _Shallow(TreeBuilder):
    """Elements to a tree, as long as no attack nests them: the parser itself takes memory for each open one."""

    depth = 0

    def start(self, tag: Any, attrs: Any) -> Element:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ParseError(f"nested more than {_DEEPEST} levels deep")
        return super().start(tag, attrs)

    def end(self, tag: Any) -> Element:
        self.depth -= 1
        return super().end(tag)


def _tree(text: bytes | str) -> Element:
    parser = XMLParser(target=_Shallow(), forbid_dtd=False, forbid_entities=True, forbid_external=True)
    parser.feed(text)
    root: Element = parser.close()
    return root


def _parse(data: bytes) -> Element:
    declared = _DECLARED.match(data)
    encoding = declared.group(1).decode("ascii") if declared else "utf-8"
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-16", "ascii", "us-ascii"):
        # Spaces before the declaration are a common slip that expat does not forgive.
        return _tree(data.lstrip())
    if codecs.lookup(encoding).name in _NO_TEXT:
        raise LookupError(f"unknown encoding: {encoding}")
    # The parser knows few encodings; Python knows GB2312 and the like, usual in this field.
    text = _DECLARATION.sub("", data.decode(encoding), count=1)
    return _tree(text)
