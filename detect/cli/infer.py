"""``detect infer``: detect defects in images or strips; print a table or JSON, or draw the boxes."""

from __future__ import annotations

import argparse
import glob
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, DetectError, OutOfMemoryError
from ..released import is_released
from .common import (
    UsageError,
    Verb,
    add_depth_arguments,
    add_tile_arguments,
    check_tile_arguments,
    detections_to_json,
    display_path,
    expand_home,
    newest_weights,
    print_table,
    report_bit_depth,
    report_released_model,
    report_tiling,
)
from .evaluate import DEFAULT_THRESHOLD, above_thresholds, score_thresholds_for
from .pre_annotate import PreAnnotationWriter, add_pre_annotation_arguments, check_pre_annotation_arguments
from .stream import add_stream_arguments, check_stream_arguments, frame_shape, run_stream

if TYPE_CHECKING:
    from ..images import Pixels
    from ..inference.predictor import Predictor
    from ..inference.tiling import StripFiles
    from ..structures import Detections
    from .evaluate import ScoreThresholds


def picture_paths(paths: Sequence[Path], out: Path | None) -> dict[Path, Path]:
    """Image -> file of its drawing, in the folder of the image or in ``out``; all names differ."""
    from ..datasets.paths import DRAWING_SUFFIX, unique_names

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for folder in dict.fromkeys(out or path.parent for path in paths):
        inside = [path for path in paths if (out or path.parent) == folder]
        for path, name in zip(inside, unique_names(inside)):
            pictures[path] = folder / f"{Path(name).stem}{DRAWING_SUFFIX}"
    return pictures


def write_picture(picture: Path, pixels: Pixels, found: Detections) -> None:
    """Write the image with its boxes."""
    from ..images import write_image
    from ..visualize import draw_detections

    write_image(picture, draw_detections(pixels, found))


def detect_strip(
    predictor: Predictor, paths: Sequence[Path], args: argparse.Namespace
) -> tuple[StripFiles, Detections]:
    """The strip and its detections.

    Raises:
        DataError: files that can't be read or don't fit together.
        ConfigError: an invalid size or overlap of tiles.
    """
    from ..inference.tiling import StripFiles

    strip = StripFiles.of(paths)
    tiling = predictor.strip_tiling(tile=args.tile, overlap=args.overlap)
    report_tiling(f"a strip of {len(paths):,} files", strip.width, strip.height, tiling, asked=tiling.side)
    return strip, predictor.strip(strip, tile=args.tile, overlap=args.overlap)


def title_of(strip: StripFiles) -> str:
    """The title of the table of detections."""
    first, last = display_path(strip.paths[0]), display_path(strip.paths[-1])
    return f"strip {first}" if first == last else f"strip {first} to {last}"


def strip_entry(strip: StripFiles, detections: list[dict[str, Any]]) -> dict[str, Any]:
    """The strip as JSON; boxes are in pixels of the strip, ``top`` is the first row of each file."""
    files = [{"file": str(path), "top": top} for path, top in zip(strip.paths, strip.tops)]
    return {"files": files, "width": strip.width, "height": strip.height, "detections": detections}


def by_file(strip: StripFiles, found: Detections) -> Iterator[tuple[Path, Detections]]:
    """Each file with its detections in pixels of the file; boxes across two files are clipped to each."""
    import numpy as np

    from ..structures import Detections, clip

    for path, top, bottom in zip(strip.paths, strip.tops, (*strip.tops[1:], strip.height)):
        down = np.array([0, top, 0, top], np.float32)
        boxes = clip(found.boxes_xyxy - down, strip.width, bottom - top)
        inside = boxes[:, 3] > boxes[:, 1]
        yield path, Detections(boxes[inside], found.scores[inside], found.labels[inside], found.categories)


