"""The command line: help, mistakes, interruptions, inputs, and what each verb prints and writes."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from detect import __version__
from detect import cli as commands
from detect.cli import VERBS, main
from detect.cli.common import Verb, command, display_path, print_table
from detect.cli.infer import find_images
from detect.errors import DetectError
from detect.images import SUFFIXES, read_image, read_size, write_image
from detect.structures import Box, Dataset, Detections, Image

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Any]


def in_new_process(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    how = ["-m", "detect", *arguments] if code is None else ["-c", code]
    return subprocess.run([sys.executable, *how], cwd=ROOT, capture_output=True, text=True, check=False)


# Help


def test_help_names_every_verb(detect: Run) -> None:
    outcome = detect("--help")
    assert outcome.code == 0
    assert all(f"  {name} " in outcome.out for name in VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_help_of_a_verb_shows_an_example(name: str, detect: Run) -> None:
    outcome = detect(name, "--help")
    assert outcome.code == 0
    assert f"  detect {name} " in outcome.out.split("examples:")[1]


@pytest.mark.parametrize("name", VERBS)
def test_examples_are_valid_command_lines(name: str) -> None:
    import shlex

    verb = VERBS[name]
    single = {name: verb} if isinstance(verb, Verb) else {f"{name} {each}": verb.verbs[each] for each in verb.verbs}
    for words, each in single.items():
        for example in each.examples:
            assert example.startswith(words)
            each.parse(words, shlex.split(example.removeprefix(words).split(" > ")[0]))


def test_help_starts_in_a_blink_and_loads_nothing_heavy() -> None:
    heavy = {"numpy", "PIL", "torch", "cv2", "rich", "pydantic", "yaml", "matplotlib", "pycocotools", "jinja2"}
    code = (
        "import sys; from detect.cli import main; main(['--help']); main(['train', '--help'])\n"
        "print(sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    loaded = in_new_process(code=code).stderr
    assert not [name for name in heavy if f"'{name}'" in loaded]
    before = os.times()
    in_new_process("--help")
    after = os.times()
    # Time of the processor, not of the clock: the machine may have other work.
    assert (after.children_user + after.children_system) - (before.children_user + before.children_system) < 0.3


def test_version(detect: Run) -> None:
    assert detect("--version").out == f"detect {__version__}\n"


def test_no_verb_shows_the_help_and_fails(detect: Run) -> None:
    outcome = detect()
    assert outcome.code == 2
    assert "usage: detect VERB" in outcome.out


# Mistakes and interruptions


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tarin"], "did you mean 'train'?"),
        (["frobnicate"], "the verbs are convert, audit, sample, train, evaluate, compare, label-issues, infer"),
        (["train"], "CONFIG; see detect train --help"),
        (["train", "no-such.yaml"], "no-such.yaml: "),
        (["train", "configs/neu.yaml", "train.epoch=3"], "did you mean 'train.epochs'?"),
        (["train", "configs/neu.yaml", "--epochs"], "unrecognized arguments: --epochs; see detect train --help"),
        (["sample", "--out", "x", "--images", "0"], "--images is 0; give at least 1"),
        (["sample", "--out", "x", "--images", "many"], "invalid int value: 'many'"),
        (["infer", "x.bmp", "--threshold", "7"], "--threshold is 7.0; give a score from 0 to 1"),
        (["infer", "x.bmp", "--out", "y"], "--out without --draw, --json or --to would write nothing"),
        (["evaluate"], "give either a run or --detections"),
        (["evaluate", "runs/x", "--detections", "y.json"], "give either a run or --detections"),
        (["evaluate", "--detections", "y.json"], "--detections needs --data"),
        (["evaluate", "no-such-run"], "no-such-run: no such run or checkpoint; give a run folder"),
        (["evaluate", "tests", "--data", "no-such.json"], "no-such.json: "),
        (["evaluate", "tests"], "name the COCO labels with --data"),
        (["evaluate", "--detections", "README.md", "--data", "README.md"], "README.md: the JSON can't be read"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: Sequence[str], sentence: str, detect: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    outcome = detect(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("detect: ")
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(_: object) -> int:
        raise error

    monkeypatch.setitem(commands.VERBS, "sample", replace(VERBS["sample"], run=run))


def test_a_detect_error_is_told_without_traceback(detect: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, DetectError("the plate is bent", where="plate 7", fix="straighten it"))
    outcome = detect("sample", "--out", "x")
    assert (outcome.code, outcome.err) == (2, "detect: plate 7: the plate is bent; straighten it\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.EIO], ids=errno.errorcode.get)
def test_trouble_with_files_and_disk_is_told_without_traceback(
    number: int, detect: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, OSError(number, os.strerror(number), "data/x.bmp"))
    outcome = detect("sample", "--out", "x")
    assert outcome.code == 2
    assert outcome.err.startswith(f"detect: data/x.bmp: {os.strerror(number)}; ")


def test_evaluate_names_a_run_that_is_not_there(detect: Run, tmp_path: Path) -> None:
    outcome = detect("evaluate", str(tmp_path / "nope"))
    assert outcome.code == 2
    assert outcome.err.startswith(f"detect: {tmp_path / 'nope'}: no such run or checkpoint; ")


def test_a_missing_package_is_told_without_traceback(detect: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ModuleNotFoundError("No module named 'torch'", name="torch"))
    outcome = detect("sample", "--out", "x")
    assert outcome.code == 2
    assert "no module torch; install this package" in outcome.err


@pytest.mark.parametrize(
    "bug", [ZeroDivisionError(), OSError(errno.EBADF, "odd"), ModuleNotFoundError(name="detect.oops")], ids=repr
)
def test_a_bug_keeps_its_traceback(bug: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, bug)
    with pytest.raises(type(bug)):
        main(["sample", "--out", "x"])


def test_ctrl_c_exits_130_and_says_how_to_go_on(detect: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    outcome = detect("sample", "--out", "x")
    assert (outcome.code, outcome.err) == (130, "detect: stopped; run the same command again to start over\n")


def test_ctrl_c_in_training_names_the_command_that_resumes(
    detect: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(commands.VERBS, "train", replace(VERBS["train"], run=run))
    arguments = ["train", ROOT / "configs/neu.yaml", f"run.dir={tmp_path}", "train.seed=1"]
    assert "there is no checkpoint yet" in detect(*arguments).err
    (tmp_path / "last.pt").touch()
    outcome = detect(*arguments)
    assert outcome.code == 130
    assert outcome.err.endswith(f"neu.yaml run.dir={tmp_path} train.seed=1 --resume\n")


def test_a_run_folder_is_a_configuration_wherever_it_was_moved(
    detect: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    monkeypatch.setattr(
        "detect.engine.trainer.train", lambda config, *, resume: asked.append((config, resume)) or tmp_path
    )
    (tmp_path / "config.yaml").write_text("run: {dir: runs/elsewhere}\ntrain: {seed: 5}\n")
    assert detect("train", tmp_path, "--resume", "train.epochs=7").code == 0
    ((config, resume),) = asked
    assert (config.run.dir, config.train.seed, config.train.epochs, resume) == (tmp_path, 5, 7, True)


@pytest.mark.skipif(os.name != "posix", reason="pipes close differently elsewhere")
def test_a_closed_pipe_is_silent() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "detect", "--help"],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


CLOSED = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-"}


def in_shell(folder: Path, *arguments: str, redirect: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``detect`` by bash, whose own pipes fail if it does."""
    import shlex

    line = f"set -o pipefail; {shlex.join([sys.executable, '-m', 'detect', *arguments])} {redirect}"
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=variables, capture_output=True, text=True, encoding="utf-8", check=False
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small data set, ``steel``, and an image whose name few encodings have."""
    folder = tmp_path_factory.mktemp("data")
    assert main(["sample", "--out", str(folder / "steel"), "--images", "6"]) == 0
    blank(folder / "\u94a2\U0001f600.png")
    return folder


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell and its pipes")
class TestStandardStreams:
    """No verb loses what it was asked to write because nobody reads what it prints."""

    @pytest.mark.parametrize("closed", [["stdout"], ["stderr"], ["stdin"], list(CLOSED)], ids="+".join)
    def test_closed_ones_are_no_trouble(self, sources: Path, tmp_path: Path, closed: list[str]) -> None:
        redirect = " ".join(CLOSED[each] for each in closed)
        done = in_shell(tmp_path, "convert", str(sources / "steel"), "--out", "converted", redirect=redirect)
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "converted" / "all.json").exists()
        assert in_shell(tmp_path, "audit", "nowhere", redirect=redirect).returncode == 2

    def test_a_verb_that_writes_files_goes_on_without_a_reader(self, sources: Path, tmp_path: Path) -> None:
        done = in_shell(tmp_path, "convert", str(sources / "steel"), "--out", "converted", redirect="| true")
        assert (done.returncode, done.stderr) == (141, "")
        assert (tmp_path / "converted" / "all.json").exists()
        done = in_shell(tmp_path, "audit", str(sources / "steel"), "--html", "a.html", redirect="| true")
        assert (done.returncode, done.stderr, (tmp_path / "a.html").exists()) == (141, "", True)

    def test_one_that_only_prints_ends(self, sources: Path, tmp_path: Path) -> None:
        done = in_shell(tmp_path, "audit", str(sources / "steel"), redirect="| true")
        assert (done.returncode, done.stderr) == (141, "")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
    def test_a_full_disk_behind_it_is_told(self, sources: Path, tmp_path: Path) -> None:
        done = in_shell(tmp_path, "convert", str(sources / "steel"), "--out", "converted", redirect="> /dev/full")
        assert done.returncode == 2
        assert done.stderr == "detect: not all of the output could be written: No space left on device\n"
        assert (tmp_path / "converted" / "all.json").exists()

    @pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
    def test_characters_without_a_code_are_escaped(self, sources: Path, tmp_path: Path, encoding: str) -> None:
        image = sources / "\u94a2\U0001f600.png"
        arguments = ["infer", str(image), "--weights", "released"]
        for folder, options in (("out", ["--json", "--out", "out"]), ("found", ["--draw", "--out", "found"])):
            done = in_shell(tmp_path, *arguments, *options, PYTHONIOENCODING=encoding)
            assert done.returncode == 0, done.stderr
            if "--json" in options:
                written = json.loads((tmp_path / folder / "detections.json").read_text(encoding="utf-8"))
                assert json.loads(done.stdout) == written
                assert written["images"][0]["file"] == str(image)
            else:
                escaped = image.name.encode(encoding, "backslashreplace").decode()
                assert escaped in done.stdout
                assert (tmp_path / folder / "\u94a2\U0001f600.detections.png").exists()


@pytest.mark.usefixtures("fake_weights")
@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_names_with_a_line_break_or_no_unicode_are_told_on_one_line(detect: Run, tmp_path: Path) -> None:
    images = [blank(tmp_path / name) for name in ("a\nb.png", os.fsdecode(b"c\xff.png"))]
    outcome = detect("infer", *images, "--weights", "runs/fake", "--draw", "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "a\\nb.png: 1 found" in outcome.out
    assert "c\\udcff.png: 1 found" in outcome.out
    outcome = detect("infer", tmp_path, "--weights", "runs/fake", "--json", "--out", tmp_path / "out")
    for text in (outcome.out, (tmp_path / "out" / "detections.json").read_text()):
        assert [each["file"] for each in json.loads(text)["images"]][:2] == [str(path) for path in images]


# What is printed


def test_a_table_in_a_file_has_no_colours_and_no_folds(capsys: pytest.CaptureFixture[str]) -> None:
    title = f"a [title] of {'many ' * 30}words"
    print_table(title, ["class", "path", "AP"], [["[bold]", "x" * 120, "0.5"]])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "[bold]" in text
    assert title in text
    assert "x" * 120 in text


def test_paths_are_shown_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert display_path(tmp_path / "a" / "b") == str(Path("a", "b"))
    assert display_path(Path("a")) == "a"
    assert display_path(tmp_path.parent) == str(tmp_path.parent)


def test_a_shown_command_can_be_pasted() -> None:
    line = command("evaluate", "runs/my run")
    assert line.endswith("detect evaluate 'runs/my run'")


# Which images are meant


def blank(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((20, 30), 128, np.uint8))
    return path


def test_files_folders_and_globs_are_found_once_in_natural_order(tmp_path: Path) -> None:
    a10, a2, deep = blank(tmp_path / "a_10.png"), blank(tmp_path / "a_2.png"), blank(tmp_path / "sub" / "b.bmp")
    blank(tmp_path / "a_2.detections.png")
    (tmp_path / "notes.txt").touch()
    assert find_images([str(tmp_path)]) == ([a2, a10, deep], [])
    assert find_images([str(a10), str(tmp_path / "*.png"), str(tmp_path)]) == ([a10, a2, deep], [])
    assert find_images([str(tmp_path / "**" / "*.bmp")]) == ([deep], [])


def test_a_file_with_brackets_in_its_name_is_no_glob(tmp_path: Path) -> None:
    plate = blank(tmp_path / "plate[1].png")
    assert find_images([str(plate)]) == ([plate], [])


def test_a_folder_with_brackets_in_its_name_is_meant_by_a_glob(tmp_path: Path) -> None:
    there, deep = blank(tmp_path / "coil[a]" / "1.png"), blank(tmp_path / "coil[a]" / "x[1]" / "y" / "2.png")
    other = blank(tmp_path / "coila" / "3.png")
    assert find_images([str(tmp_path / "coil[a]" / "*.png")]) == ([there], [])
    assert find_images([str(tmp_path / "coil[a]" / "**" / "*.png")]) == ([there, deep], [])
    assert find_images([str(tmp_path / "coil[a]" / "x[1]" / "*")]) == ([deep], [])
    assert find_images([str(tmp_path / "coil[ab]" / "*.png")]) == ([other], [])
    assert find_images([str(tmp_path / "coil*")]) == ([there, deep, other], [])
    assert find_images([f"{tmp_path / 'coil[a]'}/"]) == ([there, deep], [])


def test_the_home_folder_may_be_named_by_its_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detect: Run, fake_weights: list[Path]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    image = blank(tmp_path / "coil" / "a.png")
    for given in ("~/coil/a.png", "~/coil", "~/coil/*.png"):
        assert find_images([given]) == ([image], [])
    assert detect("infer", image, "--weights=~/runs/a", "--json", "--out=~/out").code == 0
    assert (tmp_path / "out" / "detections.json").exists()
    assert fake_weights == [tmp_path / "runs" / "a"]


@pytest.mark.usefixtures("fake_weights")
def test_what_follows_two_dashes_is_no_option(detect: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-dash.png", "--json", "b.png"):
        write_image(tmp_path / f"{name}.bmp", np.zeros((20, 30), np.uint8))
        Path(f"{name}.bmp").rename(name)
    for before in (["--weights", "runs/fake", "--json"], ["b.png", "--json", "--weights", "runs/fake"]):
        outcome = detect("infer", *before, "--", "-dash.png", "--json")
        assert outcome.code == 0
        files = [each["file"] for each in json.loads(outcome.out)["images"]]
        assert files == [*(["b.png"] if "b.png" in before else []), "-dash.png", "--json"]


@pytest.mark.usefixtures("fake_weights")
def test_infer_detects_draws_and_pre_annotates_the_upright_image(detect: Run, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[274] = 6
    Pillow.fromarray(np.full((20, 30), 128, np.uint8)).save(tmp_path / "a.tif", exif=exif)
    Pillow.fromarray(np.full((20, 30), 128, np.uint8)).save(tmp_path / "b.png", exif=exif)
    out = tmp_path / "out"
    outcome = detect("infer", tmp_path, "--weights", "runs/fake", "--json", "--draw", "--to", "coco", "--out", out)
    for entry in json.loads(outcome.out)["images"]:
        assert (entry["width"], entry["height"]) == (20, 30)
        width, height = read_size(Path(entry["picture"]))  # small images are drawn enlarged
        assert width * 30 == height * 20
    annotated = json.loads((out / "pre_annotations.json").read_text())["images"]
    assert [(each["width"], each["height"]) for each in annotated] == [(20, 30)] * 2


def test_images_that_are_left_out_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = blank(tmp_path / "a.png")
    for name in ("b.heic", "c.HEIC", "d.svg"):
        (tmp_path / name).write_bytes(b"whatever")
    blank(tmp_path / "e.png").rename(tmp_path / "e.dat")
    (tmp_path / "labels.xml").write_text("<annotation/>")
    (tmp_path / "notes.txt").write_text("BMW")
    assert find_images([str(tmp_path)]) == ([image], [])
    line = capsys.readouterr().err
    assert line.startswith(f"detect: {tmp_path}: 4 images are left out by their suffix (2 .heic, 1 .svg, 1 .dat); save")
    assert line.count("\n") == 1
    assert find_images([str(tmp_path / "e.dat")]) == ([tmp_path / "e.dat"], [])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    form = {".dib": "BMP", ".jfif": "JPEG", ".jpe": "JPEG", ".pbm": "PPM", ".pgm": "PPM", ".pnm": "PPM"}.get(suffix)
    path = tmp_path / f"a{suffix.upper()}"
    Pillow.new("1" if suffix == ".pbm" else "L", (30, 20), 1).save(path, form)
    assert find_images([str(tmp_path)]) == ([path], [])
    assert read_image(path).shape[:2] == (20, 30)


def test_an_input_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    given = [str(tmp_path / "empty"), str(tmp_path / "*.tif"), str(tmp_path / "gone.bmp")]
    paths, errors = find_images(given)
    assert paths == []
    assert [error.where for error in errors] == given
    assert ["folder" in str(errors[0]), "matches" in str(errors[1]), "no such" in str(errors[2])] == [True] * 3


# infer


class FakePredictor:
    """Finds one scratch in the upper left corner, and one that is less sure."""

    categories = ("patches", "scratches")
    weights_path = Path("runs/fake/best.pt")
    brightest = None  # it was given no 16-bit image

    def tiling_for(self, width: int, height: int, **asked: Any) -> None:
        """All images are seen whole."""

    def __call__(self, pixels: Any, **tiles: Any) -> Detections:
        boxes = np.array([[1, 2, 11, 12], [3, 3, 9, 9]], np.float32)
        return Detections(boxes, np.array([0.9, 0.4], np.float32), np.array([2, 1]), self.categories)


@pytest.fixture
def fake_weights(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces the detector; the list is filled with the weights asked for."""
    asked: list[Path] = []

    def load(path: Path, **options: Any) -> FakePredictor:
        asked.append(path)
        return FakePredictor()

    monkeypatch.setattr("detect.inference.predictor.Predictor.load", load)
    return asked


