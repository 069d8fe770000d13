"""Where the images lie that a file of labels names, COCO JSON or CVAT's XML, whatever tool wrote the names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from urllib.parse import parse_qs, unquote, urlsplit

from ..errors import DataError
from ..images import SUFFIXES
from ..structures import Finding
from . import paths as roots
from .paths import walk, without_derived
from .reading import IN_NO_PART, first_few

# What Label Studio puts before the name of a file that was uploaded to it.
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # two letters at least: "C:" is a drive of Windows


OUTSIDE = "image outside the data"  # the kind of a finding


class UnusableNameError(DataError):
    """A name in a label file that is no image's; ``kind`` is that of the finding to make of it."""

    def __init__(self, kind: str, found: str, fix: str | None) -> None:
        super().__init__(found, fix=fix)
        self.kind = kind


class ImageFinder:
    """Finds the images of one label file.

    A name is tried as it stands: in the folders given, where the file itself says, and in those that tools use around
    it. The first place that holds an image is tried first from then on. Where none has it, the last part of the name
    counts alone, as Label Studio tells ``/data/upload/1/0a1b2c3d-plate.jpg`` of ``images/0a1b2c3d-plate.jpg``, and at
    last that part without what an upload has put before it. What leads out of the data root, which the folders given
    belong to, is not even looked for.

    Attributes:
        loosely: name in the file -> image that was found by the last part of it.
    """

    def __init__(
        self, label_file: Path, folders: Sequence[Path] = (), *, told: str | None = None, more: Sequence[str] = ()
    ) -> None:
        here = label_file.parent.resolve()
        subset = label_file.stem.rpartition("_")[2]  # COCO's annotations/instances_train2017.json, CVAT's ..._default
        near = [here, here / "images", here / "data", here.parent, here.parent / "images", here.parent / subset]
        said = [here / told] if told else []
        self.folders = [folder.resolve() for folder in folders]
        self.places = [*self.folders, *said, *near, here.parent / "images" / subset]
        self.places += [here / folder for folder in more]
        self._here = here
        self.loosely: dict[str, Path] = {}
        self.roots = [*roots.roots_around(here), *(os.path.realpath(folder) for folder in folders)]
        self._below: dict[str, list[Path]] | None = None
        self._known: dict[Path, bool] = {}

    def __call__(self, file_name: str, *, first: str = "") -> Path:
        """The image; where there is none, the path at which it was looked for first.

        Args:
            file_name: as the label file has it.
            first: folder to try before all others, from the label file's own.

        Raises:
            UnusableNameError: several files could be meant, or the name leads out of the data root.
            DataError: a link in a folder that was given leads out of them all.
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
        if not roots.is_inside(missing, self.roots):
            told = roots.outside_data_error(f"file_name {file_name!r}", missing)
            raise UnusableNameError(OUTSIDE, told.found, told.fix)
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
        """As ``roots.is_inside``, of which the folder's share is looked up once."""
        if os.path.islink(path):  # noqa: PTH114  # of any name, however long
            return roots.is_inside(path, self.roots)
        if path.parent not in self._known:
            self._known[path.parent] = roots.is_inside(path.parent, self.roots)
        return self._known[path.parent]

    def _anywhere(self, name: str) -> Path | None:
        """The one file of this name below the folders that were given."""
        if self._below is None:
            below: dict[str, list[Path]] = defaultdict(list)
            for path in walk(self.folders, SUFFIXES):
                below[unicodedata.normalize("NFC", path.name)].append(path)
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
            told = parse_qs(parts.query).get("d")
        except ValueError:  # no URL, though it begins like one
            return name.rpartition("/")[2]
        name = told[0].replace("\\", "/") if told else unquote(parts.path)
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
    """What to say of images that were found by the last part of their names alone."""
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
        count = "1 image is" if len(finder.loosely) == 1 else f"{len(finder.loosely):,} images are"
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
        inside = sorted(Path(folder).iterdir()) if roots.is_inside(folder, given) else []
        found += [path for path in inside if path.suffix.lower() in SUFFIXES and (folder, path.name) not in named]
    found, _ = without_derived([path for path in found if not path.name.startswith(".")], folders)
    if not found:
        return []
    some = first_few(path.name for path in found)
    number = "1 image is" if len(found) == 1 else f"{len(found):,} images are"
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
    """Whether a path is a file's, also where no file can have such a name."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a URL may be longer than a file name can be
        return False
