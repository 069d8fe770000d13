"""Frames of moving strips as data: in label files, in splits, and as clips for training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from labelled_data import picture

from detect.conversion import audit_sources, convert
from detect.errors import DataError
from detect.formats import FORMATS, coco
from detect.records import Box, Dataset, Frame, Image

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
    def test_frames_come_back_as_they_were(self, tmp_path: Path) -> None:
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

    def test_stills_have_no_new_keys(self, tmp_path: Path) -> None:
        still = Image(picture(tmp_path / "a.png"), 64, 48, (BOX,))
        data = coco.to_dict(Dataset((still,), ("dent",)), tmp_path)
        assert "videos" not in data
        assert set(data["images"][0]) == {"id", "file_name", "width", "height"}

    def test_a_foreign_video_file_is_read(self, tmp_path: Path) -> None:
        data = content(frame_id=[3, 9])
        data["images"][0]["video_id"] = None  # a still among them
        del data["images"][0]["frame_id"]
        data["videos"].append({"id": 99, "name": "unused"})
        file = saved(tmp_path, data)
        assert [image.frame for image in coco.read(file).images] == [None, Frame("coil 1", 9)]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"video_id": [None, None]}, r"images\[0\] has a frame_id, but no video_id"),
            ({"video_id": [5, 6]}, r"images\[1\]\.video_id is a number \(6\), which none of the videos has"),
            ({"video_id": ["5", 5]}, r"images\[0\]\.video_id is text"),
            ({"frame_id": [None, 1]}, r"images\[0\]\.frame_id is missing, not a whole number"),
            ({"frame_id": [0, -1]}, r"images\[1\]\.frame_id is a number \(-1\)"),
            ({"frame_id": [0, 1.5]}, r"images\[1\]\.frame_id is a number \(1\.5\)"),
            ({"frame_id": [4, 4]}, r"images\[0\] and images\[1\] are both frame 4 of video 5"),
            ({"condition": ["clean", 1]}, r"images\[1\]\.condition is a number"),
            ({"condition": ["", "clean"]}, r"images\[0\]\.condition is text"),
            ({"origin_xy": [[1, 2, 3], [1, 2]]}, r"images\[0\]\.origin_xy is a list"),
            ({"origin_xy": [[1, 2], [1, "2"]]}, r"images\[1\]\.origin_xy holds text"),
        ],
    )
    def test_what_makes_no_sequence_is_refused_in_one_sentence(
        self, tmp_path: Path, change: dict[str, list[Any]], words: str
    ) -> None:
        with pytest.raises(DataError, match=words) as caught:
            coco.load(saved(tmp_path, content(**change)))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("videos", "words"),
        [
            ({}, "videos is an object"),
            ([{"name": "x"}], r"videos\[0\]\.id is missing"),
            ([{"id": 5, "name": " "}], r"videos\[0\] has no name"),
            ([{"id": 5, "name": "x"}, {"id": 6, "name": "x "}], "both named 'x'"),
        ],
    )
    def test_a_broken_list_of_videos_is_refused(self, tmp_path: Path, videos: Any, words: str) -> None:
        with pytest.raises(DataError, match=words):
            coco.load(saved(tmp_path, content() | {"videos": videos}))

    def test_a_frame_that_two_files_claim_is_an_error(self, tmp_path: Path) -> None:
        images = frames(tmp_path, "a", each=3)
        parts = {"train": Dataset(tuple(images[:2]), ("dent",)), "val": Dataset(tuple(images[1:]), ("dent",))}
        coco.write(parts, tmp_path / "out")
        with pytest.raises(DataError, match=r"a_1\.png is frame 1 of strip 'a', as a_1\.png is in train\.json"):
            coco.read(tmp_path / "out")

    @pytest.mark.parametrize("target", ["voc", "yolo"])
    def test_formats_without_a_place_for_strips_say_so(self, tmp_path: Path, target: str) -> None:
        file = coco.write({"all": Dataset(tuple(frames(tmp_path, "a")), ("dent",))}, tmp_path)["all"]
        done = convert([file], tmp_path / "out", target=target)
        lost = [finding for finding in done.findings if finding.kind == "strips lost"]
        assert [finding.severity for finding in lost] == ["warning"]
        assert "4 frames are stills now" in lost[0].message
        assert all(image.frame is None for image in FORMATS[target].read(tmp_path / "out").images)

    def test_motion_is_the_surfaces_and_stays_within_a_strip(self) -> None:
        first, second = Frame("a", 0, (3.0, 10.0)), Frame("a", 1, (2.0, 50.5))
        assert second.motion_since(first) == (1.0, -40.5)
        assert second.motion_since(replace(first, strip="b")) is None
        assert second.motion_since(replace(first, origin_xy=None)) is None


class TestParts:
    def source(self, root: Path, images: list[Image]) -> Path:
        return coco.write({"strips": Dataset(tuple(images), ("dent",))}, root)["strips"]

    def homes(self, parts: dict[str, Dataset]) -> dict[str, set[str]]:
        """Strip -> the parts that it stands in."""
        found: dict[str, set[str]] = {}
        for part, dataset in parts.items():
            for image in dataset.images:
                assert image.frame
                found.setdefault(image.frame.strip, set()).add(part)
        return found

    def test_shares_and_folds_keep_strips_whole(self, tmp_path: Path) -> None:
        file = self.source(tmp_path, frames(tmp_path, *"abcdefgh"))
        for seed in range(4):
            done = convert([file], tmp_path / f"{seed}", split="train=0.5,val=0.5", seed=seed)
            assert all(len(parts) == 1 for parts in self.homes(done.parts).values())
            assert {len(part.images) for part in done.parts.values()} == {16}
        folds = convert([file], tmp_path / "folds", folds=4).parts
        judged = {part: dataset for part, dataset in folds.items() if part.endswith("_val")}
        assert all(len(parts) == 1 for parts in self.homes(judged).values())

    def test_a_twin_in_another_strip_brings_its_strip_along(self, tmp_path: Path) -> None:
        images = frames(tmp_path, *"abcd")
        twin = picture(tmp_path / "b_2.png", seed=1)  # as frame 1 of strip a
        images[6] = replace(images[6], path=twin)
        file = self.source(tmp_path, images)
        for seed in range(4):
            homes = self.homes(convert([file], tmp_path / f"{seed}", split="train=0.5,val=0.5", seed=seed).parts)
            assert homes["a"] == homes["b"]

    def test_a_split_by_number_that_tears_a_strip_is_refused(self, tmp_path: Path) -> None:
        file = self.source(tmp_path, frames(tmp_path, "a", "b"))
        with pytest.raises(
            DataError, match=r"tears a strip: frames of strip 'a' stand in train and val; split .*whole"
        ):
            convert([file], tmp_path / "out", split="train=0-1,val=2-3")
        assert not (tmp_path / "out").exists()

    def test_parts_that_came_torn_are_reported(self, tmp_path: Path) -> None:
        images = frames(tmp_path, "a", "b")
        parts = {"train": Dataset(tuple(images[:2]), ("dent",)), "val": Dataset(tuple(images[2:]), ("dent",))}
        coco.write(parts, tmp_path / "out")
        found = [f for f in audit_sources([tmp_path / "out"]).findings if f.kind == "strip across parts"]
        assert [f.message for f in found] == ["frames of strip 'a' stand in train and val; put them into one part"]

    def test_neither_dropped_frames_nor_a_line_at_rest_make_duplicates(self, tmp_path: Path) -> None:
        images = frames(tmp_path, "a", "b", "c", "d")
        for i in (1, 6):  # black frames in a and b
            (tmp_path / f"black_{i}.png").write_bytes(blank(tmp_path))
            frame = images[i].frame
            assert frame
            images[i] = replace(images[i], path=tmp_path / f"black_{i}.png", frame=replace(frame, condition="dropped"))
        images[9] = replace(images[9], path=picture(tmp_path / "c_1.png", seed=200))  # as frame 0 of c
        file = self.source(tmp_path, images)
        assert not [f for f in audit_sources([file]).findings if "duplicate" in f.kind]
        homes = [
            self.homes(convert([file], tmp_path / f"{seed}", split="train=0.5,val=0.5", seed=seed).parts)
            for seed in range(6)
        ]
        assert any(home["a"] != home["b"] for home in homes)


def blank(root: Path) -> bytes:
    from PIL import Image as Pillow

    Pillow.new("L", (64, 48)).save(root / "blank.png")
    return (root / "blank.png").read_bytes()


def content(**columns: list[Any]) -> dict[str, Any]:
    """A foreign file with two frames of a video; columns are values for its images, None leaves a key out."""
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
