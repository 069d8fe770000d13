"""Synthetic steel: reproducible bytes per seed, NEU-DET's file layout, and tight boxes around visible defects."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from detect.errors import DataError
from detect.images import read_image
from detect.synthetic import scenes as scene_module
from detect.synthetic.defects import DEFECTS
from detect.synthetic.scenes import CATEGORIES, make_image, sample_image, write_sample
from detect.synthetic.steel import blur, dots, drift, grain, smoothstep

NEU = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample")
    write_sample(out, images=14, seed=3)
    return out


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def objects(xml: Path) -> list[tuple[str, int, int, int, int]]:
    rows = []
    for item in ElementTree.parse(xml).getroot().iter("object"):
        corners = [int(item.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax")]
        rows.append((item.findtext("name", ""), *corners))
    return rows


def test_layout_is_that_of_neu_det_with_evenly_spread_classes(sample: Path) -> None:
    names = [f"{name}_{n}" for i, name in enumerate(NEU) for n in range(1, 4 if i < 2 else 3)]
    assert sorted(p.name for p in (sample / "IMAGES").iterdir()) == sorted(f"{name}.bmp" for name in names)
    assert sorted(p.name for p in (sample / "ANNOTATIONS").iterdir()) == sorted(f"{name}.xml" for name in names)
    assert CATEGORIES == NEU


def test_images_are_gray_bmp_with_matching_xml(sample: Path) -> None:
    for path in (sample / "IMAGES").iterdir():
        pixels = read_image(path)
        assert pixels.shape == (200, 200)
        assert pixels.dtype == np.uint8
        assert path.read_bytes()[:2] == b"BM"
        root = ElementTree.parse(sample / "ANNOTATIONS" / f"{path.stem}.xml").getroot()
        assert root.findtext("filename") == path.name
        assert [root.findtext(f"size/{key}") for key in ("width", "height", "depth")] == ["200", "200", "1"]
        assert all(item.findtext("difficult") == "0" for item in root.iter("object"))


def test_corners_are_one_based_inclusive_and_inside(sample: Path) -> None:
    for path in (sample / "ANNOTATIONS").iterdir():
        own, n = path.stem.rsplit("_", 1)
        labels = objects(path)
        assert own in [name for name, *_ in labels]
        for name, x1, y1, x2, y2 in labels:
            assert name in NEU
            assert 1 <= x1 < x2 <= 200
            assert 1 <= y1 < y2 <= 200
        _, boxes = make_image(own, np.random.default_rng([3, NEU.index(own), int(n)]))
        assert labels == [(b.label, *(int(v + d) for v, d in zip(b.xyxy, (1, 1, 0, 0), strict=True))) for b in boxes]


def test_same_seed_gives_the_same_bytes_and_another_seed_different_ones(sample: Path, tmp_path: Path) -> None:
    write_sample(tmp_path / "again", images=14, seed=3)
    write_sample(tmp_path / "other", images=14, seed=4)
    assert digests(tmp_path / "again") == digests(sample)
    other = digests(tmp_path / "other")
    assert not any(other[name] == digest for name, digest in digests(sample).items())


def test_bytes_are_the_same_on_every_machine() -> None:
    """Unchanged since 0.1.0; the same with numpy 1.26 and 2.4, with and without wide vector instructions."""
    content = hashlib.sha256()
    for category in NEU:
        for number in range(1, 6):
            pixels, boxes = sample_image(category, number, seed=0)
            content.update(pixels.tobytes() + repr([(b.label, b.xyxy) for b in boxes]).encode())
    assert content.hexdigest()[:16] == "37424d6f2043b911"


def test_images_do_not_depend_on_the_number_of_images(sample: Path, tmp_path: Path) -> None:
    write_sample(tmp_path, images=6, seed=3)
    few, many = digests(tmp_path), digests(sample)
    assert all(many[name] == digest for name, digest in few.items())


def test_writing_twice_is_allowed_but_other_files_are_an_error(tmp_path: Path) -> None:
    write_sample(tmp_path, images=7, seed=0)
    write_sample(tmp_path, images=7, seed=0)
    with pytest.raises(DataError, match=r"1 other files, crazing_2\.bmp among them"):
        write_sample(tmp_path, images=6, seed=0)


@pytest.mark.parametrize(("images", "seed"), [(0, 0), (-3, 0), (6, -1)])
def test_numbers_out_of_range_are_errors(tmp_path: Path, images: int, seed: int) -> None:
    with pytest.raises(DataError, match="are out of range"):
        write_sample(tmp_path, images=images, seed=seed)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("category", NEU)
def test_boxes_are_tight_around_the_changed_pixels(category: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the defects the same image differs inside the boxes only, up to each box edge."""
    for seed in range(6):
        pixels, boxes = make_image(category, np.random.default_rng(seed))
        with monkeypatch.context() as patch:
            place = scene_module._place
            patch.setattr(
                scene_module,
                "_place",
                lambda mark, label, window, surface, marks, place=place: place(
                    mark, label, window, surface, marks.copy()
                ),
            )
            sound, same_boxes = make_image(category, np.random.default_rng(seed))
        assert boxes == same_boxes
        change = np.abs(pixels.astype(int) - sound)
        outside = change.copy()
        for box in boxes:
            x1, y1, x2, y2 = (int(v) for v in box.xyxy)
            outside[y1:y2, x1:x2] = 0
            edges = (change[y1, x1:x2], change[y2 - 1, x1:x2], change[y1:y2, x1], change[y1:y2, x2 - 1])
            assert all(edge.max() >= 1 for edge in edges)
            assert change[y1:y2, x1:x2].max() >= 8
        inside_peak = change.max()
        assert outside.max() < max(0.6 * inside_peak, 24)


