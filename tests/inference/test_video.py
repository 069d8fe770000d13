"""Frame sources: complete files only, bounded queues, counts of dropped and bad frames, and a clean stop."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detect.config.schema import ModelConfig
from detect.errors import DataError
from detect.images import write_image
from detect.inference.predictor import Predictor
from detect.inference.video import (
    CapturedFrame,
    FrameDetector,
    FrameOutput,
    FrameQueue,
    FrameSource,
    folder_frames,
    open_source,
    pipe_frames,
    process_stream,
    video_frames,
)
from detect.models.anchors import default_anchors
from detect.models.checkpoint import Checkpoint, DetectorSpec, save_checkpoint
from detect.structures import Detections
from tiny import CATEGORIES, TINY_MODEL

Run = Callable[..., Any]
Gray = NDArray[np.uint8]


def steel(number: int, side: int = 64) -> Gray:
    """The surface under a camera, which moves by 8 pixels per frame."""
    strip = np.random.default_rng(0).integers(0, 256, (8, 400)).repeat(8, axis=0).repeat(4, axis=1).astype(np.uint8)
    return np.ascontiguousarray(strip[:side, 8 * number : 8 * number + side])


def nothing(frame: CapturedFrame, missed: int) -> Detections:
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    return Detections(*none, CATEGORIES)


def frame(number: int, **changes: Any) -> CapturedFrame:
    values = {"strip": "s", "name": f"frame {number}", "captured": 0.0, "pixels": steel(0)}
    return CapturedFrame(number, **{**values, **changes})


def source_of(frames: Callable[[Event], Generator[CapturedFrame, None, None]], *, drops: bool = False) -> FrameSource:
    return FrameSource("test", frames, drops)


class TestFolder:
    def frames(self, folder: Path, stop: Event | None = None, timeout_s: float = 0.3) -> Iterator[CapturedFrame]:
        return folder_frames(folder, stop or Event(), poll_s=0.02, timeout_s=timeout_s)

    def test_existing_files_are_read_in_order_and_a_stop_file_ends_the_stream(self, tmp_path: Path) -> None:
        for number in (10, 2, 1):
            write_image(tmp_path / f"f_{number}.png", steel(number))
        (tmp_path / "notes.txt").write_text("no image")
        (tmp_path / "f_11.HEIC").write_text("of a phone")
        (tmp_path / "STOP").touch()
        outputs = list(self.frames(tmp_path, timeout_s=60))
        assert [each.name for each in outputs] == ["f_1.png", "f_2.png", "f_10.png", "f_11.HEIC"]
        assert [each.number for each in outputs] == [0, 1, 2, 3]
        assert "f_11.HEIC: this image format isn't read; save it as BMP, " in str(outputs.pop().error)
        assert {each.strip for each in outputs} == {tmp_path.name}
        assert all(
            each.pixels is not None and np.array_equal(each.pixels, steel(n)) for each, n in zip(outputs, (1, 2, 10))
        )
        assert abs(outputs[0].captured - time.time()) < 60

    def test_an_incomplete_file_is_waited_for(self, tmp_path: Path) -> None:
        write_image(tmp_path / "whole.png", steel(3))
        content = (tmp_path / "whole.png").read_bytes()
        (tmp_path / "whole.png").unlink()
        frames = self.frames(tmp_path, timeout_s=30)

        def write() -> None:
            with (tmp_path / "a_1.png").open("wb") as file:
                for part in (content[:100], content[100:200], content[200:]):
                    file.write(part)
                    file.flush()
                    time.sleep(0.08)
            (tmp_path / "a_2.png").write_bytes(content)
            (tmp_path / "STOP").touch()

        writer = threading.Thread(target=write)
        writer.start()
        outputs = list(frames)
        writer.join()
        assert [(each.name, each.error) for each in outputs] == [("a_1.png", None), ("a_2.png", None)]

    def test_a_damaged_file_is_a_bad_frame_and_the_stream_continues(self, tmp_path: Path) -> None:
        for number in range(3):
            write_image(tmp_path / f"{number}.png", steel(number))
        (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
        (tmp_path / "STOP").touch()
        good, bad, last = self.frames(tmp_path)
        assert (good.error, last.error) == (None, None)
        assert bad.pixels is None
        assert re.search(r"1\.png: the image is damaged or cut short", bad.error or "")

    def test_each_subfolder_is_a_strip_and_removed_files_are_forgotten(self, tmp_path: Path) -> None:
        for strip in ("coil_10", "coil_9"):
            (tmp_path / strip).mkdir()
            for number in range(2):
                write_image(tmp_path / strip / f"{number}.png", steel(number))
        (tmp_path / "coil_9" / ".hidden.png").write_bytes(b"")
        frames = self.frames(tmp_path)
        outputs = [next(frames) for _ in range(4)]
        assert [(each.strip, Path(each.name).name) for each in outputs] == [
            *(("coil_9", "0.png"), ("coil_9", "1.png"), ("coil_10", "0.png"), ("coil_10", "1.png"))
        ]
        path = tmp_path / "coil_9" / "0.png"
        path.unlink()
        later = threading.Timer(0.1, lambda: write_image(path, steel(5)))
        later.start()
        again = next(frames)  # names are reused: the same name with another image
        assert again.pixels is not None
        assert np.array_equal(again.pixels, steel(5))
        assert again.number == 4

    def test_a_stop_event_ends_the_wait(self, tmp_path: Path) -> None:
        stop = Event()
        threading.Timer(0.1, stop.set).start()
        assert list(self.frames(tmp_path, stop)) == []


class TestPipe:
    def frames(self, content: bytes, shape: tuple[int, ...], depth: int = 8) -> list[CapturedFrame]:
        reading, writing = os.pipe()
        writer = threading.Thread(target=lambda: (os.write(writing, content), os.close(writing)))
        writer.start()
        outputs = list(pipe_frames(reading, shape, depth, Event()))
        writer.join()
        os.close(reading)
        return outputs

    @pytest.mark.parametrize(("shape", "dtype"), [((5, 7), "u1"), ((5, 7, 3), "u1"), ((5, 7), "u2"), ((5, 7, 3), "u2")])
    def test_frames_pass_through_the_pipe_unchanged(self, shape: tuple[int, ...], dtype: str) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (4, *shape)).astype(dtype)
        content = pixels.astype("<u2").tobytes() if dtype == "u2" else pixels.tobytes()
        outputs = self.frames(content, shape, 8 if dtype == "u1" else 12)
        assert [each.error for each in outputs] == [None] * 4
        assert all(np.array_equal(each.pixels, want) for each, want in zip(outputs, pixels) if each.pixels is not None)
        assert outputs[0].pixels is not None
        assert outputs[0].pixels.dtype == pixels.dtype

    def test_an_incomplete_frame_is_reported(self) -> None:
        good, bad = self.frames(bytes(35 + 20), (5, 7))
        assert good.error is None
        assert bad.error == "frame 1: the pipe ended after 20 of its 35 bytes; check --frame-size and --depth"


class TestVideo:
    @pytest.fixture
    def video(self, tmp_path: Path) -> Path:
        import cv2

        path = tmp_path / "line.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 64))
        for number in range(6):
            writer.write(np.repeat(steel(number)[..., None], 3, axis=2))
        writer.release()
        return path

    def test_all_frames_of_a_video_are_read(self, video: Path) -> None:
        outputs = list(video_frames(video, Event()))
        assert [(each.number, each.strip, each.error) for each in outputs] == [(i, "line", None) for i in range(6)]
        assert all(each.pixels is not None and each.pixels.shape == (64, 64, 3) for each in outputs)
        assert open_source(str(video)).kind == "video"

    def test_a_video_that_ends_early_is_reported(self, video: Path) -> None:
        content = video.read_bytes()
        video.write_bytes(content[: len(content) * 3 // 4])
        outputs = list(video_frames(video, Event()))
        assert 0 < len([each for each in outputs if each.error is None]) < 6
        assert re.search(r"line\.avi: the video ends after \d of 6 frames", outputs[-1].error or "")

    def test_a_file_that_is_no_video_raises(self, tmp_path: Path) -> None:
        (tmp_path / "x.avi").write_bytes(b"no video")
        with pytest.raises(DataError, match=r"x\.avi: the file is not a readable video"):
            list(video_frames(tmp_path / "x.avi", Event()))


class TestQueue:
    def test_a_camera_drops_the_oldest_frame_and_leaves_a_gap(self) -> None:
        queue, stop = FrameQueue(3, drops=True), Event()
        for number in range(10):
            queue.put(frame(number), stop)
        queue.end()
        got = [queue.get(stop) for _ in range(4)]
        assert [each.number if each else None for each in got] == [7, 8, 9, None]

    def test_other_sources_wait_for_space(self) -> None:
        ahead, made, detected = [], 0, 0

        def frames(stop: Event) -> Generator[CapturedFrame, None, None]:
            nonlocal made
            for number in range(40):
                made += 1
                yield frame(number)

        def detect_frame(each: CapturedFrame, missed: int) -> Detections:
            nonlocal detected
            time.sleep(0.002)
            detected += 1
            ahead.append(made - detected)
            return nothing(each, missed)

        outputs = list(process_stream(source_of(frames), detect_frame, max_frames=4, stop=Event()))
        assert [each.frame.number for each in outputs] == list(range(40))
        assert sum(each.dropped for each in outputs) == 0
        assert max(ahead) <= 5  # the waiting frames, and the one that the reader holds


class TestWatch:
    def test_dropped_and_bad_frames_are_counted_and_passed_to_the_detector(self) -> None:
        calls = []

        def detect_frame(each: CapturedFrame, missed: int) -> Detections:
            calls.append((each.number, missed))
            if each.number == 5:
                raise DataError("too bright")
            return nothing(each, missed)

        def frames(stop: Event) -> Generator[CapturedFrame, None, None]:
            yield from (frame(0), frame(3), frame(4, pixels=None, error="torn"), frame(5), frame(6))

        outputs = list(process_stream(source_of(frames), detect_frame, max_frames=10, stop=Event()))
        assert calls == [(0, 0), (3, 2), (5, 1), (6, 2)]
        assert [each.dropped for each in outputs] == [0, 2, 0, 0, 0]
        assert [each.error for each in outputs] == [None, None, "torn", "frame 5: too bright", None]
        assert outputs[0].size_wh == (64, 64)
        assert all(each.frame.pixels is None for each in outputs)  # no reference is kept

    def test_a_slow_detector_drops_camera_frames_and_counts_them(self) -> None:
        given = Event()

        def frames(stop: Event) -> Generator[CapturedFrame, None, None]:
            yield from (frame(number) for number in range(50))
            given.set()

        def detect_frame(each: CapturedFrame, missed: int) -> Detections:
            assert given.wait(30)
            return nothing(each, missed)

        outputs = list(process_stream(source_of(frames, drops=True), detect_frame, max_frames=2, stop=Event()))
        assert len(outputs) in (2, 3)  # the current frame, and the waiting ones
        assert outputs[-1].frame.number == 49
        assert sum(each.dropped for each in outputs) == 50 - len(outputs)

    def test_a_source_error_is_raised_after_the_earlier_frames(self) -> None:
        def frames(stop: Event) -> Generator[CapturedFrame, None, None]:
            yield frame(0)
            raise DataError("no frame came", where="camera 0")

        outputs: list[FrameOutput] = []
        with pytest.raises(DataError, match="camera 0: no frame came"):
            outputs.extend(process_stream(source_of(frames), nothing, max_frames=2, stop=Event()))
        threads = [thread.name for thread in threading.enumerate()]
        assert "frames" not in threads or not any(t.is_alive() for t in threading.enumerate() if t.name == "frames")

    def test_a_stop_event_ends_after_the_current_frame(self) -> None:
        stop, ended = Event(), Event()

        def frames(asked: Event) -> Generator[CapturedFrame, None, None]:
            try:
                for number in range(10**9):
                    yield frame(number)
            finally:
                ended.set()  # the camera is released here

        count = 0
        for _ in process_stream(source_of(frames), nothing, max_frames=3, stop=stop):
            count += 1
            if count == 5:
                stop.set()
        assert count == 5
        assert ended.wait(2)


def weights_in(folder: Path, **model: Any) -> Path:
    torch.manual_seed(0)
    roi = {**TINY_MODEL["roi"], "score_threshold": 0.0}
    config = ModelConfig.model_validate({**TINY_MODEL, "roi": roi, **model})
    detector = DetectorSpec(config, CATEGORIES, 1, (0.5,), (0.2,), default_anchors(4, 2), side=64)
    network = detector.build()
    if "memory" in model:
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in network.memory.parameters():  # an untrained memory has almost no effect
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    save_checkpoint(folder / "best.pt", Checkpoint(detector, network.state_dict(), epoch=1))
    return folder / "best.pt"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_in(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_in(tmp_path_factory.mktemp("memory"), memory={"kind": "gru"})


def filled(folder: Path, count: int = 4) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        write_image(folder / f"{number}.png", steel(number))
    (folder / "STOP").touch()
    return folder


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class TestDetector:
    def test_memory_is_kept_from_frame_to_frame(self, remembering: Path) -> None:
        predictor = Predictor.load(remembering, device="cpu")
        detect_frame, stream = FrameDetector(predictor), predictor.stream()
        last = None
        for number, missed in ((0, 0), (1, 0), (3, 1)):
            last = detect_frame(frame(number, pixels=steel(number)), missed)
            want = stream(steel(number), strip="s", missed=missed)
            assert np.array_equal(last.scores, want.scores)
        alone = FrameDetector(predictor)(frame(3, pixels=steel(3)), 0)
        assert last is not None
        assert not np.array_equal(last.scores, alone.scores)

    def test_each_missed_frame_adds_one_step_of_motion(self, remembering: Path) -> None:
        stream = Predictor.load(remembering, device="cpu").stream()
        stream(steel(0))
        stream(steel(1))
        assert stream.speed_xy == pytest.approx((-8, 0), abs=0.5)
        stream(steel(4), missed=2)  # 24 pixels further
        assert stream.speed_xy == pytest.approx((-8, 0), abs=0.5)


class TestCommand:
    def test_one_line_per_frame_with_times_and_a_summary(self, weights: Path, tmp_path: Path, detect: Run) -> None:
        folder = filled(tmp_path / "coil")
        (folder / "2.png").write_bytes(b"torn")
        os.utime(folder / "2.png", (0, 0))
        started = time.time()
        outcome = detect("infer", "--stream", folder, "--weights", weights, "--threshold", 0.3)
        assert outcome.code == 0
        *lines, last = lines_of(outcome.out)
        assert [(line["frame"], line["name"], line["strip"]) for line in lines] == [
            (i, f"{i}.png", "coil") for i in range(4)
        ]
        assert "2.png: the image can't be read" in lines[2]["error"]
        assert f"detect: {folder}/2.png: the image can't be read" in outcome.err
        expected = detect("infer", folder / "3.png", "--weights", weights, "--threshold", 0.3, "--json")
        assert lines[3]["detections"] == json.loads(expected.out)["images"][0]["detections"] != []
        assert (lines[3]["width"], lines[3]["height"], lines[3]["dropped_before"]) == (64, 64, 0)
        from datetime import datetime

        captured, done = (datetime.fromisoformat(lines[3][key]).timestamp() for key in ("captured", "done"))
        assert started - 60 < captured < done < time.time() + 1
        summary = last["summary"]
        assert (summary["frames"], summary["dropped"], summary["bad"]) == (3, 0, 1)
        assert "a queue of 8 frames, which makes the source wait when full" in outcome.err
        assert "3 frames in " in outcome.err
        assert "0 dropped, 1 bad" in outcome.err

    def test_one_file_per_strip_and_existing_files_are_kept(self, weights: Path, tmp_path: Path, detect: Run) -> None:
        for strip in ("a", "b"):
            filled(tmp_path / "in" / strip, 2)
        (tmp_path / "in" / "STOP").touch()
        arguments = ["infer", "--stream", tmp_path / "in", "--weights", weights, "--out", tmp_path / "out"]
        for times in (1, 2):
            outcome = detect(*arguments)
            assert (outcome.code, outcome.out) == (0, "")
            for strip in ("a", "b"):
                lines = lines_of((tmp_path / "out" / f"{strip}.jsonl").read_text())
                assert [("summary" in line, line["strip"]) for line in lines] == [
                    *((False, strip), (False, strip), (True, strip))
                ] * times

    def test_the_thresholds_of_the_run_are_applied(self, weights: Path, tmp_path: Path, detect: Run) -> None:
        from detect.fileio import sha256_of
        from detect.inference.thresholds import write_thresholds

        run = tmp_path / "run"
        run.mkdir()
        (run / "best.pt").write_bytes(weights.read_bytes())
        made = {"weights": {"file": "best.pt", "sha256": sha256_of(run / "best.pt")}}
        content = {"thresholds": {"bright": 1.0, "dark": 0.0}, "calibration": None, "made": made}
        write_thresholds(run / "thresholds.json", content)
        outcome = detect("infer", "--stream", filled(tmp_path / "coil", 1), "--weights", run)
        labels = {each["label"] for each in lines_of(outcome.out)[0]["detections"]}
        assert labels == {"dark"}
        assert "thresholds of" in outcome.err

    def test_large_frames_are_processed_in_tiles(self, weights: Path, tmp_path: Path, detect: Run) -> None:
        folder = filled(tmp_path / "coil", 0)
        write_image(folder / "0.png", np.tile(steel(0), (3, 3)))
        outcome = detect("infer", "--stream", folder, "--weights", weights, "--threshold", 0.3)
        assert "0.png (192 x 192 px) is much larger than the training images (64 px)" in outcome.err
        expected = detect("infer", folder / "0.png", "--weights", weights, "--threshold", 0.3, "--json")
        assert lines_of(outcome.out)[0]["detections"] == json.loads(expected.out)["images"][0]["detections"]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_the_stream_cleanly(
        self, number: signal.Signals, weights: Path, tmp_path: Path, detect: Run
    ) -> None:
        folder = filled(tmp_path / "coil", 3)
        (folder / "STOP").unlink()
        path, before = tmp_path / "out" / "coil.jsonl", signal.getsignal(number)

        def send() -> None:
            while not (path.exists() and path.read_text().count("\n") >= 3):
                time.sleep(0.02)
            os.kill(os.getpid(), number)

        threading.Thread(target=send, daemon=True).start()
        outcome = detect("infer", "--stream", folder, "--weights", weights, "--out", tmp_path / "out")
        assert outcome.code == 0
        assert "3 frames in" in outcome.err
        assert lines_of(path.read_text())[-1]["summary"]["frames"] == 3
        assert signal.getsignal(number) == before

    def test_a_pipe_of_frames(self, weights: Path, detect: Run) -> None:
        reading, writing = os.pipe()
        os.write(writing, b"".join(steel(number).tobytes() for number in range(3)))
        os.close(writing)
        stdin = os.dup(0)
        os.dup2(reading, 0)
        try:
            arguments = ["--frame-size", "64x64", "--weights", weights, "--threshold", 0.3]
            outcome = detect("infer", "--stream", "-", *arguments)
        finally:
            os.dup2(stdin, 0)
            os.close(stdin)
            os.close(reading)
        *lines, last = lines_of(outcome.out)
        assert [line["name"] for line in lines] == ["frame 0", "frame 1", "frame 2"]
        assert last["summary"]["frames"] == 3
        detections = Predictor.load(weights, device="cpu")(steel(2), threshold=0.3)
        assert [each["score"] for each in lines[2]["detections"]] == pytest.approx(detections.scores.tolist(), abs=1e-5)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ([], "no image was given; give image files, folders or globs, or --stream with a source"),
            (["--stream", "none"], "none: no such folder or video"),
            (["--stream", "-"], "the size of the frames in a pipe is unknown; give --frame-size"),
            (["--stream", "-", "--frame-size", "64"], "--frame-size is 64; give width x height in pixels"),
            (["--stream", "-", "--frame-size", "0x5"], "--frame-size is 0x5"),
            (["--stream", "-", "--frame-size", "9x9", "--depth", "24"], "--depth is 24; give 8 to 16 bits"),
            (["--stream", ".", "--frame-size", "9x9"], "--frame-size needs --stream -"),
            (["--stream", ".", "--queue", "0"], "--queue is 0; give at least 1 frame"),
            (["--stream", ".", "--draw"], "--draw has no meaning with --stream"),
            (["--stream", ".", "x.png"], "--stream . and images (x.png) are given; give one of them"),
            (["x.png", "--queue", "3"], "--queue needs --stream"),
        ],
    )
    def test_a_usage_error_gives_one_line(self, arguments: list[str], sentence: str, detect: Run) -> None:
        outcome = detect("infer", *arguments)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert sentence in outcome.err

    def test_a_missing_camera_is_reported(self, weights: Path, detect: Run) -> None:
        outcome = detect("infer", "--stream", "97", "--weights", weights)
        assert outcome.code == 2
        assert "camera 97: there is no such camera" in outcome.err
        assert "Traceback" not in outcome.err
