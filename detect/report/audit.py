"""The HTML page of an audit: findings, duplicate images side by side, and a comparison of the parts."""

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
from .page import filters_by_name, render, write_errors, write_page
from .tables import plural
from .thumbnails import Corners, Crop, crop_around

LEAK = "duplicate across parts"
_SEVERITIES = ("error", "warning", "note")
_MEANINGS = {
    "unreadable image": "the file is damaged, truncated or not an image: replace it",
    "missing image": "the labels name an image file that does not exist",
    "image outside the data": "the labels point outside the data folder: copy the image into it, or mark it as trusted",
    "file name outside the data": "the labels contain a path instead of a file name: write the file name only",
    "unreadable label file": "the file is empty, damaged or in an unknown encoding",
    "image without label file": "it is unknown what the image shows",
    "label file without image": "the labels belong to an image that does not exist",
    "same name twice": "different files share a name and can't be distinguished",
    "broken object": "the class or the box is missing, or a coordinate is not a number",
    "box outside image": "drawn on another image, or in other units",
    "empty box": "the box has no area: nothing can be learned from it",
    "inverted box": "the box ends before it begins",
    "unknown class": "the class is not in the list of classes; most likely it is misspelt",
    "same frame twice": "two files claim the same position in a strip",
    "strip across parts": "evaluation data was seen in training",
    "strips lost": "the output format can't store strips",
    "size mismatch": "labels and image give different sizes: check the positions of the boxes",
    "duplicate box": "one object is counted twice",
    "two classes on one box": "one of the classes is wrong",
    LEAK: "evaluation data was seen in training: put these images into one part",
    "duplicate image": "the same image exists twice: compare the labels and keep one",
    "near-duplicate image": "the same scene appears twice within one part",
    "similar class names": "most likely one class with two spellings",
    "copy of a file": "only the first copy is used",
    "file name at odds": "the labels name a different file than the one they are paired with",
    "rotated by its orientation tag": "images are rotated when read: were the boxes drawn on the rotated images?",
    "depth not used": "the camera has fewer bits than its files: set data.max_value to its white level for training",
    "image in no part": "the split does not include the image",
    "grouped by name": "a random split keeps these images in the same part",
    "flags lost": "the output format can't store flags",
    "older part": "a file of an earlier conversion is in the same folder as the new ones",
    "label looks missing": "an unlabelled defect is learned as background: check the images below",
    "boxes stop short of a border": "a tool may have shifted or clipped all boxes by a pixel, or may avoid the border",
    "parts differ": "scores measured on one part do not apply to the other",
    "pre-annotated boxes": "drawn by a detector: correct them before using them for training",
    "rotated boxes": "rotated boxes are replaced by the axis-aligned boxes that enclose them",
    "no boxes": "no image of the data set has a label: most likely the labels were not found",
    "part missing": "a folder or image list that the data set names does not exist",
    "part without boxes": "no image of this part has a label, but other parts have: were its labels found?",
    "image twice": "the image has labels in two places: using only some of them teaches that defects are background",
    "two label files": "an image must have one label file: keep the correct one",
    "labels of another format": "the folder has labels in two formats: was the intended format read?",
    "label file left out": "a label file was not read",
    "class names differ": "two files name the classes differently: one of them uses other class numbers",
    "annotation id twice": "ids are not used, but a copied annotation counts twice",
    "coordinates unclear": "some tools count pixels from 0, some from 1: a wrong choice shifts boxes by one pixel",
    "image in two parts": "it stays in the first part, so that no evaluation data is seen in training",
    "parts of the source": "where the division into parts comes from",
    "boxes clipped": "boxes are clipped at the image border",
    "coordinates from 0": "corners are read with the pixel origin of the tool",
    "shapes converted": "shapes are replaced by the axis-aligned boxes that enclose them",
    "keypoints left out": "only boxes are used",
    "image tags left out": "only boxes are used",
    "category left out": "a placeholder category without objects",
    "picture left out": "not an image of the data set, but derived from one",
    "text decoded": "the file is not in UTF-8: check the class names",
    "masks are crowd": "evaluation ignores crowd regions: draw rectangles if these are defects",
    "outlines left out": "only boxes are used",
    "scores lost": "the output format can't store scores",
    "images renamed": "so that no two images share a name",
    "image taken by name": "the image was found in a different place than the labels say",
    "image without objects": "kept as a defect-free image",
    "file name without extension": "paired by the name of the label file",
    "file name missing": "paired by the name of the label file",
    "images copied": "so that each image is where the format requires it",
    "boxes rounded": "the output format stores whole pixels only",
}


