"""Damaged files are read correctly or rejected with a message: part of benchmarks/fuzz_inputs.py, property tests."""

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

FILES = 60  # per kind; the script damages 10,000

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def script() -> Any:
    """The module of the script."""
    import fuzz_inputs

    return fuzz_inputs


@pytest.mark.parametrize(
    "name",
    [
        *("Pascal-VOC XML", "COCO JSON", "COCO results", "YOLO text", "configuration", "checkpoint"),
        *("BMP", "GIF", "WebP", "PNM", "JPEG", "progressive JPEG", "PNG", "TIFF", "packed TIFF"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # from libraries, about damage that is detected anyway
def test_damaged_files_are_read_correctly_or_rejected(script: Any, name: str) -> None:
    seeds = script.KINDS[name].seeds()
    outcomes = [script.outcome(name, seeds, 12345, number) for number in range(FILES)]
    assert [each for each in outcomes if each[0] not in (script.CORRECT, script.REJECTED)] == []
    assert script.REJECTED in {each[0] for each in outcomes}


@pytest.mark.filterwarnings("ignore")
def test_intact_files_of_every_kind_are_read(script: Any, tmp_path: Path) -> None:
    hostile = {"configuration": 2}  # its last two seeds have YAML tags and an alias bomb
    for name, kind in script.KINDS.items():
        seeds = kind.seeds()
        for i, seed in enumerate(seeds[: len(seeds) - hostile.get(name, 0)]):
            folder = tmp_path / name / str(i)
            folder.mkdir(parents=True)
            (folder / kind.name).write_bytes(seed)
            kind.read(folder)


def test_all_kinds_are_tested(script: Any) -> None:
    (mark,) = [m for m in test_damaged_files_are_read_correctly_or_rejected.pytestmark if m.name == "parametrize"]
    assert list(mark.args[1]) == list(script.KINDS)


def test_script_prints_its_table(script: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz_inputs.py", "--files", "8", "--only", "BMP"])
    assert script.main() == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert rows[2][0] == "| BMP"
    assert int(rows[2][2]) + int(rows[2][3]) == 8


@quick
@given(value=plain)
def test_any_json_is_a_data_set_or_an_error(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"a\.json: "):
        coco.load(path)


@quick
@given(bbox=plain, image=plain, category=plain, crowd=plain)
def test_any_annotation_is_a_box_or_an_error(tmp_path: Path, bbox: Any, image: Any, category: Any, crowd: Any) -> None:
    picture(tmp_path / "1.png")
    annotation = {"image_id": image, "category_id": category, "bbox": bbox, "iscrowd": crowd}
    for candidate in (annotation, annotation | {"image_id": 1, "category_id": 1}, {**annotation, "bbox": [1, 2, 3, 4]}):
        data = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [candidate]}
        (tmp_path / "a.json").write_text(json.dumps(data | {"categories": [{"id": 1, "name": "dent"}]}))
        try:
            (image_record,) = coco.read(tmp_path / "a.json").images
        except DataError as error:
            assert str(error).isprintable()  # noqa: PT017
        else:
            assert all(math.isfinite(value) for box in image_record.boxes for value in box.xyxy)


@quick
@given(values=st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=6, max_size=6))
def test_any_text_in_an_annotation_is_a_box_or_a_finding(tmp_path: Path, values: list[str]) -> None:
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
def test_any_tree_is_a_configuration_or_an_error(tree: dict[str, Any]) -> None:
    try:
        parse_config(tree)
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017


@quick
@given(text=st.text(max_size=80))
def test_any_text_is_a_configuration_or_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        load_config(tmp_path / "a.yaml")
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017
