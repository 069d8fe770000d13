"""The audit as one page: findings in words, the same pictures side by side, the parts compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from ..datasets.audit import AuditReport
from ..datasets.duplicates import MIN_SIMILARITY, SimilarPair
from ..datasets.part_shift import SIGNIFICANT
from ..errors import DataError
from ..images import read_image
from ..structures import Finding, Image
from . import tables as wording
from .charts import Line, histogram, legend, log2_bin_edges, series_style, shares
from .page import filters_by_name, render, write_page
from .tables import plural
from .thumbnails import Corners, Crop, crop_around

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
    "pre-annotated boxes": "drawn by a detector: correct them before anything learns them",
    "rotated boxes": "boxes at an angle: upright ones around them are used",
    "no boxes": "no image of the data set has a label: most likely the labels were not found",
    "part missing": "a folder or list of images that the data set names isn't there",
    "part without boxes": "no image of this part has a label, while others have: were its labels found?",
    "image twice": "the same image has labels in two places: without all of them it teaches that there is no defect",
    "two label files": "an image has one label file: keep the right one",
    "labels of another format": "the folder has labels in two formats: are those the ones to read?",
    "label file left out": "a file of labels that was not read",
    "class names differ": "two files name the classes differently: one of them was made with other numbers",
    "annotation id twice": "ids are not used, but a copied annotation counts twice",
    "coordinates unclear": "some tools count pixels from 0, some from 1: a wrong choice shifts boxes by a pixel",
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


class FindingKind(NamedTuple):
    """A row of the table of findings."""

    severity: str
    name: str
    findings: int
    says: str


def findings_by_kind(report: AuditReport) -> list[FindingKind]:
    """Findings by kind, errors first."""
    counts = Counter((finding.severity, finding.kind) for finding in report.findings)
    rows = [FindingKind(severity, name, n, _MEANINGS.get(name, "")) for (severity, name), n in counts.items()]
    return sorted(rows, key=lambda row: (_SEVERITIES.index(row.severity), row.name))


def audit_summary(report: AuditReport) -> str:
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
        f"{enumerate_names(about)}."
    )


def enumerate_names(names: Sequence[str], max_names: int = 6) -> str:
    """``a, b and c``, or the first few and how many more."""
    if len(names) > max_names:
        return f"{', '.join(names[: max_names - 1])} and {len(names) - max_names + 1} more"
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])


_MAX_AUDIT_BYTES = 12_000_000  # of pictures in the page
_MAX_CARDS = 120  # of a kind
_MAX_SIMILAR_PAIRS = 6


class ImageView(NamedTuple):
    """One picture of a card.

    Attributes:
        name, part: of the image.
        crop: what is shown; without a picture it has no uri.
        labels: boxes as labelled.
        meant: boxes that the card is about.
        drawn: "missed" where they are labelled or lacking, "false" where they are wrong.
    """

    name: str
    part: str
    crop: Crop
    labels: tuple[Corners, ...]
    meant: tuple[Corners, ...] = ()
    drawn: str = "missed"


class AuditCard(NamedTuple):
    """One or two pictures and what is to be said of them."""

    title: str
    says: str
    views: tuple[ImageView, ...]
    alert: bool = False


class AuditGallery:
    """Reads pictures until the page is large enough; counts those that it has no room for or that can't be read."""

    def __init__(self, report: AuditReport) -> None:
        self.report = report
        self.part_of = {i: name for name, ids in report.members.items() for i in ids} if len(report.members) > 1 else {}
        self._position = {image.path: i for i, image in enumerate(report.images)}
        self.room, self.absent, self.left_out = _MAX_AUDIT_BYTES, 0, 0
        self.stretched = False  # whether a picture of 16 bits was, to be seen

    def view(
        self, position: int, meant: Sequence[Corners] = (), *, whole: bool = True, drawn: str = "missed"
    ) -> ImageView:
        """An image with its labels, all of it or what is around the boxes meant."""
        image = self.report.images[position]
        return self._view(image, self.part_of.get(position, ""), meant, whole, drawn)

    def view_of(self, finding: Finding) -> ImageView:
        """The place that a finding is about, also in an image that was left out for it."""
        assert finding.image is not None, "only findings about a picture are shown"
        known = self._position.get(finding.image)
        if known is not None:
            return self.view(known, finding.boxes_xyxy, whole=not finding.boxes_xyxy, drawn="false")
        corners = [*finding.boxes_xyxy, (0.0, 0.0, 1.0, 1.0)]
        width, height = (max(1, round(max(max(box[k], box[k - 2]) for box in corners))) for k in (2, 3))
        return self._view(Image(finding.image, width, height), "", finding.boxes_xyxy, not finding.boxes_xyxy, "false")

    def _view(self, image: Image, part: str, meant: Sequence[Corners], whole: bool, drawn: str) -> ImageView:
        crop = Crop("", 0, 0, image.width, image.height)
        upright = tuple(_sorted_corners(box) for box in meant)
        try:
            if self.room > 0:
                pixels = read_image(image.path)
                height, width = pixels.shape[:2]
                crop = crop_around(pixels, [(0, 0, width, height)] if whole or not upright else upright)
        except DataError:
            pass
        self.absent += not crop.uri
        self.stretched |= crop.stretched
        self.room -= len(crop.uri)
        labels = tuple(box.xyxy for box in image.boxes if box.xyxy not in meant)
        return ImageView(image.path.name, part, crop, labels, upright, drawn)