class FindingKind(NamedTuple):
    """A row of the table of findings."""

    severity: str
    name: str
    findings: int
    meaning: str


def findings_by_kind(report: AuditReport) -> list[FindingKind]:
    """Number of findings of each kind, errors first."""
    counts = Counter((finding.severity, finding.kind) for finding in report.findings)
    rows = [FindingKind(severity, name, n, _MEANINGS.get(name, "")) for (severity, name), n in counts.items()]
    return sorted(rows, key=lambda row: (_SEVERITIES.index(row.severity), row.name))


def audit_summary(report: AuditReport) -> str:
    """The most important results in a few sentences."""
    errors = len(report.errors)
    sentences = [
        f"{plural(errors, 'error')} would stop a conversion or training run." if errors else "No errors were found."
    ]
    leaks = sum(finding.kind == LEAK for finding in report.findings)
    if len(report.parts) > 1:
        sentences.append(
            f"{plural(leaks, 'scene')} {'is' if leaks == 1 else 'are'} in more than one part."
            if leaks
            else "No scene is in more than one part."
        )
        sentences.append(_differences(report))
    missing = sum(finding.kind == "label looks missing" for finding in report.findings)
    if missing:
        sentences.append(f"{plural(missing, 'label')} {'looks' if missing == 1 else 'look'} missing.")
    return " ".join(sentences)


def _differences(report: AuditReport) -> str:
    significant = [shift for shift in report.shifts if shift.significant]
    if not significant:
        return f"No difference between the parts is statistically significant ({plural(len(report.shifts), 'test')})."
    categories = list(dict.fromkeys(shift.category or "all images" for shift in significant))
    return (
        f"The parts differ significantly in {len(significant)} of {plural(len(report.shifts), 'comparison')}: "
        f"{enumerate_names(categories)}."
    )


def enumerate_names(names: Sequence[str], max_names: int = 6) -> str:
    """``a, b and c``; more than ``max_names`` names become ``a, b and 7 more``."""
    if len(names) > max_names:
        return f"{', '.join(names[: max_names - 1])} and {len(names) - max_names + 1} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


_MAX_AUDIT_BYTES = 12_000_000  # all image data of the page together
_MAX_CARDS = 120  # per section
_MAX_SIMILAR_PAIRS = 6


class ImageView(NamedTuple):
    """One image of a card.

    Attributes:
        name: file name of the image.
        part: name of the part that holds the image, empty if there is only one part.
        crop: the visible region; its uri is empty if the image is not shown.
        labels: labelled boxes, xyxy in pixels.
        highlighted: boxes that the card is about, xyxy in pixels.
        style: how they are drawn: "missed" for a present or missing label, "false" for a faulty box.
    """

    name: str
    part: str
    crop: Crop
    labels: tuple[Corners, ...]
    highlighted: tuple[Corners, ...] = ()
    style: str = "missed"


class AuditCard(NamedTuple):
    """One or two images with a title and a caption; ``alert`` draws a red frame."""

    title: str
    caption: str
    views: tuple[ImageView, ...]
    alert: bool = False


