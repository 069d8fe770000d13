"""Frames of strips: in label files, in splits, and as training clips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detect.data.clips import ClipLoader, frames_by_strip, pan_clip
from detect.data.dataset import DetectionDataset, Sample
from detect.data.transforms import Augment
from detect.datasets import coco
from detect.datasets.convert import audit_sources, convert
from detect.datasets.formats import FORMATS
from detect.errors import ConfigError, DataError
from detect.images import write_image
from detect.structures import Box, Dataset, Frame, Image
from labelled_data import picture

BOX = Box("dent", (1.0, 2.0, 30.5, 40.0))


def frames(root: Path, *strips: str, each: int = 4) -> list[Image]:
    """``each`` frames of every strip, all different, with a box."""
    made = []
    for s, strip in enumerate(strips):
        for number in range(each):
            path = picture(root / f"{strip}_{number}.png", seed=100 * s + number)
            made.append(Image(path, 64, 48, (BOX,), Frame(strip, number, (1.5, 40.0 * number))))
    return made


class TestFiles:
    def test_frames_are_written_and_read_unchanged(self, tmp_path: Path) -> None:
        images = frames(tmp_path, "b", "a")
        images[1] = replace(images[1], frame=Frame("b", 7, None, "overexposed"))
        images.append(Image(picture(tmp_path / "still.png", 77), 64, 48))
        dataset = Dataset(tuple(images), ("dent",))
        file = coco.write({"train": dataset}, tmp_path / "out")["train"]
        assert coco.read(file) == dataset

    def test_the_file_has_the_keys_of_video_data_sets(self, tmp_path: Path) -> None:
        images = frames(tmp_path, "b", "a", each=1)
        data = coco.to_dict(Dataset(tuple(images), ("dent",)), tmp_path)
        assert data["videos"] == [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}]
        assert data["images"][1] == {
            **{"id": 2, "file_name": "a_0.png", "width": 64, "height": 48},
            **{"video_id": 2, "frame_id": 0, "condition": "clean", "origin_xy": [1.5, 0]},
        }

    def test_still_images_have_no_additional_keys(self, tmp_path: Path) -> None:
        still = Image(picture(tmp_path / "a.png"), 64, 48, (BOX,))
        data = coco.to_dict(Dataset((still,), ("dent",)), tmp_path)
        assert "videos" not in data
        assert set(data["images"][0]) == {"id", "file_name", "width", "height"}

    def test_a_video_file_of_another_program_is_read(self, tmp_path: Path) -> None:
        data = content(frame_id=[3, 9])
        data["images"][0]["video_id"] = None  # one still image
        del data["images"][0]["frame_id"]
        data["videos"].append({"id": 99, "name": "unused"})
        file = saved(tmp_path, data)
        assert [image.frame for image in coco.read(file).images] == [None, Frame("coil 1", 9)]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"video_id": [None, None]}, r"images\[0\] has a frame_id, but no video_id"),
            ({"video_id": [5, 6]}, r"images\[1\]\.video_id is a number \(6\), which none of the videos has"),
            ({"video_id": ["five", 5]}, r"images\[0\]\.video_id is text"),
            ({"frame_id": [None, 1]}, r"images\[0\]\.frame_id is missing, not a whole number"),
            ({"frame_id": [0, -1]}, r"images\[1\]\.frame_id is a number \(-1\)"),
            ({"frame_id": [0, 1.5]}, r"images\[1\]\.frame_id is a number \(1\.5\)"),
            ({"frame_id": [4, 4]}, r"images\[0\] and images\[1\] are both frame 4 of video 5"),
            ({"condition": ["clean", 1]}, r"images\[1\]\.condition is a number"),
            ({"condition": ["", "clean"]}, r"images\[0\]\.condition is text"),
            ({"origin_xy": [[1, 2, 3], [1, 2]]}, r"images\[0\]\.origin_xy is a list"),
            ({"origin_xy": [[1, 2], [1, "2 px"]]}, r"images\[1\]\.origin_xy holds text"),
        ],
    )
    def test_invalid_sequences_are_refused_in_one_sentence(
        self, tmp_path: Path, change: dict[str, list[Any]], message: str
    ) -> None:
        with pytest.raises(DataError, match=message) as caught:
            coco.load(saved(tmp_path, content(**change)))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("videos", "message"),
        [
            ({}, "videos is an object"),
            ([{"name": "x"}], r"videos\[0\]\.id is missing"),
            ([{"id": 5, "name": " "}], r"videos\[0\] has no name"),
            ([{"id": 5, "name": "x"}, {"id": 6, "name": "x "}], "both named 'x'"),
        ],
    )
    def test_an_invalid_list_of_videos_is_refused(self, tmp_path: Path, videos: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            coco.load(saved(tmp_path, content() | {"videos": videos}))

    def test_a_frame_in_two_files_is_an_error(self, tmp_path: Path) -> None:
        images = frames(tmp_path, "a", each=3)
        parts = {"train": Dataset(tuple(images[:2]), ("dent",)), "val": Dataset(tuple(images[1:]), ("dent",))}
        coco.write(parts, tmp_path / "out")
        with pytest.raises(DataError, match=r"a_1\.png is frame 1 of strip 'a', as a_1\.png is in train\.json"):
            coco.read(tmp_path / "out")

    @pytest.mark.parametrize("target", ["voc", "yolo"])
    def test_formats_without_strips_report_the_loss(self, tmp_path: Path, target: str) -> None:
        file = coco.write({"all": Dataset(tuple(frames(tmp_path, "a")), ("dent",))}, tmp_path)["all"]
        done = convert([file], tmp_path / "out", target=target)
        lost = [finding for finding in done.findings if finding.kind == "strips lost"]
        assert [finding.severity for finding in lost] == ["warning"]
        assert "4 frames are stills now" in lost[0].message
        assert all(image.frame is None for image in FORMATS[target].read(tmp_path / "out").images)

    def test_motion_is_that_of_the_surface_within_a_strip(self) -> None:
        first, second = Frame("a", 0, (3.0, 10.0)), Frame("a", 1, (2.0, 50.5))
        assert second.motion_since(first) == (1.0, -40.5)
        assert second.motion_since(replace(first, strip="b")) is None
        assert second.motion_since(replace(first, origin_xy=None)) is None


class TestParts:
    def source(self, root: Path, images: list[Image]) -> Path:
        return coco.write({"strips": Dataset(tuple(images), ("dent",))}, root)["strips"]

    def parts_by_strip(self, parts: dict[str, Dataset]) -> dict[str, set[str]]:
        """Names of the parts that contain frames of each strip."""
        parts_of: dict[str, set[str]] = {}
        for part, dataset in parts.items():
            for image in dataset.images:
                assert image.frame
                parts_of.setdefault(image.frame.strip, set()).add(part)
        return parts_of

    def test_splits_and_folds_do_not_divide_strips(self, tmp_path: Path) -> None:
        file = self.source(tmp_path, frames(tmp_path, *"abcdefgh"))
        for seed in range(4):
            done = convert([file], tmp_path / f"{seed}", split="train=0.5,val=0.5", seed=seed)
            assert all(len(parts) == 1 for parts in self.parts_by_strip(done.parts).values())
            assert {len(part.images) for part in done.parts.values()} == {16}
        folds = convert([file], tmp_path / "folds", folds=4).parts
        validation = {part: dataset for part, dataset in folds.items() if part.endswith("_val")}
        assert all(len(parts) == 1 for parts in self.parts_by_strip(validation).values())

    def test_strips_with_duplicate_frames_are_in_the_same_part(self, tmp_path: Path) -> None:
        images = frames(tmp_path, *"abcd")
        duplicate = picture(tmp_path / "b_2.png", seed=1)  # as frame 1 of strip a
        images[6] = replace(images[6], path=duplicate)
        file = self.source(tmp_path, images)
        for seed in range(4):
            parts_by_strip = self.parts_by_strip(
                convert([file], tmp_path / f"{seed}", split="train=0.5,val=0.5", seed=seed).parts
            )
            assert parts_by_strip["a"] == parts_by_strip["b"]

    def test_a_split_by_number_that_divides_a_strip_is_refused(self, tmp_path: Path) -> None:
        file = self.source(tmp_path, frames(tmp_path, "a", "b"))
        with pytest.raises(DataError, match=r"tears a strip: frames of strip 'a' are in train and val; split .*whole"):
            convert([file], tmp_path / "out", split="train=0-1,val=2-3")
        assert not (tmp_path / "out").exists()

    def test_given_parts_that_divide_a_strip_are_reported(self, tmp_path: Path) -> None:
        images = frames(tmp_path, "a", "b")
        parts = {"train": Dataset(tuple(images[:2]), ("dent",)), "val": Dataset(tuple(images[2:]), ("dent",))}
        coco.write(parts, tmp_path / "out")
        findings = [f for f in audit_sources([tmp_path / "out"]).findings if f.kind == "strip across parts"]
        assert [f.message for f in findings] == ["frames of strip 'a' are in train and val; put them into one part"]

    def test_dropped_frames_and_frames_at_rest_are_not_duplicates(self, tmp_path: Path) -> None:
        images = frames(tmp_path, "a", "b", "c", "d")
        for i in (1, 6):  # black frames in a and b
            (tmp_path / f"black_{i}.png").write_bytes(blank(tmp_path))
            frame = images[i].frame
            assert frame
            images[i] = replace(images[i], path=tmp_path / f"black_{i}.png", frame=replace(frame, condition="dropped"))
        images[9] = replace(images[9], path=picture(tmp_path / "c_1.png", seed=200))  # as frame 0 of c
        file = self.source(tmp_path, images)
        assert not [f for f in audit_sources([file]).findings if "duplicate" in f.kind]
        parts_by_strip = [
            self.parts_by_strip(convert([file], tmp_path / f"{seed}", split="train=0.5,val=0.5", seed=seed).parts)
            for seed in range(6)
        ]
        assert any(parts["a"] != parts["b"] for parts in parts_by_strip)


OFF = Augment(
    flip_h=0,
    flip_v=0,
    crop=0,
    crop_min=0.7,
    aspect=0,
    brightness=0,
    contrast=0,
    illumination=0,
    mosaic=0,
    mosaic_scale=(1, 1),
    min_visible=0.3,
)
CHANGED = replace(OFF, flip_h=0.5, flip_v=0.5, crop=0.5, brightness=0.1, contrast=0.1, illumination=0.1)


def loader(dataset: DetectionDataset, **changes: Any) -> ClipLoader:
    arguments = {"length": 3, "pan": False, "degraded": 0.0, "augment": OFF, "batch_size": 2, "seed": 0}
    return ClipLoader(dataset, **(arguments | {"workers": 0, "pin": False} | changes))


def batches(loading: ClipLoader, epoch: int = 1) -> list[tuple[Any, ...]]:
    """Batches of an epoch as comparable values."""
    return [
        (
            batch.indices,
            [image.numpy().tobytes() for image in batch.images],
            [target["boxes"].tolist() for target in batch.targets],
            batch.motion_xy.tolist() if batch.motion_xy is not None else None,
        )
        for batch in loading.epoch(epoch)
    ]


def clips(loading: ClipLoader, epochs: int = 1) -> Iterator[list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]]:
    """Each clip as a list of frames: index, pixels, boxes, motion."""
    for epoch in range(1, epochs + 1):
        for batch in loading.epoch(epoch):
            assert batch.motion_xy is not None
            frames = [
                (index, image[0].numpy(), target["boxes"].numpy(), motion.numpy())
                for index, image, target, motion in zip(batch.indices, batch.images, batch.targets, batch.motion_xy)
            ]
            for first in range(0, len(frames), batch.clip_length):
                yield frames[first : first + batch.clip_length]


def extent(pixels: np.ndarray, level: float = 0.75) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero((pixels > level).any(axis=1)), np.flatnonzero((pixels > level).any(axis=0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else None


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """Two strips of 7 and 5 frames of 120 x 100 pixels, each with a bright rectangle that moves through the view."""
    root = tmp_path_factory.mktemp("moving")
    images = []
    for s, (strip, each) in enumerate((("long", 7), ("short", 5))):
        for number in range(each):
            top, left = 70 - 20 * number, 30 + 10 * s + (number % 2)
            pixels = np.full((100, 120), 60, np.uint8)
            pixels[max(top, 0) : max(top + 30, 0), left : left + 40] = 250
            x1, y1, x2, y2 = left, max(top, 0), left + 40, min(top + 30, 100)
            boxes = (Box("dent", (x1, y1, x2, y2)),) if y2 > y1 else ()
            path = root / f"{strip}_{number}.png"
            write_image(path, pixels)
            images.append(Image(path, 120, 100, boxes, Frame(strip, number, (-(number % 2), 20 * number))))
    order = [3, 8, 0, 11, 5, 1, 10, 2, 7, 4, 9, 6]  # images need not be in temporal order
    return DetectionDataset(Dataset(tuple(images[i] for i in order), ("dent",)), channels=1)


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """Bright rectangles in still images of 120 x 100 pixels: inside, at a border, in a corner, over the full height."""
    root = tmp_path_factory.mktemp("stills")
    images = []
    for i, (x1, y1, x2, y2) in enumerate([(30, 40, 70, 60), (20, 70, 60, 100), (0, 0, 30, 25), (50, 0, 60, 100)]):
        pixels = np.full((100, 120), 60, np.uint8)
        pixels[y1:y2, x1:x2] = 250
        write_image(root / f"{i}.png", pixels)
        images.append(Image(root / f"{i}.png", 120, 100, (Box("dent", (x1, y1, x2, y2)),)))
    return DetectionDataset(Dataset(tuple(images), ("dent",)), channels=1)


class TestClips:
    def test_frames_of_strips_are_in_temporal_order(self, moving: DetectionDataset, stills: DetectionDataset) -> None:
        strips = frames_by_strip(moving)
        assert [name for name, _ in strips] == ["long", "short"]
        for (name, indices), each in zip(strips, (7, 5)):
            assert [moving.path(i).stem for i in indices] == [f"{name}_{number}" for number in range(each)]
        with pytest.raises(
            DataError, match=r"0\.png: 4 of 4 images are frames of no strip, and memory needs their order"
        ):
            frames_by_strip(stills)

    def test_clips_are_consecutive_frames_with_all_possible_starts(self, moving: DetectionDataset) -> None:
        starts = set()
        loading = loader(moving, batch_size=1)
        assert len(loading) == 3  # 7 // 3 + 5 // 3
        for clip in clips(loading, epochs=40):
            names = [moving.path(index).stem for index, *_ in clip]
            strip, first = names[0].split("_")
            assert names == [f"{strip}_{int(first) + step}" for step in range(3)]
            starts.add((strip, int(first)))
        assert starts == {("long", s) for s in range(5)} | {("short", s) for s in range(3)}

    def test_batches_are_flat_clip_after_clip(self, moving: DetectionDataset) -> None:
        (batch,) = loader(moving, batch_size=3).epoch(1)
        assert (batch.clip_length, len(batch.images), len(batch.targets), len(batch.indices)) == (3, 9, 9, 9)
        assert batch.motion_xy is not None
        assert tuple(batch.motion_xy.shape) == (9, 2)
        moved = batch.to(torch.device("cpu"))
        assert moved.clip_length == 3
        assert torch.equal(moved.motion_xy, batch.motion_xy)
        assert next(iter(loader(moving, length=1).epoch(1))).motion_xy is None

    @pytest.mark.parametrize("augment", [OFF, CHANGED], ids=["plain", "changed"])
    def test_boxes_and_motion_fit_the_pixels_of_every_frame(self, moving: DetectionDataset, augment: Augment) -> None:
        num_uncut = 0
        for clip in clips(loader(moving, augment=augment), epochs=40):
            for (_, _, boxes_before, _), (_, pixels, boxes, motion) in pairwise(clip):
                edges = extent(pixels)
                assert (len(boxes) > 0) <= (edges is not None)
                if len(boxes):
                    np.testing.assert_allclose(boxes[0], edges, atol=1.5)
                inside = [
                    len(b) == 1 and b[0].min() > 2 and b[0, 3] < 98 and b[0, 2] < 118 for b in (boxes_before, boxes)
                ]
                if all(inside):
                    np.testing.assert_allclose(boxes[0] - boxes_before[0], np.tile(motion, 2), atol=0.01)
                    num_uncut += 1
            np.testing.assert_array_equal(clip[0][3], clip[1][3])
        assert num_uncut > 20

    def test_flips_crops_and_light_are_the_same_within_a_clip(self, moving: DetectionDataset) -> None:
        seen = set()
        for clip in clips(loader(moving, augment=CHANGED), epochs=12):
            zooms = {(round(float(m[1]), 3), bool(m[1] > 0)) for *_, m in clip}
            assert len(zooms) == 1
            seen |= {upwards for _, upwards in zooms}
            background = [float(np.median(pixels)) for _, pixels, *_ in clip]
            assert np.ptp(background) < 0.08  # contrast is scaled around the mean of each frame
        assert seen == {True, False}

    @pytest.mark.parametrize("pan", [False, True])
    def test_workers_and_resumption_change_nothing(
        self, moving: DetectionDataset, stills: DetectionDataset, pan: bool
    ) -> None:
        dataset = stills if pan else moving
        arguments = {"pan": pan, "augment": CHANGED, "degraded": 0.5}
        in_process, with_workers = loader(dataset, **arguments), loader(dataset, **arguments, workers=2)
        one, two = batches(in_process, 1), batches(in_process, 2)
        assert one != two
        assert [batches(with_workers, 1), batches(with_workers, 2)] == [one, two]
        assert batches(loader(dataset, **arguments), 2) == two
        assert batches(loader(dataset, **arguments, seed=1), 1) != one

    def test_processes_share_a_batch(self, moving: DetectionDataset) -> None:
        (full_batch,) = loader(moving, batch_size=2).epoch(1)
        parts = [next(iter(loader(moving, batch_size=2, shard=(rank, 2)).epoch(1))) for rank in (0, 1)]
        assert [index for part in parts for index in part.indices] == full_batch.indices
        assert all(part.clip_length == 3 for part in parts)

    def test_clips_have_no_gaps_and_do_not_start_with_a_dropped_frame(self, moving: DetectionDataset) -> None:
        images = []
        for image in moving.images:
            assert image.frame
            if (image.frame.strip, image.frame.number) == ("long", 3):
                continue
            dropped = (image.frame.strip, image.frame.number) == ("short", 1)
            condition = "dropped" if dropped else "clean"
            images.append(replace(image, frame=replace(image.frame, condition=condition)))
        dataset = DetectionDataset(Dataset(tuple(images), ("dent",)), channels=1)
        starts = set()
        for clip in clips(loader(dataset, length=2, batch_size=1, augment=CHANGED), epochs=40):
            names = [dataset.path(index).stem for index, *_ in clip]
            starts.add(names[0])
            if names[1] == "short_1":
                assert not clip[1][1].any(), "dropped frames are black"
        assert starts == {f"long_{n}" for n in (0, 1, 4, 5)} | {f"short_{n}" for n in (0, 2, 3)}

    def test_frames_are_degraded_at_the_configured_rate_and_never_twice(self, moving: DetectionDataset) -> None:
        def changed(dataset: DetectionDataset, rate: float) -> list[list[bool]]:
            pairs = zip(clips(loader(dataset), 60), clips(loader(dataset, degraded=rate), 60))
            return [[bool((a[1] != b[1]).any()) for a, b in zip(one, two)] for one, two in pairs]

        assert not np.any(changed(moving, 0))
        share = np.mean(changed(moving, 0.5))
        assert 0.4 < share < 0.55  # blur does not change areas that are uniform along the motion
        bad = [replace(image, frame=replace(image.frame, condition="noisy")) for image in moving.images if image.frame]
        assert not np.any(changed(DetectionDataset(Dataset(tuple(bad), ("dent",)), channels=1), 1))

    def test_a_first_frame_is_never_dropped(self, moving: DetectionDataset) -> None:
        dropped = np.array([[not p.any() for _, p, *_ in clip] for clip in clips(loader(moving, degraded=1), 60)])
        assert dropped.sum(axis=0)[0] == 0
        assert (dropped.sum(axis=0)[1:] > 0).all()

    def test_motion_that_is_not_recorded_is_estimated_from_the_frames(self, tmp_path: Path) -> None:
        steel = np.random.default_rng(0).integers(0, 256, (400, 100)).astype(np.uint8)
        images = []
        for number, top in enumerate((0, 20, 50, 80, 110)):
            pixels = np.zeros((100, 100), np.uint8) if number == 3 else steel[top : top + 100]
            write_image(tmp_path / f"{number}.png", pixels)
            images.append(Image(tmp_path / f"{number}.png", 100, 100, (), Frame("a", number)))
        dataset = DetectionDataset(Dataset(tuple(images), ("dent",)), channels=1)
        (clip,) = clips(loader(dataset, length=5))
        motions = [motion.tolist() for *_, motion in clip]
        # no estimate from the black frame, so the previous motion is used
        np.testing.assert_allclose(motions, [(0, -20), (0, -20), (0, -30), (0, -30), (0, -30)], atol=0.5)

    def test_data_without_clips_is_refused(self, moving: DetectionDataset, stills: DetectionDataset) -> None:
        with pytest.raises(DataError, match=r"4 of 4 images are frames of no strip.*clips\.pan=true"):
            loader(stills)
        mixed = DetectionDataset(Dataset((*moving.images, stills.images[0]), ("dent",)), channels=1)
        with pytest.raises(DataError, match="1 of 13 images are frames of no strip"):
            loader(mixed)
        assert len(loader(mixed, pan=True, batch_size=1)) == 4
        with pytest.raises(DataError, match="no strip has 8 frames in a row, the longest has 7; set shorter"):
            loader(moving, length=8)
        with pytest.raises(ConfigError, match=r"augment\.mosaic is 0\.5, but a mosaic has no motion; set it to 0"):
            loader(moving, augment=replace(OFF, mosaic=0.5))
        first, *others = moving.images
        small = replace(first, width=80)
        with pytest.raises(DataError, match="frames of strip 'long' have 80x100 and 120x100 pixels"):
            loader(DetectionDataset(Dataset((small, *others), ("dent",)), channels=1))


class TestPanning:
    def test_boxes_are_exact_also_in_reflected_parts(self, stills: DetectionDataset) -> None:
        num_boxes = {i: 0 for i in range(4)}
        loading = loader(stills, pan=True, length=5, batch_size=1)
        assert len(loading) == 4
        for clip in clips(loading, epochs=25):
            assert len({index for index, *_ in clip}) == 1
            for index, pixels, boxes, _ in clip:
                marked = np.zeros(pixels.shape, bool)
                for x1, y1, x2, y2 in boxes.astype(int):
                    assert (pixels[y1:y2, x1:x2] > 0.75).all(), "each box contains one rectangle and nothing else"
                    marked[y1:y2, x1:x2] = True
                    num_boxes[index] += 1
                rest = (pixels > 0.75) & ~marked
                rows, columns = rest.any(axis=1).sum(), rest.any(axis=0).sum()
                assert rows < 16 or columns < 16, "only unrecognisable parts have no box"
        assert min(num_boxes.values()) > 50

    def test_motion_equals_the_shift_of_the_pixels(self, stills: DetectionDataset) -> None:
        noise = np.random.default_rng(0).random((200, 200)).astype(np.float32)
        sample = Sample(noise, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        for seed in range(10):
            frames = pan_clip(sample, 4, np.random.default_rng(seed))
            for before, after in pairwise(frames):
                right, down = (int(step) for step in after.motion_xy)
                assert -61 <= down <= -19
                kept = before.pixels[-down:, max(-right, 0) : 200 + min(-right, 0)]
                moved = after.pixels[:down, max(right, 0) : 200 + min(right, 0)]
                np.testing.assert_array_equal(kept, moved)

    def test_clips_can_have_any_length(self) -> None:
        pixels = np.random.default_rng(0).random((64, 48, 3)).astype(np.float32)
        sample = Sample(pixels, np.array([[10, 20, 40, 44]], np.float32), np.array([2]))
        frames = pan_clip(sample, 60, np.random.default_rng(0))
        assert {frame.pixels.shape for frame in frames} == {(64, 48, 3)}
        assert sum(len(frame.boxes_xyxy) for frame in frames) > 50
        assert all((frame.labels == 2).all() and len(frame.labels) == len(frame.boxes_xyxy) for frame in frames)


def blank(root: Path) -> bytes:
    from PIL import Image as Pillow

    Pillow.new("L", (64, 48)).save(root / "blank.png")
    return (root / "blank.png").read_bytes()


def content(**columns: list[Any]) -> dict[str, Any]:
    """A file of another program with two frames of a video; columns are values of its images, None omits a key."""
    given = {"video_id": [5, 5], "frame_id": [0, 1]} | columns
    images = [{"id": i, "file_name": f"{i}.png"} for i in (1, 2)]
    for key, values in given.items():
        for image, value in zip(images, values):
            if value is not None:
                image[key] = value
    return {"videos": [{"id": 5, "name": " coil  1"}], "images": images, "annotations": [], "categories": []}


def saved(folder: Path, data: dict[str, Any]) -> Path:
    for i in (1, 2):
        picture(folder / f"{i}.png", i)
    (folder / "video.json").write_text(json.dumps(data), encoding="utf-8")
    return folder / "video.json"