@pytest.mark.parametrize("category", NEU)
def test_every_image_contains_its_class_and_no_box_twice(category: str) -> None:
    for seed in range(25):
        pixels, boxes = make_image(category, np.random.default_rng([7, seed]))
        assert category in [box.label for box in boxes]
        assert len(set(boxes)) == len(boxes) <= 9
        assert pixels.std() > 3


def test_classes_have_typical_gray_levels_and_counts() -> None:
    level, boxes = {}, {}
    for category in NEU:
        images = [make_image(category, np.random.default_rng([11, seed])) for seed in range(20)]
        level[category] = float(np.mean([pixels.mean() for pixels, _ in images]))
        boxes[category] = float(np.mean([len(labels) for _, labels in images]))
    assert level["pitted_surface"] > level["crazing"] > level["scratches"]
    assert level["patches"] > level["inclusion"]
    assert 1.5 < np.mean(list(boxes.values())) < 3
    assert boxes["inclusion"] > boxes["pitted_surface"]


@pytest.mark.parametrize("size_hw", [(64, 64), (97, 311), (600, 200)])
def test_other_image_sizes(size_hw: tuple[int, int]) -> None:
    for category in NEU:
        pixels, boxes = make_image(category, np.random.default_rng(5), size_hw=size_hw)
        assert pixels.shape == size_hw
        assert boxes
        assert all(0 <= b.xyxy[0] < b.xyxy[2] <= size_hw[1] and 0 <= b.xyxy[1] < b.xyxy[3] <= size_hw[0] for b in boxes)


def test_unknown_class_or_too_small_image_is_an_error() -> None:
    with pytest.raises(DataError, match='no defect is called "rust"'):
        make_image("rust", np.random.default_rng(0))
    with pytest.raises(DataError, match="too few"):
        make_image("crazing", np.random.default_rng(0), size_hw=(200, 40))


def test_defects_are_drawn_in_windows_of_any_shape() -> None:
    for name, draw in DEFECTS.items():
        for size_hw in ((60, 60), (44, 200), (230, 60)):
            mark = draw(np.random.default_rng(2), size_hw)
            assert mark.shape == size_hw
            assert np.isfinite(mark).all()
            assert (mark.max() > 0.1) if name == "scratches" else (mark.min() < -0.05)


def test_fields_have_the_given_strength_and_shape() -> None:
    rng = np.random.default_rng(0)
    texture = grain(rng, (160, 180), (0.3, 4, 0.5, 0))
    assert abs(texture.std() - 0.3) < 0.03
    assert abs(texture.mean()) < 1e-9
    across, down = np.abs(np.diff(texture, axis=1)).mean(), np.abs(np.diff(texture, axis=0)).mean()
    assert down > 3 * across, "the texture is longer horizontally than vertically"
    slow = drift(rng, (200, 200), (20, 20))
    assert 0.6 < slow.std() < 1.4
    assert np.abs(np.diff(slow, axis=0)).max() < 0.4
    point = dots((21, 21), np.array([10.5]), np.array([10.2]), np.array([2.0]))
    assert point[10, 10] == 2
    assert abs(blur(point, 1.5, 1.0).sum() - 2) < 1e-9
    assert list(smoothstep(np.array([-1.0, 0.0, 1.0]), 0.5)) == [0, 0.5, 1]


def test_drawing_is_fast_enough_for_training_on_new_images() -> None:
    rng = np.random.default_rng(0)
    make_image("crazing", rng)
    started = time.process_time()
    for category in NEU * 4:
        make_image(category, rng)
    assert (time.process_time() - started) / 24 < 0.05, "seconds per image; about 7 ms on a slow core"
