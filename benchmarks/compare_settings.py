r"""Evaluate trained detectors with other inference settings: NMS, proposals, thresholds.

    python benchmarks/compare_settings.py runs/mine=data/mine/val.json --set roi.nms_iou=0.4 \
      --set roi.nms=gaussian,roi.box_voting=true

Several RUN=LABELS are folds: each detector is evaluated on its own labels, and scores are means over folds. Each row of
the table is one --set with keys of the configuration's model section, compared with the settings of the training. The
differences have 95 % intervals over the images. RUN is a run folder, a checkpoint or the word released.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml

from detect.config.schema import ModelConfig
from detect.datasets import coco
from detect.errors import ConfigError, DetectError
from detect.evaluation.bootstrap import Interval, confidence_intervals, paired_difference_intervals, resample
from detect.evaluation.records import CocoEvaluation
from detect.evaluation.summary import judge
from detect.inference.predictor import Predictor
from detect.models.checkpoint import Checkpoint, find_checkpoint, load_checkpoint

_METRICS = ("AP50", "AP", "AP75")


def changed(checkpoint: Checkpoint, settings: str) -> Checkpoint:
    """A copy of the checkpoint with other model settings, such as ``roi.nms=gaussian,roi.nms_iou=0.6``.

    Raises:
        ConfigError: an unknown key or an invalid value.
    """
    model = checkpoint.detector.model
    for setting in filter(None, settings.split(",")):
        path, _, value = setting.partition("=")
        *sections, key = path.split(".")
        content: dict[str, Any] = model.model_dump()
        section = content
        try:
            for name in sections:
                section = section[name]
            section[key] = yaml.safe_load(value)
            model = ModelConfig.model_validate(content)
        except (KeyError, TypeError, ValueError, yaml.YAMLError):
            message = f"{setting} is no setting of the model section"
            fix = "detect/config/schema.py lists them, such as roi.nms_iou=0.4"
            raise ConfigError(message, where="--set", fix=fix) from None
    return replace(checkpoint, detector=replace(checkpoint.detector, model=model))


def evaluate(predictor: Predictor, labels: Path) -> CocoEvaluation:
    dataset, truth = coco.read(labels), json.loads(labels.read_text(encoding="utf-8"))
    return judge(truth, coco.in_ids_of(truth, predictor.detect_dataset(dataset), dataset)).evaluated


def cell(difference: Interval) -> str:
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="RUN=LABELS.json")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE,KEY=VALUE")
    args = parser.parse_args(argv)
    pairs = [(Path(run), Path(labels)) for run, _, labels in (pair.partition("=") for pair in args.pairs)]
    try:
        files = [find_checkpoint(run) for run, _ in pairs]
        lines = [
            [Predictor(changed(load_checkpoint(file), settings), file, calibrated=False) for file in files]
            for settings in ("", *args.settings)
        ]
        evaluated = [[evaluate(each, labels) for each, (_, labels) in zip(line, pairs)] for line in lines]
    except DetectError as error:
        print(error, file=sys.stderr)
        return 2
    samples = [resample([[fold] for fold in line]) for line in evaluated]
    print(f"| settings | {' | '.join(_METRICS)} | {' | '.join(f'{key}, difference' for key in _METRICS)} |")
    print("|" + " --- |" * (1 + 2 * len(_METRICS)))
    for settings, own in zip(("as trained", *args.settings), samples):
        intervals = confidence_intervals(own, include_seeds=False).overall
        cells = [settings, *(f"{intervals[key].value:.3f}" for key in _METRICS)]
        if own is samples[0]:
            cells += [""] * len(_METRICS)
        else:
            difference = paired_difference_intervals(own, samples[0], include_seeds=False).overall
            cells += [cell(difference[key]) for key in _METRICS]
        print(f"| {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
