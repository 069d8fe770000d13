"""The pictures of an audit: pairs side by side, and crops of the boxes that something is wrong with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..audit import AuditReport, Link
from ..errors import DataError
from ..images import read_image
from ..records import Finding, Image
from .crops import Corners, Crop, crop_around

_MOST_BYTES = 12_000_000  # of pictures in the page
_MOST_CARDS = 120  # of a kind
_MOST_STRANGERS = 6


class View(NamedTuple):
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


class Card(NamedTuple):
    """One or two pictures and what is to be said of them."""

    title: str
    says: str
    views: tuple[View, ...]
    alert: bool = False


class Gallery:
    """Reads pictures until the page is large enough; counts those that it has no room for or that can't be read."""

    def __init__(self, report: AuditReport) -> None:
        self.report = report
        self.part_of = {i: name for name, ids in report.members.items() for i in ids} if len(report.members) > 1 else {}
        self._position = {image.path: i for i, image in enumerate(report.images)}
        self.room, self.absent, self.left_out = _MOST_BYTES, 0, 0
        self.stretched = False  # whether a picture of 16 bits was, to be seen

    def view(self, position: int, meant: Sequence[Corners] = (), *, whole: bool = True, drawn: str = "missed") -> View:
        """An image with its labels, all of it or what is around the boxes meant."""
        image = self.report.images[position]
        return self._view(image, self.part_of.get(position, ""), meant, whole, drawn)

    def view_of(self, finding: Finding) -> View:
        """The place that a finding is about, also in an image that was left out for it."""
        assert finding.image is not None, "only findings about a picture are shown"
        known = self._position.get(finding.image)
        if known is not None:
            return self.view(known, finding.boxes_xyxy, whole=not finding.boxes_xyxy, drawn="false")
        corners = [*finding.boxes_xyxy, (0.0, 0.0, 1.0, 1.0)]
        width, height = (max(1, round(max(max(box[k], box[k - 2]) for box in corners))) for k in (2, 3))
        return self._view(Image(finding.image, width, height), "", finding.boxes_xyxy, not finding.boxes_xyxy, "false")

    def _view(self, image: Image, part: str, meant: Sequence[Corners], whole: bool, drawn: str) -> View:
        crop = Crop("", 0, 0, image.width, image.height)
        upright = tuple(_upright(box) for box in meant)
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
        return View(image.path.name, part, crop, labels, upright, drawn)


def copies(gallery: Gallery) -> list[Card]:
    """Pairs that show the same, those in two parts first."""
    links = [link for group in gallery.report.twins for link in group.links]
    links.sort(key=lambda link: (not _parted(link, gallery), -link.likeness))
    gallery.left_out += max(0, len(links) - _MOST_CARDS)
    cards = []
    for link in links[:_MOST_CARDS]:
        parted = _parted(link, gallery)
        told = "equal pixels" if link.exact else f"likeness {link.likeness:.2f}"
        turned = ", mirrored or turned" if link.turn else ""
        views = (gallery.view(link.first), gallery.view(link.second))
        cards.append(Card("in two parts" if parted else "the same twice", f"{told}{turned}", views, parted))
    return cards


def strangers(gallery: Gallery) -> list[Card]:
    """The most alike pairs of those that were taken for different scenes."""
    return [
        Card(
            "taken for different",
            f"likeness {link.likeness:.2f}",
            (gallery.view(link.first), gallery.view(link.second)),
        )
        for link in gallery.report.strangers[:_MOST_STRANGERS]
    ]


def seemingly_missing(gallery: Gallery) -> list[Card]:
    """The place without a label, beside the picture that has it; then images that break a habit of the data."""
    report = gallery.report
    gallery.left_out += max(0, len(report.missing) - _MOST_CARDS)
    cards = []
    for each in report.missing[:_MOST_CARDS]:
        if each.source == "copy":
            says = f"{each.box.label} is labelled in the copy beside it"
        else:
            says = f"{each.box.label} is labelled in {each.labelled} of the {each.seen} frames that show the place"
        views = gallery.view(each.image, (each.box.xyxy,)), gallery.view(each.other, (each.other_box.xyxy,))
        cards.append(Card("no label here", says, views))
    odd = [f for f in report.findings if f.kind == "label looks missing" and f.image is not None and not f.boxes_xyxy]
    gallery.left_out += max(0, len(odd) - _MOST_CARDS)
    cards += [Card("unlike the others", f.message, (gallery.view_of(f),)) for f in odd[:_MOST_CARDS]]
    return cards


def misdrawn(gallery: Gallery) -> list[Card]:
    """Boxes that something is wrong with, errors first."""
    found = [
        f for f in gallery.report.findings if f.image is not None and f.boxes_xyxy and f.kind != "label looks missing"
    ]
    gallery.left_out += max(0, len(found) - _MOST_CARDS)
    return [Card(f.kind, f.message, (gallery.view_of(f),), f.severity == "error") for f in found[:_MOST_CARDS]]


def _parted(link: Link, gallery: Gallery) -> bool:
    homes = [gallery.part_of.get(i) for i in (link.first, link.second)]
    return None not in homes and homes[0] != homes[1]


def _upright(box: Corners) -> Corners:
    """An inverted box can be drawn, too."""
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