class AuditGallery:
    """Reads images until the size limit of the page is reached, and counts the images and cards that are not shown."""

    def __init__(self, report: AuditReport) -> None:
        self.report = report
        self.part_of = {i: name for name, ids in report.members.items() for i in ids} if len(report.members) > 1 else {}
        self._position = {image.path: i for i, image in enumerate(report.images)}
        self.bytes_left, self.absent, self.left_out = _MAX_AUDIT_BYTES, 0, 0
        self.stretched = False  # whether a shown image has 16 bits and was stretched to 8

    def view(self, position: int, highlighted: Sequence[Corners] = ()) -> ImageView:
        """The whole image with its labels."""
        return self._view(self.report.images[position], self.part_of.get(position, ""), highlighted, True, "missed")

    def view_of(self, finding: Finding) -> ImageView:
        """The region around the boxes of a finding; the image may be excluded from ``report.images``."""
        assert finding.image is not None, "only findings about an image are shown"
        boxes = finding.boxes_xyxy
        position = self._position.get(finding.image)
        if position is not None:
            return self._view(self.report.images[position], self.part_of.get(position, ""), boxes, not boxes, "false")
        corners = [*boxes, (0.0, 0.0, 1.0, 1.0)]
        width, height = (max(1, round(max(max(box[k], box[k - 2]) for box in corners))) for k in (2, 3))
        return self._view(Image(finding.image, width, height), "", boxes, not boxes, "false")

    def _view(self, image: Image, part: str, highlighted: Sequence[Corners], full_image: bool, style: str) -> ImageView:
        crop = Crop("", 0, 0, image.width, image.height)
        sorted_boxes = tuple(_sorted_corners(box) for box in highlighted)
        try:
            if self.bytes_left > 0:
                pixels = read_image(image.path)
                height, width = pixels.shape[:2]
                crop = crop_around(pixels, [(0, 0, width, height)] if full_image else sorted_boxes)
        except DataError:
            pass
        self.absent += not crop.uri
        self.stretched |= crop.stretched
        self.bytes_left -= len(crop.uri)
        labels = tuple(box.xyxy for box in image.boxes if box.xyxy not in highlighted)
        return ImageView(image.path.name, part, crop, labels, sorted_boxes, style)


def duplicate_cards(gallery: AuditGallery) -> list[AuditCard]:
    """Pairs of duplicates and near-duplicates; pairs across two parts come first."""
    links = [link for group in gallery.report.duplicate_groups for link in group.links]
    links.sort(key=lambda link: (not _across_parts(link, gallery), -link.similarity))
    gallery.left_out += max(0, len(links) - _MAX_CARDS)
    cards = []
    for link in links[:_MAX_CARDS]:
        across = _across_parts(link, gallery)
        similarity = "equal pixels" if link.exact else f"similarity {link.similarity:.2f}"
        transform = ", mirrored or rotated" if link.transform else ""
        views = (gallery.view(link.first), gallery.view(link.second))
        cards.append(AuditCard("in two parts" if across else "same scene", f"{similarity}{transform}", views, across))
    return cards


def similar_pair_cards(gallery: AuditGallery) -> list[AuditCard]:
    """The most similar pairs among those that count as different scenes."""
    return [
        AuditCard(
            "different scenes",
            f"similarity {link.similarity:.2f}",
            (gallery.view(link.first), gallery.view(link.second)),
        )
        for link in gallery.report.similar_pairs[:_MAX_SIMILAR_PAIRS]
    ]


def missing_label_cards(gallery: AuditGallery) -> list[AuditCard]:
    """Pairs of an image without a label and an image that has it, then images that contradict the rest of the data."""
    report = gallery.report
    gallery.left_out += max(0, len(report.missing) - _MAX_CARDS)
    cards = []
    for each in report.missing[:_MAX_CARDS]:
        if each.source == "copy":
            caption = f"{each.box.label} is labelled in the near-duplicate"
        else:
            caption = f"{each.box.label} is labelled in {each.labelled} of the {each.seen} frames that show this place"
        views = gallery.view(each.image, (each.box.xyxy,)), gallery.view(each.other, (each.other_box.xyxy,))
        cards.append(AuditCard("no label here", caption, views))
    unlabelled = [
        f for f in report.findings if f.kind == "label looks missing" and f.image is not None and not f.boxes_xyxy
    ]
    gallery.left_out += max(0, len(unlabelled) - _MAX_CARDS)
    cards += [AuditCard("unlike the other images", f.message, (gallery.view_of(f),)) for f in unlabelled[:_MAX_CARDS]]
    return cards


def faulty_box_cards(gallery: AuditGallery) -> list[AuditCard]:
    """Boxes with findings, errors first."""
    findings = [
        f for f in gallery.report.findings if f.image is not None and f.boxes_xyxy and f.kind != "label looks missing"
    ]
    gallery.left_out += max(0, len(findings) - _MAX_CARDS)
    return [AuditCard(f.kind, f.message, (gallery.view_of(f),), f.severity == "error") for f in findings[:_MAX_CARDS]]


def _across_parts(link: SimilarPair, gallery: AuditGallery) -> bool:
    parts = [gallery.part_of.get(i) for i in (link.first, link.second)]
    return None not in parts and parts[0] != parts[1]