@pytest.mark.usefixtures("fake_weights")
def test_infer_prints_a_table(detect: Run, tmp_path: Path) -> None:
    outcome = detect("infer", blank(tmp_path / "a.bmp"), "--weights", "runs/fake")
    assert outcome.code == 0
    assert "a.bmp: 1 found" in outcome.out
    assert outcome.out.splitlines()[-1].split() == ["scratches", "0.900", "1.0", "2.0", "11.0", "12.0"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bmp"]


@pytest.mark.usefixtures("fake_weights")
def test_infer_says_so_when_it_finds_nothing(detect: Run, tmp_path: Path) -> None:
    outcome = detect("infer", blank(tmp_path / "a.bmp"), "--weights", "runs/fake", "--threshold", "0.95")
    assert outcome.out.endswith("a.bmp: no detection with a score of 0.95 or more\n")


@pytest.mark.usefixtures("fake_weights")
def test_infer_draws_beside_the_image(detect: Run, tmp_path: Path) -> None:
    image = blank(tmp_path / "a.bmp")
    assert detect("infer", image, "--weights", "runs/fake", "--draw").code == 0
    width, height = read_size(tmp_path / "a.detections.png")
    assert width * 20 == height * 30


@pytest.mark.usefixtures("fake_weights")
def test_infer_keeps_pictures_of_one_name_apart(detect: Run, tmp_path: Path) -> None:
    images = [blank(tmp_path / name) for name in ("coil1/a.bmp", "coil2/a.bmp", "coil2/a.png", "coil2/b.png")]
    assert detect("infer", *images, "--weights", "runs/fake", "--draw", "--out", tmp_path / "out").code == 0
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert detect("infer", *images, "--weights", "runs/fake", "--draw").code == 0
    assert len(list(tmp_path.glob("coil*/*.detections.png"))) == 4


@pytest.mark.usefixtures("fake_weights")
def test_infer_json_is_alone_on_stdout_and_written_to_out(detect: Run, tmp_path: Path) -> None:
    image = blank(tmp_path / "a.bmp")
    outcome = detect("infer", image, "--weights", "runs/fake", "--json", "--draw", "--out", tmp_path / "out")
    document = json.loads(outcome.out)
    assert outcome.err == ""
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == document
    assert document["categories"] == ["patches", "scratches"]
    assert document["images"] == [
        {
            "file": str(image),
            "width": 30,
            "height": 20,
            "detections": [{"label": "scratches", "score": 0.9, "box_xyxy": [1.0, 2.0, 11.0, 12.0]}],
            "picture": str(tmp_path / "out" / "a.detections.png"),
        }
    ]


@pytest.mark.usefixtures("fake_weights")
def test_infer_names_unreadable_images_and_goes_on(detect: Run, tmp_path: Path) -> None:
    broken, good = tmp_path / "broken.png", blank(tmp_path / "good.png")
    broken.write_bytes(good.read_bytes()[:40])
    outcome = detect("infer", broken, tmp_path / "gone.png", good, "--weights", "runs/fake", "--json")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 3
    document = json.loads(outcome.out)
    assert [entry["file"] for entry in document["images"]] == [str(good)]
    assert sorted(entry["file"] for entry in document["failed"]) == [str(broken), str(tmp_path / "gone.png")]


def test_infer_json_is_a_document_even_without_an_image(detect: Run) -> None:
    outcome = detect("infer", "no-such.bmp", "--json")
    assert outcome.code == 2
    document = json.loads(outcome.out)
    assert (document["images"], len(document["failed"])) == ([], 1)


def test_infer_takes_the_newest_weights_and_says_which(
    detect: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_weights: list[Path]
) -> None:
    blank(tmp_path / "a.bmp")
    monkeypatch.chdir(tmp_path)
    outcome = detect("infer", "a.bmp")
    assert outcome.code == 0
    assert fake_weights.pop() == Path("released")
    assert "the released model" in outcome.err
    for age, name in enumerate(["new", "old"]):
        weights = tmp_path / "runs" / name / "best.pt"
        weights.parent.mkdir(parents=True)
        weights.touch()
        os.utime(weights, (1e9 - age, 1e9 - age))
    outcome = detect("infer", "a.bmp")
    assert outcome.code == 0
    assert fake_weights == [Path("runs/new/best.pt")]
    assert str(Path("runs/new/best.pt")) in outcome.err


# evaluate


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """COCO labels of two blank images with one box each."""
    from detect.datasets import coco

    boxes = (Box("patches", (1, 1, 11, 11)),), (Box("scratches", (5, 2, 25, 8)),)
    images = tuple(Image(blank(tmp_path / f"{i}.png"), 30, 20, b) for i, b in enumerate(boxes))
    path = tmp_path / "val.json"
    path.write_text(json.dumps(coco.to_dict(Dataset(images, ("patches", "scratches")), tmp_path)))
    return path


def test_evaluate_judges_anyones_detections_without_torch(truth: Path, tmp_path: Path) -> None:
    found = [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 10, 10], "score": 0.9}]
    (tmp_path / "theirs.json").write_text(json.dumps(found))
    arguments = ["evaluate", "--detections", tmp_path / "theirs.json", "--data", truth, "--out", tmp_path / "out"]
    code = (
        f"import sys; from detect.cli import main; code = main({list(map(str, arguments))})\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = in_new_process(code=code)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^AP 0\.500.*  AP50 0\.500", done.stdout, re.MULTILINE)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["AP50"] == pytest.approx(0.5)
    assert report["per_class"]["scratches"]["AP50"] == 0
    for name in ("report.html", "report.md", "report.json", "detections.json"):
        assert (tmp_path / "out" / name).exists()
        assert name in done.stdout


