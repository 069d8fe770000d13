"""costs.yaml and ``detect evaluate --costs``: its form, its mistakes in one sentence, what it prints and writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from detect.errors import ConfigError
from detect.evaluation.costs import ClassCosts, parse_costs, read_costs

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
NAMES = ("crazing", "scratches")


def costs_of(text: str) -> Any:
    return parse_costs(yaml.safe_load(text), NAMES)


class TestForm:
    def test_a_class_takes_from_the_default_what_it_does_not_say(self) -> None:
        costs = costs_of(
            """
            currency: EUR
            default: {price: {missed: 10, false_alarm: 1}, limit: {false_alarms_per_image: 0.5}}
            classes:
              scratches: {price: {missed: 40}, limit: {missed: 2 %, false_alarms_per_image: null}}
            """
        )
        assert costs.per_class["crazing"] == ClassCosts(10, 1, None, 0.5, priced=True)
        assert costs.per_class["scratches"] == ClassCosts(40, 1, 0.02, None, priced=True)
        assert (costs.currency, costs.confidence, costs.tuning_share, costs.seed) == ("EUR", 0.95, 0.5, 0)
        json.dumps(costs.as_dict(), allow_nan=False)

    def test_limits_alone_weigh_a_miss_like_a_false_alarm(self) -> None:
        costs = costs_of("{default: {limit: {missed: 0.1}}, confidence: 0.9, tuning_share: 0.7, seed: 3}")
        assert costs.per_class["crazing"] == ClassCosts(1, 1, 0.1, None, priced=False)
        assert (costs.confidence, costs.tuning_share, costs.seed) == (0.9, 0.7, 3)

    def test_a_class_whose_name_is_a_number(self) -> None:
        costs = parse_costs({"classes": {7: {"limit": {"missed": "12.5%"}}}}, ["7"])
        assert costs.per_class["7"].missed_limit == 0.125

    def test_the_examples_of_the_docs_are_valid(self, tmp_path: Path) -> None:
        text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
        examples = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
        assert examples
        neu = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
        for example in examples:
            (tmp_path / "costs.yaml").write_text(example)
            assert set(read_costs(tmp_path / "costs.yaml", neu).per_class) == set(neu)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there is no price and no limit for 'crazing'; add classes.crazing, or a default for all classes"),
        ("classes: {crazing: {limit: {missed: 0.1}}}", "no limit for 'scratches'"),
        ("- 1", "the file is [1], not a mapping"),
        ("clases: {}", "'clases' in the file is no key here; did you mean 'classes'?"),
        ("classes: {scrathces: {limit: {missed: 0.1}}}", "'scrathces' in 'classes' is no class of the data; did you"),
        ("classes: {zebra: {}}", "'zebra' in 'classes' is no class of the data; there are crazing, scratches"),
        ("default: {prize: {missed: 1}}", "'prize' in 'default' is no key here; did you mean 'price'?"),
        ("default: {price: {miss: 1}}", "'miss' in 'default.price' is no key here; did you mean 'missed'?"),
        ("default: {price: 10}", "'default.price' is 10, not a mapping; write keys under it: missed, false_alarm"),
        ("default: {price: {missed: -1.0, false_alarm: 1}}", "'default.price.missed' is -1.0; give 0 or more"),
        ("default: {price: {missed: .nan, false_alarm: 1}}", "'default.price.missed' is nan; give 0 or more"),
        ("default: {price: {missed: .inf, false_alarm: 1}}", "'default.price.missed' is inf"),
        ("default: {price: {missed: yes, false_alarm: 1}}", "'default.price.missed' is 'yes'"),
        ("default: {price: {missed: ten, false_alarm: 1}}", "'default.price.missed' is 'ten'"),
        ("default: {price: {missed: 10}}", "'crazing' has one price without the other; give price.false_alarm"),
        ("default: {price: {missed: 0, false_alarm: 0}}", "both prices of 'crazing' are 0"),
        ("default: {limit: {missed: 1.2}}", "'default.limit.missed' is 1.2; give a share between 0 and 1, such as"),
        ("default: {limit: {missed: 200 %}}", "'default.limit.missed' is '200 %'"),
        ("default: {limit: {missed: 1.2.3 %}}", "'default.limit.missed' is '1.2.3 %'"),
        ("default: {limit: {missed: 0}}", "'default.limit.missed' is 0; give a share between 0 and 1"),
        ("default: {limit: {false_alarms_per_image: 0}}", "'default.limit.false_alarms_per_image' is 0; give a number"),
        ("{default: {limit: {missed: 0.1}}, confidence: 95}", "'confidence' is 95; give a number from 0.5 to below 1"),
        ("{default: {limit: {missed: 0.1}}, tuning_share: 1}", "'tuning_share' is 1; give a share between 0 and 1"),
        ("{default: {limit: {missed: 0.1}}, joint: 3}", "'joint' is 3; give true or false"),
        ("{default: {limit: {missed: 0.1}}, seed: 0.5}", "'seed' is 0.5; give a whole number"),
        ("{default: {limit: {missed: 0.1}}, currency: 3}", "'currency' is 3; give a word, such as EUR"),
        ("a: [", "not valid YAML"),
        ("default: {price: {missed: 1, missed: 100}}", "the key 'missed' stands twice"),
    ],
)
def test_a_mistake_names_its_key(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "costs.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_costs(path, NAMES)
    assert str(error.value).startswith(f"{path}: ")
    assert sentence in str(error.value)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Labels and detections of 60 images with a scratch each, and 10 clean ones; no crazing."""
    rng = np.random.default_rng(0)
    labels, found = [], []
    for image in range(1, 71):
        if image <= 60:
            box = [10, 10, 40, 40]
            entry = {"image_id": image, "category_id": 2, "bbox": box}
            labels.append({**entry, "id": image, "area": 1600, "iscrowd": 0})
            found.append({**entry, "score": float(rng.uniform(0.3, 1))})
        if image % 3 == 0:
            false = {"image_id": image, "category_id": 2, "bbox": [100, 100, 20, 20]}
            found.append({**false, "score": float(rng.uniform(0, 0.6))})
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 200} for i in range(1, 71)],
        "annotations": labels,
        "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES, start=1)],
    }
    (tmp_path / "val.json").write_text(json.dumps(truth))
    (tmp_path / "theirs.json").write_text(json.dumps(found))
    (tmp_path / "costs.yaml").write_text(
        "{currency: EUR, default: {price: {missed: 10, false_alarm: 1}}, "
        "classes: {scratches: {limit: {missed: 20 %, false_alarms_per_image: 0.01}}}}"
    )
    return tmp_path


