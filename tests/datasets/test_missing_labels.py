"""Labels that look missing: in copies, in frames of a strip, by the habits of the data; and not where nothing is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from detect.datasets.audit import (
    check_missing_labels,
    check_unusual_images,
    inverse_transform_box,
    missing_in_duplicates,
    missing_in_strips,
    transform_box,
)
from detect.datasets.duplicates import DuplicateGroup, SimilarPair, find_duplicates_and_similar, fingerprints
from detect.images import read_size
from detect.structures import Box, Frame, Image, area, intersection
from labelled_data import pixels

TURNS = {
    Pillow.Transpose.FLIP_LEFT_RIGHT: lambda x, y, w, h: (w - x, y),
    Pillow.Transpose.FLIP_TOP_BOTTOM: lambda x, y, w, h: (x, h - y),
    Pillow.Transpose.ROTATE_90: lambda x, y, w, h: (y, w - x),
    Pillow.Transpose.ROTATE_180: lambda x, y, w, h: (w - x, h - y),
    Pillow.Transpose.ROTATE_270: lambda x, y, w, h: (h - y, x),
    Pillow.Transpose.TRANSPOSE: lambda x, y, w, h: (y, x),
    Pillow.Transpose.TRANSVERSE: lambda x, y, w, h: (h - y, w - x),
}


def moved_by(turn: Pillow.Transpose, xyxy: tuple[float, ...], width: int, height: int) -> tuple[float, ...]:
    corners = [TURNS[turn](x, y, width, height) for x, y in (xyxy[:2], xyxy[2:])]
    xs, ys = zip(*corners)
    return min(xs), min(ys), max(xs), max(ys)


@pytest.mark.parametrize("turn", list(TURNS))
@pytest.mark.parametrize("size", [(120, 120), (120, 80)])
def test_boxes_follow_a_turned_copy_both_ways(tmp_path: Path, turn: Pillow.Transpose, size: tuple[int, int]) -> None:
    picture = Pillow.fromarray(pixels(3, *size))
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    picture.save(paths[0])
    picture.transpose(turn).save(paths[1])
    ((duplicate_groups,), _) = find_duplicates_and_similar(
        [p for p in fingerprints(paths) if not isinstance(p, Exception)]
    )
    (link,) = duplicate_groups.links
    here = (10.0, 20.0, 50.0, 35.0)
    there = moved_by(turn, here, *size)
    wh = read_size(paths[1])
    assert transform_box(here, link.transform, size, wh) == pytest.approx(there)
    assert inverse_transform_box(there, link.transform, wh, size) == pytest.approx(here)


def pair(first: list[Box], second: list[Box], transform: int = 0) -> tuple[list[Image], list[DuplicateGroup]]:
    images = [Image(Path(f"{n}.png"), 100, 100, tuple(boxes)) for n, boxes in (("a", first), ("b", second))]
    return images, [DuplicateGroup((0, 1), False, 0.9, transform > 0, (SimilarPair(0, 1, 0.9, transform=transform),))]


def test_a_label_that_only_the_copy_has() -> None:
    one, other = Box("dent", (10, 10, 40, 40)), Box("dent", (60, 60, 90, 90))
    images, duplicate_groups = pair([one, other], [Box("dent", (12, 9, 41, 42))])
    (missing,) = missing_in_duplicates(images, duplicate_groups)
    assert (missing.image, missing.other, missing.box.xyxy, missing.source) == (1, 0, other.xyxy, "copy")
    (finding,) = check_missing_labels([missing], images, [Path("a.xml"), Path("b.xml")])
    assert (finding.kind, finding.severity, finding.path, finding.image) == (
        "label looks missing",
        "warning",
        Path("b.xml"),
        Path("b.png"),
    )
    assert "b.png has no box at x 60 to 90, y 60 to 90, but a.png shows the same and has one (dent)" in finding.message


def test_a_mirrored_copy_is_asked_at_the_mirrored_place() -> None:
    images, duplicate_groups = pair([Box("dent", (10, 10, 40, 40))], [Box("dent", (60, 10, 90, 40))], transform=1)
    assert missing_in_duplicates(images, duplicate_groups) == []
    images, duplicate_groups = pair([Box("dent", (10, 10, 40, 40))], [Box("dent", (10, 10, 40, 40))], transform=1)
    assert {(m.image, m.box.xyxy) for m in missing_in_duplicates(images, duplicate_groups)} == {
        (0, (60, 10, 90, 40)),
        (1, (60, 10, 90, 40)),
    }


@pytest.mark.parametrize(
    "second",
    [
        [Box("dent", (10, 10, 40, 40))],
        [Box("scratch", (10, 10, 40, 40))],  # of another class: not for this check
        [Box("dent", (0, 0, 100, 100))],  # one large box in place of it
        [Box("dent", (10, 10, 24, 40)), Box("dent", (26, 10, 40, 40))],  # two pieces
    ],
)
def test_a_place_that_is_labelled_in_some_way_is_not_missing(second: list[Box]) -> None:
    images, duplicate_groups = pair([Box("dent", (10, 10, 40, 40))], second)
    assert missing_in_duplicates(images, duplicate_groups) == []


def test_crowds_are_no_witnesses_and_a_place_is_told_once() -> None:
    images, duplicate_groups = pair([Box("dent", (10, 10, 40, 40), crowd=True)], [])
    assert missing_in_duplicates(images, duplicate_groups) == []
    images, _ = pair([Box("dent", (10, 10, 40, 40))], [Box("dent", (10, 10, 40, 40))])
    images.append(Image(Path("c.png"), 100, 100))
    links = (SimilarPair(0, 1, 0.9), SimilarPair(0, 2, 0.9), SimilarPair(1, 2, 0.9))
    assert len(missing_in_duplicates(images, [DuplicateGroup((0, 1, 2), False, 0.9, False, links)])) == 1


def strip(count: int = 7, step: int = 30, defect: tuple[float, ...] = (80, 200, 130, 240)) -> list[Image]:
    """Frames of 200 x 200 that move down a strip with one defect, labelled wherever it is whole in view."""
    frames = []
    for n in range(count):
        y1, y2 = defect[1] - n * step, defect[3] - n * step
        boxes = (Box("dent", (defect[0], y1, defect[2], y2)),) if y1 >= 0 and y2 <= 200 else ()
        frames.append(Image(Path(f"{n}.png"), 200, 200, boxes, Frame("s", n, (0, n * step))))
    return frames


def without(frames: list[Image], number: int, **frame: object) -> list[Image]:
    old = frames[number]
    assert old.frame
    told = Frame(old.frame.strip, old.frame.number, old.frame.origin_xy, str(frame.get("condition", "clean")))
    return [*frames[:number], Image(old.path, 200, 200, (), told), *frames[number + 1 :]]


def test_a_frame_that_lacks_what_the_others_label() -> None:
    frames = strip()
    assert missing_in_strips(frames) == []
    (missing,) = missing_in_strips(without(frames, 4))
    assert missing.image == 4
    assert missing.box.xyxy == (80, 80, 130, 120)
    assert missing.labelled == missing.seen - 1
    (finding,) = check_missing_labels([missing], frames, [Path("strips.json")] * 7)
    assert f"{missing.labelled} of the {missing.seen} frames that show the place have one" in finding.message


def test_frames_in_bad_condition_or_of_unknown_place_are_not_asked() -> None:
    assert missing_in_strips(without(strip(), 4, condition="blurred")) == []
    lost = [Image(f.path, 200, 200, f.boxes, Frame("s", i)) for i, f in enumerate(without(strip(), 4))]
    assert missing_in_strips(lost) == []


def test_what_most_frames_do_not_label_is_no_label_missing() -> None:
    frames = strip()
    for number in (2, 3, 4):
        frames = without(frames, number)
    assert missing_in_strips(frames) == []


def test_the_habits_of_the_data() -> None:
    boxes = (Box("rolled-in scale", (0, 0, 5, 5)),)
    images = [Image(Path(f"rolled_in_scale_{i}.png"), 9, 9, boxes) for i in range(60)]
    files = [image.path.with_suffix(".xml") for image in images]
    names = ("dent", "rolled-in scale")
    assert check_unusual_images(images, files, names) == []
    images[7] = Image(images[7].path, 9, 9, (Box("dent", (0, 0, 5, 5)),))
    images[9] = Image(images[9].path, 9, 9)
    empty, other = check_unusual_images(images, files, names)
    assert (empty.path, other.path) == (files[9], files[7])
    assert "rolled_in_scale_9.png has no object, as only this one of 60 images" in empty.message
    assert "rolled_in_scale_7.png has no box of rolled-in scale, the class it is named after" in other.message


def test_habits_that_are_none() -> None:
    files = [Path(f"{i}.xml") for i in range(100)]
    half = [Image(Path(f"dent_{i}.png"), 9, 9, (Box("dent", (0, 0, 5, 5)),) * (i % 2)) for i in range(100)]
    assert check_unusual_images(half, files, ("dent",)) == []
    few = [Image(Path(f"dent_{i}.png"), 9, 9) for i in range(3)]
    assert check_unusual_images(few, files[:3], ("dent",)) == []


def test_strips_drawn_by_code_lose_labels_that_are_found_again(tmp_path: Path) -> None:
    from detect.synthetic.strips import write_strips

    images = list(write_strips(tmp_path, frames=10, strips=3, seed=3).images)
    assert missing_in_strips(images) == []
    found = asked = 0
    for i, image in enumerate(images):
        for k, box in enumerate(image.boxes if image.frame and image.frame.condition == "clean" else ()):
            fewer = replace(image, boxes=image.boxes[:k] + image.boxes[k + 1 :])
            told = missing_in_strips([*images[:i], fewer, *images[i + 1 :]])
            assert all(each.image == i for each in told)
            for each in told:  # where the box was
                place = np.array([each.box.xyxy])
                assert intersection(place, np.array([box.xyxy]))[0, 0] > 0.5 * area(place)[0]
            found, asked = found + bool(told), asked + 1
    assert found >= 0.4 * asked  # others are cut, or hardly seen again
