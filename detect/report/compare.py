"""Compare systems in compare.html, compare.md and compare.json: scores, differences with intervals, example images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from ..datasets.paths import image_next_to
from ..errors import DataError
from ..evaluation.coco_eval import NO_DETECTIONS_THRESHOLD, best_f1
from ..evaluation.compare import FEW_GROUPS, METRICS, ImageDifference, image_differences
from ..evaluation.records import CocoEvaluation, ImageOutcome
from ..evaluation.summary import image_outcomes
from .page import filters_by_name, render, write_errors, write_page
from .tables import count, fraction, markdown_table, plain_text, plural, signed_text
from .thumbnails import Corners, Thumbnail, embed_thumbnail, place_tags

_ALL = "all classes"


def class_rows(comparison: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for all classes together and one per class: {"name", "boxes", "first", "other", "difference"}.

    The last three are {metric: {"value", "low", "high", ...}}; ``other`` is any system except the first.
    """
    first, difference = comparison["systems"][0], other["difference"]
    rows = [{"name": _ALL, "boxes": comparison["boxes"], "first": first, "other": other, "difference": difference}]
    for name, boxes in comparison["boxes_by_class"].items():
        rows.append(
            {
                "name": name,
                "boxes": boxes,
                "first": first["per_class"][name],
                "other": other["per_class"][name],
                "difference": difference["per_class"][name],
            }
        )
    return rows


def subject(comparison: dict[str, Any]) -> list[str]:
    """Numbers of images, groups, folds and labelled objects, one text each."""
    parts = [plural(comparison["images"], "image")]
    if comparison["groups"] is not None:
        parts[0] += f" in {plural(comparison['groups'], 'group')}"
    if comparison["folds"] > 1:
        parts.append(f"{comparison['folds']} folds")
    return [*parts, plural(comparison["boxes"], "labelled object")]


def sentences(comparison: dict[str, Any]) -> list[str]:
    """For each system except the first: verdict, size of the difference, classes that differ."""
    return [_sentence(comparison, row) for row in comparison["systems"][1:]]


def explanation(comparison: dict[str, Any]) -> str:
    """How to read the scores and intervals, and what they do not cover."""
    groups = comparison["groups"]
    covers = {row["difference"]["covers"] for row in comparison["systems"][1:]}
    unit = "images" if groups is None else f"the {groups} groups of images"
    text = (
        "Scores are fractions as computed by pycocotools, averaged over runs and folds. "
        f"Intervals have a confidence of {percent(comparison)}, from {comparison['resamples']:,} bootstrap resamples "
        f"of {unit}. Differences are paired: both systems on the same resampled images, the other minus the first. "
    )
    if covers == {"images"}:
        text += "They cover the choice of images only: with one training run per system, other seeds may differ. "
    elif covers == {"images and seeds"}:
        text += "They cover the choice of images and of seeds. "
    else:
        text += "They cover the choice of images, and of seeds where both systems have several. "
    differences = [row["difference"][key] for row in _all_rows(comparison) for key in METRICS]
    if any(each["required_images"] is not None for each in differences):
        text += (
            "The given number of images would show a difference in four of five cases, if it is as large as measured. "
        )
    tested = sum(each["low"] is not None for each in differences)
    if tested:
        text += (
            f"Each of the {tested} differences is tested separately: if the systems were equal, about one in "
            f"{round(1 / (1 - comparison['confidence']))} would still be called better or worse by chance."
        )
    return text.rstrip()


def warnings(comparison: dict[str, Any]) -> list[str]:
    """What to check before trusting the scores: too few images or groups, then the warnings of the comparison."""
    groups = comparison["groups"]
    number, unit = (comparison["images"], "images") if groups is None else (groups, "groups")
    few = f"With fewer than {FEW_GROUPS} {unit}, intervals of scores are often too narrow."
    return [*([few] if number < FEW_GROUPS else []), *comparison["warnings"]]


_REASONS = {
    "nothing to measure": "nothing to measure",
    "too few groups": "fewer than two {units} contain a box",
    "more images": "about {needed:,} images{grouping} are needed if the difference is as large as measured",
    "more seeds": "the seeds differ too much, and more images alone would not help; train with more seeds",
    "too small": "the difference is too small for any practical number of images",
}


def reason_text(difference: dict[str, Any], *, grouped: bool) -> str:
    """Why a difference has no verdict; ``grouped``: whether groups of images were resampled."""
    return _REASONS[difference["reason"]].format(
        units="groups" if grouped else "images",
        needed=difference["required_images"],
        grouping=" in groups like these" if grouped else "",
    )