def duplicate_cards(gallery: AuditGallery) -> list[AuditCard]:
    """Pairs that show the same, those in two parts first."""
    links = [link for group in gallery.report.duplicate_groups for link in group.links]
    links.sort(key=lambda link: (not _parted(link, gallery), -link.similarity))
    gallery.left_out += max(0, len(links) - _MAX_CARDS)
    cards = []
    for link in links[:_MAX_CARDS]:
        parted = _parted(link, gallery)
        told = "equal pixels" if link.exact else f"similarity {link.similarity:.2f}"
        turned = ", mirrored or turned" if link.transform else ""
        views = (gallery.view(link.first), gallery.view(link.second))
        cards.append(AuditCard("in two parts" if parted else "the same twice", f"{told}{turned}", views, parted))
    return cards


def similar_pair_cards(gallery: AuditGallery) -> list[AuditCard]:
    """The most alike pairs of those that were taken for different scenes."""
    return [
        AuditCard(
            "taken for different",
            f"similarity {link.similarity:.2f}",
            (gallery.view(link.first), gallery.view(link.second)),
        )
        for link in gallery.report.similar_pairs[:_MAX_SIMILAR_PAIRS]
    ]


def missing_label_cards(gallery: AuditGallery) -> list[AuditCard]:
    """The place without a label, beside the picture that has it; then images that break a habit of the data."""
    report = gallery.report
    gallery.left_out += max(0, len(report.missing) - _MAX_CARDS)
    cards = []
    for each in report.missing[:_MAX_CARDS]:
        if each.source == "copy":
            says = f"{each.box.label} is labelled in the copy beside it"
        else:
            says = f"{each.box.label} is labelled in {each.labelled} of the {each.seen} frames that show the place"
        views = gallery.view(each.image, (each.box.xyxy,)), gallery.view(each.other, (each.other_box.xyxy,))
        cards.append(AuditCard("no label here", says, views))
    odd = [f for f in report.findings if f.kind == "label looks missing" and f.image is not None and not f.boxes_xyxy]
    gallery.left_out += max(0, len(odd) - _MAX_CARDS)
    cards += [AuditCard("unlike the others", f.message, (gallery.view_of(f),)) for f in odd[:_MAX_CARDS]]
    return cards


def faulty_box_cards(gallery: AuditGallery) -> list[AuditCard]:
    """Boxes that something is wrong with, errors first."""
    found = [
        f for f in gallery.report.findings if f.image is not None and f.boxes_xyxy and f.kind != "label looks missing"
    ]
    gallery.left_out += max(0, len(found) - _MAX_CARDS)
    return [AuditCard(f.kind, f.message, (gallery.view_of(f),), f.severity == "error") for f in found[:_MAX_CARDS]]


def _parted(link: SimilarPair, gallery: AuditGallery) -> bool:
    homes = [gallery.part_of.get(i) for i in (link.first, link.second)]
    return None not in homes and homes[0] != homes[1]


def _sorted_corners(box: Corners) -> Corners:
    """An inverted box can be drawn, too."""
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


