"""Files made to do harm: each refused in a sentence, within a gigabyte, running nothing and reading nothing outside."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from detect.config.loading import load_config
from detect.config.schema import ModelConfig
from detect.datasets import coco, voc, yolo
from detect.datasets.formats import recognise
from detect.datasets.paths import VARIABLE, image_next_to, is_inside, roots_around
from detect.errors import CheckpointError, ConfigError, DataError, DetectError
from detect.fileio import load_yaml
from detect.images import MOST_PIXELS, read_image, read_size, to_rgb, write_image
from detect.models.anchors import default_anchors
from detect.models.checkpoint import Checkpoint, DetectorSpec, load_checkpoint, save_checkpoint
from labelled_data import pair, picture
from tiny import TINY_MODEL

GIGABYTE = 10**9
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><annotation><filename>&a;</filename></annotation>'


def _saved(suffix: str, **options: Any) -> bytearray:
    file = io.BytesIO()
    Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(
        file, {".jpg": "JPEG", ".tif": "TIFF", ".pgm": "PPM"}.get(suffix, suffix[1:]), **options
    )
    return bytearray(file.getvalue())


def claiming(suffix: str, side: int) -> bytes:
    """A small image whose header says that it has ``side`` x ``side`` pixels."""
    data = _saved(suffix)
    if suffix == ".bmp":
        struct.pack_into("<ii", data, 18, side, side)
    elif suffix == ".png":
        struct.pack_into(">II", data, 16, side, side)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    elif suffix == ".tif":
        (start,) = struct.unpack_from("<I", data, 4)
        for entry in range(struct.unpack_from("<H", data, start)[0]):
            at = start + 2 + 12 * entry
            if struct.unpack_from("<H", data, at)[0] in (256, 257):
                struct.pack_into("<HII", data, at + 2, 4, 1, side)
    elif suffix == ".gif":
        struct.pack_into("<HH", data, 6, *[min(side, 65535)] * 2)
    elif suffix == ".webp":
        largest = (min(side, 2**14) - 1).to_bytes(3, "little")
        return b"RIFF" + struct.pack("<I", 40) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + largest * 2 + bytes(18)
    elif suffix == ".pgm":
        return b"P5 %d %d 65535 " % (side, side)
    else:
        at = data.index(b"\xff\xc0")
        struct.pack_into(">HH", data, at + 5, min(side, 65500), min(side, 65500))
    return bytes(data)


def many_scans(count: int) -> bytes:
    """A progressive JPEG that goes over its picture ``count`` times more."""
    data = bytes(_saved(".jpg", progressive=True))
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def frames(count: int) -> bytes:
    """A GIF that shows its picture ``count`` times more."""
    data = bytes(_saved(".gif"))
    last = data.rindex(b",\0\0\0\0\x08")
    return data[:-1] + data[last:-1] * count + data[-1:]


PAGE = Pillow.fromarray(np.zeros((8, 8), np.uint8))
YAML_BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij")
)
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpg", ".pgm", ".png", ".tif", ".webp")

TRAPS: dict[str, tuple[Callable[[], bytes], str]] = {
    **{f"huge{s}": (lambda s=s: claiming(s, 100_000), r"claims \d+ (x \d+ )?pixels") for s in IMAGE_SUFFIXES},
    "pages.tif": (lambda: _saved(".tif", save_all=True, append_images=[PAGE] * 2000), "1,000 or more pages"),
    "frames.gif": (lambda: frames(500_000), "500,001 frames"),
    "scans.jpg": (lambda: many_scans(2000), "more than 200 scans"),
    "program.png": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "content is no image"),
    "nested.xml": (lambda: b"<a>" * 3_000_000, "nested more than 100 levels"),
    "long.xml": (lambda: b"<annotation>" + b"<object/>" * 2_000_000 + b"</annotation>", "larger than the 10 MB"),
    "bomb.xml": (lambda: OUTSIDE.encode(), "defines entities"),
    "slow.xml": (lambda: b'<?xml version="1.0" encoding="punycode"?>' + b"a-" + b"z" * 900_000, "unknown encoding"),
    "nested.json": (lambda: b"[" * 3_000_000, "nested too deeply"),
    "empty.json": (lambda: b"[" + b"{}," * 9_000_000 + b"{}]", "over 0.7 GB"),
    "keys.json": (lambda: b"{" + b",".join(b'"%d":0' % i for i in range(4_000_000)) + b"}", "over 0.7 GB"),
    "bomb.yaml": (lambda: YAML_BOMB.encode(), "more than 100,000 values"),
    "circle.yaml": (lambda: b"a: &a [*a]", "something that it is part of"),
    "nested.yaml": (lambda: b"[" * 200_000, "nested more than 50 levels"),
    "long.yaml": (lambda: b"a: 1\n" * 2_000_000, "longer than the 500,000 bytes"),
    "long_chinese.yaml": (lambda: "- 夹杂\n".encode() * 60_000, "longer than the 500,000 bytes"),  # 300,000 characters
    "tag.yaml": (lambda: b"a: !!python/object/apply:os.mkdir [ran]", "could not determine a constructor"),
    "date.yaml": (lambda: b"a: 2020-99-99", "none of its kind"),
}

READ_ALL = """
import json, resource, sys
from pathlib import Path
import cv2, numpy
from detect.config.loading import load_config
from detect.errors import DetectError
from detect.datasets import coco, reading as xml_text
from detect.images import read_image
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
readers = {".xml": xml_text.parse, ".json": coco.load, ".yaml": load_config}
said = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        readers.get(path.suffix, read_image)(path)
        said[path.name] = "read"
    except DetectError as error:
        said[path.name] = str(error)