# sample, audit, convert


@pytest.fixture
def steel(detect: Run, tmp_path: Path) -> Path:
    """Twelve sample images with their labels."""
    assert detect("sample", "--out", tmp_path / "steel", "--images", 12).code == 0
    return tmp_path / "steel"


def test_convert_writes_each_part_and_says_where(steel: Path, detect: Run, tmp_path: Path) -> None:
    outcome = detect("convert", steel, "--out", tmp_path / "coco", "--split", "train=1,val=2")
    assert (outcome.code, outcome.err) == (0, "")
    for name in ("train.json", "val.json", "audit.json"):
        assert (tmp_path / "coco" / name).exists()
        assert str(tmp_path / "coco" / name) in outcome.out
    assert "pitted_surface" in outcome.out
    assert "data.train=" in outcome.out.splitlines()[-1]


def test_errors_are_listed_and_stop_the_conversion(steel: Path, detect: Run, tmp_path: Path) -> None:
    (steel / "ANNOTATIONS" / "patches_1.xml").write_text("<annotation><object>")
    outcome = detect("convert", steel, "--out", tmp_path / "coco")
    assert outcome.code == 2
    assert "patches_1.xml" in outcome.out
    assert outcome.err.startswith("detect: ")
    assert "--skip-bad" in outcome.err
    assert not (tmp_path / "coco" / "all.json").exists()
    outcome = detect("convert", steel, "--out", tmp_path / "coco", "--skip-bad")
    assert outcome.code == 0
    assert len(json.loads((tmp_path / "coco" / "all.json").read_text())["images"]) == 11


