"""Which image a label file belongs to, and which images a list of names means: by name, then by folder."""

from __future__ import annotations

import filecmp
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..records import Finding
from .files import DRAWING_SUFFIX, stem

# Folders that hold one kind of file of a data set, and so say nothing of which image belongs to which label.
_CONTAINERS = re.compile(
    r"(images?|imgs?|pics?|pictures?|photos?|jpe?gimages|jpe?gs?|pngs?|bmps?|frames"
    r"|labels?|annotations?|anns?|annots?|xmls?|txts?|jsons?|voc|yolo|obj_train_data)(_\w*)?",
    re.IGNORECASE,
)
# Folders of pictures that a tool has made of the images: masks, and drawings of labels.
_DERIVED = re.compile(r"segmentation\w*|\w*visuali[sz]ations?|vis|masks?|overlays?|previews?", re.IGNORECASE)


@dataclass(slots=True)
class Pairs:
    """Images and label files that belong together, and those without a partner.

    Attributes:
        label_of: image -> its label file.
        images, labels: without a partner, in natural order.
        findings: about files that can't be told apart (errors), copies (warnings) and pictures left out (notes).
    """

    label_of: dict[Path, Path] = field(default_factory=dict)
    images: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def without_derived(images: Sequence[Path], roots: Sequence[Path]) -> tuple[list[Path], list[Finding]]:
    """Images without the drawings of detections and the masks that lie among them, and a note about these.

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
        message = f"{_number(masks)} in {folders}, named like images, left out as masks or visualisations"
        findings.append(Finding("picture left out", "note", masks[0].parent, message))
    if drawings:
        message = f"{_number(drawings)} named *{DRAWING_SUFFIX} left out, as detect infer has drawn them"
        findings.append(Finding("picture left out", "note", drawings[0], message))
    out = {*masks, *drawings}
    return [path for path in images if path not in out], findings


def pair(images: Sequence[Path], labels: Sequence[Path], roots: Sequence[Path], *, sure: bool = False) -> Pairs:
    """Pair files by their names without suffix, wherever they lie; several files of one name by their folders.

    The same folder comes first (``test/1.png`` and ``test/1.txt``), then folders that differ only in what kind of file
    they hold (``test/images/1.png`` and ``test/labels/1.txt``). Of files that are equal byte by byte, one is used. What
    is left is paired by name alone if capitals or a doubled suffix (``1.PNG`` and ``1.png.txt``) are all that differs.

    Args:
        images, labels: in natural order.
        roots: the folders that both lie below.
        sure: the folders decide even where an image of the same name has no label.
    """
    groups: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for path in images:
        groups[stem(path)][0].append(path)
    for path in labels:
        groups[stem(path)][1].append(path)
    pairs = Pairs()
    for name, group in groups.items():
        if len(group[0]) <= 1 and len(group[1]) <= 1:
            _settle(pairs, *group)
        else:
            _by_folder(pairs, name, *group, roots, sure=sure)
    for loosely in (lambda path: path.name.casefold(), lambda path: stem(path).casefold()):
        _by_loose_name(pairs, loosely)
    return pairs


def _settle(pairs: Pairs, images: Sequence[Path], labels: Sequence[Path]) -> None:
    if images and labels:
        pairs.label_of[images[0]] = labels[0]
    else:
        pairs.images += images
        pairs.labels += labels


def _by_folder(
    pairs: Pairs, name: str, images: list[Path], labels: list[Path], roots: Sequence[Path], *, sure: bool
) -> None:
    depth = [len(root.parts) for root in roots]
    images, labels = list(images), list(labels)
    certain: dict[Path, Path] = {}
    likely: dict[Path, Path] = {}

    def kind(path: Path) -> tuple[str, ...]:
        folders = path.parent.parts[_depth(path, roots, depth) :]
        return tuple(folder.casefold() for folder in folders if not _CONTAINERS.fullmatch(folder))

    for found, key in (certain, lambda path: path.parent), (likely, kind):
        places: dict[object, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
        for path in images:
            places[key(path)][0].append(path)
        for path in labels:
            places[key(path)][1].append(path)
        for same_images, same_labels in places.values():
            if len(same_images) == len(same_labels) == 1:
                found[same_images[0]] = same_labels[0]
                images.remove(same_images[0])
                labels.remove(same_labels[0])
    paired = certain | likely
    for what, left, known in ("image", images, list(paired)), ("label file", labels, list(paired.values())):
        copies = [path for path in left if any(filecmp.cmp(path, other, shallow=False) for other in known)]
        first = known[0] if known else left[0] if left else None
        if not known and len(left) > 1 and all(filecmp.cmp(path, left[0], shallow=False) for path in left[1:]):
            copies = left[1:]
        if copies and first is not None:
            message = f"the same {what} lies in {len(copies) + 1} places; this one is used, remove the others"
            pairs.findings.append(Finding("copy of a file", "warning", first, message, copies))
            left[:] = [path for path in left if path not in copies]
    if len(images) <= 1 and len(labels) <= 1 and not (likely and images and not sure):
        pairs.label_of |= paired
        _settle(pairs, images, labels)
        return
    doubtful = likely if not sure else {}
    pairs.label_of |= {image: label for image, label in paired.items() if image not in doubtful}
    images, labels = [*doubtful, *images], [*doubtful.values(), *labels]
    if sure and not labels:
        pairs.images += images
        return
    for what, left in ("image", images), ("label file", labels):
        if len(left) > 1:
            message = f"{len(left)} different {what}s are named {name}, so it is open which belongs to what; rename"
            pairs.findings.append(Finding("same name twice", "error", left[0], message, left[1:]))
            return
    _settle(pairs, images, labels)


def _by_loose_name(pairs: Pairs, loosely: Callable[[Path], str]) -> None:
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
        suffixes: whether names have one, as those in VOC's ImageSets have not.
    """

    def __init__(self, images: Iterable[Path], *, suffixes: bool = True) -> None:
        self._key = _name if suffixes else stem
        self._suffixes = suffixes
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in images:
            self._by_name[self._key(path).casefold()].append(path)

    def __call__(self, name: str) -> Path | None:
        """The image; None if there is none, or several fit equally well."""
        parts = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/"))).parts
        found = self._by_name.get(parts[-1].casefold(), []) if parts else []
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


def _name(path: Path) -> str:
    return unicodedata.normalize("NFC", path.name)


def _depth(path: Path, roots: Sequence[Path], depths: Sequence[int]) -> int:
    """How many parts of a path belong to the deepest root that holds it."""
    return max((n for root, n in zip(roots, depths) if path.is_relative_to(root)), default=0)


def _number(paths: Sequence[Path]) -> str:
    return "1 picture" if len(paths) == 1 else f"{len(paths):,} pictures"
