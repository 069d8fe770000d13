"""Which files belong to a data set: found below folders, kept inside the data root, paired by name or by label."""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import parse_qs, unquote, urlsplit

from ..errors import DataError
from ..images import SUFFIXES
from ..structures import Finding
from .reading import IN_NO_PART, counted, first_few

VARIABLE = "DETECT_DATA_ROOTS"  # environment variable: further trusted folders

_TRUST = f"copy it there, or name its folder in the environment variable {VARIABLE} if you trust who wrote this"
_MAX_REMEMBERED = 20  # folders of one data set; if there are more, their parents are remembered


def roots_around(folder: Path) -> list[str]:
    """Where labels in a folder may lead: the folder above it, the working directory, and what the variable names.

    The folder above, because of layouts such as ``annotations/train.json`` and ``images/``; the working directory;
    neither if it is the root of the file system. And the folders that ``remember`` has stored, as ``detect convert``
    leaves images where they are.
    """
    here = folder.resolve()
    near = [each for each in (here.parent, Path.cwd()) if each != Path(each.anchor)]
    return _real([here, *near, *_trusted()])


def roots_of(sources: Iterable[Path]) -> list[str]:
    """Where links below folders given on the command line may lead: these folders, and what the variable names."""
    return _real([*sources, *_trusted()])


def remember(images: Iterable[Path], label_folder: Path) -> None:
    """Trust from now on the folders of images that this user had labels written for, wherever these are read.

    Stored in the user's own state folder, which no data set can write to. If it is not writable, reading labels of
    images elsewhere fails with a message that says what to do.

    Args:
        images: files that were read.
        label_folder: folders that its labels may name anyway are not stored.
    """
    known = _real([label_folder.resolve().parent, *_trusted()])
    folders = _outermost({os.path.realpath(image.parent) for image in images})
    while len(folders) > _MAX_REMEMBERED:
        folders = _outermost({str(Path(folder).parent) for folder in folders})
    new = [each for each in folders if not is_inside(each, known) and each != Path(each).anchor]
    file = _memory()
    if not new or file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8", errors="surrogateescape") as lines:
            lines.write("".join(f"{folder}\n" for folder in new if "\n" not in folder))
    except OSError:
        pass


def is_inside(path: str | os.PathLike[str], roots: Sequence[str]) -> bool:
    """Whether a path, all its links followed, is one of the roots or below one."""
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError):  # a name that no file can have
        return False
    return any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def image_next_to(folder: Path, file_name: str) -> Path:
    """The image that labels in a folder name.

    Raises:
        DataError: the name is outside the data root.
    """
    path = folder / file_name
    if not is_inside(path, roots_around(folder)):
        raise outside_data_error(f"the name {file_name!r}", folder)
    return path


def outside_data_error(what: str, where: Path) -> DataError:
    """The refusal of ``what``, named in ``where``."""
    return DataError(f"{what} is outside the data", where=where, fix=_TRUST)


def _trusted() -> list[Path]:
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    try:
        file = _memory()
        if file is not None:
            named += file.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:  # nothing was remembered yet
        pass
    return [Path(each) for each in named if each]


def _memory() -> Path | None:
    """The file of remembered folders; None for a user without a home."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(state) / "detect" / "data_roots.txt"


def _outermost(folders: set[str]) -> list[str]:
    """Those that are not inside another."""
    return sorted(each for each in folders if not any(str(above) in folders for above in Path(each).parents))


def _real(folders: Iterable[Path]) -> list[str]:
    return [os.path.realpath(folder) for folder in folders]


DRAWING_SUFFIX = ".detections.png"  # of the pictures that detect infer --draw writes


_DIGITS = re.compile(r"(\d+)")


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``a_2`` comes before ``a_10``."""
    pieces = _DIGITS.split(text)
    # isdecimal, not isdigit: "²" is a digit that int() refuses.
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in pieces if p)


def stem(path: Path) -> str:
    """The name without its suffix, in one Unicode form: macOS stores "ü" as two characters, others as one."""
    return unicodedata.normalize("NFC", path.stem)