def verdict_cell(difference: dict[str, Any], *, grouped: bool = False) -> str:
    """The verdict for a table cell; ``explanation`` describes the assumption behind the number of images."""
    needed, reason = difference["required_images"], difference["reason"]
    if needed is not None:
        return f"cannot tell; about {needed:,} images needed"
    if reason is None:
        return str(difference["verdict"])
    text = reason_text(difference, grouped=grouped)
    return text if reason == "nothing to measure" else f"cannot tell: {text}"


def to_markdown(comparison: dict[str, Any]) -> str:
    """The whole document; names are escaped, so that they can't break a table."""
    share, rows = percent(comparison), comparison["systems"]
    lines = ["# Comparison", "", f"On {', '.join(subject(comparison))}.", ""]
    for warning in warnings(comparison):
        lines += [f"> **Check this:** {plain_text(warning)}", ""]
    lines += [f"- {plain_text(sentence)}" for sentence in sentences(comparison)]
    header = ["system", "runs", *(cell for key in METRICS for cell in (key, share))]
    body = [
        [
            plain_text(row["name"]),
            str(row["runs"]),
            *(cell for key in METRICS for cell in (fraction(row[key]["value"]), interval_text(row[key]))),
        ]
        for row in rows
    ]
    lines += ["", markdown_table(header, body, numbers=True)]
    for other in rows[1:]:
        for key in METRICS:
            header = ["class", "boxes", comparison["against"], other["name"], "difference", share, "verdict"]
            body = [
                [
                    *(plain_text(row["name"]), count(row["boxes"])),
                    *(fraction(row[each][key]["value"]) for each in ("first", "other")),
                    *(signed_text(row["difference"][key]["value"]), interval_text(row["difference"][key], signs=True)),
                    verdict_cell(row["difference"][key], grouped=comparison["groups"] is not None),
                ]
                for row in class_rows(comparison, other)
            ]
            title = f"{plain_text(other['name'])} compared with {plain_text(comparison['against'])}: {key}"
            lines += ["", f"## {title}", ""]
            lines.append(markdown_table([plain_text(cell) for cell in header], body, numbers=True))
    return "\n".join([*lines, "", explanation(comparison), ""])


def percent(comparison: dict[str, Any]) -> str:
    """The confidence of the intervals as text: 95 %."""
    return f"{100 * comparison['confidence']:g}\N{NO-BREAK SPACE}%"


def interval_text(interval: dict[str, Any], *, signs: bool = False) -> str:
    """An interval as text, 0.480 to 0.541, or a dash; ``signs`` adds plus or minus signs."""
    if interval["low"] is None:
        return fraction(None)
    return " to ".join((signed_text if signs else fraction)(interval[end]) for end in ("low", "high"))


def _all_rows(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for other in comparison["systems"][1:] for row in class_rows(comparison, other)]


def _sentence(comparison: dict[str, Any], other: dict[str, Any]) -> str:
    name, baseline = other["name"], comparison["against"]
    ap50 = other["difference"]["AP50"]
    verdict = ap50["verdict"]
    if ap50["value"] is None:
        return f"{name} compared with {baseline}: nothing to measure."
    size = f"AP50 {signed_text(ap50['value'])}"
    if ap50["low"] is not None:
        size += f" ({interval_text(ap50, signs=True)}, {percent(comparison)})"
    if verdict == "cannot tell":
        reason = reason_text(ap50, grouped=comparison["groups"] is not None)
        text = f"The difference between {name} and {baseline} is not statistically significant: {size}; {reason}."
    else:
        text = f"{name} is {verdict} than {baseline}: {size}."
    ap = other["difference"]["AP"]
    if ap["value"] is not None and ap["verdict"] != verdict:
        text += f" By AP: {ap['verdict']}, {signed_text(ap['value'])}."
    for kind in ("better", "worse"):
        classes = [row for row in class_rows(comparison, other)[1:] if row["difference"]["AP50"]["verdict"] == kind]
        if classes:
            listed = ", ".join(f"{row['name']} ({signed_text(row['difference']['AP50']['value'])})" for row in classes)
            text += f" {kind.capitalize()} on {listed}."
    return text


_MAX_PAIRS = {"better": 24, "worse": 24, "mixed": 12}
_MAX_GALLERY_BYTES = 12_000_000  # all image data of the page together


