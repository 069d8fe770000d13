"""YOLO text files, one an image, and a data.yaml with the class names; centre and size as fractions of the image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import DataError
from ..images import SUFFIXES
from ..records import Box, Dataset, Finding, Image
from ..yaml_text import read_yaml
from .files import copy, new_folder, read_bytes, unique_names, walk, write_text
from .reading import Entry, Reading, clean_name, number, score_of, sentence, sized
from .roots import is_inside, leads_out, roots_around

DECIMALS = 10  # whole pixels come back exactly from images of any size
_MOST_BYTES = 10_000_000  # some 200,000 objects


def read(path: Path) -> Dataset:
    """The data set of a folder with a data.yaml, or of that file, categories in the order of its names.

    Raises:
        DataError: anything in it can't be read.
    """
    return scan([path]).dataset()


def scan(sources: Sequence[Path]) -> Reading:
    """Read ``images/<part>/*`` with ``labels/<part>/*.txt`` (or ``<part>/images`` with ``<part>/labels``).

    An image without a text file has no objects, as this format means it.

    Raises:
        DataError: a source does not exist or has no data.yaml with names.
    """
    entries: list[Entry] = []
    findings: list[Finding] = []
    categories: dict[str, None] = {}
    for source in sources:
        file = _names_file(source)
        names, root = _names(file)
        categories |= dict.fromkeys(names)
        _scan_root(root, file, names, entries, findings)
    return Reading(tuple(entries), tuple(categories), tuple(findings))


def write(parts: Mapping[str, Dataset], out: Path, *, scores: bool = False) -> dict[str, Path]:
    """Write ``out/labels/<part>/*.txt`` and data.yaml, and copy the images to ``out/images/<part>``.

    Flags for difficult and crowd objects are lost: the format has no place for them.

    Args:
        parts: data sets by name.
        out: folder to write to.
        scores: tell the score of a draft in a sixth column, which many tools refuse; without it, it is lost.

    Returns:
        The folder of each part's labels.

    Raises:
        DataError: ``out/images`` or ``out/labels`` is not empty.
    """
    new_folder(out, ["images", "labels"])
    categories = next(iter(parts.values())).categories if parts else ()
    for part, dataset in parts.items():
        for folder in ("images", "labels"):
            (out / folder / part).mkdir(parents=True, exist_ok=True)
        ids = {name: i for i, name in enumerate(dataset.categories)}
        for image, name in zip(dataset.images, unique_names([image.path for image in dataset.images])):
            copy(image.path, out / "images" / part / name)
            lines = [_line(box, ids[box.label], image, scores) for box in image.boxes]
            write_text((out / "labels" / part / name).with_suffix(".txt"), "".join(lines))
    content = {part: f"images/{part}" for part in parts} | {"names": dict(enumerate(categories))}
    write_text(out / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return {part: out / "labels" / part for part in parts}


def names_files(folder: Path) -> list[Path]:
    """YAML files right in a folder that tell class names, data.yaml first."""
    found = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")], key=lambda path: (path.stem != "data", path.name))
    # Any other YAML may lie here too, a training configuration say.
    return [path for path in found if isinstance(_content(path), dict) and "names" in _content(path)]


def _names_file(source: Path) -> Path:
    if not source.exists():
        raise DataError("no such file or folder", where=source, fix="check the path")
    if source.is_file():
        return source
    found = names_files(source)
    if not found:
        raise DataError("no data.yaml with class names in it", where=source, fix="write one with a list `names:`")
    return found[0]


def _content(path: Path) -> Any:
    try:
        return read_yaml(path)
    except (OSError, yaml.YAMLError):
        return None


def _names(path: Path) -> tuple[list[str], Path]:
    """Class names in order of their numbers, and the folder that images are looked for in."""
    content = _content(path)
    told = content.get("names") if isinstance(content, dict) else None
    if isinstance(told, dict):
        numbered = {str(key): name for key, name in told.items()}
        if set(numbered) != {str(i) for i in range(len(told))}:
            raise DataError("the numbers of its names are not 0, 1, 2, ...", where=path, fix="number them without gaps")
        told = [numbered[str(i)] for i in range(len(told))]
    if not isinstance(told, list) or not told:
        raise DataError("it has no list of class names", where=path, fix="write the classes under `names:`")
    names = [clean_name(str(name)) for name in told]
    if "" in names or len(set(names)) < len(names):
        raise DataError("a class name is empty or stands there twice", where=path, fix="give each class its own name")
    base = content.get("path")
    elsewhere = path.parent / str(base) if base else path.parent
    if not os.path.isdir(elsewhere):  # noqa: PTH112  # of any name, however long
        return names, path.parent  # as it is where the file came from
    if not is_inside(elsewhere, roots_around(path.parent)):
        raise leads_out(f"its path {base!r}", path)
    return names, elsewhere


def _scan_root(root: Path, file: Path, names: list[str], entries: list[Entry], findings: list[Finding]) -> None:
    images = walk([root], SUFFIXES)
    labels = {path for path in walk([root], [".txt"]) if "labels" in path.relative_to(root).parts}
    if not images:
        raise DataError("no image below it", where=root, fix=f"put them into images/ beside {file.name}")
    for path in images:
        label_file, part = _partner(path, root)
        labels.discard(label_file)
        bare = sized(path, (), findings, *([label_file] if label_file.is_file() else []))
        if bare is None:
            continue
        boxes: tuple[Box, ...] = ()
        if label_file.is_file():
            try:
                boxes = _boxes(label_file, bare, names, findings)
            except DataError as error:
                findings.append(Finding("unreadable label file", "error", label_file, sentence(error), (path,)))
                continue
        else:
            message = f"no {label_file.name} beside it, so it counts as an image without objects"
            findings.append(Finding("image without label file", "note", path, message))
        entries.append(Entry(Image(path, bare.width, bare.height, boxes), label_file, part))
    for label_file in sorted(labels):
        message = "no image belongs to it; add the image or remove the file"
        findings.append(Finding("label file without image", "error", label_file, message))


def _partner(path: Path, root: Path) -> tuple[Path, str]:
    """The label file of an image, and the part that its folder names."""
    inner = list(path.relative_to(root).parts)
    if "images" not in inner[:-1]:
        return path.with_suffix(".txt"), ""
    # The last folder called images is the one that labels/ stands beside.
    position = len(inner) - 2 - inner[-2::-1].index("images")
    rest = inner[position + 1 : -1]
    part = rest[0] if rest else inner[position - 1] if position else ""
    inner[position] = "labels"
    return root.joinpath(*inner).with_suffix(".txt"), part


def _boxes(path: Path, image: Image, names: list[str], findings: list[Finding]) -> tuple[Box, ...]:
    try:
        text = read_bytes(path, _MOST_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"the text can't be read ({error})", where=path, fix="save it as UTF-8") from None
    boxes: list[Box] = []
    for i, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            boxes.append(_box(line.split(), image, names))
        except ValueError as error:
            findings.append(Finding("broken object", "error", path, f"line {i}: {error}; correct or remove it"))
    return tuple(boxes)


def _box(words: list[str], image: Image, names: list[str]) -> Box:
    if len(words) not in (5, 6):
        hint = ", as of a polygon" if len(words) > 6 else ""
        raise ValueError(f"it has {len(words)} numbers{hint}, not the five of class, centre and size")
    score = score_of(number(words[5])) if len(words) == 6 else None
    if len(words) == 6 and score is None:
        raise ValueError(f"its sixth number is {words[5]}, not a score from 0 to 1")
    label = number(words[0])
    if label != int(label) or not 0 <= label < len(names):
        raise ValueError(f"class {words[0]} is none of 0 to {len(names) - 1}")
    cx, cy, width, height = (number(word) for word in words[1:5])
    decimals = max(_decimals(word) for word in words[1:5])
    x1, x2 = (_snapped((cx + side * width / 2) * image.width, decimals, image.width) for side in (-1, 1))
    y1, y2 = (_snapped((cy + side * height / 2) * image.height, decimals, image.height) for side in (-1, 1))
    return Box(names[int(label)], (x1, y1, x2, y2), score=score)


def _decimals(word: str) -> int:
    return DECIMALS if "e" in word.lower() else len(word.partition(".")[2])


def _snapped(value: float, decimals: int, pixels: int) -> float:
    """The whole pixel, where the file's own rounding is all that keeps ``value`` from it.

    Half a unit of the last decimal for the centre and half of that for half the size; never over 0.1 pixel.
    """
    doubt = min(0.75 * 10.0**-decimals * pixels, 0.1)
    return float(round(value)) if abs(value - round(value)) <= doubt else value


def _line(box: Box, label: int, image: Image, scores: bool) -> str:
    x1, y1, x2, y2 = box.xyxy
    width, height = image.width, image.height
    values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    score = [f"{box.score:g}"] if scores and box.score is not None else []
    return " ".join([str(label), *(f"{value:.{DECIMALS}f}" for value in values), *score]) + "\n"
