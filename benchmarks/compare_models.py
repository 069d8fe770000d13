"""Print parameters, multiply-adds and relative time of the detectors of several configurations.

    python benchmarks/compare_models.py configs/neu.yaml configs/csp_s.yaml configs/resnet18.yaml

The detectors have random weights, for gray images and six classes. Times are for one image on one core, relative to the
first configuration; only ratios within one call are comparable.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from detect.benchmark.speed import model_cost
from detect.config.loading import load_config
from detect.config.schema import ModelConfig
from detect.errors import DetectError
from detect.models.anchors import default_anchors
from detect.models.faster_rcnn import build_detector, proposal_strides

_CLASSES = 6


def detector_of(model: ModelConfig) -> torch.nn.Module:
    """Detector with random weights and no detections, because the number of detections would change its time."""
    shapes = default_anchors(len(proposal_strides(model, 1)), model.anchors.per_level)
    detector = build_detector(model, classes=_CLASSES, channels=1, mean=[0.5], std=[0.2], shapes=shapes)
    detector.roi_heads.score_thresh = 1.0
    return detector.eval()


@torch.inference_mode()
def median_seconds(detectors: Sequence[torch.nn.Module], size_wh: tuple[int, int], rounds: int) -> list[float]:
    """Median seconds per detector for one image on one core."""
    torch.set_num_threads(1)
    image = torch.rand(1, size_wh[1], size_wh[0])
    times: list[list[float]] = [[] for _ in detectors]
    for _ in range(rounds + 1):  # in turn, so that other load affects all equally
        for detector, own in zip(detectors, times):
            started = time.perf_counter()
            detector([image])
            own.append(time.perf_counter() - started)
    return [median(own[1:]) for own in times]  # the first round chooses kernels and fills caches


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path, metavar="CONFIG")
    parser.add_argument("--size", type=int, nargs=2, default=(200, 200), metavar=("WIDTH", "HEIGHT"), help="in pixels")
    parser.add_argument("--rounds", type=int, default=15, help="timed images per detector")
    args = parser.parse_args(argv)
    size_wh = (args.size[0], args.size[1])
    try:
        detectors = [detector_of(load_config(path).model) for path in args.configs]
    except DetectError as error:
        print(error, file=sys.stderr)
        return 2
    seconds = median_seconds(detectors, size_wh, args.rounds)
    print("| configuration | parameters (M) | backbone parameters (M) | multiply-adds (M) | time |")
    print("| --- | --- | --- | --- | --- |")
    for path, detector, own_seconds in zip(args.configs, detectors, seconds):
        cost = model_cost(detector, size_wh)
        body = sum(p.numel() for p in detector.backbone.body.parameters())
        row = [path.name, f"{cost.parameters / 1e6:.2f}", f"{body / 1e6:.2f}", f"{cost.multiply_adds / 1e6:,.0f}"]
        print(f"| {' | '.join(row)} | {own_seconds / seconds[0]:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
