"""Damaged files of every kind are read right or refused in words: some of benchmarks/fuzz_inputs.py, and properties."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detect.config.loading import load_config, parse_config
from detect.datasets import coco, voc
from detect.errors import ConfigError, DataError
from labelled_data import OBJECT, pair, picture

FILES = 60  # of each kind; the tool damages 10,000

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def tool() -> Any:
    """The module of the tool."""
    import fuzz_inputs

    return fuzz_inputs


@pytest.mark.parametrize(
    "name",
    [
        *("Pascal-VOC XML", "COCO JSON", "COCO results", "YOLO text", "configuration", "checkpoint"),
        *("BMP", "GIF", "WebP", "PNM", "JPEG", "progressive JPEG", "PNG", "TIFF", "packed TIFF"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of libraries, about damage that is found out in another way
def test_damage_is_read_right_or_refused_in_words(tool: Any, name: str) -> None:
    seeds = tool.KINDS[name].seeds()
    became = [tool.outcome(name, seeds, 12345, number) for number in range(FILES)]
    assert [each for each in became if each[0] not in (tool.RIGHT, tool.REFUSED)] == []
    assert tool.REFUSED in {each[0] for each in became}


@pytest.mark.filterwarnings("ignore")
def test_whole_files_of_every_kind_are_read(tool: Any, tmp_path: Path) -> None:
    hostile = {"configuration": 2}  # its seeds with tags and a bomb, at the end
    for name, kind in tool.KINDS.items():
        seeds = kind.seeds()
        for i, seed in enumerate(seeds[: len(seeds) - hostile.get(name, 0)]):
            folder = tmp_path / name / str(i)
            folder.mkdir(parents=True)
            (folder / kind.name).write_bytes(seed)
            kind.read(folder)


def test_all_kinds_are_tested_here(tool: Any) -> None:
    (marked,) = [m for m in test_damage_is_read_right_or_refused_in_words.pytestmark if m.name == "parametrize"]
    assert list(marked.args[1]) == list(tool.KINDS)


def test_the_tool_prints_its_table(tool: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz_inputs.py", "--files", "8", "--only", "BMP"])
    assert tool.main() == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert rows[2][0] == "| BMP"
    assert int(rows[2][2]) + int(rows[2][3]) == 8


@quick
@given(value=plain)
def test_any_json_is_a_data_set_or_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"a\.json: "):
        coco.load(path)


@quick
@given(bbox=plain, image=plain, category=plain, crowd=plain)
def test_any_annotation_is_a_box_or_refused(tmp_path: Path, bbox: Any, image: Any, category: Any, crowd: Any) -> None:
    picture(tmp_path / "1.png")
    annotation = {"image_id": image, "category_id": category, "bbox": bbox, "iscrowd": crowd}
    for given_ in (annotation, annotation | {"image_id": 1, "category_id": 1}, {**annotation, "bbox": [1, 2, 3, 4]}):
        data = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [given_]}
        (tmp_path / "a.json").write_text(json.dumps(data | {"categories": [{"id": 1, "name": "dent"}]}))
        try:
            (found,) = coco.read(tmp_path / "a.json").images
        except DataError as error:
            assert str(error).isprintable()  # noqa: PT017
        else:
            assert all(math.isfinite(value) for box in found.boxes for value in box.xyxy)


@quick
@given(values=st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=6, max_size=6))
def test_any_text_in_an_annotation_is_a_box_or_named(tmp_path: Path, values: list[str]) -> None:
    xml = pair(tmp_path, "a")
    escaped = [value.replace("&", "&amp;").replace("<", "&lt;") for value in values]
    xml.write_bytes(f"<annotation><filename>a.png</filename>{OBJECT.format(*escaped)}</annotation>".encode())
    reading = voc.scan([tmp_path])
    boxes = [box for entry in reading.entries for box in entry.image.boxes]
    errors = [finding for finding in reading.findings if finding.severity == "error"]
    assert len(boxes) + len(errors) == 1
    assert all(math.isfinite(value) for box in boxes for value in box.xyxy)


@quick
@given(tree=st.dictionaries(st.sampled_from(["train", "data", "model", "augment", "x"]), plain, max_size=3))
def test_any_tree_is_a_configuration_or_refused(tree: dict[str, Any]) -> None:
    try:
        parse_config(tree)
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017


@quick
@given(text=st.text(max_size=80))
def test_any_text_is_a_configuration_or_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        load_config(tmp_path / "a.yaml")
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017