def arguments_of(world: Path, *more: str) -> list[str]:
    given = ["evaluate", "--detections", world / "theirs.json", "--data", world / "val.json", "--out", world / "out"]
    return [*map(str, given), "--costs", str(world / "costs.yaml"), *more]


class TestCommand:
    def test_prints_and_writes_without_torch(self, world: Path) -> None:
        code = (
            "import sys; from detect.cli import main; "
            f"code = main({arguments_of(world, '--calibrate')})\nassert 'torch' not in sys.modules; sys.exit(code)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "thresholds chosen on 35 images, confirmed on 35 holdout images" in done.stdout
        assert "scratches: at most 20 % missed: guaranteed with 95 % confidence by" in done.stdout
        assert "at most 0.01 false alarms per image: can't be guaranteed by 35 images; even without a" in done.stdout
        assert "crazing: the tuning images have no defects, so 0.5 is a default, not a choice" in done.stdout
        assert re.search(
            r"on the holdout images, .* of 30 defective images escape, .* of 5 clean images are stopped", done.stdout
        )
        assert re.search(r"cost per image: [0-9.]+ EUR on the holdout images", done.stdout)
        assert "scores calibrated by temperature" in done.stdout

        stored = json.loads((world / "out" / "thresholds.json").read_text())
        assert stored["schema"] == 1
        assert set(stored) == {
            *("schema", "thresholds", "per_class", "parts", "tuning", "holdout"),
            *("calibration", "costs", "made"),
        }
        assert set(stored["thresholds"]) == set(NAMES)
        assert stored["costs"]["per_class"]["scratches"]["missed_limit"] == 0.2
        assert stored["made"]["versions"]["detect"]
        assert stored["made"]["data"] == str(world / "val.json")
        assert "weights" not in stored["made"]
        assert set(stored["calibration"]["per_class"]["scratches"]) == {"temperature", "shift", "left"}
        report = json.loads((world / "out" / "report.json").read_text())["operating"]
        assert report["thresholds"] == stored["thresholds"]
        assert {"froc", "recall_by_size", "reliability"} <= set(report)

    def test_without_calibrate_scores_stay(self, world: Path, detect: Run) -> None:
        outcome = detect(*arguments_of(world))
        assert outcome.code == 0
        assert "calibrated" not in outcome.out
        stored = json.loads((world / "out" / "thresholds.json").read_text())
        assert stored["calibration"] is None
        scratches = stored["per_class"]["scratches"]
        assert scratches["threshold"] == scratches["uncalibrated_threshold"]

    def test_without_costs_nothing_is_chosen(self, world: Path, detect: Run) -> None:
        assert detect(*arguments_of(world)[:-2]).code == 0
        assert not (world / "out" / "thresholds.json").exists()
        assert "operating" not in json.loads((world / "out" / "report.json").read_text())

    @pytest.mark.parametrize(
        ("costs", "sentence"),
        [
            ("classes: {scratch: {}}", "costs.yaml: 'scratch' in 'classes' is no class of the data; did you mean"),
            ("default: {limit: {missed: 7}}", "costs.yaml: 'default.limit.missed' is 7"),
            (None, "costs.yaml: can't read the costs"),
        ],
    )
    def test_a_mistake_is_one_sentence_and_exit_code_2(
        self, costs: str | None, sentence: str, world: Path, detect: Run
    ) -> None:
        (world / "costs.yaml").unlink()
        if costs is not None:
            (world / "costs.yaml").write_text(costs)
        outcome = detect(*arguments_of(world))
        assert (outcome.code, outcome.out) == (2, "")
        assert sentence in outcome.err
        assert outcome.err.count("\n") == 1
        assert not (world / "out").exists()

    def test_calibrate_alone_is_refused(self, world: Path, detect: Run) -> None:
        outcome = detect(*arguments_of(world)[:-2], "--calibrate")
        assert outcome.code == 2
        assert "--calibrate needs --costs" in outcome.err