def _sorted_corners(box: Corners) -> Corners:
    """Corners with x1 <= x2 and y1 <= y2, so that an inverted box can be drawn."""
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


_MAX_OTHER_TESTS, _MAX_FINDINGS = 12, 2_000  # tests that are not significant, and findings, on the page


def write_audit_page(report: AuditReport, path: Path, *, meta: Mapping[str, str]) -> None:
    """Write the HTML page.

    Args:
        report: the audit; images are read again from their files.
        path: output file.
        meta: provenance, shown in the given order.

    Raises:
        DataError: the file can't be written.
    """
    text = to_html(report, meta=meta)
    with write_errors("the page", path, fix="choose a place that can be written to"):
        write_page(path, text)


def to_html(report: AuditReport, *, meta: Mapping[str, str]) -> str:
    """Render audit.html with its style sheet and script inlined; all external text is escaped."""
    gallery = AuditGallery(report)
    severities = [finding.severity for finding in report.findings]
    significant = sum(shift.significant for shift in report.shifts)
    return render(
        "audit.html",
        filters_by_name(wording.count, wording.plural, wording.percent),
        report=report,
        summary=audit_summary(report),
        kinds=findings_by_kind(report),
        errors=severities.count("error"),
        warnings=severities.count("warning"),
        leaks=sum(finding.kind == LEAK for finding in report.findings),
        significant=significant,
        min_similarity=MIN_SIMILARITY,
        level=SIGNIFICANT,
        duplicates=duplicate_cards(gallery),
        similar_pairs=similar_pair_cards(gallery),
        missing=missing_label_cards(gallery),
        faulty_boxes=faulty_box_cards(gallery),
        gallery=gallery,
        parts=list(report.parts),
        legend=_legend(list(report.members)),
        classes=_classes(report),
        histograms=_histograms(report),
        tests=report.shifts[: significant + _MAX_OTHER_TESTS],
        findings=report.findings[:_MAX_FINDINGS],
        meta=list(meta.items()),
    )


class ClassBar(NamedTuple):
    """Share of a class among the boxes of a part; ``length`` is this share divided by the largest share."""

    part: str
    style: str
    share: float
    length: float
    boxes: int
    images: int


def _classes(report: AuditReport) -> list[tuple[str, list[ClassBar]]]:
    """(class, one bar per part) for each class."""
    labels = dict.fromkeys(label for part in report.parts.values() for label in part.per_class)
    shares = {
        (label, name): part.per_class.get(label, {}).get("boxes", 0) / max(part.boxes, 1)
        for label in labels
        for name, part in report.parts.items()
    }
    max_share = max(shares.values(), default=0) or 1.0

    def bar(label: str, number: int, name: str) -> ClassBar:
        counts, share = report.parts[name].per_class.get(label, {}), shares[label, name]
        return ClassBar(
            name, series_style(number), share, share / max_share, counts.get("boxes", 0), counts.get("images", 0)
        )

    return [(label, [bar(label, k, name) for k, name in enumerate(report.parts)]) for label in labels]


def _histograms(report: AuditReport) -> list[tuple[str, str, Markup]]:
    """(class, median size per part, chart) for each class with boxes; the size is the square root of the area."""
    sides: dict[str, dict[str, list[float]]] = {}
    for part, positions in report.members.items():
        for i in positions:
            for box in report.images[i].boxes:
                x1, y1, x2, y2 = box.xyxy
                if not box.crowd and x2 > x1 and y2 > y1:
                    class_sides = sides.setdefault(box.label, {name: [] for name in report.members})
                    class_sides[part].append(((x2 - x1) * (y2 - y1)) ** 0.5)
    charts = []
    for label in sorted(sides):
        parts = sides[label]
        edges = log2_bin_edges([side for values in parts.values() for side in values])
        rows = [(name, shares(values, edges)) for name, values in parts.items()]
        medians = [f"{sorted(values)[len(values) // 2]:.0f}" for values in parts.values() if values]
        title = f"Size of {label}, share of the boxes of each part"
        charts.append((label, f"median {' | '.join(medians)} px", histogram(title, edges, rows, x_label="size in px")))
    return charts


def _legend(parts: Sequence[str]) -> Markup:
    lines: list[Any] = [Line(name, (), series_style(k)) for k, name in enumerate(parts)]
    return legend(lines) if len(parts) > 1 else Markup("")
