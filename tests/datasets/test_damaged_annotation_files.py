"""Hostile labels of annotation tools, weights to start from, and deep images cut into windows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detect import fileio as room
from detect.config.schema import ModelConfig
from detect.data.dataset import DetectionDataset
from detect.data.transforms import RandomWindows
from detect.datasets import coco, labelme
from detect.datasets.formats import recognise
from detect.datasets.paths import VARIABLE
from detect.engine.init import load_matching_weights
from detect.engine.run_folder import changed_labels, collect_environment, environment_changes, read_environment
from detect.errors import CheckpointError, DataError
from detect.images import write_image
from detect.models.anchors import default_anchors
from detect.models.checkpoint import Checkpoint, DetectorSpec, load_checkpoint, save_checkpoint
from detect.structures import Box, Dataset, Image
from labelled_data import picture
from tiny import TINY_MODEL


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.delenv(VARIABLE, raising=False)


def save(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def shapes(image_path: str) -> dict[str, Any]:
    return {"shapes": [], "imagePath": image_path, "imageData": None, "imageWidth": 64, "imageHeight": 48}


def coco_of(names: list[str]) -> dict[str, Any]:
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    return {"images": images, "categories": [{"id": 1, "name": "dent"}], "annotations": []}


@pytest.mark.parametrize("name", ["../../secret.png", "{secret}", "link.png", "\ud800.png"])
def test_labelme_names_that_lead_out_are_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = picture(tmp_path / "secret.png")
    file = save(tmp_path / "project" / "data" / "a.json", shapes(name.format(secret=secret)))
    (file.parent / "link.png").symlink_to(secret)
    with pytest.raises(DataError, match=r"a\.json: its imagePath .* is outside the data; copy it there, or name"):
        labelme.read(file)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    if "\ud800" not in name:
        assert len(labelme.read(file).images) == 1


def test_labelme_names_may_lead_to_a_neighbour_and_are_found_beside_the_file_else(tmp_path: Path) -> None:
    picture(tmp_path / "project" / "images" / "a.png")
    file = save(tmp_path / "project" / "data" / "a.json", shapes("..\\images\\a.png"))
    assert labelme.read(file).images[0].path == tmp_path / "project" / "images" / "a.png"
    picture(tmp_path / "project" / "data" / "b.png", 1)
    file = save(tmp_path / "project" / "data" / "b.json", shapes("/home/ann/pictures/b.png"))
    assert labelme.read(file).images[0].path == file.with_suffix(".png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_among_json_files_is_not_waited_for(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "a.png")
    save(tmp_path / "data" / "a.json", shapes("a.png"))
    os.mkfifo(tmp_path / "data" / "b.json")
    assert recognise([tmp_path / "data"]) == "labelme"
    assert len(labelme.scan([tmp_path / "data"]).entries) == 1
    save(tmp_path / "coco" / "a.json", coco_of([]))
    os.mkfifo(tmp_path / "coco" / "b.json")
    assert coco.files(tmp_path / "coco") == [tmp_path / "coco" / "a.json"]


def test_names_of_another_machine_are_told_in_one_sentence(tmp_path: Path) -> None:
    file = save(tmp_path / "project" / "data" / "a.json", coco_of(["/data/upload/1/a.png", "/data/upload/1/b.png"]))
    (finding,) = coco.scan([file]).findings
    assert finding.kind == "image outside the data"
    assert "none of its 2 images is there; name the images' folder, too" in finding.message
    assert "file_name '/data/upload/1/a.png' is outside the data" in finding.message


def test_a_folder_that_a_file_tells_of_is_no_way_out(tmp_path: Path) -> None:
    picture(tmp_path / "store" / "a.png")
    told = {**coco_of(["a.png"]), "info": {coco.IMAGE_ROOT: "../../store"}}
    file = save(tmp_path / "project" / "data" / "a.json", told)
    with pytest.raises(DataError, match="is outside the data"):
        coco.read(file)
    assert len(coco.scan([file, tmp_path / "store"]).entries) == 1  # who gives the folder trusts it


def test_a_link_in_a_folder_of_images_that_leads_out_is_refused(tmp_path: Path) -> None:
    secret = picture(tmp_path / "secret.png")
    file = save(tmp_path / "project" / "data" / "a.json", coco_of(["day1/a.png"]))
    (tmp_path / "store" / "deep").mkdir(parents=True)
    (tmp_path / "store" / "deep" / "a.png").symlink_to(secret)
    with pytest.raises(DataError, match=r"a\.png: the link to .*secret\.png is outside the data"):
        coco.scan([file, tmp_path / "store"])


@pytest.mark.parametrize("name", ["https://[x/a.png", "a" * 5000 + ".png", "http://h/%00.png"])
def test_names_that_no_file_can_have_are_no_traceback(tmp_path: Path, name: str) -> None:
    assert coco.scan([save(tmp_path / "a.json", coco_of([name]))]).findings[0].severity == "error"


def test_json_may_take_what_is_free_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda: 8 * 10**9)
    assert room.value_memory_limit() == 4 * 10**9
    monkeypatch.setattr(room, "free_bytes", lambda: 10**6)
    assert room.value_memory_limit() == 7 * 10**8
    file = tmp_path / "a.json"
    file.write_bytes(b"[" + b"{}," * 9_000_000 + b"{}]")
    with pytest.raises(DataError, match=r"over 0\.7 GB of memory; divide it"):
        coco.load(file)


def tiny_checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    detector = DetectorSpec(
        ModelConfig.model_validate(TINY_MODEL), ("a", "b"), 1, (0.4,), (0.2,), default_anchors(4, 2)
    )
    return Checkpoint(detector, detector.build().state_dict(), epoch=1)


def test_weights_to_start_from_have_to_be_those_of_their_network(tmp_path: Path, detect: Callable[..., Any]) -> None:
    save_checkpoint(tmp_path / "best.pt", tiny_checkpoint())
    content = torch.load(tmp_path / "best.pt", weights_only=True)
    content["detector"]["model"]["roi"] |= {"fc_width": 10**6, "stages": 4}
    torch.save(content, tmp_path / "best.pt")
    Path("empty.yaml").write_text("")
    outcome = detect("train", "empty.yaml", "--init", tmp_path / "best.pt")
    assert outcome.code == 2
    assert "don't fit the network that it describes" in outcome.err
    with pytest.raises(CheckpointError, match="don't fit"):
        load_checkpoint(tmp_path / "best.pt").check_size()


def test_scores_of_fewer_classes_than_are_named_are_not_taken(tmp_path: Path) -> None:
    source = tiny_checkpoint()
    model = source.detector.build()
    name = next(name for name in source.weights if name.endswith("predictor.score.weight"))
    source.weights[name] = source.weights[name][:1]
    before = model.state_dict()[name].clone()
    load_matching_weights(model, ("a", "b"), source, where=tmp_path)
    assert torch.equal(model.state_dict()[name], before)


def test_an_environment_of_other_kinds_is_passed_over(tmp_path: Path) -> None:
    now: Any = {"device": torch.device("cpu"), "precision": "float32", "processes": 1, "data": []}
    for content in ([], {"versions": 3, "machine": [], "data_sha256": "x", "resumed": None}):
        before = read_environment(save(tmp_path / "environment.json", content))
        assert before == {}
        assert list(changed_labels(before)) == []
        assert environment_changes(before, collect_environment(before, **now)) == []


def test_windows_of_deep_images_have_the_white_that_was_told(tmp_path: Path) -> None:
    pixels = np.full((64, 64), 2048, np.uint16)
    write_image(tmp_path / "a.png", pixels)
    records = Dataset((Image(tmp_path / "a.png", 64, 64, (Box("dent", (1, 1, 9, 9)),)),), ("dent",))
    images = DetectionDataset(records, channels=1, max_value=4095)
    _, sample = RandomWindows(images, 32).draw(0, np.random.default_rng(0))
    assert sample.pixels.max() == pytest.approx(2048 / 4095)