JSON_SCHEMA = 1


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files, folders of them, or quoted globs")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="RUN",
        help="run folder, checkpoint, or released (default: the newest runs/*/best.pt, else released)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help=f"lowest score to show (default: the thresholds.json of the run, else {DEFAULT_THRESHOLD})",
    )
    parser.add_argument(
        "--draw", action="store_true", help="write NAME.detections.png to the folder of the image, or to --out"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the written files")
    parser.add_argument(
        "--json", action="store_true", help="print JSON and nothing else; with --out write it there too"
    )
    parser.add_argument("--strip", action="store_true", help="the images are one long strip, one below the other")
    add_depth_arguments(parser)
    add_tile_arguments(parser)
    add_stream_arguments(parser)
    add_pre_annotation_arguments(parser, required=False)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")


def _run(args: argparse.Namespace) -> int:
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise UsageError(f"--threshold is {args.threshold}", fix="give a score from 0 to 1")
    if args.out is not None and not (args.draw or args.json or args.target or args.stream):
        raise UsageError("--out without --draw, --json or --to would write nothing", fix="add one of them")
    check_tile_arguments(args)
    check_stream_arguments(args)
    check_pre_annotation_arguments(args)
    if args.stream is not None:
        return _run_stream(args)
    if not args.images:
        raise UsageError("no image was given", fix="give image files, folders or globs, or --stream with a source")
    paths, missing = find_images(args.images)
    if args.strip and missing:
        raise missing[0]  # a strip must be complete
    failed = [_failure(str(error.where), error) for error in missing]
    predictor, entries, strip, writer = None, [], {}, PreAnnotationWriter()
    thresholds: ScoreThresholds = DEFAULT_THRESHOLD if args.threshold is None else args.threshold
    if paths:
        predictor = _load_predictor(args)
        thresholds = score_thresholds_for(predictor.weights_path, args.threshold)
        if args.strip:
            strip = _detect_strip(predictor, paths, thresholds, args, writer)
        else:
            entries = _detect_all(predictor, paths, thresholds, args, failed, writer)
        report_bit_depth(predictor, drawn=args.draw)
    if args.json:
        _emit_json({**_document(predictor, entries, failed, thresholds), **strip}, args.out)
    if args.target and predictor is not None and writer.images:
        to = sys.stderr if args.json else sys.stdout
        writer.write(predictor.categories, args, thresholds, source=str(predictor.weights_path), to=to)
    if failed:
        print(f"detect: {len(failed)} of {len(paths) + len(missing)} inputs could not be used", file=sys.stderr)
    return 2 if failed else 0


def _run_stream(args: argparse.Namespace) -> int:
    from ..inference.video import open_source

    given = str(expand_home(Path(args.stream))) if args.stream[:1] == "~" else args.stream
    source = open_source(given, frame_shape=frame_shape(args.frame_size), depth=args.depth or 8)
    predictor = _load_predictor(args)
    run_stream(predictor, source, score_thresholds_for(predictor.weights_path, args.threshold), args)
    report_bit_depth(predictor)
    return 0


def _load_predictor(args: argparse.Namespace) -> Predictor:
    from ..inference.predictor import Predictor

    weights = args.weights or newest_weights()
    predictor = Predictor.load(weights, device=args.device, max_value=args.max_value)
    if is_released(weights):
        report_released_model(predictor.categories)
    return predictor


def _detect_all(
    predictor: Predictor,
    paths: Sequence[Path],
    thresholds: ScoreThresholds,
    args: argparse.Namespace,
    failed: list[dict[str, str]],
    writer: PreAnnotationWriter,
) -> list[dict[str, Any]]:
    """One JSON entry per image; unreadable files are appended to ``failed``, pre-annotations to ``writer``."""
    from ..images import read_image

    pictures = picture_paths(paths, args.out) if args.draw else {}
    entries: list[dict[str, Any]] = []
    reported = False
    for path in paths:
        try:
            pixels = read_image(path)
            height, width = pixels.shape[:2]
            tiling = predictor.tiling_for(width, height, tile=args.tile, overlap=args.overlap)
            if tiling is not None and not reported:
                report_tiling(display_path(path), width, height, tiling, asked=args.tile)
                reported = True
            found = predictor(pixels, tile=args.tile, overlap=args.overlap)
        except (DataError, OutOfMemoryError) as error:
            named = error if error.where is not None else DataError(error.found, where=path, fix=error.fix)
            failed.append(_failure(str(path), named))
            continue
        found = above_thresholds(found, thresholds)
        picture = pictures.get(path)
        if picture is not None:
            write_picture(picture, pixels, found)
        if not args.json:
            _print_detections(display_path(path), found, thresholds, picture)
        if args.target:
            writer.add(path, width, height, found)
        entries.append(_entry(path, found, width=width, height=height, picture=picture))
    return entries


def _detect_strip(
    predictor: Predictor,
    paths: Sequence[Path],
    thresholds: ScoreThresholds,
    args: argparse.Namespace,
    writer: PreAnnotationWriter,
) -> dict[str, Any]:
    """The JSON of a strip; drawings and pre-annotations are written file by file."""
    from ..images import read_image

    strip, found = detect_strip(predictor, paths, args)
    found = above_thresholds(found, thresholds)
    pictures = picture_paths(paths, args.out) if args.draw else {}
    if not args.json:
        _print_detections(title_of(strip), found, thresholds, args.out if args.draw else None)
    for path, inside in by_file(strip, found) if args.draw or args.target else ():
        pixels = read_image(path)
        if args.draw:
            write_picture(pictures[path], pixels, inside)
        if args.target:
            writer.add(path, pixels.shape[1], pixels.shape[0], inside)
    return {"strip": strip_entry(strip, detections_to_json(found))}


def _print_detections(what: str, found: Detections, thresholds: ScoreThresholds, picture: Path | None) -> None:
    where = f" -> {display_path(picture)}" if picture is not None else ""
    if not len(found):
        nothing = (
            f"no detection with a score of {thresholds:g} or more"
            if isinstance(thresholds, float)
            else "no detection reaches its threshold"
        )
        print(f"{what}: {nothing}{where}")
        return
    rows = [[one.label, f"{one.score:.3f}", *(f"{value:.1f}" for value in one.xyxy)] for one in found]
    print_table(f"{what}: {len(found)} found{where}", ["class", "score", "x1", "y1", "x2", "y2"], rows)


def _entry(path: Path, found: Detections, *, width: int, height: int, picture: Path | None) -> dict[str, Any]:
    entry = {"file": str(path), "width": width, "height": height, "detections": detections_to_json(found)}
    return entry if picture is None else {**entry, "picture": str(picture)}


def _document(
    predictor: Predictor | None,
    entries: list[dict[str, Any]],
    failed: list[dict[str, str]],
    thresholds: ScoreThresholds,
) -> dict[str, Any]:
    categories = list(predictor.categories) if predictor else []
    one = thresholds if isinstance(thresholds, float) else None
    by_class = dict.fromkeys(categories, thresholds) if isinstance(thresholds, float) else dict(thresholds.per_class)
    return {
        "schema": JSON_SCHEMA,
        "weights": str(predictor.weights_path) if predictor else None,
        "categories": categories,
        "threshold": one,
        "thresholds": {name: by_class[name] for name in categories},
        "images": entries,
        "failed": failed,
    }


def _emit_json(document: dict[str, Any], out: Path | None) -> None:
    from ..fileio import json_text, write_json

    if out is not None:
        write_json(out / "detections.json", document, indent=2)
    sys.stdout.write(json_text(document, sys.stdout.encoding, indent=2))


def _failure(given: str, error: DetectError) -> dict[str, str]:
    print(f"detect: {error}", file=sys.stderr)
    return {"file": given, "reason": str(error)}


def find_images(inputs: Sequence[str]) -> tuple[list[Path], list[DataError]]:
    """Image files in the order given, without duplicates.

    A file is used whatever its name; a folder or glob stands for its files with the suffix of an image, without
    drawings of earlier calls. Other image files there are counted on stderr.

    Returns:
        The files, and one error for each input without an image, with the input as its ``where``.
    """
    from ..datasets.paths import natural_key, stem
    from ..images import SUFFIXES

    found: dict[Path, Path] = {}
    errors: list[DataError] = []
    for given in inputs:
        path = expand_home(Path(given))
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = _images_among(given, list(_files(path)))
            files.sort(key=lambda file: (natural_key(stem(file)), natural_key(str(file))))
            if not files:
                fix = f"give a folder that holds {', '.join(SUFFIXES)} files"
                errors.append(DataError("no image in this folder", where=given, fix=fix))
        elif glob.has_magic(given):
            files = _images_among(given, [file for match in _matches(path) for file in _files(match)])
            files.sort(key=lambda file: natural_key(str(file)))
            if not files:
                errors.append(DataError("no image matches", where=given, fix="check the pattern"))
        else:
            files = []
            errors.append(DataError("no such image", where=given, fix="check the path"))
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values()), errors