def test_audit_fails_on_errors_alone(steel: Path, detect: Run) -> None:
    assert detect("audit", steel).code == 0
    (steel / "IMAGES" / "patches_1.bmp").unlink()
    outcome = detect("audit", steel, "--json")
    assert outcome.code == 2
    findings = json.loads(outcome.out)["findings"]
    assert [Path(f["path"]).name for f in findings if f["severity"] == "error"] == ["patches_1.xml"]
    assert "1 error" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--split", "train=0.5,val=0.5", "--folds", "2"], "exclude each other"),
        (["--seed", "3"], "--seed has no meaning without --split or --folds"),
        (["--group-pattern", "a"], "--group-pattern has no meaning without --split or --folds"),
        (["--from", "pdf"], "invalid choice: 'pdf'"),
        (["--split", "half"], "'half' is no name=value"),
    ],
)
def test_convert_refuses_what_it_cannot_do(
    arguments: Sequence[str], sentence: str, steel: Path, detect: Run, tmp_path: Path
) -> None:
    outcome = detect("convert", steel, "--out", tmp_path / "coco", *arguments)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1


def test_labels_are_converted_without_torch_and_opencv(steel: Path, tmp_path: Path) -> None:
    arguments = ["convert", str(steel), "--out", str(tmp_path / "coco"), "--split", "train=0.5,val=0.5"]
    code = (
        f"import sys; from detect.cli import main; code = main({arguments})\n"
        "assert not {'torch', 'cv2'} & set(sys.modules); sys.exit(code)"
    )
    done = in_new_process(code=code)
    assert (done.returncode, done.stderr) == (0, "")


def test_tools_are_doors_to_the_verbs(steel: Path, tmp_path: Path) -> None:
    for name, verb in [
        ("convert_voc", "convert"),
        ("train_det", "train"),
        ("evaluate", "evaluate"),
        ("infer", "infer"),
    ]:
        tool = [sys.executable, str(ROOT / "tools" / f"{name}.py")]
        done = subprocess.run([*tool, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"usage: detect {verb} ")
    tool = [sys.executable, str(ROOT / "tools" / "convert_voc.py"), "steel", "--out", "coco"]
    subprocess.run(tool, cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "coco" / "all.json").exists()


def test_the_real_data_has_the_counts_that_were_counted(neu_det: Path, detect: Run, tmp_path: Path) -> None:
    outcome = detect("convert", neu_det, "--out", tmp_path / "neu", "--split", "train=1-200,val=201-240")
    assert outcome.code == 0
    counts = json.loads((tmp_path / "neu" / "audit.json").read_text())["parts"]
    assert {name: (part["images"], part["boxes"]) for name, part in counts.items()} == {
        "train": (1200, 2758),
        "val": (240, 577),
    }