def walk(roots: Sequence[Path], suffixes: Iterable[str], *, anywhere: bool = False) -> list[Path]:
    """All files with one of ``suffixes`` (lower case, any case matches) at or below ``roots``, each once.

    Hidden files and folders (a leading dot) are skipped; links are followed, loops are detected.

    Args:
        roots: folders or files.
        suffixes: of the files.
        anywhere: also follow links to places outside the roots.

    Raises:
        DataError: a root does not exist, or a link is outside all of them.
    """
    wanted = tuple(suffixes)
    inside = None if anywhere else roots_of(roots)
    found: dict[str, Path] = {}
    for root in roots:
        for real, path in files_below(root, inside):
            if path.lower().endswith(wanted):
                found.setdefault(real, Path(path))
    return sorted(found.values(), key=lambda path: (natural_key(stem(path)), natural_key(str(path))))


def files_below(root: Path, inside: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Each file at or below ``root``: its place with all folders' links followed, and its path from ``root``.

    Args:
        root: folder or file.
        inside: where links may lead, as ``roots_of`` gives it; None: anywhere.

    Raises:
        DataError: ``root`` does not exist, or a link points elsewhere.
    """
    if not root.exists():
        raise DataError("no such file or folder", where=root, fix="check the path")
    if root.is_file():
        yield f"{os.path.realpath(root.parent)}{os.sep}{root.name}", str(root)
        return
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = [name for name in sorted(files) if not name.startswith(".")]
        if inside is not None:
            _check_links(folder, [*folders, *shown], inside)
        for name in shown:
            yield f"{real}{os.sep}{name}", f"{folder}{os.sep}{name}"


def _check_links(folder: str, names: Sequence[str], inside: Sequence[str]) -> None:
    for path in (f"{folder}{os.sep}{name}" for name in names):  # a million of them, maybe, so no Path of each
        if os.path.islink(path) and not is_inside(path, inside):  # noqa: PTH114
            raise outside_data_error(f"the link to {os.path.realpath(path)}", Path(path))


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A file name for each image, unique also without its suffix; equal names get their folders as a prefix."""
    # Case is folded because macOS and Windows keep "A.png" and "a.png" in one file.
    stems = Counter(stem(path).casefold() for path in paths)
    taken = {stem(path).casefold() for path in paths if stems[stem(path).casefold()] == 1}
    names: list[str] = []
    for path in paths:
        if stems[stem(path).casefold()] == 1:
            names.append(path.name)
            continue
        parts = [part for part in path.parent.parts if part.strip("/\\:.")]
        candidates = ["_".join([*parts[start:], path.stem]) for start in range(len(parts) - 1, -1, -1)]
        free = (c for c in chain(candidates, _numbered(path.stem)) if c.casefold() not in taken)
        chosen = next(free)
        taken.add(chosen.casefold())
        names.append(chosen + path.suffix)
    return names


def references(paths: Sequence[Path], root: Path) -> list[str]:
    """File names relative to ``root`` with forward slashes; absolute where there is no relative path."""
    # The folder's links are followed, the image's own are not: a link may carry the name that labels go by.
    prefixes = {folder: relative(folder, root) for folder in {path.parent for path in paths}}
    return [(prefixes[path.parent] / path.name).as_posix() for path in paths]


def relative(folder: Path, root: Path) -> Path:
    """The path from ``root`` to a folder, links followed; the folder itself where there is no relative path."""
    real = folder.resolve()
    try:
        return Path(os.path.relpath(real, root.resolve()))
    except ValueError:  # on another drive of Windows
        return real


def _numbered(name: str) -> Iterator[str]:
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


# Folders that hold one kind of file of a data set, and so say nothing of which image belongs to which label.
_CONTAINERS = re.compile(
    r"(images?|imgs?|pics?|pictures?|photos?|jpe?gimages|jpe?gs?|pngs?|bmps?|frames"
    r"|labels?|annotations?|anns?|annots?|xmls?|txts?|jsons?|voc|yolo|obj_train_data)(_\w*)?",
    re.IGNORECASE,
)
# Folders of pictures that a tool has made of the images: masks, and drawings of labels.
_DERIVED = re.compile(r"segmentation\w*|\w*visuali[sz]ations?|vis|masks?|overlays?|previews?", re.IGNORECASE)


@dataclass(slots=True)
class FilePairs:
    """Images and label files that belong together, and those without a partner.

    Attributes:
        label_of: image -> its label file.
        images, labels: without a partner, in natural order.
        copies: file -> the equal one that is used in its place.
        findings: ambiguous names (errors), copies (warnings) and pictures left out (notes).
    """

    label_of: dict[Path, Path] = field(default_factory=dict)
    images: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)
    copies: dict[Path, Path] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def without_derived(images: Sequence[Path], roots: Sequence[Path]) -> tuple[list[Path], list[Finding]]:
    """Images without drawings of detections and masks, and a note about these.

    A picture in a folder called SegmentationClass or the like is left out if an image elsewhere has its name.
    """
    depth = [len(root.parts) for root in roots]
    inner = {path: path.parent.parts[_depth(path, roots, depth) :] for path in images}
    derived = {path for path, folders in inner.items() if any(_DERIVED.fullmatch(name) for name in folders)}
    others = {stem(path) for path in images if path not in derived}
    masks = [path for path in images if path in derived and stem(path) in others]
    drawings = [path for path in images if path.name.endswith(DRAWING_SUFFIX)]
    findings = []
    if masks:
        folders = ", ".join(dict.fromkeys(path.parent.name for path in masks))
        message = f"{_pictures(masks)} in {folders}, named like images, left out as masks or visualisations"
        findings.append(Finding("picture left out", "note", masks[0].parent, message))
    if drawings:
        message = f"{_pictures(drawings)} named *{DRAWING_SUFFIX} left out, drawn by detect infer"
        findings.append(Finding("picture left out", "note", drawings[0], message))
    out = {*masks, *drawings}
    return [path for path in images if path not in out], findings


