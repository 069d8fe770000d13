"""XML files -> elements, in whatever encoding they were saved, with every trick of hostile XML refused."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder  # reading goes through defusedxml

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from ..encoding import decode, encoding_of
from ..errors import DataError
from .files import read_bytes
from .reading import Converted

_DECLARED = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_DECLARATION = re.compile(r"^\s*<\?xml.*?\?>", re.DOTALL)
_NO_TEXT = {"idna", "punycode", "raw_unicode_escape", "unicode_escape"}  # Python's own, some of them slow without bound
_MOST_BYTES = 10_000_000  # some 30,000 objects; parsed, the worst of it takes 0.4 GB
_DEEPEST = 100  # levels; an annotation has four


def parse(path: Path, converted: Converted | None = None) -> Element:
    """The root element.

    Args:
        path: the file.
        converted: gets a note if the encoding had to be recognised.

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
        # The declaration has done its duty then, and the parser knows few encodings.
        text, recognised = _text(data)
        root = _tree(_DECLARATION.sub("", text, count=1).strip())
    except DefusedXmlException:
        found = "the XML defines entities, which labels don't need and attacks do"
        raise DataError(found, where=path, fix="remove its DOCTYPE") from None
    except ParseError as error:
        raise DataError(f"the XML is damaged or cut short ({error})", where=path, fix="write it again") from None
    except (LookupError, UnicodeError, ValueError) as error:
        fix = "save it as UTF-8"
        raise DataError(f"the text does not fit its encoding ({error})", where=path, fix=fix) from None
    if converted is not None and recognised:
        converted.note_encoding(path, data)
    return root


def local_name(tag: object) -> str:
    """A tag in small letters and without its namespace; "" of what is no element."""
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def text_of(element: Element, path: str) -> str:
    """The text of a descendant without outer spaces, "" if there is none."""
    return (element.findtext(path) or "").strip()


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


def _text(data: bytes) -> tuple[str, bool]:
    """The text, and whether its encoding was recognised; a declaration is believed where the bytes can't be.

    Some tools declare UTF-16 or GBK and write UTF-8, others write GBK and declare UTF-8 or nothing.
    """
    match = _DECLARED.match(data)
    declared = codecs.lookup(match.group(1).decode("ascii")).name if match else "utf-8"
    if declared in _NO_TEXT:
        raise LookupError(f"unknown encoding: {declared}")
    seven_bit = declared.startswith(("iso2022", "hz", "utf-7"))
    plain = declared.startswith(("utf", "ascii"))
    try:
        own = encoding_of(data)
    except UnicodeError:
        own = ""
    if not plain and (seven_bit or own in ("", "gbk", "cp1252")):
        return data.decode(declared), False
    return decode(data), True
