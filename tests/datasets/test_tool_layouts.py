"""Labels as the tools export them are read to the same boxes, or refused by the layout's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from detect.datasets import coco
from detect.datasets.convert import LabelError, audit_sources, convert
from detect.datasets.reading import ReadOptions
from detect.errors import DataError
from detect.structures import Dataset
from layout_writers import Expected
from tool_layouts import COCO_LAYOUTS, LAYOUTS, Layout

CONVERTED = {"shapes converted", "rotated boxes", "outlines left out", "keypoints left out"}
PARTS = {"valid": "val", "validation": "val"}  # how tools spell them


def part_of(name: str) -> str:
    plain = name.lower().removeprefix("instances_").removesuffix("2017")
    return PARTS.get(plain, plain)


def assert_read(read: Mapping[str, Dataset], wanted: Expected) -> None:
    parts = {part_of(name): data for name, data in read.items()}
    assert {part: sorted(image.path.stem for image in data.images) for part, data in parts.items()} == {
        part: sorted(images) for part, images in wanted.parts.items()
    }
    for part, data in parts.items():
        for image in data.images:
            found = sorted((box.label, box.xyxy) for box in image.boxes)
            labelled = wanted.parts[part][image.path.stem]
            assert [label for label, _ in found] == [label for label, _ in labelled]
            for (_, sides), (_, true_sides) in zip(found, labelled):
                assert sides == pytest.approx(true_sides, abs=wanted.tolerance), image.path
                assert -1e-6 <= sides[0] < sides[2] <= image.width + 1e-6
                assert -1e-6 <= sides[1] < sides[3] <= image.height + 1e-6
    assert {tuple(sorted(data.categories)) for data in parts.values()} == {tuple(sorted(wanted.categories))}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_a_layout_is_read_or_refused_by_name(layout: Layout, tmp_path: Path) -> None:
    wanted = layout(tmp_path / "export")
    if wanted.refused:
        with pytest.raises(DataError, match=f"(?i){wanted.refused}"):
            convert([tmp_path / "export"], tmp_path / "out")
        return
    if wanted.unlabelled:
        with pytest.raises(LabelError, match="--allow-empty takes"):
            convert([tmp_path / "export"], tmp_path / "out")
    options = ReadOptions(allow_empty=wanted.unlabelled)
    assert audit_sources([tmp_path / "export"], options=options).errors == ()
    done = convert([tmp_path / "export"], tmp_path / "out", options=options)
    kinds = {finding.kind for finding in done.findings}
    assert bool(kinds & CONVERTED) == bool(wanted.converted)
    assert_read(done.parts, wanted)
    assert_read({part: coco.read(file) for part, file in done.files.items()}, wanted)


@pytest.mark.parametrize("layout", COCO_LAYOUTS, ids=lambda layout: layout.__name__)
def test_coco_files_of_tools_serve_as_truth_of_an_evaluation(layout: Layout, tmp_path: Path) -> None:
    wanted = layout(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*.json") if not path.name.startswith((".", "captions")))
    assert sum(len(coco.load(file)["annotations"]) for file in files) == sum(
        len(boxes) for each in wanted.parts.values() for boxes in each.values()
    )
    images = {image.path.stem: image for file in files for image in coco.read(file).images}
    whole = {stem: boxes for each in wanted.parts.values() for stem, boxes in each.items()}
    assert {stem: sorted(box.label for box in image.boxes) for stem, image in images.items()} == {
        stem: [label for label, _ in boxes] for stem, boxes in whole.items()
    }