def pair(images: Sequence[Path], labels: Sequence[Path], roots: Sequence[Path], *, sure: bool = False) -> FilePairs:
    """Pair files by their names without suffix, in any folders; several files of one name by their folders.

    The same folder comes first (``test/1.png`` and ``test/1.txt``), then folders below one root that differ only in
    what kind of file they hold (``test/images/1.png`` and ``test/labels/1.txt``), then such folders below two roots.
    Of files that are equal byte by byte, one is used. What is left is paired by name alone if capitals or a doubled
    suffix (``1.PNG`` and ``1.png.txt``) are all that differs. An image that two different label files fit is an error.

    Args:
        images, labels: in natural order.
        roots: the folders that both are below.
        sure: the folders decide even where an image of the same name has no label.
    """
    groups: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for path in images:
        groups[stem(path)][0].append(path)
    for path in labels:
        groups[stem(path)][1].append(path)
    pairs = FilePairs()
    folders = _Folders(roots)
    for name, (same_images, same_labels) in groups.items():
        if len(same_images) <= 1 and len(same_labels) <= 1:
            _settle(pairs, same_images, same_labels)
        else:
            _by_folder(pairs, name, same_images, same_labels, folders, sure=sure)
    for loosely in (lambda path: path.name.casefold(), lambda path: stem(path).casefold()):
        _by_loose_name(pairs, loosely)
    return pairs


