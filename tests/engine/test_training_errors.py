"""Errors in the middle of a training also give a clear message."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detect.config.schema import AugmentConfig
from detect.data import loader as loading
from detect.data.dataset import DetectionDataset, read_dataset
from detect.data.loader import TrainingLoader, explain_out_of_memory
from detect.data.transforms import Augment
from detect.engine import steps
from detect.engine.data import audit_warnings
from detect.engine.trainer import train
from detect.errors import ConfigError, DataError, OutOfMemoryError, is_out_of_memory
from detect.inference.detection import detect_images
from tiny import TINY_MODEL, tiny_config, write_tiny
from tiny_detector import tiny_detector


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_removed_during_training_is_named(tmp_path: Path, workers: int) -> None:
    records = read_dataset(write_tiny(tmp_path, "train", images=8, seed=0), role="data.train")
    images = DetectionDataset(records, channels=1, cache=False)
    images.preload()
    images.path(5).unlink()
    chain = Augment(**AugmentConfig().model_dump(exclude={"mosaic_off_epochs", "transpose_classes"}))
    loader = TrainingLoader(
        images, augment=chain, plain=chain, plain_from=1, batch_size=4, seed=0, workers=workers, pin=False
    )
    with pytest.raises(DataError) as caught:
        list(loader.epoch(1))
    assert str(caught.value) == f"{images.path(5)}: no such image; check the path"


@pytest.mark.parametrize(
    "model",
    [
        {"roi": {**TINY_MODEL["roi"], "batch_per_image": 1}},
        {"input_size": 16},  # a single cell at stride 32
    ],
)
def test_a_batch_too_small_for_batch_normalisation_raises(tmp_path: Path, model: dict[str, Any]) -> None:
    write_tiny(tmp_path, "train", images=4, seed=0)
    config = tiny_config(
        tmp_path,
        tmp_path / "run",
        data={"val": None},
        model={**TINY_MODEL, **model},
        train={"epochs": 1, "batch_size": 1},
    )
    message = r"train\.batch_size: a batch is too small for batch normalisation.*; increase it"
    with pytest.raises(ConfigError, match=message):
        train(config)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_damaged_during_training_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    write_tiny(tmp_path, "train", images=8, seed=0)
    step, damaged = steps.Stepper.step, tmp_path / "train" / "train_03.bmp"

    def damaging(self: Any, *arguments: Any) -> Any:
        damaged.write_bytes(b"no image")
        return step(self, *arguments)

    monkeypatch.setattr(steps.Stepper, "step", damaging)
    config = tiny_config(
        tmp_path, tmp_path / "run", data={"val": None, "cache": False, "workers": workers}, augment={"mosaic": 0}
    )
    with pytest.raises(DataError) as caught:
        train(config)
    assert str(caught.value).startswith(f"{damaged}: the image can't be read (its content is no image); give a BMP")


class TestMemory:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        """Eight images, two steps per epoch."""
        write_tiny(tmp_path, "train", images=8, seed=0)
        write_tiny(tmp_path, "val", images=4, seed=1)
        return tmp_path

    def test_a_step_names_the_settings(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(steps.Stepper, "_losses", lambda self, batch: torch.empty(1 << 50))
        with pytest.raises(OutOfMemoryError) as caught:
            train(tiny_config(data, data / "run"))
        assert str(caught.value) == (
            "memory ran out in a step of epoch 1, 4503599627370496 bytes more were wanted; lower train.batch_size "
            "(it is 4), model.input_size (image size), model.roi.batch_per_image (16) or "
            "model.rpn.proposals_train (40), and start again"
        )

    def test_a_step_on_a_gpu_names_the_settings(self) -> None:
        text = "CUDA out of memory. Tried to allocate 2.34 GiB. GPU 0 has a total capacity of 7.79 GiB of which ..."
        expected = pytest.raises(OutOfMemoryError, match=r"in a step, 2\.34 GiB more were wanted; buy")
        with expected, explain_out_of_memory("a step", "buy"):
            raise torch.OutOfMemoryError(text)

    def test_reading_and_validation_name_the_settings(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from detect.engine.data import Validator

        def none(*arguments: Any, **named: Any) -> None:
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr(DetectionDataset, "preload", none)
            with pytest.raises(OutOfMemoryError, match=r"memory ran out in reading the images; set data\.cache=false"):
                train(tiny_config(data, data / "run"))
        monkeypatch.setattr(Validator, "__call__", none)
        with pytest.raises(OutOfMemoryError, match=r"memory ran out in validating epoch 2; lower model\.input_size"):
            train(tiny_config(data, data / "run"))

    def test_a_loader_process_killed_by_the_system_is_reported(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def ended(self: Any, key: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(loading._AugmentedDataset, "__getitem__", ended)
        with pytest.raises(
            OutOfMemoryError, match=r"data\.workers: the system ended a loader process, usually because .*; lower"
        ):
            train(tiny_config(data, data / "run", data={"workers": 1}))

    def test_detection_names_the_settings(self) -> None:
        detector = tiny_detector().eval()
        detector.backbone.forward = lambda x: torch.empty(1 << 50)
        with pytest.raises(OutOfMemoryError) as caught:
            detect_images(detector, [np.zeros((48, 64), np.uint8), np.zeros((32, 64), np.uint8)], ("a", "b"))
        assert caught.match(r"memory ran out in detection on 2 images of up to 64x48 px on cpu, 4503599627370496 bytes")

    @pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="POSIX only")
    def test_a_loader_process_without_shared_memory_is_reported(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def ended(self: Any, key: Any) -> None:
            os.kill(os.getpid(), signal.SIGBUS)  # as the system does when shared memory is full

        monkeypatch.setattr(loading._AugmentedDataset, "__getitem__", ended)
        with pytest.raises(OutOfMemoryError, match=r"shared memory ran out, in .*; set data\.workers=0"):
            train(tiny_config(data, data / "run", data={"workers": 1}))

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="asks the system for more than it has")
    def test_lack_of_shared_memory_has_its_own_message(self) -> None:
        expected = pytest.raises(OutOfMemoryError, match=r"shared memory ran out, in .*; set data\.workers=0")
        with expected, explain_out_of_memory("a step", ""):
            torch.UntypedStorage._new_shared(1 << 50)

    @pytest.mark.skipif(os.name != "posix", reason="POSIX only")
    def test_too_many_open_files_have_their_own_message(self) -> None:
        import resource

        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        torch.UntypedStorage._new_shared(16)  # so that its imports happen now
        expected = pytest.raises(OutOfMemoryError, match=r"more open files than the system allows; set data\.workers")
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
        try:
            with expected, explain_out_of_memory("a step", ""):
                torch.UntypedStorage._new_shared(1 << 14)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))

    def test_out_of_memory_is_recognised_by_torchs_error_text(self) -> None:
        """Fails if torch changes its error text: then ``is_out_of_memory`` must be updated."""
        with pytest.raises(RuntimeError) as caught:
            torch.empty(1 << 50)
        assert is_out_of_memory(caught.value)
        with pytest.raises(MemoryError) as lacking:
            np.empty(1 << 58)
        assert is_out_of_memory(lacking.value)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_out_of_gpu_memory_is_recognised_by_torchs_error_text(self) -> None:
        expected = pytest.raises(OutOfMemoryError, match=r"memory ran out in a step, \S+ \w+ more were wanted; buy")
        with expected, explain_out_of_memory("a step", "buy"):
            torch.empty(1 << 46, device="cuda")

    def test_other_errors_keep_their_traceback(self) -> None:
        for error in (RuntimeError("shapes differ"), OSError(5, "I/O error"), ValueError("out of memory")):
            with pytest.raises(type(error)) as caught, explain_out_of_memory("a step", ""):
                raise error
            assert caught.value is error


def replace_first_box(folder: Path, part: str, bbox: list[float]) -> None:
    """Replace the box of the first label of a part."""
    path = folder / f"{part}.json"
    data = json.loads(path.read_text())
    data["annotations"][0]["bbox"] = bbox
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("part", ["train", "val"])
def test_labels_with_errors_raise(tmp_path: Path, part: str) -> None:
    write_tiny(tmp_path, "train", images=8, seed=0)
    write_tiny(tmp_path, "val", images=4, seed=1)
    replace_first_box(tmp_path, part, [50, 50, 30, 30])
    with pytest.raises(DataError, match=r"1 error in the labels, the first is: box 1 .* outside its 64 x 64") as caught:
        train(tiny_config(tmp_path, tmp_path / "run"))
    assert str(caught.value).startswith(f"{tmp_path / part}.json: ")
    assert f"'detect audit {tmp_path / part}.json' lists all of them" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_audit_warnings_take_two_lines(tmp_path: Path) -> None:
    data = write_tiny(tmp_path, "train", images=8, seed=0), write_tiny(tmp_path, "val", images=4, seed=1)
    assert audit_warnings(*data, images=12) == []
    assert audit_warnings(data[0], None, images=8) == []
    (tmp_path / "val" / "val_00.bmp").write_bytes((tmp_path / "train" / "train_03.bmp").read_bytes())
    labels = json.loads(data[0].read_text())
    again = {**labels["annotations"][0], "id": 99}
    data[0].write_text(json.dumps({**labels, "annotations": [*labels["annotations"], again]}))
    lines = audit_warnings(*data, images=12)
    assert len(lines) == 2
    assert "duplicate box: 1" in lines[0]
    assert "duplicate across parts: 1" in lines[0]
    assert f"see 'detect audit {data[0]} --against {data[1]}'" in lines[0]
    assert lines[1] == "check this: 1 scene is in both training and validation data: scores will be too high"
    (line,) = audit_warnings(*data, images=1_000_000)
    assert line.startswith("1,000,000 images are too many to compare at every start")