def _files(path: Path) -> Iterator[Path]:
    from ..datasets.paths import files_below

    return (Path(below) for _, below in files_below(path)) if path.exists() else iter(())


def _matches(pattern: Path) -> list[Path]:
    """The matching paths; an existing folder with pattern characters in its name, such as ``coil[17]``, is literal."""
    literal, parts = Path(), list(pattern.parts)
    while parts and (literal / parts[0]).is_dir():
        literal /= parts.pop(0)
    each = (glob.glob(text, recursive=True) for text in (str(Path(glob.escape(str(literal)), *parts)), str(pattern)))  # noqa: PTH207
    return [Path(match) for match in next(each) or next(each)]


def _images_among(given: str, files: Sequence[Path]) -> list[Path]:
    """The files to read; other image files are counted on stderr."""
    from ..datasets.paths import DRAWING_SUFFIX
    from ..images import FORMATS_READ, SUFFIXES, is_unread_image

    candidates = [path for path in files if not path.name.endswith(DRAWING_SUFFIX)]
    left_out = [path for path in candidates if path.suffix.lower() not in SUFFIXES and is_unread_image(path)]
    if left_out:
        kinds = Counter(path.suffix.lower() or "without a suffix" for path in left_out)
        counts = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
        found = f"{len(left_out):,} images are left out by their suffix ({counts})"
        fix = f"save them as {FORMATS_READ}, or name the files one by one if they are of these formats"
        print(f"detect: {DetectError(found, where=given, fix=fix)}", file=sys.stderr)
    return [path for path in candidates if path.suffix.lower() in SUFFIXES]