said["processor seconds"] = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
print(json.dumps(said))
"""


def test_traps_are_refused_within_a_gigabyte(tmp_path: Path) -> None:
    folder = tmp_path / "traps"
    folder.mkdir()
    for name, (make, _) in TRAPS.items():
        (folder / name).write_bytes(make())
    # what is just not refused has to fit, too
    largest = np.zeros((MOST_PIXELS // 5000, 5000), np.uint8)
    write_image(folder / "largest.png", largest)
    Pillow.fromarray(to_rgb(largest)).save(folder / "turned.tif", tiffinfo={274: 6})
    Pillow.fromarray(largest[: len(largest) // 2]).save(folder / "largest.webp", lossless=True, quality=0, method=0)
    command = [sys.executable, "-c", READ_ALL, str(folder), str(GIGABYTE)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert {said.pop(name) for name in ("largest.png", "turned.tif", "largest.webp")} == {"read"}
    assert said.pop("processor seconds") < 60
    assert said.keys() == TRAPS.keys()
    for name, sentence in said.items():
        with pytest.raises(DetectError, match=TRAPS[name][1]):
            raise DetectError(sentence)
        assert name in sentence
        assert sentence.isprintable()
    assert not (tmp_path / "ran").exists()


class TestImages:
    @pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
    def test_the_size_alone_is_refused_too(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"huge{suffix}"
        path.write_bytes(claiming(suffix, 100_000))
        with pytest.raises(
            DataError, match=r"claims .* pixels, more than the (50|25),000,000 that are read; cut it into tiles"
        ):
            read_size(path)

    def test_no_other_format_is_tried(self, tmp_path: Path) -> None:
        for form in ("PCX", "TGA", "ICO", "JPEG2000"):
            Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png", form)
            with pytest.raises(DataError, match="content is no image"):
                read_image(tmp_path / "a.png")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        pair(tmp_path, "a", [("dent", 1, 1, 9, 9)])
        for name in ("b.png", "b.xml", "b.json", "b.yaml", "b.txt"):
            os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match="no file but a pipe"):
            read_image(tmp_path / "b.png")
        with pytest.raises(DataError, match="no file but a pipe"):
            coco.load(tmp_path / "b.json")
        with pytest.raises(ConfigError, match="no file but a pipe"):
            load_config(tmp_path / "b.yaml")
        reading = voc.scan([tmp_path])
        assert [entry.image.path.stem for entry in reading.entries] == ["a"]
        assert ["no file but a pipe" in finding.message for finding in reading.findings] == [True]

    def test_detect_infer_names_each_and_goes_on(self, tmp_path: Path, detect: Callable[..., Any]) -> None:
        save_checkpoint(tmp_path / "best.pt", tiny_checkpoint())
        for suffix in IMAGE_SUFFIXES:
            (tmp_path / f"huge{suffix}").write_bytes(claiming(suffix, 100_000))
        picture(tmp_path / "good.png")
        outcome = detect("infer", tmp_path, "--weights", tmp_path / "best.pt", "--json")
        assert outcome.code == 2
        document = json.loads(outcome.out)
        assert [Path(each["file"]).name for each in document["images"]] == ["good.png"]
        assert len(document["failed"]) == len(IMAGE_SUFFIXES)
        assert outcome.err.count("claims") == len(IMAGE_SUFFIXES)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_sixteen_bits_of_colour_and_beside_transparency_stay(self, tmp_path: Path, suffix: str) -> None:
        import cv2

        rgb = np.random.default_rng(0).integers(0, 2**16, (20, 30, 3)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / f"rgb{suffix}"), rgb[..., ::-1])
        cv2.imwrite(str(tmp_path / f"rgba{suffix}"), np.dstack([rgb[..., ::-1], rgb[..., 0]]))
        for name in ("rgb", "rgba"):
            np.testing.assert_array_equal(read_image(tmp_path / f"{name}{suffix}"), rgb)

    def test_sixteen_bits_of_gray_beside_transparency_stay_gray(self, tmp_path: Path) -> None:
        gray = np.random.default_rng(0).integers(0, 2**16, (5, 7)).astype(np.uint16)

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        rows = b"".join(b"\0" + np.stack([row, ~row], axis=1).astype(">u2").tobytes() for row in gray)
        header = struct.pack(">IIBBBBB", 7, 5, 16, 4, 0, 0, 0)
        parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gray)


def tiny_checkpoint(**changes: Any) -> Checkpoint:
    """A gray detector of two categories with random weights."""
    torch.manual_seed(0)
    model = ModelConfig.model_validate({**TINY_MODEL, **changes})
    detector = DetectorSpec(model, ("a", "b"), 1, (0.4,), (0.2,), default_anchors(4, 2))
    return Checkpoint(detector, detector.build().state_dict(), epoch=1)


class Call:
    """Pickled, a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = function, arguments

    def __reduce__(self) -> Any:
        return self.made