class _Folders:
    """What the folders of a file say about which other file it belongs to."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._depths = [len(root.parts) for root in roots]
        self._known: dict[Path, tuple[int, tuple[str, ...]]] = {}

    def kind(self, path: Path) -> tuple[str, ...]:
        """Folders below the root, without those that say only what kind of file they hold."""
        return self.root_and_kind(path)[1]

    def root_and_kind(self, path: Path) -> tuple[int, tuple[str, ...]]:
        """The deepest root that holds a file, by its position, and the kind."""
        folder = path.parent
        if folder not in self._known:
            depth = _depth(path, self._roots, self._depths)
            root = next((i for i, root in enumerate(self._roots) if root.parts == path.parts[:depth]), -1)
            names = (name.casefold() for name in folder.parts[depth:] if not _CONTAINERS.fullmatch(name))
            self._known[folder] = root, tuple(names)
        return self._known[folder]


def _settle(pairs: FilePairs, images: Sequence[Path], labels: Sequence[Path]) -> None:
    if images and labels:
        pairs.label_of[images[0]] = labels[0]
    else:
        pairs.images += images
        pairs.labels += labels


def _by_folder(
    pairs: FilePairs, name: str, images: list[Path], labels: list[Path], folders: _Folders, *, sure: bool
) -> None:
    """Settle a group of files of one name of which there are several of a kind."""
    matched = _unique_pairs(images, labels, lambda path: path.parent)
    in_one_folder = set(matched)
    for key in (folders.root_and_kind, folders.kind):
        if len(matched) == min(len(images), len(labels)):
            break
        left_images = [path for path in images if path not in matched]
        left_labels = _without(labels, matched.values())
        matched |= _unique_pairs(left_images, left_labels, key)
    left_images = _without_copies(pairs, "image", [path for path in images if path not in matched], [*matched])
    left_labels = _without_copies(pairs, "label file", _without(labels, matched.values()), [*matched.values()])

    twice = _with_two_labels(matched, left_labels, folders, only=len(images) == 1)
    for image, label in twice.items():
        first_label = matched.pop(image)
        message = f"{image.name} has another label file, {first_label}, which says something else; keep one"
        pairs.findings.append(Finding("two label files", "error", label, message, (image,)))
    left_labels = _without(left_labels, twice.values())

    # Without a label of its own, an image may be the one that a label in a folder of another name belongs to.
    uncertain = [path for path in matched if path not in in_one_folder]
    if left_images and not sure and uncertain:
        left_images = [*uncertain, *left_images]
        left_labels = [*(matched.pop(path) for path in uncertain), *left_labels]
    pairs.label_of |= matched
    by_name_alone = len(left_images) == len(left_labels) == 1 and not matched
    if by_name_alone or not left_images or not left_labels:
        _settle(pairs, left_images, left_labels)
        return
    what, several = ("images", left_images) if len(left_images) > 1 else ("label files", left_labels)
    message = f"{len(several)} different {what} are named {name}, so it is open which belongs to what; rename"
    if len(several) == 1:
        message = f"other files are named {name}, too, and no label file is in a folder that fits; rename or move it"
    first, *others = left_images + left_labels
    pairs.findings.append(Finding("same name twice", "error", first, message, others))


def _unique_pairs(images: Sequence[Path], labels: Sequence[Path], key: Callable[[Path], Hashable]) -> dict[Path, Path]:
    """Image -> label file, where just one of each has a key."""
    places: dict[Hashable, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for path in images:
        places[key(path)][0].append(path)
    for path in labels:
        places[key(path)][1].append(path)
    return {one[0]: other[0] for one, other in places.values() if len(one) == len(other) == 1}


def _without(paths: Sequence[Path], others: Iterable[Path]) -> list[Path]:
    out = set(others)
    return [path for path in paths if path not in out]


def _without_copies(pairs: FilePairs, what: str, left: list[Path], known: Sequence[Path]) -> list[Path]:
    """Files that equal none of those in use, and a warning about the others."""
    if not left:
        return left
    used = known or left[:1]
    copies: dict[Path, Path] = {}
    for path in left:
        equal = next((one for one in used if path != one and filecmp.cmp(path, one, shallow=False)), None)
        if equal is not None:
            copies[path] = equal
    if not known and len(copies) < len(left) - 1:
        return left
    if copies:
        pairs.copies |= copies
        message = f"the same {what} is in {len(copies) + 1} places; this one is used, remove the others"
        pairs.findings.append(Finding("copy of a file", "warning", used[0], message, [*copies]))
    return _without(left, copies)


def _with_two_labels(
    matched: Mapping[Path, Path], labels: Sequence[Path], folders: _Folders, *, only: bool
) -> dict[Path, Path]:
    """Image -> a second label file: one in matching folders, or any if there is only one image of this name."""
    by_kind = {folders.kind(image): image for image in matched}
    anywhere = next(iter(matched), None) if only else None
    found = {by_kind.get(folders.kind(label), anywhere): label for label in labels}
    return {image: label for image, label in found.items() if image is not None}


def _by_loose_name(pairs: FilePairs, loosely: Callable[[Path], str]) -> None:
    """``a.JPG`` and ``A.txt``, or ``a.jpg`` and ``a.jpg.txt``, where just one image and one label file are so."""
    by_key: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for path in pairs.images:
        by_key[loosely(path)][0].append(path)
    for path in pairs.labels:
        by_key[stem(path).casefold()][1].append(path)
    found = {images[0]: labels[0] for images, labels in by_key.values() if len(images) == len(labels) == 1}
    taken = {*found, *found.values()}
    pairs.label_of |= found
    pairs.images = [path for path in pairs.images if path not in taken]
    pairs.labels = [path for path in pairs.labels if path not in taken]


class NamedImages:
    """Finds the images that a list names: by the last part of each name, and as many folders before it as agree.

    So ``data/obj_train_data/1.png``, ``C:\\\\pictures\\\\1.png`` and ``./images/1.png`` all mean the one image called
    ``1.png``; where several are, those whose path ends most like the name.

    Args:
        images: all there are.
        suffixes: whether names have one; those in VOC's ImageSets have none, or that of an image or of its XML file.
    """

    def __init__(self, images: Iterable[Path], *, suffixes: bool = True) -> None:
        self._key = nfc_name if suffixes else stem
        self._suffixes = suffixes
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in images:
            self._by_name[self._key(path).casefold()].append(path)

    def __call__(self, name: str) -> Path | None:
        """The image; None if there is none, or several fit equally well."""
        parts = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/"))).parts
        found = self._by_name.get(parts[-1].casefold(), []) if parts else []
        if parts and not found and not self._suffixes and parts[-1].lower().endswith((*SUFFIXES, ".xml")):
            found = self._by_name.get(PurePosixPath(parts[-1]).stem.casefold(), [])
        if len(found) < 2:
            return found[0] if found else None
        agreement = [self._agreement(path, parts) for path in found]
        best = max(agreement)
        return found[agreement.index(best)] if agreement.count(best) == 1 else None

    def _agreement(self, path: Path, parts: Sequence[str]) -> tuple[int, bool]:
        own = [unicodedata.normalize("NFC", part) for part in path.parts]
        same = 0
        for one, other in zip(reversed(own[:-1]), reversed(parts[:-1])):
            if one != other:
                break
            same += 1
        return same, self._key(path) == parts[-1]


def nfc_name(path: Path) -> str:
    """The file name in one Unicode form, as ``stem`` has it."""
    return unicodedata.normalize("NFC", path.name)


def _pictures(paths: Sequence[Path]) -> str:
    return counted(len(paths), "picture", "pictures")


def _depth(path: Path, roots: Sequence[Path], depths: Sequence[int]) -> int:
    """How many parts of a path belong to the deepest root that holds it."""
    return max((n for root, n in zip(roots, depths) if path.is_relative_to(root)), default=0)


# What Label Studio puts before the name of a file that was uploaded to it.
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # two letters or more: "C:" is a Windows drive


OUTSIDE = "image outside the data"  # the kind of a finding


class UnusableNameError(DataError):
    """A name in a label file that is no image's; ``kind`` is that of the finding to make of it."""

    def __init__(self, kind: str, found: str, fix: str | None) -> None:
        super().__init__(found, fix=fix)
        self.kind = kind