class SystemRun(NamedTuple):
    """One system's run on one fold: its score threshold and its hits, misses and false alarms in each image."""

    evaluated: CocoEvaluation
    score_threshold: float
    outcomes: tuple[ImageOutcome, ...]


class OverlayBox(NamedTuple):
    """A box to draw.

    Attributes:
        xyxy: corners in pixels.
        style: class of the style sheet.
        only: whether the other system misses the label that this detection matches.
        text: text of the tag; empty for no tag.
        tag: CSS declarations with the position of the tag.
    """

    xyxy: Corners
    style: str
    only: bool
    text: str
    tag: str


class SystemView(NamedTuple):
    """Boxes and counts of one system on one image."""

    marks: tuple[OverlayBox, ...]
    found: int
    missed: int
    false: int


class ImagePair(NamedTuple):
    """One image with the boxes of two systems.

    Attributes:
        file_name: as in the COCO file.
        picture: position in ``ComparisonGallery.pictures``, None if the file can't be read.
        width, height: in pixels.
        sides: the first system and the other one.
        caption: the differences in words.
        categories: positions of the categories in which the systems differ.
    """

    file_name: str
    picture: int | None
    width: float
    height: float
    sides: tuple[SystemView, SystemView]
    caption: str
    categories: tuple[int, ...]


class GallerySection(NamedTuple):
    """Image pairs in which the other system is "better", "worse" or "mixed"; ``of`` is the number of such images."""

    key: str
    pairs: tuple[ImagePair, ...]
    of: int


class ComparisonGallery(NamedTuple):
    """Sections by name of the other system, the images that they share, and the reason for each unreadable file."""

    sections: dict[str, tuple[GallerySection, ...]]
    pictures: tuple[Thumbnail, ...]
    unreadable: tuple[str, ...]


def run_at_best_f1(evaluated: CocoEvaluation) -> SystemRun:
    """The run at the score threshold with the best F1 over all categories."""
    best = best_f1(evaluated)["threshold"]
    threshold = NO_DETECTIONS_THRESHOLD if best is None else float(best)
    return SystemRun(evaluated, threshold, image_outcomes(evaluated, threshold))


def ranked_differences(first: Sequence[SystemRun], other: Sequence[SystemRun]) -> list[tuple[int, ImageDifference]]:
    """(fold, difference) for all images on which the systems differ, largest difference first."""
    differences = [
        (fold, each)
        for fold, (a, b) in enumerate(zip(first, other))
        for each in image_differences(a.evaluated, b.evaluated, score_thresholds=(a.score_threshold, b.score_threshold))
        if each.gained or each.lost or each.false[0] != each.false[1]
    ]
    return sorted(differences, key=lambda item: (-abs(item[1].net), -item[1].gained - item[1].lost))


def build_gallery(
    differences_by_system: Mapping[str, Sequence[tuple[int, ImageDifference]]],
    runs: Mapping[str, Sequence[SystemRun]],
    images_roots: Sequence[Path],
) -> ComparisonGallery:
    """Select image pairs, read the images and add the boxes; each image is embedded once, 12 MB in total at most.

    Args:
        differences_by_system: ``ranked_differences`` of each system except the first.
        runs: one run per fold for each system, the first system first.
        images_roots: for each fold, the folder to which its file names are relative.
    """
    first = next(iter(runs.values()))
    chosen = {
        (name, key): _select_pairs(differences, key)
        for name, differences in differences_by_system.items()
        for key in _MAX_PAIRS
    }
    pictures: list[Thumbnail] = []
    unreadable: list[str] = []
    known: dict[tuple[int, int], int | None] = {}
    bytes_left = _MAX_GALLERY_BYTES
    shown: dict[tuple[str, str], list[ImagePair]] = {key: [] for key in chosen}
    # Each round adds one image to each section, so that no section stays empty when the bytes are used up.
    for rank in range(max(_MAX_PAIRS.values())):
        for (name, key), differences in chosen.items():
            if rank >= min(_MAX_PAIRS[key], len(differences)) or bytes_left <= 0:
                continue
            fold, difference = differences[rank]
            place = fold, difference.image
            file_name = first[fold].evaluated.truth.images[difference.image].file_name
            if place not in known:
                known[place] = None
                try:
                    pictures.append(embed_thumbnail(image_next_to(images_roots[fold], file_name)))
                    known[place] = len(pictures) - 1
                    bytes_left -= len(pictures[-1].uri)
                except DataError as error:
                    unreadable.append(f"{file_name}: {error.found}")
            index = known[place]
            both = first[fold].outcomes[difference.image], runs[name][fold].outcomes[difference.image]
            categories = first[fold].evaluated.truth.categories
            shown[name, key].append(
                _image_pair(both, difference, index, None if index is None else pictures[index], categories)
            )
    sections = {
        name: tuple(GallerySection(key, tuple(shown[name, key]), len(chosen[name, key])) for key in _MAX_PAIRS)
        for name in differences_by_system
    }
    return ComparisonGallery(sections, tuple(pictures), tuple(unreadable))


