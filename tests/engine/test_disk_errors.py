"""A full or unwritable disk: the last good file is kept, and the error names the file."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detect.engine.run_folder import RunFolder
from detect.engine.trainer import train
from detect.errors import CheckpointError, ConfigError
from detect.fileio import atomic_write, copy, write_json, write_text
from detect.images import read_image, write_image
from detect.models.checkpoint import load_checkpoint, save_checkpoint, save_tensors
from runs import assert_same_run, interrupt_at_step, read_log
from tiny import tiny_config, write_parts

resource = pytest.importorskip("resource", reason="a full disk is played by a limit on the size of files")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit files to ``size`` bytes in this context; the system reports an error as for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("data"))


class TestTraining:
    def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_resumes(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uninterrupted = train(tiny_config(data, tmp_path / "whole", train={"epochs": 3, "val_every": 1}))
        config = tiny_config(data, tmp_path / "run", train={"epochs": 3, "val_every": 1})
        with monkeypatch.context() as patch:
            interrupt_at_step(patch, 3)  # after the first epoch
            with pytest.raises(KeyboardInterrupt):
                train(config)
        run, before = tmp_path / "run", (tmp_path / "run" / "last.pt").read_bytes()
        with (
            largest_file(len(before) // 2),
            pytest.raises(CheckpointError, match=r"last\.pt: can't write the checkpoint \(File too large\); free some"),
        ):
            train(config, resume=True)
        assert (run / "last.pt").read_bytes() == before
        assert len(read_log(run)) == 1  # the second epoch is trained again
        assert not list(run.glob(".*"))
        train(config, resume=True)
        assert_same_run(run, uninterrupted)

    def test_a_log_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("plays a full disk by /dev/full")
        folder = RunFolder(tmp_path)
        folder.log.symlink_to("/dev/full")
        with pytest.raises(CheckpointError, match=r"log\.jsonl: can't write it \(No space left on device\); free some"):
            folder.append_log({"epoch": 1})

    @pytest.mark.parametrize("name", ["config.yaml", "environment.json"])
    def test_any_other_unwritable_file_of_the_run_is_named(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        def refused(self: Path, *arguments: Any, **options: Any) -> Any:
            if name in self.name and self.parent == tmp_path / "run":
                raise OSError(errno.EROFS, "Read-only file system", str(self))
            return opened(self, *arguments, **options)

        opened = Path.open
        monkeypatch.setattr(Path, "open", refused)
        with pytest.raises((ConfigError, CheckpointError), match=r"run.*: can't write .*\(Read-only file system\); "):
            train(tiny_config(data, tmp_path / "run"))

    def test_a_read_only_folder_is_reported_before_the_images_are_read(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if str(path).startswith(str(tmp_path)) and flags & os.O_CREAT:
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            return opened(path, flags, *arguments, **options)

        (tmp_path / "run").mkdir()
        opened = os.open
        monkeypatch.setattr(os, "open", refused)
        missing = tiny_config(tmp_path, tmp_path / "run")  # the labels don't exist, and are not read either
        with pytest.raises(ConfigError, match=r"run: can't write there \(Read-only file system\); choose another"):
            train(missing)


class TestFiles:
    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        """A file with a line in it."""
        (tmp_path / "old.txt").write_text("old\n")
        return tmp_path / "old.txt"

    @pytest.mark.parametrize(
        "write",
        [
            lambda path: write_text(path, "new\n" * 9999),
            lambda path: write_json(path, list(range(9999))),
            lambda path: copy(Path(__file__), path),
        ],
        ids=["text", "JSON", "copy"],
    )
    def test_the_old_file_is_kept_and_the_error_names_it(self, old: Path, write: Callable[[Path], None]) -> None:
        with largest_file(1000), pytest.raises(OSError, match=r"File too large: '.*old\.txt'"):
            write(old)
        assert old.read_text() == "old\n"
        assert [path.name for path in old.parent.iterdir()] == ["old.txt"]

    def test_torch_fails_while_writing_a_checkpoint(self, data: Path, tmp_path: Path) -> None:
        """On a full disk, torch raises an error about its own archive."""
        run = train(tiny_config(data, tmp_path / "run", data={"val": None}, train={"epochs": 1}))
        checkpoint, before = load_checkpoint(run), (run / "last.pt").read_bytes()
        for size in (0, 1000, len(before) - 1):
            with (
                largest_file(size),
                pytest.raises(CheckpointError, match=r"can't write the checkpoint \(File too large"),
            ):
                save_checkpoint(run / "last.pt", checkpoint)
        assert (run / "last.pt").read_bytes() == before
        assert not list(run.glob(".*"))

    def test_a_file_is_synced_before_it_is_renamed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        order: list[str] = []
        flush, rename = os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda handle: (order.append("flush"), flush(handle)))
        monkeypatch.setattr(Path, "replace", lambda self, to: (order.append("rename"), rename(self, to)))
        with atomic_write(tmp_path / "a", lasting=True) as file:
            file.write(b"a")
        assert order == ["flush", "rename", "flush"] if os.name == "posix" else ["flush", "rename"]

    def test_ctrl_c_while_writing_stays_keyboard_interrupt(self) -> None:
        class Pressed(io.BytesIO):
            def write(self, data: Any) -> int:
                if self.tell() > 5000:
                    raise KeyboardInterrupt
                return super().write(data)

        with pytest.raises(KeyboardInterrupt):
            save_tensors({str(i): torch.ones(1000) for i in range(20)}, Pressed())

    def test_other_torch_errors_are_not_changed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(content: Any, file: Any) -> None:
            raise RuntimeError("a mistake")

        monkeypatch.setattr(torch, "save", broken)
        with pytest.raises(RuntimeError, match="a mistake"), (tmp_path / "x").open("wb") as file:
            save_tensors({}, file)


def test_any_command_reports_a_full_disk_in_one_line(tmp_path: Path, detect: Callable[..., Any]) -> None:
    assert detect("sample", "--out", tmp_path / "steel", "--images", 6).code == 0
    with largest_file(1000):
        outcome = detect("convert", tmp_path / "steel", "--out", tmp_path / "coco", "--split", "train=1")
    assert outcome.code == 2
    assert "train.json: File too large; check the path, its permissions and the disk" in outcome.err


def test_a_full_disk_keeps_the_earlier_image(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    write_image(image, np.full((40, 60), 7, np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    with largest_file(1000), pytest.raises(OSError, match=r"File too large: '.*a\.png'"):
        write_image(image, noise)
    assert (read_image(image) == 7).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    write_image(image, noise)
    assert (read_image(image) == noise).all()