class TestCheckpoints:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A whole checkpoint."""
        save_checkpoint(tmp_path / "last.pt", tiny_checkpoint())
        return tmp_path / "last.pt"

    def rewritten(self, path: Path, **changes: Any) -> None:
        torch.save({**torch.load(path, weights_only=True), **changes}, path)

    @pytest.mark.parametrize(
        "call", [Call(os.mkdir, "ran"), Call(bytearray, 10**11), Call(print, "ran"), Call(complex)]
    )
    def test_no_call_is_made(self, path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        self.rewritten(path, metrics={"x": call})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(CheckpointError, match=r"last\.pt: the file holds code .*it names .*, so it was not loaded"):
            load_checkpoint(path)
        assert not (tmp_path / "ran").exists()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes

    def test_a_bare_pickle_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.pt").write_bytes(pickle.dumps({"schema": 1}))
        with pytest.raises(CheckpointError, match="holds code or is no checkpoint"):
            load_checkpoint(tmp_path / "a.pt")

    def test_packed_weights_are_not_unpacked(self, path: Path) -> None:
        with zipfile.ZipFile(path) as whole:
            parts = {name: whole.read(name) for name in whole.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in parts.items():
                packed.writestr(name, content)
        with pytest.raises(CheckpointError, match="more memory than it has bytes"):
            load_checkpoint(path)

    def test_parts_that_share_their_bytes_are_refused(self, path: Path) -> None:
        with zipfile.ZipFile(path) as whole:
            largest = max(whole.infolist(), key=lambda entry: entry.file_size)
        with zipfile.ZipFile(path, "a") as often:
            often.filelist += [largest] * 1000
            often._didModify = True
        with pytest.raises(CheckpointError, match="more memory than it has bytes"):
            load_checkpoint(path)

    def test_a_tensor_larger_than_its_bytes_is_refused(self, path: Path) -> None:
        weights = torch.load(path, weights_only=True)["weights"]
        self.rewritten(path, weights={**weights, "x": torch.zeros(1).expand(10**6, 10**6)})
        with pytest.raises(CheckpointError, match="more memory than it has bytes"):
            load_checkpoint(path)

    def test_a_flipped_bit_in_the_weights_is_damage(self, path: Path) -> None:
        content = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as whole:
            largest = max(whole.infolist(), key=lambda entry: entry.file_size)
        content[largest.header_offset + 200] ^= 1
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged or no checkpoint \(its content is not what was written\)"):
            load_checkpoint(path)

    @pytest.mark.parametrize(
        "changes",
        [
            {"backbone": {"stem": 60_000, "widths": (60_000, 8, 16, 16), "depths": (0, 1, 0, 0)}},
            {"backbone": {"stem": 8, "widths": (8, 8, 16, 16), "depths": (0, 1000, 0, 0)}},
            {"roi": {"fc_width": 10**6, "pool": 3}},
            {"roi": {"convs": 1000}},
        ],
        ids=["wide", "deep", "wide head", "deep head"],
    )
    def test_a_network_without_its_weights_is_not_built(self, path: Path, changes: dict[str, Any]) -> None:
        content = torch.load(path, weights_only=True)
        described = ModelConfig.model_validate({**TINY_MODEL, **changes}).model_dump(mode="json")
        self.rewritten(path, detector={**content["detector"], "model": described})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(CheckpointError, match="don't fit the network that it describes"):
            load_checkpoint(path).load_model()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("channels", 7),
            ("mean", (float("nan"),)),
            ("std", (0.1, 0.2)),
            ("categories", (3, None)),
            ("categories", ("a", "a")),
            ("max_value", -4),
            ("shapes", [[(float("inf"), 2)]]),
            ("shapes", 3),
        ],
    )
    def test_what_no_training_writes_is_refused(self, path: Path, key: str, value: Any) -> None:
        self.rewritten(path, detector={**torch.load(path, weights_only=True)["detector"], key: value})
        with pytest.raises(CheckpointError, match=r"last\.pt: the file is no checkpoint of this library"):
            load_checkpoint(path)


class TestTheDataRoot:
    @pytest.fixture(autouse=True)
    def _elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "home").mkdir()
        monkeypatch.chdir(tmp_path / "home")
        monkeypatch.delenv(VARIABLE, raising=False)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def labels(self, folder: Path, file_name: str) -> Path:
        folder.mkdir(parents=True)
        data = {
            "images": [{"id": 1, "file_name": file_name}],
            "categories": [{"id": 1, "name": "dent"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}],
        }
        (folder / "val.json").write_text(json.dumps(data))
        return folder / "val.json"

    @pytest.mark.parametrize("name", ["../../secret.png", "{secret}", "link.png", "inner/../../../secret.png"])
    def test_coco_names_that_lead_out_are_refused(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, detect: Callable[..., Any]
    ) -> None:
        secret = picture(tmp_path / "secret.png")
        file = self.labels(tmp_path / "project" / "data", name.format(secret=secret))
        (file.parent / "inner").mkdir()
        (file.parent / "link.png").symlink_to(secret)
        with pytest.raises(DataError, match=r"val\.json: file_name .* is outside the data; copy it there, or name"):
            coco.read(file)
        assert [finding.kind for finding in coco.scan([file]).findings] == ["image outside the data"]
        (tmp_path / "empty.yaml").write_text("")
        for verb in (["train", tmp_path / "empty.yaml", f"data.train={file}"], ["audit", file]):
            outcome = detect(*verb)
            assert outcome.code in (1, 2)
            # a cell of a table breaks the sentence wherever the path before it ends
            words = " ".join((outcome.out + outcome.err).replace("│", " ").split())
            assert "is outside the data" in words
        monkeypatch.setenv(VARIABLE, str(tmp_path))
        assert len(coco.read(file).images) == 1

    def test_neither_evaluate_nor_label_issues_nor_compare_show_such_an_image(
        self, tmp_path: Path, detect: Callable[..., Any]
    ) -> None:
        picture(tmp_path / "secret.png")
        file = self.labels(tmp_path / "project" / "data", "../../secret.png")
        found = [{"image_id": 1, "category_id": 1, "bbox": [30, 20, 9, 9], "score": 0.9}]
        (file.parent / "detections.json").write_text(json.dumps(found))
        (file.parent / "others.json").write_text("[]")
        given = ["--data", file, "--out", tmp_path / "out"]
        assert detect("evaluate", "--detections", file.parent / "detections.json", *given).code == 0
        assert detect("label-issues", "--detections", file.parent / "detections.json", *given).code == 0
        assert detect("compare", file.parent / "detections.json", file.parent / "others.json", *given).code == 0
        for page in ("report.html", "label_issues.html", "compare.html"):
            assert "data:image/jpeg" not in (tmp_path / "out" / page).read_text()
        for page in ("report.html", "compare.html"):
            assert "is outside the data" in (tmp_path / "out" / page).read_text()
        assert "1 of the file names point outside the data" in (tmp_path / "out" / "label_issues.html").read_text()

    def test_names_inside_are_none_of_these(self, tmp_path: Path) -> None:
        picture(tmp_path / "project" / "images" / "a.png")
        file = self.labels(tmp_path / "project" / "data", "../images/a.png")
        assert coco.read(file).images[0].path == tmp_path / "project" / "images" / "a.png"
        assert image_next_to(file.parent, "../images/a.png").exists()
        for name in ("../../a.png", "/etc/hostname", "a\0b", "\ud800" * 9 + "/../../../x"):
            with pytest.raises(DataError, match="is outside the data"):
                image_next_to(file.parent, name)

    def test_what_this_user_converted_stays_readable_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detect: Callable[..., Any]
    ) -> None:
        for number in range(40):  # more folders than are kept one by one
            pair(tmp_path / "far" / "away" / f"coil{number}", f"a{number}", [("dent", 1, 1, 9, 9)])
        picture(tmp_path / "far" / "secret.png")
        out = tmp_path / "project" / "data"
        assert detect("convert", tmp_path / "far" / "away", "--out", out).code == 0
        assert len(coco.read(out / "all.json").images) == 40
        assert (tmp_path / "state" / "detect" / "data_roots.txt").read_text() == f"{tmp_path / 'far' / 'away'}\n"
        assert detect("convert", tmp_path / "far" / "away", "--out", out).code == 0
        assert len((tmp_path / "state" / "detect" / "data_roots.txt").read_text().splitlines()) == 1
        with pytest.raises(DataError, match="is outside the data"):
            image_next_to(out, "../../far/secret.png")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))  # another user, or another machine
        with pytest.raises(DataError, match="is outside the data"):
            coco.read(out / "all.json")

    def test_a_home_that_cannot_be_written_to_is_no_trouble(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detect: Callable[..., Any]
    ) -> None:
        pair(tmp_path / "far" / "away", "a", [("dent", 1, 1, 9, 9)])
        (tmp_path / "state").write_text("no folder")
        assert detect("convert", tmp_path / "far" / "away", "--out", tmp_path / "project" / "data").code == 0
        monkeypatch.setenv(VARIABLE, str(tmp_path / "far"))
        assert coco.read(tmp_path / "project" / "data" / "all.json").images

    def test_the_whole_file_system_is_no_data_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir("/")
        assert roots_around(Path("/data")) == ["/data"]
        monkeypatch.setenv(VARIABLE, "/")
        assert is_inside("/etc/hostname", roots_around(Path("/data")))

    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_links_that_lead_out_of_a_folder_are_refused(
        self, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair(tmp_path / "data", "a", [("dent", 1, 1, 9, 9)])
        pair(tmp_path / "store", "b", [("dent", 1, 1, 9, 9)])
        link, target = tmp_path / "data" / "b", tmp_path / "store"
        if what == "file":
            link, target = tmp_path / "data" / "IMAGES" / "b.png", tmp_path / "store" / "IMAGES" / "b.png"
        link.symlink_to(target)
        for read in (voc.scan, recognise):
            if read is recognise and what == "file":
                continue  # an XML was found before
            with pytest.raises(DataError, match=f"{link.name}: the link to .*{target.name} is outside the data"):
                read([tmp_path / "data"])
        monkeypatch.setenv(VARIABLE, f"{tmp_path / 'nowhere'}{os.pathsep}{tmp_path / 'store'}")
        assert voc.scan([tmp_path / "data"]).entries

    def test_a_yolo_path_that_leads_out_is_refused(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        folder = tmp_path / "project" / "data"
        folder.mkdir(parents=True)
        (folder / "data.yaml").write_text("names: [dent]\npath: /\n")
        with pytest.raises(DataError, match=r"data\.yaml: its path '/' is outside the data"):
            yolo.scan([folder])


@pytest.mark.parametrize(
    "found", [[{"image_id": 1, "category_id": 1, "bbox": [10**400, 1, 1, 1], "score": 0.5}], {"a": [[[[[[[[]]]]]]]]}]
)
def test_results_that_no_detector_gives(tmp_path: Path, found: Any, detect: Callable[..., Any]) -> None:
    data = {"images": [{"id": 1, "width": 10**400}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "val.json").write_text(json.dumps(data))
    (tmp_path / "found.json").write_text(json.dumps(found))
    given = ["--detections", tmp_path / "found.json", "--data", tmp_path / "val.json", "--out", tmp_path / "out"]
    for verb in ("evaluate", "label-issues"):
        outcome = detect(verb, *given)
        assert outcome.code == 2
        assert outcome.err.count("\n") == 1


def test_ids_used_twice_at_the_end_of_a_long_list_are_found_at_once() -> None:
    import time

    from detect.evaluation.records import check_truth

    images = [{"id": number} for number in [*range(60_000), 59_999]]
    started = time.process_time()
    with pytest.raises(DataError, match="id 59999 stands there twice"):
        check_truth({"images": images, "annotations": [], "categories": []})
    assert time.process_time() - started < 5


def test_what_is_told_of_a_file_stays_on_its_line() -> None:
    error = DetectError("a\n\x1b[2Jb" + "c" * 9000, where="d\re")
    assert str(error).startswith("d\\re: a\\n\\x1b[2Jb")
    assert str(error).isprintable()
    assert len(str(error)) < 2100
    str(DetectError("\ud800")).encode()


@pytest.mark.parametrize("text", ["!!int ''", "!!bool x", "!!timestamp x", "!!binary ä", "9" * 9000, "a: b: c", "\x07"])
def test_values_that_yaml_can_t_make_are_yaml_s_errors(text: str) -> None:
    import yaml

    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