def _select_pairs(differences: Sequence[tuple[int, ImageDifference]], key: str) -> list[tuple[int, ImageDifference]]:
    sign = {"better": 1, "worse": -1, "mixed": 0}[key]
    return [each for each in differences if (each[1].net > 0) - (each[1].net < 0) == sign]


def _image_pair(
    both: tuple[ImageOutcome, ImageOutcome],
    difference: ImageDifference,
    index: int | None,
    picture: Thumbnail | None,
    categories: Sequence[str],
) -> ImagePair:
    width, height = _extent(both, picture)
    missed = [{(miss.category, miss.gt_xyxy) for miss in each.misses} for each in both]
    sides = _system_view(both[0], missed[1], width, height), _system_view(both[1], missed[0], width, height)
    false = [Counter(alarm.category for alarm in each.false_alarms) for each in both]
    differing = {category for category, _ in missed[0] ^ missed[1]}
    differing |= {name for name in categories if false[0][name] != false[1][name]}
    captions = []
    if difference.gained:
        captions.append(f"{difference.gained} more found")
    if difference.lost:
        captions.append(f"{difference.lost} no longer found" if difference.gained else f"{difference.lost} fewer found")
    if difference.false[0] != difference.false[1]:
        captions.append(f"false alarms {difference.false[0]} → {difference.false[1]}")
    positions = tuple(k for k, name in enumerate(categories) if name in differing)
    return ImagePair(both[0].image.file_name, index, width, height, sides, ", ".join(captions), positions)


def _system_view(outcome: ImageOutcome, only: set[Any], width: float, height: float) -> SystemView:
    """Boxes of one system; ``only`` contains the (category, box) labels that the other system misses."""
    marks = [(box, "crowd", False, "ignored") for box in outcome.crowd_xyxy]
    marks += [(hit.gt_xyxy, "true", False, "") for hit in outcome.hits]
    marks += [(miss.gt_xyxy, "missed", False, f"missed: {miss.category}") for miss in outcome.misses]
    marks += [
        (hit.pred_xyxy, "hit", (hit.category, hit.gt_xyxy) in only, f"{hit.category} {hit.score:.2f}")
        for hit in reversed(outcome.hits)
    ]
    marks += [
        (alarm.pred_xyxy, "false", False, f"{alarm.category} {alarm.score:.2f}")
        for alarm in reversed(outcome.false_alarms)
    ]
    tags = place_tags(
        [mark[0] for mark in marks],
        [mark[3] for mark in marks],
        [mark[1] == "missed" for mark in marks],
        width,
        height,
    )
    drawn = tuple(OverlayBox(*mark, tag) for mark, tag in zip(marks, tags))
    return SystemView(drawn, len(outcome.hits), len(outcome.misses), len(outcome.false_alarms))


def _extent(both: tuple[ImageOutcome, ImageOutcome], picture: Thumbnail | None) -> tuple[float, float]:
    """(width, height) of the picture if it was read, else from the labels, else the extent of the boxes."""
    image = both[0].image
    if picture is not None:
        return picture.width, picture.height
    if image.width and image.height:
        return image.width, image.height
    boxes = [box for each in both for box in each.crowd_xyxy]
    boxes += [m.gt_xyxy for each in both for m in each.misses] + [h.gt_xyxy for each in both for h in each.hits]
    boxes += [h.pred_xyxy for each in both for h in each.hits]
    boxes += [alarm.pred_xyxy for each in both for alarm in each.false_alarms]
    return max(1.0, *(box[2] for box in boxes)), max(1.0, *(box[3] for box in boxes))


_SKETCH_WH = (150, 18)  # CSS pixels


class ComparisonPaths(NamedTuple):
    """Paths of the files of a comparison."""

    json: Path
    markdown: Path
    html: Path