class ImageFinder:
    """Finds the images of one label file.

    A name is tried as it is written: in the folders given, in the root that the file declares, and in the folders
    that tools use around it. A place that held an image is tried first for the next. Then the last part of the name is
    tried alone, as Label Studio writes ``/data/upload/1/0a1b2c3d-plate.jpg`` for ``images/0a1b2c3d-plate.jpg``, and
    finally that part without the prefix of an upload. Paths outside the data root and the folders given are not tried.

    Attributes:
        loosely: name in the file -> image that was found by the last part of it.
    """

    def __init__(
        self, label_file: Path, folders: Sequence[Path] = (), *, root: str | None = None, more: Sequence[str] = ()
    ) -> None:
        here = label_file.parent.resolve()
        subset = label_file.stem.rpartition("_")[2]  # COCO's annotations/instances_train2017.json, CVAT's ..._default
        near = [here, here / "images", here / "data", here.parent, here.parent / "images", here.parent / subset]
        declared = [here / root] if root else []
        self.folders = [folder.resolve() for folder in folders]
        self.places = [*self.folders, *declared, *near, here.parent / "images" / subset]
        self.places += [here / folder for folder in more]
        self._here = here
        self.loosely: dict[str, Path] = {}
        self.roots = [*roots_around(here), *(os.path.realpath(folder) for folder in folders)]
        self._below: dict[str, list[Path]] | None = None
        self._known: dict[Path, bool] = {}

    def __call__(self, file_name: str, *, first: str = "") -> Path:
        """The image; where there is none, the path at which it was looked for first.

        Args:
            file_name: as the label file has it.
            first: folder to try before all others, from the label file's own.

        Raises:
            UnusableNameError: several files could be meant, or the name is outside the data root.
            DataError: a link in a folder that was given is outside all of them.
        """
        plain = file_name.replace("\\", "/")
        names = [file_name, plain, *(unicodedata.normalize(form, plain) for form in ("NFC", "NFD"))]
        for name in dict.fromkeys(names):
            found = (self._image_at(self._here / first / name) if first else None) or self._at(name)
            if found is not None:
                return found
        last = last_part(file_name)
        for name in dict.fromkeys([last, _UPLOADED.sub("", last, count=1)]):
            found = self._at(name) or self._anywhere(name)
            if found is not None:
                self.loosely[file_name] = found
                return found
        missing = Path(os.path.normpath(self.places[0] / file_name))
        if not is_inside(missing, self.roots):
            error = outside_data_error(f"file_name {file_name!r}", missing)
            raise UnusableNameError(OUTSIDE, error.found, error.fix)
        return missing

    def _at(self, name: str) -> Path | None:
        for position, place in enumerate(self.places):
            path = self._image_at(place / name)
            if path is not None:
                self.places.insert(0, self.places.pop(position))
                return path
        return None

    def _image_at(self, path: Path) -> Path | None:
        normal = Path(os.path.normpath(path))
        return normal if self._is_inside(normal) and is_there(normal) else None

    def _is_inside(self, path: Path) -> bool:
        """As ``is_inside``; the result for a folder is cached."""
        if os.path.islink(path):  # noqa: PTH114  # of any name, however long
            return is_inside(path, self.roots)
        if path.parent not in self._known:
            self._known[path.parent] = is_inside(path.parent, self.roots)
        return self._known[path.parent]

    def _anywhere(self, name: str) -> Path | None:
        """The one file of this name below the folders that were given."""
        if self._below is None:
            below: dict[str, list[Path]] = defaultdict(list)
            for path in walk(self.folders, SUFFIXES):
                below[nfc_name(path)].append(path)
            self._below = below
        found = self._below.get(unicodedata.normalize("NFC", name), [])
        if len(found) > 1:
            places = ", ".join(str(path) for path in found[:3])
            fix = "give the folder of this file's images alone"
            raise UnusableNameError("same name twice", f"{len(found)} files are named {name} ({places})", fix)
        return found[0] if found else None