_MAX_UNSURE_TESTS, _MAX_FINDINGS = 12, 2_000


def write_audit_page(report: AuditReport, path: Path, *, meta: Mapping[str, str]) -> None:
    """Write the page.

    Args:
        report: what to show; its pictures are read again from their files.
        path: of the page.
        meta: where it comes from, shown in the order given.

    Raises:
        DataError: the file can't be written.
    """
    text = to_html(report, meta=meta)
    try:
        write_page(path, text)
    except OSError as error:
        found = f"the page can't be written ({error.strerror})"
        raise DataError(found, where=path, fix="choose a place that can be written to") from None


def to_html(report: AuditReport, *, meta: Mapping[str, str]) -> str:
    """Render audit.html with its style sheet and script inlined; whatever came from outside is escaped."""
    gallery = AuditGallery(report)
    severities = [finding.severity for finding in report.findings]
    sure = sum(shift.significant for shift in report.shifts)
    return render(
        "audit.html",
        filters_by_name(wording.count, wording.plural, wording.percent),
        report=report,
        gist=audit_summary(report),
        kinds=findings_by_kind(report),
        errors=severities.count("error"),
        warnings=severities.count("warning"),
        leaks=sum(finding.kind == LEAK for finding in report.findings),
        sure=sure,
        alike=MIN_SIMILARITY,
        level=SIGNIFICANT,
        copies=duplicate_cards(gallery),
        similar_pairs=similar_pair_cards(gallery),
        missing=missing_label_cards(gallery),
        faulty_boxes=faulty_box_cards(gallery),
        gallery=gallery,
        parts=list(report.parts),
        legend=_legend(list(report.members)),
        classes=_classes(report),
        histograms=_histograms(report),
        tests=report.shifts[: sure + _MAX_UNSURE_TESTS],
        findings=report.findings[:_MAX_FINDINGS],
        meta=list(meta.items()),
    )


class ClassBar(NamedTuple):
    """The share of a class in a part's boxes, relative to the largest of all."""

    part: str
    style: str
    share: float
    length: float
    boxes: int
    images: int


def _classes(report: AuditReport) -> list[tuple[str, list[ClassBar]]]:
    """For each class a bar a part."""
    labels = dict.fromkeys(label for part in report.parts.values() for label in part.per_class)
    shares = {
        (label, name): part.per_class.get(label, {}).get("boxes", 0) / max(part.boxes, 1)
        for label in labels
        for name, part in report.parts.items()
    }
    most = max(shares.values(), default=0) or 1.0

    def bar(label: str, number: int, name: str) -> ClassBar:
        counts, share = report.parts[name].per_class.get(label, {}), shares[label, name]
        return ClassBar(
            name, series_style(number), share, share / most, counts.get("boxes", 0), counts.get("images", 0)
        )

    return [(label, [bar(label, k, name) for k, name in enumerate(report.parts)]) for label in labels]


def _histograms(report: AuditReport) -> list[tuple[str, str, Markup]]:
    """For each class what the page says of its size, and the chart; classes without boxes are left out."""
    sides: dict[str, dict[str, list[float]]] = {}
    for part, positions in report.members.items():
        for i in positions:
            for box in report.images[i].boxes:
                x1, y1, x2, y2 = box.xyxy
                if not box.crowd and x2 > x1 and y2 > y1:
                    of_class = sides.setdefault(box.label, {name: [] for name in report.members})
                    of_class[part].append(((x2 - x1) * (y2 - y1)) ** 0.5)
    charts = []
    for label in sorted(sides):
        parts = sides[label]
        edges = log2_bin_edges([side for values in parts.values() for side in values])
        rows = [(name, shares(values, edges)) for name, values in parts.items()]
        middle = [f"{sorted(values)[len(values) // 2]:.0f}" for values in parts.values() if values]
        title = f"Size of {label}, share of the boxes of each part"
        charts.append((label, f"median {' | '.join(middle)} px", histogram(title, edges, rows, x_label="px a side")))
    return charts


def _legend(parts: Sequence[str]) -> Markup:
    lines: list[Any] = [Line(name, (), series_style(k)) for k, name in enumerate(parts)]
    return legend(lines) if len(parts) > 1 else Markup("")
