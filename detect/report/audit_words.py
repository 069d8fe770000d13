"""An audit in words: the gist of it, and what each kind of finding means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ..audit import AuditReport
from .wording import plural

LEAK = "duplicate across parts"
_SEVERITIES = ("error", "warning", "note")
_MEANINGS = {
    "unreadable image": "damaged, cut short or no image: replace the file",
    "missing image": "the labels name a picture that isn't there",
    "image outside the data": "the labels lead out of the data: copy the picture there, or say that you trust them",
    "file name leads away": "the labels name a path instead of a picture: write its bare name",
    "unreadable label file": "empty, damaged or in an unknown encoding",
    "image without label file": "nobody has said what is in the picture",
    "label file without image": "labels of a picture that isn't there",
    "same name twice": "different files that can't be told apart",
    "broken object": "no class, no box, or a number that is none",
    "box outside image": "drawn on another picture, or in other units",
    "empty box": "no area: nothing can be learned from it",
    "inverted box": "it ends before it begins",
    "unknown class": "not in the list of classes; most likely misspelt",
    "same frame twice": "two files claim one place in a strip",
    "strip across parts": "what is judged was seen in training",
    "strips lost": "the format written has no place for them",
    "size mismatch": "labels and picture tell different sizes: check that the boxes lie where they should",
    "duplicate box": "one object counted twice",
    "two classes on one box": "one of them is wrong",
    LEAK: "what is judged was seen in training: put them into one part",
    "duplicate image": "the same picture twice: compare the labels and keep one",
    "near-duplicate image": "the same scene twice, within one part",
    "class names alike": "most likely one class, spelt in two ways",
    "copy of a file": "the first is used",
    "file name at odds": "the labels name another file than the one they are paired with",
    "rotated by its orientation tag": "images that are turned when they are read: were the boxes drawn on them so?",
    "depth not used": "a camera of fewer bits than its files: tell training its white with data.max_value",
    "image in no part": "the split leaves it out",
    "grouped by name": "kept together wherever chance divided",
    "flags lost": "the format written has no place for them",
    "older part": "a file of an earlier conversion lies beside the new ones",
    "label looks missing": "teaches that a defect is none: look at the pictures below",
    "boxes stop short of a border": "a tool may have shifted or cut all boxes by a pixel, or keep off the border",
    "parts differ": "scores of one don't carry over to the other",
    "draft boxes": "drawn by a detector: correct them before anything learns them",
    "rotated boxes": "boxes at an angle: upright ones around them are used",
    "no boxes": "no image of the data set has a label: most likely the labels were not found",
    "part missing": "a folder or list of images that the data set names isn't there",
    "part without boxes": "no image of this part has a label, while others have: were its labels found?",
    "image in two parts": "it stays in the first, so that nothing judged was seen in training",
    "parts of the source": "where the division into parts comes from",
    "boxes clipped": "cut at the border of their images",
    "coordinates from 0": "corners are read as the tool counts them",
    "shapes converted": "only upright boxes are used: those around the shapes",
    "keypoints left out": "only boxes are used",
    "image tags left out": "only boxes are used",
    "category left out": "a placeholder that no object has",
    "picture left out": "no image of the data set, but made from one",
    "text decoded": "files in another encoding than UTF-8: check the class names",
    "masks are crowd": "neither hit nor miss for the judge: draw rectangles if these are defects",
    "outlines left out": "only boxes are used",
    "scores lost": "the format written has no place for them",
    "images renamed": "so that no two share a name",
    "image taken by name": "found elsewhere than the labels tell",
    "image without objects": "kept, as an image of what is fine",
    "file name without extension": "paired by the file's own name",
    "file name missing": "paired by the file's own name",
    "images copied": "so that each lies where the format wants it",
    "boxes rounded": "the format written holds whole pixels only",
}


class Kind(NamedTuple):
    """A row of the table of findings."""

    severity: str
    name: str
    findings: int
    says: str


def kinds(report: AuditReport) -> list[Kind]:
    """Findings by kind, errors first."""
    counts = Counter((finding.severity, finding.kind) for finding in report.findings)
    rows = [Kind(severity, name, n, _MEANINGS.get(name, "")) for (severity, name), n in counts.items()]
    return sorted(rows, key=lambda row: (_SEVERITIES.index(row.severity), row.name))


def gist(report: AuditReport) -> str:
    """What matters most, in a few sentences."""
    told = []
    errors = len(report.errors)
    told.append(
        f"{plural(errors, 'error')} would stop a conversion or a training." if errors else "Nothing stops a training."
    )
    leaks = sum(finding.kind == LEAK for finding in report.findings)
    if len(report.parts) > 1:
        told.append(
            f"{plural(leaks, 'scene')} {'stands' if leaks == 1 else 'stand'} in more than one part."
            if leaks
            else "No picture was found in two parts."
        )
        told.append(_differences(report))
    missing = sum(finding.kind == "label looks missing" for finding in report.findings)
    if missing:
        told.append(f"{plural(missing, 'label')} {'looks' if missing == 1 else 'look'} missing.")
    return " ".join(told)


def _differences(report: AuditReport) -> str:
    sure = [shift for shift in report.shifts if shift.significant]
    if not sure:
        return f"No difference between the parts goes beyond chance ({plural(len(report.shifts), 'test')})."
    about = list(dict.fromkeys("all images" if shift.category is None else shift.category for shift in sure))
    return (
        f"The parts differ by more than chance in {len(sure)} of {plural(len(report.shifts), 'comparison')}: "
        f"{listed(about)}."
    )


def listed(names: Sequence[str], most: int = 6) -> str:
    """``a, b and c``, or the first few and how many more."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])