def last_part(file_name: str) -> str:
    """The file's own name in a path of any system, a URL, or a query: ``/data/local-files/?d=coil/plate.jpg``."""
    name = file_name.replace("\\", "/")
    if _REMOTE.match(name) or "/?" in name:
        try:
            parts = urlsplit(name)
            local_path = parse_qs(parts.query).get("d")
        except ValueError:  # no URL, though it begins like one
            return name.rpartition("/")[2]
        name = local_path[0].replace("\\", "/") if local_path else unquote(parts.path)
    return name.rstrip("/").rpartition("/")[2]


def none_found(label_file: Path, find: ImageFinder, missing: Sequence[Finding]) -> list[Finding]:
    """One finding in place of one per image, where the labels came without any of their images; else none."""
    if len(missing) < 2 or not all(finding.kind in ("missing image", OUTSIDE) for finding in missing):
        return []
    remedy = "name the images' folder, too, after this file"
    outside = [finding.message for finding in missing if finding.kind == OUTSIDE]
    others = [finding.path for finding in missing if finding.kind != OUTSIDE]
    if outside:
        message = f"none of its {len(missing):,} images is there; {remedy}; {outside[0]}"
        return [Finding(OUTSIDE, "error", label_file, message, others)]
    places = ", ".join(map(str, dict.fromkeys(find.places)))
    message = f"none of its {len(missing):,} images is there ({others[0].name} was looked for in {places}); {remedy}"
    return [Finding("missing image", "error", label_file, message, others)]


