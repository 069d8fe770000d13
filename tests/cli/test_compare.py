"""``detect compare``: what it takes for a system, what it refuses, and the page that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.cli.common import runs_of, system_names
from labelled_data import picture

Run = Callable[..., Any]
Results = list[dict[str, Any]]


def labels(images: int = 12, first_id: int = 1, **of_image: Any) -> dict[str, Any]:
    """A box or two an image, of two classes in turn."""
    annotations = []
    for i in range(images):
        for x in (4, 34)[: 1 + i % 2]:
            box = {"image_id": first_id + i, "category_id": 1 + i % 2, "bbox": [x, 5, 20, 20]}
            annotations.append({"id": len(annotations) + 1, **box, "area": 400, "iscrowd": 0})
    named = [
        {"id": first_id + i, "file_name": f"coil{i // 4}_{i}.png", "width": 64, "height": 48} for i in range(images)
    ]
    return {
        "images": [{**image, **of_image} for image in named],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "pits"}, {"id": 2, "name": "<scale>"}],
    }


def detections(truth: dict[str, Any], *, kept: float = 1.0, seed: int = 0) -> Results:
    """Most labels found, a little off, and some false alarms."""
    rng = np.random.default_rng(seed)
    found = []
    for each in truth["annotations"]:
        box = [float(v) for v in np.array(each["bbox"]) + rng.normal(0, 1, 4)]
        place = {"image_id": each["image_id"], "category_id": each["category_id"]}
        if rng.random() < kept:
            found.append({**place, "bbox": box, "score": float(rng.uniform(0.5, 1))})
        found.append({**place, "bbox": [40.0, 30.0, 10.0, 10.0], "score": float(rng.uniform(0, 0.6))})
    return found


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def run_folder(folder: Path, found: Results, data: Path | None, *, in_report: bool = True) -> Path:
    """As training and judging leave it, as far as comparing needs it."""
    write(folder / "report" / "detections.json" if in_report else folder / "detections.json", found)
    if data is not None:
        (folder / "config.yaml").write_text(f"data:\n  train: {data}\n  val: {data}\n", encoding="utf-8")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for image in labels()["images"]:
        picture(tmp_path / image["file_name"], seed=image["id"])
    return write(tmp_path / "val.json", labels())


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    truth = labels()
    return (
        write(tmp_path / "good.json", detections(truth)),
        write(tmp_path / "poor.json", detections(truth, kept=0.4, seed=1)),
    )


def comparison(out: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((out / "compare.json").read_text("utf-8"))
    return told


def test_two_files_are_compared(detect: Run, pair: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = detect("compare", *pair, "--data", data, "--out", out, "--resamples", 200)
    assert outcome.code == 0, outcome.err
    assert "poor is worse than good: AP50 \N{MINUS SIGN}0." in outcome.out
    assert all(f"wrote {out / name}" in outcome.out for name in ("compare.html", "compare.md", "compare.json"))
    told = comparison(out)
    assert told["against"] == "good"
    assert told["systems"][1]["difference"]["AP50"]["verdict"] == "worse"
    assert (told["images"], told["boxes"], told["resamples"], told["groups"]) == (12, 18, 200, None)
    changed = told["images_by_system"]["poor"]
    assert sum(each["lost"] for each in changed) > 0
    assert set(changed[0]) == {"id", "file_name", "gained", "lost", "false"}
    text = (out / "compare.md").read_text("utf-8")
    assert "## poor compared with good: AP75" in text
    assert "&lt;scale&gt;" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| all classes")}) == 1


def test_the_page_is_one_offline_file_that_shows_both(
    detect: Run, pair: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "coil0_3.png").unlink()
    assert (
        detect("compare", *pair, "--data", data, "--out", tmp_path, "--resamples", 100, "--names", "a&b,<i>").code == 0
    )
    page = (tmp_path / "compare.html").read_text("utf-8")
    assert "http" not in page.replace("http-equiv", "")
    assert "&lt;i&gt; compared with a&amp;b" in page
    assert "<i> " not in page
    assert "&lt;scale&gt;" in page
    assert page.count('class="pair"') == page.count("with the boxes of &lt;i&gt;") > 3
    assert "data:image/jpeg;base64," in page
    assert "coil0_3.png" in page
    assert "can't be shown" in page or "coil0_3.png: " not in page


def test_the_same_call_gives_the_same_figures(detect: Run, pair: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    told = []
    for seed in (0, 0, 1):
        assert detect("compare", *pair, "--data", data, "--out", tmp_path, "--resamples", 100, "--seed", seed).code == 0
        told.append(comparison(tmp_path)["systems"])
    assert told[0] == told[1] != told[2]


def test_a_run_and_a_bench_bring_their_own_labels(detect: Run, data: Path, tmp_path: Path) -> None:
    truth = labels()
    one = run_folder(tmp_path / "one", detections(truth, kept=0.5, seed=7), data)
    for seed in (0, 1, 2):
        run_folder(tmp_path / "bench" / "many" / f"seed{seed}", detections(truth, seed=seed), data, in_report=False)
    outcome = detect("compare", one, tmp_path / "bench" / "many", "--out", tmp_path, "--resamples", 100)
    assert outcome.code == 0, outcome.err
    told = comparison(tmp_path)
    assert [(row["name"], row["runs"]) for row in told["systems"]] == [("one", 1), ("many", 3)]
    assert told["systems"][1]["covers"] == "images and seeds"
    assert told["systems"][1]["difference"]["covers"] == "images"  # of one training, nothing is known of other seeds
    assert "evaluating many [3/3]" in outcome.out


def test_folds_are_judged_by_the_labels_of_each(detect: Run, tmp_path: Path) -> None:
    for fold, first_id in ((1, 1), (2, 100)):
        truth = labels(first_id=first_id)
        data = write(tmp_path / "folds" / f"fold{fold}_val.json", truth)
        for name, kept in (("a", 1.0), ("b", 0.5)):
            found = detections(truth, kept=kept, seed=fold)
            run_folder(tmp_path / name / f"seed0_fold{fold}", found, data, in_report=False)
    outcome = detect("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path, "--resamples", 100)
    assert outcome.code == 0, outcome.err
    told = comparison(tmp_path)
    assert (told["folds"], told["images"], told["systems"][0]["runs"]) == (2, 24, 2)
    refused = detect("compare", tmp_path / "a", tmp_path / "b", "--data", data)
    assert "--data has no meaning with folds" in refused.err
    single = write(tmp_path / "single.json", [])
    assert "a has folds 1, 2 and single has no folds; compare" in detect("compare", tmp_path / "a", single).err


@pytest.mark.parametrize("how", [("--group-key", "coil"), ("--group-pattern", r"(coil\d)_")])
def test_images_are_drawn_in_groups(detect: Run, tmp_path: Path, pair: tuple[Path, Path], how: Sequence[str]) -> None:
    truth = labels()
    for image in truth["images"]:
        image["coil"] = image["file_name"][:5]
    data = write(tmp_path / "val.json", truth)
    outcome = detect("compare", *pair, "--data", data, "--out", tmp_path, "--resamples", 100, *how)
    assert outcome.code == 0, outcome.err
    assert comparison(tmp_path)["groups"] == 3
    assert "check this: With fewer than 40 groups" in outcome.out
    assert "With fewer than 40 groups" in (tmp_path / "compare.html").read_text("utf-8")


def test_frames_of_strips_call_for_groups(detect: Run, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    data = write(tmp_path / "val.json", labels(video_id=1))
    outcome = detect("compare", *pair, "--data", data, "--out", tmp_path, "--resamples", 100)
    assert "use --group-key video_id to draw whole strips" in outcome.out


def test_labels_of_other_runs_are_noticed(detect: Run, data: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.json", labels(images=11))
    truth = labels(images=11)
    a = run_folder(tmp_path / "a", detections(truth), data)
    b = run_folder(tmp_path / "b", detections(truth), other)
    outcome = detect("compare", a, b, "--out", tmp_path, "--resamples", 100)
    assert outcome.code == 2
    assert "b was evaluated against " in outcome.err
    assert "name the labels for all systems with --data" in outcome.err
    outcome = detect("compare", a, b, "--out", tmp_path, "--resamples", 100, "--data", data)
    assert outcome.code == 0
    assert "check this: b was evaluated against " in outcome.out


def test_what_a_report_was_judged_by_counts_more_than_the_configuration(tmp_path: Path, data: Path) -> None:
    run = run_folder(tmp_path / "a", [], data)
    assert runs_of(run)[0].labels == data
    write(run / "report" / "report.json", {"meta": {"data": "elsewhere.json"}})
    assert runs_of(run)[0].labels == Path("elsewhere.json")
    assert runs_of(run / "report" / "detections.json")[0].labels == Path("elsewhere.json")


def refusals(tmp_path: Path) -> dict[str, tuple[list[Any], str]]:
    good, data = tmp_path / "good.json", tmp_path / "val.json"
    lost = tmp_path / "lost"
    (lost / "seed0").mkdir(parents=True)
    unjudged = tmp_path / "unjudged"
    unjudged.mkdir()
    (unjudged / "config.yaml").write_text("{}")
    shifted = write(tmp_path / "shifted.json", [{**d, "image_id": d["image_id"] - 1} for d in detections(labels())])
    broken = tmp_path / "broken.json"
    broken.write_text("[")
    with_data = [good, tmp_path / "poor.json", "--data", data]
    return {
        "alone": ([good], f"{good} alone can't be compared; name two or more"),
        "nowhere": ([good, tmp_path / "none"], f"{tmp_path / 'none'}: no such folder or file"),
        "twice": ([good, good, "--data", data], "are the same; name each system once"),
        "empty": ([good, tmp_path], f"{tmp_path} holds no detections.json and no runs seed0, seed1, ...; give a run"),
        "unjudged": ([good, unjudged], f"no runs seed0, seed1, ...; call detect evaluate {unjudged} first"),
        "unfinished": ([good, lost], f"{lost / 'seed0'} holds no detections.json; finish its training, or call detect"),
        "no labels": (with_data[:2], "there are no labels to evaluate against; name the COCO labels with --data"),
        "shifted": ([good, shifted, "--data", data], f"{shifted}: 1 of the 12 image ids is not in the truth"),
        "broken": ([good, broken, "--data", data], f"{broken}: the file is not valid JSON"),
        "names": ([*with_data, "--names", "a,b,c"], "--names gives a, b, c for 2 systems"),
        "same names": ([*with_data, "--names", "a,a"], "--names gives a, a for 2 systems"),
        "groups": ([*with_data, "--group-key", "a", "--group-pattern", "b"], "exclude each other; give one of them"),
        "no coil": (
            [*with_data, "--group-key", "coil"],
            "12 of the 12 images have no 'coil': coil0_0.png, coil0_1.png",
        ),
        "resamples": ([*with_data, "--resamples", 5], "--resamples is 5; give 100 or more"),
        "seed": ([*with_data, "--seed", -1], "--seed is -1; give 0 or more"),
    }


CASES = [
    *("alone", "nowhere", "twice", "empty", "unjudged", "unfinished", "no labels", "shifted", "broken"),
    *("names", "same names", "groups", "no coil", "resamples", "seed"),
]


@pytest.mark.usefixtures("data", "pair")
@pytest.mark.parametrize("case", CASES)
def test_mistakes_are_told_in_a_sentence(detect: Run, tmp_path: Path, case: str) -> None:
    arguments, told = refusals(tmp_path)[case]
    outcome = detect("compare", *arguments, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert told in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "called"),
    [
        (["runs/a", "runs/b/report/detections.json"], ["a", "b"]),
        (["bench/a/seed0", "bench/b/seed0"], ["a/seed0", "b/seed0"]),
        (["first/neu", "second/neu"], ["first/neu", "second/neu"]),
        (["yolo.json", "neu"], ["yolo", "neu"]),
    ],
)
def test_systems_are_called_by_what_tells_them_apart(
    tmp_path: Path, given: Sequence[str], called: Sequence[str]
) -> None:
    paths = [tmp_path / each for each in given]
    for path in paths:
        if path.suffix:
            write(path, [])
        else:
            path.mkdir(parents=True)
    assert system_names(paths, None) == called
    assert system_names(paths, ["x", "y"]) == ["x", "y"]


def test_torch_is_not_loaded(pair: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    arguments = ["compare", *map(str, pair), "--data", str(data), "--out", str(tmp_path), "--resamples", "100"]
    code = f"import sys; from detect.cli import main; print(main({arguments!r}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"
