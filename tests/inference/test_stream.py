"""Streams over moving strips, with and without memory: state is kept within a strip and reset for the next one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, current_thread
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from detect.config.schema import ModelConfig
from detect.data.clips import estimate_motion
from detect.data.dataset import DetectionDataset
from detect.errors import ConfigError
from detect.images import read_image, write_image
from detect.inference.detection import detect_images, to_detections
from detect.inference.stream import Stream, detect_in_frame_order, merge_new_region, new_region_window
from detect.models.faster_rcnn import ClippingRCNNTransform, build_detector, summarize_modules
from detect.models.recurrent import MemoryState
from detect.structures import Dataset, Detections, Frame, Image
from detect.synthetic.strips import degrade, film
from tiny import TINY_MODEL

SHAPES = [[(12.0, 12.0), (24.0, 12.0)]] * 4
LIGHT = {"name": "csp", "stem": 8, "widths": (8, 8, 8, 8), "depths": (0, 0, 0, 0)}
SIDE = 96


def built(**memory: Any) -> FasterRCNN:
    torch.manual_seed(0)
    tree = dict(TINY_MODEL) | ({"memory": memory} if memory else {})
    tree["roi"] = {**tree["roi"], "score_threshold": 0.0}  # an untrained network has low scores
    model = ModelConfig.model_validate(tree)
    detector = build_detector(model, classes=2, channels=1, mean=[0.5], std=[0.2], shapes=SHAPES)
    if memory:
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in detector.memory.parameters():  # an untrained memory has almost no effect
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return detector.eval()


def steel(seed: int = 0) -> NDArray[np.uint8]:
    """A strip twelve frames long, for frames of SIDE x SIDE pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(128, 30, (SIDE // 4, 12 * SIDE // 4))
    fine = np.kron(coarse, np.ones((4, 4))) + rng.normal(0, 8, (SIDE, 12 * SIDE))
    return np.clip(fine, 0, 255).astype(np.uint8)


def frames(seed: int, count: int, step: int = 20) -> list[NDArray[np.uint8]]:
    """The surface moves left by ``step`` pixels per frame."""
    strip = steel(seed)
    return [np.ascontiguousarray(strip[:, i * step : i * step + SIDE]) for i in range(count)]


def same(a: Detections, b: Detections) -> bool:
    return len(a) == len(b) and np.allclose(a.boxes_xyxy, b.boxes_xyxy, atol=1e-3) and np.allclose(a.scores, b.scores)


@pytest.mark.parametrize("step", [3, 20, 40])
def test_motion_is_estimated_from_the_frames(step: int) -> None:
    before, after = frames(1, 2, step)
    assert estimate_motion(before, after) == pytest.approx((-step, 0), abs=0.5)


@pytest.mark.parametrize("condition", ["blurred", "noisy", "overexposed", "dropped"])
def test_motion_of_degraded_frames_is_estimated_or_none(condition: str) -> None:
    """No estimate is wrong: to move the memory by a wrong distance is worse than to keep the last speed."""
    estimates = 0
    for number in (0, 1, 2, 6, 7, 8):
        (first, _, place), (second, _, next_place) = film("scratches", number, frames=2, seed=0, degraded=0)
        motion = next_place.motion_since(place)
        assert motion is not None
        rng = np.random.default_rng(number)
        degraded_frame = np.rint(255 * degrade(second / 255, condition, 0.5, motion, rng)).astype(np.uint8)
        for before, after, true in ((first, degraded_frame, motion), (degraded_frame, first, (-motion[0], -motion[1]))):
            estimate = estimate_motion(before, after)
            estimates += estimate is not None
            assert estimate is None or estimate == pytest.approx(true, abs=4)
    assert estimates == 0 if condition == "dropped" else estimates >= 6


def test_unrelated_frames_give_no_motion() -> None:
    assert estimate_motion(frames(1, 1)[0], frames(2, 1)[0]) is None
    assert estimate_motion(frames(1, 1)[0], np.zeros((SIDE, SIDE), np.uint8)) is None


def test_the_first_frame_is_processed_as_a_still_image() -> None:
    detector, image = built(kind="gru"), torch.rand(1, SIDE, SIDE)
    with torch.no_grad():
        still = detector([image])[0]
        output, _ = detector.step(image, None, torch.zeros(2))
    assert torch.equal(still["boxes"], output["boxes"])


def test_memory_changes_later_detections_and_a_new_strip_clears_it() -> None:
    detector = built(kind="gru")
    past, now = frames(1, 3), frames(2, 1)[0]
    alone = Stream(detector, ("a", "b"))(now)
    stream = Stream(detector, ("a", "b"))
    for frame in past:
        stream(frame, strip="first", motion_xy=(-20, 0))
    remembered = stream(now, strip="first", motion_xy=(-20, 0))
    assert not same(remembered, alone)
    stream(past[0], strip="second")
    assert same(stream(now, strip="third"), alone)
    stream.reset()
    assert same(stream(now, strip="third"), alone)


def test_a_changed_frame_size_resets_the_stream() -> None:
    detector, now = built(kind="gru"), frames(2, 1)[0]
    stream = Stream(detector, ("a", "b"))
    stream(frames(1, 1)[0][:64])
    assert same(stream(now), Stream(detector, ("a", "b"))(now))


def test_the_stateless_control_processes_each_frame_alone() -> None:
    detector = built(kind="stateless")
    past, now = frames(1, 3), frames(2, 1)[0]
    stream = Stream(detector, ("a", "b"))
    for frame in past:
        stream(frame, motion_xy=(-20, 0))
    assert same(stream(now, motion_xy=(-20, 0)), Stream(detector, ("a", "b"))(now))


def test_the_light_network_processes_non_key_frames() -> None:
    detector = built(kind="gru", light=LIGHT)
    images = frames(3, 4)

    def run() -> list[Detections]:
        stream = Stream(detector, ("a", "b"), key_frame_interval=2)
        return [stream(image, motion_xy=(0, 0)) for image in images]

    before = run()
    with torch.no_grad():
        for parameter in detector.light.parameters():
            parameter.mul_(1.5)
    after = run()
    assert same(before[0], after[0])  # the first frame is a key frame
    assert not same(before[1], after[1])


def test_non_key_frames_process_only_the_new_surface() -> None:
    detector, images = built(), frames(3, 2, step=3)
    stream = Stream(detector, ("a", "b"), key_frame_interval=2)
    first = stream(images[0])
    window = new_region_window((-3, 0), (SIDE, SIDE))
    assert window is not None
    left, proposals = window.start, detector.rpn.post_nms_top_n()
    (in_window,) = detect_images(
        detector, [images[1][:, left:]], ("a", "b"), proposals=-(-proposals * (SIDE - left) // SIDE)
    )
    placed = replace(in_window, boxes_xyxy=in_window.boxes_xyxy + np.array([left, 0, left, 0], np.float32))
    want = merge_new_region(first, placed, window, (-3, 0), (SIDE, SIDE))
    assert same(stream(images[1], motion_xy=(-3, 0)), want)
    assert detector.rpn.post_nms_top_n() == proposals


@pytest.mark.parametrize("memory", [{}, {"kind": "gru"}])
def test_a_proposal_limit_keeps_the_best_ones(memory: dict[str, Any]) -> None:
    detector, image = built(**memory), frames(3, 1)[0]
    detector.rpn._post_nms_top_n["testing"] = 5
    (expected,) = detect_images(detector, [image], ("a", "b"))
    detector.rpn._post_nms_top_n["testing"] = 20
    assert same(detect_images(detector, [image], ("a", "b"), proposals=5)[0], expected)
    assert len(detect_images(detector, [image], ("a", "b"))[0]) > len(expected)


def test_threads_that_share_a_detector_do_not_limit_each_other() -> None:
    detector, image = built(), frames(3, 1)[0]
    (alone,) = detect_images(detector, [image], ("a", "b"))
    limited_is_in, other_is_through = Event(), Event()

    def wait_in_the_middle(*_: Any) -> None:
        if current_thread().name == "limited":
            limited_is_in.set()
            other_is_through.wait(timeout=30)

    detector.backbone.register_forward_hook(wait_in_the_middle)
    detections: list[Detections] = []
    limited = Thread(
        name="limited", target=lambda: detections.extend(detect_images(detector, [image], ("a", "b"), proposals=2))
    )
    limited.start()
    assert limited_is_in.wait(timeout=30)
    (meanwhile,) = detect_images(detector, [image], ("a", "b"))
    other_is_through.set()
    limited.join(timeout=30)
    assert same(meanwhile, alone)
    assert len(detections[0]) < len(alone)


def test_memory_accounts_for_the_motion_during_windowed_frames() -> None:
    detector, images = built(kind="gru"), frames(3, 3, step=3)
    stream = Stream(detector, ("a", "b"), key_frame_interval=2, non_key_frames="new_region")
    for image in images:
        detections = stream(image, motion_xy=(-3, 0))
    skipping = Stream(detector, ("a", "b"))
    skipping(images[0])
    assert same(detections, skipping(images[2], motion_xy=(-6, 0)))


def test_a_strip_without_motion_is_processed_whole() -> None:
    detector, images = built(), frames(3, 2)
    stream = Stream(detector, ("a", "b"), key_frame_interval=4)
    stream(images[0])
    assert same(stream(images[1], motion_xy=(0, 0)), Stream(detector, ("a", "b"))(images[1]))


def test_a_missing_light_network_raises() -> None:
    with pytest.raises(ConfigError, match="no light network; take 'new_region'"):
        Stream(built(), ("a", "b"), key_frame_interval=2, non_key_frames="light")


def test_predict_next_keeps_the_state_and_skip_advances_it() -> None:
    detector, images = built(kind="gru"), frames(1, 4)
    asked, plain, skipped = (Stream(detector, ("a", "b")) for _ in range(3))
    assert len(asked.predict_next()) == 0
    for stream in (asked, plain, skipped):
        stream(images[0])
        stream(images[1])
    ahead = asked.predict_next()
    assert len(ahead) > 0
    assert same(asked(images[2]), plain(images[2]))
    assert same(skipped.skip(), ahead)
    assert not same(skipped(images[3], motion_xy=(-20, 0)), plain(images[3], motion_xy=(-20, 0)))


@pytest.mark.parametrize("encoder", [True, False])
@pytest.mark.parametrize("skipped", [1, 2])
def test_memory_and_speed_follow_the_surface_during_skipped_frames(
    encoder: bool, skipped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key frame, skipped frames, key frame, ...: the surface moves left by 7 pixels per frame all the time."""
    detector, images = built(kind="gru"), frames(1, 7, step=7)
    moves: list[float] = []
    move = detector.memory.predict_next

    def recorded(state: MemoryState, motion_xy: Tensor) -> MemoryState:
        moves.append(float(motion_xy[0, 0]))
        return move(state, motion_xy)

    monkeypatch.setattr(detector.memory, "predict_next", recorded)
    stream = Stream(detector, ("a", "b"))
    for number, image in enumerate(images):
        if number % (skipped + 1):
            stream.skip((-7, 0) if encoder else None)
            continue
        stream(image, motion_xy=(-7, 0) if encoder else None)
        assert sum(moves) == pytest.approx(-7 * number, abs=1e-4 if encoder else 0.5)
        if number:
            assert stream.speed_xy == pytest.approx((-7, 0), abs=1e-6 if encoder else 0.3)


def test_a_key_frame_after_a_skipped_one_uses_memory_moved_twice() -> None:
    detector, images = built(kind="gru"), frames(1, 3, step=8)
    stream = Stream(detector, ("a", "b"))
    stream(images[0])
    stream.skip((-8, 0))
    detections = stream(images[2], motion_xy=(-8, 0))
    first, last = (torch.from_numpy(images[number])[None] / 255 for number in (0, 2))
    with torch.no_grad():
        _, state = detector.step(first, None, torch.zeros(2))
        _, state = detector.predict_next(state, torch.tensor([-8.0, 0.0]), (SIDE, SIDE))
        expected, _ = detector.step(last, state, torch.tensor([-8.0, 0.0]))
        misplaced, _ = detector.step(last, state, torch.zeros(2))
    assert same(detections, to_detections(expected, ("a", "b")))
    assert not same(detections, to_detections(misplaced, ("a", "b")))


def test_speed_is_estimated_across_skipped_frames() -> None:
    stream, images = Stream(built(), ("a", "b")), frames(1, 6, step=7)
    stream(images[0])
    stream.skip()
    stream.skip()
    stream(images[3])
    assert stream.speed_xy == pytest.approx((-7, 0), abs=0.3)
    stream(images[5], missed=1)
    assert stream.speed_xy == pytest.approx((-7, 0), abs=0.3)


def test_an_encoder_sets_the_speed_for_skip_and_predict_next() -> None:
    stream, images = Stream(built(), ("a", "b")), frames(1, 2)
    stream(images[0])
    stream.skip((0, -9))
    assert stream.speed_xy == (0, -9)
    assert stream.skip().boxes_xyxy[:, 3].max() <= SIDE - 18
    stream(images[1], motion_xy=(0, -4))
    assert stream.speed_xy == (0, -4)


def test_surface_that_entered_during_a_skipped_frame_is_processed() -> None:
    detector, images = built(), frames(3, 3, step=3)
    stream = Stream(detector, ("a", "b"), key_frame_interval=4, non_key_frames="new_region")
    stream(images[0])
    stream.skip((-3, 0))
    assert same(stream(images[2], motion_xy=(-3, 0)), detect_images(detector, [images[2]], ("a", "b"))[0])


def test_a_detector_without_memory_predicts_by_moving_its_boxes() -> None:
    stream = Stream(built(), ("a", "b"))
    first, second = frames(1, 2)
    stream(first)
    detections = stream(second)
    moved = stream.predict_next()
    assert stream.speed_xy == pytest.approx((-20, 0), abs=0.5)
    inside = [each.xyxy for each in detections if each.xyxy[0] > 21 and each.xyxy[2] < SIDE]
    ahead = {tuple(round(v) for v in each.xyxy) for each in moved}
    speed = stream.speed_xy[0]
    assert inside
    for x1, y1, x2, y2 in inside:
        assert tuple(round(v) for v in (x1 + speed, y1, x2 + speed, y2)) in ahead


def clip_batch(clips: int, length: int) -> tuple[list[Tensor], list[dict[str, Tensor]], Tensor]:
    images = [torch.from_numpy(frame)[None] / 255 for seed in range(clips) for frame in frames(seed, length)]
    box = {"boxes": torch.tensor([[20.0, 20.0, 44.0, 40.0]]), "labels": torch.tensor([1])}
    return images, [box] * len(images), torch.tensor([[-20.0, 0.0]]).repeat(len(images), 1)


@pytest.mark.parametrize("shares", [(0.5, 0.2), (0.0, 0.3), (1.0, 0.0)])
def test_clips_give_gradients_to_every_part(shares: tuple[float, float]) -> None:
    detector = built(kind="gru", light=LIGHT, light_share=shares[0], predicted_share=shares[1]).train()
    images, targets, motion = clip_batch(2, 3)
    torch.manual_seed(1)
    losses = detector(images, targets, clip_length=3, motion_xy=motion)
    sum(losses.values()).backward()
    reached = {name for name, p in detector.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    expected_names = {name for name, _ in detector.named_parameters() if name.startswith("memory")}
    if shares[0] == 1:
        expected_names |= {name for name, _ in detector.named_parameters() if name.startswith("light.body")}
    assert expected_names <= reached


@pytest.mark.parametrize("input_size", [None, 128])
def test_training_on_clips_matches_streaming(input_size: int | None) -> None:
    """With ``input_size``, frames are resized, and so is their motion."""
    detector = built(kind="gru", predicted_share=0.0)
    if input_size is not None:
        detector.transform = ClippingRCNNTransform(input_size, 1000, [0.5], [0.2], size_divisible=8)
    images, _, motion = clip_batch(2, 3)
    with torch.no_grad():
        together = detector(images, clip_length=3, motion_xy=motion)
        state = None
        for number, image in enumerate(images[3:]):
            detections, state = detector.step(image, state, motion[3 + number])
    torch.testing.assert_close(together[-1]["scores"], detections["scores"], rtol=0, atol=1e-4)


def test_the_parts_table_counts_all_parameters() -> None:
    detector = built(kind="gru", light=LIGHT)
    rows = summarize_modules(detector)
    assert [row.name for row in rows][-2:] == ["memory", "light pyramid"]
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in detector.parameters())


def test_a_light_backbone_with_other_strides_raises() -> None:
    light = {"name": "csp", "widths": (8, 8), "depths": (0, 0)}
    with pytest.raises(ConfigError, match=r"model\.memory\.light: the light backbone has strides \[4, 8\], the full"):
        built(kind="gru", light=light)


def filmed(folder: Path, step: int = 20) -> DetectionDataset:
    """Two strips of three frames and four, the second one without its second frame."""
    images = []
    for name, seed, numbers in (("left", 1, (0, 1, 2)), ("right", 2, (0, 2, 3))):
        strip = frames(seed, 4, step)
        for number in reversed(numbers):  # files need not be in time order
            path = folder / f"{name}_{number}.png"
            write_image(path, strip[number])
            place = Frame(name, number, (float(number * step), 0.0))
            images.append(Image(path, SIDE, SIDE, frame=place))
    return DetectionDataset(Dataset(tuple(images), ("a", "b")), channels=1)


def test_frames_of_strips_are_processed_in_time_order(tmp_path: Path) -> None:
    detector, dataset = built(kind="gru"), filmed(tmp_path)
    detections = dict(detect_in_frame_order(detector, dataset, ("a", "b")))
    assert sorted(detections) == list(range(6))

    stream = Stream(detector, ("a", "b"))
    for number, position in ((0, 2), (1, 1), (2, 0)):
        motion = (-20.0, 0.0) if number else None
        assert same(detections[position], stream(frames(1, 4)[number], strip="left", motion_xy=motion))
    motion = torch.tensor([-20.0, 0.0])
    first, third = (torch.from_numpy(frames(2, 4)[number])[None] / 255 for number in (0, 2))
    with torch.no_grad():
        _, state = detector.step(first, None, motion)
        _, state = detector.predict_next(state, motion, (SIDE, SIDE))  # its second frame is missing
        expected, _ = detector.step(third, state, motion)
    assert same(detections[4], to_detections(expected, ("a", "b")))


def test_still_images_are_processed_alone_even_with_memory(tmp_path: Path) -> None:
    detector, dataset = built(kind="gru"), filmed(tmp_path)
    stills = Dataset(tuple(replace(image, frame=None) for image in dataset.images), ("a", "b"))
    detections = dict(detect_in_frame_order(detector, DetectionDataset(stills, channels=1), ("a", "b")))
    for position, image in enumerate(stills.images):
        assert same(detections[position], Stream(detector, ("a", "b"))(read_image(image.path)))