INFER = Verb(
    summary="Detect defects in images; write a table, drawn images, JSON, or pre-annotations.",
    details=(
        "Boxes are x1, y1, x2, y2 in pixels, 0-based, x2 and y2 exclusive. Unreadable images are named on stderr, the\n"
        "others are processed, and the exit code is 2. Drawings of images with the same name get longer names. If\n"
        "detect evaluate --costs wrote a thresholds.json next to the weights, its thresholds and its calibration, if\n"
        "any, are used; stderr says so. Images much larger than the training images are processed in overlapping\n"
        "tiles, and each defect is reported once; --strip joins all images to one, and --stream processes frames as\n"
        "they arrive (docs/strips.md). --to writes the same detections that are shown: COCO and CSV reference the\n"
        "images in place, Pascal-VOC, YOLO and LabelMe get copies. --to never replaces files; --draw and --json do."
    ),
    examples=[
        "infer image.bmp --draw",
        "infer image.bmp --draw --weights runs/neu",
        "infer coil_17/ 'archive/*.png' --weights runs/neu --threshold 0.3 --draw --out pictures",
        "infer coil_17/ --weights runs/neu --json > coil_17.json",
        "infer coil_17/ --weights runs/neu --to coco --out pre_annotations",
        "infer --stream incoming/ --weights runs/neu --out found",
        "infer --strip coil_17/ --weights runs/neu --tile 400 --overlap 100 --json > coil_17.json",
    ],
    add_arguments=_add_arguments,
    run=_run,
    only_prints=lambda args: not (args.draw or args.out or args.target),
)