def write_comparison(
    comparison: dict[str, Any],
    evaluations: Mapping[str, Sequence[CocoEvaluation]],
    out: Path,
    *,
    images_roots: Sequence[Path],
    meta: dict[str, Any] | None = None,
) -> ComparisonPaths:
    """Write compare.json, compare.md and compare.html into the folder ``out``.

    Args:
        comparison: result of ``detect.evaluation.compare.compare``.
        evaluations: for each system, the first system first, the run of each fold whose boxes are drawn.
        out: output folder, created if it does not exist; files of an earlier comparison are replaced.
        images_roots: for each fold, the folder to which image file names are relative.
        meta: provenance as plain JSON values, shown in the given order.

    Raises:
        DataError: the folder can't be written to.
    """
    meta = meta or {}
    runs = {name: [run_at_best_f1(each) for each in folds] for name, folds in evaluations.items()}
    first, *others = runs
    differences = {name: ranked_differences(runs[first], runs[name]) for name in others}
    thresholds = {name: [each.score_threshold for each in folds] for name, folds in runs.items()}
    images = {
        name: [_difference_row(runs[first][fold], each) for fold, each in ranked]
        for name, ranked in differences.items()
    }
    content = {
        **comparison,
        "warnings": warnings(comparison),
        "score_thresholds": thresholds,
        "images_by_system": images,
        "meta": meta,
    }
    paths = ComparisonPaths(out / "compare.json", out / "compare.md", out / "compare.html")
    contents = {
        paths.json: json.dumps(content, indent=1, allow_nan=False, default=str) + "\n",
        paths.markdown: to_markdown(comparison),
        paths.html: to_html(comparison, build_gallery(differences, runs, images_roots), thresholds, meta),
    }
    with write_errors("the comparison", out):
        for path, text in contents.items():
            write_page(path, text)
    return paths


def to_html(
    comparison: dict[str, Any],
    gallery: ComparisonGallery,
    thresholds: Mapping[str, Sequence[float]],
    meta: dict[str, Any],
) -> str:
    """Render compare.html with its style sheets and script inlined; all external text is escaped."""
    filters = filters_by_name(fraction, count, plural, interval_text, signed_text, verdict_cell)
    others = comparison["systems"][1:]
    tables = [(row["name"], class_rows(comparison, row)) for row in others]
    return render(
        "compare.html",
        filters,
        c=comparison,
        figures=METRICS,
        share=percent(comparison),
        subject=subject(comparison),
        sentences=sentences(comparison),
        warnings=warnings(comparison),
        explanation=explanation(comparison),
        tables=tables,
        sketch=interval_sketch,
        reach={name: {key: _reach(rows, key) for key in METRICS} for name, rows in tables},
        gallery=gallery,
        thresholds={name: ", ".join(f"{each:.3f}" for each in folds) for name, folds in thresholds.items()},
        meta=[(key.replace("_", " "), value) for key, value in meta.items() if value is not None],
    )


def interval_sketch(interval: dict[str, Any], reach: float) -> Markup:
    """An SVG bar of an interval, its value as a dot, and a line at 0; the scale is -``reach`` to ``reach``."""
    if interval["value"] is None or not reach:
        return Markup("")
    width, height = _SKETCH_WH

    def x(value: float) -> float:
        return width / 2 + (width / 2 - 5) * value / reach

    kind = "unsure" if interval["verdict"] == "cannot tell" else interval["verdict"]
    bar = ""
    if interval["low"] is not None:
        low, high = x(interval["low"]), x(interval["high"])
        bar = (
            f'<rect class="{kind}" x="{low:.1f}" y="{height / 2 - 2.5}" width="{high - low:.1f}" height="5" rx="2.5"/>'
        )
    return Markup(
        f'<svg class="interval" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
        f'<line x1="{width / 2}" x2="{width / 2}" y1="0" y2="{height}"/>{bar}'
        f'<circle class="{kind}" cx="{x(interval["value"]):.1f}" cy="{height / 2}" r="3.5"/></svg>'
    )


def _reach(rows: Sequence[dict[str, Any]], key: str) -> float:
    ends = [row["difference"][key][end] for row in rows for end in ("value", "low", "high")]
    return max((abs(end) for end in ends if end is not None), default=0.0)


def _difference_row(first: SystemRun, difference: ImageDifference) -> dict[str, Any]:
    image = first.evaluated.truth.images[difference.image]
    return {
        "id": image.id,
        "file_name": image.file_name,
        "gained": difference.gained,
        "lost": difference.lost,
        "false": list(difference.false),
    }
