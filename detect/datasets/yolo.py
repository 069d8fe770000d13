"""YOLO text files, one per image, in the layouts of Ultralytics, Darknet, CVAT, Label Studio, Roboflow and labelImg.

A row holds a class number, then the centre and the size of a box as fractions of the image.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ..errors import DataError
from ..fileio import copy, new_folder, read_errors, read_yaml, write_text
from ..images import SUFFIXES
from ..structures import Box, Dataset, Finding, Image, Xyxy
from .paths import (
    NamedImages,
    files_below,
    is_inside,
    is_there,
    outside_data_error,
    pair,
    roots_around,
    unique_names,
    walk,
    without_derived,
)
from .reading import (
    DEFAULTS,
    PARTS,
    Converted,
    Entry,
    Reading,
    ReadOptions,
    clean_name,
    clip_rounded,
    counted,
    enclosing,
    first_few,
    in_no_part,
    number,
    part_of,
    read_label_text,
    score_of,
    sentence,
    sized,
    without_labels,
)

DECIMALS = 10  # whole pixels come back exactly from images of any size
_MOST_BYTES = 10_000_000  # some 200,000 objects
_MOST_LIST_BYTES = 100_000_000  # a million paths
_NAME_LISTS = ("classes.txt", "obj.names", "labels.txt", "class_names.txt", "classes.names", "predefined_classes.txt")
_YAML_NAMES = ("data", "dataset")  # stems of YAML files that belong to a data set whatever is in them
_YAML_SUFFIXES = (".yaml", ".yml")
_OBJECT = re.compile(r"\s*[0-9]+(?:\.0*)?(?:\s+[-+0-9.eEnaif]+){4,}\s*")


def read(path: Path) -> Dataset:
    """The data set of a folder with a file of class names, or of a data.yaml, categories in the order of its names.

    Raises:
        DataError: anything in it can't be read.
    """
    return scan([path]).dataset()


def scan(sources: Sequence[Path], options: ReadOptions = DEFAULTS) -> Reading:
    """Read images and their text files, in the same folder or in folders that differ in ``images`` and ``labels``.

    Class names come from ``data.yaml`` (or another YAML with ``names``), ``obj.data`` or ``obj.names``, ``classes.txt``
    or ``notes.json``, else from the options. Where one of the first two names parts, folders or lists of images, the
    images are exactly these; else folders called train, val and so on divide them. An image without a text file has no
    objects, as this format means it; a text file without an image is an error.

    Raises:
        DataError: a source does not exist, has no class names, or names folders that don't exist.
    """
    entries: list[Entry] = []
    findings: list[Finding] = []
    categories: dict[str, None] = {}
    for about in _described(sources, options):
        categories |= dict.fromkeys(about.names)
        findings += _other_names(about)
        _scan_root(about, options, entries, findings)
    return Reading(tuple(entries), tuple(categories), tuple(findings))


def write(parts: Mapping[str, Dataset], out: Path, *, scores: bool = False) -> dict[str, Path]:
    """Write ``out/labels/<part>/*.txt`` and data.yaml, and copy the images to ``out/images/<part>``.

    Flags for difficult and crowd objects are lost: the format has no place for them.

    Args:
        parts: data sets by name.
        out: folder to write to.
        scores: give the score of a pre-annotation in a sixth column, which many tools refuse; without it, it is lost.

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


def looks_like_yolo(folder: Path) -> bool:
    """Whether a folder has a YAML with class names, Darknet's obj.data, or text files with YOLO's rows below it."""
    file = _names_file(folder)
    if file is not None and file.suffix.lower() in (*_YAML_SUFFIXES, ".data"):
        return True
    texts = walk([folder], [".txt"], anywhere=True)
    in_labels = any(path.parent.name.lower() == "labels" for path in texts)
    return (file is not None and in_labels) or any(map(is_label_text, texts))


def is_names_list(path: Path) -> bool:
    """Whether a file is called like one of class names, ``classes.txt`` say."""
    return path.name.lower() in (*_NAME_LISTS, "notes.json")


def has_names(folder: Path) -> bool:
    """Whether a folder has class names, or several of the folders in it have."""
    return _names_file(folder) is not None or bool(_names_files_below(folder))


def is_label_text(path: Path) -> bool:
    """Whether a text file holds objects: its first row is a class number and four or more numbers."""
    try:
        with path.open("rb") as file:
            start = file.read(2000) if path.is_file() else b""
    except OSError:
        return False
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    return _OBJECT.fullmatch(text.partition("\n")[0]) is not None


@dataclass(slots=True)
class Description:
    """Class names and parts of one data set.

    Attributes:
        file: where the names stand; the folder itself where they come from the options.
        names: by class number.
        root: folder that the images lie below, and that paths start from.
        more: further folders of images or text files.
        parts: name -> folders and lists of images, as the file has them; empty where it names none.
        keypoints: numbers per row that belong to keypoints, None where nothing says.
        expected: number of classes, None where nothing says.
    """

    file: Path
    names: list[str]
    root: Path
    more: list[Path] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)
    keypoints: int | None = None
    expected: int | None = None


def _described(sources: Sequence[Path], options: ReadOptions) -> list[Description]:
    """One description per source that has class names; sources without, of images alone say, go with the first."""
    found: dict[str, Description] = {}
    bare: list[Path] = []
    for source in sources:
        if not source.exists():
            raise DataError("no such file or folder", where=source, fix="check the path")
        file = source if source.is_file() else _names_file(source)
        root = source.parent if source.is_file() else source
        if file is None:
            bare.append(source)
        elif (same := found.get(os.path.realpath(file))) is not None:  # data.yaml and its folder, say
            same.more.append(root)
        else:
            found[os.path.realpath(file)] = _description(file, root)
    if not found:
        if not options.categories:
            raise _nameless(bare)
        found[""] = Description(bare[0], list(options.categories), bare.pop(0))
    descriptions = list(found.values())
    descriptions[0].more += bare
    return descriptions


def _nameless(folders: Sequence[Path]) -> DataError:
    """The refusal of folders without one file of class names for all below each."""
    inner = [file for folder in folders for file in _names_files_below(folder)]
    if len(inner) > 1:
        some = first_few(inner)
        fix = "name the folder of each of them instead, so that each is read with its own"
        return DataError(f"{len(inner)} folders in it have class names ({some})", where=folders[0], fix=fix)
    fix = "write data.yaml with a list `names:`, or classes.txt with a class per line, or give --classes"
    found_none = "no data.yaml with class names in it, nor classes.txt or obj.names"
    return DataError(found_none, where=", ".join(map(str, folders)), fix=fix)


def _names_file(folder: Path) -> Path | None:
    """The file with class names of a folder: in it or in its ``labels``, or the one that a folder right in it has."""
    own = next(_names_files_in(folder), None)
    if own is not None:
        return own
    found = _names_files_below(folder)
    return found[0] if len(found) == 1 else None


def _names_files_below(folder: Path) -> list[Path]:
    """The file with class names of each folder right in a folder that has one."""
    inner = (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))
    return [path for place in inner if (path := next(_names_files_in(place), None)) is not None]


def _names_files_in(folder: Path) -> Iterator[Path]:
    """Files with class names in a folder or in its ``labels``, the one that counts first."""
    listing = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    yamls = [path for path in listing if path.suffix.lower() in _YAML_SUFFIXES]
    yamls.sort(key=lambda path: (path.stem.lower() not in _YAML_NAMES, path.stem != "data", path.name))
    for path in yamls:
        # Any other YAML may be here too, a training configuration for example.
        if path.stem.lower() in _YAML_NAMES or _has_names(path):
            yield path
    yield from (path for path in listing if path.suffix.lower() == ".data")
    yield from _name_lists(folder)
    yield from (path for path in listing if path.name.lower() == "notes.json")


def _name_lists(folder: Path) -> list[Path]:
    """``classes.txt`` and its like in a folder, then in its ``labels``."""
    inner = [path for path in folder.iterdir() if path.is_dir() and path.name.lower() == "labels"]
    found = []
    for place in (folder, *inner):
        by_name = {path.name.lower(): path for path in sorted(place.iterdir(), reverse=True) if path.is_file()}
        found += [by_name[name] for name in _NAME_LISTS if name in by_name]
        found += [path for name, path in sorted(by_name.items()) if name.endswith(".names")]
    return [path for path in found if not is_label_text(path)]


def _other_names(about: Description) -> list[Finding]:
    """Warnings about files that give a class number of the data set another name."""
    findings = []
    if about.expected is not None and about.expected != len(about.names):
        named = counted(len(about.names), "class is", "classes are")
        message = f"it says {about.expected} classes, but {named} named; check that none is missing"
        findings.append(Finding("class names differ", "warning", about.file, message))
    files = _names_files_in(about.root) if about.file.is_file() else iter(())
    for file in files:
        # labelImg comes with a list of everyday objects, which says nothing of this data set.
        if file.name == "predefined_classes.txt" or os.path.realpath(file) == os.path.realpath(about.file):
            continue
        try:
            names = _description(file, about.root).names
        except DataError:
            continue
        for i, (name, other) in enumerate(zip(about.names, names)):
            if name != other:
                message = f"class {i} is {name!r} here and {other!r} in {file}; this file is used, check it"
                findings.append(Finding("class names differ", "warning", about.file, message, (file,)))
                break
    return findings


def _has_names(path: Path) -> bool:
    try:
        content = read_yaml(path, as_written=True)
    except (OSError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and "names" in content


def _description(file: Path, root: Path) -> Description:
    suffix = file.suffix.lower()
    if suffix == ".data":
        return _darknet(file, root)
    if suffix == ".json":
        return Description(file, _checked(_studio_names(file), file), root)
    if suffix not in _YAML_SUFFIXES:
        return Description(file, _checked(_lines(file), file), root)
    try:
        with read_errors(file, "the YAML", fix="correct it"):
            content = read_yaml(file, as_written=True)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"the YAML can't be read ({reason})", where=file, fix="correct it") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise DataError("it has no list of class names", where=file, fix="write the classes under `names:`")
    names = content.get("names")
    if isinstance(names, dict):
        if set(names) != {str(i) for i in range(len(names))}:
            raise DataError("the numbers of its names are not 0, 1, 2, ...", where=file, fix="number them without gaps")
        names = [names[str(i)] for i in range(len(names))]
    if isinstance(names, str) and names and is_there(file.parent / names):
        names = _lines(file.parent / names)
    if names is None and (lists := _name_lists(file.parent)):
        names = _lines(lists[0])
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError("it has no list of class names", where=file, fix="write the classes under `names:`")
    found = Description(file, _checked(names, file), _root(content, file))
    parts = {key: _texts(content[key], key, file) for key in content if _is_part(key, content[key], found.root)}
    found.parts = {key: values for key, values in parts.items() if values}
    found.keypoints = _keypoints(content.get("kpt_shape"), file)
    found.expected = _count(content.get("nc"))
    return found


def _is_part(key: str, value: Any, root: Path) -> bool:
    """Whether a key of data.yaml names a part: by its own name, or by folders or lists of images that are its value."""
    values = value if isinstance(value, list) else [value]
    return key.lower() in PARTS or (
        key not in ("path", "names") and bool(values) and all(_names_images(each, root) for each in values)
    )


def _names_images(value: Any, root: Path) -> bool:
    """Whether a value is a folder or a list of images below the root."""
    path = root / value if isinstance(value, str) and value.strip() else root
    if not is_inside(path, [os.path.realpath(root)]) or os.path.realpath(path) == os.path.realpath(root):
        return False
    if path.is_dir():
        return any(name.lower().endswith(SUFFIXES) for _, name in files_below(path))
    if path.suffix.lower() != ".txt" or not is_there(path) or path.name.lower() in _NAME_LISTS:
        return False
    return any(line.lower().endswith(SUFFIXES) for line in _lines(path)[:1])


def _root(content: Mapping[str, Any], file: Path) -> Path:
    """The folder that ``path`` names, where it exists; else the file's own, as where a data set has been moved."""
    base = content.get("path")
    root = file.parent / str(base) if base else file.parent
    if not os.path.isdir(root):  # noqa: PTH112  # of any name, however long
        return file.parent
    if not is_inside(root, roots_around(file.parent)):
        raise outside_data_error(f"its path {base!r}", file)
    return root


def _texts(value: Any, key: str, file: Path) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise DataError(f"{key} is neither a path nor a list of paths", where=file, fix=f"write {key}: images/{key}")
    return [each for each in values if each.strip() not in ("", "~", "null", "None")]


def _keypoints(shape: Any, file: Path) -> int | None:
    if shape is None:
        return None
    try:
        points, dimensions = (int(value) for value in (shape if isinstance(shape, list) else ()))
    except (TypeError, ValueError):
        raise DataError("kpt_shape is no pair of numbers", where=file, fix="write kpt_shape: [17, 3]") from None
    return points * dimensions


def _darknet(file: Path, root: Path) -> Description:
    """``obj.data``: rows of ``train = data/train.txt``, ``names = data/obj.names``; paths start anywhere."""
    values = {}
    for line in _lines(file):
        key, equals, value = line.partition("=")
        if equals:
            values[key.strip().lower()] = value.strip()
    name = Path(values.get("names", "obj.names").replace("\\", "/")).name
    names = next((path for path in walk([root], [".names", ".txt"]) if path.name == name), None)
    if names is None:
        raise DataError(f"its file of class names, {name}, is not there", where=file, fix="put it next to this file")
    parts = {key: [value] for key, value in values.items() if key in PARTS and value}
    found = Description(file, _checked(_lines(names), names), root, parts=parts)
    found.expected = _count(values.get("classes"))
    return found


def _count(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() else None


def _studio_names(file: Path) -> list[str]:
    """Of Label Studio's notes.json, by id."""
    try:
        content = json.loads(read_label_text(file, _MOST_BYTES))
        categories = sorted(content["categories"], key=lambda item: int(item["id"]))
        return [str(item["name"]) for item in categories]
    except (ValueError, KeyError, TypeError, RecursionError):
        fix = "write classes.txt with a class per line"
        raise DataError("it has no list of categories, as Label Studio writes it", where=file, fix=fix) from None


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_label_text(file, _MOST_LIST_BYTES).splitlines() if line.strip()]


def _checked(names: Sequence[str], file: Path) -> list[str]:
    clean = [clean_name(name) for name in names]
    if not clean:
        raise DataError("it names no class", where=file, fix="write a class per line")
    if "" in clean or len(set(clean)) < len(clean):
        raise DataError("a class name is empty or stands there twice", where=file, fix="give each class its own name")
    return clean


def _scan_root(about: Description, options: ReadOptions, entries: list[Entry], findings: list[Finding]) -> None:
    places = {part: [_place(value, part, about, findings) for value in values] for part, values in about.parts.items()}
    roots = [about.root, *about.more, *_roots_outside(about, places)]
    images, left_out = without_derived(walk(roots, SUFFIXES), roots)
    if not images:
        fix = f"name the folder of the images, too, or put them into images/ next to {about.file.name}"
        raise DataError("no image below it", where=about.root, fix=fix)
    texts = [path for path in walk(roots, [".txt"]) if _may_be_label_file(path)]
    pairs = pair(images, texts, roots, sure=True)
    findings += [*left_out, *pairs.findings]
    if about.parts:
        parts = _parts(about, places, images, findings)
        findings += in_no_part([path for path in images if path not in parts], about.file.name)
    else:
        parts = {path: part_of(path, roots) for path in images}
    for a_copy, other in pairs.copies.items():
        if a_copy in parts and other in pairs.label_of and other not in parts:  # a link in the part's folder, say
            pairs.label_of[a_copy] = pairs.label_of.pop(other)
    settled = {*pairs.label_of, *pairs.images}
    converted = Converted()
    bare: list[Path] = []
    chosen = [path for path in images if path in parts and path in settled]
    for path in chosen:
        label_file = pairs.label_of.get(path)
        image = sized(path, options, findings, *([label_file] if label_file else []))
        if image is None:
            continue
        boxes: tuple[Box, ...] = ()
        if label_file is None:
            bare.append(path)
        else:
            try:
                boxes = _boxes(label_file, image, about, findings, converted)
            except DataError as error:
                findings.append(Finding("unreadable label file", "error", label_file, sentence(error), (path,)))
                continue
        entries.append(Entry(Image(path, image.width, image.height, boxes), label_file or path, parts[path]))
    severity: Literal["error", "warning"] = "warning" if options.allow_empty else "error"
    for label_file in pairs.labels:
        if is_label_text(label_file) or not label_file.stat().st_size:  # and not a text about the data set
            message = "no image belongs to it; add the image or remove the file"
            findings.append(Finding("label file without image", severity, label_file, message))
    findings += [*without_labels(bare, len(chosen)), *converted.findings(about.file)]


def _may_be_label_file(path: Path) -> bool:
    """Whether a text file can be an image's, by what is in it, by its folder, or by its neighbour."""
    if path.name.lower() in _NAME_LISTS and not is_label_text(path):
        return False
    in_labels = path.parent.name.lower() in ("labels", "label") or "labels" in map(str.lower, path.parts)
    return in_labels or is_label_text(path) or any(is_there(path.with_suffix(suffix)) for suffix in SUFFIXES)


def _place(value: str, part: str, about: Description, findings: list[Finding]) -> Path | None:
    """The folder, list or image that a path means: from the root, from the YAML's folder, or by its last parts there.

    ``../train/images`` of Roboflow is ``train/images``, ``data/train.txt`` of Darknet is ``train.txt``, and the
    absolute path of the machine that the data set was made on ends like the one here.
    """
    clean = value.strip().replace("\\", "/")
    parts = [name for name in Path(clean).parts if name not in ("/", ".", "..")]
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    if len(tails) > 1 and parts[-1].lower() == "images":
        tails.pop()  # says nothing of which part it is
    outside = None
    for name in (clean, *tails):
        for base in (about.root, about.file.parent):
            path = Path(os.path.normpath(base / name))
            if not os.path.exists(path):  # noqa: PTH110  # of any name, however long
                continue
            if is_inside(path, roots_around(about.file.parent)):
                return path
            outside = path
    severity = "error" if outside else _severity(part)
    why = (
        sentence(outside_data_error(f"{part}: {value}", about.file))
        if outside
        else f"{part} is {value}, which does not exist"
    )
    fix = "" if outside else "; correct it or remove the line"
    findings.append(Finding("part missing", severity, about.file, f"{why}{fix}"))
    return None


def _severity(part: str) -> Literal["error", "warning"]:
    """Of a part without images: Roboflow names a test part even where it has exported none."""
    return "warning" if part.lower() == "test" else "error"


def _roots_outside(about: Description, places: Mapping[str, Sequence[Path | None]]) -> list[Path]:
    """Folders of images and labels that a data.yaml names outside of its own root."""
    root = os.path.realpath(about.root)
    outside: dict[Path, None] = {}
    for place in (each for named in places.values() for each in named if each is not None):
        folders = [place] if place.is_dir() else []
        if place.suffix.lower() == ".txt":
            folders = list({Path(os.path.normpath(place.parent / line)).parent for line in _lines(place)})
        for folder in folders:
            if is_inside(folder, [root]) or not folder.is_dir() or not is_inside(folder, roots_around(about.root)):
                continue
            names = [name.lower() for name in folder.parts]
            position = len(names) - 1 - names[::-1].index("images") if "images" in names else len(names)
            outside[Path(*folder.parts[:position])] = None
    return list(outside)


def _parts(
    about: Description, places: Mapping[str, Sequence[Path | None]], images: Sequence[Path], findings: list[Finding]
) -> dict[Path, str]:
    """Image -> the first part that names it."""
    find = NamedImages(images)
    known = {_absolute(path): path for path in images}
    parts: dict[Path, str] = {}
    twice: list[Path] = []
    for part, named in places.items():
        for place in named:
            found = _images_of(place, part, about, find, known, findings) if place is not None else []
            twice += [path for path in found if parts.setdefault(path, part) != part]
    if twice:
        images_are = counted(len(twice), "image is", "images are")
        some = first_few(path.name for path in twice)
        message = f"{images_are} named by two parts and counted in the first: {some}"
        findings.append(Finding("image in two parts", "warning", about.file, message, twice))
    return parts


def _absolute(path: Path) -> str:
    """Without access to the disk, as there may be a million paths."""
    return os.path.abspath(path)  # noqa: PTH100  # Path.resolve follows every link


def _images_of(
    place: Path,
    part: str,
    about: Description,
    find: NamedImages,
    known: Mapping[str, Path],
    findings: list[Finding],
) -> list[Path]:
    """The images in a folder, or in a list of images, or the one image that data.yaml names."""
    if place.is_dir():
        inside = _absolute(place).rstrip(os.sep) + os.sep
        found = [path for absolute, path in known.items() if absolute.startswith(inside)]
        if not found:
            message = f"{part} is {place}, in which there is no image; correct it or remove the line"
            findings.append(Finding("part missing", _severity(part), about.file, message))
        return found
    if place.suffix.lower() in SUFFIXES:
        image = known.get(_absolute(place))
        return [image] if image is not None else []
    found, missing = [], []
    lines = _lines(place)
    if not lines:
        message = f"{part} is {place.name}, which names no image; correct it or remove the line"
        findings.append(Finding("part missing", _severity(part), about.file, message))
    for line in lines:
        name = line.replace("\\", "/")
        exact = (known.get(_absolute(base / name)) for base in (place.parent, about.root))
        path = next((each for each in exact if each is not None), None) or find(name)
        if path is None:
            missing.append(line)
        else:
            found.append(path)
    if missing:
        some = first_few(missing)
        message = f"{len(missing):,} of its {len(lines):,} images are not there: {some}; add them or remove their lines"
        findings.append(Finding("missing image", "error", place, message))
    return found


def _boxes(
    path: Path, image: Image, about: Description, findings: list[Finding], converted: Converted
) -> tuple[Box, ...]:
    text = read_label_text(path, _MOST_BYTES, converted)
    boxes: list[Box] = []
    for i, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            box, shape = _box(line.split(), image, about)
        except ValueError as error:
            message = f"line {i}: {error}; correct or remove it"
            findings.append(Finding("broken object", "error", path, message, image=image.path))
            continue
        boxes.append(box)
        converted.shapes.update([shape] if shape else [])
        converted.keypoints += len(line.split()) > 6 and not shape
    return tuple(boxes)


def _box(words: list[str], image: Image, about: Description) -> tuple[Box, str]:
    """A row's box, and the shape that it encloses, "" if the row holds a box.

    Five numbers are a box, six a box with its score. Of more, an odd number is a polygon, with four points a rotated
    box; where data.yaml has ``kpt_shape``, or their number is even, keypoints follow the box.
    """
    names = about.names
    numbers = len(words)
    pose = numbers > 6 and (numbers - 5 == about.keypoints or (about.keypoints is None and _is_pose(words)))
    if numbers < 5 or (numbers > 6 and numbers % 2 == 0 and not pose):
        raise ValueError(f"it has {numbers} numbers, not the five of class, centre and size, nor those of a polygon")
    label = number(words[0])
    if label != int(label) or not 0 <= label < len(names):
        raise ValueError(f"class {words[0]} is none of 0 to {len(names) - 1}")
    name = names[int(label)]
    if numbers > 6 and not pose:
        values = [number(word) for word in words[1:]]
        points = [(x * image.width, y * image.height) for x, y in zip(values[0::2], values[1::2])]
        decimals = max(_decimals(word) for word in words[1:])
        x1, y1, x2, y2 = enclosing(points)
        shape = "rotated box" if numbers == 9 else "polygon"
        x1, x2 = (_snapped(value, decimals, image.width) for value in (x1, x2))
        y1, y2 = (_snapped(value, decimals, image.height) for value in (y1, y2))
        return Box(name, clip_rounded((x1, y1, x2, y2), shape, image.width, image.height)), shape
    score = score_of(number(words[5])) if numbers == 6 else None
    if numbers == 6 and score is None:
        raise ValueError(f"its sixth number is {words[5]}, not a score from 0 to 1")
    return Box(name, _xyxy(words[1:5], image), score=score), ""


def _is_pose(words: Sequence[str]) -> bool:
    """Whether x, y and visibility of keypoints follow a box: 0, 1 or 2 as every third number.

    An odd number of words may also be a polygon that touches borders. Then a 2 decides, which is no coordinate, or
    that all visible keypoints are in the box.
    """
    rest = words[5:]
    visible = [word.removesuffix(".0") for word in rest[2::3]]
    if len(rest) % 3 or not set(visible) <= {"0", "1", "2"}:
        return False
    if len(words) % 2 == 0 or "2" in visible:
        return True
    cx, cy, width, height = (number(word) for word in words[1:5])
    return all(
        (abs(number(x) - cx) <= width / 2 and abs(number(y) - cy) <= height / 2) or (seen == "0" and x == y == "0")
        for x, y, seen in zip(rest[0::3], rest[1::3], visible)
    )


def _xyxy(words: Sequence[str], image: Image) -> Xyxy:
    cx, cy, width, height = (number(word) for word in words)
    decimals = max(_decimals(word) for word in words)
    x1, x2 = (_snapped((cx + side * width / 2) * image.width, decimals, image.width) for side in (-1, 1))
    y1, y2 = (_snapped((cy + side * height / 2) * image.height, decimals, image.height) for side in (-1, 1))
    return x1, y1, x2, y2


def _decimals(word: str) -> int:
    return DECIMALS if "e" in word.lower() else len(word.partition(".")[2])


def _snapped(value: float, decimals: int, pixels: int) -> float:
    """The whole pixel, where the file's own rounding is all that keeps ``value`` from it.

    Half a unit of the last decimal for the centre and half of that for half the size; never over 0.1 pixel.
    """
    rounding = min(0.75 * 10.0**-decimals * pixels, 0.1)
    return float(round(value)) if abs(value - round(value)) <= rounding else value


def _line(box: Box, label: int, image: Image, scores: bool) -> str:
    x1, y1, x2, y2 = box.xyxy
    width, height = image.width, image.height
    values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    score = [f"{box.score:g}"] if scores and box.score is not None else []
    return " ".join([str(label), *(f"{value:.{DECIMALS}f}" for value in values), *score]) + "\n"