def about_names(json_file: Path, finder: ImageFinder) -> list[Finding]:
    """Findings about images that were found by the last part of their names alone."""
    findings: list[Finding] = []
    entries: dict[Path, list[str]] = defaultdict(list)
    for name, path in finder.loosely.items():
        entries[path].append(name)
    for path, names in entries.items():
        if len(names) > 1:
            message = f"{' and '.join(names[:3])} both lead to {path}; give the folder that has all images"
            findings.append(Finding("same name twice", "error", json_file, message, (path,)))
    if entries:
        name, path = next(iter(finder.loosely.items()))
        count = counted(len(finder.loosely), "image is", "images are")
        message = f"{count} not where the file says and taken by name: {path} for {name}; check that they are the ones"
        findings.append(Finding("image taken by name", "note", json_file, message))
    return findings


def not_named(images: Sequence[Path], folders: Sequence[Path]) -> list[Finding]:
    """A warning about images that no label file names, though it names others in the same folder.

    Args:
        images: that the label files name.
        folders: that were given to be read whole.
    """
    real = {folder: os.path.realpath(folder) for folder in {path.parent for path in images}}
    named = {(real[path.parent], path.name) for path in images}
    given = [os.path.realpath(folder) for folder in folders]
    found = []
    for folder in sorted(set(real.values())):
        inside = sorted(Path(folder).iterdir()) if is_inside(folder, given) else []
        found += [path for path in inside if path.suffix.lower() in SUFFIXES and (folder, path.name) not in named]
    found, _ = without_derived([path for path in found if not path.name.startswith(".")], folders)
    if not found:
        return []
    number, some = counted(len(found), "image is", "images are"), first_few(path.name for path in found)
    message = f"{number} named by no label file, though others in the same folder are, and left out: {some}"
    return [Finding(IN_NO_PART, "warning", found[0], message, found[1:])]


def leads_out(file_name: str) -> bool:
    """Whether a name is absolute or has a ``..``, so that no annotation tool knows an image by it."""
    parts = PureWindowsPath(file_name).parts  # both kinds of slashes, and drives
    return file_name.startswith(("/", "\\")) or ".." in parts or bool(PureWindowsPath(file_name).drive)


def common_folder(paths: Sequence[Path]) -> Path | None:
    """The folder that holds all of these images, links followed; None without an image, or on several drives.

    Annotation tools know an image by its path from such a folder on: no name that they have starts with ``..``.
    """
    try:
        return Path(os.path.commonpath([folder.resolve() for folder in {path.parent for path in paths}]))
    except ValueError:
        return None


def is_there(path: Path) -> bool:
    """Whether a path is a file; False also for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a URL may be longer than a file name can be
        return False
