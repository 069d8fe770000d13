"""Labels that travel through any chain of formats come back exact to the pixel."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from detect.datasets.formats import FORMATS, WRITERS
from detect.datasets.paths import unique_names
from detect.structures import Box, Dataset, Image

NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)


@st.composite
def pixel_boxes(draw: st.DrawFn, width: int, height: int, label: str) -> Box:
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x2, y2 = draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))
    return Box(label, (x1, y1, x2, y2), draw(st.booleans()), draw(st.booleans()))


@st.composite
def data_sets(draw: st.DrawFn) -> Dataset:
    categories = sorted(draw(st.sets(NAMES, min_size=1, max_size=4)))
    images = []
    for number in range(draw(st.integers(1, 2))):
        width, height = draw(st.integers(1, 7000)), draw(st.integers(1, 300))
        label = st.sampled_from(categories)
        boxes = draw(st.lists(label.flatmap(lambda name, w=width, h=height: pixel_boxes(w, h, name)), max_size=5))
        images.append(Image(Path(f"images/{number}.png"), width, height, tuple(boxes)))
    return Dataset(tuple(images), tuple(categories))


def plain(dataset: Dataset, *, flags: bool) -> list[list[tuple[object, ...]]]:
    return [
        [(box.label, box.xyxy, *((box.difficult, box.crowd) if flags else ())) for box in image.boxes]
        for image in dataset.images
    ]


BOTH_WAYS = tuple(name for name in FORMATS if name in WRITERS)


@pytest.mark.parametrize("chain", [*itertools.permutations(BOTH_WAYS, 2), BOTH_WAYS], ids=" to ".join)
@settings(max_examples=12, deadline=None)
@given(dataset=data_sets())
def test_any_chain_of_formats_keeps_every_pixel(chain: tuple[str, ...], dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        images = []
        for image in dataset.images:
            Pillow.new("1", (image.width, image.height)).save(root / image.path)
            images.append(Image(root / image.path, image.width, image.height, image.boxes))
        current = Dataset(tuple(images), dataset.categories)
        for name in (*chain, chain[0]):
            target = root / f"{len(list(root.iterdir()))}"
            WRITERS[name]({"all": current}, target)
            kept = FORMATS[name].read(target)
            # YOLO has no place for flags, VOC none for classes that no box has.
            assert plain(kept, flags=name != "yolo") == plain(current, flags=name != "yolo")
            assert [(i.width, i.height) for i in kept.images] == [(i.width, i.height) for i in current.images]
            assert set(kept.categories) <= set(dataset.categories)
            current = Dataset(kept.images, dataset.categories)


@settings(max_examples=25, deadline=None)
@given(
    corners=st.lists(st.floats(0, 500, allow_nan=False), min_size=4, max_size=4, unique=True),
    size=st.tuples(st.integers(501, 3000), st.integers(501, 3000)),
)
def test_fractions_of_a_pixel_survive_between_coco_and_yolo(corners: list[float], size: tuple[int, int]) -> None:
    (x1, x2), (y1, y2) = sorted(corners[:2]), sorted(corners[2:])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = root / "a.png"
        Pillow.new("1", size).save(path)
        boxes = (Box("dent", (x1, y1, x2 + 0.25, y2 + 0.25)),)
        current = Dataset((Image(path, *size, boxes),), ("dent",))
        for step, name in enumerate(("yolo", "coco", "yolo")):
            WRITERS[name]({"all": current}, root / str(step))
            current = FORMATS[name].read(root / str(step))
        assert current.images[0].boxes[0].xyxy == pytest.approx(boxes[0].xyxy, abs=1e-5)


def test_voc_rounds_to_whole_pixels_and_loses_no_thin_box(tmp_path: Path) -> None:
    Pillow.new("L", (20, 20)).save(tmp_path / "a.png")
    boxes = (Box("dent", (1.4, 1.6, 5.5, 6.4)), Box("scratch", (3.1, 0.0, 3.3, 20.0)))
    WRITERS["voc"]({"all": Dataset((Image(tmp_path / "a.png", 20, 20, boxes),), ())}, tmp_path / "voc")
    found = FORMATS["voc"].read(tmp_path / "voc").images[0].boxes
    assert [box.xyxy for box in found] == [(1, 2, 6, 6), (3, 0, 4, 20)]


@given(st.lists(st.text("ab_2.", min_size=1, max_size=4).filter(lambda t: t.strip(".")), min_size=1, max_size=12))
def test_names_for_copies_never_collide(folders: list[str]) -> None:
    paths = [Path(folder) / name for folder in dict.fromkeys(folders) for name in ("a.png", "A.jpg", "b_a.png")]
    names = unique_names(paths)
    stems = [Path(name).stem.casefold() for name in names]
    assert len(set(stems)) == len(paths)
    assert [Path(name).suffix for name in names] == [path.suffix for path in paths]
