"""A page from its template: one file, its style sheets and scripts inlined, whatever came from outside escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..formats.files import write_text
from .wording import STRETCHED


def render(template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """The text of a page.

    Args:
        template: file in this folder.
        filters: by the name that the template calls them.
        values: that it shows.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    environment.globals["stretched_note"] = STRETCHED
    return environment.get_template(template).render(**values)


def write_page(path: Path, text: str) -> None:
    """Write what people read as a ``whole_file``; of file names that are no Unicode, the bytes are shown escaped."""
    write_text(path, text.encode(errors="backslashreplace").decode())


def named(*functions: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Filters under their functions' own names."""
    return {function.__name__: function for function in functions}


def text_of(name: str) -> str:
    """A style sheet or script of the pages, for a page elsewhere that is to look and work like them."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
