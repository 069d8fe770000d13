"""What the verbs print: tables that read well in a terminal and in a file, paths and commands that can be pasted."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import in_one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..records import Detections

_FILE_WIDTH = 200  # columns; a file or a pipe has no edge to fold at


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> None:
    """Print a line and a table under it; all but the first ``text_columns`` columns are figures, to the right."""
    from rich import box
    from rich.table import Table

    if title:
        print(title)  # not as the table's own title, which rich folds to the table's width
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < text_columns else "right")
    for row in rows:
        table.add_row(*row)
    print_rich(table)


def print_rich(renderable: RenderableType) -> None:
    """Print what rich can draw: with colours in a terminal, plain and unfolded elsewhere."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _FILE_WIDTH
    Console(file=sys.stdout, markup=False, highlight=False, width=width).print(renderable)


def json_text(value: Any, encoding: str | None, *, indent: int | None = None) -> str:
    """Plain values as a line of JSON; characters that the encoding lacks are escaped, as JSON allows in any text."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n"
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:  # also a file name that is no Unicode, as Linux allows
        return json.dumps(value, allow_nan=False, indent=indent) + "\n"
    return text


def in_json(found: Detections) -> list[dict[str, Any]]:
    """Detections as plain JSON values: boxes in pixels, x1, y1, x2, y2."""
    return [
        {"label": one.label, "score": round(one.score, 6), "box_xyxy": [round(value, 3) for value in one.xyxy]}
        for one in found
    ]


def shown(path: Path) -> str:
    """The path as seen from the current folder, where it lies below it; on one line, whatever its name."""
    absolute = path.absolute()
    return in_one_line(str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute))


def command(*arguments: str) -> str:
    """A ``detect`` command line that works when pasted, also where its script is not on the PATH."""
    beside = Path(sys.executable).parent / "detect"
    found = shutil.which("detect")
    if found is not None and Path(found).parent == beside.parent:
        start = ["detect"]
    elif beside.exists():
        start = [shown(beside)]
    else:
        start = [shown(Path(sys.executable)), "-m", "detect"]
    return shlex.join([*start, *arguments])
